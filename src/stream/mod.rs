//! The worker's thread: follows one cursor after the other, and hands over what they deliver.

pub(crate) mod backoff;
pub(crate) mod notices;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bson::{RawDocument, Timestamp};
use mongodb::error::Error as DriverError;

use crate::bson::event;
use crate::bson::token::Token;
use crate::checkpoint::ledger::Ledger;
use crate::checkpoint::saving::Checkpointer;
use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::log;
use crate::log::LogLevel;
use crate::options::{OnHistoryLost, OnInvalidate, OnOversized, Options, Snapshot, pipeline};
use crate::queue::bounded::{Queue, Stopped};
use crate::queue::events::Events;
use crate::snapshot::progress::Mark;
use crate::snapshot::reader::{Item, Reading};
use crate::source::client::Deployment;
use crate::source::cursor::{Change, Cursor, Next, Observer};
use crate::source::failure;
use crate::source::failure::Phase;
use crate::source::pace::{Advice, Pace, Tuner, Waste};
use crate::source::position::Position;
use crate::source::reply::Reply;
use crate::source::scope::Scope;
use crate::source::servers::ServerFacts;
use crate::state::WorkerState;
use crate::stream::backoff::Backoff;

/// One change stream, from its beginning to its end, over all its cursors.
pub(crate) struct Stream {
    pub(crate) deployment: Arc<Deployment>,
    pub(crate) scope: Scope,
    pub(crate) options: Options,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) queue: Arc<Queue>,
    pub(crate) control: Arc<Control>,
    pub(crate) checkpointer: Option<Checkpointer>,
}

/// Changes that the stream can no longer deliver: from this time on, where it is known.
struct Lost {
    from: Option<Timestamp>,
}

/// What comes next of a stream.
enum Stage {
    Stream,
    /// A snapshot.
    Begin,
    /// The rest of a snapshot that an earlier run has begun.
    Resume,
    /// The rest of a snapshot that this run has begun, or looked after.
    Snapshot,
}

/// Where a stream is, and what is known of its way so far.
struct Course {
    position: Position,
    /// Where it was before the last reply that moved it.
    before: Position,
    /// The token of the `invalidate` that the last cursor has ended with.
    invalidate: Option<Token>,
    stage: Stage,
    /// There was a checkpoint.
    ran_before: bool,
    /// To be told with the next cursor.
    lost: Option<Lost>,
    trouble: Trouble,
    /// How the next cursor reads; where it is not said its position decides.
    pace: Option<Pace>,
    /// How long its replies may take in the history, if they are full.
    patience: Option<Duration>,
    waste: Waste,
    /// When the worker began.
    began: Instant,
    /// The next cursor is opened only to read at another pace.
    is_change_of_pace: bool,
    /// How often the stream has looked in vain for an event that is too large, at the place where it is.
    in_vain: u32,
    /// The server that refused or ended the last cursor.
    server: Option<ServerFacts>,
}

/// Where and how a stream is opened again at once, and why.
struct Detour {
    why: &'static str,
    from: Position,
    pace: Option<Pace>,
}

/// Where and how a cursor was opened.
struct Searched {
    began: Position,
    pace: Pace,
    /// It was not open yet when it ended.
    is_opening: bool,
}

/// Why a cursor, or a part of a snapshot, is followed no longer.
enum End {
    /// The next stage follows.
    Done,
    Stopped,
    Failed(Error),
    Broken(DriverError, Phase),
    /// The server closed the cursor.
    Dead,
    /// It has read as many events as it should.
    Enough,
    /// Another pace fits better.
    Change(Change),
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

    fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> Error {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no text");
        self.bug(&format!("a thread panicked: {text}"))
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
                "the stream on {} met what should be impossible ({text}); this is a bug in mongostream, \
                 please report it",
                self.deployment.uri().shown()
            ),
        )
    }

    /// Follows one cursor after the other until the worker is stopped or fails.
    fn follow(&self) -> Option<Error> {
        let mut course = match self.beginning() {
            Ok(Some(course)) => course,
            Ok(None) => return None,
            Err(failure) => return Some(failure),
        };
        log::line!(LogLevel::Debug, self.name(), "opening the stream {}", course.position);
        loop {
            let end = match course.stage {
                Stage::Stream => self.stream(&mut course),
                Stage::Begin => self.begin_snapshot(&mut course),
                Stage::Resume => self.resume_snapshot(&mut course),
                Stage::Snapshot => self.read_snapshot(&mut course),
            };
            let cause = match end {
                End::Done => continue,
                End::Stopped => return None,
                End::Failed(error) => return Some(error),
                End::Broken(error, phase) => match self.judge(&error, phase, &mut course) {
                    Ok(()) => failure::text_of(&error),
                    Err(failure) if self.goes_on_after(&failure, &mut course) => {
                        format!("{}; the history is lost", failure::text_of(&error))
                    }
                    Err(failure) => return Some(failure),
                },
                End::Dead | End::Enough | End::Change(_) => {
                    let invalidate = match course.invalidate.take() {
                        Some(token) => Ok(Some(token)),
                        None => self.find_invalidate(course.before.clone()),
                    };
                    let cause = match invalidate {
                        Ok(Some(token)) => {
                            self.ledger.acks().place(Token::clone(&token));
                            course.position = Position::After(token);
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
            let wait = course.trouble.backoff.next();
            let level = course.trouble.level();
            log::line!(
                level,
                self.name(),
                "{cause}; opening the stream again {} in {} ms",
                course.position,
                wait.as_millis()
            );
            if self.control.stop.wait(Some(Instant::now() + wait)) {
                return None;
            }
        }
    }

    /// Asks the store of the checkpoint again while it may be better the next time, for as long as a stream
    /// waits for its deployment at the start: what both lie on may be away for a moment. Gives up on stop.
    fn patiently<T: Default>(
        &self,
        trouble: &mut Trouble,
        ask: impl Fn() -> Result<T>,
    ) -> Result<T> {
        let limit = Some(self.deployment.server_selection_timeout());
        loop {
            let error = match ask() {
                Err(error) if error.is_retriable() && trouble.lasts_less_than(limit) => error,
                answer => return answer,
            };
            log::line!(trouble.level(), self.name(), "{error}; it is tried again");
            self.ledger.meter.attempted();
            self.ledger.meter.troubled(error.of_worker(self.name()));
            let wait = trouble.backoff.next();
            if self.control.stop.wait(Some(Instant::now() + wait)) {
                return Ok(T::default());
            }
        }
    }

    /// Where the options and the checkpoint say. `None` if the worker was stopped before that is known.
    fn beginning(&self) -> Result<Option<Course>> {
        let start = Position::Start(self.options.start_field());
        let mut course = Course {
            position: start.clone(),
            before: start.clone(),
            invalidate: None,
            stage: Stage::Stream,
            ran_before: false,
            lost: None,
            trouble: Trouble::new(),
            pace: None,
            patience: None,
            waste: Waste::default(),
            began: Instant::now(),
            is_change_of_pace: false,
            in_vain: 0,
            server: None,
        };
        let mut saved = None;
        if let Some(checkpointer) = &self.checkpointer {
            saved = self.patiently(&mut course.trouble, || {
                checkpointer.load(&self.control.stop, |answer| self.await_opening(answer))
            })?;
            // A position of another beginning must not replace it.
            if self.control.stop.is_open() {
                return Ok(None);
            }
            if saved.is_none() {
                self.tell_of_an_empty_store(checkpointer, &start);
            }
        }
        match (saved, self.options.snapshot) {
            (Some(place), mode) => {
                course.ran_before = true;
                if let Some((option, _)) = self.options.start_field_and_option() {
                    log::line!(
                        LogLevel::Info,
                        self.name(),
                        "the saved checkpoint overrides the option {option}"
                    );
                }
                self.ledger.acks().place(Token::clone(&place.token));
                match place.snapshot {
                    Some(progress) => {
                        self.ledger.snapshot().resume(progress);
                        course.stage = Stage::Resume;
                    }
                    None if mode == Snapshot::Always => {
                        course.stage = Stage::Begin;
                        return Ok(Some(course));
                    }
                    None => {}
                }
                course.position = Position::After(place.token);
            }
            (None, Snapshot::Never) => self.warn_of_a_start_in_the_future(),
            (None, Snapshot::Initial | Snapshot::Always) => course.stage = Stage::Begin,
        }
        Ok(Some(course))
    }

    /// Follows one cursor.
    fn stream(&self, course: &mut Course) -> End {
        /// A cursor that broke after this time was a good one.
        const SOUND: Duration = Duration::from_secs(1);
        let was_ready = self.control.ready.is_open();
        let opened = Instant::now();
        if course.position.needs_token()
            && let Err(end) = self.take_token(course)
        {
            return end;
        }
        let began = course.position.clone();
        let pace = self.pace_for(course);
        // Asked once: the clock goes on, and whoever counts the replies has to agree.
        let accepted_with = accepted_with(&began);
        let cursor = self.open(course, pace, accepted_with);
        let end = self.hand_over(&cursor, course, accepted_with);
        let progress = cursor.progress();
        drop(cursor);
        if progress.replies > 0 {
            course.lost = None;
        }
        if progress.has_events {
            course.in_vain = 0;
        }
        course.server = progress.server;
        course.is_change_of_pace = matches!(end, End::Change(_));
        // It was at work for a while, perhaps in a long oplog: it cannot be called unreachable.
        if !progress.is_open && progress.server.is_some() && opened.elapsed() >= SOUND {
            course.trouble.begins_anew();
        }
        let has_moved = progress.has_events || progress.position != began;
        (course.position, course.before) = (progress.position, progress.before);
        course.invalidate = progress.invalidate;
        // But for the first time, only a reply behind the opening one shows that it works again.
        if progress.replies > usize::from(was_ready) {
            course.trouble.ends(opened.elapsed() >= SOUND || is_sound(&end, has_moved));
        }
        let searched = Searched { began, pace, is_opening: progress.replies == 0 };
        // Before it has had events it may be that the server has not found the place yet.
        let end = match end {
            End::Broken(error, _)
                if !progress.has_events && failure::is_token_not_found(&error) =>
            {
                self.search_by_time(error, &searched, course)
            }
            end => self.detour(end, &searched, course),
        };
        match end {
            Ok(Detour { why, from, pace }) => {
                let level = if course.is_change_of_pace { LogLevel::Debug } else { LogLevel::Info };
                let shown = pace.map(|pace| format!(", {pace}")).unwrap_or_default();
                log::line!(level, self.name(), "{why}; opening the stream again {from}{shown}");
                (course.position, course.pace) = (from, pace);
                End::Done
            }
            Err(end) => end,
        }
    }

    /// Takes the token of a start time: the reply that opens a cursor there may have an event already, and no token
    /// of the place before it, which has to be saved first.
    fn take_token(&self, course: &mut Course) -> Result<(), End> {
        let mut scope = self.scope.clone();
        scope.opens_with_event = false;
        // Nothing after the opening reply, for which a server might look for long.
        scope.limit = Some(0);
        let from = course.position.clone();
        let cursor = Cursor::open(&self.deployment, scope, from, |_: &Reply| Some(0));
        self.ledger.meter.attempted();
        self.await_opening(|limit| cursor.has_next_within(&self.control.stop, limit));
        match cursor.next(&self.control.stop) {
            Next::Reply(reply, _) => match reply.token() {
                Some(token) => {
                    course.position = Position::After(Token::clone(token));
                    Ok(())
                }
                None => Err(End::Failed(self.bug("a server without resume tokens"))),
            },
            other => Err(self.end_of(other, &cursor, course)),
        }
    }

    /// How the next cursor reads.
    fn pace_for(&self, course: &mut Course) -> Pace {
        let most = self.scope.batch_size;
        let pace = course.pace.take().unwrap_or(match course.position.is_in_history() {
            true => Pace::One,
            false => Pace::Full,
        });
        if pace.is_full_for(most) { Pace::Full } else { pace }
    }

    /// The way to a place whose token the server does not find.
    fn search_by_time(
        &self,
        error: DriverError,
        searched: &Searched,
        course: &Course,
    ) -> Result<Detour, End> {
        let Some(from) = searched.began.past() else {
            return Err(End::Broken(error, self.phase(course, !searched.is_opening)));
        };
        let why = "the event of the stream's resume token does not pass its stages now";
        Ok(Detour { why, from, pace: None })
    }

    /// Whether the options say to go on after this failure, and if so how.
    fn goes_on_after(&self, failure: &Error, course: &mut Course) -> bool {
        let policy = self.options.on_history_lost;
        if failure.kind() != ErrorKind::HistoryLost || policy == OnHistoryLost::Fail {
            return false;
        }
        self.ledger.meter.troubled(failure.clone().of_worker(self.name()));
        // The first loss counts while its message is not on its way.
        course.lost.get_or_insert(Lost { from: course.position.time() });
        course.position = Position::Start(None);
        // A snapshot that is not finished needs the history from its beginning on.
        let anew = policy == OnHistoryLost::Snapshot || self.ledger.snapshot().read().is_some();
        course.stage = if anew { Stage::Begin } else { Stage::Stream };
        course.trouble.told = false;
        true
    }

    /// Takes the point from which the stream goes on behind a snapshot.
    fn begin_snapshot(&self, course: &mut Course) -> End {
        let ledger = Arc::clone(&self.ledger);
        let is_restart = course.lost.is_some();
        let mut scope = self.scope.clone();
        // What comes after the opening reply comes again after the snapshot.
        scope.limit = Some(0);
        let cursor =
            Cursor::open(&self.deployment, scope, Position::Start(None), move |reply: &Reply| {
                ledger.meter.received(reply);
                let mut acks = ledger.acks();
                let gap = acks.read(usize::from(is_restart));
                let number = gap + u64::from(is_restart);
                // Before the token has its place: it must not be saved without the snapshot.
                ledger.snapshot().mark(number, || Mark::Begin);
                if let Some(token) = reply.token() {
                    acks.place(Token::clone(token));
                }
                Some(number)
            });
        self.ledger.meter.attempted();
        self.await_opening(|limit| cursor.has_next_within(&self.control.stop, limit));
        let (reply, first) = match cursor.next(&self.control.stop) {
            Next::Reply(reply, first) => (reply, first),
            other => return self.end_of(other, &cursor, course),
        };
        let Some(token) = reply.token().cloned() else {
            return End::Failed(self.bug("a server without resume tokens"));
        };
        if let Err(error) = self.is_open(true, &mut course.trouble) {
            return End::Failed(error);
        }
        if let Some(lost) = course.lost.take()
            && let Err(end) = self.tell_of(&lost, &reply, first - 1)
        {
            return end;
        }
        log::line!(
            LogLevel::Info,
            self.name(),
            "reading what exists in {}",
            self.scope.namespace()
        );
        course.position = Position::After(token);
        course.stage = Stage::Snapshot;
        End::Done
    }

    /// Makes sure that the stream can go on behind a snapshot that an earlier run has begun, before the
    /// rest of it is read.
    fn resume_snapshot(&self, course: &mut Course) -> End {
        let mut scope = self.scope.clone();
        (scope.batch_size, scope.await_time) = (1, Duration::from_millis(1));
        scope.opens_with_event = false;
        let cursor =
            Cursor::open(&self.deployment, scope, course.position.clone(), |_: &Reply| Some(0));
        // Servers look only after the opening reply.
        for _ in 0..2 {
            match cursor.next(&self.control.stop) {
                Next::Reply(..) => {}
                // What is watched was dropped: the stream will meet it again.
                Next::Ended => break,
                // It is there: the stream will meet it again, too.
                Next::Failed(error) if failure::is_too_large(&error) => break,
                Next::Failed(error) if failure::is_token_not_found(&error) => {
                    match course.position.past() {
                        Some(past) => course.position = past,
                        None => return self.end_of(Next::Failed(error), &cursor, course),
                    }
                    return End::Done;
                }
                other => return self.end_of(other, &cursor, course),
            }
        }
        if let Err(error) = self.is_open(false, &mut course.trouble) {
            return End::Failed(error);
        }
        let namespace = self.scope.namespace();
        log::line!(LogLevel::Info, self.name(), "reading what is left to read in {namespace}");
        course.stage = Stage::Snapshot;
        End::Done
    }

    /// Hands over what exists.
    fn read_snapshot(&self, course: &mut Course) -> End {
        let ledger = &self.ledger;
        let progress = ledger.snapshot().read().cloned().unwrap_or_default();
        let mut namespace = progress.current.as_ref().map(|current| current.namespace.clone());
        let at = course.position.time();
        let reading = Reading::start(&self.deployment, self.scope.clone(), progress, at);
        let mark = |mark: &dyn Fn() -> Mark| {
            let number = ledger.acks().read(0);
            ledger.snapshot().mark(number, mark);
        };
        loop {
            match reading.next(&self.control.stop) {
                Item::Estimate(documents) => ledger.meter.snapshot_begins(documents),
                Item::Collection(current) => {
                    mark(&|| Mark::Collection(current.clone()));
                    namespace = Some(current.namespace);
                }
                Item::Documents { range, reply } => {
                    let Some(namespace) = &namespace else {
                        return End::Failed(self.bug("documents of no collection"));
                    };
                    let (count, last) = (reply.spans().len(), reply.last_id());
                    let number = {
                        let mut acks = ledger.acks();
                        let number = acks.read(count);
                        let behind = number + count as u64;
                        if let Some(last) = last {
                            let mut snapshot = ledger.snapshot();
                            let documents = count as u64;
                            snapshot.mark(behind, || Mark::Read {
                                range,
                                documents,
                                last: last.clone(),
                            });
                        }
                        number
                    };
                    ledger.meter.snapshot_reads(namespace, &reply);
                    self.is_streaming();
                    course.trouble.ends(true);
                    let wrap = |document: &[u8], out: &mut Vec<u8>| {
                        notices::snapshot(namespace, document, out)
                    };
                    for events in Events::of_documents(ledger, reply, number, wrap) {
                        let events = match events {
                            Ok(events) => events,
                            Err(error) => {
                                return End::Failed(self.bug(&format!("a document: {error}")));
                            }
                        };
                        if let Err(Stopped) = self.queue.push(&events, &self.control.stop) {
                            return End::Stopped;
                        }
                    }
                    reading.handed_over();
                }
                Item::Done { range } => mark(&|| Mark::Done { range }),
                Item::End => {
                    mark(&|| Mark::End);
                    ledger.meter.snapshot_ends();
                    course.stage = Stage::Stream;
                    return End::Done;
                }
                Item::Failed(error) => return End::Broken(error, Phase::Snapshot),
                Item::Stopped => return End::Stopped,
                Item::Lost => {
                    return End::Failed(self.bug("the task that reads a snapshot is gone"));
                }
            }
        }
    }

    /// How the stream gets around what the server cannot send, and how it changes its pace; else the end as it is.
    /// Nothing is left out and nothing comes twice: each detour begins behind everything that was read.
    fn detour(&self, end: End, searched: &Searched, course: &mut Course) -> Result<Detour, End> {
        let from = course.position.clone();
        match end {
            End::Enough => {
                Ok(Detour { why: "what was to be read with care is read", from, pace: None })
            }
            End::Change(Change { to, wasted }) => {
                course.waste.add(wasted);
                let (why, pace) = match to {
                    Advice::One => ("few events are found", Pace::One),
                    Advice::Full(patience) => {
                        course.patience = Some(course.waste.patience(patience));
                        ("events are found fast", Pace::Full)
                    }
                    Advice::Try(patience) => {
                        course.patience = Some(course.waste.patience(patience));
                        ("events may be found fast", Pace::Full)
                    }
                };
                Ok(Detour { why, from, pace: Some(pace) })
            }
            End::Broken(error, _)
                if failure::is_token_without_parts(&error) && from.past().is_some() =>
            {
                let why = "an event has to be split, for which the stream's tokens are too old";
                Ok(Detour { why, from: from.past().unwrap_or(from), pace: None })
            }
            End::Broken(error, phase) if failure::is_too_large(&error) => {
                let is_next = searched.is_opening
                    || matches!(searched.pace, Pace::One | Pace::Careful)
                    || self.scope.batch_size == 1;
                if !is_next {
                    let pace = Some(Pace::Careful);
                    Ok(Detour { why: "an event is too large", from, pace })
                } else if self.options.on_oversized == OnOversized::Skip {
                    self.pass_over(error, phase, course)
                } else {
                    Err(End::Broken(error, phase))
                }
            }
            end => Err(end),
        }
    }

    /// Passes over the event behind the position, which is too large, with a message in its place.
    ///
    /// Without most of its fields the server can send it, and so its token. But a lookup may have found another
    /// document since, so that another event is the next one now: the server is asked whether it is really this
    /// one that it cannot send.
    fn pass_over(
        &self,
        error: DriverError,
        phase: Phase,
        course: &mut Course,
    ) -> Result<Detour, End> {
        /// Whatever changes while the stream looks: it looks no more often than this at one place.
        const PATIENCE: u32 = 5;
        let from = course.position.clone();
        // These streams may not let the event before it through, without which no server finds the place after it.
        let place = from.past().unwrap_or_else(|| from.clone());
        let alone = |stage| {
            let mut scope = self.scope.at(Pace::Careful);
            scope.split = false;
            scope.stages.push(stage);
            scope
        };
        let found = match self.first_event(alone(notices::only_outline()), &place, course)? {
            Ok(Some(outline)) => {
                let token = event::resume_token(&outline).map(Token::from);
                token.map(|token| (outline, token))
            }
            Ok(None) => None,
            Err(error) => return Err(End::Broken(error, phase)),
        };
        if let Some((outline, token)) = found {
            let only = pipeline::only_event(&token).map_err(|error| {
                End::Failed(self.bug(&format!("a resume token is damaged: {error}")))
            })?;
            match self.first_event(alone(only), &place, course)? {
                Err(error) if failure::is_too_large(&error) => {
                    self.tell_of_oversized(&error, &outline)?;
                    let why = "an event that is too large was left out";
                    return Ok(Detour { why, from: Position::After(token), pace: None });
                }
                Err(error) => return Err(End::Broken(error, phase)),
                Ok(_) => {}
            }
        }
        course.in_vain += 1;
        if course.in_vain > PATIENCE {
            return Err(End::Broken(error, phase));
        }
        let why = "the event that is too large is not there any more, or not as large";
        Ok(Detour { why, from, pace: Some(Pace::Careful) })
    }

    /// The first event of a stream that is opened only for it, or why the server does not send it. `None` if there
    /// is none, or it is the one that ends the stream, which the cursor that meets it has to know of.
    fn first_event(
        &self,
        mut scope: Scope,
        from: &Position,
        course: &mut Course,
    ) -> Result<Result<Option<Vec<u8>>, DriverError>, End> {
        scope.opens_with_event = false;
        let cursor = Cursor::open(&self.deployment, scope, from.clone(), |_: &Reply| Some(0));
        // The opening one, and the one that has the event.
        for _ in 0..2 {
            match cursor.next(&self.control.stop) {
                Next::Reply(reply, _) if reply.invalidate_token().is_some() => break,
                Next::Reply(reply, _) => {
                    if let Some(event) = reply.events().next() {
                        return Ok(Ok(Some(event.to_vec())));
                    }
                }
                Next::Failed(error) => {
                    course.server = cursor.progress().server;
                    return Ok(Err(error));
                }
                Next::Ended | Next::Enough | Next::Change(_) => break,
                Next::Stopped => return Err(End::Stopped),
                Next::Lost => {
                    return Err(End::Failed(self.bug("the task that reads its replies is gone")));
                }
            }
        }
        Ok(Ok(None))
    }

    fn tell_of_oversized(&self, error: &DriverError, outline: &[u8]) -> Result<(), End> {
        let failure = failure::error(error, self.deployment.uri(), "send an event", None)
            .with_advice(failure::oversized_advice(self.options.on_oversized));
        self.ledger.meter.troubled(failure.of_worker(self.name()));
        let mut namespace = String::new();
        event::write_namespace(outline, &mut namespace);
        let operation = event::operation(outline);
        log::line!(
            LogLevel::Warn,
            self.name(),
            "an event of {namespace} ({operation}) is larger than the server can send, and is left out"
        );
        let notice = notices::oversized(outline)
            .map_err(|error| End::Failed(self.bug(&error.to_string())))?;
        let number = self.ledger.acks().read(1);
        let events = Events::own(&self.ledger, notice, number);
        Ok(self.queue.push(&events, &self.control.stop)?)
    }

    /// What happened before "now" is not delivered: whoever expected a checkpoint has to learn that none
    /// was found.
    fn tell_of_an_empty_store(&self, checkpointer: &Checkpointer, start: &Position) {
        let (what, name) = (checkpointer.what(), self.name());
        if self.options.snapshot != Snapshot::Never {
            log::line!(LogLevel::Info, name, "there is no {what} yet: beginning with a snapshot");
        } else if *start == Position::Start(None) {
            log::line!(
                LogLevel::Warn,
                name,
                "there is no {what} yet: the stream begins now, and changes before now are not delivered"
            );
        } else {
            log::line!(LogLevel::Info, name, "there is no {what} yet: beginning {start}");
        }
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

    /// Opens a cursor that numbers its events and gives each reply's token its place behind them. The
    /// number before its first event is left free for the message that says what is lost.
    fn open(&self, course: &mut Course, pace: Pace, accepted_with: usize) -> Cursor {
        let intake = Intake {
            ledger: Arc::clone(&self.ledger),
            queue: Arc::clone(&self.queue),
            control: Arc::clone(&self.control),
            replies: 0,
            is_restart: course.lost.is_some(),
            began: course.position.token(),
            scope: self.scope.clone(),
            accepted_with,
        };
        let mut scope = self.scope.at(pace);
        // An opening reply with an event comes only when the server has read its oplog to the end.
        scope.opens_with_event = accepted_with == 1;
        let full_from = course.began + course.waste.age_for_more();
        if scope.batch_size > 1 && full_from <= Instant::now() {
            scope.patience = Some(course.patience.take().unwrap_or(Tuner::AT_LEAST));
        }
        scope.full_from = Some(full_from);
        let patience = Tuner::AT_LEAST.saturating_add(scope.await_time);
        scope.try_from = Some(course.began + course.waste.age_to_try(patience));
        Cursor::open(&self.deployment, scope, course.position.clone(), intake)
    }

    /// Hands over what one cursor delivers, for as long as it lives.
    fn hand_over(&self, cursor: &Cursor, course: &mut Course, accepted_with: usize) -> End {
        let mut opened = false;
        let mut before_acceptance = accepted_with - 1;
        self.ledger.meter.attempted();
        self.await_opening(|limit| cursor.has_next_within(&self.control.stop, limit));
        loop {
            let (reply, first) = match cursor.next(&self.control.stop) {
                Next::Reply(reply, first) => (reply, first),
                other => return self.end_of(other, cursor, course),
            };
            if before_acceptance > 0 && reply.spans().is_empty() {
                before_acceptance -= 1;
                continue;
            }
            if !opened {
                opened = true;
                if let Err(error) = self.is_open(!course.ran_before, &mut course.trouble) {
                    return End::Failed(error);
                }
                if !course.is_change_of_pace {
                    self.ledger.meter.opened();
                    log::line!(
                        LogLevel::Info,
                        self.name(),
                        "streaming {} on {}",
                        self.scope.namespace(),
                        self.deployment.uri().shown()
                    );
                }
                if let Some(lost) = &course.lost
                    && let Err(end) = self.tell_of(lost, &reply, first - 1)
                {
                    return end;
                }
            }
            for events in Events::of_reply(&self.ledger, reply, first) {
                if let Err(Stopped) = self.queue.push(&events, &self.control.stop) {
                    return End::Stopped;
                }
            }
        }
    }

    /// What it means that a cursor gave no reply.
    ///
    /// A stream that ran before, by its checkpoint, is treated as one that was open already.
    fn end_of(&self, next: Next, cursor: &Cursor, course: &mut Course) -> End {
        match next {
            Next::Stopped => End::Stopped,
            Next::Failed(error) => {
                let progress = cursor.progress();
                course.server = progress.server;
                End::Broken(error, self.phase(course, progress.is_open))
            }
            Next::Ended => End::Dead,
            Next::Enough => End::Enough,
            Next::Change(change) => End::Change(change),
            Next::Reply(..) | Next::Lost => {
                End::Failed(self.bug("the task that reads its replies is gone"))
            }
        }
    }

    fn phase(&self, course: &Course, is_open: bool) -> Phase {
        match () {
            () if is_open => Phase::Streaming,
            () if course.ran_before || self.control.ready.is_open() => Phase::Reopening,
            () => Phase::Opening,
        }
    }

    /// Hands over the message that says what the stream has left out, before the events of its reply.
    fn tell_of(&self, lost: &Lost, opening: &Reply, number: u64) -> Result<(), End> {
        let token = opening.token().and_then(|token| RawDocument::from_bytes(token).ok());
        let to = opening.token().cloned().and_then(|token| Position::After(token).time());
        let gap = notices::gap(&self.scope, lost.from, to, token)
            .map_err(|error| End::Failed(self.bug(&error.to_string())))?;
        Ok(self.queue.push(&Events::own(&self.ledger, gap, number), &self.control.stop)?)
    }

    /// Every later change will be delivered.
    fn is_open(&self, is_new: bool, trouble: &mut Trouble) -> Result<()> {
        // A crash before the first acknowledgement must not lead to a new "now".
        if let Some(checkpointer) = &self.checkpointer
            && is_new
            && !self.control.ready.is_open()
        {
            self.patiently(trouble, || checkpointer.save(&self.control.stop))?;
            // Stopped while saving: it may not be durable, so the worker is not ready.
            if self.control.stop.is_open() {
                return Ok(());
            }
        }
        self.is_streaming();
        self.control.ready.open();
        Ok(())
    }

    fn is_streaming(&self) {
        self.control.set(WorkerState::Streaming);
    }

    /// Whether a broken cursor may be opened again; if not, the failure.
    fn judge(&self, error: &DriverError, phase: Phase, course: &mut Course) -> Result<()> {
        let (what, limit) = match phase {
            Phase::Opening => {
                ("open the change stream", Some(self.deployment.server_selection_timeout()))
            }
            Phase::Reopening | Phase::Streaming => {
                ("go on with the change stream", self.options.retry)
            }
            Phase::Snapshot => ("read the snapshot", self.options.retry),
        };
        let in_time = course.trouble.lasts_less_than(limit);
        let failure = failure::error(error, self.deployment.uri(), what, course.position.time());
        let wire_version = course.server.and_then(|server| server.wire_version);
        let failure = match failure::missing_feature(error, &self.options, wire_version) {
            Some(advice) => failure.with_advice(&advice),
            None if failure.kind() == ErrorKind::HistoryLost => {
                failure.with_advice(&self.advice_on_lost_history(course))
            }
            None => failure,
        };
        let failure = match failure.kind() {
            ErrorKind::Oversized => {
                failure.with_advice(failure::oversized_advice(self.options.on_oversized))
            }
            _ => failure,
        };
        let failure = match failure::token_advice(error, &course.position) {
            Some(advice) => failure.with_advice(advice),
            None => failure,
        };
        let is_refused = phase != Phase::Opening && failure::is_refused(error);
        let in_time = in_time && course.trouble.bears(error, is_refused);
        if in_time && (is_refused || failure::is_resumable(error, phase, wire_version)) {
            self.ledger.meter.troubled(failure.of_worker(self.ledger.name.as_str()));
            return Ok(());
        }
        Err(failure)
    }

    /// Where the place came from, and which option goes on all the same.
    fn advice_on_lost_history(&self, course: &Course) -> String {
        let from =
            match (&self.checkpointer, course.ran_before, self.options.start_field_and_option()) {
                (Some(checkpointer), true, _) => {
                    format!("; that is the place in {}, which stays as it is", checkpointer.what())
                }
                (_, _, Some((option, _))) if !self.control.ready.is_open() => {
                    format!("; that is the place of the option {option}")
                }
                _ => String::new(),
            };
        format!(
            "{from}; with on_history_lost=restart the worker goes on from now after a message that says what is \
             missing, and with on_history_lost=snapshot it reads what exists after that message"
        )
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
        scope.stages = vec![pipeline::only_invalidate()];
        let cursor = Cursor::open(&self.deployment, scope, before, |_: &Reply| Some(0));
        for _ in 0..PATIENCE {
            match cursor.next(&self.control.stop) {
                Next::Reply(reply, _) => {
                    if let Some(token) = reply.invalidate_token() {
                        return Ok(Some(Token::clone(token)));
                    }
                }
                Next::Stopped => return Err(Stopped),
                // The main cursor will meet the same, and knows what to do.
                Next::Failed(_) | Next::Ended | Next::Enough | Next::Change(_) | Next::Lost => {
                    break;
                }
            }
        }
        Ok(None)
    }
}

/// What becomes of the stream's replies before its thread sees them.
struct Intake {
    ledger: Arc<Ledger>,
    queue: Arc<Queue>,
    control: Arc<Control>,
    replies: usize,
    is_restart: bool,
    /// Where the cursor begins: the position before its first event is acked.
    began: Option<Token>,
    scope: Scope,
    accepted_with: usize,
}

impl Observer for Intake {
    fn read(&mut self, reply: &Reply) -> Option<u64> {
        self.ledger.meter.received(reply);
        self.replies += 1;
        let is_opening = self.replies == 1;
        let mut acks = self.ledger.acks();
        if let Some(began) = self.began.take() {
            acks.place(began);
        }
        if is_opening && self.is_restart {
            acks.read(1);
        }
        let first = acks.read(reply.spans().len());
        if let Some(token) = reply.token() {
            acks.place(Token::clone(token));
        }
        let shown = self.replies <= self.accepted_with || !reply.spans().is_empty();
        shown.then_some(first)
    }

    fn renamed(&mut self, event: &[u8]) {
        if !self.scope.misses(event) {
            return;
        }
        let shown = |name: Option<(String, String)>| {
            name.map(|(database, collection)| format!("{database}.{collection}"))
                .unwrap_or_default()
        };
        log::line!(
            LogLevel::Warn,
            self.ledger.name.as_str(),
            "{} was renamed to {}, which is watched ($out does so, too): the documents that it had then come \
             as no messages; read them with another worker that has snapshot=initial",
            shown(event::database_and_collection(event)),
            shown(event::rename_target(event))
        );
    }

    fn take(&mut self, reply: Reply, first: u64) -> Option<Reply> {
        // The opening one tells the worker that the stream is open.
        if self.replies <= self.accepted_with || reply.is_large() {
            return Some(reply);
        }
        let messages = reply.spans().len();
        let bytes = reply.spans().iter().map(ExactSizeIterator::len).sum();
        let Some(room) = self.queue.room_for(messages, bytes, &self.control.stop) else {
            return Some(reply);
        };
        room.push(Events::shared(&self.ledger, reply, first));
        None
    }
}

/// With which reply the server has accepted the place where a stream is opened: it refuses a place when it begins to
/// look for what comes after it. In the history that is not the opening reply, which has no event there.
fn accepted_with(position: &Position) -> usize {
    if position.is_in_history() { 2 } else { 1 }
}

/// Whether a cursor that ended soon is no reason to wait before the next one. One that breaks after its first
/// replies time after time must not make the worker spin, nor one that the server closes time after time where
/// it is.
fn is_sound(end: &End, has_moved: bool) -> bool {
    match end {
        End::Broken(..) => false,
        End::Dead => has_moved,
        _ => true,
    }
}

/// For how long the stream has not worked, and how often it was opened in vain.
struct Trouble {
    since: Option<Instant>,
    backoff: Backoff,
    told: bool,
    /// Since when the server refuses the user.
    refused: Option<Instant>,
}

impl Trouble {
    /// The time before the first open counts from the start.
    fn new() -> Self {
        Self { since: Some(Instant::now()), backoff: Backoff::new(), told: false, refused: None }
    }

    fn ends(&mut self, sound: bool) {
        self.since = None;
        self.refused = None;
        self.told = false;
        if sound {
            self.backoff = Backoff::new();
        }
    }

    /// What was so far does not count.
    fn begins_anew(&mut self) {
        self.since = Some(Instant::now());
    }

    /// Of its next line: that it has begun is a warning, that it goes on is none.
    fn level(&mut self) -> LogLevel {
        if std::mem::replace(&mut self.told, true) { LogLevel::Info } else { LogLevel::Warn }
    }

    /// Whether the server refuses the user for so short a time that it may be a mistake. Time in which it
    /// cannot be reached does not count.
    fn bears(&mut self, error: &DriverError, is_refused: bool) -> bool {
        if is_refused {
            let since = *self.refused.get_or_insert_with(Instant::now);
            return since.elapsed() < failure::REFUSED_PATIENCE;
        }
        if failure::is_unreachable(error) {
            self.refused = None;
        }
        true
    }

    fn lasts_less_than(&mut self, limit: Option<Duration>) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        limit.is_none_or(|limit| since.elapsed() < limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_that_is_closed_again_and_again_where_it_is_does_not_make_the_worker_spin() {
        assert!(!is_sound(&End::Dead, false));
        assert!(is_sound(&End::Dead, true));
        assert!(is_sound(&End::Enough, false));
        let broken = || End::Broken(DriverError::custom("broken"), Phase::Streaming);
        assert!(!is_sound(&broken(), false) && !is_sound(&broken(), true));
    }
}
