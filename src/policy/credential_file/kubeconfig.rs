//! `~/.kube/config`, as the documentation of Kubernetes has it: clusters, users, and contexts that pair them.
//!
//! The look-alike names no authority: what a client meets inside is the session's, which it finds where all programs do.

use super::{Contents, Texts, site};
use crate::policy::{Place, Site};
use serde_json::{Map, Value, json};

pub(super) fn read(texts: &Texts<'_>, contents: &mut Contents) -> Option<()> {
    let document: Value = serde_saphyr::from_str(texts.file).ok()?;
    let clusters = named(&document, "clusters", "cluster");
    let contexts = named(&document, "contexts", "context");
    let shown = |part: &str, all: &[(&str, &Value)], keys: &[&str]| -> String {
        let one = |(name, value): &(&str, &Value)| {
            let kept = keys.iter().filter_map(|key| Some(((*key).to_owned(), value.get(*key)?.as_str()?.into())));
            json!({"name": name, part: Value::from(kept.collect::<Map<String, Value>>())})
        };
        Value::from(all.iter().map(one).collect::<Vec<_>>()).to_string()
    };
    let current = document.get("current-context").and_then(Value::as_str).unwrap_or_default();
    contents.say(format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"Config\", \"current-context\": {}, \"clusters\": {}, \"contexts\": {}, \"users\": [",
        Value::from(current),
        shown("cluster", &clusters, &["server", "tls-server-name"]),
        shown("context", &contexts, &["cluster", "user", "namespace"]),
    ));
    let mut first = true;
    for (name, user) in named(&document, "users", "user") {
        let text = |key: &str| user.get(key).and_then(Value::as_str);
        let (place, value) = match (text("token"), text("username"), text("password")) {
            (Some(token), ..) => (Place::Bearer, token),
            (None, Some(user), Some(password)) if !user.contains(':') => {
                (Place::BasicPassword(Some(user.to_owned())), password)
            }
            _ => {
                contents.leave_out(name, "it has no token and no password: a certificate, or a command that gets one");
                continue;
            }
        };
        let servers = contexts.iter().filter(|(_, context)| context.get("user").and_then(Value::as_str) == Some(name));
        let servers = servers.filter_map(|(_, context)| context.get("cluster").and_then(Value::as_str));
        let of_cluster = |named: &str| clusters.iter().find(|(name, _)| *name == named).map(|(_, cluster)| *cluster);
        let mut sites: Vec<Site> = Vec::new();
        for server in servers.filter_map(|named| of_cluster(named)?.get("server")?.as_str()) {
            sites.extend(site(server, place.clone()).filter(|site| !sites.contains(site)));
        }
        let Some(number) = contents.take(name, sites, value) else { continue };
        contents.say(format!("{}{{\"name\": {}, \"user\": {{", if first { "" } else { ", " }, Value::from(name)));
        contents.say(match &place {
            Place::BasicPassword(Some(user)) => {
                format!("\"username\": {}, \"password\": \"", Value::from(user.as_str()))
            }
            _ => "\"token\": \"".to_owned(),
        });
        contents.stand_in(number);
        contents.say("\"}}");
        first = false;
    }
    contents.say("]}\n");
    Some(())
}

/// What a list of the file has under each name.
fn named<'a>(document: &'a Value, list: &str, part: &str) -> Vec<(&'a str, &'a Value)> {
    let entries = document.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter_map(|entry| Some((entry.get("name")?.as_str()?, entry.get(part)?))).collect()
}
