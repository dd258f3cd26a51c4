//! The machine's own files: what root lays down for everybody's sessions, and whether sessions go through the server.

use super::error::ServerError;
use super::peer::Peer;
use super::place::{CONFIGURATION, SOCKET, check_owner};
use super::queue::Seats;
use crate::model::Tier;
use crate::policy::{
    Limits, MachineFile, MachineSecret, WorkspaceMode, parse_machine_file, parse_machine_secrets, parse_policy_file,
};
use crate::proxy::ConnectTo;
use crate::session::{SessionRequest, has_value};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Longest of the machine's files, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most policy files.
const POLICIES_MAX: usize = 256;
/// Sessions at a time where `system.yaml` says nothing.
const SEATS: Seats = Seats { all: 256, each: 32, waiting: 64 };
/// Others' permission to read.
const MODE_READ_OTHERS: u32 = 0o044;
/// The environment variable that names the socket.
const SOCKET_VARIABLE: &str = "OMNI_SYSTEM_SOCKET";

/// What root laid down.
#[derive(Debug)]
pub struct Machine {
    policies: Vec<(String, String)>,
    secrets: Vec<MachineSecret>,
    file: MachineFile,
    connect_to: Vec<ConnectTo>,
    upstream_ca: Option<Vec<u8>>,
}

impl Machine {
    /// Reads it. What is absent says nothing.
    ///
    /// # Errors
    /// A [`ServerError`] for a file that is wrong, or that others than root could have written or, of secrets, read.
    pub fn read(configuration: &Path) -> Result<Self, ServerError> {
        let system = configuration.join("system.yaml");
        let file =
            read(&system, 0)?.map(|text| parse_machine_file(&system.display().to_string(), &text)).transpose()?;
        let file = file.unwrap_or_default();
        let secrets = configuration.join("secrets.yaml");
        let label = secrets.display().to_string();
        let secrets = read(&secrets, MODE_READ_OTHERS)?.map(|text| parse_machine_secrets(&label, &text)).transpose()?;
        let connect_to = file.connect_to.iter().map(|text| text.parse()).collect::<Result<_, _>>();
        let connect_to = connect_to.map_err(|error| ServerError::at("use", &system)(io::Error::other(error)))?;
        let upstream_ca = file.upstream_ca.as_deref().map(|path| whole(Path::new(path))).transpose()?;
        let secrets = secrets.unwrap_or_default();
        Ok(Self { policies: policies(&configuration.join("policies"))?, secrets, file, connect_to, upstream_ca })
    }

    /// How many sessions there may be.
    #[must_use]
    pub fn seats(&self) -> Seats {
        let MachineFile { sessions, sessions_per_user, waiting_per_user, .. } = &self.file;
        Seats {
            all: sessions.unwrap_or(SEATS.all),
            each: sessions_per_user.unwrap_or(SEATS.each),
            waiting: waiting_per_user.unwrap_or(SEATS.waiting),
        }
    }

    /// Lays the machine's policies, secrets and limits over what a user asked for.
    ///
    /// # Errors
    /// [`ServerError::Request`] where the user could otherwise have a secret sent to a place of their own.
    pub fn govern(&self, request: &mut SessionRequest, peer: &Peer) -> Result<(), ServerError> {
        // Less would leave root's process with less than the namespaces between it and the harness.
        request.minimum_isolation = Some(Tier::Full);
        request.policies.splice(0..0, self.policies.iter().cloned());
        let may = |secret: &&MachineSecret| secret.users.as_ref().is_none_or(|users| users.contains(&peer.name));
        let own: Vec<_> = self.secrets.iter().filter(may).map(|secret| secret.spec.clone()).collect();
        let trusts_others = request.upstream_ca.is_some() || request.profile.upstream_ca.is_some();
        if !own.is_empty() && (trusts_others || !request.connect_to.is_empty()) {
            return Err(ServerError::Request(
                "this machine gives your sessions secrets of its own, so you may not say where requests go or whom to \
                 trust: leave --connect-to and --upstream-ca out, or run without its secrets by --no-system",
            ));
        }
        for secret in own {
            let clashes = |variable: &String| secret.placeholder_env.contains(variable);
            request
                .profile
                .secrets
                .retain(|other| other.name != secret.name && !other.placeholder_env.iter().any(clashes));
            request.profile.environment.set.retain(|variable, _| !clashes(variable));
            request.profile.environment.pass.retain(|variable| !clashes(variable));
            request.environment.retain(|(variable, _)| !clashes(variable));
            request.caller.grant(&secret.name, has_value(&secret));
            request.profile.secrets.push(secret);
        }
        request.machine_proxy = self.file.upstream_proxy.clone();
        request.connect_to.extend(self.connect_to.iter().cloned());
        if let Some(roots) = &self.upstream_ca {
            request.upstream_ca.get_or_insert_default().extend_from_slice(roots);
        }
        let overlay = request.profile.filesystem.workspace == WorkspaceMode::Overlay;
        limit(&mut request.profile.limits, &self.file.limits, overlay);
        request.timeout =
            request.timeout.map(|timeout| least(Some(timeout), self.file.limits.duration).unwrap_or(timeout));
        let duration = request.timeout.or(request.profile.limits.duration);
        request.caller.hold(&request.profile.limits, overlay, duration)?;
        Ok(())
    }
}

/// What both allow. Nothing written is no limit.
fn limit(own: &mut Limits, machine: &Limits, overlay: bool) {
    own.memory = least(own.memory, machine.memory);
    own.pids = least(own.pids, machine.pids);
    own.cpus = least(own.cpus, machine.cpus);
    own.duration = least(own.duration, machine.duration);
    own.files = least(own.files, machine.files);
    own.tmp = least(own.tmp, machine.tmp);
    if overlay {
        own.disk = least(own.disk, machine.disk);
    }
    // Of room that stays free, the more is the stricter.
    own.disk_free = own.disk_free.max(machine.disk_free);
}

fn least<T: PartialOrd + Copy>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other < one { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// The policy files in their names' order. What is no policy by its name is refused, since it may be meant as one.
fn policies(directory: &Path) -> Result<Vec<(String, String)>, ServerError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(ServerError::at("read", directory))?,
    };
    check_owner(directory, &fs::metadata(directory).map_err(ServerError::at("look at", directory))?)?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(ServerError::at("read", directory))?.path();
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden {
            paths.push(path);
        }
    }
    paths.sort();
    let mut policies = Vec::new();
    for path in paths {
        let named = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
        if !named || policies.len() >= POLICIES_MAX {
            return Err(ServerError::Unsafe { path, fault: "is no policy by its name (`NAME.yaml`), or one too many" });
        }
        let label = path.display().to_string();
        let text = read(&path, 0)?.unwrap_or_default();
        parse_policy_file(&label, &text)?;
        policies.push((label, text));
    }
    Ok(policies)
}

/// A file that root alone can have written, and of which others lack the permissions in `withheld`; none where there is none.
fn read(path: &Path, withheld: u32) -> Result<Option<String>, ServerError> {
    let bytes = match open(path, withheld)? {
        Some(file) => take(file, path)?,
        None => return Ok(None),
    };
    String::from_utf8(bytes).map(Some).map_err(|error| ServerError::at("read", path)(io::Error::other(error)))
}

fn whole(path: &Path) -> Result<Vec<u8>, ServerError> {
    let missing = || ServerError::at("open", path)(io::Error::from(io::ErrorKind::NotFound));
    take(open(path, 0)?.ok_or_else(missing)?, path)
}

fn open(path: &Path, withheld: u32) -> Result<Option<File>, ServerError> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(ServerError::at("open", path))?,
    };
    let found = file.metadata().map_err(ServerError::at("look at", path))?;
    check_owner(path, &found)?;
    if found.mode() & withheld != 0 {
        return Err(ServerError::Unsafe {
            path: path.to_owned(),
            fault: "can be read by others than root (`chmod 600` it)",
        });
    }
    Ok(Some(file))
}

fn take(file: File, path: &Path) -> Result<Vec<u8>, ServerError> {
    let mut bytes = Vec::new();
    let read = file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(ServerError::at("read", path))?;
    if read as u64 > FILE_BYTES_MAX {
        return Err(ServerError::Unsafe { path: path.to_owned(), fault: "is longer than a mebibyte" });
    }
    Ok(bytes)
}

/// The socket of the server that this user's visits go to; none where they do without. `wanted` is what the command line says.
///
/// # Errors
/// [`ServerError::Files`] for a `system.yaml` that cannot be read: it may say that nobody does without.
pub fn route(wanted: Option<bool>) -> Result<Option<PathBuf>, ServerError> {
    let named = std::env::var_os(SOCKET_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    match (wanted, named) {
        (Some(false), _) => Ok(None),
        (_, Some(named)) => Ok(Some(named)),
        (Some(true), None) => Ok(Some(PathBuf::from(SOCKET))),
        // Root keeps its own records, and is bound by nothing that it could not change.
        (None, None) if rustix::process::geteuid().is_root() => Ok(None),
        (None, None) => {
            let path = Path::new(CONFIGURATION).join("system.yaml");
            let text = read(&path, 0)?;
            let file = text.map(|text| parse_machine_file(&path.display().to_string(), &text)).transpose()?;
            Ok(file.is_some_and(|file| file.default).then(|| PathBuf::from(SOCKET)))
        }
    }
}
