//! The bounded queue itself: workers wait for room, consumers for messages.
//!
//! Workers hand over *pieces* (runs of neighbouring events) through a channel; consumers take
//! messages off the front piece. A channel cannot count messages and bytes inside its items, so the
//! count stands beside it, under the lock that also keeps the front piece: the order of a worker's
//! messages is the same for every consumer. Nobody waits while holding that lock. Consumers wait on
//! `arrivals`, workers on `room`; both are channels of one signal, sent only when somebody waits, after
//! the lock, which who is woken needs first, and passed on by the receiver while there is more than it
//! could use.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};

use crate::clock::boot_time;
use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::exit::Close;
use crate::fork::Origin;
use crate::gate::Gate;
use crate::queue::contents::{Contents, Entry};
use crate::queue::events::{Events, Piece};
#[cfg(unix)]
use crate::queue::wakeup::Wakeup;
use crate::stats::{BufferStats, milliseconds};
use crate::wait::{Received, Wait};

#[cfg(test)]
mod tests;

/// A worker was stopped, or its buffer closed, before everything was handed over.
pub(crate) struct Stopped;

/// The buffer itself; [`Buffer`] is a consumer's handle to it, workers hold it as well.
pub(crate) struct Queue {
    pub(super) capacity: usize,
    pub(super) max_bytes: usize,
    pub(super) origin: Origin,
    entries: (Sender<Entry>, Receiver<Entry>),
    arrivals: (Sender<()>, Receiver<()>),
    room: (Sender<()>, Receiver<()>),
    state: Mutex<Contents>,
    #[cfg(unix)]
    wakeup: std::sync::OnceLock<Wakeup>,
}

/// A place in the buffer, which nobody else can take. To be used at once.
pub(crate) struct Room<'a> {
    queue: &'a Queue,
    state: MutexGuard<'a, Contents>,
    bytes: usize,
}

impl Room<'_> {
    pub(crate) fn push(mut self, events: Arc<Events>) {
        let range = 0..events.len();
        self.queue.add(&mut self.state, events, range, self.bytes);
        self.queue.unlock(self.state);
    }
}

impl Close for Queue {
    fn close(&self) {
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
}

impl Queue {
    pub(super) fn new(capacity: usize, max_bytes: usize) -> Self {
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

    fn state(&self) -> MutexGuard<'_, Contents> {
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
    /// which takes its place after the worker's messages and never waits for room.
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
        // With the lock held: nothing is pushed after a stop that its worker may have seen.
        (fits && !state.closed && !stop.is_open()).then_some(Room { queue: self, state, bytes })
    }

    fn add(&self, state: &mut Contents, events: Arc<Events>, range: Range<usize>, bytes: usize) {
        state.messages += range.len();
        state.bytes += bytes;
        state.high_water = state.high_water.max(state.messages);
        // Cannot fail: the receiver is in `self`.
        let _ = self.entries.0.send(Entry::Piece(Piece { events, range }));
    }

    /// How far from `at` the events fit now, and their bytes.
    fn admit(&self, state: &Contents, events: &Events, at: usize) -> (usize, usize) {
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
                self.unlock_with_room(state);
                return Ok(Received::Timeout);
            }
            state.waiting_consumers += 1;
            // Something may have been set aside or dropped.
            self.unlock_with_room(state);
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

    fn take_ready(&self, state: &mut Contents, max: usize) -> Option<Result<Vec<Piece>>> {
        if let Some(refusal) = state.refusal.take() {
            state.failures -= 1;
            return Some(Err(refusal));
        }
        let mut pieces = Vec::new();
        let mut left = max;
        while left > 0 {
            let entry = state.front.pop_front().or_else(|| self.entries.1.try_recv().ok());
            match entry {
                None => break,
                Some(Entry::Failure(error)) if pieces.is_empty() => {
                    state.failures -= 1;
                    return Some(Err(error));
                }
                Some(failure @ Entry::Failure(_)) => {
                    state.front.push_front(failure);
                    break;
                }
                Some(Entry::Piece(piece)) if !self.is_handed_over(state, &piece) => {}
                Some(Entry::Piece(mut piece)) => {
                    let (taken, bytes) = piece.split_front(left);
                    left -= taken.range.len();
                    state.messages -= taken.range.len();
                    state.bytes -= bytes;
                    taken.events.meter().delivered(taken.range.len(), bytes);
                    pieces.push(taken);
                    if !piece.range.is_empty() {
                        state.front.push_front(Entry::Piece(piece));
                    }
                }
            }
        }
        (!pieces.is_empty()).then_some(Ok(pieces))
    }

    /// Whether a worker may hand this over now. If not, it is set aside until its lease is sure again, or dropped if
    /// the lease is gone: whoever has it now delivers this again.
    fn is_handed_over(&self, state: &mut Contents, piece: &Piece) -> bool {
        let Some(lease) = piece.events.lease() else { return true };
        if lease.lost().is_some() {
            state.messages -= piece.range.len();
            state.bytes -= piece.bytes();
            return false;
        }
        let is_next =
            || !state.aside.iter().any(|other| other.events.is_of_worker_of(&piece.events));
        if lease.hands_over(boot_time()) && is_next() {
            return true;
        }
        state.aside.push(piece.clone());
        false
    }

    /// A lease has changed: what was set aside may be handed over, or is to be dropped.
    pub(crate) fn lease_changed(&self) {
        let mut state = self.state();
        let aside = std::mem::take(&mut state.aside);
        for piece in aside.into_iter().rev() {
            state.front.push_front(Entry::Piece(piece));
        }
        self.unlock_with_room(state);
    }

    /// To be called after every change of what there is to take. A waiting consumer is woken while there
    /// is something, the closing included: what one leaves concerns the next as well.
    fn unlock(&self, state: MutexGuard<'_, Contents>) {
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
    fn unlock_with_room(&self, state: MutexGuard<'_, Contents>) {
        let wakes = state.waiting_workers > 0
            && state.messages <= self.capacity / 2
            && state.bytes <= self.max_bytes / 2;
        self.unlock(state);
        if wakes {
            let _ = self.room.0.try_send(());
        }
    }

    pub(super) fn stats(&self) -> Result<BufferStats> {
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
        // Counting what many unacked events have left takes a while.
        drop(state);
        stats.workers = workers.iter().map(|worker| worker.stats()).collect();
        Ok(stats)
    }

    pub(super) fn len(&self) -> usize {
        match self.origin.check() {
            Ok(()) => self.state().messages,
            Err(_) => 0,
        }
    }

    #[cfg(unix)]
    pub(super) fn wakeup(&self) -> Result<&Wakeup> {
        self.origin.check()?;
        if self.wakeup.get().is_none() {
            let wakeup = Wakeup::new().map_err(|error| {
                Error::new(
                    ErrorKind::Resource,
                    format!("cannot make a descriptor to poll: {error}"),
                )
                .with_source(error)
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
    fn show_level(&self, state: &Contents) {
        #[cfg(unix)]
        if let Some(wakeup) = self.wakeup.get() {
            wakeup.show(state.is_ready());
        }
        #[cfg(not(unix))]
        let _ = state;
    }
}
