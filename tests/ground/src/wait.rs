use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Error;

/// Waits until `done` is true, looking every 5 ms.
///
/// # Panics
///
/// Once `deadline` has passed, with `what` in the message.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !done() {
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Waits until `attempt` gives a value, trying every 5 ms.
///
/// # Panics
///
/// Once `deadline` has passed.
#[track_caller]
pub fn eventually<T>(deadline: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "no value within {deadline:?}");
        sleep(Duration::from_millis(5));
    }
}

/// The same for the crate itself: errors instead of panics.
pub(crate) fn poll<T>(
    end: Instant,
    what: &str,
    mut attempt: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    loop {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            return Err(Error::new(format!("not within the deadline: {what}")));
        }
        sleep(Duration::from_millis(10));
    }
}
