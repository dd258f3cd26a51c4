//! Golden plans: what each shipped profile builds, for an ordinary user and for root, on one imagined host.

use super::*;
use crate::harness::{self, LaunchRequest, shipped};
use crate::model::Placeholder;

/// A Debian-like host with a user whose home holds what the profiles grant.
fn host(uid: u32) -> HostFacts {
    let directory = |real: &str, owner| PathFacts {
        real: real.into(),
        directory: true,
        uid: owner,
        gid: owner,
        ..Default::default()
    };
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
        unknown: None,
    }
}

fn planned(profile: &Profile, facts: &HostFacts) -> Result<Plan, PlanError> {
    planned_with(profile, facts, None)
}

fn planned_with(profile: &Profile, facts: &HostFacts, layer: Option<&Path>) -> Result<Plan, PlanError> {
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
        look_alikes: &BTreeMap::new(),
        terminal: true,
    });
    plan(&PlanRequest {
        facts,
        profile,
        workspace: Path::new("/home/ann/project"),
        workspace_access: Access::ReadWrite,
        layer,
        secret_files: &[],
        covers_late: false,
        mounts: &[],
        program: Path::new("/home/ann/lib/node_modules/package/program"),
        program_trees: &["/home/ann/lib/node_modules".into()],
        limits: &LimitPlan::default(),
        launch: &launch,
        terminal: Some(TerminalStreams::ALL),
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

#[test]
fn a_workspace_behind_a_layer_is_on_record_too() {
    let text = "name: x\nfilesystem: { workspace: overlay }";
    let profile = Profile::parse("x", text).expect("a profile");
    for (who, uid) in [("user", 1001), ("root", 0)] {
        let mut facts = host(uid);
        if let Some(place) = facts.paths.get_mut(Path::new("/home/ann/project")) {
            (place.uid, place.gid) = (1001, 1001);
        }
        let layer = Path::new("/home/ann/.local/share/omni/sessions/0123456789abcdef/overlay/layer");
        let plan = planned_with(&profile, &facts, Some(layer)).expect("a plan");
        insta::assert_snapshot!(format!("overlay-{who}"), plan);
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
        layer: None,
        secret_files: &[],
        covers_late: false,
        mounts: &[],
        program: Path::new("/usr/bin/true"),
        program_trees: &[],
        limits: &LimitPlan::default(),
        launch: &launch,
        terminal: None,
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

/// A link that lies in `~/.claude`, where a harness may write.
fn link_in_grant(real: &str, name: &str, directory: bool) -> PathFacts {
    let followed = vec![format!("/home/ann/.claude/{name}").into()];
    let (real, link) = (PathBuf::from(real), Some("../elsewhere".into()));
    PathFacts { real, directory, uid: 1001, gid: 1001, link, followed, ..Default::default() }
}

fn shown_with(changes: impl FnOnce(&mut HostFacts), profile: &str) -> Result<String, PlanError> {
    let mut facts = host(1001);
    changes(&mut facts);
    planned(&Profile::parse("x", profile).expect("a profile"), &facts).map(|plan| plan.to_string())
}

fn shipped_text(wanted: &str) -> &'static str {
    shipped().iter().find(|(name, _)| *name == wanted).map(|(_, text)| *text).expect("a shipped profile")
}

#[test]
fn a_link_that_a_harness_may_have_made_is_covered_wherever_it_leads() {
    let shown = shown_with(
        |facts| {
            let directory = link_in_grant("/home/ann/dotfiles/skills", "skills", true);
            facts.paths.insert("/home/ann/.claude/skills".into(), directory);
            let key = link_in_grant("/home/ann/.ssh/id_ed25519", "settings.json", false);
            facts.paths.insert("/home/ann/.claude/settings.json".into(), key);
        },
        shipped_text("claude-code"),
    )
    .expect("a plan");
    assert!(shown.contains("cover /home/ann/.claude/skills read-only: 0 bytes\n"), "{shown}");
    assert!(shown.contains("cover /home/ann/.claude/settings.json read-only: 0 bytes\n"), "{shown}");
    assert!(!shown.contains(".ssh") && !shown.contains("dotfiles/skills"), "{shown}");
}

#[test]
fn a_link_that_leads_into_another_grant_is_followed() {
    let shown = shown_with(
        |facts| {
            let settings = link_in_grant("/home/ann/dotfiles/settings.json", "settings.json", false);
            facts.paths.insert("/home/ann/.claude/settings.json".into(), settings);
            let dotfiles = PathFacts { real: "/home/ann/dotfiles".into(), directory: true, ..Default::default() };
            facts.paths.insert("/home/ann/dotfiles".into(), dotfiles);
        },
        "name: x\nfilesystem: { write: [~/.claude], read: [~/.claude/settings.json, ~/dotfiles] }",
    )
    .expect("a plan");
    let wanted = "bind /home/ann/.claude/settings.json from /home/ann/dotfiles/settings.json read-only\n";
    assert!(shown.contains(wanted), "{shown}");
}

#[test]
fn a_grant_behind_a_directory_that_a_harness_may_have_replaced_is_refused() {
    let refused = shown_with(
        |facts| {
            let behind = link_in_grant("/home/ann/.ssh/id_ed25519", "sub", false);
            facts.paths.insert("/home/ann/.claude/sub/file".into(), PathFacts { link: None, ..behind });
        },
        "name: x\nfilesystem: { write: [~/.claude], read: [~/.claude/sub/file] }",
    );
    assert!(matches!(refused, Err(PlanError::Planted { .. })), "{refused:?}");
}

#[test]
fn what_is_hidden_or_read_only_cannot_be_moved_by_moving_what_it_lies_in() {
    let profile = "name: x\nfilesystem: { write: [~/.claude], hide: [~/.claude/a/b/key], read: [~/.claude/a/c/look] }";
    let shown = shown_with(
        |facts| {
            for path in ["a", "a/b", "a/c", "a/b/key", "a/c/look"] {
                let real = PathBuf::from("/home/ann/.claude").join(path);
                let directory = path.len() < 4;
                facts.paths.insert(real.clone(), PathFacts { real, directory, ..Default::default() });
            }
        },
        profile,
    )
    .expect("a plan");
    let binds: Vec<_> = shown.lines().filter(|line| line.contains(".claude")).collect();
    assert_eq!(
        binds,
        [
            "bind /home/ann/.claude read-write",
            "bind /home/ann/.claude/a read-write",
            "bind /home/ann/.claude/a/b read-write",
            "bind /home/ann/.claude/a/c read-write",
            "bind /home/ann/.claude/a/c/look read-only",
            "cover /home/ann/.claude/a/b/key read-only: 0 bytes",
            "write gate: but for protected names, write also below /home/ann/.claude /home/ann/project",
        ]
    );
}

#[test]
fn a_read_only_grant_between_is_not_opened_by_what_is_hidden_in_it() {
    let profile = "name: x\nfilesystem: { write: [~/.claude], read: [~/.claude/a], hide: [~/.claude/a/b/key] }";
    let shown = shown_with(
        |facts| {
            for path in ["a", "a/b", "a/b/key"] {
                let real = PathBuf::from("/home/ann/.claude").join(path);
                facts.paths.insert(real.clone(), PathFacts { real, directory: path.len() < 4, ..Default::default() });
            }
        },
        profile,
    )
    .expect("a plan");
    assert!(shown.contains("bind /home/ann/.claude/a read-only\n") && !shown.contains("bind /home/ann/.claude/a/b "));
    assert!(shown.contains("cover /home/ann/.claude/a/b/key read-only: 0 bytes\n"), "{shown}");
}

fn with_mount(source: &str, special: Option<&'static str>, access: Access) -> Result<Plan, PlanError> {
    let mut facts = host(1001);
    let directory = special.is_none();
    let place = PathFacts { real: source.into(), directory, special, ..Default::default() };
    facts.paths.insert(source.into(), place);
    let profile = Profile::parse("x", "name: x").expect("a profile");
    let mounts = [Mount { source: source.into(), target: "/mnt/shown".into(), access }];
    plan(&PlanRequest {
        facts: &facts,
        profile: &profile,
        workspace: Path::new("/home/ann/project"),
        workspace_access: Access::ReadWrite,
        layer: None,
        secret_files: &[],
        covers_late: false,
        mounts: &mounts,
        program: Path::new("/usr/bin/true"),
        program_trees: &[],
        limits: &LimitPlan::default(),
        launch: &LaunchSpec::default(),
        terminal: None,
    })
}

#[test]
fn some_places_of_the_host_are_shown_to_nobody() {
    use Access::{ReadOnly, ReadWrite};
    let refusal = |source, access| with_mount(source, None, access).expect_err(source);
    for access in [ReadOnly, ReadWrite] {
        for wide in ["/", "/home", "/home/ann", "/root", "/var", "/tmp", "/boot"] {
            assert!(matches!(refusal(wide, access), PlanError::TooWide(_)), "{wide}");
        }
        for interface in ["/proc", "/proc/1/root", "/sys/fs/cgroup", "/dev", "/dev/shm"] {
            assert!(matches!(refusal(interface, access), PlanError::Interface(_)), "{interface}");
        }
        for daemons in ["/run", "/run/docker", "/run/user/1001", "/run/media"] {
            assert!(matches!(refusal(daemons, access), PlanError::Daemons(_)), "{daemons}");
        }
    }
    assert!(matches!(refusal("/etc", ReadWrite), PlanError::TooWide(_)));
    for fine in ["/etc", "/usr", "/run/media/ann/disk", "/var/lib/data", "/home/ann/data"] {
        assert!(with_mount(fine, None, ReadOnly).is_ok(), "{fine}");
    }
    for kind in ["a socket", "a named pipe", "a device"] {
        let refused = with_mount("/home/ann/x", Some(kind), ReadOnly);
        assert!(matches!(refused, Err(PlanError::Special { .. })), "{kind}");
    }
}

#[test]
fn the_socket_of_nixs_daemon_is_hidden_where_there_is_one() {
    let shown = shown_with(
        |facts| {
            for path in ["/nix", "/nix/var/nix/daemon-socket"] {
                let place = PathFacts { real: path.into(), directory: true, ..Default::default() };
                facts.paths.insert(path.into(), place);
            }
        },
        "name: x",
    )
    .expect("a plan");
    assert!(shown.contains("bind /nix read-only\n"), "{shown}");
    assert!(shown.contains("private /nix/var/nix/daemon-socket mode 0555, at most 4096 bytes\n"), "{shown}");
}

#[test]
fn what_is_hidden_is_hidden_in_every_view_of_it() {
    let profile = "name: x\nfilesystem: { write: [~/.claude], hide: [~/.claude/.credentials.json] }";
    let profile = Profile::parse("x", profile).expect("a profile");
    let mounts = [Mount { source: "/home/ann/.claude".into(), target: "/mnt/again".into(), access: Access::ReadOnly }];
    let plan = plan(&PlanRequest {
        facts: &host(1001),
        profile: &profile,
        workspace: Path::new("/home/ann/project"),
        workspace_access: Access::ReadWrite,
        layer: None,
        secret_files: &[],
        covers_late: false,
        mounts: &mounts,
        program: Path::new("/usr/bin/true"),
        program_trees: &[],
        limits: &LimitPlan::default(),
        launch: &LaunchSpec::default(),
        terminal: None,
    })
    .expect("a plan");
    let shown = plan.to_string();
    for place in ["/home/ann/.claude", "/mnt/again"] {
        assert!(shown.contains(&format!("cover {place}/.credentials.json read-only: 0 bytes\n")), "{shown}");
    }
}

#[test]
fn what_has_a_name_in_other_letters_that_the_kernel_does_not_know_of_is_not_said_to_be_kept() {
    let folded = |name: &str| {
        let name = name.to_owned();
        move |facts: &mut HostFacts| {
            let real = PathBuf::from("/home/ann/.claude").join(name);
            facts.paths.insert(real.clone(), PathFacts { real, folded: true, ..Default::default() });
        }
    };
    let refused = |result| matches!(result, Err(PlanError::Folded(_)));
    let hides = "name: x\nfilesystem: { write: [~/.claude], hide: [~/.claude/key] }";
    assert!(refused(shown_with(folded("key"), hides)));
    let reads = "name: x\nfilesystem: { write: [~/.claude], read: [~/.claude/look] }";
    assert!(refused(shown_with(folded("look"), reads)));
    assert!(shown_with(folded("other"), hides).is_ok());
    assert!(shown_with(folded("look"), "name: x\nfilesystem: { read: [~/.claude/look] }").is_ok());
}

#[test]
fn a_hidden_directory_shows_nothing() {
    let mut facts = host(1001);
    let keys = PathBuf::from("/home/ann/.claude/keys");
    let place = PathFacts { real: keys.clone(), ..facts.paths[Path::new("/home/ann/.claude")].clone() };
    facts.paths.insert(keys, place);
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
