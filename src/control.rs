//! What a worker's handle, its thread and its buffer share: whether it shall stop, and how it is.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use crate::checkpoint::ledger::Ledger;
use crate::clock::boot_time;
use crate::error::Error;
use crate::gate::Gate;
use crate::state::WorkerState;
use crate::stats::{LeaseStats, WorkerStats};

/// What the handle, the thread and the buffer's statistics share.
pub(crate) struct Control {
    pub(crate) ledger: Arc<Ledger>,
    namespace: String,
    pub(crate) stop: Gate,
    /// Opened with the first cursor.
    pub(crate) ready: Gate,
    pub(crate) ended: Gate,
    state: AtomicU8,
    pub(crate) failure: OnceLock<Error>,
}

impl Control {
    pub(crate) fn new(ledger: &Arc<Ledger>, namespace: String) -> Self {
        Self {
            ledger: Arc::clone(ledger),
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

    pub(crate) fn state(&self) -> WorkerState {
        let state = self.state.load(Ordering::Acquire);
        WorkerState::ALL.get(usize::from(state)).copied().unwrap_or(WorkerState::Failed)
    }

    pub(crate) fn stats(&self) -> WorkerStats {
        let Self { ledger, namespace, failure, .. } = self;
        let counts = ledger.acks().counts();
        let failure = failure.get().cloned();
        let name = ledger.name.as_str();
        let mut stats = ledger.meter.stats(name, namespace, self.state(), failure, counts);
        stats.lease = ledger.lease.as_ref().and_then(|lease| {
            let seen = lease.seen()?;
            Some(LeaseStats {
                holder: seen.holder,
                term: seen.term,
                since_unix_ms: seen.since,
                held: lease.hands_over(boot_time()),
            })
        });
        stats
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
