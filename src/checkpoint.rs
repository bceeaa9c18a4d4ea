//! Checkpoints: where a worker's position outlives the process.
//!
//! A *store* keeps one opaque text for each name. A thread of its own saves for each worker that has
//! one, so that neither the stream nor `stop` ever waits for a disk or a server. What is saved is the
//! position of `ack.rs` and what it belongs to, so that a checkpoint of another stream is refused
//! instead of followed.

mod collection;
mod file;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bson::RawDocumentBuf;
use crossbeam_channel::{Receiver, Select, Sender, after, bounded, select, unbounded};
use serde_json::{Value, json};

pub use collection::CollectionCheckpoint;
pub use file::FileCheckpoint;

use crate::ack::Token;
use crate::client::with_signals_blocked;
use crate::cursor::Scope;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::Gate;
use crate::json::{self, ExtendedJson};
use crate::log::{self, LogLevel};
use crate::message::{Source, json_of_token};
use crate::options::Options;
use crate::snapshot::Progress;

/// What a store may fail with.
pub type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps checkpoints: one text for each name.
///
/// Implement it to keep a worker's position beside what you make of its messages, in one transaction.
/// The text is mongostream's own and opaque to the store. All calls for one name come from one thread,
/// one after the other.
pub trait CheckpointStore: Send + Sync + 'static {
    /// Where this store keeps its texts, for messages: without credentials.
    fn place(&self) -> String;

    /// Claims a name until the guard is dropped. A second claim must fail, so that two workers never
    /// overwrite each other's positions. Called when a worker is started; must not wait.
    ///
    /// # Errors
    ///
    /// The name is in use, or the store cannot be used at all; the worker is not started.
    fn claim(&self, name: &str) -> Result<Box<dyn Any + Send>, StoreError>;

    /// The text that was saved last under the name, `None` if there is none.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong; the worker fails with it. An [`Error`] of this library that is retriable is
    /// tried again first, for as long as a worker waits for its deployment at the start.
    fn load(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// Replaces the text under the name. When it returns, the text must survive a crash of the machine;
    /// when it fails, the text before must still be there.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong. While the worker runs it is tried again with the next save; the first save of a
    /// new stream is treated as a [`load`](Self::load).
    fn save(&self, name: &str, text: &str) -> Result<(), StoreError>;
}

/// What a stream is: a position means something for the same stream only.
pub(crate) struct Identity {
    name: String,
    watch: String,
    /// What narrows it, as JSON; null where nothing does.
    namespaces: Value,
    operations: Value,
    pipeline: String,
}

/// Where a worker goes on: behind this token, and first with what is left of a snapshot.
#[derive(Clone, PartialEq)]
pub(crate) struct Place {
    pub(crate) token: Token,
    pub(crate) snapshot: Option<Progress>,
}

impl Place {
    /// Up to where everything is acknowledged, `None` before the stream was open; and how many messages
    /// that are.
    fn acked(source: &Source) -> (Option<Self>, u64) {
        let (token, acked) = {
            let acks = source.acks();
            (acks.position(), acks.acked())
        };
        let place = token.map(|token| {
            let snapshot = source.snapshot().acked(acked).cloned();
            Place { token, snapshot }
        });
        (place, acked)
    }
}

/// The version of the saved text.
const VERSION: u64 = 1;
const VERSION_KEY: &str = "mongostream_checkpoint";

impl Identity {
    pub(crate) fn new(name: &str, scope: &Scope, options: &Options) -> Result<Self> {
        let mut pipeline = String::from("[");
        for (index, stage) in options.pipeline.iter().enumerate() {
            let stage = RawDocumentBuf::try_from(stage)
                .map_err(|error| Error::argument(format!("pipeline: {error}")))?;
            if index > 0 {
                pipeline.push(',');
            }
            json::write_document(&mut pipeline, stage.as_bytes(), ExtendedJson::Canonical);
        }
        pipeline.push(']');
        // What is shown of a long list is cut short.
        let watch = match &scope.namespaces {
            Some(_) => scope.database.clone().unwrap_or_else(|| "*".to_owned()),
            None => scope.namespace(),
        };
        let namespaces = scope.namespaces.as_ref().map(|all| Vec::from_iter(all.names()));
        let operations = Some(&options.operations).filter(|types| !types.is_empty());
        Ok(Self {
            name: name.to_owned(),
            watch,
            namespaces: json!(namespaces),
            operations: json!(operations),
            pipeline,
        })
    }

    fn write(&self, place: &Place) -> String {
        let mut narrowed = String::new();
        for (key, value) in [("namespaces", &self.namespaces), ("operations", &self.operations)] {
            if !value.is_null() {
                narrowed.push_str(&format!("\"{key}\":{value},"));
            }
        }
        let mut text = format!(
            "{{\"{VERSION_KEY}\":{VERSION},\"name\":{},\"watch\":{},{narrowed}\"pipeline\":{},\
             \"token\":{}",
            Value::from(self.name.as_str()),
            Value::from(self.watch.as_str()),
            self.pipeline,
            json_of_token(&place.token),
        );
        if let Some(snapshot) = &place.snapshot {
            text.push_str(",\"snapshot\":");
            // Its ids were read as BSON: it encodes.
            let snapshot = snapshot.to_document().to_vec().unwrap_or_default();
            json::write_document(&mut text, &snapshot, ExtendedJson::Canonical);
        }
        text.push('}');
        text
    }

    /// The place that a saved text names, if it belongs to this stream.
    fn read(&self, text: &str) -> Result<Place, String> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| format!("it is no checkpoint, or a part of one: {error}"))?;
        match value.get(VERSION_KEY).and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => {
                return Err(format!("it has version {other}, this library reads {VERSION}"));
            }
            None => return Err("it is no checkpoint of mongostream".to_owned()),
        }
        let pipeline: Value = serde_json::from_str(&self.pipeline).unwrap_or_default();
        for (key, ours) in [
            ("name", Value::from(self.name.as_str())),
            ("watch", Value::from(self.watch.as_str())),
            ("namespaces", self.namespaces.clone()),
            ("operations", self.operations.clone()),
            ("pipeline", pipeline),
        ] {
            let theirs = value.get(key).unwrap_or(&Value::Null);
            if *theirs != ours {
                return Err(format!(
                    "it belongs to another stream: its {key} is {theirs}, not {ours}"
                ));
            }
        }
        let token = value.get("token").map(Value::to_string).unwrap_or_default();
        let token = json::parse_document(&token).map_err(|error| format!("its token: {error}"))?;
        let token =
            RawDocumentBuf::try_from(&token).map_err(|error| format!("its token: {error}"))?;
        let snapshot = value.get("snapshot").map(|snapshot| {
            let snapshot = json::parse_document(&snapshot.to_string())?;
            Progress::from_document(&snapshot)
        });
        let snapshot = snapshot.transpose().map_err(|error| format!("its snapshot: {error}"))?;
        Ok(Place { token: Token::from(token.as_bytes()), snapshot })
    }
}

/// What the saving thread is asked to do.
enum Request {
    Load(Sender<Result<Option<Place>>>),
    Save(Sender<Result<()>>),
}

/// A worker's line to the thread that saves for it.
#[derive(Clone)]
pub(crate) struct Checkpointer {
    requests: Sender<Request>,
    claim: Arc<Mutex<Claim>>,
}

/// The claim on the name, and whether anything is still to be saved under it.
struct Claim {
    guard: Option<Box<dyn Any + Send>>,
    saved: Option<Place>,
}

impl Checkpointer {
    /// How long a save may take that somebody waits for.
    const DEADLINE: Duration = Duration::from_secs(5);

    /// Claims the name and starts the thread.
    pub(crate) fn start(
        store: Arc<dyn CheckpointStore>,
        identity: Identity,
        interval: Duration,
        source: &Arc<Source>,
    ) -> Result<Self> {
        let guard = guarded(|| store.claim(&identity.name)).map_err(|error| {
            Error::new(
                ErrorKind::InUse,
                format!("cannot use checkpoint {:?} in {}: {error}", identity.name, store.place()),
            )
        })?;
        let claim = Arc::new(Mutex::new(Claim { guard: Some(guard), saved: None }));
        let (requests, received) = unbounded();
        let saver = Saver {
            store,
            identity,
            interval,
            source: Arc::clone(source),
            claim: Arc::clone(&claim),
            last: Instant::now(),
            acked: 0,
            ticked: Instant::now(),
            told: None,
        };
        let builder = std::thread::Builder::new().name("mongostream-save".to_owned());
        with_signals_blocked(|| builder.spawn(move || saver.run(&received))).map_err(|error| {
            Error::new(
                ErrorKind::Resource,
                format!("cannot start a thread for checkpoints: {error}"),
            )
            .retriable()
        })?;
        Ok(Self { requests, claim })
    }

    /// The saved place, if there is one. `Ok(None)` on stop too. Before it waits for as long as it takes, it lets
    /// `wait` wait, which is given how to.
    pub(crate) fn load(
        &self,
        stop: &Gate,
        wait: impl Fn(&mut dyn FnMut(Duration) -> bool),
    ) -> Result<Option<Place>> {
        let (reply, answer) = bounded(1);
        let _ = self.requests.send(Request::Load(reply));
        wait(&mut |limit| {
            let mut answered = Select::new();
            answered.recv(&answer);
            answered.recv(stop.opened());
            answered.ready_timeout(limit).is_ok()
        });
        select! {
            recv(answer) -> answer => answer.unwrap_or_else(|_| Err(gone())),
            recv(stop.opened()) -> _ => Ok(None),
        }
    }

    /// Saves the position now, and waits until it is durable, or for the stop gate if there is one.
    pub(crate) fn save(&self, stop: Option<&Gate>) -> Result<()> {
        let (reply, answer) = bounded(1);
        let _ = self.requests.send(Request::Save(reply));
        let never = crossbeam_channel::never();
        select! {
            recv(answer) -> answer => answer.unwrap_or_else(|_| Err(gone())),
            recv(stop.map_or(&never, Gate::opened)) -> _ => Ok(()),
            recv(after(Self::DEADLINE)) -> _ => Err(Error::new(
                ErrorKind::Checkpoint,
                format!("saving the checkpoint took longer than {} s", Self::DEADLINE.as_secs()),
            )
            .retriable()),
        }
    }

    /// Gives the name free if nothing is left to be saved; otherwise the thread does when it has saved.
    pub(crate) fn release_if_saved(&self, source: &Source) {
        // Held: it is saving just now.
        if let Ok(mut claim) = self.claim.try_lock()
            && claim.saved == Place::acked(source).0
        {
            claim.guard = None;
        }
    }
}

fn gone() -> Error {
    Error::new(
        ErrorKind::Panic,
        "the thread that saves checkpoints is gone; please report this bug",
    )
}

/// A store is foreign code: its panic is an error like others.
fn guarded<T>(call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    std::panic::catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err("the checkpoint store panicked".into()))
}

/// Whether it may be better the next time.
fn passes(error: &StoreError) -> bool {
    error.downcast_ref::<Error>().is_some_and(Error::is_retriable)
}

/// The saving thread.
struct Saver {
    store: Arc<dyn CheckpointStore>,
    identity: Identity,
    interval: Duration,
    source: Arc<Source>,
    claim: Arc<Mutex<Claim>>,
    /// When it saved last, and how many events were acknowledged then.
    last: Instant,
    acked: u64,
    /// When it last looked whether the time for a save had come.
    ticked: Instant,
    /// The failure that the log was told last, until a save succeeds: a full disk is one line, not one
    /// a second.
    told: Option<String>,
}

impl Saver {
    /// A position that moved without an acknowledgement is saved this many times less often: where the
    /// store is a collection of the watched deployment, each save moves it again.
    const IDLE_FACTOR: u32 = 10;
    /// So many acknowledged documents of a snapshot are saved without waiting for the time: however fast
    /// they are read, a crash repeats less than a range.
    const SNAPSHOT_STEP: u64 = 25_000;

    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            select! {
                recv(requests) -> request => match request {
                    Ok(Request::Load(reply)) => drop(reply.send(self.load())),
                    Ok(Request::Save(reply)) => drop(reply.send(self.save())),
                    Err(_) => break,
                },
                default(self.patience()) => self.tick(),
            }
        }
        // Worker and handle are gone; only the log is left to be told.
        if let Err(error) = self.save() {
            log::line!(LogLevel::Warn, self.source.name.as_str(), "{error}");
        }
        self.claim.lock().unwrap_or_else(PoisonError::into_inner).guard = None;
    }

    fn load(&self) -> Result<Option<Place>> {
        let failed = |reason: &dyn std::fmt::Display| {
            Error::new(
                ErrorKind::Checkpoint,
                format!(
                    "cannot load checkpoint {:?} from {}: {reason}",
                    self.identity.name,
                    self.store.place()
                ),
            )
        };
        let text = guarded(|| self.store.load(&self.identity.name)).map_err(|error| {
            if passes(&error) { failed(&error).retriable() } else { failed(&error) }
        })?;
        let place = text.map(|text| self.identity.read(&text)).transpose();
        let place = place.map_err(|reason| {
            failed(&format_args!("{reason}; it is left as it is: remove it to start anew"))
        })?;
        if let Some(place) = &place {
            self.source.meter.checkpoint_holds(&place.token);
        }
        self.claim.lock().unwrap_or_else(PoisonError::into_inner).saved.clone_from(&place);
        Ok(place)
    }

    /// How long nothing may be asked of it before it looks for what is to be saved.
    fn patience(&self) -> Duration {
        const IN_A_SNAPSHOT: Duration = Duration::from_millis(50);
        if self.source.snapshot().is_underway() {
            self.interval.min(IN_A_SNAPSHOT)
        } else {
            self.interval
        }
    }

    fn tick(&mut self) {
        let acked = self.source.acks().acked();
        if self.ticked.elapsed() < self.interval {
            if acked.saturating_sub(self.acked) < Self::SNAPSHOT_STEP {
                return;
            }
        } else {
            self.ticked = Instant::now();
        }
        if acked == self.acked && self.last.elapsed() < self.interval * Self::IDLE_FACTOR {
            return;
        }
        let source = Arc::clone(&self.source);
        let name = source.name.as_str();
        match self.save() {
            Ok(()) if self.told.take().is_some() => {
                log::line!(LogLevel::Info, name, "the checkpoint is saved again");
            }
            Ok(()) => {}
            Err(error) => {
                let text = error.to_string();
                if self.told.as_ref() != Some(&text) {
                    log::line!(LogLevel::Warn, name, "{text}");
                    self.told = Some(text);
                }
                source.meter.troubled(error.of_worker(name));
            }
        }
    }

    fn save(&mut self) -> Result<()> {
        let (place, acked) = Place::acked(&self.source);
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        // The name may be another worker's by now.
        if claim.guard.is_none() {
            return Ok(());
        }
        // Before the stream was open there is nothing to save, and nothing may be overwritten.
        let Some(place) = place else { return Ok(()) };
        let meter = &self.source.meter;
        if claim.saved.as_ref() != Some(&place) {
            let text = self.identity.write(&place);
            guarded(|| self.store.save(&self.identity.name, &text)).map_err(|error| {
                let (name, place) = (&self.identity.name, self.store.place());
                let text = format!("cannot save checkpoint {name:?} in {place}: {error}");
                let failed = Error::new(ErrorKind::Checkpoint, text);
                let error = if passes(&error) { failed.retriable() } else { failed };
                meter.checkpoint_failed(error.clone().of_worker(self.source.name.as_str()));
                error
            })?;
            (self.last, self.acked) = (Instant::now(), acked);
        }
        meter.checkpoint_holds(&place.token);
        claim.saved = Some(place);
        Ok(())
    }
}
