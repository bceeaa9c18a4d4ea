//! One reply of a server: its events, and the token that comes after them.

use std::ops::Range;
use std::sync::Arc;

use bson::{Bson, RawDocument};
use mongodb::error::{Error as DriverError, Result as DriverResult};
use mongodb::raw_batch_cursor::RawBatch;

use crate::raw::element::Value;
use crate::raw::id::is_same_id;
use crate::raw::token::Token;
use crate::raw::{element, event};
use crate::source::fragments;
use crate::source::fragments::{Fragments, Part};
use crate::source::position::Position;
use crate::source::scope::Scope;

/// One reply of the server, or a part of it: its events and the token that stands after them.
pub(crate) struct Reply {
    memory: ReplyMemory,
    pub(crate) spans: Vec<Range<u32>>,
    token: Option<Token>,
    invalidate: Option<Token>,
}

#[derive(Clone)]
enum ReplyMemory {
    Batch(Arc<RawBatch>),
    /// One event, put together from several replies.
    Event(Arc<Vec<u8>>),
}

impl Reply {
    pub(crate) fn parse(batch: RawBatch, has_invalidate: bool) -> DriverResult<Self> {
        let mut reply = Self::of_documents(batch)?;
        let token = match reply.of_cursor(b"postBatchResumeToken") {
            Some(Value::Document(token)) => Some(Token::from(token.bytes())),
            _ => None,
        };
        let last = reply.last_token();
        // The event that ends a stream is its last one.
        if reply.last().is_some_and(event::is_invalidate) {
            reply.invalidate.clone_from(&last);
            if !has_invalidate {
                reply.spans.pop();
            }
        }
        reply.token = token.or(last);
        Ok(reply)
    }

    /// The server places the replies of a stream that begins at a time before the place that is meant.
    pub(crate) fn begin_at(&mut self, from: &Position) {
        self.token = self.token.take().map(|token| from.no_earlier(token));
    }

    /// Copies of the events that gave a collection another name. Those that nobody asked for are left out.
    pub(crate) fn take_renames(&mut self, scope: &Scope) -> Vec<Vec<u8>> {
        // A rename ends the stream of one collection, so it is among the last there: it, and its invalidate.
        let all = scope.collection.is_none() || scope.has_unwanted_renames;
        let first = if all { 0 } else { self.spans.len().saturating_sub(2) };
        let mut found = Vec::new();
        for index in first..self.spans.len() {
            let span = &self.spans[index];
            let event = &self.bytes()[span.start as usize..span.end as usize];
            if event::is_rename(event) {
                found.push((index, event.to_vec()));
            }
        }
        if scope.has_unwanted_renames {
            for (index, _) in found.iter().rev() {
                self.spans.remove(*index);
            }
        }
        found.into_iter().map(|(_, event)| event).collect()
    }

    /// A reply with documents that are no events: it has no token.
    pub(crate) fn of_documents(batch: RawBatch) -> DriverResult<Self> {
        let mut reply = Self {
            memory: ReplyMemory::Batch(Arc::new(batch)),
            spans: Vec::new(),
            token: None,
            invalidate: None,
        };
        let documents = reply.of_cursor(b"nextBatch").or_else(|| reply.of_cursor(b"firstBatch"));
        let Some(Value::Array(documents)) = documents else {
            return Err(DriverError::custom("what came is not the reply of a cursor".to_owned()));
        };
        let mut spans = Vec::new();
        for element in documents.elements() {
            let span = match element.map(|element| element.value) {
                Ok(Value::Document(document)) => document.span(),
                Ok(_) => return Err(DriverError::custom("what came is not a document".to_owned())),
                Err(damage) => {
                    return Err(DriverError::custom(format!("what came is damaged: {damage}")));
                }
            };
            spans.push(span.start as u32..span.end as u32);
        }
        reply.spans = spans;
        Ok(reply)
    }

    /// Leaves the first document out if it has this `_id`.
    pub(crate) fn skip_first_if(&mut self, id: &Bson) {
        let first = self.spans.first().and_then(|span| self.id(span));
        if first.is_some_and(|first| is_same_id(&first, id)) {
            self.spans.remove(0);
        }
    }

    fn id(&self, span: &Range<u32>) -> Option<Bson> {
        let document = self.bytes().get(span.start as usize..span.end as usize)?;
        let document = RawDocument::from_bytes(document).ok()?;
        Bson::try_from(document.get("_id").ok()??).ok()
    }

    pub(crate) fn has_fragments(&self, fragments: &Fragments) -> bool {
        fragments.is_pending() || self.events().any(fragments::is_fragment)
    }

    /// The reply as if no event had been split, in parts: each whole event is one. What its last
    /// fragments miss comes with the next reply.
    ///
    /// In the middle of an event the reply's own token is a fragment's, after which nothing may go on.
    pub(crate) fn join(self, fragments: &mut Fragments) -> DriverResult<Vec<Reply>> {
        let parts = fragments.join(self.events()).map_err(DriverError::custom)?;
        let mut replies: Vec<Reply> = parts.into_iter().map(|part| self.part(part)).collect();
        if let Some(last) = replies.last_mut()
            && !fragments.is_pending()
        {
            last.token = self.token;
            last.invalidate = self.invalidate;
        }
        Ok(replies)
    }

    fn part(&self, part: Part) -> Reply {
        let (memory, spans) = match part {
            Part::Events(run) => (self.memory.clone(), self.spans[run].to_vec()),
            Part::Whole(event) => {
                let span = 0..event.len() as u32;
                (ReplyMemory::Event(Arc::new(event)), vec![span])
            }
        };
        let mut reply = Reply { memory, spans, token: None, invalidate: None };
        reply.token = reply.last_token();
        reply
    }

    #[cfg(test)]
    pub(crate) fn for_test(documents: &[Vec<u8>]) -> Self {
        let mut at = 0;
        let spans = documents.iter().map(|document| {
            at += document.len() as u32;
            at - document.len() as u32..at
        });
        let spans = spans.collect();
        let memory = ReplyMemory::Event(Arc::new(documents.concat()));
        Self { memory, spans, token: None, invalidate: None }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.memory {
            ReplyMemory::Batch(batch) => batch.as_raw_document().as_bytes(),
            ReplyMemory::Event(event) => event,
        }
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.bytes();
        self.spans.iter().map(|span| &bytes[span.start as usize..span.end as usize])
    }

    /// Whether its events are worth waking one thread more.
    pub(crate) fn is_large(&self) -> bool {
        is_large(self.bytes())
    }

    /// What the server says of the cursor.
    fn of_cursor(&self, name: &[u8]) -> Option<Value<'_>> {
        let ReplyMemory::Batch(batch) = &self.memory else { return None };
        let reply = element::Document::new(batch.as_raw_document().as_bytes());
        match reply.get(b"cursor")?.value {
            Value::Document(cursor) => Some(cursor.get(name)?.value),
            _ => None,
        }
    }

    /// The namespace and the id of its cursor.
    pub(crate) fn cursor(&self) -> Option<(String, i64)> {
        match (self.of_cursor(b"ns")?, self.of_cursor(b"id")?) {
            (Value::String(namespace), Value::Int64(id)) => {
                Some((String::from_utf8_lossy(namespace).into_owned(), id))
            }
            _ => None,
        }
    }

    /// Where the events lie in [`bytes`](Self::bytes), in order.
    pub(crate) fn spans(&self) -> &[Range<u32>] {
        &self.spans
    }

    fn last(&self) -> Option<&[u8]> {
        let span = self.spans.last()?;
        self.bytes().get(span.start as usize..span.end as usize)
    }

    fn last_token(&self) -> Option<Token> {
        self.last().and_then(event::resume_token).map(Token::from)
    }

    /// The `_id` of the last document.
    pub(crate) fn last_id(&self) -> Option<Bson> {
        self.id(self.spans.last()?)
    }

    /// The token after the last event: the reply's own (`postBatchResumeToken`), or the last
    /// event's; `None` where the server gave neither.
    pub(crate) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// The token of the event that ends the stream, if the server sent it in this reply.
    pub(crate) fn invalidate_token(&self) -> Option<&Token> {
        self.invalidate.as_ref()
    }
}

/// Whether a reply of so many bytes is worth more than one thread.
pub(crate) fn is_large(reply: &[u8]) -> bool {
    const LARGE: usize = 64 << 10;
    reply.len() >= LARGE
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn token(data: &str) -> Token {
        Token::from(doc! { "_data": data }.to_vec().unwrap())
    }

    /// A reply with these events and this token after them.
    fn reply(events: &[bson::Document], after: &str) -> Reply {
        let events: Vec<_> = events.iter().map(|event| event.to_vec().unwrap()).collect();
        let mut reply = Reply::for_test(&events);
        reply.token = Some(token(after));
        reply
    }

    fn fragment(data: &str, number: i32) -> bson::Document {
        doc! { "_id": { "_data": data }, "splitEvent": { "fragment": number, "of": 2 }, "part": number }
    }

    #[test]
    fn a_token_within_a_split_event_is_no_place_to_go_on() {
        let mut fragments = Fragments::default();
        let plain = doc! { "_id": { "_data": "81" }, "operationType": "insert" };
        let first = reply(&[plain.clone(), fragment("82", 1)], "82");
        assert!(first.has_fragments(&fragments));
        let parts = first.join(&mut fragments).unwrap();
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].token(), Some(&token("81")), "of the last whole event");
        let second = reply(&[fragment("83", 2), plain], "85");
        assert!(second.has_fragments(&fragments), "one is pending");
        let parts = second.join(&mut fragments).unwrap();
        let tokens: Vec<_> = parts.iter().map(Reply::token).collect();
        assert_eq!(tokens, [Some(&token("83")), Some(&token("85"))]);
        assert_eq!(parts[0].last_token(), Some(token("83")));
    }
}
