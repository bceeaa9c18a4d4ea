//! `ms_worker`: one thread that follows one change stream.

use std::ffi::c_char;
use std::ptr;

use library::{Result, Waited, Worker, WorkerState, skin};

use crate::boundary::{
    borrow, caught, free, give, give_text, lend_text, plain, required, required_text, text,
};
use crate::buffer::{ms_buffer, wait_of};
use crate::calls::{report, status};
use crate::error::ms_error;
use crate::options::ms_options;
use crate::status::{MS_CLOSED, MS_OK, MS_TIMEOUT, ms_status};

/// One thread that follows one change stream and feeds one buffer. May be used from any thread.
pub struct ms_worker {
    worker: Worker,
}

/// What a worker is doing.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ms_worker_state {
    /// It connects and opens its cursor for the first time.
    MS_WORKER_STARTING = 0,
    /// Its cursor is open.
    MS_WORKER_STREAMING = 1,
    /// Its cursor broke and it is opening it again, from where it was.
    MS_WORKER_RECONNECTING = 2,
    /// It has ended because it was asked to.
    MS_WORKER_STOPPED = 3,
    /// It has ended with a failure.
    MS_WORKER_FAILED = 4,
    /// Another worker holds its lease. It takes over when that one is gone (option standby).
    MS_WORKER_STANDBY = 5,
}

use ms_worker_state::*;

fn state_of(state: WorkerState) -> ms_worker_state {
    const ALL: [ms_worker_state; 6] = [
        MS_WORKER_STARTING,
        MS_WORKER_STREAMING,
        MS_WORKER_RECONNECTING,
        MS_WORKER_STOPPED,
        MS_WORKER_FAILED,
        MS_WORKER_STANDBY,
    ];
    let number = skin::number_of_state(state);
    ALL.into_iter().find(|known| *known as i32 == number).unwrap_or(MS_WORKER_FAILED)
}

/// Starts a worker on the deployment at uri (MongoDB manual, "Connection Strings"). collection NULL:
/// the whole database; database NULL too: the database in the URI's path, and where there is none, or
/// "/admin", the whole deployment. options may be NULL: every default.
/// Nothing is kept of the arguments but a reference to the buffer's inside.
///
/// Checks every argument and option now, and connects on the worker's own thread. What goes wrong there
/// comes through the buffer. Yours: release it with ms_worker_free. NULL on failure. If error is NULL too,
/// the failure comes through the buffer: the next receive returns it, and then the buffer is closed unless
/// another worker runs. So a program that ignores errors ends and does not wait for ever. The errors:
/// MS_ERR_ARGUMENT; MS_ERR_STATE for a closed buffer; MS_ERR_IN_USE if another worker uses the
/// checkpoint; MS_ERR_CHECKPOINT if its store cannot be used; MS_ERR_RESOURCE if the system gives no thread
/// or descriptor, and a later call may succeed; MS_ERR_FORKED.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_worker_start(
    uri: *const c_char,
    database: *const c_char,
    collection: *const c_char,
    buffer: *mut ms_buffer,
    options: *const ms_options,
    error: *mut *mut ms_error,
) -> *mut ms_worker {
    let mut name = "*".to_owned();
    // SAFETY: each is NULL or valid, as the C API asks for.
    let started = caught(|| unsafe {
        let mut watch = Worker::watch(required_text(uri, "uri")?);
        if let Some(name) = text(database, "database")? {
            watch = watch.database(name);
        }
        if let Some(name) = text(collection, "collection")? {
            watch = watch.collection(name);
        }
        if let Some(options) = borrow(options) {
            watch = watch.options(&options.options);
            if let Some(store) = &options.store {
                watch = watch.checkpoint(store.clone());
            }
        }
        name = skin::shown_name(&watch);
        let worker = watch.spawn(&required(buffer, "buffer")?.buffer)?;
        Ok(give(ms_worker { worker }))
    });
    let failure = match started {
        Ok(worker) => return worker,
        Err(failure) => failure,
    };
    plain((), || {
        skin::log_refusal(&name, &failure);
        // SAFETY: NULL or a live buffer, as the C API asks for.
        let buffer = unsafe { borrow(buffer) };
        if let (Err(failure), Some(buffer)) = (report(error, failure), buffer) {
            skin::refuse(&buffer.buffer, &name, failure);
        }
    });
    ptr::null_mut()
}

/// The worker's name, as in its messages and errors: the option name, or what it watches ("shop.orders").
/// Borrowed, lives as long as the worker's handle. NULL for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_worker_name(worker: *const ms_worker) -> *const c_char {
    plain(ptr::null(), || {
        // SAFETY: NULL or a live worker, as the C API asks for.
        let Some(worker) = (unsafe { borrow(worker) }) else { return ptr::null() };
        // SAFETY: a NULL length is allowed.
        unsafe { lend_text(skin::name(&worker.worker), ptr::null_mut()) }
    })
}

/// What the worker is doing now; MS_WORKER_STOPPED for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_worker_get_state(worker: *const ms_worker) -> ms_worker_state {
    plain(MS_WORKER_STOPPED, || {
        // SAFETY: NULL or a live worker, as the C API asks for.
        let Some(worker) = (unsafe { borrow(worker) }) else { return MS_WORKER_STOPPED };
        state_of(worker.worker.state())
    })
}

/// Waits for at most timeout_ms milliseconds (below 0 for ever, 0 not at all) until the cursor has
/// been open once: every later change will be delivered. Stays true afterwards.
///
/// MS_OK; MS_TIMEOUT; MS_CLOSED if the worker was stopped before; or why it failed (the failure still
/// comes through the buffer as well).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_worker_wait_ready(
    worker: *const ms_worker,
    timeout_ms: i64,
    error: *mut *mut ms_error,
) -> ms_status {
    status(error, || {
        // SAFETY: NULL or a live worker, as the C API asks for.
        let worker = unsafe { required(worker, "worker") }?;
        Ok(status_of_wait(skin::wait_ready(&worker.worker, wait_of(timeout_ms))?))
    })
}

fn status_of_wait(waited: Waited) -> ms_status {
    match waited {
        Waited::Done => MS_OK,
        Waited::Timeout => MS_TIMEOUT,
        Waited::Stopped => MS_CLOSED,
    }
}

/// Asks the worker to stop; never waits. What it has put into the buffer stays there. Stopping twice,
/// or NULL, does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_worker_stop(worker: *mut ms_worker) {
    plain((), || {
        // SAFETY: NULL or a live worker, as the C API asks for.
        if let Some(worker) = unsafe { borrow(worker) } {
            worker.worker.stop();
        }
    });
}

/// Waits for at most timeout_ms milliseconds (below 0 for ever, 0 not at all) until the worker has
/// ended and its checkpoint, if it has one, is saved; it does not ask it to end. Every ack made before
/// this call is then durable; acks made later may go unsaved.
///
/// MS_OK: it has ended, and its checkpoint is saved. MS_TIMEOUT: it has not ended yet, or its
/// checkpoint is not saved yet (ms_worker_get_state tells which); the save goes on, and the next call
/// tells how it ended. Else why the worker failed (the failure still comes through the buffer as
/// well), or MS_ERR_CHECKPOINT if the checkpoint could not be saved, at the latest after 5 s.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_worker_join(
    worker: *mut ms_worker,
    timeout_ms: i64,
    error: *mut *mut ms_error,
) -> ms_status {
    status(error, || {
        // SAFETY: NULL or a live worker, as the C API asks for.
        let worker = unsafe { required(worker, "worker") }?;
        Ok(status_of_wait(skin::join(&worker.worker, wait_of(timeout_ms))?))
    })
}

/// The resume token (JSON) up to which every message is acked: a worker started with it as
/// start_after goes on there. Before the first ack it is the token with which the stream was opened.
/// Yours: release it with ms_string_free. NULL before the stream was open, and for NULL.
#[unsafe(no_mangle)]
#[must_use = "it is yours to release"]
pub unsafe extern "C" fn ms_worker_resume_token(worker: *const ms_worker) -> *mut c_char {
    plain(ptr::null_mut(), || {
        // SAFETY: NULL or a live worker, as the C API asks for.
        let token = unsafe { borrow(worker) }.and_then(|worker| worker.worker.resume_token());
        let given: Result<_> = token.map_or(Ok(ptr::null_mut()), |token| give_text(&token));
        given.unwrap_or(ptr::null_mut())
    })
}

/// Stops the worker and lets it go; never waits. What is still to be saved of its checkpoint is saved
/// later; until then the checkpoint counts as in use, so join first to start again at once. The buffer may be freed before or after it. NULL
/// does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_worker_free(worker: *mut ms_worker) {
    // SAFETY: NULL or a worker that is used no more, as the C API asks for.
    unsafe { free(worker) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_number() {
        for (state, number) in [
            (WorkerState::Starting, MS_WORKER_STARTING),
            (WorkerState::Streaming, MS_WORKER_STREAMING),
            (WorkerState::Reconnecting, MS_WORKER_RECONNECTING),
            (WorkerState::Stopped, MS_WORKER_STOPPED),
            (WorkerState::Failed, MS_WORKER_FAILED),
            (WorkerState::Standby, MS_WORKER_STANDBY),
        ] {
            assert_eq!(state_of(state), number, "{state:?}");
        }
    }
}
