//! How fast a backlog of changes comes into a broker, and what that costs: `mongostream pipe` beside Debezium Server,
//! into NATS JetStream and into Kafka, in rounds that take turns.
//!
//! `cargo bench -p mongostream-benches --bench pipe -- [--events 200000] [--rounds 3] [--to nats,kafka] [--java FILE] [--debezium DIR] [--json]`
//!
//! It starts a MongoDB server and the brokers itself. Debezium Server is fetched with Maven (780 MB, once) unless
//! `--debezium` names the directory of one, and needs Java 21 or later; without them it is left out, and said so.

#[path = "../support/mod.rs"]
mod support;

mod broker;
mod contender;
mod drain;
mod report;

use broker::{Broker, Kind};
use contender::Contender;
use report::Row;
use support::Arguments;

fn main() {
    let Some(arguments) = Arguments::of_bench() else { return };
    let events: u64 = arguments.number("--events", 200_000);
    let rounds: usize = arguments.number("--rounds", 3).max(1);
    let only: Option<Vec<&str>> = arguments.text("--to").map(|only| only.split(',').collect());
    let kinds: Vec<Kind> = Kind::ALL
        .into_iter()
        .filter(|kind| only.as_ref().is_none_or(|only| only.contains(&kind.key())))
        .collect();
    assert!(!kinds.is_empty(), "--to takes nats and kafka");

    let mut contenders = vec![Contender::pipe()];
    let java = arguments.text("--java").unwrap_or("java");
    match Contender::debezium(java, arguments.text("--debezium")) {
        Ok(debezium) => contenders.push(debezium),
        Err(reason) => eprintln!("Debezium Server: {reason}: skipped"),
    }
    let set = drain::set_for(events);
    let mut rows = Vec::new();
    for kind in kinds {
        let mut broker = Broker::start(kind);
        let mut of_kind: Vec<Row> =
            contenders.iter().map(|contender| Row::new(contender, kind)).collect();
        // The first round warms the servers and is not counted; the pipe is enough for that.
        for round in 0..=rounds {
            for (contender, row) in contenders.iter().zip(&mut of_kind) {
                if round == 0 && !contender.is_ours() {
                    continue;
                }
                let run = drain::run(contender, &mut broker, &set, events);
                eprintln!("{}, round {round} of {rounds}: {run}", row.name());
                if round > 0 {
                    row.runs.push(run);
                }
            }
        }
        rows.append(&mut of_kind);
    }

    if arguments.has("--json") {
        println!("{:#}", report::as_json(&rows, events));
        return;
    }
    println!("{}", report::table(&rows));
    for line in report::ratios(&rows) {
        println!("{line}");
    }
    for (promise, kept) in report::promises(&rows) {
        println!("{} {promise}", if kept { "kept  " } else { "BROKEN" });
    }
}
