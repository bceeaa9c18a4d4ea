//! The JSON of neighbouring messages, written together.
//!
//! Most consumers of a batch ask for the JSON of one message after the other. Each text by itself costs an
//! allocation and a new writer; a few at a time share them. Nothing is written ahead before a consumer has
//! begun to ask like that, and a message that is kept for long keeps few other texts.

use std::iter;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::json::Texts;
use crate::queue::events::Piece;

/// A few neighbouring messages of a batch.
pub(crate) struct Group {
    pub(crate) piece: Piece,
    /// So many of the first were asked for their JSON, one after the other.
    asked: AtomicUsize,
    ahead: OnceLock<Ahead>,
}

/// The texts of all messages from that one on.
struct Ahead {
    first: usize,
    texts: Texts,
}

impl Group {
    /// How many messages there are at most.
    const MESSAGES: usize = 16;
    /// How large their events are together, one event apart.
    const BYTES: usize = 16 << 10;

    /// All groups of a piece, in order.
    pub(crate) fn split(piece: Piece) -> impl Iterator<Item = Group> {
        let Piece { events, range } = piece;
        let mut start = range.start;
        iter::from_fn(move || {
            let mut bytes = 0;
            let fits = |index: &usize| {
                bytes += events.size(*index);
                bytes <= Self::BYTES || *index == start
            };
            let count = (start..range.end).take(Self::MESSAGES).take_while(fits).count();
            let range = start..start + count;
            start = range.end;
            (count > 0).then(|| Group::new(Piece { events: Arc::clone(&events), range }))
        })
    }

    fn new(piece: Piece) -> Self {
        Self { piece, asked: AtomicUsize::new(0), ahead: OnceLock::new() }
    }

    /// The JSON of a message, with a NUL, if it was, or is to be, written together with others'.
    pub(crate) fn json(&self, at: usize) -> Option<&[u8]> {
        let ahead = match self.ahead.get() {
            Some(ahead) => ahead,
            // Of several threads that ask, which is first does not matter much.
            None if self.asked.load(Relaxed) != at => return None,
            None => {
                self.asked.store(at + 1, Relaxed);
                // Whether the next one is asked for is not known yet.
                if at == 0 {
                    return None;
                }
                let Piece { events, range } = &self.piece;
                let rest = range.start + at..range.end;
                self.ahead.get_or_init(|| Ahead { first: at, texts: events.json(rest) })
            }
        };
        ahead.texts.get(at.checked_sub(ahead.first)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{ExtendedJson, Format, write_message};
    use crate::queue::events::Events;
    use crate::queue::message::Batch;
    use bson::doc;

    fn event(id: i32, size: usize) -> Vec<u8> {
        let event = doc! {
            "_id": { "_data": "82" },
            "operationType": "insert",
            "fullDocument": { "_id": id, "text": "x".repeat(size) },
            "ns": { "db": "shop", "coll": "orders" },
            "documentKey": { "_id": id },
        };
        event.to_vec().expect("BSON")
    }

    fn piece(documents: &[Vec<u8>]) -> Piece {
        Piece { events: Events::for_test(0, documents), range: 0..documents.len() }
    }

    fn groups(sizes: &[usize]) -> Vec<Group> {
        let events: Vec<_> = sizes.iter().map(|size| event(0, *size)).collect();
        Group::split(piece(&events)).collect()
    }

    #[test]
    fn a_message_has_the_same_text_whoever_was_asked_before_it() {
        let events: Vec<_> = (0..40).map(|id| event(id, 10 * id as usize)).collect();
        let expected: Vec<String> = events
            .iter()
            .map(|event| {
                let mut text = String::new();
                write_message(&mut text, event, Format::Oplog, ExtendedJson::Relaxed);
                text
            })
            .collect();
        let count = events.len();
        // With a common divisor some are left out.
        for step in 1..count {
            for first in (0..count).step_by(3) {
                let batch = Batch::new(vec![piece(&events)]);
                for at in (0..count).map(|n| (first + n * step) % count) {
                    assert_eq!(batch.messages()[at].json(), expected[at], "{at}: {first}, {step}");
                }
            }
        }
    }

    #[test]
    fn a_text_stays_where_it_is_when_the_others_are_written() {
        let events: Vec<_> = (0..16).map(|id| event(id, 10)).collect();
        let batch = Batch::new(vec![piece(&events)]);
        let messages = batch.messages();
        let places = || [0, 5, 9].map(|at| messages[at].json().as_ptr());
        let before = places();
        messages.iter().for_each(|message| _ = message.json());
        assert_eq!(places(), before);
    }

    #[test]
    fn texts_are_written_ahead_for_those_who_ask_one_after_the_other() {
        for (asked, ahead) in [
            (vec![0], false),
            (vec![0, 0], false),
            (vec![1, 2, 3], false),
            (vec![0, 2, 4], false),
            (vec![3, 0, 1], true),
            (vec![0, 1], true),
        ] {
            let group = groups(&[10; 16]).remove(0);
            for at in &asked {
                group.json(*at);
            }
            assert_eq!(group.ahead.get().is_some(), ahead, "{asked:?}");
        }
    }

    #[test]
    fn the_texts_of_few_messages_are_kept_together() {
        let lengths = |sizes: &[usize]| -> Vec<usize> {
            groups(sizes).iter().map(|group| group.piece.range.len()).collect()
        };
        assert_eq!(lengths(&[10; 40]), [16, 16, 8]);
        assert_eq!(lengths(&[5000; 7]), [3, 3, 1]);
        assert_eq!(lengths(&[10, 10, 100_000, 100_000, 10]), [2, 1, 1, 1]);
        assert_eq!(lengths(&[100_000]), [1]);
    }

    #[test]
    fn only_what_a_batch_holds_is_in_its_groups() {
        let events: Vec<_> = (0..40).map(|id| event(id, 10)).collect();
        let mut rest = piece(&events);
        rest.split_front(3);
        let taken = rest.split_front(20).0;
        let batch = Batch::new(vec![taken]);
        let ids = |message: &crate::Message| {
            bson::RawDocument::from_bytes(message.bson())
                .ok()?
                .get_document("documentKey")
                .ok()?
                .get_i32("_id")
                .ok()
        };
        assert!(batch.messages().iter().map(ids).eq((3..23).map(Some)));
    }
}
