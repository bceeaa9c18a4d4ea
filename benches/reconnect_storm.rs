//! What an outage costs while it lasts: the CPU time and the log lines of 64 workers on one URI whose
//! only server is killed (kill -9), and how soon all of them deliver again when it is back.
//!
//! `cargo bench -p mongostream-benches --bench reconnect_storm -- [seconds] [--json]`; an outage of 120 s without a number.
//! Linux only: it reads its CPU time from `/proc`. That time includes the bench's own, which sleeps, and
//! that of the test ground's client, which sends heartbeats.

use std::collections::HashMap;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::options::WriteConcern;
use ground::mongodb::sync::Client;
use ground::{ReplicaSet, eventually};
use log::{Level, LevelFilter, Log, Metadata, Record};
use mongostream::{Buffer, Received, Worker};

const WORKERS: usize = 64;
const DEADLINE: Duration = Duration::from_secs(120);

/// The lines of one worker.
#[derive(Clone, Copy, Default)]
struct Lines {
    all: usize,
    warnings: usize,
    /// Those that announce the next attempt: one for each step of the backoff.
    steps: usize,
}

/// Counts the lines of every level by worker; those of others, as of the driver, under an empty name.
struct Counter;

static COUNTS: Mutex<Option<HashMap<String, Lines>>> = Mutex::new(None);

impl Log for Counter {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let text = record.args().to_string();
        let line = text.strip_prefix("worker ").and_then(|rest| rest.split_once(": "));
        let (worker, text) = line.unwrap_or(("", &text));
        if let Some(counts) = &mut *COUNTS.lock().unwrap() {
            let lines = counts.entry(worker.to_owned()).or_default();
            lines.all += 1;
            lines.warnings += usize::from(record.level() == Level::Warn);
            lines.steps += usize::from(text.contains("opening the stream again"));
        }
    }

    fn flush(&self) {}
}

/// User and system time of this process (proc(5), `/proc/pid/stat`).
fn cpu_time() -> Duration {
    /// Of a tick, on every Linux.
    const TICKS_A_SECOND: u64 = 100;
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    let ticks = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap());
    Duration::from_millis(ticks.sum::<u64>() * 1000 / TICKS_A_SECOND)
}

fn collection(number: usize) -> String {
    format!("orders{number}")
}

/// Writes to every worker's collection, and returns how long after the first acknowledged write each
/// worker's event arrived, in order.
fn deliver(set: &ReplicaSet, buffer: &Buffer, round: i32) -> Vec<Duration> {
    // Not the set's own: during the outage it would look for the server as well.
    let client = Client::with_uri_str(set.uri_with("heartbeatFrequencyMS=500")).unwrap();
    let write = |number: usize| {
        let shop = client.database("shop");
        let collection = shop.collection::<Document>(&collection(number));
        let insert = collection.insert_one(doc! { "round": round });
        insert.write_concern(WriteConcern::majority()).run().ok()
    };
    eventually(DEADLINE, || write(0));
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            (1..WORKERS).for_each(|number| drop(eventually(DEADLINE, || write(number))));
        });
        let mut seen = HashMap::new();
        while seen.len() < WORKERS {
            match buffer.recv_timeout(DEADLINE) {
                Ok(Received::Some(message)) => {
                    let event = Document::from_reader(message.bson()).unwrap();
                    let document = event.get_document("fullDocument").unwrap();
                    if document.get_i32("round").is_ok_and(|of| of == round) {
                        seen.entry(message.worker().to_owned()).or_insert(began.elapsed());
                    }
                }
                other => panic!("{other:?} when {} of {WORKERS} are back", seen.len()),
            }
        }
        let mut delays: Vec<Duration> = seen.into_values().collect();
        delays.sort();
        delays
    })
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs it too, but has no use for it.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let json = arguments.iter().any(|argument| argument == "--json");
    let seconds = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(120);
    let outage = Duration::from_secs(u64::max(seconds, 1));
    log::set_logger(&Counter).unwrap();
    log::set_max_level(LevelFilter::Trace);

    let set = ReplicaSet::start().unwrap();
    let buffer = Buffer::new(1000);
    let workers: Vec<Worker> = (0..WORKERS)
        .map(|number| {
            let watch = Worker::watch(set.uri()).database("shop").collection(collection(number));
            watch.spawn(&buffer).unwrap()
        })
        .collect();
    workers.iter().for_each(|worker| worker.wait_ready().unwrap());
    deliver(&set, &buffer, 1);

    *COUNTS.lock().unwrap() = Some(HashMap::new());
    set.member(0).kill().unwrap();
    let (before, began) = (cpu_time(), Instant::now());
    thread::sleep(outage);
    let (cpu, lasted) = (cpu_time() - before, began.elapsed());
    let counts = COUNTS.lock().unwrap().take().unwrap();
    set.member(0).restart().unwrap();
    let delays = deliver(&set, &buffer, 2);

    let percent = (cpu.as_secs_f64() / lasted.as_secs_f64() * 10_000.0).round() / 100.0;
    let of_workers = || counts.iter().filter(|(worker, _)| !worker.is_empty()).map(|(_, all)| all);
    let sum = |count: fn(&Lines) -> usize| of_workers().map(count).sum::<usize>();
    let more = of_workers().map(|lines| lines.all - lines.steps).max().unwrap_or(0);
    let warnings = of_workers().map(|lines| lines.warnings).max().unwrap_or(0);
    let others = counts.get("").map_or(0, |lines| lines.all);
    let milliseconds = |delay: &Duration| (delay.as_secs_f64() * 10_000.0).round() / 10.0;
    let (p50, max) = (milliseconds(&delays[WORKERS / 2]), milliseconds(&delays[WORKERS - 1]));
    if json {
        let result = serde_json::json!({
            "workers": WORKERS, "outage_s": outage.as_secs(),
            "cpu_ms": cpu.as_millis() as u64, "cpu_percent_of_a_core": percent,
            "steps": sum(|lines| lines.steps), "lines": sum(|lines| lines.all),
            "max_lines_beyond_steps": more, "max_warnings": warnings, "other_lines": others,
            "back_p50_ms": p50, "back_max_ms": max,
        });
        println!("{result}");
        return;
    }
    println!("{WORKERS} workers, their server down for {} s", outage.as_secs());
    println!("CPU time        {} ms, {percent} % of a core", cpu.as_millis());
    println!(
        "log lines       {} for {} steps of the backoff; a worker: at most {more} beyond one a step, \
         {warnings} warnings; {others} of others",
        sum(|lines| lines.all),
        sum(|lines| lines.steps),
    );
    println!(
        "all deliver     {max} ms after the first write that the server took again, p50 {p50} ms"
    );
}
