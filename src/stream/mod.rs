//! The worker's thread: it does what the [`course`] says, and tells the course what came of it.

pub(crate) mod backoff;
pub(crate) mod course;
mod detours;
mod intake;
pub(crate) mod notices;
mod report;
mod snapshotting;
mod standby;
pub(crate) mod step;
pub(crate) mod trouble;

use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bson::RawDocument;

use crate::checkpoint::identity::Saved;
use crate::checkpoint::leased::LeasedCheckpoint;
use crate::checkpoint::ledger::Ledger;
use crate::checkpoint::saving::Checkpointer;
use crate::clock::Clock;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::log::{self, LogLevel};
use crate::options::{Options, Snapshot};
use crate::queue::bounded::Queue;
use crate::queue::events::Events;
use crate::raw::token::Token;
use crate::snapshot::progress::SnapshotPlace;
use crate::source::client::Deployment;
use crate::source::cursor::{Cursor, Next};
use crate::source::failure;
use crate::source::position::Position;
use crate::source::reply::Reply;
use crate::source::scope::Scope;
use crate::state::WorkerState;
use crate::stream::course::Course;
use crate::stream::intake::Intake;
use crate::stream::step::{End, Ending, Failed, Happened, Lost, Pause, Plan, Rules, Step, Why};

/// One change stream, from its beginning to its end, over all its cursors.
pub(crate) struct Stream {
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) scope: Scope,
    pub(crate) options: Options,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) control: Arc<Control>,
    pub(crate) checkpointer: Option<Checkpointer>,
    pub(crate) clock: Clock,
    /// The place that the option `start_at_position` names.
    pub(crate) starts_at: Option<Saved>,
    /// Its lease, which it has to take first.
    pub(crate) leased: Option<Arc<LeasedCheckpoint>>,
    /// What the start has to say. Only this thread logs: the host may hold what its logger waits for.
    pub(crate) remarks: Vec<(LogLevel, String)>,
}

impl Stream {
    /// What the worker's thread does.
    pub(crate) fn run(self) {
        for (level, remark) in &self.remarks {
            log::line!(*level, self.name(), "{remark}");
        }
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| self.follow()));
        let failure = result.unwrap_or_else(|panic| Some(self.panicked(&*panic)));
        let failure = self.fenced().or(failure);
        let failure = failure.map(|failure| failure.of_worker(self.ledger.name.as_str()));
        if failure.is_none() {
            log::line!(LogLevel::Debug, self.name(), "was asked to stop");
        }
        let Self { deployment, ledger, queue, control, .. } = self;
        // The last worker of a URI gives up its client before it is seen as ended.
        drop(deployment);
        // Before it is seen as ended: who joins a worker has all its lines.
        match &failure {
            None => log::line!(LogLevel::Info, ledger.name.as_str(), "has stopped"),
            Some(error) => log::line!(LogLevel::Error, ledger.name.as_str(), "has failed: {error}"),
        }
        control.ends(failure.as_ref());
        queue.detach(&control, failure);
        control.has_ended();
    }

    fn name(&self) -> &str {
        self.ledger.name.as_str()
    }

    /// Follows the course until the worker is stopped or fails.
    fn follow(&self) -> Option<Error> {
        let rules = Rules::new(&self.options, self.deployment.server_selection_timeout());
        let seed = RandomState::new().hash_one(self.name());
        let mut course = Course::new(rules, self.clock.now(), seed);
        let mut step = match self.beginning(&mut course) {
            Ok(Some(step)) => step,
            Ok(None) => return None,
            Err(failure) => return Some(failure),
        };
        log::line!(LogLevel::Debug, self.name(), "opening the stream {}", course.position());
        let mut outline = Vec::new();
        loop {
            let happened = match step {
                Step::TakeToken(from) => self.take_token(from),
                Step::Follow(plan) => self.follow_cursor(plan, &mut course),
                Step::BeginSnapshot => self.begin_snapshot(&mut course),
                Step::CheckPlace(from) => self.check_place(from),
                Step::ReadSnapshot { at, is_rest } => self.read_snapshot(at, is_rest, &mut course),
                Step::FindInvalidate(from) => self.find_invalidate(from),
                Step::FindOutline(from) => self.find_outline(from, &mut outline),
                Step::Confirm(from, token) => self.confirm(from, &token),
                Step::TellOversized { said, from } => {
                    self.tell_of_oversized(&said, &outline, &from, &mut course)
                }
                Step::Wait(wait) => self.wait(wait, &course),
                Step::End(ending) => return self.end(ending, &course),
            };
            step = course.next(happened, self.clock.now());
        }
    }

    /// Where the options and the checkpoint say. `None` if the worker was stopped before that is known.
    fn beginning(&self, course: &mut Course) -> Result<Option<Step>> {
        let mut saved = None;
        if let Some(leased) = &self.leased
            && !self.take_lease(leased, course)?
        {
            return Ok(None);
        }
        if let Some(checkpointer) = &self.checkpointer {
            saved = self.patiently(course, || {
                checkpointer.load(&self.control.stop, |answer| self.await_opening(answer))
            })?;
            // A position of another beginning must not replace it.
            if self.control.stop.is_open() {
                return Ok(None);
            }
            if saved.is_none() {
                self.tell_of_an_empty_store(checkpointer.what(), course.position());
            }
            if saved.is_some()
                && let Some(option) = self.options.start_option()
            {
                let name = self.name();
                log::line!(
                    LogLevel::Info,
                    name,
                    "the saved checkpoint overrides the option {option}"
                );
            }
        }
        let is_saved = saved.is_some();
        let from = saved.as_ref().or(self.starts_at.as_ref());
        match from {
            Some(saved) => {
                self.ledger.acks().place(Token::clone(&saved.token));
                if let Some(progress) = saved.snapshot.clone() {
                    self.ledger.snapshot().resume(progress);
                }
            }
            None if self.options.snapshot == Snapshot::Never => {
                self.warn_of_a_start_in_the_future()
            }
            None => {}
        }
        Ok(Some(course.begin(from, is_saved, self.clock.now())))
    }

    /// Asks the store of the checkpoint again for as long as the course thinks it worth it: what the store and the
    /// deployment lie on may be away for a moment. Gives up on stop.
    fn patiently<T: Default>(&self, course: &mut Course, ask: impl Fn() -> Result<T>) -> Result<T> {
        loop {
            let error = match ask() {
                Err(error) => error,
                answer => return answer,
            };
            let Some((level, wait)) = course.store_failed(&error, self.clock.now()) else {
                return Err(error);
            };
            log::line!(level, self.name(), "{error}; it is tried again");
            self.ledger.meter.attempted();
            self.ledger.meter.troubled(error.of_worker(self.name()));
            if self.control.stop.wait(Some(Instant::now() + wait)) {
                return Ok(T::default());
            }
        }
    }

    /// Waits before the stream is opened again, and says why.
    fn wait(&self, Pause { why, level, time }: Pause, course: &Course) -> Happened {
        let troubled = |failed: &Failed| {
            let error = self.error(failed, course);
            self.ledger.meter.troubled(error.of_worker(self.name()));
            failure::text_of(&failed.fault).to_owned()
        };
        let why = match why {
            Why::Failed(failed) => troubled(&failed),
            Why::Lost(failed) => format!("{}; the history is lost", troubled(&failed)),
            Why::Invalidated(token) => {
                self.ledger.acks().place(token);
                "what is watched was dropped or renamed".to_owned()
            }
            Why::Closed => "the server closed the cursor".to_owned(),
        };
        if self.control.ready.is_open() {
            self.control.set(WorkerState::Reconnecting);
        }
        log::line!(
            level,
            self.name(),
            "{why}; opening the stream again {} in {} ms",
            course.position(),
            time.as_millis()
        );
        match self.control.stop.wait(Some(Instant::now() + time)) {
            true => Happened::Stopped,
            false => Happened::Done,
        }
    }

    /// The worker's failure, if the stream does not end because it was stopped.
    fn end(&self, ending: Ending, course: &Course) -> Option<Error> {
        match ending {
            Ending::Stopped => None,
            Ending::Failed(failed) => Some(self.error(&failed, course)),
            Ending::Invalidated(token) => {
                if let Some(token) = token {
                    self.ledger.acks().place(token);
                }
                Some(self.invalidated())
            }
            Ending::Bug(text) => Some(self.bug(text)),
            Ending::Error(error) => Some(error),
        }
    }

    /// Opens a cursor, and hands over what it delivers for as long as it lives.
    fn follow_cursor(&self, plan: Plan, course: &mut Course) -> Happened {
        if let Some((level, why)) = plan.why {
            let (from, pace) = (&plan.from, plan.pace);
            log::line!(level, self.name(), "{why}; opening the stream again {from}, {pace}");
        }
        let cursor = self.open(&plan);
        match self.hand_over(&cursor, &plan, course) {
            Ok(end) => Happened::Followed(end, Box::new(cursor.progress())),
            Err(happened) => happened,
        }
    }

    /// Opens a cursor that numbers its events and gives each reply's token its place after them.
    fn open(&self, plan: &Plan) -> Cursor {
        let intake = Intake {
            ledger: Arc::clone(&self.ledger),
            queue: Arc::clone(&self.queue),
            control: Arc::clone(&self.control),
            replies: 0,
            leads_with_notice: plan.leads_with_notice,
            began: plan.from.token(),
            scope: self.scope.clone(),
            accepted_with: plan.accepted_with,
        };
        let mut scope = self.scope.at(plan.pace);
        // An opening reply with an event comes only when the server has read its oplog to the end.
        scope.opens_with_event = plan.accepted_with == 1;
        scope.patience = plan.patience;
        scope.full_from = Some(self.clock.at(plan.full_from));
        scope.try_from = Some(self.clock.at(plan.try_from));
        Cursor::open(&self.deployment, scope, plan.from.clone(), intake)
    }

    /// Hands over what one cursor delivers, for as long as it lives.
    fn hand_over(
        &self,
        cursor: &Cursor,
        plan: &Plan,
        course: &mut Course,
    ) -> Result<End, Happened> {
        let mut is_accepted = false;
        let mut before_acceptance = plan.accepted_with - 1;
        self.ledger.meter.attempted();
        self.await_opening(|limit| cursor.has_next_within(&self.control.stop, limit));
        loop {
            let (reply, first) = match cursor.next(&self.control.stop) {
                Next::Reply(reply, first) => (reply, first),
                Next::Failed(fault) => return Ok(End::Failed(fault)),
                Next::Ended => return Ok(End::Closed),
                Next::Enough => return Ok(End::Enough),
                Next::Change(change) => return Ok(End::Change(change)),
                Next::Stopped => return Err(Happened::Stopped),
                Next::Lost => return Err(self.reader_is_gone()),
            };
            if before_acceptance > 0 && reply.spans().is_empty() {
                before_acceptance -= 1;
                continue;
            }
            if !is_accepted {
                is_accepted = true;
                let accepted = course.accepted();
                self.is_open(course)?;
                if accepted.is_news {
                    self.ledger.meter.opened();
                    log::line!(
                        LogLevel::Info,
                        self.name(),
                        "streaming {} on {}",
                        self.scope.namespace(),
                        self.deployment.uri().shown()
                    );
                }
                if let Some(lost) = accepted.lost {
                    self.tell_of_loss(lost, &reply, first - 1, None)?;
                }
            }
            for events in Events::of_reply(&self.ledger, reply, first) {
                if self.queue.push(&events, &self.control.stop).is_err() {
                    return Err(Happened::Stopped);
                }
            }
        }
    }

    /// What it means that a cursor beside the followed one gave no reply.
    fn what_happened(&self, next: Next, cursor: &Cursor) -> Happened {
        match next {
            Next::Stopped => Happened::Stopped,
            Next::Failed(fault) => {
                let progress = cursor.progress();
                let wire_version = progress.server.and_then(|server| server.wire_version);
                Happened::Failed { fault, is_open: progress.is_open, wire_version }
            }
            Next::Ended | Next::Enough | Next::Change(_) => Happened::Closed,
            Next::Reply(..) | Next::Lost => self.reader_is_gone(),
        }
    }

    fn reader_is_gone(&self) -> Happened {
        Happened::Broken(self.bug("the task that reads its replies is gone"))
    }

    /// Hands over the message that says what the stream has left out, before the events of its reply.
    fn tell_of_loss(
        &self,
        lost: Lost,
        opening: &Reply,
        number: u64,
        snapshot: Option<SnapshotPlace>,
    ) -> Result<(), Happened> {
        let token = opening.token().and_then(|token| RawDocument::from_bytes(token).ok());
        let to = opening.token().cloned().and_then(|token| Position::After(token).time());
        self.hand_over_notice(notices::gap(&self.scope, lost.from, to, token), number, snapshot)
    }

    /// Every later change will be delivered.
    fn is_open(&self, course: &mut Course) -> Result<(), Happened> {
        if course.accepted().saves_first && !self.save_first(course)? {
            return Ok(());
        }
        self.is_streaming();
        course.is_open();
        self.control.ready.open();
        Ok(())
    }

    /// Saves the place where the stream begins. False if the worker was stopped meanwhile: it may not be durable then.
    fn save_first(&self, course: &mut Course) -> Result<bool, Happened> {
        if let Some(checkpointer) = &self.checkpointer {
            self.patiently(course, || checkpointer.save(&self.control.stop))
                .map_err(Happened::Broken)?;
        }
        Ok(!self.control.stop.is_open())
    }

    fn is_streaming(&self) {
        self.control.set(WorkerState::Streaming);
    }

    /// Waits for the deployment, and at the first start says for whom it waits: there may be half a minute of
    /// looking for a server before the first failure.
    fn await_opening(&self, mut has_come: impl FnMut(Duration) -> bool) {
        const SILENCE: Duration = Duration::from_secs(3);
        if self.control.ready.is_open() {
            return;
        }
        let (mut level, mut silence, mut waited) = (LogLevel::Warn, SILENCE, Duration::ZERO);
        while !has_come(silence) {
            waited += silence;
            let seconds = waited.as_secs();
            let why = self.deployment.trouble().map(|why| {
                let uri = self.deployment.uri();
                failure::error(&why, uri, "open the change stream", None).of_worker(self.name())
            });
            match why {
                Some(why) => {
                    log::line!(level, self.name(), "is not open after {seconds} s: {why}");
                    self.ledger.meter.troubled(why);
                }
                None => {
                    let uri = self.deployment.uri().shown();
                    log::line!(
                        level,
                        self.name(),
                        "is not open after {seconds} s: {uri} has not answered yet. From a place in the past it \
                         answers when it has found the first event, or read its oplog to the end"
                    );
                }
            }
            (level, silence) = (LogLevel::Info, silence * 2);
        }
    }
}
