//! Threads do not survive `fork`. What was made before it answers with an error in the child
//! instead of waiting for threads that are not there.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

use crate::capi::boundary::on_fork;
use crate::error::{Error, ErrorKind, Result};

/// Forks between the first process that used this library and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// How it is known which process this is: decided once, by the first that asks.
static WAY: AtomicU8 = AtomicU8::new(UNDECIDED);

const UNDECIDED: u8 = 0;
/// The system calls [`forked`].
const COUNTED: u8 = 1;
/// The system has no room for that.
const ASKED: u8 = 2;

extern "C" fn forked() {
    FORKS.fetch_add(1, Relaxed);
}

/// Which process this is. To ask the system each time is a tenth of a message's cost.
fn process() -> u32 {
    match WAY.load(Relaxed) {
        COUNTED => FORKS.load(Relaxed),
        _ => std::process::id(),
    }
}

/// The process in which something was made.
#[derive(Clone, Copy)]
pub(crate) struct Origin(u32);

impl Origin {
    pub(crate) fn here() -> Self {
        // No lock, which a thread that is not in the child could hold. Two threads may both get here: each
        // fork then counts twice.
        if WAY.load(Relaxed) == UNDECIDED {
            let way = if on_fork(forked) { COUNTED } else { ASKED };
            // Another thread was first: its answer holds for both.
            let _ = WAY.compare_exchange(UNDECIDED, way, Relaxed, Relaxed);
        }
        Self(process())
    }

    pub(crate) fn is_here(self) -> bool {
        self.0 == process()
    }

    pub(crate) fn check(self) -> Result<()> {
        if self.is_here() {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Forked,
            "this process was forked after mongostream had started its threads, which do not exist \
             in the child; start mongostream in the child only, or call exec after fork",
        ))
    }
}
