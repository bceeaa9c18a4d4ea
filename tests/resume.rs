//! A worker outlives broken connections, elections and restarts of the server: everything arrives once
//! and in order. What cannot be repaired ends it with the server's reason.

mod support;

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::sync::{Client, Collection};
use ground::{FailPoint, ReplicaSet, wait_until};
use mongostream::{Buffer, Error, ErrorKind, Message, Received, Watch, Worker, WorkerState};

use support::{DEADLINE, failure, id, is_closed, next, spawn_ready, wait_for_len, wait_for_state};

/// How long the server waits for events, so how soon a fail point meets a getMore.
const AWAIT: Duration = Duration::from_millis(50);

/// The number of the document that was inserted.
#[track_caller]
fn inserted(message: &Message) -> i32 {
    assert_eq!(message.operation(), "insert");
    id(message)
}

#[track_caller]
fn assert_receives(buffer: &Buffer, ids: impl IntoIterator<Item = i32>) {
    for expected in ids {
        assert_eq!(inserted(&next(buffer)), expected);
    }
}

fn watch(set: &ReplicaSet) -> Watch {
    Worker::watch(set.uri()).database("shop").collection("orders").await_time(AWAIT)
}

fn orders(client: &Client) -> Collection<Document> {
    client.database("shop").collection("orders")
}

fn insert(set: &ReplicaSet, ids: impl IntoIterator<Item = i32>) {
    for id in ids {
        orders(set.client()).insert_one(doc! { "_id": id }).run().unwrap();
    }
}

/// Makes the next commands of a name break their connection.
fn break_connections(set: &ReplicaSet, commands: &[&str], times: i32) -> FailPoint {
    let data = doc! { "failCommands": commands, "closeConnection": true };
    set.fail_point(doc! {
        "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data,
    })
    .unwrap()
}

/// Makes the next commands of a name fail.
fn fail(set: &ReplicaSet, command: &str, code: i32, times: i32) -> FailPoint {
    set.fail_point(doc! {
        "configureFailPoint": "failCommand", "mode": { "times": times },
        "data": { "failCommands": [command], "errorCode": code },
    })
    .unwrap()
}

/// Makes the next getMore of a change stream fail as a server's own failure does, with the label that
/// servers since 4.4 put on those that may be resumed.
fn fail_get_more(set: &ReplicaSet, code: i32) -> FailPoint {
    if set.version() < (4, 4, 0) {
        // They have no such fail point, and no label that the general one would leave out.
        return fail(set, "getMore", code, 1);
    }
    set.fail_point(doc! {
        "configureFailPoint": "failGetMoreAfterCursorCheckout", "mode": { "times": 1 },
        "data": { "errorCode": code },
    })
    .unwrap()
}

/// The fail point has done what the test is about.
#[track_caller]
fn assert_fired(point: &FailPoint, hits: u64) {
    point.wait_for_hits(hits, DEADLINE).unwrap();
}

#[test]
fn a_broken_connection_is_repaired() {
    let set = ReplicaSet::start().unwrap();
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch(&set), &buffer);
    let mut next = 0..;
    for _ in 0..3 {
        let first = next.start;
        insert(&set, next.by_ref().take(3));
        let point = break_connections(&set, &["getMore"], 1);
        insert(&set, next.by_ref().take(3));
        assert_fired(&point, 1);
        insert(&set, next.by_ref().take(3));
        assert_receives(&buffer, first..next.start);
        wait_for_state(&worker, WorkerState::Streaming);
    }
    assert!(buffer.is_empty());
}

/// Fails twice with writes in between, the second time while the stream is opened again, or right behind that.
fn assert_survives_two(failures: impl FnOnce(&ReplicaSet) -> FailPoint) {
    let set = ReplicaSet::start().unwrap();
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch(&set), &buffer);
    insert(&set, 0..2);
    assert_receives(&buffer, 0..2);
    let point = failures(&set);
    assert_fired(&point, 1);
    insert(&set, 2..4);
    assert_fired(&point, 2);
    insert(&set, 4..6);
    assert_receives(&buffer, 2..6);
    wait_for_state(&worker, WorkerState::Streaming);
}

/// The driver's own change stream loses here what is written in between.
#[test]
fn a_second_break_while_reopening_loses_nothing() {
    // The getMore, then the aggregate that opens the stream again.
    assert_survives_two(|set| break_connections(set, &["getMore", "aggregate"], 2));
}

/// Before it goes on a stream asks servers before 4.4 for its history, with a cursor that can be lost too.
#[test]
fn a_cursor_that_is_lost_while_reopening_is_opened_again() {
    const CURSOR_NOT_FOUND: i32 = 43;
    const CURSOR_KILLED: i32 = 237;
    for code in [CURSOR_NOT_FOUND, CURSOR_KILLED] {
        assert_survives_two(|set| fail(set, "getMore", code, 2));
    }
}

#[test]
fn what_is_written_while_the_stream_is_broken_arrives() {
    let set = ReplicaSet::start().unwrap();
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch(&set), &buffer);
    let point = set
        .fail_point(doc! {
            "configureFailPoint": "failCommand", "mode": "alwaysOn",
            "data": { "failCommands": ["getMore", "aggregate"], "closeConnection": true },
        })
        .unwrap();
    // No stream can be open between the second hit and the end of the fail point.
    assert_fired(&point, 2);
    assert_eq!(worker.state(), WorkerState::Reconnecting);
    insert(&set, 0..10);
    assert_fired(&point, 4);
    insert(&set, 10..20);
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
    point.off().unwrap();
    assert_receives(&buffer, 0..20);
    wait_for_state(&worker, WorkerState::Streaming);
}

#[test]
fn breaks_behind_unread_messages_lose_none() {
    const COUNT: i32 = 12;
    let set = ReplicaSet::start().unwrap();
    // The worker waits for room with one reply, while the next is read ahead.
    let buffer = Buffer::new(1);
    let _worker = spawn_ready(watch(&set).batch_size(2), &buffer);
    insert(&set, 0..COUNT);
    wait_for_len(&buffer, 1);
    let point = break_connections(&set, &["getMore"], 3);
    assert_receives(&buffer, 0..COUNT);
    assert_fired(&point, 3);
    insert(&set, [COUNT]);
    assert_receives(&buffer, [COUNT]);
}

#[test]
fn the_first_open_is_tried_again() {
    let set = ReplicaSet::start().unwrap();
    let buffer = Buffer::new(100);
    let point = break_connections(&set, &["aggregate"], 2);
    let worker = spawn_ready(watch(&set), &buffer);
    assert_fired(&point, 2);
    insert(&set, [0]);
    assert_receives(&buffer, [0]);
    assert_eq!(worker.state(), WorkerState::Streaming);
}

#[test]
fn resumable_failures_of_a_get_more_are_repaired() {
    let set = ReplicaSet::start().unwrap();
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch(&set), &buffer);
    let codes = [
        6,     // HostUnreachable
        43,    // CursorNotFound
        63,    // StaleShardVersion
        91,    // ShutdownInProgress
        133,   // FailedToSatisfyReadPreference
        136,   // CappedPositionLost: the next open tells whether the history is lost
        189,   // PrimarySteppedDown
        234,   // RetryChangeStream
        10107, // NotWritablePrimary
        11600, // InterruptedAtShutdown
        11602, // InterruptedDueToReplStateChange
        13436, // NotPrimaryOrSecondary
    ];
    for (code, first) in codes.into_iter().zip((0..).step_by(4)) {
        insert(&set, first..first + 1);
        let point = fail_get_more(&set, code);
        insert(&set, first + 1..first + 2);
        point.wait_for_hits(1, DEADLINE).unwrap_or_else(|error| panic!("{code}: {error}"));
        insert(&set, first + 2..first + 4);
        for expected in first..first + 4 {
            match buffer.recv_timeout(DEADLINE) {
                Ok(Received::Some(message)) => assert_eq!(inserted(&message), expected, "{code}"),
                other => panic!("{code}: {other:?}"),
            }
        }
        wait_for_state(&worker, WorkerState::Streaming);
    }
}

/// Receives the failure that ends the only worker of a buffer.
#[track_caller]
fn end(worker: &Worker, buffer: &Buffer) -> Error {
    let error = failure(buffer);
    assert_eq!(worker.state(), WorkerState::Failed);
    assert!(is_closed(buffer));
    assert!(!error.is_retriable(), "{error}");
    error
}

#[test]
fn other_failures_of_a_get_more_end_the_worker() {
    let set = ReplicaSet::start().unwrap();
    for (number, (code, kind)) in (0..).zip([
        (2, ErrorKind::Server),  // BadValue
        (50, ErrorKind::Server), // MaxTimeMSExpired
        (286, ErrorKind::HistoryLost),
    ]) {
        let buffer = Buffer::new(100);
        let worker = spawn_ready(watch(&set), &buffer);
        insert(&set, [number]);
        wait_for_len(&buffer, 1);
        let point = fail_get_more(&set, code);
        assert_fired(&point, 1);
        assert_receives(&buffer, [number]);
        let error = end(&worker, &buffer);
        assert_eq!((error.server_code(), error.kind()), (code, kind), "{error}");
    }
}

/// What the server says of the cursors on a collection.
fn cursors(set: &ReplicaSet, collection: &str) -> Vec<Document> {
    let namespace = format!("shop.{collection}");
    let admin = set.client().database("admin");
    let operations = admin.aggregate([
        doc! { "$currentOp": { "idleCursors": true } },
        doc! { "$match": { "ns": namespace, "cursor.cursorId": { "$exists": true } } },
    ]);
    operations.run().unwrap().map(Result::unwrap).collect()
}

fn is(operation: &Document, kind: &str) -> bool {
    operation.get_str("type").is_ok_and(|found| found == kind)
}

fn cursor_id(operation: &Document) -> i64 {
    operation.get_document("cursor").unwrap().get_i64("cursorId").unwrap()
}

fn kill_cursor(set: &ReplicaSet, collection: &str, cursor: i64) {
    let kill = doc! { "killCursors": collection, "cursors": [cursor] };
    let reply = set.client().database("shop").run_command(kill).run().unwrap();
    assert_eq!(reply.get_array("cursorsKilled").unwrap().len(), 1, "{reply}");
}

/// A stream that asks the server for nothing, because its buffer is full.
struct Stalled {
    buffer: Buffer,
    worker: Worker,
    collection: String,
    cursor: i64,
}

impl Stalled {
    /// Documents 0 to 4 are inserted; the server still has the last two.
    fn start(set: &ReplicaSet, collection: &str) -> Self {
        let collection = collection.to_owned();
        let buffer = Buffer::new(1);
        let worker = spawn_ready(watch(set).collection(&collection).batch_size(1), &buffer);
        let documents = (0..5).map(|id| doc! { "_id": id });
        set.client().database("shop").collection(&collection).insert_many(documents).run().unwrap();
        // One in the buffer, one waiting for room, one read ahead.
        let mut cursor = 0;
        wait_until(DEADLINE, "the cursor rests", || match cursors(set, &collection).as_slice() {
            [only] if is(only, "idleCursor") => {
                cursor = cursor_id(only);
                let returned = only.get_document("cursor").unwrap().get("nDocsReturned").unwrap();
                returned.as_i64() == Some(3)
            }
            _ => false,
        });
        Self { buffer, worker, collection, cursor }
    }

    /// The next getMore will not find the cursor.
    fn kill(&self, set: &ReplicaSet) {
        kill_cursor(set, &self.collection, self.cursor);
    }
}

#[test]
fn a_resting_cursor_that_was_killed_is_replaced() {
    let set = ReplicaSet::start().unwrap();
    let stalled = Stalled::start(&set, "orders");
    stalled.kill(&set);
    insert(&set, 5..7);
    assert_receives(&stalled.buffer, 0..7);
    wait_for_state(&stalled.worker, WorkerState::Streaming);
}

#[test]
fn a_waiting_cursor_that_was_killed_is_replaced() {
    let set = ReplicaSet::start().unwrap();
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch(&set), &buffer);
    insert(&set, 0..2);
    assert_receives(&buffer, 0..2);
    let mut cursor = 0;
    wait_until(DEADLINE, "the cursor waits", || {
        cursor = cursors(&set, "orders").iter().find(|one| is(one, "op")).map_or(0, cursor_id);
        cursor != 0
    });
    kill_cursor(&set, "orders", cursor);
    insert(&set, 2..4);
    assert_receives(&buffer, 2..4);
    wait_until(DEADLINE, "another cursor is open", || {
        cursors(&set, "orders").iter().any(|other| cursor_id(other) != cursor)
    });
    insert(&set, 4..6);
    assert_receives(&buffer, 4..6);
    wait_for_state(&worker, WorkerState::Streaming);
}

/// Scripts that end what runs for long meet getMores too.
#[test]
fn an_operation_that_was_killed_does_not_end_the_stream() {
    let set = ReplicaSet::start().unwrap();
    let buffer = Buffer::new(100);
    let watch = watch(&set).await_time(Duration::from_secs(10));
    let worker = spawn_ready(watch, &buffer);
    for first in [0, 2] {
        insert(&set, first..first + 1);
        assert_receives(&buffer, first..first + 1);
        let mut operation = None;
        wait_until(DEADLINE, "a getMore waits", || {
            let waiting = cursors(&set, "orders").into_iter().find(|one| is(one, "op"));
            operation = waiting.and_then(|one| one.get("opid").cloned());
            operation.is_some()
        });
        let kill = doc! { "killOp": 1, "op": operation };
        set.client().database("admin").run_command(kill).run().unwrap();
        wait_until(DEADLINE, "the stream tells of it", || {
            let stats = buffer.stats().unwrap();
            stats.workers[0].last_error.as_ref().is_some_and(|error| error.server_code() == 11601)
        });
        insert(&set, first + 1..first + 2);
        assert_receives(&buffer, first + 1..first + 2);
        wait_for_state(&worker, WorkerState::Streaming);
    }
}

#[test]
fn a_reopening_that_cannot_help_is_not_tried_again() {
    let set = ReplicaSet::start().unwrap();
    for (code, kind) in [
        (2, ErrorKind::Server),   // BadValue
        (43, ErrorKind::Server),  // CursorNotFound
        (260, ErrorKind::Server), // InvalidResumeToken
        (286, ErrorKind::HistoryLost),
    ] {
        let stalled = Stalled::start(&set, &format!("orders{code}"));
        let point = fail(&set, "aggregate", code, 2);
        stalled.kill(&set);
        assert_receives(&stalled.buffer, 0..3);
        let error = end(&stalled.worker, &stalled.buffer);
        assert_eq!((error.server_code(), error.kind()), (code, kind), "{error}");
        assert_fired(&point, 1);
        assert!(point.wait_for_hits(2, Duration::from_millis(1)).is_err(), "{code}");
    }
}

#[test]
fn a_token_that_is_not_found_is_looked_for_by_its_time_once() {
    let set = ReplicaSet::start().unwrap();
    for (times, ends) in [(1, false), (2, true)] {
        let stalled = Stalled::start(&set, &format!("orders{times}"));
        let point = fail(&set, "aggregate", 280, times);
        stalled.kill(&set);
        assert_receives(&stalled.buffer, 0..3);
        if ends {
            let error = end(&stalled.worker, &stalled.buffer);
            assert_eq!((error.server_code(), error.kind()), (280, ErrorKind::HistoryLost));
        } else {
            assert_receives(&stalled.buffer, 3..4);
        }
        assert_fired(&point, times as u64);
    }
}

#[test]
fn a_reopening_that_can_help_is_tried_again() {
    let set = ReplicaSet::start().unwrap();
    for code in [
        89,    // NetworkTimeout
        91,    // ShutdownInProgress
        136,   // CappedPositionLost, see above
        13,    // Unauthorized, see tests/logins.rs
        211,   // KeyNotFound, of a member with passwords that was just started
        10107, // NotWritablePrimary
        11601, // Interrupted
        11602, // InterruptedDueToReplStateChange
        13435, // NotPrimaryNoSecondaryOk
    ] {
        let stalled = Stalled::start(&set, &format!("orders{code}"));
        let point = fail(&set, "aggregate", code, 2);
        stalled.kill(&set);
        assert_receives(&stalled.buffer, 0..5);
        assert_fired(&point, 2);
        wait_for_state(&stalled.worker, WorkerState::Streaming);
    }
}

/// Inserts numbered documents one after the other until stopped, whatever becomes of the server.
struct Writer {
    stop: mpsc::Sender<()>,
    thread: thread::JoinHandle<Vec<i32>>,
    acknowledged: mpsc::Receiver<i32>,
}

impl Writer {
    fn start(set: &ReplicaSet) -> Self {
        let uri = set.uri_with(
            "w=majority&journal=true&serverSelectionTimeoutMS=1000&heartbeatFrequencyMS=500",
        );
        let collection = orders(&Client::with_uri_str(uri).unwrap());
        let (stop, stopped) = mpsc::channel();
        let (tell, acknowledged) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut written = Vec::new();
            for id in 0.. {
                if !matches!(stopped.try_recv(), Err(mpsc::TryRecvError::Empty)) {
                    break;
                }
                // One that fails may be there or not.
                if collection.insert_one(doc! { "_id": id }).run().is_ok() {
                    written.push(id);
                    let _ = tell.send(id);
                }
            }
            written
        });
        Self { stop, thread, acknowledged }
    }

    /// Waits for some writes that begin after this call.
    fn wait_for_more(&self) {
        while self.acknowledged.try_recv().is_ok() {}
        for _ in 0..20 {
            self.acknowledged.recv_timeout(DEADLINE).expect("the server takes writes");
        }
    }

    fn stop(self) -> Vec<i32> {
        drop(self.stop);
        self.thread.join().unwrap()
    }
}

/// Everything that was acknowledged arrives, once and in the order in which it was written.
#[track_caller]
fn assert_all_arrive(set: &ReplicaSet, buffer: &Buffer, written: &[i32]) {
    const END: i32 = i32::MAX;
    insert(set, [END]);
    let received: Vec<i32> =
        std::iter::from_fn(|| Some(inserted(&next(buffer))).filter(|id| *id != END)).collect();
    assert!(received.is_sorted_by(|one, other| one < other), "{received:?}");
    let lost: Vec<&i32> = written.iter().filter(|id| received.binary_search(id).is_err()).collect();
    assert!(lost.is_empty(), "{lost:?} lost, of {}", written.len());
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

#[test]
fn nothing_is_lost_when_the_server_is_killed_and_started_again() {
    let set = ReplicaSet::start().unwrap();
    let buffer = Buffer::new(100_000);
    let worker = spawn_ready(watch(&set), &buffer);
    let writer = Writer::start(&set);
    for _ in 0..2 {
        writer.wait_for_more();
        set.member(0).kill().unwrap();
        wait_for_state(&worker, WorkerState::Reconnecting);
        set.member(0).restart().unwrap();
        wait_for_state(&worker, WorkerState::Streaming);
        writer.wait_for_more();
    }
    let written = writer.stop();
    assert_all_arrive(&set, &buffer, &written);
}

#[test]
fn nothing_is_lost_in_elections() {
    let set = ReplicaSet::builder().members(3).election_timeout_ms(500).start().unwrap();
    let buffer = Buffer::new(100_000);
    let worker = spawn_ready(watch(&set), &buffer);
    let writer = Writer::start(&set);
    writer.wait_for_more();
    set.step_down().unwrap();
    writer.wait_for_more();
    // The stream may have lived on with its server, which is still there: not so now.
    let primary = set.primary();
    set.member(primary).kill().unwrap();
    writer.wait_for_more();
    set.member(primary).restart().unwrap();
    writer.wait_for_more();
    let written = writer.stop();
    assert_all_arrive(&set, &buffer, &written);
    assert_eq!(worker.state(), WorkerState::Streaming);
}
