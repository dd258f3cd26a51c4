//! `omni secret`: what omni keeps for you, where each goes, and never a value of one on a command line.

use super::listing::{emit, json_line, printable, record};
use crate::model::Event;
use crate::policy::{Preset, SecretSpec, nearest};
use crate::session::{SystemKeyring, check_secret, user_name};
use crate::store::{Guard, Home, SecretStore, StoredSecret};
use anyhow::{Context, bail, ensure};
use clap::Subcommand;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use serde::Serialize;
use serde_json::{Value, json};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;
use zeroize::Zeroizing;

/// Most bytes that are read of a value; longer ones are refused.
const VALUE_BYTES_MAX: usize = 64 * 1024 + 2;
/// Shortest passphrase.
const PASSPHRASE_CHARS_MIN: usize = 8;

/// Keep secrets, and say where each goes
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  omni secret set github\n  pass show ci | omni secret set ci --host ci.example.com --header x-api-key\n  \
    omni exec --secret github --allow '* api.github.com/**' -- claude-code"
)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Set(Box<Set>),
    /// List the secrets that are kept, without their values.
    #[command(after_help = "Example:\n  omni secret list --json | jq -r .name")]
    List {
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Forget a secret.
    #[command(alias = "rm", after_help = "Example:\n  omni secret remove github")]
    Remove {
        /// The secret's name.
        name: String,
    },
    /// List the vendors whose secrets are known, and where each goes.
    #[command(after_help = "Example:\n  omni secret presets")]
    Presets {
        /// Print one JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Give the passphrase; the kernel then keeps the key for twelve hours.
    #[command(after_help = "Example:\n  omni secret unlock")]
    Unlock,
    /// Have the kernel forget the key.
    #[command(after_help = "Example:\n  omni secret lock")]
    Lock,
    /// Have a passphrase guard the store, another than before, or none.
    #[command(after_help = "Example:\n  omni secret passphrase")]
    Passphrase {
        /// Take the passphrase away: whoever can read omni's home can then read the secrets.
        #[arg(long, conflicts_with = "desktop")]
        none: bool,
        /// Have the desktop's secret service keep the key instead, which gives it while you are logged in there.
        #[arg(long)]
        desktop: bool,
    },
}

/// Keep a secret, or say where one is found.
///
/// The value is read from the terminal without showing it, or from standard input.
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  omni secret set github\n  omni secret set ci --host ci.example.com --header x-api-key --env CI_KEY\n  \
    omni secret set work --preset openai --from 'command:op read op://team/openai/key'"
)]
struct Set {
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
}

/// A secret in a listing.
#[derive(Serialize)]
struct Entry<'a> {
    name: &'a str,
    sites: Vec<String>,
    from: Vec<String>,
    set_at: &'a str,
}

/// Runs `omni secret`.
///
/// # Errors
/// When the store cannot be used, or what was said cannot be.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.verb {
        Verb::Set(wanted) => set(&wanted)?,
        Verb::List { json } => list(json)?,
        Verb::Remove { name } => remove(&name)?,
        Verb::Presets { json } => presets(json)?,
        Verb::Unlock => unlock()?,
        Verb::Lock => SystemKeyring::of(Home::from_env()?.path()).lock(),
        Verb::Passphrase { none: true, .. } => guard(Guard::File)?,
        Verb::Passphrase { desktop: true, .. } => guard(Guard::Desktop)?,
        Verb::Passphrase { .. } => passphrase()?,
    }
    Ok(ExitCode::SUCCESS)
}

/// How a secret is declared that is asked for by its name: as it was set, else as its vendor's preset says.
///
/// # Errors
/// When neither is there.
pub(super) fn declared(name: &str) -> anyhow::Result<String> {
    if let Ok(home) = Home::path_from_env()
        && let Some(secret) = SecretStore::read(&home)?.secrets().get(name)
    {
        return Ok(secret.declared.to_string());
    }
    match Preset::named(name) {
        Some(preset) => Ok(json!({"name": name, "preset": preset.name}).to_string()),
        None => Err(unknown(name)).with_context(|| format!("there is no secret `{name}`")),
    }
}

fn unknown(name: &str) -> anyhow::Error {
    match nearest(name, Preset::names()) {
        Some(near) => anyhow::anyhow!(
            "no vendor `{name}` is known: did you mean `{near}`? Else say where it goes: --host HOST --header NAME"
        ),
        None => anyhow::anyhow!(
            "no vendor `{name}` is known: say where it goes, by --host HOST and --header NAME, --bearer, …"
        ),
    }
}

impl Set {
    /// How a profile would declare it.
    fn declaration(&self) -> anyhow::Result<Value> {
        let mut declared = json!({"name": self.name});
        if let Some(host) = &self.host {
            declared["host"] = json!(host);
        }
        match (&self.host, self.preset()) {
            (Some(_), None) => {
                let keys = [
                    ("port", self.port.map(Value::from)),
                    ("path", self.path.clone().map(Value::from)),
                    ("header", self.header.clone().map(Value::from)),
                    ("bearer", self.bearer.then_some(true.into())),
                    ("basic", self.basic.clone().map(Value::from)),
                    ("basic_user", self.basic_user.then_some(true.into())),
                    ("query", self.query.clone().map(Value::from)),
                    ("cookie", self.cookie.clone().map(Value::from)),
                    ("json", self.json.clone().map(Value::from)),
                    ("form", self.form.clone().map(Value::from)),
                    ("first_message", self.first_message.clone().map(Value::from)),
                    ("client_certificate", self.client_certificate.then_some(true.into())),
                ];
                for (key, value) in keys {
                    if let Some(value) = value {
                        declared[key] = value;
                    }
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
        let is_placed = self.header.is_some() || self.bearer || self.basic.is_some() || self.basic_user;
        let is_placed = is_placed || self.query.is_some() || self.cookie.is_some() || self.json.is_some();
        let is_placed = is_placed || self.first_message.is_some() || self.form.is_some() || self.client_certificate;
        named.filter(|preset| self.host.is_none() || (preset.wants_host() && !is_placed))
    }
}

fn set(wanted: &Set) -> anyhow::Result<()> {
    if let Some(preset) = wanted.preset().filter(|preset| preset.is_read_as_it_is()) {
        let (name, about) = (preset.name, preset.about);
        bail!("`{name}` is {about}: nothing of it is kept, use it by: omni exec --secret {name} …");
    }
    let declared = wanted.declaration()?;
    let spec = SecretSpec::parse("omni secret set", &declared.to_string())?;
    let value = match wanted.from.is_empty() {
        true => Some(read_value(&spec, wanted.preset().map_or("the value", |preset| preset.about))?),
        false => None,
    };
    let home = Home::from_env()?;
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

fn list(json: bool) -> anyhow::Result<()> {
    let store = SecretStore::read(&Home::path_from_env()?)?;
    let mut text = String::new();
    for (name, secret) in store.secrets() {
        // What an older omni wrote may say what this one does not take; it is listed all the same.
        let spec = SecretSpec::parse(name, &secret.declared.to_string()).ok();
        let sites: Vec<String> = spec.iter().flat_map(|spec| &spec.sites).map(ToString::to_string).collect();
        let from: Vec<String> = spec.iter().flat_map(|spec| &spec.from).map(ToString::to_string).collect();
        if json {
            text.push_str(&json_line(&Entry { name, sites, from, set_at: &secret.set_at })?);
        } else {
            writeln!(text, "{:<18}{}  {}", printable(name), secret.set_at, printable(&from.join(", ")))?;
            for site in sites {
                writeln!(text, "{:<18}{}", "", printable(&site))?;
            }
        }
    }
    if text.is_empty() && !json {
        tell("no secret is kept: add one by `omni secret set NAME`");
    }
    emit(&text)
}

fn remove(name: &str) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let mut store = SecretStore::edit(home.path())?;
    if store.secrets().contains_key(name) {
        record(&home, &Event::SecretRemoved { user: user_name(), secret: name.to_owned() })?;
    }
    Ok(store.remove(name, &SystemKeyring::of(home.path()))?)
}

fn presets(json: bool) -> anyhow::Result<()> {
    let mut text = String::new();
    for preset in Preset::names().filter_map(Preset::named) {
        let sites: Vec<String> = preset.sites().iter().map(ToString::to_string).collect();
        let variables = preset.variables();
        let look_alike = preset.credential_file().map(|file| file.path.to_owned());
        let files: Vec<String> = preset.files().into_iter().map(|file| file.path).chain(look_alike).collect();
        if json {
            let entry = json!({
                "name": preset.name, "about": preset.about, "sites": sites, "variables": variables, "files": files,
            });
            text.push_str(&json_line(&entry)?);
            continue;
        }
        writeln!(text, "{:<14}{}", preset.name, preset.about)?;
        let held = variables.into_iter().chain(files).map(|place| format!("placeholder in {place}"));
        for line in sites.into_iter().chain(held) {
            writeln!(text, "{:<14}  {line}", "")?;
        }
    }
    emit(&text)
}

fn unlock() -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let store = SecretStore::read(home.path())?;
    if !store.has_passphrase() {
        tell("no passphrase guards the store: there is nothing to unlock");
        return Ok(());
    }
    let passphrase = read_line("Passphrase: ")?;
    Ok(store.unlock(&passphrase, &SystemKeyring::of(home.path()))?)
}

/// Has another guard the store's key.
fn guard(by: Guard<'_>) -> anyhow::Result<()> {
    let home = Home::from_env()?;
    let mut store = SecretStore::edit(home.path())?;
    let (passphrase, desktop) = (matches!(by, Guard::Passphrase(_)), by == Guard::Desktop);
    record(&home, &Event::SecretStoreGuarded { user: user_name(), passphrase, desktop })?;
    Ok(store.guard(by, &SystemKeyring::of(home.path()))?)
}

fn passphrase() -> anyhow::Result<()> {
    let first = read_line("New passphrase: ")?;
    ensure!(
        first.chars().count() >= PASSPHRASE_CHARS_MIN,
        "a passphrase has at least {PASSPHRASE_CHARS_MIN} characters"
    );
    if std::io::stdin().is_terminal() {
        ensure!(*read_line("The same again: ")? == *first, "the two are not the same: nothing was changed");
    }
    guard(Guard::Passphrase(&first))
}

/// Reads a value, from the terminal or from standard input to its end.
fn read_value(spec: &SecretSpec, what: &str) -> anyhow::Result<Zeroizing<String>> {
    let value = if std::io::stdin().is_terminal() {
        ensure!(
            !spec.is_document(),
            "it has several lines: give its file, as in `omni secret set {} < FILE`",
            spec.name
        );
        read_line(&format!("{what}: "))?
    } else {
        let mut bytes = Zeroizing::new(Vec::with_capacity(VALUE_BYTES_MAX + 1));
        std::io::stdin().take(VALUE_BYTES_MAX as u64).read_to_end(&mut bytes).context("cannot read standard input")?;
        let text = std::str::from_utf8(&bytes).context("the value is no text")?;
        Zeroizing::new(text.trim_end_matches(['\n', '\r']).to_owned())
    };
    match check_secret(spec, &value) {
        Some(problem) => bail!("this value cannot be a secret: {problem}"),
        None => Ok(value),
    }
}

/// Reads a line: from the terminal, which does not show it, or from standard input.
fn read_line(prompt: &str) -> anyhow::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::with_capacity(VALUE_BYTES_MAX + 1));
    if !std::io::stdin().is_terminal() {
        BufReader::new(std::io::stdin().take(VALUE_BYTES_MAX as u64)).read_line(&mut line)?;
    } else {
        let mut terminal =
            File::options().read(true).write(true).open("/dev/tty").context("there is no terminal to ask on")?;
        terminal.write_all(prompt.as_bytes())?;
        let quiet = Quiet::begin(&terminal)?;
        let read = BufReader::new((&terminal).take(VALUE_BYTES_MAX as u64)).read_line(&mut line);
        drop(quiet);
        terminal.write_all(b"\n")?;
        read.context("cannot read from the terminal")?;
    }
    let end = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(end);
    Ok(line)
}

/// A terminal that shows nothing of what is typed, until this is dropped.
struct Quiet<'a> {
    terminal: &'a File,
    before: rustix::termios::Termios,
}

impl<'a> Quiet<'a> {
    fn begin(terminal: &'a File) -> anyhow::Result<Self> {
        let before = tcgetattr(terminal.as_fd()).context("this is no terminal")?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal.as_fd(), OptionalActions::Flush, &quiet)
            .context("the terminal cannot be kept from showing it")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing.
        let _ = tcsetattr(self.terminal.as_fd(), OptionalActions::Flush, &self.before);
    }
}

/// Says something to the person.
fn tell(text: &str) {
    eprintln!("{text}");
}
