//! What a session's profile, its machine or its caller's environment says of the way to servers: proxies, and further roots.

use super::error::SessionError;
use super::prepare::SessionRequest;
use crate::policy::{UpstreamProxySetting, expand_home};
use crate::proxy::{UpstreamProxies, UpstreamProxy};
use std::io::Read;
use std::path::Path;

/// The variables that name a proxy, by what it is for; the first that is set counts.
const FOR_HTTPS: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];
const FOR_HTTP: [&str; 2] = ["http_proxy", "HTTP_PROXY"];
/// Those that name what goes straight.
const EXCEPTIONS: [&str; 2] = ["no_proxy", "NO_PROXY"];
/// Longest file of roots, in bytes.
const ROOTS_BYTES_MAX: u64 = 4 << 20;

/// The proxies on the way; the roots that the profile names are added to those of the request.
pub(super) fn way(request: &mut SessionRequest, home: &Path) -> Result<UpstreamProxies, SessionError> {
    request.upstream_ca = roots(request, home)?;
    proxies(request)
}

/// The proxies on the way. A profile's word counts before the environment's. For another user's session the machine's word
/// alone counts, since it is the machine's way out and they do not say where it leads.
fn proxies(request: &SessionRequest) -> Result<UpstreamProxies, SessionError> {
    let written = match request.caller.is_another() {
        true => Some(request.machine_proxy.as_ref().unwrap_or(&UpstreamProxySetting::None)),
        false => request.profile.upstream_proxy.as_ref(),
    };
    match written {
        Some(UpstreamProxySetting::None) => Ok(UpstreamProxies::default()),
        Some(UpstreamProxySetting::Through { url, except, resolves_here }) => {
            let proxy = parse("`upstream_proxy`", url)?.excepting(&except.join(","));
            let proxy = if *resolves_here { proxy.resolving_here() } else { proxy };
            Ok(UpstreamProxies { https: Some(proxy.clone()), http: Some(proxy) })
        }
        None => {
            let first = |names: [&'static str; 2]| {
                let set = names.into_iter().filter_map(|name| Some((name, request.caller.variable(name)?)));
                set.into_iter().find(|(_, value)| !value.is_empty())
            };
            let exceptions = first(EXCEPTIONS).map(|(_, list)| list).unwrap_or_default();
            let proxy = |names| {
                let named = first(names).map(|(name, url)| parse(name, &url));
                named.transpose().map(|proxy| proxy.map(|proxy| proxy.excepting(&exceptions)))
            };
            Ok(UpstreamProxies { https: proxy(FOR_HTTPS)?, http: proxy(FOR_HTTP)? })
        }
    }
}

fn parse(named: &'static str, url: &str) -> Result<UpstreamProxy, SessionError> {
    UpstreamProxy::parse(url).map_err(|error| SessionError::UpstreamProxy { named, error })
}

/// The further roots that the profile names, beside those that the command line does.
fn roots(request: &SessionRequest, home: &Path) -> Result<Option<Vec<u8>>, SessionError> {
    let Some(path) = &request.profile.upstream_ca else { return Ok(request.upstream_ca.clone()) };
    let path = expand_home(path, home);
    let mut pem = request.upstream_ca.clone().unwrap_or_default();
    // Whatever the other file ends with.
    pem.push(b'\n');
    let read = std::fs::File::open(&path).and_then(|file| file.take(ROOTS_BYTES_MAX).read_to_end(&mut pem));
    match read {
        Ok(_) => Ok(Some(pem)),
        Err(error) => Err(SessionError::UpstreamRoots { path, error }),
    }
}
