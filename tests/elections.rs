//! A worker leaves a server that is frozen, dead or deposed for one that is not, as soon as the others
//! know; everything arrives once and in order. (How soon is measured by `benches/elections.rs`.)

use std::time::Duration;

use ground::mongodb::bson::{Document, RawDocument, doc, oid::ObjectId};
use ground::mongodb::options::WriteConcern;
use ground::{Member, ReplicaSet, eventually, wait_until};
use mongostream::{Buffer, Message, Received, Waited, Worker, WorkerState};

/// For what must happen: far more than it takes.
const DEADLINE: Duration = Duration::from_secs(60);

/// MongoDB's own: with less, a machine that is held up for a moment has elections no test asked for.
const PATIENT_MS: u32 = 10_000;

/// For tests that wait until a primary is missed.
const HASTY_MS: u32 = 1000;

fn start_set(election_timeout_ms: u32) -> ReplicaSet {
    ReplicaSet::builder().members(3).election_timeout_ms(election_timeout_ms).start().unwrap()
}

fn start_worker(uri: &str, buffer: &Buffer) -> Worker {
    let worker = Worker::watch(uri).database("shop").collection("orders").spawn(buffer).unwrap();
    assert_eq!(worker.wait_ready_timeout(DEADLINE).unwrap(), Waited::Done);
    worker
}

fn wait_for(worker: &Worker, state: WorkerState) {
    wait_until(DEADLINE, &format!("the worker is {state:?}"), || worker.state() == state);
}

/// Inserts through whoever is primary, however often that changes.
fn insert(set: &ReplicaSet, ids: impl IntoIterator<Item = i32>) {
    for id in ids {
        eventually(DEADLINE, || {
            let primary = set.member(set.wait_for_primary(DEADLINE).ok()?);
            let orders = primary.client().database("shop").collection::<Document>("orders");
            let insert = orders.insert_one(doc! { "_id": id });
            match insert.write_concern(WriteConcern::majority()).run() {
                Ok(_) => Some(()),
                // It was there in spite of an error.
                Err(error) => error.to_string().contains("E11000").then_some(()),
            }
        });
    }
}

fn message(buffer: &Buffer) -> Message {
    match buffer.recv_timeout(DEADLINE) {
        Ok(Received::Some(message)) => message,
        other => panic!("{other:?} instead of a message"),
    }
}

#[track_caller]
fn assert_receives(buffer: &Buffer, ids: impl IntoIterator<Item = i32>) {
    for expected in ids {
        let message = message(buffer);
        let event = RawDocument::from_bytes(message.bson()).unwrap();
        assert_eq!(message.operation(), "insert");
        assert_eq!(event.get_document("documentKey").unwrap().get_i32("_id").unwrap(), expected);
    }
}

fn admin(member: &Member, command: Document) -> Document {
    member.client().database("admin").run_command(command).run().unwrap()
}

/// The id of the stream's cursor on this member, if it has one.
fn cursor(member: &Member) -> Option<i64> {
    let admin = member.client().database("admin");
    let operations = admin.aggregate([
        doc! { "$currentOp": { "idleCursors": true } },
        doc! { "$match": { "ns": "shop.orders", "cursor.cursorId": { "$exists": true } } },
    ]);
    let operation = operations.run().unwrap().next()?.unwrap();
    Some(operation.get_document("cursor").unwrap().get_i64("cursorId").unwrap())
}

fn wait_for_cursor(member: &Member) -> i64 {
    eventually(DEADLINE, || cursor(member))
}

/// The election that this member was made primary by.
fn election(member: &Member) -> ObjectId {
    admin(member, doc! { "isMaster": 1 }).get_object_id("electionId").unwrap()
}

/// It is back and knows that it is deposed, though it may have been elected anew since.
fn wait_for_end(member: &Member, of: ObjectId) {
    wait_until(DEADLINE, "it knows the end of its term", || {
        let hello = member.client().database("admin").run_command(doc! { "isMaster": 1 }).run();
        // With passwords it first has to read the keys for the cluster times.
        let Ok(hello) = hello else { return false };
        let is = |role| hello.get_bool(role).unwrap();
        (is("secondary") || is("ismaster")) && hello.get_object_id("electionId").ok() != Some(of)
    });
}

fn members(set: &ReplicaSet) -> impl Iterator<Item = &Member> {
    (0..3).map(|number| set.member(number))
}

/// No stream can be opened on this member.
fn refuse_streams(member: &Member, mode: &str) {
    // ReadConcernMajorityNotAvailableYet, which tells the driver nothing about the server's role.
    let data = doc! { "failCommands": ["aggregate"], "errorCode": 134 };
    admin(member, doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data });
}

#[test]
fn a_frozen_primary_is_left_for_the_new_one() {
    let set = start_set(HASTY_MS);
    let buffer = Buffer::new(100);
    let worker = start_worker(set.uri(), &buffer);
    insert(&set, 0..5);
    assert_receives(&buffer, 0..5);
    let frozen = set.member(set.primary());
    let term = election(frozen);
    let others: Vec<&Member> = members(&set).filter(|one| one.pid() != frozen.pid()).collect();
    // Else the worker would have come through before anyone could see that it is on its way.
    others.iter().for_each(|member| refuse_streams(member, "alwaysOn"));
    frozen.pause().unwrap();
    wait_for(&worker, WorkerState::Reconnecting);
    set.wait_for_primary(DEADLINE).unwrap();
    insert(&set, 5..10);
    others.iter().for_each(|member| refuse_streams(member, "off"));
    wait_for(&worker, WorkerState::Streaming);
    assert_receives(&buffer, 5..10);
    insert(&set, 10..15);
    assert_receives(&buffer, 10..15);

    frozen.resume().unwrap();
    wait_for_end(frozen, term);
    insert(&set, 15..20);
    assert_receives(&buffer, 15..20);
    assert_eq!(worker.state(), WorkerState::Streaming);
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

#[test]
fn a_killed_primary_is_left_for_the_new_one() {
    let set = start_set(HASTY_MS);
    let buffer = Buffer::new(100);
    let worker = start_worker(set.uri(), &buffer);
    insert(&set, 0..5);
    // What is unread then is not lost either.
    wait_until(DEADLINE, "all are queued", || buffer.len() == 5);
    let killed = set.member(set.primary());
    let term = election(killed);
    killed.kill().unwrap();
    wait_for(&worker, WorkerState::Reconnecting);
    set.wait_for_primary(DEADLINE).unwrap();
    insert(&set, 5..10);
    assert_receives(&buffer, 0..10);
    wait_for(&worker, WorkerState::Streaming);
    killed.restart().unwrap();
    wait_for_end(killed, term);
    insert(&set, 10..15);
    assert_receives(&buffer, 10..15);
    assert_eq!(worker.state(), WorkerState::Streaming);
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

#[test]
fn a_stream_follows_the_primary_that_steps_down() {
    let set = start_set(PATIENT_MS);
    let buffer = Buffer::new(100);
    let worker = start_worker(set.uri(), &buffer);
    let old = set.primary();
    wait_for_cursor(set.member(old));
    insert(&set, 0..5);
    set.step_down().unwrap();
    let new = eventually(DEADLINE, || set.wait_for_primary(DEADLINE).ok());
    assert_ne!(new, old);
    insert(&set, 5..10);
    wait_for_cursor(set.member(new));
    wait_until(DEADLINE, "its old cursor is closed", || cursor(set.member(old)).is_none());
    insert(&set, 10..15);
    assert_receives(&buffer, 0..15);
    wait_for(&worker, WorkerState::Streaming);
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

/// Each new connection takes a TLS handshake and a login more, and either may fail in an election.
#[test]
fn a_killed_primary_is_left_for_the_new_one_with_passwords_and_tls() {
    let set = ReplicaSet::builder().members(3).election_timeout_ms(HASTY_MS);
    let set = set.auth("root", "hunter2").tls().start().unwrap();
    let buffer = Buffer::new(100);
    let worker = start_worker(set.uri(), &buffer);
    let mut next = 0..;
    for _ in 0..2 {
        insert(&set, next.by_ref().take(5));
        let killed = set.member(set.primary());
        let term = election(killed);
        killed.kill().unwrap();
        wait_for(&worker, WorkerState::Reconnecting);
        set.wait_for_primary(DEADLINE).unwrap();
        insert(&set, next.by_ref().take(5));
        wait_for(&worker, WorkerState::Streaming);
        killed.restart().unwrap();
        wait_for_end(killed, term);
        set.step_down().unwrap();
        insert(&set, next.by_ref().take(5));
    }
    assert_receives(&buffer, 0..next.start);
    wait_for(&worker, WorkerState::Streaming);
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

#[test]
fn a_stream_from_a_secondary_outlives_an_election() {
    let set = start_set(PATIENT_MS);
    let buffer = Buffer::new(100);
    let worker = start_worker(&set.uri_with("readPreference=secondary"), &buffer);
    let old = set.primary();
    let term = election(set.member(old));
    let (reading, id) =
        eventually(DEADLINE, || (0..3).find_map(|n| cursor(set.member(n)).map(|id| (n, id))));
    assert_ne!(reading, old);
    insert(&set, 0..5);
    let next = (0..3).find(|number| ![old, reading].contains(number)).unwrap();
    // One that has not caught up yet is not elected.
    let client = set.member(next).client().database("admin");
    wait_until(DEADLINE, "it is elected", || {
        let _ = client.run_command(doc! { "replSetStepUp": 1 }).run();
        set.wait_for_primary(DEADLINE).unwrap() == next
    });
    insert(&set, 5..10);
    assert_receives(&buffer, 0..10);
    // And when the worker has known for long.
    wait_for_end(set.member(old), term);
    assert!(matches!(buffer.recv_timeout(Duration::from_secs(2)), Ok(Received::Timeout)));
    assert_eq!(wait_for_cursor(set.member(reading)), id);
    assert_eq!(worker.state(), WorkerState::Streaming);
}

#[test]
fn a_frozen_secondary_is_left_for_another() {
    let set = start_set(PATIENT_MS);
    let buffer = Buffer::new(100);
    let uri = set.uri_with("readPreference=secondary&connectTimeoutMS=1000");
    let _worker = start_worker(&uri, &buffer);
    let reading = eventually(DEADLINE, || (0..3).find(|n| cursor(set.member(*n)).is_some()));
    let primary = set.primary();
    let other = (0..3).find(|number| ![primary, reading].contains(number)).unwrap();
    insert(&set, 0..5);
    assert_receives(&buffer, 0..5);
    set.member(reading).pause().unwrap();
    insert(&set, 5..10);
    assert_receives(&buffer, 5..10);
    wait_for_cursor(set.member(other));
    set.member(reading).resume().unwrap();
    insert(&set, 10..15);
    assert_receives(&buffer, 10..15);
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

#[test]
fn an_only_server_that_was_frozen_is_taken_up_again() {
    let set = ReplicaSet::start().unwrap();
    let buffer = Buffer::new(100);
    let worker = start_worker(&set.uri_with("connectTimeoutMS=1000"), &buffer);
    insert(&set, 0..5);
    for first in [5, 10] {
        set.member(0).pause().unwrap();
        wait_for(&worker, WorkerState::Reconnecting);
        set.member(0).resume().unwrap();
        wait_for(&worker, WorkerState::Streaming);
        insert(&set, first..first + 5);
    }
    assert_receives(&buffer, 0..15);
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}
