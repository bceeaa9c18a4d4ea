//! Few events in a long oplog come as the server finds them, and none is missing or comes twice when the pace
//! changes on the way.

mod support;

use std::time::{Duration, Instant};

use ground::mongodb::bson::{Document, doc};
use ground::{ReplicaSet, wait_until};
use mongostream::{Buffer, Start, Watch, Worker};

use support::{DEADLINE, follow, id, next, spawn_ready};

/// A time long before the set was started: its oplog begins with the set, so nothing is lost.
const LONG_AGO: u32 = 1_600_000_000;

fn watch(set: &ReplicaSet) -> Watch {
    Worker::watch(set.uri()).database("shop").collection("orders").start_at(Start::at(LONG_AGO))
}

/// Orders with the numbers from 0, and so many other writes before each.
fn write(set: &ReplicaSet, orders: i32, others: i32) {
    let database = set.client().database("shop");
    let (order, other) =
        (database.collection::<Document>("orders"), database.collection::<Document>("others"));
    for id in 0..orders {
        if others > 0 {
            other.insert_many((0..others).map(|_| doc! {})).run().unwrap();
        }
        order.insert_one(doc! { "_id": id }).run().unwrap();
    }
}

/// How many commands of this name ask the server for so many events at once.
fn asked(set: &ReplicaSet, size: i32) -> usize {
    let profile = set.client().database("shop").collection::<Document>("system.profile");
    let filter = doc! { "op": "getmore", "command.batchSize": size, "ns": "shop.orders" };
    profile.count_documents(filter).run().unwrap() as usize
}

#[test]
fn the_first_event_of_a_sparse_history_does_not_wait_for_the_last() {
    let set = ReplicaSet::start().unwrap();
    write(&set, 300, 100);
    // With room for one message, the stream reads three replies ahead.
    let buffer = Buffer::new(1);
    let worker = watch(&set).spawn(&buffer).unwrap();
    let first = next(&buffer);
    let received = buffer.stats().unwrap().workers[0].received;
    assert!(received < 10, "{received} events were read before the first one came");
    assert_eq!(id(&first), 0);
    for expected in 1..300 {
        assert_eq!(id(&next(&buffer)), expected);
    }
    worker.stop();
    worker.join().unwrap();
}

#[test]
fn a_dense_history_is_read_in_full_replies() {
    let set = ReplicaSet::start().unwrap();
    let profile = doc! { "profile": 2, "slowms": 0 };
    set.client().database("shop").run_command(profile).run().unwrap();
    let orders = set.client().database("shop").collection::<Document>("orders");
    orders.insert_many((0..2000).map(|id| doc! { "_id": id })).run().unwrap();
    let buffer = Buffer::new(2000);
    let worker = spawn_ready(watch(&set).batch_size(100), &buffer);
    for expected in 0..2000 {
        assert_eq!(id(&next(&buffer)), expected);
    }
    // A busy machine may take them for slow for a while, but not all of them.
    assert!(asked(&set, 1) >= 16, "it begins with care");
    assert!(asked(&set, 100) >= 1, "it is never read in full replies");
    assert_eq!(buffer.stats().unwrap().workers[0].reconnects, 0, "another pace is no trouble");
    drop(worker);
}

#[test]
fn a_full_reply_that_does_not_come_is_given_up() {
    let set = ReplicaSet::start().unwrap();
    if set.version() < (4, 4, 0) {
        eprintln!("left out: this server's fail point cannot block a command");
        return;
    }
    let profile = doc! { "profile": 2, "slowms": 0 };
    set.client().database("shop").run_command(profile).run().unwrap();
    let orders = set.client().database("shop").collection::<Document>("orders");
    // A server answers as soon as it has 4 MB: a small part of these.
    let text = "x".repeat(20_000);
    orders.insert_many((0..1000).map(|id| doc! { "_id": id, "text": &text })).run().unwrap();
    let written = Instant::now();
    // What is younger is found at once.
    wait_until(DEADLINE, "the history is old", || written.elapsed() > Duration::from_secs(12));

    let buffer = Buffer::new(1);
    let watch = watch(&set).batch_size(100).await_time(Duration::from_millis(100));
    let worker = spawn_ready(watch, &buffer);
    let mut expected = 0;
    while asked(&set, 100) == 0 {
        assert_eq!(id(&next(&buffer)), expected);
        expected += 1;
    }
    const BLOCKED: Duration = Duration::from_secs(60);
    let data = doc! {
        "failCommands": ["getMore"], "blockConnection": true, "blockTimeMS": BLOCKED.as_millis() as i64,
    };
    let point = doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data };
    let fail_point = set.fail_point(point).unwrap();
    let blocked = Instant::now();
    for expected in expected..1000 {
        assert_eq!(id(&next(&buffer)), expected);
    }
    fail_point.wait_for_hits(1, DEADLINE).unwrap();
    assert!(blocked.elapsed() < BLOCKED / 2, "it was waited for");
    let worker_stats = buffer.stats().unwrap().workers[0].clone();
    assert_eq!((worker_stats.received, worker_stats.reconnects), (1000, 0));
    drop(worker);
}

#[test]
fn a_connection_that_breaks_in_a_sparse_history_costs_nothing() {
    let set = ReplicaSet::start().unwrap();
    write(&set, 100, 20);
    for skip in [0, 1, 2, 4, 8] {
        let data = doc! { "failCommands": ["aggregate", "getMore"], "closeConnection": true };
        let point =
            doc! { "configureFailPoint": "failCommand", "mode": { "skip": skip }, "data": data };
        let fail_point = set.fail_point(point).unwrap();
        let buffer = Buffer::new(1000);
        let worker = watch(&set).spawn(&buffer).unwrap();
        fail_point.wait_for_hits(1, DEADLINE).unwrap();
        fail_point.off().unwrap();
        for expected in 0..100 {
            assert_eq!(id(&next(&buffer)), expected, "after {skip} commands");
        }
        assert_eq!(buffer.stats().unwrap().workers[0].received, 100, "after {skip} commands");
        drop(worker);
    }
}

#[test]
fn after_a_sparse_history_live_events_come_at_once() {
    let set = ReplicaSet::start().unwrap();
    write(&set, 3, 100);
    let (buffer, _worker) = follow(watch(&set));
    for expected in 0..3 {
        assert_eq!(id(&next(&buffer)), expected);
    }
    let orders = set.client().database("shop").collection::<Document>("orders");
    for expected in 3..50 {
        orders.insert_one(doc! { "_id": expected }).run().unwrap();
        assert_eq!(id(&next(&buffer)), expected);
    }
}
