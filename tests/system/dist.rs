//! What is installed with the server: the unit and the AppArmor profile are such as their programs understand.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn shipped(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("dist").join(name)).unwrap()
}

/// Runs a program of the system's, if it is there; the machine that must have everything must have it.
fn run(program: &str, arguments: &[&str], file: &Path) -> Option<Output> {
    let path = ["/usr/bin", "/usr/sbin", "/sbin"].map(|place| Path::new(place).join(program));
    let Some(path) = path.into_iter().find(|path| path.exists()) else {
        assert!(std::env::var_os("OMNI_REQUIRE_SANDBOX").is_none(), "{program} is not installed");
        println!("skipped: {program} is not installed");
        return None;
    };
    Some(Command::new(path).args(arguments).arg(file).output().unwrap())
}

/// Files beside each other; the path of the first.
fn written(files: &[(&str, &str)]) -> (tempfile::TempDir, PathBuf) {
    let place = tempfile::tempdir().unwrap();
    files.iter().for_each(|(name, text)| fs::write(place.path().join(name), text).unwrap());
    let path = place.path().join(files[0].0);
    (place, path)
}

fn complaints(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn systemd_understands_the_units() {
    // The binary of these tests stands for the one that is installed.
    let unit = |name| shipped(name).replace("/usr/local/bin/omni", env!("CARGO_BIN_EXE_omni"));
    let (server, sessions) = (unit("omni-server.service"), unit("omni-sessions.service"));
    // The server's unit wants the other one, so that both are read.
    let check = |server: &str, sessions: &str| {
        let (_place, path) = written(&[("omni-server.service", server), ("omni-sessions.service", sessions)]);
        run("systemd-analyze", &["verify", "--man=no"], &path)
    };
    let Some(output) = check(&server, &sessions) else { return };
    assert_eq!((output.status.success(), complaints(&output).as_str()), (true, ""), "{server}");
    let Some(output) = check(&server.replace("KillMode=process", "KillMode=sometimes"), &sessions) else { return };
    assert!(complaints(&output).contains("kill mode"), "the control: {output:?}");
    let Some(output) = check(&server, &sessions.replace("Type=notify", "Type=told")) else { return };
    assert!(complaints(&output).contains("service type"), "the control: {output:?}");
}

#[test]
fn apparmor_understands_the_profile_as_far_as_its_parser_knows() {
    let profile = shipped("apparmor/omni");
    assert!(profile.contains("  userns,\n"));
    let check = |text: &str| {
        let (_place, path) = written(&[("omni", text)]);
        run("apparmor_parser", &["--skip-kernel-load", "--skip-cache", "--quiet"], &path)
    };
    // Parsers before 4.0 know neither the rule nor the version of the rules that has it.
    let knows = Path::new("/etc/apparmor.d/abi/4.0").exists();
    let known = match knows {
        true => profile,
        false => profile.replace("abi <abi/4.0>,\n", "").replace("  userns,\n", ""),
    };
    let Some(output) = check(&known) else { return };
    assert!(output.status.success(), "{}", complaints(&output));
    let Some(output) = check(&known.replace("flags=(unconfined)", "flags=(unconfirmed)")) else { return };
    assert!(!output.status.success(), "the control");
}
