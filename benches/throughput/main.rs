//! How fast a history of changes is drained, compared with what the server can give and with other
//! clients, each in a process of its own, in rounds that take turns.
//!
//! `cargo bench -p mongostream-benches --bench throughput -- [--events 300000] [--rounds 5] [--only key,key] [--json] [--svg FILE]`
//!
//! It needs gcc for mongostream from C. Go, python3 with pip, and libmongoc's headers add further programs;
//! what is not there is left out, and said so. Nothing is installed outside `target`.

#[path = "../support/mod.rs"]
mod support;

mod drain;
mod picture;
mod programs;
mod report;
mod width;

use report::Row;
use support::{Arguments, history};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--program") {
        return drain::run(&arguments[1..]);
    }
    let Some(arguments) = Arguments::of_bench() else { return };
    let events = history::whole_blocks(arguments.number("--events", 300_000));
    let rounds: usize = arguments.number("--rounds", 5).max(1);
    let only: Option<Vec<&str>> = arguments.text("--only").map(|only| only.split(',').collect());

    let mut rows = Vec::new();
    let is_wanted = |key: &str| only.as_ref().is_none_or(|only| only.contains(&key));
    for program in programs::all(is_wanted) {
        match program.missing() {
            Some(reason) => eprintln!("{}: {reason}: skipped", program.name),
            None => rows.push(Row { program, runs: Vec::new() }),
        }
    }
    assert!(!rows.is_empty(), "no program has such a key, or none of them can run");
    let set = history::set_for(events);
    eprintln!("writing {events} events");
    let second = history::write(&set, events);
    // The first round warms the server and is not counted.
    for round in 0..=rounds {
        eprintln!("round {round} of {rounds}");
        for row in &mut rows {
            match row.program.run(&set, second, events) {
                Ok(_) if round == 0 => {}
                Ok(run) => row.runs.push(run),
                Err(reason) => panic!("{reason}"),
            }
        }
    }

    if let Some(file) = arguments.text("--svg") {
        // cargo starts a benchmark in the directory of its crate.
        let path = support::programs::root().join(file);
        std::fs::write(path, picture::svg(&rows)).unwrap_or_else(|error| panic!("{file}: {error}"));
    }
    if arguments.has("--json") {
        println!("{:#}", report::as_json(&rows, events));
        return;
    }
    println!("{}", report::table(&rows));
    for (promise, kept) in report::promises(&rows) {
        println!("{} {promise}", if kept { "kept " } else { "BROKEN" });
    }
}
