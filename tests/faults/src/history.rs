//! Lost history: a consumer is away for longer than the oplog reaches back. Nothing can bring the events
//! back; then the consumer is told exactly what is missing.
//!
//! A server of its own with the smallest oplog, one consumer process before and one after.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ground::ReplicaSet;
use ground::mongodb::bson::{Document, doc};

use crate::consumer::{COLLECTION, DATABASE, WORKERS};
use crate::life::Consumer;
use crate::plan::{Directory, Plan, set, setting};
use crate::referee::{Referee, Window, Write};
use crate::report::{Key, now};
use crate::writer::command;
use crate::{Context, Result, wait_for};

/// A scenario.
pub type Scenario = fn(&Plan) -> Result<Window>;

/// The scenarios with their names.
pub const SCENARIOS: [(&str, Scenario); 2] = [
    ("oplog: rolled over, on_history_lost=fail", fails),
    ("oplog: rolled over, on_history_lost=restart", restarts),
];

const DEADLINE: Duration = Duration::from_secs(60);
/// How many documents are inserted before, during and after the consumer's absence.
const SOME: i64 = 50;

/// Each worker ends with the error that says so, and receives nothing.
fn fails(plan: &Plan) -> Result<Window> {
    let mut away = Away::begin(plan, &[])?;
    wait_for(DEADLINE, "each worker fails with HistoryLost", || {
        // 4.2 sees that a token is gone when it meets an event behind it.
        away.insert(1, false).ok()?;
        let referee = away.referee.lock().expect("no panic");
        let lost = |worker| {
            referee
                .failures()
                .iter()
                .any(|(of, text)| *of == worker && text.starts_with("HistoryLost "))
        };
        (0..WORKERS.len()).all(lost).then_some(())
    })?;
    away.end(|_, _| true)
}

/// Each worker tells of one gap, and goes on; whatever has not come lies in the gap.
fn restarts(plan: &Plan) -> Result<Window> {
    let mut away = Away::begin(plan, &["on_history_lost=restart"])?;
    wait_for(DEADLINE, "each worker tells of a gap", || {
        // As above.
        away.insert(1, false).ok()?;
        let referee = away.referee.lock().expect("no panic");
        (0..WORKERS.len()).all(|worker| !referee.gaps(worker).is_empty()).then_some(())
    })?;
    let from = now();
    away.insert(SOME, true)?;
    wait_for(DEADLINE, "everything behind the gap has come", || {
        let referee = away.referee.lock().expect("no panic");
        let missing = referee.missing(u64::MAX);
        missing.iter().all(|(_, key)| referee.written_at(*key) < from).then_some(())
    })?;
    let failures = away.referee.lock().expect("no panic").take_failures();
    failures.is_empty().then_some(()).ok_or_else(|| format!("a worker failed: {failures:?}"))?;
    away.end(|gaps, time| gaps.iter().any(|[from, to]| (from..to).contains(&&time)))
}

struct Away {
    set: ReplicaSet,
    consumer: Consumer,
    referee: Arc<Mutex<Referee>>,
    /// What was written, with the server's time of it.
    written: Vec<(Key, (u32, u32))>,
    next: i64,
    _directory: Directory,
}

impl Away {
    /// Lets a consumer receive something, go, and come back too late.
    fn begin(plan: &Plan, options: &[&str]) -> Result<Self> {
        let arguments = ["--oplogSize", "1", "--syncdelay", "1"];
        let set = set(plan.secure).args(arguments).start()?;
        let directory = Directory::new("faults-away")?;
        let referee = Arc::new(Mutex::new(Referee::default()));
        let mut setting = setting(plan, set.uri(), &directory);
        setting.options = options.iter().map(|option| (*option).to_owned()).collect();
        let consumer = Consumer::new(setting, &referee);
        consumer.start()?;
        let mut away =
            Self { set, consumer, referee, written: Vec::new(), next: 0, _directory: directory };
        away.insert(SOME, true)?;
        wait_for(DEADLINE, "everything has come", || {
            away.referee.lock().expect("no panic").missing(u64::MAX).is_empty().then_some(())
        })?;
        away.consumer.kill()?;
        away.insert(SOME, true)?;
        away.roll_over()?;
        away.consumer.launch()?;
        Ok(away)
    }

    /// Inserts documents into the collection that all workers watch.
    fn insert(&mut self, count: i64, counted: bool) -> Result<()> {
        for document in self.next..self.next + count {
            let insert = doc! {
                "insert": COLLECTION, "documents": [{ "_id": document, "v": 0 }],
                "writeConcern": { "w": "majority" },
            };
            let reply = command(&self.set, DATABASE, &insert)?;
            let time = reply.get_timestamp("operationTime").context("the time of a write")?;
            if counted {
                let key = Key { document, version: 0 };
                self.written.push((key, (time.time, time.increment)));
                let write = Write { key, collection: COLLECTION, at: now() };
                self.referee.lock().expect("no panic").wrote(write);
            }
        }
        self.next += count;
        Ok(())
    }

    /// Writes something else until the oplog begins behind all that was written.
    fn roll_over(&self) -> Result<()> {
        let last = self.written.last().map_or((0, 0), |(_, time)| *time);
        let client = self.set.client();
        let filler = client.database("other").collection::<Document>("filler");
        let oplog = client.database("local").collection::<Document>("oplog.rs");
        let text = "x".repeat(100_000);
        wait_for(DEADLINE, "the oplog rolls over", || {
            filler.insert_many((0..20).map(|_| doc! { "text": &text })).run().ok()?;
            let first = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).run().ok()??;
            let first = first.get_timestamp("ts").ok()?;
            ((first.time, first.increment) > last).then_some(())
        })
    }

    /// Counts what has not come as told, if it was.
    fn end(self, is_told: impl Fn(&[[(u32, u32); 2]], (u32, u32)) -> bool) -> Result<Window> {
        let referee = self.referee.lock().expect("no panic");
        let missing = referee.missing(u64::MAX);
        let mut window = referee.window(0).clone();
        for (worker, key) in &missing {
            let written = self.written.iter().find(|(written, _)| written == key);
            match written {
                Some((_, time)) if is_told(referee.gaps(*worker), *time) => window.told += 1,
                _ => {
                    return Err(format!(
                        "{}: {key:?} ({written:?}) lies outside of the gap {:?}",
                        WORKERS[*worker],
                        referee.gaps(*worker)
                    )
                    .into());
                }
            }
        }
        // Each worker has missed what was written while the consumer was away.
        let away = usize::try_from(SOME)? * WORKERS.len();
        if window.told < away {
            return Err(format!("only {} events were lost of {away}", window.told).into());
        }
        match referee.violations().iter().find(|text| !text.contains("HistoryLost")) {
            Some(violation) => Err(violation.clone().into()),
            None => Ok(window),
        }
    }
}
