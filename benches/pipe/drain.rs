//! One run: a program stores its position and ends, a backlog is written, and the program drains it.

use std::fmt;
use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bson::oid::ObjectId;
use bson::{Document, doc};
use ground::ReplicaSet;

use crate::broker::Broker;
use crate::contender::{Contender, Route, Running};
use crate::support::documents::order;
use crate::support::programs::scratch;
use crate::support::{cpu_time, history, peak_memory, server_cpu};

/// How long a program may take for its first message, and then for each further one.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the broker is asked. It is work for it.
const PERIOD: Duration = Duration::from_millis(10);
const COLLECTION: &str = "orders";

/// What one run has shown. CPU times are microseconds a message, from the first message to the last.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) messages_per_s: f64,
    pub(crate) program_us: f64,
    /// Of the second half of the messages.
    pub(crate) late_us: f64,
    /// With what came before the first message.
    pub(crate) whole_us: f64,
    pub(crate) mongod_us: f64,
    pub(crate) broker_us: f64,
    /// Until the first message: seconds, and seconds of CPU time.
    pub(crate) start_s: f64,
    pub(crate) start_cpu_s: f64,
    pub(crate) peak_mb: f64,
    /// Bytes of a message with its headers; only JetStream tells.
    pub(crate) bytes: f64,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { messages_per_s, program_us, late_us, mongod_us, broker_us, .. } = self;
        write!(
            f,
            "{messages_per_s:.0} messages/s, CPU {program_us:.2} ({late_us:.2} in the second half), \
             mongod {mongod_us:.1}, broker {broker_us:.1} µs a message, {:.1} MB; first after {:.2} s",
            self.peak_mb, self.start_s
        )
    }
}

pub(crate) fn set_for(events: u64) -> ReplicaSet {
    history::set_for(events as usize)
}

/// A moment of a run.
struct Mark {
    at: Instant,
    count: u64,
    program: Duration,
    mongod: Duration,
    broker: Duration,
}

/// One run of one program.
struct Drain<'a> {
    contender: &'a Contender,
    broker: &'a mut Broker,
    set: &'a ReplicaSet,
    route: &'a Route<'a>,
}

/// Lets a program drain a backlog of so many inserts.
pub(crate) fn run(
    contender: &Contender,
    broker: &mut Broker,
    set: &ReplicaSet,
    events: u64,
) -> Run {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let (database, stream) = (format!("bench{number}"), format!("STREAM{number}"));
    let directory = scratch().join(format!("pipe-{}-{number}", std::process::id()));
    let route = Route {
        uri: set.uri(),
        database: &database,
        collection: COLLECTION,
        stream: &stream,
        topic: &format!("{stream}.{database}.{COLLECTION}"),
        directory: &directory,
    };
    broker.make(&stream);
    let run = Drain { contender, broker, set, route: &route }.run(events);
    broker.remove(&stream);
    set.client().database(&database).drop().run().unwrap();
    let _ = fs::remove_dir_all(&directory);
    run
}

impl Drain<'_> {
    fn run(mut self, events: u64) -> Run {
        let before = self.store_position();
        self.write(events);
        // Else the server may write the backlog to its disk while somebody drains it.
        self.set.client().database("admin").run_command(doc! { "fsync": 1 }).run().unwrap();

        let started = Instant::now();
        let mut program = self.contender.start(self.route, self.broker);
        let first = self.mark_at(&mut program, before + 1);
        let half = self.mark_at(&mut program, before + events / 2);
        let last = self.mark_at(&mut program, before + events);
        let peak = peak_memory(program.pid());
        let bytes = self.broker.bytes_per_message(self.route.stream);
        program.stop();
        // A message more is one that came twice.
        assert_eq!(self.count(), before + events, "messages of {}", self.contender.name());

        let us = |from: Duration, to: Duration, count: u64| {
            (to - from).as_secs_f64() * 1e6 / count as f64
        };
        let drained = last.count - first.count;
        Run {
            messages_per_s: drained as f64 / (last.at - first.at).as_secs_f64(),
            program_us: us(first.program, last.program, drained),
            late_us: us(half.program, last.program, last.count - half.count),
            whole_us: us(Duration::ZERO, last.program, events),
            mongod_us: us(first.mongod, last.mongod, drained),
            broker_us: us(first.broker, last.broker, drained),
            start_s: (first.at - started).as_secs_f64(),
            start_cpu_s: first.program.as_secs_f64(),
            peak_mb: peak as f64 / f64::from(1 << 20),
            bytes,
        }
    }

    /// Starts the program, lets it publish something, and ends it: it goes on there when it is started again. How many
    /// messages the broker holds then.
    fn store_position(&mut self) -> u64 {
        let mut program = self.contender.start(self.route, self.broker);
        let orders = self.orders();
        let end = Instant::now() + PATIENCE;
        // What is written before it follows the collection does not come.
        while self.count() == 0 {
            program.assert_runs();
            assert!(Instant::now() < end, "nothing comes; {}", program.log_tail());
            orders.insert_one(doc! { "probe": true }).run().unwrap();
            sleep(Duration::from_millis(300));
        }
        let mut count = self.count();
        let mut quiet = Instant::now();
        // A position is saved each second.
        while quiet.elapsed() < Duration::from_millis(2500) {
            sleep(Duration::from_millis(50));
            let now = self.count();
            if now > count {
                (count, quiet) = (now, Instant::now());
            }
        }
        program.stop();
        self.count()
    }

    fn write(&self, events: u64) {
        const BLOCK: u64 = 1000;
        let orders = self.orders();
        for block in 0..events.div_ceil(BLOCK) {
            let numbers = block * BLOCK..((block + 1) * BLOCK).min(events);
            let documents = numbers.map(|number| {
                let mut document = order(ObjectId::new(), number as i32);
                // 300 bytes without them.
                document.remove("items");
                document
            });
            orders.insert_many(documents).run().unwrap();
        }
    }

    /// Waits until the broker holds so many messages.
    fn mark_at(&mut self, program: &mut Running, wanted: u64) -> Mark {
        let (mut before, mut since) = (0, Instant::now());
        loop {
            let count = self.count();
            if count >= wanted {
                return Mark {
                    at: Instant::now(),
                    count,
                    program: cpu_time(program.pid()),
                    mongod: server_cpu(self.set),
                    broker: cpu_time(self.broker.pid()),
                };
            }
            if count > before {
                (before, since) = (count, Instant::now());
            }
            program.assert_runs();
            assert!(
                since.elapsed() < PATIENCE,
                "{count} of {wanted} messages, and no more for {PATIENCE:?}; {}",
                program.log_tail()
            );
            sleep(PERIOD);
        }
    }

    fn count(&mut self) -> u64 {
        self.broker.count(self.route.stream, self.route.topic)
    }

    fn orders(&self) -> ground::mongodb::sync::Collection<Document> {
        self.set.client().database(self.route.database).collection(self.route.collection)
    }
}
