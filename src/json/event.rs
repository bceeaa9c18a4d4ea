//! A change event in each of its shapes: the server's, and that of an oplog entry.

use std::borrow::Cow;

use bson::oid::ObjectId;

use crate::json::pieces::{put_object_id_key, put_quoted_hex};
use crate::json::style::{ExtendedJson, Format, Style};
use crate::json::writer::{Shape, Writer, key};
use crate::raw::element::{Document, Head, Kind, Value, ValuePlace};
use crate::raw::event::{self, Event, Field, RawNamespace};
use crate::raw::paths;

/// The text of `DocumentId` without the quotes and escapes of JSON.
pub(super) fn document_id_of(event: &[u8]) -> Vec<u8> {
    let Some(key) = event::document(event, Field::DocumentKey).map(Document::new) else {
        return Vec::new();
    };
    let mut elements = key.elements();
    let places = std::iter::from_fn(|| elements.place()?.ok());
    let id = { places }.find(|(head, _)| head.key == b"_id").map(|(_, place)| place);
    match id.and_then(|id| id.value(key.bytes())) {
        Some(Value::ObjectId(id)) => ObjectId::from_bytes(*id).to_hex().into_bytes(),
        value => text_of_id(value, key.bytes(), id).into_owned(),
    }
}

/// The text of an id that is no ObjectId. Its place is in these bytes.
fn text_of_id<'a>(
    value: Option<Value<'a>>,
    outermost: &[u8],
    id: Option<ValuePlace>,
) -> Cow<'a, [u8]> {
    match value {
        None => Cow::Borrowed(b""),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(_) => {
            let mut text = Writer::new(Vec::new(), 0, ExtendedJson::Relaxed);
            text.unnamed(outermost, id.unwrap_or_default());
            Cow::Owned(text.finish())
        }
    }
}

impl<'a> Writer<'a> {
    pub(super) fn styled(&mut self, event: &'a [u8], style: Style) {
        match style.format {
            Format::Event => self.document(event),
            Format::Oplog => {
                let paths = style.updated_paths.then(|| paths::updated(event));
                Event::read(event, |event| self.oplog(event, paths));
            }
        }
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

    fn document_id(&mut self, event: &'a [u8], id: Option<ValuePlace>) {
        match id.and_then(|id| id.value(event)) {
            Some(Value::ObjectId(id)) => self.out.write(|room| put_quoted_hex(room, id)),
            value => self.string(&text_of_id(value, event, id)),
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
        let namespace = RawNamespace::new(document);
        self.out.put(b"{\"Database\":");
        self.string(namespace.database);
        self.out.put(b"\"Collection\":");
        self.string(namespace.collection);
        // What is wrong inside is told by its place.
        if namespace.has_more {
            self.members_but(document, event.raw, RawNamespace::has);
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
