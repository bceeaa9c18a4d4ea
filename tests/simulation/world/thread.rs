//! A model of the worker's thread: it does what the course says.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bson::Timestamp;

use super::faults::{Asked, FOLLOWS_A_SECOND, count};
use super::life::{Broken, Content, Life, Message, Tokens, World};
use super::oplog::{Answered, Kind, ModelCursor, ModelReply, server};
use crate::error::{Error, ErrorKind};
use crate::raw::token::Token;
use crate::snapshot::progress::SnapshotPlace;
use crate::source::cursor::{Change, CursorProgress};
use crate::source::pace::{Advice, Pace};
use crate::source::servers::ServerFacts;
use crate::stream::step::{End, Happened, Lost, Plan, Step, Why};

/// So often time passes in no run that comes to its end.
const TURNS: u64 = 100_000;

impl World {
    pub(super) fn act(&mut self, step: Step, life: &mut Life) -> Result<Happened, Broken> {
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
                self.push(
                    life,
                    Message {
                        number,
                        content,
                        tokens,
                        index: 0,
                        snapshot: None,
                        of_snapshot: life.snapshot,
                    },
                )?;
                Ok(Happened::Done)
            }
            Step::BeginSnapshot => self.begin_snapshot(life),
            Step::CheckPlace(from) => self.check_place(from, life),
            Step::ReadSnapshot { is_rest, .. } => self.read_snapshot(is_rest, life),
            Step::End(_) => Err(Broken::Finding("an end that was not noticed".to_owned())),
        }
    }

    /// Follows one cursor.
    pub(super) fn follow(&mut self, plan: &Plan, life: &mut Life) -> Result<Happened, Broken> {
        self.note(|_| format!("open {}, {}", plan.from, plan.pace));
        self.request(life)?;
        if count(&mut self.follows, self.now) > FOLLOWS_A_SECOND {
            return Err(Broken::Finding(format!("a hot loop of cursors {}", plan.from)));
        }
        let mut progress = CursorProgress::at(plan.from.clone());
        let followed =
            |end, progress: &CursorProgress| Happened::Followed(end, Box::new(progress.clone()));
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
                let tokens = Arc::clone(&tokens);
                self.push(
                    life,
                    Message {
                        number,
                        content,
                        tokens,
                        index,
                        snapshot: None,
                        of_snapshot: life.snapshot,
                    },
                )?;
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
    pub(super) fn accept(
        &mut self,
        life: &mut Life,
        reply: &ModelReply,
        first: u64,
    ) -> Result<(), Broken> {
        let accepted = life.course.accepted();
        if life.expected.is_none() {
            let next = self.entry_after(&reply.token).map_err(Broken::Finding)?;
            // What comes with the opening reply lies before its token.
            life.expected = Some(reply.events.first().copied().unwrap_or(next));
            self.began.get_or_insert(life.expected.unwrap_or(next));
        }
        self.is_open(life)?;
        if let Some(Lost { from }) = accepted.lost {
            self.tell_of_loss(life, from, reply, first - 1, None)?;
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
            if !self.keeps_positions && self.text.is_none() && life.course.accepted().lost.is_none()
            {
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
        snapshot: Option<SnapshotPlace>,
    ) -> Result<(), Broken> {
        let to = self.entry_after(&reply.token).map_err(Broken::Finding)?;
        let to = reply.events.first().copied().unwrap_or(to);
        self.note(|_| format!("a gap from {from:?} to entry {to}"));
        self.report.gaps += 1;
        let tokens = Arc::new(Tokens(vec![reply.token.to_vec()]));
        let (content, snapshot) = (Content::Gap { to }, snapshot.map(Arc::new));
        let of_snapshot = life.snapshot;
        self.push(life, Message { number, content, tokens, index: 0, snapshot, of_snapshot })
    }
}

fn shown(end: &End) -> String {
    match end {
        End::Failed(fault) => fault.text.clone(),
        End::Closed => "closed".to_owned(),
        End::Enough => "enough".to_owned(),
        End::Change(_) => "another pace".to_owned(),
    }
}
