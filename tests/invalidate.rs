//! Dropping or renaming what is watched does not end a worker: its stream goes on with what comes by the
//! same name, whether or not the pipeline lets the `invalidate` event through.

mod support;

use std::time::Duration;

use ground::mongodb::bson::{Document, RawDocument, doc};
use ground::mongodb::sync::{Client, Collection};
use ground::{ReplicaSet, wait_until};
use mongostream::{
    Buffer, ErrorKind, Message, OnInvalidate, Received, Start, Watch, Worker, WorkerState,
};

use support::{
    DEADLINE, collection, failure, follow, is_closed, next, spawn_ready, take, wait_for_len,
    wait_for_state, watch_collection, watch_database,
};

/// `insert 5`: the operation and, where there is one, the number of the document.
fn summary(message: &Message) -> String {
    let event = RawDocument::from_bytes(message.bson()).unwrap();
    let id = event.get_document("documentKey").and_then(|key| key.get_i32("_id"));
    id.map_or(message.operation().to_owned(), |id| format!("{} {id}", message.operation()))
}

#[track_caller]
fn summaries(buffer: &Buffer, count: usize) -> Vec<String> {
    take(buffer, count).iter().map(summary).collect()
}

fn inserts(ids: impl IntoIterator<Item = i32>) -> Vec<String> {
    ids.into_iter().map(|id| format!("insert {id}")).collect()
}

/// Hides the `invalidate` event.
fn only_inserts() -> [Document; 1] {
    [doc! { "$match": { "operationType": "insert" } }]
}

fn insert(collection: &Collection<Document>, id: i32) {
    collection.insert_one(doc! { "_id": id }).run().unwrap();
}

fn rename(client: &Client, database: &str, from: &str, to: &str) {
    let (from, to) = (format!("{database}.{from}"), format!("{database}.{to}"));
    client
        .database("admin")
        .run_command(doc! { "renameCollection": from, "to": to })
        .run()
        .unwrap();
}

/// A database of the shared set's, and its collection `orders`.
fn shop(label: &str) -> (String, Collection<Document>) {
    let database = ground::shared().database(label);
    let orders = collection(&database, "orders");
    (database, orders)
}

fn watch_orders(database: &str) -> Watch {
    watch_collection(database, "orders")
}

/// Nothing more is queued, and the worker has a working cursor: it delivers what is written now.
#[track_caller]
fn assert_goes_on(worker: &Worker, buffer: &Buffer, orders: &Collection<Document>, id: i32) {
    insert(orders, id);
    assert_eq!(summaries(buffer, 1), inserts([id]));
    wait_for_state(worker, WorkerState::Streaming);
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

#[test]
fn a_drop_behind_a_filter_is_passed_without_a_hot_loop() {
    // Counts all of the server's commands, so it is this test's alone.
    let set = ReplicaSet::start().unwrap();
    let commands = || {
        let status = set.client().database("admin").run_command(doc! { "serverStatus": 1 }).run();
        let status = status.unwrap();
        let commands = status.get_document("metrics").unwrap().get_document("commands").unwrap();
        let total = |name: &str| commands.get_document(name).unwrap().get_i64("total").unwrap();
        (total("aggregate"), total("getMore"))
    };
    let buffer = Buffer::new(10);
    let orders = set.client().database("shop").collection::<Document>("orders");
    let watch = Worker::watch(set.uri()).database("shop").collection("orders");
    let worker = spawn_ready(watch.pipeline(only_inserts()), &buffer);
    let assert_quiet = || {
        wait_for_state(&worker, WorkerState::Streaming);
        let before = commands();
        assert!(matches!(buffer.recv_timeout(Duration::from_secs(1)), Ok(Received::Timeout)));
        let after = commands();
        // An idle stream asks about once a second.
        assert!(after.0 - before.0 <= 2, "{} opens within a second", after.0 - before.0);
        assert!(after.1 - before.1 <= 6, "{} requests within a second", after.1 - before.1);
        assert_eq!(worker.state(), WorkerState::Streaming);
    };
    insert(&orders, 1);
    assert_eq!(summaries(&buffer, 1), inserts([1]));
    let opened = commands().0;
    orders.drop().run().unwrap();
    // Once to look for the hidden event, once to go on behind it.
    wait_until(DEADLINE, "the stream is opened twice", || commands().0 >= opened + 2);
    assert_quiet();
    insert(&orders, 2);
    assert_eq!(summaries(&buffer, 1), inserts([2]));
    assert_quiet();
}

#[test]
fn several_drops_behind_a_filter_are_passed() {
    let (database, orders) = shop("drops");
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch_orders(&database).pipeline(only_inserts()), &buffer);
    for id in 0..5 {
        insert(&orders, id);
        orders.drop().run().unwrap();
    }
    assert_eq!(summaries(&buffer, 5), inserts(0..5));
    assert_goes_on(&worker, &buffer, &orders, 5);
}

#[test]
fn several_drops_are_delivered_and_passed() {
    let (database, orders) = shop("shown");
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch_orders(&database), &buffer);
    for id in 0..3 {
        insert(&orders, id);
        orders.drop().run().unwrap();
        let insert = format!("insert {id}");
        assert_eq!(summaries(&buffer, 3), [insert.as_str(), "drop", "invalidate"]);
    }
    assert_goes_on(&worker, &buffer, &orders, 3);
}

#[test]
fn what_was_written_before_a_drop_is_delivered_however_slow_the_consumer() {
    for filter in [false, true] {
        let (database, orders) = shop("tiny");
        let buffer = Buffer::new(1);
        // Several replies before the one with which the server closes the cursor.
        let watch = watch_orders(&database).batch_size(3);
        let watch = if filter { watch.pipeline(only_inserts()) } else { watch };
        let worker = spawn_ready(watch, &buffer);
        (0..10).for_each(|id| insert(&orders, id));
        orders.drop().run().unwrap();
        (10..20).for_each(|id| insert(&orders, id));
        wait_for_len(&buffer, 1);

        assert_eq!(summaries(&buffer, 10), inserts(0..10));
        if !filter {
            assert_eq!(summaries(&buffer, 2), ["drop", "invalidate"]);
        }
        assert_eq!(summaries(&buffer, 10), inserts(10..20));
        assert_goes_on(&worker, &buffer, &orders, 20);
    }
}

#[test]
fn a_rename_is_passed() {
    for filter in [false, true] {
        let (database, orders) = shop("rename");
        let client = ground::shared().client();
        let buffer = Buffer::new(100);
        let watch = watch_orders(&database);
        let watch = if filter { watch.pipeline(only_inserts()) } else { watch };
        let worker = spawn_ready(watch, &buffer);
        insert(&orders, 1);
        rename(client, &database, "orders", "old");
        // No longer watched.
        insert(&collection(&database, "old"), 2);
        insert(&orders, 3);

        assert_eq!(summaries(&buffer, 1), inserts([1]));
        if !filter {
            assert_eq!(summaries(&buffer, 2), ["rename", "invalidate"]);
        }
        assert_eq!(summaries(&buffer, 1), inserts([3]));
        assert_goes_on(&worker, &buffer, &orders, 4);
    }
}

#[test]
fn a_rename_onto_the_watched_name_is_passed() {
    for filter in [false, true] {
        let (database, orders) = shop("onto");
        let client = ground::shared().client();
        let buffer = Buffer::new(100);
        let watch = watch_orders(&database);
        let watch = if filter { watch.pipeline(only_inserts()) } else { watch };
        let worker = spawn_ready(watch, &buffer);
        insert(&collection(&database, "new"), 1);
        rename(client, &database, "new", "orders");
        insert(&orders, 2);

        if !filter {
            assert_eq!(summaries(&buffer, 2), ["rename", "invalidate"]);
        }
        assert_eq!(summaries(&buffer, 1), inserts([2]));
        assert_goes_on(&worker, &buffer, &orders, 3);
    }
}

#[test]
fn dropping_the_database_is_passed_by_a_collection_stream() {
    for filter in [false, true] {
        let (database, orders) = shop("dropdb");
        let buffer = Buffer::new(100);
        let watch = watch_orders(&database);
        let watch = if filter { watch.pipeline(only_inserts()) } else { watch };
        let worker = spawn_ready(watch, &buffer);
        insert(&orders, 1);
        ground::shared().client().database(&database).drop().run().unwrap();
        insert(&orders, 2);

        assert_eq!(summaries(&buffer, 1), inserts([1]));
        if !filter {
            assert_eq!(summaries(&buffer, 2), ["drop", "invalidate"]);
        }
        assert_eq!(summaries(&buffer, 1), inserts([2]));
        assert_goes_on(&worker, &buffer, &orders, 3);
    }
}

#[test]
fn dropping_the_database_is_passed_by_a_database_stream() {
    for filter in [false, true] {
        let (database, orders) = shop("dropdb");
        let buffer = Buffer::new(100);
        let watch = watch_database(&database);
        let watch = if filter { watch.pipeline(only_inserts()) } else { watch };
        let worker = spawn_ready(watch, &buffer);
        for id in [1, 2] {
            insert(&orders, id);
            ground::shared().client().database(&database).drop().run().unwrap();
            assert_eq!(summaries(&buffer, 1), inserts([id]));
            if !filter {
                assert_eq!(summaries(&buffer, 3), ["drop", "dropDatabase", "invalidate"]);
            }
        }
        assert_goes_on(&worker, &buffer, &orders, 3);
    }
}

#[test]
fn a_database_stream_outlives_its_collections() {
    let (database, orders) = shop("outlives");
    let client = ground::shared().client();
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch_database(&database), &buffer);
    insert(&orders, 1);
    rename(client, &database, "orders", "old");
    collection(&database, "old").drop().run().unwrap();
    insert(&orders, 2);
    assert_eq!(summaries(&buffer, 4), ["insert 1", "rename", "drop", "insert 2"]);
    assert_goes_on(&worker, &buffer, &orders, 3);
}

#[test]
fn a_deployment_stream_outlives_its_databases() {
    let (database, orders) = shop("deployment");
    let client = ground::shared().client();
    let buffer = Buffer::new(100);
    // Other tests use the same set.
    let ours = doc! { "$match": { "ns.db": &database } };
    let worker = spawn_ready(Worker::watch(ground::shared().uri()).pipeline([ours]), &buffer);
    insert(&orders, 1);
    client.database(&database).drop().run().unwrap();
    insert(&orders, 2);
    assert_eq!(summaries(&buffer, 4), ["insert 1", "drop", "dropDatabase", "insert 2"]);
    assert_goes_on(&worker, &buffer, &orders, 3);
}

#[test]
fn a_new_worker_goes_on_behind_an_invalidate() {
    let (database, orders) = shop("behind");
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch_orders(&database), &buffer);
    insert(&orders, 1);
    orders.drop().run().unwrap();
    let messages = take(&buffer, 3);
    assert_eq!(summary(&messages[2]), "invalidate");
    messages.iter().for_each(Message::ack);
    worker.stop();
    worker.join().unwrap();
    insert(&orders, 2);

    // Once by the message's token, once by the worker's own.
    let tokens = [messages[2].resume_token().unwrap().to_owned(), worker.resume_token().unwrap()];
    for (token, id) in tokens.into_iter().zip(3..) {
        let buffer = Buffer::new(100);
        let worker =
            spawn_ready(watch_orders(&database).start_at(Start::StartAfter(token)), &buffer);
        assert_eq!(summaries(&buffer, id as usize - 2), inserts(2..id));
        assert_goes_on(&worker, &buffer, &orders, id);
    }
}

#[test]
fn a_new_worker_goes_on_before_a_hidden_invalidate() {
    let (database, orders) = shop("before");
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch_orders(&database).pipeline(only_inserts()), &buffer);
    insert(&orders, 1);
    let first = next(&buffer);
    orders.drop().run().unwrap();
    insert(&orders, 2);
    // By then the worker itself has found its way.
    assert_eq!(summary(&next(&buffer)), "insert 2");
    worker.stop();
    worker.join().unwrap();

    let buffer = Buffer::new(100);
    let token = first.resume_token().unwrap().to_owned();
    let watch = watch_orders(&database).pipeline(only_inserts());
    let worker = spawn_ready(watch.start_at(Start::StartAfter(token)), &buffer);
    assert_eq!(summaries(&buffer, 1), inserts([2]));
    assert_goes_on(&worker, &buffer, &orders, 3);
}

/// The worker ends behind its last event; one that starts behind it sees what came afterwards.
fn ends_at_a_drop(label: &str, pipeline: impl IntoIterator<Item = Document>, last: &[&str]) {
    let (database, orders) = shop(label);
    let (buffer, worker) =
        follow(watch_orders(&database).pipeline(pipeline).on_invalidate(OnInvalidate::Stop));
    insert(&orders, 1);
    orders.drop().run().unwrap();
    insert(&orders, 2);
    assert_eq!(summaries(&buffer, 1), inserts([1]));
    for operation in last {
        let message = next(&buffer);
        assert_eq!(message.operation(), *operation);
        message.ack();
    }
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Invalidated, "{error}");
    assert!(error.to_string().contains(&format!("{database}.orders")), "{error}");
    assert!(is_closed(&buffer));
    assert_eq!(worker.state(), WorkerState::Failed);
}

#[test]
fn a_worker_that_shall_stop_at_an_invalidate_ends_behind_it() {
    ends_at_a_drop("stop", [], &["drop", "invalidate"]);
}

#[test]
fn a_worker_that_shall_stop_at_an_invalidate_ends_at_a_hidden_one_too() {
    ends_at_a_drop("stop_hidden", only_inserts(), &[]);
}

#[test]
fn a_new_worker_goes_on_where_one_has_stopped_at_an_invalidate() {
    let (database, orders) = shop("stop_resume");
    let watch = || watch_orders(&database).on_invalidate(OnInvalidate::Stop);
    let (buffer, worker) = follow(watch());
    orders.insert_one(doc! { "_id": 1 }).run().unwrap();
    orders.drop().run().unwrap();
    insert(&orders, 2);
    for message in take(&buffer, 3) {
        message.ack();
    }
    assert_eq!(failure(&buffer).kind(), ErrorKind::Invalidated);
    let token = worker.resume_token().unwrap();
    let (buffer, _worker) = follow(watch().start_at(Start::StartAfter(token)));
    assert_eq!(summaries(&buffer, 1), inserts([2]));
}
