//! How far a snapshot has come: what is handed over, and what of that is acknowledged.
//!
//! Documents are numbered as events are (`ack.rs`). Beside the numbers stand *marks*: behind number
//! `n` this range has come so far. A mark counts as acknowledged when everything before its number is.

use std::collections::VecDeque;

use bson::{Bson, Document, doc};

/// A collection's database and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Namespace {
    pub(crate) database: String,
    pub(crate) collection: String,
}

impl Namespace {
    pub(crate) fn full(&self) -> String {
        format!("{}.{}", self.database, self.collection)
    }
}

/// Ids from `from` to below `to`; without them from the first, to the last.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Range {
    /// Its number within the collection.
    pub(crate) number: usize,
    pub(crate) from: Option<Bson>,
    /// The document at `from` is read already.
    pub(crate) is_begun: bool,
    pub(crate) to: Option<Bson>,
}

/// What is still to be read of a collection.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Current {
    pub(crate) namespace: Namespace,
    pub(crate) ranges: Vec<Range>,
}

/// What is still to be read: of this collection its ranges, and every collection behind it; without
/// one everything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Progress {
    pub(crate) current: Option<Current>,
}

/// A step of a snapshot.
#[derive(Debug)]
pub(crate) enum Mark {
    Begin,
    Collection(Current),
    /// Everything up to this id is read.
    Read {
        range: usize,
        last: Bson,
    },
    Done {
        range: usize,
    },
    End,
}

impl Mark {
    fn apply(self, progress: &mut Option<Progress>) {
        let ranges =
            progress.as_mut().and_then(|progress| progress.current.as_mut()).map(|c| &mut c.ranges);
        match self {
            Mark::Begin => *progress = Some(Progress::default()),
            Mark::Collection(current) => *progress = Some(Progress { current: Some(current) }),
            Mark::Read { range, last } => {
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

impl Progress {
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
            Ok(Range { number, from: bound("from")?, is_begun, to: bound("to")? })
        });
        let ranges = ranges.collect::<Result<_, String>>()?;
        Ok(Self { current: Some(Current { namespace, ranges }) })
    }
}

/// A worker's snapshot, as it is read and as it is acknowledged. `None` is none, or a finished one.
#[derive(Default)]
pub(crate) struct Tracker {
    read: Option<Progress>,
    acked: Option<Progress>,
    /// Each with the number of the first message behind it.
    marks: VecDeque<(u64, Mark)>,
}

impl Tracker {
    /// Goes on with a saved one.
    pub(crate) fn resume(&mut self, progress: Progress) {
        self.acked = Some(progress.clone());
        self.read = Some(progress);
    }

    /// A step behind everything that has a number below `number`.
    pub(crate) fn mark(&mut self, number: u64, mark: impl Fn() -> Mark) {
        mark().apply(&mut self.read);
        self.marks.push_back((number, mark()));
    }

    /// Whether anything is still to be read or acknowledged.
    pub(crate) fn is_underway(&self) -> bool {
        self.acked.is_some() || !self.marks.is_empty()
    }

    /// Where the reading goes on.
    pub(crate) fn read(&self) -> Option<&Progress> {
        self.read.as_ref()
    }

    /// Where a restart goes on, when everything below this number is acknowledged.
    pub(crate) fn acked(&mut self, number: u64) -> Option<&Progress> {
        while self.marks.front().is_some_and(|(behind, _)| *behind <= number)
            && let Some((_, mark)) = self.marks.pop_front()
        {
            mark.apply(&mut self.acked);
        }
        self.acked.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn current(ranges: usize) -> Current {
        let range = |number| Range { number, from: None, is_begun: false, to: None };
        let namespace = Namespace { database: "shop".into(), collection: "orders".into() };
        Current { namespace, ranges: (0..ranges).map(range).collect() }
    }

    fn read(range: usize, last: i32) -> impl Fn() -> Mark {
        move || Mark::Read { range, last: last.into() }
    }

    #[test]
    fn a_mark_counts_when_everything_before_it_is_acknowledged() {
        let mut tracker = Tracker::default();
        tracker.mark(0, || Mark::Begin);
        tracker.mark(0, || Mark::Collection(current(2)));
        tracker.mark(10, read(0, 10));
        tracker.mark(20, read(1, 120));
        tracker.mark(20, || Mark::Done { range: 1 });
        tracker.mark(20, || Mark::End);
        assert!(tracker.read().is_none());

        let from = |progress: Option<&Progress>| {
            let ranges = &progress.unwrap().current.as_ref().unwrap().ranges;
            ranges.iter().map(|range| range.from.clone()).collect::<Vec<_>>()
        };
        assert_eq!(from(tracker.acked(9)), [None, None]);
        assert_eq!(from(tracker.acked(10)), [Some(10.into()), None]);
        assert_eq!(from(tracker.acked(19)), [Some(10.into()), None]);
        assert!(tracker.acked(20).is_none());
    }

    #[test]
    fn progress_comes_back_from_the_checkpoint() {
        let mut progress = Progress { current: Some(current(3)) };
        let ranges = &mut progress.current.as_mut().unwrap().ranges;
        (ranges[0].from, ranges[0].is_begun) = (Some(Bson::Null), true);
        (ranges[1].to, ranges[2].from) = (Some("x".into()), Some("x".into()));
        for progress in [progress, Progress::default()] {
            assert_eq!(Progress::from_document(&progress.to_document()), Ok(progress));
        }
        for damaged in [doc! { "database": "shop" }, doc! { "ranges": [1] }] {
            assert!(Progress::from_document(&damaged).is_err());
        }
    }
}
