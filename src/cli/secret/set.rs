//! `omni secret set`: keeping a secret, or saying where one is found.

use super::guard::{self, PassphraseFile};
use super::{ask, tell, unknown};
use crate::cli::listing::record;
use crate::model::Event;
use crate::policy::{Preset, SecretSpec};
use crate::session::{SystemKeyring, user_name};
use crate::store::{Home, SecretStore, StoredSecret};
use anyhow::bail;
use serde_json::{Value, json};
use std::fmt::Write as _;

/// Keep a secret, or say where one is found.
///
/// The value is read from the terminal without showing it, or from standard input.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  omni secret set github\n  omni secret set ci --host ci.example.com --header x-api-key --env CI_KEY\n  \
    omni secret set work --preset openai --from 'command:op read op://team/openai/key'"
)]
pub(super) struct Set {
    /// The secret's name; that of a known vendor says where it goes.
    name: String,
    /// The vendor, where the name is another.
    #[arg(long, value_name = "VENDOR", conflicts_with = "place")]
    preset: Option<String>,
    /// The one https host that it is sent to; of a vendor whose customers have one each, yours.
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    /// The port there. Default: 443.
    #[arg(long, requires = "host")]
    port: Option<u16>,
    /// The path of requests that get it, and what is below.
    #[arg(long, requires = "host")]
    path: Option<String>,
    /// It is the value of this header.
    #[arg(long, value_name = "NAME", group = "place", requires = "host")]
    header: Option<String>,
    /// It follows `Authorization: Bearer`.
    #[arg(long, group = "place", requires = "host")]
    bearer: bool,
    /// It is the password of this user in `Authorization: Basic`; `*` for any.
    #[arg(long, value_name = "USER", group = "place", requires = "host")]
    basic: Option<String>,
    /// It is the user in `Authorization: Basic`.
    #[arg(long, group = "place", requires = "host")]
    basic_user: bool,
    /// It is the value of this parameter of the query.
    #[arg(long, value_name = "NAME", group = "place", requires = "host")]
    query: Option<String>,
    /// It is the value of this cookie.
    #[arg(long, value_name = "NAME", group = "place", requires = "host")]
    cookie: Option<String>,
    /// It is a client's certificate with its key, as PEM, which the proxy presents there.
    #[arg(long, group = "place", requires = "host")]
    client_certificate: bool,
    /// It is the value of this field of a form's body.
    #[arg(long, value_name = "NAME", group = "place", requires = "host")]
    form: Option<String>,
    /// It stands there in the first message of a WebSocket, as in `/auth/key`; `*` for wherever in it.
    #[arg(long, value_name = "POINTER", group = "place", requires = "host")]
    first_message: Option<String>,
    /// It stands there in a JSON body, as in `/auth/key`.
    #[arg(long, value_name = "POINTER", group = "place", requires = "host")]
    json: Option<String>,
    /// The id of the GitHub App whose private key it is.
    #[arg(long, value_name = "ID", requires = "installation")]
    app: Option<String>,
    /// The installation of it whose tokens are used.
    #[arg(long, value_name = "ID", requires = "app")]
    installation: Option<String>,
    /// What a Google account's tokens are for (repeatable). Default: all that the account may do.
    #[arg(long, value_name = "SCOPE", conflicts_with = "app")]
    scope: Vec<String>,
    /// The variable that holds the placeholder inside (repeatable).
    #[arg(long, value_name = "VARIABLE", conflicts_with = "inject")]
    env: Vec<String>,
    /// The proxy puts it into every request there, and the sandbox holds nothing.
    #[arg(long)]
    inject: bool,
    /// Where its value is found, rather than kept here: env:NAME, file:PATH or command:COMMAND (repeatable).
    #[arg(long, value_name = "SOURCE")]
    from: Vec<String>,
    #[command(flatten)]
    passphrase: PassphraseFile,
}

impl Set {
    /// The places in a request that were asked for, by the keys that a profile has for them.
    fn places(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let text = |wanted: &Option<String>| wanted.clone().map(Value::from);
        let flag = |wanted: bool| wanted.then_some(Value::from(true));
        let keys = [
            ("header", text(&self.header)),
            ("bearer", flag(self.bearer)),
            ("basic", text(&self.basic)),
            ("basic_user", flag(self.basic_user)),
            ("query", text(&self.query)),
            ("cookie", text(&self.cookie)),
            ("json", text(&self.json)),
            ("form", text(&self.form)),
            ("first_message", text(&self.first_message)),
            ("client_certificate", flag(self.client_certificate)),
        ];
        keys.into_iter().filter_map(|(key, value)| Some((key, value?)))
    }

    /// How a profile would declare it.
    fn declaration(&self) -> anyhow::Result<Value> {
        let mut declared = json!({"name": self.name});
        if let Some(host) = &self.host {
            declared["host"] = json!(host);
        }
        match (&self.host, self.preset()) {
            (Some(_), None) => {
                let about_host = [("port", self.port.map(Value::from)), ("path", self.path.clone().map(Value::from))];
                let about_host = about_host.into_iter().filter_map(|(key, value)| Some((key, value?)));
                for (key, value) in about_host.chain(self.places()) {
                    declared[key] = value;
                }
            }
            (_, Some(preset)) => declared["preset"] = json!(preset.name),
            (None, None) => return Err(unknown(self.preset.as_deref().unwrap_or(&self.name))),
        }
        if let (Some(app), Some(installation)) = (&self.app, &self.installation) {
            declared["github_app"] = json!({"app": app, "installation": installation});
        }
        if !self.scope.is_empty() {
            declared["google_account"] = json!({"scopes": self.scope});
        }
        if !self.env.is_empty() {
            declared["placeholder"] = json!({"env": self.env});
        }
        if self.inject {
            declared["inject"] = json!(true);
        }
        let stored = format!("store:{}", self.name);
        declared["from"] = if self.from.is_empty() { json!([stored]) } else { json!(self.from) };
        Ok(declared)
    }

    fn preset(&self) -> Option<&'static Preset> {
        let named = Preset::named(self.preset.as_deref().unwrap_or(&self.name));
        named.filter(|preset| self.host.is_none() || (preset.wants_host() && self.places().next().is_none()))
    }
}

/// Runs it.
pub(super) fn run(wanted: &Set) -> anyhow::Result<()> {
    if let Some(preset) = wanted.preset().filter(|preset| preset.is_read_as_it_is()) {
        let (name, about) = (preset.name, preset.about);
        bail!("`{name}` is {about}: nothing of it is kept, use it by: omni exec --secret {name} …");
    }
    let declared = wanted.declaration()?;
    let spec = SecretSpec::parse("omni secret set", &declared.to_string())?;
    let value = match wanted.from.is_empty() {
        true => Some(ask::value(&spec, wanted.preset().map_or("the value", |preset| preset.about))?),
        false => None,
    };
    let home = Home::from_env()?;
    guard::ready(&home, &wanted.passphrase)?;
    let known = StoredSecret {
        declared,
        set_at: jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
        has_value: value.is_some(),
    };
    let mut store = SecretStore::edit(home.path())?;
    let (secret, sites) = (spec.name.clone(), spec.sites.iter().map(ToString::to_string).collect());
    let from = spec.from.iter().map(ToString::to_string).collect();
    record(&home, &Event::SecretSet { user: user_name(), secret, sites, from })?;
    store.set(&spec.name, known, value, &SystemKeyring::of(home.path()))?;
    let mut text = format!("{} goes to:\n", spec.name);
    for site in &spec.sites {
        writeln!(text, "  {site}")?;
    }
    for variable in &spec.placeholder_env {
        writeln!(text, "inside, {variable} holds a placeholder")?;
    }
    for file in &spec.placeholder_files {
        writeln!(text, "inside, {} holds a placeholder", file.path)?;
    }
    write!(text, "use it by: omni exec --secret {} …", spec.name)?;
    tell(&text);
    Ok(())
}
