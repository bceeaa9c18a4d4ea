//! The change-stream cursor: open, next reply. The only place that sends commands for a stream.
//!
//! A task on the shared runtime reads replies one ahead of the worker: while the worker hands over
//! one reply, the next is already requested. Never more than these two are held. A reply without
//! events is the task's own affair: it only moves the position, and an idle worker's thread sleeps.

use std::cell::Cell;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, TrySendError, bounded, select};
use mongodb::error::{Error as DriverError, Result as DriverResult};
use mongodb::raw_batch_cursor::RawBatchCursor;
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};

use crate::clock::unix_time;
use crate::gate::Gate;
use crate::raw::token::Token;
use crate::source::client::Deployment;
use crate::source::fault::Fault;
use crate::source::fragments::Fragments;
use crate::source::heap::Heap;
use crate::source::pace::{Advice, Came, Pace, Tuner};
use crate::source::poll::{Polled, poll};
use crate::source::position::Position;
use crate::source::reply::{self, Reply};
use crate::source::scope::Scope;
use crate::source::servers;
use crate::source::servers::ServerFacts;

/// How far a cursor has come.
#[derive(Clone)]
pub(crate) struct CursorProgress {
    /// After everything that was read.
    pub(crate) position: Position,
    /// Where the stream was before the last reply that moved it.
    pub(crate) before: Position,
    /// The token of the `invalidate`, if the last reply ended in one.
    pub(crate) invalidate: Option<Token>,
    /// Replies so far, the one that opened the cursor included.
    pub(crate) replies: usize,
    /// The server has taken the stream: what fails from now on are requests for its events.
    pub(crate) is_open: bool,
    /// It has had events.
    pub(crate) has_events: bool,
    /// What is known of the server that it was opened on; `None` where none was found.
    pub(crate) server: Option<ServerFacts>,
}

impl CursorProgress {
    /// At a place.
    pub(crate) fn at(position: Position) -> Self {
        Self {
            before: position.clone(),
            position,
            invalidate: None,
            replies: 0,
            is_open: false,
            has_events: false,
            server: None,
        }
    }

    /// Goes on over a reply with so many events, the token that comes after it, and that of the `invalidate` in which
    /// it ends.
    pub(crate) fn over(
        &mut self,
        events: usize,
        token: Option<&Token>,
        invalidate: Option<&Token>,
    ) {
        self.replies += 1;
        self.has_events |= events > 0;
        if let Some(token) = token
            && !self.position.covers(token)
        {
            let after = Position::After(Token::clone(token));
            self.before = std::mem::replace(&mut self.position, after);
        }
        self.invalidate = invalidate.cloned();
    }
}

/// What the reading task sends to the worker.
enum CursorItem {
    /// A reply, and the number of its first event.
    Reply(Reply, u64),
    Failed(Fault),
    /// The server has closed the cursor, and everything it had is delivered.
    Ended,
    /// As many events were read as were asked for.
    Enough,
    Change(Change),
}

/// Another pace fits the history better.
pub(crate) struct Change {
    pub(crate) to: Advice,
    /// How long the server was at work on a request that was given up.
    pub(crate) wasted: Duration,
}

/// What a worker gets next.
pub(crate) enum Next {
    /// A reply, and the number of its first event.
    Reply(Reply, u64),
    Failed(Fault),
    Ended,
    /// As many events were read as were asked for.
    Enough,
    Change(Change),
    /// The worker was asked to stop.
    Stopped,
    /// The reading task is gone without a word: it panicked.
    Lost,
}

/// How many replies are held at most: the one that is handed over, and the next.
const SLOTS: usize = 2;

/// Who sees the replies of a cursor on the runtime's thread, before the worker does.
pub(crate) trait Observer: Send + 'static {
    /// Is told of every reply, in order. Gives the number of the reply's first event if the worker shall
    /// see the reply.
    fn read(&mut self, reply: &Reply) -> Option<u64>;

    /// Is told of a collection that was given another name, before the reply with that event.
    fn renamed(&mut self, _event: &[u8]) {}

    /// May hand a reply over itself while the worker waits and has handed over all before it; one that it
    /// does not take goes to the worker. That saves waking the worker, where waking the consumer is the
    /// larger part of the way. Must not wait.
    fn take(&mut self, reply: Reply, _first: u64) -> Option<Reply> {
        Some(reply)
    }
}

impl<F: FnMut(&Reply) -> Option<u64> + Send + 'static> Observer for F {
    fn read(&mut self, reply: &Reply) -> Option<u64> {
        self(reply)
    }
}

/// An open cursor, or one that is being opened: the first reply is the one that opened it.
pub(crate) struct Cursor {
    items: Receiver<CursorItem>,
    /// Places for replies: in hand-over, read, or requested.
    slots: Arc<Semaphore>,
    /// The worker has an item, which keeps its place until it asks for the next one.
    in_hand: Cell<bool>,
    progress: Arc<Mutex<CursorProgress>>,
    task: JoinHandle<()>,
}

impl Cursor {
    /// Returns at once.
    pub(crate) fn open(
        deployment: &Arc<Deployment>,
        scope: Scope,
        from: Position,
        observer: impl Observer,
    ) -> Self {
        let (sender, items) = bounded(SLOTS);
        let slots = Arc::new(Semaphore::new(SLOTS));
        let progress = Arc::new(Mutex::new(CursorProgress::at(from)));
        let reader = ReadingTask {
            deployment: Arc::clone(deployment),
            scope,
            slots: Arc::clone(&slots),
            progress: Arc::clone(&progress),
            sender,
            observer,
            opened: None,
        };
        let task = deployment.runtime().spawn(reader.run());
        Self { items, slots, in_hand: Cell::new(false), progress, task }
    }

    /// Waits for the next reply, or for the stop gate.
    pub(crate) fn next(&self, stop: &Gate) -> Next {
        if self.in_hand.take() {
            self.slots.add_permits(1);
        }
        let item = select! {
            recv(self.items) -> item => item,
            recv(stop.opened()) -> _ => return Next::Stopped,
        };
        self.in_hand.set(true);
        match item {
            Ok(CursorItem::Reply(reply, first)) => Next::Reply(reply, first),
            Ok(CursorItem::Failed(error)) => Next::Failed(error),
            Ok(CursorItem::Ended) => Next::Ended,
            Ok(CursorItem::Enough) => Next::Enough,
            Ok(CursorItem::Change(change)) => Next::Change(change),
            Err(_) => Next::Lost,
        }
    }

    /// Waits until [`next`](Self::next) would not wait. Whether that is so in time.
    pub(crate) fn has_next_within(&self, stop: &Gate, limit: Duration) -> bool {
        let mut wait = Select::new();
        wait.recv(&self.items);
        wait.recv(stop.opened());
        wait.ready_timeout(limit).is_ok()
    }

    /// How far it has come; final once it has failed or ended.
    pub(crate) fn progress(&self) -> CursorProgress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // Drops the driver's cursor on the runtime, which tells the server to forget it.
        self.task.abort();
    }
}

/// The task that reads.
struct ReadingTask<O> {
    deployment: Arc<Deployment>,
    scope: Scope,
    slots: Arc<Semaphore>,
    progress: Arc<Mutex<CursorProgress>>,
    sender: Sender<CursorItem>,
    observer: O,
    /// Namespace and id of the server's cursor.
    opened: Option<(String, i64)>,
}

impl<O: Observer> ReadingTask<O> {
    async fn run(mut self) {
        let deployment = Arc::clone(&self.deployment);
        // What is not delivered was not read: giving up loses nothing.
        let last = deployment.while_server_is_there(self.read()).await;
        if let Err(error) = &last
            && let Some(server) = servers::deposed(error)
            && let Some((namespace, id)) = &self.opened
        {
            deployment.close_cursor(server, namespace, *id);
        }
        let last = last.unwrap_or_else(|error| CursorItem::Failed(error.into()));
        if let Ok(slot) = self.slots.acquire().await {
            slot.forget();
            // Without the last item the worker learns that this task is gone, and fails.
            let _ = send(&self.sender, last);
        }
    }

    /// Reads to the end, and tells what that is.
    async fn read(&mut self) -> DriverResult<CursorItem> {
        let last = self.read_all().await;
        let server = self.deployment.server_facts();
        self.progress().server = server;
        last
    }

    async fn read_all(&mut self) -> DriverResult<CursorItem> {
        let from = self.progress().position.clone();
        let (mut cursor, splits) = self.scope.open(&self.deployment, &from).await?;
        self.progress().is_open = true;
        self.scope.check_history(&self.deployment, &from).await?;
        let round_trip = self.deployment.server_facts().and_then(|server| server.round_trip);
        let mut tuner = Tuner::new(self.scope.pace, round_trip, self.scope.patience);
        let mut fragments = splits.then(Fragments::default);
        let mut left = self.scope.limit;
        let slots = Arc::clone(&self.slots);
        let mut heap = Heap::default();
        // Taken before each request, or a third reply could come to be held.
        let mut slot = slots.acquire().await;
        let mut answer = Poll::Pending;
        loop {
            let requested = Instant::now();
            let next = match answer {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    let in_history = self.progress().position.is_in_history(unix_time());
                    let next = poll_fn(|context| poll(&mut cursor, context));
                    match tuner.patience().filter(|_| in_history) {
                        None => next.await,
                        Some(patience) => {
                            let patience = patience.saturating_add(self.scope.await_time);
                            match tokio::time::timeout(patience, next).await {
                                Ok(next) => next,
                                Err(_) => {
                                    let change = Change { to: Advice::One, wasted: patience };
                                    return Ok(CursorItem::Change(change));
                                }
                            }
                        }
                    }
                }
            };
            let took = requested.elapsed();
            let (Ok(taken), Some(batch)) = (slot, next) else { return Ok(CursorItem::Ended) };
            let batch = batch?;
            // After a large reply more will come at once: the server should be at it before this one is
            // looked at, since whom that wakes takes the processor for a while. A small one goes on at once.
            // Where there is no slot, the worker still has the reply before this one.
            let size = batch.as_raw_document().as_bytes().len();
            let looks_ahead = reply::is_large(batch.as_raw_document().as_bytes()) && left.is_none();
            let ahead = looks_ahead.then(|| slots.try_acquire().ok()).flatten();
            answer = match &ahead {
                Some(_) => request(&mut cursor).await,
                None => Poll::Pending,
            };
            heap.keeps(batch.as_raw_document().as_bytes().len());
            let mut reply = Reply::parse(batch, self.scope.has_invalidate)?;
            reply.begin_at(&from);
            let is_opening = self.opened.is_none();
            if is_opening {
                self.opened = reply.cursor();
            }
            let came = reply.spans.len();
            for event in reply.take_renames(&self.scope) {
                self.observer.renamed(&event);
            }
            left = left.map(|left| left.saturating_sub(reply.spans.len()));
            // The server closes the cursor after that one, and only its end says so.
            let ends = reply.invalidate_token().is_some();
            match &mut fragments {
                Some(fragments) if reply.has_fragments(fragments) => {
                    let replies = reply.join(fragments)?;
                    drop(taken);
                    self.deliver_joined(replies).await?;
                }
                _ => {
                    if self.deliver(reply)? {
                        taken.forget();
                    }
                }
            }
            let is_pending = fragments.as_ref().is_some_and(Fragments::is_pending);
            if !ends && !is_pending {
                if left == Some(0) {
                    return Ok(CursorItem::Enough);
                }
                // How long the opening reply takes says more of the opening than of the history.
                let looks_back = self.scope.pace == Pace::One;
                let age = looks_back.then(|| self.progress().position.age(unix_time())).flatten();
                let came = Came { events: came, bytes: size, took, age };
                if !is_opening
                    && let Some(to) = tuner.came(&came)
                    && self.scope.may_change(to, came.events, requested)
                {
                    return Ok(CursorItem::Change(Change { to, wasted: Duration::ZERO }));
                }
            }
            slot = match ahead {
                Some(ahead) => Ok(ahead),
                None => slots.acquire().await,
            };
        }
    }

    /// Lets the observer see a reply, for which a slot was taken, and perhaps the worker: whether it does.
    fn deliver(&mut self, reply: Reply) -> DriverResult<bool> {
        let first = self.observer.read(&reply);
        self.progress().over(reply.spans().len(), reply.token(), reply.invalidate_token());
        let Some(first) = first else { return Ok(false) };
        // Where this is the only slot that is taken, the worker waits.
        let is_awaited = self.slots.available_permits() + 1 == SLOTS;
        let left = if is_awaited { self.observer.take(reply, first) } else { Some(reply) };
        let Some(reply) = left else { return Ok(false) };
        send(&self.sender, CursorItem::Reply(reply, first))?;
        Ok(true)
    }

    /// One after the other: what was not delivered when the cursor is given up was not read.
    async fn deliver_joined(&mut self, replies: Vec<Reply>) -> DriverResult<()> {
        let slots = Arc::clone(&self.slots);
        for reply in replies {
            let Ok(slot) = slots.acquire().await else { return Ok(()) };
            if self.deliver(reply)? {
                slot.forget();
            }
        }
        Ok(())
    }

    fn progress(&self) -> MutexGuard<'_, CursorProgress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the driver send the request for the next reply. It takes a connection from its pool first, which
/// another task of the runtime hands out.
async fn request(cursor: &mut RawBatchCursor) -> Polled {
    /// Turns of the runtime after which it has been sent, a busy runtime apart.
    const TURNS: usize = 2;
    for _ in 0..TURNS {
        let answer = poll_fn(|context| Poll::Ready(poll(cursor, context))).await;
        if answer.is_ready() {
            return answer;
        }
        yield_now().await;
    }
    Poll::Pending
}

/// An error only where the channel is full. A slot is taken before each item, so that would be a bug; the
/// events of the item would be lost if nobody heard of it.
fn send(sender: &Sender<CursorItem>, item: CursorItem) -> DriverResult<()> {
    match sender.try_send(item) {
        // The worker has gone.
        Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
        Err(TrySendError::Full(_)) => Err(DriverError::custom(
            "the reading task is further ahead than it may be; please report this bug".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_for_which_there_is_no_room_is_a_failure() {
        let (sender, items) = bounded(1);
        assert!(send(&sender, CursorItem::Enough).is_ok());
        let full = Fault::from(send(&sender, CursorItem::Ended).expect_err("no room"));
        assert!(full.text.contains("further ahead than it may be"), "{}", full.text);
        drop(items);
        assert!(send(&sender, CursorItem::Ended).is_ok(), "nobody waits for it");
    }
}
