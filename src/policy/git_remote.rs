//! Which remotes a harness may add to a repository of the host's: those on a server that one of its remotes is on already.
//!
//! Where a push is taken is decided there by the credentials of whoever pushes, so that nobody's commits get to a place that
//! is not theirs to write to, whatever a remote is called.

/// The server that a URL leads to (git-fetch(1), "GIT URLS").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Server<'a> {
    scheme: &'a str,
    user: Option<&'a str>,
    host: &'a str,
    port: Option<&'a str>,
}

const SECURE: &str = "https";
const SHELL: &str = "ssh";
/// Whom forges have everybody come as by SSH.
const FORGE_USER: &str = "git";
/// What git pushes to and fetches from where nothing else is said.
const DEFAULT_REMOTE: &str = "origin";

impl<'a> Server<'a> {
    /// None where it leads to no server: to a path of this machine, or to a remote helper.
    pub(super) fn of(url: &'a str) -> Option<Self> {
        match url.split_once("://") {
            Some((scheme, rest)) => {
                let authority = rest.split_once('/').map_or(rest, |(authority, _)| authority);
                let (user, place) = divided(authority);
                let (host, port) = place.split_once(':').map_or((place, None), |(host, port)| (host, Some(port)));
                Some(Self { scheme, user, host, port })
            }
            // As scp has it.
            None => {
                let (user, place) = divided(url.split_once(':').filter(|(place, _)| !place.contains('/'))?.0);
                Some(Self { scheme: SHELL, user, host: place, port: None })
            }
        }
    }

    /// Whether whoever comes here comes where they would by another URL of the same repository's, as the same user.
    pub(super) fn is_known_by(self, known: Server<'_>) -> bool {
        let by_default = self.port.is_none() && known.port.is_none();
        let user = match (self.scheme, known.scheme) {
            (SECURE, SECURE) => self.port == known.port && (self.user.is_none() || self.user == known.user),
            (SECURE, SHELL) => by_default && self.user.is_none(),
            (SHELL, SECURE) => by_default && self.user == Some(FORGE_USER),
            (own, other) => own == other && self.port == known.port && self.user == known.user,
        };
        user && !self.host.is_empty() && self.host.eq_ignore_ascii_case(known.host)
    }
}

fn divided(authority: &str) -> (Option<&str>, &str) {
    authority.rsplit_once('@').map_or((None, authority), |(user, place)| (Some(user), place))
}

/// Whether a remote may be called so that the host has not: no remote that git takes by itself, and none whose branches could be
/// taken for another's.
pub(super) fn may_be_added(name: &str) -> bool {
    !name.eq_ignore_ascii_case(DEFAULT_REMOTE) && !name.contains('/')
}

/// Whether a remote's branches are fetched as its own, as git writes that.
pub(super) fn fetches_its_own(name: &str, refspec: &str) -> bool {
    let sides = refspec.strip_prefix("+refs/heads/").and_then(|rest| rest.split_once(":refs/remotes/"));
    sides.is_some_and(|(branch, tracked)| {
        tracked.strip_prefix(name).and_then(|rest| rest.strip_prefix('/')) == Some(branch)
            && (branch == "*" || !branch.contains('*'))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_known_by_those_that_are_there() {
        for (known, url, is) in [
            ("https://example.com/a.git", "https://example.com/b.git", true),
            ("https://example.com/a.git", "https://EXAMPLE.com/b.git", true),
            ("https://example.com/a.git", "git@example.com:b.git", true),
            ("git@example.com:a.git", "https://example.com/b.git", true),
            ("git@example.com:a.git", "ssh://git@example.com/b.git", true),
            ("https://ann@example.com:8443/a", "https://example.com:8443/b", true),
            ("https://example.com/a.git", "https://evil.example/b.git", false),
            ("https://example.com/a.git", "https://example.com.evil.example/b.git", false),
            ("https://example.com/a.git", "https://example.com@evil.example/b.git", false),
            ("https://example.com/a.git", "https://example.com:8443/b.git", false),
            ("https://example.com/a.git", "http://example.com/b.git", false),
            ("https://example.com/a.git", "root@example.com:b.git", false),
            ("https://example.com/a.git", "https://eve:x@example.com/b.git", false),
            ("ann@example.com:a.git", "root@example.com:b.git", false),
            ("ann@example.com:a.git", "example.com:b.git", false),
            ("ssh://git@example.com:22/a", "ssh://git@example.com:2222/a", false),
            ("/srv/a.git", "/srv/b.git", false),
        ] {
            let server = Server::of(url);
            let found = server.zip(Server::of(known)).is_some_and(|(server, known)| server.is_known_by(known));
            assert_eq!(found, is, "{known} {url}");
        }
    }

    #[test]
    fn its_own_branches_and_nothing_elses() {
        assert!(fetches_its_own("fork", "+refs/heads/*:refs/remotes/fork/*"));
        assert!(fetches_its_own("fork", "+refs/heads/a:refs/remotes/fork/a"));
        for refspec in [
            "+refs/heads/*:refs/remotes/origin/*",
            "+refs/heads/*:refs/heads/*",
            "+refs/*:refs/*",
            "refs/heads/*:refs/remotes/fork/*",
            "+refs/heads/a:refs/remotes/fork/b",
            "+refs/heads/a*:refs/remotes/fork/a*",
            "+refs/heads/*:refs/remotes/forked/*",
        ] {
            assert!(!fetches_its_own("fork", refspec), "{refspec}");
        }
        assert!(may_be_added("fork") && !may_be_added("Origin") && !may_be_added("origin/x"));
    }
}
