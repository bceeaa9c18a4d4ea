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

/// Why a broker has not acked a message.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The broker may take it later.
    ForNow(String),
    /// It never will.
    ForGood(String),
}

/// Names a record that was sent, in the broker's answer. No two records of a process have the same.
pub(crate) type Number = usize;

/// Answers to records that were sent.
pub(crate) type Answers<E> = Vec<(Number, Result<Taken, E>)>;

/// A broker that is connected.
pub(crate) trait Broker {
    /// Whether records that have the same key are stored in the order in which they were sent, whatever fails in between.
    const KEEPS_ORDER: bool;

    /// Why the broker has not acked a record.
    type Problem;

    /// Sends a record, and does not wait until the broker has it. After an error there will be no answer.
    fn send(&self, number: Number, record: &Record) -> impl Future<Output = Result<(), Refusal>>;

    /// Waits for answers, and adds them. A record that the broker does not answer in time gets an answer that says so. Each
    /// record gets one. Dropping the future loses none.
    fn answered(&self, answers: &mut Answers<Self::Problem>) -> impl Future<Output = ()>;

    /// What a problem means for a record. A broker that keeps the order never refuses one for now.
    fn refusal(&self, problem: &Self::Problem, record: &Record) -> Refusal;

    /// Is told that a record was refused several times in a row, for now.
    fn is_stuck(&self) -> impl Future<Output = ()> {
        std::future::ready(())
    }

    /// Writes a name of the database in a form that may be part of a subject or topic.
    fn write_name(name: &str, text: &mut String);
}
