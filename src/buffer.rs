//! The bounded queue between workers and consumers.
//!
//! Workers hand over *pieces* (runs of neighbouring events) through a channel; consumers take
//! messages off the front piece. A channel cannot count messages and bytes inside its items, so the
//! count stands beside it, under the lock that also keeps the front piece: the order of a worker's
//! messages is the same for every consumer. Nobody waits while holding that lock. Consumers wait on
//! `arrivals`, workers on `room`; both are channels of one signal, sent only when somebody waits, behind
//! the lock, which who is woken needs first, and passed on by the receiver while there is more than it
//! could use.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};

use crate::error::{Error, ErrorKind, Result};
use crate::exit;
use crate::fork::Origin;
use crate::gate::Gate;
use crate::message::{Batch, Events, Message, Piece};
use crate::stats::{BufferStats, milliseconds};
use crate::wakeup::Wakeup;
use crate::worker::Control;

/// What a receive with a time limit found.
#[derive(Debug)]
pub enum Received<T> {
    /// A message or batch.
    Some(T),
    /// Nothing came within the time.
    Timeout,
    /// The buffer is drained, and closed or without a running worker: nothing more will come
    /// unless another worker is started.
    Closed,
}

impl<T> Received<T> {
    pub(crate) fn map<U>(self, map: impl FnOnce(T) -> U) -> Received<U> {
        match self {
            Received::Some(value) => Received::Some(map(value)),
            Received::Timeout => Received::Timeout,
            Received::Closed => Received::Closed,
        }
    }

    /// The message or batch, if one came.
    pub fn some(self) -> Option<T> {
        match self {
            Received::Some(value) => Some(value),
            Received::Timeout | Received::Closed => None,
        }
    }
}

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
    /// A worker failed: [`Error::worker`] names it, each failure is given to one consumer once, and
    /// receiving may go on. Or the caller's own mistake (no worker named): it will not get better.
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
    /// As [`recv`](Self::recv). A failure that stands behind some messages comes with the next call.
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
    /// [`ErrorKind::Forked`] in a child of the process that made the buffer.
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
        self.queue().wakeup().map(Wakeup::fd)
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

/// Iterator over a buffer's messages, made by [`Buffer::iter`].
#[derive(Debug)]
pub struct Iter<'a> {
    buffer: &'a Buffer,
    over: bool,
}

impl Iterator for Iter<'_> {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Result<Message>> {
        if self.over {
            return None;
        }
        let item = self.buffer.recv().transpose();
        // An error that names no worker would come again for ever.
        self.over = match &item {
            None => true,
            Some(Err(error)) => error.worker().is_none(),
            Some(Ok(_)) => false,
        };
        item
    }
}

/// `take` was asked for one message, so there is one piece of one event.
fn one(mut pieces: Vec<Piece>) -> Message {
    Message::of_piece(pieces.swap_remove(0))
}

/// How long a consumer is ready to wait.
#[derive(Clone, Copy)]
pub enum Wait {
    /// Not at all.
    Not,
    /// Until then.
    Until(Instant),
    /// For as long as it takes.
    ForEver,
}

impl Wait {
    /// A time beyond the clock's range is for ever.
    pub fn at_most(timeout: Duration) -> Self {
        if timeout.is_zero() {
            return Wait::Not;
        }
        Instant::now().checked_add(timeout).map_or(Wait::ForEver, Wait::Until)
    }
}

/// A worker was stopped, or its buffer closed, before everything was handed over.
pub(crate) struct Stopped;

/// The buffer itself; [`Buffer`] is a consumer's handle to it, workers hold it as well.
pub(crate) struct Queue {
    capacity: usize,
    max_bytes: usize,
    origin: Origin,
    entries: (Sender<Entry>, Receiver<Entry>),
    arrivals: (Sender<()>, Receiver<()>),
    room: (Sender<()>, Receiver<()>),
    state: Mutex<State>,
    #[cfg(unix)]
    wakeup: std::sync::OnceLock<Wakeup>,
}

/// A place in the buffer, which nobody else can take. To be used at once.
pub(crate) struct Room<'a> {
    queue: &'a Queue,
    state: MutexGuard<'a, State>,
    bytes: usize,
}

impl Room<'_> {
    pub(crate) fn push(mut self, events: Arc<Events>) {
        let range = 0..events.len();
        self.queue.add(&mut self.state, events, range, self.bytes);
        self.queue.unlock(self.state);
    }
}

enum Entry {
    Piece(Piece),
    Failure(Error),
}

#[derive(Default)]
struct State {
    /// The entry that consumers are taking from.
    front: Option<Entry>,
    /// Messages and their bytes, in `front` and in the channel.
    messages: usize,
    bytes: usize,
    failures: usize,
    /// Why the last start failed that nobody else was told of. Counted among the failures.
    refusal: Option<Error>,
    waiting_consumers: usize,
    waiting_workers: usize,
    closed: bool,
    /// How many workers were started, or failed to.
    started: usize,
    running: Vec<Arc<Control>>,
    /// Workers that are kept for the statistics, in the order of their ends.
    ended: Vec<Arc<Control>>,
    /// The most messages that there were at once.
    high_water: usize,
    /// For how long workers have waited for room, until `counted`, when their number last changed.
    waited: Duration,
    counted: Option<Instant>,
}

impl State {
    fn is_empty(&self) -> bool {
        self.messages == 0 && self.failures == 0
    }

    /// Whether a consumer need not wait.
    fn is_ready(&self) -> bool {
        !self.is_empty() || self.is_ending()
    }

    fn is_finished(&self) -> bool {
        self.is_empty() && self.is_ending()
    }

    fn is_ending(&self) -> bool {
        self.closed || (self.started > 0 && self.running.is_empty())
    }

    /// Brings `waited` up to now; to be called before `waiting_workers` changes.
    fn count_waiting(&mut self) {
        let now = Instant::now();
        if let Some(counted) = self.counted.replace(now) {
            let waiting = u32::try_from(self.waiting_workers).unwrap_or(u32::MAX);
            self.waited += now.saturating_duration_since(counted).saturating_mul(waiting);
        }
    }

    fn leave(&mut self, worker: &Arc<Control>) {
        self.running.retain(|running| !Arc::ptr_eq(running, worker));
    }

    /// Lets go the oldest of the ended workers of which nobody has a handle.
    fn forget_ended(&mut self) {
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

impl Queue {
    fn new(capacity: usize, max_bytes: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            max_bytes,
            origin: Origin::here(),
            entries: unbounded(),
            arrivals: bounded(1),
            room: bounded(1),
            state: Mutex::default(),
            #[cfg(unix)]
            wakeup: std::sync::OnceLock::new(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a worker.
    pub(crate) fn attach(&self, worker: &Arc<Control>) -> Result<()> {
        self.origin.check()?;
        let mut state = self.state();
        if state.closed {
            return Err(Error::new(
                ErrorKind::State,
                "the buffer is closed; start the worker on a new one",
            ));
        }
        state.forget_ended();
        state.running.push(Arc::clone(worker));
        state.started += 1;
        self.unlock(state);
        Ok(())
    }

    /// The counterpart of [`attach`](Self::attach): the worker has ended, perhaps with a failure,
    /// which takes its place behind the worker's messages and never waits for room.
    pub(crate) fn detach(&self, worker: &Arc<Control>, failure: Option<Error>) {
        let mut state = self.state();
        state.leave(worker);
        state.ended.push(Arc::clone(worker));
        if let Some(failure) = failure {
            state.failures += 1;
            // Cannot fail: the receiver is in `self`.
            let _ = self.entries.0.send(Entry::Failure(failure));
        }
        self.unlock(state);
    }

    /// Takes [`attach`](Self::attach) back, as if it had never been: the worker's thread could not be started.
    pub(crate) fn forget(&self, worker: &Arc<Control>) {
        let mut state = self.state();
        state.leave(worker);
        state.started -= 1;
        self.unlock(state);
    }

    /// A worker could not be started, and nobody else is told: the next receive is. It is as if a worker had
    /// started and failed at once.
    pub(crate) fn refuse(&self, failure: Error) {
        // In a forked child the lock may be held for ever, and receiving fails too.
        if self.origin.check().is_err() {
            return;
        }
        let mut state = self.state();
        state.started += 1;
        if state.refusal.replace(failure).is_none() {
            state.failures += 1;
        }
        self.unlock(state);
    }

    /// Hands over all events, waiting for room as often as needed.
    pub(crate) fn push(&self, events: &Arc<Events>, stop: &Gate) -> Result<(), Stopped> {
        let mut at = 0;
        let mut state = self.state();
        loop {
            if state.closed || stop.is_open() {
                self.unlock_with_room(state);
                return Err(Stopped);
            }
            let (end, bytes) = self.admit(&state, events, at);
            if end > at {
                self.add(&mut state, Arc::clone(events), at..end, bytes);
                at = end;
            }
            if at == events.len() {
                self.unlock_with_room(state);
                return Ok(());
            }
            state.count_waiting();
            state.waiting_workers += 1;
            self.unlock(state);
            select! {
                recv(self.room.1) -> _ => {}
                recv(stop.opened()) -> _ => {}
            }
            state = self.state();
            state.count_waiting();
            state.waiting_workers -= 1;
        }
    }

    /// Room for so many messages, if there is some now and the worker is not to stop.
    pub(crate) fn room_for(&self, messages: usize, bytes: usize, stop: &Gate) -> Option<Room<'_>> {
        let state = self.state();
        let alone = state.messages == 0 && messages == 1;
        let fits = state.messages + messages <= self.capacity
            && (state.bytes + bytes <= self.max_bytes || alone);
        // With the lock held: nothing is pushed behind a stop that its worker may have seen.
        (fits && !state.closed && !stop.is_open()).then_some(Room { queue: self, state, bytes })
    }

    fn add(&self, state: &mut State, events: Arc<Events>, range: Range<usize>, bytes: usize) {
        state.messages += range.len();
        state.bytes += bytes;
        state.high_water = state.high_water.max(state.messages);
        // Cannot fail: the receiver is in `self`.
        let _ = self.entries.0.send(Entry::Piece(Piece { events, range }));
    }

    /// How far from `at` the events fit now, and their bytes.
    fn admit(&self, state: &State, events: &Events, at: usize) -> (usize, usize) {
        let mut bytes = 0;
        let mut end = at;
        while end < events.len() && state.messages + (end - at) < self.capacity {
            let size = events.size(end);
            let alone = state.messages == 0 && end == at;
            if state.bytes + bytes + size > self.max_bytes && !alone {
                break;
            }
            bytes += size;
            end += 1;
        }
        (end, bytes)
    }

    /// Takes up to `max` messages, or one failure.
    pub(crate) fn take(&self, max: usize, wait: Wait) -> Result<Received<Vec<Piece>>> {
        self.origin.check()?;
        let mut state = self.state();
        loop {
            let taken = self.take_ready(&mut state, max.max(1));
            if taken.is_some() || state.is_finished() {
                self.unlock_with_room(state);
                return taken.unwrap_or(Ok(Vec::new())).map(|pieces| match pieces.is_empty() {
                    true => Received::Closed,
                    false => Received::Some(pieces),
                });
            }
            if let Wait::Not = wait {
                return Ok(Received::Timeout);
            }
            state.waiting_consumers += 1;
            drop(state);
            let in_time = match wait {
                Wait::Until(deadline) => self.arrivals.1.recv_deadline(deadline).is_ok(),
                Wait::ForEver | Wait::Not => self.arrivals.1.recv().is_ok(),
            };
            state = self.state();
            state.waiting_consumers -= 1;
            if !in_time && !state.is_ready() {
                return Ok(Received::Timeout);
            }
        }
    }

    fn take_ready(&self, state: &mut State, max: usize) -> Option<Result<Vec<Piece>>> {
        if let Some(refusal) = state.refusal.take() {
            state.failures -= 1;
            return Some(Err(refusal));
        }
        let mut pieces = Vec::new();
        let mut left = max;
        while left > 0 {
            let entry = state.front.take().or_else(|| self.entries.1.try_recv().ok());
            match entry {
                None => break,
                Some(Entry::Failure(error)) if pieces.is_empty() => {
                    state.failures -= 1;
                    return Some(Err(error));
                }
                Some(failure @ Entry::Failure(_)) => {
                    state.front = Some(failure);
                    break;
                }
                Some(Entry::Piece(mut piece)) => {
                    let (taken, bytes) = piece.split_front(left);
                    left -= taken.range.len();
                    state.messages -= taken.range.len();
                    state.bytes -= bytes;
                    taken.events.meter().delivered(taken.range.len(), bytes);
                    pieces.push(taken);
                    if !piece.range.is_empty() {
                        state.front = Some(Entry::Piece(piece));
                    }
                }
            }
        }
        (!pieces.is_empty()).then_some(Ok(pieces))
    }

    /// To be called behind every change of what there is to take. A waiting consumer is woken while there
    /// is something, the closing included: what one leaves concerns the next as well.
    fn unlock(&self, state: MutexGuard<'_, State>) {
        self.show_level(&state);
        let wakes = state.waiting_consumers > 0 && state.is_ready();
        drop(state);
        if wakes {
            // Full: somebody is being woken already.
            let _ = self.arrivals.0.try_send(());
        }
    }

    /// Lets a waiting worker go on as well. Workers go on when half of the buffer is free: a wakeup for
    /// each message would cost more than the message.
    fn unlock_with_room(&self, state: MutexGuard<'_, State>) {
        let wakes = state.waiting_workers > 0
            && state.messages <= self.capacity / 2
            && state.bytes <= self.max_bytes / 2;
        self.unlock(state);
        if wakes {
            let _ = self.room.0.try_send(());
        }
    }

    pub(crate) fn close(&self) {
        let workers = {
            let mut state = self.state();
            state.closed = true;
            let workers = state.running.clone();
            self.unlock(state);
            workers
        };
        for worker in workers {
            worker.stop();
        }
    }

    fn stats(&self) -> Result<BufferStats> {
        self.origin.check()?;
        let mut state = self.state();
        state.count_waiting();
        state.forget_ended();
        let mut stats = BufferStats {
            depth: state.messages,
            high_water: state.high_water,
            bytes: state.bytes,
            capacity: self.capacity,
            max_bytes: self.max_bytes,
            failures: state.failures,
            waited_ms: milliseconds(state.waited),
            closed: state.closed,
            workers: Vec::new(),
        };
        let workers: Vec<_> = state.running.iter().chain(&state.ended).cloned().collect();
        // Counting what many unacknowledged events have left takes a while.
        drop(state);
        stats.workers = workers.iter().map(|worker| worker.stats()).collect();
        Ok(stats)
    }

    fn len(&self) -> usize {
        match self.origin.check() {
            Ok(()) => self.state().messages,
            Err(_) => 0,
        }
    }

    #[cfg(unix)]
    fn wakeup(&self) -> Result<&Wakeup> {
        self.origin.check()?;
        if self.wakeup.get().is_none() {
            let wakeup = Wakeup::new().map_err(|error| {
                Error::new(
                    ErrorKind::Resource,
                    format!("cannot make a descriptor to poll: {error}"),
                )
                .retriable()
            })?;
            let state = self.state();
            // A second thread may have been faster; its descriptor is as good.
            let _ = self.wakeup.set(wakeup);
            self.show_level(&state);
        }
        self.wakeup.get().ok_or_else(|| Error::new(ErrorKind::State, "no descriptor to poll"))
    }

    /// Keeps the descriptor readable while a receive would not wait.
    fn show_level(&self, state: &State) {
        #[cfg(unix)]
        if let Some(wakeup) = self.wakeup.get() {
            wakeup.show(state.is_ready());
        }
        #[cfg(not(unix))]
        let _ = state;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Source;

    #[test]
    fn there_is_room_only_for_what_may_be_pushed_now() {
        let (queue, stop) = (Queue::new(3, 100), Gate::new());
        let push = |sizes: &[usize]| {
            let room = queue.room_for(sizes.len(), sizes.iter().sum(), &stop);
            let documents: Vec<_> = sizes.iter().map(|&size| vec![0; size]).collect();
            room.map(|room| room.push(Events::for_test(0, &documents))).is_some()
        };
        let take = || queue.take(9, Wait::Not).ok().and_then(Received::some).map(|all| all.len());
        assert!(!push(&[5; 4]), "more messages than the buffer holds");
        assert!(!push(&[60, 60]), "more bytes than the buffer holds");
        assert!(push(&[150]), "one message alone always fits");
        assert!(!push(&[5]), "its bytes are there");
        assert_eq!(take(), Some(1));
        assert!(push(&[5, 5]) && push(&[5]));
        assert!(!push(&[5]), "full");
        assert_eq!((queue.len(), take()), (3, Some(2)));
        stop.open();
        assert!(!push(&[5]), "behind a stop");
        let (queue, stop) = (Queue::new(3, 100), Gate::new());
        queue.close();
        assert!(queue.room_for(1, 5, &stop).is_none(), "closed");
    }

    #[test]
    fn a_worker_whose_thread_could_not_be_started_leaves_the_buffer_as_it_was() {
        let queue = Queue::new(3, 100);
        let worker = || {
            let source = Source::new("test", crate::options::Options::new().style());
            Arc::new(Control::new(&Arc::new(source), "test".to_owned()))
        };
        let take = || queue.take(1, Wait::Not).map(|received| received.map(|all| all.len()));
        let (refused, running) = (worker(), worker());
        queue.attach(&refused).unwrap();
        queue.forget(&refused);
        assert!(matches!(take(), Ok(Received::Timeout)), "no worker has fed it yet");
        queue.attach(&running).unwrap();
        queue.attach(&refused).unwrap();
        queue.forget(&refused);
        queue.detach(&running, None);
        assert!(matches!(take(), Ok(Received::Closed)), "its only worker has ended");
    }
}
