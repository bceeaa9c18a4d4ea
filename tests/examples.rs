//! The Rust examples do what they say. (The C examples are run by `capi/tests/c_api.rs`.)

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use ground::mongodb::bson::{Document, doc};
use serde_json::Value;

const DEADLINE: Duration = Duration::from_secs(60);

/// cargo builds the examples beside the tests, unless it is told to build one test only.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile: PathBuf = test.ancestors().nth(2).unwrap().into();
    let path = profile.join("examples").join(name);
    assert!(path.exists(), "{} is missing: run cargo build --examples", path.display());
    Command::new(path)
}

#[test]
fn quickstart_shows_a_shops_changes_and_a_summary() {
    // It may have to fetch the server first.
    let output = ground::output(&mut example("quickstart"), 5 * DEADLINE);
    let (text, log) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(output.status.success(), "{log}");
    let changes: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |operation: &str| {
        changes.iter().filter(|change| change["OperationType"] == operation).count()
    };
    let counts = ["insert", "update", "replace", "delete"].map(count);
    assert_eq!(counts, [50, 40, 10, 8]);
    assert_eq!(changes.len(), 108);
    assert!(log.contains("108 changes"), "{log}");
}

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Whether a process ignores a signal (proc(5), `/proc/pid/status`).
fn ignores(process: &Child, signal: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() >> (signal - 1) & 1 != 0
}

#[test]
fn quickstart_follows_a_collection_until_it_is_interrupted() {
    let set = ground::shared();
    let database = set.database("quickstart");
    let mut process = example("quickstart")
        .args([set.uri(), &database, "orders"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let (sender, received) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    // It says nothing when it is ready: write until something comes.
    let orders = set.client().database(&database).collection::<Document>("orders");
    let line = ground::eventually(DEADLINE, || {
        orders.insert_one(doc! { "text": "hello" }).run().unwrap();
        received.recv_timeout(Duration::from_millis(50)).ok()
    });
    let change: Value = serde_json::from_str(&line).unwrap();
    assert_eq!(change["FullDocument"]["text"], "hello");
    // A shell that puts the tests in the background lets them, and so the example, ignore SIGINT.
    let signal = if ignores(&process, SIGINT) { SIGTERM } else { SIGINT };
    let kill = ["-s", &signal.to_string(), &process.id().to_string()];
    assert!(Command::new("kill").args(kill).status().unwrap().success());
    assert_eq!(ground::wait_for_end(&mut process, DEADLINE).signal(), Some(signal));
    reader.join().unwrap();
}

#[test]
fn a_program_without_a_logger_logs_to_standard_error_where_the_environment_asks_for_it() {
    let uri = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100";
    let mut program = example("quickstart");
    let output = program.args([uri, "shop", "orders"]).env("MONGOSTREAM_LOG", "debug").output();
    let log = String::from_utf8(output.unwrap().stderr).unwrap();
    assert!(log.contains("mongostream: debug: worker shop.orders: opening the stream"), "{log}");
    assert!(log.contains("mongostream: error: worker shop.orders: has failed: "), "{log}");
}

#[test]
fn quickstart_says_what_is_wrong() {
    for (arguments, code, text) in [
        (&["--help"][..], 2, "usage"),
        (&["a", "b", "c", "d"][..], 2, "usage"),
        (&["nonsense"][..], 1, "nonsense"),
    ] {
        let output = ground::output(example("quickstart").args(arguments), DEADLINE);
        assert_eq!(output.status.code(), Some(code));
        let log = String::from_utf8(output.stderr).unwrap();
        assert!(log.contains(text), "{log}");
    }
}
