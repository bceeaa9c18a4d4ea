//! Events that lie in one piece of memory, and runs of them: what moves through the buffer.
//!
//! Messages made from one server reply share its memory; nothing is parsed or copied until a consumer asks. A large
//! reply is copied in small groups instead, so that one message kept for long never keeps 16 MB alive (see
//! [`Events::SHARE_LIMIT`]).

use std::ops::Range;
use std::sync::Arc;

use bson::RawDocumentBuf;

use crate::checkpoint::acks::Places;
use crate::checkpoint::identity::Saved;
use crate::checkpoint::lease::Lease;
use crate::checkpoint::ledger::Ledger;
use crate::error::Result;
use crate::json;
use crate::json::Texts;
use crate::raw::document_key::document_key;
use crate::raw::event;
use crate::snapshot::progress::SnapshotPlace;
use crate::source::reply::Reply;
use crate::stats::Meter;

/// Change events that lie in one piece of memory, in the order of the stream.
pub(crate) struct Events {
    pub(crate) ledger: Arc<Ledger>,
    memory: EventMemory,
    spans: Vec<Range<u32>>,
    /// The sequence number of the first event, see [`AckSequence`].
    first: u64,
    /// `None` after a snapshot, and without one.
    snapshot: Option<Arc<SnapshotPlace>>,
}

enum EventMemory {
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
        let memory = EventMemory::Shared(Arc::new(reply));
        Arc::new(Events { ledger, memory, spans, first, snapshot: None })
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
                (EventMemory::Shared(Arc::clone(&reply)), rest.to_vec())
            } else {
                let limit = start as usize + Self::SHARE_LIMIT / 4;
                let count = rest.partition_point(|span| span.end as usize <= limit).max(1);
                let bytes = &reply.bytes()[start as usize..rest[count - 1].end as usize];
                let spans = rest[..count].iter().map(|s| s.start - start..s.end - start).collect();
                (EventMemory::Copied(bytes.to_vec()), spans)
            };
            let events = Events {
                ledger: Arc::clone(&ledger),
                memory,
                spans,
                first: first + at as u64,
                snapshot: None,
            };
            at += events.len();
            Some(Arc::new(events))
        })
    }

    /// An event that the library has made itself.
    pub(crate) fn own(
        ledger: &Arc<Ledger>,
        event: RawDocumentBuf,
        number: u64,
        snapshot: Option<Arc<SnapshotPlace>>,
    ) -> Arc<Events> {
        let bytes = event.into_bytes();
        let span = 0..bytes.len() as u32;
        Self::copied(ledger, bytes, vec![span], number, snapshot)
    }

    fn copied(
        ledger: &Arc<Ledger>,
        bytes: Vec<u8>,
        spans: Vec<Range<u32>>,
        first: u64,
        snapshot: Option<Arc<SnapshotPlace>>,
    ) -> Arc<Events> {
        let (ledger, memory) = (Arc::clone(ledger), EventMemory::Copied(bytes));
        Arc::new(Events { ledger, memory, spans, first, snapshot })
    }

    /// The documents of a reply, each as the event that `wrap` makes of it, in groups of about a
    /// quarter of what a reply may have to be shared, made one after the other.
    pub(crate) fn of_documents(
        ledger: &Arc<Ledger>,
        reply: Reply,
        mut first: u64,
        place: SnapshotPlace,
        wrap: impl Fn(&[u8], &mut Vec<u8>) -> Result<(), bson::error::Error>,
    ) -> impl Iterator<Item = Result<Arc<Events>, bson::error::Error>> {
        let (ledger, place) = (Arc::clone(ledger), Arc::new(place));
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
            Some(Ok(Self::copied(&ledger, bytes, spans, number, Some(Arc::clone(&place)))))
        })
    }

    /// Events that did not come with a reply.
    pub(crate) fn of_bytes(ledger: &Arc<Ledger>, first: u64, documents: &[Vec<u8>]) -> Arc<Events> {
        let mut spans = Vec::new();
        let mut at = 0;
        for document in documents {
            spans.push(at..at + document.len() as u32);
            at += document.len() as u32;
        }
        Self::copied(ledger, documents.concat(), spans, first, None)
    }

    #[cfg(test)]
    pub(crate) fn for_test(first: u64, documents: &[Vec<u8>]) -> Arc<Events> {
        let ledger = Arc::new(Ledger::new(
            "test",
            crate::options::Options::new().style(),
            crate::checkpoint::identity::StreamIdentity::default(),
        ));
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
            EventMemory::Shared(reply) => reply.bytes(),
            EventMemory::Copied(bytes) => bytes,
        };
        &bytes[span.start as usize..span.end as usize]
    }

    /// What is counted of the worker that read them.
    pub(crate) fn meter(&self) -> &Meter {
        &self.ledger.meter
    }

    /// The lease of the worker that has read them, if it has a standby.
    pub(crate) fn lease(&self) -> Option<&Lease> {
        self.ledger.lease.as_deref()
    }

    pub(crate) fn is_of_worker_of(&self, other: &Events) -> bool {
        Arc::ptr_eq(&self.ledger, &other.ledger)
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

    /// The place after one event, as text. `None` if it has none.
    pub(crate) fn position(&self, index: usize) -> Option<String> {
        let event = self.bson(index);
        let (token, key) = (event::resume_token(event), document_key(event));
        let place = Saved::after(self.snapshot.as_deref(), token, key)?;
        self.ledger.stream.write_position(&place).ok()
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
        let bytes = taken.bytes();
        (taken, bytes)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.range.clone().map(|index| self.events.size(index)).sum()
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

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;
    use crate::checkpoint::identity::StreamIdentity;
    use crate::options::Options;
    use crate::raw::token::Token;
    use crate::snapshot::progress::SnapshotProgress;

    fn ledger() -> Arc<Ledger> {
        Arc::new(Ledger::new("test", Options::new().style(), StreamIdentity::default()))
    }

    /// Events of these sizes, each with a token that has its index.
    fn documents(sizes: &[usize]) -> Vec<Vec<u8>> {
        let event = |(index, size): (usize, &usize)| {
            doc! { "_id": { "index": index as i32 }, "text": "x".repeat(*size) }.to_vec().unwrap()
        };
        sizes.iter().enumerate().map(event).collect()
    }

    const MIB: usize = 1 << 20;

    /// The pieces of a reply with these events: where each begins, and how many it has.
    fn pieces(ledger: &Arc<Ledger>, sizes: &[usize], first: u64) -> Vec<Arc<Events>> {
        let documents = documents(sizes);
        let pieces: Vec<_> = Events::of_reply(ledger, Reply::for_test(&documents), first).collect();
        let all = pieces.iter().flat_map(|piece| (0..piece.len()).map(|index| piece.bson(index)));
        assert!(all.eq(documents.iter().map(Vec::as_slice)), "every event, as it was");
        pieces
    }

    #[test]
    fn a_reply_is_shared_up_to_its_limit_and_copied_in_groups_above_it() {
        let counts = |sizes: &[usize]| {
            let pieces = pieces(&ledger(), sizes, 7);
            pieces.iter().map(|piece| (piece.first, piece.len())).collect::<Vec<_>>()
        };
        assert_eq!(counts(&[]), []);
        assert_eq!(counts(&[10, 10, 10]), [(7, 3)]);
        assert_eq!(counts(&[MIB, MIB, MIB]), [(7, 3)], "three of four");
        assert_eq!(counts(&[9 * MIB]), [(7, 1)], "one alone has its reply for itself");
        // A quarter of the limit each, or one event.
        assert_eq!(
            counts(&[MIB / 3, MIB / 3, MIB / 3, 2 * MIB, 10, 2 * MIB, MIB / 2]),
            [(7, 2), (9, 1), (10, 1), (11, 1), (12, 1), (13, 1)]
        );
        // To the byte: what a document costs besides its text.
        let beside = documents(&[0])[0].len();
        let exactly =
            |more: usize| counts(&[MIB - beside, MIB - beside, MIB - beside, MIB - beside + more]);
        assert_eq!(exactly(0), [(7, 4)]);
        assert_eq!(exactly(1), [(7, 1), (8, 1), (9, 1), (10, 1)]);
        let half = MIB / 2 - beside;
        assert_eq!(counts(&[half, half, half, 9 * MIB]), [(7, 2), (9, 1), (10, 1)]);
    }

    #[test]
    fn acks_of_a_large_reply_move_through_its_groups() {
        let ledger = ledger();
        let sizes = [MIB / 3, MIB / 3, MIB / 3, 2 * MIB, MIB, MIB / 2, MIB / 4];
        let first = ledger.acks().read(sizes.len());
        let pieces = pieces(&ledger, &sizes, first);
        let index_of =
            |token: Token| bson::RawDocument::from_bytes(&token).unwrap().get_i32("index").unwrap();
        // From behind, so that each but the last leaves a hole.
        for piece in pieces.iter().skip(1).rev() {
            piece.ack(0..piece.len());
            assert_eq!(ledger.acks().acked(), 0);
        }
        assert!(ledger.acks().position().is_none());
        pieces[0].ack(1..2);
        assert_eq!(ledger.acks().counts(), (7, 1));
        pieces[0].ack(0..1);
        assert_eq!(ledger.acks().acked(), 7);
        assert_eq!(ledger.acks().counts(), (7, 0));
        assert_eq!(ledger.acks().position().map(index_of), Some(6));
    }

    /// Of documents in the range with this number.
    fn place(range: usize) -> SnapshotPlace {
        let token = Token::from(doc! { "_data": "82" }.to_vec().unwrap());
        SnapshotPlace::of_documents(token, SnapshotProgress::default(), range)
    }

    #[test]
    fn a_position_is_a_token_or_what_is_left_of_a_snapshot() {
        let ledger = ledger();
        let position = |events: &Events, index: usize| {
            let text = events.position(index)?;
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            Some((value["token"].to_string(), value.get("snapshot").map(ToString::to_string)))
        };
        let [event, nothing, document] = [
            doc! { "_id": { "_data": "83" }, "operationType": "insert" },
            doc! { "operationType": "insert" },
            doc! { "operationType": "snapshot", "documentKey": { "_id": 7 }, "fullDocument": {} },
        ]
        .map(|event| event.to_vec().unwrap());
        let stream = Events::of_bytes(&ledger, 0, &[event.clone(), nothing]);
        assert_eq!(position(&stream, 0), Some((r#"{"_data":"83"}"#.to_owned(), None)));
        assert_eq!(position(&stream, 1), None);
        let found = Reply::for_test(&[document]);
        let as_it_is = |document: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(document);
            Ok(())
        };
        let mut read = Events::of_documents(&ledger, found, 0, place(0), as_it_is);
        let (token, left) = position(&read.next().unwrap().unwrap(), 0).unwrap();
        assert_eq!(token, r#"{"_data":"82"}"#, "the stream's place, not the document's");
        assert_eq!(left.as_deref(), Some("{}"));
        let gap = RawDocumentBuf::from_bytes(event).unwrap();
        let beginning =
            SnapshotPlace::beginning(Token::from(doc! { "_data": "84" }.to_vec().unwrap()));
        let gap = Events::own(&ledger, gap, 0, Some(Arc::new(beginning)));
        let all = Some((r#"{"_data":"84"}"#.to_owned(), Some("{}".to_owned())));
        assert_eq!(position(&gap, 0), all, "everything is left to read");
    }

    #[test]
    fn documents_are_wrapped_in_groups_with_numbers_of_their_own() {
        let ledger = ledger();
        let documents = documents(&[MIB / 2, MIB / 2, MIB, 10, 10, MIB / 2]);
        let wrap = |document: &[u8], out: &mut Vec<u8>| {
            out.extend_from_slice(document);
            Ok(())
        };
        let reply = Reply::for_test(&documents);
        let groups = Events::of_documents(&ledger, reply, 5, place(0), wrap)
            .collect::<Result<Vec<_>, _>>()
            .unwrap();
        let shown: Vec<_> = groups.iter().map(|group| (group.first, group.len())).collect();
        assert_eq!(shown, [(5, 2), (7, 1), (8, 3)]);
        let all = groups.iter().flat_map(|group| (0..group.len()).map(|index| group.bson(index)));
        assert!(all.eq(documents.iter().map(Vec::as_slice)));
        let damaged = |_: &[u8], _: &mut Vec<u8>| bson::RawDocument::from_bytes(&[0]).map(drop);
        let reply = Reply::for_test(&documents);
        assert!(
            Events::of_documents(&ledger, reply, 5, place(0), damaged).next().unwrap().is_err()
        );
    }

    #[test]
    fn a_piece_acks_its_own_events_and_has_their_places() {
        let ledger = ledger();
        let first = ledger.acks().read(5);
        let events = Events::of_bytes(&ledger, first, &documents(&[1; 5]));
        let mut rest = Piece { events: Arc::clone(&events), range: 0..5 };
        let size = events.size(0);
        let (front, bytes) = rest.split_front(2);
        assert_eq!((front.range, bytes, rest.range.clone()), (0..2, 2 * size, 2..5));
        let (back, bytes) = rest.split_front(9);
        assert_eq!((back.range.clone(), bytes, rest.range.len()), (2..5, 3 * size, 0));
        events.ack(back.range);
        assert_eq!(ledger.acks().counts(), (5, 2));
        events.ack(0..2);
        assert_eq!(ledger.acks().counts(), (5, 0));
        assert_eq!(ledger.acks().position().as_deref(), events.token(4));
        assert_eq!(events.place(4), events.token(4));
    }
}
