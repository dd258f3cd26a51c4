//! Files of credentials for hosts: found out of each is which there are, by a process of its own, so that none that goes on has
//! read a value but the proxy and what reads secrets anew for it.

use super::error::SessionError;
use super::login_file::apart;
use super::prepare::SessionRequest;
use crate::model::Placeholder;
use crate::policy::{Contents, CredentialFile, Nobody, Outline, SecretSource, SecretSpec, Texts, expand_home};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use zeroize::Zeroizing;

/// Largest file of credentials that is read.
const FILE_BYTES_MAX: usize = 256 * 1024;

/// The files of credentials that a session uses.
#[derive(Default)]
pub(super) struct CredentialFiles(Vec<Opened>);

struct Opened {
    file: &'static CredentialFile,
    whole: SecretSpec,
    outline: Outline,
    /// The secrets that are in it, in its order.
    secrets: Vec<String>,
}

impl CredentialFiles {
    /// Puts in the place of each such file that the profile names the secrets that are in it.
    pub(super) fn open(request: &mut SessionRequest, home: &Path) -> Result<Self, SessionError> {
        let mut files = Self::default();
        if request.profile.secrets.iter().all(|spec| whole_file(spec).is_none()) {
            return Ok(files);
        }
        let mut secrets = Vec::new();
        for spec in std::mem::take(&mut request.profile.secrets) {
            match whole_file(&spec) {
                Some(_) if request.caller.is_another() => {
                    return Err(SessionError::LoginOfAnother { secret: spec.name });
                }
                Some(file) if request.caller.has(&spec, home) => {
                    let outline = outline(file, &spec, home)?;
                    let parts = file.secrets(&spec, &outline);
                    let names = parts.iter().map(|part| part.name.clone()).collect();
                    secrets.extend(parts);
                    files.0.push(Opened { file, whole: spec, outline, secrets: names });
                }
                _ => secrets.push(spec),
            }
        }
        request.profile.secrets = secrets;
        Ok(files)
    }

    /// What of them cannot be used, as secrets whose sources say why.
    pub(super) fn left_out(&self) -> impl Iterator<Item = SecretSpec> {
        self.0.iter().flat_map(|Opened { file, whole, outline, .. }| {
            let because = |why: &String| vec![SecretSource::Credential(file, Some(why.clone()))];
            outline.left_out.iter().map(move |why| SecretSpec { from: because(why), ..whole.clone() })
        })
    }

    /// Adds what stands for each inside, by its path as `~/…`.
    pub(super) fn add_look_alikes(
        &self,
        present: &[(SecretSpec, Placeholder)],
        look_alikes: &mut BTreeMap<String, String>,
    ) -> Result<(), SessionError> {
        for Opened { file, whole, outline, secrets } in &self.0 {
            let of = |name: &String| Some(&present.iter().find(|(spec, _)| spec.name == *name)?.1);
            let placeholders: Vec<&Placeholder> = secrets.iter().filter_map(of).collect();
            let nobody = if outline.shows_a_certificate() { nobody() } else { Ok(Nobody::default()) };
            let nobody = nobody.map_err(|error| {
                let why = format!("no certificate can be made in its place: {error}");
                SessionError::Credentials { secret: whole.name.clone(), file: file.path, why }
            })?;
            look_alikes.insert(file.path.to_owned(), outline.look_alike(&placeholders, &nobody));
        }
        Ok(())
    }
}

/// A certificate that nobody knows, with its key, for this session alone.
fn nobody() -> Result<Nobody, rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "a placeholder of omni's");
    Ok(Nobody { certificate: params.self_signed(&key)?.pem(), key: key.serialize_pem() })
}

/// The file that a secret is the whole of.
fn whole_file(spec: &SecretSpec) -> Option<&'static CredentialFile> {
    spec.from.iter().find_map(|source| match source {
        SecretSource::Credential(file, None) => Some(*file),
        _ => None,
    })
}

fn outline(file: &'static CredentialFile, spec: &SecretSpec, home: &Path) -> Result<Outline, SessionError> {
    let failed = |why: String| SessionError::Credentials { secret: spec.name.clone(), file: file.path, why };
    // What is said of a file that cannot be read must come out of the process that tried.
    let said = apart(|| {
        let outline = contents(file, home).map(|contents| contents.outline);
        serde_json::to_string(&outline).map_err(io::Error::other)
    });
    let said = said.map_err(|error| failed(error.to_string()))?;
    let outline: Result<Outline, String> = serde_json::from_str(&said).map_err(|error| failed(error.to_string()))?;
    let outline = outline.map_err(failed)?;
    if outline.credentials.is_empty() {
        let none = "there is no login in it".to_owned();
        return Err(failed(if outline.left_out.is_empty() { none } else { outline.left_out.join("; ") }));
    }
    Ok(outline)
}

/// The value of one credential. The error is for a person and holds no part of a value.
pub(super) fn value(file: &CredentialFile, key: Option<&str>, home: &Path) -> Result<String, String> {
    let contents = contents(file, home)?;
    let value = key.and_then(|key| contents.value(key));
    value.map(|value| value.to_string()).ok_or_else(|| "it is not there any more".to_owned())
}

fn contents(file: &CredentialFile, home: &Path) -> Result<Contents, String> {
    let own = text(&expand_home(file.path, home)).map_err(|error| error.to_string())?;
    let beside = match file.beside.map(|path| text(&expand_home(path, home))) {
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => return Err(error.to_string()),
        Some(Ok(text)) => text,
        _ => Zeroizing::default(),
    };
    file.contents(&Texts { file: &own, beside: &beside }).ok_or_else(|| "it is not what it is called".to_owned())
}

/// Reads a text into room that was made at once: one that grew would leave copies of itself behind.
fn text(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(FILE_BYTES_MAX + 1));
    File::open(path)?.take(FILE_BYTES_MAX as u64).read_to_string(&mut text)?;
    Ok(text)
}
