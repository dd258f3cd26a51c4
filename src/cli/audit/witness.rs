//! `omni audit witness`: signing the checkpoints of other machines' ledgers (c2sp.org/tlog-witness).

use crate::cli::listing;
use crate::ledger::{SUBMISSION_BYTES_MAX, VerifierKey, WitnessRefusal};
use crate::store::{Home, Witness, WitnessError};
use anyhow::Context;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Most connections at a time; more wait their turn.
const CONNECTIONS_MAX: usize = 64;
/// How long one connection may last.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);
/// Longest wait after a failed accept, as when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Sign the checkpoints of other machines' ledgers, each only if that ledger has merely grown since the last one
#[derive(clap::Args)]
#[command(
    after_help = "Example:\n  omni audit witness --log omni/…+…+… --listen 127.0.0.1:8123\n\nThe line it prints first is \
    what a policy needs to know of it (c2sp.org/tlog-policy)."
)]
pub(super) struct WitnessArgs {
    /// A key of a ledger to sign for, as `omni audit keys` prints it there
    #[arg(long, value_name = "KEY", required = true)]
    log: Vec<String>,
    /// Where to listen for plain HTTP; in front of other machines belongs a server that speaks TLS
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8123")]
    listen: SocketAddr,
    /// What the witness is called, the first time it is run; later it keeps its name
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Serves until it is ended.
///
/// # Errors
/// When it cannot begin.
pub(super) fn run(args: &WitnessArgs) -> anyhow::Result<ExitCode> {
    let logs = args.log.iter().map(|key| VerifierKey::parse(key)).collect::<Result<Vec<_>, _>>()?;
    let witness = Witness::open(&Home::from_env()?, args.name.as_deref(), logs)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener =
            TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen at {}", args.listen))?;
        let (key, address) = (witness.public(), listener.local_addr()?);
        listing::emit(&format!("witness {} {key} http://{address}\n", key.name()))?;
        serve(&listener, Arc::new(witness)).await;
        Ok(ExitCode::SUCCESS)
    })
}

async fn serve(listener: &TcpListener, witness: Arc<Witness>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let witness = Arc::clone(&witness);
        tokio::spawn(async move {
            // What goes wrong on it is for the ledger to notice.
            let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection(stream, witness)).await;
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, witness: Arc<Witness>) {
    let service = hyper::service::service_fn(move |request| {
        let witness = Arc::clone(&witness);
        async move { Ok::<_, Infallible>(answer(request, &witness).await) }
    });
    let _ = http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, witness: &Witness) -> Response<Full<Bytes>> {
    if request.uri().path() != "/add-checkpoint" {
        return response(StatusCode::NOT_FOUND, "a witness has add-checkpoint and nothing else\n");
    }
    if request.method() != Method::POST {
        return response(StatusCode::METHOD_NOT_ALLOWED, "checkpoints are posted\n");
    }
    let Ok(body) = Limited::new(request.into_body(), SUBMISSION_BYTES_MAX).collect().await else {
        return response(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large, or broke off\n");
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    // One at a time, since there is one thread: to judge and to keep is one step.
    match witness.add(&body.to_bytes(), now) {
        Ok(signature) => response(StatusCode::OK, signature.to_string()),
        Err(WitnessError::Malformed(fault)) => response(StatusCode::BAD_REQUEST, format!("{fault}\n")),
        Err(WitnessError::Refused(refusal)) => refused(refusal),
        Err(WitnessError::Store(error)) => {
            // The ledger is not told where things lie here.
            eprintln!("omni: {}", listing::printable_lines(&error.to_string()));
            response(StatusCode::INTERNAL_SERVER_ERROR, "the witness cannot keep what it would sign\n")
        }
    }
}

fn refused(refusal: WitnessRefusal) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST);
    let WitnessRefusal::Stale(size) = refusal else { return response(status, format!("{refusal}\n")) };
    let mut response = response(status, format!("{size}\n"));
    response.headers_mut().insert("content-type", http::HeaderValue::from_static("text/x.tlog.size"));
    response
}

fn response(status: StatusCode, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response
}
