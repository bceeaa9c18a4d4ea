//! What the C library does with the memory of replies that are gone.
//!
//! glibc gives it back to the system as soon as twice the size of the largest piece ever freed lies free
//! (mallopt(3), `M_MMAP_THRESHOLD`, "dynamic"), which two replies of the same size are. Taking it again for
//! the next reply, page by page, was a tenth of a client's time with replies of 3 MB.
//!
//! This concerns the whole process, so docs/PRODUCTION.md says it, and how to switch it off.

use std::hint::black_box;

/// How large the replies were for which memory is kept.
#[derive(Default)]
pub(crate) struct Heap {
    kept: usize,
}

impl Heap {
    /// Lets glibc keep the memory of some replies of this size: it adapts to a larger piece that is freed.
    /// Nothing is written to that piece, so it takes no memory. With other C libraries this does nothing, and also
    /// where the host has set one of glibc's thresholds: then none of them is adapted.
    pub(crate) fn keeps(&mut self, size: usize) {
        /// What is more takes long to read in any case.
        const LARGEST: usize = 16 << 20;
        if size > self.kept && self.kept < LARGEST {
            // The next replies may be a little larger.
            self.kept = size.saturating_mul(2).min(LARGEST);
            drop(black_box(Vec::<u8>::with_capacity(self.kept.saturating_mul(2).min(LARGEST))));
        }
    }
}
