//! How long somebody is ready to wait, and how such a wait has ended.

use std::time::{Duration, Instant};

/// How long a consumer is ready to wait.
#[derive(Clone, Copy)]
pub enum Wait {
    /// Not at all.
    Not,
    /// Until then.
    Until(Instant),
    /// For as long as it takes.
    ForEver,
}

impl Wait {
    /// A time beyond the clock's range is for ever.
    pub fn at_most(timeout: Duration) -> Self {
        if timeout.is_zero() {
            return Wait::Not;
        }
        Instant::now().checked_add(timeout).map_or(Wait::ForEver, Wait::Until)
    }
}

/// How a wait with a time limit ended. There will be no other way: match all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waited {
    /// What was waited for has happened.
    Done,
    /// It has not happened within the time.
    Timeout,
    /// It will not happen: the worker was stopped before.
    Stopped,
}

/// What a receive with a time limit found. There will be nothing else: match all of it.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<T> {
    /// A message or batch.
    Some(T),
    /// Nothing came within the time.
    Timeout,
    /// The buffer is drained, and closed or without a running worker: nothing more will come
    /// unless another worker is started.
    Closed,
}

impl<T> Received<T> {
    pub(crate) fn map<U>(self, map: impl FnOnce(T) -> U) -> Received<U> {
        match self {
            Received::Some(value) => Received::Some(map(value)),
            Received::Timeout => Received::Timeout,
            Received::Closed => Received::Closed,
        }
    }

    /// The message or batch, if one came.
    pub fn some(self) -> Option<T> {
        match self {
            Received::Some(value) => Some(value),
            Received::Timeout | Received::Closed => None,
        }
    }
}
