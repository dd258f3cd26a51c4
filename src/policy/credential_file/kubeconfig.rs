//! `~/.kube/config`, as the documentation of Kubernetes has it: clusters, users, and contexts that pair them.
//!
//! The look-alike names no authority: what a client meets inside is the session's, which it finds where all programs do. A user who is
//! known by a certificate has one of nobody's there, and the proxy presents the real one to the cluster.

use super::{Contents, Texts, site};
use crate::model::{HostName, Port};
use crate::policy::{Place, Site};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

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
    let mut users = named(&document, "users", "user");
    let of_current = contexts.iter().find(|(name, _)| *name == current);
    let current_user = of_current.and_then(|(_, context)| context.get("user")?.as_str());
    // Whoever is in use comes first: a cluster gets one user's certificate alone, and no token of another's beside it.
    users.sort_by_key(|(name, _)| Some(*name) != current_user);
    let mut taken: Vec<(HostName, Port, bool)> = Vec::new();
    let mut first = true;
    for (name, user) in users {
        let Some(login) = Login::of(user) else {
            contents.leave_out(
                name,
                "it has no token, no password and no certificate in it: a file, or a command that gets one",
            );
            continue;
        };
        let servers = contexts.iter().filter(|(_, context)| context.get("user").and_then(Value::as_str) == Some(name));
        let servers = servers.filter_map(|(_, context)| context.get("cluster").and_then(Value::as_str));
        let of_cluster = |named: &str| clusters.iter().find(|(name, _)| *name == named).map(|(_, cluster)| *cluster);
        let mut sites: Vec<Site> = Vec::new();
        for server in servers.filter_map(|named| of_cluster(named)?.get("server")?.as_str()) {
            sites.extend(site(server, login.place()).map(Login::whole).filter(|site| !sites.contains(site)));
        }
        let presents = login.place() == Place::ClientCertificate;
        let is_free = |site: &Site| {
            !taken.iter().any(|(host, port, other)| (host, *port) == (&site.host, site.port) && (presents || *other))
        };
        if !sites.is_empty() && !sites.iter().any(is_free) {
            contents.leave_out(name, "another user is known to its cluster here: use its context, and it comes first");
            continue;
        }
        sites.retain(is_free);
        let Some(number) = contents.take(name, sites.clone(), &login.value()) else { continue };
        taken.extend(sites.into_iter().map(|site| (site.host, site.port, presents)));
        contents.say(format!("{}{{\"name\": {}, \"user\": {{", if first { "" } else { ", " }, Value::from(name)));
        login.write(number, contents);
        contents.say("\"}}");
        first = false;
    }
    contents.say("]}\n");
    Some(())
}

/// How a user is known to a cluster.
enum Login<'a> {
    Token(&'a str),
    Password(&'a str, &'a str),
    /// The key and the certificate, as PEM.
    Certificate(Zeroizing<String>),
}

impl<'a> Login<'a> {
    fn of(user: &'a Value) -> Option<Self> {
        let text = |key: &str| user.get(key).and_then(Value::as_str);
        let pem =
            |key: &str| BASE64_STANDARD.decode(text(key)?.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match (text("token"), text("username"), text("password")) {
            (Some(token), ..) => Some(Self::Token(token)),
            (None, Some(user), Some(password)) if !user.contains(':') => Some(Self::Password(user, password)),
            _ => {
                let (key, certificate) = (Zeroizing::new(pem("client-key-data")?), pem("client-certificate-data")?);
                Some(Self::Certificate(Zeroizing::new(format!("{}\n{}\n", key.trim_end(), certificate.trim_end()))))
            }
        }
    }

    fn place(&self) -> Place {
        match self {
            Self::Token(_) => Place::Bearer,
            Self::Password(user, _) => Place::BasicPassword(Some((*user).to_owned())),
            Self::Certificate(_) => Place::ClientCertificate,
        }
    }

    fn value(&self) -> Zeroizing<String> {
        match self {
            Self::Token(value) | Self::Password(_, value) => Zeroizing::new((*value).to_owned()),
            Self::Certificate(pem) => pem.clone(),
        }
    }

    /// A certificate is a connection's, for every path.
    fn whole(site: Site) -> Site {
        match site.place {
            Place::ClientCertificate => Site { path: "/".to_owned(), ..site },
            _ => site,
        }
    }

    /// What stands for it inside, but for the last quotation mark.
    fn write(&self, number: usize, contents: &mut Contents) {
        match self {
            Self::Token(_) => contents.say("\"token\": \""),
            Self::Password(user, _) => {
                contents.say(format!("\"username\": {}, \"password\": \"", Value::from(*user)));
            }
            Self::Certificate(_) => {
                contents.say("\"client-certificate-data\": \"");
                contents.stand_in_certificate();
                contents.say("\", \"client-key-data\": \"");
                return contents.stand_in_key();
            }
        }
        contents.stand_in(number);
    }
}

/// What a list of the file has under each name.
fn named<'a>(document: &'a Value, list: &str, part: &str) -> Vec<(&'a str, &'a Value)> {
    let entries = document.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    entries.iter().filter_map(|entry| Some((entry.get("name")?.as_str()?, entry.get(part)?))).collect()
}
