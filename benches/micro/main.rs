//! The parts of an event's way, each alone: JSON, the hand-over through the buffer, the calls from C.
//!
//! `cargo bench -p mongostream-benches --features bench --bench micro -- [criterion's arguments]`
//!
//! At the end the speed of the JSON beside that of the official crates, and of libbson where its headers are
//! installed, whose outputs must say the same; and what each call from C costs.

#[path = "../support/mod.rs"]
mod support;

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use bson::{Bson, Document, RawDocument};
use criterion::{Criterion, Throughput};
use mongostream::Buffer;
use mongostream::feed::{Feed, Prepared};
use mongostream::json::{ExtendedJson, Format, write_document, write_message};
use serde_json::Value;
use support::programs::{c, root, scratch, tool};
use support::{Arguments, documents, history, median};

const EVENTS: usize = 2000;
const ROUNDS: usize = 21;

fn ours(document: &[u8], text: &mut String) {
    text.clear();
    write_document(text, document, ExtendedJson::Relaxed);
}

/// The way of the official crates: raw BSON, `Bson`, `serde_json`.
fn official(document: &[u8]) -> String {
    let raw = RawDocument::from_bytes(document).unwrap();
    let document = Document::try_from(raw).unwrap();
    Bson::Document(document).into_relaxed_extjson().to_string()
}

fn json(criterion: &mut Criterion, events: &[Vec<u8>]) {
    let mut group = criterion.benchmark_group("json");
    group.throughput(Throughput::Bytes(events.iter().map(|event| event.len() as u64).sum()));
    let mut text = String::new();
    group.bench_function("write_document", |bencher| {
        bencher.iter(|| events.iter().for_each(|event| ours(event, black_box(&mut text))));
    });
    group.bench_function("write_message, oplog", |bencher| {
        bencher.iter(|| {
            for event in events {
                text.clear();
                write_message(black_box(&mut text), event, Format::Oplog, ExtendedJson::Relaxed);
            }
        });
    });
    group.bench_function("official crates", |bencher| {
        bencher.iter(|| events.iter().for_each(|event| drop(black_box(official(event)))));
    });
    group.finish();
}

/// Times what consumes a reply that has just been pushed.
fn consume(criterion: &mut Criterion, name: &str, events: &[Vec<u8>], consume: impl Fn(&Buffer)) {
    let buffer = Buffer::new(EVENTS);
    let feed = Feed::new(&buffer);
    let mut group = criterion.benchmark_group("hand-over");
    group.throughput(Throughput::Elements(events.len() as u64));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|times| {
            let mut total = Duration::ZERO;
            for _ in 0..times {
                let prepared: Prepared = feed.prepare(events);
                let began = Instant::now();
                feed.push(&prepared);
                consume(&buffer);
                total += began.elapsed();
            }
            total
        });
    });
    group.finish();
}

fn hand_over(criterion: &mut Criterion, events: &[Vec<u8>]) {
    consume(criterion, "batches of 1000, acked", events, |buffer| {
        while let Some(batch) = buffer.recv_batch_timeout(1000, Duration::ZERO).unwrap().some() {
            batch.ack();
        }
    });
    consume(criterion, "message by message, acked", events, |buffer| {
        while let Some(message) = buffer.try_recv().unwrap().some() {
            message.ack();
        }
    });
}

/// Nanoseconds a document, medians of rounds that take turns.
fn compare(events: &[Vec<u8>]) {
    let count = events.len() as f64;
    let time = |run: &mut dyn FnMut()| {
        let began = Instant::now();
        run();
        began.elapsed().as_secs_f64() * 1e9 / count
    };
    let file = scratch().join("events.bson");
    std::fs::write(&file, events.concat()).unwrap();
    let libbson = c(&root().join("benches/micro/libbson_json.c"), Some("libbson-1.0"));
    let mut text = String::new();
    // Back in BSON: libbson writes spaces, the official crates 0.59 s where the specification has 0.590.
    let value = |text: &str| Bson::try_from(serde_json::from_str::<Value>(text).unwrap()).unwrap();
    for event in events {
        ours(event, &mut text);
        assert_eq!(value(&text), value(&official(event)), "what the official crates say");
    }
    if let Ok(program) = &libbson {
        let printed = tool(Command::new(program).arg(&file).arg("0")).unwrap();
        assert_eq!(printed.lines().count(), events.len());
        for (event, printed) in events.iter().zip(printed.lines()) {
            ours(event, &mut text);
            assert_eq!(value(&text), value(printed), "what libbson says");
        }
    }
    let mut rounds: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        rounds[0]
            .push(time(&mut || events.iter().for_each(|event| ours(event, black_box(&mut text)))));
        rounds[1]
            .push(time(&mut || events.iter().for_each(|event| drop(black_box(official(event))))));
        if let Ok(program) = &libbson {
            let printed = tool(Command::new(program).arg(&file).arg("3")).unwrap();
            rounds[2].push(median(printed.lines().map(|line| line.parse().unwrap())));
        }
    }
    let [own, official, other] = rounds;
    let own = median(own);
    println!("\nJSON of {EVENTS} events, ns an event:");
    println!("{own:8.0}  mongostream");
    let official = median(official);
    println!("{official:8.0}  official crates, with the same output: {:.1} ×", official / own);
    match libbson {
        Ok(_) => {
            let other = median(other);
            println!("{other:8.0}  libbson, with the same output: {:.1} ×", other / own);
        }
        Err(reason) => println!("       –  libbson: {reason}: skipped"),
    }
}

fn calls() {
    const QUEUED: usize = 100_000;
    let program = c(&root().join("benches/micro/calls.c"), None).unwrap();
    let set = history::set_for(QUEUED);
    let second = history::write(&set, QUEUED);
    let arguments = [set.uri().to_owned(), second.to_string(), QUEUED.to_string()];
    println!("\nCalls from C, ns a message:");
    print!("{}", tool(Command::new(program).args(arguments)).unwrap());
}

fn main() {
    if Arguments::of_bench().is_none() {
        return;
    }
    let events = documents::events(EVENTS);
    let mut criterion = Criterion::default().configure_from_args();
    json(&mut criterion, &events);
    hand_over(&mut criterion, &events);
    criterion.final_summary();
    compare(&events);
    calls();
}
