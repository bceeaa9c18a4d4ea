//! What a queue holds and counts, under its lock.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::control::Control;
use crate::error::Error;
use crate::queue::events::Piece;

/// What stands in the queue's channel.
pub(super) enum Entry {
    Piece(Piece),
    Failure(Error),
}

/// What the queue holds, and who waits for it. It stands under the queue's lock.
#[derive(Default)]
pub(super) struct Contents {
    /// The entries that consumers take from before those in the channel.
    pub(super) front: VecDeque<Entry>,
    /// What may not be handed over now, since its worker's lease is not sure, in the order of each worker.
    pub(super) aside: Vec<Piece>,
    /// Messages and their bytes, in `front` and in the channel.
    pub(super) messages: usize,
    pub(super) bytes: usize,
    pub(super) failures: usize,
    /// Why the last start failed that nobody else was told of. Counted among the failures.
    pub(super) refusal: Option<Error>,
    pub(super) waiting_consumers: usize,
    pub(super) waiting_workers: usize,
    pub(super) closed: bool,
    /// How many workers were started, or failed to.
    pub(super) started: usize,
    pub(super) running: Vec<Arc<Control>>,
    /// Workers that are kept for the statistics, in the order of their ends.
    pub(super) ended: Vec<Arc<Control>>,
    /// The most messages that there were at once.
    pub(super) high_water: usize,
    /// For how long workers have waited for room, until `counted`, when their number last changed.
    pub(super) waited: Duration,
    pub(super) counted: Option<Instant>,
}

impl Contents {
    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0 && self.failures == 0
    }

    /// Whether a consumer need not wait.
    pub(super) fn is_ready(&self) -> bool {
        let aside: usize = self.aside.iter().map(|piece| piece.range.len()).sum();
        self.messages > aside || self.failures > 0 || self.is_finished()
    }

    pub(super) fn is_finished(&self) -> bool {
        self.is_empty() && self.is_ending()
    }

    pub(super) fn is_ending(&self) -> bool {
        self.closed || (self.started > 0 && self.running.is_empty())
    }

    /// Brings `waited` up to now; to be called before `waiting_workers` changes.
    pub(super) fn count_waiting(&mut self) {
        let now = Instant::now();
        if let Some(counted) = self.counted.replace(now) {
            let waiting = u32::try_from(self.waiting_workers).unwrap_or(u32::MAX);
            self.waited += now.saturating_duration_since(counted).saturating_mul(waiting);
        }
    }

    pub(super) fn leave(&mut self, worker: &Arc<Control>) {
        self.running.retain(|running| !Arc::ptr_eq(running, worker));
    }

    /// Lets go the oldest of the ended workers of which nobody has a handle.
    pub(super) fn forget_ended(&mut self) {
        /// So many stay.
        const KEPT: usize = 16;
        let abandoned = |worker: &Arc<Control>| Arc::strong_count(worker) == 1;
        let count = self.ended.iter().filter(|worker| abandoned(worker)).count();
        let mut surplus = count.saturating_sub(KEPT);
        self.ended.retain(|worker| {
            let goes = surplus > 0 && abandoned(worker);
            surplus -= usize::from(goes);
            !goes
        });
    }
}
