//! How long after the write an event is there, at 500 and 5,000 writes a second: mongostream from C with
//! JSON, and libmongoc in a tight loop without, where its headers are installed; in rounds that take turns.
//!
//! `cargo bench -p mongostream-benches --bench latency -- [--seconds 10] [--rounds 6] [--only 500,5000] [--json]`

#[path = "../support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use ground::ReplicaSet;
use ground::mongodb::bson::{Document, doc};
use support::programs::{c, root};
use support::{Arguments, median};

const DATABASE: &str = "bench";
const WRITERS: u32 = 16;
const RATES: [u32; 2] = [500, 5000];

/// Writes documents that hold the time at which they were sent, evenly spread over the time.
fn write(set: &ReplicaSet, collection: &str, rate: u32, count: u32) {
    let began = Instant::now();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let collection = set.client().database(DATABASE).collection::<Document>(collection);
                for turn in (writer..count).step_by(WRITERS as usize) {
                    let due = began + Duration::from_secs(1) * turn / rate;
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
                    let document = doc! { "sent": now.as_nanos() as i64, "text": "x".repeat(200) };
                    collection.insert_one(document).run().unwrap();
                }
            });
        }
    });
}

/// Median and 99th percentile of one run, in milliseconds, and how many writes a second there were.
#[derive(Clone, Copy)]
struct Run {
    p50: f64,
    p99: f64,
    rate: f64,
}

fn measure(set: &ReplicaSet, program: &Path, collection: &str, rate: u32, seconds: u32) -> Run {
    let count = rate * seconds;
    let mut child = Command::new(program)
        .args([set.uri(), DATABASE, collection, &count.to_string()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().expect("a line").unwrap(), "ready");
    let began = Instant::now();
    write(set, collection, rate, count);
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    let line = lines.next().expect("a result").unwrap();
    let figures: Vec<f64> = line.split(' ').map(|figure| figure.parse().unwrap()).collect();
    assert!(child.wait().unwrap().success());
    Run { p50: figures[0], p99: figures[1], rate }
}

fn main() {
    let Some(arguments) = Arguments::of_bench() else { return };
    let seconds: u32 = arguments.number("--seconds", 10).max(1);
    let rounds: usize = arguments.number("--rounds", 6).max(1);
    let source = |name: &str| root().join("benches/latency").join(name);
    let mut programs: Vec<(&str, PathBuf)> =
        vec![("mongostream, C, JSON", c(&source("latency_mongostream.c"), None).unwrap())];
    match c(&source("latency_libmongoc.c"), Some("libmongoc-1.0")) {
        Ok(program) => programs.push(("libmongoc, counting only", program)),
        Err(reason) => eprintln!("libmongoc: {reason}: skipped"),
    }
    let set = ReplicaSet::start().unwrap();
    for name in ["warm", "latency"] {
        set.client().database(DATABASE).create_collection(name).run().unwrap();
    }
    write(&set, "warm", RATES[0], RATES[0]);

    let mut results = Vec::new();
    if !arguments.has("--json") {
        println!("| | writes/s | p50 ms (min–max) | p99 ms (min–max) |\n|---|---|---|---|");
    }
    let only = arguments.text("--only").map(|only| only.split(',').collect::<Vec<_>>());
    for rate in RATES {
        if only.as_ref().is_some_and(|only| !only.contains(&rate.to_string().as_str())) {
            continue;
        }
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); programs.len()];
        for round in 0..rounds {
            let mut turns: Vec<_> = programs.iter().zip(&mut runs).collect();
            // None is always the one behind a pause, or behind the other.
            if round % 2 == 1 {
                turns.reverse();
            }
            for ((name, program), runs) in turns {
                let run = measure(&set, program, "latency", rate, seconds);
                eprintln!(
                    "{name}, round {}: p50 {:.2} ms, p99 {:.2} ms",
                    round + 1,
                    run.p50,
                    run.p99
                );
                runs.push(run);
            }
        }
        for ((name, _), runs) in programs.iter().zip(&runs) {
            let figures = |of: fn(&Run) -> f64| {
                let all = || runs.iter().map(of);
                (median(all()), all().fold(f64::MAX, f64::min), all().fold(0.0, f64::max))
            };
            let (p50, p99, written) =
                (figures(|run| run.p50), figures(|run| run.p99), figures(|run| run.rate).0);
            if arguments.has("--json") {
                results.push(serde_json::json!({
                    "program": name, "writes_per_s": written,
                    "p50_ms": { "median": p50.0, "min": p50.1, "max": p50.2 },
                    "p99_ms": { "median": p99.0, "min": p99.1, "max": p99.2 },
                }));
            } else {
                println!(
                    "| {name} | {written:.0} | {:.2} ({:.2}–{:.2}) | {:.2} ({:.2}–{:.2}) |",
                    p50.0, p50.1, p50.2, p99.0, p99.1, p99.2
                );
            }
        }
    }
    if arguments.has("--json") {
        println!("{:#}", serde_json::Value::Array(results));
    }
}
