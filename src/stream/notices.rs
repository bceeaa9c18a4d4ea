//! The library's own messages: what a stream has to say that no event of the server says.
//!
//! Each has the shape of a change event (MongoDB manual, "Change Events"), with an operation type
//! that no server has, so that consumers find everything where they look for it.

use bson::raw::cstr;
use bson::{Document, RawBsonRef, RawDocument, RawDocumentBuf, Timestamp, doc, rawdoc};

use crate::error::Result;
use crate::raw::namespace::Namespace;
use crate::source::scope::Scope;

/// Of an event that cannot be had as a whole, what a notice of it needs.
pub(crate) fn only_outline() -> Document {
    doc! { "$project": { "operationType": 1, "clusterTime": 1, "ns": 1, "documentKey": 1 } }
}

/// An event stands here that is larger than the server can send; `outline` is what there is of it.
pub(crate) fn oversized(outline: &[u8]) -> Result<RawDocumentBuf, bson::error::Error> {
    let mut event = Document::from_reader(outline)?;
    let operation = event.insert("operationType", "oversized");
    event.insert("operationDescription", doc! { "operationType": operation });
    RawDocumentBuf::try_from(&event)
}

/// Changes from `from` on, but before `to`, may be missing: the oplog no longer held them when the
/// stream was to go on there. `token` is the one with which the stream was opened anew.
pub(crate) fn gap(
    scope: &Scope,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    token: Option<&RawDocument>,
) -> Result<RawDocumentBuf, bson::error::Error> {
    let mut event = Document::new();
    if let Some(token) = token {
        event.insert("_id", Document::try_from(token)?);
    }
    event.insert("operationType", "gap");
    if let Some(time) = to {
        event.insert("clusterTime", time);
    }
    if let Some(ns) = scope.ns() {
        event.insert("ns", ns);
    }
    event.insert("operationDescription", doc! { "from": from, "to": to });
    RawDocumentBuf::try_from(&event)
}

/// A document as it was found by a snapshot, as an event that appends itself to `out`.
pub(crate) fn snapshot(
    namespace: &Namespace,
    document: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), bson::error::Error> {
    let mut event = rawdoc! {
        "operationType": "snapshot",
        "ns": { "db": namespace.database.as_str(), "coll": namespace.collection.as_str() },
    };
    let mut key = RawDocumentBuf::new();
    let document = RawDocument::from_bytes(document)?;
    if let Some(id) = document.get("_id")? {
        key.append(cstr!("_id"), id);
    }
    event.append(cstr!("documentKey"), key);
    event.append(cstr!("fullDocument"), RawBsonRef::Document(document));
    out.extend_from_slice(event.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raw::document_key::{document_key, is_key};

    #[test]
    fn the_key_of_a_documents_event_is_found_and_of_no_other() {
        let namespace = Namespace { database: "shop".to_owned(), collection: "orders".to_owned() };
        let document = rawdoc! { "price": 5, "_id": { "n": 7 } };
        let mut event = Vec::new();
        snapshot(&namespace, document.as_bytes(), &mut event).unwrap();
        let key = document_key(&event).unwrap();
        assert_eq!(key, rawdoc! { "_id": { "n": 7 } }.as_bytes());
        assert!(is_key(key));
        event.clear();
        snapshot(&namespace, rawdoc! { "price": 5 }.as_bytes(), &mut event).unwrap();
        assert_eq!(document_key(&event), None);
        let length = event.len();
        assert!(snapshot(&namespace, &[5, 0, 0, 0, 1], &mut event).is_err());
        assert_eq!(event.len(), length, "a damaged document is not half a message");
        let change =
            rawdoc! { "_id": { "_data": "82" }, "operationType": "insert", "documentKey": {} };
        assert_eq!(document_key(change.as_bytes()), None);
        assert!(!is_key(rawdoc! { "_data": "82" }.as_bytes()));
    }
}
