//! Which events after a hole are acked: a bit for each.

use std::collections::VecDeque;
use std::ops::Range;

/// A bit for each event from a number on.
#[derive(Default)]
pub(super) struct Bits {
    pub(super) words: VecDeque<u64>,
    /// Bit 0 of the first word is number `64 * first_word`.
    first_word: u64,
}

impl Bits {
    /// Words that are worth keeping while none is needed.
    pub(super) const SPARE: usize = 1024;

    /// Begins anew, with no bit set. No number below this one will be.
    pub(super) fn begin(&mut self, number: u64) {
        self.words.clear();
        self.first_word = number / 64;
    }

    /// Sets bits; how many of them were not set before.
    pub(super) fn set(&mut self, range: Range<u64>) -> u64 {
        let needed = ((range.end - 1) / 64 - self.first_word) as usize + 1;
        if needed > self.words.len() {
            self.words.resize(needed, 0);
        }
        let first_word = self.first_word;
        let mut count = 0;
        for (word, mask) in masks(range) {
            let word = &mut self.words[(word - first_word) as usize];
            count += u64::from((mask & !*word).count_ones());
            *word |= mask;
        }
        count
    }

    pub(super) fn count(&self, range: Range<u64>) -> u64 {
        masks(range).map(|(word, mask)| u64::from((self.word(word) & mask).count_ones())).sum()
    }

    pub(super) fn get(&self, number: u64) -> bool {
        self.word(number / 64) >> (number % 64) & 1 != 0
    }

    /// The first number of a range whose bit is not set, or the end of the range.
    pub(super) fn first_clear(&self, from: u64, end: u64) -> u64 {
        masks(from..end)
            .find_map(|(word, mask)| {
                let clear = !self.word(word) & mask;
                (clear != 0).then(|| word * 64 + u64::from(clear.trailing_zeros()))
            })
            .unwrap_or(end)
    }

    pub(super) fn word(&self, word: u64) -> u64 {
        let index = word.checked_sub(self.first_word);
        index.and_then(|index| self.words.get(index as usize)).copied().unwrap_or(0)
    }

    pub(super) fn forget_below(&mut self, number: u64) {
        let count = (number / 64).saturating_sub(self.first_word);
        self.words.drain(..self.words.len().min(count as usize));
        self.first_word += count;
    }

    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.words.shrink_to(Self::SPARE);
    }
}

/// The words in which these bits are, each with a mask of them.
fn masks(range: Range<u64>) -> impl Iterator<Item = (u64, u64)> {
    let Range { start, end } = range;
    (start / 64..end.div_ceil(64)).map(move |word| {
        let from = start.saturating_sub(word * 64);
        let unused = (word * 64 + 64).saturating_sub(end);
        (word, u64::MAX << from & u64::MAX >> unused)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::acks::tests::Random;

    #[test]
    fn bits_are_set_and_counted_by_words() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..300 {
            let begin = random.below(200);
            let mut model = vec![false; 1000];
            let mut bits = Bits::default();
            bits.begin(begin);
            for _ in 0..20 {
                let start = begin + random.below(300);
                let range = start..start + 1 + random.below(150);
                let part = &mut model[range.start as usize..range.end as usize];
                let clear = part.iter().filter(|set| !**set).count() as u64;
                part.fill(true);
                assert_eq!(bits.set(range), clear);
                let start = begin + random.below(400);
                let range = start..start + random.below(200);
                let part = &model[range.start as usize..range.end as usize];
                let count = part.iter().filter(|set| **set).count() as u64;
                assert_eq!(bits.count(range.clone()), count);
                let clear = part.iter().position(|set| !set).unwrap_or(part.len()) as u64;
                assert_eq!(bits.first_clear(range.start, range.end), start + clear);
                assert_eq!(bits.get(start), model[start as usize]);
            }
            let below = begin + random.below(400);
            bits.forget_below(below);
            let count = model[below as usize..].iter().filter(|set| **set).count() as u64;
            assert_eq!(bits.count(below..1000), count);
        }
    }

    #[test]
    fn bits_take_no_more_words_than_there_are_between_the_first_and_the_last() {
        let mut bits = Bits::default();
        bits.begin(64 * 1_000 + 5);
        assert_eq!(bits.set(64 * 1_000 + 6..64 * 1_001), 58);
        assert_eq!(bits.words.len(), 1);
        assert_eq!(bits.set(64 * 1_001..64 * 1_001 + 1), 1);
        assert_eq!(bits.words.len(), 2);
        assert_eq!(bits.set(64 * 1_000 + 10..64 * 1_000 + 12), 0);
        assert_eq!(bits.words.len(), 2, "what is there stays there");
        assert_eq!(bits.set(64 * 1_009 + 63..64 * 1_010), 1);
        assert_eq!(bits.words.len(), 10);
        bits.forget_below(64 * 1_009 + 63);
        assert_eq!((bits.words.len(), bits.count(64 * 1_000..64 * 1_010)), (1, 1));
        bits.forget_below(64 * 2_000);
        assert_eq!(bits.words.len(), 0);
        bits.begin(64 * 5_000);
        bits.set(64 * 5_000 + 1..64 * 5_000 + 2);
        assert_eq!(bits.words.len(), 1);
        bits.clear();
        assert_eq!(bits.words.len(), 0);
    }
}
