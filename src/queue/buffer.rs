//! The buffer: a handle to the queue, for consumers.

use std::sync::Arc;
use std::time::Duration;

use crate::error::Result;
use crate::exit::{self, Close};
use crate::queue::bounded::Queue;
use crate::queue::events::Piece;
use crate::queue::message::{Batch, Message};
use crate::stats::BufferStats;
use crate::wait::{Received, Wait};

#[cfg(test)]
mod tests;

/// A bounded queue of messages: any number of workers in, any number of consumers out.
///
/// A full buffer makes its workers wait; nothing is ever dropped. Clones are handles to the same
/// buffer, for use in several threads; dropping the last one closes it.
///
/// A buffer is *closed* for its consumers when it is drained, and was either [`close`](Self::close)d
/// or has had at least one worker and none is left running. On a buffer that no worker has fed yet
/// consumers wait, so they may start first.
#[derive(Clone)]
pub struct Buffer {
    owner: Arc<Owner>,
}

struct Owner(Arc<Queue>);

impl Drop for Owner {
    fn drop(&mut self) {
        // In a forked child the lock may be held by a thread that is not there.
        if self.0.origin.check().is_ok() {
            self.0.close();
        }
    }
}

impl Buffer {
    /// The default bound in bytes, 64 MiB.
    pub const DEFAULT_MAX_BYTES: usize = 64 << 20;

    /// A buffer for up to `capacity` messages and [`DEFAULT_MAX_BYTES`](Self::DEFAULT_MAX_BYTES) of
    /// change events. A capacity of 0 counts as 1.
    pub fn new(capacity: usize) -> Self {
        Self::with_max_bytes(capacity, Self::DEFAULT_MAX_BYTES)
    }

    /// A buffer for up to `capacity` messages and `max_bytes` bytes of change events (BSON),
    /// whichever is reached first. One event that is larger than `max_bytes` still passes, alone.
    pub fn with_max_bytes(capacity: usize, max_bytes: usize) -> Self {
        let queue = Arc::new(Queue::new(capacity, max_bytes));
        exit::register(&queue);
        Self { owner: Arc::new(Owner(queue)) }
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.owner.0
    }

    /// Waits for the next message; `None` when the buffer is closed.
    ///
    /// # Errors
    ///
    /// A worker failed: [`Error::worker`](crate::Error::worker) names it, each failure is given to one consumer
    /// once, and receiving may go on. Or the caller's own mistake (no worker named): it will not get better.
    pub fn recv(&self) -> Result<Option<Message>> {
        Ok(self.queue().take(1, Wait::ForEver)?.map(one).some())
    }

    /// Takes a message that is already there, without waiting.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn try_recv(&self) -> Result<Received<Message>> {
        Ok(self.queue().take(1, Wait::Not)?.map(one))
    }

    /// Waits for the next message for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv).
    pub fn recv_timeout(&self, timeout: Duration) -> Result<Received<Message>> {
        Ok(self.queue().take(1, Wait::at_most(timeout))?.map(one))
    }

    /// Waits for one message, then takes what is already there, up to `max`; never waits to fill.
    /// `None` when the buffer is closed. A `max` of 0 counts as 1.
    ///
    /// # Errors
    ///
    /// As [`recv`](Self::recv). A failure that stands after some messages comes with the next call.
    pub fn recv_batch(&self, max: usize) -> Result<Option<Batch>> {
        Ok(self.queue().take(max, Wait::ForEver)?.map(Batch::new).some())
    }

    /// As [`recv_batch`](Self::recv_batch), waiting for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`recv_batch`](Self::recv_batch).
    pub fn recv_batch_timeout(&self, max: usize, timeout: Duration) -> Result<Received<Batch>> {
        Ok(self.queue().take(max, Wait::at_most(timeout))?.map(Batch::new))
    }

    /// Messages until the buffer is closed. Failures of workers are items too.
    pub fn iter(&self) -> Iter<'_> {
        Iter { buffer: self, over: false }
    }

    /// How many messages are queued now.
    pub fn len(&self) -> usize {
        self.queue().len()
    }

    /// Whether no message is queued now.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Figures of the buffer and of each of its workers. Cheap enough to be asked for every second.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Forked`](crate::ErrorKind::Forked) in a child of the process that made the buffer.
    pub fn stats(&self) -> Result<BufferStats> {
        self.queue().stats()
    }

    /// Stops every worker of this buffer and wakes every consumer. What is queued can still be
    /// received. Never waits; closing twice does no harm.
    pub fn close(&self) {
        if self.queue().origin.check().is_ok() {
            self.queue().close();
        }
    }

    /// A descriptor for `poll`, `epoll` and event loops: readable while a receive would not wait
    /// (a message, a failure, or closed); level-triggered.
    ///
    /// It is made on the first call and belongs to the buffer: do not read, write or close it. With
    /// several consumers use [`try_recv`](Self::try_recv), another one may have been faster.
    ///
    /// # Errors
    ///
    /// The system has no descriptor to give, or no such kind of descriptor.
    #[cfg(unix)]
    pub fn fd(&self) -> Result<std::os::fd::BorrowedFd<'_>> {
        self.queue().wakeup().map(|wakeup| wakeup.fd())
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Buffer")
            .field("capacity", &self.queue().capacity)
            .field("max_bytes", &self.queue().max_bytes)
            .finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a Buffer {
    type Item = Result<Message>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// As [`iter`](Self::iter), with a handle of its own.
impl IntoIterator for Buffer {
    type Item = Result<Message>;
    type IntoIter = IntoIter;

    fn into_iter(self) -> IntoIter {
        IntoIter { buffer: self, over: false }
    }
}

/// Iterator over a buffer's messages, made by [`Buffer::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    buffer: &'a Buffer,
    over: bool,
}

impl Iterator for Iter<'_> {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Result<Message>> {
        next(self.buffer, &mut self.over)
    }
}

/// Iterator that holds a buffer, made by its `into_iter`.
#[derive(Debug)]
pub struct IntoIter {
    buffer: Buffer,
    over: bool,
}

impl Iterator for IntoIter {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Result<Message>> {
        next(&self.buffer, &mut self.over)
    }
}

fn next(buffer: &Buffer, over: &mut bool) -> Option<Result<Message>> {
    if *over {
        return None;
    }
    let item = buffer.recv().transpose();
    // An error that names no worker would come again for ever.
    *over = match &item {
        None => true,
        Some(Err(error)) => error.worker().is_none(),
        Some(Ok(_)) => false,
    };
    item
}

/// `take` was asked for one message, so there is one piece of one event.
fn one(mut pieces: Vec<Piece>) -> Message {
    Message::of_piece(pieces.swap_remove(0))
}
