//! Golden plans: what each shipped profile builds, for an ordinary user and for root, on one imagined host.

use super::*;
use crate::harness::{self, LaunchRequest, shipped};
use crate::model::Placeholder;

/// A Debian-like host with a user whose home holds what the profiles grant.
fn host(uid: u32) -> HostFacts {
    let directory =
        |real: &str, owner| PathFacts { real: real.into(), directory: true, uid: owner, gid: owner, link: None };
    let file = |real: &str, owner| PathFacts { directory: false, ..directory(real, owner) };
    let link = |real: &str, target: &str| PathFacts { link: Some(target.into()), ..directory(real, 0) };
    let paths = [
        ("/usr", directory("/usr", 0)),
        ("/bin", link("/usr/bin", "usr/bin")),
        ("/etc", directory("/etc", 0)),
        ("/etc/passwd", file("/etc/passwd", 0)),
        ("/etc/group", file("/etc/group", 0)),
        ("/etc/hosts", file("/etc/hosts", 0)),
        ("/etc/resolv.conf", file("/run/systemd/resolve/stub-resolv.conf", 0)),
        ("/etc/ssl/certs/ca-certificates.crt", file("/etc/ssl/certs/ca-certificates.crt", 0)),
        ("/home/ann/.claude", directory("/home/ann/.claude", uid)),
        ("/home/ann/.claude/.credentials.json", file("/home/ann/.claude/.credentials.json", uid)),
        ("/home/ann/.claude/settings.json", file("/home/ann/.claude/settings.json", uid)),
        ("/home/ann/.gitconfig", file("/home/ann/dotfiles/gitconfig", uid)),
        ("/home/ann/.pyenv", directory("/home/ann/.pyenv", uid)),
        ("/home/ann/.nvm", directory("/home/ann/.nvm", uid)),
        ("/home/ann/.codex/sessions", directory("/home/ann/.codex/sessions", uid)),
        ("/home/ann/project", directory("/home/ann/project", uid)),
        ("/home/ann/lib/node_modules", directory("/home/ann/lib/node_modules", uid)),
    ]
    .map(|(path, place)| (PathBuf::from(path), place));
    HostFacts {
        uid,
        gid: uid,
        user: "ann".into(),
        home: "/home/ann".into(),
        passwd: "root:x:0:0:root:/root:/bin/bash\nann:x:1001:1001::/home/ann:/bin/bash\n".into(),
        group: "root:x:0:\nann:x:1001:\n".into(),
        paths: paths.into(),
    }
}

fn planned(profile: &Profile, facts: &HostFacts) -> Result<Plan, PlanError> {
    let argv = [profile.command.clone().unwrap_or_else(|| "true".to_owned())];
    let secrets = profile.secrets.iter();
    let placeholders =
        secrets.map(|secret| (secret.name.clone(), Placeholder("placeholder-of-twenty-characters".into()))).collect();
    let launch = harness::launch(&LaunchRequest {
        profile,
        argv: &argv,
        program: "/home/ann/lib/node_modules/.bin/program",
        home: "/home/ann",
        workspace: "/home/ann/project",
        placeholders: &placeholders,
        terminal: true,
    });
    plan(&PlanRequest {
        facts,
        profile,
        workspace: Path::new("/home/ann/project"),
        workspace_access: Access::ReadWrite,
        mounts: &[],
        program: Path::new("/home/ann/lib/node_modules/package/program"),
        program_trees: &["/home/ann/lib/node_modules".into()],
        launch: &launch,
        terminal: true,
    })
}

#[test]
fn every_shipped_profile_builds_the_plan_on_record() {
    for (name, text) in shipped() {
        let profile = Profile::parse(name, text).expect("a shipped profile parses");
        for (who, uid) in [("user", 1001), ("root", 0)] {
            let plan = planned(&profile, &host(uid)).expect("a shipped profile plans");
            insta::assert_snapshot!(format!("{name}-{who}"), plan);
        }
    }
}

fn with_workspace(workspace: &str) -> Result<Plan, PlanError> {
    let profile = Profile::parse("x", "name: x").expect("a profile");
    let mut facts = host(1001);
    let place = facts.paths[Path::new("/home/ann/project")].clone();
    facts.paths.insert(workspace.into(), place);
    let launch = LaunchSpec::default();
    plan(&PlanRequest {
        facts: &facts,
        profile: &profile,
        workspace: Path::new(workspace),
        workspace_access: Access::ReadWrite,
        mounts: &[],
        program: Path::new("/usr/bin/true"),
        program_trees: &[],
        launch: &launch,
        terminal: false,
    })
}

#[test]
fn a_workspace_that_holds_more_than_a_project_is_refused() {
    for wide in ["/", "/home", "/home/ann", "/usr", "/tmp"] {
        assert!(matches!(with_workspace(wide), Err(PlanError::Workspace(_))), "{wide}");
    }
    for reserved in ["/proc/self", "/dev/shm", "/sys/fs"] {
        assert!(matches!(with_workspace(reserved), Err(PlanError::Reserved(_))), "{reserved}");
    }
    assert!(with_workspace("/home/ann/project").is_ok());
}

#[test]
fn a_link_to_a_directory_in_a_grant_is_covered_and_one_to_a_file_is_mounted_over() {
    let mut facts = host(1001);
    let place = |real: &str, directory| PathFacts {
        real: real.into(),
        directory,
        uid: 1001,
        gid: 1001,
        link: Some("../dotfiles".into()),
    };
    facts.paths.insert("/home/ann/.claude/skills".into(), place("/home/ann/dotfiles/skills", true));
    facts.paths.insert("/home/ann/.claude/settings.json".into(), place("/home/ann/dotfiles/settings.json", false));
    let (name, text) = shipped().iter().find(|(name, _)| *name == "claude-code").expect("a shipped profile");
    let plan = planned(&Profile::parse(name, text).expect("a profile"), &facts).expect("a plan");
    let shown = plan.to_string();
    assert!(shown.contains("cover /home/ann/.claude/skills read-only: 0 bytes\n"), "{shown}");
    assert!(
        shown.contains("bind /home/ann/.claude/settings.json from /home/ann/dotfiles/settings.json read-only\n"),
        "{shown}"
    );
}

#[test]
fn a_hidden_directory_shows_nothing() {
    let mut facts = host(1001);
    let place = facts.paths[Path::new("/home/ann/.claude")].clone();
    facts.paths.insert("/home/ann/.claude/keys".into(), place);
    let text = "name: x\nfilesystem: { write: [~/.claude], hide: [~/.claude/keys] }";
    let plan = planned(&Profile::parse("x", text).expect("a profile"), &facts).expect("a plan");
    let shown = plan.to_string();
    assert!(shown.contains("private /home/ann/.claude/keys mode 0555, at most 4096 bytes\n"), "{shown}");
}

#[test]
fn no_harness_is_user_zero_anywhere() {
    for uid in [0, 1, 1001, 65534] {
        let identity = identity(&host(uid));
        assert!([identity.uid, identity.gid, identity.kernel_uid, identity.kernel_gid].iter().all(|id| *id != 0));
    }
}

#[test]
fn nobody_else_has_the_harness_s_name_or_number() {
    let facts = host(1001);
    let accounts = accounts::users(&facts, &identity(&facts));
    assert_eq!(accounts, "ann:x:1001:1001::/home/ann:/bin/sh\nroot:x:0:0:root:/root:/bin/bash\n");
}
