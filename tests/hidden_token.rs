//! A token whose own event no longer passes the stream's stages is a place to go on from, for as long as the
//! oplog reaches it. Servers say of such a token what they also say of a lost history.

mod support;

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::sync::Collection;
use ground::{ReplicaSet, shared};
use mongostream::{
    Buffer, ErrorKind, FileCheckpoint, FullDocument, FullDocumentBeforeChange, Message,
    OnHistoryLost, Start, Watch, Worker,
};

use support::small_oplog::{self, roll_past};
use support::{
    cluster_time, collection, event, failure, follow, id, next, spawn_ready, take, wait_for_len,
    watch_collection, watch_database,
};

/// A stream of paid orders, as they are when the event is read.
fn paid(watch: Watch) -> Watch {
    watch
        .full_document(FullDocument::UpdateLookup)
        .pipeline([doc! { "$match": { "fullDocument.state": "paid" } }])
}

fn set_state(orders: &Collection<Document>, id: i32, state: &str) {
    let change = doc! { "$set": { "state": state } };
    let options = orders.update_one(doc! { "_id": id }, change).upsert(true);
    options.run().unwrap();
}

/// An update, of which the server looks the document up when it reads the event.
fn pay(orders: &Collection<Document>, id: i32) {
    set_state(orders, id, "new");
    set_state(orders, id, "paid");
}

fn token(message: &Message) -> String {
    message.resume_token().unwrap().to_owned()
}

/// The ids of the next events, and that nothing comes after them but this one.
#[track_caller]
fn assert_exactly(buffer: &Buffer, orders: &Collection<Document>, ids: &[i32]) {
    let messages = take(buffer, ids.len());
    assert_eq!(messages.iter().map(id).collect::<Vec<_>>(), ids);
    set_state(orders, 999, "paid");
    assert_eq!(id(&next(buffer)), 999, "and nothing else");
}

/// The events of a stream whose last one has changed since: its token, and the orders.
fn changed_since(database: &str) -> (Message, Collection<Document>) {
    let orders = collection(database, "orders");
    let (buffer, _worker) = follow(paid(watch_collection(database, "orders")));
    (0..3).for_each(|id| pay(&orders, id));
    let last = take(&buffer, 3).pop().unwrap();
    set_state(&orders, 2, "sent");
    (3..6).for_each(|id| pay(&orders, id));
    (last, orders)
}

#[test]
fn a_document_that_has_changed_since_does_not_hide_what_follows() {
    let database = shared().database("hidden");
    let (last, orders) = changed_since(&database);
    for start in [Start::StartAfter(token(&last)), Start::ResumeAfter(token(&last))] {
        let (buffer, _worker) = follow(paid(watch_collection(&database, "orders")).start_at(start));
        let messages = take(&buffer, 3);
        assert_eq!(messages.iter().map(id).collect::<Vec<_>>(), [3, 4, 5]);
    }
    let watch = paid(watch_collection(&database, "orders")).on_history_lost(OnHistoryLost::Restart);
    let (buffer, _worker) = follow(watch.start_at(Start::StartAfter(token(&last))));
    assert_exactly(&buffer, &orders, &[3, 4, 5]);
}

#[test]
fn a_checkpoint_whose_last_document_has_changed_since_is_a_place_to_go_on() {
    let database = shared().database("hidden");
    let directory = std::env::temp_dir().join(&database);
    std::fs::create_dir_all(&directory).unwrap();
    let orders = collection(&database, "orders");
    let watch = || {
        paid(watch_collection(&database, "orders"))
            .checkpoint(FileCheckpoint::new(directory.join("paid.token")))
            .on_history_lost(OnHistoryLost::Restart)
    };
    let (buffer, worker) = follow(watch());
    pay(&orders, 0);
    let last = next(&buffer);
    set_state(&orders, 0, "paid, and more");
    pay(&orders, 1);
    wait_for_len(&buffer, 1);
    last.ack();
    // That of an idle reply would always be found.
    assert_eq!(worker.resume_token().as_deref(), last.resume_token());
    buffer.close();
    worker.join().unwrap();
    drop(worker);
    let saved = std::fs::read_to_string(directory.join("paid.token")).unwrap();

    // Twice: what the first life saves is a place to go on, too.
    for round in 1..3 {
        let (buffer, worker) = follow(watch());
        let message = next(&buffer);
        assert_eq!(id(&message), round);
        pay(&orders, round + 1);
        wait_for_len(&buffer, 1);
        set_state(&orders, round, "sent");
        message.ack();
        assert_eq!(worker.resume_token().as_deref(), message.resume_token());
        buffer.close();
        worker.join().unwrap();
        drop(worker);
        assert_ne!(std::fs::read_to_string(directory.join("paid.token")).unwrap(), saved);
    }
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn until_something_new_is_acked_the_position_stays_where_it_was() {
    let database = shared().database("hidden");
    let (last, _) = changed_since(&database);
    let watch = paid(watch_collection(&database, "orders"));
    let (buffer, worker) = follow(watch.start_at(Start::StartAfter(token(&last))));
    let first = next(&buffer);
    let position = worker.resume_token();
    assert_eq!(position, last.resume_token().map(str::to_owned));
    first.ack();
    assert_eq!(worker.resume_token().as_deref(), first.resume_token());
}

#[test]
fn a_worker_goes_on_after_an_error_although_its_last_document_has_changed() {
    let set = ReplicaSet::start().unwrap();
    let orders = set.client().database("shop").collection::<Document>("orders");
    let watch = paid(Worker::watch(set.uri()).database("shop").collection("orders"));
    // One event fills the buffer; one reply waits for room, and another one is read ahead.
    let buffer = Buffer::new(1);
    let worker = spawn_ready(watch.batch_size(1), &buffer);
    (0..10).for_each(|id| pay(&orders, id));
    wait_for_len(&buffer, 1);
    ground::wait_until(support::DEADLINE, "two replies are read ahead", || {
        buffer.stats().unwrap().workers[0].received >= 3
    });
    let data = doc! { "failCommands": ["getMore"], "errorCode": 43 };
    let fail_point = set
        .fail_point(
            doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data },
        )
        .unwrap();
    for id in 0..10 {
        set_state(&orders, id, "sent");
    }
    (10..15).for_each(|id| pay(&orders, id));
    let mut seen = Vec::new();
    while seen.last() != Some(&14) {
        seen.push(id(&next(&buffer)));
    }
    // What was looked up before the change is there, what was not is not; nothing comes twice.
    assert!(seen.is_sorted_by(|a, b| a < b), "{seen:?}");
    assert!(seen.ends_with(&[10, 11, 12, 13, 14]), "{seen:?}");
    drop((fail_point, worker));
}

#[test]
fn a_token_in_the_middle_of_a_transaction_is_found_by_its_place_in_it() {
    let database = shared().database("hidden");
    let orders = collection(&database, "orders");
    let (buffer, _worker) = follow(paid(watch_collection(&database, "orders")));
    set_state(&orders, 100, "new");
    support::transaction(|session| {
        for id in 0..6 {
            orders.insert_one(doc! { "_id": id, "state": "paid" }).session(&mut *session).run()?;
            let change = doc! { "$set": { "state": "paid", "round": 2 } };
            orders.update_one(doc! { "_id": id }, change).session(&mut *session).run()?;
        }
        Ok(())
    });
    let messages = take(&buffer, 12);
    let operations = |messages: &[Message]| {
        messages.iter().map(|m| (id(m), m.operation().to_owned())).collect::<Vec<_>>()
    };
    let all = operations(&messages);
    // An update in the middle, whose document is another one by now.
    assert_eq!(all[5], (2, "update".to_owned()));
    set_state(&orders, 2, "sent");
    let watch = paid(watch_collection(&database, "orders"));
    let (again, _worker) = follow(watch.start_at(Start::StartAfter(token(&messages[5]))));
    assert_eq!(operations(&take(&again, 6)), all[6..]);
    set_state(&orders, 999, "paid");
    assert_eq!(id(&next(&again)), 999, "and nothing else");
}

#[test]
fn a_token_of_a_collection_that_is_no_longer_watched_is_a_place_to_begin() {
    let database = shared().database("hidden");
    let (orders, items) = (collection(&database, "orders"), collection(&database, "items"));
    let (buffer, _worker) = follow(watch_database(&database).namespaces(["orders", "items"]));
    set_state(&orders, 0, "paid");
    set_state(&items, 1, "paid");
    let last = take(&buffer, 2).pop().unwrap();
    set_state(&orders, 2, "paid");
    set_state(&items, 3, "paid");
    let watch = watch_database(&database).namespaces(["orders"]);
    let (buffer, _worker) = follow(watch.start_at(Start::StartAfter(token(&last))));
    assert_exactly(&buffer, &orders, &[2]);
}

#[test]
fn an_operation_that_is_no_longer_wanted_is_a_place_to_begin() {
    let database = shared().database("hidden");
    let orders = collection(&database, "orders");
    let (buffer, _worker) = follow(watch_collection(&database, "orders"));
    orders.insert_one(doc! { "_id": 0 }).run().unwrap();
    orders.delete_one(doc! { "_id": 0 }).run().unwrap();
    let last = take(&buffer, 2).pop().unwrap();
    orders.insert_one(doc! { "_id": 1 }).run().unwrap();
    orders.delete_one(doc! { "_id": 1 }).run().unwrap();
    let watch = watch_collection(&database, "orders").operations(["insert", "update"]);
    let (buffer, _worker) = follow(watch.start_at(Start::StartAfter(token(&last))));
    assert_exactly(&buffer, &orders, &[1]);
}

#[test]
fn an_expanded_event_is_a_place_to_begin_without_expanded_events() {
    if shared().version() < (6, 0, 0) {
        return;
    }
    let database = shared().database("hidden");
    let orders = collection(&database, "orders");
    let (buffer, _worker) = follow(watch_database(&database).show_expanded_events(true));
    set_state(&orders, 0, "paid");
    assert_eq!(next(&buffer).operation(), "create");
    assert_eq!(id(&next(&buffer)), 0);
    shared().client().database(&database).create_collection("others").run().unwrap();
    let last = next(&buffer);
    assert_eq!(last.operation(), "create");
    set_state(&orders, 1, "paid");
    let watch = watch_database(&database).start_at(Start::StartAfter(token(&last)));
    let (buffer, _worker) = follow(watch);
    assert_exactly(&buffer, &orders, &[1]);
}

#[test]
fn an_image_that_has_expired_does_not_hide_what_follows() {
    if shared().version() < (6, 0, 0) {
        return;
    }
    let database = shared().database("hidden");
    let db = shared().client().database(&database);
    let images = doc! { "enabled": true };
    db.run_command(doc! { "create": "orders", "changeStreamPreAndPostImages": images })
        .run()
        .unwrap();
    let orders = collection(&database, "orders");
    let watch = || {
        watch_collection(&database, "orders")
            .full_document_before_change(FullDocumentBeforeChange::WhenAvailable)
            .pipeline([doc! { "$match": { "fullDocumentBeforeChange.state": "new" } }])
    };
    let (buffer, _worker) = follow(watch());
    set_state(&orders, 0, "new");
    set_state(&orders, 0, "paid");
    let last = next(&buffer);
    let kept = shared().client().database("config").collection::<Document>("system.preimages");
    let of_event = doc! { "_id.ts": cluster_time(&last) };
    assert_eq!(kept.delete_one(of_event).run().unwrap().deleted_count, 1);
    set_state(&orders, 1, "new");
    set_state(&orders, 1, "paid");
    let (buffer, _worker) = follow(watch().start_at(Start::StartAfter(token(&last))));
    assert_eq!(id(&next(&buffer)), 1);
}

#[test]
fn the_oplog_that_no_longer_reaches_the_token_is_a_lost_history() {
    let set = small_oplog::start();
    let orders = set.client().database("shop").collection::<Document>("orders");
    let watch = || paid(Worker::watch(set.uri()).database("shop").collection("orders"));
    let (buffer, _worker) = follow(watch());
    set_state(&orders, 0, "new");
    set_state(&orders, 0, "paid");
    let last = next(&buffer);
    set_state(&orders, 0, "sent");
    roll_past(&set, cluster_time(&last));

    let buffer = Buffer::new(10);
    let _worker = watch().start_at(Start::StartAfter(token(&last))).spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::HistoryLost, "{error}");

    let watch = watch().on_history_lost(OnHistoryLost::Restart);
    let (buffer, _worker) = follow(watch.start_at(Start::StartAfter(token(&last))));
    let gap = next(&buffer);
    assert_eq!(gap.operation(), "gap");
    let from = event(&gap).get_document("operationDescription").unwrap().get_timestamp("from");
    assert_eq!(from.unwrap(), cluster_time(&last));
}

#[test]
fn an_invalidate_is_passed_where_its_drop_is_hidden() {
    let database = shared().database("hidden");
    let orders = collection(&database, "orders");
    let (buffer, _worker) = follow(watch_collection(&database, "orders"));
    set_state(&orders, 0, "paid");
    orders.drop().run().unwrap();
    let messages = take(&buffer, 3);
    assert_eq!(messages[2].operation(), "invalidate");
    set_state(&orders, 1, "paid");
    // The drop's token lies before its invalidate, which ends the new stream's first cursor.
    for message in &messages[1..] {
        let watch = paid(watch_collection(&database, "orders"));
        let (buffer, _worker) = follow(watch.start_at(Start::StartAfter(token(message))));
        assert_eq!(id(&next(&buffer)), 1, "after {}", message.operation());
    }
}
