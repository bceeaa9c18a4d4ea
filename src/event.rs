//! A change event as the server sent it: what the rest of the library needs of it, read in place.
//!
//! A damaged event is not an error here. What stands before the damage is found, the rest counts as absent;
//! the message's JSON is where the damage becomes visible.

use crate::element::{Document, Element, Elements, Malformed, Value};

/// The top-level fields that have a place of their own in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Field {
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
    const COUNT: usize = Field::Lsid as usize + 1;

    /// None for fields of newer servers, and for fields whose type is not the one that the name promises.
    pub(crate) fn of(element: &Element<'_>) -> Option<Field> {
        Some(match (element.key, &element.value) {
            (b"_id", _) => Field::ResumeToken,
            (b"operationType", Value::String(_)) => Field::OperationType,
            (b"clusterTime", _) => Field::ClusterTime,
            (b"wallTime", _) => Field::WallTime,
            (b"fullDocument", _) => Field::FullDocument,
            (b"fullDocumentBeforeChange", _) => Field::FullDocumentBeforeChange,
            (b"ns", Value::Document(_)) => Field::Namespace,
            (b"to", Value::Document(_)) => Field::To,
            (b"documentKey", Value::Document(_)) => Field::DocumentKey,
            (b"updateDescription", Value::Document(_)) => Field::UpdateDescription,
            (b"operationDescription", _) => Field::OperationDescription,
            (b"txnNumber", _) => Field::TxnNumber,
            (b"lsid", _) => Field::Lsid,
            _ => return None,
        })
    }
}

/// A change event whose fields have been located, in whatever order the server sent them.
pub(crate) struct Event<'a> {
    raw: Document<'a>,
    fields: [Option<Value<'a>>; Field::COUNT],
    has_others: bool,
    /// Where the event's top level is damaged; nothing behind that place has been found.
    pub(crate) malformed: Option<Malformed>,
}

impl<'a> Event<'a> {
    pub(crate) fn new(raw: &'a [u8]) -> Self {
        let mut event = Event {
            raw: Document::new(raw),
            fields: [None; Field::COUNT],
            has_others: false,
            malformed: None,
        };
        for item in event.raw.elements() {
            match item {
                Ok(element) => match Field::of(&element) {
                    Some(field) => {
                        if let Some(slot) = event.fields.get_mut(field as usize) {
                            slot.get_or_insert(element.value);
                        }
                    }
                    None => event.has_others = true,
                },
                Err(malformed) => event.malformed = Some(malformed),
            }
        }
        event
    }

    pub(crate) fn get(&self, field: Field) -> Option<Value<'a>> {
        self.fields.get(field as usize).copied().flatten()
    }

    pub(crate) fn text(&self, field: Field) -> Option<&'a [u8]> {
        match self.get(field)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn document(&self, field: Field) -> Option<Document<'a>> {
        match self.get(field)? {
            Value::Document(document) => Some(document),
            _ => None,
        }
    }

    /// The fields without a place of their own, in the server's order.
    pub(crate) fn others(&self) -> impl Iterator<Item = Element<'a>> {
        // Rare enough that a second walk is cheaper than remembering them in the first.
        let elements = self.has_others.then(|| self.raw.elements());
        elements.into_iter().flatten().flatten().filter(|element| Field::of(element).is_none())
    }
}

/// The server's `ns` or `to`.
#[derive(Default)]
pub(crate) struct Namespace<'a> {
    /// Empty where missing, as is the collection.
    pub(crate) database: &'a [u8],
    pub(crate) collection: &'a [u8],
    /// There is more in it, or it is damaged.
    pub(crate) has_more: bool,
}

impl<'a> Namespace<'a> {
    pub(crate) fn new(document: Document<'a>) -> Self {
        let mut namespace = Self::default();
        for item in document.elements() {
            match item {
                Ok(Element { key: b"db", value: Value::String(text), .. }) => {
                    namespace.database = text
                }
                Ok(Element { key: b"coll", value: Value::String(text), .. }) => {
                    namespace.collection = text;
                }
                _ => namespace.has_more = true,
            }
        }
        namespace
    }
}

/// The operation type, or "" if there is none.
pub(crate) fn operation(raw: &[u8]) -> &str {
    operation_with_nul(raw)
        .and_then(<[u8]>::split_last)
        .and_then(|(_, text)| str::from_utf8(text).ok())
        .unwrap_or_default()
}

/// The operation type with the NUL that BSON keeps behind it, so that C can have it without a copy.
/// None unless it is UTF-8 without a NUL inside.
pub(crate) fn operation_with_nul(raw: &[u8]) -> Option<&[u8]> {
    let mut elements = Elements::new(raw);
    let text = elements.by_ref().map_while(Result::ok).find_map(|element| {
        match (Field::of(&element)?, element.value) {
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
    let Namespace { database, collection, .. } = Namespace::new(namespace);
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

/// The cluster time of a resume token: seconds since 1970 and the ordinal within the second. It is
/// the beginning of its `_data`: in hexadecimal, the type byte of a timestamp (0x82), then seconds and
/// increment, 4 bytes each.
pub(crate) fn token_time(token: &[u8]) -> Option<(u32, u32)> {
    let mut elements = Elements::new(token).map_while(Result::ok);
    let data = elements.find_map(|element| match (element.key, element.value) {
        (b"_data", Value::String(text)) => Some(text),
        _ => None,
    })?;
    let digits = data.strip_prefix(b"82")?;
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let number = |digits: &[u8]| digits.iter().try_fold(0, |n, byte| Some(n << 4 | digit(byte)?));
    Some((number(digits.get(..8)?)?, number(digits.get(8..16)?)?))
}

/// The seconds of [`token_time`].
pub(crate) fn token_seconds(token: &[u8]) -> Option<u32> {
    token_time(token).map(|(seconds, _)| seconds)
}

/// Whether this event says that its stream ends here.
pub(crate) fn is_invalidate(raw: &[u8]) -> bool {
    find(raw, Field::OperationType)
        .is_some_and(|element| matches!(element.value, Value::String(b"invalidate")))
}

// Stops at the field: servers put the token first and the operation type right behind it.
fn find(raw: &[u8], field: Field) -> Option<Element<'_>> {
    Elements::new(raw).map_while(Result::ok).find(|element| Field::of(element) == Some(field))
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
    fn a_tokens_time_is_in_its_first_bytes() {
        let time = |token| token_time(&bytes(&token));
        let idle = doc! {"_data": "8265A1B2C30000000A2B0229296E04"};
        assert_eq!(time(idle), Some((0x65A1_B2C3, 10)));
        assert_eq!(
            time(doc! {"_typeBits": 1, "_data": "8265a1b2c300000001"}),
            Some((0x65A1_B2C3, 1))
        );
        for other in [
            "",
            "82",
            "8265A1B2C3",
            "8265A1B2C30000000",
            "8165A1B2C300000001",
            "82zzA1B2C300000001",
            "82+5A1B2C300000001",
        ] {
            assert_eq!(time(doc! {"_data": other}), None, "{other}");
        }
        assert_eq!(time(doc! {"_data": 5}), None);
        assert_eq!(time(doc! {}), None);
        assert_eq!(token_time(b"\x05"), None);
    }

    #[test]
    fn invalidate_is_told_from_everything_else() {
        assert!(is_invalidate(&bytes(&doc! {"_id": {}, "operationType": "invalidate"})));
        assert!(!is_invalidate(&bytes(&doc! {"_id": {}, "operationType": "invalidated"})));
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
            assert!(Event::new(cut).malformed.is_some());
        }
        let cut = whole.get(..whole.len() - 2).expect("a prefix");
        assert_eq!(operation(cut), "insert");
        assert!(resume_token(cut).is_some());
        assert!(Event::new(&whole).malformed.is_none());
    }
}
