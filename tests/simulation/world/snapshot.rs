//! A snapshot in the simulated world: documents that exist, read in ranges.

use std::sync::Arc;
use std::time::Duration;

use bson::{Bson, doc};

use super::faults::Asked;
use super::life::{Broken, Content, Life, Message, Tokens, World};
use super::oplog::{Answered, ModelCursor};
use crate::raw::namespace::Namespace;
use crate::raw::token::Token;
use crate::snapshot::progress::{IdRange, Mark, SnapshotPlace, SnapshotProgress, Unread};
use crate::source::position::Position;
use crate::stream::step::Happened;

/// Whether a document is still to be read by a progress.
fn is_left(progress: &SnapshotProgress, id: i32) -> bool {
    let Some(current) = &progress.current else { return true };
    let number = |id: &Option<Bson>| id.as_ref().and_then(Bson::as_i32);
    current.ranges.iter().any(|range| {
        let is_after = number(&range.from).is_none_or(|from| match range.is_begun {
            true => from < id,
            false => from <= id,
        });
        is_after && number(&range.to).is_none_or(|to| id < to)
    })
}

impl World {
    /// Finds what a checkpoint with this progress leaves out although nobody has acked it.
    pub(super) fn missing_document(&self, progress: Option<&SnapshotProgress>) -> Option<i32> {
        if !self.has_snapshot_begun {
            return None;
        }
        let is_left = |id: i32| progress.is_some_and(|progress| is_left(progress, id));
        (0..self.documents.len() as i32).find(|id| !is_left(*id) && !self.documents[*id as usize])
    }

    pub(super) fn begin_snapshot(&mut self, life: &mut Life) -> Result<Happened, Broken> {
        self.note(|_| "begin a snapshot".to_owned());
        self.request(life)?;
        if let Some(fault) = self.fault(Asked::Open) {
            return Ok(Happened::Failed {
                fault,
                is_open: false,
                wire_version: Some(self.wire_version),
            });
        }
        let mut cursor = ModelCursor::open(Position::Start(None));
        let reply = match cursor.next(&self.oplog, self.now, 0) {
            Answered::Reply(reply) => reply,
            Answered::Failed(_) | Answered::Closed => {
                return Err(Broken::Finding("a cursor from now was refused".to_owned()));
            }
        };
        let lost = life.course.accepted().lost;
        let number = {
            let mut acks = life.ledger.acks();
            let number = acks.read(usize::from(lost.is_some())) + u64::from(lost.is_some());
            life.ledger.snapshot().mark(number, || Mark::Begin);
            acks.takes(None, 0, 0, Some(reply.token.clone()));
            number
        };
        let next = self.entry_after(&reply.token).map_err(Broken::Finding)?;
        if life.expected.is_none() {
            life.expected = Some(next);
            self.began.get_or_insert(next);
        }
        // What changed before it is in the documents.
        let from = self.began.unwrap_or(next).min(next);
        self.acked[from..next].fill(true);
        life.expected = life.expected.map(|expected| expected.max(next));
        self.has_snapshot_begun = true;
        self.snapshots += 1;
        life.snapshot = self.snapshots;
        self.is_open(life)?;
        if let Some(lost) = lost {
            let place = SnapshotPlace::beginning(Token::clone(&reply.token));
            self.tell_of_loss(life, lost.from, &reply, number - 1, Some(place))?;
        }
        life.read.clear();
        if self.keeps_positions {
            // All of them come again.
            self.documents.fill(false);
        }
        Ok(Happened::SnapshotBegun(reply.token))
    }

    pub(super) fn check_place(&mut self, from: Position, life: &Life) -> Result<Happened, Broken> {
        self.note(|_| format!("check {from}"));
        let mut cursor = ModelCursor::open(from);
        self.request(life)?;
        for most in 0..2 {
            let asked = if most > 0 { Asked::More } else { Asked::Open };
            let answer = match self.fault(asked) {
                Some(fault) => Answered::Failed(fault),
                None => cursor.next(&self.oplog, self.now, most),
            };
            match answer {
                Answered::Reply(_) => {}
                Answered::Failed(fault) => {
                    let is_open = most > 0;
                    return Ok(Happened::Failed {
                        fault,
                        is_open,
                        wire_version: Some(self.wire_version),
                    });
                }
                Answered::Closed => return Ok(Happened::Closed),
            }
        }
        Ok(Happened::PlaceIsThere)
    }

    pub(super) fn read_snapshot(
        &mut self,
        is_rest: bool,
        life: &mut Life,
    ) -> Result<Happened, Broken> {
        self.note(|_| format!("read {}", if is_rest { "what is left" } else { "what exists" }));
        life.is_ready |= is_rest;
        let mark = |life: &Life, mark: &dyn Fn() -> Mark| {
            let number = life.ledger.acks().read(0);
            life.ledger.snapshot().mark(number, mark);
        };
        let count = self.documents.len() as i32;
        let progress = life.ledger.snapshot().read().cloned().unwrap_or_default();
        let mut ranges = match progress.current {
            Some(current) => current.ranges,
            None => {
                let half = Some(Bson::Int32(count / 2));
                let range = |number, from, to| IdRange { number, from, is_begun: false, to };
                let ranges = vec![range(0, None, half.clone()), range(1, half, None)];
                let namespace =
                    Namespace { database: "shop".to_owned(), collection: "orders".to_owned() };
                let current = Unread { namespace, ranges: ranges.clone() };
                mark(life, &|| Mark::Collection(current.clone()));
                ranges
            }
        };
        while !ranges.is_empty() {
            self.pass(Duration::from_millis(2));
            if let Some(fault) = self.fault(Asked::Documents) {
                return Ok(Happened::Failed { fault, is_open: true, wire_version: None });
            }
            let which = self.random.usize(..ranges.len());
            let range = ranges[which].clone();
            let one = SnapshotProgress {
                current: Some(Unread {
                    namespace: Namespace { database: String::new(), collection: String::new() },
                    ranges: vec![range.clone()],
                }),
            };
            let most = self.random.usize(1..4);
            let ids: Vec<i32> = (0..count).filter(|id| is_left(&one, *id)).take(most).collect();
            let Some(last) = ids.last().copied() else {
                mark(life, &|| Mark::Done { range: range.number });
                ranges.remove(which);
                continue;
            };
            let Some(token) = life.course.position().token() else {
                return Err(Broken::Finding("a snapshot without a place".to_owned()));
            };
            let before = life.ledger.snapshot().read().cloned().unwrap_or_default();
            let place = Arc::new(SnapshotPlace::of_documents(token, before, range.number));
            let first = {
                let mut acks = life.ledger.acks();
                let first = acks.read(ids.len());
                life.ledger.snapshot().mark(first + ids.len() as u64, || Mark::Read {
                    range: range.number,
                    documents: ids.len() as u64,
                    last: last.into(),
                });
                first
            };
            (ranges[which].from, ranges[which].is_begun) = (Some(last.into()), true);
            life.course.reads_snapshot();
            self.works(life);
            let key = |id: &i32| doc! { "_id": *id }.to_vec().unwrap_or_default();
            let tokens = Arc::new(Tokens(ids.iter().map(key).collect()));
            for (index, id) in ids.iter().enumerate() {
                let (number, content) = (first + index as u64, Content::Document(*id));
                let of_snapshot = life.snapshot;
                let (tokens, snapshot) = (Arc::clone(&tokens), Some(Arc::clone(&place)));
                self.push(life, Message { number, content, tokens, index, snapshot, of_snapshot })?;
            }
            self.consume(life, false).map_err(Broken::Finding)?;
            self.tick(life).map_err(Broken::Finding)?;
            if self.disturbed(100) {
                return Err(Broken::Crash);
            }
            if self.disturbed(100) {
                return Err(Broken::Happened(Happened::Stopped));
            }
        }
        mark(life, &|| Mark::End);
        Ok(Happened::SnapshotRead)
    }
}
