//! What consumers get and ack, and what is saved of it. Each message and each checkpoint is checked here.

use std::time::Duration;

use bson::Document;

use super::life::{Broken, CHECKPOINT, Content, Life, Message, World};
use super::oplog::Kind;
use crate::checkpoint::identity::Saved;
use crate::raw::token::Token;
use crate::snapshot::progress::SnapshotProgress;
use crate::stream::step::Happened;

/// As many messages as the buffer holds.
const CAPACITY: usize = 8;

impl World {
    /// Puts a message into the buffer, and checks that it is the one that has to come.
    pub(super) fn push(&mut self, life: &mut Life, message: Message) -> Result<(), Broken> {
        while life.queue.len() >= CAPACITY {
            self.consume(life, false).map_err(Broken::Finding)?;
            self.pass(Duration::from_millis(5));
            if self.disturbed(200) {
                return Err(Broken::Happened(Happened::Stopped));
            }
        }
        if !life.is_ready {
            return Err(Broken::Finding("a message before the stream is open".to_owned()));
        }
        let Some(expected) = life.expected else {
            return Err(Broken::Finding("a message before the stream has a place".to_owned()));
        };
        match message.content {
            Content::Event(entry) | Content::Oversized(entry) => {
                let is_large = self.oplog.entries[entry].kind == Kind::Large && !self.oplog.splits;
                if is_large != matches!(message.content, Content::Oversized(_)) {
                    let text = format!("entry {entry} comes in the wrong form");
                    return Err(Broken::Finding(text));
                }
                if entry < expected {
                    let text = format!("entry {entry} comes twice, or late: {expected} was next");
                    return Err(Broken::Finding(text));
                }
                if let Some(left_out) = self.oplog.must_come(expected..entry).next() {
                    let text = format!("entry {left_out} was left out before {entry}");
                    return Err(Broken::Finding(text));
                }
                life.expected = Some(entry + 1);
            }
            Content::Document(id) => {
                if life.read.contains(&id) {
                    return Err(Broken::Finding(format!("document {id} comes twice")));
                }
                life.read.push(id);
            }
            // What is lost need not come any more.
            Content::Gap { to } => {
                for lost in expected..to.max(expected) {
                    self.acked[lost] = true;
                }
                life.expected = Some(to.max(expected));
            }
        }
        self.trace(message.number);
        self.forget_requests();
        life.queue.push_back(message);
        Ok(())
    }

    /// A consumer handles a message, and keeps its position in the same transaction.
    fn handle(&mut self, message: &Message) -> Result<(), String> {
        let effect = match message.content {
            Content::Event(entry) | Content::Oversized(entry) => Some((0, entry)),
            Content::Document(id) => Some((message.of_snapshot, id as usize)),
            Content::Gap { .. } => None,
        };
        if effect.is_some_and(|effect| !self.took_effect.insert(effect)) {
            return Err(format!("{:?} takes effect twice", message.content));
        }
        match message.place() {
            Some(place) => self.keep_position(&place, message.of_snapshot),
            None => Err(format!("{:?} has no position", message.content)),
        }
    }

    pub(super) fn keep_position(&mut self, place: &Saved, of_snapshot: u64) -> Result<(), String> {
        let text = self.identity.write_position(place).map_err(|error| error.to_string())?;
        let again = self.identity.read_position(&text)?;
        if shown(&again) != shown(place) {
            return Err("a position does not read back".to_owned());
        }
        (self.text, self.kept_snapshot) = (Some(text), of_snapshot);
        Ok(())
    }

    /// A consumer takes messages, and acks some of those it has.
    pub(super) fn consume(&mut self, life: &mut Life, all: bool) -> Result<(), String> {
        let count = if all { usize::MAX } else { self.random.usize(..4) };
        for _ in 0..count {
            let Some(message) = life.queue.pop_front() else { break };
            self.report.delivered += 1;
            life.in_hand.push(message);
        }
        // A position says that everything before it is done.
        let calm = self.left == 0 || all && self.keeps_positions;
        let acks = if calm { usize::MAX } else { self.random.usize(..4) };
        for _ in 0..acks {
            if life.in_hand.is_empty() {
                break;
            }
            let which = if self.keeps_positions || self.random.u8(..4) > 0 || calm {
                0
            } else {
                self.random.usize(..life.in_hand.len())
            };
            let message = life.in_hand.remove(which);
            if self.keeps_positions {
                self.handle(&message)?;
            }
            match message.content {
                Content::Event(entry) | Content::Oversized(entry) => self.acked[entry] = true,
                Content::Document(_)
                    if self.keeps_positions && message.of_snapshot != life.snapshot => {}
                Content::Document(id) => self.documents[id as usize] = true,
                Content::Gap { .. } => {}
            }
            let Message { number, tokens, index, .. } = message;
            life.ledger.acks().ack(number, 1, &*tokens, index);
        }
        Ok(())
    }

    /// The saving thread looks whether a save is due.
    pub(super) fn tick(&mut self, life: &mut Life) -> Result<(), String> {
        let running = self.now - life.began;
        let acked = life.ledger.acks().acked();
        if !life.due.is_due(acked, running) {
            return Ok(());
        }
        if self.disturbed(10) {
            self.note(|_| "the store fails".to_owned());
            return Ok(());
        }
        self.save(life)
    }

    /// Saves the place, and checks that nothing before it is missing.
    pub(super) fn save(&mut self, life: &mut Life) -> Result<(), String> {
        let (place, acked) = life.ledger.acked_place();
        if self.keeps_positions {
            return Ok(());
        }
        let Some(place) = place else { return Ok(()) };
        let after = self.entry_after(&place.token)?;
        let from = self.began.unwrap_or(after);
        let mut must = self.oplog.must_come(from.min(after)..after);
        if let Some(missing) = must.find(|entry| !self.acked[*entry]) {
            return Err(format!("the checkpoint is after entry {missing}, which was not acked"));
        }
        drop(must);
        if let Some(id) = self.missing_document(place.snapshot.as_ref()) {
            return Err(format!("the checkpoint leaves out document {id}, which was not acked"));
        }
        let text = self
            .identity
            .write_checkpoint(CHECKPOINT, &place)
            .map_err(|error| error.to_string())?;
        let again = self.identity.read_checkpoint(CHECKPOINT, &text)?;
        if shown(&again) != shown(&place) {
            return Err("a checkpoint does not read back".to_owned());
        }
        self.text = Some(text);
        let running = self.now - life.began;
        life.due.is_saved(acked, running);
        self.trace(acked);
        Ok(())
    }
}

/// What two places have to have in common: the numbers of ranges are given anew.
fn shown(place: &Saved) -> (&Token, Option<Document>) {
    (&place.token, place.snapshot.as_ref().map(SnapshotProgress::to_document))
}
