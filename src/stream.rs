//! The worker's thread: follows one cursor after the other, and hands over what they deliver.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bson::{RawDocument, Timestamp};
use mongodb::error::Error as DriverError;

use crate::ack::Token;
use crate::buffer::{Queue, Stopped};
use crate::checkpoint::Checkpointer;
use crate::client::Deployment;
use crate::cursor::{Cursor, Next, Position, Reply, Scope};
use crate::error::{Error, ErrorKind, Result};
use crate::event;
use crate::fragments;
use crate::log::{self, LogLevel};
use crate::message::{Events, Source};
use crate::notice;
use crate::options::{self, OnHistoryLost, OnInvalidate, OnOversized, Options};
use crate::pace::Pace;
use crate::resume::{self, Backoff, Phase};
use crate::worker::{Control, WorkerState};

/// One change stream, from its beginning to its end, over all its cursors.
pub(crate) struct Stream {
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) scope: Scope,
    pub(crate) options: Options,
    pub(crate) source: Arc<Source>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) control: Arc<Control>,
    pub(crate) checkpointer: Option<Checkpointer>,
}

/// Changes that the stream can no longer deliver: from this time on, where it is known.
struct Lost {
    from: Option<Timestamp>,
}

/// Where and how a stream is opened again at once, and why.
struct Detour {
    why: &'static str,
    from: Position,
    pace: Pace,
}

/// Why a cursor is followed no longer.
enum End {
    Stopped,
    Failed(Error),
    Broken(DriverError, Phase),
    /// The server closed the cursor.
    Dead,
    /// It has read as many events as it should.
    Enough,
}

impl From<Stopped> for End {
    fn from(Stopped: Stopped) -> Self {
        End::Stopped
    }
}

impl Stream {
    /// What the worker's thread does.
    pub(crate) fn run(self) {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| self.follow()));
        let failure = result.unwrap_or_else(|panic| Some(self.panicked(&*panic)));
        let failure = failure.map(|failure| failure.of_worker(self.source.name.as_str()));
        if failure.is_none() {
            log::line!(LogLevel::Debug, self.name(), "was asked to stop");
        }
        let Self { deployment, source, queue, control, .. } = self;
        // The last worker of a URI gives up its client before it is seen as ended.
        drop(deployment);
        // Before it is seen as ended: who joins a worker has all its lines.
        match &failure {
            None => log::line!(LogLevel::Info, source.name.as_str(), "has stopped"),
            Some(error) => log::line!(LogLevel::Error, source.name.as_str(), "has failed: {error}"),
        }
        control.ends(failure.as_ref());
        queue.detach(&control, failure);
        control.has_ended();
    }

    fn name(&self) -> &str {
        self.source.name.as_str()
    }

    fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> Error {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no text");
        self.bug(text)
    }

    fn invalidated(&self) -> Error {
        Error::new(
            ErrorKind::Invalidated,
            format!(
                "{} on {} was dropped or renamed, and the stream was asked to stop there; a worker \
                 that starts after the worker's resume token goes on behind it",
                self.scope.namespace(),
                self.deployment.uri().shown()
            ),
        )
    }

    fn bug(&self, text: &str) -> Error {
        Error::new(
            ErrorKind::Panic,
            format!(
                "a thread of the stream on {} panicked ({text}); this is a bug in mongostream, \
                 please report it",
                self.deployment.uri().shown()
            ),
        )
    }

    /// Follows one cursor after the other until the worker is stopped or fails.
    fn follow(&self) -> Option<Error> {
        /// A cursor that broke after this time was a good one.
        const SOUND: Duration = Duration::from_secs(1);
        let mut position = Position::Start(self.options.start_field());
        let mut trouble = Trouble::new();
        let mut ran_before = false;
        let mut lost: Option<Lost> = None;
        let mut pace = Pace::Full;
        match self.checkpointer.as_ref().map_or(Ok(None), |saved| saved.load(&self.control.stop)) {
            Ok(Some(token)) => {
                self.source.acks().place(Token::clone(&token));
                position = Position::After(token);
                ran_before = true;
            }
            Ok(None) => {}
            Err(failure) => return Some(failure),
        }
        // Stopped before the checkpoint was known: a position of another beginning must not replace it.
        if self.checkpointer.is_some() && self.control.stop.is_open() {
            return None;
        }
        if !ran_before {
            self.warn_of_a_start_in_the_future();
        }
        log::line!(LogLevel::Debug, self.name(), "opening the stream {position}");
        loop {
            let was_ready = self.control.ready.is_open();
            let opened = Instant::now();
            let began = position.clone();
            let cursor = self.open(position, pace, lost.is_some());
            let end = self.hand_over(&cursor, ran_before, lost.as_ref());
            let progress = cursor.progress();
            drop(cursor);
            if progress.replies > 0 {
                lost = None;
            }
            position = progress.position;
            // But for the first time, only a reply behind the opening one shows that it works again.
            if progress.replies > usize::from(was_ready) {
                // One that breaks behind its first replies time after time must not spin either.
                let sound = opened.elapsed() >= SOUND || !matches!(end, End::Broken(..));
                trouble.ends(sound);
            }
            let end = match self.detour(end, pace, &began, &position, progress.replies) {
                Ok(detour) => {
                    let Detour { why, from, pace: next } = detour;
                    log::line!(
                        LogLevel::Info,
                        self.name(),
                        "{why}; opening the stream again {from}, {next}"
                    );
                    (position, pace) = (from, next);
                    continue;
                }
                Err(end) => end,
            };
            let cause = match end {
                End::Stopped => return None,
                End::Failed(error) => return Some(error),
                End::Broken(error, phase) => {
                    match self.judge(&error, phase, &position, &mut trouble) {
                        Ok(()) => resume::text_of(&error),
                        Err(failure)
                            if failure.kind() == ErrorKind::HistoryLost
                                && self.options.on_history_lost == OnHistoryLost::Restart =>
                        {
                            self.source.meter.troubled(failure.of_worker(self.name()));
                            // The first loss counts while its message is not on its way.
                            lost.get_or_insert(Lost { from: position.time() });
                            position = Position::Start(None);
                            format!("{}; the history is lost", resume::text_of(&error))
                        }
                        Err(failure) => return Some(failure),
                    }
                }
                End::Dead | End::Enough => {
                    let invalidate = match progress.invalidate {
                        Some(token) => Ok(Some(token)),
                        None => self.find_invalidate(progress.before),
                    };
                    let cause = match invalidate {
                        Ok(Some(token)) => {
                            self.source.acks().place(Token::clone(&token));
                            position = Position::After(token);
                            "what is watched was dropped or renamed".to_owned()
                        }
                        Ok(None) => "the server closed the cursor".to_owned(),
                        Err(Stopped) => return None,
                    };
                    // Servers end a change stream in this way for no other reason, found or not.
                    if self.options.on_invalidate == OnInvalidate::Stop {
                        return Some(self.invalidated());
                    }
                    cause
                }
            };
            if self.control.ready.is_open() {
                self.control.set(WorkerState::Reconnecting);
            }
            let wait = trouble.backoff.next();
            log::line!(
                LogLevel::Warn,
                self.name(),
                "{cause}; opening the stream again {position} in {} ms",
                wait.as_millis()
            );
            if self.control.stop.wait(Some(Instant::now() + wait)) {
                return None;
            }
        }
    }

    /// How the stream gets around what the server cannot send, or not find, in the way in which it was
    /// asked; else the end as it is. Nothing is left out and nothing comes twice: each detour begins at
    /// `position`, behind everything that was read. `began` is where the cursor was opened.
    fn detour(
        &self,
        end: End,
        pace: Pace,
        began: &Position,
        position: &Position,
        replies: usize,
    ) -> Result<Detour, End> {
        let detour =
            |why, pace, from: &Position| Ok(Detour { why, pace, from: Position::clone(from) });
        match end {
            End::Enough => detour("what was to be read with care is read", Pace::Full, position),
            End::Broken(error, Phase::Streaming) if resume::is_too_large(&error) => {
                let is_next = match pace {
                    Pace::Full => self.scope.batch_size == 1,
                    Pace::Single => true,
                    // Not from where it now is has a server been asked that splits.
                    Pace::Unsplit => began == position,
                };
                if !is_next {
                    detour("an event is too large", Pace::Single, position)
                } else if self.options.on_oversized == OnOversized::Skip {
                    self.pass_over(&error, position)
                } else {
                    Err(End::Broken(error, Phase::Streaming))
                }
            }
            End::Broken(error, phase) if replies <= 1 && resume::may_be_split_otherwise(&error) => {
                let token = position.token();
                if let Some(whole) = token.as_deref().and_then(fragments::whole_token) {
                    let from = Position::After(whole);
                    detour("the stream stands behind a split event", pace, &from)
                } else if token.is_some() && self.scope.split && pace != Pace::Unsplit {
                    detour("the stream may stand behind a split event", Pace::Unsplit, position)
                } else {
                    Err(End::Broken(error, phase))
                }
            }
            end => Err(end),
        }
    }

    /// Passes over the event behind this position, which is too large, with a message in its place.
    ///
    /// Without most of its fields the server can send it, and so its token.
    fn pass_over(&self, error: &DriverError, position: &Position) -> Result<Detour, End> {
        let mut scope = Pace::Single.of(&self.scope);
        scope.split = false;
        scope.stages.push(notice::only_outline());
        let cursor = Cursor::open(&self.deployment, scope, position.clone(), |_| Some(0));
        let mut from = position.clone();
        // The opening one, and the one that has the event.
        for _ in 0..2 {
            let reply = match cursor.next(&self.control.stop) {
                Next::Reply(reply, _) => reply,
                Next::Failed(error) => return Err(End::Broken(error, Phase::Reopening)),
                Next::Ended | Next::Enough => break,
                Next::Stopped => return Err(End::Stopped),
                Next::Lost => {
                    return Err(End::Failed(self.bug("the task that reads its replies")));
                }
            };
            // Were it the one that ends the stream, the cursor that meets it would have to know.
            if reply.invalidate_token().is_some() {
                break;
            }
            let Some(token) = reply.token() else { continue };
            from = Position::After(Token::clone(token));
            if let Some(event) = reply.events().next() {
                if let Some(token) = event::resume_token(event) {
                    from = Position::After(Token::from(token));
                }
                self.tell_of_oversized(error, event)?;
                let why = "an event that is too large was left out";
                return Ok(Detour { why, pace: Pace::Full, from });
            }
        }
        // A lookup may have found a smaller document since, which the pipeline leaves out.
        Ok(Detour { why: "the event is not there any more", pace: Pace::Single, from })
    }

    fn tell_of_oversized(&self, error: &DriverError, outline: &[u8]) -> Result<(), End> {
        let failure = resume::error(error, self.deployment.uri(), "send an event", None);
        self.source.meter.troubled(failure.of_worker(self.name()));
        let mut namespace = String::new();
        event::write_namespace(outline, &mut namespace);
        let operation = event::operation(outline);
        log::line!(
            LogLevel::Warn,
            self.name(),
            "an event of {namespace} ({operation}) is larger than the server can send, and is left out"
        );
        let notice = notice::oversized(outline)
            .map_err(|error| End::Failed(self.bug(&error.to_string())))?;
        let number = self.source.acks().read(1);
        let events = Events::own(&self.source, notice, number);
        Ok(self.queue.push(&events, &self.control.stop)?)
    }

    /// Such a stream is silent until then, which looks like one that is broken.
    fn warn_of_a_start_in_the_future(&self) {
        let Some((start, _)) = self.options.start_at_time else { return };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let ahead = u64::from(start).saturating_sub(now);
        if ahead > 0 {
            log::line!(
                LogLevel::Warn,
                self.name(),
                "start_at_time {start} lies {ahead} s in the future, by the clock of this machine"
            );
        }
    }

    /// Opens a cursor that numbers its events and gives each reply's token its place behind them. The
    /// number before its first event is left free for the message that says what is lost.
    fn open(&self, from: Position, pace: Pace, is_restart: bool) -> Cursor {
        let source = Arc::clone(&self.source);
        let mut opening = true;
        Cursor::open(&self.deployment, pace.of(&self.scope), from, move |reply| {
            source.meter.received(reply);
            let opening = std::mem::take(&mut opening);
            let mut acks = source.acks();
            if opening && is_restart {
                acks.read(1);
            }
            let first = acks.read(reply.spans().len());
            if let Some(token) = reply.token() {
                acks.place(Token::clone(token));
            }
            let shown = opening || !reply.spans().is_empty();
            shown.then_some(first)
        })
    }

    /// Hands over what one cursor delivers, for as long as it lives.
    ///
    /// A stream that ran before, by its checkpoint, is treated as one that was open already.
    fn hand_over(&self, cursor: &Cursor, ran_before: bool, lost: Option<&Lost>) -> End {
        let mut opened = false;
        loop {
            let (reply, first) = match cursor.next(&self.control.stop) {
                Next::Reply(reply, first) => (reply, first),
                Next::Stopped => return End::Stopped,
                Next::Failed(error) => {
                    let phase = match () {
                        () if opened => Phase::Streaming,
                        () if ran_before || self.control.ready.is_open() => Phase::Reopening,
                        () => Phase::Opening,
                    };
                    return End::Broken(error, phase);
                }
                Next::Ended => return End::Dead,
                Next::Enough => return End::Enough,
                Next::Lost => return End::Failed(self.bug("the task that reads its replies")),
            };
            if !opened {
                opened = true;
                if let Err(error) = self.opened(ran_before) {
                    return End::Failed(error);
                }
                if let Some(lost) = lost
                    && let Err(end) = self.tell_of(lost, &reply, first - 1)
                {
                    return end;
                }
            }
            for events in Events::of_reply(&self.source, reply, first) {
                if let Err(Stopped) = self.queue.push(&events, &self.control.stop) {
                    return End::Stopped;
                }
            }
        }
    }

    /// Hands over the message that says what the stream has left out, before the events of its reply.
    fn tell_of(&self, lost: &Lost, opening: &Reply, number: u64) -> Result<(), End> {
        let token = opening.token().and_then(|token| RawDocument::from_bytes(token).ok());
        let to = opening.token().cloned().and_then(|token| Position::After(token).time());
        let gap = notice::gap(&self.scope, lost.from, to, token)
            .map_err(|error| End::Failed(self.bug(&error.to_string())))?;
        Ok(self.queue.push(&Events::own(&self.source, gap, number), &self.control.stop)?)
    }

    fn opened(&self, ran_before: bool) -> Result<()> {
        // A crash before the first acknowledgement must not lead to a new "now".
        if let Some(checkpointer) = &self.checkpointer
            && !ran_before
            && !self.control.ready.is_open()
        {
            checkpointer.save(Some(&self.control.stop))?;
            // Stopped while saving: it may not be durable, so the worker is not ready.
            if self.control.stop.is_open() {
                return Ok(());
            }
        }
        self.source.meter.opened();
        self.control.set(WorkerState::Streaming);
        self.control.ready.open();
        log::line!(
            LogLevel::Info,
            self.name(),
            "streaming {} on {}",
            self.scope.namespace(),
            self.deployment.uri().shown()
        );
        Ok(())
    }

    /// Whether a broken cursor may be opened again; if not, the failure.
    fn judge(
        &self,
        error: &DriverError,
        phase: Phase,
        position: &Position,
        trouble: &mut Trouble,
    ) -> Result<()> {
        let (what, limit) = match phase {
            Phase::Opening => {
                ("open the change stream", Some(self.deployment.server_selection_timeout()))
            }
            Phase::Reopening | Phase::Streaming => {
                ("go on with the change stream", self.options.retry)
            }
        };
        let in_time = trouble.lasts_less_than(limit);
        let failure = resume::error(error, self.deployment.uri(), what, position.time());
        if in_time && resume::is_resumable(error, phase, self.deployment.wire_version()) {
            self.source.meter.troubled(failure.of_worker(self.source.name.as_str()));
            return Ok(());
        }
        Err(failure)
    }

    /// Looks for the `invalidate` that a stage of the user's pipeline has kept from us: the server
    /// ends the cursor all the same, and a stream that goes on from before it only ends again.
    ///
    /// It searches from before the last reply, because newer servers place that reply's token behind
    /// the `invalidate` (seen with 6.0.5) and older ones before it (4.2.6).
    fn find_invalidate(&self, before: Position) -> Result<Option<Token>, Stopped> {
        /// Replies without it, the opening one included, after which it is not there.
        const PATIENCE: usize = 3;
        let mut scope = self.scope.clone();
        scope.stages = vec![options::only_invalidate()];
        let cursor = Cursor::open(&self.deployment, scope, before, |_| Some(0));
        for _ in 0..PATIENCE {
            match cursor.next(&self.control.stop) {
                Next::Reply(reply, _) => {
                    if let Some(token) = reply.invalidate_token() {
                        return Ok(Some(token));
                    }
                }
                Next::Stopped => return Err(Stopped),
                // The main cursor will meet the same, and knows what to do.
                Next::Failed(_) | Next::Ended | Next::Enough | Next::Lost => break,
            }
        }
        Ok(None)
    }
}

/// For how long the stream has not worked, and how often it was opened in vain.
struct Trouble {
    since: Option<Instant>,
    backoff: Backoff,
}

impl Trouble {
    /// The time before the first open counts from the start.
    fn new() -> Self {
        Self { since: Some(Instant::now()), backoff: Backoff::new() }
    }

    fn ends(&mut self, sound: bool) {
        self.since = None;
        if sound {
            self.backoff = Backoff::new();
        }
    }

    fn lasts_less_than(&mut self, limit: Option<Duration>) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        limit.is_none_or(|limit| since.elapsed() < limit)
    }
}
