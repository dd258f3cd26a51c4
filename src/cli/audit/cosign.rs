//! Asking witnesses to sign the ledger's checkpoint (c2sp.org/tlog-witness), over HTTP.

use crate::ledger::{FormatError, NOTE_BYTES_MAX, Note, NoteSignature, Party, Signed, WitnessPolicy};
use crate::proxy::Roots;
use crate::store::{Checkpointed, Store, check_signature};
use anyhow::{Context, bail, ensure};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long a witness may take for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How often a witness is told another old size, since others may have it sign meanwhile.
const ATTEMPTS_MAX: u32 = 4;
/// What its answers call a size that it signed last.
const SIZE_TYPE: &str = "text/x.tlog.size";

/// Signs the ledger, has every witness sign that has an address, and keeps their signatures. Returns the checkpoint, and
/// what became of the witnesses that did not sign.
///
/// # Errors
/// When the ledger itself cannot be signed.
pub(super) fn gather(store: &mut dyn Store, policy: &WitnessPolicy) -> anyhow::Result<(Note, Vec<String>)> {
    let signed = store.checkpoint()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut note, mut failures) = (signed.note.clone(), Vec::new());
    for witness in &policy.witnesses {
        let Some(url) = &witness.url else { continue };
        if matches!(note.signed_by(&witness.key, check_signature), Signed::Yes(_)) {
            continue;
        }
        match runtime.block_on(ask(store, &signed, witness, url)) {
            Ok(lines) => note.signatures.extend(lines),
            Err(error) => failures.push(format!("the witness `{}` did not sign: {error:#}", witness.name)),
        }
    }
    store.keep_cosigned(&note)?;
    Ok((note, failures))
}

/// Asks one witness, as often as it signed another size last than it was told.
async fn ask(
    store: &dyn Store,
    signed: &Checkpointed,
    witness: &Party,
    url: &str,
) -> anyhow::Result<Vec<NoteSignature>> {
    let mut old = 0;
    for _ in 0..ATTEMPTS_MAX {
        let body = store.submission(old, signed)?.to_string();
        let (status, is_size, answer) = tokio::time::timeout(ANSWER_TIMEOUT, post(url, body))
            .await
            .with_context(|| format!("it gave no answer within {} seconds", ANSWER_TIMEOUT.as_secs()))??;
        match status {
            StatusCode::OK => return cosignatures(signed, witness, &answer),
            StatusCode::CONFLICT if is_size => {
                let size = answer.trim().parse().context("its answer is no size")?;
                let own = signed.checkpoint.size;
                ensure!(size <= own, "it signed {size} entries last and there are {own}: the ledger was cut short");
                ensure!(size != old, "it signed another ledger of {size} entries: this one was rewritten");
                old = size;
            }
            other => bail!("{other}: {}", answer.trim()),
        }
    }
    bail!("it signs other checkpoints of this ledger all the time")
}

/// The signatures in a witness's answer, which are its own or worth nothing.
fn cosignatures(signed: &Checkpointed, witness: &Party, answer: &str) -> anyhow::Result<Vec<NoteSignature>> {
    let lines: Result<Vec<_>, FormatError> = answer.lines().map(NoteSignature::parse).collect();
    let lines = lines?;
    let note = Note { text: signed.note.text.clone(), signatures: lines.clone() };
    match note.signed_by(&witness.key, check_signature) {
        Signed::Yes(_) => Ok(lines),
        Signed::No | Signed::Forged => bail!("its answer is not signed by the key that the policy has for it"),
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One request: the status, whether the answer is a size, and the answer.
async fn post(url: &str, body: String) -> anyhow::Result<(StatusCode, bool, String)> {
    let uri: Uri = format!("{}/add-checkpoint", url.trim_end_matches('/')).parse()?;
    let host = uri.host().context("its address has no host")?.trim_matches(['[', ']']);
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => bail!("its address is neither http nor https"),
    };
    let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
    let stream = TcpStream::connect((host, port)).await.context("it cannot be reached")?;
    let stream: Box<dyn Stream> = if is_tls {
        let mut config = Roots::from_system(None)?.client_config()?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Box::new(TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host.to_owned())?, stream).await?)
    } else {
        Box::new(stream)
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let authority = uri.authority().map_or(host, |authority| authority.as_str());
    let request = Request::post(uri.path()).header("host", authority).body(Full::new(Bytes::from(body)))?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let is_size = head.headers.get("content-type").is_some_and(|value| value.as_bytes() == SIZE_TYPE.as_bytes());
    let bytes = Limited::new(body, NOTE_BYTES_MAX).collect().await.map_err(|error| anyhow::anyhow!(error))?.to_bytes();
    Ok((head.status, is_size, String::from_utf8(bytes.into()).context("its answer is no text")?))
}
