//! Root's policies and limits stand above what a user asks for.

use crate::machine::{Files, finish, on_a_machine};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::mpsc::{Receiver, channel};

const NO_EXAMPLE: &str = "name: no-example\ntype: egress\nrules:\n  - deny: '* denied.example/**'\n";
/// Asks for a page of two hosts and says what came.
const ASK: &str = "for host in denied open; do curl -sk -o page -w '%{http_code} ' https://$host.example/; done";

#[test]
fn what_the_machine_denies_no_user_allows() {
    on_a_machine(Files { policy: NO_EXAMPLE, ..Files::default() }, |machine| {
        // Nobody listens there, so that what is let out fails as an upstream (502), and what is not is forbidden (403).
        let flags = ["--allow", "* denied.example/**", "--allow", "* open.example/**", "--connect-to", "::127.0.0.1:1"];
        let outcome = machine.shell(&machine.ada, &flags, ASK);
        assert_eq!(outcome.stdout, "403 502 ", "{outcome:?}");
        let show = machine.list(&machine.ada, &["show", "last"]);
        let request = &show[0]["requests"][0];
        assert_eq!(request["verdict"], "denied");
        assert!(request["reason"].as_str().unwrap().contains("machine.yaml"), "{request}");
    });
}

#[test]
fn a_policy_that_cannot_be_read_lets_nobody_in() {
    on_a_machine(Files::default(), |machine| {
        assert_eq!(machine.shell(&machine.ada, &[], "true").code(), Some(0));
        let policies = machine.path("etc/policies");
        for (name, text) in [("typo.yaml", "name: x\ntype: egres\n"), ("notes.txt", "no policy")] {
            std::fs::write(policies.join(name), text).unwrap();
            let outcome = machine.shell(&machine.ada, &[], "echo out");
            assert_eq!((outcome.code(), outcome.stdout.as_str()), (Some(125), ""), "{name}: {outcome:?}");
            assert!(outcome.stderr.contains(name), "{name}: {outcome:?}");
            std::fs::remove_file(policies.join(name)).unwrap();
        }
        assert_eq!(machine.shell(&machine.ada, &[], "true").code(), Some(0));
    });
}

#[test]
fn nobody_has_more_time_or_files_than_the_machine_gives() {
    on_a_machine(Files { system: "limits: { duration: 2s, files: 64 }\n", ..Files::default() }, |machine| {
        let outcome = machine.shell(&machine.ada, &["--timeout", "1h"], "ulimit -n; sleep 1000");
        assert_eq!((outcome.stdout.as_str(), outcome.code()), ("64\n", Some(121)), "{outcome:?}");
    });
}

/// A company's proxy that refuses everybody, and tells what it was asked.
fn refusing_proxy() -> (u16, Receiver<String>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, asked) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut line = String::new();
            let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
            // Told before it is answered, since whoever asked goes on then.
            let _ = tell.send(line.trim_end().to_owned());
            let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
        }
    });
    (port, asked)
}

#[test]
fn the_machines_proxy_is_the_way_out_whatever_a_user_names() {
    let ((port, asked), (own_port, asked_of_own)) = (refusing_proxy(), refusing_proxy());
    let system = format!("upstream_proxy: http://127.0.0.1:{port}\n");
    on_a_machine(Files { system: &system, ..Files::default() }, |machine| {
        let ask = "curl -sk -o page -w '%{http_code}' https://open.example/";
        let mut command = machine.exec(&machine.ada, &["--allow", "* open.example/**"], &["sh", "-c", ask]);
        command.env("HTTPS_PROXY", format!("http://127.0.0.1:{own_port}"));
        let outcome = finish(command, b"");
        assert_eq!(outcome.stdout, "502", "{outcome:?}");
        assert_eq!(asked.try_iter().collect::<Vec<_>>(), ["CONNECT open.example:443 HTTP/1.1"]);
        assert_eq!(asked_of_own.try_iter().count(), 0);
    });
}
