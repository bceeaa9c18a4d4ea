//! How far a snapshot has come: what is handed over, and what of that is acked.
//!
//! Documents are numbered as events are (`ack.rs`). Next to the numbers stand *marks*: when everything
//! below number `n` is acked, this range has come so far. There is one for each reply. Between two of them
//! the key of the last acked document says where a restart goes on. Marks are kept only if somebody saves
//! what they say.

use std::collections::VecDeque;

use bson::{Bson, Document, RawDocument, doc};

use crate::error::Result;
use crate::raw::id::is_same_id;
use crate::raw::namespace::Namespace;
use crate::raw::token::Token;

/// Ids from `from` to below `to`; without them from the first, to the last.
#[derive(Clone, Debug)]
pub(crate) struct IdRange {
    /// Its number within the collection.
    pub(crate) number: usize,
    pub(crate) from: Option<Bson>,
    /// The document at `from` is read already.
    pub(crate) is_begun: bool,
    pub(crate) to: Option<Bson>,
}

impl PartialEq for IdRange {
    fn eq(&self, other: &Self) -> bool {
        let is_same = |a: &Option<Bson>, b: &Option<Bson>| match (a, b) {
            (Some(a), Some(b)) => is_same_id(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        self.number == other.number
            && self.is_begun == other.is_begun
            && is_same(&self.from, &other.from)
            && is_same(&self.to, &other.to)
    }
}

/// What is still to be read of a collection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unread {
    pub(crate) namespace: Namespace,
    pub(crate) ranges: Vec<IdRange>,
}

/// What is still to be read: of this collection its ranges, and every collection after it; without
/// one everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SnapshotProgress {
    pub(crate) current: Option<Unread>,
}

/// Where in a snapshot some messages stand: what its stream continues after, and how far it was before them.
pub(crate) struct SnapshotPlace {
    pub(crate) token: Token,
    before: SnapshotProgress,
    /// The range to which they belong; `None` for a message before all documents.
    range: Option<usize>,
}

impl SnapshotPlace {
    /// Of a message before all documents.
    pub(crate) fn beginning(token: Token) -> Self {
        Self { token, before: SnapshotProgress::default(), range: None }
    }

    /// Of documents of one range.
    pub(crate) fn of_documents(token: Token, before: SnapshotProgress, range: usize) -> Self {
        Self { token, before, range: Some(range) }
    }

    /// What is left to read after the document with this key. `None` if it has no id: nobody could go on after it.
    pub(crate) fn after(&self, key: Option<&[u8]>) -> Option<SnapshotProgress> {
        let mut progress = Some(self.before.clone());
        if let Some(range) = self.range {
            Mark::Read { range, documents: 1, last: id_of(key?)? }.apply(&mut progress);
        }
        progress
    }
}

/// A step of a snapshot.
#[derive(Debug)]
pub(crate) enum Mark {
    Begin,
    Collection(Unread),
    /// So many documents more, up to this id, are read.
    Read {
        range: usize,
        documents: u64,
        last: Bson,
    },
    Done {
        range: usize,
    },
    End,
}

impl Mark {
    fn apply(self, progress: &mut Option<SnapshotProgress>) {
        let ranges =
            progress.as_mut().and_then(|progress| progress.current.as_mut()).map(|c| &mut c.ranges);
        match self {
            Mark::Begin => *progress = Some(SnapshotProgress::default()),
            Mark::Collection(current) => {
                *progress = Some(SnapshotProgress { current: Some(current) })
            }
            Mark::Read { range, last, documents: _ } => {
                let found = ranges.and_then(|all| all.iter_mut().find(|r| r.number == range));
                if let Some(range) = found {
                    (range.from, range.is_begun) = (Some(last), true);
                }
            }
            Mark::Done { range } => {
                if let Some(ranges) = ranges {
                    ranges.retain(|candidate| candidate.number != range);
                }
            }
            Mark::End => *progress = None,
        }
    }
}

impl SnapshotProgress {
    /// As the checkpoint has it.
    pub(crate) fn to_document(&self) -> Document {
        let Some(current) = &self.current else { return Document::new() };
        let bound = |id: &Option<Bson>| id.as_ref().map(|id| doc! { "_id": id });
        let ranges: Vec<_> = (current.ranges.iter())
            .map(|range| {
                doc! { "from": bound(&range.from), "begun": range.is_begun, "to": bound(&range.to) }
            })
            .collect();
        doc! {
            "database": &current.namespace.database,
            "collection": &current.namespace.collection,
            "ranges": ranges,
        }
    }

    pub(crate) fn from_document(document: &Document) -> Result<Self, String> {
        if document.is_empty() {
            return Ok(Self::default());
        }
        let text = |key: &str| {
            document.get_str(key).map(str::to_owned).map_err(|error| format!("{key}: {error}"))
        };
        let namespace = Namespace { database: text("database")?, collection: text("collection")? };
        let ranges = document.get_array("ranges").map_err(|error| format!("ranges: {error}"))?;
        let ranges = ranges.iter().enumerate().map(|(number, range)| {
            let range = range.as_document().ok_or("a range is no document")?;
            let bound = |key: &str| match range.get(key) {
                Some(Bson::Document(bound)) => Ok(bound.get("_id").cloned()),
                Some(Bson::Null) => Ok(None),
                _ => Err(format!("a range has no {key:?}")),
            };
            let is_begun = range.get_bool("begun").map_err(|error| format!("begun: {error}"))?;
            Ok(IdRange { number, from: bound("from")?, is_begun, to: bound("to")? })
        });
        let ranges = ranges.collect::<Result<_, String>>()?;
        Ok(Self { current: Some(Unread { namespace, ranges }) })
    }
}

/// A worker's snapshot, as it is read and as it is acked. `None` is none, or a finished one.
#[derive(Default)]
pub(crate) struct Tracker {
    read: Option<SnapshotProgress>,
    acked: Option<SnapshotProgress>,
    /// Each with the number of the first message after it.
    marks: VecDeque<(u64, Mark)>,
    is_saved: bool,
}

impl Tracker {
    /// What is acked will be asked for.
    pub(crate) fn is_saved(&mut self) {
        self.is_saved = true;
    }

    /// Goes on with a saved one.
    pub(crate) fn resume(&mut self, progress: SnapshotProgress) {
        self.acked = Some(progress.clone());
        self.read = Some(progress);
    }

    /// A step after everything that has a number below `number`.
    pub(crate) fn mark(&mut self, number: u64, mark: impl Fn() -> Mark) {
        mark().apply(&mut self.read);
        // Nobody would ever take it away again.
        if self.is_saved {
            self.marks.push_back((number, mark()));
        }
    }

    /// Whether anything is still to be read or acked.
    pub(crate) fn is_underway(&self) -> bool {
        self.acked.is_some() || !self.marks.is_empty()
    }

    /// Where the reading goes on.
    pub(crate) fn read(&self) -> Option<&SnapshotProgress> {
        self.read.as_ref()
    }

    /// Where a restart goes on when everything below this number is acked. `document` is the key of the
    /// last of these documents, and the number after it.
    pub(crate) fn acked(
        &mut self,
        number: u64,
        document: (u64, &[u8]),
    ) -> Option<&SnapshotProgress> {
        while self.marks.front().is_some_and(|(after, _)| *after <= number)
            && let Some((_, mark)) = self.marks.pop_front()
        {
            mark.apply(&mut self.acked);
        }
        // The reply in which the acks have come to a part.
        if let Some((after, Mark::Read { range, documents, .. })) = self.marks.front()
            && (after - documents + 1..*after).contains(&document.0)
            && let Some(last) = id_of(document.1)
        {
            Mark::Read { range: *range, documents: 0, last }.apply(&mut self.acked);
        }
        self.acked.as_ref()
    }
}

/// The `_id` in a document's key.
fn id_of(key: &[u8]) -> Option<Bson> {
    let id = RawDocument::from_bytes(key).ok()?.get("_id").ok()??;
    Bson::try_from(id).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current(ranges: usize) -> Unread {
        let range = |number| IdRange { number, from: None, is_begun: false, to: None };
        let namespace = Namespace { database: "shop".into(), collection: "orders".into() };
        Unread { namespace, ranges: (0..ranges).map(range).collect() }
    }

    fn read(range: usize, last: i32) -> impl Fn() -> Mark {
        move || Mark::Read { range, documents: 10, last: last.into() }
    }

    fn key(id: i32) -> Vec<u8> {
        doc! { "_id": id }.to_vec().unwrap()
    }

    #[test]
    fn without_a_checkpoint_no_mark_is_kept() {
        let mut tracker = Tracker::default();
        tracker.mark(0, || Mark::Begin);
        tracker.mark(0, || Mark::Collection(current(1)));
        for reply in 1..1000 {
            tracker.mark(reply * 10, read(0, reply as i32));
        }
        assert!(tracker.marks.is_empty());
        assert_eq!(
            tracker.read().unwrap().current.as_ref().unwrap().ranges[0].from,
            Some(999.into())
        );
    }

    #[test]
    fn a_mark_counts_when_everything_before_it_is_acked_and_a_part_by_its_key() {
        let mut tracker = Tracker::default();
        tracker.is_saved();
        tracker.mark(0, || Mark::Begin);
        tracker.mark(0, || Mark::Collection(current(2)));
        tracker.mark(10, read(0, 10));
        tracker.mark(20, read(1, 120));
        tracker.mark(20, || Mark::Done { range: 1 });
        tracker.mark(20, || Mark::End);
        assert!(tracker.read().is_none());

        let from = |progress: Option<&SnapshotProgress>| {
            let ranges = &progress.unwrap().current.as_ref().unwrap().ranges;
            ranges.iter().map(|range| range.from.clone()).collect::<Vec<_>>()
        };
        let none = (0, &[][..]);
        assert_eq!(from(tracker.acked(9, none)), [None, None]);
        assert_eq!(from(tracker.acked(9, (9, &key(8)))), [Some(8.into()), None]);
        // The key of the reply before says nothing of the next one, nor that of an event that has none.
        assert_eq!(from(tracker.acked(10, (9, &key(8)))), [Some(10.into()), None]);
        assert_eq!(from(tracker.acked(19, (10, &key(10)))), [Some(10.into()), None]);
        assert_eq!(from(tracker.acked(19, (18, &[]))), [Some(10.into()), None]);
        // A key is missing: the one before it is as good as it gets.
        assert_eq!(from(tracker.acked(19, (15, &key(115)))), [Some(10.into()), Some(115.into())]);
        assert!(tracker.acked(20, (15, &key(115))).is_none());
    }

    #[test]
    fn after_a_document_its_range_goes_on_and_the_others_stay() {
        let before = SnapshotProgress { current: Some(current(2)) };
        let token = || Token::from(&[5, 0, 0, 0, 0][..]);
        let place = SnapshotPlace::of_documents(token(), before.clone(), 1);
        let mut after = before;
        let range = &mut after.current.as_mut().unwrap().ranges[1];
        (range.from, range.is_begun) = (Some(7.into()), true);
        assert_eq!(place.after(Some(&key(7))), Some(after));
        assert_eq!(place.after(None), None);
        assert_eq!(place.after(Some(&doc! { "n": 7 }.to_vec().unwrap())), None);
        let beginning = SnapshotPlace::beginning(token());
        assert_eq!(beginning.after(None), Some(SnapshotProgress::default()));
    }

    #[test]
    fn progress_comes_back_from_the_checkpoint() {
        let mut progress = SnapshotProgress { current: Some(current(3)) };
        let ranges = &mut progress.current.as_mut().unwrap().ranges;
        (ranges[0].from, ranges[0].is_begun) = (Some(Bson::Null), true);
        (ranges[1].to, ranges[2].from) = (Some("x".into()), Some("x".into()));
        for progress in [progress, SnapshotProgress::default()] {
            assert_eq!(SnapshotProgress::from_document(&progress.to_document()), Ok(progress));
        }
        for damaged in [doc! { "database": "shop" }, doc! { "ranges": [1] }] {
            assert!(SnapshotProgress::from_document(&damaged).is_err());
        }
    }

    #[test]
    fn a_snapshot_is_under_way_until_its_end_is_acked() {
        let mut tracker = Tracker::default();
        tracker.is_saved();
        assert!(!tracker.is_underway());
        tracker.mark(3, || Mark::Begin);
        assert!(tracker.is_underway(), "its beginning is not acked");
        tracker.acked(3, (0, &[]));
        assert!(tracker.is_underway(), "nothing was read");
        tracker.mark(3, || Mark::End);
        assert!(tracker.is_underway(), "its end is not acked");
        tracker.acked(3, (0, &[]));
        assert!(!tracker.is_underway());
        tracker.resume(SnapshotProgress::default());
        assert!(tracker.is_underway());
    }

    #[test]
    fn ranges_are_the_same_if_all_of_them_is() {
        let range = || IdRange { number: 1, from: Some(1.into()), is_begun: true, to: None };
        assert_eq!(range(), range());
        let nan = || Some(Bson::Double(f64::NAN));
        assert_eq!(IdRange { to: nan(), ..range() }, IdRange { to: nan(), ..range() });
        for other in [
            IdRange { number: 2, ..range() },
            IdRange { from: None, ..range() },
            IdRange { from: Some(2.into()), ..range() },
            IdRange { is_begun: false, ..range() },
            IdRange { to: Some(1.into()), ..range() },
        ] {
            assert_ne!(range(), other);
            assert_ne!(other, range());
        }
    }
}
