//! `omni prices`, and files of prices in omni's home, as a person meets them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::path::PathBuf;
use std::process::{Command, Output};

struct World(tempfile::TempDir);

impl World {
    fn new() -> Self {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("work")).unwrap();
        let world = Self(place);
        assert!(world.omni(&["sessions"]).status.success(), "which makes the home");
        world
    }

    fn omni(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omni"));
        command.env("OMNI_HOME", self.home()).current_dir(self.0.path().join("work")).args(arguments).output().unwrap()
    }

    fn home(&self) -> PathBuf {
        self.0.path().join("home")
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// What `omni prices show` says of a model, a line for each vendor and day.
    fn shown(&self, model: &str) -> Vec<Value> {
        let output = self.omni(&["prices", "show", model, "--json"]);
        assert!(output.status.success(), "{output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn told(output: &Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}

const TABLE: &str = r#"{"version":"of-a-test","unit":"pico-dollars per token","sources":[],"web_search":0,"multipliers":{"priority":[2,1],"flex":[1,2],"batch":[1,2],"ultrafast":[6,1],"fast":[2,1],"us_only":[11,10]}}
{"vendor":"openai","model":"m","rates":[1000000,2000000,100000,1000000,1000000]}
"#;

#[test]
fn the_shipped_table_says_what_a_model_costs_at_each_vendor() {
    let world = World::new();
    let shown = world.shown("gemini-3.8-flash");
    let of: Vec<_> = shown.iter().map(|line| (line["vendor"].as_str().unwrap(), line["from"].as_str())).collect();
    assert!(of.contains(&("google", None)) && of.contains(&("google", Some("2027-01-01"))), "{of:?}");
    assert!(shown.iter().all(|line| line["price_table"] == "2026-11-26"));
    assert_eq!(shown[0]["prompts"][0]["usd_per_million"]["input"], "0.75");
}

#[test]
fn another_table_takes_its_place_by_its_hash_alone() {
    let world = World::new();
    let file = world.write("table", TABLE);
    let hash: String = Sha256::digest(TABLE).iter().map(|byte| format!("{byte:02x}")).collect();
    let wrong = told(&world.omni(&["prices", "update", &file, "--sha256", &"0".repeat(64)]));
    assert!(wrong.contains(&hash) && wrong.contains("nothing was changed"), "{wrong}");
    assert!(told(&world.omni(&["prices", "update", &file])).contains("--sha256"));
    assert_eq!(world.shown("gpt-5.5")[0]["price_table"], "2026-11-26", "as before");

    assert!(world.omni(&["prices", "update", &file, "--sha256", &hash.to_uppercase()]).status.success());
    assert_eq!(world.shown("m")[0]["prompts"][0]["usd_per_million"]["output"], "2.00");
    assert!(told(&world.omni(&["prices", "show", "gpt-5.5"])).contains("table of of-a-test"));
    let left: Vec<_> = std::fs::read_dir(world.home()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("new-")), "{left:?}");

    assert!(world.omni(&["prices", "update", "--shipped"]).status.success());
    assert_eq!(world.shown("gpt-5.5")[0]["price_table"], "2026-11-26");
    let log = String::from_utf8(world.omni(&["audit", "log"]).stdout).unwrap();
    assert!(log.contains(&format!("installs the prices of of-a-test, file {hash}")), "{log}");
    assert!(
        log.trim_end().ends_with("goes back to the shipped prices of 2026-11-26") && log.lines().count() == 2,
        "{log}"
    );
}

#[test]
fn a_table_with_a_mistake_is_not_installed() {
    let world = World::new();
    let text = TABLE.replace("\"rates\"", "\"raets\"");
    let file = world.write("table", &text);
    let hash: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    let wrong = told(&world.omni(&["prices", "update", &file, "--sha256", &hash]));
    assert!(wrong.contains("line 2") && wrong.contains("raets"), "{wrong}");
    assert!(!world.home().join("prices.jsonl").exists());
}

#[test]
fn own_prices_count_and_are_named_in_the_record() {
    let world = World::new();
    if !world.omni(&["exec", "--", "true"]).status.success() {
        assert!(std::env::var_os("OMNI_REQUIRE_SANDBOX").is_none());
        return;
    }
    world.write(
        "home/prices.yaml",
        "- { vendor: openai, model: gpt-5.5, usd_per_million: { input: 1, output: 2.5 } }\n",
    );
    let shown = world.shown("gpt-5.5-2026-03-04");
    let own = shown.iter().find(|line| line["vendor"] == "openai").unwrap();
    assert_eq!(own["prompts"][0]["usd_per_million"]["output"], "2.50");
    assert!(world.omni(&["exec", "--", "true"]).status.success());
    let log = world.omni(&["audit", "log", "--session", "last"]);
    let version = own["price_table"].as_str().unwrap();
    let log = String::from_utf8(log.stdout).unwrap();
    assert!(version.starts_with("2026-11-26+own-") && log.contains(version), "{version}: {log}");
}

#[test]
fn a_mistake_in_own_prices_keeps_a_session_from_starting() {
    let world = World::new();
    let file =
        world.write("home/prices.yaml", "- { vendor: openai, model: m, usd_per_million: { input: 0, output: 1 } }\n");
    for words in [&["exec", "--", "true"][..], &["prices"]] {
        let wrong = told(&world.omni(words));
        assert!(wrong.contains(&file) && wrong.contains("free: true"), "{wrong}");
    }
    world.write("home/prices.yaml", "- vendor: openai\n  modle: m\n");
    let wrong = told(&world.omni(&["prices"]));
    assert!(wrong.contains("modle") && wrong.contains('2'), "{wrong}");
}
