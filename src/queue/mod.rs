//! The bounded queue, and what comes out of it.

pub(crate) mod bounded;
pub(crate) mod buffer;
mod contents;
pub(crate) mod events;
pub(crate) mod group;
pub(crate) mod message;
#[cfg(unix)]
pub(crate) mod wakeup;
