//! What a consumer holds: one message, or a batch of them.
//!
//! Messages made from one server reply share its memory; nothing is parsed or copied until a
//! consumer asks. A large reply is copied in small groups instead, so that one message kept for
//! long never keeps 16 MB alive (see [`Events::SHARE_LIMIT`]). The JSON of neighbours is written
//! together where that saves work (see [`Group`]).

use std::sync::{Arc, OnceLock};

use bson::{Document, RawDocument, Timestamp};
use serde::de::DeserializeOwned;

use crate::checkpoint::identity::StreamIdentity;
use crate::checkpoint::ledger::Ledger;
use crate::json;
use crate::json::Style;
use crate::queue::events::{Events, Piece};
use crate::queue::group::Group;
use crate::raw::event::{self, Field};
use crate::raw::paths;
use crate::text::{Text, without_nul};

#[cfg(test)]
mod tests;

/// One change event, as a consumer holds it.
///
/// Texts are made when they are first asked for and then kept. A message outlives its buffer and
/// its worker. It may be sent to and shared between threads; dropping it without
/// [`ack`](Self::ack) leaves it unacked.
///
/// Messages share the memory of the server's reply that they came with, so one that you keep keeps up to 4 MiB of
/// others alive (of larger replies 1 MiB; an event that is larger than that keeps only itself). If you keep
/// messages for long, copy what you need of them.
///
/// A clone is another handle to the same message, without a copy of its event. One ack counts for all of them.
pub struct Message {
    place: EventPlace,
    json: OnceLock<Text>,
    /// Beside the message, which is small without them: a batch holds many.
    others: OnceLock<Box<Others>>,
}

impl Clone for Message {
    fn clone(&self) -> Self {
        Self::new(self.place.clone())
    }
}

/// Where the event of a message is.
#[derive(Clone)]
enum EventPlace {
    Alone(Arc<Events>, usize),
    InGroup(Arc<Group>, usize),
}

/// The texts that fewer consumers ask for.
#[derive(Default)]
struct Others {
    namespace: OnceLock<Text>,
    document_id: OnceLock<Text>,
    updated_paths: OnceLock<Text>,
    resume_token: OnceLock<Option<Text>>,
    position: OnceLock<Option<Text>>,
}

/// The messages of a piece.
fn messages_of(piece: Piece) -> impl Iterator<Item = Message> {
    Group::split(piece).flat_map(|group| {
        let group = Arc::new(group);
        let count = group.piece.range.len();
        (0..count).map(move |at| Message::new(EventPlace::InGroup(Arc::clone(&group), at)))
    })
}

impl Message {
    fn new(place: EventPlace) -> Self {
        Self { place, json: OnceLock::new(), others: OnceLock::new() }
    }

    fn event(&self) -> (&Events, usize) {
        match &self.place {
            EventPlace::Alone(events, index) => (events, *index),
            EventPlace::InGroup(group, at) => (&group.piece.events, group.piece.range.start + at),
        }
    }

    fn others(&self) -> &Others {
        self.others.get_or_init(Box::default)
    }

    /// A message for your own tests, as a worker with this name would deliver it: the event is a change event as the
    /// server sends it (MongoDB manual, "Change Events"). Its JSON is oplog JSON. An ack has no effect.
    ///
    /// ```
    /// use mongostream::Message;
    /// use mongostream::bson::doc;
    ///
    /// let message = Message::for_tests("shop.orders", &doc! {
    ///     "_id": { "_data": "8264" },
    ///     "operationType": "insert",
    ///     "ns": { "db": "shop", "coll": "orders" },
    ///     "documentKey": { "_id": 7 },
    ///     "fullDocument": { "_id": 7, "total": 9.5 },
    /// });
    /// assert_eq!(message?.document_id(), "7");
    /// # Ok::<(), mongostream::bson::error::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The document cannot be BSON: a key has a NUL inside.
    pub fn for_tests(worker: &str, event: &Document) -> Result<Self, bson::error::Error> {
        let event = event.to_vec()?;
        let ledger = Arc::new(Ledger::new(worker, Style::default(), StreamIdentity::default()));
        let first = ledger.acks().read(1);
        let events = Events::of_bytes(&ledger, first, &[event]);
        Ok(Self::of_piece(Piece { events, range: 0..1 }))
    }

    pub(crate) fn of_piece(piece: Piece) -> Self {
        Self::new(EventPlace::Alone(piece.events, piece.range.start))
    }

    /// The message as JSON, on one line, in the worker's `format` and `json`.
    ///
    /// The shapes are described in [`json`](crate::json). For a consumer that asks one message of a batch after
    /// the other, the texts of a few neighbours are written at once.
    pub fn json(&self) -> &str {
        without_nul(self.json_with_nul())
    }

    pub(crate) fn json_with_nul(&self) -> &[u8] {
        // What was handed out once is not replaced.
        if self.json.get().is_none()
            && let EventPlace::InGroup(group, at) = &self.place
            && let Some(text) = group.json(*at)
        {
            return text;
        }
        let (events, index) = self.event();
        let of_event = || Text::of_utf8(json::of_event(events.bson(index), events.ledger.style));
        self.json.get_or_init(of_event).with_nul()
    }

    /// Appends the JSON to `out` without keeping it in the message: for a consumer with a buffer of its own.
    pub fn write_json(&self, out: &mut String) {
        let (events, index) = self.event();
        events.write_json(index, out);
    }

    /// The server's change event, raw BSON; for the library's own messages one of the same shape.
    pub fn bson(&self) -> &[u8] {
        let (events, index) = self.event();
        events.bson(index)
    }

    /// The operation type: `"insert"`, `"update"`, ... as the server names it (MongoDB manual,
    /// "Change Events").
    pub fn operation(&self) -> &str {
        event::operation(self.bson())
    }

    /// Where the change happened: `"shop.orders"`, only the database for an event without a
    /// collection, empty for one without a database.
    pub fn namespace(&self) -> &str {
        self.namespace_text().as_str()
    }

    pub(crate) fn namespace_text(&self) -> &Text {
        self.others().namespace.get_or_init(|| {
            let mut text = String::new();
            event::write_namespace(self.bson(), &mut text);
            Text::new(text)
        })
    }

    /// The database; `None` for an event without one.
    pub fn database(&self) -> Option<&str> {
        event::database(self.bson())
    }

    /// The collection; `None` for an event without one, such as the drop of a database.
    pub fn collection(&self) -> Option<&str> {
        event::collection(self.bson())
    }

    /// The id of the document that has changed, as a text: an ObjectId's 24 hexadecimal digits, a string itself, any
    /// other `_id` as its relaxed Extended JSON (`7`). Empty for an event without a document. It is the text that
    /// `DocumentKey.DocumentId` has in the JSON.
    pub fn document_id(&self) -> &str {
        self.document_id_text().as_str()
    }

    pub(crate) fn document_id_text(&self) -> &Text {
        let texts = self.others();
        texts.document_id.get_or_init(|| Text::new(json::document_id(self.bson())))
    }

    /// The key of the document that has changed: its `_id`, and in a sharded collection the shard key. `None` for an
    /// event without a document.
    pub fn document_key(&self) -> Option<&RawDocument> {
        self.field(Field::DocumentKey)
    }

    /// The document, where the event has one: after an insert or a replace as it is written, after an update as the
    /// option `full_document` says, in a snapshot as it is read.
    pub fn full_document(&self) -> Option<&RawDocument> {
        self.field(Field::FullDocument)
    }

    /// The document before the change, where the event has it: see the option `full_document_before_change`.
    pub fn full_document_before_change(&self) -> Option<&RawDocument> {
        self.field(Field::FullDocumentBeforeChange)
    }

    fn field(&self, field: Field) -> Option<&RawDocument> {
        RawDocument::from_bytes(event::document(self.bson(), field)?).ok()
    }

    /// When the change happened, by the cluster's clock: Unix seconds, and a number within the second (MongoDB
    /// manual, "Change Events"). `None` for an event without it, such as a document of a snapshot.
    pub fn cluster_time(&self) -> Option<Timestamp> {
        let (time, increment) = event::cluster_time(self.bson())?;
        Some(Timestamp { time, increment })
    }

    /// The whole event as a value of your own type, with the server's field names.
    ///
    /// ```no_run
    /// # use mongostream::Buffer;
    /// #[derive(serde::Deserialize)]
    /// #[serde(rename_all = "camelCase")]
    /// struct Change {
    ///     operation_type: String,
    ///     full_document: Option<Order>,
    /// }
    ///
    /// #[derive(serde::Deserialize)]
    /// struct Order {
    ///     total: f64,
    /// }
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let buffer = Buffer::new(10);
    /// for message in &buffer {
    ///     let change: Change = message?.deserialize()?;
    ///     if let Some(order) = change.full_document {
    ///         println!("{}: {}", change.operation_type, order.total);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// For the document alone: `bson::deserialize_from_slice(message.full_document()?.as_bytes())`.
    ///
    /// # Errors
    ///
    /// The event does not have the type's shape, or is damaged.
    pub fn deserialize<T: DeserializeOwned>(&self) -> Result<T, bson::error::Error> {
        bson::deserialize_from_slice(self.bson())
    }

    /// The dotted paths of all fields that an update has set, such as `address.street`; empty for all
    /// other events. Documents are descended into, array indexes left out, and each path is there once.
    /// Removed fields and truncated arrays are not among them.
    ///
    /// Where the server does not tell (before 6.1, or without expanded events), a step of digits after
    /// the first is taken for an index, not for a field's name.
    pub fn updated_paths(&self) -> Vec<String> {
        paths::updated(self.bson())
    }

    pub(crate) fn updated_paths_text(&self) -> &Text {
        let texts = self.others();
        texts.updated_paths.get_or_init(|| Text::new(json::array_of_texts(&self.updated_paths())))
    }

    /// The resume token as JSON: with [`Start::StartAfter`](crate::Start::StartAfter) a new worker
    /// goes on after this message. `None` for a message that has no place in the stream.
    pub fn resume_token(&self) -> Option<&str> {
        self.resume_token_text().map(Text::as_str)
    }

    pub(crate) fn resume_token_text(&self) -> Option<&Text> {
        self.others()
            .resume_token
            .get_or_init(|| {
                let (events, index) = self.event();
                events.token(index).map(|token| Text::new(json::of_token(token)))
            })
            .as_ref()
    }

    /// The place after this message, as an opaque text: everything that the worker delivered up to and including this
    /// message is done. Store it in the same transaction as what you make of the message, and start again with
    /// [`Start::Position`](crate::Start::Position): then each message takes effect exactly once. Acks
    /// and a checkpoint are not needed for that.
    ///
    /// Documents of a snapshot have a position too, which says what of the snapshot is left to read. For a collection of
    /// many millions of documents such a text has up to some 30 KiB; in the stream it is about as long as the resume
    /// token. It belongs to a stream of the same database, collection, `namespaces`, `operations` and `pipeline`.
    ///
    /// Handle messages in the order in which you received them: a position says nothing of single messages before it.
    ///
    /// `None` for an event without a resume token, which only a `pipeline` that removes `_id` can make, and for a
    /// document without an `_id`.
    pub fn position(&self) -> Option<&str> {
        self.position_text().map(Text::as_str)
    }

    pub(crate) fn position_text(&self) -> Option<&Text> {
        self.others()
            .position
            .get_or_init(|| {
                let (events, index) = self.event();
                events.position(index).map(Text::new)
            })
            .as_ref()
    }

    /// The name of the worker that read this message.
    pub fn worker(&self) -> &str {
        self.worker_text().as_str()
    }

    pub(crate) fn worker_text(&self) -> &Text {
        &self.event().0.ledger.name
    }

    /// Says that the consumer is done with this message.
    ///
    /// From any thread, in any order, twice without harm, also after the buffer and the worker are
    /// gone. A worker's [`resume_token`](crate::Worker::resume_token) moves over a message when it
    /// and everything before it is acked.
    pub fn ack(&self) {
        let (events, index) = self.event();
        events.ack(index..index + 1);
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("worker", &self.worker())
            .field("operation", &self.operation())
            .field("namespace", &self.namespace())
            .finish_non_exhaustive()
    }
}

/// Several messages, received with one call.
///
/// May be sent to and shared between threads.
pub struct Batch {
    pieces: Vec<Piece>,
    messages: OnceLock<Box<[Message]>>,
    json_lines: OnceLock<Text>,
}

impl Batch {
    pub(crate) fn new(pieces: Vec<Piece>) -> Self {
        let (messages, json_lines) = Default::default();
        Self { pieces, messages, json_lines }
    }

    /// How many messages it holds, at least one.
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub fn len(&self) -> usize {
        self.pieces.iter().map(|piece| piece.range.len()).sum()
    }

    /// The messages, in the order in which they were read.
    pub fn messages(&self) -> &[Message] {
        self.messages.get_or_init(|| self.make_messages(|message| message))
    }

    pub(crate) fn make_messages<M>(&self, wrap: impl Fn(Message) -> M) -> Box<[M]> {
        // What they are taken from does not know how many there are.
        let mut messages = Vec::with_capacity(self.len());
        messages.extend(self.pieces.iter().cloned().flat_map(messages_of).map(wrap));
        messages.into_boxed_slice()
    }

    /// One message; `None` past the end.
    pub fn get(&self, index: usize) -> Option<&Message> {
        self.messages().get(index)
    }

    /// All messages as JSON, each followed by a newline.
    pub fn json_lines(&self) -> &str {
        self.json_lines_text().as_str()
    }

    pub(crate) fn json_lines_text(&self) -> &Text {
        self.json_lines.get_or_init(|| Text::of_utf8(self.make_json_lines()))
    }

    fn make_json_lines(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        // The workers of a buffer may have styles of their own.
        for run in self.pieces.chunk_by(|a, b| a.events.ledger.style == b.events.ledger.style) {
            let Some(Piece { events: first, .. }) = run.first() else { continue };
            let style = first.ledger.style;
            let events = run
                .iter()
                .flat_map(|Piece { events, range }| range.clone().map(|index| events.bson(index)));
            json::lines(events, style, &mut lines);
        }
        lines
    }

    /// Acks every message of the batch, see [`Message::ack`].
    pub fn ack(&self) {
        for piece in &self.pieces {
            piece.events.ack(piece.range.clone());
        }
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = &'a Message;
    type IntoIter = std::slice::Iter<'a, Message>;

    fn into_iter(self) -> Self::IntoIter {
        self.messages().iter()
    }
}

impl IntoIterator for Batch {
    type Item = Message;
    type IntoIter = std::vec::IntoIter<Message>;

    fn into_iter(self) -> Self::IntoIter {
        self.messages();
        self.messages.into_inner().unwrap_or_default().into_vec().into_iter()
    }
}
