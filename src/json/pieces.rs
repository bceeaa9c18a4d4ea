//! Short texts, put into room that is there in pieces of a fixed size.

use crate::raw::block::{self, Block};

/// Room for a value of most types, and the comma after it.
pub(super) type ValueRoom = [u8; ROOM];
pub(super) const ROOM: usize = 72;

/// Puts a text of a fixed length at a place that has room for it.
#[inline(always)]
pub(super) fn put_at<const N: usize>(room: &mut [u8], at: usize, text: &[u8; N]) {
    if let Some(room) = room.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *room = *text;
    }
}

/// A text of N to 2 N bytes as two pieces of a fixed size, which overlap.
pub(super) type Ends<'a, const N: usize> = (&'a [u8; N], &'a [u8; N]);

#[inline(always)]
pub(super) fn ends<const N: usize>(text: &[u8]) -> Option<Ends<'_, N>> {
    Some((text.first_chunk()?, text.last_chunk()?))
}

/// Puts both in their places of a text of that length.
#[inline(always)]
pub(super) fn put_ends<const N: usize>(room: &mut [u8], (first, last): Ends<'_, N>, length: usize) {
    put_at(room, 0, first);
    if let Some(start) = length.checked_sub(N) {
        put_at(room, start, last);
    }
}

/// A text of up to that length is put as two pieces of a fixed size.
pub(super) const SHORT: usize = 32;

/// Puts a short text at the beginning of the room, and tells its length.
#[inline(always)]
pub(super) fn put_text<const N: usize>(room: &mut [u8; N], text: &[u8]) -> usize {
    const { assert!(N >= SHORT) };
    let length = text.len();
    match length {
        0 => {}
        1..4 => put_few(room, few(text), length),
        4..8 => put_both::<4>(room, text),
        8..=16 => put_both::<8>(room, text),
        17..=SHORT => put_both::<16>(room, text),
        _ => return 0,
    }
    length
}

/// The beginning of a text, as if there were spaces after it.
#[inline(always)]
pub(super) fn padded(text: &[u8]) -> Block {
    let mut padded = [b' '; SHORT];
    put_text(&mut padded, text);
    *padded.first_chunk().unwrap_or(&[b' '; block::SIZE])
}

#[inline(always)]
fn put_both<const N: usize>(room: &mut [u8], text: &[u8]) {
    if let Some(ends) = ends::<N>(text) {
        put_ends(room, ends, text.len());
    }
}

/// Puts a number there, and tells its length.
#[inline(always)]
pub(super) fn put_number<const N: usize>(room: &mut [u8; N], number: impl itoa::Integer) -> usize {
    put_text(room, itoa::Buffer::new().format(number).as_bytes())
}

/// Puts a text that is less than a block and needs no escapes: its quotes, a byte after it.
#[inline(always)]
pub(super) fn put_quoted(room: &mut ValueRoom, block: &Block, length: usize, behind: u8) -> usize {
    // As the compiler sees, it fits.
    let length = length % block::SIZE;
    let [quote, inside @ ..] = room;
    *quote = b'"';
    if let Some(room) = inside.first_chunk_mut() {
        *room = *block;
    }
    [inside[length], inside[length + 1]] = [b'"', behind];
    length + 3
}

/// A byte as hexadecimal digits.
#[inline(always)]
pub(super) fn hex(byte: u8) -> [u8; 2] {
    [hex_digit(byte >> 4), hex_digit(byte & 15)]
}

/// An ObjectId as hexadecimal digits.
#[inline(always)]
pub(super) fn hex_of_id(id: &[u8; 12]) -> [u8; 24] {
    let mut block = [0; block::SIZE];
    put_at(&mut block, 0, id);
    let digits = block::hex(&block);
    *digits.as_flattened().first_chunk().unwrap_or(&[b'0'; 24])
}

/// The first, the middle and the last byte of a text of one to three.
#[inline(always)]
fn few(text: &[u8]) -> [u8; 3] {
    let byte = |index: usize| text.get(index).copied().unwrap_or_default();
    [byte(0), byte(text.len() / 2), byte(text.len().saturating_sub(1))]
}

/// Puts them in their places of a text of that length.
#[inline(always)]
fn put_few(room: &mut [u8], [first, middle, last]: [u8; 3], length: usize) {
    for (index, byte) in [(0, first), (length / 2, middle), (length - 1, last)] {
        if let Some(room) = room.get_mut(index) {
            *room = byte;
        }
    }
}

pub(super) const fn hex_digit(number: u8) -> u8 {
    number + if number < 10 { b'0' } else { b'a' - 10 }
}

/// Puts a text of a fixed length at the beginning of the room.
#[inline(always)]
pub(super) fn put<const N: usize>(room: &mut ValueRoom, text: &[u8; N]) -> usize {
    if let Some(room) = room.first_chunk_mut() {
        *room = *text;
    }
    N
}

#[inline(always)]
pub(super) fn put_short(room: &mut ValueRoom, text: &[u8], behind: u8) -> usize {
    let length = put_text(room, text);
    if let Some(room) = room.get_mut(length) {
        *room = behind;
    }
    length + 1
}

#[inline(always)]
pub(super) fn put_integer(room: &mut ValueRoom, number: impl itoa::Integer, behind: u8) -> usize {
    put_short(room, itoa::Buffer::new().format(number).as_bytes(), behind)
}

// Out of line, as are dates and ids: what is around it should be small enough to be inlined.
#[inline(never)]
pub(super) fn put_timestamp(room: &mut ValueRoom, both: u64) -> usize {
    let (time, increment) = ((both >> 32) as u32, both as u32);
    let mut length = put(room, b"{\"$timestamp\":{\"t\":");
    for (number, behind) in [(time, b",\"i\":"), (increment, b"}},\0\0")] {
        if let Some(room) =
            room.get_mut(length..).and_then(<[u8]>::first_chunk_mut::<{ SHORT + 5 }>)
        {
            let digits = put_number(room, number);
            put_at(room, digits, behind);
            length += digits + behind.len();
        }
    }
    // The NULs do not count.
    length - 2
}

#[inline(always)]
pub(super) fn put_quoted_hex(room: &mut ValueRoom, id: &[u8; 12]) -> usize {
    let length = put(room, b"\"........................\",");
    put_at(room, 1, &hex_of_id(id));
    length
}

/// The beginning of an oplog object whose document key is an ObjectId.
pub(super) const OBJECT_ID_KEY: &[u8; 99] = b"{\"DocumentKey\":{\"DocumentId\":\"\
    ........................\",\"_id\":{\"$oid\":\"........................\"}},";

#[inline(always)]
pub(super) fn put_object_id_key(room: &mut [u8; OBJECT_ID_KEY.len()], id: &[u8; 12]) -> usize {
    *room = *OBJECT_ID_KEY;
    let digits = hex_of_id(id);
    put_at(room, 30, &digits);
    put_at(room, 71, &digits);
    room.len()
}

#[inline(never)]
pub(super) fn put_object_id(room: &mut ValueRoom, id: &[u8; 12]) -> usize {
    let length = put(room, b"{\"$oid\":\"........................\"},");
    put_at(room, 9, &hex_of_id(id));
    length
}
