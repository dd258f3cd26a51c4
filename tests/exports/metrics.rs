//! Numbers, as Prometheus' own programs read them.

use crate::world::{World, documented, python, run_python, skip};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};

/// Reads the numbers by Prometheus' client for Python, and prints how many there are.
const PARSE: &str = "
import sys
from prometheus_client.parser import text_string_to_metric_families
print(sum(len(family.samples) for family in text_string_to_metric_families(sys.stdin.read())))
";

/// Has `promtool` and Prometheus' client for Python read the text.
pub fn check(text: &str) {
    if let Some(python) = python() {
        let samples = text.lines().filter(|line| !line.starts_with('#')).count().to_string();
        assert_eq!(run_python(&python, PARSE, &[], text).trim(), samples);
    }
    let promtool = "/usr/bin/promtool";
    if !Path::new(promtool).exists() {
        skip("promtool is missing");
        return;
    }
    let mut command = Command::new(promtool);
    let mut child = command.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}\n{text}");
}

#[test]
fn numbers_are_served_to_this_machine_alone() {
    let world = World::new();
    world.record(1, &documented());
    let (_, err, code) = world.omni(&["audit", "metrics", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, 1);
    assert!(err.contains("this machine alone"), "{err}");
    let mut child =
        world.command(&["audit", "metrics", "--listen", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let get = |path: &str| {
        let mut stream = TcpStream::connect(&address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let (found, missing) = (get("/metrics"), get("/"));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(found.starts_with("HTTP/1.1 200 ") && found.contains("text/plain; version=0.0.4"), "{found}");
    assert!(missing.starts_with("HTTP/1.1 404 "), "{missing}");
    check(found.split_once("\r\n\r\n").unwrap().1);
}
