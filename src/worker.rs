//! The worker: one OS thread that drives one cursor and feeds one buffer.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{never, select};
use mongodb::error::Error as DriverError;

use crate::ack::Token;
use crate::buffer::{Buffer, Queue, Stopped, Wait};
use crate::checkpoint::{
    CheckpointStore, Checkpointer, CollectionCheckpoint, FileCheckpoint, Identity,
};
use crate::client::{Deployment, with_signals_blocked};
use crate::cursor::{Cursor, Next, Position, Scope};
use crate::error::{Error, ErrorKind, Result};
use crate::fork::Origin;
use crate::gate::Gate;
use crate::json::{ExtendedJson, Format};
use crate::log::{self, LogLevel};
use crate::message::{Events, Source, json_of_token};
use crate::options::{self, FullDocument, OnInvalidate, Options, Start};
use crate::resume::{self, Backoff, Phase};
use crate::stats::WorkerStats;
use crate::uri::Uri;

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerState {
    /// It connects and opens its cursor for the first time.
    Starting,
    /// Its cursor is open.
    Streaming,
    /// Its cursor broke and it is opening it again, from where it was.
    Reconnecting,
    /// It has ended because it was asked to.
    Stopped,
    /// It has ended with a failure.
    Failed,
}

impl WorkerState {
    const ALL: [WorkerState; 5] = [
        WorkerState::Starting,
        WorkerState::Streaming,
        WorkerState::Reconnecting,
        WorkerState::Stopped,
        WorkerState::Failed,
    ];
}

/// How a wait with a time limit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// What was waited for has happened.
    Done,
    /// It has not happened within the time.
    Timeout,
    /// It will not happen: the worker was stopped before.
    Stopped,
}

/// Handle to a running worker.
///
/// Dropping it asks the worker to stop and never waits. May be shared between threads.
#[must_use = "dropping the handle stops the worker"]
pub struct Worker {
    source: Arc<Source>,
    control: Arc<Control>,
    checkpointer: Option<Checkpointer>,
    origin: Origin,
}

/// What the handle, the thread and the buffer's statistics share.
pub(crate) struct Control {
    source: Arc<Source>,
    namespace: String,
    stop: Arc<Gate>,
    ready: Gate,
    ended: Gate,
    state: AtomicU8,
    failure: OnceLock<Error>,
}

impl Control {
    pub(crate) fn stop(&self) {
        self.stop.open();
    }

    fn state(&self) -> WorkerState {
        let state = self.state.load(Ordering::Acquire);
        WorkerState::ALL.get(usize::from(state)).copied().unwrap_or(WorkerState::Failed)
    }

    pub(crate) fn stats(&self) -> WorkerStats {
        let Self { source, namespace, failure, .. } = self;
        let counts = source.acks().counts();
        let failure = failure.get().cloned();
        source.meter.stats(source.name.as_str(), namespace, self.state(), failure, counts)
    }

    fn set(&self, state: WorkerState) {
        self.state.store(state as u8, Ordering::Release);
    }
}

impl Worker {
    /// Describes a worker for the deployment at `uri` (MongoDB manual, "Connection Strings"); start
    /// it with [`Watch::spawn`].
    pub fn watch(uri: impl Into<String>) -> Watch {
        Watch {
            uri: uri.into(),
            database: None,
            collection: None,
            options: Options::new(),
            checkpoint: None,
            mistake: None,
        }
    }

    /// The worker's name, as messages and errors carry it.
    pub fn name(&self) -> &str {
        self.source.name.as_str()
    }

    /// What the worker is doing now.
    pub fn state(&self) -> WorkerState {
        self.control.state()
    }

    /// Waits until the cursor has been open once: every later change will be delivered. Stays true
    /// afterwards, whatever happens.
    ///
    /// # Errors
    ///
    /// Why the worker failed (the failure still comes through the buffer as well), or
    /// [`ErrorKind::State`] if it was stopped before.
    pub fn wait_ready(&self) -> Result<()> {
        match self.wait_ready_until(Wait::ForEver)? {
            Waited::Done | Waited::Timeout => Ok(()),
            Waited::Stopped => Err(Error::new(
                ErrorKind::State,
                format!("worker {} was stopped before its cursor was open", self.name()),
            )),
        }
    }

    /// As [`wait_ready`](Self::wait_ready), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Why the worker failed.
    pub fn wait_ready_timeout(&self, timeout: Duration) -> Result<Waited> {
        self.wait_ready_until(Wait::at_most(timeout))
    }

    pub(crate) fn wait_ready_until(&self, wait: Wait) -> Result<Waited> {
        self.origin.check()?;
        let Control { ready, ended, .. } = &*self.control;
        if !ready.is_open() && !ended.is_open() {
            let timer = match wait {
                Wait::Not => return Ok(Waited::Timeout),
                Wait::Until(deadline) => crossbeam_channel::at(deadline),
                Wait::ForEver => never(),
            };
            select! {
                recv(ready.opened()) -> _ => {}
                recv(ended.opened()) -> _ => {}
                recv(timer) -> _ => {}
            }
        }
        if ready.is_open() {
            Ok(Waited::Done)
        } else if ended.is_open() {
            self.failure().map_or(Ok(Waited::Stopped), Err)
        } else {
            Ok(Waited::Timeout)
        }
    }

    /// Asks the worker to stop; never waits. What it has put into the buffer stays there.
    pub fn stop(&self) {
        if self.origin.check().is_ok() {
            self.control.stop();
        }
    }

    /// Waits until the worker has ended. If it has a checkpoint, every acknowledgement made before this
    /// call is then saved.
    ///
    /// # Errors
    ///
    /// Why it failed (the failure still comes through the buffer as well), or
    /// [`ErrorKind::Checkpoint`] if its checkpoint could not be saved within 5 s.
    pub fn join(&self) -> Result<()> {
        self.join_until(Wait::ForEver).map(drop)
    }

    /// As [`join`](Self::join), for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`join`](Self::join).
    pub fn join_timeout(&self, timeout: Duration) -> Result<Waited> {
        self.join_until(Wait::at_most(timeout))
    }

    pub(crate) fn join_until(&self, wait: Wait) -> Result<Waited> {
        self.origin.check()?;
        let ended = match wait {
            Wait::Not => self.control.ended.is_open(),
            Wait::Until(deadline) => self.control.ended.wait(Some(deadline)),
            Wait::ForEver => self.control.ended.wait(None),
        };
        if !ended {
            return Ok(Waited::Timeout);
        }
        let saved =
            self.checkpointer.as_ref().map_or(Ok(()), |checkpointer| checkpointer.save(None));
        match self.failure() {
            Some(failure) => Err(failure),
            None => saved.map(|()| Waited::Done),
        }
    }

    fn failure(&self) -> Option<Error> {
        self.control.failure.get().cloned()
    }

    /// The resume token (JSON) up to which every message is acknowledged: a worker started with
    /// [`Start::StartAfter`] goes on there. Before the first acknowledgement it is the token with
    /// which the stream was opened; `None` before that.
    pub fn resume_token(&self) -> Option<String> {
        self.origin.check().ok()?;
        let token = self.source.acks().position();
        token.map(|token| json_of_token(&token))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
        if let Some(checkpointer) = &self.checkpointer
            && self.origin.check().is_ok()
            && self.control.ended.is_open()
        {
            checkpointer.release_if_saved(&self.source);
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("name", &self.name()).field("state", &self.state()).finish()
    }
}

/// Describes a worker: what it watches, where it begins, its options.
///
/// Mistakes in it are reported by [`spawn`](Self::spawn).
#[derive(Clone)]
#[must_use = "a worker starts with spawn"]
pub struct Watch {
    uri: String,
    database: Option<String>,
    collection: Option<String>,
    options: Options,
    checkpoint: Option<Arc<dyn CheckpointStore>>,
    mistake: Option<Error>,
}

impl Watch {
    /// Watches this database only; without it the whole deployment is watched.
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }

    /// Watches this collection of the database only. It need not exist yet.
    pub fn collection(mut self, name: impl Into<String>) -> Self {
        self.collection = Some(name.into());
        self
    }

    /// Where the stream begins; [`Start::Now`] if never called.
    pub fn start_at(self, start: Start) -> Self {
        self.check(|options| options.set_start(&start))
    }

    /// The worker's name in messages, errors and logs; the namespace if never called.
    pub fn name(self, name: &str) -> Self {
        self.option("name", name)
    }

    /// Aggregation stages that the server puts behind `$changeStream`.
    pub fn pipeline(self, stages: impl IntoIterator<Item = bson::Document>) -> Self {
        let stages = stages.into_iter().collect();
        self.check(|options| {
            options.pipeline = options::check_pipeline(stages)
                .map_err(|reason| Error::argument(format!("pipeline: {reason}")))?;
            Ok(())
        })
    }

    /// Which version of the document updates carry.
    pub fn full_document(mut self, mode: FullDocument) -> Self {
        self.options.full_document = mode;
        self
    }

    /// Most events in one reply of the server.
    pub fn batch_size(self, events: u32) -> Self {
        self.option("batch_size", &events.to_string())
    }

    /// Longest time that the server waits for an event before it answers with none, in whole
    /// milliseconds.
    pub fn await_time(self, time: Duration) -> Self {
        self.option("await_ms", &time.as_millis().to_string())
    }

    /// The shape of the JSON.
    pub fn format(mut self, format: Format) -> Self {
        self.options.format = format;
        self
    }

    /// The mode of Extended JSON.
    pub fn extended_json(mut self, mode: ExtendedJson) -> Self {
        self.options.json = mode;
        self
    }

    /// Once the stream has been open: give up opening it again after this time. Without it the
    /// worker never gives up.
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.options.retry = Some(time);
        self
    }

    /// Keeps the acknowledged position in a store, and goes on there when the worker is started again. A
    /// saved checkpoint goes before every start point.
    pub fn checkpoint(mut self, store: impl CheckpointStore) -> Self {
        self.checkpoint = Some(Arc::new(store));
        self
    }

    /// The name of the checkpoint; the worker's name if never called. It must stay the same from run to
    /// run, and no other running worker may use it in the same store.
    pub fn checkpoint_name(self, name: &str) -> Self {
        self.option("checkpoint_name", name)
    }

    /// Save the checkpoint at most this often, in whole milliseconds.
    pub fn checkpoint_interval(self, time: Duration) -> Self {
        self.option("checkpoint_ms", &time.as_millis().to_string())
    }

    /// What happens when what is watched was dropped or renamed.
    pub fn on_invalidate(mut self, policy: OnInvalidate) -> Self {
        self.options.on_invalidate = policy;
        self
    }

    /// Sets an option by its name, see [`OPTIONS`](crate::OPTIONS).
    pub fn option(self, name: &str, value: &str) -> Self {
        self.check(|options| options.set(name, value))
    }

    /// Replaces all options.
    pub fn options(mut self, options: &Options) -> Self {
        self.options = options.clone();
        self
    }

    /// The first mistake is the one that is reported.
    fn check(mut self, change: impl FnOnce(&mut Options) -> Result<()>) -> Self {
        if let Err(error) = change(&mut self.options) {
            self.mistake.get_or_insert(error);
        }
        self
    }

    /// Checks everything that can be checked without a server, and starts the worker. It connects on
    /// its own thread; what goes wrong there comes through the buffer.
    ///
    /// Keep a handle to the buffer: when the last one is dropped its workers stop.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Argument`] for a bad URI, name or option, [`ErrorKind::State`] for a closed
    /// buffer or where the system gives no thread.
    pub fn spawn(self, buffer: &Buffer) -> Result<Worker> {
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let uri = Uri::parse(&self.uri)?;
        check_namespace(self.database.as_deref(), self.collection.as_deref())?;
        self.options.check()?;

        let mut scope =
            Scope::new(self.database.as_deref(), self.collection.as_deref(), &self.options);
        let name = self.options.name.clone().unwrap_or_else(|| scope.namespace());
        let source = Arc::new(Source::new(&name, self.options.format, self.options.json));
        let control = Arc::new(Control {
            source: Arc::clone(&source),
            namespace: scope.namespace(),
            stop: Arc::new(Gate::new()),
            ready: Gate::new(),
            ended: Gate::new(),
            state: AtomicU8::new(WorkerState::Starting as u8),
            failure: OnceLock::new(),
        });
        let deployment = Deployment::of(uri)?;
        let key = self.options.checkpoint_name.as_deref().unwrap_or(&name);
        let identity = Identity::new(key, &scope)?;
        let checkpointer = match self.checkpoint_store(&deployment, &mut scope)? {
            Some(store) => Some(Checkpointer::start(
                store,
                identity,
                self.options.checkpoint_interval,
                &source,
            )?),
            None => None,
        };
        let queue = Arc::clone(buffer.queue());
        queue.attach(&control)?;
        let thread = Thread {
            deployment,
            scope,
            options: self.options,
            source: Arc::clone(&source),
            queue: Arc::clone(&queue),
            control: Arc::clone(&control),
            checkpointer: checkpointer.clone(),
        };
        let builder = std::thread::Builder::new().name("mongostream".to_owned());
        if let Err(error) = with_signals_blocked(|| builder.spawn(move || thread.main())) {
            queue.forget(&control);
            return Err(Error::new(
                ErrorKind::State,
                format!("cannot start a thread for worker {name}: {error}"),
            ));
        }
        Ok(Worker { source, control, checkpointer, origin: Origin::here() })
    }

    /// The store that the options or [`checkpoint`](Self::checkpoint) ask for. Where it is a collection
    /// that the stream would see, the stream leaves it out.
    fn checkpoint_store(
        &self,
        deployment: &Arc<Deployment>,
        scope: &mut Scope,
    ) -> Result<Option<Arc<dyn CheckpointStore>>> {
        let options = &self.options;
        let named = options.checkpoint_file.is_some() || options.checkpoint_collection.is_some();
        if named && self.checkpoint.is_some() {
            return Err(Error::argument("a checkpoint has one place, two are given"));
        }
        if let Some(path) = &options.checkpoint_file {
            return Ok(Some(Arc::new(FileCheckpoint::new(path))));
        }
        let Some(namespace) = &options.checkpoint_collection else {
            return Ok(self.checkpoint.clone());
        };
        let home = match &options.checkpoint_uri {
            Some(uri) => Deployment::of(uri.clone())?,
            None => Arc::clone(deployment),
        };
        let store = CollectionCheckpoint::on(home, namespace)?;
        let (database, collection) = store.namespace();
        let watches_database = scope.database.as_deref().is_none_or(|name| name == database);
        if store.is_on(deployment) && watches_database {
            match &scope.collection {
                None => scope.leave_out(database, collection),
                Some(name) if name == collection => {
                    return Err(Error::argument(format!(
                        "{namespace} is watched: its checkpoint cannot be in itself"
                    )));
                }
                Some(_) => {}
            }
        }
        Ok(Some(Arc::new(store)))
    }
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the URI: it may hold a password.
        f.debug_struct("Watch")
            .field("database", &self.database)
            .field("collection", &self.collection)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// MongoDB manual, "MongoDB Limits and Thresholds", "Naming Restrictions".
pub(crate) fn check_namespace(database: Option<&str>, collection: Option<&str>) -> Result<()> {
    const NOT_IN_DATABASE: [char; 7] = ['/', '\\', '.', ' ', '"', '$', '\0'];
    if let Some(name) = database
        && (name.is_empty() || name.len() > 63 || name.contains(NOT_IN_DATABASE))
    {
        return Err(Error::argument(format!(
            "{name:?} is not a database name: it has 1 to 63 bytes and none of / \\ . \" $, space \
             and NUL"
        )));
    }
    if let Some(name) = collection {
        if database.is_none() {
            return Err(Error::argument(format!("collection {name:?} needs a database beside it")));
        }
        if name.is_empty()
            || name.contains(['$', '\0'])
            || name.starts_with('.')
            || name.ends_with('.')
        {
            return Err(Error::argument(format!(
                "{name:?} is not a collection name: it is not empty, has no $ and no NUL, and \
                 neither begins nor ends with a dot"
            )));
        }
    }
    Ok(())
}

/// The worker's own thread.
struct Thread {
    deployment: Arc<Deployment>,
    scope: Scope,
    options: Options,
    source: Arc<Source>,
    queue: Arc<Queue>,
    control: Arc<Control>,
    checkpointer: Option<Checkpointer>,
}

/// Why a cursor is followed no longer.
enum End {
    Stopped,
    Failed(Error),
    Broken(DriverError, Phase),
    /// The server closed the cursor.
    Dead,
}

impl From<Stopped> for End {
    fn from(Stopped: Stopped) -> Self {
        End::Stopped
    }
}

impl Thread {
    fn main(self) {
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| self.run()));
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
        control.set(if failure.is_some() { WorkerState::Failed } else { WorkerState::Stopped });
        if let Some(failure) = &failure {
            // Cannot be set already: this is the only place.
            let _ = control.failure.set(failure.clone());
        }
        queue.detach(&control, failure);
        control.ended.open();
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
    fn run(&self) -> Option<Error> {
        /// A cursor that broke after this time was a good one.
        const SOUND: Duration = Duration::from_secs(1);
        let mut position = Position::Start(self.options.start_field());
        let mut trouble = Trouble::new();
        let mut ran_before = false;
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
            let cursor = self.open(position);
            let end = self.follow(&cursor, ran_before);
            let progress = cursor.progress();
            drop(cursor);
            position = progress.position;
            // But for the first time, only a reply behind the opening one shows that it works again.
            if progress.replies > usize::from(was_ready) {
                // One that breaks behind its first replies time after time must not spin either.
                let sound = opened.elapsed() >= SOUND || !matches!(end, End::Broken(..));
                trouble.ends(sound);
            }
            let cause = match end {
                End::Stopped => return None,
                End::Failed(error) => return Some(error),
                End::Broken(error, phase) => {
                    match self.judge(&error, phase, &position, &mut trouble) {
                        Ok(()) => resume::text_of(&error),
                        Err(failure) => return Some(failure),
                    }
                }
                End::Dead => {
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
            let level = trouble.level();
            log::line!(
                level,
                self.name(),
                "{cause}; opening the stream again {position} in {} ms",
                wait.as_millis()
            );
            if self.control.stop.wait(Some(Instant::now() + wait)) {
                return None;
            }
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

    /// Opens a cursor that numbers its events and gives each reply's token its place behind them.
    fn open(&self, from: Position) -> Cursor {
        let source = Arc::clone(&self.source);
        let mut opening = true;
        Cursor::open(&self.deployment, self.scope.clone(), from, move |reply| {
            source.meter.received(reply);
            let mut acks = source.acks();
            let first = acks.read(reply.spans().len());
            if let Some(token) = reply.token() {
                acks.place(Token::clone(token));
            }
            let shown = std::mem::take(&mut opening) || !reply.spans().is_empty();
            shown.then_some(first)
        })
    }

    /// Hands over what one cursor delivers, for as long as it lives.
    ///
    /// A stream that ran before, by its checkpoint, is treated as one that was open already.
    fn follow(&self, cursor: &Cursor, ran_before: bool) -> End {
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
                Next::Lost => return End::Failed(self.bug("the task that reads its replies")),
            };
            if !opened {
                opened = true;
                if let Err(error) = self.opened(ran_before) {
                    return End::Failed(error);
                }
            }
            for events in Events::of_reply(&self.source, reply, first) {
                if let Err(Stopped) = self.queue.push(&events, &self.control.stop) {
                    return End::Stopped;
                }
            }
        }
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
        let failure = resume::error(error, self.deployment.uri(), what, position.seconds());
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
                Next::Failed(_) | Next::Ended | Next::Lost => break,
            }
        }
        Ok(None)
    }
}

/// For how long the stream has not worked, and how often it was opened in vain.
struct Trouble {
    since: Option<Instant>,
    backoff: Backoff,
    told: bool,
}

impl Trouble {
    /// The time before the first open counts from the start.
    fn new() -> Self {
        Self { since: Some(Instant::now()), backoff: Backoff::new(), told: false }
    }

    fn ends(&mut self, sound: bool) {
        self.since = None;
        self.told = false;
        if sound {
            self.backoff = Backoff::new();
        }
    }

    /// Of its next line: that it has begun is a warning, that it goes on is none.
    fn level(&mut self) -> LogLevel {
        if std::mem::replace(&mut self.told, true) { LogLevel::Info } else { LogLevel::Warn }
    }

    fn lasts_less_than(&mut self, limit: Option<Duration>) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        limit.is_none_or(|limit| since.elapsed() < limit)
    }
}
