//! Checkpoints: where a worker's position outlives the process.
//!
//! A *store* keeps one opaque text for each name. A thread of its own saves for each worker that has
//! one, so that neither the stream nor `stop` ever waits for a disk or a server. What is saved is the
//! position of `ack.rs` and what it belongs to, so that a checkpoint of another stream is refused
//! instead of followed.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use crossbeam_channel::{
    Receiver, RecvTimeoutError, Select, Sender, after, bounded, select, unbounded,
};

use crate::checkpoint::due::Due;
use crate::checkpoint::identity::Saved;
use crate::checkpoint::ledger::Ledger;
use crate::checkpoint::store::CheckpointStore;
use crate::checkpoint::store_error::StoreError;
use crate::clock::Clock;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::Gate;
use crate::log;
use crate::log::LogLevel;
use crate::source::client::with_signals_blocked;
use crate::wait::{Wait, Waited};

#[cfg(test)]
mod tests;

/// What the saving thread is asked to do.
enum Request {
    Load(Sender<Result<Option<Saved>>>),
    /// The beginning of a stream.
    Save(Sender<Result<()>>),
    /// What somebody waits for who joins a worker that has ended.
    SaveLast(Sender<Result<()>>),
}

/// A worker's line to the thread that saves for it.
#[derive(Clone)]
pub(crate) struct Checkpointer {
    requests: Sender<Request>,
    shared: Arc<Shared>,
}

/// What the worker, its handle and the saving thread share.
struct Shared {
    /// Name and place, for messages.
    what: String,
    /// Held while the store saves.
    claim: Mutex<Claim>,
    /// How many messages were acked when it was saved last.
    saved_acks: AtomicU64,
    /// The answer to a save that somebody has asked for and not waited for.
    awaited: Mutex<Option<Receiver<Result<()>>>>,
}

/// The claim on the name, and whether anything is still to be saved under it.
struct Claim {
    guard: Option<Box<dyn Any + Send>>,
    saved: Option<Saved>,
    /// It was written since the worker has ended.
    is_final: bool,
}

impl Shared {
    fn claim(&self) -> MutexGuard<'_, Claim> {
        self.claim.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn awaited(&self) -> MutexGuard<'_, Option<Receiver<Result<()>>>> {
        self.awaited.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The claim, unless the store is saving just now.
    fn idle_claim(&self) -> Option<MutexGuard<'_, Claim>> {
        match self.claim.try_lock() {
            Ok(claim) => Some(claim),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}

impl Checkpointer {
    /// How long a save may take that somebody waits for.
    const DEADLINE: Duration = Duration::from_secs(5);

    /// Claims the name and starts the thread.
    pub(crate) fn start(
        store: Arc<dyn CheckpointStore>,
        name: String,
        interval: Duration,
        ledger: &Arc<Ledger>,
    ) -> Result<Self> {
        let what = format!("checkpoint {name:?} in {}", store.place());
        let guard = guarded(|| store.claim(&name)).map_err(|error| {
            let kind = if error.is_in_use() { ErrorKind::InUse } else { ErrorKind::Checkpoint };
            failure_of(kind, format!("cannot use {what}: {error}"), error)
        })?;
        ledger.snapshot().is_saved();
        let claim = Claim { guard: Some(guard), saved: None, is_final: false };
        let shared = Arc::new(Shared {
            what,
            claim: Mutex::new(claim),
            saved_acks: AtomicU64::new(0),
            awaited: Mutex::new(None),
        });
        let (requests, received) = unbounded();
        let saver = Saver {
            store,
            name,
            ledger: Arc::clone(ledger),
            shared: Arc::clone(&shared),
            clock: Clock::start(),
            due: Due::new(interval),
            told: None,
        };
        let builder = std::thread::Builder::new().name("mongostream-save".to_owned());
        with_signals_blocked(|| builder.spawn(move || saver.run(&received))).map_err(|error| {
            Error::new(
                ErrorKind::Resource,
                format!("cannot start a thread for checkpoints: {error}"),
            )
            .with_source(error)
            .retriable()
        })?;
        Ok(Self { requests, shared })
    }

    /// Name and place, for messages.
    pub(crate) fn what(&self) -> &str {
        &self.shared.what
    }

    /// The saved place, if there is one. `Ok(None)` on stop too. Before it waits for as long as it takes, it lets
    /// `wait` wait, which is given how to.
    pub(crate) fn load(
        &self,
        stop: &Gate,
        wait: impl Fn(&mut dyn FnMut(Duration) -> bool),
    ) -> Result<Option<Saved>> {
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

    /// Saves the position now, and waits until it is durable, or for the stop gate.
    pub(crate) fn save(&self, stop: &Gate) -> Result<()> {
        let (reply, answer) = bounded(1);
        let _ = self.requests.send(Request::Save(reply));
        select! {
            recv(answer) -> answer => answer.unwrap_or_else(|_| Err(gone())),
            recv(stop.opened()) -> _ => Ok(()),
            recv(after(Self::DEADLINE)) -> _ => Err(self.late("")),
        }
    }

    /// Waits until every ack made before this call is saved, for no longer than `wait`, and for no longer
    /// than 5 s, which is an error. The worker has ended.
    pub(crate) fn save_last(&self, ledger: &Ledger, wait: Wait) -> Result<Waited> {
        let (deadline, gives_up) = Self::limit(wait, Instant::now());
        let late = |answer| {
            *self.shared.awaited() = Some(answer);
            if !gives_up {
                return Ok(Waited::Timeout);
            }
            let saved = self.shared.saved_acks.load(Ordering::Relaxed);
            let unsaved = ledger.acks().acked().saturating_sub(saved);
            Err(self.late(&format!("; {unsaved} acked messages are not saved")))
        };
        // It may have begun before the last acks, and it may have failed when it could be done by now.
        let mut failed = None;
        let awaited = self.shared.awaited().take();
        if let Some(answer) = awaited {
            match answer.recv_deadline(deadline) {
                Ok(saved) => failed = saved.err(),
                Err(RecvTimeoutError::Timeout) => return late(answer),
                Err(RecvTimeoutError::Disconnected) => return Err(gone()),
            }
        }
        if self.is_saved(ledger) {
            return Ok(Waited::Done);
        }
        let (reply, answer) = bounded(1);
        let _ = self.requests.send(Request::SaveLast(reply));
        match answer.recv_deadline(deadline) {
            Ok(saved) => saved.map(|()| Waited::Done),
            Err(RecvTimeoutError::Timeout) => {
                let waited = late(answer);
                failed.map_or(waited, Err)
            }
            Err(RecvTimeoutError::Disconnected) => Err(gone()),
        }
    }

    /// Until when a last save is waited for, and whether it is an error if it takes longer.
    fn limit(wait: Wait, now: Instant) -> (Instant, bool) {
        let patience = now + Self::DEADLINE;
        match wait {
            Wait::Not => (now, false),
            Wait::Until(limit) if limit < patience => (limit, false),
            Wait::Until(_) | Wait::ForEver => (patience, true),
        }
    }

    /// Whether nothing is left to be saved of a worker that has ended.
    fn is_saved(&self, ledger: &Ledger) -> bool {
        // First: two locks are never held here.
        let place = ledger.acked_place().0;
        self.shared
            .idle_claim()
            .is_some_and(|claim| claim.guard.is_none() || claim.is_final && claim.saved == place)
    }

    fn late(&self, what_is_not: &str) -> Error {
        let (what, seconds) = (&self.shared.what, Self::DEADLINE.as_secs());
        let text = format!("saving {what} took longer than {seconds} s{what_is_not}");
        Error::new(ErrorKind::Checkpoint, text).retriable()
    }

    /// Gives the name free at once: the worker was not started.
    pub(crate) fn release(&self) {
        self.shared.claim().guard = None;
    }

    /// Gives the name free if nothing is left to be saved; otherwise the thread does when it has saved.
    pub(crate) fn release_if_saved(&self, ledger: &Ledger) {
        let (place, acked) = ledger.acked_place();
        if let Some(mut claim) = self.shared.idle_claim()
            // A token that a request under way has left after the last save is worth none.
            && (claim.saved == place
                || claim.is_final && self.shared.saved_acks.load(Ordering::Relaxed) == acked)
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

/// A store's failure as one of ours.
fn failure_of(kind: ErrorKind, text: String, error: StoreError) -> Error {
    let is_retriable = error.is_retriable();
    let failure = Error::new(kind, text).with_source(error.into_source());
    if is_retriable { failure.retriable() } else { failure }
}

/// A store is foreign code: its panic is an error like others.
fn guarded<T>(call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    std::panic::catch_unwind(AssertUnwindSafe(call))
        .unwrap_or_else(|_| Err("the checkpoint store panicked".into()))
}

/// What the log is told of a save. A failure is one line, until it is another one or a save succeeds.
fn line_of(told: &mut Option<String>, saved: &Result<()>) -> Option<(LogLevel, String)> {
    match saved {
        Ok(()) => told.take().map(|_| (LogLevel::Info, "the checkpoint is saved again".to_owned())),
        Err(error) => {
            let text = error.to_string();
            (told.as_ref() != Some(&text)).then(|| {
                *told = Some(text.clone());
                (LogLevel::Warn, text)
            })
        }
    }
}

/// The saving thread.
struct Saver {
    store: Arc<dyn CheckpointStore>,
    /// The name of the checkpoint.
    name: String,
    ledger: Arc<Ledger>,
    shared: Arc<Shared>,
    clock: Clock,
    due: Due,
    /// The failure that the log was told last, until a save succeeds: a full disk is one line, not one
    /// a second.
    told: Option<String>,
}

impl Saver {
    fn run(mut self, requests: &Receiver<Request>) {
        loop {
            let patience = self.due.patience(self.ledger.snapshot().is_underway());
            select! {
                recv(requests) -> request => match request {
                    Ok(Request::Load(reply)) => drop(reply.send(self.load())),
                    Ok(Request::Save(reply)) => drop(reply.send(self.save())),
                    Ok(Request::SaveLast(reply)) => drop(reply.send(self.save_last())),
                    Err(_) => break,
                },
                default(patience) => self.tick(),
            }
        }
        // Worker and handle are gone; only the log is left to be told.
        if let Err(error) = self.save() {
            log::line!(LogLevel::Warn, self.ledger.name.as_str(), "{error}");
        }
        self.shared.claim().guard = None;
    }

    fn load(&self) -> Result<Option<Saved>> {
        let what = &self.shared.what;
        let text = guarded(|| self.store.load(&self.name)).map_err(|error| {
            failure_of(ErrorKind::Checkpoint, format!("cannot load {what}: {error}"), error)
        })?;
        let place =
            text.map(|text| self.ledger.stream.read_checkpoint(&self.name, &text)).transpose();
        let place = place.map_err(|reason| {
            if let Err(error) = guarded(|| self.store.give_back(&self.name)) {
                let name = self.ledger.name.as_str();
                log::line!(LogLevel::Warn, name, "cannot give {what} back: {error}");
            }
            Error::new(
                ErrorKind::Checkpoint,
                format!(
                    "cannot load {what}: {reason}; it is left as it is: give this stream another \
                     checkpoint_name or place, or remove the checkpoint to start anew"
                ),
            )
        })?;
        if let Some(place) = &place {
            self.ledger.meter.checkpoint_holds(&place.token);
        }
        self.shared.claim().saved.clone_from(&place);
        Ok(place)
    }

    fn tick(&mut self) {
        let acked = self.ledger.acks().acked();
        if self.due.is_due(acked, self.clock.now().running) {
            let saved = self.save();
            self.tell(&saved);
        }
    }

    fn tell(&mut self, saved: &Result<()>) {
        let name = self.ledger.name.as_str();
        if let Some((level, text)) = line_of(&mut self.told, saved) {
            log::line!(level, name, "{text}");
        }
        if let Err(error) = saved {
            self.ledger.meter.troubled(error.clone().of_worker(name));
        }
    }

    /// Whoever joins a worker that has failed gets that failure: the log has this one.
    fn save_last(&mut self) -> Result<()> {
        // Written even where nothing has moved since: it may have been removed meanwhile.
        let saved = self.save_if(|claim| !claim.is_final);
        self.tell(&saved);
        if saved.is_ok() {
            self.shared.claim().is_final = true;
        }
        saved
    }

    fn save(&mut self) -> Result<()> {
        self.save_if(|_| false)
    }

    /// Saves if the position has moved since the last save, or `anyway`.
    fn save_if(&mut self, anyway: impl FnOnce(&Claim) -> bool) -> Result<()> {
        let (place, acked) = self.ledger.acked_place();
        let mut claim = self.shared.claim();
        // The name may be another worker's by now.
        if claim.guard.is_none() {
            return Ok(());
        }
        // Before the stream was open there is nothing to save, and nothing may be overwritten.
        let Some(place) = place else { return Ok(()) };
        let meter = &self.ledger.meter;
        let (name, what) = (&self.name, &self.shared.what);
        if claim.saved.as_ref() != Some(&place) || anyway(&claim) {
            let text = self.ledger.stream.write_checkpoint(name, &place);
            let saved = text.and_then(|text| guarded(|| self.store.save(name, &text)));
            saved.map_err(|error| {
                let text = format!("cannot save {what}: {error}");
                let failed = failure_of(ErrorKind::Checkpoint, text, error);
                meter.checkpoint_failed(failed.clone().of_worker(self.ledger.name.as_str()));
                failed
            })?;
            self.due.is_saved(acked, self.clock.now().running);
            self.shared.saved_acks.store(acked, Ordering::Relaxed);
            if let Some(remark) = guarded(|| Ok(self.store.remark(name))).ok().flatten() {
                log::line!(LogLevel::Warn, self.ledger.name.as_str(), "{what}: {remark}");
            }
        }
        meter.checkpoint_holds(&place.token);
        claim.saved = Some(place);
        Ok(())
    }
}
