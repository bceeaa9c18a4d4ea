//! Whether text is UTF-8.

use crate::json::pieces;
use crate::raw::block;

/// Quick for text of any length: what is long is a library's affair, which takes its time for what is short.
pub(super) fn is_valid(text: &[u8]) -> bool {
    const LONG: usize = 64;
    if text.len() < LONG { is_short_valid(text) } else { simdutf8::basic::from_utf8(text).is_ok() }
}

/// Goes from one character that is not ASCII to the next: a short text has few of them, mostly.
fn is_short_valid(text: &[u8]) -> bool {
    let mut rest = text;
    loop {
        let ascii = match rest.first_chunk::<{ block::SIZE }>() {
            Some(block) => block::not_ascii(block).first(),
            None => block::not_ascii(&pieces::padded(rest)).first().min(rest.len()),
        };
        let (ascii, behind) = rest.split_at(ascii);
        rest = match behind {
            [] => return true,
            // No character begins here: the whole block was ASCII.
            _ if ascii.len() == block::SIZE => behind,
            [0xC2..=0xDF, 0x80..=0xBF, behind @ ..] => behind,
            [first, ..] => {
                let width = if *first < 0xF0 { 3 } else { 4 };
                match behind.split_at_checked(width) {
                    Some((character, behind)) if str::from_utf8(character).is_ok() => behind,
                    _ => return false,
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_is_what_the_standard_library_says() {
        let pieces = [
            "a",
            "ab\0",
            "a longer piece of text",
            "\u{7F}",
            "ü",
            "\u{80}",
            "\u{7FF}",
            "\u{800}",
            "ключ",
            "漢字",
            "\u{FFFF}",
            "😀",
            "\u{10FFFF}",
        ];
        for first in pieces {
            for second in pieces {
                for third in pieces {
                    let text = [first, second, third].concat().repeat(2);
                    assert!(is_valid(text.as_bytes()), "{text:?}");
                    for place in 0..text.len() {
                        let mut bytes = text.clone().into_bytes();
                        for byte in
                            [b'x', 0x80, 0xBF, 0xC0, 0xC2, 0xDF, 0xE0, 0xED, 0xF0, 0xF4, 0xFF]
                        {
                            bytes[place] = byte;
                            let expected = str::from_utf8(&bytes).is_ok();
                            assert_eq!(is_valid(&bytes), expected, "{bytes:x?}");
                        }
                        let (cut, _) = bytes.split_at(place);
                        assert_eq!(is_valid(cut), str::from_utf8(cut).is_ok(), "{cut:x?}");
                    }
                }
            }
        }
    }
}
