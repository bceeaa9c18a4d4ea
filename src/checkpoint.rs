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
use crossbeam_channel::{Receiver, Sender, after, bounded, select, unbounded};
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
    /// Whatever goes wrong; the worker fails with it.
    fn load(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// Replaces the text under the name. When it returns, the text must survive a crash of the machine;
    /// when it fails, the text before must still be there.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong. While the worker runs it is tried again with the next save.
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

    fn write(&self, token: &[u8]) -> String {
        let mut narrowed = String::new();
        for (key, value) in [("namespaces", &self.namespaces), ("operations", &self.operations)] {
            if !value.is_null() {
                narrowed.push_str(&format!("\"{key}\":{value},"));
            }
        }
        format!(
            "{{\"{VERSION_KEY}\":{VERSION},\"name\":{},\"watch\":{},{narrowed}\"pipeline\":{},\
             \"token\":{}}}",
            Value::from(self.name.as_str()),
            Value::from(self.watch.as_str()),
            self.pipeline,
            json_of_token(token),
        )
    }

    /// The token of a saved text, if it belongs to this stream.
    fn read(&self, text: &str) -> Result<Token, String> {
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
        Ok(Token::from(token.as_bytes()))
    }
}

/// What the saving thread is asked to do.
enum Request {
    Load(Sender<Result<Option<Token>>>),
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
    saved: Option<Token>,
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
                ErrorKind::State,
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
        };
        let builder = std::thread::Builder::new().name("mongostream-save".to_owned());
        with_signals_blocked(|| builder.spawn(move || saver.run(&received))).map_err(|error| {
            Error::new(ErrorKind::State, format!("cannot start a thread for checkpoints: {error}"))
        })?;
        Ok(Self { requests, claim })
    }

    /// The saved position, if there is one. `Ok(None)` on stop too.
    pub(crate) fn load(&self, stop: &Gate) -> Result<Option<Token>> {
        let (reply, answer) = bounded(1);
        let _ = self.requests.send(Request::Load(reply));
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
            )),
        }
    }

    /// Gives the name free if nothing is left to be saved; otherwise the thread does when it has saved.
    pub(crate) fn release_if_saved(&self, source: &Source) {
        // Held: it is saving just now.
        if let Ok(mut claim) = self.claim.try_lock()
            && claim.saved == source.acks().position()
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
}

impl Saver {
    /// A position that moved without an acknowledgement is saved this many times less often: where the
    /// store is a collection of the watched deployment, each save moves it again.
    const IDLE_FACTOR: u32 = 10;

    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            select! {
                recv(requests) -> request => match request {
                    Ok(Request::Load(reply)) => drop(reply.send(self.load())),
                    Ok(Request::Save(reply)) => drop(reply.send(self.save())),
                    Err(_) => break,
                },
                default(self.interval) => self.tick(),
            }
        }
        // Worker and handle are gone; only the log is left to be told.
        if let Err(error) = self.save() {
            log::line!(LogLevel::Warn, self.source.name.as_str(), "{error}");
        }
        self.claim.lock().unwrap_or_else(PoisonError::into_inner).guard = None;
    }

    fn load(&self) -> Result<Option<Token>> {
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
        let text =
            guarded(|| self.store.load(&self.identity.name)).map_err(|error| failed(&error))?;
        let token = text.map(|text| self.identity.read(&text)).transpose();
        let token = token.map_err(|reason| {
            failed(&format_args!("{reason}; it is left as it is: remove it to start anew"))
        })?;
        self.claim.lock().unwrap_or_else(PoisonError::into_inner).saved.clone_from(&token);
        Ok(token)
    }

    fn tick(&mut self) {
        let acked = self.source.acks().acked();
        if acked == self.acked && self.last.elapsed() < self.interval * Self::IDLE_FACTOR {
            return;
        }
        if let Err(error) = self.save() {
            log::line!(LogLevel::Warn, self.source.name.as_str(), "{error}");
            self.source.meter.troubled(error.of_worker(self.source.name.as_str()));
        }
    }

    fn save(&mut self) -> Result<()> {
        let (position, acked) = {
            let acks = self.source.acks();
            (acks.position(), acks.acked())
        };
        let mut claim = self.claim.lock().unwrap_or_else(PoisonError::into_inner);
        // The name may be another worker's by now.
        if claim.guard.is_none() {
            return Ok(());
        }
        // Before the stream was open there is nothing to save, and nothing may be overwritten.
        let Some(token) = position.filter(|token| claim.saved.as_ref() != Some(token)) else {
            return Ok(());
        };
        let text = self.identity.write(&token);
        guarded(|| self.store.save(&self.identity.name, &text)).map_err(|error| {
            let (name, place) = (&self.identity.name, self.store.place());
            let text = format!("cannot save checkpoint {name:?} in {place}: {error}");
            Error::new(ErrorKind::Checkpoint, text)
        })?;
        claim.saved = Some(token);
        (self.last, self.acked) = (Instant::now(), acked);
        Ok(())
    }
}
