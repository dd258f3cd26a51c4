//! `omni doctor`: what this machine can isolate, each thing found out by doing it, and how to get what is missing.

mod advice;
mod limits;
mod machine;
mod rehearsal;
mod secrets;

use super::listing::{emit, json_line, printable};
use crate::harness::install_hint;
use crate::model::Tier;
use crate::policy::Harness;
use crate::store::{Home, open_store};
use crate::supervisor::{Feature, Outcome, probe_all, reached};
use anyhow::Context;
use machine::Machine;
use rehearsal::Rehearsal;
use rustix::fs::{Mode, OFlags};
use serde::Serialize;
use std::fmt::Write as _;
use std::process::ExitCode;

/// Programs that people run in sandboxes, and what to do when they are missing.
const PROGRAMS: [(&str, Option<Harness>); 3] =
    [("claude", Some(Harness::ClaudeCode)), ("codex", Some(Harness::Codex)), ("node", None)];

/// Width of the column of names.
const NAME_WIDTH: usize = 18;

/// Find out what this machine can isolate, and how to get what is missing.
///
/// Nothing is changed by it, but $OMNI_HOME is made where there is none. Exits with 0 when `omni exec` can work here, else with 1.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  omni doctor\n  omni doctor --json | jq -r 'select(.ok | not) | .fix'")]
pub struct Args {
    /// Print one JSON object a line.
    #[arg(long)]
    json: bool,
}

/// One line of the answer.
#[derive(Debug, Serialize)]
struct Finding {
    probe: &'static str,
    ok: bool,
    detail: String,
    needed_for: &'static str,
    fix: Option<String>,
    #[serde(skip)]
    required: bool,
    #[serde(skip)]
    tried: bool,
}

/// Runs `omni doctor`.
///
/// # Errors
/// When stdout cannot be written.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let findings = examine();
    let sound = findings.iter().all(|finding| finding.ok || !finding.required);
    let mut text = String::new();
    for finding in &findings {
        text.push_str(&if args.json { json_line(finding)? } else { shown(finding) });
    }
    if !args.json {
        text.push_str(if sound { "\n`omni exec` can work here\n" } else { "\n`omni exec` cannot work here\n" });
    }
    emit(&text)?;
    Ok(ExitCode::from(u8::from(!sound)))
}

fn examine() -> Vec<Finding> {
    let machine = Machine::look();
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let probes = probe_all(&here);
    let tier = tier(&probes);
    let mut findings: Vec<_> = probes.into_iter().map(|(feature, found)| of_probe(feature, found, &machine)).collect();
    findings.push(tier);
    findings.extend(limits::findings());
    findings.push(home());
    let rehearsal = Rehearsal::new();
    let whole = whole(rehearsal.as_ref());
    let works = rehearsal.as_ref().ok().filter(|_| whole.ok);
    findings.push(whole);
    findings.extend(PROGRAMS.map(|(name, harness)| program(name, harness, works)));
    findings.extend([secrets::variables(), secrets::logins(), secrets::store()]);
    findings
}

fn of_probe(feature: Feature, outcome: Outcome, machine: &Machine) -> Finding {
    let (ok, detail, fix) = match outcome {
        Outcome::Works(detail) => (true, detail, None),
        Outcome::Unneeded(why) => (true, format!("not needed: {why}"), None),
        Outcome::Untried(missing) => (false, format!("needs what is missing: {}", missing.name()), None),
        Outcome::Missing { error, errno } => (false, error, Some(advice::advice(feature, errno, machine).join("\n"))),
    };
    let (required, tried) = (feature.is_required(Tier::Full), ok || fix.is_some());
    Finding { probe: feature.name(), ok, detail, needed_for: feature.needed_for(), fix, required, tried }
}

/// The best tier of isolation that this machine reaches, and what the next better one lacks.
fn tier(probes: &[(Feature, Outcome)]) -> Finding {
    let lacks = |tier: Tier| {
        let missing = probes.iter().filter(|(feature, outcome)| feature.is_required(tier) && !outcome.is_sound());
        missing.map(|(feature, _)| feature.name()).collect::<Vec<_>>().join(", ")
    };
    let reached = reached(probes);
    let detail = match reached {
        Some(Tier::Full) => Tier::Full.to_string(),
        Some(tier) => format!("{tier}, since `{}` lacks {}", Tier::Full, lacks(Tier::Full)),
        None => {
            format!(
                "none: `{}` lacks {}; `{}` lacks {}",
                Tier::Full,
                lacks(Tier::Full),
                Tier::Landlock,
                lacks(Tier::Landlock)
            )
        }
    };
    let fix = match reached {
        Some(Tier::Full) => None,
        Some(tier) => Some(format!(
            "get what is missing above; or accept less, and read in docs/tiers.md what that leaves open: \
             `--minimum-isolation {tier}`, or `minimum_isolation: {tier}` in the profile"
        )),
        None => Some("get what is missing above, for either tier".to_owned()),
    };
    Finding {
        probe: "isolation tier",
        ok: reached == Some(Tier::Full),
        detail,
        needed_for: "what profiles and policies demand by `minimum_isolation`, `full` where they say nothing",
        fix,
        required: true,
        tried: true,
    }
}

/// Whether records can be kept.
fn home() -> Finding {
    let (ok, detail, fix) = match usable_home() {
        Ok(detail) => (true, detail, None),
        Err(error) => {
            let fix = "set OMNI_HOME to a directory of yours that others cannot write to".to_owned();
            (false, format!("{error:#}"), Some(fix))
        }
    };
    Finding {
        probe: "$OMNI_HOME",
        ok,
        detail,
        needed_for: "keeping the record without which nothing runs",
        fix,
        required: true,
        tried: true,
    }
}

fn usable_home() -> anyhow::Result<String> {
    let home = Home::from_env()?;
    open_store(&home)?;
    let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::open(home.path(), flags, Mode::RUSR | Mode::WUSR) {
        // Not every file system has files without names; the database was opened for writing all the same.
        Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::ISDIR) => {}
        file => {
            let file = file.context("no file can be made in it")?;
            rustix::io::write(&file, &[0; 4096]).context("no file can be written in it")?;
        }
    }
    Ok(home.path().display().to_string())
}

/// A whole sandbox with its proxy, journal and store, and a program in it.
fn whole(rehearsal: Result<&Rehearsal, &std::io::Error>) -> Finding {
    let (ok, detail) = match rehearsal.map(|rehearsal| rehearsal.run(&["true"])) {
        Ok(Ok(ran)) if ran.ok => (true, format!("`omni exec -- true` took {} ms", ran.took.as_millis())),
        Ok(Ok(ran)) => (false, ran.said),
        Ok(Err(error)) => (false, error.to_string()),
        Err(error) => (false, format!("no temporary directory can be made: {error}")),
    };
    let fix = (!ok).then(|| "get what is missing above; if nothing is, heed the message".to_owned());
    Finding { probe: "a whole sandbox", ok, detail, needed_for: "`omni exec`", fix, required: true, tried: true }
}

/// A program that is run for its version, in a sandbox alone.
fn program(name: &'static str, harness: Option<Harness>, rehearsal: Option<&Rehearsal>) -> Finding {
    let (ok, detail) = match (on_path(name), rehearsal.map(|rehearsal| rehearsal.run(&[name, "--version"]))) {
        (false, _) => (false, "not found on PATH".to_owned()),
        (true, None) => (true, "found; its version can only be asked in a sandbox".to_owned()),
        (true, Some(Ok(ran))) if ran.ok => (true, ran.said),
        (true, Some(Ok(ran))) => (false, format!("found, but it does not run: {}", ran.said)),
        (true, Some(Err(error))) => (false, error.to_string()),
    };
    let hint = install_hint(name);
    let needed_for = match harness {
        Some(Harness::ClaudeCode) => "`omni exec -- claude-code`",
        Some(Harness::Codex) => "`omni exec -- codex`",
        _ => "harnesses that come from npm",
    };
    Finding { probe: name, ok, detail, needed_for, fix: (!ok).then(|| hint.to_owned()), required: false, tried: true }
}

fn on_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|place| place.join(name).is_file())
}

/// One line for a person, and below it what is missing for what, and what to do.
fn shown(finding: &Finding) -> String {
    let state = match finding {
        Finding { ok: true, .. } => "ok",
        Finding { tried: false, .. } => "untried",
        Finding { required: true, .. } => "missing",
        _ => "absent",
    };
    let mut text = format!("{state:<9}{:<NAME_WIDTH$}{}\n", finding.probe, printable(&finding.detail));
    if finding.ok || !finding.tried {
        return text;
    }
    let lines = finding.fix.iter().flat_map(|fix| fix.lines()).map(printable);
    for line in [format!("needed for {}", finding.needed_for).into()].into_iter().chain(lines) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:9}{line}", "");
    }
    text
}
