//! How a message is written: its shape, and the Extended JSON of its values.

/// Which Extended JSON v2 values are written in. The specification has these two and no other, so you may match both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ExtendedJson {
    /// Easy to read: numbers are JSON numbers and dates ISO 8601 where that is possible.
    #[default]
    Relaxed,
    /// Every type kept: numbers and dates are wrapped as well, as in `{"$numberInt":"5"}`.
    Canonical,
}

/// Which shape a change event takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// One flat shape for every kind of event, always with `DocumentKey`, `Namespace`, `OperationType` and
    /// `UpdateDescription`, and more keys where the event has more.
    #[default]
    Oplog,
    /// The server's change event, field for field.
    Event,
}

/// How a worker's messages are written.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Style {
    pub(crate) format: Format,
    pub(crate) mode: ExtendedJson,
    /// Oplog JSON of updates has `UpdatedPaths`.
    pub(crate) updated_paths: bool,
}
