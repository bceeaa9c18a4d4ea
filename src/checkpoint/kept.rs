//! The tokens that the position needs once a hole is acked.

use std::collections::BTreeMap;
use std::ops::Range;

/// The tokens of events that come after a hole, each the last of a run of acked events that reaches
/// beyond the reply of the hole before it. Tokens by number, in a bounded number of bytes.
///
/// If there are too many holes for the bound, tokens are missing. Those that come first stay, because
/// the position needs them first, and the very last one, because the position ends there when everything
/// is acked. Where a token is missing, the position stays at an earlier event until the next ack moves it.
pub(super) struct Kept {
    pub(super) tokens: BTreeMap<u64, Box<[u8]>>,
    pub(super) bytes: usize,
    pub(super) limit: usize,
}

impl Default for Kept {
    fn default() -> Self {
        Self { tokens: BTreeMap::new(), bytes: 0, limit: Self::LIMIT }
    }
}

impl Kept {
    /// Some five thousand tokens.
    pub(super) const LIMIT: usize = 1 << 20;
    /// What a token costs besides itself: its place in the map, and what the allocator adds.
    const BESIDE: usize = 64;

    pub(super) fn size(token: &[u8]) -> usize {
        token.len() + Self::BESIDE
    }

    pub(super) fn insert(&mut self, number: u64, token: &[u8]) {
        self.bytes += Self::size(token);
        if let Some(former) = self.tokens.insert(number, token.into()) {
            self.bytes -= Self::size(&former);
        }
        while self.bytes > self.limit
            && let Some((last, its_token)) = self.tokens.pop_last()
        {
            let before = self.tokens.pop_last();
            self.tokens.insert(last, its_token);
            let Some((_, token)) = before else { break };
            self.bytes -= Self::size(&token);
        }
    }

    pub(super) fn remove(&mut self, numbers: Range<u64>) {
        while let Some((&number, _)) = self.tokens.range(numbers.clone()).next()
            && let Some(token) = self.tokens.remove(&number)
        {
            self.bytes -= Self::size(&token);
        }
    }

    pub(super) fn last_below(&self, number: u64) -> Option<(u64, &[u8])> {
        self.tokens.range(..number).next_back().map(|(number, token)| (*number, &**token))
    }

    pub(super) fn forget_below(&mut self, number: u64) {
        while let Some(first) = self.tokens.first_entry()
            && *first.key() < number
        {
            self.bytes -= Self::size(&first.remove());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Kept {
        /// The numbers that are kept; their bytes are counted rightly.
        fn numbers(&self) -> Vec<u64> {
            assert_eq!(
                self.bytes,
                self.tokens.values().map(|token| Self::size(token)).sum::<usize>()
            );
            self.tokens.keys().copied().collect()
        }
    }

    #[test]
    fn what_is_kept_is_counted_and_forgotten() {
        assert_eq!(Kept::size(&[0; 36]), 100);
        let mut kept = Kept::default();
        for number in [10, 20, 30, 40, 50] {
            kept.insert(number, &[0; 9]);
        }
        kept.insert(30, &[0; 99]);
        assert_eq!(kept.numbers(), [10, 20, 30, 40, 50]);
        kept.remove(20..40);
        assert_eq!(kept.numbers(), [10, 40, 50]);
        assert_eq!(kept.last_below(50).map(|(number, _)| number), Some(40));
        assert_eq!(kept.last_below(10), None);
        kept.forget_below(40);
        assert_eq!(kept.numbers(), [40, 50]);
        kept.forget_below(51);
        assert_eq!((kept.numbers(), kept.bytes), (vec![], 0));
    }

    #[test]
    fn where_there_is_no_room_the_first_stay_and_the_very_last() {
        let mut kept = Kept { limit: 3 * Kept::size(&[0; 9]), ..Kept::default() };
        for number in [10, 20, 30] {
            kept.insert(number, &[0; 9]);
        }
        assert_eq!(kept.numbers(), [10, 20, 30], "to the last byte");
        kept.insert(40, &[0; 9]);
        assert_eq!(kept.numbers(), [10, 20, 40]);
        kept.insert(15, &[0; 9]);
        assert_eq!(kept.numbers(), [10, 15, 40]);
        let mut kept = Kept { limit: 1, ..Kept::default() };
        kept.insert(10, &[0; 9]);
        assert_eq!(kept.tokens.len(), 1, "one always stays");
    }
}
