//! Figures of a buffer and its workers, for whoever operates the program.
//!
//! Counting must not slow the stream down: a worker's figures are relaxed atomics that change once a
//! reply, or once for each run of messages that a consumer takes; the buffer's own stand under its
//! lock, which is held at those moments anyway.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use crate::error::Error;
use crate::raw::namespace::Namespace;
use crate::raw::token;
use crate::raw::token::Token;
use crate::source::reply::Reply;
use crate::state::WorkerState;

/// What a buffer holds and has held, with its workers; from [`Buffer::stats`](crate::Buffer::stats).
///
/// Each figure is exact, but they are not all of the very same moment. Counters never go back. The
/// fields have the names and units of [`to_json`](Self::to_json).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BufferStats {
    /// Messages that are queued now.
    pub depth: usize,
    /// The most messages that were ever queued at once.
    pub high_water: usize,
    /// Bytes of change events (BSON) that are queued now.
    pub bytes: usize,
    /// The bound in messages.
    pub capacity: usize,
    /// The bound in bytes of change events (BSON).
    pub max_bytes: usize,
    /// Failures of workers that no consumer has received yet.
    pub failures: usize,
    /// Milliseconds for which workers have waited for room, added up over all workers; waits that
    /// still last count up to now.
    pub waited_ms: u64,
    /// Whether the buffer was closed.
    pub closed: bool,
    /// The workers that run, in the order of their starts, then those that have ended, in the order
    /// of their ends. One that has ended stays here for as long as its handle lives, and afterwards
    /// until 16 others without a handle have ended.
    pub workers: Vec<WorkerStats>,
}

/// What one worker has done, and how far it lags.
///
/// The fields have the names and units of [`BufferStats::to_json`]. After the end of the worker all
/// of them stay, and those that count time go on.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WorkerStats {
    /// The worker's name.
    pub name: String,
    /// What it is doing.
    pub state: WorkerState,
    /// What it watches: "shop.orders", "shop" for a database, "shop.{items,orders}" for several
    /// collections, a long list cut short, "*" for a deployment.
    pub namespace: String,
    /// Events that it has read from the server, and documents of a snapshot; messages of the library's
    /// own count too. It reads ahead: up to two replies of the server are read and not yet queued.
    pub received: u64,
    /// The size of these events in bytes (BSON).
    pub received_bytes: u64,
    /// Messages that consumers have taken out of the buffer.
    pub delivered: u64,
    /// The size of these messages' events in bytes (BSON).
    pub delivered_bytes: u64,
    /// Events that were received and are not acked: those read ahead, queued, held by
    /// consumers, and those that were dropped without an ack, which stay for ever.
    pub unacked: u64,
    /// How often the stream was opened again after it had been open before.
    pub reconnects: u64,
    /// How often it has begun to open the stream, successfully or not, or tried in vain to load its
    /// checkpoint. It grows while the deployment cannot be reached.
    pub attempts: u64,
    /// Why it failed; else what last kept the stream from opening or broke it. It stays when the
    /// worker has recovered. Its text names the deployment without credentials.
    pub last_error: Option<Error>,
    /// Milliseconds between the cluster time up to which the stream is read and this machine's
    /// clock now, also where no event matches. `None` before the stream was open. Cluster times are
    /// whole seconds, so it is up to 1000 too large; 0 where the server's clock is ahead.
    pub lag_ms: Option<u64>,
    /// Milliseconds since the server last sent events. `None` before the first.
    pub last_event_ms_ago: Option<u64>,
    /// Milliseconds since the stream was opened, the last time. `None` before the first.
    pub opened_ms_ago: Option<u64>,
    /// Milliseconds since the checkpoint was last known to hold the acked position: when it
    /// was loaded or saved, or was to be saved and held that position already. `None` without a
    /// checkpoint, and before the first time.
    pub checkpoint_saved_ms_ago: Option<u64>,
    /// Milliseconds between the cluster time of the position in the checkpoint and this machine's
    /// clock now: how far back a restart would begin. `None` without a checkpoint and before the
    /// first was loaded or saved; as coarse as `lag_ms`.
    pub checkpoint_lag_ms: Option<u64>,
    /// Why the checkpoint could not be saved, the last time. `None` again once it could.
    pub checkpoint_error: Option<Error>,
    /// How far its snapshot has come, the last one of this run. `None` without one.
    pub snapshot: Option<SnapshotStats>,
    /// Who holds its lease. `None` without the option `standby`, and before it is known.
    pub lease: Option<LeaseStats>,
}

/// Who holds a worker's lease, as the worker has seen it last.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LeaseStats {
    /// The process that holds it, as `host:process`.
    pub holder: String,
    /// Grows by one whenever the lease is taken.
    pub term: i64,
    /// When it was taken: milliseconds since 1970, by the server's clock.
    pub since_unix_ms: i64,
    /// Whether this worker may hand over now.
    pub held: bool,
}

/// How far a snapshot has come.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SnapshotStats {
    /// Whether all of it is read; messages may still be queued.
    pub finished: bool,
    /// The collection that is or was read last; empty before the first.
    pub namespace: String,
    /// Documents that this run has read.
    pub documents: u64,
    /// About how many documents there were in all collections that were still to be read, or to be read
    /// to their end, when this run began to read.
    pub estimated: u64,
}

impl BufferStats {
    /// All figures as JSON on one line, as `ms_buffer_stats` gives them; the keys are the names of
    /// the fields. `docs/STATISTICS.md` describes each.
    pub fn to_json(&self) -> String {
        let workers: Vec<Value> = self.workers.iter().map(WorkerStats::to_value).collect();
        let value = json!({
            "depth": self.depth,
            "high_water": self.high_water,
            "bytes": self.bytes,
            "capacity": self.capacity,
            "max_bytes": self.max_bytes,
            "failures": self.failures,
            "waited_ms": self.waited_ms,
            "closed": self.closed,
            "workers": workers,
        });
        value.to_string()
    }
}

impl WorkerStats {
    fn to_value(&self) -> Value {
        let status = self.last_error.as_ref().map(|error| error.kind().status_name());
        json!({
            "name": self.name,
            "state": self.state.name(),
            "namespace": self.namespace,
            "received": self.received,
            "received_bytes": self.received_bytes,
            "delivered": self.delivered,
            "delivered_bytes": self.delivered_bytes,
            "unacked": self.unacked,
            "reconnects": self.reconnects,
            "attempts": self.attempts,
            "last_error": self.last_error.as_ref().map(Error::to_string),
            "last_error_status": status,
            "lag_ms": self.lag_ms,
            "last_event_ms_ago": self.last_event_ms_ago,
            "opened_ms_ago": self.opened_ms_ago,
            "checkpoint_saved_ms_ago": self.checkpoint_saved_ms_ago,
            "checkpoint_lag_ms": self.checkpoint_lag_ms,
            "checkpoint_error": self.checkpoint_error.as_ref().map(Error::to_string),
            "snapshot": self.snapshot.as_ref().map(|snapshot| json!({
                "finished": snapshot.finished,
                "namespace": snapshot.namespace,
                "documents": snapshot.documents,
                "estimated": snapshot.estimated,
            })),
            "lease": self.lease.as_ref().map(|lease| json!({
                "holder": lease.holder,
                "term": lease.term,
                "since_unix_ms": lease.since_unix_ms,
                "held": lease.held,
            })),
        })
    }
}

/// What is counted of one worker beside its acks, which count what it has read.
pub(crate) struct Meter {
    made: Instant,
    received_bytes: AtomicU64,
    delivered: AtomicU64,
    delivered_bytes: AtomicU64,
    reconnects: AtomicU64,
    attempts: AtomicU64,
    /// Seconds since 1970 in the last token that was read; 0 before the first.
    cluster_time: AtomicU64,
    /// Milliseconds after `made`, plus 1; 0 is never.
    last_event: AtomicU64,
    opened: AtomicU64,
    last_error: Mutex<Option<Error>>,
    /// Like `cluster_time`, of the token in the checkpoint.
    checkpoint_time: AtomicU64,
    checkpoint_saved: AtomicU64,
    checkpoint_error: Mutex<Option<Error>>,
    snapshot: Mutex<Option<SnapshotStats>>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        Self {
            made: Instant::now(),
            received_bytes: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            delivered_bytes: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
            attempts: AtomicU64::new(0),
            cluster_time: AtomicU64::new(0),
            last_event: AtomicU64::new(0),
            opened: AtomicU64::new(0),
            last_error: Mutex::new(None),
            checkpoint_time: AtomicU64::new(0),
            checkpoint_saved: AtomicU64::new(0),
            checkpoint_error: Mutex::new(None),
            snapshot: Mutex::new(None),
        }
    }

    /// The server has sent a reply, perhaps one without events.
    pub(crate) fn received(&self, reply: &Reply) {
        if !reply.spans().is_empty() {
            let bytes: usize = reply.spans().iter().map(ExactSizeIterator::len).sum();
            self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            self.last_event.store(self.now(), Ordering::Relaxed);
        }
        if let Some(seconds) = reply.token().and_then(|token| token::token_seconds(token)) {
            self.cluster_time.store(seconds.into(), Ordering::Relaxed);
        }
    }

    /// A consumer has taken messages.
    pub(crate) fn delivered(&self, messages: usize, bytes: usize) {
        self.delivered.fetch_add(messages as u64, Ordering::Relaxed);
        self.delivered_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The stream is open.
    pub(crate) fn opened(&self) {
        if self.opened.swap(self.now(), Ordering::Relaxed) != 0 {
            self.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The stream is about to be opened.
    pub(crate) fn attempted(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    /// The stream broke, could not be opened, or its checkpoint not be saved; it will be tried again.
    pub(crate) fn troubled(&self, error: Error) {
        *lock(&self.last_error) = Some(error);
    }

    /// The checkpoint holds this token, which is the acked position.
    pub(crate) fn checkpoint_holds(&self, token: &Token) {
        let seconds = token::token_seconds(token).unwrap_or(0);
        self.checkpoint_time.store(seconds.into(), Ordering::Relaxed);
        self.checkpoint_saved.store(self.now(), Ordering::Relaxed);
        *lock(&self.checkpoint_error) = None;
    }

    /// About so many documents are to be read.
    pub(crate) fn snapshot_begins(&self, estimated: u64) {
        let mut snapshot = lock(&self.snapshot);
        // After an interruption the first figures hold.
        if snapshot.as_ref().is_none_or(|snapshot| snapshot.finished) {
            let namespace = String::new();
            *snapshot = Some(SnapshotStats { finished: false, namespace, documents: 0, estimated });
        }
    }

    /// The server has sent documents of a snapshot.
    pub(crate) fn snapshot_reads(&self, namespace: &Namespace, documents: &Reply) {
        let bytes: usize = documents.spans().iter().map(ExactSizeIterator::len).sum();
        self.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(snapshot) = &mut *lock(&self.snapshot) {
            snapshot.namespace = namespace.full();
            snapshot.documents += documents.spans().len() as u64;
        }
    }

    pub(crate) fn snapshot_ends(&self) {
        if let Some(snapshot) = &mut *lock(&self.snapshot) {
            snapshot.finished = true;
        }
    }

    /// The checkpoint could not be saved.
    pub(crate) fn checkpoint_failed(&self, error: Error) {
        *lock(&self.checkpoint_error) = Some(error);
    }

    /// The figures, with those that are counted elsewhere.
    pub(crate) fn stats(
        &self,
        name: &str,
        namespace: &str,
        state: WorkerState,
        failure: Option<Error>,
        (received, unacked): (u64, u64),
    ) -> WorkerStats {
        WorkerStats {
            name: name.to_owned(),
            state,
            namespace: namespace.to_owned(),
            received,
            received_bytes: self.received_bytes.load(Ordering::Relaxed),
            delivered: self.delivered.load(Ordering::Relaxed),
            delivered_bytes: self.delivered_bytes.load(Ordering::Relaxed),
            unacked,
            reconnects: self.reconnects.load(Ordering::Relaxed),
            attempts: self.attempts.load(Ordering::Relaxed),
            last_error: failure.or_else(|| lock(&self.last_error).clone()),
            lag_ms: lag(&self.cluster_time),
            last_event_ms_ago: self.ago(&self.last_event),
            opened_ms_ago: self.ago(&self.opened),
            checkpoint_saved_ms_ago: self.ago(&self.checkpoint_saved),
            checkpoint_lag_ms: lag(&self.checkpoint_time),
            checkpoint_error: lock(&self.checkpoint_error).clone(),
            snapshot: lock(&self.snapshot).clone(),
            lease: None,
        }
    }

    fn now(&self) -> u64 {
        milliseconds(self.made.elapsed()) + 1
    }

    fn ago(&self, moment: &AtomicU64) -> Option<u64> {
        let moment = moment.load(Ordering::Relaxed);
        (moment != 0).then(|| self.now().saturating_sub(moment))
    }
}

fn lock<T>(error: &Mutex<T>) -> MutexGuard<'_, T> {
    error.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From a cluster time in seconds since 1970 to now; `None` for 0.
fn lag(cluster_time: &AtomicU64) -> Option<u64> {
    let seconds = cluster_time.load(Ordering::Relaxed);
    (seconds != 0).then(|| {
        let position = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        SystemTime::now().duration_since(position).map_or(0, milliseconds)
    })
}

/// Whole milliseconds, saturating.
pub(crate) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
