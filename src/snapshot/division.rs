//! How a collection is divided into ranges of ids, which are read side by side.

use bson::{Bson, Document};

use crate::snapshot::progress::IdRange;

/// Documents in a range, where the collection is not very large.
const SIZE: u64 = 50_000;
/// They all stand in the checkpoint.
const MOST: u64 = 256;
/// So many ids are drawn for each range.
const DRAWN: u64 = 20;

/// How many ids are to be drawn at random for a collection of so many documents; `None` if it stays whole.
pub(super) fn sample_size(count: u64) -> Option<i64> {
    let ranges = (count / SIZE).min(MOST);
    (ranges > 1).then(|| (ranges * DRAWN) as i64)
}

/// Whether the id that was drawn as the `nth`, from 1, is a bound; sorted as the server sorts them.
pub(super) fn is_bound(nth: u64) -> bool {
    nth.is_multiple_of(DRAWN)
}

/// The ranges between these bounds. After the last bound there is only a part of a range, so it is none.
pub(super) fn ranges(mut bounds: Vec<Bson>) -> Vec<IdRange> {
    bounds.dedup();
    bounds.pop();
    let froms = std::iter::once(None).chain(bounds.iter().cloned().map(Some));
    let tos = bounds.iter().cloned().map(Some).chain(std::iter::once(None));
    let range = |(number, (from, to))| IdRange { number, from, is_begun: false, to };
    froms.zip(tos).enumerate().map(range).collect()
}

/// The greatest of all ids, where a range has to ask for it: with a lower bound and none above, the server ends
/// before it.
pub(super) fn last_of(range: &IdRange) -> Option<IdRange> {
    let ends_before =
        range.to.is_none() && range.from.as_ref().is_some_and(|from| *from != Bson::MaxKey);
    ends_before.then(|| IdRange { number: range.number, from: None, is_begun: false, to: None })
}

/// The server's answer to `count`.
pub(super) fn count_of(answer: &Document) -> u64 {
    let count = answer.get("n").and_then(|n| n.as_i64().or(n.as_i32().map(i64::from)));
    count.unwrap_or(0).unsigned_abs()
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn range(number: usize, from: Option<i32>, to: Option<i32>) -> IdRange {
        IdRange { number, from: from.map(Bson::from), is_begun: false, to: to.map(Bson::from) }
    }

    #[test]
    fn a_large_collection_is_divided() {
        assert_eq!(sample_size(0), None);
        assert_eq!(sample_size(99_999), None);
        assert_eq!(sample_size(100_000), Some(40));
        assert_eq!(sample_size(149_999), Some(40));
        assert_eq!(sample_size(150_000), Some(60));
        assert_eq!(sample_size(12_800_000), Some(5_120));
        assert_eq!(sample_size(u64::MAX), Some(5_120));
    }

    #[test]
    fn every_twentieth_id_is_a_bound_but_the_last() {
        assert!((1..=60).filter(|nth| is_bound(*nth)).eq([20, 40, 60]));
        let bounds = |ids: &[i32]| ids.iter().copied().map(Bson::from).collect::<Vec<_>>();
        assert_eq!(ranges(vec![]), [range(0, None, None)]);
        assert_eq!(ranges(bounds(&[7])), [range(0, None, None)]);
        let three = [range(0, None, Some(7)), range(1, Some(7), Some(9)), range(2, Some(9), None)];
        assert_eq!(ranges(bounds(&[7, 9, 12])), three);
        assert_eq!(
            ranges(bounds(&[7, 7, 9, 12])),
            three,
            "an id that was drawn twice is one bound"
        );
    }

    #[test]
    fn the_greatest_id_is_asked_for_where_the_server_ends_before_it() {
        assert_eq!(last_of(&range(3, Some(7), None)), Some(range(3, None, None)));
        assert_eq!(last_of(&range(3, None, None)), None);
        assert_eq!(last_of(&range(3, Some(7), Some(9))), None);
        assert_eq!(last_of(&IdRange { from: Some(Bson::MaxKey), ..range(3, None, None) }), None);
        let begun = IdRange { is_begun: true, ..range(3, Some(7), None) };
        assert_eq!(last_of(&begun), Some(range(3, None, None)));
    }

    #[test]
    fn a_count_is_of_either_type() {
        assert_eq!(count_of(&doc! { "n": 5_i32, "ok": 1.0 }), 5);
        assert_eq!(count_of(&doc! { "n": 5_000_000_000_i64 }), 5_000_000_000);
        assert_eq!(count_of(&doc! { "ok": 1.0 }), 0);
    }
}
