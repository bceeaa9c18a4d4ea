//! What a worker can be told, and what a buffer promises to those who receive from it.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use mongodb::options::WriteConcern;
use mongostream::{
    Batch, Buffer, Error, ErrorKind, ExtendedJson, Format, FullDocument, Iter, Message, OptionInfo,
    Options, Received, Start, Waited, Watch, Worker, WorkerState,
};
use serde_json::{Value, json};

use support::{
    DEADLINE, collection, failure, follow, is_closed, json_id, next, next_json, now, spawn_ready,
    wait_for_len, watch_collection,
};

#[track_caller]
fn insert(database: &str, id: i32) {
    collection(database, "c").insert_one(doc! { "_id": id }).run().unwrap();
}

#[track_caller]
fn insert_many(database: &str, count: i32) {
    let documents = (0..count).map(|number| doc! { "_id": number });
    collection(database, "c").insert_many(documents).run().unwrap();
}

#[track_caller]
fn update(database: &str, id: i32, value: i32) {
    let update = doc! { "$set": { "value": value } };
    collection(database, "c").update_one(doc! { "_id": id }, update).run().unwrap();
}

fn watch(database: &str) -> Watch {
    watch_collection(database, "c")
}

/// What `wait` gives, which may wait for ever where it is wrong.
#[track_caller]
fn in_time<T: Send + 'static>(wait: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(wait()));
    receiver.recv_timeout(DEADLINE).expect("an end of the wait")
}

/// A buffer that has exactly the inserts of 0 to `count` queued.
fn queued(label: &str, count: i32) -> (Buffer, Worker, String) {
    let database = ground::shared().database(label);
    let (buffer, worker) = follow(watch(&database));
    insert_many(&database, count);
    wait_for_len(&buffer, usize::try_from(count).unwrap());
    (buffer, worker, database)
}

// Pipeline

/// Inserts with values 0 to 5, filtered by value and changed on their way.
#[track_caller]
fn check_pipeline(with_pipeline: impl Fn(Watch) -> Watch) {
    let database = ground::shared().database("pipeline");
    let (buffer, _worker) = follow(with_pipeline(watch(&database)));
    let documents = (0..6).map(|value| doc! { "_id": value, "value": value, "secret": "s" });
    collection(&database, "c").insert_many(documents).run().unwrap();
    for value in [4, 5] {
        let json = next_json(&buffer);
        assert_eq!(json["FullDocument"], json!({ "_id": value, "value": value }));
        assert_eq!(json["twice"], json!(2 * value));
        assert_eq!(json["OperationType"], "insert");
        assert_eq!(json["DocumentKey"]["_id"], json!(value));
    }
}

#[test]
fn pipeline_filters_and_changes_events() {
    check_pipeline(|watch| {
        watch.pipeline([
            doc! { "$match": { "fullDocument.value": { "$gte": 4 } } },
            doc! { "$project": { "fullDocument.secret": 0 } },
            doc! { "$addFields": { "twice": { "$multiply": ["$fullDocument.value", 2] } } },
        ])
    });
}

#[test]
fn pipeline_by_name_is_extended_json() {
    check_pipeline(|watch| {
        let pipeline = r#"[
            {"$match": {"fullDocument.value": {"$gte": {"$numberLong": "4"}}}},
            {"$project": {"fullDocument.secret": 0}},
            {"$addFields": {"twice": {"$multiply": ["$fullDocument.value", 2]}}}
        ]"#;
        watch.option("pipeline", pipeline)
    });
}

#[test]
fn a_pipeline_that_the_server_refuses_is_a_failure() {
    let database = ground::shared().database("refused");
    let buffer = Buffer::new(10);
    let watch = watch(&database).pipeline([doc! { "$teleport": {} }]);
    let _worker = watch.spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    assert_eq!(error.server_code(), 40324, "{error}");
    assert!(error.to_string().contains("$teleport"), "{error}");
}

// Full document

#[test]
fn full_document_is_not_there_unless_asked_for() {
    let database = ground::shared().database("no_lookup");
    insert(&database, 1);
    let (buffer, _worker) = follow(watch(&database));
    update(&database, 1, 7);
    let json = next_json(&buffer);
    assert_eq!(json["OperationType"], "update");
    assert_eq!(json.get("FullDocument"), None);
}

#[test]
fn update_lookup_gives_the_document() {
    let database = ground::shared().database("lookup");
    insert(&database, 1);
    let typed = follow(watch(&database).full_document(FullDocument::UpdateLookup));
    let by_name = follow(watch(&database).option("full_document", "updateLookup"));
    update(&database, 1, 7);
    for (buffer, _worker) in [&typed, &by_name] {
        assert_eq!(next_json(buffer)["FullDocument"], json!({ "_id": 1, "value": 7 }));
    }
}

#[test]
fn update_lookup_gives_null_where_the_document_is_gone() {
    let database = ground::shared().database("gone");
    insert(&database, 1);
    let start = now(watch(&database));
    update(&database, 1, 7);
    // The server looks the document up among what a majority has.
    let majority = WriteConcern::majority();
    collection(&database, "c").delete_one(doc! { "_id": 1 }).write_concern(majority).run().unwrap();
    let watch = watch(&database).start_at(start).full_document(FullDocument::UpdateLookup);
    let (buffer, _worker) = follow(watch);
    let json = next_json(&buffer);
    assert_eq!(json["OperationType"], "update");
    assert_eq!(json.get("FullDocument"), Some(&Value::Null));
}

/// The worker's failure where the server cannot do what was asked for.
#[track_caller]
fn check_refused(database: &str, mode: FullDocument, name: &str) {
    let buffer = Buffer::new(10);
    let _worker = watch(database).full_document(mode).spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    assert_ne!(error.server_code(), 0, "{error}");
    assert_eq!(error.worker(), Some(format!("{database}.c").as_str()), "{error}");
    assert!(error.to_string().contains(name), "{error}");
}

/// The document right after each of two updates that are long past when they are read; servers
/// before 6.0 have no such thing.
#[track_caller]
fn check_post_images(mode: FullDocument, name: &str) {
    let database = ground::shared().database("images");
    if ground::shared().version() < (6, 0, 0) {
        return check_refused(&database, mode, name);
    }
    let create = doc! { "create": "c", "changeStreamPreAndPostImages": { "enabled": true } };
    ground::shared().client().database(&database).run_command(create).run().unwrap();
    insert(&database, 1);
    let start = now(watch(&database));
    update(&database, 1, 7);
    update(&database, 1, 8);
    collection(&database, "c").delete_one(doc! { "_id": 1 }).run().unwrap();
    let (buffer, _worker) = follow(watch(&database).start_at(start).full_document(mode));
    for value in [7, 8] {
        assert_eq!(next_json(&buffer)["FullDocument"], json!({ "_id": 1, "value": value }));
    }
}

#[test]
fn when_available_gives_the_document_right_after_the_change() {
    check_post_images(FullDocument::WhenAvailable, "whenAvailable");
}

#[test]
fn required_gives_the_document_right_after_the_change() {
    check_post_images(FullDocument::Required, "required");
}

#[test]
fn required_fails_where_the_server_did_not_keep_it() {
    let database = ground::shared().database("no_images");
    insert(&database, 1);
    let start = now(watch(&database));
    update(&database, 1, 7);
    if ground::shared().version() < (6, 0, 0) {
        return check_refused(&database, FullDocument::Required, "required");
    }
    const NO_MATCHING_DOCUMENT: i32 = 47;
    let buffer = Buffer::new(10);
    let watch = watch(&database).start_at(start).full_document(FullDocument::Required);
    let _worker = watch.name("needs images").spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert_eq!(error.server_code(), NO_MATCHING_DOCUMENT, "{error}");
    assert_eq!(error.worker(), Some("needs images"), "{error}");
    assert!(error.to_string().contains("image"), "{error}");
}

// The requests to the server

/// The getMore that the worker has under way, as the server shows it.
#[track_caller]
fn request(set: impl FnOnce(Watch) -> Watch) -> Document {
    let database = ground::shared().database("request");
    // A client with this application name has no other cursor.
    let uri = ground::shared().uri_with(&format!("appName={database}"));
    let watch = Worker::watch(uri).database(&database).collection("c");
    let (_buffer, _worker) = follow(set(watch));
    let admin = ground::shared().client().database("admin");
    let stages = [
        doc! { "$currentOp": { "allUsers": true } },
        doc! { "$match": { "appName": &database, "command.getMore": { "$exists": true } } },
    ];
    ground::eventually(DEADLINE, || {
        let operation = admin.aggregate(stages.clone()).run().unwrap().next()?.unwrap();
        Some(operation.get_document("command").unwrap().clone())
    })
}

fn number(command: &Document, field: &str) -> i64 {
    let value = command.get(field).unwrap_or_else(|| panic!("no {field}: {command}"));
    value.as_i64().or(value.as_i32().map(i64::from)).expect("a whole number")
}

#[test]
fn batch_size_reaches_the_server() {
    assert_eq!(number(&request(|watch| watch.batch_size(37)), "batchSize"), 37);
}

#[test]
fn batch_size_by_name_reaches_the_server() {
    assert_eq!(number(&request(|watch| watch.option("batch_size", "38")), "batchSize"), 38);
}

#[test]
fn await_time_reaches_the_server() {
    let command = request(|watch| watch.await_time(Duration::from_millis(1234)));
    assert_eq!(number(&command, "maxTimeMS"), 1234);
}

#[test]
fn await_ms_by_name_reaches_the_server() {
    let command = request(|watch| watch.option("await_ms", "1235"));
    assert_eq!(number(&command, "maxTimeMS"), 1235);
}

#[test]
fn the_defaults_are_the_tables() {
    let command = request(|watch| watch);
    for (option, field) in [("batch_size", "batchSize"), ("await_ms", "maxTimeMS")] {
        let option = mongostream::OPTIONS.iter().find(|info| info.name == option).unwrap();
        assert_eq!(number(&command, field).to_string(), option.default, "{}", option.name);
    }
}

#[test]
fn a_set_of_options_holds_for_several_workers() {
    let mut options = Options::new();
    options.set("name", "several").unwrap();
    options.set("format", "event").unwrap();
    let [one, two] = ["one", "two"].map(|label| ground::shared().database(label));
    let streams = [&one, &two].map(|database| follow(watch(database).options(&options)));
    for (database, (buffer, _worker)) in [&one, &two].into_iter().zip(&streams) {
        insert(database, 1);
        let message = next(buffer);
        assert_eq!(message.worker(), "several");
        assert!(message.json().contains("operationType"), "{}", message.json());
    }
}

#[test]
fn a_mistake_is_reported_before_anything_starts() {
    let buffer = Buffer::new(10);
    let error = watch("d").option("batch_size", "many").spawn(&buffer).unwrap_err();
    assert_eq!((error.kind(), error.worker()), (ErrorKind::Argument, None));
    assert!(error.to_string().contains("batch_size"), "{error}");
    // No worker has fed it: it is not closed.
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

// Names

#[test]
fn a_name_of_its_own_is_in_messages() {
    let database = ground::shared().database("named");
    for watch in [watch(&database).name("mine"), watch(&database).option("name", "mine")] {
        let (buffer, worker) = follow(watch);
        collection(&database, "c").insert_one(doc! {}).run().unwrap();
        assert_eq!((worker.name(), next(&buffer).worker()), ("mine", "mine"));
    }
}

#[test]
fn the_default_name_is_what_is_watched() {
    let database = ground::shared().database("default_name");
    let deployment = Worker::watch(ground::shared().uri());
    for (watch, name) in [
        (watch(&database), format!("{database}.c")),
        (deployment.clone().database(&database), database.clone()),
        (deployment, "*".to_owned()),
    ] {
        let (buffer, worker) = follow(watch);
        collection(&database, "c").insert_one(doc! {}).run().unwrap();
        assert_eq!((worker.name(), next(&buffer).worker()), (name.as_str(), name.as_str()));
    }
}

#[test]
fn a_failure_names_its_worker() {
    let watch = Worker::watch("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100");
    for (watch, name) in [
        (watch.clone(), "*"),
        (watch.clone().database("d"), "d"),
        (watch.clone().database("d").collection("c"), "d.c"),
        (watch.name("mine"), "mine"),
    ] {
        let buffer = Buffer::new(1);
        let worker = watch.spawn(&buffer).unwrap();
        let error = failure(&buffer);
        assert_eq!(error.worker(), Some(name));
        assert_eq!(worker.join_timeout(DEADLINE).unwrap_err().worker(), Some(name));
        assert_eq!(worker.state(), WorkerState::Failed);
    }
}

// Receiving

#[test]
fn try_recv_takes_what_is_there_and_never_waits() {
    let (buffer, _worker, _) = queued("try_recv", 2);
    for number in 0..2 {
        let message = buffer.try_recv().unwrap().some().expect("a message");
        assert_eq!(json_id(&message), json!(number));
    }
    assert!(matches!(in_time(move || buffer.try_recv()), Ok(Received::Timeout)));
}

#[test]
fn recv_timeout_waits_for_as_long_as_it_is_told() {
    const TIMEOUT: Duration = Duration::from_millis(60);
    let database = ground::shared().database("timeout");
    let (buffer, _worker) = follow(watch(&database));
    let began = Instant::now();
    assert!(matches!(in_time(move || buffer.recv_timeout(TIMEOUT)), Ok(Received::Timeout)));
    assert!(began.elapsed() >= TIMEOUT);
}

#[test]
fn recv_batch_timeout_waits_for_as_long_as_it_is_told() {
    const TIMEOUT: Duration = Duration::from_millis(60);
    let database = ground::shared().database("batch_timeout");
    let (buffer, _worker) = follow(watch(&database));
    let began = Instant::now();
    let nothing = in_time(move || buffer.recv_batch_timeout(5, TIMEOUT));
    assert!(matches!(nothing, Ok(Received::Timeout)));
    assert!(began.elapsed() >= TIMEOUT);
}

#[test]
fn recv_batch_takes_no_more_than_max() {
    let (buffer, _worker, _) = queued("max", 5);
    let batch = buffer.recv_batch(3).unwrap().expect("a batch");
    assert_eq!(batch.len(), 3);
    assert_eq!(batch.into_iter().map(|message| json_id(&message)).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(buffer.len(), 2);
}

#[test]
fn recv_batch_takes_at_least_one() {
    let (buffer, _worker, _) = queued("at_least", 2);
    assert_eq!(buffer.recv_batch(0).unwrap().expect("a batch").len(), 1);
}

#[test]
fn recv_batch_never_waits_to_fill() {
    let (buffer, _worker, _) = queued("fill", 2);
    let batch = in_time(move || buffer.recv_batch(100)).unwrap().expect("a batch");
    assert_eq!(batch.len(), 2);
}

#[test]
fn recv_batch_waits_for_the_first_message() {
    let database = ground::shared().database("first");
    let (buffer, _worker) = follow(watch(&database));
    let (ready, started) = mpsc::channel();
    let consumer = thread::spawn(move || {
        ready.send(()).unwrap();
        in_time(move || buffer.recv_batch(10)).unwrap().expect("a batch").len()
    });
    started.recv().unwrap();
    insert(&database, 1);
    assert_eq!(consumer.join().unwrap(), 1);
}

#[test]
fn a_batch_is_its_messages_in_order() {
    let (buffer, _worker, _) = queued("order", 4);
    let batch = buffer.recv_batch(4).unwrap().expect("a batch");
    let by_index: Vec<_> =
        (0..4).map(|index| json_id(batch.get(index).expect("a message"))).collect();
    assert_eq!(by_index, [0, 1, 2, 3]);
    assert_eq!((&batch).into_iter().map(json_id).collect::<Vec<_>>(), by_index);
    assert!(batch.get(4).is_none());
}

#[test]
fn acknowledging_a_batch_is_acknowledging_its_messages() {
    let (buffer, worker, _) = queued("batch_ack", 4);
    let batch = buffer.recv_batch(3).unwrap().expect("a batch");
    batch.ack();
    let last = batch.get(2).expect("a message").resume_token();
    assert_eq!(worker.resume_token().as_deref(), last);
}

#[test]
fn len_counts_what_is_queued() {
    let (buffer, _worker, _) = queued("len", 3);
    for left in [2, 1, 0] {
        next(&buffer);
        assert_eq!((buffer.len(), buffer.is_empty()), (left, left == 0));
    }
}

#[test]
fn iteration_ends_after_close_with_what_is_queued() {
    let (buffer, _worker, _) = queued("close", 3);
    buffer.close();
    let rest =
        in_time(move || buffer.iter().map(|item| json_id(&item.unwrap())).collect::<Vec<_>>());
    assert_eq!(rest, [0, 1, 2]);
}

#[test]
fn close_wakes_every_consumer() {
    let buffer = Buffer::new(1);
    let consumers: Vec<_> = (0..4)
        .map(|_| {
            let buffer = buffer.clone();
            thread::spawn(move || in_time(move || buffer.recv().unwrap().is_none()))
        })
        .collect();
    buffer.close();
    assert!(consumers.into_iter().all(|consumer| consumer.join().unwrap()));
}

#[test]
fn close_stops_the_workers() {
    let database = ground::shared().database("close_stops");
    let (buffer, worker) = follow(watch(&database));
    buffer.close();
    assert_eq!(worker.join_timeout(DEADLINE).unwrap(), Waited::Done);
    assert_eq!(worker.state(), WorkerState::Stopped);
}

#[test]
fn consumers_may_start_before_any_worker() {
    let database = ground::shared().database("early");
    let buffer = Buffer::new(10);
    let nothing = buffer.recv_timeout(Duration::from_millis(20));
    assert!(matches!(nothing, Ok(Received::Timeout)), "{nothing:?}");
    let early = buffer.clone();
    let (ready, started) = mpsc::channel();
    let consumer = thread::spawn(move || {
        ready.send(()).unwrap();
        in_time(move || early.recv()).unwrap().map(|message| json_id(&message))
    });
    started.recv().unwrap();
    let _worker = spawn_ready(watch(&database), &buffer);
    insert(&database, 1);
    assert_eq!(consumer.join().unwrap(), Some(json!(1)));
}

#[test]
fn a_buffer_is_closed_without_workers_and_opens_again_with_one() {
    let (buffer, worker, database) = queued("reopen", 1);
    worker.stop();
    worker.join_timeout(DEADLINE).unwrap();
    assert_eq!(json_id(&next(&buffer)), json!(0), "what is queued is still there");
    assert!(is_closed(&buffer));
    let _worker = spawn_ready(watch(&database), &buffer);
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
    insert(&database, 1);
    assert_eq!(json_id(&next(&buffer)), json!(1));
}

#[test]
fn a_buffer_stays_open_while_one_worker_is_left() {
    let database = ground::shared().database("left");
    let (buffer, stopped) = follow(watch(&database));
    let _left = spawn_ready(watch(&database), &buffer);
    stopped.stop();
    stopped.join_timeout(DEADLINE).unwrap();
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
    insert(&database, 1);
    assert_eq!(json_id(&next(&buffer)), json!(1));
}

#[test]
fn no_worker_starts_on_a_closed_buffer() {
    let buffer = Buffer::new(10);
    buffer.close();
    let error = watch("d").spawn(&buffer).unwrap_err();
    assert_eq!((error.kind(), error.worker()), (ErrorKind::State, None));
    assert!(error.to_string().contains("closed"), "{error}");
}

// Bounds

/// Reads `count` messages while another thread looks at the length; gives the greatest seen.
#[track_caller]
fn greatest_len(buffer: &Buffer, count: usize) -> usize {
    let greatest = AtomicUsize::new(0);
    let over = AtomicBool::new(false);
    let look = || greatest.fetch_max(buffer.len(), Ordering::Relaxed);
    let mut left = count;
    thread::scope(|threads| {
        threads.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                look();
            }
        });
        look();
        // No panic in here, or the other thread would never end.
        while left > 0
            && let Ok(Received::Some(batch)) = buffer.recv_batch_timeout(left.min(3), DEADLINE)
        {
            left -= batch.len();
            look();
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(left, 0, "messages that did not come");
    greatest.into_inner()
}

#[test]
fn capacity_is_never_exceeded() {
    const CAPACITY: usize = 7;
    let database = ground::shared().database("capacity");
    let start = now(watch(&database));
    insert_many(&database, 2000);
    let buffer = Buffer::new(CAPACITY);
    let _worker = spawn_ready(watch(&database).start_at(start), &buffer);
    wait_for_len(&buffer, CAPACITY);
    assert_eq!(greatest_len(&buffer, 2000), CAPACITY);
}

#[test]
fn capacity_holds_for_several_workers_together() {
    const CAPACITY: usize = 7;
    let database = ground::shared().database("together");
    let start = now(watch(&database));
    insert_many(&database, 500);
    let buffer = Buffer::new(CAPACITY);
    let _workers: Vec<_> =
        (0..4).map(|_| spawn_ready(watch(&database).start_at(start.clone()), &buffer)).collect();
    wait_for_len(&buffer, CAPACITY);
    assert_eq!(greatest_len(&buffer, 4 * 500), CAPACITY);
}

#[test]
fn a_capacity_of_nothing_is_one() {
    let database = ground::shared().database("nothing");
    let start = now(watch(&database));
    insert_many(&database, 20);
    let buffer = Buffer::new(0);
    let _worker = spawn_ready(watch(&database).start_at(start), &buffer);
    wait_for_len(&buffer, 1);
    assert_eq!(greatest_len(&buffer, 20), 1);
}

/// Documents of these sizes, and a worker that reads them into a buffer of 350,000 bytes.
fn sized(label: &str, sizes: impl IntoIterator<Item = usize>) -> (Buffer, Worker) {
    let database = ground::shared().database(label);
    let start = now(watch(&database));
    let documents = (0..).zip(sizes).map(|(id, size)| doc! { "_id": id, "text": "x".repeat(size) });
    collection(&database, "c").insert_many(documents).run().unwrap();
    let buffer = Buffer::with_max_bytes(100, 350_000);
    let worker = spawn_ready(watch(&database).start_at(start), &buffer);
    (buffer, worker)
}

#[test]
fn max_bytes_are_never_exceeded() {
    // Three fit, with what an event has beside its document; a fourth does not.
    let (buffer, _worker) = sized("max_bytes", [100_000; 30]);
    wait_for_len(&buffer, 3);
    assert_eq!(greatest_len(&buffer, 30), 3);
}

#[test]
fn a_message_larger_than_max_bytes_passes_alone() {
    const LARGE: [i32; 3] = [1, 3, 4];
    let (buffer, _worker) = sized("alone", [10, 500_000, 10, 500_000, 500_000, 10, 10]);
    let mut arrived = Vec::new();
    while arrived.len() < 7 {
        ground::wait_until(DEADLINE, "something is queued", || !buffer.is_empty());
        let queued = buffer.recv_batch(100).unwrap().expect("a batch");
        let ids: Vec<_> = queued.into_iter().map(|message| json_id(&message)).collect();
        assert!(
            ids.len() == 1 || !LARGE.iter().any(|large| ids.contains(&json!(large))),
            "{ids:?}"
        );
        arrived.extend(ids);
    }
    assert_eq!(arrived, [0, 1, 2, 3, 4, 5, 6]);
}

// Types

#[test]
fn everything_may_be_sent_to_and_shared_between_threads() {
    fn check<T: Send + Sync>() {}
    check::<Batch>();
    check::<Buffer>();
    check::<Error>();
    check::<ErrorKind>();
    check::<ExtendedJson>();
    check::<Format>();
    check::<FullDocument>();
    check::<Iter<'_>>();
    check::<Message>();
    check::<OptionInfo>();
    check::<Options>();
    check::<Received<Batch>>();
    check::<Received<Message>>();
    check::<Start>();
    check::<Waited>();
    check::<Watch>();
    check::<Worker>();
    check::<WorkerState>();
}
