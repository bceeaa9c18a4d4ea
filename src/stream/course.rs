//! The course: what a stream does next. It is told what happened, and answers what to do.
//!
//! It holds no handle, takes no lock, reads no clock and never waits, so that a test can lead it through anything that
//! may happen. The worker's thread acts, in the other files of this folder.

use std::time::Duration;

use crate::checkpoint::identity::Saved;
use crate::clock::Now;
use crate::error::{Error, ErrorKind};
use crate::log::LogLevel;
use crate::options::{OnHistoryLost, OnInvalidate, OnOversized, Snapshot};
use crate::raw::token::Token;
use crate::source::cursor::{Change, CursorProgress};
use crate::source::failure::{self, Phase};
use crate::source::fault::Fault;
use crate::source::pace::{Advice, Pace, Tuner, Waste};
use crate::source::position::Position;
use crate::stream::step::{
    Accepted, End, Ending, Failed, Happened, Lost, Pause, Plan, Rules, Step, Why,
};
use crate::stream::trouble::Trouble;

mod oversized;
#[cfg(test)]
mod tests;

/// What comes next of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Stream,
    /// A snapshot.
    Begin,
    /// The rest of a snapshot that an earlier run has begun.
    Resume,
    /// The rest of a snapshot that this run has begun, or looked after.
    Snapshot,
}

/// What is under way.
enum Doing {
    Nothing,
    TakingToken,
    Following(Searched),
    BeginningSnapshot,
    CheckingPlace,
    ReadingSnapshot,
    FindingInvalidate,
    /// Passing over an event that is too large: with its failure, and its token once it is known.
    PassingOver(Fault, Phase, Option<Token>),
    Waiting,
}

/// Where and how a cursor was opened.
struct Searched {
    began: Position,
    pace: Pace,
    opened: Duration,
    was_ready: bool,
}

/// Where a stream is, and what is known of its way so far.
pub(crate) struct Course {
    rules: Rules,
    position: Position,
    /// Where it was before the last reply that moved it.
    before: Position,
    /// The token of the `invalidate` that the last cursor has ended with.
    invalidate: Option<Token>,
    stage: Stage,
    doing: Doing,
    /// The stream goes on from a place of an earlier run.
    ran_before: bool,
    /// That place is the saved checkpoint.
    is_saved: bool,
    /// The stream has been open.
    is_ready: bool,
    /// A snapshot is not finished.
    has_snapshot: bool,
    /// To be told with the next cursor.
    lost: Option<Lost>,
    trouble: Trouble,
    /// Since when the store of the checkpoint has failed.
    store_failed: Option<Duration>,
    /// How the next cursor reads; where it is not said its position decides.
    pace: Option<Pace>,
    /// How long its replies may take in the history, if they are full.
    patience: Option<Duration>,
    waste: Waste,
    /// The next cursor is opened only to read at another pace.
    is_change_of_pace: bool,
    /// How often the stream has looked in vain for an event that is too large, at the place where it is.
    in_vain: u32,
    /// Of the server that refused or ended the last cursor.
    wire_version: Option<i32>,
    why: Option<(LogLevel, &'static str)>,
}

/// A cursor that broke after this time was a good one.
const SOUND: Duration = Duration::from_secs(1);

impl Course {
    /// The seed decides the jitter of the waits.
    pub(crate) fn new(rules: Rules, now: Now, seed: u64) -> Self {
        Self {
            position: rules.start.clone(),
            before: rules.start.clone(),
            rules,
            invalidate: None,
            stage: Stage::Stream,
            doing: Doing::Nothing,
            ran_before: false,
            is_saved: false,
            is_ready: false,
            has_snapshot: false,
            lost: None,
            trouble: Trouble::new(now.running, seed),
            store_failed: None,
            pace: None,
            patience: None,
            waste: Waste::default(),
            is_change_of_pace: false,
            in_vain: 0,
            wire_version: None,
            why: None,
        }
    }

    /// Where the stream goes on.
    pub(crate) fn position(&self) -> &Position {
        &self.position
    }

    /// Of the server that refused or ended the last cursor.
    pub(crate) fn wire_version(&self) -> Option<i32> {
        self.wire_version
    }

    /// Whether the stream goes on from a place of an earlier run.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn ran_before(&self) -> bool {
        self.ran_before
    }

    /// Whether that place is the saved checkpoint.
    pub(crate) fn is_saved(&self) -> bool {
        self.is_saved
    }

    /// The first step, once it is known where an earlier run came to: by its checkpoint, which `is_saved`, or by a
    /// position that the consumer has kept.
    pub(crate) fn begin(&mut self, place: Option<&Saved>, is_saved: bool, now: Now) -> Step {
        self.store_failed = None;
        self.is_saved = is_saved;
        match place {
            Some(saved) => {
                self.ran_before = true;
                self.has_snapshot = saved.snapshot.is_some();
                if self.has_snapshot {
                    self.stage = Stage::Resume;
                } else if self.rules.snapshot == Snapshot::Always {
                    self.stage = Stage::Begin;
                    return self.proceed(now);
                }
                self.position = Position::After(Token::clone(&saved.token));
            }
            None if self.rules.snapshot == Snapshot::Never => {}
            None => self.stage = Stage::Begin,
        }
        self.proceed(now)
    }

    /// How long to wait before the store of the checkpoint is asked again, and how to tell. `None` if it is not worth
    /// it: the failure is for good, or has lasted for as long as a stream waits for its deployment at the start. The time
    /// in which the deployment was away does not count.
    pub(crate) fn store_failed(&mut self, error: &Error, now: Now) -> Option<(LogLevel, Duration)> {
        let since = *self.store_failed.get_or_insert(now.running);
        let in_time = now.running.saturating_sub(since) < self.rules.opening;
        let goes_on = error.is_retriable() && in_time;
        goes_on.then(|| (self.trouble.level(), self.trouble.backoff.next()))
    }

    /// The store has answered.
    pub(crate) fn store_answered(&mut self) {
        self.store_failed = None;
        self.trouble.is_another();
    }

    /// The same as [`store_failed`](Self::store_failed) for a lease. A worker that has stood by is as patient as a
    /// stream that was open.
    pub(crate) fn lease_failed(
        &mut self,
        error: &Error,
        has_stood_by: bool,
        now: Now,
    ) -> Option<(LogLevel, Duration)> {
        if !has_stood_by {
            return self.store_failed(error, now);
        }
        let since = *self.store_failed.get_or_insert(now.running);
        let lasted = now.running.saturating_sub(since);
        let goes_on = error.is_retriable() && self.rules.retry.is_none_or(|limit| lasted < limit);
        goes_on.then(|| (self.trouble.level(), self.trouble.backoff.next()))
    }

    /// What follows from the reply with which the server accepts the stream, of a cursor or of a snapshot's beginning.
    pub(crate) fn accepted(&self) -> Accepted {
        let is_new = match self.doing {
            Doing::BeginningSnapshot => true,
            _ => !self.is_saved,
        };
        Accepted {
            saves_first: is_new && !self.is_ready,
            is_news: !self.is_change_of_pace,
            lost: self.lost,
        }
    }

    /// From now on every change will be delivered.
    pub(crate) fn is_open(&mut self) {
        self.is_ready = true;
        self.store_failed = None;
    }

    /// A part of a snapshot was read.
    pub(crate) fn reads_snapshot(&mut self) {
        self.trouble.ends(true);
    }

    /// What to do after what has happened.
    pub(crate) fn next(&mut self, happened: Happened, now: Now) -> Step {
        match (std::mem::replace(&mut self.doing, Doing::Nothing), happened) {
            (_, Happened::Stopped) => Step::End(Ending::Stopped),
            (_, Happened::Broken(error)) => Step::End(Ending::Error(error)),
            (Doing::TakingToken, Happened::Token(token)) => {
                self.position = Position::After(token);
                self.proceed(now)
            }
            (Doing::Following(searched), Happened::Followed(end, progress)) => {
                self.followed(&searched, end, *progress, now)
            }
            (Doing::BeginningSnapshot, Happened::SnapshotBegun(token)) => {
                self.lost = None;
                self.has_snapshot = true;
                self.position = Position::After(token);
                self.stage = Stage::Snapshot;
                self.proceed(now)
            }
            // What is watched was dropped: the stream will meet that again.
            (Doing::CheckingPlace, Happened::PlaceIsThere | Happened::Closed) => self.read_rest(),
            (Doing::CheckingPlace, Happened::Failed { fault, is_open, wire_version }) => {
                // It is there: the stream will meet it again, too.
                if failure::is_too_large(&fault) {
                    return self.read_rest();
                }
                if failure::is_token_not_found(&fault)
                    && let Some(past) = self.position.past()
                {
                    self.position = past;
                    return self.proceed(now);
                }
                self.failed(fault, is_open, wire_version, now)
            }
            (Doing::ReadingSnapshot, Happened::SnapshotRead) => {
                self.has_snapshot = false;
                self.stage = Stage::Stream;
                self.proceed(now)
            }
            (Doing::ReadingSnapshot, Happened::Failed { fault, .. }) => {
                self.judge(fault, Phase::Snapshot, now)
            }
            (Doing::FindingInvalidate, Happened::Token(token)) => self.invalidated(token),
            (Doing::FindingInvalidate, Happened::Nothing) => self.closed(),
            (Doing::PassingOver(fault, phase, token), happened) => {
                self.passed_over(fault, phase, token, happened, now)
            }
            (Doing::Waiting, Happened::Done) => self.proceed(now),
            (_, Happened::Failed { fault, is_open, wire_version }) => {
                self.failed(fault, is_open, wire_version, now)
            }
            (_, Happened::Closed) => self.find_invalidate(),
            _ => Step::End(Ending::Bug("a step had a result that is not its own")),
        }
    }

    fn doing(&mut self, doing: Doing, step: Step) -> Step {
        self.doing = doing;
        step
    }

    /// The next step of the stage.
    fn proceed(&mut self, now: Now) -> Step {
        let position = self.position.clone();
        match self.stage {
            Stage::Stream if position.needs_token() => {
                self.doing(Doing::TakingToken, Step::TakeToken(position))
            }
            Stage::Stream => self.follow(now),
            Stage::Begin => self.doing(Doing::BeginningSnapshot, Step::BeginSnapshot),
            Stage::Resume => self.doing(Doing::CheckingPlace, Step::CheckPlace(position)),
            Stage::Snapshot => {
                let step = Step::ReadSnapshot { at: position.time(), is_rest: false };
                self.doing(Doing::ReadingSnapshot, step)
            }
        }
    }

    /// Reads the rest of a snapshot that an earlier run has begun.
    fn read_rest(&mut self) -> Step {
        self.stage = Stage::Snapshot;
        self.is_ready = true;
        let step = Step::ReadSnapshot { at: self.position.time(), is_rest: true };
        self.doing(Doing::ReadingSnapshot, step)
    }

    fn follow(&mut self, now: Now) -> Step {
        let from = self.position.clone();
        let is_in_history = from.is_in_history(now.unix);
        let natural = if is_in_history { Pace::One } else { Pace::Full };
        let pace = self.pace.take().unwrap_or(natural);
        let pace = if pace.is_full_for(self.rules.batch_size) { Pace::Full } else { pace };
        let batch_size = if pace == Pace::Full { self.rules.batch_size } else { 1 };
        let full_from = self.waste.age_for_more();
        let gives_up = batch_size > 1 && full_from <= now.running;
        let patience = gives_up.then(|| self.patience.take().unwrap_or(Tuner::AT_LEAST));
        let to_try = Tuner::AT_LEAST.saturating_add(self.rules.await_time);
        let plan = Plan {
            from: from.clone(),
            pace,
            accepted_with: if is_in_history { 2 } else { 1 },
            patience,
            full_from,
            try_from: self.waste.age_to_try(to_try),
            leads_with_notice: self.lost.is_some(),
            why: self.why.take(),
        };
        let was_ready = self.is_ready;
        let searched = Searched { began: from, pace, opened: now.running, was_ready };
        self.doing(Doing::Following(searched), Step::Follow(plan))
    }

    /// A cursor has ended.
    fn followed(
        &mut self,
        searched: &Searched,
        end: End,
        progress: CursorProgress,
        now: Now,
    ) -> Step {
        let lived = now.running.saturating_sub(searched.opened);
        if progress.replies > 0 {
            self.lost = None;
        }
        if progress.has_events {
            self.in_vain = 0;
        }
        self.wire_version = progress.server.and_then(|server| server.wire_version);
        self.is_change_of_pace = matches!(end, End::Change(_));
        // It was at work for a while, perhaps in a long oplog: it cannot be called unreachable.
        if !progress.is_open && progress.server.is_some() && lived >= SOUND {
            self.trouble.begins_anew(now.running);
        }
        let has_moved = progress.has_events || progress.position != searched.began;
        // But for the first time, only a reply after the opening one shows that it works again.
        if progress.replies > usize::from(searched.was_ready) {
            self.trouble.ends(lived >= SOUND || is_sound(&end, has_moved));
        }
        let is_opening = progress.replies == 0;
        (self.position, self.before) = (progress.position, progress.before);
        self.invalidate = progress.invalidate;
        let from = self.position.clone();
        match end {
            // Before it has had events it may be that the server has not found the place yet.
            End::Failed(fault) if !progress.has_events && failure::is_token_not_found(&fault) => {
                let Some(from) = searched.began.past() else {
                    let phase = self.phase(progress.is_open);
                    return self.judge(fault, phase, now);
                };
                let why = "the event of the stream's resume token does not pass its stages now";
                self.again(why, from, None, now)
            }
            End::Failed(fault)
                if failure::is_token_without_parts(&fault) && from.past().is_some() =>
            {
                let why = "an event has to be split, for which the stream's tokens are too old";
                self.again(why, from.past().unwrap_or(from), None, now)
            }
            End::Failed(fault) if failure::is_too_large(&fault) => {
                let is_next = is_opening
                    || matches!(searched.pace, Pace::One | Pace::Careful)
                    || self.rules.batch_size == 1;
                let phase = self.phase(progress.is_open);
                if !is_next {
                    self.again("an event is too large", from, Some(Pace::Careful), now)
                } else if self.rules.on_oversized == OnOversized::Skip {
                    self.pass_over(fault, phase)
                } else {
                    self.judge(fault, phase, now)
                }
            }
            End::Failed(fault) => {
                let phase = self.phase(progress.is_open);
                self.judge(fault, phase, now)
            }
            End::Enough => self.again("what was to be read with care is read", from, None, now),
            End::Change(Change { to, wasted }) => {
                self.waste.add(wasted);
                let (why, pace, expected) = match to {
                    Advice::One => ("few events are found", Pace::One, None),
                    Advice::Full(time) => ("events are found fast", Pace::Full, Some(time)),
                    Advice::Try(time) => ("events may be found fast", Pace::Full, Some(time)),
                };
                if let Some(time) = expected {
                    self.patience = Some(self.waste.patience(time));
                }
                self.again(why, from, Some(pace), now)
            }
            End::Closed => self.find_invalidate(),
        }
    }

    /// Opens the stream again at once. Nothing is left out and nothing comes twice: each such way begins after
    /// everything that was read.
    fn again(&mut self, why: &'static str, from: Position, pace: Option<Pace>, now: Now) -> Step {
        let level = if self.is_change_of_pace { LogLevel::Debug } else { LogLevel::Info };
        self.why = Some((level, why));
        (self.position, self.pace) = (from, pace);
        self.proceed(now)
    }

    /// The server has closed the cursor. It does so at an `invalidate`, which a stage of the user's pipeline may have
    /// kept from us: a stream that goes on from before it only ends again.
    ///
    /// It is looked for from before the last reply, because newer servers place that reply's token after the
    /// `invalidate` (seen with 6.0.5) and older ones before it (4.2.6).
    fn find_invalidate(&mut self) -> Step {
        match self.invalidate.take() {
            Some(token) => self.invalidated(token),
            None => {
                let before = self.before.clone();
                self.doing(Doing::FindingInvalidate, Step::FindInvalidate(before))
            }
        }
    }

    fn invalidated(&mut self, token: Token) -> Step {
        if self.rules.on_invalidate == OnInvalidate::Stop {
            return Step::End(Ending::Invalidated(Some(token)));
        }
        self.position = Position::After(Token::clone(&token));
        self.wait(Why::Invalidated(token))
    }

    /// Servers end a change stream in this way for no other reason than an `invalidate`, found or not.
    fn closed(&mut self) -> Step {
        if self.rules.on_invalidate == OnInvalidate::Stop {
            return Step::End(Ending::Invalidated(None));
        }
        self.wait(Why::Closed)
    }

    /// A request failed that was not one of the followed cursor.
    pub(super) fn failed(
        &mut self,
        fault: Fault,
        is_open: bool,
        version: Option<i32>,
        now: Now,
    ) -> Step {
        self.wire_version = version;
        let phase = self.phase(is_open);
        self.judge(fault, phase, now)
    }

    /// A stream that ran before, by its checkpoint, is treated as one that was open already.
    fn phase(&self, is_open: bool) -> Phase {
        match () {
            () if is_open => Phase::Streaming,
            () if self.ran_before || self.is_ready => Phase::Reopening,
            () => Phase::Opening,
        }
    }

    /// Whether the stream may be opened again after a failure; if not, it ends.
    fn judge(&mut self, fault: Fault, phase: Phase, now: Now) -> Step {
        let limit = match phase {
            Phase::Opening => Some(self.rules.opening),
            Phase::Reopening | Phase::Streaming | Phase::Snapshot => self.rules.retry,
        };
        let in_time = self.trouble.lasts_less_than(limit, now.running);
        let is_refused = phase != Phase::Opening && failure::is_refused(&fault);
        let in_time = in_time && self.trouble.bears(&fault, is_refused, now.running);
        let is_resumable = failure::is_resumable(&fault, phase, self.wire_version);
        let is_lost = failure::kind(&fault) == ErrorKind::HistoryLost;
        let failed = Failed { fault, phase, from: self.position.clone() };
        if in_time && (is_refused || is_resumable) {
            return self.wait(Why::Failed(failed));
        }
        if !is_lost || self.rules.on_history_lost == OnHistoryLost::Fail {
            return Step::End(Ending::Failed(failed));
        }
        // The first loss counts while its message is not on its way.
        self.lost.get_or_insert(Lost { from: self.position.time() });
        self.position = Position::Start(None);
        // A snapshot that is not finished needs the history from its beginning on.
        let anew = self.rules.on_history_lost == OnHistoryLost::Snapshot || self.has_snapshot;
        self.stage = if anew { Stage::Begin } else { Stage::Stream };
        self.trouble.is_another();
        self.wait(Why::Lost(failed))
    }

    fn wait(&mut self, why: Why) -> Step {
        let time = self.trouble.backoff.next();
        let level = self.trouble.level();
        self.doing(Doing::Waiting, Step::Wait(Pause { why, level, time }))
    }
}

/// Whether a cursor that ended soon is no reason to wait before the next one. One that breaks after its first
/// replies time after time must not make the worker spin, nor one that the server closes time after time where
/// it is.
fn is_sound(end: &End, has_moved: bool) -> bool {
    match end {
        End::Failed(_) => false,
        End::Closed => has_moved,
        End::Enough | End::Change(_) => true,
    }
}
