//! `omni sim`: a simulated model provider.

use crate::sim::{Options, Script, Sim};
use anyhow::Context;
use clap::Args as ClapArgs;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLE: &str = "Example, in two terminals:
  omni sim --listen 127.0.0.1:8443 --ca-out ca.pem --record requests.jsonl
  ANTHROPIC_API_KEY=sk-ant-throwaway omni exec --connect-to api.anthropic.com:443:127.0.0.1:8443 \\
      --upstream-ca ca.pem -- claude-code -p 'Write hello.txt'";

/// Simulate a model provider: Anthropic's and OpenAI's dialects over TLS, answering by a script.
///
/// The first line on stdout is `listening https://ADDRESS:PORT`. Without a script, the simulated model writes hello.txt
/// with the harness's own shell tool and then says that it is done. It takes any key; use throw-away ones.
#[derive(ClapArgs)]
#[command(after_help = EXAMPLE)]
pub struct Args {
    /// Where to listen: ADDRESS:PORT, or a PORT on 127.0.0.1; port 0 takes a free one. Another address than loopback
    /// lets the network in, and everybody's requests into the record
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0", value_parser = parse_listen)]
    listen: SocketAddr,
    /// A YAML file of turns to answer with
    #[arg(long, value_name = "FILE")]
    script: Option<PathBuf>,
    /// Write the certificate of the freshly made CA, which clients have to trust, to this file
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
    /// Add each request to this file, one JSON object a line, with all headers, keys included
    #[arg(long, value_name = "FILE")]
    record: Option<PathBuf>,
    /// Refuse WebSockets, so that clients fall back to plain requests
    #[arg(long)]
    no_websockets: bool,
    /// Print the first line as a JSON object
    #[arg(long)]
    json: bool,
}

/// Serves until the process is ended.
///
/// # Errors
/// A script that cannot be read, an address that cannot be listened on, a file that cannot be written.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Args { listen, script, ca_out, record, no_websockets, json } = args;
    let script = script.map(|path| {
        let label = path.display().to_string();
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read the script {label}"))?;
        anyhow::Ok(Script::parse(&label, &text)?)
    });
    let sim = Sim::bind(Options { listen, script: script.transpose()?, ca_out, record, websockets: !no_websockets })?;
    let address = sim.address();
    if !address.ip().is_loopback() {
        eprintln!("omni sim: listening on {address}: whoever reaches it can talk to it; use throw-away keys only");
    }
    let url = format!("https://{address}");
    let line = if json { serde_json::json!({ "listening": url }).to_string() } else { format!("listening {url}") };
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{line}").and_then(|()| stdout.flush()).context("cannot write the address to stdout")?;
    sim.run()?;
    Ok(ExitCode::SUCCESS)
}

fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    if let Some(Ok(port)) = text.strip_prefix("localhost:").map(str::parse::<u16>) {
        return Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(SocketAddr::from((address, 0)));
    }
    text.parse().map_err(|_| "write an address and a port, such as 127.0.0.1:8443".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_host_is_loopback() {
        for (text, address) in [
            ("8443", "127.0.0.1:8443"),
            ("localhost:1", "127.0.0.1:1"),
            ("0.0.0.0:5", "0.0.0.0:5"),
            ("127.0.0.1", "127.0.0.1:0"),
            ("[::1]:2", "[::1]:2"),
        ] {
            assert_eq!(parse_listen(text).map(|parsed| parsed.to_string()), Ok(address.to_owned()));
        }
        assert!(parse_listen(":80").is_err());
        assert!(parse_listen("example.com:80").is_err());
    }
}
