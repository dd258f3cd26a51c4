//! `~/.docker/config.json`, as `docker login` writes it: for each registry a user and a password in base64.

use super::{Contents, Texts, basic, host_site, site};
use crate::policy::{Place, Shape};
use serde_json::Value;

/// How Docker Hub is called there, and where it gives the tokens that its registry wants.
const HUB: (&str, &str) = ("index.docker.io", "https://auth.docker.io/token");
/// Registries whose tokens are had at another host.
const ELSEWHERE: [(&str, &str); 2] = [HUB, ("registry.gitlab.com", "https://gitlab.com/jwt/auth")];

pub(super) fn read(texts: &Texts<'_>, contents: &mut Contents) -> Option<()> {
    let document: Value = serde_json::from_str(texts.file).ok()?;
    let helper = document.get("credsStore").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    contents.say("{\"auths\": {");
    let mut first = true;
    let none = serde_json::Map::new();
    for (registry, kept) in document.get("auths").and_then(Value::as_object).unwrap_or(&none) {
        let auth = kept.get("auth").and_then(Value::as_str).unwrap_or_default();
        let Some((user, password)) = basic(auth) else {
            let why = if helper { "a helper keeps it: `docker-credential-…` gets it" } else { "it has no `auth`" };
            contents.leave_out(registry, why);
            continue;
        };
        let named = registry.strip_prefix("https://").unwrap_or(registry);
        let host = named.split('/').next().unwrap_or(named);
        let place = Place::BasicPassword(Some(user.clone()));
        let token = ELSEWHERE.iter().find(|(known, _)| *known == host).and_then(|(_, url)| site(url, place.clone()));
        let sites = token.into_iter().chain(host_site(host, place)).collect();
        let Some(number) = contents.take(host, sites, &password) else { continue };
        if host == HUB.0 {
            contents.shape(number, Shape::DockerHub);
        }
        contents.say(format!("{}{}: {{\"auth\": \"", if first { "" } else { ", " }, Value::from(registry.as_str())));
        contents.stand_in_basic(number, &user);
        contents.say("\"}");
        first = false;
    }
    contents.say("}}\n");
    Some(())
}
