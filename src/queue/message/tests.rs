//! What a consumer sees of a message and of a batch.

use bson::{Document, doc};

use super::*;
use crate::checkpoint::ledger::Ledger;
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
    Arc::new(Ledger::new(name, Options::new().style()))
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
    let second = Arc::new(Ledger::new("second", options.style()));
    let batch = Batch::new(vec![piece(&first, &[insert(0)]), piece(&second, &[insert(1)])]);
    let lines: Vec<_> = batch.json_lines().lines().collect();
    assert!(batch.messages().iter().map(Message::json).eq(lines.iter().copied()));
    assert!(lines[0].contains("\"OperationType\"") && lines[1].contains("\"operationType\""));
}
