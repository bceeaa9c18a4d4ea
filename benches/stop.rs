//! How long a worker takes from `stop` until `join` returns, without a checkpoint, and until the server has
//! forgotten its cursor: idle, and in the middle of a history.
//!
//! `cargo bench -p mongostream-benches --bench stop -- [--stops 200] [--json]`

mod support;

use std::time::{Duration, Instant};

use ground::mongodb::bson::doc;
use ground::{ReplicaSet, wait_until};
use mongostream::{Buffer, Start, Worker};
use support::{Arguments, history, quantile};

const DEADLINE: Duration = Duration::from_secs(20);

/// How many cursors the server has.
fn cursors(set: &ReplicaSet) -> i64 {
    let status = doc! { "serverStatus": 1 };
    let status = set.client().database("admin").run_command(status).run().unwrap();
    let metrics = status.get_document("metrics").unwrap();
    let open = metrics.get_document("cursor").unwrap().get_document("open").unwrap();
    open.get_i64("total").unwrap()
}

/// Two figures of one stop, in milliseconds.
struct Stop {
    joined: f64,
    forgotten: f64,
}

fn stop(set: &ReplicaSet, at: Option<u32>, cursors_before: i64) -> Stop {
    let buffer = Buffer::new(4096);
    let mut watch = Worker::watch(set.uri()).database(history::DATABASE);
    match at {
        Some(second) => watch = watch.collection(history::COLLECTION).start_at(Start::at(second)),
        None => watch = watch.collection("quiet"),
    }
    let worker = watch.spawn(&buffer).unwrap();
    worker.wait_ready().unwrap();
    if at.is_some() {
        // A reply has come, the next one is on its way.
        for _ in 0..5 {
            buffer.recv_batch(1000).unwrap().expect("the worker runs");
        }
    }
    let began = Instant::now();
    worker.stop();
    worker.join().unwrap();
    let joined = began.elapsed();
    wait_until(DEADLINE, "the cursor is gone", || cursors(set) <= cursors_before);
    let milliseconds = |time: Duration| time.as_secs_f64() * 1000.0;
    Stop { joined: milliseconds(joined), forgotten: milliseconds(began.elapsed()) }
}

fn main() {
    let Some(arguments) = Arguments::of_bench() else { return };
    let stops: usize = arguments.number("--stops", 200).max(1);
    let is_json = arguments.has("--json");
    let set = history::set_for(100_000);
    let second = history::write(&set, 100_000);
    let before = cursors(&set);
    let mut results = Vec::new();
    if !is_json {
        println!(
            "| {stops} stops | stop to join, ms: p50 | p99 | max | until the cursor is gone, ms: p50 | max |"
        );
        println!("|---|---|---|---|---|---|");
    }
    for (name, at) in [("idle", None), ("in a history", Some(second))] {
        let stops: Vec<Stop> = (0..stops).map(|_| stop(&set, at, before)).collect();
        let joined = |part| quantile(stops.iter().map(|stop| stop.joined), part);
        let forgotten = |part| quantile(stops.iter().map(|stop| stop.forgotten), part);
        if is_json {
            results.push(serde_json::json!({
                "case": name, "stops": stops.len(),
                "joined_ms": { "p50": joined(0.5), "p99": joined(0.99), "max": joined(1.0) },
                "cursor_gone_ms": { "p50": forgotten(0.5), "max": forgotten(1.0) },
            }));
        } else {
            println!(
                "| {name} | {:.2} | {:.2} | {:.2} | {:.1} | {:.1} |",
                joined(0.5),
                joined(0.99),
                joined(1.0),
                forgotten(0.5),
                forgotten(1.0)
            );
        }
    }
    if is_json {
        println!("{:#}", serde_json::Value::Array(results));
    }
}
