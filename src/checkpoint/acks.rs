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

use crate::bson::document_key::is_key;
use crate::bson::token::Token;
use crate::checkpoint::bits::Bits;
use crate::checkpoint::kept::Kept;

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
            self.mark(first..end, &Reply::new(first, events, index));
            return;
        }
        if let Some(place) = events.place(index + count - 1) {
            self.move_to(place, end);
        }
        if self.above == 0 {
            self.next = end;
        } else {
            self.pass(end, &Reply::new(first, events, index));
        }
        if self.next == self.read
            && let Some(token) = self.tail.take()
        {
            copy(&token, &mut self.position);
        }
    }

    /// Marks events that come after a hole.
    fn mark(&mut self, range: Range<u64>, reply: &Reply<'_>) {
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
    fn pass(&mut self, end: u64, reply: &Reply<'_>) {
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
    fn move_to_last(&mut self, end: u64, reply: &Reply<'_>) {
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
struct Reply<'a> {
    events: &'a dyn Places,
    /// Their numbers.
    range: Range<u64>,
}

impl<'a> Reply<'a> {
    /// The one in which number `first` stands at `index`.
    fn new(first: u64, events: &'a dyn Places, index: usize) -> Self {
        let first = first - index as u64;
        Self { events, range: first..first + events.len() as u64 }
    }

    fn token(&self, number: u64) -> Option<&'a [u8]> {
        self.events.place((number - self.range.start) as usize)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A token that is at this place: event `n` is at `2 * n`, what comes right before it at
    /// `2 * n - 1`.
    fn token(place: u64) -> Vec<u8> {
        bson::doc! { "place": place as i64 }.to_vec().unwrap()
    }

    fn place_of(token: &[u8]) -> u64 {
        let document = bson::RawDocument::from_bytes(token).unwrap();
        document.get_i64("place").unwrap() as u64
    }

    /// Events of one reply, by their tokens; an empty one is none.
    struct Tokens(Vec<Vec<u8>>);

    impl Places for Tokens {
        fn len(&self) -> usize {
            self.0.len()
        }

        fn place(&self, index: usize) -> Option<&[u8]> {
            self.0.get(index).map(Vec::as_slice).filter(|token| !token.is_empty())
        }
    }

    fn events(first: u64, count: usize) -> Tokens {
        Tokens((first..first + count as u64).map(|number| token(2 * number)).collect())
    }

    /// A small generator, so that a failing case can be run again from its seed.
    pub(crate) struct Random(pub(crate) u64);

    impl Random {
        pub(crate) fn below(&mut self, limit: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % limit
        }
    }

    /// Acks that come in any order, beside the plainest way to keep account of them.
    #[derive(Default)]
    struct Model {
        acks: AckSequence,
        replies: Vec<(u64, Tokens)>,
        acked: Vec<bool>,
        tail: Option<u64>,
        /// The number of acked events before the first hole, and the place of the last token there.
        prefix: u64,
        exact: Option<u64>,
        /// The place of the last event that was acked as the first one without an ack.
        front: Option<u64>,
    }

    impl Model {
        /// Keeps this many tokens.
        fn with_room_for(count: usize) -> Self {
            let mut model = Model::default();
            model.acks.kept.limit = count * Kept::size(&token(0));
            model
        }

        fn read(&mut self, count: usize) {
            let first = self.acks.read(count);
            assert_eq!(first, self.acked.len() as u64);
            self.acked.resize(self.acked.len() + count, false);
            if count > 0 {
                self.replies.push((first, events(first, count)));
                self.tail = None;
            }
        }

        fn place(&mut self) {
            let place = 2 * self.acked.len() as u64;
            self.acks.place(token(place.saturating_sub(1)).into());
            self.tail = Some(place.saturating_sub(1));
            self.follow();
        }

        fn ack(&mut self, which: usize, index: usize, count: usize) {
            let (first, events) = &self.replies[which];
            let number = first + index as u64;
            self.acks.ack(number, count, events, index);
            let end = number + count as u64;
            if (number..end).contains(&self.prefix) {
                self.front = Some(2 * (end - 1));
            }
            self.acked[number as usize..end as usize].fill(true);
            self.follow();
        }

        fn follow(&mut self) {
            let rest = &self.acked[self.prefix as usize..];
            let more = rest.iter().take_while(|acked| **acked).count() as u64;
            if more > 0 {
                self.prefix += more;
                self.exact = Some(2 * (self.prefix - 1));
            }
            // A token takes its place once everything before it is acked, and keeps it.
            if self.prefix == self.acked.len() as u64
                && let Some(place) = self.tail.take()
            {
                self.exact = Some(place);
            }
        }

        fn check_counts(&self) {
            assert_eq!(self.acks.acked(), self.prefix);
            let unacked = self.acked.iter().filter(|acked| !**acked).count() as u64;
            assert_eq!(self.acks.counts(), (self.acked.len() as u64, unacked));
        }

        fn position(&self) -> Option<u64> {
            self.acks.position().map(|token| place_of(&token))
        }

        /// Does something: reads a reply of up to so many events, places a token, or acks.
        fn step(&mut self, random: &mut Random, largest: u64) {
            match random.below(5) {
                0 => self.read(random.below(largest + 1) as usize),
                1 => self.place(),
                _ if self.replies.is_empty() => {}
                _ => {
                    let which = random.below(self.replies.len() as u64) as usize;
                    let len = self.replies[which].1.len() as u64;
                    let index = random.below(len);
                    // All of it, or one event, or some.
                    let (index, count) = match random.below(4) {
                        0 => (0, len),
                        1 => (index, 1),
                        _ => (index, 1 + random.below(len - index)),
                    };
                    self.ack(which, index as usize, count as usize);
                }
            }
        }

        /// Acks what is not acked yet, in any order.
        fn ack_the_rest(&mut self, random: &mut Random, mut check: impl FnMut(&Self)) {
            let replies = self.replies.iter().enumerate();
            let mut rest: Vec<(usize, usize)> = replies
                .flat_map(|(which, (_, events))| (0..events.len()).map(move |index| (which, index)))
                .filter(|(which, index)| !self.acked[self.replies[*which].0 as usize + index])
                .collect();
            while !rest.is_empty() {
                let at = random.below(rest.len() as u64) as usize;
                let (which, index) = rest.swap_remove(at);
                self.ack(which, index, 1);
                check(self);
            }
        }
    }

    /// Replies of many events, of single ones, and of a mixture.
    const SHAPES: [u64; 4] = [90, 1, 3, 10];

    #[test]
    fn position_is_the_contiguous_acked_prefix_in_any_order() {
        for seed in 1..300 {
            let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
            let largest = SHAPES[seed as usize % SHAPES.len()];
            let mut model = Model::default();
            let check = |model: &Model| {
                assert_eq!(model.position(), model.exact, "seed {seed}");
                model.check_counts();
            };
            for _ in 0..400 {
                model.step(&mut random, largest);
                check(&model);
            }
            model.ack_the_rest(&mut random, check);
            assert_eq!(model.acks.counts().1, 0);
            assert!(model.acks.bits.words.is_empty() && model.acks.kept.tokens.is_empty());
            assert_eq!(model.acks.kept.bytes, 0);
        }
    }

    #[test]
    fn position_stays_before_the_acked_prefix_where_tokens_had_no_room() {
        let mut has_stayed = 0;
        for seed in 1..600 {
            let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
            let largest = SHAPES[seed as usize % SHAPES.len()];
            let mut model = Model::with_room_for(seed as usize % 7);
            let limit = model.acks.kept.limit.max(Kept::size(&token(0)));
            let mut before = None;
            let mut check = |model: &Model| {
                let position = model.position();
                assert!(position <= model.exact, "seed {seed}: after what is acked");
                assert!(position >= before, "seed {seed}: back");
                assert!(position >= model.front, "seed {seed}: not where the last ack was");
                if model.prefix == model.acked.len() as u64 {
                    assert_eq!(position, model.exact, "seed {seed}: not at the end");
                }
                has_stayed += u64::from(position < model.exact);
                before = position;
                assert!(model.acks.kept.bytes <= limit, "seed {seed}");
                model.check_counts();
            };
            for _ in 0..200 {
                model.step(&mut random, largest);
                check(&model);
            }
            model.ack_the_rest(&mut random, check);
        }
        assert!(has_stayed > 1000, "there was always room: {has_stayed}");
    }

    #[test]
    fn position_is_exact_while_few_replies_have_holes() {
        let mut model = Model::with_room_for(3);
        (0..50).for_each(|_| model.read(100));
        model.read(1);
        // Every second event: but for two replies a run never reaches beyond that of its hole.
        for number in (1..5000).step_by(2) {
            model.ack(number / 100, number % 100, 1);
        }
        model.ack(20, 99, 1);
        model.ack(21, 0, 1);
        for number in (0..5000).step_by(2) {
            model.ack(number / 100, number % 100, 1);
            assert_eq!(model.position(), model.exact);
        }
    }

    #[test]
    fn events_without_tokens_never_move_the_position() {
        let mut acks = AckSequence::default();
        let first = acks.read(2);
        let stream = events(first, 2);
        let snapshot = Tokens(vec![Vec::new(); 100]);
        let numbers = acks.read(100);
        acks.ack(first + 1, 1, &stream, 1);
        acks.ack(numbers, 100, &snapshot, 0);
        assert_eq!(acks.position(), None);
        acks.ack(first, 1, &stream, 0);
        assert_eq!(acks.position().as_deref().map(place_of), Some(2));
        assert_eq!(acks.counts(), (102, 0));
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
        assert!(acks.bits.words.len() * 64 <= 1_000_064, "{} words", acks.bits.words.len());
        assert_eq!(acks.kept.tokens.len(), 1);
        assert_eq!(acks.counts(), (1_000_000, 999_999));
    }

    /// Events with a token as large as a server's.
    fn large_token_events(count: usize) -> Tokens {
        Tokens(vec![bson::doc! { "_data": "8".repeat(170) }.to_vec().unwrap(); count])
    }

    #[test]
    fn what_is_acked_after_holes_costs_bits_and_a_bounded_rest() {
        // With ten million, and memory that doubles as it grows, 4 MB.
        const COUNT: u64 = 400_000;
        let heap = |acks: &AckSequence| acks.bits.words.capacity() * 8 + acks.kept.bytes;
        for size in [1, 4000] {
            let mut acks = AckSequence::default();
            let events = large_token_events(size);
            for first in (0..COUNT).step_by(size) {
                acks.read(size);
                for number in (first..first + size as u64).filter(|number| number % 2 == 1) {
                    acks.ack(number, 1, &events, (number - first) as usize);
                }
            }
            assert_eq!(acks.counts(), (COUNT, COUNT / 2));
            let bytes = heap(&acks);
            assert!(bytes <= COUNT as usize / 4 + Kept::LIMIT, "{bytes} bytes, replies of {size}");
            // All of it is given back.
            for number in (0..COUNT).step_by(2) {
                acks.ack(number, 1, &events, (number % size as u64) as usize);
            }
            assert_eq!(acks.counts(), (COUNT, 0));
            let bytes = heap(&acks);
            assert!(bytes <= Bits::SPARE * 8, "{bytes} bytes, replies of {size}");
        }
    }
}
