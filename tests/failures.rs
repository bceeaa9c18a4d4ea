//! A mistake is reported where it is made. A failure on a worker's thread comes through the buffer:
//! once, behind the worker's messages, with the worker's name; and no error shows a secret.

mod support;

use std::collections::HashSet;
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::sync::Collection;
use ground::{ReplicaSet, Standalone};
use mongostream::{Buffer, Error, ErrorKind, Received, Waited, Watch, Worker, WorkerState};

use support::{
    DEADLINE, assert_ready, failure, id, is_closed, next, spawn_ready, wait_for_len,
    wait_for_state, watch_collection, watch_database,
};

/// How long the driver looks for a server where the URI says nothing.
const SERVER_SELECTION: Duration = Duration::from_secs(30);

#[track_caller]
fn assert_same(found: &Error, expected: &Error) {
    assert_eq!(format!("{found:?}"), format!("{expected:?}"));
}

/// Receives the failure of the only worker of a buffer, and checks all that must then hold.
#[track_caller]
fn only_failure(worker: &Worker, buffer: &Buffer) -> Error {
    let error = failure(buffer);
    assert_eq!(error.worker(), Some(worker.name()), "{error}");
    assert!(is_closed(buffer), "it is given once, and then nothing more can come");
    assert!(buffer.recv().unwrap().is_none());
    assert_eq!(worker.state(), WorkerState::Failed);
    assert_same(&worker.join_timeout(DEADLINE).unwrap_err(), &error);
    error
}

/// The same for a worker that has never been ready.
#[track_caller]
fn only_failure_at_open(worker: &Worker, buffer: &Buffer) -> Error {
    let error = only_failure(worker, buffer);
    assert_same(&worker.wait_ready_timeout(DEADLINE).unwrap_err(), &error);
    assert_same(&worker.wait_ready().unwrap_err(), &error);
    error
}

/// A port of this machine on which nobody listens.
fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A worker that fails as soon as a document with `poison: 0` is inserted, at no sooner event: the
/// server cannot divide by it. Nothing on the server needs to be disturbed for that.
fn poisonable(uri: &str, database: &str) -> Watch {
    let quotient = doc! { "$divide": [1, { "$ifNull": ["$fullDocument.poison", 1] }] };
    Worker::watch(uri)
        .database(database)
        .collection("orders")
        .pipeline([doc! { "$match": { "$expr": { "$ne": [quotient, 0] } } }])
}

fn poison(orders: &Collection<Document>) {
    orders.insert_one(doc! { "_id": -1, "poison": 0 }).run().unwrap();
}

fn orders(set: &ReplicaSet, database: &str) -> Collection<Document> {
    set.client().database(database).collection("orders")
}

const SECRET: &str = "hunter2";

#[test]
fn a_bad_uri_is_refused_at_the_start() {
    let buffer = Buffer::new(10);
    for (uri, named) in [
        ("", "\"\""),
        ("localhost", "\"localhost\""),
        ("http://user:hunter2@host/", "http://host"),
        ("mongodb://", "mongodb://"),
        ("mongodb:///shop", "mongodb://"),
        ("mongodb://user:hunter2@", "mongodb://"),
        ("mongodb://user:hunter2@host:99999/", "99999"),
        ("mongodb://user:hunter2@host:0/", "port"),
        ("mongodb://user:hunter2@host:port/", "port"),
        ("mongodb://user:hunter2@host,,other/", "host"),
        ("mongodb://user:hunter2@host/?w", "key=value"),
        ("mongodb://user:hunter2@host/?w=-7", "`w`"),
        ("mongodb://user:hunter2@host/?tls=perhaps", "tls"),
        ("mongodb://user:hunter2@host/?serverSelectionTimeoutMS=soon", "serverselectiontimeoutms"),
        ("mongodb://user:hunter2@host/?readPreference=fastest", "fastest"),
        ("mongodb://user:hunter2@host/?authMechanism=NONE", "NONE"),
        ("mongodb://user:hunter2@host/?w=1&w=2", "repeated"),
        ("mongodb://user:hunter2@host/?socketTimeoutMS=1000", "leave it out"),
        ("mongodb://user:hunter2@host/?ssl_ca_certs=hunter2", "use tlsCAFile"),
        ("mongodb://user:hunter2@host/?authMechanism=GSSAPI", "GSSAPI is not supported"),
        ("mongodb://user:hun/ter2@host/", "percent-encode"),
        ("mongodb://user:hun@ter2@host/", "percent-encode"),
        ("mongodb://user:hun:ter2@host/", "percent-encode"),
        ("mongodb://user:hun%ter2@host/", "percent-encode"),
        // Beyond the syntax, but nothing that would need a server.
        ("mongodb://user:hunter2@one,two/?directConnection=true", "direct"),
        ("mongodb://user:hunter2@host/?heartbeatFrequencyMS=100", "heartbeat"),
        ("mongodb://user:hunter2@host/?maxPoolSize=0", "maxPoolSize"),
        ("mongodb://user:hunter2@host/?loadBalanced=true&replicaSet=x", "replica"),
        ("mongodb://user:hunter2@host/?tls=true&tlsCAFile=/no/such/file", "No such file"),
        ("mongodb+srv://user:hunter2@host.example:27017/", "port"),
        ("mongodb+srv://user:hunter2@one.example,two.example/", "mongodb+srv"),
        ("mongodb+srv://user:hunter2@one.example/?directConnection=true", "directConnection"),
        ("mongodb+srv://", "mongodb+srv"),
    ] {
        let error = Worker::watch(uri).spawn(&buffer).expect_err(uri);
        let text = error.to_string();
        assert_eq!(error.kind(), ErrorKind::Argument, "{uri}: {text}");
        assert_eq!(error.worker(), None, "{uri}");
        assert!(!error.is_retriable(), "{uri}");
        assert_eq!(error.server_code(), 0, "{uri}");
        assert!(text.contains(named), "{uri}: no {named:?} in {text:?}");
        for secret in ["hunter", "hun", "ter2"] {
            assert!(!format!("{text} {error:?}").contains(secret), "{uri}: {error:?}");
        }
    }
    // A mistake is the caller's: nothing of it comes through the buffer.
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

#[test]
fn a_bad_namespace_is_refused_at_the_start() {
    let buffer = Buffer::new(10);
    let long = "x".repeat(64);
    for (database, collection, named) in [
        (Some(""), None, "database name"),
        (Some("sh.op"), None, "sh.op"),
        (Some("sh op"), None, "sh op"),
        (Some("sh/op"), None, "sh/op"),
        (Some("sh\\op"), None, "database name"),
        (Some("sh\"op"), None, "database name"),
        (Some("sh\0op"), None, "database name"),
        (Some(long.as_str()), None, "63"),
        (None, Some("orders"), "database"),
        (Some("shop"), Some(""), "collection name"),
        (Some("shop"), Some("or$ders"), "or$ders"),
        (Some("shop"), Some("or\0ders"), "collection name"),
        (Some("shop"), Some(".orders"), ".orders"),
        (Some("shop"), Some("system.$cmd"), "$cmd"),
    ] {
        let mut watch = Worker::watch("mongodb://127.0.0.1");
        if let Some(database) = database {
            watch = watch.database(database);
        }
        if let Some(collection) = collection {
            watch = watch.collection(collection);
        }
        let error = watch.spawn(&buffer).expect_err(named);
        assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
        assert_eq!(error.worker(), None);
        assert!(error.to_string().contains(named), "no {named:?} in {error}");
    }
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

#[test]
fn options_that_exclude_each_other_are_refused_at_the_start() {
    let buffer = Buffer::new(10);
    let starts = [
        ("start_at_time", "1700000000"),
        ("resume_after", r#"{"_data": "82"}"#),
        ("start_after", r#"{"_data": "82"}"#),
    ];
    for (first, value) in starts {
        for (second, other) in starts.into_iter().filter(|(name, _)| *name != first) {
            let watch = Worker::watch("mongodb://127.0.0.1");
            let watch = watch.option(first, value).option(second, other);
            let error = watch.spawn(&buffer).expect_err(first);
            assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
            assert_eq!(error.worker(), None);
            let text = error.to_string();
            assert!(text.contains(first) && text.contains(second), "{text}");
        }
    }
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

#[test]
fn a_bad_option_is_refused_at_the_start() {
    let buffer = Buffer::new(10);
    for (name, value, named) in [
        ("colour", "red", "colour"),
        ("retry_ms", "soon", "retry_ms"),
        ("batch_size", "0", "batch_size"),
        ("start_at_time", "1700000000000", "milliseconds"),
        ("pipeline", "{}", "pipeline"),
        ("resume_after", "82", "resume_after"),
    ] {
        let watch = Worker::watch("mongodb://127.0.0.1").option(name, value);
        // A good one behind it does not hide the mistake.
        let error = watch.option("batch_size", "10").spawn(&buffer).expect_err(name);
        assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
        assert!(error.to_string().contains(named), "no {named:?} in {error}");
    }
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

#[test]
fn a_buffer_works_after_a_refused_start() {
    let set = ground::shared();
    let database = set.database("refused");
    let buffer = Buffer::new(10);
    for uri in ["nonsense", "mongodb://"] {
        let refused = Worker::watch(uri).spawn(&buffer);
        assert_eq!(refused.expect_err(uri).kind(), ErrorKind::Argument);
    }
    let worker = spawn_ready(watch_database(&database), &buffer);
    orders(set, &database).insert_one(doc! { "_id": 1 }).run().unwrap();
    assert_eq!(id(&next(&buffer)), 1);
    worker.stop();
    // The refused ones do not count as running.
    assert!(is_closed(&buffer));
}

#[test]
fn an_unreachable_server_fails_the_worker_after_server_selection() {
    let address = format!("127.0.0.1:{}", closed_port());
    let uri = format!("mongodb://{address}/?serverSelectionTimeoutMS=500");
    let buffer = Buffer::new(10);
    let began = Instant::now();
    let worker = Worker::watch(uri).database("shop").name("lonely").spawn(&buffer).unwrap();
    assert!(began.elapsed() < Duration::from_millis(400), "a start waits for no server");
    let error = only_failure_at_open(&worker, &buffer);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(500), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(error.worker(), Some("lonely"));
    assert_eq!(error.kind(), ErrorKind::Connect);
    assert_eq!(error.server_code(), 0);
    assert!(error.is_retriable());
    let text = error.to_string();
    assert!(text.contains(&address), "{text}");
    assert!(text.contains("check that the servers run"), "{text}");
}

#[test]
fn a_server_that_dies_before_the_first_open_fails_the_worker() {
    let set = ReplicaSet::start().unwrap();
    let uri = set.uri_with("serverSelectionTimeoutMS=1000");
    // It takes connections and answers nothing, so the worker is at it when the server dies.
    set.member(0).pause().unwrap();
    let buffer = Buffer::new(10);
    let began = Instant::now();
    let worker = Worker::watch(uri).database("shop").spawn(&buffer).unwrap();
    drop(set);
    let error = only_failure_at_open(&worker, &buffer);
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(began.elapsed() >= Duration::from_secs(1), "it tries as long as it was told");
    assert!(error.is_retriable());
}

#[test]
fn refused_credentials_fail_the_worker_at_once() {
    let set = ReplicaSet::builder().auth("root", SECRET).start().unwrap();
    // No role at all.
    let create = doc! { "createUser": "guest", "pwd": "guest", "roles": [] };
    set.client().database("admin").run_command(create).run().unwrap();
    let with = |credentials: &str| set.uri().replace(&format!("root:{SECRET}"), credentials);
    for (uri, code, advice) in [
        (with("root:hunter3"), 18, "password"),
        (with("nobody:hunter3"), 18, "password"),
        (with("guest:guest"), 13, "changeStream"),
    ] {
        let buffer = Buffer::new(10);
        let began = Instant::now();
        let worker = Worker::watch(&uri).database("shop").spawn(&buffer).unwrap();
        let error = only_failure_at_open(&worker, &buffer);
        assert!(began.elapsed() < SERVER_SELECTION / 3, "{:?}: {error}", began.elapsed());
        assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
        assert_eq!(error.server_code(), code, "{error}");
        assert!(!error.is_retriable(), "{error}");
        let text = error.to_string();
        assert!(text.contains(set.member(0).address()), "{text}");
        assert!(text.contains(advice), "no {advice:?} in {text}");
        assert!(!format!("{text} {error:?} {worker:?}").contains("hunter"), "{error:?}");
    }
    // What they lack is only this.
    let buffer = Buffer::new(10);
    let _worker = spawn_ready(Worker::watch(set.uri()).database("shop"), &buffer);
}

#[test]
fn credentials_for_a_server_without_users_fail_the_worker_at_once() {
    let set = ground::shared();
    let uri = set.uri().replace("mongodb://", "mongodb://user:hunter2@");
    let buffer = Buffer::new(10);
    let began = Instant::now();
    let worker = Worker::watch(uri).database("shop").spawn(&buffer).unwrap();
    let error = only_failure_at_open(&worker, &buffer);
    assert!(began.elapsed() < SERVER_SELECTION / 3, "{:?}: {error}", began.elapsed());
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
}

#[test]
fn a_standalone_server_fails_the_worker_at_once() {
    let server = Standalone::start().unwrap();
    let buffer = Buffer::new(10);
    let began = Instant::now();
    let worker = Worker::watch(server.uri()).database("shop").spawn(&buffer).unwrap();
    let error = only_failure_at_open(&worker, &buffer);
    assert!(began.elapsed() < SERVER_SELECTION / 3, "{:?}", began.elapsed());
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    assert_eq!(error.server_code(), 40573, "{error}");
    assert!(error.to_string().contains("replica set"), "{error}");
    assert!(!error.is_retriable());
}

/// What the server refuses to open.
fn refused(database: &str, change: impl FnOnce(Watch) -> Watch) -> Error {
    let buffer = Buffer::new(10);
    let watch = watch_collection(database, "orders");
    let worker = change(watch).spawn(&buffer).unwrap();
    let error = only_failure_at_open(&worker, &buffer);
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    assert!(!error.is_retriable(), "{error}");
    let text = error.to_string();
    assert!(text.contains(&format!("code {}", error.server_code())), "{text}");
    error
}

#[test]
fn a_bad_pipeline_stage_fails_the_worker() {
    let stage = |stage| refused("pipeline", |watch| watch.pipeline([stage]));
    let error = stage(doc! { "$nonsense": 1 });
    assert_eq!(error.server_code(), 40324);
    assert!(error.to_string().contains("$nonsense"), "{error}");
    // IllegalOperation: a stage that change streams do not allow.
    assert_eq!(stage(doc! { "$group": { "_id": 1 } }).server_code(), 20);
}

#[test]
fn a_bad_resume_token_fails_the_worker() {
    // Not hexadecimal; hexadecimal, but no key; no token at all.
    let tokens = [
        r#"{"_data": "zz"}"#,
        r#"{"_data": "00ff"}"#,
        r#"{"_data": "82"}"#,
        r#"{"_data": ""}"#,
        r#"{"_data": 1}"#,
        r#"{"when": 1}"#,
    ];
    for token in tokens {
        for option in ["resume_after", "start_after"] {
            let error = refused("token", |watch| watch.option(option, token));
            assert_ne!(error.server_code(), 0, "{token}: {error}");
            assert!(error.to_string().contains(option), "{token}: {error}");
        }
    }
}

#[test]
fn resume_after_an_invalidate_fails_the_worker() {
    let set = ground::shared();
    let database = set.database("invalid");
    let buffer = Buffer::new(10);
    let _worker = spawn_ready(watch_collection(&database, "orders"), &buffer);
    orders(set, &database).insert_one(doc! { "_id": 1 }).run().unwrap();
    orders(set, &database).drop().run().unwrap();
    let operations = ["insert", "drop", "invalidate"];
    let messages = operations.map(|operation| {
        let message = next(&buffer);
        assert_eq!(message.operation(), operation);
        message
    });
    let token = messages[2].resume_token().unwrap();
    let error = refused(&database, |watch| watch.option("resume_after", token));
    assert_eq!(error.server_code(), 260, "{error}");
    assert!(error.to_string().contains("start_after"), "{error}");
}

#[test]
fn a_failure_comes_behind_the_messages_read_before() {
    let set = ground::shared();
    let database = set.database("behind");
    let buffer = Buffer::new(10);
    let worker = spawn_ready(poisonable(set.uri(), &database).name("poisoned"), &buffer);
    let orders = orders(set, &database);
    orders.insert_many((1..=3).map(|id| doc! { "_id": id })).run().unwrap();
    wait_for_len(&buffer, 3);
    poison(&orders);
    wait_for_state(&worker, WorkerState::Failed);
    let join = worker.join_timeout(DEADLINE).unwrap_err();
    for expected in 1..=3 {
        assert_eq!(id(&next(&buffer)), expected);
    }
    let error = only_failure(&worker, &buffer);
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    assert_ne!(error.server_code(), 0, "{error}");
    assert_eq!(error.worker(), Some("poisoned"));
    assert_same(&join, &error);
    // Latched: it was ready once.
    assert_ready(&worker);
}

#[test]
fn a_failure_does_not_wait_for_room() {
    let set = ground::shared();
    let database = set.database("room");
    let buffer = Buffer::new(1);
    let worker = spawn_ready(poisonable(set.uri(), &database), &buffer);
    let orders = orders(set, &database);
    orders.insert_one(doc! { "_id": 1 }).run().unwrap();
    wait_for_len(&buffer, 1);
    poison(&orders);
    // Nobody has received anything.
    wait_for_state(&worker, WorkerState::Failed);
    assert_eq!(buffer.len(), 1);
    assert_eq!(id(&next(&buffer)), 1);
    only_failure(&worker, &buffer);
}

#[test]
fn a_failure_waits_for_the_messages_that_wait_for_room() {
    let set = ground::shared();
    let database = set.database("waiting");
    let buffer = Buffer::new(1);
    let worker = spawn_ready(poisonable(set.uri(), &database), &buffer);
    let orders = orders(set, &database);
    orders.insert_many((1..=5).map(|id| doc! { "_id": id })).run().unwrap();
    // Behind the first all five are read: they are one reply.
    wait_for_len(&buffer, 1);
    poison(&orders);
    for expected in 1..=5 {
        assert_eq!(id(&next(&buffer)), expected);
    }
    only_failure(&worker, &buffer);
}

#[test]
fn a_failure_does_not_disturb_other_workers() {
    let set = ground::shared();
    let database = set.database("others");
    let buffer = Buffer::new(10);
    let good = spawn_ready(watch_database(&database).name("good"), &buffer);
    let orders = orders(set, &database);
    for round in 0..2 {
        let bad = watch_database(&database).name("bad");
        let bad = bad.pipeline([doc! { "$nonsense": 1 }]).spawn(&buffer).unwrap();
        let error = failure(&buffer);
        assert_eq!(error.worker(), Some("bad"));
        assert_same(&bad.join_timeout(DEADLINE).unwrap_err(), &error);
        assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)), "still open, and only once");
        assert_eq!(good.state(), WorkerState::Streaming);
        orders.insert_one(doc! { "_id": round }).run().unwrap();
        let message = next(&buffer);
        assert_eq!((message.worker(), id(&message)), ("good", round));
    }
    good.stop();
    assert!(is_closed(&buffer));
    assert_eq!(good.join_timeout(DEADLINE).unwrap(), Waited::Done);
}

#[test]
fn each_failure_is_given_to_one_consumer() {
    const WORKERS: usize = 6;
    let buffer = Buffer::new(10);
    let consumers: Vec<_> = (0..3)
        .map(|_| {
            let buffer = buffer.clone();
            thread::spawn(move || {
                let mut names = Vec::new();
                loop {
                    match buffer.recv_timeout(DEADLINE) {
                        Err(error) => names.push(error.worker().unwrap().to_owned()),
                        Ok(Received::Closed) => return names,
                        other => panic!("{other:?}"),
                    }
                }
            })
        })
        .collect();
    // Keeps the buffer open until all have failed.
    let set = ground::shared();
    let keeper = watch_database(&set.database("keeper")).spawn(&buffer).unwrap();
    let bad: Vec<Worker> = (0..WORKERS)
        .map(|number| {
            let bad = Worker::watch(set.uri()).database("shop").name(&format!("bad {number}"));
            bad.pipeline([doc! { "$nonsense": 1 }]).spawn(&buffer).unwrap()
        })
        .collect();
    for worker in &bad {
        worker.join_timeout(DEADLINE).unwrap_err();
    }
    keeper.stop();
    let names: Vec<String> =
        consumers.into_iter().flat_map(|consumer| consumer.join().unwrap()).collect();
    assert_eq!(names.len(), WORKERS, "{names:?}");
    let different: HashSet<&str> = names.iter().map(String::as_str).collect();
    assert_eq!(different.len(), WORKERS, "{names:?}");
}

#[test]
fn the_last_failure_ends_the_loop_over_a_buffer() {
    let set = ground::shared();
    let buffer = Buffer::new(10);
    let _workers = ["one", "two"].map(|name| {
        let bad = Worker::watch(set.uri()).database("shop").name(name);
        bad.pipeline([doc! { "$nonsense": 1 }]).spawn(&buffer).unwrap()
    });
    let failed: HashSet<String> =
        buffer.iter().map(|item| item.unwrap_err().worker().unwrap().to_owned()).collect();
    assert_eq!(failed.len(), 2, "{failed:?}");
    // It opens again for another worker.
    let database = set.database("again");
    let _good = spawn_ready(watch_database(&database), &buffer);
    orders(set, &database).insert_one(doc! { "_id": 1 }).run().unwrap();
    assert_eq!(id(&next(&buffer)), 1);
}

#[test]
fn retry_ms_ends_the_attempts_to_reconnect() {
    let set = ReplicaSet::start().unwrap();
    let address = set.member(0).address().to_owned();
    let buffer = Buffer::new(10);
    let worker = Worker::watch(set.uri_with("serverSelectionTimeoutMS=300"))
        .database("shop")
        .option("retry_ms", "500")
        .spawn(&buffer)
        .unwrap();
    assert_ready(&worker);
    orders(&set, "shop").insert_one(doc! { "_id": 1 }).run().unwrap();
    assert_eq!(id(&next(&buffer)), 1);
    let began = Instant::now();
    drop(set);
    wait_for_state(&worker, WorkerState::Reconnecting);
    let error = only_failure(&worker, &buffer);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(500), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert!(error.is_retriable());
    assert!(error.to_string().contains(&address), "{error}");
}

#[test]
fn no_error_and_no_debug_output_shows_a_secret() {
    let port = closed_port();
    let quick = "serverSelectionTimeoutMS=1";
    for uri in [
        format!("mongodb://user:hunter2@127.0.0.1:{port}/?{quick}"),
        format!("mongodb://user:hunter%32@127.0.0.1:{port}/?{quick}"),
        format!("mongodb://user:hunter2@127.0.0.1:{port},127.0.0.1:{port}/?{quick}"),
        format!(
            "mongodb://user:hunter2@127.0.0.1:{port}/?authMechanism=PLAIN&authSource=$external&tls=true&{quick}"
        ),
        format!(
            "mongodb://127.0.0.1:{port}/?tls=true&tlsCertificateKeyFile=/none&tlsCertificateKeyFilePassword=hunter2&{quick}"
        ),
        format!("mongodb://user:hunter2@127.0.0.1:{port},/?{quick}"),
        format!("mongodb://user:hun@ter2@127.0.0.1:{port}/?{quick}"),
        format!("mongodb://user:hunter2@127.0.0.1:{port}/?w=-1&{quick}"),
        "user:hunter2@127.0.0.1".to_owned(),
    ] {
        let buffer = Buffer::new(10);
        let watch = Worker::watch(&uri).database("shop");
        let mut shown = format!("{watch:?} {watch:#?}");
        let error = match watch.spawn(&buffer) {
            Ok(worker) => {
                shown += &format!("{worker:?} {buffer:?}");
                only_failure_at_open(&worker, &buffer)
            }
            Err(error) => error,
        };
        shown += &format!("{error} {error:?} {error:#?}");
        for secret in ["hunter", "hun@", "ter2"] {
            assert!(!shown.contains(secret), "{uri}: {shown}");
        }
        assert!(shown.contains("127.0.0.1"), "{uri}: {shown}");
    }
}
