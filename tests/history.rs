//! An oplog that no longer holds where a stream is to go on: what was lost is told, never hidden.

mod support;

use ground::ReplicaSet;
use ground::mongodb::bson::{Document, Timestamp, doc};
use ground::mongodb::sync::Collection;
use mongostream::{
    Buffer, ErrorKind, FileCheckpoint, Format, Message, OnHistoryLost, Snapshot, Start, Watch,
    Worker,
};

use support::small_oplog::{roll_past, start};
use support::{cluster_time, event, failure, follow, id, json, next, spawn_ready, wait_for_len};

fn orders(set: &ReplicaSet) -> Collection<Document> {
    set.client().database("shop").collection("orders")
}

fn watch(set: &ReplicaSet) -> Watch {
    Worker::watch(set.uri()).database("shop").collection("orders")
}

fn insert(set: &ReplicaSet, id: i32) {
    orders(set).insert_one(doc! { "_id": id }).run().unwrap();
}

/// An event that the oplog no longer holds.
fn lost_event(set: &ReplicaSet) -> Message {
    let (buffer, _worker) = follow(watch(set));
    insert(set, 0);
    let message = next(&buffer);
    roll_past(set, cluster_time(&message));
    message
}

fn token(message: &Message) -> String {
    message.resume_token().unwrap().to_owned()
}

/// From when to when changes are missing.
fn bounds(gap: &Message) -> (Timestamp, Timestamp) {
    assert_eq!(gap.operation(), "gap");
    let event = event(gap);
    let bounds = event.get_document("operationDescription").unwrap();
    (bounds.get_timestamp("from").unwrap(), bounds.get_timestamp("to").unwrap())
}

#[test]
fn a_restart_tells_of_the_gap_and_goes_on_from_now() {
    let set = start();
    let lost = lost_event(&set);
    let start = Start::StartAfter(token(&lost));
    let watch = watch(&set).on_history_lost(OnHistoryLost::Restart).start_at(start);
    let (buffer, worker) = follow(watch);
    // Newer servers find out behind the open: what is written before would lie in the gap.
    let gap = next(&buffer);
    let (from, to) = bounds(&gap);
    assert_eq!(from, cluster_time(&lost));
    insert(&set, 1);
    let first = next(&buffer);
    assert_eq!(id(&first), 1);
    assert!(from < to && to <= cluster_time(&first), "{from} to {to}");

    assert_eq!(gap.namespace(), "shop.orders");
    let shown = json(&gap);
    assert_eq!(shown["OperationType"], "gap");
    assert_eq!(shown["Namespace"]["Collection"], "orders");
    assert_eq!(shown["DocumentKey"]["DocumentId"], "");
    let seconds = |name: &str| shown["OperationDescription"][name]["$timestamp"]["t"].clone();
    assert_eq!((seconds("from"), seconds("to")), (from.time.into(), to.time.into()));

    // Until it is acknowledged a crash would tell of it again; then the stream goes on behind it.
    let before = worker.resume_token();
    assert!(before.is_none() || before.as_deref() == lost.resume_token(), "{before:?}");
    first.ack();
    assert_eq!(worker.resume_token(), before);
    gap.ack();
    assert_eq!(worker.resume_token().as_deref(), first.resume_token());
    let behind_the_gap = token(&gap);
    let (again, _worker) = follow(self::watch(&set).start_at(Start::StartAfter(behind_the_gap)));
    assert_eq!(id(&next(&again)), 1);
}

#[test]
fn a_gap_that_nobody_acknowledged_is_told_again() {
    let set = start();
    let directory = std::env::temp_dir().join(set.database("gap"));
    std::fs::create_dir_all(&directory).unwrap();
    let watch = || {
        watch(&set)
            .on_history_lost(OnHistoryLost::Restart)
            .checkpoint(FileCheckpoint::new(directory.join("orders.token")))
    };
    let (buffer, worker) = follow(watch());
    insert(&set, 0);
    let lost = next(&buffer);
    lost.ack();
    // An idle token would be behind the event, and the loss begin there.
    buffer.close();
    worker.join().unwrap();
    drop(worker);
    roll_past(&set, cluster_time(&lost));

    let mut begins = Vec::new();
    for round in 1..3 {
        let (buffer, worker) = follow(watch());
        let gap = next(&buffer);
        insert(&set, round);
        begins.push(bounds(&gap).0);
        let event = next(&buffer);
        assert_eq!(id(&event), round);
        event.ack();
        if round == 2 {
            gap.ack();
        }
        buffer.close();
        worker.join().unwrap();
    }
    assert_eq!(begins, [begins[0]; 2]);

    // Nothing restarts by itself: the failure names the checkpoint, and it stays as it is.
    let place = directory.join("orders.token");
    let saved = std::fs::read_to_string(&place).unwrap();
    let newest = set.client().database("local").collection::<Document>("oplog.rs");
    let newest = newest.find_one(doc! {}).sort(doc! { "$natural": -1 }).run().unwrap().unwrap();
    roll_past(&set, newest.get_timestamp("ts").unwrap());
    let failing = Buffer::new(1);
    let worker = watch().on_history_lost(OnHistoryLost::Fail).spawn(&failing).unwrap();
    assert_eq!(worker.wait_ready().unwrap_err().kind(), ErrorKind::HistoryLost);
    let error = failure(&failing).to_string();
    assert!(error.contains("orders.token") && error.contains("stays as it is"), "{error}");
    worker.join().unwrap_err();
    drop(worker);
    assert_eq!(std::fs::read_to_string(&place).unwrap(), saved);
    let (buffer, _worker) = follow(watch());
    assert_eq!(next(&buffer).operation(), "gap");
    insert(&set, 3);
    assert_eq!(id(&next(&buffer)), 3);
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn a_cursor_that_the_oplog_has_overtaken_goes_on_behind_a_gap() {
    let set = start();
    // Three replies of one event fill the buffer and both places before it; the cursor waits.
    let watch = watch(&set).on_history_lost(OnHistoryLost::Restart).batch_size(1);
    let buffer = Buffer::new(1);
    let worker = spawn_ready(watch.format(Format::Event), &buffer);
    let orders = orders(&set);
    orders.insert_many((0..100).map(|id| doc! { "_id": id })).run().unwrap();
    wait_for_len(&buffer, 1);
    let last = set.client().database("local").collection::<Document>("oplog.rs");
    let last = last.find_one(doc! {}).sort(doc! { "$natural": -1 }).run().unwrap().unwrap();
    roll_past(&set, last.get_timestamp("ts").unwrap());

    let mut last = None;
    let gap = loop {
        let message = next(&buffer);
        if message.operation() == "gap" {
            break message;
        }
        assert_eq!(id(&message), last.as_ref().map_or(0, |last| id(last) + 1));
        last = Some(message);
    };
    let last = last.expect("what was read before is delivered");
    assert!(id(&last) < 99);
    // A reply's own token may lie behind its last event.
    let (from, to) = bounds(&gap);
    assert!(cluster_time(&last) <= from && from < to, "{from} to {to}");
    insert(&set, 100);
    assert_eq!(id(&next(&buffer)), 100);
    assert_eq!(json(&gap)["operationType"], "gap");
    drop(worker);
}

#[test]
fn a_snapshot_follows_the_gap() {
    let set = start();
    let lost = lost_event(&set);
    orders(&set).insert_many((1..5).map(|id| doc! { "_id": id })).run().unwrap();
    let start = Start::StartAfter(token(&lost));
    let watch = watch(&set).on_history_lost(OnHistoryLost::Snapshot).start_at(start);
    let (buffer, worker) = follow(watch);
    let gap = next(&buffer);
    let (from, to) = bounds(&gap);
    assert!(from == cluster_time(&lost) && from < to, "{from} to {to}");
    for expected in 0..5 {
        let message = next(&buffer);
        assert_eq!((message.operation(), id(&message)), ("snapshot", expected));
        message.ack();
    }
    let before = worker.resume_token();
    assert!(before.is_none() || before.as_deref() == lost.resume_token(), "{before:?}");
    insert(&set, 5);
    assert_eq!(id(&next(&buffer)), 5);
    gap.ack();
    assert_eq!(worker.resume_token().as_deref(), gap.resume_token());
}

#[test]
fn a_snapshot_whose_beginning_is_lost_begins_anew() {
    let set = start();
    let directory = std::env::temp_dir().join(set.database("anew"));
    std::fs::create_dir_all(&directory).unwrap();
    orders(&set).insert_many((0..50).map(|id| doc! { "_id": id })).run().unwrap();
    let watch = |policy| {
        watch(&set)
            .snapshot(Snapshot::Initial)
            .on_history_lost(policy)
            .batch_size(10)
            .checkpoint(FileCheckpoint::new(directory.join("orders.token")))
    };
    let (buffer, worker) = follow(watch(OnHistoryLost::Fail));
    (0..20).for_each(|_| next(&buffer).ack());
    buffer.close();
    worker.join().unwrap();
    drop(worker);
    let newest = set.client().database("local").collection::<Document>("oplog.rs");
    let newest = newest.find_one(doc! {}).sort(doc! { "$natural": -1 }).run().unwrap().unwrap();
    roll_past(&set, newest.get_timestamp("ts").unwrap());

    // Before the rest is read, not after.
    let buffer = Buffer::new(100);
    let worker = watch(OnHistoryLost::Fail).spawn(&buffer).unwrap();
    assert_eq!(failure(&buffer).kind(), ErrorKind::HistoryLost);
    worker.join().unwrap_err();
    drop(worker);

    let (buffer, _worker) = follow(watch(OnHistoryLost::Restart));
    bounds(&next(&buffer));
    assert!((0..50).all(|expected| id(&next(&buffer)) == expected));
    insert(&set, 50);
    assert_eq!(id(&next(&buffer)), 50);
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn a_start_time_that_is_gone_is_the_beginning_of_the_gap() {
    let set = start();
    let lost = lost_event(&set);
    let time = cluster_time(&lost).time;
    let (buffer, _worker) =
        follow(watch(&set).on_history_lost(OnHistoryLost::Restart).start_at(Start::at(time)));
    assert_eq!(bounds(&next(&buffer)).0, Timestamp { time, increment: 0 });
    insert(&set, 1);
    assert_eq!(id(&next(&buffer)), 1);
}

#[test]
fn filters_leave_the_gap_alone() {
    let set = start();
    let lost = lost_event(&set);
    let watch = Worker::watch(set.uri()).namespaces(["shop.orders"]).operations(["delete"]);
    let watch = watch.pipeline([doc! { "$match": { "operationType": "delete" } }]);
    let watch = watch.on_history_lost(OnHistoryLost::Restart);
    let (buffer, _worker) = follow(watch.start_at(Start::StartAfter(token(&lost))));
    let gap = next(&buffer);
    assert_eq!(bounds(&gap).0, cluster_time(&lost));
    assert_eq!(gap.namespace(), "shop");
}

#[test]
fn a_quiet_stream_learns_that_its_history_is_lost() {
    let set = start();
    let lost = lost_event(&set);
    let buffer = Buffer::new(10);
    let start = Start::StartAfter(token(&lost));
    let worker = watch(&set).start_at(start).spawn(&buffer).unwrap();
    // Not ready for a moment: nothing of what follows will come.
    assert_eq!(worker.wait_ready().unwrap_err().kind(), ErrorKind::HistoryLost);
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::HistoryLost, "{error}");
    for word in ["option start_after", "on_history_lost=restart", "on_history_lost=snapshot"] {
        assert!(error.to_string().contains(word), "no {word} in {error}");
    }
    let time = cluster_time(&lost).time;
    assert!(error.to_string().contains(&format!("unix time {time}")), "{error}");
    // Nothing of it says that the stream is somewhere else.
    let position = worker.resume_token();
    assert!(position.is_none() || position.as_deref() == lost.resume_token(), "{position:?}");
}

#[test]
fn a_pipeline_that_takes_the_token_away_is_no_lost_history() {
    let set = ground::shared();
    let database = set.database("history");
    let watch = support::watch_collection(&database, "orders")
        .pipeline([
            doc! { "$project": { "operationType": 1, "_id": { "$toLower": "$operationType" } } },
        ])
        .on_history_lost(OnHistoryLost::Restart);
    let (buffer, _worker) = follow(watch);
    support::collection(&database, "orders").insert_one(doc! {}).run().unwrap();
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    assert!(error.to_string().contains("option pipeline"), "{error}");
}
