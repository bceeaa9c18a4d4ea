//! A change event as the server sent it: what the rest of the library needs of it, read in place.
//!
//! A damaged event is not an error here. What stands before the damage is found, the rest counts as absent;
//! the message's JSON is where the damage becomes visible.

use crate::error::Result;
use crate::raw::element::{Document, Element, Elements, Head, Kind, Malformed, Value, ValuePlace};
use crate::raw::token::TokenPlace;

/// Makes the fields and their number from one list.
macro_rules! fields {
    ($($name:ident),* $(,)?) => {
        /// The top-level fields that have a place of their own in a message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Field {
            $($name),*
        }

        impl Field {
            const COUNT: usize = [$(Field::$name),*].len();
        }
    };
}

fields! {
    ResumeToken,
    OperationType,
    ClusterTime,
    WallTime,
    FullDocument,
    FullDocumentBeforeChange,
    Namespace,
    To,
    DocumentKey,
    UpdateDescription,
    OperationDescription,
    TxnNumber,
    Lsid,
}

impl Field {
    /// None for fields of newer servers, and for fields whose type is not the one that the name promises.
    fn of(key: &[u8], kind: Kind) -> Option<Field> {
        // One comparison after the other: a match on slices goes byte by byte.
        let is = |name: &[u8]| key == name;
        let is_document = kind == Kind::DOCUMENT;
        Some(if is(b"_id") {
            Field::ResumeToken
        } else if is(b"operationType") && kind == Kind::STRING {
            Field::OperationType
        } else if is(b"clusterTime") {
            Field::ClusterTime
        } else if is(b"wallTime") {
            Field::WallTime
        } else if is(b"fullDocument") {
            Field::FullDocument
        } else if is(b"ns") && is_document {
            Field::Namespace
        } else if is(b"documentKey") && is_document {
            Field::DocumentKey
        } else if is(b"updateDescription") && is_document {
            Field::UpdateDescription
        } else if is(b"fullDocumentBeforeChange") {
            Field::FullDocumentBeforeChange
        } else if is(b"to") && is_document {
            Field::To
        } else if is(b"operationDescription") {
            Field::OperationDescription
        } else if is(b"txnNumber") {
            Field::TxnNumber
        } else if is(b"lsid") {
            Field::Lsid
        } else {
            return None;
        })
    }
}

/// A change event whose fields have been located, in whatever order the server sent them.
pub(crate) struct Event<'a> {
    pub(crate) raw: &'a [u8],
    fields: [ValuePlace; Field::COUNT],
    has_others: bool,
    /// Where the event's top level is damaged; nothing after that place has been found.
    pub(crate) malformed: Option<Malformed>,
}

impl<'a> Event<'a> {
    /// Locates the fields of an event, for `then`.
    // Not a value to be returned: a copy of what was just written in pieces takes long.
    #[inline(always)]
    pub(crate) fn read<T>(raw: &'a [u8], then: impl FnOnce(&Self) -> T) -> T {
        let fields = [ValuePlace::default(); Field::COUNT];
        let mut event = Event { raw, fields, has_others: false, malformed: None };
        event.locate();
        then(&event)
    }

    #[inline(never)]
    fn locate(&mut self) {
        let mut elements = Elements::new(self.raw);
        // Most events have these, and in this order. A comparison with what is expected is quicker than a
        // look at what there is.
        self.expect(&mut elements, b"\x03_id\0", Field::ResumeToken);
        self.expect(&mut elements, b"\x02operationType\0", Field::OperationType);
        self.expect(&mut elements, b"\x11clusterTime\0", Field::ClusterTime);
        self.expect(&mut elements, b"\x09wallTime\0", Field::WallTime);
        self.expect(&mut elements, b"\x03fullDocument\0", Field::FullDocument);
        self.expect(&mut elements, b"\x03ns\0", Field::Namespace);
        self.expect(&mut elements, b"\x03documentKey\0", Field::DocumentKey);
        self.expect(&mut elements, b"\x03updateDescription\0", Field::UpdateDescription);
        while let Some(item) = elements.place() {
            match item {
                Ok((head, place)) => match Field::of(head.key, head.kind) {
                    Some(field) => self.keep(field, place),
                    None => self.has_others = true,
                },
                Err(malformed) => self.malformed = Some(malformed),
            }
        }
    }

    /// Keeps the next element if this is what stands before its value.
    #[inline(always)]
    fn expect<const N: usize>(
        &mut self,
        elements: &mut Elements<'a>,
        head: &[u8; N],
        field: Field,
    ) {
        if let Some(place) = elements.place_of(head) {
            self.fields[field as usize] = place;
        }
    }

    /// The first of a name counts.
    #[inline(always)]
    fn keep(&mut self, field: Field, place: ValuePlace) {
        if let Some(slot) = self.fields.get_mut(field as usize)
            && !slot.is_some()
        {
            *slot = place;
        }
    }

    /// Where the value of a field stands in [`raw`](Self::raw).
    #[inline(always)]
    pub(crate) fn place(&self, field: Field) -> Option<ValuePlace> {
        self.fields.get(field as usize).copied().filter(ValuePlace::is_some)
    }

    #[inline(always)]
    pub(crate) fn text(&self, field: Field) -> Option<&'a [u8]> {
        match self.place(field)?.value(self.raw)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// Whether a field is this text: its length, itself and its NUL.
    #[inline(always)]
    pub(crate) fn has_text<const N: usize>(&self, field: Field, text: &[u8; N]) -> bool {
        let place = self.place(field);
        place.and_then(|place| place.array_of(Kind::STRING, self.raw)) == Some(text)
    }

    #[inline(always)]
    pub(crate) fn document(&self, field: Field) -> Option<Document<'a>> {
        self.place(field)?.document(self.raw)
    }

    /// The fields without a place of their own, in the server's order.
    pub(crate) fn others(&self) -> impl Iterator<Item = (Head<'a>, ValuePlace)> {
        // Rare enough that a second walk is cheaper than remembering them in the first.
        let mut elements = self.has_others.then(|| Elements::new(self.raw));
        let all = std::iter::from_fn(move || elements.as_mut()?.place()?.ok());
        all.filter(|(head, _)| Field::of(head.key, head.kind).is_none())
    }
}

/// The server's `ns` or `to`.
#[derive(Default)]
pub(crate) struct RawNamespace<'a> {
    /// Empty where missing, as is the collection.
    pub(crate) database: &'a [u8],
    pub(crate) collection: &'a [u8],
    /// There is more in it, or it is damaged.
    pub(crate) has_more: bool,
}

impl<'a> RawNamespace<'a> {
    #[inline(always)]
    pub(crate) fn new(document: Document<'a>) -> Self {
        let mut namespace = Self::default();
        let mut elements = document.elements();
        while let Some(item) = elements.head() {
            let text = match &item {
                Ok(head) if Self::has(head) => elements.string().ok().map(|text| (head.key, text)),
                _ => None,
            };
            match text {
                Some((b"db", text)) => namespace.database = text,
                Some((_, text)) => namespace.collection = text,
                None => {
                    namespace.has_more = true;
                    if item.and_then(|head| elements.value(&head)).is_err() {
                        break;
                    }
                }
            }
        }
        namespace
    }
}

impl RawNamespace<'_> {
    /// Whether an element of the server's document is in it.
    pub(crate) fn has(head: &Head<'_>) -> bool {
        matches!((head.key, head.kind), (b"db" | b"coll", Kind::STRING))
    }
}

/// The operation type, or "" if there is none.
pub(crate) fn operation(raw: &[u8]) -> &str {
    operation_with_nul(raw)
        .and_then(<[u8]>::split_last)
        .and_then(|(_, text)| str::from_utf8(text).ok())
        .unwrap_or_default()
}

/// The operation type with the NUL that BSON keeps after it, so that C can have it without a copy.
/// None unless it is UTF-8 without a NUL inside.
pub(crate) fn operation_with_nul(raw: &[u8]) -> Option<&[u8]> {
    let mut elements = Elements::new(raw);
    let text = elements.by_ref().map_while(Result::ok).find_map(|element| {
        match (Field::of(element.key, element.kind)?, element.value) {
            (Field::OperationType, Value::String(text)) => Some(text),
            _ => None,
        }
    })?;
    let usable = !text.contains(&0) && str::from_utf8(text).is_ok();
    let end = elements.offset();
    let start = end.checked_sub(text.len())?.checked_sub(1)?;
    raw.get(start..end).filter(|_| usable)
}

/// Appends "database.collection", the database alone where there is no collection, nothing where neither is.
pub(crate) fn write_namespace(raw: &[u8], out: &mut String) {
    let Some(Value::Document(namespace)) = find(raw, Field::Namespace).map(|found| found.value)
    else {
        return;
    };
    let RawNamespace { database, collection, .. } = RawNamespace::new(namespace);
    out.push_str(&String::from_utf8_lossy(database));
    if !collection.is_empty() {
        out.push('.');
        out.push_str(&String::from_utf8_lossy(collection));
    }
}

/// The resume token: the event's `_id`, as BSON.
pub(crate) fn resume_token(raw: &[u8]) -> Option<&[u8]> {
    match find(raw, Field::ResumeToken)?.value {
        Value::Document(token) => Some(token.bytes()),
        _ => None,
    }
}

/// What an update has changed.
pub(crate) fn update_description(raw: &[u8]) -> Option<Document<'_>> {
    match find(raw, Field::UpdateDescription)?.value {
        Value::Document(description) => Some(description),
        _ => None,
    }
}

/// Whether this event says that its stream ends here. A document that a stage of the user's has made the event's
/// root may have any fields, but the token stays the server's.
pub(crate) fn is_invalidate(raw: &[u8]) -> bool {
    let place = resume_token(raw).and_then(TokenPlace::of);
    place.is_some_and(|place| place.is_of_invalidate())
}

/// Whether a collection was renamed.
pub(crate) fn is_rename(raw: &[u8]) -> bool {
    find(raw, Field::OperationType)
        .is_some_and(|element| matches!(element.value, Value::String(b"rename")))
}

/// The database of an event.
pub(crate) fn database(raw: &[u8]) -> Option<&str> {
    namespace_part(raw, |namespace| namespace.database)
}

/// The collection of an event.
pub(crate) fn collection(raw: &[u8]) -> Option<&str> {
    namespace_part(raw, |namespace| namespace.collection)
}

fn namespace_part<'a>(
    raw: &'a [u8],
    part: impl FnOnce(RawNamespace<'a>) -> &'a [u8],
) -> Option<&'a str> {
    let Value::Document(namespace) = find(raw, Field::Namespace)?.value else { return None };
    str::from_utf8(part(RawNamespace::new(namespace))).ok().filter(|name| !name.is_empty())
}

/// Database and collection of an event.
pub(crate) fn database_and_collection(raw: &[u8]) -> Option<(String, String)> {
    names(raw, Field::Namespace)
}

/// The target of a rename: database and collection.
pub(crate) fn rename_target(raw: &[u8]) -> Option<(String, String)> {
    names(raw, Field::To)
}

fn names(raw: &[u8], field: Field) -> Option<(String, String)> {
    let Value::Document(names) = find(raw, field)?.value else { return None };
    let RawNamespace { database, collection, .. } = RawNamespace::new(names);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Some((text(database), text(collection)))
}

/// When the change happened, by the cluster's clock: seconds and increment.
pub(crate) fn cluster_time(raw: &[u8]) -> Option<(u32, u32)> {
    match find(raw, Field::ClusterTime)?.value {
        Value::Timestamp { time, increment } => Some((time, increment)),
        _ => None,
    }
}

/// A field that is a document, as its bytes.
pub(crate) fn document(raw: &[u8], field: Field) -> Option<&[u8]> {
    match find(raw, field)?.value {
        Value::Document(document) => Some(document.bytes()),
        _ => None,
    }
}

// Stops at the field: servers put the token first and the operation type right after it.
fn find(raw: &[u8], field: Field) -> Option<Element<'_>> {
    let mut elements = Elements::new(raw).map_while(Result::ok);
    elements.find(|element| Field::of(element.key, element.kind) == Some(field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Bson, Document as Owned, doc};

    fn bytes(document: &Owned) -> Vec<u8> {
        document.to_vec().expect("a document that encodes")
    }

    fn namespace(event: &Owned) -> String {
        let mut out = String::new();
        write_namespace(&bytes(event), &mut out);
        out
    }

    #[test]
    fn operation_is_found_wherever_it_stands() {
        let first = bytes(&doc! {"operationType": "insert", "_id": {"_data": "82"}});
        let last =
            bytes(&doc! {"_id": {"_data": "82"}, "ns": {"db": "a"}, "operationType": "drop"});
        assert_eq!(operation(&first), "insert");
        assert_eq!(operation(&last), "drop");
        assert_eq!(operation_with_nul(&last), Some(b"drop\0".as_slice()));
    }

    #[test]
    fn operation_is_empty_where_there_is_no_usable_one() {
        for value in [Bson::Null, Bson::Int32(1), Bson::Document(doc! {})] {
            let event = bytes(&doc! {"operationType": value});
            assert_eq!(operation(&event), "");
            assert_eq!(operation_with_nul(&event), None);
        }
        assert_eq!(operation(&bytes(&doc! {})), "");
        assert_eq!(operation(b""), "");
        let with_nul = bytes(&doc! {"operationType": "a\0b"});
        assert_eq!(operation_with_nul(&with_nul), None);
        let mut not_utf8 = bytes(&doc! {"operationType": "drop"});
        let position = not_utf8.windows(4).position(|w| w == b"drop");
        let byte = position.and_then(|at| not_utf8.get_mut(at));
        *byte.expect("the text") = 0xFF;
        assert_eq!(operation(&not_utf8), "");
        assert_eq!(operation_with_nul(&not_utf8), None);
    }

    #[test]
    fn namespace_is_what_there_is_of_it() {
        assert_eq!(namespace(&doc! {"ns": {"db": "shop", "coll": "orders"}}), "shop.orders");
        assert_eq!(namespace(&doc! {"ns": {"coll": "orders.eu", "db": "shop"}}), "shop.orders.eu");
        assert_eq!(namespace(&doc! {"ns": {"db": "shop"}}), "shop");
        assert_eq!(namespace(&doc! {"ns": {}}), "");
        assert_eq!(namespace(&doc! {"ns": "shop.orders"}), "");
        assert_eq!(namespace(&doc! {}), "");
    }

    #[test]
    fn resume_token_is_the_bytes_of_the_id() {
        let token = doc! {"_data": "8265", "_typeBits": 1};
        let event = bytes(&doc! {"_id": token.clone(), "operationType": "insert"});
        assert_eq!(resume_token(&event), Some(bytes(&token).as_slice()));
        assert_eq!(resume_token(&bytes(&doc! {"_id": 5})), None);
        assert_eq!(resume_token(&bytes(&doc! {})), None);
    }

    #[test]
    fn invalidate_is_told_by_its_token() {
        let event = |data: &str| bytes(&doc! { "_id": { "_data": data }, "x": 1 });
        let time = "826B02EAFC00000001";
        for (token, is) in [
            // An event's, the numbers of which are 1, 128 and 0; 6F is true.
            ("2B022C0100296F5A1004824F461E", true),
            ("2B022C0100296E5A1004824F461E", false),
            // The 6th, the 70th and the 10,000th of a transaction.
            ("2B022C01002B0C6F5A1004", true),
            ("2B022C01002C008C6F5A1004", true),
            ("2B022C01002C4E206E5A1004", false),
            // A time alone.
            ("2B0229296E04", false),
            ("2B0229296E1404", false),
            // Cut off, and no numbers.
            ("2B022C010029", false),
            ("2B022C", false),
            ("6F6F6F6F", false),
            ("", false),
        ] {
            assert_eq!(is_invalidate(&event(&format!("{time}{token}"))), is, "{token}");
        }
        // The name alone is nothing: a document may have it.
        assert!(!is_invalidate(&bytes(&doc! {"_id": {}, "operationType": "invalidate"})));
        assert!(!is_invalidate(&bytes(&doc! {"_id": {}})));
        assert!(!is_invalidate(b"\x05"));
    }

    #[test]
    fn what_stands_before_the_damage_is_found() {
        let whole =
            bytes(&doc! {"_id": {"_data": "82"}, "operationType": "insert", "ns": {"db": "a"}});
        for length in 0..whole.len() {
            let cut = whole.get(..length).expect("a prefix");
            assert!(["", "insert"].contains(&operation(cut)));
            assert!(Event::read(cut, |event| event.malformed.is_some()));
        }
        let cut = whole.get(..whole.len() - 2).expect("a prefix");
        assert_eq!(operation(cut), "insert");
        assert!(resume_token(cut).is_some());
        assert!(Event::read(&whole, |event| event.malformed.is_none()));
    }
}
