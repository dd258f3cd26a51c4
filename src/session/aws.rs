//! A key of AWS's, where its programs look for one: three variables, or a profile of a file.

use super::secrets::text;
use crate::policy::{AWS_FILE, AWS_VARIABLES, expand_home};
use crate::sys;
use std::fs::File;
use std::path::Path;
use zeroize::Zeroizing;

/// The profile that counts where none is named.
const DEFAULT: &str = "default";
/// The names of a key's parts in the file: its id, its secret, and a session's token.
const NAMES: [&str; 3] = ["aws_access_key_id", "aws_secret_access_key", "aws_session_token"];

/// Whether there is a key in the variables, or a file that may hold one.
pub(super) fn is_there(profile: Option<&str>, home: &Path) -> bool {
    (profile.is_none() && in_variables()) || expand_home(AWS_FILE, home).exists()
}

fn in_variables() -> bool {
    AWS_VARIABLES[..2].iter().all(|name| sys::environment_has(name))
}

/// The key as it is kept: its id, its secret, and a session's token if there is one, with colons between them.
pub(super) fn read(profile: Option<&str>, home: &Path) -> Result<String, String> {
    if profile.is_none() && in_variables() {
        return joined(AWS_VARIABLES.map(|name| std::env::var(name).ok().map(Zeroizing::new)))
            .ok_or_else(|| "its variables hold no key".to_owned());
    }
    let named = std::env::var("AWS_PROFILE").ok();
    let profile = profile.or(named.as_deref()).unwrap_or(DEFAULT);
    let mut file = File::open(expand_home(AWS_FILE, home)).map_err(|error| error.to_string())?;
    let file = Zeroizing::new(text(&mut file)?);
    of_profile(&file, profile).ok_or_else(|| format!("there is no key in the profile `{profile}` of {AWS_FILE}"))
}

/// The key of a profile, in the format that AWS documents for its shared files.
fn of_profile(file: &str, profile: &str) -> Option<String> {
    let mut here = false;
    let mut parts = [const { None }; 3];
    for line in file.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            here = section.trim() == profile;
        } else if here
            && let Some((name, value)) = line.split_once('=')
            && let Some(at) = NAMES.iter().position(|known| name.trim().eq_ignore_ascii_case(known))
        {
            parts[at] = Some(Zeroizing::new(value.trim().to_owned()));
        }
    }
    joined(parts)
}

fn joined([id, secret, token]: [Option<Zeroizing<String>>; 3]) -> Option<String> {
    let (id, secret) = (id?, secret?);
    let token = token.filter(|token| !token.is_empty());
    Some(match token {
        Some(token) => format!("{}:{}:{}", *id, *secret, *token),
        None => format!("{}:{}", *id, *secret),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_of_the_file_gives_its_key_and_no_others() {
        let file = "# mine\n[default]\naws_access_key_id = A1\naws_secret_access_key=s/1=\n\n[ work ]\nregion = x\n\
            AWS_ACCESS_KEY_ID = A2\naws_secret_access_key = s2\naws_session_token = t2==\n[half]\naws_access_key_id = A3\n";
        assert_eq!(of_profile(file, "default").as_deref(), Some("A1:s/1="));
        assert_eq!(of_profile(file, "work").as_deref(), Some("A2:s2:t2=="));
        assert_eq!((of_profile(file, "half"), of_profile(file, "none")), (None, None));
    }
}
