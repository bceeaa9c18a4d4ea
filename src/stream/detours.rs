//! Short cursors beside the main one: for a token, for a hidden `invalidate`, for an event that is too large.

use std::sync::Arc;

use bson::{Document, RawDocumentBuf};

use crate::log::{self, LogLevel};
use crate::options::pipeline;
use crate::queue::events::Events;
use crate::raw::event;
use crate::raw::token::Token;
use crate::snapshot::progress::SnapshotPlace;
use crate::source::cursor::{Cursor, Next};
use crate::source::failure;
use crate::source::fault::Fault;
use crate::source::pace::Pace;
use crate::source::position::Position;
use crate::source::reply::Reply;
use crate::source::scope::Scope;
use crate::stream::course::Course;
use crate::stream::step::Happened;
use crate::stream::{Stream, notices};

/// The first event of a short cursor.
enum First {
    Event(Vec<u8>),
    /// There is none, or it is the one that ends the stream, which the cursor that meets it has to know of.
    Nothing,
    /// The server does not send it.
    Failed(Happened),
}

impl Stream {
    /// Takes the token of a start time.
    pub(super) fn take_token(&self, from: Position) -> Happened {
        let mut scope = self.scope.clone();
        scope.opens_with_event = false;
        // Nothing after the opening reply, for which a server might look for long.
        scope.limit = Some(0);
        let cursor = Cursor::open(&self.deployment, scope, from, |_: &Reply| Some(0));
        self.ledger.meter.attempted();
        self.await_opening(|limit| cursor.has_next_within(&self.control.stop, limit));
        match cursor.next(&self.control.stop) {
            Next::Reply(reply, _) => match reply.token() {
                Some(token) => Happened::Token(Token::clone(token)),
                None => Happened::Broken(self.bug("a server without resume tokens")),
            },
            other => self.what_happened(other, &cursor),
        }
    }

    /// Looks for the `invalidate` in a stream that lets nothing else through.
    pub(super) fn find_invalidate(&self, from: Position) -> Happened {
        /// Replies without it, the opening one included, after which it is not there.
        const PATIENCE: usize = 3;
        let mut scope = self.scope.clone();
        scope.stages = vec![pipeline::only_invalidate()];
        let cursor = Cursor::open(&self.deployment, scope, from, |_: &Reply| Some(0));
        for _ in 0..PATIENCE {
            match cursor.next(&self.control.stop) {
                Next::Reply(reply, _) => {
                    if let Some(token) = reply.invalidate_token() {
                        return Happened::Token(Token::clone(token));
                    }
                }
                Next::Stopped => return Happened::Stopped,
                // The main cursor will meet the same, and knows what to do.
                Next::Failed(_) | Next::Ended | Next::Enough | Next::Change(_) | Next::Lost => {
                    break;
                }
            }
        }
        Happened::Nothing
    }

    /// Looks at the first event without most of its fields, which stays in `outline`.
    pub(super) fn find_outline(&self, from: Position, outline: &mut Vec<u8>) -> Happened {
        match self.first_event(self.alone(notices::only_outline()), from) {
            First::Event(event) => {
                let token = event::resume_token(&event).map(Token::from);
                *outline = event;
                token.map_or(Happened::Nothing, Happened::Token)
            }
            First::Nothing => Happened::Nothing,
            First::Failed(happened) => happened,
        }
    }

    /// Asks for the event of this token alone.
    pub(super) fn confirm(&self, from: Position, token: &Token) -> Happened {
        let only = match pipeline::only_event(token) {
            Ok(only) => only,
            Err(error) => {
                return Happened::Broken(self.bug(&format!("a resume token is damaged: {error}")));
            }
        };
        match self.first_event(self.alone(only), from) {
            First::Event(_) | First::Nothing => Happened::Nothing,
            First::Failed(Happened::Failed { fault, .. }) if failure::is_too_large(&fault) => {
                Happened::TooLarge(fault)
            }
            First::Failed(happened) => happened,
        }
    }

    /// What a cursor reads that is to find one event.
    fn alone(&self, stage: Document) -> Scope {
        let mut scope = self.scope.at(Pace::Careful);
        scope.split = false;
        scope.stages.push(stage);
        scope
    }

    fn first_event(&self, mut scope: Scope, from: Position) -> First {
        scope.opens_with_event = false;
        let cursor = Cursor::open(&self.deployment, scope, from, |_: &Reply| Some(0));
        // The opening one, and the one that has the event.
        for _ in 0..2 {
            match cursor.next(&self.control.stop) {
                Next::Reply(reply, _) if reply.invalidate_token().is_some() => break,
                Next::Reply(reply, _) => {
                    if let Some(event) = reply.events().next() {
                        return First::Event(event.to_vec());
                    }
                }
                Next::Ended | Next::Enough | Next::Change(_) => break,
                other => return First::Failed(self.what_happened(other, &cursor)),
            }
        }
        First::Nothing
    }

    /// Puts a message in the place of an event that is too large.
    pub(super) fn tell_of_oversized(
        &self,
        fault: &Fault,
        outline: &[u8],
        from: &Position,
        course: &mut Course,
    ) -> Happened {
        // It may be the first message of a stream: the place before it has to be known, and saved.
        if let Some(token) = from.token() {
            self.ledger.acks().place(token);
        }
        if let Err(happened) = self.is_open(course) {
            return happened;
        }
        let failure = failure::error(fault, self.deployment.uri(), "send an event", None)
            .with_advice(failure::oversized_advice(self.options.on_oversized));
        self.ledger.meter.troubled(failure.of_worker(self.name()));
        let mut namespace = String::new();
        event::write_namespace(outline, &mut namespace);
        let operation = event::operation(outline);
        log::line!(
            LogLevel::Warn,
            self.name(),
            "an event of {namespace} ({operation}) is larger than the server can send, and is left out"
        );
        let notice = notices::oversized(outline);
        let number = self.ledger.acks().read(1);
        match self.hand_over_notice(notice, number, None) {
            Ok(()) => Happened::Done,
            Err(happened) => happened,
        }
    }

    /// Hands over a message that the library has made itself.
    pub(super) fn hand_over_notice(
        &self,
        notice: Result<RawDocumentBuf, bson::error::Error>,
        number: u64,
        snapshot: Option<SnapshotPlace>,
    ) -> Result<(), Happened> {
        let notice = notice.map_err(|error| Happened::Broken(self.bug(&error.to_string())))?;
        let events = Events::own(&self.ledger, notice, number, snapshot.map(Arc::new));
        self.queue.push(&events, &self.control.stop).map_err(|_| Happened::Stopped)
    }
}
