//! What a skin for another language needs beside the Rust API: texts that end in a NUL, waits of any length, the
//! log's callback. It is no part of the API and may change with every version.

pub use crate::log::{Callback, LogLevel, set as set_log, unheard};
pub use crate::text::Text;
pub use crate::wait::Wait;

use crate::error::{Error, ErrorKind, Result};
use crate::queue::buffer::Buffer;
use crate::queue::message::{Batch, Message};
use crate::raw::event;
use crate::source::client;
use crate::state::WorkerState;
use crate::wait::Received;
use crate::wait::Waited;
use crate::watch::Watch;
use crate::worker::Worker;
use crate::{exit, log};

/// As [`shutdown`](crate::shutdown), for a handler that runs when the process exits.
pub fn at_exit() {
    exit::at_exit(client::has_io());
}

/// An error of the skin's own. One that is retriable may be gone with the next call.
pub fn error(kind: ErrorKind, text: impl Into<String>, is_retriable: bool) -> Error {
    let error = Error::new(kind, text);
    if is_retriable { error.retriable() } else { error }
}

/// What an error of a start calls the worker, before anything is known to be right.
pub fn shown_name(watch: &Watch) -> String {
    watch.shown_name()
}

/// Says in the log that a worker could not be started.
pub fn log_refusal(name: &str, failure: &Error) {
    log::refused(name, failure);
}

/// The next receive returns the failure of a start, of which nobody else is told.
pub fn refuse(buffer: &Buffer, name: &str, failure: Error) {
    buffer.queue().refuse(failure.of_worker(name));
}

/// As [`Buffer::recv`], for a time.
pub fn receive(buffer: &Buffer, wait: Wait) -> Result<Received<Message>> {
    let received = buffer.queue().take(1, wait)?;
    Ok(received.map(|mut pieces| Message::of_piece(pieces.swap_remove(0))))
}

/// As [`Buffer::recv_batch`], for a time.
pub fn receive_batch(buffer: &Buffer, max: usize, wait: Wait) -> Result<Received<Batch>> {
    Ok(buffer.queue().take(max, wait)?.map(Batch::new))
}

/// As [`Worker::wait_ready`], for a time.
pub fn wait_ready(worker: &Worker, wait: Wait) -> Result<Waited> {
    worker.wait_ready_until(wait)
}

/// The number of a state in every language.
pub fn number_of_state(state: WorkerState) -> i32 {
    match state {
        WorkerState::Starting => 0,
        WorkerState::Streaming => 1,
        WorkerState::Reconnecting => 2,
        WorkerState::Stopped => 3,
        WorkerState::Failed => 4,
        WorkerState::Standby => 5,
    }
}

/// As [`Worker::join`], for a time.
pub fn join(worker: &Worker, wait: Wait) -> Result<Waited> {
    worker.join_until(wait)
}

/// [`Message::json`], with a NUL at its end.
pub fn json(message: &Message) -> &[u8] {
    message.json_with_nul()
}

/// [`Message::operation`], with a NUL at its end.
pub fn operation(message: &Message) -> &[u8] {
    event::operation_with_nul(message.bson()).unwrap_or(b"\0")
}

/// [`Message::namespace`], with a NUL at its end.
pub fn namespace(message: &Message) -> &[u8] {
    message.namespace_text().with_nul()
}

/// [`Message::document_id`], with a NUL at its end.
pub fn document_id(message: &Message) -> &[u8] {
    message.document_id_text().with_nul()
}

/// [`Message::updated_paths`] as a JSON array, with a NUL at its end.
pub fn updated_paths(message: &Message) -> &[u8] {
    message.updated_paths_text().with_nul()
}

/// [`Message::resume_token`], with a NUL at its end.
pub fn resume_token(message: &Message) -> Option<&[u8]> {
    message.resume_token_text().map(Text::with_nul)
}

/// [`Worker::name`], with a NUL at its end.
pub fn name(worker: &Worker) -> &[u8] {
    worker.name_text().with_nul()
}

/// [`Message::worker`], with a NUL at its end.
pub fn worker_name(message: &Message) -> &[u8] {
    message.worker_text().with_nul()
}

/// [`Batch::json_lines`], with a NUL at its end.
pub fn json_lines(batch: &Batch) -> &[u8] {
    batch.json_lines_text().with_nul()
}

/// A batch's messages, each in a value of the skin's own.
pub fn messages<M>(batch: &Batch, wrap: impl Fn(Message) -> M) -> Box<[M]> {
    batch.make_messages(wrap)
}

/// [`Message::position`], with a NUL at its end.
pub fn position(message: &Message) -> Option<&[u8]> {
    message.position_text().map(Text::with_nul)
}
