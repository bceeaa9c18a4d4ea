//! Sixteen bytes at a time: where something stands in them that means more to JSON or BSON than itself.

use wide::{i8x16, u8x16};

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
    Found((is_low(block) | block.simd_eq(all(b'\\'))).to_bitmask())
}

/// What cannot stand in a JSON string as it is.
#[inline(always)]
pub(crate) fn to_escape(block: &Block) -> Found {
    let block = vector(block);
    let is_ascii = all(u8::MAX).simd_lt(block);
    Found((is_low(block) & is_ascii | block.simd_eq(all(b'\\'))).to_bitmask())
}

/// What is not ASCII.
#[inline(always)]
pub(crate) fn not_ascii(block: &Block) -> Found {
    Found(vector(block).to_bitmask())
}

/// What is below the space, the quote, and what is not ASCII: with a sign that is below the space as well.
// With this bit turned, the quote takes the place of the space, and whatever is below stays there.
#[inline(always)]
fn is_low(block: i8x16) -> i8x16 {
    const TURNED: u8 = b'"' ^ b' ';
    (block ^ all(TURNED)).simd_lt(all(b' ' + 1))
}

/// The bytes as hexadecimal digits.
#[inline(always)]
pub(crate) fn hex(block: &Block) -> [Block; 2] {
    let bytes = u8x16::from(*block);
    let low_half = u8x16::splat(0x0F);
    let digits = |half: u8x16| {
        let half = vector(half.as_array());
        let letters = all(9).simd_lt(half) & all(b'a' - 10 - b'0');
        u8x16::from((half + all(b'0') + letters).to_array().map(i8::cast_unsigned))
    };
    let (high, low) = (digits(bytes >> 4 & low_half), digits(bytes & low_half));
    [u8x16::unpack_low(high, low).to_array(), u8x16::unpack_high(high, low).to_array()]
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
        check(not_ascii, |byte| !byte.is_ascii());
    }

    #[test]
    fn hexadecimal_digits_are_those_of_each_byte() {
        for first in 0..=u8::MAX {
            let block: Block = std::array::from_fn(|index| first.wrapping_add(17 * index as u8));
            let expected: String = block.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex(&block).as_flattened(), expected.as_bytes());
        }
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
