//! What most tests do with workers and buffers: follow something, receive, and never wait for ever.

// Each test binary has a copy of this module and uses a part of it.
#![allow(dead_code)]

pub(crate) mod reference;
pub(crate) mod small_oplog;

use std::time::Duration;

use ground::mongodb::bson::{Document, RawDocument, Timestamp};
use ground::mongodb::error::Result as DriverResult;
use ground::mongodb::sync::{ClientSession, Collection};
use mongostream::{Buffer, Error, Message, Received, Start, Waited, Watch, Worker, WorkerState};
use serde_json::Value;

/// For what must happen: far more than it takes, but less than the 30 s for which the driver looks for
/// a server where the URI says nothing.
pub(crate) const DEADLINE: Duration = Duration::from_secs(25);

/// A collection on the shared set.
#[track_caller]
pub(crate) fn collection(database: &str, name: &str) -> Collection<Document> {
    ground::shared().client().database(database).collection(name)
}

/// Runs and commits a transaction on the shared set. The server may refuse one whose collection it has
/// just made, and asks for another try then: every try runs `work` anew.
#[track_caller]
pub(crate) fn transaction(work: impl FnMut(&mut ClientSession) -> DriverResult<()>) {
    let mut session = ground::shared().client().start_session().run().unwrap();
    session.start_transaction().and_run(work).unwrap();
}

/// A worker, yet to be started, on everything in a database on the shared set.
#[track_caller]
pub(crate) fn watch_database(database: &str) -> Watch {
    Worker::watch(ground::shared().uri()).database(database)
}

/// A worker, yet to be started, on one collection on the shared set.
#[track_caller]
pub(crate) fn watch_collection(database: &str, name: &str) -> Watch {
    watch_database(database).collection(name)
}

/// Waits until the worker's cursor is open.
#[track_caller]
pub(crate) fn assert_ready(worker: &Worker) {
    assert_eq!(worker.wait_ready_timeout(DEADLINE).unwrap(), Waited::Done);
}

/// Starts a worker on a buffer, and waits until its cursor is open.
#[track_caller]
pub(crate) fn spawn_ready(watch: Watch, buffer: &Buffer) -> Worker {
    let worker = watch.spawn(buffer).unwrap();
    assert_ready(&worker);
    worker
}

/// Starts a worker on a buffer of its own with room for 1,000, and waits until its cursor is open.
#[track_caller]
pub(crate) fn follow(watch: Watch) -> (Buffer, Worker) {
    let buffer = Buffer::new(1000);
    let worker = spawn_ready(watch, &buffer);
    (buffer, worker)
}

/// The point in this stream that is now.
#[track_caller]
pub(crate) fn now(watch: Watch) -> Start {
    let (_buffer, worker) = follow(watch);
    Start::StartAfter(worker.resume_token().unwrap())
}

/// Waits until the worker is in this state.
#[track_caller]
pub(crate) fn wait_for_state(worker: &Worker, state: WorkerState) {
    ground::wait_until(DEADLINE, &format!("the worker is {state:?}"), || worker.state() == state);
}

/// Waits until exactly this many messages are queued.
#[track_caller]
pub(crate) fn wait_for_len(buffer: &Buffer, len: usize) {
    ground::wait_until(DEADLINE, &format!("{len} messages are queued"), || buffer.len() == len);
}

/// Receives the next message.
#[track_caller]
pub(crate) fn next(buffer: &Buffer) -> Message {
    match buffer.recv_timeout(DEADLINE) {
        Ok(Received::Some(message)) => message,
        other => panic!("{other:?} instead of a message"),
    }
}

/// Receives the next messages.
#[track_caller]
pub(crate) fn take(buffer: &Buffer, count: usize) -> Vec<Message> {
    // Not with a closure: the caller named in a panic would be in here.
    let mut messages = Vec::with_capacity(count);
    while messages.len() < count {
        messages.push(next(buffer));
    }
    messages
}

/// Receives the next message as JSON.
#[track_caller]
pub(crate) fn next_json(buffer: &Buffer) -> Value {
    json(&next(buffer))
}

/// Receives the failure that is next.
#[track_caller]
pub(crate) fn failure(buffer: &Buffer) -> Error {
    buffer.recv_timeout(DEADLINE).expect_err("a failure")
}

/// Whether nothing is left in the buffer and nothing more can come.
pub(crate) fn is_closed(buffer: &Buffer) -> bool {
    matches!(buffer.recv_timeout(DEADLINE), Ok(Received::Closed))
}

/// The message's JSON.
#[track_caller]
pub(crate) fn json(message: &Message) -> Value {
    serde_json::from_str(message.json()).unwrap()
}

/// The server's event.
#[track_caller]
pub(crate) fn event(message: &Message) -> Document {
    Document::from_reader(message.bson()).unwrap()
}

/// When the server made the event.
#[track_caller]
pub(crate) fn cluster_time(message: &Message) -> Timestamp {
    event(message).get_timestamp("clusterTime").unwrap()
}

/// The number that is the `_id` of the document, from the server's event.
#[track_caller]
pub(crate) fn id(message: &Message) -> i32 {
    let event = RawDocument::from_bytes(message.bson()).unwrap();
    let key = event.get_document("documentKey");
    key.unwrap_or_else(|error| panic!("{error}: {event:?}")).get_i32("_id").unwrap()
}

/// The `_id` of the document, from the message's JSON; null where the event has none.
#[track_caller]
pub(crate) fn json_id(message: &Message) -> Value {
    json(message)["DocumentKey"]["_id"].clone()
}
