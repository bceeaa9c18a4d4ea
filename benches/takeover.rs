//! How long after the end of a lease's holder another process delivers: after kill -9, after an orderly end, and after
//! SIGSTOP. In each round it is checked that nothing is missing, and that a holder that was stopped and goes on hands
//! over no more than one message, which was taken before.
//!
//! `cargo bench -p mongostream-benches --bench takeover -- [--rounds 20] [--lease 3000] [--json]`

#[path = "support/mod.rs"]
mod support;

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use bson::{Document, doc};
use ground::{ReplicaSet, wait_for_end};
use mongostream::{Buffer, ErrorKind, Worker};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use support::{Arguments, quantile};

const DEADLINE: Duration = Duration::from_secs(60);
const CHECKPOINTS: &str = "state.checkpoints";

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Kill,
    Orderly,
    Stop,
}

impl End {
    const ALL: [End; 3] = [End::Kill, End::Orderly, End::Stop];

    fn name(self) -> &'static str {
        match self {
            End::Kill => "kill -9",
            End::Orderly => "orderly end",
            End::Stop => "SIGSTOP",
        }
    }
}

/// One of the processes that share the lease: it prints the `_id` of each message, and acks it. With the end of standard
/// input it ends in an orderly way.
fn consumer(uri: &str, lease: &str) {
    let buffer = Buffer::new(1000);
    let worker = Worker::watch(uri)
        .database("shop")
        .collection("orders")
        .option("checkpoint_collection", CHECKPOINTS)
        .option("standby", "true")
        .option("lease_ms", lease)
        .spawn(&buffer)
        .unwrap();
    println!("started");
    let closing = buffer.clone();
    thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        closing.close();
    });
    for message in &buffer {
        match message {
            Ok(message) => {
                println!("{}", message.document_key().unwrap().get_i32("_id").unwrap());
                message.ack();
            }
            Err(error) if error.kind() == ErrorKind::Fenced => println!("fenced"),
            Err(error) => panic!("{error}"),
        }
    }
    let _ = worker.join();
}

/// A process, and what it has printed: each `_id` with the time.
struct Process {
    child: Child,
    lines: mpsc::Receiver<(String, Instant)>,
}

impl Process {
    fn start(uri: &str, lease: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--consumer", uri, &lease.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send((line, Instant::now()));
            }
        });
        let process = Self { child, lines };
        assert_eq!(process.next().0, "started");
        process
    }

    fn next(&self) -> (String, Instant) {
        self.lines.recv_timeout(DEADLINE).expect("it prints something")
    }

    fn next_id(&self) -> (i32, Instant) {
        let (line, at) = self.next();
        (line.parse().unwrap_or_else(|_| panic!("{line:?} instead of an id")), at)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// The ids that it prints from now on until it has ended.
    fn rest(mut self) -> Vec<i32> {
        drop(self.child.stdin.take());
        wait_for_end(&mut self.child, DEADLINE);
        let lines = std::iter::from_fn(|| self.lines.recv_timeout(DEADLINE).ok());
        lines.map(|(line, _)| line.parse().expect("an id")).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn round(set: &ReplicaSet, end: End, lease: u64) -> Duration {
    set.client().database("shop").drop().run().unwrap();
    set.client().database("state").drop().run().unwrap();
    let holder = Process::start(set.uri(), lease);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let orders = set.client().database("shop").collection::<Document>("orders");
            for id in 0.. {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                orders.insert_one(doc! { "_id": id }).run().unwrap();
                thread::sleep(Duration::from_millis(5));
            }
        });
        let (mut last, _) = holder.next_id();
        let standby = Process::start(set.uri(), lease);
        // A stream that has run for a while, and a holder that renews.
        let until = Instant::now() + Duration::from_millis(lease);
        while Instant::now() < until {
            last = holder.next_id().0;
        }
        let began = Instant::now();
        let mut holder = Some(holder);
        match end {
            End::Kill => holder.as_ref().unwrap().signal(Signal::SIGKILL),
            End::Stop => holder.as_ref().unwrap().signal(Signal::SIGSTOP),
            End::Orderly => last = holder.take().unwrap().rest().last().copied().unwrap_or(last),
        }
        let (first, at) = standby.next_id();
        let delay = at.saturating_duration_since(began);
        if let Some(holder) = holder {
            // What it had printed before is still on its way.
            while let Ok((line, at)) = holder.lines.recv_timeout(Duration::from_millis(50))
                && at < began + Duration::from_millis(50)
            {
                last = line.parse().unwrap();
            }
            if end == End::Stop {
                holder.signal(Signal::SIGCONT);
                let mut handed_over = 0;
                while holder.next().0 != "fenced" {
                    handed_over += 1;
                }
                assert!(handed_over <= 1, "the former holder hands over {handed_over} messages");
                assert_eq!(holder.rest(), [0; 0]);
            }
        }
        assert!(first <= last + 1, "{} to {first} are missing", last + 1);
        for id in first + 1..first + 20 {
            assert_eq!(standby.next_id().0, id, "the standby leaves out nothing");
        }
        stop.store(true, Ordering::Relaxed);
        delay
    })
}

fn main() {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let [name, uri, lease] = given.as_slice()
        && name == "--consumer"
    {
        return consumer(uri, lease);
    }
    let Some(arguments) = Arguments::of_bench() else { return };
    let count: usize = arguments.number("--rounds", 20).max(1);
    let lease: u64 = arguments.number("--lease", 3000);
    let set = ReplicaSet::start().unwrap();
    let json = arguments.has("--json");
    let mut results = Vec::new();
    if !json {
        println!("{:<12} {:>6} {:>9} {:>9} {:>9}", "end", "rounds", "p50 ms", "p90 ms", "max ms");
    }
    for end in End::ALL {
        let delays: Vec<f64> =
            (0..count).map(|_| round(&set, end, lease).as_secs_f64() * 1000.0).collect();
        let [p50, p90, max] = [0.5, 0.9, 1.0].map(|part| quantile(delays.iter().copied(), part));
        if !json {
            println!("{:<12} {count:>6} {p50:>9.0} {p90:>9.0} {max:>9.0}", end.name());
        }
        results.push(serde_json::json!({
            "end": end.name(), "rounds": count, "lease_ms": lease,
            "p50_ms": p50, "p90_ms": p90, "max_ms": max,
        }));
    }
    if json {
        println!("{}", serde_json::Value::Array(results));
    }
}
