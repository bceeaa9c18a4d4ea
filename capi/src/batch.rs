//! `ms_batch`: several messages, received with one call.

use std::ffi::c_char;
use std::ptr;
use std::sync::OnceLock;

use library::{Batch, skin};

use crate::boundary::{borrow, free, lend_text, plain};
use crate::message::ms_message;

/// Several messages, received with one call. Use one from one thread at a time.
pub struct ms_batch {
    batch: Batch,
    messages: OnceLock<Box<[ms_message]>>,
}

impl ms_batch {
    pub(crate) fn new(batch: Batch) -> Self {
        Self { batch, messages: OnceLock::new() }
    }
}

/// How many messages the batch holds, at least 1; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_batch_len(batch: *const ms_batch) -> usize {
    // SAFETY: NULL or a live batch, as the C API asks for.
    plain(0, || unsafe { borrow(batch) }.map_or(0, |batch| batch.batch.len()))
}

/// One message, in the order in which they were read. Borrowed, lives as long as the batch; do not
/// free it. NULL past the end, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_batch_get(batch: *const ms_batch, index: usize) -> *const ms_message {
    plain(ptr::null(), || {
        // SAFETY: NULL or a live batch, as the C API asks for.
        let Some(batch) = (unsafe { borrow(batch) }) else { return ptr::null() };
        let messages = batch
            .messages
            .get_or_init(|| skin::messages(&batch.batch, |message| ms_message { message }));
        messages.get(index).map_or(ptr::null(), ptr::from_ref)
    })
}

/// All messages as JSON, each on a line of its own that ends in a newline: one call a batch.
/// Borrowed, lives as long as the batch; *length (may be NULL) is its length in bytes without the
/// NUL. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_batch_json_lines(
    batch: *const ms_batch,
    length: *mut usize,
) -> *const c_char {
    plain(ptr::null(), || {
        // SAFETY: NULL or a live batch, as the C API asks for.
        let batch = unsafe { borrow(batch) };
        // SAFETY: NULL or a place for the length, as the C API asks for.
        batch.map_or(ptr::null(), |batch| unsafe {
            lend_text(skin::json_lines(&batch.batch), length)
        })
    })
}

/// Acks every message of the batch, see ms_message_ack. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_batch_ack(batch: *const ms_batch) {
    plain((), || {
        // SAFETY: NULL or a live batch, as the C API asks for.
        if let Some(batch) = unsafe { borrow(batch) } {
            batch.batch.ack();
        }
    });
}

/// Releases a batch and its messages; those that are not acked stay so. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_batch_free(batch: *mut ms_batch) {
    // SAFETY: NULL or a batch that is used no more, as the C API asks for.
    unsafe { free(batch) }
}
