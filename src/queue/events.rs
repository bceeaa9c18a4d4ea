//! Events that lie in one piece of memory, and runs of them: what moves through the buffer.
//!
//! Messages made from one server reply share its memory; nothing is parsed or copied until a consumer asks. A large
//! reply is copied in small groups instead, so that one message kept for long never keeps 16 MB alive (see
//! [`Events::SHARE_LIMIT`]).

use std::ops::Range;
use std::sync::Arc;

use bson::RawDocumentBuf;

use crate::bson::document_key::document_key;
use crate::bson::event;
use crate::checkpoint::acks::Places;
use crate::checkpoint::ledger::Ledger;
use crate::error::Result;
use crate::json;
use crate::json::Texts;
use crate::source::reply::Reply;
use crate::stats::Meter;

/// Change events that lie in one piece of memory, in the order of the stream.
pub(crate) struct Events {
    pub(crate) ledger: Arc<Ledger>,
    memory: Memory,
    spans: Vec<Range<u32>>,
    /// The sequence number of the first event, see [`AckSequence`].
    first: u64,
}

enum Memory {
    Shared(Arc<Reply>),
    Copied(Vec<u8>),
}

impl Events {
    /// Replies up to this many bytes are shared by their messages, larger ones are copied in
    /// groups of a quarter of it.
    const SHARE_LIMIT: usize = 4 << 20;

    /// The events of a reply, as one piece, however large it is.
    pub(crate) fn shared(ledger: &Arc<Ledger>, reply: Reply, first: u64) -> Arc<Events> {
        let (ledger, spans) = (Arc::clone(ledger), reply.spans().to_vec());
        Arc::new(Events { ledger, memory: Memory::Shared(Arc::new(reply)), spans, first })
    }

    /// The events of a reply, as one piece or as several, made one after the other.
    pub(crate) fn of_reply(
        ledger: &Arc<Ledger>,
        reply: Reply,
        first: u64,
    ) -> impl Iterator<Item = Arc<Events>> {
        // One event alone has its reply's memory for itself.
        let shared = reply.bytes().len() <= Self::SHARE_LIMIT || reply.spans().len() == 1;
        let reply = Arc::new(reply);
        let ledger = Arc::clone(ledger);
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = reply.spans().get(at..).filter(|rest| !rest.is_empty())?;
            let start = rest[0].start;
            let (memory, spans) = if shared {
                (Memory::Shared(Arc::clone(&reply)), rest.to_vec())
            } else {
                let limit = start as usize + Self::SHARE_LIMIT / 4;
                let count = rest.partition_point(|span| span.end as usize <= limit).max(1);
                let bytes = &reply.bytes()[start as usize..rest[count - 1].end as usize];
                let spans = rest[..count].iter().map(|s| s.start - start..s.end - start).collect();
                (Memory::Copied(bytes.to_vec()), spans)
            };
            let events =
                Events { ledger: Arc::clone(&ledger), memory, spans, first: first + at as u64 };
            at += events.len();
            Some(Arc::new(events))
        })
    }

    /// An event that the library has made itself.
    pub(crate) fn own(ledger: &Arc<Ledger>, event: RawDocumentBuf, number: u64) -> Arc<Events> {
        let bytes = event.into_bytes();
        let span = 0..bytes.len() as u32;
        Self::copied(ledger, bytes, vec![span], number)
    }

    fn copied(
        ledger: &Arc<Ledger>,
        bytes: Vec<u8>,
        spans: Vec<Range<u32>>,
        first: u64,
    ) -> Arc<Events> {
        let (ledger, memory) = (Arc::clone(ledger), Memory::Copied(bytes));
        Arc::new(Events { ledger, memory, spans, first })
    }

    /// The documents of a reply, each as the event that `wrap` makes of it, in groups of about a
    /// quarter of what a reply may have to be shared, made one after the other.
    pub(crate) fn of_documents(
        ledger: &Arc<Ledger>,
        reply: Reply,
        mut first: u64,
        wrap: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), bson::error::Error>,
    ) -> impl Iterator<Item = Result<Arc<Events>, bson::error::Error>> {
        let ledger = Arc::clone(ledger);
        let mut at = 0;
        std::iter::from_fn(move || {
            let rest = reply.spans().get(at..).filter(|rest| !rest.is_empty())?;
            let (mut bytes, mut spans) = (Vec::new(), Vec::new());
            for span in rest {
                let start = bytes.len() as u32;
                let document = &reply.bytes()[span.start as usize..span.end as usize];
                if let Err(error) = wrap(document, &mut bytes) {
                    return Some(Err(error));
                }
                spans.push(start..bytes.len() as u32);
                if bytes.len() >= Self::SHARE_LIMIT / 4 {
                    break;
                }
            }
            let (number, count) = (first, spans.len());
            first += count as u64;
            at += count;
            Some(Ok(Self::copied(&ledger, bytes, spans, number)))
        })
    }

    /// Events that did not come with a reply.
    #[cfg(any(test, feature = "bench"))]
    pub(crate) fn of_bytes(ledger: &Arc<Ledger>, first: u64, documents: &[Vec<u8>]) -> Arc<Events> {
        let mut spans = Vec::new();
        let mut at = 0;
        for document in documents {
            spans.push(at..at + document.len() as u32);
            at += document.len() as u32;
        }
        Self::copied(ledger, documents.concat(), spans, first)
    }

    #[cfg(test)]
    pub(crate) fn for_test(first: u64, documents: &[Vec<u8>]) -> Arc<Events> {
        let ledger = Arc::new(Ledger::new("test", crate::options::Options::new().style()));
        Self::of_bytes(&ledger, first, documents)
    }

    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(crate) fn size(&self, index: usize) -> usize {
        self.spans[index].len()
    }

    pub(crate) fn bson(&self, index: usize) -> &[u8] {
        let span = &self.spans[index];
        let bytes = match &self.memory {
            Memory::Shared(reply) => reply.bytes(),
            Memory::Copied(bytes) => bytes,
        };
        &bytes[span.start as usize..span.end as usize]
    }

    /// What is counted of the worker that read them.
    pub(crate) fn meter(&self) -> &Meter {
        &self.ledger.meter
    }

    /// The resume token of one event.
    pub(crate) fn token(&self, index: usize) -> Option<&[u8]> {
        event::resume_token(self.bson(index))
    }

    /// What an ack of one event moves a restart to: after its resume token, or after the document of a
    /// snapshot with its key.
    pub(crate) fn place(&self, index: usize) -> Option<&[u8]> {
        let event = self.bson(index);
        event::resume_token(event).or_else(|| document_key(event))
    }

    pub(crate) fn write_json(&self, index: usize, out: &mut String) {
        json::write_styled(out, self.bson(index), self.ledger.style);
    }

    /// The JSON of some neighbours.
    pub(crate) fn json(&self, range: Range<usize>) -> Texts {
        json::texts(range.map(|index| self.bson(index)), self.ledger.style)
    }

    pub(crate) fn ack(&self, range: Range<usize>) {
        // In a forked child the lock may be held for ever, and the stream is the parent's.
        if self.ledger.origin.check().is_err() {
            return;
        }
        self.ledger.acks().ack(self.first + range.start as u64, range.len(), self, range.start);
    }
}

/// Neighbouring events: what moves through the buffer.
#[derive(Clone)]
pub(crate) struct Piece {
    pub(crate) events: Arc<Events>,
    pub(crate) range: Range<usize>,
}

impl Piece {
    /// Takes up to `max` events off the front, with their bytes.
    pub(crate) fn split_front(&mut self, max: usize) -> (Piece, usize) {
        let end = self.range.end.min(self.range.start.saturating_add(max));
        let taken = Piece { events: Arc::clone(&self.events), range: self.range.start..end };
        self.range.start = end;
        let bytes = taken.range.clone().map(|index| taken.events.size(index)).sum();
        (taken, bytes)
    }
}

impl Places for Events {
    fn len(&self) -> usize {
        self.spans.len()
    }

    fn place(&self, index: usize) -> Option<&[u8]> {
        Events::place(self, index)
    }
}
