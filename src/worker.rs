//! The handle to a worker: one OS thread that drives one cursor and feeds one buffer.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{never, select};

use crate::checkpoint::ledger::Ledger;
use crate::checkpoint::saving::Checkpointer;
use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::fork::Origin;
use crate::json;
use crate::state::WorkerState;
use crate::stats::WorkerStats;
use crate::text::Text;
use crate::wait::{Wait, Waited};

/// Handle to a running worker.
///
/// Dropping it asks the worker to stop and never waits. May be shared between threads.
#[must_use = "dropping the handle stops the worker"]
pub struct Worker {
    ledger: Arc<Ledger>,
    control: Arc<Control>,
    checkpointer: Option<Checkpointer>,
    origin: Origin,
}

impl Worker {
    pub(crate) fn new(control: Arc<Control>, checkpointer: Option<Checkpointer>) -> Self {
        let ledger = Arc::clone(&control.ledger);
        Self { ledger, control, checkpointer, origin: Origin::here() }
    }

    /// The worker's name, as messages and errors carry it.
    pub fn name(&self) -> &str {
        self.ledger.name.as_str()
    }

    pub(crate) fn name_text(&self) -> &Text {
        &self.ledger.name
    }

    /// Figures of this worker, as in [`BufferStats::workers`](crate::BufferStats::workers).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forked`] in a child of the process that started the worker.
    pub fn stats(&self) -> Result<WorkerStats> {
        self.origin.check()?;
        Ok(self.control.stats())
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
    /// before this call is then durable. A worker with a standby gives its lease back: what it has queued is not
    /// handed over any more.
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
            Some(checkpointer) => {
                let saved = checkpointer.save_last(&self.ledger, wait);
                // A standby need not wait for the handle. What is acked from now on comes again.
                if self.ledger.lease.is_some() && !matches!(saved, Ok(Waited::Timeout)) {
                    checkpointer.release();
                }
                saved
            }
            None => Ok(Waited::Done),
        };
        joined(saved, self.failure())
    }

    fn failure(&self) -> Option<Error> {
        self.control.failure.get().cloned()
    }

    /// The resume token (JSON) up to which every message is acked: a worker started with
    /// [`Start::StartAfter`](crate::Start::StartAfter) goes on there. Before the first ack it is the token with
    /// which the stream was opened; `None` before that.
    pub fn resume_token(&self) -> Option<String> {
        self.origin.check().ok()?;
        let token = self.ledger.acks().position();
        token.map(|token| json::of_token(&token))
    }
}

/// What somebody is told who joins a worker: why it has failed comes before what became of its checkpoint, but not
/// before it is known.
fn joined(saved: Result<Waited>, failure: Option<Error>) -> Result<Waited> {
    match (saved, failure) {
        (Ok(Waited::Done) | Err(_), Some(failure)) => Err(failure),
        (saved, _) => saved,
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
            checkpointer.release_if_saved(&self.ledger);
        }
    }
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("name", &self.name()).field("state", &self.state()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_joins_a_worker_that_has_failed_is_told_why() {
        let error = |text: &str| Error::new(ErrorKind::Checkpoint, text);
        let told = |saved: Result<Waited>, failure: Option<Error>| {
            joined(saved, failure).map_err(|error| error.to_string())
        };
        let failed = || Some(error("the worker"));
        assert_eq!(told(Ok(Waited::Done), None), Ok(Waited::Done));
        assert_eq!(told(Ok(Waited::Timeout), None), Ok(Waited::Timeout));
        assert_eq!(told(Err(error("the store")), None), Err("the store".to_owned()));
        assert_eq!(told(Ok(Waited::Done), failed()), Err("the worker".to_owned()));
        assert_eq!(told(Err(error("the store")), failed()), Err("the worker".to_owned()));
        assert_eq!(told(Ok(Waited::Timeout), failed()), Ok(Waited::Timeout), "it is not saved yet");
    }
}
