//! What a consumer sees of a message and of a batch.

use bson::{Bson, Document, Timestamp, doc};

use super::*;
use crate::json::{ExtendedJson, Format, write_message};
use crate::options::Options;

fn insert(id: i32) -> Document {
    doc! {
        "_id": { "_data": format!("82{id}") },
        "operationType": "insert",
        "fullDocument": { "_id": id },
        "ns": { "db": "shop", "coll": "orders" },
        "documentKey": { "_id": id },
    }
}

fn update() -> Document {
    doc! {
        "_id": { "_data": "8207" },
        "operationType": "update",
        "ns": { "db": "shop", "coll": "orders" },
        "documentKey": { "_id": 7 },
        "updateDescription": { "updatedFields": { "a": 1, "b.c": 2 }, "removedFields": [] },
    }
}

fn ledger(name: &str) -> Arc<Ledger> {
    Arc::new(Ledger::new(name, Options::new().style(), StreamIdentity::default()))
}

/// A piece of a worker that has read nothing else so far, or of the same one later.
fn piece(ledger: &Arc<Ledger>, events: &[Document]) -> Piece {
    let documents: Vec<_> = events.iter().map(|event| event.to_vec().unwrap()).collect();
    let first = ledger.acks().read(documents.len());
    Piece { events: Events::of_bytes(ledger, first, &documents), range: 0..documents.len() }
}

fn json_of(event: &Document) -> String {
    let mut text = String::new();
    let event = event.to_vec().unwrap();
    write_message(&mut text, &event, Format::Oplog, ExtendedJson::Relaxed);
    text
}

#[test]
fn a_message_shows_its_event() {
    let message = Message::of_piece(piece(&ledger("copy"), &[update()]));
    assert_eq!(message.json(), json_of(&update()));
    assert_eq!(message.json_with_nul(), [json_of(&update()).as_bytes(), b"\0"].concat());
    let mut text = String::from("before ");
    message.write_json(&mut text);
    assert_eq!(text, format!("before {}", json_of(&update())));
    assert_eq!(message.bson(), update().to_vec().unwrap());
    assert_eq!(message.operation(), "update");
    assert_eq!(message.namespace(), "shop.orders");
    assert_eq!(message.updated_paths(), ["a", "b.c"]);
    assert_eq!(message.updated_paths_text().as_str(), "[\"a\",\"b.c\"]");
    assert_eq!(message.resume_token(), Some("{\"_data\":\"8207\"}"));
    assert_eq!(message.worker(), "copy");
    // C is lent these texts for as long as the message lives.
    assert!(std::ptr::eq(message.namespace(), message.namespace()));
    let shown = format!("{message:?}");
    assert!(["copy", "update", "shop.orders"].iter().all(|part| shown.contains(part)), "{shown}");
}

#[test]
fn a_message_shows_the_parts_of_its_event() {
    let mut event = insert(5);
    event.insert("clusterTime", Timestamp { time: 7, increment: 3 });
    event.insert("fullDocumentBeforeChange", doc! { "_id": 5, "old": true });
    let message = Message::of_piece(piece(&ledger("copy"), &[event]));
    assert_eq!((message.database(), message.collection()), (Some("shop"), Some("orders")));
    assert_eq!(message.document_id(), "5");
    assert!(std::ptr::eq(message.document_id(), message.document_id()));
    let raw = |document: Document| bson::RawDocumentBuf::try_from(&document).unwrap();
    assert_eq!(message.document_key(), Some(&*raw(doc! { "_id": 5 })));
    assert_eq!(message.full_document(), Some(&*raw(doc! { "_id": 5 })));
    let before = raw(doc! { "_id": 5, "old": true });
    assert_eq!(message.full_document_before_change(), Some(&*before));
    assert_eq!(message.cluster_time(), Some(Timestamp { time: 7, increment: 3 }));

    let drop =
        doc! { "_id": { "_data": "82" }, "operationType": "dropDatabase", "ns": { "db": "shop" } };
    let message = Message::of_piece(piece(&ledger("copy"), &[drop]));
    assert_eq!((message.database(), message.collection()), (Some("shop"), None));
    assert_eq!(message.document_id(), "");
    assert_eq!((message.document_key(), message.full_document()), (None, None));
    assert_eq!((message.full_document_before_change(), message.cluster_time()), (None, None));
}

#[test]
fn a_documents_id_is_the_text_that_the_json_has() {
    let id = bson::oid::ObjectId::new();
    for (value, text) in [
        (Bson::from(id), id.to_hex()),
        ("a \"quoted\" \u{2028} text".into(), "a \"quoted\" \u{2028} text".to_owned()),
        (7_i32.into(), "7".to_owned()),
        (1.5.into(), "1.5".to_owned()),
        (Bson::Null, "null".to_owned()),
        (Bson::from(doc! { "a": { "b": [1, "x"] } }), "{\"a\":{\"b\":[1,\"x\"]}}".to_owned()),
    ] {
        let mut event = insert(0);
        event.insert("documentKey", doc! { "shard": 1, "_id": value });
        let message = Message::of_piece(piece(&ledger("copy"), &[event]));
        assert_eq!(message.document_id(), text);
        let json: serde_json::Value = serde_json::from_str(message.json()).unwrap();
        assert_eq!(json["DocumentKey"]["DocumentId"], text);
    }
}

#[test]
fn a_message_becomes_a_value_of_any_type_that_fits() {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Change {
        operation_type: String,
        full_document: Option<Document>,
    }
    let message = Message::of_piece(piece(&ledger("copy"), &[insert(5)]));
    let change: Change = message.deserialize().unwrap();
    assert_eq!(
        (change.operation_type.as_str(), change.full_document),
        ("insert", Some(doc! { "_id": 5 }))
    );
    assert!(message.deserialize::<Vec<i32>>().is_err());
}

#[test]
fn a_message_for_tests_is_like_any_other() {
    let message = Message::for_tests("copy", &insert(3)).unwrap();
    assert_eq!(message.json(), json_of(&insert(3)));
    assert_eq!((message.worker(), message.resume_token()), ("copy", Some("{\"_data\":\"823\"}")));
    message.ack();
    message.ack();
    assert!(Message::for_tests("copy", &doc! { "a\0b": 1 }).is_err());
}

#[test]
fn a_clone_is_the_same_message_and_one_ack_counts_for_both() {
    let ledger = ledger("copy");
    let message = Message::of_piece(piece(&ledger, &[insert(0)]));
    let clone = message.clone();
    assert_eq!(clone.json(), message.json());
    assert!(std::ptr::eq(clone.bson(), message.bson()), "nothing is copied");
    drop(message);
    assert_eq!(ledger.acks().acked(), 0);
    clone.ack();
    assert_eq!(ledger.acks().acked(), 1);
    let batch = Batch::new(vec![piece(&ledger, &[insert(1), insert(2)])]);
    let second = batch.messages()[1].clone();
    drop(batch);
    assert_eq!(second.document_id(), "2");
}

#[test]
fn a_message_without_a_place_in_the_stream_has_no_token() {
    let document = doc! { "operationType": "snapshot", "documentKey": { "_id": 1 } };
    let message = Message::of_piece(piece(&ledger("copy"), &[document]));
    assert_eq!(message.resume_token(), None);
    assert_eq!(message.namespace(), "");
    assert!(message.updated_paths().is_empty());
}

#[test]
fn a_message_of_a_batch_acks_itself_and_no_other() {
    let ledger = ledger("copy");
    let mut rest = piece(&ledger, &[insert(0), insert(1), insert(2)]);
    let (front, _) = rest.split_front(1);
    let batch = Batch::new(vec![rest]);
    batch.messages()[1].ack();
    assert_eq!(ledger.acks().acked(), 0);
    assert_eq!(ledger.acks().counts(), (3, 2));
    Message::of_piece(front).ack();
    assert_eq!(ledger.acks().acked(), 1);
    batch.get(0).unwrap().ack();
    batch.get(0).unwrap().ack();
    assert_eq!(ledger.acks().acked(), 3);
}

#[test]
fn a_batch_has_its_messages_in_their_order() {
    let (first, second) = (ledger("first"), ledger("second"));
    let pieces = vec![piece(&first, &[insert(0), insert(1)]), piece(&second, &[insert(2)])];
    let batch = Batch::new(pieces);
    assert_eq!(batch.len(), 3);
    assert_eq!(batch.messages().len(), 3);
    let expected: Vec<_> = (0..3).map(|id| json_of(&insert(id))).collect();
    assert!(batch.messages().iter().map(Message::json).eq(&expected));
    assert!((&batch).into_iter().map(Message::json).eq(&expected));
    assert_eq!(batch.get(2).map(Message::worker), Some("second"));
    assert!(batch.get(3).is_none());
    let lines: String = expected.iter().map(|line| format!("{line}\n")).collect();
    assert_eq!(batch.json_lines(), lines);
    assert_eq!(batch.json_lines_text().with_nul(), [lines.as_bytes(), b"\0"].concat());
    assert!(format!("{batch:?}").contains('3'));
    batch.ack();
    assert_eq!((first.acks().acked(), second.acks().acked()), (2, 1));
    assert!(batch.into_iter().map(|message| message.json().to_owned()).eq(expected));
}

#[test]
fn each_worker_of_a_batch_has_its_own_style() {
    let (first, mut options) = (ledger("first"), Options::new());
    options.format = Format::Event;
    let second = Arc::new(Ledger::new("second", options.style(), StreamIdentity::default()));
    let batch = Batch::new(vec![piece(&first, &[insert(0)]), piece(&second, &[insert(1)])]);
    let lines: Vec<_> = batch.json_lines().lines().collect();
    assert!(batch.messages().iter().map(Message::json).eq(lines.iter().copied()));
    assert!(lines[0].contains("\"OperationType\"") && lines[1].contains("\"operationType\""));
}
