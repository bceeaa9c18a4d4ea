//! What is known of a worker's messages: how many there were, which are acked, how far its snapshot has come.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::checkpoint::acks::AckSequence;
use crate::checkpoint::identity::{Saved, StreamIdentity};
use crate::checkpoint::lease::Lease;
use crate::fork::Origin;
use crate::json::Style;
use crate::snapshot::progress::Tracker;
use crate::stats::Meter;
use crate::text::Text;

/// What all messages of one worker share.
pub(crate) struct Ledger {
    pub(crate) name: Text,
    pub(crate) style: Style,
    pub(crate) stream: StreamIdentity,
    pub(crate) meter: Meter,
    acks: Mutex<AckSequence>,
    snapshot: Mutex<Tracker>,
    /// Without it the worker may hand over. With it, when it holds it.
    pub(crate) lease: Option<Arc<Lease>>,
    pub(crate) origin: Origin,
}

impl Ledger {
    pub(crate) fn new(name: &str, style: Style, stream: StreamIdentity) -> Self {
        let name = Text::new(name.to_owned());
        let meter = Meter::new();
        let (acks, snapshot) = Default::default();
        Self { name, style, stream, meter, acks, snapshot, lease: None, origin: Origin::here() }
    }

    /// The worker has a standby, or is one.
    pub(crate) fn with_lease(self, lease: Option<Arc<Lease>>) -> Self {
        Self { lease, ..self }
    }

    /// Up to where everything is acked, `None` before the stream was open; and how many messages that are.
    pub(crate) fn acked_place(&self) -> (Option<Saved>, u64) {
        let acks = self.acks();
        let acked = acks.acked();
        let place = acks.position().map(|token| {
            let snapshot = self.snapshot().acked(acked, acks.document()).cloned();
            Saved { token, snapshot }
        });
        (place, acked)
    }

    /// To be locked after [`acks`](Self::acks), where both are.
    pub(crate) fn snapshot(&self) -> MutexGuard<'_, Tracker> {
        self.snapshot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn acks(&self) -> MutexGuard<'_, AckSequence> {
        self.acks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
