//! What is known of a worker's messages: how many there were, which are acked, how far its snapshot has come.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::checkpoint::acks::AckSequence;
use crate::fork::Origin;
use crate::json::Style;
use crate::snapshot::progress::Tracker;
use crate::stats::Meter;
use crate::text::Text;

/// What all messages of one worker share.
pub(crate) struct Ledger {
    pub(crate) name: Text,
    pub(crate) style: Style,
    pub(crate) meter: Meter,
    acks: Mutex<AckSequence>,
    snapshot: Mutex<Tracker>,
    pub(crate) origin: Origin,
}

impl Ledger {
    pub(crate) fn new(name: &str, style: Style) -> Self {
        let name = Text::new(name.to_owned());
        let meter = Meter::new();
        let (acks, snapshot) = Default::default();
        Self { name, style, meter, acks, snapshot, origin: Origin::here() }
    }

    /// To be locked after [`acks`](Self::acks), where both are.
    pub(crate) fn snapshot(&self) -> MutexGuard<'_, Tracker> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn acks(&self) -> MutexGuard<'_, AckSequence> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
