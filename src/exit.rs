//! The end of the process: every wait ends, so that a host that joins its threads at exit is not kept by
//! one that receives.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use tokio::sync::Notify;

use crate::fork::Origin;

/// What is closed when the process ends. It must not wait.
pub(crate) trait Close: Send + Sync {
    fn close(&self);
}

/// The process ends, and every buffer is closed, new ones too.
static ENDS: AtomicBool = AtomicBool::new(false);

/// The thread for network I/O is to close them.
static ASKED: Notify = Notify::const_new();

/// The buffers of a process. A forked child has a list of its own: the lock of its parent's may be held for
/// ever.
struct Buffers {
    origin: Origin,
    queues: Mutex<Vec<Weak<dyn Close>>>,
    child: OnceLock<Box<Buffers>>,
}

static FIRST: OnceLock<Buffers> = OnceLock::new();

impl Buffers {
    fn new() -> Self {
        Self { origin: Origin::here(), queues: Mutex::default(), child: OnceLock::new() }
    }

    fn here() -> &'static Self {
        let mut buffers = FIRST.get_or_init(Self::new);
        while !buffers.origin.is_here() {
            buffers = buffers.child.get_or_init(|| Box::new(Self::new()));
        }
        buffers
    }

    fn close(&self) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for queue in queues.iter().filter_map(Weak::upgrade) {
            queue.close();
        }
    }
}

/// To be called with each new buffer.
pub(crate) fn register(queue: &Arc<impl Close + 'static>) {
    let mut queues = Buffers::here().queues.lock().unwrap_or_else(PoisonError::into_inner);
    // When it would grow, so that a buffer costs the same however many there were.
    if queues.len() == queues.capacity() {
        queues.retain(|queue| queue.strong_count() > 0);
    }
    let weak = Arc::downgrade(queue);
    queues.push(weak);
    drop(queues);
    // After it was added: whoever set this has closed those that were there before.
    if ENDS.load(Ordering::SeqCst) {
        queue.close();
    }
}

/// Ends every wait of this process, now and from now on: every [`Buffer`](crate::Buffer) is closed, and so
/// is each that is made later.
///
/// For hosts that wait at their end for threads which may be receiving, such as a native module of Node: call
/// it where the host tells that it exits. Buffers that were made from C are closed by themselves as soon as the
/// process runs what is registered with `atexit`. Never waits. In a forked child it concerns the child's buffers.
pub fn shutdown() {
    ENDS.store(true, Ordering::SeqCst);
    Buffers::here().close();
}

/// As [`shutdown`], at the exit of the process. A signal's handler may have called `exit`, perhaps in the middle
/// of a receive or of malloc: so where there is another thread to take the locks, this one takes none of ours.
pub(crate) fn at_exit(has_io: bool) {
    if has_io {
        ENDS.store(true, Ordering::SeqCst);
        ASKED.notify_one();
    } else {
        shutdown();
    }
}

/// For the thread for network I/O: waits until it is asked to close every buffer, and does it.
pub(crate) async fn closing() {
    ASKED.notified().await;
    Buffers::here().close();
}
