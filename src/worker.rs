//! The handle to a worker: one OS thread that drives one cursor and feeds one buffer.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crossbeam_channel::{never, select};

use crate::buffer::Wait;
use crate::checkpoint::Checkpointer;
use crate::error::{Error, ErrorKind, Result};
use crate::fork::Origin;
use crate::gate::Gate;
use crate::message::{Source, json_of_token};
use crate::stats::WorkerStats;
use crate::watch::Watch;

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
    pub(crate) stop: Gate,
    /// Opened with the first cursor.
    pub(crate) ready: Gate,
    ended: Gate,
    state: AtomicU8,
    failure: OnceLock<Error>,
}

impl Control {
    pub(crate) fn new(source: &Arc<Source>, namespace: String) -> Self {
        Self {
            source: Arc::clone(source),
            namespace,
            stop: Gate::new(),
            ready: Gate::new(),
            ended: Gate::new(),
            state: AtomicU8::new(WorkerState::Starting as u8),
            failure: OnceLock::new(),
        }
    }

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

    pub(crate) fn set(&self, state: WorkerState) {
        self.state.store(state as u8, Ordering::Release);
    }

    /// The state says how the worker has ended; its end is not yet seen by who waits for it.
    pub(crate) fn ends(&self, failure: Option<&Error>) {
        self.set(if failure.is_some() { WorkerState::Failed } else { WorkerState::Stopped });
        if let Some(failure) = failure {
            // Cannot be set already: a worker ends once.
            let _ = self.failure.set(failure.clone());
        }
    }

    pub(crate) fn has_ended(&self) {
        self.ended.open();
    }
}

impl Worker {
    /// Describes a worker for the deployment at `uri` (MongoDB manual, "Connection Strings"); start
    /// it with [`Watch::spawn`].
    pub fn watch(uri: impl Into<String>) -> Watch {
        Watch::new(uri.into())
    }

    pub(crate) fn new(control: Arc<Control>, checkpointer: Option<Checkpointer>) -> Self {
        let source = Arc::clone(&control.source);
        Self { source, control, checkpointer, origin: Origin::here() }
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

    /// Waits until the worker has ended and its checkpoint, if it has one, is saved: every ack made
    /// before this call is then durable.
    ///
    /// # Errors
    ///
    /// Why it failed (the failure still comes through the buffer as well), or
    /// [`ErrorKind::Checkpoint`] if its checkpoint could not be saved within 5 s.
    pub fn join(&self) -> Result<()> {
        self.join_until(Wait::ForEver).map(drop)
    }

    /// As [`join`](Self::join), for at most `timeout`, the save included. [`Waited::Timeout`] says that the
    /// worker has not ended yet, or that its checkpoint is not saved yet ([`state`](Self::state) tells
    /// which). The save goes on, and the next call tells how it ended. With a `timeout` of zero it never
    /// waits.
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
        let saved = match &self.checkpointer {
            Some(checkpointer) => checkpointer.save_last(&self.source, wait),
            None => Ok(Waited::Done),
        };
        match (saved, self.failure()) {
            (Ok(Waited::Done) | Err(_), Some(failure)) => Err(failure),
            (saved, _) => saved,
        }
    }

    fn failure(&self) -> Option<Error> {
        self.control.failure.get().cloned()
    }

    /// The resume token (JSON) up to which every message is acknowledged: a worker started with
    /// [`Start::StartAfter`](crate::Start::StartAfter) goes on there. Before the first acknowledgement it is the token with
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
            // Not `ended`: whoever has received its failure may be faster than that gate.
            && matches!(self.state(), WorkerState::Stopped | WorkerState::Failed)
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
