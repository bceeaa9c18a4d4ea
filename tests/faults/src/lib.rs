//! Proof of mongostream under faults: whatever breaks, every event arrives.
//!
//! A *writer* writes to a private replica set of three members and notes what is acknowledged. A
//! *consumer*, a process of its own, follows it with three workers that have checkpoints, and tells what
//! it receives, acknowledges and saves. *Faults* happen to the servers, the network and the consumer, and
//! each has to prove that it did. A *referee* compares.
//!
//! [`plan::run`] does all of it; the binary is its command line.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::fmt::Display;
use std::time::{Duration, Instant};

pub mod adapter;
pub mod consumer;
pub mod fault;
pub mod history;
pub mod life;
pub mod pipes;
pub mod plan;
pub mod proxy;
pub mod random;
pub mod referee;
pub mod report;
pub mod table;
pub mod writer;

/// What keeps a run from its end, in words.
pub type Error = Box<dyn std::error::Error + Send + Sync>;
/// The result of what may go wrong for reasons beside the library under test.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Adds what was being done to an error.
pub(crate) trait Context<T> {
    fn context(self, doing: &str) -> Result<T>;
}

impl<T, E: Display> Context<T> for Result<T, E> {
    fn context(self, doing: &str) -> Result<T> {
        self.map_err(|error| format!("{doing}: {error}").into())
    }
}

/// Waits until there is a value, looking every 5 ms.
pub(crate) fn wait_for<T>(
    deadline: Duration,
    what: &str,
    mut attempt: impl FnMut() -> Option<T>,
) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = attempt() {
            return Ok(value);
        }
        if Instant::now() >= end {
            return Err(format!("not within {deadline:?}: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
