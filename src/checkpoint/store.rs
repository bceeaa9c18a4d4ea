//! What a store of checkpoints does.

use std::any::Any;

use crate::checkpoint::store_error::StoreError;
use crate::error::Result;

/// Keeps checkpoints: one text for each name.
///
/// Implement it to keep a worker's position where neither a file nor a collection will do. The text is
/// mongostream's own and opaque to the store. All calls but [`claim`](Self::claim) come from one thread
/// of the worker, one after the other.
///
/// A save comes at its own time, after the acks that it covers: it cannot be part of a transaction of
/// yours. To keep the position and what you make of a message in one transaction, store the message's
/// [`resume_token`](crate::Message::resume_token) in that transaction, use no checkpoint, and start with
/// [`Start::StartAfter`](crate::Start::StartAfter).
pub trait CheckpointStore: Send + Sync + 'static {
    /// Where this store keeps its texts, for messages: without credentials.
    fn place(&self) -> String;

    /// Claims a name until the guard is dropped. A second claim must fail, so that two workers never
    /// overwrite each other's positions. Called on the thread that starts a worker; must not wait.
    ///
    /// # Errors
    ///
    /// [`StoreError::in_use`] if another worker uses the name; the start then fails with
    /// [`ErrorKind::InUse`](crate::ErrorKind::InUse). Any other error means that the store cannot be used; the start
    /// fails with [`ErrorKind::Checkpoint`](crate::ErrorKind::Checkpoint).
    fn claim(&self, name: &str) -> Result<Box<dyn Any + Send>, StoreError>;

    /// The text that was saved last under the name, `None` if there is none.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong; the worker fails with it. A [`StoreError::retriable`] is tried again first,
    /// for as long as a worker waits for its deployment at the start (`serverSelectionTimeoutMS`).
    fn load(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// Replaces the text under the name. When it returns, the text must survive a crash of the machine;
    /// when it fails, the text before must still be there.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong. While the worker runs it is tried again with the next save; the first save of a
    /// new stream is treated as a [`load`](Self::load).
    fn save(&self, name: &str, text: &str) -> Result<(), StoreError>;

    /// The text that [`load`](Self::load) gave is not this stream's, and the worker fails. A store whose
    /// `load` takes the name over gives it back here, so that the worker that had it goes on. By default
    /// nothing is done.
    ///
    /// # Errors
    ///
    /// Whatever goes wrong; it is logged.
    fn give_back(&self, _name: &str) -> Result<(), StoreError> {
        Ok(())
    }

    /// What the log should be told after a successful [`save`](Self::save), such as that the text before
    /// had vanished; asked once after each. By default nothing.
    fn remark(&self, _name: &str) -> Option<String> {
        None
    }
}
