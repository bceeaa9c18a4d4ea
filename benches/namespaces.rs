//! What following many collections costs the server: its CPU time with the streams minus its CPU time
//! for the same writes without any, in rounds that take turns.
//!
//! `cargo bench -p mongostream-benches --bench namespaces -- [seconds] [--json]`; 10 seconds for each measurement without a
//! number.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ground::mongodb::bson::{Document, doc};
use ground::{ReplicaSet, wait_until};
use mongostream::{Buffer, Watch, Worker};

const COLLECTIONS: usize = 100;
/// Writes a second into each collection, or that many times as many into the only one.
const RATE: u32 = 20;
const WRITERS: usize = 10;
const ROUNDS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    /// The writes into many collections, and into one, alone.
    ManyAlone,
    OneAlone,
    Namespaces,
    OneCollection,
    ManyStreams,
}

impl Case {
    const ALL: [Case; 5] =
        [Case::ManyAlone, Case::OneAlone, Case::Namespaces, Case::OneCollection, Case::ManyStreams];

    fn name(self) -> &'static str {
        match self {
            Case::ManyAlone => "writes to 100 collections alone",
            Case::OneAlone => "writes to one collection alone",
            Case::Namespaces => "(a) 100 collections, one stream",
            Case::OneCollection => "(b) one collection, one stream",
            Case::ManyStreams => "(c) 100 collections, 100 streams",
        }
    }

    /// What the same writes cost without a stream.
    fn alone(self) -> Case {
        match self {
            Case::OneAlone | Case::OneCollection => Case::OneAlone,
            _ => Case::ManyAlone,
        }
    }

    fn collection(self, number: usize) -> String {
        match self.alone() {
            Case::OneAlone => "only".to_owned(),
            _ => format!("c{number:02}"),
        }
    }

    fn watches(self, uri: &str) -> Vec<Watch> {
        let watch = || Worker::watch(uri).database("shop");
        let names = (0..COLLECTIONS).map(|number| self.collection(number));
        match self {
            Case::ManyAlone | Case::OneAlone => vec![],
            Case::Namespaces => vec![watch().namespaces(names)],
            Case::OneCollection => vec![watch().collection(self.collection(0))],
            Case::ManyStreams => names.map(|name| watch().collection(name)).collect(),
        }
    }
}

/// Of all cases, over all rounds.
#[derive(Clone, Copy, Default)]
struct Total {
    cpu: Duration,
    time: Duration,
    writes: u64,
}

impl Total {
    fn per_write(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.writes as f64
    }
}

/// The server's CPU time so far.
fn cpu(set: &ReplicaSet) -> Duration {
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", set.member(0).pid())).unwrap();
    // The name before it may hold anything but this.
    let (_, fields) = stat.rsplit_once(')').expect("the name of the process");
    let ticks = fields.split_whitespace().skip(11).take(2).map(|n| n.parse::<u32>().unwrap());
    TICK * ticks.sum::<u32>()
}

/// Writes at the rate for a while; how much was written.
fn write(set: &ReplicaSet, case: Case, time: Duration) -> u64 {
    let written = AtomicU64::new(0);
    let began = Instant::now();
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let written = &written;
            scope.spawn(move || {
                let database = set.client().database("shop");
                for turn in 0.. {
                    let due = began + turn * Duration::from_secs(1) / RATE;
                    if due.duration_since(began) >= time || began.elapsed() >= time {
                        break;
                    }
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    for number in (writer..COLLECTIONS).step_by(WRITERS) {
                        let collection = database.collection::<Document>(&case.collection(number));
                        let document = doc! { "state": "new", "text": "x".repeat(200) };
                        collection.insert_one(document).run().unwrap();
                        written.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    written.into_inner()
}

fn measure(set: &ReplicaSet, case: Case, time: Duration) -> Total {
    let buffer = Buffer::new(10_000);
    let watches = case.watches(set.uri());
    let has_streams = !watches.is_empty();
    let workers: Vec<_> = watches.into_iter().map(|watch| watch.spawn(&buffer).unwrap()).collect();
    workers.iter().for_each(|worker| worker.wait_ready().unwrap());
    let received = AtomicU64::new(0);
    let mut total = Total::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            while let Some(batch) = buffer.recv_batch(1000).expect("no worker fails") {
                received.fetch_add(batch.len() as u64, Ordering::Relaxed);
            }
        });
        let (before, began) = (cpu(set), Instant::now());
        total.writes = write(set, case, time);
        total.time = began.elapsed();
        if has_streams {
            wait_until(DEADLINE, "every event has arrived", || {
                received.load(Ordering::Relaxed) == total.writes
            });
        }
        total.cpu = cpu(set) - before;
        buffer.close();
    });
    workers.iter().for_each(|worker| worker.join().unwrap());
    total
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs it too, but has no use for it.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let json = arguments.iter().any(|argument| argument == "--json");
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(10).max(1);
    let set = ReplicaSet::start().unwrap();
    // Makes the collections, and warms the server.
    for case in [Case::ManyAlone, Case::OneAlone] {
        measure(&set, case, Duration::from_secs(1));
    }
    let mut totals = Case::ALL.map(|case| (case, Total::default()));
    for _ in 0..ROUNDS {
        for (case, total) in &mut totals {
            let one = measure(&set, *case, Duration::from_secs(seconds));
            total.cpu += one.cpu;
            total.time += one.time;
            total.writes += one.writes;
        }
    }

    let of =
        |wanted: Case| totals.iter().find(|(case, _)| *case == wanted).expect("all are there").1;
    let streams = |case: Case| of(case).per_write() - of(case.alone()).per_write();
    let mut results = Vec::new();
    if !json {
        println!(
            "{:<34} {:>9} {:>15} {:>17} {:>8}",
            "", "writes/s", "CPU µs a write", "of it the streams", "to (b)"
        );
    }
    for (case, total) in &totals {
        let rate = total.writes as f64 / total.time.as_secs_f64();
        let (all, own) = (total.per_write(), streams(*case));
        let ratio = own / streams(Case::OneCollection);
        let round = |figure: f64| (figure * 100.0).round() / 100.0;
        if !json && case.alone() == *case {
            println!("{:<34} {rate:>9.0} {all:>15.1}", case.name());
        } else if !json {
            println!("{:<34} {rate:>9.0} {all:>15.1} {own:>17.1} {ratio:>8.2}", case.name());
        }
        results.push(serde_json::json!({
            "case": case.name(), "writes_per_s": round(rate), "server_cpu_us_per_write": round(all),
            "streams_cpu_us_per_write": round(own), "ratio": round(ratio),
        }));
    }
    if json {
        println!("{}", serde_json::Value::Array(results));
    }
}
