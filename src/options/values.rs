//! The values that options take.

/// Where a stream begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Start {
    /// With the first change after the cursor was opened.
    #[default]
    Now,
    /// With the first change at or after a cluster time (MongoDB manual, `$changeStream`,
    /// `startAtOperationTime`).
    Time {
        /// Seconds since 1970-01-01 UTC.
        seconds: u32,
        /// The ordinal within the second; 0 is the whole second.
        increment: u32,
    },
    /// After the event with this resume token, JSON as [`Message::resume_token`] gives it
    /// (`resumeAfter`: the server refuses the token of an `invalidate`).
    ///
    /// [`Message::resume_token`]: crate::Message::resume_token
    ResumeAfter(String),
    /// As `ResumeAfter`, and takes the token of an `invalidate` too (`startAfter`).
    StartAfter(String),
    /// After the message with this position, as [`Message::position`] gives it: also in the middle of a snapshot, which
    /// is then finished first. An empty text is the same as no start: what you have before you have stored one. With
    /// [`Watch::snapshot`] a program can say both each time: the snapshot comes where there is no position.
    ///
    /// [`Message::position`]: crate::Message::position
    /// [`Watch::snapshot`]: crate::Watch::snapshot
    Position(String),
}

impl Start {
    /// At the beginning of a second, seconds since 1970-01-01 UTC, inclusive.
    pub fn at(seconds: u32) -> Self {
        Start::Time { seconds, increment: 0 }
    }
}

/// Which version of a changed document the server sends along with an update
/// (MongoDB manual, `$changeStream`, `fullDocument`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FullDocument {
    /// None for updates; inserts and replaces always carry theirs.
    #[default]
    Default,
    /// The document as it is when the event is read: it may be newer than the event, or null.
    UpdateLookup,
    /// The document right after the change if the server has it (6.0, with pre- and post-images).
    WhenAvailable,
    /// As `WhenAvailable`, and the stream fails where the server does not have it.
    Required,
}

impl FullDocument {
    pub(crate) const NAMES: [(&'static str, FullDocument); 4] = [
        ("default", FullDocument::Default),
        ("updateLookup", FullDocument::UpdateLookup),
        ("whenAvailable", FullDocument::WhenAvailable),
        ("required", FullDocument::Required),
    ];
}

/// Whether the server sends along the document as it was before a change
/// (MongoDB manual, `$changeStream`, `fullDocumentBeforeChange`; 6.0, with pre- and post-images).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FullDocumentBeforeChange {
    /// It does not.
    #[default]
    Off,
    /// If the server has it; else it is null.
    WhenAvailable,
    /// Always, and the stream fails where the server does not have it.
    Required,
}

impl FullDocumentBeforeChange {
    pub(crate) const NAMES: [(&'static str, FullDocumentBeforeChange); 3] = [
        ("off", FullDocumentBeforeChange::Off),
        ("whenAvailable", FullDocumentBeforeChange::WhenAvailable),
        ("required", FullDocumentBeforeChange::Required),
    ];
}

/// What happens when what is watched was dropped or renamed (MongoDB manual, "Change Events",
/// `invalidate`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnInvalidate {
    /// The stream goes on with what comes by the same name.
    #[default]
    Continue,
    /// The worker ends with [`ErrorKind::Invalidated`](crate::ErrorKind::Invalidated).
    Stop,
}

/// What happens when the oplog no longer holds the point from which the stream is to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnHistoryLost {
    /// The worker ends with [`ErrorKind::HistoryLost`](crate::ErrorKind::HistoryLost).
    #[default]
    Fail,
    /// The stream goes on from now. A message of the library's own stands before its first event, with
    /// the operation `gap`; its `operationDescription` says `from` which cluster time `to` which
    /// changes may be missing. Until that message is acked the worker's resume token stays where it
    /// was, so that no crash hides the loss.
    Restart,
    /// As `Restart`, and after that message every document that exists, as a snapshot.
    Snapshot,
}

/// Whether the documents that exist are delivered before the stream, each as a message of the library's
/// own with the operation `snapshot` that carries it as `fullDocument`.
///
/// The stream goes on from a point before the snapshot: no change is missing, a change that a snapshot's
/// document already has comes again after it, and of each document the last state comes last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Snapshot {
    /// They are not.
    #[default]
    Never,
    /// Where there is no checkpoint yet.
    Initial,
    /// Whenever the worker starts.
    Always,
}

/// What happens with a change event that is larger than the 16 MB of one message of the server
/// (MongoDB manual, "Change Streams", "Change Streams and BSON Size Limit").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOversized {
    /// The server sends it in parts, which are put together again: it is one message like any other.
    /// Where the server cannot (before MongoDB 6.0.9, or a single field is too large), as `Fail`.
    #[default]
    Split,
    /// The worker ends with [`ErrorKind::Oversized`](crate::ErrorKind::Oversized), after everything
    /// that comes before that event.
    Fail,
    /// A message of the library's own stands in its place, with the operation `oversized`. It has the
    /// event's resume token, namespace, document key and time; its `operationDescription` says which
    /// `operationType` the event has.
    Skip,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_at_a_second_begins_with_its_first_change() {
        assert_eq!(Start::at(5), Start::Time { seconds: 5, increment: 0 });
    }
}
