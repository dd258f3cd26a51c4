//! Less than everything is accepted in so many words, or refused.

use crate::stage::{self, ACCEPT};
use crate::support::finish;
use serde_json::json;

enclosed! {
    fn nothing_less_than_full_is_entered_silently(world) {
        let outcome = finish(stage::omni(world, &["exec", "--", "touch", "ran"]), b"");
        assert_eq!(outcome.code(), Some(125), "{outcome:?}");
        assert!(outcome.stderr.contains("there is no tier `full`"), "{outcome:?}");
        assert!(outcome.stderr.contains("accept it with `--minimum-isolation landlock`"), "{outcome:?}");
        assert!(!world.workspace().join("ran").exists());
        let accepted = stage::shell(world, &[], "touch ran");
        assert!(accepted.status.success() && world.workspace().join("ran").exists(), "{accepted:?}");
    }
}

attack! {
    fn an_older_landlock_is_no_tier(world) {
        let outcome = stage::shell(world, &[], "touch ran");
        assert_eq!(outcome.status.success(), stage::has_whole_landlock(), "{outcome:?}");
        assert_eq!(world.workspace().join("ran").exists(), stage::has_whole_landlock());
        if !stage::has_whole_landlock() {
            assert_eq!(outcome.code(), Some(125), "{outcome:?}");
            assert!(outcome.stderr.contains("reaches no tier of isolation"), "{outcome:?}");
        }
    }
}

enclosed! {
    fn a_policy_or_profile_that_demands_more_is_not_talked_down(world) {
        let policy = world.place().join("policy.yaml");
        world.write(&policy, "type: isolation\nminimum_isolation: full\n");
        let profile = world.place().join("profile.yaml");
        world.write(&profile, "name: strict\nminimum_isolation: full\n");
        for (flag, file) in [("--policy", &policy), ("--profile", &profile)] {
            let outcome = finish(stage::exec(world, &[flag, file.to_str().unwrap()], &["touch", "ran"]), b"");
            assert_eq!(outcome.code(), Some(125), "{outcome:?}");
            assert!(outcome.stderr.contains("demands the tier `full`"), "{outcome:?}");
        }
        assert!(!world.workspace().join("ran").exists());
    }
}

enclosed! {
    fn a_profile_may_accept_the_weaker_tier(world) {
        let profile = world.place().join("profile.yaml");
        world.write(&profile, "name: modest\nminimum_isolation: landlock\n");
        let arguments = ["exec", "--profile", profile.to_str().unwrap(), "--", "true"];
        let outcome = finish(stage::omni(world, &arguments), b"");
        assert!(outcome.status.success(), "{outcome:?}");
        assert_eq!(stage::isolation(world)["tier"], "landlock");
    }
}

enclosed! {
    /// Whoever accepts less gets more where it can be had.
    fn the_better_tier_is_taken_where_it_can_be_had(world) {
        let outcome = finish(world.exec(&ACCEPT, &["true"]), b"");
        assert!(outcome.status.success(), "{outcome:?}");
        assert_eq!(stage::isolation(world)["tier"], "full");
    }
}

enclosed! {
    fn the_record_says_what_was_reached_and_what_that_leaves_open(world) {
        assert!(stage::shell(world, &[], "true").status.success());
        let isolation = stage::isolation(world);
        assert_eq!(isolation["tier"], "landlock", "{isolation}");
        assert_eq!(isolation["namespaces"], json!([]));
        assert!(isolation["gaps"].as_array().unwrap().len() >= 5, "{isolation}");
        let mut show = world.omni();
        show.args(["show", "last"]);
        let shown = finish(show, b"").text();
        assert!(shown.contains("landlock, not full"), "{shown}");
        let mut log = world.omni();
        log.args(["audit", "log"]);
        let logged = finish(log, b"").text();
        assert!(logged.contains("tier landlock, 0 namespaces"), "{logged}");
    }
}

enclosed! {
    fn doctor_names_the_tier_and_what_the_better_one_lacks(world) {
        let outcome = finish(stage::omni(world, &["doctor", "--json"]), b"");
        assert_eq!(outcome.code(), Some(1), "{outcome:?}");
        let tier = outcome.text().lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .find(|finding| finding["probe"] == "isolation tier").expect("a finding on the tier");
        let detail = tier["detail"].as_str().unwrap();
        assert!(detail.starts_with("landlock, since `full` lacks user namespaces, all namespaces"), "{tier}");
        assert!(tier["fix"].as_str().unwrap().contains("--minimum-isolation landlock"), "{tier}");
    }
}
