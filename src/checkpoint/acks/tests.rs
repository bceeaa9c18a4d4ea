//! Acks in any order, beside the plainest way to keep account of them.

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
pub(in crate::checkpoint) struct Tokens(pub(in crate::checkpoint) Vec<Vec<u8>>);

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

#[test]
fn an_ack_of_nothing_and_one_of_what_was_not_read_do_nothing() {
    let mut acks = AckSequence::default();
    acks.read(3);
    let all = events(0, 5);
    acks.ack(0, 0, &all, 0);
    acks.ack(2, 2, &all, 2);
    acks.ack(3, 1, &all, 3);
    assert_eq!((acks.counts(), acks.acked(), acks.position()), ((3, 3), 0, None));
    acks.ack(0, 3, &all, 0);
    acks.ack(0, 1, &all, 0);
    assert_eq!(acks.counts(), (3, 0));
    assert_eq!(acks.position().map(|token| place_of(&token)), Some(4), "not back to the first");
}

#[test]
fn the_key_of_the_last_acked_document_stands_at_the_number_after_it() {
    let key = |id: i32| bson::doc! { "_id": id }.to_vec().unwrap();
    let keys = |ids: &[i32]| Tokens(ids.iter().map(|id| key(*id)).collect());
    let mut acks = AckSequence::default();
    acks.place(token(7).into());
    assert_eq!(acks.document(), (0, &[][..]));
    acks.read(6);
    let (first, second) = (keys(&[10, 11, 12]), keys(&[20, 21, 22]));
    acks.ack(0, 1, &first, 0);
    assert_eq!(acks.document(), (1, &key(10)[..]));
    acks.ack(2, 1, &first, 2);
    assert_eq!(acks.document(), (1, &key(10)[..]), "after a hole");
    acks.ack(1, 1, &first, 1);
    assert_eq!(acks.document(), (3, &key(12)[..]), "over what was acked after it");
    // A run that reaches into the next reply: its last key was kept when that part was acked.
    acks.ack(4, 1, &second, 1);
    assert_eq!(acks.document(), (3, &key(12)[..]));
    acks.ack(3, 1, &second, 0);
    assert_eq!(acks.document(), (5, &key(21)[..]));
    acks.ack(5, 1, &second, 2);
    assert_eq!(acks.document(), (6, &key(22)[..]));
    assert_eq!(acks.position().map(|token| place_of(&token)), Some(7), "no token is moved");
    acks.read(4);
    let (third, fourth) = (keys(&[30, 31]), keys(&[40, 41]));
    acks.ack(7, 1, &third, 1);
    acks.ack(8, 1, &fourth, 0);
    acks.ack(6, 1, &third, 0);
    assert_eq!(acks.document(), (9, &key(40)[..]), "over the end of a reply");
}
