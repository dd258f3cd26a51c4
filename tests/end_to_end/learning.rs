//! `--learn`: what was refused becomes a change of the profile that `patch` applies, and with which it is allowed.

use crate::host;
use crate::server::{ALLOWED, Pages, REFUSED, Server};
use crate::stage::{Actor, Stage, text};
use std::path::Path;
use std::process::{Command, Output};

fn pages() -> Pages {
    Pages::from([("/v1/page".to_owned(), ("text/plain", b"Hello from outside.".to_vec()))])
}

/// Runs a shell command that may reach the server by both its names, if rules let it.
fn exec(stage: &Stage, server: &Server, flags: &[&str], command: &str) -> Output {
    let ca = stage.path("server.pem").display().to_string();
    let to = [ALLOWED, REFUSED].map(|name| format!("{name}:443:{}", server.address));
    let mut arguments = vec!["exec", "--upstream-ca", &ca, "--connect-to", &to[0], "--connect-to", &to[1]];
    arguments.extend(flags);
    arguments.extend(["--", "shell", "-c", command]);
    stage.run(&arguments)
}

fn staged(actor: Actor) -> (Stage, Server) {
    let (stage, server) = (Stage::new(actor), Server::start(pages()));
    stage.write(&stage.path("server.pem"), &server.ca_pem);
    (stage, server)
}

fn patch(file: &Path, diff: &Path) {
    let output = Command::new("patch").arg(file).arg(diff).output().unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

fn can_try(actor: Actor) -> bool {
    host::has_sandboxes() && host::has(actor, "curl") && host::has(actor, "patch")
}

#[test]
fn a_learned_change_allows_what_was_refused_and_no_more() {
    for actor in Actor::all().iter().filter(|actor| can_try(**actor)) {
        let (stage, server) = staged(*actor);
        let ask = format!("curl -sS https://{REFUSED}/v1/page");
        let diff = stage.path("home/learned.diff");
        let out = diff.display().to_string();
        let refused = exec(&stage, &server, &["--learn-out", &out], &ask);
        assert!(text(&refused.stdout).contains("omni refused GET"), "{}", text(&refused.stdout));
        assert_eq!(server.hosts_seen(), Vec::<String>::new(), "enforced as usual");

        let learned = std::fs::read_to_string(&diff).unwrap();
        let rule = format!("+  - allow: GET {REFUSED}/v1/page\n");
        assert!(learned.contains(&rule), "{learned}");
        assert!(
            learned.contains(&format!("+  # Careful: {REFUSED} is a host that no rule allowed before.\n")),
            "{learned}"
        );

        let own = stage.path("home/state/profiles");
        std::fs::create_dir(&own).unwrap();
        let file = own.join("shell.yaml");
        stage.write(&file, &stage.run(&["profile", "show", "shell"]).stdout);
        patch(&file, &diff);
        let allowed = exec(&stage, &server, &["--learn"], &ask);
        assert_eq!(text(&allowed.stdout), "Hello from outside.", "{}", text(&allowed.stderr));
        assert!(text(&allowed.stderr).contains("Nothing was refused"), "{}", text(&allowed.stderr));
        for other in [format!("https://{REFUSED}/v1/other"), format!("https://{ALLOWED}/v1/page")] {
            let refused = exec(&stage, &server, &[], &format!("curl -sS {other}"));
            assert!(text(&refused.stdout).contains("omni refused GET"), "{other}: {}", text(&refused.stdout));
        }
        assert_eq!(server.hosts_seen(), [REFUSED]);
    }
}

#[test]
fn a_proposal_keeps_the_harness_s_output_and_end_as_they_are() {
    for actor in Actor::all().iter().filter(|actor| can_try(**actor)) {
        let (stage, server) = staged(*actor);
        let ask = format!("curl -s -o /dev/null -X DELETE https://{REFUSED}/all; echo out; exit 7");
        let output = exec(&stage, &server, &["--learn"], &ask);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(7), "out\n".to_owned()));
        let learned = text(&output.stderr);
        let warning =
            format!("+  # Careful: DELETE sends data out to {REFUSED}, a host that no rule allowed before.\n");
        assert!(learned.contains(&warning) && learned.contains("# To apply: mkdir -p "), "{learned}");
    }
}

#[test]
fn what_no_rule_may_open_is_told_and_not_proposed() {
    for actor in Actor::all().iter().filter(|actor| can_try(**actor)) {
        let (stage, server) = staged(*actor);
        let ask = format!(
            "curl -s http://169.254.169.254/latest/meta-data; curl -s https://10.0.0.1/; curl -s 'https://{REFUSED}/**'; \
             curl -s https://{ALLOWED}/; echo evil > .envrc; true"
        );
        let deny = format!("* {ALLOWED}/**");
        let learned = text(&exec(&stage, &server, &["--learn", "--deny", &deny], &ask).stderr);
        assert_eq!(learned.matches("# Not proposed: ").count(), 5, "{learned}");
        assert!(learned.lines().any(|line| line.contains("# Not proposed: ") && line.contains(".envrc")), "{learned}");
        assert!(!learned.contains("\n+"), "{learned}");
    }
}

#[test]
fn a_proposal_is_not_written_where_the_harness_could_change_it() {
    for actor in Actor::all().iter().filter(|actor| can_try(**actor)) {
        let (stage, server) = staged(*actor);
        let output = exec(&stage, &server, &["--learn-out", "learned.diff"], "touch ran");
        assert_eq!(output.status.code(), Some(125));
        assert!(text(&output.stderr).contains("lies where the harness can write"), "{}", text(&output.stderr));
        assert!(!stage.workspace().join("ran").exists() && !stage.workspace().join("learned.diff").exists());
    }
}

/// The diff of each form of a profile, through the real `patch`.
#[test]
fn patch_makes_of_a_profile_what_was_meant() {
    if !host::has(Actor::Tester, "patch") {
        return;
    }
    let proposed =
        |rule: &str| omni::policy::Proposed { rule: rule.to_owned(), warnings: vec!["it is new".to_owned()] };
    let rules = [proposed("GET a.example/x"), proposed("POST a.example/y:")];
    let forms = [
        "name: t",
        "name: t\n",
        "name: t\negress:\n- allow: GET b.example/\nlimits: {}",
        "name: t\negress: []\nlimits: {}\n",
        "egress:\n  - allow: GET b.example/\n\n# a\n# b\n# c\n# d\nname: t",
        "egress: [{ allow: GET b.example/ }] \nname: t\n",
    ];
    let shipped = omni::harness::shipped().iter().map(|(_, text)| *text);
    for form in forms.into_iter().chain(shipped) {
        let place = tempfile::tempdir().unwrap();
        let (file, diff) = (place.path().join("profile.yaml"), place.path().join("diff"));
        let amended = omni::policy::amend("profile.yaml", form, &rules).unwrap();
        std::fs::write(&file, form).unwrap();
        std::fs::write(&diff, format!("# a note\n{}", amended.diff)).unwrap();
        patch(&file, &diff);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), amended.text, "{form}");
    }
}
