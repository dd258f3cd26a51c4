//! `omni audit metrics`: numbers for Prometheus, once or for whoever asks.

use crate::cli::listing::{self, Viewer};
use crate::export::{METRICS_CONTENT_TYPE, metrics_text};
use crate::shipping::numbers;
use anyhow::{Context, ensure};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// How long a request may take to come, and its answer to go.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Print what the records come to as numbers, in Prometheus' text format
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  omni audit metrics > /var/lib/prometheus/node-exporter/omni.prom\n  omni audit metrics \
    --listen 127.0.0.1:9464"
)]
pub(super) struct MetricsArgs {
    /// Serve them at /metrics of this address of this machine, reckoned anew for each who asks
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
}

/// Does what was asked.
///
/// # Errors
/// When the records cannot be read, or nothing can listen there.
pub(super) fn run(args: &MetricsArgs, viewer: &Viewer) -> anyhow::Result<ExitCode> {
    let Some(address) = args.listen else {
        listing::emit(&text(viewer)?)?;
        return Ok(ExitCode::SUCCESS);
    };
    viewer.reads_files()?;
    ensure!(
        address.ip().is_loopback(),
        "numbers are served to this machine alone: listen at a loopback address, and put a server with TLS in front of it"
    );
    let listener = TcpListener::bind(address).with_context(|| format!("cannot listen at {address}"))?;
    eprintln!("omni: serving at http://{}/metrics", listener.local_addr()?);
    loop {
        // One after another: whoever asks waits a moment, and nobody can have all of this machine's processors.
        let (stream, _) = listener.accept()?;
        // Whoever asked is gone, or too slow.
        let _ = answer(stream, viewer);
    }
}

fn text(viewer: &Viewer) -> anyhow::Result<String> {
    let store = viewer.open()?;
    Ok(metrics_text(&numbers(viewer.home(), store.as_ref())?))
}

fn answer(mut stream: TcpStream, viewer: &Viewer) -> io::Result<()> {
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let (status, body) = match asks_for(&mut stream)?.as_str() {
        "GET /metrics" => match text(viewer) {
            Ok(text) => ("200 OK", text),
            Err(error) => ("500 Internal Server Error", format!("{error:#}\n")),
        },
        _ => ("404 Not Found", "the numbers are at /metrics\n".to_owned()),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: {METRICS_CONTENT_TYPE}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}

/// Method and path of the request, without a query.
fn asks_for(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    let since = Instant::now();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut piece)?;
        if count == 0 || head.len() + count > HEAD_BYTES_MAX || since.elapsed() > TIMEOUT {
            return Ok(String::new());
        }
        head.extend_from_slice(&piece[..count]);
    }
    let line = String::from_utf8_lossy(head.split(|byte| *byte == b'\r').next().unwrap_or_default()).into_owned();
    let mut words = line.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    Ok(format!("{method} {}", target.split('?').next().unwrap_or_default()))
}
