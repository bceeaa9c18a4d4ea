//! Positions: a program that keeps the position of each message with what it makes of it starts again after exactly
//! that message, also in the middle of a snapshot.

mod support;

use std::collections::BTreeSet;

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::sync::Collection;
use mongostream::{
    Buffer, ErrorKind, Message, OnHistoryLost, Received, Snapshot, Start, Watch, Worker,
};
use serde_json::Value;

use support::{
    cluster_time, collection, event, failure, follow, next, small_oplog, spawn_ready, take,
    watch_collection, watch_database,
};

fn position(message: &Message) -> String {
    message.position().expect("a position").to_owned()
}

fn id(message: &Message) -> i32 {
    event(message).get_document("documentKey").unwrap().get_i32("_id").unwrap()
}

/// A watch of a collection, after an empty position and so with a snapshot.
fn copy(database: &str) -> Watch {
    watch_collection(database, "orders").snapshot(Snapshot::Initial)
}

fn after(watch: Watch, position: &str) -> Watch {
    watch.start_at(Start::Position(position.to_owned()))
}

fn insert(orders: &Collection<Document>, ids: std::ops::Range<i32>) {
    orders.insert_many(ids.map(|id| doc! { "_id": id })).run().unwrap();
}

/// Ends a worker, and gives its checkpoint free.
fn ends(buffer: Buffer, worker: Worker) {
    buffer.close();
    worker.join().unwrap();
}

/// The operation and the id of each.
fn shown(messages: &[Message]) -> Vec<(String, i32)> {
    messages.iter().map(|message| (message.operation().to_owned(), id(message))).collect()
}

#[test]
fn wherever_a_program_dies_each_document_and_change_takes_effect_once() {
    let database = ground::shared().database("positions");
    let orders = collection(&database, "orders");
    insert(&orders, 0..12);
    let watch = || copy(&database).batch_size(3);
    let (buffer, worker) = follow(watch());
    let mut all = take(&buffer, 12);
    insert(&orders, 12..16);
    orders.delete_one(doc! { "_id": 14 }).run().unwrap();
    all.extend(take(&buffer, 5));
    drop((buffer, worker));
    let named = |operation: &str, ids: &[i32]| {
        ids.iter().map(|id| (operation.to_owned(), *id)).collect::<Vec<_>>()
    };
    let exist = |from: i32| named("snapshot", &(from..12).collect::<Vec<_>>());
    let changes = [named("insert", &[12, 13, 14, 15]), named("delete", &[14])].concat();
    assert_eq!(shown(&all), [exist(0), changes.clone()].concat());
    for (index, message) in all.iter().enumerate() {
        let (buffer, _worker) = follow(after(watch(), &position(message)));
        // What is left of the snapshot is read now, and its changes come all the same.
        let expected = match index {
            0..12 => [exist(index as i32 + 1), named("snapshot", &[12, 13, 15]), changes.clone()]
                .concat(),
            _ => changes[index - 11..].to_vec(),
        };
        let rest = take(&buffer, expected.len());
        assert_eq!(shown(&rest), expected, "after message {index}");
        // A run of its own has the same positions.
        if let (Some(last), Some(ours)) = (rest.last(), all.last()) {
            assert_eq!(last.position(), ours.position());
        }
        assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)), "after message {index}");
    }
}

#[test]
fn a_large_collection_goes_on_in_each_of_its_ranges() {
    const COUNT: i32 = 150_000;
    let database = ground::shared().database("ranges");
    let orders = collection(&database, "orders");
    insert(&orders, 0..COUNT);
    let watch = || copy(&database).batch_size(1_000);
    let (mut seen, mut from) = (BTreeSet::new(), String::new());
    for count in [1, 6_543, 40_001, 70_000] {
        let buffer = Buffer::new(500);
        let _worker = spawn_ready(after(watch(), &from), &buffer);
        let messages = take(&buffer, count);
        messages.iter().for_each(|message| assert!(seen.insert(id(message)), "it comes twice"));
        from = position(messages.last().unwrap());
        let ranges = serde_json::from_str::<Value>(&from).unwrap()["snapshot"]["ranges"].clone();
        let ranges = ranges.as_array().map_or(0, Vec::len);
        assert!((1..=3).contains(&ranges), "{ranges} ranges: one for 50,000 documents");
    }
    let buffer = Buffer::new(500);
    let worker = spawn_ready(after(watch(), &from), &buffer);
    let rest = take(&buffer, COUNT as usize - seen.len());
    rest.iter().for_each(|message| assert!(seen.insert(id(message)), "it comes twice"));
    assert!(seen.into_iter().eq(0..COUNT));
    insert(&orders, COUNT..COUNT + 1);
    assert_eq!(shown(&[next(&buffer)]), [("insert".to_owned(), COUNT)]);
    drop(worker);
}

#[test]
fn a_position_is_short_in_the_stream_and_belongs_to_its_stream() {
    let database = ground::shared().database("stream");
    let orders = collection(&database, "orders");
    insert(&orders, 0..1);
    let (buffer, _worker) = follow(watch_collection(&database, "orders").operations(["insert"]));
    insert(&orders, 1..2);
    let message = next(&buffer);
    let position = position(&message);
    let token = message.resume_token().unwrap();
    assert_eq!(
        position,
        format!(
            r#"{{"mongostream_position":1,"watch":"{database}.orders","operations":["insert"],"pipeline":[],"token":{token}}}"#
        )
    );
    for (watch, named) in [
        (watch_collection(&database, "orders"), "its operations is"),
        (watch_collection(&database, "items").operations(["insert"]), "its watch is"),
        (watch_database(&database).operations(["insert"]), "its watch is"),
    ] {
        let error = after(watch, &position).spawn(&Buffer::new(1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Argument);
        let text = error.to_string();
        assert!(text.contains("option start_at_position") && text.contains(named), "{text}");
    }
    let error = after(copy(&database), token).spawn(&Buffer::new(1)).unwrap_err().to_string();
    assert!(error.contains("a resume token belongs to start_after"), "{error}");
}

#[test]
fn a_saved_checkpoint_overrides_a_position_and_a_position_fills_an_empty_store() {
    let database = ground::shared().database("both");
    let orders = collection(&database, "orders");
    let watch = || watch_collection(&database, "orders");
    let (buffer, worker) = follow(watch());
    insert(&orders, 0..4);
    let messages = take(&buffer, 4);
    drop((buffer, worker));
    let stored = || watch().option("checkpoint_collection", &format!("{database}.checkpoints"));
    // Nothing is acked: what is saved is the position.
    let (buffer, worker) = follow(after(stored(), &position(&messages[1])));
    assert_eq!(id(&next(&buffer)), 2);
    ends(buffer, worker);
    let (buffer, worker) = follow(stored());
    assert_eq!(id(&next(&buffer)), 2, "from the checkpoint");
    ends(buffer, worker);
    let (buffer, _worker) = follow(after(stored(), &position(&messages[2])));
    assert_eq!(id(&next(&buffer)), 2, "the checkpoint overrides the position");
}

/// The place of a gap that a snapshot follows is before all of its documents.
#[test]
fn the_position_of_a_gap_is_where_the_stream_begins_anew() {
    let set = small_oplog::start();
    let orders = set.client().database("shop").collection::<Document>("orders");
    let watch = |policy| {
        let watch = Worker::watch(set.uri()).database("shop").collection("orders");
        watch.on_history_lost(policy)
    };
    let (buffer, worker) = follow(watch(OnHistoryLost::Fail));
    insert(&orders, 0..3);
    let lost = take(&buffer, 3).remove(0);
    drop((buffer, worker));
    small_oplog::roll_past(&set, cluster_time(&lost));
    let buffer = Buffer::new(1);
    let _worker = after(watch(OnHistoryLost::Fail), &position(&lost)).spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::HistoryLost, "{error}");
    assert!(error.to_string().contains("the place of the option start_at_position"), "{error}");
    for (policy, documents) in [(OnHistoryLost::Restart, 0), (OnHistoryLost::Snapshot, 3)] {
        let buffer = Buffer::new(100);
        let _worker = spawn_ready(after(watch(policy), &position(&lost)), &buffer);
        let gap = next(&buffer);
        assert_eq!(gap.operation(), "gap");
        let buffer = Buffer::new(100);
        let _worker = spawn_ready(after(watch(policy), &position(&gap)), &buffer);
        let found = take(&buffer, documents);
        assert!(found.iter().all(|message| message.operation() == "snapshot"));
        let id = if documents > 0 { 11 } else { 10 };
        insert(&orders, id..id + 1);
        assert_eq!(shown(&[next(&buffer)]), [("insert".to_owned(), id)], "no gap once more");
        orders.delete_one(doc! { "_id": id }).run().unwrap();
    }
}
