//! What becomes of a stream's replies before the worker's thread sees them: they get their numbers.

use std::sync::Arc;

use crate::checkpoint::ledger::Ledger;
use crate::control::Control;
use crate::log::{self, LogLevel};
use crate::queue::bounded::Queue;
use crate::queue::events::Events;
use crate::raw::event;
use crate::raw::token::Token;
use crate::source::cursor::Observer;
use crate::source::reply::Reply;
use crate::source::scope::Scope;

/// What becomes of the stream's replies before its thread sees them.
pub(super) struct Intake {
    pub(super) ledger: Arc<Ledger>,
    pub(super) queue: Arc<Queue>,
    pub(super) control: Arc<Control>,
    pub(super) replies: usize,
    /// The number before the first event is left free for a message that says what is lost.
    pub(super) leads_with_notice: bool,
    /// Where the cursor begins: the position before its first event is acked.
    pub(super) began: Option<Token>,
    pub(super) scope: Scope,
    pub(super) accepted_with: usize,
}

impl Observer for Intake {
    fn read(&mut self, reply: &Reply) -> Option<u64> {
        self.ledger.meter.received(reply);
        self.replies += 1;
        let notices = usize::from(self.replies == 1 && self.leads_with_notice);
        let (began, token) = (self.began.take(), reply.token().cloned());
        let first = self.ledger.acks().takes(began, notices, reply.spans().len(), token);
        let shown = self.replies <= self.accepted_with || !reply.spans().is_empty();
        shown.then_some(first)
    }

    fn renamed(&mut self, event: &[u8]) {
        if !self.scope.misses(event) {
            return;
        }
        let shown = |name: Option<(String, String)>| {
            name.map(|(database, collection)| format!("{database}.{collection}"))
                .unwrap_or_default()
        };
        log::line!(
            LogLevel::Warn,
            self.ledger.name.as_str(),
            "{} was renamed to {}, which is watched ($out does so, too): the documents that it had then come \
             as no messages; read them with another worker that has snapshot=initial",
            shown(event::database_and_collection(event)),
            shown(event::rename_target(event))
        );
    }

    fn take(&mut self, reply: Reply, first: u64) -> Option<Reply> {
        // The opening one tells the worker that the stream is open.
        if self.replies <= self.accepted_with || reply.is_large() {
            return Some(reply);
        }
        let messages = reply.spans().len();
        let bytes = reply.spans().iter().map(ExactSizeIterator::len).sum();
        let Some(room) = self.queue.room_for(messages, bytes, &self.control.stop) else {
            return Some(reply);
        };
        room.push(Events::shared(&self.ledger, reply, first));
        None
    }
}
