//! What the flow asks of a broker.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::future::LocalBoxFuture;

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

/// The broker's answer to a message that was sent.
pub(crate) type Answer<'a> = LocalBoxFuture<'a, Result<Taken, Refusal>>;

/// A broker that is connected.
pub(crate) trait Broker {
    /// Whether records that have the same key are stored in the order in which they were sent, whatever fails in between.
    const KEEPS_ORDER: bool;

    /// Sends a record. What is given back waits until the broker has acknowledged it; where the broker keeps the order it
    /// is never refused for now.
    fn send(&self, record: Rc<Record>) -> impl Future<Output = Result<Answer<'_>, Refusal>>;

    /// Is told that a record was refused several times in a row, for now.
    fn is_stuck(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }

    /// Writes a name of the database in a form that may be part of a subject or topic.
    fn write_name(name: &str, text: &mut String);
}
