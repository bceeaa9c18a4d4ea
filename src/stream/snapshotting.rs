//! A snapshot: its beginning, the check of one that an earlier run has begun, and handing over what exists.

use std::sync::Arc;
use std::time::Duration;

use bson::Timestamp;

use crate::log::{self, LogLevel};
use crate::queue::events::Events;
use crate::raw::token::Token;
use crate::snapshot::progress::{Mark, SnapshotPlace};
use crate::snapshot::reader::{Reading, SnapshotItem};
use crate::source::cursor::{Cursor, Next};
use crate::source::position::Position;
use crate::source::reply::Reply;
use crate::stream::course::Course;
use crate::stream::step::Happened;
use crate::stream::{Stream, notices};

impl Stream {
    /// Takes the point from which the stream goes on after a snapshot.
    pub(super) fn begin_snapshot(&self, course: &mut Course) -> Happened {
        let ledger = Arc::clone(&self.ledger);
        let lost = course.accepted().lost;
        let has_notice = lost.is_some();
        let mut scope = self.scope.clone();
        // What comes after the opening reply comes again after the snapshot.
        scope.limit = Some(0);
        let cursor =
            Cursor::open(&self.deployment, scope, Position::Start(None), move |reply: &Reply| {
                ledger.meter.received(reply);
                let mut acks = ledger.acks();
                let notice = acks.read(usize::from(has_notice));
                let number = notice + u64::from(has_notice);
                // Before the token has its place: it must not be saved without the snapshot.
                ledger.snapshot().mark(number, || Mark::Begin);
                acks.takes(None, 0, 0, reply.token().cloned());
                Some(number)
            });
        self.ledger.meter.attempted();
        self.await_opening(|limit| cursor.has_next_within(&self.control.stop, limit));
        let (reply, first) = match cursor.next(&self.control.stop) {
            Next::Reply(reply, first) => (reply, first),
            other => return self.what_happened(other, &cursor),
        };
        let Some(token) = reply.token().cloned() else {
            return Happened::Broken(self.bug("a server without resume tokens"));
        };
        if let Err(happened) = self.is_open(course) {
            return happened;
        }
        if let Some(lost) = lost
            && let Err(happened) = {
                let place = SnapshotPlace::beginning(Token::clone(&token));
                self.tell_of_loss(lost, &reply, first - 1, Some(place))
            }
        {
            return happened;
        }
        let namespace = self.scope.namespace();
        log::line!(LogLevel::Info, self.name(), "reading what exists in {namespace}");
        Happened::SnapshotBegun(token)
    }

    /// Makes sure that the stream can go on after a snapshot that an earlier run has begun, before the
    /// rest of it is read.
    pub(super) fn check_place(&self, from: Position) -> Happened {
        let mut scope = self.scope.clone();
        (scope.batch_size, scope.await_time) = (1, Duration::from_millis(1));
        scope.opens_with_event = false;
        let cursor = Cursor::open(&self.deployment, scope, from, |_: &Reply| Some(0));
        // Servers look only after the opening reply.
        for _ in 0..2 {
            match cursor.next(&self.control.stop) {
                Next::Reply(..) => {}
                other => return self.what_happened(other, &cursor),
            }
        }
        Happened::PlaceIsThere
    }

    /// Hands over what exists.
    pub(super) fn read_snapshot(
        &self,
        at: Option<Timestamp>,
        is_rest: bool,
        course: &mut Course,
    ) -> Happened {
        let ledger = &self.ledger;
        if is_rest {
            let namespace = self.scope.namespace();
            log::line!(LogLevel::Info, self.name(), "reading what is left to read in {namespace}");
            if !course.is_saved() {
                match self.save_first(course) {
                    Ok(true) => {}
                    Ok(false) => return Happened::Stopped,
                    Err(happened) => return happened,
                }
            }
            self.is_streaming();
            self.control.ready.open();
        }
        let Some(token) = course.position().token() else {
            return Happened::Broken(self.bug("a snapshot without a place to go on after it"));
        };
        let progress = ledger.snapshot().read().cloned().unwrap_or_default();
        let mut namespace = progress.current.as_ref().map(|current| current.namespace.clone());
        let reading = Reading::start(&self.deployment, self.scope.clone(), progress, at);
        let mark = |mark: &dyn Fn() -> Mark| {
            let number = ledger.acks().read(0);
            ledger.snapshot().mark(number, mark);
        };
        loop {
            match reading.next(&self.control.stop) {
                SnapshotItem::Estimate(documents) => ledger.meter.snapshot_begins(documents),
                SnapshotItem::Collection(current) => {
                    mark(&|| Mark::Collection(current.clone()));
                    namespace = Some(current.namespace);
                }
                SnapshotItem::Documents { range, reply } => {
                    let Some(namespace) = &namespace else {
                        return Happened::Broken(self.bug("documents of no collection"));
                    };
                    let (count, last) = (reply.spans().len(), reply.last_id());
                    let before = ledger.snapshot().read().cloned().unwrap_or_default();
                    let place = SnapshotPlace::of_documents(Token::clone(&token), before, range);
                    let number = {
                        let mut acks = ledger.acks();
                        let number = acks.read(count);
                        let after = number + count as u64;
                        if let Some(last) = last {
                            let mut snapshot = ledger.snapshot();
                            let documents = count as u64;
                            snapshot.mark(after, || Mark::Read {
                                range,
                                documents,
                                last: last.clone(),
                            });
                        }
                        number
                    };
                    ledger.meter.snapshot_reads(namespace, &reply);
                    self.is_streaming();
                    course.reads_snapshot();
                    let wrap = |document: &[u8], out: &mut Vec<u8>| {
                        notices::snapshot(namespace, document, out)
                    };
                    for events in Events::of_documents(ledger, reply, number, place, wrap) {
                        let events = match events {
                            Ok(events) => events,
                            Err(error) => {
                                let bug = self.bug(&format!("a document: {error}"));
                                return Happened::Broken(bug);
                            }
                        };
                        if self.queue.push(&events, &self.control.stop).is_err() {
                            return Happened::Stopped;
                        }
                    }
                    reading.handed_over();
                }
                SnapshotItem::Done { range } => mark(&|| Mark::Done { range }),
                SnapshotItem::End => {
                    mark(&|| Mark::End);
                    ledger.meter.snapshot_ends();
                    return Happened::SnapshotRead;
                }
                SnapshotItem::Failed(fault) => {
                    return Happened::Failed { fault, is_open: true, wire_version: None };
                }
                SnapshotItem::Stopped => return Happened::Stopped,
                SnapshotItem::Lost => {
                    let bug = self.bug("the task that reads a snapshot is gone");
                    return Happened::Broken(bug);
                }
            }
        }
    }
}
