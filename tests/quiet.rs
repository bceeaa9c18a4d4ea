//! A quiet stream beside a busy one: the oplog rolls over its last event, and a restart from its
//! checkpoint goes on all the same, because tokens without events have moved the checkpoint.

mod support;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ground::mongodb::bson::{Document, Timestamp, doc};
use ground::{ReplicaSet, eventually, wait_until};
use mongostream::{Buffer, Received, Watch, Worker, WorkerState};
use serde_json::Value;

use support::{DEADLINE, cluster_time, id, next, spawn_ready, wait_for_state};

/// The program's name, and what it is told by: URI, option and value of the checkpoint.
const PROGRAM: &str = "the_program_that_is_killed";
const ARGUMENTS: [&str; 3] = ["MONGOSTREAM_URI", "MONGOSTREAM_PLACE", "MONGOSTREAM_VALUE"];

/// Where the checkpoint lies.
enum Place {
    File(PathBuf),
    Collection,
}

impl Place {
    /// A file in a directory of its own, which is removed in the end.
    fn file(label: &str) -> Self {
        let name = format!("mongostream-history-{label}-{}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Self::File(directory.join("quiet.token"))
    }

    fn option(&self) -> (&'static str, &str) {
        match self {
            Self::File(path) => ("checkpoint_file", path.to_str().unwrap()),
            Self::Collection => ("checkpoint_collection", "state.checkpoints"),
        }
    }

    fn text(&self, set: &ReplicaSet) -> Option<String> {
        match self {
            Self::File(path) => std::fs::read_to_string(path).ok(),
            Self::Collection => {
                let checkpoints = set.client().database("state").collection("checkpoints");
                let saved: Document = checkpoints.find_one(doc! {}).run().unwrap()?;
                saved.get_str("checkpoint").ok().map(str::to_owned)
            }
        }
    }

    /// The cluster time of the saved position.
    fn time(&self, set: &ReplicaSet) -> Option<Timestamp> {
        let saved: Value = serde_json::from_str(&self.text(set)?).ok()?;
        let number = |digits| u32::from_str_radix(digits, 16).unwrap();
        let data = saved["token"]["_data"].as_str().unwrap().strip_prefix("82").unwrap();
        Some(Timestamp { time: number(&data[..8]), increment: number(&data[8..16]) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Self::File(path) = self {
            let _ = std::fs::remove_dir_all(path.parent().unwrap_or(Path::new("/nonexistent")));
        }
    }
}

fn watch(uri: &str, (option, value): (&str, &str)) -> Watch {
    Worker::watch(uri)
        .database("shop")
        .collection("quiet")
        .option(option, value)
        .checkpoint_interval(Duration::from_millis(5))
        .await_time(Duration::from_millis(20))
}

/// One node with an oplog of 1 MB, which it trims as soon as it has been told what is durable.
fn small_oplog() -> ReplicaSet {
    ReplicaSet::builder().args(["--oplogSize", "1", "--syncdelay", "1"]).start().unwrap()
}

/// Returns the cluster time of the last one's event.
fn insert_quietly(set: &ReplicaSet, ids: std::ops::Range<i32>) -> Timestamp {
    let documents: Vec<Document> = ids.map(|id| doc! { "_id": id }).collect();
    let insert = doc! { "insert": "quiet", "documents": documents };
    let reply = set.client().database("shop").run_command(insert).run().unwrap();
    reply.get_timestamp("operationTime").unwrap()
}

/// When the oldest entry of the oplog was made.
fn oldest(set: &ReplicaSet) -> Timestamp {
    let oplog = set.client().database("local").collection::<Document>("oplog.rs");
    // It fails when the server trims the oplog just where it is read.
    let first = || oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).run().ok().flatten();
    eventually(DEADLINE, first).get_timestamp("ts").unwrap()
}

/// Fills the oplog from another collection until it no longer holds `event`. No faster than the
/// checkpoint follows: a stream that has fallen behind is another matter.
fn roll_over(set: &ReplicaSet, event: Timestamp, place: &Place) {
    let busy = doc! { "insert": "busy", "documents": [{ "text": "x".repeat(500_000) }] };
    let shop = set.client().database("shop");
    wait_until(2 * DEADLINE, "the oplog has rolled over the quiet stream's last event", || {
        let reply = shop.run_command(busy.clone()).run().unwrap();
        let written = reply.get_timestamp("operationTime").unwrap();
        wait_until(DEADLINE, "the checkpoint follows the oplog", || {
            place.time(set).is_some_and(|saved| saved >= written)
        });
        oldest(set) > event
    });
}

/// Everything behind the quiet stream's last event, and nothing before it.
fn restarts(set: &ReplicaSet, event: Timestamp, place: &Place) {
    assert!(oldest(set) > event, "the oplog still holds the last event");
    insert_quietly(set, 1..4);
    let buffer = Buffer::new(10);
    let worker = spawn_ready(watch(set.uri(), place.option()), &buffer);
    for expected in 1..4 {
        assert_eq!(id(&next(&buffer)), expected);
    }
    insert_quietly(set, 4..5);
    assert_eq!(id(&next(&buffer)), 4);
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
    wait_for_state(&worker, WorkerState::Streaming);
}

fn stops_and_restarts(place: &Place) {
    let set = small_oplog();
    let buffer = Buffer::new(10);
    let worker = spawn_ready(watch(set.uri(), place.option()), &buffer);
    let event = insert_quietly(&set, 0..1);
    let message = next(&buffer);
    assert_eq!(cluster_time(&message), event);
    message.ack();
    roll_over(&set, event, place);
    worker.stop();
    worker.join().unwrap();
    drop(worker);
    restarts(&set, event, place);
}

#[test]
fn a_quiet_stream_that_was_stopped_goes_on_from_its_file() {
    stops_and_restarts(&Place::file("stopped"));
}

#[test]
fn a_quiet_stream_that_was_stopped_goes_on_from_its_collection() {
    stops_and_restarts(&Place::Collection);
}

/// This test binary again, as a program with one worker. Killed when dropped.
struct Program(Child);

impl Program {
    fn start(set: &ReplicaSet, place: &Place) -> Self {
        let (option, value) = place.option();
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args(["--exact", PROGRAM, "--ignored"]);
        program.envs(ARGUMENTS.into_iter().zip([set.uri(), option, value]));
        Self(program.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    /// SIGKILL.
    fn kill(&mut self) {
        assert!(self.0.try_wait().unwrap().is_none(), "it has ended by itself");
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Follows and acknowledges until it is killed, or its parent is gone.
#[test]
#[ignore = "it is a program that other tests start"]
fn the_program_that_is_killed() {
    let Ok(arguments) = ARGUMENTS.into_iter().map(std::env::var).collect::<Result<Vec<_>, _>>()
    else {
        return;
    };
    let [uri, option, value] = &arguments[..] else { unreachable!() };
    let buffer = Buffer::new(10);
    let _worker = spawn_ready(watch(uri, (option, value)), &buffer);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::stdin().read_line(&mut String::new());
            buffer.close();
        });
        for message in &buffer {
            message.unwrap().ack();
        }
    });
}

fn is_killed_and_restarts(place: &Place) {
    let set = small_oplog();
    let mut program = Program::start(&set, place);
    // Its stream is open once its checkpoint is there.
    eventually(DEADLINE, || place.time(&set));
    let event = insert_quietly(&set, 0..1);
    roll_over(&set, event, place);
    program.kill();
    restarts(&set, event, place);
}

#[test]
fn a_quiet_stream_that_was_killed_goes_on_from_its_file() {
    is_killed_and_restarts(&Place::file("killed"));
}

#[test]
fn a_quiet_stream_that_was_killed_goes_on_from_its_collection() {
    is_killed_and_restarts(&Place::Collection);
}
