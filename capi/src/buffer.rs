//! `ms_buffer`: the bounded queue that workers feed and consumers receive from.

use std::ffi::{c_char, c_int};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use library::skin::{self, Wait};
use library::{Buffer, Received, shutdown};

use crate::batch::ms_batch;
use crate::boundary::{
    OutParam, argument, borrow, free, give, give_text, on_exit, plain, required,
};
use crate::calls::{pointer, status};
use crate::error::ms_error;
use crate::message::ms_message;
use crate::status::{MS_CLOSED, MS_OK, MS_TIMEOUT, ms_status};

/// A bounded queue of messages: any number of workers in, any number of consumers out, from any
/// thread.
pub struct ms_buffer {
    pub(crate) buffer: Buffer,
}

/// Milliseconds as the C API counts them: below 0 for ever, 0 not at all.
pub(crate) fn wait_of(timeout_ms: i64) -> Wait {
    u64::try_from(timeout_ms)
        .map_or(Wait::ForEver, |timeout| Wait::at_most(Duration::from_millis(timeout)))
}

/// A buffer for up to capacity messages (at least 1) and 64 MiB of change events. When it is full its
/// workers wait; nothing is ever dropped. Yours: release it with ms_buffer_free. NULL if capacity
/// is 0.
#[unsafe(no_mangle)]
#[must_use = "it is yours to release"]
pub extern "C" fn ms_buffer_new(capacity: usize) -> *mut ms_buffer {
    ms_buffer_new_with(capacity, Buffer::DEFAULT_MAX_BYTES)
}

/// A buffer for up to capacity messages and max_bytes bytes of change events (BSON), whichever is
/// reached first; both at least 1. One event that is larger than max_bytes still passes, alone.
/// Yours: release it with ms_buffer_free. NULL if either is 0.
#[unsafe(no_mangle)]
#[must_use = "it is yours to release"]
pub extern "C" fn ms_buffer_new_with(capacity: usize, max_bytes: usize) -> *mut ms_buffer {
    plain(ptr::null_mut(), || {
        if capacity == 0 || max_bytes == 0 {
            return ptr::null_mut();
        }
        close_at_exit();
        give(ms_buffer { buffer: Buffer::with_max_bytes(capacity, max_bytes) })
    })
}

/// A host of C's may join its threads in what it has registered with atexit, which runs after what is
/// registered later.
fn close_at_exit() {
    extern "C" fn close() {
        plain((), skin::at_exit);
    }
    static REGISTERED: AtomicBool = AtomicBool::new(false);
    if !REGISTERED.swap(true, Ordering::Relaxed) && !on_exit(close) {
        // With the next buffer it may succeed.
        REGISTERED.store(false, Ordering::Relaxed);
    }
}

/// Ends every wait of this process, now and from now on: every buffer is closed, and so is each that is made
/// later. Never waits.
///
/// It is called by itself at exit, before what was registered with atexit before the first buffer was made. A
/// host that waits for its threads earlier calls it where it learns that it ends: in Node for instance in
/// process.on("exit"), because process.exit first waits for threads which may be receiving. Not called by
/// quick_exit and _exit. In a child of fork it concerns the child's own buffers.
#[unsafe(no_mangle)]
pub extern "C" fn ms_shutdown() {
    plain((), shutdown);
}

/// Receives the next message as JSON and acks it before you have used it: if your program crashes then, a
/// checkpoint does not bring it back (at most once). Where no message may be lost, use ms_buffer_recv_message,
/// and ms_message_ack when you are done with the message.
///
/// Waits for as long as it takes. Yours: release the text with ms_string_free.
///
/// NULL without an error: the buffer is drained, and closed or without a running worker. NULL with an
/// error: a worker failed, which ms_error_worker names, and receiving may go on; or the mistake is
/// your own (ms_error_worker is NULL): stop looping. On a buffer that no worker has fed yet it waits.
#[unsafe(no_mangle)]
#[must_use = "it is yours to release"]
pub unsafe extern "C" fn ms_buffer_recv(
    buffer: *mut ms_buffer,
    error: *mut *mut ms_error,
) -> *mut c_char {
    pointer(error, || {
        // SAFETY: NULL or a live buffer, as the C API asks for.
        let buffer = &unsafe { required(buffer, "buffer") }?.buffer;
        let Some(message) = buffer.recv()? else { return Ok(ptr::null_mut()) };
        let mut json = String::with_capacity(message.bson().len() * 2);
        message.write_json(&mut json);
        let text = give_text(&json)?;
        message.ack();
        Ok(text)
    })
}

/// Releases text that a function of this header has returned as char *. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_string_free(text: *mut c_char) {
    // SAFETY: NULL or from `give_text`, which uses malloc, and used no more.
    unsafe { libc::free(text.cast()) }
}

/// Waits for the next message for at most timeout_ms milliseconds (below 0 for ever, 0 not at all). It counts
/// as done when you ack it with ms_message_ack: after a restart a worker with a checkpoint continues with the
/// first message that was not acked.
///
/// MS_OK: *message is yours, release it with ms_message_free. MS_TIMEOUT. MS_CLOSED: the buffer is
/// drained, and closed or without a running worker. An error as for ms_buffer_recv.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_buffer_recv_message(
    buffer: *mut ms_buffer,
    timeout_ms: i64,
    message: *mut *mut ms_message,
    error: *mut *mut ms_error,
) -> ms_status {
    status(error, || {
        // SAFETY: each is NULL or valid, as the C API asks for.
        let (buffer, place) = unsafe {
            (required(buffer, "buffer")?, OutParam::required(message, "the place for the message")?)
        };
        let received = skin::receive(&buffer.buffer, wait_of(timeout_ms))?;
        Ok(put(received, place, |message| ms_message { message }))
    })
}

/// Waits for one message for at most timeout_ms milliseconds (below 0 for ever, 0 not at all), then
/// takes what is already there, up to max messages; it never waits to fill the batch.
///
/// MS_OK: *batch is yours, release it with ms_batch_free. Otherwise as ms_buffer_recv_message. A
/// failure that stands after some messages comes with the next call; each is given to one consumer,
/// once. A max of 0 is MS_ERR_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_buffer_recv_batch(
    buffer: *mut ms_buffer,
    max: usize,
    timeout_ms: i64,
    batch: *mut *mut ms_batch,
    error: *mut *mut ms_error,
) -> ms_status {
    status(error, || {
        // SAFETY: each is NULL or valid, as the C API asks for.
        let (buffer, place) = unsafe {
            (required(buffer, "buffer")?, OutParam::required(batch, "the place for the batch")?)
        };
        if max == 0 {
            return Err(argument("max is 0; a batch has at least one message"));
        }
        let received = skin::receive_batch(&buffer.buffer, max, wait_of(timeout_ms))?;
        Ok(put(received, place, ms_batch::new))
    })
}

fn put<T, U>(
    received: Received<T>,
    place: OutParam<*mut U>,
    make: impl FnOnce(T) -> U,
) -> ms_status {
    match received {
        Received::Some(value) => {
            place.put(give(make(value)));
            MS_OK
        }
        Received::Timeout => MS_TIMEOUT,
        Received::Closed => MS_CLOSED,
    }
}

/// A descriptor for poll, epoll or an event loop: readable while a receive would not wait (a message,
/// a failure, or closed); level-triggered. Made on the first call; it belongs to the buffer: do not
/// read, write or close it. With several consumers receive with timeout 0, another one may have been
/// faster. -1 where the system gives none, and for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_buffer_fd(buffer: *mut ms_buffer) -> c_int {
    #[cfg(unix)]
    return plain(-1, || {
        use std::os::fd::AsRawFd;
        // SAFETY: NULL or a live buffer, as the C API asks for.
        let buffer = unsafe { borrow(buffer) };
        buffer.and_then(|buffer| buffer.buffer.fd().ok()).map_or(-1, |fd| fd.as_raw_fd())
    });
    #[cfg(not(unix))]
    {
        let _ = buffer;
        -1
    }
}

/// How many messages are queued now; 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_buffer_len(buffer: *const ms_buffer) -> usize {
    // SAFETY: NULL or a live buffer, as the C API asks for.
    plain(0, || unsafe { borrow(buffer) }.map_or(0, |buffer| buffer.buffer.len()))
}

/// Figures of the buffer and of each of its workers as JSON, on one line: what is queued, received,
/// delivered and not acked, how far each worker is behind, its last error. docs/STATISTICS.md describes
/// every key; more may come. Cheap enough to be asked for every second. Yours: release it with
/// ms_string_free. NULL for NULL, and in a child of fork.
#[unsafe(no_mangle)]
#[must_use = "it is yours to release"]
pub unsafe extern "C" fn ms_buffer_stats(buffer: *const ms_buffer) -> *mut c_char {
    plain(ptr::null_mut(), || {
        // SAFETY: NULL or a live buffer, as the C API asks for.
        let buffer = unsafe { borrow(buffer) };
        let stats = buffer.and_then(|buffer| buffer.buffer.stats().ok());
        stats.and_then(|stats| give_text(&stats.to_json()).ok()).unwrap_or(ptr::null_mut())
    })
}

/// The same figures as OpenMetrics text, for an HTTP server that Prometheus asks. Its Content-Type is
/// "application/openmetrics-text; version=1.0.0; charset=utf-8". docs/STATISTICS.md describes every metric; more
/// may come. Yours: release it with ms_string_free. NULL for NULL, and in a child of fork.
#[unsafe(no_mangle)]
#[must_use = "it is yours to release"]
pub unsafe extern "C" fn ms_buffer_metrics(buffer: *const ms_buffer) -> *mut c_char {
    plain(ptr::null_mut(), || {
        // SAFETY: NULL or a live buffer, as the C API asks for.
        let buffer = unsafe { borrow(buffer) };
        let stats = buffer.and_then(|buffer| buffer.buffer.stats().ok());
        stats.and_then(|stats| give_text(&stats.to_open_metrics()).ok()).unwrap_or(ptr::null_mut())
    })
}

/// Stops the buffer's workers and wakes every consumer; what is queued can still be received. Never
/// waits; closing twice, or NULL, does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_buffer_close(buffer: *mut ms_buffer) {
    plain((), || {
        // SAFETY: NULL or a live buffer, as the C API asks for.
        if let Some(buffer) = unsafe { borrow(buffer) } {
            buffer.buffer.close();
        }
    });
}

/// Closes and releases a buffer; what is queued is dropped, unacked. Never waits. Workers and
/// messages may be freed before or after it, but no consumer may still be using it. NULL does
/// nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_buffer_free(buffer: *mut ms_buffer) {
    // SAFETY: NULL or a buffer that is used no more, as the C API asks for.
    unsafe { free(buffer) }
}
