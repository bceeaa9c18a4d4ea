//! `ms_message`: one change event.

use std::ffi::c_char;
use std::ptr;

use library::{Message, skin};

use crate::boundary::{OutParam, borrow, free, give, lend_bytes, lend_text, plain};

/// One change event. It outlives its buffer and its worker, and may be read and acked from several
/// threads at once. Texts are made when they are first asked for.
///
/// Messages share the memory of the server's reply that they came with, so one that you keep keeps up to 4 MiB of
/// others alive (of larger replies 1 MiB; an event that is larger than that keeps only itself). If you keep
/// messages for long, copy what you need and free them; the text of ms_buffer_recv is such a copy.
pub struct ms_message {
    pub(crate) message: Message,
}

/// Lends one of a message's texts; NULL where there is none.
///
/// # Safety
///
/// `message` is NULL or live; `length` is NULL or points to a place for a `usize`.
unsafe fn lend<'a>(
    message: *const ms_message,
    length: *mut usize,
    text: impl FnOnce(&'a Message) -> Option<&'a [u8]>,
) -> *const c_char {
    plain(ptr::null(), || {
        // SAFETY: as the caller says.
        let text = unsafe { borrow(message) }.and_then(|message| text(&message.message));
        // SAFETY: as the caller says.
        text.map_or(ptr::null(), |text| unsafe { lend_text(text, length) })
    })
}

/// The message as JSON on one line, in the shape and mode of the worker's options format and json.
/// Borrowed, lives as long as the message; *length (may be NULL) is its length in bytes without the
/// NUL. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_message_json(
    message: *const ms_message,
    length: *mut usize,
) -> *const c_char {
    // SAFETY: each is NULL or valid, as the C API asks for.
    unsafe { lend(message, length, |message| Some(skin::json(message))) }
}

/// The server's change event, raw BSON of *length bytes (length may be NULL: BSON begins with its
/// length). Borrowed, lives as long as the message. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_message_bson(
    message: *const ms_message,
    length: *mut usize,
) -> *const u8 {
    plain(ptr::null(), || {
        // SAFETY: NULL or a live message, as the C API asks for.
        let message = unsafe { borrow(message) };
        // SAFETY: NULL or a place for the length, as the C API asks for.
        message.map_or(ptr::null(), |m| unsafe { lend_bytes(m.message.bson(), length) })
    })
}

/// The operation type, "insert", "update", ... as the server names it (MongoDB manual, "Change
/// Events"). Borrowed, lives as long as the message. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_message_operation(message: *const ms_message) -> *const c_char {
    plain(ptr::null(), || {
        // SAFETY: NULL or a live message, as the C API asks for.
        let Some(message) = (unsafe { borrow(message) }) else { return ptr::null() };
        // SAFETY: a NULL length is allowed.
        unsafe { lend_text(skin::operation(&message.message), ptr::null_mut()) }
    })
}

/// Where the change happened: "shop.orders"; only the database for an event without a collection; ""
/// for one without a database. Borrowed, lives as long as the message. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_message_namespace(message: *const ms_message) -> *const c_char {
    // SAFETY: NULL or a live message, as the C API asks for; a NULL length is allowed.
    unsafe { lend(message, ptr::null_mut(), |message| Some(skin::namespace(message))) }
}

/// The id of the document that has changed, as a text: an ObjectId's 24 hexadecimal digits, a string itself, any
/// other _id as its relaxed Extended JSON ("7"); "" for an event without a document. It is the text that
/// DocumentKey.DocumentId has in the JSON. A string with a NUL inside ends there.
/// Borrowed, lives as long as the message. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_message_document_id(message: *const ms_message) -> *const c_char {
    // SAFETY: NULL or a live message, as the C API asks for; a NULL length is allowed.
    unsafe { lend(message, ptr::null_mut(), |message| Some(skin::document_id(message))) }
}

/// When the change happened, by the cluster's clock: *seconds since 1970 and *increment, a number within the
/// second (MongoDB manual, "Change Events"). Either may be NULL. False, with nothing written, for an event
/// without it (a document of a snapshot) and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_message_cluster_time(
    message: *const ms_message,
    seconds: *mut u32,
    increment: *mut u32,
) -> bool {
    plain(false, || {
        // SAFETY: NULL or a live message, as the C API asks for.
        let time = unsafe { borrow(message) }.and_then(|message| message.message.cluster_time());
        let Some(time) = time else { return false };
        for (place, value) in [(seconds, time.time), (increment, time.increment)] {
            // SAFETY: NULL or a place for a number, as the C API asks for.
            if let Some(place) = unsafe { OutParam::new(place) } {
                place.put(value);
            }
        }
        true
    })
}

/// The dotted paths of all fields that an update has set, as a JSON array of texts: documents are
/// descended into, array indexes left out, and each path is there once; "[]" for other events. Removed
/// fields and truncated arrays are not among them. Where the server does not tell (before 6.1, or without
/// expanded events), a step of digits after the first is taken for an index, not for a field's name.
/// Borrowed, lives as long as the message; *length (may be NULL) is its length in bytes without the
/// NUL. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_message_updated_paths(
    message: *const ms_message,
    length: *mut usize,
) -> *const c_char {
    // SAFETY: each is NULL or valid, as the C API asks for.
    unsafe { lend(message, length, |message| Some(skin::updated_paths(message))) }
}

/// The resume token as JSON: a worker started with it as start_after goes on after this message.
/// Borrowed, lives as long as the message. NULL for a message that has no place in the stream, and
/// for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_message_resume_token(message: *const ms_message) -> *const c_char {
    // SAFETY: NULL or a live message, as the C API asks for; a NULL length is allowed.
    unsafe { lend(message, ptr::null_mut(), skin::resume_token) }
}

/// The place after this message as an opaque text: everything that the worker delivered up to and including this
/// message is done. Store it in the same transaction as what you make of the message, and start again with it as
/// start_at_position: then each message takes effect exactly once. Neither acks nor a checkpoint are needed.
///
/// Documents of a snapshot have a position, too. It says what is left to read; for a collection of many millions of
/// documents it has up to some 30 KiB. A position belongs to a stream of the same database, collection, namespaces,
/// operations and pipeline. Handle messages in the order in which you received them.
/// Borrowed, lives as long as the message. NULL for an event without a resume token (only a pipeline that removes _id
/// makes one), for a document without an _id, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_message_position(message: *const ms_message) -> *const c_char {
    // SAFETY: NULL or a live message, as the C API asks for; a NULL length is allowed.
    unsafe { lend(message, ptr::null_mut(), skin::position) }
}

/// The name of the worker that read the message. Borrowed, lives as long as the message. NULL for
/// NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_message_worker(message: *const ms_message) -> *const c_char {
    // SAFETY: NULL or a live message, as the C API asks for; a NULL length is allowed.
    unsafe { lend(message, ptr::null_mut(), |message| Some(skin::worker_name(message))) }
}

/// Another handle to the same message, also to one of a batch; nothing is copied. One ack counts for both. Yours:
/// release it with ms_message_free, before or after the other one. NULL for NULL.
#[unsafe(no_mangle)]
#[must_use = "it is yours to release"]
pub unsafe extern "C" fn ms_message_clone(message: *const ms_message) -> *mut ms_message {
    plain(ptr::null_mut(), || {
        // SAFETY: NULL or a live message, as the C API asks for.
        let message = unsafe { borrow(message) };
        message.map_or(ptr::null_mut(), |m| give(ms_message { message: m.message.clone() }))
    })
}

/// Says that you are done with the message. In any order, twice without harm, also after its worker
/// and buffer are gone. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_message_ack(message: *const ms_message) {
    plain((), || {
        // SAFETY: NULL or a live message, as the C API asks for.
        if let Some(message) = unsafe { borrow(message) } {
            message.message.ack();
        }
    });
}

/// Releases a message from ms_buffer_recv_message or ms_message_clone; one that is not acked stays so. Not for messages
/// of a batch. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_message_free(message: *mut ms_message) {
    // SAFETY: NULL or a message that is used no more, as the C API asks for.
    unsafe { free(message) }
}
