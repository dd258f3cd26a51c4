//! What profiles, policy files and rules mean, end to end.

use super::*;
use crate::model::{Host, Port, RequestLine, Scheme, Tier};
use proptest::prelude::*;

/// The profile of the documentation, as it stands.
const PROFILE: &str = r#"
name: claude-code
command: claude                      # what `omni exec -- claude-code` runs
description: Anthropic's Claude Code CLI
filesystem:
  workspace: direct                  # direct | overlay | read-only
  read: [~/.gitconfig, ~/.nvm]
  write: [~/.claude, ~/.claude.json]
  protect: [.git/hooks, .git/config, .mcp.json, .vscode, .envrc]
environment: { pass: [TERM, LANG, COLORTERM], set: { DISABLE_AUTOUPDATER: "1" } }
egress:
  - allow: POST api.anthropic.com/v1/messages
  - allow: GET api.anthropic.com/**
  - ask: "* github.com/**"
  - deny: "* *.statsig.com/**"
  - tcp: db.internal:5432            # opaque bytes, to this host and port alone
secrets:
  - name: anthropic
    from: env:ANTHROPIC_API_KEY
    host: api.anthropic.com
    header: x-api-key
    placeholder: { env: ANTHROPIC_API_KEY }
limits: { memory: 8GiB, pids: 2048, cpus: 2, duration: 8h }
"#;

fn line(method: &str, scheme: Scheme, host: &str, port: u16, path: &str) -> RequestLine {
    let host = Host::parse(host).expect("a host");
    RequestLine { method: method.to_owned(), scheme, host, port: Port(port), path: path.to_owned() }
}

fn https(method: &str, host: &str, path: &str) -> RequestLine {
    line(method, Scheme::Https, host, 443, path)
}

fn compile(rules: &[(Effect, &str)]) -> Result<Policy, PolicyErrors> {
    let rules: Vec<WrittenRule> = rules.iter().map(|(effect, text)| WrittenRule::alone(*effect, text)).collect();
    Policy::compile(&[RuleSource { level: Level::Session, label: "test", rules: &rules, clauses: &[] }])
}

fn policy(rules: &[(Effect, &str)]) -> Policy {
    compile(rules).unwrap_or_else(|errors| panic!("{errors}"))
}

fn decide(policy: &Policy, line: &RequestLine) -> Verdict {
    policy.decide(RequestFacts { line: line.clone(), disagreement: None })
}

/// The verdict's effect and rule.
fn outcome(policy: &Policy, line: &RequestLine) -> (Effect, Option<String>) {
    match decide(policy, line) {
        Verdict::Allow(grant) => (Effect::Allow, Some(grant.rule().to_owned())),
        Verdict::Ask(question) => (Effect::Ask, Some(question.rule.text)),
        Verdict::Deny(refusal) => (Effect::Deny, refusal.rule.map(|rule| rule.text)),
    }
}

fn errors(text: &str) -> Vec<String> {
    let PolicyErrors(errors) = Profile::parse("p.yaml", text).expect_err("something wrong");
    errors.iter().map(ToString::to_string).collect()
}

fn file_errors(text: &str) -> Vec<String> {
    let PolicyErrors(errors) = parse_policy_file("f.yaml", text).expect_err("something wrong");
    errors.iter().map(ToString::to_string).collect()
}

fn rule_error(text: &str) -> String {
    compile(&[(Effect::Allow, text)]).expect_err("something wrong").to_string()
}

#[test]
fn reads_the_profile_of_the_documentation() {
    let profile = Profile::parse("p.yaml", PROFILE).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(profile.filesystem.write, ["~/.claude", "~/.claude.json"]);
    assert_eq!(profile.environment.set["DISABLE_AUTOUPDATER"], "1");
    let ask = WrittenRule { effect: Effect::Ask, text: "* github.com/**".to_owned(), line: 14, column: 11 };
    assert_eq!(profile.egress[2], ask);
    assert_eq!(profile.secrets[0].sites[0].place, Place::Header("x-api-key".to_owned()));
    assert_eq!(profile.secrets[0].shape, Shape::Anthropic);
    assert_eq!(profile.limits.memory, Some(8 << 30));
    assert_eq!(profile.limits.cpus, Some(2.0));
    assert_eq!(profile.limits.duration, Some(std::time::Duration::from_secs(8 * 3600)));
}

#[test]
fn complains_about_everything_at_once_with_place_and_hint() {
    let text = "name: x\ncomand: y\nfilesystem: { workspace: overlays, read: [.ssh, /, ~] }\n\
                environment:\n  set: { A: 1 }\negress:\n  - alow: GET a.com\n  - allow: \"GTE a.com\"\n  \
                - tcp: db.internal:5432\nlimits: { memory: 8 GB!, pids: 0 }\n";
    assert_eq!(
        errors(text),
        [
            "p.yaml:2:1: unknown key `comand` (did you mean `command`?)",
            "p.yaml:3:26: `workspace` cannot be `overlays` (did you mean `overlay`?)",
            "p.yaml:3:43: `read` cannot hold the path `.ssh` (begin it with `/` or `~/`)",
            "p.yaml:3:49: `read` cannot hold the path `/` (that would open far too much: name the directories that are needed)",
            "p.yaml:3:52: a path is nothing (a bare `~` is YAML's nothing: write a value)",
            "p.yaml:5:13: the value of a variable must be a text, not a number (put it in quotes)",
            "p.yaml:7:5: unknown effect `alow` (did you mean `allow`?)",
            "p.yaml:8:13: `GTE` is not a method (did you mean `GET`?)",
            "p.yaml:10:19: `8 GB!` is not a size (write it like `512MiB` or `8GiB`)",
            "p.yaml:10:32: `pids` must be a whole number above zero (write it like `2048`)",
        ]
    );
}

#[test]
fn complains_about_every_flaw_of_a_secret() {
    let text = "name: x\nenvironment: { pass: [KEY] }\nsecrets:\n  \
                - { name: a, from: 'env:KEY', host: a.com, header: Host }\n  \
                - { name: b, from: 'env:KEY', host: a.com, bearer: true, placeholder: { env: B, shape: antropic } }\n  \
                - { name: b, from: ['env:X', 'command: '], host: '*.a.com', bearer: true, header: h }\n  \
                - { name: b, from: 'env:X', host: b.com, bearer: true, placeholder: { env: B } }\n  \
                - { hots: b.com }\n";
    assert_eq!(
        errors(text),
        [
            "p.yaml:2:23: passing `KEY` on would give the value of the secret `b` away \
             (remove it from `pass`: the sandbox gets the placeholder)",
            "p.yaml:4:54: `host` says how a request travels (a secret goes into a header of its own)",
            "p.yaml:5:90: `antropic` is not a shape of placeholders (did you mean `anthropic`?)",
            "p.yaml:6:5: the secret has both a `header` and a `bearer` (write `header: NAME`, `bearer: true`, `basic: USER`, `basic_user: true`, \
             `query: NAME`, `cookie: NAME`, `json: /POINTER`, `form: NAME`, `first_message: /POINTER`, `aws: true` or `client_certificate: true`)",
            "p.yaml:6:33: the command is empty (write it like `command:pass show key`)",
            "p.yaml:6:53: `*.a.com` holds '*', which no host name has (a secret is sent to one host, by its plain name)",
            "p.yaml:7:5: there are two secrets named `b` (give each a name of its own)",
            "p.yaml:7:5: the variable `B` of the secret `b` is set twice \
             (a variable holds one placeholder, or one value of `set`)",
            "p.yaml:8:5: the secret has no place in a request (write `header: NAME`, `bearer: true`, `basic: USER`, `basic_user: true`, \
             `query: NAME`, `cookie: NAME`, `json: /POINTER`, `form: NAME`, `first_message: /POINTER`, `aws: true` or `client_certificate: true`)",
            "p.yaml:8:5: the secret has no `host` (a secret is sent to one host: add `host: NAME`)",
            "p.yaml:8:5: the secret has no `name` (add `name: NAME`)",
            "p.yaml:8:5: the secret has no `from` \
             (add `from: env:NAME`, `file:PATH`, `command:COMMAND` or `store:NAME`)",
            "p.yaml:8:7: unknown key `hots` (did you mean `host`?)",
        ]
    );
}

#[test]
fn explains_what_is_no_yaml() {
    let star = errors("name: x\negress:\n  - deny: * a.com/**\n");
    assert!(star[0].starts_with("p.yaml:3:") && star[0].contains("must stand in quotes"), "{star:?}");
    let twice = errors("name: x\nname: y\n");
    assert!(twice[0].starts_with("p.yaml:2:1: ") && twice[0].contains("name"), "{twice:?}");
    assert_eq!(errors("- a\n").len(), 2);
    assert!(errors("").iter().any(|error| error.contains("`name`")));
}

#[test]
fn reads_policy_files_of_one_policy_or_many() {
    let one = "name: no-github\ntype: egress\nrules:\n  - deny: '* github.com/**'\n";
    let many =
        "policies:\n  - type: egress\n    rules: [{ deny: '* github.com/**' }]\n  - type: egress\n    rules: []\n";
    let rules = |text| parse_policy_file("f.yaml", text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(rules(one).rules[0].text, "* github.com/**");
    assert_eq!(rules(many).rules.len(), 1);
    assert!(is_policy_file(one) && is_policy_file(many) && !is_policy_file(PROFILE));
}

#[test]
fn a_policy_may_demand_a_tier_of_isolation_and_the_strictest_counts() {
    let demand = |text| parse_policy_file("f.yaml", text).unwrap_or_else(|errors| panic!("{errors}")).minimum_isolation;
    assert_eq!(demand("type: egress\nrules: []\n"), None);
    assert_eq!(demand("type: isolation\nminimum_isolation: landlock\n"), Some(Tier::Landlock));
    let two = "policies:\n  - { type: isolation, minimum_isolation: full }\n  - { type: isolation, minimum_isolation: landlock }\n";
    assert_eq!(demand(two), Some(Tier::Full));
    assert_eq!(
        file_errors("type: isolation\nminimum_isolation: ful\n"),
        ["f.yaml:2:20: `minimum_isolation` cannot be `ful` (did you mean `full`?)"]
    );
    assert_eq!(
        file_errors("type: isolation\n"),
        ["f.yaml:1:7: the policy has no `minimum_isolation` (add `minimum_isolation: full`)"]
    );
    let profile = Profile::parse("p.yaml", "name: x\nminimum_isolation: landlock\n").expect("a profile");
    assert_eq!(profile.minimum_isolation, Some(Tier::Landlock));
    assert_eq!(errors("name: x\nminimum_isolation: none\n").len(), 1);
}

#[test]
fn refuses_to_run_with_a_policy_it_cannot_enforce() {
    let spend = "name: spend-control\ntype: spend\nsoft_limit: $3.00\nhard_limt: $5.00\n";
    assert_eq!(file_errors(spend), ["f.yaml:4:1: unknown key `hard_limt` (did you mean `hard_limit`?)"]);
    assert_eq!(
        file_errors("type: models\n"),
        ["f.yaml:1:7: a policy of type `models` is not enforced by this version, so it refuses to run with one \
          (remove the policy, or use a version that enforces it)"]
    );
    assert_eq!(file_errors("type: egres\n"), ["f.yaml:1:7: unknown type of policy `egres` (did you mean `egress`?)"]);
    assert_eq!(file_errors("name: x\n"), ["f.yaml:1:1: the policy has no `type` (add `type: egress`)"]);
}

#[test]
fn the_strictest_matching_rule_wins() {
    let policy = policy(&[
        (Effect::Allow, "GET,POST example.com/**"),
        (Effect::Ask, "POST example.com/**"),
        (Effect::Deny, "* example.com/admin/**"),
    ]);
    let outcome = |line: &RequestLine| outcome(&policy, line);
    assert_eq!(outcome(&https("GET", "example.com", "/")), (Effect::Allow, Some("GET,POST example.com/**".to_owned())));
    assert_eq!(outcome(&https("POST", "example.com", "/")).0, Effect::Ask);
    assert_eq!(outcome(&https("POST", "example.com", "/admin/x")).0, Effect::Deny);
    assert_eq!(outcome(&https("PUT", "example.com", "/")), (Effect::Deny, None));
}

#[test]
fn empty_segments_are_no_way_around_a_denial() {
    let policy = policy(&[(Effect::Allow, "GET a.com"), (Effect::Deny, "* a.com/admin/**")]);
    let rule = |path| outcome(&policy, &https("GET", "a.com", path)).0;
    assert_eq!(rule("//admin//x"), Effect::Deny);
    assert_eq!(rule("/admin//"), Effect::Deny);
    assert_eq!(rule("//x"), Effect::Allow);
    let exact = compile(&[(Effect::Allow, "GET a.com/v1/x")]).expect("rules");
    assert_eq!(outcome(&exact, &https("GET", "a.com", "//v1/x")).0, Effect::Deny);
}

#[test]
fn an_encoded_slash_is_judged_both_as_a_slash_and_as_none() {
    let policy = policy(&[(Effect::Allow, "GET a.com/pkg/**"), (Effect::Deny, "* a.com/pkg/admin/**")]);
    let rule = |path| outcome(&policy, &https("GET", "a.com", path)).0;
    assert_eq!(rule("/pkg/@scope%2Fname"), Effect::Allow);
    assert_eq!(rule("/pkg/admin%2Fx"), Effect::Deny);
    assert_eq!(rule("/pkg%2Fx"), Effect::Deny);
    let one_segment = compile(&[(Effect::Allow, "GET a.com/pkg/*")]).expect("rules");
    assert_eq!(outcome(&one_segment, &https("GET", "a.com", "/pkg/@scope%2Fname")).0, Effect::Deny);
}

#[test]
fn scheme_and_port_are_part_of_a_rule() {
    let policy = policy(&[(Effect::Allow, "GET a.com"), (Effect::Allow, "GET http://b.com:8080/x")]);
    let allows = |line| matches!(decide(&policy, &line), Verdict::Allow(_));
    assert!(allows(https("GET", "a.com", "/any/thing")));
    assert!(!allows(line("GET", Scheme::Https, "a.com", 8443, "/")));
    assert!(!allows(line("GET", Scheme::Http, "a.com", 80, "/")));
    assert!(!allows(line("GET", Scheme::Http, "a.com", 443, "/")));
    assert!(allows(line("GET", Scheme::Http, "b.com", 8080, "/x")));
}

/// The keys that the parser knows at a place, as its own hint lists them.
fn known_keys(before: &str, after: &str) -> Vec<String> {
    let text = format!("name: x\n{before}qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq: 1{after}\n");
    let told = errors(&text).join("\n");
    let list = told.split("known here: ").nth(1).unwrap_or_else(|| panic!("{told}"));
    let list = list.split(')').next().expect("a list");
    let mut keys: Vec<String> = list.split(", ").map(str::to_owned).collect();
    keys.sort();
    keys
}

/// The keys of a table of the manual, by the heading of its first column.
fn documented_keys(heading: &str) -> Vec<String> {
    let manual = include_str!("../../docs/policy.md");
    let table = manual.split(&format!("\n| {heading} | What it holds |\n")).nth(1).expect("a table");
    let rows = table.lines().skip(1).take_while(|line| line.starts_with('|'));
    let mut keys: Vec<String> = rows.filter_map(|row| row.split('`').nth(1)).map(str::to_owned).collect();
    keys.sort();
    keys
}

#[test]
fn the_manual_tells_of_every_key_and_of_no_other() {
    assert_eq!(documented_keys("Key"), known_keys("", ""));
    assert_eq!(documented_keys("Key of `filesystem`"), known_keys("filesystem: { ", " }"));
    assert_eq!(documented_keys("Key of `environment`"), known_keys("environment: { ", " }"));
    assert_eq!(documented_keys("Key of a secret"), known_keys("secrets:\n  - name: y\n    ", ""));
}

#[test]
fn a_profile_says_in_so_many_words_that_it_nests() {
    let profile = |text: &str| Profile::parse("p.yaml", text).expect("a profile").nested_sandboxes;
    let records = |text: &str| Profile::parse("p.yaml", text).expect("a profile").record_bodies;
    assert!(records("name: x\nrecord_bodies: true\n") && !records("name: x\n"));
    let hour = Some(std::time::Duration::from_secs(3600));
    let shipped = Profile::parse("p.yaml", "name: x\nrequire_shipping: 1h\n").expect("a profile");
    assert_eq!(shipped.require_shipping, hour);
    let demand = |text| parse_policy_file("f.yaml", text).unwrap_or_else(|errors| panic!("{errors}")).require_shipping;
    let two = "policies:\n  - { type: shipping, within: 2h }\n  - { type: shipping, within: 1h }\n";
    assert_eq!((demand(two), demand("type: egress\nrules: []\n")), (hour, None));
    assert_eq!(file_errors("type: shipping\n"), ["f.yaml:1:7: the policy has no `within` (add `within: 1h`)"]);
    assert!(profile("name: x\nnested_sandboxes: true\n") && !profile("name: x\n"));
    assert_eq!(
        errors("name: x\nnested_sandboxes: yes\n"),
        ["p.yaml:2:19: `nested_sandboxes` must be true or false, not a text (write `true` or `false`)"]
    );
}

#[test]
fn a_denial_may_be_of_every_port_and_an_allowance_not() {
    let denied = WrittenRule::alone(Effect::Deny, "* *:*");
    let rule = Rule::parse(Level::Profile, "test", &denied).expect("a rule");
    assert!([1, 443, 65_535].iter().all(|port| rule.matches(
        &line("GET", Scheme::Https, "a.com", *port, "/"),
        &Particulars::default(),
        None
    )));
    assert!(!rule.matches(&line("GET", Scheme::Http, "a.com", 80, "/"), &Particulars::default(), None));
    assert_eq!(rule.to_string(), "deny * *:*/**");
    let allowed = WrittenRule::alone(Effect::Allow, "GET a.com:*/");
    let complaint = Rule::parse(Level::Profile, "test", &allowed).expect_err("too wide");
    assert_eq!(complaint.message, "`:*` allows every port there is");
}

#[test]
fn rules_of_connections_that_are_not_read_name_a_place_and_nothing_else() {
    let profile = |rules: &str| Profile::parse("p.yaml", &format!("name: x\negress:\n{rules}"));
    let read = profile("  - tcp: DB.internal:5432\n  - passthrough: a.example\n  - host_port: 6379\n").expect("rules");
    let source = RuleSource { level: Level::Profile, label: "p.yaml", rules: &read.egress, clauses: &[] };
    let canonical: Vec<_> = Policy::compile(&[source]).expect("rules").rules().map(ToString::to_string).collect();
    assert_eq!(
        canonical,
        ["allow tcp://db.internal:5432", "allow tcp://host.omni.internal:6379", "allow tls://a.example"]
    );
    let wrong = "  - tcp: db.internal\n  - tcp: 'db:5432/x'\n  - tcp: '*.omni.internal:22'\n  - tcp: '*:22'\n  \
                 - tcp: 'db:*'\n  - host_port: 0\n  - tcp: 'db:1 query:a=b'\n";
    let text = format!("name: x\negress:\n{wrong}");
    assert_eq!(
        errors(&text),
        [
            "p.yaml:3:10: a `tcp` rule names its port (write it like `tcp: db.example.com:5432`)",
            "p.yaml:4:18: a connection that is not read has no path (write it like `tcp: db.example.com:5432`)",
            "p.yaml:5:5: the pattern covers this machine's own services (name the hosts, and open own services by `host_port: PORT`)",
            "p.yaml:6:5: `*` allows every host there is (name the hosts that are needed, or use `ask`)",
            "p.yaml:7:5: `:*` allows every port there is (name the hosts that are needed, or use `ask`)",
            "p.yaml:8:16: `host_port` is not a port (write a number from 1 to 65535)",
            "p.yaml:9:5: a connection that is not read has no header, query or reference to judge (write it like `tcp: db.example.com:5432`)",
        ]
    );
}

#[test]
fn a_tcp_rule_takes_nothing_from_rules_about_requests() {
    let unread = |rules: &[(Effect, &str)], port: u16| {
        policy(rules).carries_unread(&Host::parse("a.example").expect("a host"), Port(port))
    };
    let tcp = |port: u16| format!("tcp://a.example:{port}");
    let (own, https) = (tcp(5432), tcp(443));
    assert!(unread(&[(Effect::Allow, &own)], 5432) && !unread(&[(Effect::Allow, &own)], 5433));
    assert!(unread(&[(Effect::Allow, &own), (Effect::Deny, "* a.example/x/y")], 5432));
    assert!(!unread(&[(Effect::Allow, &own), (Effect::Deny, "* a.example:5432/x/y")], 5432));
    // A limit on everything counts them, and needs to read nothing for it.
    assert!(unread(
        &[(Effect::Allow, &own), (Effect::Allow, "GET http://*.example.com:5432/"), (Effect::Limit, "* *:* rate=1/s")],
        5432
    ));
    assert!(!unread(&[(Effect::Allow, &own), (Effect::Limit, "* *:*/x rate=1/s")], 5432));
    assert!(!unread(&[(Effect::Allow, &https)], 443));
}

#[test]
fn addresses_and_blocks_take_ports_and_paths() {
    let policy = policy(&[
        (Effect::Allow, "GET 10.0.0.0/8:8443/v1/*"),
        (Effect::Allow, "GET http://[fd00::]/8/x"),
        (Effect::Allow, "GET 192.0.2.1/path"),
        (Effect::Allow, "GET 192.0.2.2/8x"),
    ]);
    let allows = |line| matches!(decide(&policy, &line), Verdict::Allow(_));
    assert!(allows(line("GET", Scheme::Https, "10.9.8.7", 8443, "/v1/x")));
    assert!(allows(line("GET", Scheme::Http, "fd12::1", 80, "/x")));
    assert!(allows(https("GET", "192.0.2.1", "/path")));
    assert!(allows(https("GET", "192.0.2.2", "/8x")));
    assert!(!allows(https("GET", "192.0.2.3", "/path")));
}

#[test]
fn names_that_disagree_are_refused_whatever_the_rules() {
    let policy = policy(&[(Effect::Allow, "GET a.com")]);
    let (first, second) = ("the name asked of DNS".to_owned(), "the Host header".to_owned());
    let disagreement = Some(Disagreement { first, second });
    let Verdict::Deny(refusal) = policy.decide(RequestFacts { line: https("GET", "a.com", "/"), disagreement }) else {
        panic!("not refused");
    };
    assert_eq!(refusal.reason, "the name asked of DNS and the Host header are not the same host");
    assert_eq!((refusal.rule, refusal.rule_to_add), (None, None));
}

#[test]
fn a_refusal_names_the_rule_to_add_only_where_one_would_help() {
    let policy = policy(&[(Effect::Deny, "* evil.com")]);
    let to_add = |line| match decide(&policy, &line) {
        Verdict::Deny(refusal) => refusal.rule_to_add,
        other => panic!("{other:?}"),
    };
    assert_eq!(to_add(https("GET", "a.com", "/path")).as_deref(), Some("GET a.com/path"));
    assert_eq!(to_add(line("GET", Scheme::Http, "a.com", 80, "/")).as_deref(), Some("GET http://a.com/"));
    assert_eq!(to_add(line("PUT", Scheme::Https, "a.com", 8443, "/")).as_deref(), Some("PUT a.com:8443/"));
    assert_eq!(to_add(https("GET", "a.com", &format!("/{}", "a".repeat(2000)))).as_deref(), Some("GET a.com/**"));
    assert_eq!(to_add(https("FROB", "a.com", "/")).as_deref(), Some("* a.com/"));
    assert_eq!(to_add(https("GET", "evil.com", "/")), None);
    assert_eq!(to_add(https("GET", "169.254.169.254", "/")), None);
}

#[test]
fn refuses_rules_that_would_not_mean_what_they_say() {
    let cases = [
        ("GET", "test:1:1: a rule has a method and a host (write it like `GET,POST api.example.com/v1/**`)"),
        (
            "GET a.com /x",
            "test:1:11: `/x` is left over behind the rule (write it like `GET,POST api.example.com/v1/**`)",
        ),
        ("GET,*  a.com", "test:1:5: `*` is not a method (`*` stands alone)"),
        ("get a.com", "test:1:1: `get` is not a method (did you mean `GET`?)"),
        ("GET a.com:0/x", "test:1:11: `0` is not a port (a port is a number from 1 to 65535, or `*`)"),
        ("GET fd00::1/x", "test:1:10: `:1` is not a port (an IPv6 address stands in brackets: `[fd00::1]`)"),
        (
            "GET 2001:db8::/32",
            "test:1:5: `2001` is an unusual spelling of an address: write it as four decimal numbers \
                                    (an IPv6 address stands in brackets: `[2001:db8::]`)",
        ),
        ("GET ftp://a.com", "test:1:5: `ftp://` is not a scheme of requests (write `http://`, or none)"),
        (
            "GET a.com/x/../y",
            "test:1:10: no request's path looks like this (requests are judged by their normalised \
                              path: leave `.` and `..` out)",
        ),
        (
            "GET a.com/x?y",
            "test:1:12: a rule cannot look past `?` (leave the query out: a path is judged with any query)",
        ),
        ("GET *", "test:1:1: `*` allows every host there is (name the hosts that are needed, or use `ask`)"),
        (
            "GET *.com",
            "test:1:1: `*.com` allows hosts of anybody at all (name the hosts that are needed, or use `ask`)",
        ),
        ("GET 10.0.0.1/8", "test:1:5: the address has bits set beyond the block's length (did you mean `10.0.0.0/8`?)"),
    ];
    for (text, error) in cases {
        assert_eq!(rule_error(text), error, "{text}");
    }
    assert!(compile(&[(Effect::Deny, "* *"), (Effect::Ask, "* *.com")]).is_ok());
}

#[test]
fn the_hash_is_of_what_the_rules_mean() {
    let one = policy(&[(Effect::Allow, "GET,POST A.com"), (Effect::Deny, "* b.com/x")]);
    let other = policy(&[
        (Effect::Deny, "*  https://b.com:443/x"),
        (Effect::Allow, "POST,GET a.com./**"),
        (Effect::Allow, "GET,POST a.com"),
    ]);
    assert_eq!(one.hash(), other.hash());
    assert_eq!(other.rules().count(), 2);
    assert_ne!(one.hash(), policy(&[(Effect::Allow, "GET,POST a.com")]).hash());
    assert_eq!(one.hash().len(), 64);
}

fn any_rule() -> impl Strategy<Value = (Effect, String)> {
    let effect = prop_oneof![Just(Effect::Allow), Just(Effect::Ask), Just(Effect::Deny)];
    let method = prop_oneof![Just("GET"), Just("POST"), Just("GET,POST"), Just("*")];
    let host = prop_oneof![Just("a.com"), Just("*.a.com"), Just("b.a.com"), Just("10.0.0.0/8")];
    let path = prop_oneof![Just(""), Just("/x"), Just("/x/**"), Just("/**/y"), Just("/*")];
    (effect, method, host, path).prop_map(|(effect, method, host, path)| (effect, format!("{method} {host}{path}")))
}

fn any_line() -> impl Strategy<Value = RequestLine> {
    let host = prop_oneof![Just("a.com"), Just("b.a.com"), Just("c.b.a.com"), Just("10.1.1.1"), Just("xa.com")];
    ("GET|POST|PUT", host, "(/[xy]){1,3}").prop_map(|(method, host, path)| https(&method, host, &path))
}

proptest! {
    #[test]
    fn the_order_of_rules_never_matters(
        (rules, shuffled) in proptest::collection::vec(any_rule(), 0..8)
            .prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
        line in any_line(),
    ) {
        let compiled = |rules: &[(Effect, String)]| {
            policy(&rules.iter().map(|(effect, text)| (*effect, text.as_str())).collect::<Vec<_>>())
        };
        let (one, other) = (compiled(&rules), compiled(&shuffled));
        prop_assert_eq!(decide(&one, &line), decide(&other, &line));
        prop_assert_eq!(one.hash(), other.hash());
    }

    #[test]
    fn one_more_deny_never_allows_more(rules in proptest::collection::vec(any_rule(), 0..6), extra in any_rule(), line in any_line()) {
        let mut texts: Vec<(Effect, &str)> = rules.iter().map(|(effect, text)| (*effect, text.as_str())).collect();
        let before = outcome(&policy(&texts), &line).0;
        texts.push((Effect::Deny, &extra.1));
        prop_assert!(outcome(&policy(&texts), &line).0 >= before);
    }

    #[test]
    fn the_rule_to_add_allows_the_request(method in "GET|PUT|FROB", port in 1u16.., path in "/[a-z%*~.é ?]{0,12}") {
        let line = line(&method, Scheme::Https, "example.com", port, &path);
        if let Verdict::Deny(Refusal { rule_to_add: Some(rule), .. }) = decide(&policy(&[]), &line) {
            prop_assert_eq!(outcome(&policy(&[(Effect::Allow, &rule)]), &line).0, Effect::Allow);
        }
    }

    #[test]
    fn a_canonical_rule_reads_as_itself((effect, text) in any_rule()) {
        let first = policy(&[(effect, &text)]);
        let shown = first.rules().next().expect("a rule").to_string();
        let (_, canonical) = shown.split_once(' ').expect("an effect");
        prop_assert_eq!(first.hash(), policy(&[(effect, canonical)]).hash());
    }

    #[test]
    fn no_text_makes_a_reader_panic(text in "(?s).{0,200}", rule in ".{0,60}") {
        let _ = Profile::parse("p", &text);
        let _ = parse_policy_file("f", &text);
        let _ = compile(&[(Effect::Allow, &rule)]);
        let _ = compile(&[(Effect::Deny, &format!("GET {rule}"))]);
    }
}
