//! Walks a document, or a change event, and writes what it meets.

use std::fmt::Write;
use std::ops::Range;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD as BASE64;
use smallvec::SmallVec;

use super::out::{self, Key, Out, Room};
use super::{ExtendedJson, Format, MAX_DEPTH, Style, date, decimal};
use crate::block::{self, Block};
use crate::element::{Document, Elements, Head, Kind, Malformed, Place, Value};
use crate::event::{Event, Field, Namespace};
use crate::paths;

const TOO_DEEP: &str = "document nested too deeply";

// A whole word, see `Kind`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
enum Shape {
    Object,
    Array,
    /// The scope of `{"$code":"...","$scope":{...}}`, which closes both objects.
    Scope,
    /// Members of an object that others open and close.
    Members,
}

/// What a value holds that is to be written next, if it is nested.
type Inner<'a> = Option<(Document<'a>, Shape)>;

/// An object or array around the one being written.
struct Frame<'a> {
    elements: Elements<'a>,
    shape: Shape,
}

/// Every value is followed by a comma, which goes where nothing follows.
pub(super) struct Writer<'a> {
    out: Out,
    mode: ExtendedJson,
    /// The objects and arrays around the one being written: few of them, mostly, and then without an allocation.
    /// Not by recursion: hosts bring small stacks.
    stack: SmallVec<[Frame<'a>; 8]>,
    /// The last `ns`, and where it is written: the next is often the same.
    namespace: Option<(&'a [u8], Range<usize>)>,
}

impl<'a> Writer<'a> {
    /// Appends to `bytes`, which will probably need so many more.
    pub(super) fn new(bytes: Vec<u8>, more: usize, mode: ExtendedJson) -> Self {
        Self { out: Out::new(bytes, more), mode, stack: SmallVec::new(), namespace: None }
    }

    /// What is written, the last value without a comma.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.out.drop_comma();
        self.out.finish()
    }

    /// Ends a text with this byte, and tells where that is.
    pub(super) fn end(&mut self, byte: u8) -> usize {
        self.out.drop_comma();
        self.out.put(&[byte]);
        self.out.len()
    }

    pub(super) fn styled(&mut self, event: &'a [u8], style: Style) {
        match style.format {
            Format::Event => self.document(event),
            Format::Oplog => {
                let paths = style.updated_paths.then(|| paths::updated(event));
                Event::read(event, |event| self.oplog(event, paths));
            }
        }
    }

    pub(super) fn document(&mut self, document: &'a [u8]) {
        self.out.put(b"{");
        self.nested(Document::new(document), Shape::Object);
    }

    pub(super) fn texts(&mut self, texts: &[String]) {
        self.out.put(b"[");
        for text in texts {
            self.string(text.as_bytes());
        }
        self.out.close(b']');
    }

    /// With the paths of the updated fields if they are asked for.
    fn oplog(&mut self, event: &Event<'a>, updated_paths: Option<Vec<String>>) {
        self.document_key(event);
        self.namespace(event, Field::Namespace, b"\"Namespace\":");
        self.operation(event);
        let description = event.document(Field::UpdateDescription);
        self.update_description(description);
        if let (Some(_), Some(paths)) = (description, updated_paths) {
            self.out.put(b"\"UpdatedPaths\":");
            self.texts(&paths);
        }

        self.field(event, Field::FullDocument, b"\"FullDocument\":");
        self.field(event, Field::FullDocumentBeforeChange, b"\"FullDocumentBeforeChange\":");
        if event.place(Field::To).is_some() {
            self.namespace(event, Field::To, b"\"To\":");
        }
        self.field(event, Field::OperationDescription, b"\"OperationDescription\":");
        self.field(event, Field::TxnNumber, b"\"TxnNumber\":");
        self.field(event, Field::Lsid, b"\"Lsid\":");
        for (head, place) in event.others() {
            self.named(key(&head), event.raw, place);
        }
        self.field_of(
            event,
            Field::ClusterTime,
            Kind::TIMESTAMP,
            b"\"ClusterTime\":",
            |writer, both| {
                writer.timestamp(u64::from_le_bytes(both));
            },
        );
        self.field_of(
            event,
            Field::WallTime,
            Kind::DATE_TIME,
            b"\"WallTime\":",
            |writer, millis| {
                writer.date(i64::from_le_bytes(millis));
            },
        );
        self.resume_token(event);

        if let Some(malformed) = event.malformed {
            self.malformed(malformed);
        }
        self.out.close(b'}');
    }

    #[inline(always)]
    fn field<const N: usize>(&mut self, event: &Event<'a>, field: Field, name: &[u8; N]) {
        if let Some(place) = event.place(field) {
            self.out.put(name);
            self.unnamed(event.raw, place);
        }
    }

    /// [`field`](Self::field) with a shorter way for the type that it has mostly, of eight bytes.
    #[inline(always)]
    fn field_of<const N: usize>(
        &mut self,
        event: &Event<'a>,
        field: Field,
        kind: Kind,
        name: &[u8; N],
        write: impl FnOnce(&mut Self, [u8; 8]),
    ) {
        let place = event.place(field);
        match place.and_then(|place| place.array_of(kind, event.raw)) {
            Some(bytes) => {
                self.out.put(name);
                write(self, *bytes);
            }
            None => self.field(event, field, name),
        }
    }

    /// The beginning of an oplog object.
    #[inline(always)]
    fn document_key(&mut self, event: &Event<'a>) {
        const DOCUMENT_ID: &[u8] = b"DocumentId";
        let document_key = event.document(Field::DocumentKey);
        if let Some(id) = document_key.and_then(only_object_id) {
            return self.out.write(|room| put_object_id_key(room, id));
        }
        self.out.put(b"{\"DocumentKey\":{\"DocumentId\":");
        let Some(document_key) = document_key else {
            self.string(b"");
            return self.out.close(b'}');
        };
        let (mut id, mut has_other) = (None, false);
        let mut elements = document_key.elements();
        while let Some(Ok((head, place))) = elements.place() {
            has_other |= head.key == DOCUMENT_ID;
            if head.key == b"_id" {
                id = id.or(Some(place));
            }
        }
        self.document_id(event.raw, id);
        if has_other {
            self.members_but(document_key, event.raw, |head| head.key == DOCUMENT_ID);
        } else {
            self.nested(document_key, Shape::Members);
        }
        self.out.close(b'}');
    }

    fn document_id(&mut self, event: &'a [u8], id: Option<Place>) {
        match id.and_then(|id| id.value(event)) {
            None => self.string(b""),
            Some(Value::String(text)) => self.string(text),
            Some(Value::ObjectId(id)) => self.out.write(|room| put_quoted_hex(room, id)),
            Some(_) => {
                let mut text = Writer::new(Vec::new(), 0, ExtendedJson::Relaxed);
                text.unnamed(event, id.unwrap_or_default());
                self.string(&text.finish());
            }
        }
    }

    #[inline(always)]
    fn resume_token(&mut self, event: &Event<'a>) {
        match event.document(Field::ResumeToken).and_then(only_data) {
            Some(data) => {
                self.out.put(b"\"ResumeToken\":{\"_data\":");
                self.out.quoted(data, b'}');
                self.out.put(b",");
            }
            None => self.field(event, Field::ResumeToken, b"\"ResumeToken\":"),
        }
    }

    fn namespace<const N: usize>(&mut self, event: &Event<'a>, field: Field, name: &[u8; N]) {
        self.out.put(name);
        let Some(document) = event.document(field) else {
            return self.out.put(b"{\"Database\":\"\",\"Collection\":\"\"},");
        };
        if let Some((last, written)) = &self.namespace
            && *last == document.bytes()
        {
            self.out.repeat(written.clone());
            return self.out.put(b",");
        }
        let start = self.out.len();
        let namespace = Namespace::new(document);
        self.out.put(b"{\"Database\":");
        self.string(namespace.database);
        self.out.put(b"\"Collection\":");
        self.string(namespace.collection);
        // What is wrong inside is told by its place.
        if namespace.has_more {
            self.members_but(document, event.raw, Namespace::has);
            return self.out.close(b'}');
        }
        self.out.close(b'}');
        // Without the comma, which goes if this is the last member.
        self.namespace = Some((document.bytes(), start..self.out.len() - 1));
    }

    #[inline(always)]
    fn operation(&mut self, event: &Event<'a>) {
        if event.has_text(Field::OperationType, b"\x07\0\0\0insert\0") {
            self.out.put(b"\"OperationType\":\"insert\",");
        } else if event.has_text(Field::OperationType, b"\x07\0\0\0update\0") {
            self.out.put(b"\"OperationType\":\"update\",");
        } else if event.has_text(Field::OperationType, b"\x08\0\0\0replace\0") {
            self.out.put(b"\"OperationType\":\"replace\",");
        } else if event.has_text(Field::OperationType, b"\x07\0\0\0delete\0") {
            self.out.put(b"\"OperationType\":\"delete\",");
        } else {
            self.out.put(b"\"OperationType\":");
            self.string(event.text(Field::OperationType).unwrap_or_default());
        }
    }

    #[inline(always)]
    fn update_description(&mut self, description: Option<Document<'a>>) {
        let Some(document) = description else {
            return self.out.put(b"\"UpdateDescription\":{\"updatedFields\":{}},");
        };
        self.out.put(b"\"UpdateDescription\":{");
        if document.find(b"updatedFields").is_none() {
            self.out.put(b"\"updatedFields\":{},");
        }
        self.nested(document, Shape::Members);
        self.out.close(b'}');
    }

    /// Writes a document's fields into the object that is open, but for those that are there already.
    fn members_but(
        &mut self,
        document: Document<'a>,
        outermost: &'a [u8],
        is_there: impl Fn(&Head<'a>) -> bool,
    ) {
        let mut elements = document.elements();
        while let Some(item) = elements.place() {
            match item {
                Ok((head, _)) if is_there(&head) => {}
                Ok((head, place)) => {
                    self.named(key(&head), outermost, place);
                }
                Err(malformed) => self.malformed(malformed),
            }
        }
    }

    /// Writes a value that has been walked over.
    #[inline(never)]
    fn unnamed(&mut self, outermost: &'a [u8], place: Place) {
        self.value(Key::NONE, outermost, place);
    }

    /// Writes a member whose value has been walked over.
    #[inline(never)]
    fn named(&mut self, key: Key<'_>, outermost: &'a [u8], place: Place) {
        self.value(key, outermost, place);
    }

    #[inline(always)]
    fn value(&mut self, key: Key<'_>, outermost: &'a [u8], place: Place) {
        let mut elements = place.elements(outermost);
        if let Ok(Some((document, shape))) = self.member(key, place.kind(), &mut elements) {
            self.nested(document, shape);
        }
    }

    /// Writes what an object or array holds that is open, and closes it.
    #[inline(never)]
    fn nested(&mut self, document: Document<'a>, mut shape: Shape) {
        let mut elements = document.elements();
        loop {
            let damage = match elements.plain_head() {
                Some(Ok(head)) => {
                    let key = Key { is_named: shape != Shape::Array, ..key(&head) };
                    match self.member(key, head.kind, &mut elements) {
                        Ok(None) => continue,
                        Ok(Some((document, inner))) => {
                            self.stack.push(Frame { elements, shape });
                            (elements, shape) = (document.elements(), inner);
                            continue;
                        }
                        Err(reason) => elements.damaged(&head, reason),
                    }
                }
                Some(Err(malformed)) => malformed,
                None => {
                    match shape {
                        Shape::Object => self.out.close(b'}'),
                        Shape::Array => self.out.close(b']'),
                        Shape::Scope => {
                            self.out.close(b'}');
                            self.out.close(b'}');
                        }
                        Shape::Members => {}
                    }
                    match self.stack.pop() {
                        Some(outer) => Frame { elements, shape } = outer,
                        None => return,
                    }
                    continue;
                }
            };
            self.mark(shape, damage);
        }
    }

    #[cold]
    fn mark(&mut self, shape: Shape, malformed: Malformed) {
        if shape == Shape::Array {
            self.out.put(b"{");
            self.malformed(malformed);
            self.out.close(b'}');
        } else {
            self.malformed(malformed);
        }
    }

    fn malformed(&mut self, malformed: Malformed) {
        self.out.put(b"\"$malformed\":");
        self.string(malformed.to_string().as_bytes());
    }

    fn string(&mut self, text: &[u8]) {
        self.out.quoted(text, b',');
    }

    /// `{"$name":"text"}`, the opening given up to the text's own quotes.
    fn wrapped_text<const N: usize>(&mut self, opening: &[u8; N], text: &[u8]) {
        self.out.put(opening);
        self.string(text);
        self.out.close(b'}');
    }

    fn quoted_integer<const N: usize>(&mut self, opening: &[u8; N], number: i64) {
        self.out.put(opening);
        self.out.integer(number);
        self.out.put(b"\"},");
    }

    /// Writes a member whose value comes next, or opens it and gives back what it holds. Nothing is written,
    /// and nothing read, where something is wrong with it.
    // One step from the type to what is written: no value travels through memory.
    #[inline(always)]
    fn member(
        &mut self,
        key: Key<'_>,
        kind: Kind,
        elements: &mut Elements<'a>,
    ) -> Result<Inner<'a>, &'static str> {
        let is_relaxed = self.mode == ExtendedJson::Relaxed;
        match kind {
            Kind::DOCUMENT => {
                let document = self.enter(elements.document()?)?;
                self.out.member(key, |room| put(room, b"{"));
                return Ok(Some((document, Shape::Object)));
            }
            Kind::ARRAY => {
                let array = self.enter(elements.document()?)?;
                self.out.member(key, |room| put(room, b"["));
                return Ok(Some((array, Shape::Array)));
            }
            Kind::STRING => {
                let (text, block) = elements.string_and_block()?;
                // The NUL behind it is the first that is special.
                let is_plain = |block: &&Block| block::special(block).first() == text.len();
                match block.filter(|_| text.len() < block::SIZE).filter(is_plain) {
                    Some(block) => {
                        self.out.member(key, |room| out::put_quoted(room, block, text.len(), b','))
                    }
                    None => {
                        self.out.member(key, |_| 0);
                        self.out.quoted(text, b',');
                    }
                }
            }
            Kind::INT32 if is_relaxed => {
                let number = i32::from_le_bytes(*elements.array()?);
                self.out.member(key, |room| put_integer(room, number, b','));
            }
            Kind::INT64 if is_relaxed => {
                let number = i64::from_le_bytes(*elements.array()?);
                self.out.member(key, |room| put_integer(room, number, b','));
            }
            Kind::BOOLEAN => {
                let [byte] = *elements.array()?;
                let text = if byte == 0 { b"false," } else { b"true,\0" };
                self.out.member(key, |room| put(room, text) - usize::from(byte != 0));
            }
            Kind::NULL => self.out.member(key, |room| put(room, b"null,")),
            Kind::OBJECT_ID => {
                let id = elements.array()?;
                self.out.member(key, |room| put_object_id(room, id));
            }
            Kind::DATE_TIME if is_relaxed => {
                let millis = i64::from_le_bytes(*elements.array()?);
                if date::has_text(millis) {
                    self.out.member(key, |room| date::put(room, millis));
                } else {
                    self.out.member(key, |_| 0);
                    self.date(millis);
                }
            }
            Kind::DOUBLE if is_relaxed => {
                let number = f64::from_le_bytes(*elements.array()?);
                self.out.member(key, |_| 0);
                self.double(number);
            }
            Kind::TIMESTAMP => {
                let both = u64::from_le_bytes(*elements.array()?);
                self.out.member(key, |room| put_timestamp(room, both));
            }
            _ => {
                let before = self.out.len();
                self.out.member(key, |_| 0);
                match self.value_of(kind, *elements) {
                    Ok((behind, inner)) => {
                        *elements = behind;
                        return Ok(inner);
                    }
                    Err(reason) => {
                        self.out.truncate(before);
                        return Err(reason);
                    }
                }
            }
        }
        Ok(None)
    }

    #[inline(always)]
    fn enter(&self, document: Document<'a>) -> Result<Document<'a>, &'static str> {
        if self.stack.len() + 1 < MAX_DEPTH { Ok(document) } else { Err(TOO_DEEP) }
    }

    /// [`member`](Self::member) behind the key, and what is left behind the value.
    #[inline(never)]
    fn value_of(
        &mut self,
        kind: Kind,
        mut elements: Elements<'a>,
    ) -> Result<(Elements<'a>, Inner<'a>), &'static str> {
        let value = elements.value_of(kind)?;
        let inner = self.any(value)?;
        Ok((elements, inner))
    }

    /// A value of any type, in any mode, those among them that [`member`](Self::member) writes more quickly.
    fn any(&mut self, value: Value<'a>) -> Result<Inner<'a>, &'static str> {
        match value {
            Value::Document(document) => {
                let document = self.enter(document)?;
                self.out.put(b"{");
                return Ok(Some((document, Shape::Object)));
            }
            Value::Array(array) => {
                let array = self.enter(array)?;
                self.out.put(b"[");
                return Ok(Some((array, Shape::Array)));
            }
            Value::CodeWithScope { code, scope } => {
                let scope = self.enter(scope)?;
                self.out.put(b"{\"$code\":");
                self.string(code);
                self.out.put(b"\"$scope\":{");
                return Ok(Some((scope, Shape::Scope)));
            }
            Value::String(text) => self.string(text),
            Value::Int32(number) => self.integer(b"{\"$numberInt\":\"", number.into()),
            Value::Int64(number) => self.integer(b"{\"$numberLong\":\"", number),
            Value::Double(number) => self.double(number),
            Value::Boolean(true) => self.out.put(b"true,"),
            Value::Boolean(false) => self.out.put(b"false,"),
            Value::Null => self.out.put(b"null,"),
            Value::ObjectId(id) => self.object_id(id),
            Value::DateTime(millis) => self.date(millis),
            Value::Timestamp { time, increment } => {
                self.timestamp(u64::from(time) << 32 | u64::from(increment))
            }
            Value::Binary { subtype, bytes } => self.binary(subtype, bytes),
            Value::Decimal128(bytes) => {
                self.out.put(b"{\"$numberDecimal\":\"");
                decimal::write(&mut self.out, *bytes);
                self.out.put(b"\"},");
            }
            Value::Regex { pattern, options } => self.regex(pattern, options),
            Value::DbPointer { namespace, id } => {
                self.out.put(b"{\"$dbPointer\":{\"$ref\":");
                self.string(namespace);
                self.out.put(b"\"$id\":");
                self.object_id(id);
                self.out.close(b'}');
                self.out.close(b'}');
            }
            Value::Code(code) => self.wrapped_text(b"{\"$code\":", code),
            Value::Symbol(symbol) => self.wrapped_text(b"{\"$symbol\":", symbol),
            Value::Undefined => self.out.put(b"{\"$undefined\":true},"),
            Value::MinKey => self.out.put(b"{\"$minKey\":1},"),
            Value::MaxKey => self.out.put(b"{\"$maxKey\":1},"),
        }
        Ok(None)
    }

    fn object_id(&mut self, id: &[u8; 12]) {
        self.out.write(|room| put_object_id(room, id));
    }

    /// In the canonical mode behind that opening.
    fn integer<const N: usize>(&mut self, opening: &[u8; N], number: i64) {
        if self.mode == ExtendedJson::Canonical {
            return self.quoted_integer(opening, number);
        }
        self.out.write(|room| put_integer(room, number, b','));
    }

    /// The time in the upper half, the increment in the lower one.
    #[inline(always)]
    fn timestamp(&mut self, both: u64) {
        self.out.write(|room| put_timestamp(room, both));
    }

    fn date(&mut self, millis: i64) {
        if self.mode == ExtendedJson::Relaxed && date::has_text(millis) {
            return self.out.write(|room| date::put(room, millis));
        }
        self.quoted_integer(b"{\"$date\":{\"$numberLong\":\"", millis);
        self.out.close(b'}');
    }

    fn double(&mut self, number: f64) {
        const OPENING: &[u8; 17] = b"{\"$numberDouble\":";
        if number.is_nan() {
            return self.wrapped_text(OPENING, b"NaN");
        }
        if number.is_infinite() {
            let negative = number.is_sign_negative();
            let text: &[u8] = if negative { b"-Infinity" } else { b"Infinity" };
            return self.wrapped_text(OPENING, text);
        }
        let mut buffer = zmij::Buffer::new();
        // The shortest text that reads back as the same double, always with a point or an exponent.
        let text = buffer.format_finite(number);
        if self.mode == ExtendedJson::Relaxed {
            self.out.text(text.as_bytes());
            return self.out.put(b",");
        }
        self.out.put(OPENING);
        self.out.put(b"\"");
        match text.split_once('e') {
            None => self.out.text(text.as_bytes()),
            // Inside a string the spelling counts, and the specification's is 1.5E+18.
            Some((mantissa, exponent)) => {
                self.out.text(mantissa.as_bytes());
                self.out.text(if exponent.starts_with('-') { b"E" } else { b"E+" });
                self.out.text(exponent.trim_start_matches('+').as_bytes());
            }
        }
        self.out.put(b"\"},");
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
        self.out.put(b"{\"$binary\":{\"base64\":\"");
        let _ = write!(self.out, "{}", Base64Display::new(payload, &BASE64));
        self.out.put(b"\",\"subType\":\"");
        self.out.put(&out::hex(subtype));
        self.out.put(b"\"}},");
    }

    fn regex(&mut self, pattern: &[u8], options: &[u8]) {
        let mut options = options.to_vec();
        options.sort_unstable();
        self.out.put(b"{\"$regularExpression\":{\"pattern\":");
        self.string(pattern);
        self.out.put(b"\"options\":");
        self.string(&options);
        self.out.close(b'}');
        self.out.close(b'}');
    }
}

/// The ObjectId, if a document has `_id` with an ObjectId and nothing else, as most document keys do.
#[inline(always)]
fn only_object_id(document: Document<'_>) -> Option<&[u8; 12]> {
    let (head, rest) = document.bytes().split_first_chunk()?;
    let (id, end) = rest.split_first_chunk()?;
    (head == b"\x16\0\0\0\x07_id\0" && end == [0]).then_some(id)
}

/// The text, if a document has `_data` with a text and nothing else, as most resume tokens do.
#[inline(always)]
fn only_data(document: Document<'_>) -> Option<&[u8]> {
    let bytes = document.bytes();
    let (declared, rest) = bytes.split_first_chunk()?;
    let (head, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let text = rest.strip_suffix(&[0, 0])?;
    let is_length =
        |number: &[u8; 4], length| usize::try_from(i32::from_le_bytes(*number)) == Ok(length);
    let is_it = head == b"\x02_data\0"
        && is_length(declared, bytes.len())
        && is_length(length, text.len() + 1);
    is_it.then_some(text)
}

#[inline(always)]
fn key<'a>(head: &Head<'a>) -> Key<'a> {
    Key { text: head.key, plain: head.plain, is_named: true }
}

/// Puts a text of a fixed length at the beginning of the room.
#[inline(always)]
fn put<const N: usize>(room: &mut Room, text: &[u8; N]) -> usize {
    if let Some(room) = room.first_chunk_mut() {
        *room = *text;
    }
    N
}

#[inline(always)]
fn put_short(room: &mut Room, text: &[u8], behind: u8) -> usize {
    let length = out::put_short(room, text);
    if let Some(room) = room.get_mut(length) {
        *room = behind;
    }
    length + 1
}

#[inline(always)]
fn put_integer(room: &mut Room, number: impl itoa::Integer, behind: u8) -> usize {
    put_short(room, itoa::Buffer::new().format(number).as_bytes(), behind)
}

// Out of line, as are dates and ids: what is around it should be small enough to be inlined.
#[inline(never)]
fn put_timestamp(room: &mut Room, both: u64) -> usize {
    let (time, increment) = ((both >> 32) as u32, both as u32);
    let mut length = put(room, b"{\"$timestamp\":{\"t\":");
    for (number, behind) in [(time, b",\"i\":"), (increment, b"}},\0\0")] {
        if let Some(room) =
            room.get_mut(length..).and_then(<[u8]>::first_chunk_mut::<{ out::SHORT + 5 }>)
        {
            let digits = out::put_integer(room, number);
            out::put_at(room, digits, behind);
            length += digits + behind.len();
        }
    }
    // The NULs do not count.
    length - 2
}

#[inline(always)]
fn put_quoted_hex(room: &mut Room, id: &[u8; 12]) -> usize {
    let length = put(room, b"\"........................\",");
    out::put_at(room, 1, &out::hex_of_id(id));
    length
}

/// The beginning of an oplog object whose document key is an ObjectId.
const OBJECT_ID_KEY: &[u8; 99] = b"{\"DocumentKey\":{\"DocumentId\":\"\
    ........................\",\"_id\":{\"$oid\":\"........................\"}},";

#[inline(always)]
fn put_object_id_key(room: &mut [u8; OBJECT_ID_KEY.len()], id: &[u8; 12]) -> usize {
    *room = *OBJECT_ID_KEY;
    let digits = out::hex_of_id(id);
    out::put_at(room, 30, &digits);
    out::put_at(room, 71, &digits);
    room.len()
}

#[inline(never)]
fn put_object_id(room: &mut Room, id: &[u8; 12]) -> usize {
    let length = put(room, b"{\"$oid\":\"........................\"},");
    out::put_at(room, 9, &out::hex_of_id(id));
    length
}
