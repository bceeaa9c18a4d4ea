//! Which messages a worker's consumers are done with, and so where a restart may begin.
//!
//! Every event that a worker reads gets the next sequence number. Consumers ack in any order. The
//! *position* is the token of the last event before the first one that is not acked. A resume token
//! that comes after all events read so far (the server's `postBatchResumeToken`) takes its place
//! after them here as well: the position moves to it only when all of them are acked, so a quiet
//! stream's position keeps up with the oplog and nothing is ever skipped.
//!
//! An acked event that comes after a hole costs a bit. Its token is needed when the position gets
//! there, and by then its memory may be gone. Who acks the hole brings the events of the hole's
//! reply, so only a run of acked events that reaches into another reply than the hole before it has
//! its last token kept: see [`Kept`].

use std::ops::Range;

use crate::checkpoint::bits::Bits;
use crate::checkpoint::kept::Kept;
use crate::raw::document_key::is_key;
use crate::raw::token::Token;

#[cfg(test)]
pub(super) mod tests;

/// Events that share one piece of memory, as far as their acks need them.
pub(crate) trait Places {
    fn len(&self) -> usize;

    /// To what a restart goes on after an event: its resume token, or a snapshot's document's key.
    fn place(&self, index: usize) -> Option<&[u8]>;
}

/// What one worker's consumers have acked.
#[derive(Default)]
pub(crate) struct AckSequence {
    /// Events read so far: the next sequence number.
    read: u64,
    /// The first sequence number that is not acked.
    next: u64,
    /// The token up to which everything is acked; empty before the first. A copy in memory that is
    /// used again and again: an event would keep its whole reply.
    position: Vec<u8>,
    /// The same of a snapshot's documents, which have keys and no tokens: the key of the last one, and
    /// the number after it.
    document: (u64, Vec<u8>),
    /// A token that comes after all `read` events, waiting for them.
    tail: Option<Token>,
    /// How many events after `next` are acked.
    above: u64,
    /// Which ones these are, from `next` on.
    bits: Bits,
    kept: Kept,
}

impl AckSequence {
    /// Registers `count` events that were just read; returns the first one's number.
    pub(crate) fn read(&mut self, count: usize) -> u64 {
        let first = self.read;
        if count > 0 {
            self.read += count as u64;
            // Whatever comes after these events is a later token than this one.
            self.tail = None;
        }
        first
    }

    /// Places a token after all events that were read so far.
    pub(crate) fn place(&mut self, token: Token) {
        if self.next == self.read {
            copy(&token, &mut self.position);
        } else {
            self.tail = Some(token);
        }
    }

    /// Registers a reply, after the place at which its cursor began and as many notices of the library's own, and with
    /// the token that comes after it. Returns the number of its first event.
    pub(crate) fn takes(
        &mut self,
        began: Option<Token>,
        notices: usize,
        events: usize,
        token: Option<Token>,
    ) -> u64 {
        if let Some(began) = began {
            self.place(began);
        }
        self.read(notices);
        let first = self.read(events);
        if let Some(token) = token {
            self.place(token);
        }
        first
    }

    /// Acks `count` events from number `first`, which stand at `index` in `events`. To ack twice does
    /// no harm.
    pub(crate) fn ack(&mut self, first: u64, count: usize, events: &dyn Places, index: usize) {
        let end = first + count as u64;
        if count == 0 || end > self.read || end <= self.next {
            return;
        }
        if first > self.next {
            self.mark(first..end, &Neighbours::new(first, events, index));
            return;
        }
        if let Some(place) = events.place(index + count - 1) {
            self.move_to(place, end);
        }
        if self.above == 0 {
            self.next = end;
        } else {
            self.pass(end, &Neighbours::new(first, events, index));
        }
        if self.next == self.read
            && let Some(token) = self.tail.take()
        {
            copy(&token, &mut self.position);
        }
    }

    /// Marks events that come after a hole.
    fn mark(&mut self, range: Range<u64>, reply: &Neighbours<'_>) {
        if self.above == 0 {
            self.bits.begin(self.next);
        }
        let marked = self.bits.set(range.clone());
        if marked == 0 {
            return;
        }
        self.above += marked;
        let end = self.bits.first_clear(range.end, reply.range.end);
        // If the run goes on in the next reply, its last token was kept when that part was acked.
        let ends_here = !self.bits.get(end);
        let begins_before = self.next < reply.range.start
            && self.bits.first_clear(reply.range.start, range.start) == range.start;
        let token = reply.token(end - 1);
        if token.is_some() {
            // These are not the last ones of their run any more.
            self.kept.remove(range.start - 1..range.end - 1);
        }
        if let Some(token) = token.filter(|_| ends_here && begins_before) {
            self.kept.insert(end - 1, token);
        }
    }

    /// Moves `next` to `end`, and over the acked events that come right after it.
    fn pass(&mut self, end: u64, reply: &Neighbours<'_>) {
        self.above -= self.bits.count(self.next..end);
        self.next = self.bits.first_clear(end, self.read);
        self.above -= self.next - end;
        if self.next > end {
            self.move_to_last(end, reply);
        }
        self.kept.forget_below(self.next);
        self.bits.forget_below(self.next);
        if self.above == 0 {
            self.bits.clear();
        }
    }

    /// Moves the position to the last event before `next`, or to the last one of those whose token
    /// there is. It is already at the event before `end`.
    fn move_to_last(&mut self, end: u64, reply: &Neighbours<'_>) {
        let here = self.next.min(reply.range.end) - 1;
        let kept = self.kept.last_below(self.next).filter(|(number, _)| *number > here);
        if let Some((number, place)) = kept.map(|(number, place)| (number, Box::from(place))) {
            self.move_to(&place, number + 1);
        } else if here >= end
            && let Some(place) = reply.token(here)
        {
            self.move_to(place, here + 1);
        }
    }

    /// How many events are acked without a gap.
    pub(crate) fn acked(&self) -> u64 {
        self.next
    }

    /// To what [`Places::place`] gives of the last event below this number.
    fn move_to(&mut self, place: &[u8], number: u64) {
        if is_key(place) {
            self.document.0 = number;
            copy(place, &mut self.document.1);
        } else {
            copy(place, &mut self.position);
        }
    }

    /// The key of the last document of a snapshot up to which everything is acked, and the number after
    /// it. There may be later ones whose key is not known.
    pub(crate) fn document(&self) -> (u64, &[u8]) {
        (self.document.0, &self.document.1)
    }

    /// How many events were read so far, and how many of them are not acked.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.read, self.read - self.next - self.above)
    }

    /// The token up to which everything is acked; `None` before the stream was first open.
    pub(crate) fn position(&self) -> Option<Token> {
        (!self.position.is_empty()).then(|| Token::from(&*self.position))
    }
}

fn copy(token: &[u8], position: &mut Vec<u8>) {
    position.clear();
    position.extend_from_slice(token);
}

/// The events that share their memory with those that are acked.
struct Neighbours<'a> {
    events: &'a dyn Places,
    /// Their numbers.
    range: Range<u64>,
}

impl<'a> Neighbours<'a> {
    /// The one in which number `first` stands at `index`.
    fn new(first: u64, events: &'a dyn Places, index: usize) -> Self {
        let first = first - index as u64;
        Self { events, range: first..first + events.len() as u64 }
    }

    fn token(&self, number: u64) -> Option<&'a [u8]> {
        self.events.place((number - self.range.start) as usize)
    }
}
