//! The lives of one worker, one after the other, until everything is delivered.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::oplog::{BEGAN, Kind, Oplog};
use super::plan::Report;
use crate::checkpoint::acks::Places;
use crate::checkpoint::due::Due;
use crate::checkpoint::identity::{Saved, StreamIdentity};
use crate::checkpoint::ledger::Ledger;
use crate::clock::Now;
use crate::options::Options;
use crate::raw::token::Token;
use crate::snapshot::progress::SnapshotPlace;
use crate::source::position::Position;
use crate::source::scope::Scope;
use crate::stream::course::Course;
use crate::stream::step::{Ending, Happened, Rules, Step};

/// The name of the checkpoint.
pub(super) const CHECKPOINT: &str = "simulated";

/// For how long a stream is opened that was never open.
pub(super) const OPENING: Duration = Duration::from_secs(30);

/// The tokens of one reply.
pub(super) struct Tokens(pub(super) Vec<Vec<u8>>);

impl Places for Tokens {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn place(&self, index: usize) -> Option<&[u8]> {
        self.0.get(index).map(Vec::as_slice).filter(|token| !token.is_empty())
    }
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Of this entry.
    Event(usize),
    /// The changes before this entry are lost.
    Gap { to: usize },
    /// This entry is too large.
    Oversized(usize),
    /// A document of a snapshot.
    Document(i32),
}

#[derive(Clone)]
pub(super) struct Message {
    pub(super) number: u64,
    pub(super) content: Content,
    pub(super) tokens: Arc<Tokens>,
    pub(super) index: usize,
    pub(super) snapshot: Option<Arc<SnapshotPlace>>,
    /// The number of the last snapshot that was begun before it.
    pub(super) of_snapshot: u64,
}

impl Message {
    /// The place after it, as the library says it.
    pub(super) fn place(&self) -> Option<Saved> {
        let place = self.tokens.place(self.index);
        Saved::after(self.snapshot.as_deref(), place, place)
    }
}

/// Why a life of the worker is over.
enum Over {
    Crashed,
    Ended(Box<Ending>),
}

/// What the thread cannot go on after.
pub(super) enum Broken {
    Crash,
    Happened(Happened),
    Finding(String),
}

pub(super) struct World {
    pub(super) random: Rng,
    /// How many disturbances may still happen.
    pub(super) left: u64,
    pub(super) now: Duration,
    pub(super) oplog: Oplog,
    pub(super) options: Options,
    pub(super) identity: StreamIdentity,
    /// The consumer keeps the position of each message in the transaction that the message leads to. There is no
    /// checkpoint then.
    pub(super) keeps_positions: bool,
    /// Then, by entry, and by snapshot and document: it took effect.
    pub(super) took_effect: BTreeSet<(u64, usize)>,
    /// How many snapshots were begun, and which one the kept position belongs to.
    pub(super) snapshots: u64,
    pub(super) kept_snapshot: u64,
    /// What the store holds, or the consumer has kept.
    pub(super) text: Option<String>,
    /// By entry: it was acked, or it need not be.
    pub(super) acked: Vec<bool>,
    /// Entries below this one were there before the stream.
    pub(super) began: Option<usize>,
    /// What exists for a snapshot, and whether it was acked.
    pub(super) documents: Vec<bool>,
    pub(super) has_snapshot_begun: bool,
    /// Times of the last requests, and of those cursors that were followed.
    pub(super) requests: VecDeque<Duration>,
    pub(super) follows: VecDeque<Duration>,
    /// Until then there is no primary, and until then the user is refused.
    pub(super) outage: Duration,
    pub(super) refusal: Duration,
    /// Since when the user is refused, as far as the worker has seen.
    pub(super) refused: Option<Duration>,
    /// A failure that is for good.
    pub(super) fatal: bool,
    /// How often time has passed.
    pub(super) turns: u64,
    pub(super) wire_version: i32,
    pub(super) report: Report,
    pub(super) log: bool,
    pub(super) lines: Vec<String>,
}

/// One life.
pub(super) struct Life {
    pub(super) ledger: Arc<Ledger>,
    pub(super) course: Course,
    pub(super) due: Due,
    pub(super) began: Duration,
    pub(super) queue: VecDeque<Message>,
    pub(super) in_hand: Vec<Message>,
    /// The entry that has to come next, or a later one that is shown; `None` before the stream has a place.
    pub(super) expected: Option<usize>,
    pub(super) is_ready: bool,
    /// When a reply last showed that the stream works.
    pub(super) worked: Duration,
    /// Since when it has failed.
    pub(super) failing: Option<Duration>,
    pub(super) outline: Option<usize>,
    /// The number of the last snapshot that was begun.
    pub(super) snapshot: u64,
    /// Documents of the snapshot that were handed over.
    pub(super) read: Vec<i32>,
}

impl World {
    pub(super) fn new(mut random: Rng, disturbances: Option<u64>) -> Self {
        let mut options = Options::new();
        let mut set = |name: &str, value: &str| drop(options.set(name, value));
        let of = |random: &mut Rng, values: &[&'static str]| values[random.usize(..values.len())];
        set("batch_size", of(&mut random, &["1", "2", "3", "10"]));
        set("on_invalidate", of(&mut random, &["continue", "continue", "continue", "stop"]));
        set("on_history_lost", of(&mut random, &["fail", "restart", "restart", "snapshot"]));
        set("on_oversized", of(&mut random, &["skip", "skip", "fail", "split"]));
        if random.u8(..4) == 0 {
            set("retry_ms", "20000");
        }
        let mut documents = Vec::new();
        if random.u8(..3) == 0 {
            set("snapshot", of(&mut random, &["initial", "initial", "always"]));
            documents.resize(random.usize(0..20), false);
        } else if random.u8(..8) == 0 {
            set("start_at_time", &format!("{BEGAN}"));
        }
        let scope = Scope::new(Some("shop"), Some("orders"), None, &options);
        let identity = StreamIdentity::new(&scope, &options).unwrap_or_else(|error| {
            unreachable!("there is no pipeline: {error}");
        });
        let wire_version = if random.u8(..3) == 0 { 8 } else { 17 };
        let splits = options.on_oversized == crate::options::OnOversized::Split;
        let oplog = Oplog::new(random.u8(..3) == 0, splits);
        let keeps_positions = random.u8(..3) == 0;
        Self {
            random,
            left: disturbances.unwrap_or(u64::MAX),
            now: Duration::ZERO,
            oplog,
            options,
            identity,
            keeps_positions,
            took_effect: BTreeSet::new(),
            snapshots: 0,
            kept_snapshot: 0,
            text: None,
            acked: Vec::new(),
            documents,
            has_snapshot_begun: false,
            began: None,
            requests: VecDeque::new(),
            follows: VecDeque::new(),
            outage: Duration::ZERO,
            refusal: Duration::ZERO,
            refused: None,
            fatal: false,
            turns: 0,
            wire_version,
            report: Report::default(),
            log: false,
            lines: Vec::new(),
        }
    }

    /// Lives, one after the other, until everything is delivered that was written.
    pub(super) fn run(mut self, lines: Option<&mut Vec<String>>) -> Report {
        self.log = lines.is_some();
        for _ in 0..self.random.usize(0..6) {
            self.write();
        }
        let finding = self.live().err();
        self.report.finding = finding;
        if let Some(lines) = lines {
            *lines = self.lines;
        }
        self.report
    }

    pub(super) fn note(&mut self, line: impl FnOnce(&Self) -> String) {
        self.report.steps += 1;
        if self.log {
            let line = format!("{:>9.3} s  {}", self.now.as_secs_f64(), line(self));
            self.lines.push(line);
        }
    }

    /// Something that differs if anything differs.
    pub(super) fn trace(&mut self, value: u64) {
        let mixed = self.report.trace.rotate_left(5) ^ value;
        self.report.trace = mixed.wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    /// Whether something happens that happens once in so many times.
    pub(super) fn disturbed(&mut self, one_in: u32) -> bool {
        if self.random.u32(..one_in) != 0 || self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.report.events += 1;
        true
    }

    fn write(&mut self) {
        let now = self.now;
        let kind = |random: &mut Rng| match random.u8(..12) {
            0..6 => Kind::Shown,
            6..9 => Kind::Other,
            9 => Kind::Until(now + Duration::from_millis(random.u64(..5_000))),
            _ => Kind::Shown,
        };
        let kinds: Vec<Kind> = match self.random.u8(..20) {
            0 => vec![Kind::Drop],
            1 => vec![Kind::Large],
            2..5 => (0..self.random.usize(2..5)).map(|_| kind(&mut self.random)).collect(),
            _ => vec![kind(&mut self.random)],
        };
        self.note(|_| format!("written: {kinds:?}"));
        self.oplog.write(self.now, &kinds);
        self.acked.resize(self.oplog.entries.len(), false);
    }

    /// Time passes, and the world goes on.
    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.turns += 1;
        if self.disturbed(3) {
            self.write();
        }
        if self.disturbed(60) {
            let time = Duration::from_millis(self.random.u64(..15_000));
            self.note(|_| format!("no primary for {} ms", time.as_millis()));
            self.outage = self.now + time;
        }
        if self.disturbed(200) {
            let time = Duration::from_millis(self.random.u64(..45_000));
            self.note(|_| format!("the user is refused for {} ms", time.as_millis()));
            self.refusal = self.now + time;
        }
        if self.disturbed(150) && !self.oplog.entries.is_empty() {
            let at = self.random.usize(..self.oplog.entries.len());
            self.note(|_| format!("the oplog is cut off before entry {at}"));
            self.oplog.cut(at);
        }
    }

    fn live(&mut self) -> Result<(), String> {
        for life in 0..30 {
            // The last lives are calm, so that everything can come.
            if life >= 5 || self.report.steps > 500 {
                self.left = 0;
            }
            self.report.lives += 1;
            self.forget_requests();
            (self.fatal, self.refused) = (false, None);
            let ledger =
                Arc::new(Ledger::new("simulated", self.options.style(), StreamIdentity::default()));
            ledger.snapshot().is_saved();
            let rules = Rules::new(&self.options, OPENING);
            let now = Now { running: Duration::ZERO, unix: self.unix() };
            let course = Course::new(rules, now, self.random.u64(..));
            let due = Due::new(Duration::from_millis(200));
            let mut life = Life {
                ledger,
                course,
                due,
                began: self.now,
                queue: VecDeque::new(),
                in_hand: Vec::new(),
                expected: None,
                is_ready: false,
                worked: self.now,
                failing: Some(self.now),
                outline: None,
                snapshot: self.kept_snapshot,
                read: Vec::new(),
            };
            match self.live_once(&mut life)? {
                Over::Crashed => self.note(|_| "the process crashed".to_owned()),
                Over::Ended(ending) if matches!(*ending, Ending::Stopped) => {
                    // What is in hand may still be acked, and then everything acked is saved.
                    self.consume(&mut life, true)?;
                    self.save(&mut life)?;
                    self.note(|_| "the worker was stopped".to_owned());
                    if self.left == 0 && self.is_complete(&life) {
                        if let Some(id) = self.missing_document(None) {
                            return Err(format!("document {id} never came"));
                        }
                        return Ok(());
                    }
                }
                Over::Ended(ending) => {
                    if let Ending::Invalidated(Some(token)) = &*ending {
                        life.ledger.acks().place(Token::clone(token));
                    }
                    self.consume(&mut life, true)?;
                    if self.keeps_positions
                        && let Ending::Invalidated(Some(token)) = &*ending
                    {
                        // The worker's resume token: no message has one after the invalidate.
                        let place = Saved { token: Token::clone(token), snapshot: None };
                        self.keep_position(&place, life.snapshot)?;
                    }
                    self.save(&mut life)?;
                    if !self.may_end_so(&ending, &life)? {
                        return Ok(());
                    }
                    // Whoever starts it again waits a little.
                    self.pass(Duration::from_secs(10));
                }
            }
        }
        Err("after thirty lives not everything has come".to_owned())
    }

    fn unix(&self) -> Duration {
        Duration::from_secs(BEGAN) + self.now
    }

    pub(super) fn at(&self, life: &Life) -> Now {
        Now { running: self.now - life.began, unix: self.unix() }
    }

    /// Whether everything that had to come has come in this life, or before it.
    pub(super) fn is_complete(&self, life: &Life) -> bool {
        let end = self.oplog.entries.len();
        life.queue.is_empty()
            && life.expected.is_some_and(|from| self.oplog.must_come(from..end).next().is_none())
            && (!self.has_snapshot_begun || !life.ledger.snapshot().is_underway())
    }

    fn live_once(&mut self, life: &mut Life) -> Result<Over, String> {
        let saved = match &self.text {
            Some(text) if self.keeps_positions => Some(self.identity.read_position(text)?),
            Some(text) => Some(self.identity.read_checkpoint(CHECKPOINT, text)?),
            None => None,
        };
        if let Some(progress) = saved.as_ref().and_then(|saved| saved.snapshot.clone()) {
            life.ledger.snapshot().resume(progress);
        }
        if let Some(saved) = &saved {
            life.expected = Some(self.entry_after(&saved.token)?);
            life.ledger.acks().place(Token::clone(&saved.token));
        }
        let now = self.at(life);
        let mut step =
            life.course.begin(saved.as_ref(), saved.is_some() && !self.keeps_positions, now);
        loop {
            if self.report.steps > 20_000 {
                return Err("no end after 20,000 steps".to_owned());
            }
            if self.disturbed(400) {
                return Ok(Over::Crashed);
            }
            let done = match step {
                Step::End(ending) => return Ok(Over::Ended(Box::new(ending))),
                step => self.act(step, life),
            };
            let happened = match done {
                Ok(happened) => happened,
                Err(Broken::Happened(happened)) => happened,
                Err(Broken::Crash) => return Ok(Over::Crashed),
                Err(Broken::Finding(finding)) => return Err(finding),
            };
            let now = self.at(life);
            step = life.course.next(happened, now);
            if self.fatal && !matches!(step, Step::End(_)) {
                return Err("it goes on after a failure that is for good".to_owned());
            }
        }
    }

    /// The first entry that a stream gets after this token.
    pub(super) fn entry_after(&self, token: &Token) -> Result<usize, String> {
        let after = Position::Past(Token::clone(token));
        Ok(self.oplog.entries.partition_point(|entry| after.covers(&entry.token())))
    }
}
