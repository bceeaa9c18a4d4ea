//! A door that opens once, for any number of threads that wait before it.
//!
//! Made of a channel that never carries anything and is closed when the gate opens, so that a wait
//! for it can stand in a `select!` beside other channels.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

pub(crate) struct Gate {
    holder: Mutex<Option<Sender<Infallible>>>,
    opened: Receiver<Infallible>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        let (holder, opened) = bounded(0);
        Self { holder: Mutex::new(Some(holder)), opened }
    }

    pub(crate) fn open(&self) {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.opened.try_recv(), Err(crossbeam_channel::TryRecvError::Disconnected))
    }

    /// For `select!`: becomes ready (disconnected) when the gate opens.
    pub(crate) fn opened(&self) -> &Receiver<Infallible> {
        &self.opened
    }

    /// Waits until the gate is open; `None` waits for ever. Says whether it is open.
    pub(crate) fn wait(&self, deadline: Option<Instant>) -> bool {
        match deadline {
            None => self.opened.recv().is_err(),
            Some(deadline) => {
                matches!(self.opened.recv_deadline(deadline), Err(RecvTimeoutError::Disconnected))
            }
        }
    }
}
