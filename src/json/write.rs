//! Documents and change events as text, one or several at a time.

use std::mem;

use crate::json::event::document_id_of;
use crate::json::style::{ExtendedJson, Format, Style};
use crate::json::writer::Writer;

/// Appends a BSON document as Extended JSON.
///
/// # Examples
///
/// ```
/// use mongostream::json::{ExtendedJson, write_document};
///
/// let document = b"\x0C\0\0\0\x10n\0\x05\0\0\0\0";
/// let mut line = String::new();
/// write_document(&mut line, document, ExtendedJson::Relaxed);
/// assert_eq!(line, r#"{"n":5}"#);
/// ```
pub fn write_document(out: &mut String, document: &[u8], mode: ExtendedJson) {
    append(out, document, mode, |writer| writer.document(document));
}

/// Appends a change event in the given shape.
///
/// [`Format::Event`] is [`write_document`]. [`Format::Oplog`] is one object with these keys, in this order:
///
/// | key | value |
/// |---|---|
/// | `DocumentKey` | `DocumentId`, and the fields of the server's `documentKey` |
/// | `Namespace` | `Database` and `Collection`, `""` where there is none |
/// | `OperationType` | `"insert"`, `"update"`, ... |
/// | `UpdateDescription` | the server's, with `"updatedFields":{}` where it has none |
/// | `UpdatedPaths` | only with the option `updated_paths`, and only where the event has an update description |
/// | `FullDocument`, `FullDocumentBeforeChange`, `To`, `OperationDescription`, `TxnNumber`, `Lsid` | where the event has them; `To` has the shape of `Namespace` |
/// | the server's name | every other field of the event |
/// | `ClusterTime`, `WallTime`, `ResumeToken` | where the event has them |
///
/// `DocumentId` is always a string: an ObjectId's hex digits, a string itself, the relaxed Extended JSON text
/// of any other `_id`, and `""` where there is none.
///
/// A message of the library's own has the shape of an event too, with an operation that no server has: `gap`
/// (`OperationDescription` says `from` when `to` when changes may be missing) and `oversized` (an event that the
/// server cannot send; `OperationDescription` has its `operationType`, the other keys are the event's own).
pub fn write_message(out: &mut String, event: &[u8], format: Format, mode: ExtendedJson) {
    write_styled(out, event, Style { format, mode, updated_paths: false });
}

pub(crate) fn write_styled(out: &mut String, event: &[u8], style: Style) {
    append(out, event, style.mode, |writer| writer.styled(event, style));
}

/// An event: UTF-8, as it comes out of the [`Writer`].
pub(crate) fn of_event(event: &[u8], style: Style) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new(), room_for(event, style.mode), style.mode);
    writer.styled(event, style);
    writer.finish()
}

/// Events, each on a line of its own that ends in a newline: UTF-8, as it comes out of the [`Writer`].
pub(crate) fn lines<'a>(
    events: impl Iterator<Item = &'a [u8]> + Clone,
    style: Style,
    out: &mut Vec<u8>,
) {
    let more = events.clone().map(|event| room_for(event, style.mode)).sum();
    let mut writer = Writer::new(mem::take(out), more, style.mode);
    for event in events {
        writer.styled(event, style);
        writer.end(b'\n');
    }
    *out = writer.finish();
}

/// Texts in one piece of memory: UTF-8, each followed by a NUL.
pub(crate) struct Texts {
    bytes: Vec<u8>,
    /// Where each ends, its NUL included.
    ends: Vec<usize>,
}

impl Texts {
    /// One of them, with its NUL.
    pub(crate) fn get(&self, index: usize) -> Option<&[u8]> {
        let start = index.checked_sub(1).map_or(Some(&0), |before| self.ends.get(before))?;
        self.bytes.get(*start..*self.ends.get(index)?)
    }
}

/// Each event as a text of its own.
pub(crate) fn texts<'a>(
    events: impl ExactSizeIterator<Item = &'a [u8]> + Clone,
    style: Style,
) -> Texts {
    let more = events.clone().map(|event| room_for(event, style.mode)).sum();
    let mut writer = Writer::new(Vec::new(), more, style.mode);
    let mut ends = Vec::with_capacity(events.len());
    for event in events {
        writer.styled(event, style);
        ends.push(writer.end(0));
    }
    Texts { bytes: writer.finish(), ends }
}

/// What `DocumentId` says in the oplog shape, as a plain text: without the quotes and escapes of JSON.
pub(crate) fn document_id(event: &[u8]) -> String {
    String::from_utf8_lossy(&document_id_of(event)).into_owned()
}

/// A JSON array of texts.
pub(crate) fn array_of_texts(texts: &[String]) -> String {
    let mut out = String::new();
    append(&mut out, &[], ExtendedJson::Relaxed, |writer| writer.texts(texts));
    out
}

fn append<'a>(
    out: &mut String,
    source: &[u8],
    mode: ExtendedJson,
    write: impl FnOnce(&mut Writer<'a>),
) {
    // A String of its own is reused as it is; text that is already there need not be checked again.
    let in_place = out.is_empty();
    let bytes = if in_place { mem::take(out).into_bytes() } else { Vec::new() };
    let mut writer = Writer::new(bytes, room_for(source, mode), mode);
    write(&mut writer);
    let bytes = writer.finish();
    if in_place {
        *out = text(bytes);
    } else {
        out.push_str(&String::from_utf8_lossy(&bytes));
    }
}

/// What the JSON of a document usually needs.
fn room_for(source: &[u8], mode: ExtendedJson) -> usize {
    const FIXED_TEXT: usize = 192;
    let wrappers = match mode {
        ExtendedJson::Relaxed => source.len() / 4,
        ExtendedJson::Canonical => source.len(),
    };
    source.len().saturating_add(wrappers).saturating_add(FIXED_TEXT)
}

/// What a [`Writer`] has written.
fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Canonical, so that every token comes back as it was.
pub(crate) fn of_token(token: &[u8]) -> String {
    let mut text = String::new();
    write_document(&mut text, token, ExtendedJson::Canonical);
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::parse::parse_document;
    use bson::doc;

    #[test]
    fn doubles_read_back_to_the_last_digit() {
        for number in (1..3000).map(|n| f64::from(n) / 7.0 * 1.1) {
            for number in [number, -number, number * 1e-7, number * 1e20, number * 1e300] {
                let document = doc! { "x": number }.to_vec().expect("BSON");
                let mut text = String::new();
                write_document(&mut text, &document, ExtendedJson::Relaxed);
                assert_eq!(parse_document(&text), Ok(doc! { "x": number }), "{text}");
            }
        }
    }

    #[test]
    fn keys_and_texts_of_every_length_are_escaped_wherever_they_stand() {
        let check = |document: bson::Document| {
            let mut text = String::new();
            let bytes = document.to_vec().expect("BSON");
            write_document(&mut text, &bytes, ExtendedJson::Relaxed);
            assert_eq!(text, serde_json::to_string(&document).expect("JSON"));
        };
        for length in 1..40 {
            for position in 0..length {
                let with = |special| {
                    let mut text = "k".repeat(length);
                    text.replace_range(position..position + 1, special);
                    text
                };
                // With nothing after it, and with enough for a wide copy.
                for special in ["x", "\"", "\\", "\n", "\u{1F}", "ü"] {
                    let key = with(special);
                    check(doc! { &key: "" });
                    check(doc! { &key: "y".repeat(30) });
                }
                for special in ["x", "\"", "\\", "\n", "\u{1F}", "ü", "\0"] {
                    let text = with(special);
                    check(doc! { "text": &text });
                    check(doc! { "text": &text, "more": "y".repeat(30) });
                }
            }
        }
    }

    #[test]
    fn only_utf_8_is_written_whatever_the_bytes_are() {
        let event = doc! {
            "_id": { "_data": "82" },
            "operationType": "insert",
            "ns": { "db": "dä", "coll": "c" },
            "documentKey": { "_id": "ключ" },
            "fullDocument": { "ab": "xyz", "note": "a text of more than sixteen bytes", "key of many bytes": "ü" },
            "pattern": bson::Regex { pattern: "ö".try_into().expect("no NUL"), options: "im".try_into().expect("no NUL") },
        };
        let event = event.to_vec().expect("BSON");
        for position in 0..event.len() {
            for byte in [0x80, 0xC3, 0xE2, 0xFF] {
                let mut damaged = event.clone();
                damaged[position] = byte;
                for format in [Format::Oplog, Format::Event] {
                    let style = Style { format, mode: ExtendedJson::Relaxed, updated_paths: true };
                    let mut lines = Vec::new();
                    super::lines([damaged.as_slice()].into_iter(), style, &mut lines);
                    assert!(str::from_utf8(&lines).is_ok(), "{byte:#x} at {position}");
                }
            }
        }
    }

    #[test]
    fn an_event_is_written_in_the_same_way_whatever_stood_before_it() {
        let event = |ns: bson::Bson| {
            let event = doc! { "_id": { "_data": "82" }, "operationType": "insert", "ns": ns };
            event.to_vec().expect("BSON")
        };
        let orders = event(doc! { "db": "shop", "coll": "orders" }.into());
        let mut events = vec![
            orders.clone(),
            orders.clone(),
            event(doc! { "db": "shop", "coll": "others" }.into()),
            event(doc! { "db": "shop", "coll": "orders", "more": 1 }.into()),
            orders.clone(),
            event(doc! {}.into()),
            event(5.into()),
            // The last of what is written, without a comma.
            doc! { "to": { "db": "shop", "coll": "orders" } }.to_vec().expect("BSON"),
        ];
        events.extend((0..orders.len()).map(|position| {
            let mut damaged = orders.clone();
            damaged[position] ^= 0x41;
            damaged
        }));
        let style =
            Style { format: Format::Oplog, mode: ExtendedJson::Relaxed, updated_paths: false };
        for first in &events {
            for second in &events {
                let mut expected = String::new();
                for event in [first, second, first] {
                    let mut text = String::new();
                    write_styled(&mut text, event, style);
                    expected.push_str(&text);
                    expected.push('\n');
                }
                let mut lines = Vec::new();
                let events = [first, second, first].map(Vec::as_slice);
                super::lines(events.into_iter(), style, &mut lines);
                assert_eq!(text(lines), expected);
            }
        }
    }

    #[test]
    fn an_event_says_the_same_in_whatever_order_its_fields_stand() {
        let id = bson::oid::ObjectId::from_bytes(*b"\x00\x09\x0A\x9A\xA9\xFFtwelve");
        let event = doc! {
            "_id": { "_data": "82ABCD" },
            "operationType": "update",
            "clusterTime": bson::Timestamp { time: 1_700_000_000, increment: 3 },
            "wallTime": bson::DateTime::from_millis(1_700_000_000_123),
            "fullDocument": { "a": 1 },
            "ns": { "db": "shop", "coll": "orders" },
            "documentKey": { "_id": id },
            "updateDescription": { "removedFields": ["b"], "updatedFields": { "a": 1 } },
            "another": true,
        };
        let hex = "00090a9aa9ff7477656c7665";
        let expected = [
            &format!(r#"{{"DocumentKey":{{"DocumentId":"{hex}","_id":{{"$oid":"{hex}"}}}},"#),
            r#""Namespace":{"Database":"shop","Collection":"orders"},"OperationType":"update","#,
            r#""UpdateDescription":{"removedFields":["b"],"updatedFields":{"a":1}},"#,
            r#""FullDocument":{"a":1},"another":true,"#,
            r#""ClusterTime":{"$timestamp":{"t":1700000000,"i":3}},"#,
            r#""WallTime":{"$date":"2023-11-14T22:13:20.123Z"},"ResumeToken":{"_data":"82ABCD"}}"#,
        ]
        .concat();
        let mut fields: Vec<_> = event.into_iter().collect();
        for first in 0..fields.len() {
            for second in 0..fields.len() {
                fields.swap(first, second);
                let event: bson::Document = fields.iter().cloned().collect();
                let event = event.to_vec().expect("BSON");
                let mut text = String::new();
                write_message(&mut text, &event, Format::Oplog, ExtendedJson::Relaxed);
                assert_eq!(text, expected);
            }
        }
    }

    #[test]
    fn text_that_is_already_there_stays() {
        let document = doc! {"a": "ü"}.to_vec().expect("BSON");
        let mut lines = String::from("é\n");
        write_document(&mut lines, &document, ExtendedJson::Relaxed);
        lines.push('\n');
        write_document(&mut lines, &document, ExtendedJson::Canonical);
        assert_eq!(lines, "é\n{\"a\":\"ü\"}\n{\"a\":\"ü\"}");
    }

    #[test]
    fn what_is_written_parses_back() {
        let document = doc! {
            "b": bson::Binary { subtype: bson::spec::BinarySubtype::Uuid, bytes: vec![7; 16] },
            "a": [1, 2.5, "x", bson::oid::ObjectId::from_bytes([9; 12])],
            "t": bson::Timestamp { time: 5, increment: 6 },
            "n": i64::MIN,
            "d": f64::MAX,
        };
        let bytes = document.to_vec().expect("BSON");
        for mode in [ExtendedJson::Relaxed, ExtendedJson::Canonical] {
            let mut text = String::new();
            write_document(&mut text, &bytes, mode);
            assert_eq!(parse_document(&text), Ok(document.clone()));
        }
    }
}
