//! Eight bytes at a time, as the words that they are in memory (little-endian).

const ONES: u64 = u64::MAX / 255;
const HIGH: u64 = ONES << 7;

/// The high bit of each byte below `limit`, which is at most 0x80. The lowest bit set is right; those above
/// it may be false.
fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH
}

fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * u64::from(byte)), 1)
}

/// The NULs.
pub(crate) fn nuls(word: u64) -> u64 {
    below(word, 1)
}

/// What cannot stand in a JSON string as it is, the NUL among it.
pub(crate) fn to_escape(word: u64) -> u64 {
    below(word, 0x20) | equal(word, b'"') | equal(word, b'\\')
}

/// What cannot be copied into a JSON string without a look: what is escaped, and what is not ASCII.
pub(crate) fn special(word: u64) -> u64 {
    to_escape(word) | (word & HIGH)
}

/// The first of the bytes that were found; at least one was.
pub(crate) fn first(found: u64) -> usize {
    (found.trailing_zeros() / 8) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which bytes were found up to the first one, which is all that is promised.
    fn check(find: impl Fn(u64) -> u64, is_it: impl Fn(u8) -> bool) {
        for byte in 0..=u8::MAX {
            for other in [0x20, b'!', b'#', b'[', b']', 0x7F, 0x80, 0xFF] {
                for position in 0..8 {
                    let mut bytes = [other; 8];
                    bytes[position..].fill(byte);
                    let expected = bytes.iter().position(|&byte| is_it(byte));
                    let found = find(u64::from_le_bytes(bytes));
                    assert_eq!((found != 0).then(|| first(found)), expected, "{bytes:?}");
                }
            }
        }
    }

    #[test]
    fn the_first_byte_that_is_meant_is_found() {
        check(nuls, |byte| byte == 0);
        let is_escaped = |byte| byte < 0x20 || byte == b'"' || byte == b'\\';
        check(to_escape, is_escaped);
        check(special, |byte| is_escaped(byte) || !byte.is_ascii());
    }
}
