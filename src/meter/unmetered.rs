//! What vendors bill otherwise than call by call, or at prices that no table here has: where money is limited, nobody could say
//! what it comes to before it is done, so none of it can be held.

use super::Vendor;
use super::endpoint::vendor_of;
use crate::model::{Host, RequestLine};

/// What vendors' batches are called, at the ends of paths that begin one.
const BATCHES: [&str; 8] = [
    "/messages/batches",
    "/batches",
    "/batch/jobs",
    ":batchGenerateContent",
    ":asyncBatchEmbedContent",
    "/batchPredictionJobs",
    "/model-invocation-job",
    "/fine_tuning/jobs",
];
/// Calls that no price here is for, at the ends of paths.
const UNPRICED: [&str; 13] = [
    "/completions",
    "/complete",
    "/embeddings",
    ":embedContent",
    ":batchEmbedContents",
    ":predict",
    ":predictLongRunning",
    "/images/generations",
    "/images/edits",
    "/audio/speech",
    "/audio/transcriptions",
    "/videos",
    "/runs",
];

/// A request to a vendor of which nobody can say what it may come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmetered {
    /// Who bills it.
    pub vendor: Vendor,
    /// Why nobody can say, for a person.
    pub why: &'static str,
}

/// What a request to a vendor is of which nobody can say what it may come to. Whoever asks has seen that it is no model call that
/// is metered.
#[must_use]
pub fn unmetered(line: &RequestLine) -> Option<Unmetered> {
    let Host::Name(host) = &line.host else { return None };
    let vendor = vendor_of(host.as_str()).filter(|_| line.method == "POST")?;
    let path = line.path.trim_end_matches('/');
    let ends = |all: &[&str]| all.iter().any(|end| path.ends_with(end));
    let why = match () {
        () if ends(&BATCHES) => {
            "what a batch comes to is told only once it is done, which may be after this session: where a policy limits what \
             calls cost, make them one by one"
        }
        () if ends(&UNPRICED) => {
            "omni knows no price for such a call, so none goes where a policy limits what calls cost"
        }
        () => return None,
    };
    Some(Unmetered { vendor, why })
}

/// Why an answer that is to be made in the background is none that money can be held for.
pub const IN_BACKGROUND: &str = "an answer that is made in the background is billed when it is done, which may be after this session: \
                                 where a policy limits what calls cost, ask for it in the foreground";

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::meter::Endpoint;
    use crate::model::{Port, Scheme};

    fn line(method: &str, host: &str, path: &str) -> RequestLine {
        let host = Host::parse(host).unwrap();
        RequestLine { method: method.into(), scheme: Scheme::Https, host, port: Port(443), path: path.into() }
    }

    #[test]
    fn batches_and_what_has_no_price_are_known_and_nothing_else_is() {
        for (host, path) in [
            ("api.anthropic.com", "/v1/messages/batches"),
            ("api.openai.com", "/v1/batches/"),
            ("ours.openai.azure.com", "/openai/v1/batches"),
            ("generativelanguage.googleapis.com", "/v1beta/models/gemini-2.5-pro:batchGenerateContent"),
            ("us-central1-aiplatform.googleapis.com", "/v1/projects/p/locations/l/batchPredictionJobs"),
            ("bedrock.us-east-1.amazonaws.com", "/model-invocation-job"),
            ("bedrock.cn-north-1.amazonaws.com.cn", "/model-invocation-job"),
            ("api.mistral.ai", "/v1/batch/jobs"),
            ("api.openai.com", "/v1/embeddings"),
            ("api.openai.com", "/v1/threads/t/runs"),
        ] {
            let asked = line("POST", host, path);
            assert!(unmetered(&asked).is_some() && Endpoint::of(&asked).is_none(), "{host}{path}");
            assert_eq!(unmetered(&line("GET", host, path)), None, "{host}{path}");
        }
        for (host, path) in [
            ("api.anthropic.com", "/v1/messages/count_tokens"),
            ("api.anthropic.com", "/api/event_logging/batch"),
            ("api.openai.com", "/v1/responses/resp_1/cancel"),
            ("api.openai.com", "/v1/moderations"),
            ("s3.us-east-1.amazonaws.com", "/bucket/batches"),
            ("s3.cn-north-1.amazonaws.com.cn", "/bucket/batches"),
            ("bedrock.cn-north-1.amazonaws.com.cn.evil.example", "/model-invocation-job"),
            ("example.com", "/v1/embeddings"),
        ] {
            assert_eq!(unmetered(&line("POST", host, path)), None, "{host}{path}");
        }
    }
}
