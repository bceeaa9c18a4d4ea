//! For the benchmarks: a buffer that is fed without a server. No part of the API.

use std::sync::Arc;

use crate::checkpoint::identity::StreamIdentity;
use crate::checkpoint::ledger::Ledger;
use crate::gate::Gate;
use crate::options::Options;
use crate::queue::buffer::Buffer;
use crate::queue::events::Events;

/// Stands where a worker would.
pub struct Feed {
    ledger: Arc<Ledger>,
    buffer: Buffer,
    stop: Gate,
}

/// The events of a reply.
pub struct Prepared(Arc<Events>);

impl Feed {
    /// Feeds this buffer.
    pub fn new(buffer: &Buffer) -> Self {
        let ledger =
            Arc::new(Ledger::new("feed", Options::new().style(), StreamIdentity::default()));
        Self { ledger, buffer: buffer.clone(), stop: Gate::new() }
    }

    /// Registers events as the next ones. They are to be pushed in the same order.
    pub fn prepare(&self, documents: &[Vec<u8>]) -> Prepared {
        let first = self.ledger.acks().read(documents.len());
        Prepared(Events::of_bytes(&self.ledger, first, documents))
    }

    /// Hands events over; waits while there is no room.
    pub fn push(&self, prepared: &Prepared) {
        // An error says that the buffer was closed: then nobody wants them.
        let _ = self.buffer.queue().push(&prepared.0, &self.stop);
    }

    /// How many events are acked.
    pub fn acked(&self) -> u64 {
        self.ledger.acks().acked()
    }
}
