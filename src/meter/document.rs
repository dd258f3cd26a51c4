//! One JSON document of an answer, reduced to the few values that metering needs, and the bodies documents come in.

use super::scan::{EACH, Path, Progress, Scanner};
use super::skim::Skim;
use super::sse::{Cutter, Piece};
use super::{Dialect, amazon};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Longest text value that is taken: model names, states and kinds are far shorter.
const TEXT_BYTES_MAX: usize = 256;
/// Start of the one event that is not JSON: OpenAI's end of a chat stream.
const DONE: &[u8] = b"[DONE]";

/// What a wanted value says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Kind,
    /// What the vendor calls the answer.
    Id,
    Model,
    Usage,
    Tier,
    Status,
    StopReason,
    Error,
    OutputItem,
    /// A call of a function in the answer.
    Call,
    /// Why one of several answers ended, where nothing else is asked of that.
    Finish,
    /// Something that is charged for in a way that no table here expresses.
    Unpriced,
    /// Whether the answer is made after it was said that it will be.
    Background,
    /// An answer in a list of them ended.
    Listed,
}

/// The wanted values of one document.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    /// `type`, which names an event.
    pub(super) kind: Option<String>,
    /// What the vendor calls the answer.
    pub(super) id: Option<String>,
    pub(super) model: Option<String>,
    /// The usage object as written; none when it is null.
    pub(super) usage: Option<Vec<u8>>,
    pub(super) tier: Option<String>,
    pub(super) status: Option<String>,
    /// Whether the answer was made in the background, where it says so.
    pub(super) background: Option<bool>,
    pub(super) stop_reason: Option<String>,
    /// Whether the model asks for tools to be run.
    pub(super) asks_for_tools: bool,
    /// Whether there is an error that is not null.
    pub(super) error: bool,
    /// Web searches among the output items.
    pub(super) web_searches: u64,
    /// Whether an output item is charged for in a way that no table here expresses.
    pub(super) unpriced: bool,
    /// Whether a wanted value is not of the form it must have.
    pub(super) damaged: bool,
}

impl Document {
    /// Takes a value in.
    pub(super) fn take(&mut self, slot: Slot, raw: &[u8]) {
        let text = || match serde_json::from_slice::<Option<String>>(raw) {
            Ok(text) if text.as_ref().is_none_or(|text| text.len() <= TEXT_BYTES_MAX) => Ok(text),
            _ => Err(()),
        };
        let target = match slot {
            Slot::Usage => {
                self.usage = (raw != b"null").then(|| raw.to_vec());
                return;
            }
            Slot::Error => {
                self.error = raw != b"null";
                return;
            }
            Slot::Unpriced => {
                self.unpriced |= raw != b"null";
                return;
            }
            Slot::Background => {
                self.background = serde_json::from_slice(raw).unwrap_or_default();
                return;
            }
            Slot::Listed => return,
            Slot::OutputItem => return self.item(text().ok().flatten().as_deref().unwrap_or_default()),
            Slot::Call => {
                self.asks_for_tools |= raw != b"null";
                return;
            }
            Slot::Finish => {
                self.asks_for_tools |= text().ok().flatten().is_some_and(|reason| asks_for_tools(&reason));
                return;
            }
            Slot::Kind => &mut self.kind,
            Slot::Id => &mut self.id,
            Slot::Model => &mut self.model,
            Slot::Tier => &mut self.tier,
            Slot::Status => &mut self.status,
            Slot::StopReason => &mut self.stop_reason,
        };
        match text() {
            Ok(text) => {
                let stopped = matches!(slot, Slot::StopReason);
                self.asks_for_tools |= stopped && text.as_deref().is_some_and(asks_for_tools);
                *target = text;
            }
            Err(()) => self.damaged = true,
        }
    }

    /// Counts an output item: every web search call, as some are searches and the others do not say they are free.
    fn item(&mut self, kind: &str) {
        match kind {
            "web_search_call" => self.web_searches = self.web_searches.saturating_add(1),
            "file_search_call" | "code_interpreter_call" | "image_generation_call" => self.unpriced = true,
            "function_call"
            | "custom_tool_call"
            | "local_shell_call"
            | "shell_call"
            | "apply_patch_call"
            | "computer_call"
            | "mcp_approval_request" => self.asks_for_tools = true,
            _ => {}
        }
    }
}

/// Whether an answer that ended for this reason, in any vendor's words, waits for tools.
fn asks_for_tools(reason: &str) -> bool {
    matches!(reason, "tool_use" | "pause_turn" | "tool_calls" | "function_call")
}

const ANTHROPIC: &[(Path, Slot)] = &[
    (&["type"], Slot::Kind),
    (&["model"], Slot::Model),
    (&["message", "model"], Slot::Model),
    (&["usage"], Slot::Usage),
    (&["message", "usage"], Slot::Usage),
    (&["delta", "stop_reason"], Slot::StopReason),
    (&["stop_reason"], Slot::Finish),
];
const RESPONSES: &[(Path, Slot)] = &[
    (&["type"], Slot::Kind),
    (&["id"], Slot::Id),
    (&["response", "id"], Slot::Id),
    (&["model"], Slot::Model),
    (&["response", "model"], Slot::Model),
    (&["usage"], Slot::Usage),
    (&["response", "usage"], Slot::Usage),
    (&["service_tier"], Slot::Tier),
    (&["response", "service_tier"], Slot::Tier),
    (&["status"], Slot::Status),
    (&["background"], Slot::Background),
    (&["response", "background"], Slot::Background),
    (&["error"], Slot::Error),
    (&["item", "type"], Slot::OutputItem),
    (&["output", EACH, "type"], Slot::OutputItem),
    (&["response", "output", EACH, "type"], Slot::OutputItem),
];
const CHAT: &[(Path, Slot)] = &[
    (&["model"], Slot::Model),
    (&["usage"], Slot::Usage),
    (&["service_tier"], Slot::Tier),
    (&["error"], Slot::Error),
    (&["choices", EACH, "finish_reason"], Slot::Finish),
];

/// One answer, or the chunks of one in a list.
const GOOGLE: &[(Path, Slot)] = &[
    (&["modelVersion"], Slot::Model),
    (&["usageMetadata"], Slot::Usage),
    (&["error"], Slot::Error),
    (&["candidates", EACH, "finishReason"], Slot::StopReason),
    (&["candidates", EACH, "content", "parts", EACH, "functionCall", "name"], Slot::Call),
    (&["candidates", EACH, "groundingMetadata"], Slot::Unpriced),
    (&["promptFeedback", "blockReason"], Slot::StopReason),
    (&[EACH, "modelVersion"], Slot::Model),
    (&[EACH, "usageMetadata"], Slot::Usage),
    (&[EACH, "error"], Slot::Error),
    (&[EACH, "candidates", EACH, "finishReason"], Slot::StopReason),
    (&[EACH, "candidates", EACH, "content", "parts", EACH, "functionCall", "name"], Slot::Call),
    (&[EACH, "candidates", EACH, "groundingMetadata"], Slot::Unpriced),
    (&[EACH, "promptFeedback", "blockReason"], Slot::StopReason),
];

/// One answer, or an event of one; the second is what every model's stream ends with.
const BEDROCK: &[(Path, Slot)] = &[
    (&["usage"], Slot::Usage),
    (&["amazon-bedrock-invocationMetrics"], Slot::Usage),
    (&["serviceTier", "type"], Slot::Tier),
    (&["stopReason"], Slot::Finish),
    (&["stop_reason"], Slot::Finish),
    (&["delta", "stop_reason"], Slot::Finish),
];

/// What a body turned out to hold, piece by piece.
pub(super) enum Found {
    /// A document: the whole body, or one event.
    Document(Document),
    /// The stream said that it is over.
    Done,
    /// Something that is no document, or is over a limit.
    Damage,
    /// An error in the place of an event.
    Failure,
}

impl Found {
    /// Whether it is a document in which the model asks for tools to be run.
    pub(super) fn asks_for_tools(&self) -> bool {
        matches!(self, Self::Document(document) if document.asks_for_tools)
    }
}

/// A response's body, of either form.
pub(super) struct Body {
    form: Form,
    scanner: Scanner<Slot>,
    document: Document,
    /// How much of [`DONE`] the event's data has been so far; none once it is something else.
    done: Option<usize>,
    skim: Skim,
}

enum Form {
    /// Not known before the first byte: the content type did not say.
    Undecided,
    Json,
    Stream(Cutter),
    Amazon(amazon::Cutter),
}

impl Body {
    pub(super) fn new(dialect: Dialect, content_type: &str) -> Self {
        let wanted = match dialect {
            Dialect::AnthropicMessages => ANTHROPIC,
            Dialect::OpenAiResponses => RESPONSES,
            Dialect::OpenAiChat => CHAT,
            Dialect::GoogleGenerate => GOOGLE,
            Dialect::BedrockConverse => BEDROCK,
        };
        let content_type = content_type.to_ascii_lowercase();
        let form = match content_type.as_str() {
            kind if kind.contains("vnd.amazon.eventstream") => Form::Amazon(amazon::Cutter::default()),
            kind if kind.contains("event-stream") => Form::Stream(Cutter::new()),
            kind if kind.contains("json") => Form::Json,
            _ => Form::Undecided,
        };
        let (scanner, document, skim) = (Scanner::new(wanted), Document::default(), Skim::new(dialect));
        Self { form, scanner, document, done: Some(0), skim }
    }

    /// Whether the document that is being read asks for tools to be run.
    pub(super) fn asks_for_tools(&self) -> bool {
        self.document.asks_for_tools
    }

    /// What the vendor calls the answer in the document that is being read.
    pub(super) fn id(&self) -> Option<&str> {
        self.document.id.as_deref()
    }

    /// Whether the body is a stream of events.
    pub(super) fn is_stream(&self) -> bool {
        matches!(self.form, Form::Stream(_) | Form::Amazon(_))
    }

    /// Takes the next bytes and hands over what they complete.
    pub(super) fn feed(&mut self, bytes: &[u8], on: &mut impl FnMut(Found)) {
        if matches!(self.form, Form::Undecided) {
            let Some(first) = bytes.iter().find(|byte| !byte.is_ascii_whitespace()) else { return };
            self.form = if matches!(first, b'{' | b'[') { Form::Json } else { Form::Stream(Cutter::new()) };
        }
        let Self { form, scanner, document, done, skim } = self;
        let cutter = match form {
            Form::Stream(cutter) => cutter,
            Form::Amazon(cutter) => {
                return cutter.feed(bytes, &mut |piece| match event_of(&piece) {
                    Some(event) => {
                        scanner.feed(&event, &mut |slot, raw| document.take(slot, raw));
                        end_event(scanner, document, done, on);
                    }
                    None if piece == amazon::Piece::Failure => on(Found::Failure),
                    None => on(Found::Damage),
                });
            }
            Form::Json | Form::Undecided => {
                return scanner.feed(bytes, &mut |slot, raw| document.take(slot, raw));
            }
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            if cutter.is_at_line() {
                rest = skim.after_idle(rest);
            }
            rest = cutter.feed_event(rest, &mut |piece| match piece {
                Piece::Data(bytes) => skim.data(bytes, &mut |bytes| read(scanner, document, done, bytes)),
                Piece::DataEnd => skim.line_ends(&mut |bytes| read(scanner, document, done, bytes)),
                Piece::EventEnd => {
                    if skim.event_ends(&mut |bytes| read(scanner, document, done, bytes)) {
                        end_event(scanner, document, done, on);
                    }
                }
            });
        }
    }

    /// Hands over what the body's end completes. A body cut in the middle of a document completes nothing.
    pub(super) fn end(&mut self, complete: bool, on: &mut impl FnMut(Found)) {
        if matches!(&self.form, Form::Amazon(cutter) if !cutter.is_between()) && complete {
            on(Found::Damage);
        }
        let Self { scanner, document, done, skim, .. } = self;
        if !skim.event_ends(&mut |bytes| read(scanner, document, done, bytes)) {
            return;
        }
        let in_done = self.done.is_some_and(|matched| (1..DONE.len()).contains(&matched));
        let open = in_done || self.scanner.progress() == Progress::Open;
        if complete || !open {
            end_event(&mut self.scanner, &mut self.document, &mut self.done, on);
        } else if !self.is_stream() {
            // The usage of a document that was cut after it is still the vendor's.
            on(Found::Document(std::mem::take(&mut self.document)));
        }
    }
}

/// Takes the next bytes of an event's data.
fn read(scanner: &mut Scanner<Slot>, document: &mut Document, done: &mut Option<usize>, bytes: &[u8]) {
    *done = match bytes {
        b"\n" => *done,
        bytes => done.and_then(|at| {
            let expected = DONE.get(at..at + bytes.len());
            (expected == Some(bytes)).then_some(at + bytes.len())
        }),
    };
    scanner.feed(bytes, &mut |slot, raw| document.take(slot, raw));
}

/// The JSON of an event; a chunk of a model's own stream holds it in base64.
fn event_of(piece: &amazon::Piece<'_>) -> Option<Vec<u8>> {
    #[derive(serde::Deserialize)]
    struct Chunk {
        bytes: String,
    }
    match piece {
        amazon::Piece::Event("chunk", payload) => {
            let chunk: Chunk = serde_json::from_slice(payload).ok()?;
            STANDARD.decode(chunk.bytes).ok()
        }
        amazon::Piece::Event(_, payload) => Some(payload.to_vec()),
        amazon::Piece::Failure | amazon::Piece::Damage => None,
    }
}

fn end_event(
    scanner: &mut Scanner<Slot>,
    document: &mut Document,
    done: &mut Option<usize>,
    on: &mut impl FnMut(Found),
) {
    let document = std::mem::take(document);
    let is_done = *done == Some(DONE.len());
    match scanner.progress() {
        _ if is_done => on(Found::Done),
        Progress::Empty => {}
        Progress::Complete => on(Found::Document(document)),
        Progress::Open | Progress::Broken => on(Found::Damage),
    }
    scanner.reset();
    *done = Some(0);
}
