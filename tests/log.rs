//! What the library has to say comes through the `log` crate's facade, with the worker's name and
//! without a secret; and what the host's logger does is no harm to a worker.
//!
//! Alone in its binary: a process has one logger.

use std::any::Any;
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ground::mongodb::bson::doc;
use ground::{ReplicaSet, wait_until};
use log::{Level, LevelFilter, Log, Metadata, Record};
use mongostream::{Buffer, CheckpointStore, Start, StoreError, Waited, Watch, Worker, WorkerState};

const DEADLINE: Duration = Duration::from_secs(30);
const SECRET: &str = "hunter2";

#[derive(Clone, Debug)]
struct Line {
    /// The name of the thread that has logged it.
    thread: Option<String>,
    target: String,
    level: Level,
    text: String,
}

/// Keeps everything that is logged in this process, by the driver too.
struct Collector;

static LINES: Mutex<Vec<Line>> = Mutex::new(Vec::new());

impl Log for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        LINES.lock().unwrap().push(Line {
            thread: std::thread::current().name().map(str::to_owned),
            target: record.target().to_owned(),
            level: record.level(),
            text: text.clone(),
        });
        assert!(!text.starts_with("worker panics:"), "this logger panics");
    }

    fn flush(&self) {}
}

fn collect() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Collector).unwrap();
        log::set_max_level(LevelFilter::Trace);
    });
}

/// The lines of a worker, without its name, in their order.
fn lines(worker: &str) -> Vec<(Level, String)> {
    let begin = format!("worker {worker}: ");
    let all = LINES.lock().unwrap().clone();
    let lines = all.into_iter().filter_map(|line| {
        let rest = line.text.strip_prefix(&begin)?.to_owned();
        assert_eq!(line.target, "mongostream");
        // Never in a call of the host, which may hold what its logger waits for.
        let thread = line.thread.as_deref().unwrap_or_default();
        assert!(thread.starts_with("mongostream"), "{thread:?}: {}", line.text);
        Some((line.level, rest))
    });
    lines.collect()
}

#[track_caller]
fn assert_lines(worker: &str, expected: &[(Level, &str)]) {
    let found = lines(worker);
    let same = found.len() == expected.len()
        && found.iter().zip(expected).all(|((level, text), (expected_level, begin))| {
            level == expected_level && text.starts_with(begin)
        });
    assert!(same, "{found:#?}\nare not\n{expected:#?}");
}

fn start(watch: Watch, buffer: &Buffer) -> Worker {
    let worker = watch.spawn(buffer).unwrap();
    assert_eq!(worker.wait_ready_timeout(DEADLINE).unwrap(), Waited::Done);
    worker
}

fn stop(worker: &Worker) {
    worker.stop();
    assert_eq!(worker.join_timeout(DEADLINE).unwrap(), Waited::Done);
}

/// Keeps nothing, and refuses what it is told to.
#[derive(Clone, Default)]
struct Refusing {
    refuses: Arc<AtomicBool>,
    refused: Arc<AtomicUsize>,
}

impl CheckpointStore for Refusing {
    fn place(&self) -> String {
        "nowhere".to_owned()
    }

    fn claim(&self, _: &str) -> Result<Box<dyn Any + Send>, StoreError> {
        Ok(Box::new(()))
    }

    fn load(&self, _: &str) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    fn save(&self, _: &str, _: &str) -> Result<(), StoreError> {
        if self.refuses.load(Ordering::Relaxed) {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err("told to".into());
        }
        Ok(())
    }
}

#[test]
fn a_worker_tells_its_life_in_four_lines() {
    collect();
    let set = ground::shared();
    let database = set.database("log");
    let watch = Worker::watch(set.uri()).database(&database).collection("c");
    let buffer = Buffer::new(10);
    let worker = start(watch.option("name", "life"), &buffer);
    set.client().database(&database).collection("c").insert_one(doc! { "_id": 1 }).run().unwrap();
    assert!(buffer.recv().unwrap().is_some());
    stop(&worker);
    assert_lines(
        "life",
        &[
            (Level::Debug, "opening the stream from now"),
            (Level::Info, &format!("streaming {database}.c on mongodb://127.0.0.1:")),
            (Level::Debug, "was asked to stop"),
            (Level::Info, "has stopped"),
        ],
    );
}

#[test]
fn a_checkpoint_that_had_vanished_is_a_line_when_it_is_written_again() {
    collect();
    let set = ground::shared();
    let database = set.database("vanished");
    let file = std::env::temp_dir().join(format!("{database}.token"));
    let watch = Worker::watch(set.uri()).database(&database).collection("c");
    let watch = watch.option("name", "vanished").option("checkpoint_ms", "10");
    let buffer = Buffer::new(10);
    let worker = start(watch.option("checkpoint_file", &file.to_string_lossy()), &buffer);
    std::fs::remove_file(&file).unwrap();
    set.client().database(&database).collection("c").insert_one(doc! { "_id": 1 }).run().unwrap();
    buffer.recv().unwrap().unwrap().ack();
    let is_line =
        |(level, text): &(Level, String)| *level == Level::Warn && text.contains("had vanished");
    wait_until(DEADLINE, "a line", || lines("vanished").iter().any(is_line));
    assert!(file.exists());
    stop(&worker);
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_logger_takes_the_place_of_standard_error() {
    let this = std::env::current_exe().unwrap();
    let mut command = std::process::Command::new(this);
    command.args(["a_worker_tells_its_life_in_four_lines", "--exact", "--nocapture"]);
    let output = command.env("MONGOSTREAM_LOG", "debug").output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && !stderr.contains("mongostream: "), "{stderr}");
}

#[test]
fn a_start_in_the_future_is_a_warning_and_one_in_the_past_is_none() {
    collect();
    let set = ground::shared();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let now = u32::try_from(now).unwrap();
    for (name, seconds) in [("future", now + 3600), ("past", now - 1)] {
        let buffer = Buffer::new(10);
        let watch = Worker::watch(set.uri()).database(set.database("log"));
        let worker =
            watch.option("name", name).start_at(Start::at(seconds)).spawn(&buffer).unwrap();
        stop(&worker);
        let warnings: Vec<_> =
            lines(name).into_iter().filter(|(level, _)| *level == Level::Warn).collect();
        if name == "past" {
            assert_eq!(warnings, []);
        } else {
            let [(_, text)] = &warnings[..] else { panic!("{warnings:?}") };
            assert!(text.starts_with(&format!("start_at_time {seconds} lies 3")), "{text}");
        }
    }
}

/// The lines of a worker about collections that took the name of a watched one.
fn renames(worker: &str) -> Vec<String> {
    let lines = lines(worker).into_iter();
    let of_renames =
        lines.filter(|(level, text)| *level == Level::Warn && text.contains("renamed to"));
    of_renames.map(|(_, text)| text).collect()
}

#[test]
fn what_replaces_a_watched_collection_is_a_warning() {
    collect();
    let set = ground::shared();
    let database = set.database("renames");
    let client = set.client().database(&database);
    let orders = client.collection::<bson::Document>("orders");
    orders.insert_one(doc! { "_id": 0 }).run().unwrap();
    let watch = |name: &str| Worker::watch(set.uri()).database(&database).name(name);
    let name = |kind: &str| format!("{database} {kind}");
    let changes = ["insert", "update", "replace", "delete"];
    let buffer = Buffer::new(1000);
    let _workers = [
        start(watch(&name("one")).collection("orders").operations(changes), &buffer),
        start(watch(&name("listed")).namespaces(["orders"]).operations(changes), &buffer),
        start(watch(&name("all")), &buffer),
        start(watch(&name("others")).namespaces(["items"]), &buffer),
    ];
    // $out writes a collection of its own, which then takes the name.
    orders.aggregate([doc! { "$out": "orders" }]).run().unwrap();
    for kind in ["one", "listed"] {
        wait_until(DEADLINE, &format!("{kind} has warned"), || renames(&name(kind)).len() == 1);
        let line = renames(&name(kind)).remove(0);
        assert!(
            line.contains(&format!("renamed to {database}.orders, which is watched")),
            "{line}"
        );
        assert!(line.contains("$out") && line.contains("snapshot=initial"), "{line}");
    }
    orders.insert_one(doc! { "_id": 1 }).run().unwrap();
    // Who watches the database has seen the documents under their first name, and the rename.
    let mut left = vec![name("one"), name("listed"), name("all")];
    let mut renamed = 0;
    while !left.is_empty() {
        let message = buffer.recv_timeout(DEADLINE).unwrap().some().expect("a message");
        if message.operation() == "rename" {
            assert_eq!(message.worker(), name("all"), "nobody else has asked for it");
            renamed += 1;
        }
        if message.namespace() == format!("{database}.orders")
            && message.json().contains(r#""_id":1}"#)
        {
            left.retain(|worker| worker != message.worker());
        }
    }
    assert_eq!(renamed, 1);
    assert_eq!((renames(&name("all")), renames(&name("others"))), (vec![], vec![]));
}

#[test]
fn a_checkpoint_that_overrides_a_start_option_says_so() {
    collect();
    let set = ground::shared();
    let database = set.database("overrides");
    let directory = std::env::temp_dir().join(&database);
    std::fs::create_dir_all(&directory).unwrap();
    for (round, lines_of_it) in [(1, 0), (2, 1)] {
        let name = format!("{database} {round}");
        let watch = Worker::watch(set.uri()).database(&database).name(&name);
        let watch = watch.checkpoint_name("the same").start_at(Start::at(1_600_000_000));
        let store = mongostream::FileCheckpoint::new(directory.join("token"));
        let worker = start(watch.checkpoint(store), &Buffer::new(1));
        stop(&worker);
        let all = lines(&name);
        let told = all.iter().filter(|(level, text)| {
            *level == Level::Info && text.contains("overrides the option start_at_time")
        });
        assert_eq!(told.count(), lines_of_it, "start {round}");
    }
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn each_attempt_to_reconnect_is_one_line() {
    collect();
    let set = ReplicaSet::start().unwrap();
    let buffer = Buffer::new(10);
    let watch = Worker::watch(set.uri()).database("shop").await_time(Duration::from_millis(50));
    let worker = start(watch.option("name", "reconnects"), &buffer);
    // One getMore, and then four attempts to open the stream again.
    let _point = set
        .fail_point(doc! {
            "configureFailPoint": "failCommand", "mode": { "times": 5 },
            "data": { "failCommands": ["getMore", "aggregate"], "closeConnection": true },
        })
        .unwrap();
    wait_until(DEADLINE, "it streams again", || {
        lines("reconnects").iter().filter(|(_, text)| text.starts_with("streaming ")).count() == 2
    });
    assert_eq!(worker.state(), WorkerState::Streaming);
    let attempts = lines("reconnects");
    let attempts = &attempts[2..attempts.len() - 1];
    assert_eq!(attempts.len(), 5, "the break and four attempts in vain: {attempts:#?}");
    for (number, (level, text)) in attempts.iter().enumerate() {
        // One warning tells that it is broken; that it still is, is none.
        assert_eq!(*level, if number == 0 { Level::Warn } else { Level::Info }, "{text}");
        assert!(text.contains("; opening the stream again with startAfter in "), "{text}");
    }
}

#[test]
fn while_the_server_is_down_a_worker_speaks_once_an_attempt() {
    const WORKERS: usize = 8;
    /// How long the driver looks for a server, so at least how long an attempt takes.
    const ATTEMPT: Duration = Duration::from_secs(1);
    collect();
    let set = ReplicaSet::start().unwrap();
    let uri = set.uri_with(&format!("serverSelectionTimeoutMS={}", ATTEMPT.as_millis()));
    let buffer = Buffer::new(10);
    let names: Vec<String> = (0..WORKERS).map(|number| format!("down{number}")).collect();
    let _workers: Vec<Worker> = names
        .iter()
        .map(|name| start(Worker::watch(&uri).database("shop").option("name", name), &buffer))
        .collect();
    let killed = Instant::now();
    set.member(0).kill().unwrap();
    wait_until(DEADLINE, "all have tried five times in vain", || {
        names.iter().all(|name| lines(name).len() >= 2 + 6)
    });
    for name in &names {
        let lines = lines(name).split_off(2);
        // The break is told at once, and the next attempt may fail as soon, on a cleared connection.
        let attempts = killed.elapsed().as_millis() / ATTEMPT.as_millis() + 2;
        assert!(lines.len() as u128 <= attempts, "more than {attempts}: {lines:#?}");
        let warnings = lines.iter().filter(|(level, _)| *level == Level::Warn).count();
        assert_eq!(warnings, 1, "{lines:#?}");
    }
}

#[test]
fn a_checkpoint_that_cannot_be_saved_is_one_warning_until_it_can() {
    collect();
    let set = ground::shared();
    let database = set.database("log");
    let buffer = Buffer::new(10);
    let store = Refusing::default();
    let watch = Worker::watch(set.uri()).database(&database).option("name", "unsaved");
    let watch = watch.checkpoint(store.clone()).checkpoint_name("changes");
    let worker = start(watch.checkpoint_interval(Duration::from_millis(5)), &buffer);
    store.refuses.store(true, Ordering::Relaxed);
    set.client().database(&database).collection("c").insert_one(doc! { "_id": 1 }).run().unwrap();
    buffer.recv().unwrap().unwrap().ack();
    wait_until(DEADLINE, "it has tried in vain", || store.refused.load(Ordering::Relaxed) >= 5);
    store.refuses.store(false, Ordering::Relaxed);
    wait_until(DEADLINE, "it is saved", || {
        lines("unsaved").iter().any(|(_, text)| text.starts_with("the checkpoint is saved again"))
    });
    stop(&worker);
    assert_lines(
        "unsaved",
        &[
            (
                Level::Warn,
                "there is no checkpoint \"changes\" in nowhere yet: the stream begins now, and \
                 changes before now are not delivered",
            ),
            (Level::Debug, "opening the stream from now"),
            (Level::Info, "streaming "),
            (Level::Warn, "cannot save checkpoint \"changes\" in nowhere: told to"),
            (Level::Info, "the checkpoint is saved again"),
            (Level::Debug, "was asked to stop"),
            (Level::Info, "has stopped"),
        ],
    );
}

#[test]
fn no_line_has_a_credential() {
    collect();
    let set = ReplicaSet::builder().auth("root", SECRET).start().unwrap();
    let buffer = Buffer::new(10);
    let refused = set.uri().replace(SECRET, "hunter3");
    let unreachable =
        format!("mongodb://root:{SECRET}@127.0.0.1:1/?serverSelectionTimeoutMS=50&tls=true");
    for (name, uri) in [("refused", refused), ("unreachable", unreachable)] {
        let worker = Worker::watch(uri).option("name", name).spawn(&buffer).unwrap();
        let error = worker.join_timeout(DEADLINE).unwrap_err();
        assert_lines(
            name,
            &[
                (Level::Debug, "opening the stream from now"),
                (Level::Error, &format!("has failed: {error}")),
            ],
        );
    }
    let worker = start(Worker::watch(set.uri()).option("name", "accepted"), &buffer);
    set.member(0).kill().unwrap();
    wait_until(DEADLINE, "it is told", || {
        lines("accepted").iter().any(|(level, _)| *level == Level::Warn)
    });
    stop(&worker);
    // Not only ours: the driver speaks through the same facade.
    let all = LINES.lock().unwrap().clone();
    for line in all {
        assert!(!line.text.contains("hunter"), "{line:?}");
    }
}

#[test]
fn a_logger_that_panics_does_no_harm() {
    collect();
    let set = ground::shared();
    let buffer = Buffer::new(10);
    let watch = Worker::watch(set.uri()).database(set.database("log"));
    let worker = start(watch.option("name", "panics"), &buffer);
    stop(&worker);
    assert_eq!(lines("panics").len(), 4);
    assert_eq!(worker.state(), WorkerState::Stopped);
}

/// Nobody waits half a minute without a word: a line says why, and so do the statistics.
#[test]
fn the_first_start_tells_for_whom_it_waits() {
    collect();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let uri = format!("mongodb://{address}/?serverSelectionTimeoutMS=60000");
    for (name, with_checkpoint) in [("waits", false), ("waits for its checkpoint", true)] {
        let buffer = Buffer::new(10);
        let mut watch = Worker::watch(&uri).database("shop").name(name);
        if with_checkpoint {
            watch = watch.option("checkpoint_collection", "positions.all");
            watch = watch.checkpoint_name("orders");
        }
        let began = Instant::now();
        let worker = watch.spawn(&buffer).unwrap();
        let row = || buffer.stats().unwrap().workers.remove(0);
        wait_until(DEADLINE, "the statistics tell why", || row().last_error.is_some());
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        let row = row();
        assert_eq!(row.state, WorkerState::Starting);
        let error = row.last_error.unwrap();
        assert!(error.to_string().contains("nobody listens"), "{error}");
        assert_eq!(row.attempts, u64::from(!with_checkpoint));
        let lines = lines(name);
        let line = lines.iter().find(|(_, text)| text.starts_with("is not open after 3 s: "));
        let (level, text) = line.unwrap_or_else(|| panic!("no such line in {lines:?}"));
        assert_eq!(*level, Level::Warn);
        assert!(text.contains(&address) && text.contains("nobody listens"), "{text}");
        worker.stop();
        wait_until(DEADLINE, "it has stopped", || worker.state() == WorkerState::Stopped);
    }
}

#[test]
fn an_operation_type_that_nobody_knows_is_a_warning() {
    collect();
    let name = "unknown operation";
    let watch = Worker::watch(ground::shared().uri()).database("shop").name(name);
    let buffer = Buffer::new(10);
    let worker = watch.operations(["insert", "futureOperation"]).spawn(&buffer).unwrap();
    stop(&worker);
    let lines = lines(name);
    let (level, text) = &lines[0];
    assert_eq!(*level, Level::Warn);
    assert!(text.contains("\"futureOperation\""), "{text}");
    assert!(!lines.iter().any(|(_, text)| text.contains("\"insert\"")), "{lines:?}");
}

#[test]
fn a_database_that_the_uri_names_is_said() {
    collect();
    let name = "database of the URI";
    let uri = ground::shared().uri().replacen("/?", "/shop?", 1);
    let buffer = Buffer::new(10);
    let worker = start(Worker::watch(uri).name(name), &buffer);
    stop(&worker);
    let (level, text) = &lines(name)[0];
    assert!(*level == Level::Info && text.contains("database \"shop\""), "{level} {text}");
}
