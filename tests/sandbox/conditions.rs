//! Conditions on what a session did before, and on what it sends: an upstream is the witness of what went.

use crate::approvals::{Harness, Upstream, events, omni, questions};
use crate::support::World;

/// Rules that let everything through to two hosts.
const OPEN: [&str; 4] = ["--allow", "* http://a.example/**", "--allow", "* http://b.example/**"];

fn policy(world: &World, text: &str) -> String {
    let path = world.place().join("organisation.yaml");
    world.write(&path, text);
    path.display().to_string()
}

attack! {
    fn a_gate_asks_before_the_first_contact_with_a_host_and_before_a_large_upload(world) {
        let upstream = Upstream::start(world);
        let text = "name: first\ntype: gate\nbefore: [new-host, 'upload>1KiB']\n";
        let policy = policy(world, text);
        let mut harness = Harness::start(world, &upstream, &[&OPEN[..], &["--await-approvals", "--policy", &policy]].concat());
        let mut answer = |request: &str, verb: &str| {
            harness.send(request);
            let [asked] = &questions(world, 1)[..] else { panic!("one") };
            assert!(asked["why"].as_str().unwrap().contains("`ask first: "), "{asked}");
            assert!(omni(world, &[verb, "last"]).status.success());
            harness.hear().1
        };
        assert_eq!(answer("GET //a.example/1 x", "approve"), 200);
        let large = format!("POST //a.example/2 {}", "x".repeat(2000));
        assert_eq!(answer(&large, "deny"), 403);
        assert_eq!(answer("GET //b.example/3 x", "deny"), 403);
        // A host that was let through is no new one, and a small body no large one; one that was refused is new still.
        assert_eq!(harness.ask("POST //a.example/4 x").0, 200);
        harness.send("POST //b.example/5 x");
        assert_eq!(questions(world, 1).len(), 1);
        assert!(omni(world, &["approve", "last", "--session"]).status.success());
        assert_eq!(harness.hear().1, 200);
        assert_eq!(harness.ask("GET //b.example/6 x").0, 200);
        harness.end();
        assert_eq!(upstream.came(), ["GET /1 x", "POST /4 x", "POST /5 x", "GET /6 x"]);
    }
}

attack! {
    fn what_was_done_before_closes_a_way_and_an_error_in_a_condition_is_a_denial(world) {
        let upstream = Upstream::start(world);
        let text = "policies:\n\
                    - name: then-no-other\n  type: condition\n  effect: deny\n  \
                    condition: '\"b.example\" in history.hosts && request.host != \"b.example\"'\n\
                    - name: faulty\n  type: condition\n  effect: ask\n  rule: 'GET http://b.example/faulty'\n  \
                    condition: request.headers.x-none == \"1\"\n";
        let wrong = policy(world, text);
        let refused = world.shell(&["--policy", &wrong], "true");
        assert_eq!(refused.code(), Some(125));
        assert!(refused.stderr.contains("organisation.yaml:10:32: unknown name `none`"), "found when it is read: {refused:?}");
        let policy = policy(world, &text.replace("request.headers.x-none", "request.headers[\"x-none\"]"));
        let mut harness = Harness::start(world, &upstream, &[&OPEN[..], &["--policy", &policy]].concat());
        assert_eq!(harness.ask("GET //a.example/1 x").0, 200);
        assert_eq!(harness.ask("GET //b.example/2 x").0, 200);
        let (status, told) = harness.ask("GET //a.example/3 x");
        assert!(status == 403 && told.contains("the condition `then-no-other: "), "{told}");
        assert_eq!(harness.ask("GET //b.example/4 x").0, 200);
        let (status, told) = harness.ask("GET //b.example/faulty x");
        assert!(status == 403 && told.contains("cannot be said: there is no `x-none`"), "{told}");
        harness.end();
        let denied = events(world, "request_denied");
        assert!(denied[0]["rule_from"].as_str().unwrap().ends_with("organisation.yaml:5"), "{denied:?}");
        assert_eq!(upstream.came(), ["GET /1 x", "GET /2 x", "GET /4 x"]);
    }
}

attack! {
    fn a_changed_policy_is_tested_by_what_sessions_did(world) {
        let upstream = Upstream::start(world);
        let old = policy(world, "type: egress\nrules: [{ deny: '* http://b.example/**' }]\n");
        let mut harness = Harness::start(world, &upstream, &[&OPEN[..], &["--policy", &old]].concat());
        let went = ["GET //a.example/1 x", "GET //b.example/2 x", "POST //a.example/3 x"].map(|request| harness.ask(request).0);
        assert_eq!(went, [200, 403, 200]);
        harness.end();
        let test = |file: &str| omni(world, &["policy", "test", file, "--session", "last", "--json"]);
        let same = test(&old);
        assert_eq!((same.code(), same.text().as_str()), (Some(0), ""), "{same:?}");
        let new = policy(
            world,
            "type: egress\nrules: [{ ask: 'POST http://a.example/**' }]\nexamples:\n  - ask: POST http://a.example/x\n  - leaves: GET http://a.example/x\n",
        );
        let other = test(&new);
        let changed: Vec<serde_json::Value> = other.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let told: Vec<_> = changed.iter().map(|one| (one["url"].as_str().unwrap(), one["was"].as_str().unwrap(), one["now"].as_str().unwrap())).collect();
        assert_eq!(told, [("http://b.example:80/2", "deny", "allow"), ("http://a.example:80/3", "allow", "ask")]);
        assert_eq!(other.code(), Some(3), "{other:?}");
        assert!(other.stderr.contains("2 examples hold; of 3 requests of 1 sessions, 2 would be judged otherwise"), "{other:?}");
        let broken = policy(world, "type: egress\nrules: [{ ask: 'POST http://a.example/**' }]\nexamples: [{ deny: POST http://a.example/x }]\n");
        let refused = test(&broken);
        assert!(refused.code() == Some(1) && refused.stderr.contains("organisation.yaml:3:20: the example should end as `deny`"), "{refused:?}");
    }
}

attack! {
    fn a_policy_file_that_changes_while_a_session_runs_counts_from_the_next_request_on(world) {
        let upstream = Upstream::start(world);
        let file = policy(world, "type: egress\nrules: [{ deny: '* http://a.example/**' }]\n");
        let mut harness = Harness::start(world, &upstream, &[&OPEN[..], &["--policy", &file]].concat());
        assert_eq!((harness.ask("GET //a.example/1 x").0, harness.ask("GET //b.example/2 x").0), (403, 200));
        assert!(omni(world, &["policy", "deny", "last", "* http://b.example/live"]).status.success());
        // A file that is not sound, or that is none of the session's, changes nothing.
        policy(world, "type: egress\nrules: [{ dney: '* http://b.example/**' }]\n");
        let refused = omni(world, &["policy", "update", "last", &file]);
        assert!(!refused.status.success() && refused.stderr.contains("organisation.yaml:2:"), "{refused:?}");
        policy(world, "type: spend\nhard_limit: $1\n");
        let refused = omni(world, &["policy", "update", "last", &file]);
        assert!(!refused.status.success() && refused.stderr.contains("cannot change while a session runs"), "{refused:?}");
        assert_eq!((harness.ask("GET //a.example/3 x").0, harness.ask("GET //b.example/4 x").0), (403, 200));
        policy(world, "policies:\n- { type: egress, rules: [{ deny: '* http://b.example/secret' }] }\n- { type: condition, effect: deny, condition: request.path == '/none' }\n");
        let updated = omni(world, &["policy", "update", "last", &file]);
        assert!(updated.status.success(), "{updated:?}");
        let now = ["//a.example/5", "//b.example/secret", "//b.example/live", "//a.example/none", "//b.example/6"];
        assert_eq!(now.map(|path| harness.ask(&format!("GET {path} x")).0), [200, 403, 403, 403, 200]);
        harness.end();
        let [changed] = &events(world, "policy_changed")[..] else { panic!("one") };
        assert!(changed["file"].as_str().unwrap().ends_with("organisation.yaml"), "{changed}");
        // Each verdict names all rules that took part.
        let denied = events(world, "request_denied");
        let secret = denied.iter().find(|event| event["path"] == "/secret").unwrap();
        assert_eq!(secret["also"], serde_json::json!(["allow * http://b.example/** (session the command line)"]));
        assert_eq!(upstream.came(), ["GET /2 x", "GET /4 x", "GET /5 x", "GET /6 x"]);
    }
}
