//! BSON to JSON, straight from the server's bytes.
//!
//! Values are written as [MongoDB Extended JSON v2], relaxed or canonical, every BSON type included. What
//! comes out is always valid JSON on one line, whatever the bytes are:
//!
//! - Text that is not UTF-8 has U+FFFD where it is not, in keys as well.
//! - Where a document is damaged, its fields up to the damage are followed by a last one, `"$malformed"`,
//!   whose text says what is wrong and at which byte of the input; in an array that is one more element,
//!   `{"$malformed":"..."}`. It stands in the innermost document that is damaged. What lies behind that
//!   document in the ones around it is written as usual.
//! - A document nested more than 1,000 levels deep, which no server stores, counts as damage.
//!
//! [MongoDB Extended JSON v2]: https://github.com/mongodb/specifications/blob/master/source/extended-json/extended-json.md

use std::io::Write;
use std::mem;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD as BASE64;
use bson::Bson;

use crate::decimal;
use crate::element::{Document, Element, Elements, Malformed, Value};
use crate::event::{Event, Field, Namespace};
use crate::paths;
use crate::words;

/// Which Extended JSON v2 values are written in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ExtendedJson {
    /// Easy to read: numbers are JSON numbers and dates ISO 8601 where that is possible.
    #[default]
    Relaxed,
    /// Every type kept: numbers and dates are wrapped as well, as in `{"$numberInt":"5"}`.
    Canonical,
}

/// Which shape a change event takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// One flat shape for every kind of event, always with `DocumentKey`, `Namespace`, `OperationType` and
    /// `UpdateDescription`, and more keys where the event has more.
    #[default]
    Oplog,
    /// The server's change event, field for field.
    Event,
}

pub(crate) const MAX_DEPTH: usize = 1_000;

/// How a worker's messages are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) format: Format,
    pub(crate) mode: ExtendedJson,
    /// Oplog JSON of updates has `UpdatedPaths`.
    pub(crate) updated_paths: bool,
}

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
    append(out, document, mode, |writer| {
        writer.object(Elements::new(document));
    });
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

/// Events, each on a line of its own that ends in a newline: UTF-8, as it comes out of the [`Writer`].
pub(crate) fn lines<'a>(
    events: impl Iterator<Item = &'a [u8]> + Clone,
    style: Style,
    out: &mut Vec<u8>,
) {
    out.reserve(events.clone().map(|event| room_for(event, style.mode)).sum());
    let mut writer = Writer { out: mem::take(out), mode: style.mode, stack: Vec::new() };
    for event in events {
        writer.styled(event, style);
        writer.out.push(b'\n');
    }
    *out = writer.out;
}

/// A JSON array of texts.
pub(crate) fn array_of_texts(texts: &[String]) -> String {
    let mut out = String::new();
    append(&mut out, &[], ExtendedJson::Relaxed, |writer| writer.texts(texts));
    out
}

/// Reads Extended JSON, relaxed or canonical; fields keep their order.
pub(crate) fn parse_document(text: &str) -> Result<bson::Document, String> {
    match parse(text)? {
        Bson::Document(document) => Ok(document),
        other => Err(format!("expected a JSON object, found {}", describe(&other))),
    }
}

/// Reads a JSON array of Extended JSON documents, as a pipeline is written.
pub(crate) fn parse_array_of_documents(text: &str) -> Result<Vec<bson::Document>, String> {
    let items = match parse(text)? {
        Bson::Array(items) => items,
        other => {
            let found = describe(&other);
            return Err(format!("expected a JSON array of objects, found {found}"));
        }
    };
    let documents = items.into_iter().enumerate().map(|(index, item)| match item {
        Bson::Document(document) => Ok(document),
        other => {
            let found = describe(&other);
            Err(format!("expected a JSON object at index {index}, found {found}"))
        }
    });
    documents.collect()
}

fn parse(text: &str) -> Result<Bson, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Bson::try_from(value).map_err(|error| match error.message {
        Some(message) => message,
        // The rest of the crate's text says only that it is an error of BSON.
        None => error.kind.to_string(),
    })
}

fn describe(value: &Bson) -> &'static str {
    match value {
        Bson::Document(_) => "an object",
        Bson::Array(_) => "an array",
        Bson::String(_) => "a string",
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) => "a number",
        Bson::Boolean(_) => "a boolean",
        Bson::Null => "null",
        _ => "a single Extended JSON value",
    }
}

fn append<'a>(
    out: &mut String,
    source: &[u8],
    mode: ExtendedJson,
    write: impl FnOnce(&mut Writer<'a>),
) {
    // A String of its own is reused as it is; text that is already there need not be checked again.
    let in_place = out.is_empty();
    let mut bytes = if in_place { mem::take(out).into_bytes() } else { Vec::new() };
    bytes.reserve(room_for(source, mode));
    let mut writer = Writer { out: bytes, mode, stack: Vec::new() };
    write(&mut writer);
    if in_place {
        *out = text(writer.out);
    } else {
        out.push_str(&String::from_utf8_lossy(&writer.out));
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
pub(crate) fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Object,
    Array,
    /// The scope of `{"$code":"...","$scope":{...}}`, which closes both objects.
    Scope,
}

/// An open object or array.
struct Frame<'a> {
    elements: Elements<'a>,
    shape: Shape,
}

/// Writes UTF-8 only: of what comes from outside, text that is not ASCII is checked where it is written.
struct Writer<'a> {
    out: Vec<u8>,
    mode: ExtendedJson,
    /// The objects and arrays around the one being written. Not the thread's stack: hosts bring small ones.
    stack: Vec<Frame<'a>>,
}

impl<'a> Writer<'a> {
    fn styled(&mut self, event: &'a [u8], style: Style) {
        match style.format {
            Format::Event => {
                self.object(Elements::new(event));
            }
            Format::Oplog => {
                let paths = style.updated_paths.then(|| paths::updated(event));
                self.oplog(&Event::new(event), paths);
            }
        }
    }

    /// With the paths of the updated fields if they are asked for.
    fn oplog(&mut self, event: &Event<'a>, updated_paths: Option<Vec<String>>) {
        self.open();

        self.name(b"DocumentKey");
        self.document_key(event.document(Field::DocumentKey));

        self.name(b"Namespace");
        self.namespace(event.document(Field::Namespace));

        self.name(b"OperationType");
        self.string(event.text(Field::OperationType).unwrap_or_default());

        self.name(b"UpdateDescription");
        let description = event.document(Field::UpdateDescription);
        self.update_description(description);
        if let (Some(_), Some(paths)) = (description, updated_paths) {
            self.name(b"UpdatedPaths");
            self.texts(&paths);
        }

        self.field(event, Field::FullDocument, b"FullDocument");
        self.field(event, Field::FullDocumentBeforeChange, b"FullDocumentBeforeChange");
        if let Some(to) = event.document(Field::To) {
            self.name(b"To");
            self.namespace(Some(to));
        }
        self.field(event, Field::OperationDescription, b"OperationDescription");
        self.field(event, Field::TxnNumber, b"TxnNumber");
        self.field(event, Field::Lsid, b"Lsid");
        for other in event.others() {
            self.member(&other);
        }
        self.field(event, Field::ClusterTime, b"ClusterTime");
        self.field(event, Field::WallTime, b"WallTime");
        self.field(event, Field::ResumeToken, b"ResumeToken");

        if let Some(malformed) = event.malformed {
            self.malformed(malformed);
        }
        self.close();
    }

    fn field(&mut self, event: &Event<'a>, field: Field, key: &'static [u8]) {
        if let Some(value) = event.get(field) {
            self.name(key);
            self.value(value);
        }
    }

    fn document_key(&mut self, document_key: Option<Document<'a>>) {
        const DOCUMENT_ID: &[u8] = b"DocumentId";
        self.open();
        self.name(DOCUMENT_ID);
        let id = document_key.and_then(|document| document.get(b"_id"));
        self.document_id(id.map(|element| element.value));
        self.members(document_key, |element| element.key != DOCUMENT_ID);
        self.close();
    }

    fn document_id(&mut self, id: Option<Value<'a>>) {
        match id {
            None => self.string(b""),
            Some(Value::String(text)) => self.string(text),
            Some(Value::ObjectId(id)) => {
                self.out.push(b'"');
                self.out.extend_from_slice(hex(id).as_flattened());
                self.out.push(b'"');
            }
            Some(other) => {
                let mut text =
                    Writer { out: Vec::new(), mode: ExtendedJson::Relaxed, stack: Vec::new() };
                text.value(other);
                self.string(&text.out);
            }
        }
    }

    fn namespace(&mut self, document: Option<Document<'a>>) {
        let namespace = document.map(Namespace::new).unwrap_or_default();
        self.open();
        self.name(b"Database");
        self.string(namespace.database);
        self.name(b"Collection");
        self.string(namespace.collection);
        if namespace.has_more {
            self.members(document, |element| {
                !matches!((element.key, element.value), (b"db" | b"coll", Value::String(_)))
            });
        }
        self.close();
    }

    fn update_description(&mut self, description: Option<Document<'a>>) {
        const UPDATED_FIELDS: &[u8] = b"updatedFields";
        self.open();
        if description.and_then(|document| document.get(UPDATED_FIELDS)).is_none() {
            self.name(UPDATED_FIELDS);
            self.out.extend_from_slice(b"{}");
        }
        self.members(description, |_| true);
        self.close();
    }

    /// Writes a document's fields into the object that is open.
    fn members(&mut self, document: Option<Document<'a>>, keep: impl Fn(&Element<'a>) -> bool) {
        let Some(document) = document else { return };
        for item in document.elements() {
            match item {
                Ok(element) if keep(&element) => self.member(&element),
                Ok(_) => {}
                Err(malformed) => self.malformed(malformed),
            }
        }
    }

    fn member(&mut self, element: &Element<'a>) {
        self.key(element);
        self.value(element.value);
    }

    fn object(&mut self, elements: Elements<'a>) {
        self.open();
        self.nested(Frame { elements, shape: Shape::Object });
    }

    fn value(&mut self, value: Value<'a>) {
        if let Some(frame) = self.begin(value) {
            self.nested(frame);
        }
    }

    /// Writes what is left of an open object or array, and closes it.
    fn nested(&mut self, mut frame: Frame<'a>) {
        loop {
            let offset = frame.elements.offset();
            match frame.elements.next() {
                Some(Ok(element)) => {
                    if element.value.is_nested() && self.stack.len() + 1 >= MAX_DEPTH {
                        frame.elements.stop();
                        let reason = "document nested too deeply";
                        self.mark(frame.shape, Malformed { offset, reason });
                        continue;
                    }
                    match frame.shape {
                        Shape::Array => self.separate(),
                        Shape::Object | Shape::Scope => self.key(&element),
                    }
                    if let Some(inner) = self.begin(element.value) {
                        self.stack.push(mem::replace(&mut frame, inner));
                    }
                }
                Some(Err(malformed)) => self.mark(frame.shape, malformed),
                None => {
                    self.out.extend_from_slice(match frame.shape {
                        Shape::Object => b"}",
                        Shape::Array => b"]",
                        Shape::Scope => b"}}",
                    });
                    match self.stack.pop() {
                        Some(outer) => frame = outer,
                        None => return,
                    }
                }
            }
        }
    }

    fn mark(&mut self, shape: Shape, malformed: Malformed) {
        if shape == Shape::Array {
            self.separate();
            self.open();
            self.malformed(malformed);
            self.close();
        } else {
            self.malformed(malformed);
        }
    }

    fn malformed(&mut self, malformed: Malformed) {
        self.name(b"$malformed");
        self.string(malformed.to_string().as_bytes());
    }

    fn open(&mut self) {
        self.out.push(b'{');
    }

    fn close(&mut self) {
        self.out.push(b'}');
    }

    /// Only what has just been opened ends in a bracket that opens.
    #[inline(always)]
    fn separate(&mut self) {
        if !matches!(self.out.last(), Some(b'{' | b'[') | None) {
            self.out.push(b',');
        }
    }

    #[inline(always)]
    fn key(&mut self, element: &Element<'a>) {
        self.separate();
        match element.plain_key {
            Some(bytes) => {
                self.out.push(b'"');
                let end = self.out.len() + element.key.len();
                self.out.extend_from_slice(bytes);
                self.out.truncate(end);
                self.out.extend_from_slice(b"\":");
            }
            None => {
                self.string(element.key);
                self.out.push(b':');
            }
        }
    }

    /// A key of our own, which needs no escapes.
    #[inline(always)]
    fn name(&mut self, name: &'static [u8]) {
        self.separate();
        self.out.push(b'"');
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b"\":");
    }

    fn string(&mut self, text: &[u8]) {
        self.out.push(b'"');
        escape(&mut self.out, text);
        self.out.push(b'"');
    }

    fn texts(&mut self, texts: &[String]) {
        self.out.push(b'[');
        for text in texts {
            self.separate();
            self.string(text.as_bytes());
        }
        self.out.push(b']');
    }

    fn integer(&mut self, number: impl itoa::Integer) {
        let mut buffer = itoa::Buffer::new();
        self.out.extend_from_slice(buffer.format(number).as_bytes());
    }

    fn quoted_integer(&mut self, wrapper: &[u8], number: i64) {
        self.out.extend_from_slice(wrapper);
        self.integer(number);
        self.out.extend_from_slice(b"\"}");
    }

    /// `{"$name":"text"}`, the opening given up to the text's own quotes.
    fn wrapped_text(&mut self, opening: &[u8], text: &[u8]) {
        self.out.extend_from_slice(opening);
        self.string(text);
        self.close();
    }

    /// Writes a value, or opens it and gives back what it holds.
    // Values are large: inlined into the walk, they never travel through memory.
    #[inline(always)]
    fn begin(&mut self, value: Value<'a>) -> Option<Frame<'a>> {
        let canonical = self.mode == ExtendedJson::Canonical;
        match value {
            Value::Document(document) => {
                self.open();
                return Some(Frame { elements: document.elements(), shape: Shape::Object });
            }
            Value::Array(array) => {
                self.out.push(b'[');
                return Some(Frame { elements: array.elements(), shape: Shape::Array });
            }
            Value::CodeWithScope { code, scope } => {
                self.out.extend_from_slice(b"{\"$code\":");
                self.string(code);
                self.out.extend_from_slice(b",\"$scope\":{");
                return Some(Frame { elements: scope.elements(), shape: Shape::Scope });
            }
            Value::String(text) => self.string(text),
            Value::Int32(number) if canonical => {
                self.quoted_integer(b"{\"$numberInt\":\"", number.into());
            }
            Value::Int32(number) => self.integer(number),
            Value::Int64(number) if canonical => {
                self.quoted_integer(b"{\"$numberLong\":\"", number);
            }
            Value::Int64(number) => self.integer(number),
            Value::Double(number) => self.double(number, canonical),
            Value::Boolean(true) => self.out.extend_from_slice(b"true"),
            Value::Boolean(false) => self.out.extend_from_slice(b"false"),
            Value::Null => self.out.extend_from_slice(b"null"),
            Value::ObjectId(id) => self.object_id(id),
            Value::DateTime(millis) => self.date(millis, canonical),
            Value::Timestamp { time, increment } => {
                self.out.extend_from_slice(b"{\"$timestamp\":{\"t\":");
                self.integer(time);
                self.out.extend_from_slice(b",\"i\":");
                self.integer(increment);
                self.out.extend_from_slice(b"}}");
            }
            Value::Binary { subtype, bytes } => self.binary(subtype, bytes),
            Value::Decimal128(bytes) => {
                self.out.extend_from_slice(b"{\"$numberDecimal\":\"");
                decimal::write(&mut self.out, *bytes);
                self.out.extend_from_slice(b"\"}");
            }
            Value::Regex { pattern, options } => {
                let mut options = options.to_vec();
                options.sort_unstable();
                self.out.extend_from_slice(b"{\"$regularExpression\":{\"pattern\":");
                self.string(pattern);
                self.out.extend_from_slice(b",\"options\":");
                self.string(&options);
                self.out.extend_from_slice(b"}}");
            }
            Value::DbPointer { namespace, id } => {
                self.out.extend_from_slice(b"{\"$dbPointer\":{\"$ref\":");
                self.string(namespace);
                self.out.extend_from_slice(b",\"$id\":");
                self.object_id(id);
                self.out.extend_from_slice(b"}}");
            }
            Value::Code(code) => self.wrapped_text(b"{\"$code\":", code),
            Value::Symbol(symbol) => self.wrapped_text(b"{\"$symbol\":", symbol),
            Value::Undefined => self.out.extend_from_slice(b"{\"$undefined\":true}"),
            Value::MinKey => self.out.extend_from_slice(b"{\"$minKey\":1}"),
            Value::MaxKey => self.out.extend_from_slice(b"{\"$maxKey\":1}"),
        }
        None
    }

    fn object_id(&mut self, id: &[u8; 12]) {
        self.out.extend_from_slice(b"{\"$oid\":\"");
        self.out.extend_from_slice(hex(id).as_flattened());
        self.out.extend_from_slice(b"\"}");
    }

    fn double(&mut self, number: f64, canonical: bool) {
        const WRAPPER: &[u8] = b"{\"$numberDouble\":";
        if number.is_nan() {
            return self.wrapped_text(WRAPPER, b"NaN");
        }
        if number.is_infinite() {
            let negative = number.is_sign_negative();
            let text: &[u8] = if negative { b"-Infinity" } else { b"Infinity" };
            return self.wrapped_text(WRAPPER, text);
        }
        let mut buffer = zmij::Buffer::new();
        // The shortest text that reads back as the same double, always with a point or an exponent.
        let text = buffer.format_finite(number);
        if !canonical {
            return self.out.extend_from_slice(text.as_bytes());
        }
        self.out.extend_from_slice(WRAPPER);
        self.out.push(b'"');
        match text.split_once('e') {
            None => self.out.extend_from_slice(text.as_bytes()),
            // Inside a string the spelling counts, and the specification's is 1.5E+18.
            Some((mantissa, exponent)) => {
                self.out.extend_from_slice(mantissa.as_bytes());
                let sign = if exponent.starts_with('-') { "" } else { "+" };
                let exponent = exponent.trim_start_matches('+');
                let _ = write!(self.out, "E{sign}{exponent}");
            }
        }
        self.out.extend_from_slice(b"\"}");
    }

    fn date(&mut self, millis: i64, canonical: bool) {
        const YEAR_10000: i64 = 253_402_300_800_000;
        if canonical || !(0..YEAR_10000).contains(&millis) {
            self.quoted_integer(b"{\"$date\":{\"$numberLong\":\"", millis);
            return self.close();
        }
        // Small numbers: they are quicker to divide.
        let (days, in_day) = ((millis / 86_400_000) as u32, (millis % 86_400_000) as u32);
        let (year, month, day) = civil(days);
        let (hour, minute) = (in_day / 3_600_000, in_day / 60_000 % 60);
        let (second, fraction) = (in_day / 1_000 % 60, in_day % 1_000);
        let ([c0, c1], [y0, y1]) = (two_digits(year / 100), two_digits(year % 100));
        let ([m0, m1], [d0, d1]) = (two_digits(month), two_digits(day));
        let ([h0, h1], [i0, i1]) = (two_digits(hour), two_digits(minute));
        let ([s0, s1], [f1, f2]) = (two_digits(second), two_digits(fraction % 100));
        let [_, f0] = two_digits(fraction / 100);
        let text =
            [c0, c1, y0, y1, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', i0, i1, b':', s0, s1];
        self.out.extend_from_slice(b"{\"$date\":\"");
        self.out.extend_from_slice(&text);
        if fraction != 0 {
            self.out.extend_from_slice(&[b'.', f0, f1, f2]);
        }
        self.out.extend_from_slice(b"Z\"}");
    }

    fn binary(&mut self, subtype: u8, bytes: &[u8]) {
        const OLD_BINARY: u8 = 2;
        let payload = match bytes.split_first_chunk::<4>() {
            // Subtype 2 repeats the length inside, and the official form leaves that out.
            Some((length, payload))
                if subtype == OLD_BINARY
                    && usize::try_from(i32::from_le_bytes(*length)) == Ok(payload.len()) =>
            {
                payload
            }
            _ => bytes,
        };
        self.out.extend_from_slice(b"{\"$binary\":{\"base64\":\"");
        let _ = write!(self.out, "{}", Base64Display::new(payload, &BASE64));
        self.out.extend_from_slice(b"\",\"subType\":\"");
        self.out.extend_from_slice(hex(&[subtype]).as_flattened());
        self.out.extend_from_slice(b"\"}}");
    }
}

/// Two digits for each byte.
const HEX: [[u8; 2]; 256] = {
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [hex_digit(byte as u8 >> 4), hex_digit(byte as u8 & 15)];
        byte += 1;
    }
    table
};

#[inline]
fn hex<const N: usize>(bytes: &[u8; N]) -> [[u8; 2]; N] {
    let mut text = [[0; 2]; N];
    for (digits, byte) in text.iter_mut().zip(bytes) {
        *digits = HEX[usize::from(*byte)];
    }
    text
}

const fn hex_digit(number: u8) -> u8 {
    number + if number < 10 { b'0' } else { b'a' - 10 }
}

const TWO_DIGITS: [[u8; 2]; 100] = {
    let mut table = [[0; 2]; 100];
    let mut number = 0;
    while number < 100 {
        table[number] = [b'0' + number as u8 / 10, b'0' + number as u8 % 10];
        number += 1;
    }
    table
};

/// Of a number below 100.
#[inline]
fn two_digits(number: u32) -> [u8; 2] {
    TWO_DIGITS.get(number as usize).copied().unwrap_or_default()
}

/// Year, month and day of a day counted from 1970-01-01, for days that are not before it.
fn civil(days: u32) -> (u32, u32, u32) {
    // Years that begin in March have their leap day last, which makes the months a straight line.
    const FROM_MARCH_OF_YEAR_0: u32 = 719_468;
    const DAYS_IN_400_YEARS: u32 = 146_097;
    let days = days + FROM_MARCH_OF_YEAR_0;
    let (era, day) = (days / DAYS_IN_400_YEARS, days % DAYS_IN_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (400 * era + year + next_year, month, day)
}

/// What stands behind the backslash; 0 for bytes that need none.
const ESCAPES: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 0x20 {
        table[byte] = b'u';
        byte += 1;
    }
    table[0x08] = b'b';
    table[0x09] = b't';
    table[0x0A] = b'n';
    table[0x0C] = b'f';
    table[0x0D] = b'r';
    table[b'"' as usize] = b'"';
    table[b'\\' as usize] = b'\\';
    table
};

fn escape_of(byte: u8) -> u8 {
    ESCAPES[usize::from(byte)]
}

/// Appends the inside of a JSON string, with U+FFFD where the text is not UTF-8.
#[inline(always)]
fn escape(out: &mut Vec<u8>, text: &[u8]) {
    // Most texts are short. Two words that overlap are quicker than single bytes or a call of memcpy.
    match text.len() {
        0..4 if text.iter().all(|byte| byte.is_ascii() && escape_of(*byte) == 0) => {
            out.extend(text)
        }
        4..8 => escape_ends(out, text, |first, last| {
            let half = |end: &[u8; 4]| u64::from(u32::from_le_bytes(*end));
            words::special(half(first) << 32 | half(last))
        }),
        8..=16 => escape_ends(out, text, |first, last| {
            words::special(u64::from_le_bytes(*first)) | words::special(u64::from_le_bytes(*last))
        }),
        17.. if is_plain(text) => out.extend_from_slice(text),
        _ => escape_special(out, text),
    }
}

/// For a text of N to 2 N bytes, of which `check` is told the first and the last N.
#[inline(always)]
fn escape_ends<const N: usize>(
    out: &mut Vec<u8>,
    text: &[u8],
    check: impl Fn(&[u8; N], &[u8; N]) -> u64,
) {
    match (text.first_chunk(), text.last_chunk()) {
        (Some(first), Some(last)) if check(first, last) == 0 => {
            let end = out.len() + text.len();
            out.extend_from_slice(first);
            out.truncate(end - N);
            out.extend_from_slice(last);
        }
        _ => escape_special(out, text),
    }
}

/// Whether a text of 8 bytes or more is ASCII with nothing to escape.
#[inline]
fn is_plain(text: &[u8]) -> bool {
    let (words, _tail) = text.as_chunks::<8>();
    let mut words = words.iter().chain(text.last_chunk::<8>());
    words.all(|word| words::special(u64::from_le_bytes(*word)) == 0)
}

#[inline(never)]
fn escape_special(out: &mut Vec<u8>, text: &[u8]) {
    // The check alone is much quicker than the repair.
    if str::from_utf8(text).is_err() {
        return escape_special(out, String::from_utf8_lossy(text).as_bytes());
    }
    let mut text = text;
    while let Some(position) = position_to_escape(text)
        && let Some((clean, [byte, after @ ..])) = text.split_at_checked(position)
    {
        out.extend_from_slice(clean);
        match escape_of(*byte) {
            b'u' => {
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(hex(&[*byte]).as_flattened());
            }
            letter => out.extend_from_slice(&[b'\\', letter]),
        }
        text = after;
    }
    out.extend_from_slice(text);
}

fn position_to_escape(text: &[u8]) -> Option<usize> {
    let (words, tail) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = words::to_escape(u64::from_le_bytes(*word));
        if found != 0 {
            return Some(index * 8 + words::first(found));
        }
    }
    let in_tail = tail.iter().position(|&byte| escape_of(byte) != 0)?;
    Some(words.len() * 8 + in_tail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn escapes_read_back_at_every_position_of_a_word() {
        for length in 0..20 {
            for position in 0..length {
                for special in (0..0x30).chain([0x5B, 0x5C, 0x5D, 0x7E, 0x7F]) {
                    let mut text = vec![b'x'; length];
                    if let Some(byte) = text.get_mut(position) {
                        *byte = special;
                    }
                    let text = String::from_utf8(text).expect("ASCII");
                    let mut json = vec![b'"'];
                    escape(&mut json, text.as_bytes());
                    json.push(b'"');
                    assert_eq!(json, serde_json::to_vec(&text).expect("JSON"), "{text:?}");
                }
            }
        }
    }

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
    fn keys_of_every_length_are_escaped_wherever_they_stand() {
        for length in 1..40 {
            for position in 0..length {
                for special in ["x", "\"", "\\", "\n", "\u{1F}", "ü"] {
                    let mut key = "k".repeat(length);
                    key.replace_range(position..position + 1, special);
                    // With nothing behind them, and with enough for a wide copy.
                    for last in [doc! { &key: "" }, doc! { &key: "y".repeat(30), "z": &key }] {
                        let mut text = String::new();
                        let bytes = last.to_vec().expect("BSON");
                        write_document(&mut text, &bytes, ExtendedJson::Relaxed);
                        assert_eq!(text, serde_json::to_string(&last).expect("JSON"));
                    }
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
    fn days_are_counted_through_leap_years() {
        let mut expected = (1970, 1, 1);
        for day in 0..2_932_897 {
            assert_eq!(civil(day), expected, "day {day}");
            let (year, month, date) = expected;
            let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
            let length = match month {
                2 if leap => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
            expected = if date < length {
                (year, month, date + 1)
            } else if month < 12 {
                (year, month + 1, 1)
            } else {
                (year + 1, 1, 1)
            };
        }
        assert_eq!(expected, (10_000, 1, 1));
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
    fn both_modes_parse_and_keep_the_order() {
        let relaxed = parse_document(r#"{"z": 1, "a": {"$date": "1970-01-01T00:00:00Z"}}"#);
        let canonical =
            parse_document(r#"{"z": {"$numberInt": "1"}, "a": {"$date": {"$numberLong": "0"}}}"#);
        let expected = doc! {"z": 1, "a": bson::DateTime::from_millis(0)};
        assert_eq!(relaxed.as_ref(), Ok(&expected));
        assert_eq!(canonical.as_ref(), Ok(&expected));
        let keys: Vec<_> = expected.keys().collect();
        assert_eq!(keys, ["z", "a"]);
        assert_eq!(
            parse_array_of_documents(r#"[{"$match": {"n": {"$gt": 5000000000}}}, {}]"#),
            Ok(vec![doc! {"$match": {"n": {"$gt": 5_000_000_000_i64}}}, doc! {}])
        );
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

    #[test]
    fn parse_errors_say_what_and_where() {
        let error = |text| parse_document(text).expect_err(text);
        assert!(error("{\"a\": }").contains("line 1 column 7"));
        assert_eq!(error("[]"), "expected a JSON object, found an array");
        assert_eq!(
            error(r#"{"$oid": "000000000000000000000000"}"#),
            "expected a JSON object, found a single Extended JSON value"
        );
        assert!(error(r#"{"a": {"$oid": "nonsense"}}"#).contains("invalid character 'n'"));
        assert!(error(r#"{"a": {"$date": "noon"}}"#).contains("\"noon\", expected rfc3339"));
        assert_eq!(
            parse_array_of_documents("[{}, 5]"),
            Err("expected a JSON object at index 1, found a number".to_owned())
        );
        assert_eq!(
            parse_array_of_documents("{}"),
            Err("expected a JSON array of objects, found an object".to_owned())
        );
    }
}
