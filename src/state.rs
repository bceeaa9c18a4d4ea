//! What a worker is doing.

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
}

impl WorkerState {
    pub(crate) const ALL: [WorkerState; 5] = [
        WorkerState::Starting,
        WorkerState::Streaming,
        WorkerState::Reconnecting,
        WorkerState::Stopped,
        WorkerState::Failed,
    ];
}
