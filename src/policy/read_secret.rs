//! Reads the `secrets:` of a profile.

use super::client_certificate;
use super::document::{self, Fields, Node, Value, list, text};
use super::error::{Complaint, PolicyErrors, hint_of, refuse_any};
use super::exchange::Exchange;
use super::preset::{GITHUB_APP, GOOGLE_ACCOUNT, Preset};
use super::quantity::parse_duration;
use super::secret::{
    ANYWHERE, Approval, Mode, PLACEHOLDER_WORD, Place, PlaceholderFile, SecretSource, SecretSpec, Site,
};
use super::shape::Shape;
use super::vault::{VaultField, VaultSettings};
use crate::model::{HostName, Port};
use std::time::Duration;

/// Headers that say how a message travels, which no secret may take the place of.
const HEADERS_RESERVED: [&str; 10] = [
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The keys of which a site has one.
const PLACE_KEYS: [&str; 11] = [
    "header",
    "bearer",
    "basic",
    "basic_user",
    "query",
    "cookie",
    "json",
    "form",
    "first_message",
    "aws",
    "client_certificate",
];
/// What a secret needs to have a place.
const PLACE_HINT: &str = "write `header: NAME`, `bearer: true`, `basic: USER`, `basic_user: true`, `query: NAME`, \
                          `cookie: NAME`, `json: /POINTER`, `form: NAME`, `first_message: /POINTER`, `aws: true` or `client_certificate: true`";

impl SecretSpec {
    /// Reads a secret that is declared alone, as one entry of `secrets:` is.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(label: &str, text: &str) -> Result<Self, PolicyErrors> {
        let root = document::parse(text).map_err(|complaint| PolicyErrors(vec![complaint.labelled(label)]))?;
        let whole = root.complaint("the secret cannot be read", "declare it as in a profile's `secrets`");
        let mut complaints = Vec::new();
        let spec = Self::read(root, &mut complaints);
        if spec.is_none() && complaints.is_empty() {
            complaints.push(whole.clone());
        }
        refuse_any(label, complaints)?;
        spec.ok_or_else(|| PolicyErrors(vec![whole.labelled(label)]))
    }

    /// Reads one entry of `secrets:`.
    pub(super) fn read(node: Node, complaints: &mut Vec<Complaint>) -> Option<Self> {
        let whole = node.complaint("", "");
        let before = complaints.len();
        let mut fields = Fields::of(node, "a secret", complaints);
        if complaints.len() > before {
            return None;
        }
        let (name, from, preset) = (fields.take("name"), fields.take("from"), fields.take("preset"));
        let preset = preset.and_then(|node| read_preset(node, complaints));
        let approval = fields.take("approve").map(|node| Approval::read(node, complaints)).unwrap_or_default();
        if let Some(login) = of_login(preset, name.as_ref()) {
            // Everything about it is known.
            fields.finish(complaints);
            let hint = "leave `from` out";
            complaints.extend(from.map(|from| from.complaint("a login is read from its own file", hint)));
            return Some(Self { approval, ..login });
        }
        let mode = fields.take("inject").map_or(Mode::Placeholder, |node| read_inject(node, complaints));
        let (certificate, vault) = (fields.take("certificate"), fields.take("vault"));
        let exchange = read_exchange(&mut fields, preset, &whole, complaints);
        let refresh = fields.take("refresh").and_then(|node| read_refresh(node, complaints));
        let refresh = refresh.or_else(|| preset.and_then(Preset::refresh));
        let sites = match fields.take("sites") {
            Some(node) => read_sites(node, complaints),
            None if let Some(preset) = preset => read_own_host(preset, &mut fields, &whole, complaints),
            None => read_site(&mut fields, &whole, complaints).into_iter().collect(),
        };
        let placeholder = fields.take("placeholder");
        fields.finish(complaints);
        expect(name.is_some(), ("name", "add `name: NAME`"), &whole, complaints);
        let hint = "add `from: env:NAME`, `file:PATH`, `command:COMMAND` or `store:NAME`";
        expect(from.is_some() || preset.is_some(), ("from", hint), &whole, complaints);
        let name = name.and_then(|node| read_name(node, complaints));
        let mut from = from.map(|node| read_sources(node, complaints)).or(preset.map(Preset::sources));
        let sites = if sites.is_empty() { preset.map(Preset::sites).unwrap_or_default() } else { sites };
        let mode = client_certificate::mode(mode, &sites, &whole, complaints);
        let mut certificate = client_certificate::sources(certificate, &sites, complaints);
        no_place_for_exchange(exchange.as_ref(), &sites, &whole, complaints);
        no_place_for_injection(mode, &sites, &whole, complaints);
        VaultSettings::settle(vault, [from.as_deref_mut().unwrap_or_default(), &mut certificate], complaints);
        let shape = match (preset, sites.first()) {
            (Some(preset), _) => preset.shape,
            (None, Some(site)) => Shape::of_host(site.host.as_str()),
            (None, None) => return None,
        };
        let stand_in = placeholder.map(|node| StandIn::read(node, shape, complaints));
        let of_preset = || StandIn::of_preset(preset.filter(|_| mode == Mode::Placeholder), shape);
        let StandIn { env: placeholder_env, files: placeholder_files, shape } =
            stand_in.unwrap_or_else(of_preset).fit_for(mode, whole, complaints);
        Some(Self {
            name: name?,
            from: from?,
            certificate,
            sites,
            mode,
            refresh,
            placeholder_env,
            placeholder_files,
            shape,
            login: None,
            approval,
            exchange,
        })
    }
}

/// Complains of a key that must be there.
fn expect(there: bool, (key, hint): (&str, &str), whole: &Complaint, complaints: &mut Vec<Complaint>) {
    let message = || format!("the secret has no `{key}`");
    let complaint = || Complaint { message: message(), hint: Some(hint.to_owned()), ..whole.clone() };
    complaints.extend((!there).then(complaint));
}

/// Reads `github_app` and `google_account`, of which there is one at most.
fn read_exchange(
    fields: &mut Fields,
    preset: Option<&Preset>,
    whole: &Complaint,
    complaints: &mut Vec<Complaint>,
) -> Option<Exchange> {
    let (app, account) = (fields.take("github_app"), fields.take("google_account"));
    let mut complain = |message: &str, hint: &str| {
        complaints.push(Complaint { message: message.to_owned(), hint: Some(hint.to_owned()), ..whole.clone() });
    };
    match (app, account) {
        (Some(_), Some(_)) => complain("the secret has both a `github_app` and a `google_account`", "leave one out"),
        (Some(app), None) => return Exchange::read_github_app(app, complaints),
        (None, Some(account)) => return Some(Exchange::read_google(account, complaints)),
        (None, None) if preset.is_some_and(|preset| preset.name == GITHUB_APP) => {
            let hint = "write `github_app: { app: ID, installation: ID }`, or `omni secret set github-app --app ID \
                        --installation ID`";
            complain("the secret has no `github_app`", hint);
        }
        (None, None) => return preset.filter(|preset| preset.name == GOOGLE_ACCOUNT).map(|_| Exchange::google()),
    }
    None
}

/// Reads the `host` of a vendor whose customers have one each.
fn read_own_host(
    preset: &Preset,
    fields: &mut Fields,
    whole: &Complaint,
    complaints: &mut Vec<Complaint>,
) -> Vec<Site> {
    if !preset.wants_host() {
        return Vec::new();
    }
    let Some(node) = fields.take("host") else {
        complaints.push(Complaint {
            message: format!("the preset `{}` does not know your own site", preset.name),
            hint: Some(format!("add `host: NAME`, or `omni secret set {} --host NAME`", preset.name)),
            ..whole.clone()
        });
        return Vec::new();
    };
    read_host(node, complaints).map(|host| preset.sites_at(&host)).unwrap_or_default()
}

/// The secret of a preset that is a login, or a file of credentials.
fn of_login(preset: Option<&Preset>, name: Option<&Node>) -> Option<SecretSpec> {
    let name = read_name(name?.clone(), &mut Vec::new())?;
    preset?.login(&name)
}

/// Reads `sites:`.
fn read_sites(node: Node, complaints: &mut Vec<Complaint>) -> Vec<Site> {
    let nodes = list(node.clone(), "`sites`", false, complaints);
    if nodes.is_empty() {
        complaints.push(node.complaint("`sites` is empty", "name at least one place that the secret is sent to"));
    }
    let mut sites: Vec<Site> = Vec::new();
    for node in nodes {
        let whole = node.complaint("", "");
        let before = complaints.len();
        let mut fields = Fields::of(node, "a site", complaints);
        if complaints.len() > before {
            continue;
        }
        let site = read_site(&mut fields, &whole, complaints);
        fields.finish(complaints);
        if let Some(site) = site {
            if sites.contains(&site) {
                let hint = Some("remove one of them".to_owned());
                complaints.push(Complaint { message: "the same site stands twice".to_owned(), hint, ..whole });
            }
            sites.push(site);
        }
    }
    sites
}

/// Reads `host`, `port`, `path` and the place.
fn read_site(fields: &mut Fields, whole: &Complaint, complaints: &mut Vec<Complaint>) -> Option<Site> {
    let host = fields.take("host");
    let port = fields.take("port").map_or(Some(Port(443)), |node| read_port(node, complaints));
    let path = fields.take("path").map_or(Some("/".to_owned()), |node| read_path(node, complaints));
    let place = read_place(fields, whole, complaints);
    if host.is_none() {
        complaints.push(Complaint {
            message: "the secret has no `host`".to_owned(),
            hint: Some("a secret is sent to one host: add `host: NAME`".to_owned()),
            ..whole.clone()
        });
    }
    let host = host.and_then(|node| read_host(node, complaints));
    Some(Site { host: host?, port: port?, path: path?, place: place? })
}

/// Complains of places where a token cannot stand.
fn no_place_for_exchange(
    exchange: Option<&Exchange>,
    sites: &[Site],
    whole: &Complaint,
    complaints: &mut Vec<Complaint>,
) {
    if exchange.is_some() && sites.iter().any(|site| matches!(site.place, Place::ClientCertificate | Place::Aws)) {
        let hint = Some("declare them as two secrets".to_owned());
        let message = "what is exchanged for a token goes into no request otherwise".to_owned();
        complaints.push(Complaint { message, hint, ..whole.clone() });
    }
}

/// Complains of places that the proxy cannot make where a request has none.
fn no_place_for_injection(mode: Mode, sites: &[Site], whole: &Complaint, complaints: &mut Vec<Complaint>) {
    let cannot = |site: &&Site| match &site.place {
        Place::Json(_) | Place::Form(_) | Place::FirstMessage(_) | Place::Aws => true,
        Place::BasicPassword(user) => user.is_none(),
        _ => false,
    };
    if let Some(site) = sites.iter().find(|site| mode == Mode::Inject && cannot(site)) {
        let hint = match site.place {
            Place::Json(_) | Place::Form(_) | Place::FirstMessage(_) | Place::Aws => {
                "use a placeholder there, which is swapped where it stands"
            }
            _ => "say whose password it is: `basic: USER`",
        };
        let message = format!("a secret cannot be injected into {}", site.place);
        complaints.push(Complaint { message, hint: Some(hint.to_owned()), ..whole.clone() });
    }
}

fn read_inject(node: Node, complaints: &mut Vec<Complaint>) -> Mode {
    match node.value {
        Value::Bool(true) => return Mode::Inject,
        Value::Bool(false) => {}
        _ => complaints.push(node.complaint("`inject` is not true or false", "write `inject: true`, or leave it out")),
    }
    Mode::Placeholder
}

fn read_refresh(node: Node, complaints: &mut Vec<Complaint>) -> Option<Duration> {
    let written = text(node.clone(), "`refresh`", complaints)?;
    match parse_duration(&written) {
        Ok(refresh) => Some(refresh),
        Err(error) => {
            complaints.push(node.complaint(error.to_string(), "write it like `5m`"));
            None
        }
    }
}

fn read_preset(node: Node, complaints: &mut Vec<Complaint>) -> Option<&'static Preset> {
    let name = text(node.clone(), "`preset`", complaints)?;
    let found = Preset::named(&name);
    if found.is_none() {
        let known: Vec<&str> = Preset::names().collect();
        complaints.push(node.complaint(format!("there is no preset `{name}`"), hint_of(&name, &known)));
    }
    found
}

fn read_path(node: Node, complaints: &mut Vec<Complaint>) -> Option<String> {
    let path = text(node.clone(), "the site's `path`", complaints)?;
    let plain = path.starts_with('/') && !path.contains(['?', '#', '%', '*', ' ']) && !path.contains("//");
    if plain && !path.split('/').any(|part| matches!(part, "." | "..")) {
        return Some(path);
    }
    complaints.push(node.complaint(format!("`{path}` is not the beginning of a path"), "write it like `/v1/`"));
    None
}

fn read_name(node: Node, complaints: &mut Vec<Complaint>) -> Option<String> {
    let name = text(node.clone(), "the secret's `name`", complaints)?;
    if is_name(&name) {
        return Some(name);
    }
    complaints.push(node.complaint(format!("`{name}` cannot name a secret"), "use letters, digits, `-` and `_`"));
    None
}

/// Whether a text can name a secret.
#[must_use]
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
}

pub(super) fn read_sources(node: Node, complaints: &mut Vec<Complaint>) -> Vec<SecretSource> {
    let nodes = list(node.clone(), "`from`", true, complaints);
    if nodes.is_empty() && matches!(node.value, Value::List(_)) {
        complaints.push(node.complaint("`from` is an empty list", "name at least one source, such as `env:NAME`"));
    }
    nodes.into_iter().filter_map(|node| read_source(node, complaints)).collect()
}

fn read_source(node: Node, complaints: &mut Vec<Complaint>) -> Option<SecretSource> {
    let written = text(node.clone(), "a source of a secret", complaints)?;
    let (kind, rest) = written.split_once(':').unwrap_or((written.as_str(), ""));
    let rest = rest.trim();
    let complaint = match kind {
        "env" if is_variable(rest) => return Some(SecretSource::Env(rest.to_owned())),
        "env" => node.complaint(format!("`{rest}` is not the name of a variable"), "write it like `env:API_KEY`"),
        "file" if rest.starts_with('/') || rest.starts_with("~/") => return Some(SecretSource::of_file(rest)),
        "file" => node.complaint(format!("`{rest}` is not a full path"), "begin it with `/` or `~/`"),
        "command" if !rest.is_empty() => return Some(SecretSource::Command(rest.to_owned())),
        "command" => node.complaint("the command is empty", "write it like `command:pass show key`"),
        "store" if is_name(rest) => return Some(SecretSource::Store(rest.to_owned())),
        "vault" => match VaultField::read(rest, &node) {
            Ok(field) => return Some(SecretSource::Vault(Box::new(field))),
            Err(complaint) => complaint,
        },
        "aws" if written == "aws" => return Some(SecretSource::Aws(None)),
        "aws" if is_name(rest) => return Some(SecretSource::Aws(Some(rest.to_owned()))),
        "aws" => node.complaint(format!("`{rest}` cannot name a profile"), "write it like `aws:work`, or `aws` alone"),
        "store" => node.complaint(format!("`{rest}` cannot name a secret"), "write it like `store:github`"),
        _ => {
            let message = format!("`{kind}` is not a place where secrets are kept");
            node.complaint(message, hint_of(kind, &["env", "file", "command", "store", "vault", "aws"]))
        }
    };
    complaints.push(complaint);
    None
}

fn read_host(node: Node, complaints: &mut Vec<Complaint>) -> Option<HostName> {
    let written = text(node.clone(), "the secret's `host`", complaints)?;
    match HostName::parse(&written) {
        Ok(host) => Some(host),
        Err(error) => {
            complaints.push(node.complaint(error.to_string(), "a secret is sent to one host, by its plain name"));
            None
        }
    }
}

fn read_port(node: Node, complaints: &mut Vec<Complaint>) -> Option<Port> {
    if let Value::Integer(port) = node.value
        && let Ok(port @ 1..) = u16::try_from(port)
    {
        return Some(Port(port));
    }
    complaints.push(node.complaint("`port` is not a port", "a port is a number from 1 to 65535"));
    None
}

/// Reads the place of a site, of which there must be one.
fn read_place(fields: &mut Fields, whole: &Complaint, complaints: &mut Vec<Complaint>) -> Option<Place> {
    let complain = |message: String| Complaint { message, hint: Some(PLACE_HINT.to_owned()), ..whole.clone() };
    let mut taken: Vec<_> = PLACE_KEYS.iter().filter_map(|key| Some((*key, fields.take(key)?))).collect();
    match (taken.pop(), taken.pop()) {
        (Some((key, node)), None) => read_place_of(key, node, complaints),
        (Some((last, _)), Some((first, _))) => {
            complaints.push(complain(format!("the secret has both a `{first}` and a `{last}`")));
            None
        }
        (None, _) => {
            complaints.push(complain("the secret has no place in a request".to_owned()));
            None
        }
    }
}

fn read_place_of(key: &str, node: Node, complaints: &mut Vec<Complaint>) -> Option<Place> {
    match key {
        "header" => return read_header(node, complaints),
        "bearer" | "basic_user" | "aws" | "client_certificate" => {
            if matches!(node.value, Value::Bool(true)) {
                return Some(match key {
                    "bearer" => Place::Bearer,
                    "aws" => Place::Aws,
                    "client_certificate" => Place::ClientCertificate,
                    _ => Place::BasicUser,
                });
            }
            let hint = format!("leave it out, or write `{key}: true`");
            complaints.push(node.complaint(format!("`{key}` can only be `true`"), hint));
            return None;
        }
        _ => {}
    }
    let written = text(node.clone(), &format!("`{key}`"), complaints)?;
    let visible = !written.is_empty() && written.bytes().all(|byte| (0x21..0x7f).contains(&byte));
    let sound = match key {
        "basic" => visible && !written.contains(':'),
        "cookie" => visible && !written.contains(['=', ';', ',', '"']),
        "first_message" if written == ANYWHERE => true,
        "json" | "first_message" => written.starts_with('/') && !written.contains(char::is_control),
        _ => visible && !written.contains(['=', '&', '#', '?', '%', '+']),
    };
    if !sound {
        let hint = "write `basic: USER` or `basic: \"*\"`, `query: NAME`, `cookie: NAME`, `json: /a/b`, `form: NAME`, `first_message: /a/b`";
        complaints.push(node.complaint(format!("`{written}` cannot stand behind `{key}`"), hint));
        return None;
    }
    Some(match key {
        "basic" if written == "*" => Place::BasicPassword(None),
        "basic" => Place::BasicPassword(Some(written)),
        "cookie" => Place::Cookie(written),
        "json" => Place::Json(written),
        "form" => Place::Form(written),
        "first_message" => Place::FirstMessage(written),
        _ => Place::Query(written),
    })
}

fn read_header(node: Node, complaints: &mut Vec<Complaint>) -> Option<Place> {
    let name = text(node.clone(), "`header`", complaints)?.to_ascii_lowercase();
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let complaint = if !name.chars().all(token) {
        node.complaint(format!("`{name}` is not the name of a header"), "write it like `x-api-key`")
    } else if HEADERS_RESERVED.contains(&name.as_str()) || name.starts_with("proxy-") {
        node.complaint(format!("`{name}` says how a request travels"), "a secret goes into a header of its own")
    } else {
        return Some(Place::Header(name));
    };
    complaints.push(complaint);
    None
}

/// What stands for a secret in the sandbox, and where.
struct StandIn {
    env: Vec<String>,
    files: Vec<PlaceholderFile>,
    shape: Shape,
}

impl StandIn {
    fn of_preset(preset: Option<&Preset>, shape: Shape) -> Self {
        let (env, files) = preset.map(|preset| (preset.variables(), preset.files())).unwrap_or_default();
        Self { env, files, shape }
    }

    /// The same, and a complaint where there is one though the proxy puts the secret in.
    fn fit_for(self, mode: Mode, whole: Complaint, complaints: &mut Vec<Complaint>) -> Self {
        if mode == Mode::Inject && !(self.env.is_empty() && self.files.is_empty()) {
            let hint = Some("leave `placeholder` out: the sandbox holds nothing".to_owned());
            let message = "the secret is injected, and has a placeholder all the same".to_owned();
            complaints.push(Complaint { message, hint, ..whole });
        }
        self
    }

    /// Reads `placeholder: { env, files, shape }`.
    fn read(node: Node, shape: Shape, complaints: &mut Vec<Complaint>) -> Self {
        let mut fields = Fields::of(node, "`placeholder`", complaints);
        let (env, files, written) = (fields.take("env"), fields.take("files"), fields.take("shape"));
        fields.finish(complaints);
        let env = env.map_or_else(Vec::new, |node| list(node, "`env`", true, complaints));
        let env = env.into_iter().filter_map(|node| read_variable(node, complaints)).collect();
        let files = files.map_or_else(Vec::new, |node| list(node, "`files`", false, complaints));
        let files = files.into_iter().filter_map(|node| read_file(node, complaints)).collect();
        let shape = written.and_then(|node| read_shape(node, complaints)).unwrap_or(shape);
        Self { env, files, shape }
    }
}

fn read_shape(node: Node, complaints: &mut Vec<Complaint>) -> Option<Shape> {
    let name = text(node.clone(), "`shape`", complaints)?;
    let found = Shape::ALL.into_iter().find(|(known, _)| *known == name);
    if found.is_none() {
        let known = Shape::ALL.map(|(known, _)| known);
        complaints.push(node.complaint(format!("`{name}` is not a shape of placeholders"), hint_of(&name, &known)));
    }
    found.map(|(_, shape)| shape)
}

/// Reads `{ path, text }`.
fn read_file(node: Node, complaints: &mut Vec<Complaint>) -> Option<PlaceholderFile> {
    let whole = node.clone();
    let mut fields = Fields::of(node, "a file", complaints);
    let (path, written) = (fields.take("path"), fields.take("text"));
    fields.finish(complaints);
    let (Some(path), Some(written)) = (path, written) else {
        complaints.push(whole.complaint("the file has no `path` or no `text`", "write `{ path: ~/.netrc, text: … }`"));
        return None;
    };
    let (at, of) = (path.clone(), written.clone());
    let path = text(path, "the file's `path`", complaints)?;
    let written = text(written, "the file's `text`", complaints)?;
    let rest = path.strip_prefix("~/").unwrap_or_default();
    if rest.is_empty() || rest.split('/').any(|part| matches!(part, "" | "." | "..")) {
        complaints.push(at.complaint(format!("`{path}` is no file of the sandbox's home"), "begin it with `~/`"));
        return None;
    }
    if !written.contains(PLACEHOLDER_WORD) {
        let hint = format!("write `{PLACEHOLDER_WORD}` where it goes");
        complaints.push(of.complaint("the text has no place for the placeholder", hint));
        return None;
    }
    Some(PlaceholderFile { path, text: written })
}

/// Reads the name of an environment variable.
pub(super) fn read_variable(node: Node, complaints: &mut Vec<Complaint>) -> Option<String> {
    let name = text(node.clone(), "the name of a variable", complaints)?;
    if is_variable(&name) {
        return Some(name);
    }
    let hint = "use letters, digits and `_`, and no digit first";
    complaints.push(node.complaint(format!("`{name}` is not the name of a variable"), hint));
    None
}

/// Whether a text can name an environment variable (POSIX, section 8.1).
pub(super) fn is_variable(name: &str) -> bool {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    plain && name.chars().next().is_some_and(|first| !first.is_ascii_digit())
}
