//! The lives of one worker: its thread does what the course says, consumers ack, a store keeps what is saved.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bson::Timestamp;
use fastrand::Rng;

use super::oplog::{Answered, BEGAN, Kind, ModelCursor, ModelReply, Oplog, server};
use super::plan::Report;
use crate::bson::token::Token;
use crate::checkpoint::acks::Places;
use crate::checkpoint::due::Due;
use crate::checkpoint::identity::{Identity, Saved};
use crate::checkpoint::ledger::Ledger;
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::options::Options;
use crate::snapshot::progress::Progress as SnapshotProgress;
use crate::source::cursor::{Change, Progress};
use crate::source::failure::{self, Phase};
use crate::source::fault::{Fault, FaultKind};
use crate::source::pace::{Advice, Pace};
use crate::source::position::Position;
use crate::source::scope::Scope;
use crate::source::servers::ServerFacts;
use crate::stream::course::Course;
use crate::stream::step::{End, Ending, Failed, Happened, Lost, Plan, Rules, Step, Why};

/// For how long a stream is opened that was never open.
const OPENING: Duration = Duration::from_secs(30);
/// As many messages as the buffer holds.
const CAPACITY: usize = 8;
/// So many cursors may be followed, and so many requests made, in one second without a message.
const FOLLOWS_A_SECOND: usize = 12;
const REQUESTS_A_SECOND: usize = 25;

/// So often time passes in no run that comes to its end.
const TURNS: u64 = 100_000;

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

/// What is asked of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To open a cursor.
    Open,
    /// For the next reply of one.
    More,
    /// For documents of a snapshot.
    Documents,
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
    left: u64,
    pub(super) now: Duration,
    pub(super) oplog: Oplog,
    options: Options,
    identity: Identity,
    /// What the store holds.
    text: Option<String>,
    /// By entry: it was acked, or it need not be.
    pub(super) acked: Vec<bool>,
    /// Entries below this one were there before the stream.
    pub(super) began: Option<usize>,
    /// What exists for a snapshot, and whether it was acked.
    pub(super) documents: Vec<bool>,
    pub(super) has_snapshot_begun: bool,
    /// Times of the last requests, and of those cursors that were followed.
    requests: VecDeque<Duration>,
    follows: VecDeque<Duration>,
    /// Until then there is no primary, and until then the user is refused.
    outage: Duration,
    refusal: Duration,
    /// Since when the user is refused, as far as the worker has seen.
    refused: Option<Duration>,
    /// A failure that is for good.
    fatal: bool,
    /// How often time has passed.
    turns: u64,
    pub(super) wire_version: i32,
    report: Report,
    log: bool,
    lines: Vec<String>,
}

/// One life.
pub(super) struct Life {
    pub(super) ledger: Arc<Ledger>,
    pub(super) course: Course,
    due: Due,
    began: Duration,
    queue: VecDeque<Message>,
    in_hand: Vec<Message>,
    /// The entry that has to come next, or a later one that is shown; `None` before the stream has a place.
    pub(super) expected: Option<usize>,
    pub(super) is_ready: bool,
    /// When a reply last showed that the stream works.
    pub(super) worked: Duration,
    /// Since when it has failed.
    pub(super) failing: Option<Duration>,
    outline: Option<usize>,
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
        let identity = Identity::new("simulated", &scope, &options).unwrap_or_else(|error| {
            unreachable!("the name is a plain one: {error}");
        });
        let wire_version = if random.u8(..3) == 0 { 8 } else { 17 };
        let splits = options.on_oversized == crate::options::OnOversized::Split;
        let oplog = Oplog::new(random.u8(..3) == 0, splits);
        Self {
            random,
            left: disturbances.unwrap_or(u64::MAX),
            now: Duration::ZERO,
            oplog,
            options,
            identity,
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
    fn trace(&mut self, value: u64) {
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
            let ledger = Arc::new(Ledger::new("simulated", self.options.style()));
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

    fn at(&self, life: &Life) -> Now {
        Now { running: self.now - life.began, unix: self.unix() }
    }

    /// Whether everything that had to come has come in this life, or before it.
    fn is_complete(&self, life: &Life) -> bool {
        let end = self.oplog.entries.len();
        life.queue.is_empty()
            && life.expected.is_some_and(|from| self.oplog.must_come(from..end).next().is_none())
            && (!self.has_snapshot_begun || !life.ledger.snapshot().is_underway())
    }

    /// Whether a new life may follow such an end, or an error that says that it should not have come.
    fn may_end_so(&mut self, ending: &Ending, life: &Life) -> Result<bool, String> {
        let (kind, text) = match ending {
            Ending::Failed(failed) => (failure::kind(&failed.fault), failed.fault.text.clone()),
            Ending::Invalidated(_) => (ErrorKind::Invalidated, "invalidated".to_owned()),
            Ending::Error(error) => (error.kind(), error.to_string()),
            Ending::Bug(text) => return Err(format!("a bug: {text}")),
            Ending::Stopped => return Ok(true),
        };
        self.note(|_| format!("the worker has failed: {kind:?}, {text}"));
        // A server cannot know that nothing was between the place and the first entry that is left.
        let is_lost = life.expected.is_none_or(|expected| expected <= self.oplog.first);
        match kind {
            ErrorKind::HistoryLost if is_lost => Ok(false),
            ErrorKind::HistoryLost => Err(format!(
                "the history is called lost ({text}), but it begins at entry {} and {:?} is next",
                self.oplog.first, life.expected
            )),
            ErrorKind::Invalidated
                if self.options.on_invalidate == crate::options::OnInvalidate::Stop =>
            {
                Ok(true)
            }
            ErrorKind::Oversized => Ok(false),
            // Bearing it is worth it only for a stream that has been open.
            ErrorKind::Auth if !life.is_ready && !life.course.ran_before() => Ok(true),
            ErrorKind::Auth if self.has_been_refused() => Ok(true),
            ErrorKind::Server if self.fatal => Ok(true),
            _ if self.has_lasted(life) => Ok(true),
            _ => Err(format!("no reason to fail: {kind:?}, {text}")),
        }
    }

    /// Whether the user has been refused for as long as a worker bears it.
    fn has_been_refused(&self) -> bool {
        self.refused.is_some_and(|since| self.now - since >= Duration::from_secs(30))
    }

    /// Whether the stream has not worked for as long as the options bear, or a first start may take.
    fn has_lasted(&self, life: &Life) -> bool {
        let limit = if life.course.ran_before() || life.is_ready {
            self.options.retry
        } else {
            Some(OPENING)
        };
        limit.is_some_and(|limit| self.now - life.worked >= limit)
    }

    fn live_once(&mut self, life: &mut Life) -> Result<Over, String> {
        let saved = match &self.text {
            Some(text) => Some(self.identity.read(text)?),
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
        let mut step = life.course.begin(saved.as_ref(), now);
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

    /// A failure of a request, if one is due.
    pub(super) fn fault(&mut self, asked: Asked) -> Option<Fault> {
        if self.disturbed(600) {
            self.note(|_| "a request fails for good".to_owned());
            self.fatal = true;
            return Some(server(59, "no such command"));
        }
        self.passing_fault(asked)
    }

    /// The same, and it is worth another attempt.
    fn passing_fault(&mut self, asked: Asked) -> Option<Fault> {
        let of = |kind, text: &str| Fault { kind, answer: None, text: text.to_owned() };
        if self.now < self.outage {
            return Some(of(FaultKind::Network, "no primary"));
        }
        if self.now < self.refusal {
            // What the driver does with the other connections says nothing of the user.
            if self.random.u8(..3) == 0 {
                return Some(of(FaultKind::ConnectionsGivenUp, "given up"));
            }
            return Some(match self.random.bool() {
                true => server(13, "not authorized"),
                false => of(FaultKind::Login(None), "the login is refused"),
            });
        }
        if !self.disturbed(12) {
            return None;
        }
        let codes: &[i32] = match asked {
            Asked::Open => &[91, 189, 211, 11600, 11601],
            // Before 4.4 without a label.
            Asked::More if self.wire_version < 9 => &[43, 133, 234, 237, 11601, 13435],
            Asked::More => &[43, 91, 237, 11600, 11601],
            Asked::Documents => &[43, 91, 175, 237, 11601, 13436],
        };
        let fault = match self.random.u8(..8) {
            0 => of(FaultKind::Network, "broken"),
            1 => of(FaultKind::ConnectionsGivenUp, "given up"),
            2 => {
                let cause = Box::new(server(91, "shutting down"));
                of(FaultKind::Login(Some(cause)), "a login fails")
            }
            3 if asked == Asked::More => {
                let mut fault = server(20_000, "anything");
                fault.answer.iter_mut().for_each(|answer| answer.is_resumable = true);
                fault
            }
            4 if asked == Asked::Documents => {
                server(72, "afterClusterTime value must not be greater than the current time")
            }
            _ => server(codes[self.random.usize(..codes.len())], "a passing failure"),
        };
        self.note(|_| format!("a request fails: {}", fault.text));
        Some(fault)
    }

    /// What was asked before does not count any more.
    fn forget_requests(&mut self) {
        self.requests.clear();
        self.follows.clear();
    }

    /// The stream works.
    pub(super) fn works(&mut self, life: &mut Life) {
        (life.worked, life.failing) = (self.now, None);
        self.refused = None;
    }

    /// Sees that a stream is not opened again for longer than it may.
    fn check_patience(&mut self, life: &mut Life, failed: &Failed) -> Result<(), Broken> {
        let since = *life.failing.get_or_insert(self.now);
        let limit = match failed.phase {
            Phase::Opening => Some(OPENING),
            _ => self.options.retry,
        };
        if limit.is_some_and(|limit| self.now - since >= limit) {
            return Err(Broken::Finding(
                "it goes on although it has failed for too long".to_owned(),
            ));
        }
        if failure::is_unreachable(&failed.fault) {
            self.refused = None;
        }
        if failure::is_refused(&failed.fault) {
            self.refused.get_or_insert(self.now);
            if self.has_been_refused() {
                return Err(Broken::Finding("a refused user is borne for too long".to_owned()));
            }
        }
        Ok(())
    }

    pub(super) fn request(&mut self, life: &Life) -> Result<(), Broken> {
        self.report.opens += 1;
        self.trace(self.report.opens);
        if count(&mut self.requests, self.now) > REQUESTS_A_SECOND {
            let position = life.course.position();
            return Err(Broken::Finding(format!("a hot loop {position}")));
        }
        let time = Duration::from_millis(self.random.u64(1..4));
        self.pass(time);
        Ok(())
    }

    fn act(&mut self, step: Step, life: &mut Life) -> Result<Happened, Broken> {
        let wire_version = self.wire_version;
        let failed =
            |fault| Happened::Failed { fault, is_open: false, wire_version: Some(wire_version) };
        match step {
            Step::TakeToken(from) => {
                self.note(|_| format!("take the token {from}"));
                self.request(life)?;
                if let Some(fault) = self.fault(Asked::Open) {
                    return Ok(failed(fault));
                }
                let mut cursor = ModelCursor::open(from);
                match cursor.next(&self.oplog, self.now, 0) {
                    Answered::Reply(reply) => {
                        let next = self.entry_after(&reply.token).map_err(Broken::Finding)?;
                        life.expected = Some(next);
                        self.began.get_or_insert(next);
                        Ok(Happened::Token(reply.token))
                    }
                    Answered::Failed(fault) => Ok(failed(fault)),
                    Answered::Closed => Ok(Happened::Closed),
                }
            }
            Step::Follow(plan) => self.follow(&plan, life),
            Step::Wait(wait) => {
                self.note(|_| format!("wait {} ms", wait.time.as_millis()));
                match wait.why {
                    Why::Invalidated(token) => {
                        self.forget_requests();
                        life.ledger.acks().place(token);
                    }
                    Why::Failed(failed) => self.check_patience(life, &failed)?,
                    Why::Lost(_) => _ = life.failing.get_or_insert(self.now),
                    Why::Closed => {}
                }
                self.pass(wait.time);
                self.consume(life, false).map_err(Broken::Finding)?;
                if self.disturbed(60) {
                    return Ok(Happened::Stopped);
                }
                Ok(Happened::Done)
            }
            Step::FindInvalidate(from) => {
                self.note(|_| format!("find the invalidate {from}"));
                self.request(life)?;
                if self.passing_fault(Asked::More).is_some() {
                    return Ok(Happened::Nothing);
                }
                let mut cursor = ModelCursor::open(from);
                let is_hidden = std::mem::replace(&mut self.oplog.hides_invalidate, false);
                let mut found = Happened::Nothing;
                for _ in 0..3 {
                    match cursor.next(&self.oplog, self.now, 1_000) {
                        Answered::Reply(ModelReply { invalidate: Some(token), .. }) => {
                            found = Happened::Token(token);
                            break;
                        }
                        Answered::Reply(_) => {}
                        Answered::Failed(_) | Answered::Closed => break,
                    }
                }
                self.oplog.hides_invalidate = is_hidden;
                Ok(found)
            }
            Step::FindOutline(from) => {
                self.note(|_| format!("find the outline {from}"));
                self.request(life)?;
                if let Some(fault) = self.fault(Asked::Open) {
                    return Ok(failed(fault));
                }
                // Without most of its fields it can be sent.
                let splits = std::mem::replace(&mut self.oplog.splits, true);
                let mut cursor = ModelCursor::open(from);
                let answer = cursor.next(&self.oplog, self.now, 1);
                self.oplog.splits = splits;
                match answer {
                    Answered::Reply(reply) if reply.events.is_empty() => Ok(Happened::Nothing),
                    Answered::Reply(reply) => {
                        life.outline = Some(reply.events[0]);
                        Ok(Happened::Token(self.oplog.entries[reply.events[0]].token()))
                    }
                    Answered::Failed(fault) => Ok(failed(fault)),
                    Answered::Closed => Ok(Happened::Nothing),
                }
            }
            Step::Confirm(from, token) => {
                self.note(|_| format!("confirm {from}"));
                self.request(life)?;
                if let Some(fault) = self.fault(Asked::Open) {
                    return Ok(failed(fault));
                }
                let entry = self.oplog.entries.iter().find(|entry| entry.token() == token);
                match entry.map(|entry| entry.kind) {
                    Some(Kind::Large) => Ok(Happened::TooLarge(server(10334, "too large"))),
                    _ => Ok(Happened::Nothing),
                }
            }
            Step::TellOversized { from, .. } => {
                let Some(entry) = life.outline else {
                    return Err(Broken::Finding("a message about an unknown event".to_owned()));
                };
                self.note(|_| format!("entry {entry} is too large"));
                if let Some(token) = from.token() {
                    life.ledger.acks().place(token);
                }
                self.is_open(life)?;
                let number = life.ledger.acks().read(1);
                let tokens = Arc::new(Tokens(vec![self.oplog.entries[entry].token().to_vec()]));
                let content = Content::Oversized(entry);
                self.push(life, Message { number, content, tokens, index: 0 })?;
                Ok(Happened::Done)
            }
            Step::BeginSnapshot => self.begin_snapshot(life),
            Step::CheckPlace(from) => self.check_place(from, life),
            Step::ReadSnapshot { is_rest, .. } => self.read_snapshot(is_rest, life),
            Step::End(_) => Err(Broken::Finding("an end that was not noticed".to_owned())),
        }
    }

    /// Follows one cursor.
    fn follow(&mut self, plan: &Plan, life: &mut Life) -> Result<Happened, Broken> {
        self.note(|_| format!("open {}, {}", plan.from, plan.pace));
        self.request(life)?;
        if count(&mut self.follows, self.now) > FOLLOWS_A_SECOND {
            return Err(Broken::Finding(format!("a hot loop of cursors {}", plan.from)));
        }
        let mut progress = Progress::at(plan.from.clone());
        let followed =
            |end, progress: &Progress| Happened::Followed(end, Box::new(progress.clone()));
        if let Some(fault) = self.fault(Asked::Open) {
            return Ok(followed(End::Failed(fault), &progress));
        }
        let wire_version = Some(self.wire_version);
        progress.server = Some(ServerFacts { wire_version, round_trip: None });
        let most = if plan.pace == Pace::Full { self.options.batch_size as usize } else { 1 };
        let mut cursor = ModelCursor::open(plan.from.clone());
        let mut began = plan.from.token();
        let mut held: VecDeque<(ModelReply, u64, bool)> = VecDeque::new();
        let (mut is_accepted, mut before_acceptance) = (false, plan.accepted_with - 1);
        let mut careful = self.options.batch_size as usize;
        let mut end = None;
        let was_ready = life.is_ready;
        loop {
            let drawn = self.random.u64(..);
            self.trace(drawn);
            // The reading task is one reply ahead, or not.
            if end.is_none() && held.len() < 2 && (held.is_empty() || self.random.bool()) {
                let size = match progress.replies {
                    0 => usize::from(plan.accepted_with == 1).min(most),
                    _ => most,
                };
                let fault = if progress.replies > 0 { self.fault(Asked::More) } else { None };
                let answer = match fault {
                    Some(fault) => Answered::Failed(fault),
                    None => cursor.next(&self.oplog, self.now, size),
                };
                match answer {
                    Answered::Reply(reply) => {
                        progress.is_open = true;
                        let notices = usize::from(progress.replies == 0 && plan.leads_with_notice);
                        let (count, token) = (reply.events.len(), Token::clone(&reply.token));
                        let first =
                            life.ledger.acks().takes(began.take(), notices, count, Some(token));
                        progress.over(count, Some(&reply.token), reply.invalidate.as_ref());
                        let is_idle = count == 0;
                        if progress.replies > usize::from(was_ready) {
                            self.works(life);
                        }
                        if plan.pace == Pace::Careful {
                            careful = careful.saturating_sub(count);
                            if careful == 0 && reply.invalidate.is_none() {
                                end = Some(End::Enough);
                            }
                        }
                        if plan.pace == Pace::One && progress.replies > 1 && is_idle {
                            let to = Advice::Full(Duration::from_secs(1));
                            end = Some(End::Change(Change { to, wasted: Duration::ZERO }));
                        }
                        held.push_back((reply, first, progress.replies <= plan.accepted_with));
                        if is_idle {
                            self.pass(Duration::from_millis(200));
                        }
                    }
                    Answered::Failed(fault) => end = Some(End::Failed(fault)),
                    Answered::Closed => end = Some(End::Closed),
                }
                let time = Duration::from_millis(self.random.u64(1..30));
                self.pass(time);
                continue;
            }
            let Some((reply, first, _)) = held.pop_front() else {
                match end.take() {
                    Some(end) => {
                        self.note(|_| format!("the cursor ends: {}", shown(&end)));
                        return Ok(followed(end, &progress));
                    }
                    None => continue,
                }
            };
            if before_acceptance > 0 && reply.events.is_empty() {
                before_acceptance -= 1;
                continue;
            }
            if !is_accepted {
                is_accepted = true;
                self.accept(life, &reply, first)?;
            }
            let tokens = |index: &usize| self.oplog.entries[*index].token().to_vec();
            let tokens = Arc::new(Tokens(reply.events.iter().map(tokens).collect()));
            for (index, entry) in reply.events.iter().enumerate() {
                let (number, content) = (first + index as u64, Content::Event(*entry));
                self.push(life, Message { number, content, tokens: Arc::clone(&tokens), index })?;
            }
            self.consume(life, false).map_err(Broken::Finding)?;
            self.tick(life).map_err(Broken::Finding)?;
            if self.disturbed(300) {
                return Err(Broken::Crash);
            }
            if self.turns > TURNS {
                return Err(Broken::Finding("not everything comes, or is acked".to_owned()));
            }
            let is_over = self.left == 0 && self.is_complete(life) && life.in_hand.is_empty();
            if is_over || self.disturbed(300) {
                return Err(Broken::Happened(Happened::Stopped));
            }
            if self.report.steps > 500 {
                self.left = 0;
            }
        }
    }

    /// What the thread does with the reply with which the server accepts the stream.
    fn accept(&mut self, life: &mut Life, reply: &ModelReply, first: u64) -> Result<(), Broken> {
        let accepted = life.course.accepted();
        if life.expected.is_none() {
            let next = self.entry_after(&reply.token).map_err(Broken::Finding)?;
            // What comes with the opening reply lies before its token.
            life.expected = Some(reply.events.first().copied().unwrap_or(next));
            self.began.get_or_insert(life.expected.unwrap_or(next));
        }
        self.is_open(life)?;
        if let Some(Lost { from }) = accepted.lost {
            self.tell_of_loss(life, from, reply, first - 1)?;
        }
        Ok(())
    }

    /// The thread's own function of this name.
    pub(super) fn is_open(&mut self, life: &mut Life) -> Result<(), Broken> {
        if life.course.accepted().saves_first {
            while self.disturbed(10) {
                let error = Error::new(ErrorKind::Checkpoint, "the store is away").retriable();
                let now = self.at(life);
                match life.course.store_failed(&error, now) {
                    Some((_, wait)) => self.pass(wait),
                    None => return Err(Broken::Happened(Happened::Broken(error))),
                }
            }
            self.save(life).map_err(Broken::Finding)?;
            // A loss that nobody has acked is told again: the stream begins again where it began.
            if self.text.is_none() && life.course.accepted().lost.is_none() {
                return Err(Broken::Finding("ready without a saved place".to_owned()));
            }
        }
        life.course.is_open();
        life.is_ready = true;
        Ok(())
    }

    pub(super) fn tell_of_loss(
        &mut self,
        life: &mut Life,
        from: Option<Timestamp>,
        reply: &ModelReply,
        number: u64,
    ) -> Result<(), Broken> {
        let to = self.entry_after(&reply.token).map_err(Broken::Finding)?;
        let to = reply.events.first().copied().unwrap_or(to);
        self.note(|_| format!("a gap from {from:?} to entry {to}"));
        self.report.gaps += 1;
        let tokens = Arc::new(Tokens(vec![reply.token.to_vec()]));
        self.push(life, Message { number, content: Content::Gap { to }, tokens, index: 0 })
    }

    /// Puts a message into the buffer, and checks that it is the one that has to come.
    pub(super) fn push(&mut self, life: &mut Life, message: Message) -> Result<(), Broken> {
        while life.queue.len() >= CAPACITY {
            self.consume(life, false).map_err(Broken::Finding)?;
            self.pass(Duration::from_millis(5));
            if self.disturbed(200) {
                return Err(Broken::Happened(Happened::Stopped));
            }
        }
        if !life.is_ready {
            return Err(Broken::Finding("a message before the stream is open".to_owned()));
        }
        let Some(expected) = life.expected else {
            return Err(Broken::Finding("a message before the stream has a place".to_owned()));
        };
        match message.content {
            Content::Event(entry) | Content::Oversized(entry) => {
                let is_large = self.oplog.entries[entry].kind == Kind::Large && !self.oplog.splits;
                if is_large != matches!(message.content, Content::Oversized(_)) {
                    let text = format!("entry {entry} comes in the wrong form");
                    return Err(Broken::Finding(text));
                }
                if entry < expected {
                    let text = format!("entry {entry} comes twice, or late: {expected} was next");
                    return Err(Broken::Finding(text));
                }
                if let Some(left_out) = self.oplog.must_come(expected..entry).next() {
                    let text = format!("entry {left_out} was left out before {entry}");
                    return Err(Broken::Finding(text));
                }
                life.expected = Some(entry + 1);
            }
            Content::Document(id) => {
                if life.read.contains(&id) {
                    return Err(Broken::Finding(format!("document {id} comes twice")));
                }
                life.read.push(id);
            }
            // What is lost need not come any more.
            Content::Gap { to } => {
                for lost in expected..to.max(expected) {
                    self.acked[lost] = true;
                }
                life.expected = Some(to.max(expected));
            }
        }
        self.trace(message.number);
        self.forget_requests();
        life.queue.push_back(message);
        Ok(())
    }

    /// A consumer takes messages, and acks some of those it has.
    pub(super) fn consume(&mut self, life: &mut Life, all: bool) -> Result<(), String> {
        let count = if all { usize::MAX } else { self.random.usize(..4) };
        for _ in 0..count {
            let Some(message) = life.queue.pop_front() else { break };
            self.report.delivered += 1;
            life.in_hand.push(message);
        }
        let calm = self.left == 0;
        let acks = if calm { usize::MAX } else { self.random.usize(..4) };
        for _ in 0..acks {
            if life.in_hand.is_empty() {
                break;
            }
            let which = if self.random.u8(..4) > 0 || calm {
                0
            } else {
                self.random.usize(..life.in_hand.len())
            };
            let message = life.in_hand.remove(which);
            match message.content {
                Content::Event(entry) | Content::Oversized(entry) => self.acked[entry] = true,
                Content::Document(id) => self.documents[id as usize] = true,
                Content::Gap { .. } => {}
            }
            let Message { number, tokens, index, .. } = message;
            life.ledger.acks().ack(number, 1, &*tokens, index);
        }
        Ok(())
    }

    /// The saving thread looks whether a save is due.
    pub(super) fn tick(&mut self, life: &mut Life) -> Result<(), String> {
        let running = self.now - life.began;
        let acked = life.ledger.acks().acked();
        if !life.due.is_due(acked, running) {
            return Ok(());
        }
        if self.disturbed(10) {
            self.note(|_| "the store fails".to_owned());
            return Ok(());
        }
        self.save(life)
    }

    /// Saves the place, and checks that nothing before it is missing.
    fn save(&mut self, life: &mut Life) -> Result<(), String> {
        let (place, acked) = Saved::acked(&life.ledger);
        let Some(place) = place else { return Ok(()) };
        let after = self.entry_after(&place.token)?;
        let from = self.began.unwrap_or(after);
        let mut must = self.oplog.must_come(from.min(after)..after);
        if let Some(missing) = must.find(|entry| !self.acked[*entry]) {
            return Err(format!("the checkpoint is after entry {missing}, which was not acked"));
        }
        drop(must);
        if let Some(id) = self.missing_document(place.snapshot.as_ref()) {
            return Err(format!("the checkpoint leaves out document {id}, which was not acked"));
        }
        let text = self.identity.write(&place).map_err(|error| error.to_string())?;
        let again = self.identity.read(&text)?;
        // The numbers of ranges are given anew.
        let shown = |saved: &Saved| saved.snapshot.as_ref().map(SnapshotProgress::to_document);
        if again.token != place.token || shown(&again) != shown(&place) {
            return Err("a checkpoint does not read back".to_owned());
        }
        self.text = Some(text);
        let running = self.now - life.began;
        life.due.is_saved(acked, running);
        self.trace(acked);
        Ok(())
    }
}

/// Adds one, and tells how many there were in the last second.
fn count(times: &mut VecDeque<Duration>, now: Duration) -> usize {
    while times.front().is_some_and(|at| *at + Duration::from_secs(1) < now) {
        times.pop_front();
    }
    times.push_back(now);
    times.len()
}

fn shown(end: &End) -> String {
    match end {
        End::Failed(fault) => fault.text.clone(),
        End::Closed => "closed".to_owned(),
        End::Enough => "enough".to_owned(),
        End::Change(_) => "another pace".to_owned(),
    }
}
