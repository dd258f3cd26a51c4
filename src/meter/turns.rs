//! A conversation over one WebSocket: many calls on one connection, each ended by a message that says so.

use super::{Endpoint, Meter, Reading};

/// Reads the messages of a connection as they pass, in constant memory.
///
/// Only the message that ends a response reports its usage, model and tier, so that responses which take turns on one
/// connection are each read in full, whichever ends first.
pub struct Turns {
    endpoint: Endpoint,
    call: Option<Box<Meter>>,
    blind: bool,
}

impl Turns {
    /// For a connection to this API.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, call: None, blind: false }
    }

    /// The API that it reads.
    #[must_use]
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Takes the next bytes of a message of the client.
    pub fn request(&mut self, text: &[u8]) {
        self.call().request(text);
    }

    /// Takes the next bytes of a message of the provider, split anywhere.
    pub fn response(&mut self, text: &[u8]) {
        let call = self.call();
        // As one event of a stream, whose data cannot have line ends within.
        for (index, line) in text.split(|byte| matches!(byte, b'\n' | b'\r')).enumerate() {
            if index > 0 {
                call.response(b" ");
            }
            call.response(line);
        }
    }

    /// A message of the provider begins.
    pub fn response_begins(&mut self) {
        self.call().response(b"data: ");
    }

    /// A message of the provider ended. The reading, if a call ended with it that was billed.
    pub fn response_ends(&mut self) -> Option<Reading> {
        let call = self.call();
        call.response(b"\n\n");
        if call.is_over() { self.call.take()?.finish(true) } else { None }
    }

    /// From here on nothing can be read.
    pub fn lose_sight(&mut self) {
        self.blind = true;
    }

    /// The connection ended: the reading of what was under way, or of what could not be read.
    pub fn finish(mut self) -> Option<Reading> {
        if self.blind {
            let mut call = *self.call.take().unwrap_or_else(|| Box::new(Meter::new(self.endpoint.clone())));
            call.response_head(200, "", Some("unreadable"));
            return call.finish(true);
        }
        self.call?.finish(false)
    }

    fn call(&mut self) -> &mut Meter {
        self.call.get_or_insert_with(|| {
            let mut call = Meter::new(self.endpoint.clone());
            call.response_head(200, "text/event-stream", None);
            Box::new(call)
        })
    }
}
