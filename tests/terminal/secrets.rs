//! What `omni secret` asks a person for, at a terminal that would show what is typed.

use crate::pty::{Place, Pty};

/// What is typed as a passphrase here.
const PASSPHRASE: &str = "correct horse";
/// What is typed as a secret.
const TOKEN: &str = "ghp_typed0at0a0terminal0000000000000000";

/// Answers questions in turn, and says how the program ended.
fn answer(pty: &mut Pty, questions: &[(&str, &str)]) -> Option<i32> {
    for (question, typed) in questions {
        pty.wait_for(question);
        pty.write(format!("{typed}\n").as_bytes());
    }
    pty.wait().code()
}

/// Whether the kernel keeps keys for whoever runs this, without which there are no passphrases.
fn kernel_keeps_no_keys(pty: &Pty) -> bool {
    let refused = pty.shows("the kernel keeps no key here");
    assert!(!refused || pty.shows("omni secret passphrase --none"), "the way on is said");
    if refused {
        println!("skipped: {}", String::from_utf8_lossy(pty.seen()));
    }
    refused
}

#[test]
fn the_first_secret_asks_for_a_passphrase_twice_and_sessions_for_it_once() {
    let place = Place::new();
    let (first, again) = ("New passphrase: ", "The same again: ");
    let mut short = place.pty(&["secret", "set", "github"]);
    assert_eq!(answer(&mut short, &[("settings/tokens: ", TOKEN), (first, "short")]), Some(1));
    assert!(short.shows("at least 8 characters"));
    let mut differs = place.pty(&["secret", "set", "github"]);
    assert_eq!(
        answer(&mut differs, &[("settings/tokens: ", TOKEN), (first, PASSPHRASE), (again, "another horse")]),
        Some(1)
    );
    assert!(differs.shows("the two are not the same: nothing was kept"));
    let kept = |name: &str| place.omni_home().join(name).exists();
    assert!(!kept("secrets") && !kept("secrets.key"));

    let mut set = place.pty(&["secret", "set", "github"]);
    let status = answer(&mut set, &[("settings/tokens: ", TOKEN), (first, PASSPHRASE), (again, PASSPHRASE)]);
    if kernel_keeps_no_keys(&set) {
        return;
    }
    assert_eq!(status, Some(0), "{}", String::from_utf8_lossy(set.seen()));
    assert!(!set.shows(PASSPHRASE) && !set.shows(TOKEN), "nothing of what was typed is shown");
    assert!(kept("secrets") && !kept("secrets.key"));
    // A second one asks for nothing but its value.
    let mut second = place.pty(&["secret", "set", "ci", "--host", "ci.example", "--bearer"]);
    assert_eq!(answer(&mut second, &[("the value: ", TOKEN)]), Some(0));
    assert!(!second.shows("assphrase"));

    place.output(&["secret", "lock"]);
    let session = ["exec", "--secret", "github", "--", "sh", "-c", "echo held ${GH_TOKEN%%_*}"];
    let mut wrong = place.pty(&session);
    assert_eq!(answer(&mut wrong, &[("Passphrase: ", "wrong horse")]), Some(125));
    assert!(
        wrong.shows("this is not the passphrase") && wrong.shows("run `omni secret unlock`") && !wrong.shows("held")
    );
    let mut asked = place.pty(&session);
    assert_eq!(answer(&mut asked, &[("Passphrase: ", PASSPHRASE)]), Some(0));
    assert!(asked.shows("held ghp") && !asked.shows(PASSPHRASE));
    let mut unasked = place.pty(&session);
    assert_eq!(answer(&mut unasked, &[]), Some(0));
    assert!(unasked.shows("held ghp") && !unasked.shows("assphrase"));
    // So that the kernel keeps nothing of this test.
    place.output(&["secret", "lock"]);
}
