//! When the events of a long history come: few among many other entries of the oplog, some, and nothing else. Each
//! history is read with the library and with a plain stream of the driver with replies of 4,000 events, in turns.
//!
//! `cargo bench -p mongostream-benches --bench sparse -- [--rounds 5] [--entries 400000] [--json]`

mod support;

use std::time::Instant;

use ground::ReplicaSet;
use ground::mongodb::bson::{Document, RawDocumentBuf, Timestamp, doc};
use mongostream::{Buffer, Start, Worker};
use support::{Arguments, median};

/// A time long before the set was started, whose oplog begins with the set.
const LONG_AGO: u32 = 1_600_000_000;

/// Seconds until the first and until the last event.
type Times = (f64, f64);

fn with_library(set: &ReplicaSet, collection: &str, events: usize) -> Times {
    let buffer = Buffer::new(100_000);
    let began = Instant::now();
    let watch = Worker::watch(set.uri()).database("shop").collection(collection);
    let worker = watch.start_at(Start::at(LONG_AGO)).spawn(&buffer).unwrap();
    let (mut received, mut first) = (0, None);
    while received < events {
        let batch = buffer.recv_batch(4000).unwrap().unwrap();
        first.get_or_insert_with(|| began.elapsed().as_secs_f64());
        received += batch.len();
    }
    let last = began.elapsed().as_secs_f64();
    worker.stop();
    worker.join().unwrap();
    (first.unwrap(), last)
}

fn with_driver(set: &ReplicaSet, collection: &str, events: usize) -> Times {
    let began = Instant::now();
    let collection = set.client().database("shop").collection::<Document>(collection);
    let start = Timestamp { time: LONG_AGO, increment: 0 };
    let stream = collection.watch().start_at_operation_time(start).batch_size(4000).run().unwrap();
    let mut stream = stream.with_type::<RawDocumentBuf>();
    let (mut received, mut first) = (0, None);
    while received < events {
        if stream.next_if_any().unwrap().is_some() {
            first.get_or_insert_with(|| began.elapsed().as_secs_f64());
            received += 1;
        }
    }
    (first.unwrap(), began.elapsed().as_secs_f64())
}

fn main() {
    let Some(arguments) = Arguments::of_bench() else { return };
    let rounds: usize = arguments.number("--rounds", 5);
    let entries: usize = arguments.number("--entries", 400_000);
    let json = arguments.has("--json");
    let set = ReplicaSet::start().unwrap();
    let shop = set.client().database("shop");
    let few = shop.collection::<Document>("few");
    let some = shop.collection::<Document>("some");
    let all = shop.collection::<Document>("all");
    let text = "x".repeat(300);
    let mut counts = [0usize; 3];
    eprintln!("writing {entries} entries");
    for block in 0..entries / 1000 {
        let documents = (0..1000).map(|n| doc! { "n": n, "text": &text });
        all.insert_many(documents).run().unwrap();
        few.insert_one(doc! { "block": block as i32 }).run().unwrap();
        some.insert_many((0..20).map(|n| doc! { "n": n })).run().unwrap();
        counts = [counts[0] + 1, counts[1] + 20, counts[2] + 1000];
    }
    let mut rows = Vec::new();
    for (name, events) in ["few", "some", "all"].into_iter().zip(counts) {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for round in 1..=rounds {
            ours.push(with_library(&set, name, events));
            theirs.push(with_driver(&set, name, events));
            eprintln!(
                "{name}, round {round}: {:.3?} beside {:.3?} s",
                ours[round - 1],
                theirs[round - 1]
            );
        }
        let of = |times: &[Times], which: fn(&Times) -> f64| median(times.iter().map(which));
        let ours = (of(&ours, |times| times.0), of(&ours, |times| times.1));
        let theirs = (of(&theirs, |times| times.0), of(&theirs, |times| times.1));
        rows.push((events, ours, theirs));
    }
    if json {
        for (events, ours, theirs) in rows {
            println!(
                "{{\"events\":{events},\"first\":{},\"last\":{},\"driver_first\":{},\"driver_last\":{}}}",
                ours.0, ours.1, theirs.0, theirs.1
            );
        }
        return;
    }
    println!(
        "| events in {entries} others | first, s | last, s | driver: first, s | driver: last, s | first of the total | total |"
    );
    println!("|---:|---:|---:|---:|---:|---:|---:|");
    for (events, ours, theirs) in rows {
        println!(
            "| {events} | {:.3} | {:.3} | {:.3} | {:.3} | {:.1} % | {:.2} × |",
            ours.0,
            ours.1,
            theirs.0,
            theirs.1,
            100.0 * ours.0 / ours.1,
            ours.1 / theirs.1
        );
    }
}
