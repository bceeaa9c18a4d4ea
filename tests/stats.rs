//! The statistics: each figure against a known history, and their description against both.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::sync::Collection;
use ground::{FailPoint, ReplicaSet, eventually, wait_until};
use mongostream::{
    Batch, Buffer, BufferStats, ErrorKind, FileCheckpoint, Message, Received, Waited, Watch,
    Worker, WorkerState, WorkerStats,
};
use serde_json::Value;

/// For what must happen: far more than it takes.
const DEADLINE: Duration = Duration::from_secs(20);
/// How long the server waits for events, so how often an idle stream gets a token.
const AWAIT: Duration = Duration::from_millis(50);

fn collection(set: &ReplicaSet, database: &str, name: &str) -> Collection<Document> {
    set.client().database(database).collection(name)
}

fn insert(set: &ReplicaSet, database: &str, ids: std::ops::Range<i32>) {
    let documents = ids.map(|id| doc! { "_id": id, "text": "x".repeat(id as usize) });
    collection(set, database, "orders").insert_many(documents).run().unwrap();
}

fn watch(set: &ReplicaSet, database: &str) -> Watch {
    Worker::watch(set.uri()).database(database).collection("orders").await_time(AWAIT)
}

/// A worker that reads changes which are already there.
fn watch_past(set: &ReplicaSet, database: &str, inserts: i32) -> Watch {
    let create = doc! { "create": "orders" };
    let reply = set.client().database(database).run_command(create).run().unwrap();
    let time = reply.get_timestamp("operationTime").unwrap();
    insert(set, database, 0..inserts);
    watch(set, database).option("start_at_time", &format!("{}:{}", time.time, time.increment))
}

#[track_caller]
fn start(watch: Watch, buffer: &Buffer) -> Worker {
    let worker = watch.spawn(buffer).unwrap();
    assert_eq!(worker.wait_ready_timeout(DEADLINE).unwrap(), Waited::Done);
    worker
}

#[track_caller]
fn message(buffer: &Buffer) -> Message {
    match buffer.recv_timeout(DEADLINE) {
        Ok(Received::Some(message)) => message,
        other => panic!("{other:?} instead of a message"),
    }
}

#[track_caller]
fn batch(buffer: &Buffer, max: usize) -> Batch {
    match buffer.recv_batch_timeout(max, DEADLINE) {
        Ok(Received::Some(batch)) => batch,
        other => panic!("{other:?} instead of a batch"),
    }
}

fn stats(buffer: &Buffer) -> BufferStats {
    buffer.stats().unwrap()
}

/// The figures of the buffer's only worker.
#[track_caller]
fn row(buffer: &Buffer) -> WorkerStats {
    let mut workers = stats(buffer).workers;
    assert_eq!(workers.len(), 1, "{workers:?}");
    workers.remove(0)
}

#[track_caller]
fn wait_for_depth(buffer: &Buffer, depth: usize) {
    wait_until(DEADLINE, "the messages are queued", || buffer.len() == depth);
}

#[test]
fn what_is_received_queued_and_delivered_is_counted() {
    let set = ground::shared();
    let database = set.database("counted");
    let buffer = Buffer::with_max_bytes(100, 1_000_000);
    let worker = start(watch(set, &database).name("counted"), &buffer);
    let before = stats(&buffer);
    assert_eq!((before.depth, before.high_water, before.bytes), (0, 0, 0));
    assert_eq!((before.capacity, before.max_bytes, before.closed), (100, 1_000_000, false));

    insert(set, &database, 0..10);
    wait_for_depth(&buffer, 10);
    let all = row(&buffer);
    assert_eq!((all.received, all.delivered, all.delivered_bytes), (10, 0, 0));
    assert_eq!(all.received_bytes, stats(&buffer).bytes as u64);

    let first: Vec<Message> = (0..3).map(|_| message(&buffer)).collect();
    let more = batch(&buffer, 4);
    let taken: usize = first.iter().chain(&more).map(|message| message.bson().len()).sum();
    let some = row(&buffer);
    assert_eq!((some.received, some.delivered), (10, 7));
    assert_eq!((some.received_bytes, some.delivered_bytes), (all.received_bytes, taken as u64));
    let now = stats(&buffer);
    assert_eq!((now.depth, now.high_water), (3, 10));
    assert_eq!(now.bytes as u64, all.received_bytes - taken as u64);

    let rest: usize = batch(&buffer, 100).messages().iter().map(|last| last.bson().len()).sum();
    let end = row(&buffer);
    assert_eq!((end.delivered, end.delivered_bytes), (10, all.received_bytes));
    assert_eq!(rest + taken, all.received_bytes as usize);
    insert(set, &database, 10..12);
    wait_for_depth(&buffer, 2);
    assert_eq!(stats(&buffer).high_water, 10, "it was more before");
    assert_eq!(row(&buffer).received, 12);

    let row = row(&buffer);
    assert_eq!((&*row.name, row.state), ("counted", WorkerState::Streaming));
    assert_eq!(row.namespace, format!("{database}.orders"));
    assert!(row.last_error.is_none() && row.reconnects == 0, "{row:?}");
    assert_eq!(row.attempts, 1);
    drop(worker);
}

#[test]
fn each_worker_has_its_own_figures() {
    let set = ground::shared();
    let databases = ["one", "two"].map(|label| set.database(label));
    let buffer = Buffer::new(100);
    let _workers = [
        start(watch(set, &databases[0]), &buffer),
        start(Worker::watch(set.uri()).database(&databases[1]), &buffer),
        start(
            Worker::watch(set.uri()).name("all").pipeline([doc! { "$match": { "a": 1 } }]),
            &buffer,
        ),
    ];
    insert(set, &databases[0], 0..2);
    insert(set, &databases[1], 0..3);
    wait_for_depth(&buffer, 5);
    let workers = stats(&buffer).workers;
    let namespaces: Vec<&str> = workers.iter().map(|worker| &*worker.namespace).collect();
    assert_eq!(namespaces, [&*format!("{}.orders", databases[0]), &*databases[1], "*"]);
    let received: Vec<u64> = workers.iter().map(|worker| worker.received).collect();
    assert_eq!(received, [2, 3, 0]);
    drop(batch(&buffer, 100));
    let delivered: Vec<u64> = stats(&buffer).workers.iter().map(|row| row.delivered).collect();
    assert_eq!(delivered, [2, 3, 0]);
}

#[test]
fn unacked_counts_what_is_queued_held_and_dropped() {
    let set = ground::shared();
    let database = set.database("unacked");
    let buffer = Buffer::new(100);
    let _worker = start(watch_past(set, &database, 10), &buffer);
    wait_for_depth(&buffer, 10);
    assert_eq!(row(&buffer).unacked, 10, "queued");
    let mut messages: Vec<Option<Message>> = (0..10).map(|_| Some(message(&buffer))).collect();
    assert_eq!(row(&buffer).unacked, 10, "held");
    let mut unacked = 10;
    for number in [9, 5, 4, 0, 1] {
        let message = messages[number].take().unwrap();
        message.ack();
        message.ack();
        unacked -= 1;
        assert_eq!(row(&buffer).unacked, unacked, "{number} is acked");
    }
    drop(messages[3].take());
    assert_eq!(row(&buffer).unacked, 5, "dropped");
    for message in messages.iter().flatten() {
        message.ack();
    }
    assert_eq!(row(&buffer).unacked, 1, "the dropped one stays");
    insert(set, &database, 10..12);
    batch(&buffer, 1).ack();
    batch(&buffer, 1).ack();
    assert_eq!(row(&buffer).unacked, 1, "it stays for ever");
}

#[test]
fn what_is_read_ahead_is_received_and_unacked() {
    let set = ground::shared();
    let database = set.database("ahead");
    let buffer = Buffer::new(1);
    let _worker = start(watch_past(set, &database, 10).batch_size(2), &buffer);
    // The event with which the stream was opened, a reply that waits for room, and the next.
    wait_until(DEADLINE, "three replies are read", || row(&buffer).received == 5);
    wait_for_depth(&buffer, 1);
    assert_eq!(row(&buffer).unacked, 5);
    message(&buffer).ack();
    message(&buffer).ack();
    wait_until(DEADLINE, "the fourth is read", || row(&buffer).received == 7);
    assert_eq!((row(&buffer).unacked, row(&buffer).delivered), (5, 2));
    assert_eq!(stats(&buffer).high_water, 1);
}

#[test]
fn the_time_that_workers_wait_for_room_is_counted() {
    let set = ground::shared();
    let database = set.database("waiting");
    let buffer = Buffer::new(1);
    let past = watch_past(set, &database, 3);
    let _workers = [start(past.clone().name("a"), &buffer), start(past.name("b"), &buffer)];
    // Two that wait: it grows twice as fast as the clock, also while nothing else happens.
    eventually(DEADLINE, || {
        let began = Instant::now();
        let before = stats(&buffer).waited_ms;
        thread::sleep(Duration::from_millis(100));
        let grown = stats(&buffer).waited_ms - before;
        assert!(u128::from(grown) <= began.elapsed().as_millis() * 2 + 1, "{grown} ms");
        (grown >= 199).then_some(())
    });
    for _ in 0..6 {
        message(&buffer);
    }
    let waited = stats(&buffer).waited_ms;
    thread::sleep(Duration::from_millis(50));
    assert_eq!(stats(&buffer).waited_ms, waited, "nobody waits any more");
}

/// Makes the next getMore break its connection.
fn break_connection(set: &ReplicaSet) -> FailPoint {
    set.fail_point(doc! {
        "configureFailPoint": "failCommand", "mode": { "times": 1 },
        "data": { "failCommands": ["getMore"], "closeConnection": true },
    })
    .unwrap()
}

#[test]
fn reconnects_are_counted_with_their_reason() {
    let set = ReplicaSet::start().unwrap();
    let buffer = Buffer::new(100);
    let _worker = start(watch(&set, "shop"), &buffer);
    for reconnects in 1..=2 {
        thread::sleep(Duration::from_millis(100));
        let before = row(&buffer);
        assert_eq!(before.reconnects, reconnects - 1);
        assert!(before.opened_ms_ago.unwrap() >= 100, "{before:?}");
        let began = Instant::now();
        let _point = break_connection(&set);
        wait_until(DEADLINE, "it reconnects", || row(&buffer).reconnects == reconnects);
        let after = row(&buffer);
        assert_eq!(after.state, WorkerState::Streaming);
        assert!(u128::from(after.opened_ms_ago.unwrap()) <= began.elapsed().as_millis() + 1);
        let error = after.last_error.unwrap();
        assert_eq!((error.kind(), error.worker()), (ErrorKind::Connect, Some("shop.orders")));
    }
    insert(&set, "shop", 0..3);
    wait_for_depth(&buffer, 3);
    let row = row(&buffer);
    assert_eq!((row.received, row.unacked, row.reconnects), (3, 3, 2), "nothing twice");
}

#[test]
fn a_failed_worker_stays_listed_with_its_error() {
    let set = ground::shared();
    let buffer = Buffer::new(100);
    let uri = set.uri().replace("mongodb://", "mongodb://user:hunter2@");
    let worker = Worker::watch(uri).database("shop").name("refused").spawn(&buffer).unwrap();
    worker.join_timeout(DEADLINE).unwrap_err();
    let before = stats(&buffer);
    assert_eq!((before.failures, before.depth, before.closed), (1, 0, false));
    let error = buffer.recv_timeout(DEADLINE).unwrap_err();
    assert_eq!(stats(&buffer).failures, 0);
    drop(worker);
    let stats = stats(&buffer);
    let [row] = &stats.workers[..] else { panic!("{stats:?}") };
    assert_eq!((&*row.name, row.state, row.reconnects), ("refused", WorkerState::Failed, 0));
    let last = row.last_error.as_ref().unwrap();
    assert_eq!((last.kind(), last.to_string()), (ErrorKind::Auth, error.to_string()));
    assert!(
        (row.lag_ms, row.last_event_ms_ago, row.opened_ms_ago) == (None, None, None),
        "{row:?}"
    );
    let json = stats.to_json();
    assert!(!json.contains("hunter2") && !format!("{stats:?}").contains("hunter2"), "{json}");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["workers"][0]["last_error"], error.to_string());
    assert_eq!(json["workers"][0]["last_error_status"], "MS_ERR_AUTH");
    assert_eq!(json["workers"][0]["state"], "failed");
}

#[test]
fn ended_workers_are_listed_as_long_as_documented() {
    let set = ground::shared();
    let buffer = Buffer::new(100);
    let running = start(watch(set, &set.database("running")).name("running"), &buffer);
    let mut held = Vec::new();
    for number in 0..20 {
        let worker = watch(set, "shop").name(&number.to_string()).spawn(&buffer).unwrap();
        worker.stop();
        assert_eq!(worker.join_timeout(DEADLINE).unwrap(), Waited::Done);
        held.push(worker);
    }
    let names = || -> Vec<String> {
        stats(&buffer).workers.into_iter().map(|worker| worker.name).collect()
    };
    let expected = |numbers: &mut dyn Iterator<Item = i32>| -> Vec<String> {
        let numbers = numbers.map(|number| number.to_string());
        std::iter::once("running".to_owned()).chain(numbers).collect()
    };
    assert_eq!(names(), expected(&mut (0..20)));
    // The handle of number 1 stays; 16 of the others do.
    let one = held.remove(1);
    drop(held);
    let listed = expected(&mut std::iter::once(1).chain(4..20));
    wait_until(DEADLINE, "their threads are gone", || names() == listed);
    drop(one);
    assert_eq!(names(), expected(&mut (4..20)));
    buffer.close();
    assert_eq!(running.join_timeout(DEADLINE).unwrap(), Waited::Done);
    let stats = stats(&buffer);
    assert!(stats.closed);
    let states: BTreeSet<_> = stats.workers.iter().map(|row| row.state as u8).collect();
    assert_eq!(states, BTreeSet::from([WorkerState::Stopped as u8]));
    assert_eq!(stats.workers.last().unwrap().name, "running", "it ended last");
}

#[test]
fn before_the_stream_is_open_there_is_no_lag() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let buffer = Buffer::new(1);
    let uri = format!("mongodb://user:hunter2@127.0.0.1:{port}");
    let _worker = Worker::watch(uri).database("shop").spawn(&buffer).unwrap();
    let row = row(&buffer);
    assert_eq!(row.state, WorkerState::Starting);
    assert!(
        (row.lag_ms, row.last_event_ms_ago, row.opened_ms_ago) == (None, None, None),
        "{row:?}"
    );
    let json: Value = serde_json::from_str(&stats(&buffer).to_json()).unwrap();
    assert!(json["workers"][0]["lag_ms"].is_null(), "{json}");
}

#[test]
fn lag_is_small_while_streaming_and_grows_behind_a_full_buffer() {
    let set = ground::shared();
    let database = set.database("lag");
    let buffer = Buffer::new(1);
    let _worker = start(watch(set, &database).batch_size(1), &buffer);
    for id in 0..3 {
        insert(set, &database, id..id + 1);
        message(&buffer);
        let lag = row(&buffer).lag_ms.unwrap();
        assert!(lag < 2500, "{lag} ms");
    }
    // Of 10 the worker reads the one that is queued and two more.
    insert(set, &database, 10..20);
    wait_until(DEADLINE, "it reads no further", || row(&buffer).received == 6);
    let (began, before) = (Instant::now(), row(&buffer).lag_ms.unwrap());
    assert!(before < 5000, "{before} ms");
    thread::sleep(Duration::from_millis(1500));
    // Other changes go on, this worker's position does not.
    let grown = row(&buffer).lag_ms.unwrap() - before;
    assert!((1499..=began.elapsed().as_millis() as u64 + 1).contains(&grown), "{grown} ms");
}

#[test]
fn lag_is_small_while_only_other_collections_change() {
    let set = ground::shared();
    let database = set.database("idle");
    let buffer = Buffer::new(10);
    let _worker = start(watch(set, &database), &buffer);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(4) {
        collection(set, &database, "others").insert_one(doc! {}).run().unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    let row = row(&buffer);
    assert!(row.lag_ms.unwrap() < 2500, "{row:?}");
    assert_eq!((row.received, row.last_event_ms_ago), (0, None));
    assert!(row.opened_ms_ago.unwrap() >= 4000, "{row:?}");
}

#[test]
fn the_age_of_the_last_event_grows_until_the_next() {
    let set = ground::shared();
    let database = set.database("age");
    let buffer = Buffer::new(10);
    let _worker = start(watch(set, &database), &buffer);
    assert_eq!(row(&buffer).last_event_ms_ago, None);
    for id in 0..2 {
        let began = Instant::now();
        insert(set, &database, id..id + 1);
        message(&buffer);
        let age = row(&buffer).last_event_ms_ago.unwrap();
        assert!(u128::from(age) <= began.elapsed().as_millis() + 1, "{age} ms");
        // Idle replies do not count.
        thread::sleep(Duration::from_millis(300));
        let age = row(&buffer).last_event_ms_ago.unwrap();
        assert!(age >= 300, "{age} ms");
    }
}

/// A directory for a checkpoint, removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new(label: &str) -> Self {
        let name = format!("mongostream-stats-{label}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn checkpoint(&self) -> FileCheckpoint {
        FileCheckpoint::new(self.0.join("orders.token"))
    }

    /// When the checkpoint was saved.
    fn modified(&self) -> SystemTime {
        std::fs::metadata(self.0.join("orders.token")).unwrap().modified().unwrap()
    }

    /// Makes every save fail, until the result is dropped.
    fn refuse(&self) -> Directory {
        let in_the_way = self.0.join("orders.token.new");
        std::fs::create_dir(&in_the_way).unwrap();
        Directory(in_the_way)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn watch_saved(set: &ReplicaSet, database: &str, directory: &Directory) -> Watch {
    let watch = watch(set, database).checkpoint(directory.checkpoint());
    watch.checkpoint_interval(Duration::from_millis(20))
}

#[track_caller]
fn assert_no_checkpoint(row: &WorkerStats) {
    let WorkerStats { checkpoint_saved_ms_ago, checkpoint_lag_ms, checkpoint_error, .. } = row;
    let none = checkpoint_saved_ms_ago.is_none() && checkpoint_lag_ms.is_none();
    assert!(none && checkpoint_error.is_none(), "{row:?}");
}

#[test]
fn without_a_checkpoint_there_are_no_figures_of_one() {
    let set = ground::shared();
    let buffer = Buffer::new(10);
    let database = set.database("unsaved");
    let _worker = start(watch(set, &database), &buffer);
    insert(set, &database, 0..1);
    message(&buffer).ack();
    assert_no_checkpoint(&row(&buffer));
}

#[test]
fn a_ready_worker_has_saved_its_checkpoint() {
    let (set, directory) = (ground::shared(), Directory::new("first"));
    let buffer = Buffer::new(10);
    let began = Instant::now();
    let watch = watch_saved(set, &set.database("first"), &directory);
    let _worker = start(watch.checkpoint_interval(Duration::from_secs(3600)), &buffer);
    let row = row(&buffer);
    let age = row.checkpoint_saved_ms_ago.unwrap();
    assert!(u128::from(age) <= began.elapsed().as_millis() + 1, "{row:?}");
    assert!(row.checkpoint_lag_ms >= row.lag_ms && row.checkpoint_lag_ms < Some(15_000), "{row:?}");
    assert!(row.checkpoint_error.is_none(), "{row:?}");
}

#[test]
fn a_checkpoint_that_needs_no_save_is_not_old() {
    let (set, directory) = (ReplicaSet::start().unwrap(), Directory::new("idle"));
    let buffer = Buffer::new(10);
    let worker = start(watch_saved(&set, "shop", &directory), &buffer);
    insert(&set, "shop", 0..1);
    // The position waits for this one: whatever the server does, nothing more is to be saved.
    let held = message(&buffer);
    let text = || std::fs::read_to_string(directory.0.join("orders.token")).unwrap();
    let token = worker.resume_token().unwrap();
    wait_until(DEADLINE, "the position is saved", || text().contains(&token));
    let saved = directory.modified();
    thread::sleep(Duration::from_secs(1));
    wait_until(DEADLINE, "it is known to be saved", || {
        row(&buffer).checkpoint_saved_ms_ago.unwrap() < 500
    });
    assert_eq!(directory.modified(), saved, "it was not saved again");
    drop(held);
}

#[test]
fn the_lag_of_a_checkpoint_is_that_of_the_acked_position() {
    let (set, directory) = (ground::shared(), Directory::new("lag"));
    let database = set.database("acked");
    let buffer = Buffer::new(10);
    let _worker = start(watch_saved(set, &database, &directory), &buffer);
    insert(set, &database, 0..2);
    let first = message(&buffer);
    let second = message(&buffer);
    first.ack();
    let lag = || row(&buffer).checkpoint_lag_ms.unwrap();
    // Writes go on, and are read: only the acknowledgement is missing.
    let others = collection(set, &database, "others");
    wait_until(DEADLINE, "the saved position is left behind", || {
        others.insert_one(doc! {}).run().unwrap();
        lag() > 4000
    });
    assert!(row(&buffer).lag_ms.unwrap() < 3000, "{:?}", row(&buffer));
    second.ack();
    wait_until(DEADLINE, "the saved position follows", || {
        others.insert_one(doc! {}).run().unwrap();
        lag() < 3000
    });
}

#[test]
fn a_checkpoint_that_cannot_be_saved_shows_why_until_it_can() {
    let (set, directory) = (ground::shared(), Directory::new("refused"));
    let database = set.database("refused");
    let buffer = Buffer::new(10);
    let _worker = start(watch_saved(set, &database, &directory), &buffer);
    let refused = directory.refuse();
    insert(set, &database, 0..1);
    message(&buffer).ack();
    wait_until(DEADLINE, "a save fails", || row(&buffer).checkpoint_error.is_some());
    let failing = row(&buffer);
    let error = failing.checkpoint_error.unwrap();
    let name = format!("{database}.orders");
    assert_eq!((error.kind(), error.worker()), (ErrorKind::Checkpoint, Some(&*name)));
    assert!(error.to_string().contains(directory.0.to_str().unwrap()), "{error}");
    assert_eq!(failing.state, WorkerState::Streaming);
    let json: Value = serde_json::from_str(&stats(&buffer).to_json()).unwrap();
    assert_eq!(json["workers"][0]["checkpoint_error"], error.to_string());
    wait_until(DEADLINE, "the last good save becomes old", || {
        row(&buffer).checkpoint_saved_ms_ago.unwrap() > 1000
    });
    drop(refused);
    wait_until(DEADLINE, "it is saved", || row(&buffer).checkpoint_error.is_none());
    let saved = row(&buffer);
    assert!(saved.checkpoint_saved_ms_ago.unwrap() < 1000, "{saved:?}");
    assert_eq!(saved.last_error.unwrap().to_string(), error.to_string(), "it stays");
}

#[test]
fn a_first_save_that_fails_is_in_the_figures_of_the_failed_worker() {
    let (set, directory) = (ground::shared(), Directory::new("unready"));
    let buffer = Buffer::new(10);
    let _refused = directory.refuse();
    let watch = watch_saved(set, &set.database("unready"), &directory);
    let worker = watch.spawn(&buffer).unwrap();
    let failure = worker.join_timeout(DEADLINE).unwrap_err();
    let row = row(&buffer);
    assert_eq!(row.checkpoint_error.unwrap().to_string(), failure.to_string());
    assert_eq!((row.checkpoint_saved_ms_ago, row.checkpoint_lag_ms), (None, None));
}

#[test]
fn a_checkpoint_that_was_loaded_has_figures_before_the_stream_is_open() {
    let (set, directory) = (ground::shared(), Directory::new("loaded"));
    let database = set.database("loaded");
    let buffer = Buffer::new(10);
    let worker = start(watch_saved(set, &database, &directory), &buffer);
    worker.stop();
    assert_eq!(worker.join_timeout(DEADLINE).unwrap(), Waited::Done);
    drop((worker, buffer));

    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let unreachable = Worker::watch(format!("mongodb://127.0.0.1:{port}")).database(&database);
    let unreachable = unreachable.collection("orders").checkpoint(directory.checkpoint());
    // Nothing is saved, nor found to be saved, within this test.
    let unreachable = unreachable.checkpoint_interval(Duration::from_secs(3600));
    let buffer = Buffer::new(10);
    let _worker = unreachable.spawn(&buffer).unwrap();
    wait_until(DEADLINE, "it is loaded", || row(&buffer).checkpoint_saved_ms_ago.is_some());
    let row = row(&buffer);
    assert_eq!((row.state, row.lag_ms), (WorkerState::Starting, None), "{row:?}");
    assert!(row.checkpoint_lag_ms.is_some() && row.checkpoint_error.is_none(), "{row:?}");
}

// ----------------------------------------------------------------------------- the description

fn description() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/STATISTICS.md");
    std::fs::read_to_string(path).unwrap()
}

/// The keys of a section's table, with their types.
fn documented(section: &str) -> BTreeMap<String, String> {
    let text = description();
    let (_, section) = text.split_once(&format!("## {section}\n")).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(key, rest)| (key.to_owned(), rest.split(" | ").next().unwrap().to_owned())).collect()
}

fn type_of(value: &Value) -> &str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "text",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[track_caller]
fn assert_documented(found: &Value, section: &str) {
    let documented = documented(section);
    let found = found.as_object().unwrap();
    let keys: BTreeSet<&String> = found.keys().collect();
    assert_eq!(keys, documented.keys().collect(), "{section}");
    for (key, value) in found {
        let types: Vec<&str> = documented[key].split(" or ").collect();
        assert!(types.contains(&type_of(value)), "{key}: {value} is not {types:?}");
    }
}

#[test]
fn the_keys_are_those_of_the_description() {
    let set = ground::shared();
    let buffer = Buffer::new(10);
    let refused = watch(set, "shop").pipeline([doc! { "$nonsense": 1 }]).spawn(&buffer).unwrap();
    refused.join_timeout(DEADLINE).unwrap_err();
    let (database, directory) = (set.database("described"), Directory::new("described"));
    let _worker = start(watch_saved(set, &database, &directory), &buffer);
    insert(set, &database, 0..1);
    wait_for_depth(&buffer, 1);
    let read = watch(set, &database).snapshot(mongostream::Snapshot::Always);
    let _reader = start(read, &buffer);
    wait_for_depth(&buffer, 2);
    let text = stats(&buffer).to_json();
    assert!(!text.contains('\n'), "{text}");
    let found: Value = serde_json::from_str(&text).unwrap();

    let text = description();
    let (_, example) = text.split_once("```json\n").expect("an example");
    let example = example.split("```").next().unwrap();
    let example: Value = serde_json::from_str(example).unwrap();
    for stats in [found, example] {
        assert_documented(&stats, "The buffer");
        for worker in stats["workers"].as_array().unwrap() {
            assert_documented(worker, "A worker");
            if !worker["snapshot"].is_null() {
                assert_documented(&worker["snapshot"], "A snapshot");
            }
            if !worker["lease"].is_null() {
                assert_documented(&worker["lease"], "A lease");
            }
        }
    }
}
