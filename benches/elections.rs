//! How long after an election a stream is back: from the first majority write that the new primary
//! has acknowledged to its event in the consumer's hands, with the default options.
//!
//! `cargo bench -p mongostream-benches --bench elections -- [rounds] [--json]`; 20 rounds of each fault without a number.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ground::mongodb::bson::{Document, RawDocument, doc};
use ground::mongodb::options::WriteConcern;
use ground::{Member, ReplicaSet, eventually, wait_until};
use mongostream::{Buffer, Worker};

const DEADLINE: Duration = Duration::from_secs(60);
const MEMBERS: usize = 3;

#[derive(Clone, Copy)]
enum Fault {
    Kill,
    StepDown,
    Freeze,
}

impl Fault {
    const ALL: [Fault; 3] = [Fault::Kill, Fault::StepDown, Fault::Freeze];

    fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill -9",
            Fault::StepDown => "stepDown",
            Fault::Freeze => "SIGSTOP",
        }
    }

    fn happens(self, set: &ReplicaSet, primary: &Member) {
        match self {
            Fault::Kill => primary.kill().unwrap(),
            Fault::StepDown => set.step_down().unwrap(),
            Fault::Freeze => primary.pause().unwrap(),
        }
    }

    /// Makes the old primary electable again.
    fn ends(self, primary: &Member) {
        match self {
            Fault::Kill => primary.restart().unwrap(),
            Fault::StepDown => drop(admin(primary, doc! { "replSetFreeze": 0 })),
            Fault::Freeze => primary.resume().unwrap(),
        }
    }
}

fn admin(member: &Member, command: Document) -> Option<Document> {
    member.client().database("admin").run_command(command).run().ok()
}

fn is(member: &Member, role: &str) -> bool {
    admin(member, doc! { "isMaster": 1 })
        .is_some_and(|hello| hello.get_bool(role).is_ok_and(|is| is))
}

/// Writes are numbered, so that the events can be told apart.
struct Writes {
    next: AtomicI32,
}

impl Writes {
    /// The number of a majority write that was acknowledged, and when.
    fn write(&self, member: &Member) -> Option<(i32, Instant)> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        member
            .client()
            .database("shop")
            .collection::<Document>("orders")
            .insert_one(doc! { "_id": id })
            .write_concern(WriteConcern::majority())
            .run()
            .ok()?;
        Some((id, Instant::now()))
    }
}

/// What the consumer sees.
struct Arrivals {
    arrivals: mpsc::Receiver<(i32, Instant)>,
}

impl Arrivals {
    fn of(buffer: Buffer) -> Self {
        let (sender, arrivals) = mpsc::channel();
        thread::spawn(move || {
            for message in &buffer {
                let message = message.expect("the worker does not fail");
                let event = RawDocument::from_bytes(message.bson()).unwrap();
                let id = event.get_document("documentKey").unwrap().get_i32("_id").unwrap();
                if sender.send((id, Instant::now())).is_err() {
                    break;
                }
            }
        });
        Self { arrivals }
    }

    fn wait_for(&self, id: i32) -> Instant {
        loop {
            let (arrived, at) = self.arrivals.recv_timeout(DEADLINE).expect("the event arrives");
            if arrived == id {
                return at;
            }
        }
    }
}

fn round(set: &ReplicaSet, fault: Fault, writes: &Writes, arrivals: &Arrivals) -> Duration {
    let old = set.wait_for_primary(DEADLINE).unwrap();
    let primary = set.member(old);
    let (id, _) = eventually(DEADLINE, || writes.write(primary));
    arrivals.wait_for(id);
    // Elections that follow each other closely are another matter.
    thread::sleep(Duration::from_secs(1));

    let written = AtomicBool::new(false);
    let (sender, acknowledged) = mpsc::channel();
    let (id, at) = thread::scope(|scope| {
        for other in (0..MEMBERS).filter(|number| *number != old) {
            let (member, written, sender) = (set.member(other), &written, sender.clone());
            scope.spawn(move || {
                while !written.load(Ordering::Relaxed) {
                    // Asked first: a refused write would keep the client from the next for a while.
                    if is(member, "ismaster")
                        && let Some(write) = writes.write(member)
                    {
                        written.store(true, Ordering::Relaxed);
                        let _ = sender.send(write);
                    }
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        fault.happens(set, primary);
        acknowledged.recv_timeout(DEADLINE).expect("another primary takes a write")
    });
    let delay = arrivals.wait_for(id).saturating_duration_since(at);
    fault.ends(primary);
    wait_until(DEADLINE, "the old primary is a secondary", || is(primary, "secondary"));
    delay
}

fn rounds(fault: Fault, count: usize) -> Vec<Duration> {
    let set = ReplicaSet::builder().members(MEMBERS).election_timeout_ms(1000).start().unwrap();
    let buffer = Buffer::new(1000);
    let worker =
        Worker::watch(set.uri()).database("shop").collection("orders").spawn(&buffer).unwrap();
    worker.wait_ready().unwrap();
    let arrivals = Arrivals::of(buffer);
    let writes = Writes { next: AtomicI32::new(0) };
    let mut delays: Vec<Duration> =
        (0..count).map(|_| round(&set, fault, &writes, &arrivals)).collect();
    delays.sort();
    delays
}

/// The smallest delay that at least `percent` of the rounds did not exceed, in milliseconds.
fn percentile(sorted: &[Duration], percent: usize) -> f64 {
    let index = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    (sorted[index].as_secs_f64() * 10_000.0).round() / 10.0
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --all-targets` runs it too, but has no use for it.
    if !arguments.iter().any(|argument| argument == "--bench") {
        return;
    }
    let json = arguments.iter().any(|argument| argument == "--json");
    let count = arguments.iter().find_map(|argument| argument.parse().ok()).unwrap_or(20).max(1);
    let mut results = Vec::new();
    if !json {
        println!("{:<10} {:>6} {:>9} {:>9} {:>9}", "fault", "rounds", "p50 ms", "p90 ms", "max ms");
    }
    for fault in Fault::ALL {
        let delays = rounds(fault, count);
        let [p50, p90, max] = [50, 90, 100].map(|percent| percentile(&delays, percent));
        if !json {
            println!("{:<10} {count:>6} {p50:>9.1} {p90:>9.1} {max:>9.1}", fault.name());
        }
        results.push(serde_json::json!({
            "fault": fault.name(), "rounds": count, "p50_ms": p50, "p90_ms": p90, "max_ms": max,
        }));
    }
    if json {
        println!("{}", serde_json::Value::Array(results));
    }
}
