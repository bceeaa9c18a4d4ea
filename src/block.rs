//! Sixteen bytes at a time: where something stands in them that means more to JSON or BSON than itself.

use wide::i8x16;

/// How many bytes are looked at together.
pub(crate) const SIZE: usize = 16;

pub(crate) type Block = [u8; SIZE];

/// Which bytes of a block were looked for and are there: a bit for each, the first one's lowest.
#[derive(Clone, Copy)]
pub(crate) struct Found(u32);

impl Found {
    #[inline(always)]
    pub(crate) fn is_some(self) -> bool {
        self.0 != 0
    }

    /// The place of the first one, or [`SIZE`].
    #[inline(always)]
    pub(crate) fn first(self) -> usize {
        (self.0 | 1 << SIZE).trailing_zeros() as usize
    }
}

/// The places, in order.
impl Iterator for Found {
    type Item = usize;

    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        let first = self.is_some().then(|| self.first());
        self.0 &= self.0.wrapping_sub(1);
        first
    }
}

#[inline(always)]
fn vector(block: &Block) -> i8x16 {
    i8x16::from(block.map(u8::cast_signed))
}

#[inline(always)]
fn all(byte: u8) -> i8x16 {
    i8x16::splat(byte.cast_signed())
}

/// The place of the first NUL.
// A walk cannot go on before it knows that. By words it is known sooner than by vectors.
#[inline(always)]
pub(crate) fn nul(block: &Block) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const HIGH: u64 = ONES << 7;
    let (words, _) = block.as_chunks();
    words.iter().enumerate().find_map(|(index, word)| {
        let word = u64::from_le_bytes(*word);
        // The high bit of each byte that is 0; those above the first may be false.
        let found = word.wrapping_sub(ONES) & !word & HIGH;
        (found != 0).then(|| index * 8 + (found.trailing_zeros() / 8) as usize)
    })
}

/// What cannot be copied into a JSON string without a look: what is escaped, the NUL among it, and what is
/// not ASCII.
#[inline(always)]
pub(crate) fn special(block: &Block) -> Found {
    let block = vector(block);
    // With a sign, what is not ASCII is below the space as well.
    let low = block.simd_lt(all(b' '));
    Found((low | block.simd_eq(all(b'"')) | block.simd_eq(all(b'\\'))).to_bitmask())
}

/// What cannot stand in a JSON string as it is.
#[inline(always)]
pub(crate) fn to_escape(block: &Block) -> Found {
    let block = vector(block);
    let control = block.simd_lt(all(b' ')) & all(u8::MAX).simd_lt(block);
    Found((control | block.simd_eq(all(b'"')) | block.simd_eq(all(b'\\'))).to_bitmask())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(find: impl Fn(&Block) -> Found, is_it: impl Fn(u8) -> bool) {
        for byte in 0..=u8::MAX {
            for other in [0x20, b'!', b'#', b'[', b']', 0x7F, 0x80, 0xFF] {
                for position in 0..SIZE {
                    let mut block = [other; SIZE];
                    block[position..].fill(byte);
                    let expected = block.iter().position(|&byte| is_it(byte));
                    let found = find(&block);
                    assert_eq!(found.is_some(), expected.is_some(), "{block:?}");
                    assert_eq!(found.first(), expected.unwrap_or(SIZE), "{block:?}");
                    let expected: Vec<_> = (0..SIZE).filter(|&place| is_it(block[place])).collect();
                    assert_eq!(found.collect::<Vec<_>>(), expected, "{block:?}");
                }
            }
        }
    }

    #[test]
    fn the_first_byte_that_is_meant_is_found() {
        let is_escaped = |byte: u8| byte < 0x20 || byte == b'"' || byte == b'\\';
        check(to_escape, is_escaped);
        check(special, |byte| is_escaped(byte) || !byte.is_ascii());
    }

    #[test]
    fn the_first_nul_is_found_wherever_it_stands() {
        for other in [1, 0x7F, 0x80, 0xFF] {
            for position in 0..=SIZE {
                let mut block = [other; SIZE];
                block[position..].fill(0);
                assert_eq!(nul(&block), (position < SIZE).then_some(position));
                if let Some(rest) = block.get_mut(position + 1..) {
                    rest.fill(1);
                }
                assert_eq!(nul(&block), (position < SIZE).then_some(position));
            }
        }
    }
}
