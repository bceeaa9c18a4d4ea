//! `ms_log_set`: what the library has to say, given to a callback.

use std::ffi::{CStr, c_char, c_void};
use std::ptr;
use std::sync::Arc;

use library::skin::{self, Callback, LogLevel};

use crate::boundary::argument;
use crate::calls::status;
use crate::status::{MS_OK, ms_status};

/// How much a line of the log matters.
#[repr(i32)]
#[derive(Clone, Copy)]
pub enum ms_log_level {
    /// As a limit: no lines.
    MS_LOG_OFF = 0,
    /// A worker has failed; the same error comes through its buffer.
    MS_LOG_ERROR = 1,
    /// Something is wrong, and the worker goes on: its stream broke and will be opened again.
    MS_LOG_WARN = 2,
    /// A worker's stream is open, or has ended because it was asked to.
    MS_LOG_INFO = 3,
    /// For whoever looks for a fault.
    MS_LOG_DEBUG = 4,
}

fn level_of(level: LogLevel) -> ms_log_level {
    match level {
        LogLevel::Off => ms_log_level::MS_LOG_OFF,
        LogLevel::Error => ms_log_level::MS_LOG_ERROR,
        LogLevel::Warn => ms_log_level::MS_LOG_WARN,
        LogLevel::Info => ms_log_level::MS_LOG_INFO,
        LogLevel::Debug => ms_log_level::MS_LOG_DEBUG,
    }
}

/// A function of C's and what it is to be called with.
struct Listener {
    callback: unsafe extern "C" fn(*mut c_void, ms_log_level, *const c_char, *const c_char),
    user_data: *mut c_void,
}

// SAFETY: C has promised with ms_log_set that both may be used from any thread.
unsafe impl Send for Listener {}
// SAFETY: as above, and from several threads at once.
unsafe impl Sync for Listener {}

impl Listener {
    fn call(&self, level: LogLevel, worker: &CStr, text: &CStr) {
        // SAFETY: `set_log` returns only when no call is running any more, and until then C keeps
        // the function and its data alive.
        unsafe {
            (self.callback)(self.user_data, level_of(level), worker.as_ptr(), text.as_ptr());
        }
    }
}

/// Sets the one callback of the process that gets every line up to max_level (MS_LOG_OFF: none), in
/// place of the one before. A NULL callback switches it off. No line holds credentials.
///
/// Without a callback nothing is logged, unless whoever runs the program asks for it: with the environment
/// variable MONGOSTREAM_LOG=error, warn, info or debug the lines up to this level are written to standard
/// error, and so is each error for which a call was given no place. The variable is read once, when the first
/// worker is started or the first call fails.
///
/// It returns after every running call of the callback before has ended: its user_data may be freed
/// then. So do not call it while you hold what the callback waits for.
///
/// The callback is called from the workers' threads, from several at once. worker is the name of the worker that
/// the line is about (ms_worker_name). message has no newline at its end. Both are UTF-8 and live only during the
/// call. A worker waits for the callback: let it be quick, wait for no worker in it, and never leave it with
/// longjmp or an exception.
///
/// MS_OK; MS_ERR_ARGUMENT for a max_level that does not exist, MS_ERR_STATE from inside a callback:
/// then nothing has changed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_log_set(
    callback: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            level: ms_log_level,
            worker: *const c_char,
            message: *const c_char,
        ),
    >,
    user_data: *mut c_void,
    max_level: i32,
) -> ms_status {
    status(ptr::null_mut(), || {
        let level = usize::try_from(max_level).ok().and_then(|level| LogLevel::ALL.get(level));
        let level = *level.ok_or_else(|| argument("there is no such log level"))?;
        let listener = callback.filter(|_| level != LogLevel::Off).map(|callback| {
            let listener = Listener { callback, user_data };
            let call: Arc<Callback> = Arc::new(move |level, worker: &CStr, text: &CStr| {
                listener.call(level, worker, text)
            });
            (level, call)
        });
        skin::set_log(listener)?;
        Ok(MS_OK)
    })
}
