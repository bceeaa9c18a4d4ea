//! Only the operations that were asked for are delivered; what the stream needs beside them it keeps to
//! itself.

mod support;

use std::time::Duration;

use bson::{Document, doc};
use ground::{ReplicaSet, wait_until};
use mongostream::{
    Buffer, ErrorKind, Message, OnInvalidate, Received, Start, Watch, Worker, WorkerState,
};

use support::reference::{Scope, driver_events, events, insert_last};
use support::{
    DEADLINE, collection, event, failure, follow, id, is_closed, next, now, spawn_ready, take,
    wait_for_state, watch_collection, watch_database,
};

#[track_caller]
fn insert(database: &str, id: i32) {
    collection(database, "orders").insert_one(doc! { "_id": id }).run().unwrap();
}

fn watch(database: &str) -> Watch {
    watch_collection(database, "orders")
}

fn drop_orders(database: &str) {
    collection(database, "orders").drop().run().unwrap();
}

#[track_caller]
fn check_same(watch: Watch, start: &Start, database: &str, wanted: &[&str]) {
    let mut theirs = driver_events(Scope::Database, database, start, None);
    theirs.retain(|event| wanted.contains(&event.get_str("operationType").unwrap()));
    let buffer = Buffer::new(100);
    let _worker = watch.start_at(start.clone()).spawn(&buffer).unwrap();
    assert_eq!(events(&take(&buffer, theirs.len())), theirs, "{wanted:?}");
}

#[test]
fn a_document_that_calls_itself_an_invalidate_is_delivered() {
    let database = ground::shared().database("operations");
    // The document becomes the event, but for its token.
    let flat = doc! { "$replaceRoot": { "newRoot": { "$mergeObjects": ["$fullDocument", { "_id": "$_id" }] } } };
    let watch = watch(&database).pipeline([flat]).operations(["insert"]);
    let (buffer, _worker) = follow(watch);
    let orders = collection(&database, "orders");
    for number in 0..3 {
        let document = doc! { "number": number, "operationType": "invalidate" };
        orders.insert_one(document).run().unwrap();
    }
    let numbers =
        take(&buffer, 3).iter().map(|m| event(m).get_i32("number").unwrap()).collect::<Vec<_>>();
    assert_eq!(numbers, [0, 1, 2]);
    // The real one is passed without a message.
    drop_orders(&database);
    orders.insert_one(doc! { "number": 3 }).run().unwrap();
    assert_eq!(event(&next(&buffer)).get_i32("number").unwrap(), 3);
}

#[test]
fn only_what_was_asked_for_is_delivered() {
    let database = ground::shared().database("operations");
    let start = now(watch_database(&database));
    let orders = collection(&database, "orders");
    for id in 0..3 {
        insert(&database, id);
        orders.update_one(doc! { "_id": id }, doc! { "$set": { "a": 1 } }).run().unwrap();
        orders.replace_one(doc! { "_id": id }, doc! { "b": 1 }).run().unwrap();
        orders.delete_one(doc! { "_id": id }).run().unwrap();
    }
    orders.drop().run().unwrap();
    insert_last(&database, "orders");
    for wanted in [
        &["insert"][..],
        &["insert", "delete"],
        &["replace", "insert", "replace", "noSuchOperationYet", "insert"],
        &["drop", "insert"],
    ] {
        let typed = watch_database(&database).operations(wanted.iter().copied());
        check_same(typed, &start, &database, wanted);
        let by_name = watch_database(&database).option("operations", &wanted.join(", "));
        check_same(by_name, &start, &database, wanted);
    }
}

#[test]
fn the_users_pipeline_stands_behind_the_operations() {
    let database = ground::shared().database("behind");
    let rename = doc! { "$addFields": { "operationType": "seen" } };
    let (buffer, _worker) = follow(watch(&database).operations(["insert"]).pipeline([rename]));
    insert(&database, 1);
    collection(&database, "orders").delete_one(doc! {}).run().unwrap();
    insert(&database, 2);
    let messages = take(&buffer, 2);
    assert_eq!(messages.iter().map(Message::operation).collect::<Vec<_>>(), ["seen", "seen"]);
    assert_eq!(messages.iter().map(id).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_list_without_a_name_in_it_is_refused() {
    let buffer = Buffer::new(10);
    for list in ["", " ", ",", "insert,,delete", "insert,"] {
        let watch = watch("shop").option("operations", list);
        let error = watch.spawn(&buffer).expect_err(list);
        assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
        assert!(error.to_string().contains("operations"), "{error}");
    }
    let error = watch("shop").operations([""; 0]).spawn(&buffer).unwrap_err();
    assert!(error.to_string().contains("operations"), "{error}");
}

/// The pipelines through which an `invalidate` finds its way, or does not.
fn pipelines() -> [Vec<Document>; 4] {
    [
        vec![],
        vec![doc! { "$match": { "fullDocument.no": { "$exists": false } } }],
        vec![doc! { "$match": { "operationType": "insert" } }],
        // Nothing says any more what an event is.
        vec![doc! { "$project": { "documentKey": 1 } }],
    ]
}

#[test]
fn an_unwanted_invalidate_is_passed_in_silence() {
    for pipeline in pipelines() {
        let database = ground::shared().database("silent");
        let filtered = || watch(&database).operations(["insert"]).pipeline(pipeline.clone());
        let (buffer, worker) = follow(filtered());
        for round in 0..3 {
            insert(&database, round);
            drop_orders(&database);
        }
        insert(&database, 3);
        let messages = take(&buffer, 4);
        assert_eq!(messages.iter().map(id).collect::<Vec<_>>(), [0, 1, 2, 3], "{pipeline:?}");
        wait_for_state(&worker, WorkerState::Streaming);
        assert!(buffer.is_empty(), "{pipeline:?}");

        // Nothing that was not delivered keeps the position back.
        messages.iter().for_each(Message::ack);
        drop_orders(&database);
        let reconnects = || buffer.stats().unwrap().workers[0].reconnects;
        wait_until(DEADLINE, "the last drop is passed", || reconnects() >= 4);
        wait_for_state(&worker, WorkerState::Streaming);
        assert_eq!(buffer.stats().unwrap().workers[0].unacked, 0, "{pipeline:?}");
        let token = worker.resume_token().unwrap();
        assert_ne!(Some(token.as_str()), messages[3].resume_token(), "{pipeline:?}");
        insert(&database, 4);
        let (again, _worker) = follow(filtered().start_at(Start::StartAfter(token)));
        assert_eq!(id(&next(&again)), 4, "{pipeline:?}");
        assert_eq!(again.stats().unwrap().workers[0].reconnects, 0, "the token is behind the drop");
    }
}

#[test]
fn a_wanted_invalidate_is_delivered() {
    let database = ground::shared().database("wanted");
    let (buffer, _worker) = follow(watch(&database).operations(["insert", "invalidate"]));
    insert(&database, 1);
    drop_orders(&database);
    insert(&database, 2);
    let operations: Vec<_> =
        take(&buffer, 3).iter().map(|message| message.operation().to_owned()).collect();
    assert_eq!(operations, ["insert", "invalidate", "insert"]);
}

#[test]
fn an_unwanted_invalidate_stops_a_worker_that_shall_stop() {
    for pipeline in pipelines() {
        let database = ground::shared().database("stop");
        let watch = watch(&database).operations(["insert"]).pipeline(pipeline.clone());
        let (buffer, worker) = follow(watch.on_invalidate(OnInvalidate::Stop));
        insert(&database, 1);
        drop_orders(&database);
        let message = next(&buffer);
        assert_eq!(id(&message), 1);
        message.ack();
        assert_eq!(failure(&buffer).kind(), ErrorKind::Invalidated, "{pipeline:?}");
        assert!(is_closed(&buffer));
        insert(&database, 2);
        let token = worker.resume_token().unwrap();
        let (buffer, _worker) = follow(self::watch(&database).start_at(Start::StartAfter(token)));
        let message = next(&buffer);
        assert_eq!((message.operation(), id(&message)), ("insert", 2), "{pipeline:?}");
    }
}

#[test]
fn an_unwanted_invalidate_makes_no_hot_loop() {
    // Counts all of the server's commands, so it is this test's alone.
    let set = ReplicaSet::start().unwrap();
    let commands = |name: &str| {
        let status = set.client().database("admin").run_command(doc! { "serverStatus": 1 }).run();
        let status = status.unwrap();
        let commands = status.get_document("metrics").unwrap().get_document("commands").unwrap();
        commands.get_document(name).unwrap().get_i64("total").unwrap()
    };
    for pipeline in pipelines() {
        let watch = Worker::watch(set.uri())
            .namespaces(["shop.orders", "shop.items"])
            .operations(["insert"])
            .pipeline(pipeline.clone());
        let buffer = Buffer::new(10);
        let worker = spawn_ready(watch, &buffer);
        let orders = set.client().database("shop").collection::<Document>("orders");
        orders.insert_one(doc! { "_id": 1 }).run().unwrap();
        assert_eq!(id(&next(&buffer)), 1);
        set.client().database("shop").drop().run().unwrap();
        let reconnects = || buffer.stats().unwrap().workers[0].reconnects;
        wait_until(DEADLINE, "the drop is passed", || reconnects() == 1);
        wait_for_state(&worker, WorkerState::Streaming);
        let before = (commands("aggregate"), commands("getMore"));
        assert!(matches!(buffer.recv_timeout(Duration::from_secs(1)), Ok(Received::Timeout)));
        // An idle stream asks about once a second.
        let (opens, requests) = (commands("aggregate") - before.0, commands("getMore") - before.1);
        assert!(opens <= 2 && requests <= 6, "{opens} opens, {requests} requests: {pipeline:?}");
        orders.insert_one(doc! { "_id": 2 }).run().unwrap();
        assert_eq!(id(&next(&buffer)), 2, "{pipeline:?}");
        orders.drop().run().unwrap();
        buffer.close();
        worker.join().unwrap();
    }
}
