//! Which messages a worker's consumers are done with, and so where a restart may begin.
//!
//! Every event that a worker reads gets the next sequence number. Consumers acknowledge in any
//! order; the *position* is the token of the last event before the first one that is not
//! acknowledged. A resume token that stands behind all events read so far (the server's
//! `postBatchResumeToken`) takes its place behind them here as well: the position moves to it only
//! when all of them are acknowledged, so a quiet stream's position keeps up with the oplog and
//! nothing is ever skipped.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::message::Events;

/// A resume token: the raw BSON of the server's `_id` or `postBatchResumeToken` document.
pub(crate) type Token = Arc<[u8]>;

/// One worker's acknowledgements.
#[derive(Default)]
pub(crate) struct AckSequence {
    /// Events read so far: the next sequence number.
    read: u64,
    /// The first sequence number that is not acknowledged.
    next: u64,
    /// The token up to which everything is acknowledged; empty before the first. A copy in memory
    /// that is used again and again: an event would keep its whole reply.
    position: Vec<u8>,
    /// A token that stands behind all `read` events, waiting for them.
    tail: Option<Token>,
    /// Events at or above `next` that are acknowledged, a bit each; bit 0 of the first word is
    /// number `64 * first_word`.
    bits: VecDeque<u64>,
    first_word: u64,
    /// For each run of acknowledged events above `next`: its last number and that event's token.
    /// The events themselves may be gone by the time the position reaches them.
    run_ends: BTreeMap<u64, Option<Token>>,
}

impl AckSequence {
    /// Registers `count` events that were just read; returns the first one's number.
    pub(crate) fn read(&mut self, count: usize) -> u64 {
        let first = self.read;
        if count > 0 {
            self.read += count as u64;
            // Whatever comes behind these events is a later token than this one.
            self.tail = None;
        }
        first
    }

    /// Places a token behind all events that were read so far.
    pub(crate) fn place(&mut self, token: Token) {
        if self.next == self.read {
            self.move_to(&token);
        } else {
            self.tail = Some(token);
        }
    }

    /// Acknowledges `count` events from number `first`, which stand at `index` in `events`.
    /// Acknowledging twice does no harm.
    pub(crate) fn ack(&mut self, first: u64, count: usize, events: &Events, index: usize) {
        let end = first + count as u64;
        if count == 0 || end > self.read || end <= self.next {
            return;
        }
        if first <= self.next {
            if let Some(token) = events.token(index + count - 1) {
                self.move_to(token);
            }
            self.next = end;
            self.absorb();
            if self.next == self.read
                && let Some(token) = self.tail.take()
            {
                self.move_to(&token);
            }
        } else {
            for offset in 0..count {
                self.set(first + offset as u64, || events.token(index + offset).map(Token::from));
            }
        }
    }

    /// Marks one event above `next`.
    fn set(&mut self, number: u64, token: impl FnOnce() -> Option<Token>) {
        if self.get(number) {
            return;
        }
        if self.bits.is_empty() {
            self.first_word = self.next / 64;
        }
        let word = (number / 64 - self.first_word) as usize;
        if word >= self.bits.len() {
            self.bits.resize(word + 1, 0);
        }
        self.bits[word] |= 1 << (number % 64);
        if !self.get(number + 1) {
            self.run_ends.insert(number, token());
        }
        if number > self.next && self.get(number - 1) {
            self.run_ends.remove(&(number - 1));
        }
    }

    fn get(&self, number: u64) -> bool {
        (number / 64)
            .checked_sub(self.first_word)
            .and_then(|word| self.bits.get(word as usize))
            .is_some_and(|word| word & (1 << (number % 64)) != 0)
    }

    /// Moves `next` over acknowledged runs that it has reached, and forgets what lies behind it.
    fn absorb(&mut self) {
        while let Some(entry) = self.run_ends.first_entry() {
            let end = *entry.key();
            if end < self.next {
                entry.remove();
            } else if self.get(self.next) {
                if let Some(token) = self.run_ends.remove(&end).flatten() {
                    self.move_to(&token);
                }
                self.next = end + 1;
            } else {
                break;
            }
        }
        if self.run_ends.is_empty() {
            self.bits.clear();
        }
        while !self.bits.is_empty() && self.first_word < self.next / 64 {
            self.bits.pop_front();
            self.first_word += 1;
        }
    }

    /// How many events are acknowledged without a gap.
    pub(crate) fn acked(&self) -> u64 {
        self.next
    }

    fn move_to(&mut self, token: &[u8]) {
        self.position.clear();
        self.position.extend_from_slice(token);
    }

    /// How many events were read so far, and how many of them are not acknowledged.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let mut acked = self.next;
        for (number, word) in (self.first_word..).zip(&self.bits) {
            // Those below `next` are counted already.
            let below = self.next.saturating_sub(number * 64).min(63);
            acked += u64::from((word >> below).count_ones());
        }
        (self.read, self.read - acked)
    }

    /// The token up to which everything is acknowledged; `None` before the stream was first open.
    pub(crate) fn position(&self) -> Option<Token> {
        (!self.position.is_empty()).then(|| Token::from(&*self.position))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events whose tokens are their sequence numbers.
    fn events(first: u64, count: usize) -> Arc<Events> {
        let documents: Vec<_> = (first..first + count as u64)
            .map(|number| bson::doc! { "_id": { "n": number as i64 } }.to_vec().unwrap())
            .collect();
        Events::for_test(first, &documents)
    }

    fn token(number: u64) -> Token {
        bson::doc! { "n": number as i64 }.to_vec().unwrap().into()
    }

    fn tail_token(behind: u64) -> Token {
        bson::doc! { "behind": behind as i64 }.to_vec().unwrap().into()
    }

    /// A small generator, so that a failing case can be run again from its seed.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % limit
        }
    }

    #[test]
    fn position_is_the_contiguous_acked_prefix_in_any_order() {
        for seed in 1..300 {
            let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
            let mut acks = AckSequence::default();
            let mut replies: Vec<(u64, Arc<Events>)> = Vec::new();
            // The model: which events are acknowledged, and the token behind all that were read.
            let mut acked: Vec<bool> = Vec::new();
            let mut tail = None;
            let (mut prefix, mut expected) = (0, None);
            for step in 0..400 {
                match random.below(5) {
                    0 => {
                        let count = random.below(90) as usize;
                        let first = acks.read(count);
                        assert_eq!(first, acked.len() as u64);
                        acked.resize(acked.len() + count, false);
                        if count > 0 {
                            replies.push((first, events(first, count)));
                            tail = None;
                        }
                    }
                    1 => {
                        let behind = acked.len() as u64;
                        acks.place(tail_token(behind));
                        tail = Some(behind);
                    }
                    _ if replies.is_empty() => {}
                    _ => {
                        let which = random.below(replies.len() as u64) as usize;
                        let (first, events) = &replies[which];
                        let index = random.below(events.len() as u64) as usize;
                        let count = 1 + random.below((events.len() - index) as u64) as usize;
                        acks.ack(first + index as u64, count, events, index);
                        let from = *first as usize + index;
                        acked[from..from + count].fill(true);
                    }
                }
                let now = acked.iter().take_while(|acked| **acked).count() as u64;
                if now > prefix {
                    expected = Some(token(now - 1));
                }
                prefix = now;
                // A token takes its place once everything before it is acknowledged, and keeps it.
                if prefix == acked.len() as u64
                    && let Some(behind) = tail.take()
                {
                    expected = Some(tail_token(behind));
                }
                assert_eq!(acks.position(), expected, "seed {seed}, step {step}");
                assert_eq!(acks.next, prefix, "seed {seed}, step {step}");
                let unacked = acked.iter().filter(|acked| !**acked).count() as u64;
                let counts = (acked.len() as u64, unacked);
                assert_eq!(acks.counts(), counts, "seed {seed}, step {step}");
            }
        }
    }

    #[test]
    fn what_is_never_acked_costs_no_more_than_a_bit() {
        let mut acks = AckSequence::default();
        let mut last = None;
        for _ in 0..1000 {
            let first = acks.read(1000);
            last = Some((first + 999, events(first + 999, 1)));
        }
        let (number, events) = last.unwrap();
        acks.ack(number, 1, &events, 0);
        assert!(acks.bits.len() * 64 <= 1_000_064, "{} words", acks.bits.len());
        assert_eq!(acks.run_ends.len(), 1);
        assert_eq!(acks.counts(), (1_000_000, 999_999));
    }
}
