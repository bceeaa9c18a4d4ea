//! Who compares what was written with what the consumer tells.
//!
//! It knows nothing of servers and processes, only writes and lines. Times are those of
//! [`now`](crate::report::now).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::consumer::{COLLECTION, SAVE_EVERY, WORKERS};
use crate::report::{Key, Line, Received};

/// An acknowledgement that was over for so long (in microseconds) when a save was told to begin is in
/// it: the position is read a moment before that.
const CERTAIN: u64 = 20_000;
/// How late a save may begin, beyond the interval.
const SAVE_SLACK: u64 = 3_000_000;

/// A write that the servers have acknowledged with majority.
#[derive(Clone, Debug)]
pub struct Write {
    /// Which version of which document.
    pub key: Key,
    /// In which collection.
    pub collection: &'static str,
    /// When it was acknowledged.
    pub at: u64,
}

/// What happened from one fault to the next.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// For each worker: acknowledged writes in its scope.
    pub expected: [usize; WORKERS.len()],
    /// How many of all of them have not come.
    pub lost: usize,
    /// How many have not come and were told to be lost.
    pub told: usize,
    /// Events that came twice to one consumer process.
    pub twice: usize,
    /// Events that came behind later ones.
    pub disordered: usize,
    /// Events that came again after restarts, and how many might have.
    pub again: (usize, usize),
    /// Events that came again although they were acknowledged and saved.
    pub needlessly: usize,
    /// How often streams were opened again.
    pub reopened: u64,
    /// The longest time from an acknowledged write to its event.
    pub longest_wait: Duration,
}

impl Window {
    /// Adds another one's counts.
    pub fn add(&mut self, other: &Window) {
        for (sum, count) in self.expected.iter_mut().zip(other.expected) {
            *sum += count;
        }
        self.lost += other.lost;
        self.told += other.told;
        self.twice += other.twice;
        self.disordered += other.disordered;
        self.again = (self.again.0 + other.again.0, self.again.1 + other.again.1);
        self.needlessly += other.needlessly;
        self.reopened += other.reopened;
        self.longest_wait = self.longest_wait.max(other.longest_wait);
    }
}

/// What a worker has told.
#[derive(Default)]
struct Told {
    /// The life in which each event came last.
    seen: HashMap<Key, u32>,
    /// What is acknowledged by the servers and has not come, or has to come again.
    missing: HashSet<Key>,
    /// What may come again after a restart.
    open: HashSet<Key>,
    life: Life,
    invalidates: usize,
    saved: usize,
    not_saved: usize,
    gaps: Vec<[(u32, u32); 2]>,
}

/// What a worker has told since its process was started.
#[derive(Default)]
struct Life {
    number: u32,
    ready: bool,
    /// Its messages, by number.
    received: Vec<Message>,
    /// The last version of each document.
    versions: HashMap<i64, u32>,
    last_time: (u32, u32),
    /// How many messages, from the first on, are acknowledged.
    acked: usize,
    /// Of these, how many the save that runs, and the last one that was done, surely had.
    saving: usize,
    saved: usize,
    /// Whether a save runs, and when the last one ended.
    in_save: bool,
    save_ended: u64,
    /// Since when something waits to be saved.
    unsaved_since: Option<u64>,
    reconnects: u64,
    /// Whether an event has come that had never come before.
    anything_new: bool,
}

struct Message {
    key: Option<Key>,
    acking: bool,
    acked: Option<u64>,
}

/// See the module.
pub struct Referee {
    writes: HashMap<Key, (Write, usize)>,
    told: [Told; WORKERS.len()],
    windows: Vec<Window>,
    violations: Vec<String>,
    stats: serde_json::Value,
    measured_at: u64,
    failures: Vec<(usize, String)>,
    /// A consumer that is a program of its own does not tell when it saves.
    pub sees_no_saves: bool,
}

impl Default for Referee {
    fn default() -> Self {
        Self {
            writes: HashMap::new(),
            told: Default::default(),
            windows: vec![Window::default()],
            violations: Vec::new(),
            stats: serde_json::Value::Null,
            measured_at: 0,
            failures: Vec::new(),
            sees_no_saves: false,
        }
    }
}

impl Referee {
    /// From now on everything counts for a new window; returns its number.
    pub fn open_window(&mut self) -> usize {
        self.windows.push(Window::default());
        self.windows.len() - 1
    }

    /// What was written and acknowledged.
    #[must_use]
    pub fn writes(&self) -> Vec<Key> {
        self.writes.keys().copied().collect()
    }

    /// A write was acknowledged.
    pub fn wrote(&mut self, write: Write) {
        let window = self.windows.len() - 1;
        for (worker, told) in self.told.iter_mut().enumerate() {
            if worker == 0 && write.collection != COLLECTION {
                continue;
            }
            self.windows[window].expected[worker] += 1;
            if !told.seen.contains_key(&write.key) {
                told.missing.insert(write.key);
            }
        }
        self.writes.insert(write.key, (write, window));
    }

    /// A consumer process was started.
    pub fn started(&mut self, at: u64) {
        for told in &mut self.told {
            let number = told.life.number + 1;
            told.life = Life { number, save_ended: at, ..Life::default() };
        }
    }

    /// The consumer process was killed, and all that it had told was heard.
    pub fn killed(&mut self, at: u64) {
        self.check_saves(at);
        let window = self.windows.len() - 1;
        for told in &mut self.told {
            self.windows[window].again.1 += told.open.len();
            let untouched = told.life.received.iter().filter(|message| !message.acking);
            told.missing.extend(untouched.filter_map(|message| message.key));
        }
    }

    /// The consumer process could do nothing up to now.
    pub fn excused(&mut self, at: u64) {
        self.told.iter_mut().for_each(|told| told.life.save_ended = at);
    }

    /// The consumer has told something.
    pub fn heard(&mut self, at: u64, worker: usize, line: Line) {
        let Some(told) = self.told.get_mut(worker) else { return };
        match line {
            Line::Ready => told.life.ready = true,
            Line::Received(received) => self.received(at, worker, received),
            Line::Acking(numbers) => {
                for number in numbers {
                    told.life.received[number].acking = true;
                }
            }
            Line::Acked(numbers) => {
                for number in numbers {
                    told.life.received[number].acked = Some(at);
                }
                let life = &mut told.life;
                let before = life.acked;
                while life.received.get(life.acked).is_some_and(|next| next.acked.is_some()) {
                    life.acked += 1;
                }
                if life.acked > before {
                    life.unsaved_since.get_or_insert(at);
                }
            }
            Line::Saving => {
                self.check_saves(at);
                let life = &mut self.told[worker].life;
                let certain = life.received[life.saved..life.acked]
                    .iter()
                    .take_while(|one| one.acked.is_some_and(|acked| acked + CERTAIN <= at));
                life.saving = life.saved + certain.count();
                (life.in_save, life.unsaved_since) = (true, None);
            }
            Line::Saved => {
                let Told { life, open, saved, .. } = told;
                for message in &life.received[life.saved..life.saving] {
                    if let Some(key) = message.key {
                        open.remove(&key);
                    }
                }
                life.saved = life.saving;
                (life.in_save, life.save_ended) = (false, at);
                *saved += 1;
            }
            Line::NotSaved => {
                (told.life.in_save, told.life.save_ended) = (false, at);
                told.not_saved += 1;
            }
            Line::Failed(text) => self.failures.push((worker, text)),
            Line::Stats(json) => {
                self.measured(at, serde_json::from_str(&json).unwrap_or_default());
            }
        }
    }

    fn measured(&mut self, at: u64, stats: serde_json::Value) {
        let window = self.windows.len() - 1;
        for (worker, told) in self.told.iter_mut().enumerate() {
            let reconnects = stats["workers"][worker]["reconnects"].as_u64().unwrap_or(0);
            self.windows[window].reopened += reconnects.saturating_sub(told.life.reconnects);
            told.life.reconnects = reconnects;
        }
        (self.stats, self.measured_at) = (stats, at);
    }

    fn received(&mut self, at: u64, worker: usize, received: Received) {
        let (told, window) = (&mut self.told[worker], self.windows.len() - 1);
        let Received { number, key, time, operation, gap } = received;
        let Told { seen, missing, open, life, .. } = told;
        if number != life.received.len() {
            self.violations.push(format!("{}: message {number} was told twice", WORKERS[worker]));
            return;
        }
        life.received.push(Message { key, acking: false, acked: None });
        told.invalidates += usize::from(operation == "invalidate");
        told.gaps.extend(gap);
        let window = &mut self.windows[window];
        let mut wrong = |what: &str| {
            let text = format!("{}: {key:?} ({operation}, at {time:?}) {what}", WORKERS[worker]);
            self.violations.push(text);
        };
        if gap.is_none() {
            if time < life.last_time {
                window.disordered += 1;
                wrong("came behind a later event");
            }
            life.last_time = life.last_time.max(time);
        }
        let Some(key) = key else { return };
        missing.remove(&key);
        match seen.insert(key, life.number) {
            None => {
                if !life.anything_new {
                    life.anything_new = true;
                    // What is older and has not come again in this life stands before its beginning.
                    open.retain(|key| seen.get(key) == Some(&life.number));
                }
                if let Some((write, _)) = self.writes.get(&key) {
                    let wait = Duration::from_micros(at.saturating_sub(write.at));
                    window.longest_wait = window.longest_wait.max(wait);
                }
            }
            Some(last) if last == life.number => {
                window.twice += 1;
                wrong("came twice");
            }
            Some(_) if open.contains(&key) => window.again.0 += 1,
            Some(_) => {
                window.needlessly += 1;
                wrong("came again although it had been acknowledged and saved");
            }
        }
        open.insert(key);
        let last = life.versions.insert(key.document, key.version);
        if last.is_some_and(|last| last > key.version) {
            window.disordered += 1;
            wrong("came behind a later version");
        }
    }

    /// Whether saves begin when they have to.
    fn check_saves(&mut self, at: u64) {
        if self.sees_no_saves {
            return;
        }
        for (told, name) in self.told.iter_mut().zip(WORKERS) {
            let life = &mut told.life;
            let Some(since) = life.unsaved_since.filter(|_| !life.in_save) else { continue };
            let waits = Duration::from_micros(at.saturating_sub(since.max(life.save_ended)));
            if waits > SAVE_EVERY + Duration::from_micros(SAVE_SLACK) {
                life.unsaved_since = None;
                self.violations.push(format!("{name}: no save for {waits:?}"));
            }
        }
    }

    /// What was acknowledged by the servers until this time and has not come, with its worker.
    #[must_use]
    pub fn missing(&self, until: u64) -> Vec<(usize, Key)> {
        let of = |(worker, told): (usize, &Told)| {
            let due = |key: &&Key| self.writes.get(key).is_none_or(|(write, _)| write.at <= until);
            told.missing.iter().filter(due).map(|key| (worker, *key)).collect::<Vec<_>>()
        };
        self.told.iter().enumerate().flat_map(of).collect()
    }

    /// Counts what has not come until the end as lost.
    pub fn finish(&mut self) {
        for (worker, key) in self.missing(u64::MAX) {
            let last = self.windows.len() - 1;
            let window = self.writes.get(&key).map_or(last, |(_, window)| *window);
            self.windows[window].lost += 1;
            self.violations.push(format!("{}: {key:?} never came", WORKERS[worker]));
        }
    }

    /// What is wrong so far, the failures of workers among it.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let failed = self
            .failures
            .iter()
            .map(|(worker, text)| format!("{}: failed: {text}", WORKERS[*worker]));
        self.violations.iter().cloned().chain(failed).collect()
    }

    /// When a write was acknowledged.
    #[must_use]
    pub fn written_at(&self, key: Key) -> u64 {
        self.writes.get(&key).map_or(0, |(write, _)| write.at)
    }

    /// Failures that workers have told.
    #[must_use]
    pub fn failures(&self) -> &[(usize, String)] {
        &self.failures
    }

    /// The same, and they are no violations then.
    pub fn take_failures(&mut self) -> Vec<(usize, String)> {
        std::mem::take(&mut self.failures)
    }

    /// A window.
    #[must_use]
    pub fn window(&self, number: usize) -> &Window {
        &self.windows[number]
    }

    /// Whether all streams of the consumer process have been open.
    #[must_use]
    pub fn all_ready(&self) -> bool {
        self.told.iter().all(|told| told.life.ready)
    }

    /// How many invalidates a worker has received.
    #[must_use]
    pub fn invalidates(&self, worker: usize) -> usize {
        self.told[worker].invalidates
    }

    /// How many saves of a worker's have succeeded and failed.
    #[must_use]
    pub fn saves(&self, worker: usize) -> (usize, usize) {
        (self.told[worker].saved, self.told[worker].not_saved)
    }

    /// The gaps that a worker was told of: from when to when.
    #[must_use]
    pub fn gaps(&self, worker: usize) -> &[[(u32, u32); 2]] {
        &self.told[worker].gaps
    }

    /// The buffer's figures, as they were told last.
    #[must_use]
    pub fn stats(&self) -> &serde_json::Value {
        &self.stats
    }

    /// When they were told.
    #[must_use]
    pub fn measured_at(&self) -> u64 {
        self.measured_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that a consumer without faults tells of three versions of a document, a save behind
    /// the first two.
    struct Records(Referee, u64);

    impl Records {
        fn new() -> Self {
            let mut referee = Referee::default();
            referee.started(0);
            Self(referee, 0)
        }

        fn key(version: u32) -> Key {
            Key { document: 7, version }
        }

        fn write(&mut self, version: u32) {
            self.1 += 1000;
            let (key, at) = (Self::key(version), self.1);
            self.0.wrote(Write { key, collection: "customers", at });
        }

        fn hear(&mut self, line: &Line) {
            self.1 += 1000;
            for worker in 1..WORKERS.len() {
                self.0.heard(self.1, worker, line.clone());
            }
        }

        fn receive(&mut self, number: usize, version: u32) {
            let time = (version, 0);
            let (key, operation) = (Some(Self::key(version)), "update".to_owned());
            self.hear(&Line::Received(Received { number, key, time, operation, gap: None }));
        }

        fn ack(&mut self, numbers: &[usize]) {
            self.hear(&Line::Acking(numbers.to_vec()));
            self.hear(&Line::Acked(numbers.to_vec()));
        }

        fn save(&mut self) {
            self.1 += CERTAIN;
            self.hear(&Line::Saving);
            self.hear(&Line::Saved);
        }

        fn restart(&mut self) {
            self.0.killed(self.1);
            self.0.started(self.1);
        }

        /// What the referee says in the end, in the words of the table.
        fn verdict(mut self) -> [usize; 4] {
            self.0.finish();
            let Window { lost, twice, disordered, needlessly, .. } = *self.0.window(0);
            let complaints = self.0.violations();
            assert_eq!(complaints.is_empty(), lost + twice + disordered + needlessly == 0);
            [lost, twice, disordered, needlessly].map(|count| count / 2)
        }
    }

    fn received(versions: &[u32]) -> [usize; 4] {
        let mut records = Records::new();
        (0..3).for_each(|version| records.write(version));
        for (number, version) in versions.iter().enumerate() {
            records.receive(number, *version);
        }
        records.verdict()
    }

    #[test]
    fn all_in_order_is_right() {
        assert_eq!(received(&[0, 1, 2]), [0; 4]);
    }

    #[test]
    fn a_missing_record_is_lost() {
        assert_eq!(received(&[0, 2]), [1, 0, 0, 0]);
        assert_eq!(received(&[0, 1]), [1, 0, 0, 0]);
    }

    #[test]
    fn a_doubled_record_is_twice_there() {
        assert_eq!(received(&[0, 1, 2, 2]), [0, 1, 0, 0]);
    }

    #[test]
    fn swapped_records_are_out_of_order() {
        // By the server's time, and by the document's versions.
        assert_eq!(received(&[0, 2, 1]), [0, 0, 2, 0]);
    }

    #[test]
    fn what_is_not_saved_comes_again_after_a_restart() {
        let mut records = Records::new();
        (0..3).for_each(|version| records.write(version));
        (0..3).for_each(|version| records.receive(version as usize, version));
        records.ack(&[0, 1]);
        records.save();
        records.restart();
        records.receive(0, 2);
        assert_eq!(records.0.window(0).again, (2, 2));
        assert_eq!(records.verdict(), [0; 4]);
    }

    #[test]
    fn what_nobody_acknowledged_is_lost_if_it_does_not_come_again() {
        let mut records = Records::new();
        (0..2).for_each(|version| records.write(version));
        (0..2).for_each(|version| records.receive(version as usize, version));
        records.ack(&[0]);
        records.save();
        records.restart();
        assert_eq!(records.verdict(), [1, 0, 0, 0]);
    }

    #[test]
    fn what_was_saved_must_not_come_again() {
        let mut records = Records::new();
        (0..2).for_each(|version| records.write(version));
        (0..2).for_each(|version| records.receive(version as usize, version));
        records.ack(&[1, 0]);
        records.save();
        records.restart();
        records.receive(0, 1);
        assert_eq!(records.verdict(), [0, 0, 0, 1]);
    }

    #[test]
    fn an_ack_behind_one_that_is_missing_is_not_saved() {
        let mut records = Records::new();
        (0..2).for_each(|version| records.write(version));
        (0..2).for_each(|version| records.receive(version as usize, version));
        records.ack(&[1]);
        records.save();
        records.restart();
        (0..2).for_each(|version| records.receive(version as usize, version));
        assert_eq!(records.verdict(), [0; 4]);
    }

    #[test]
    fn a_save_that_does_not_come_is_missed() {
        let mut records = Records::new();
        records.write(0);
        records.receive(0, 0);
        records.ack(&[0]);
        records.1 += 60_000_000;
        records.save();
        assert!(records.0.violations()[0].contains("no save for"));
    }
}
