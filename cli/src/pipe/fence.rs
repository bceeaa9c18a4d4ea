//! Whether what was received may still be sent: with a standby, only while the worker holds its lease.
//!
//! The library hands over nothing without the lease. But what it has handed over before may still wait here, and this
//! process may have been paused in between.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mongostream::{Worker, WorkerState};

/// Asked before each message is sent.
pub(crate) struct Fence {
    /// `None` without a standby.
    worker: Option<Arc<Worker>>,
    asked: Cell<Option<Instant>>,
}

impl Fence {
    /// For so long an answer is good: a batch is sent within this time. A process that is paused finds it old.
    const GOOD_FOR: Duration = Duration::from_millis(2);
    const PAUSE: Duration = Duration::from_millis(20);

    pub(crate) fn new(worker: Option<Arc<Worker>>) -> Self {
        Self { worker, asked: Cell::default() }
    }

    fn is_open(&self) -> bool {
        let Some(worker) = &self.worker else { return true };
        if self.asked.get().is_some_and(|asked| asked.elapsed() < Self::GOOD_FOR) {
            return true;
        }
        let now = Instant::now();
        let lease = worker.stats().ok().and_then(|stats| stats.lease);
        let is_held = lease.is_some_and(|lease| lease.held);
        self.asked.set(is_held.then_some(now));
        is_held
    }

    /// Returns when the worker holds its lease: true. False if it has failed, and will hold none any more.
    pub(crate) async fn opened(&self) -> bool {
        while !self.is_open() {
            if self.worker.as_ref().is_some_and(|worker| worker.state() == WorkerState::Failed) {
                return false;
            }
            tokio::time::sleep(Self::PAUSE).await;
        }
        true
    }
}
