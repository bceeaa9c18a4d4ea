//! What the library has to say comes through the `log` crate's facade, with the worker's name and
//! without a secret; and what the host's logger does is no harm to a worker.
//!
//! Alone in its binary: a process has one logger.

use std::sync::{Mutex, Once};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ground::mongodb::bson::doc;
use ground::{ReplicaSet, wait_until};
use log::{Level, LevelFilter, Log, Metadata, Record};
use mongostream::{Buffer, Start, Waited, Watch, Worker, WorkerState};

const DEADLINE: Duration = Duration::from_secs(30);
const SECRET: &str = "hunter2";

#[derive(Clone, Debug)]
struct Line {
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
        lines("reconnects").iter().filter(|(level, _)| *level == Level::Info).count() == 2
    });
    assert_eq!(worker.state(), WorkerState::Streaming);
    let attempts = lines("reconnects");
    let attempts = &attempts[2..attempts.len() - 1];
    assert_eq!(attempts.len(), 5, "the break and four attempts in vain: {attempts:#?}");
    for (level, text) in attempts {
        assert_eq!(*level, Level::Warn, "{text}");
        assert!(text.contains("; opening the stream again with startAfter in "), "{text}");
    }
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
