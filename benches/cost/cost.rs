//! Guards what an event costs, in instructions (valgrind counts them), which do not depend on how busy the
//! machine is: JSON, and the hand-over through the buffer.
//!
//! `cargo run --release --features bench --bin cost`
//!
//! It fails when a figure is far above the one that is written down here. A change that makes something
//! cheaper writes the new figure down. Without valgrind it is left out, and an error where
//! `MONGOSTREAM_REQUIRE_VALGRIND` is set.

#[path = "../support/documents.rs"]
mod documents;

use std::hint::black_box;
use std::process::{Command, ExitCode};

use mongostream::feed::Feed;
use mongostream::json::{ExtendedJson, Format, write_document, write_message};
use mongostream::{Batch, Buffer, Message};

/// A figure may be that many times what is written down: compilers and C libraries differ.
const MARGIN: f64 = 1.25;
const EVENTS: usize = 1000;

/// What is done with some events, this many times.
type Work = fn(&[Vec<u8>], usize);

/// What is counted, and the instructions it takes an event.
const WORK: [(&str, f64, Work); 5] = [
    ("JSON, the server's event", 6_129.0, |events, rounds| {
        let mut text = String::new();
        for event in events.iter().cycle().take(rounds * EVENTS) {
            text.clear();
            write_document(black_box(&mut text), event, ExtendedJson::Relaxed);
        }
    }),
    ("JSON, oplog", 5_893.0, |events, rounds| {
        let mut text = String::new();
        for event in events.iter().cycle().take(rounds * EVENTS) {
            text.clear();
            write_message(black_box(&mut text), event, Format::Oplog, ExtendedJson::Relaxed);
        }
    }),
    ("JSON, oplog, of the messages of a batch", 5_583.0, |events, rounds| {
        hand_over(events, rounds, 2, |buffer| {
            let batch = buffer.recv_batch(500).unwrap()?;
            batch.messages().iter().for_each(|message| _ = black_box(message.json()));
            batch.ack();
            Some(())
        });
    }),
    ("hand-over in batches, acknowledged", 32.0, |events, rounds| {
        let take = |buffer: &Buffer| buffer.recv_batch(500).unwrap().as_ref().map(Batch::ack);
        hand_over(events, rounds, 2, take);
    }),
    ("hand-over message by message, acknowledged", 847.0, |events, rounds| {
        let take = |buffer: &Buffer| buffer.recv().unwrap().as_ref().map(Message::ack);
        hand_over(events, rounds, EVENTS, take);
    }),
];

const ROUNDS: usize = 20;

/// Pushes a reply and takes it, time after time. All replies are made in any case, so that this is not
/// counted.
fn hand_over(
    events: &[Vec<u8>],
    rounds: usize,
    takes: usize,
    take: impl Fn(&Buffer) -> Option<()>,
) {
    let buffer = Buffer::new(EVENTS);
    let feed = Feed::new(&buffer);
    let replies: Vec<_> = (0..2 * ROUNDS).map(|_| feed.prepare(events)).collect();
    for reply in replies.iter().take(rounds) {
        feed.push(reply);
        for _ in 0..takes {
            take(&buffer).expect("nobody closes it");
        }
    }
    assert_eq!(feed.acked(), (rounds * EVENTS) as u64);
}

/// The instructions of a whole run of this program.
fn instructions(work: usize, rounds: usize) -> f64 {
    let output = Command::new("valgrind")
        .args(["--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"])
        .arg(std::env::current_exe().unwrap())
        .args([work.to_string(), rounds.to_string()])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    let line = text.lines().find_map(|line| line.split_once("refs:")).expect("a count").1;
    line.trim().replace(',', "").parse().unwrap()
}

fn main() -> ExitCode {
    let arguments: Vec<usize> = std::env::args().skip(1).flat_map(|text| text.parse()).collect();
    if let &[work, rounds] = arguments.as_slice() {
        WORK[work].2(&documents::events(EVENTS), rounds);
        return ExitCode::SUCCESS;
    }
    if Command::new("valgrind").arg("--version").output().is_err() {
        eprintln!("the cost of an event was NOT measured: valgrind is not installed");
        let is_required = std::env::var_os("MONGOSTREAM_REQUIRE_VALGRIND").is_some();
        return if is_required { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let mut answer = ExitCode::SUCCESS;
    println!("| instructions an event | now | written down | |\n|---|---|---|---|");
    for (index, (name, expected, _)) in WORK.iter().enumerate() {
        let more = instructions(index, 2 * ROUNDS) - instructions(index, ROUNDS);
        let now = more / (ROUNDS * EVENTS) as f64;
        let verdict = if now > expected * MARGIN {
            answer = ExitCode::FAILURE;
            "TOO MUCH"
        } else if now < expected / MARGIN {
            "cheaper: write it down in benches/cost/cost.rs"
        } else {
            "as expected"
        };
        println!("| {name} | {now:.0} | {expected:.0} | {verdict} |");
    }
    answer
}
