//! How what it costs grows: with the collections that are followed, on one cursor and on one each; with the
//! consumers of a buffer; with the size of the documents. Each drains a history that was written before.
//!
//! `cargo bench -p mongostream-benches --bench growth -- [--rounds 5] [--events 50000] [--only collections,consumers,sizes] [--json]`

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ground::ReplicaSet;
use ground::mongodb::bson::{Document, doc};
use mongostream::{Buffer, Start, Watch, Worker};
use support::{Arguments, history, median, own_cpu, server_cpu};

/// What a run has taken, and what it has moved.
#[derive(Clone, Copy)]
struct Run {
    time: f64,
    client: f64,
    server: f64,
    bytes: usize,
}

/// Receives this many events, as JSON, with some consumers.
fn drain(set: &ReplicaSet, watches: Vec<Watch>, consumers: usize, events: usize) -> Run {
    let buffer = Buffer::new(4096);
    let (received, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let (began, client, server) = (Instant::now(), own_cpu(), server_cpu(set));
    let workers: Vec<Worker> =
        watches.into_iter().map(|watch| watch.spawn(&buffer).unwrap()).collect();
    thread::scope(|scope| {
        for _ in 0..consumers {
            scope.spawn(|| {
                while let Some(batch) = buffer.recv_batch(250).unwrap() {
                    bytes.fetch_add(batch.json_lines().len(), Ordering::Relaxed);
                    batch.ack();
                    if received.fetch_add(batch.len(), Ordering::Relaxed) + batch.len() >= events {
                        buffer.close();
                    }
                }
            });
        }
    });
    let seconds = |time: Duration| time.as_secs_f64();
    let run = Run {
        time: seconds(began.elapsed()),
        client: seconds(own_cpu() - client),
        server: seconds(server_cpu(set) - server),
        bytes: bytes.into_inner(),
    };
    assert_eq!(received.into_inner(), events);
    workers.iter().for_each(|worker| worker.join().unwrap());
    run
}

/// Prints what belongs together, or keeps it for the end.
struct Report {
    json: Option<Vec<serde_json::Value>>,
}

impl Report {
    fn heading(&self, what: &str) {
        if self.json.is_none() {
            println!(
                "\n| {what} | s (min–max) | events/s | MB/s of JSON | client CPU µs/event | server CPU µs/event |"
            );
            println!("|---|---|---|---|---|---|");
        }
    }

    /// The median time and server CPU time.
    fn row(&mut self, what: &str, events: usize, runs: &[Run]) -> (f64, f64) {
        let of = |figure: fn(&Run) -> f64| median(runs.iter().map(figure));
        let (time, client, server) =
            (of(|run| run.time), of(|run| run.client), of(|run| run.server));
        let least = runs.iter().map(|run| run.time).fold(f64::MAX, f64::min);
        let most = runs.iter().map(|run| run.time).fold(0.0, f64::max);
        let count = events as f64;
        let rate = of(|run| run.bytes as f64) / time / 1e6;
        if let Some(json) = &mut self.json {
            json.push(serde_json::json!({
                "case": what, "events": events, "seconds": { "median": time, "min": least, "max": most },
                "json_mb_per_s": rate, "client_cpu_us_per_event": client * 1e6 / count,
                "server_cpu_us_per_event": server * 1e6 / count,
            }));
        } else {
            println!(
                "| {what} | {time:.2} ({least:.2}–{most:.2}) | {:.0} | {rate:.0} | {:.2} | {:.1} |",
                count / time,
                client * 1e6 / count,
                server * 1e6 / count
            );
        }
        (time, server)
    }
}

/// Inserts documents of a size into collections in turns; the second with which they begin.
fn insert(set: &ReplicaSet, database: &str, collections: usize, events: usize, size: usize) -> u32 {
    let second = history::next_second(set);
    let database = set.client().database(database);
    // As many as one command can carry, and not too many in a row of one collection.
    let chunk = (16_000_000 / (size + 100)).clamp(1, events.div_ceil(collections * 10).max(1));
    let text = "x".repeat(size);
    let (mut written, mut turn) = (0, 0);
    while written < events {
        let count = chunk.min(events - written);
        let collection = database.collection::<Document>(&format!("c{:02}", turn % collections));
        collection.insert_many((0..count).map(|_| doc! { "text": &text })).run().unwrap();
        written += count;
        turn += 1;
    }
    second
}

fn main() {
    let Some(arguments) = Arguments::of_bench() else { return };
    let rounds: usize = arguments.number("--rounds", 5).max(1);
    let events: usize = arguments.number("--events", 50_000).max(1000);
    let mut report = Report { json: arguments.has("--json").then(Vec::new) };
    let set = ReplicaSet::builder().args(["--oplogSize", "3000"]).start().unwrap();
    let watch = |database: &str, second| {
        Worker::watch(set.uri()).database(database).start_at(Start::at(second))
    };
    let repeat = |run: &dyn Fn() -> Run| -> Vec<Run> { (0..rounds).map(|_| run()).collect() };

    let only = arguments.text("--only").map(|only| only.split(',').collect::<Vec<_>>());
    let is_wanted = |part: &str| only.as_ref().is_none_or(|only| only.contains(&part));

    if is_wanted("collections") {
        report.heading("collections");
        for collections in [1, 10, 50] {
            let database = format!("collections{collections}");
            let second = insert(&set, &database, collections, events, 200);
            let names = || (0..collections).map(|number| format!("c{number:02}"));
            let one = || vec![watch(&database, second).namespaces(names())];
            let each = || names().map(|name| watch(&database, second).collection(name)).collect();
            let both = || (drain(&set, one(), 1, events), drain(&set, each(), 1, events));
            let (one, each): (Vec<_>, Vec<_>) = (0..rounds).map(|_| both()).unzip();
            let one = report.row(&format!("{collections}, on one cursor"), events, &one);
            let each = report.row(&format!("{collections}, a cursor each"), events, &each);
            if report.json.is_none() {
                println!(
                    "| one cursor is faster by, and costs the server | {:.1} × | | | | 1/{:.1} |",
                    each.0 / one.0,
                    each.1 / one.1
                );
            }
        }
    }

    if is_wanted("consumers") {
        report.heading("consumers");
        let second = insert(&set, "consumers", 1, events, 400);
        for consumers in 1..=4 {
            let watches = || vec![watch("consumers", second)];
            let runs = repeat(&|| drain(&set, watches(), consumers, events));
            report.row(&consumers.to_string(), events, &runs);
        }
    }

    if is_wanted("sizes") {
        report.heading("bytes of a document");
        for size in [100, 1_000, 10_000, 100_000, 1_000_000] {
            let database = format!("size{size}");
            let count = (200_000_000 / size).min(events);
            let second = insert(&set, &database, 1, count, size);
            let runs = repeat(&|| drain(&set, vec![watch(&database, second)], 1, count));
            report.row(&size.to_string(), count, &runs);
        }
    }
    if let Some(json) = report.json {
        println!("{:#}", serde_json::Value::Array(json));
    }
}
