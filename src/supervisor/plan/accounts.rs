//! Who there is inside, as programs ask: the host's accounts, but for the harness's own, which comes first.

use super::Identity;
use crate::supervisor::host::HostFacts;

/// `/etc/passwd` (passwd(5)) with the harness's own line first and nobody else at its id.
pub(super) fn users(facts: &HostFacts, identity: &Identity) -> String {
    let Identity { uid, gid, .. } = identity;
    let own = format!("{}:x:{uid}:{gid}::{}:/bin/sh\n", facts.user, facts.home.display());
    others(&facts.passwd, &facts.user, *uid).fold(own, |all, line| all + line + "\n")
}

/// `/etc/group` (group(5)), likewise.
pub(super) fn groups(facts: &HostFacts, identity: &Identity) -> String {
    let own = format!("{}:x:{}:\n", facts.user, identity.gid);
    others(&facts.group, &facts.user, identity.gid).fold(own, |all, line| all + line + "\n")
}

fn others<'a>(file: &'a str, own_name: &'a str, own_id: u32) -> impl Iterator<Item = &'a str> {
    file.lines().filter(move |line| {
        let mut fields = line.split(':');
        let name = fields.next();
        let id = fields.nth(1).and_then(|id| id.parse::<u32>().ok());
        name != Some(own_name) && id.is_some() && id != Some(own_id)
    })
}
