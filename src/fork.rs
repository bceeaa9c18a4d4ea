//! Threads do not survive `fork`. What was made before it answers with an error in the child
//! instead of waiting for threads that are not there.

use crate::error::{Error, ErrorKind, Result};

/// The process in which something was made.
#[derive(Clone, Copy)]
pub(crate) struct Origin(u32);

impl Origin {
    pub(crate) fn here() -> Self {
        Self(std::process::id())
    }

    pub(crate) fn is_here(self) -> bool {
        self.0 == std::process::id()
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
