//! What the flow asks of a broker.

use bytes::Bytes;

/// A message in the form in which it is sent.
#[derive(Debug)]
pub(crate) struct Record {
    /// The subject or the topic.
    pub(crate) place: String,
    /// Names the message in the stream: its resume token. `None` for a document of a snapshot.
    pub(crate) id: Option<String>,
    /// The id of the document, or the namespace of what concerns no document.
    pub(crate) key: String,
    pub(crate) payload: Bytes,
}

/// What a broker has said of a message that it holds now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    New,
    /// It held the message already.
    Again,
}

/// Why a broker has not acknowledged a message.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The broker may take it later.
    ForNow(String),
    /// It never will.
    ForGood(String),
}

/// A broker that is connected.
pub(crate) trait Broker {
    /// Whether two records that are sent one after the other, and that have the same key, are stored in that order,
    /// whatever fails in between.
    const KEEPS_ORDER: bool;

    /// Sends a record and waits until the broker has acknowledged it.
    fn send(&self, record: &Record) -> impl Future<Output = Result<Taken, Refusal>>;

    /// Writes a name of the database in a form that may be part of a subject or topic.
    fn write_name(name: &str, text: &mut String);
}
