//! `ms_error`: what failed, where, and what to do about it.

use std::ffi::c_char;
use std::ptr;

use library::Error;
use library::skin::Text;

use crate::boundary::{borrow, free, lend_text, plain};
use crate::status::{MS_OK, ms_status, status_of};

/// What failed. Yours when a call has written it: release it with ms_error_free. May be read from
/// several threads at once.
pub struct ms_error {
    error: Error,
    message: Text,
    worker: Option<Text>,
}

impl ms_error {
    pub(crate) fn new(error: Error) -> Self {
        // C would see the text only up to a NUL.
        let message = Text::new(error.to_string().replace('\0', "\u{fffd}"));
        let worker = error.worker().map(|name| Text::new(name.to_owned()));
        Self { error, message, worker }
    }
}

/// What kind of thing went wrong: one of the MS_ERR values; MS_OK for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_error_status(error: *const ms_error) -> ms_status {
    // SAFETY: NULL or a live error, as the C API asks for.
    plain(MS_OK, || unsafe { borrow(error) }.map_or(MS_OK, |error| status_of(error.error.kind())))
}

/// What failed, on which deployment (its URI without credentials) and what to do, in English UTF-8.
/// Borrowed, lives as long as the error; "" for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_error_message(error: *const ms_error) -> *const c_char {
    // SAFETY: NULL or a live error, as the C API asks for; a NULL length is allowed.
    plain(c"".as_ptr(), || unsafe {
        borrow(error).map_or(c"".as_ptr(), |e| lend_text(e.message.with_nul(), ptr::null_mut()))
    })
}

/// The server's error code (MongoDB manual, "Error Codes"); 0 if the error is not the server's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_error_server_code(error: *const ms_error) -> i32 {
    // SAFETY: NULL or a live error, as the C API asks for.
    plain(0, || unsafe { borrow(error) }.map_or(0, |error| error.error.server_code()))
}

/// Whether the same call, or the same worker started again, may succeed without a change by you: the
/// network or an election was the cause. False for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_error_is_retriable(error: *const ms_error) -> bool {
    // SAFETY: NULL or a live error, as the C API asks for.
    plain(false, || unsafe { borrow(error) }.is_some_and(|error| error.error.is_retriable()))
}

/// The name of the worker that failed: receiving from the buffer may go on. NULL if the mistake is
/// your own: stop looping. Borrowed, lives as long as the error.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_error_worker(error: *const ms_error) -> *const c_char {
    // SAFETY: NULL or a live error, as the C API asks for; a NULL length is allowed.
    plain(ptr::null(), || unsafe {
        borrow(error)
            .and_then(|error| error.worker.as_ref())
            .map_or(ptr::null(), |name| lend_text(name.with_nul(), ptr::null_mut()))
    })
}

/// Releases an error. NULL does nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_error_free(error: *mut ms_error) {
    // SAFETY: NULL or an error that is used no more, as the C API asks for.
    unsafe { free(error) }
}

#[cfg(test)]
mod tests {
    use library::ErrorKind;
    use library::skin;

    use super::*;

    #[test]
    fn c_sees_the_whole_text_although_it_has_a_nul() {
        let error = ms_error::new(skin::error(ErrorKind::Server, "before\0after", false));
        assert_eq!(error.message.with_nul(), "before\u{fffd}after\0".as_bytes());
    }
}
