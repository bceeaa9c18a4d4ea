//! Threads do not survive `fork`. What was made before it answers with an error in the child
//! instead of waiting for threads that are not there. And files that such a child must not keep open.

use std::fs::File;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering::Relaxed};

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
    #[cfg(unix)]
    private::close_all();
}

/// From now on `handler` runs in each child that `fork` makes, before `fork` returns there: whether the
/// system has taken it. It must do nothing that is unsafe in a signal handler.
#[cfg(unix)]
#[allow(unsafe_code)]
fn on_fork(handler: extern "C" fn()) -> bool {
    type Handler = Option<extern "C" fn()>;
    unsafe extern "C" {
        // The libc crate declares it for other systems only.
        fn pthread_atfork(prepare: Handler, parent: Handler, child: Handler) -> std::ffi::c_int;
    }
    // SAFETY: declared as POSIX does; the handler is a function of this library, for which the system
    // forgets it when the library is unloaded.
    unsafe { pthread_atfork(None, None, Some(handler)) == 0 }
}

#[cfg(not(unix))]
fn on_fork(_handler: extern "C" fn()) -> bool {
    false
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

/// A file that no forked child keeps open: a lock on it must not outlive the process that took it.
pub(crate) struct PrivateFile {
    file: Option<File>,
    origin: Origin,
    #[cfg(unix)]
    slot: &'static private::Slot,
}

impl PrivateFile {
    pub(crate) fn new(file: File) -> Self {
        // First: this asks the system to call `forked`.
        let origin = Origin::here();
        #[cfg(unix)]
        let slot = private::keep(&file);
        Self {
            file: Some(file),
            origin,
            #[cfg(unix)]
            slot,
        }
    }

    /// `None` in a forked child.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref().filter(|_| self.origin.is_here())
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        #[cfg(unix)]
        if self.origin.is_here() {
            private::let_go(self.slot);
        } else if let Some(file) = self.file.take() {
            // Closed already: by now the number may be another file's.
            let _ = std::os::fd::IntoRawFd::into_raw_fd(file);
        }
    }
}

/// Their descriptors, so that [`forked`] finds them without a lock, which a thread that is not in the child
/// could hold.
#[cfg(unix)]
mod private {
    use std::fs::File;
    use std::os::fd::AsRawFd;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI32, Ordering};

    pub(super) type Slot = AtomicI32;

    const FREE: i32 = -1;

    /// As many as any program needs at a time, and more where one needs more.
    struct Slots {
        descriptors: [Slot; 64],
        more: OnceLock<Box<Slots>>,
    }

    impl Slots {
        const fn new() -> Self {
            Self { descriptors: [const { Slot::new(FREE) }; 64], more: OnceLock::new() }
        }
    }

    static SLOTS: Slots = Slots::new();

    pub(super) fn keep(file: &File) -> &'static Slot {
        let descriptor = file.as_raw_fd();
        let mut slots = &SLOTS;
        loop {
            let mut all = slots.descriptors.iter();
            let free = all.find(|slot| {
                let (new, order) = (descriptor, Ordering::AcqRel);
                slot.compare_exchange(FREE, new, order, Ordering::Relaxed).is_ok()
            });
            match free {
                Some(slot) => return slot,
                None => slots = slots.more.get_or_init(|| Box::new(Slots::new())),
            }
        }
    }

    pub(super) fn let_go(slot: &Slot) {
        slot.store(FREE, Ordering::Release);
    }

    /// Does nothing but what is safe in a signal handler.
    pub(super) fn close_all() {
        let mut next = Some(&SLOTS);
        while let Some(slots) = next {
            for slot in &slots.descriptors {
                let descriptor = slot.swap(FREE, Ordering::AcqRel);
                if descriptor != FREE {
                    // It is the child's own copy; the parent's stays open.
                    let _ = nix::unistd::close(descriptor);
                }
            }
            next = slots.more.get().map(|more| &**more);
        }
    }
}
