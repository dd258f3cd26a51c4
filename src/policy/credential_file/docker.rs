//! `~/.docker/config.json`, as `docker login` writes it: for each registry a user and a password in base64, or an identity token, which is
//! given for short-lived ones (distribution, "OAuth2 token authentication").

use super::{Contents, Texts, basic, host_site, site};
use crate::policy::{Place, Shape};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

/// How Docker Hub is called there, and where it gives the tokens that its registry wants.
const HUB: (&str, &str) = ("index.docker.io", "https://auth.docker.io/token");
/// The field of a form in which an identity token is sent.
const IDENTITY_FIELD: &str = "refresh_token";
/// Registries whose tokens are had at another host.
const ELSEWHERE: [(&str, &str); 2] = [HUB, ("registry.gitlab.com", "https://gitlab.com/jwt/auth")];

pub(super) fn read(texts: &Texts<'_>, contents: &mut Contents) -> Option<()> {
    let document: Value = serde_json::from_str(texts.file).ok()?;
    let helper = document.get("credsStore").and_then(Value::as_str).is_some_and(|name| !name.is_empty());
    contents.say("{\"auths\": {");
    let mut first = true;
    let none = serde_json::Map::new();
    for (registry, kept) in document.get("auths").and_then(Value::as_object).unwrap_or(&none) {
        let text = |key: &str| kept.get(key).and_then(Value::as_str).unwrap_or_default();
        let identity = text("identitytoken");
        let known = basic(text("auth")).filter(|(_, password)| !identity.is_empty() || !password.is_empty());
        let Some((user, password)) = known else {
            let why = if helper { "a helper keeps it: `docker-credential-…` gets it" } else { "it has no `auth`" };
            contents.leave_out(registry, why);
            continue;
        };
        let named = registry.strip_prefix("https://").unwrap_or(registry);
        let host = named.split('/').next().unwrap_or(named);
        let place = match identity {
            "" => Place::BasicPassword(Some(user.clone())),
            _ => Place::Form(IDENTITY_FIELD.to_owned()),
        };
        let token = ELSEWHERE.iter().find(|(known, _)| *known == host).and_then(|(_, url)| site(url, place.clone()));
        let sites = token.into_iter().chain(host_site(host, place)).collect();
        let value = if identity.is_empty() { password.as_str() } else { identity };
        let Some(number) = contents.take(host, sites, value) else { continue };
        if host == HUB.0 {
            contents.shape(number, Shape::DockerHub);
        }
        contents.say(format!("{}{}: {{", if first { "" } else { ", " }, Value::from(registry.as_str())));
        if identity.is_empty() {
            contents.say("\"auth\": \"");
            contents.stand_in_basic(number, &user);
        } else {
            let user = BASE64_STANDARD.encode(format!("{user}:"));
            contents.say(format!("\"auth\": \"{user}\", \"identitytoken\": \""));
            contents.stand_in(number);
        }
        contents.say("\"}");
        first = false;
    }
    contents.say("}}\n");
    Some(())
}
