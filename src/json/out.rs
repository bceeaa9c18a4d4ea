//! Where JSON is written: plain text, quoted text, numbers.
//!
//! Text goes into room that is already there, in copies of a fixed size of which only a part may count:
//! what is written next replaces the rest. That is quicker than a copy of each text's own size.

use std::fmt;
use std::ops::Range;

use crate::json::pieces::{
    ROOM, SHORT, ValueRoom, ends, hex_digit, put_at, put_ends, put_number, put_quoted, put_text,
};
use crate::json::utf8;
use crate::raw::block::{self, Block};

/// Room for a plain key, its quotes and its colon.
const KEY: usize = block::SIZE + 3;

/// The key of a member.
#[derive(Clone, Copy)]
pub(super) struct Key<'a> {
    pub(super) text: &'a [u8],
    /// A block that begins with it, if it is short and needs no escapes.
    pub(super) plain: Option<&'a Block>,
    /// False for an element of an array, whose key is left out.
    pub(super) is_named: bool,
}

impl Key<'_> {
    /// No key, or one that is written already.
    pub(super) const NONE: Self =
        Self { text: &[], plain: Some(&[0; block::SIZE]), is_named: false };
}

/// UTF-8 under way: of what comes from outside, text that is not ASCII is checked before it is written.
pub(super) struct Out {
    /// After `at` there is room.
    bytes: Vec<u8>,
    at: usize,
}

impl Out {
    /// Appends to `bytes`, which will probably need so many more.
    pub(super) fn new(mut bytes: Vec<u8>, more: usize) -> Self {
        bytes.reserve(more);
        let at = bytes.len();
        Self { bytes, at }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        self.bytes.truncate(self.at);
        self.bytes
    }

    /// How much is written.
    pub(super) fn len(&self) -> usize {
        self.at
    }

    /// Takes back what was written after that length.
    pub(super) fn truncate(&mut self, length: usize) {
        self.at = self.at.min(length);
    }

    /// Lets `write` put something into N bytes, and tell how many of them count.
    #[inline(always)]
    pub(super) fn write<const N: usize>(&mut self, write: impl FnOnce(&mut [u8; N]) -> usize) {
        loop {
            let room = self.bytes.get_mut(self.at..self.at.wrapping_add(N));
            if let Some(room) = room.and_then(<[u8]>::first_chunk_mut) {
                self.at += write(room);
                return;
            }
            self.make_room(N);
        }
    }

    /// Makes room for that many bytes, and for more that will come.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, length: usize) {
        // Not all at once: it should still be in the processor's nearest cache when it is written.
        const MORE: usize = 1024;
        self.bytes.truncate(self.at);
        self.bytes.reserve(length);
        let end = self.bytes.capacity().min(self.at.saturating_add(length.saturating_add(MORE)));
        self.bytes.resize(end, 0);
    }

    /// Text that needs no escapes.
    #[inline(always)]
    pub(super) fn put<const N: usize>(&mut self, text: &[u8; N]) {
        self.write(|room: &mut [u8; N]| {
            *room = *text;
            N
        });
    }

    /// Text of any length that needs no escapes.
    #[inline(always)]
    pub(super) fn text(&mut self, text: &[u8]) {
        if text.len() <= SHORT {
            self.write(|room: &mut [u8; SHORT]| put_text(room, text));
        } else {
            self.other_text(text);
        }
    }

    fn other_text(&mut self, text: &[u8]) {
        let room = self.bytes.get_mut(self.at..).and_then(|room| room.get_mut(..text.len()));
        match room {
            Some(room) => room.copy_from_slice(text),
            None => {
                self.bytes.truncate(self.at);
                self.bytes.extend_from_slice(text);
            }
        }
        self.at += text.len();
    }

    /// What is written there, once more.
    pub(super) fn repeat(&mut self, written: Range<usize>) {
        let length = written.len();
        if self.bytes.len().saturating_sub(self.at) < length {
            self.make_room(length);
        }
        self.bytes.copy_within(written, self.at);
        self.at += length;
    }

    /// A member, or an element without its key, and a value that fits into the room.
    #[inline(always)]
    pub(super) fn member(&mut self, key: Key<'_>, value: impl FnOnce(&mut ValueRoom) -> usize) {
        let (key, block) = match key.plain {
            Some(block) => (key, block),
            None => {
                self.other_key(key.text, key.is_named);
                (Key::NONE, &[0; block::SIZE])
            }
        };
        self.member_with(key, block, value);
    }

    #[inline(always)]
    fn member_with(
        &mut self,
        key: Key<'_>,
        block: &Block,
        value: impl FnOnce(&mut ValueRoom) -> usize,
    ) {
        self.write(|room: &mut [u8; KEY + ROOM]| {
            // Of a block, one byte at least is not the key's.
            let length = key.text.len() & (block::SIZE - 1);
            let [quote, inside @ ..] = &mut *room;
            *quote = b'"';
            if let Some(room) = inside.first_chunk_mut() {
                *room = *block;
            }
            inside[length] = b'"';
            inside[length + 1] = b':';
            let start = (length + 3) & usize::from(key.is_named).wrapping_neg();
            let room = room.get_mut(start..).and_then(<[u8]>::first_chunk_mut);
            start + room.map_or(0, value)
        });
    }

    #[cold]
    #[inline(never)]
    fn other_key(&mut self, text: &[u8], is_named: bool) {
        if is_named {
            self.quoted(text, b':');
        }
    }

    /// `"text"`, and a byte after it.
    #[inline(never)]
    pub(super) fn quoted(&mut self, text: &[u8], behind: u8) {
        let is_written = match text.len() {
            0..block::SIZE => self.quoted_short(text, behind),
            block::SIZE..=SHORT => self.quoted_ends(text, behind),
            _ => self.quoted_long(text, behind),
        };
        if !is_written {
            self.quoted_special(text, behind);
        }
    }

    // Each of these three writes the text if it needs no escapes, and tells whether it did.

    #[inline(always)]
    fn quoted_short(&mut self, text: &[u8], behind: u8) -> bool {
        let mut padded = [b' '; SHORT];
        let length = put_text(&mut padded, text);
        let block = padded.first_chunk().filter(|block| !block::special(block).is_some());
        if let Some(block) = block {
            self.write(|room| put_quoted(room, block, length, behind));
        }
        block.is_some()
    }

    #[inline(always)]
    fn quoted_ends(&mut self, text: &[u8], behind: u8) -> bool {
        let Some(ends @ (first, last)) = ends(text) else { return false };
        let is_plain = !block::special(first).is_some() && !block::special(last).is_some();
        if is_plain {
            self.write(|room: &mut ValueRoom| {
                let [quote, inside @ ..] = room;
                *quote = b'"';
                put_ends(inside, ends, text.len());
                // As the compiler sees, it fits.
                let length = text.len() % (2 * SHORT);
                [inside[length], inside[length + 1]] = [b'"', behind];
                length + 3
            });
        }
        is_plain
    }

    #[inline(always)]
    fn quoted_long(&mut self, text: &[u8], behind: u8) -> bool {
        let (blocks, _tail) = text.as_chunks();
        let Some(last) = text.last_chunk() else { return false };
        let all = text.len() + 3;
        if self.bytes.len().saturating_sub(self.at) < all {
            self.make_room(all);
        }
        let room = self.bytes.get_mut(self.at..).and_then(|room| room.get_mut(..all));
        let Some([quote, inside @ .., end, comma]) = room else { return false };
        let mut is_special = block::special(last).is_some();
        for (room, block) in inside.as_chunks_mut().0.iter_mut().zip(blocks) {
            is_special |= block::special(block).is_some();
            *room = *block;
        }
        if let Some(room) = inside.last_chunk_mut() {
            *room = *last;
        }
        (*quote, *end, *comma) = (b'"', b'"', behind);
        if !is_special {
            self.at += all;
        }
        !is_special
    }

    #[inline(never)]
    fn quoted_special(&mut self, text: &[u8], behind: u8) {
        self.put(b"\"");
        // The check alone is much quicker than the repair.
        if utf8::is_valid(text) {
            self.escaped(text);
        } else {
            self.escaped(String::from_utf8_lossy(text).as_bytes());
        }
        self.put(&[b'"', behind]);
    }

    fn escaped(&mut self, text: &[u8]) {
        let mut rest = text;
        while let Some(ahead) = rest.first_chunk() {
            self.escaped_block(ahead, block::SIZE);
            rest = rest.get(block::SIZE..).unwrap_or_default();
        }
        // What is left, as if there were enough after it.
        let mut padded = [b' '; 3 * block::SIZE];
        let mut left = put_text(&mut padded, rest);
        let mut padded = padded.as_slice();
        while left > 0
            && let Some(ahead) = padded.first_chunk()
        {
            let length = left.min(block::SIZE);
            self.escaped_block(ahead, length);
            left -= length;
            padded = padded.get(block::SIZE..).unwrap_or_default();
        }
    }

    /// Writes the first block of what is ahead, of which bytes after `length` do not count.
    #[inline(always)]
    fn escaped_block(&mut self, ahead: &[u8; 2 * block::SIZE], length: usize) {
        const LONGEST: usize = block::SIZE * 6;
        let Some(block) = ahead.first_chunk() else { return };
        self.write(|room: &mut [u8; LONGEST + block::SIZE]| {
            // After each byte that is escaped the rest of the block moves.
            let (mut from, mut at) = (0, 0);
            put_at(room, 0, block);
            for place in block::to_escape(block) {
                at += place - from;
                let (escape, length) = &ESCAPES[usize::from(ahead[place])];
                put_at(room, at, escape);
                (from, at) = (place + 1, at + length);
                if let Some(rest) =
                    ahead.get(from..).and_then(<[u8]>::first_chunk::<{ block::SIZE }>)
                {
                    put_at(room, at, rest);
                }
            }
            at + length - from
        });
    }

    pub(super) fn integer(&mut self, number: impl itoa::Integer) {
        self.write(|room: &mut [u8; SHORT]| put_number(room, number));
    }

    /// Closes an object or array. The comma after its last member goes, one after itself comes.
    #[inline(always)]
    pub(super) fn close(&mut self, bracket: u8) {
        self.drop_comma();
        self.put(&[bracket, b',']);
    }

    /// Only a member ends in a comma.
    #[inline(always)]
    pub(super) fn drop_comma(&mut self) {
        if let Some(last) = self.at.checked_sub(1)
            && self.bytes.get(last) == Some(&b',')
        {
            self.at = last;
        }
    }
}

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.text(text.as_bytes());
        Ok(())
    }
}

/// What stands for a byte inside of a JSON string, and its length.
const ESCAPES: [([u8; 8], usize); 256] = {
    let mut table = [([0; 8], 0); 256];
    let mut byte = 0;
    while byte < 256 {
        let low = byte as u8;
        let letter = match low {
            0x08 => b'b',
            b'\t' => b't',
            b'\n' => b'n',
            0x0C => b'f',
            b'\r' => b'r',
            b'"' | b'\\' => low,
            _ => 0,
        };
        table[byte] = if letter != 0 {
            ([b'\\', letter, 0, 0, 0, 0, 0, 0], 2)
        } else if low < b' ' {
            ([b'\\', b'u', b'0', b'0', hex_digit(low >> 4), hex_digit(low & 15), 0, 0], 6)
        } else {
            ([low, 0, 0, 0, 0, 0, 0, 0], 1)
        };
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_read_back_at_every_position_of_a_text() {
        for length in 0..70 {
            for position in 0..length {
                for special in (0..0x30).chain([0x5B, 0x5C, 0x5D, 0x7E, 0x7F]) {
                    let mut text = vec![b'x'; length];
                    if let Some(byte) = text.get_mut(position) {
                        *byte = special;
                    }
                    let text = String::from_utf8(text).expect("ASCII");
                    let mut out = Out::new(Vec::new(), 0);
                    out.quoted(text.as_bytes(), b',');
                    out.drop_comma();
                    let json = out.finish();
                    assert_eq!(json, serde_json::to_vec(&text).expect("JSON"), "{text:?}");
                }
            }
        }
    }
}
