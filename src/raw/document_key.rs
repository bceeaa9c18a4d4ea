//! The key of a snapshot's document: what its message has in place of a resume token.

use crate::raw::element::{Document, Value};

/// The document's key, of an event that the snapshot has made.
pub(crate) fn document_key(event: &[u8]) -> Option<&[u8]> {
    /// How such an event begins, after its length.
    const BEGINNING: &[u8] = b"\x02operationType\0\x09\0\0\0snapshot\0";
    if !event.get(4..)?.starts_with(BEGINNING) {
        return None;
    }
    match Document::new(event).get(b"documentKey")?.value {
        // A document without an `_id` has none.
        Value::Document(key) => Some(key.bytes()).filter(|key| is_key(key)),
        _ => None,
    }
}

/// Whether this is a document's key, or else a resume token.
pub(crate) fn is_key(place: &[u8]) -> bool {
    // After the length and the type of its first field. A token begins with `_data`.
    place.get(5..9) == Some(b"_id\0")
}
