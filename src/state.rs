//! What a worker is doing.

use std::fmt;

/// What a worker is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WorkerState {
    /// It connects and opens its cursor for the first time.
    Starting,
    /// Its cursor is open.
    Streaming,
    /// Its cursor broke and it is opening it again, from where it was.
    Reconnecting,
    /// It has ended because it was asked to.
    Stopped,
    /// It has ended with a failure.
    Failed,
    /// Another worker holds its lease. It takes over when that one is gone (option `standby`).
    Standby,
}

/// In lower case: `streaming`.
impl fmt::Display for WorkerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl WorkerState {
    /// As the statistics name it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            WorkerState::Starting => "starting",
            WorkerState::Streaming => "streaming",
            WorkerState::Reconnecting => "reconnecting",
            WorkerState::Stopped => "stopped",
            WorkerState::Failed => "failed",
            WorkerState::Standby => "standby",
        }
    }

    pub(crate) const ALL: [WorkerState; 6] = [
        WorkerState::Starting,
        WorkerState::Streaming,
        WorkerState::Reconnecting,
        WorkerState::Stopped,
        WorkerState::Failed,
        WorkerState::Standby,
    ];
}
