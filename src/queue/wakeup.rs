//! A descriptor that event loops can poll for a buffer.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};

/// A socket pair whose outer end is readable while it is *shown* as ready.
///
/// A pair and not an eventfd, because every Unix has it.
pub(crate) struct Wakeup {
    outer: UnixStream,
    inner: UnixStream,
    ready: AtomicBool,
}

impl Wakeup {
    pub(crate) fn new() -> io::Result<Self> {
        let (outer, inner) = UnixStream::pair()?;
        outer.set_nonblocking(true)?;
        inner.set_nonblocking(true)?;
        Ok(Self { outer, inner, ready: AtomicBool::new(false) })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.outer.as_fd()
    }

    /// Callers hold the buffer's lock, so that the descriptor follows the buffer's state in order.
    pub(crate) fn show(&self, ready: bool) {
        if self.ready.swap(ready, Ordering::Relaxed) == ready {
            return;
        }
        // Neither can fail: there is never more than one byte in the pair.
        let _ = if ready { (&self.inner).write(&[1]) } else { (&self.outer).read(&mut [0]) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_descriptor_is_readable_while_it_is_shown_as_ready() {
        let wakeup = Wakeup::new().unwrap();
        let mut end = wakeup.outer.try_clone().unwrap();
        for _ in 0..3 {
            assert_eq!(end.read(&mut [0]).unwrap_err().kind(), io::ErrorKind::WouldBlock);
            wakeup.show(true);
            wakeup.show(true);
            assert_eq!(end.read(&mut [0; 9]).unwrap(), 1, "one byte, however often it is shown");
            // As it was: nobody else reads from it.
            (&wakeup.inner).write_all(&[1]).unwrap();
            wakeup.show(false);
        }
    }
}
