//! How a call from C ends: with a status or a pointer, and an error for the caller.

use std::ptr;

use library::{Error, Result, skin};

use crate::boundary::{OutParam, caught, give, plain};
use crate::error::ms_error;
use crate::status::{ms_status, status_of};

/// Runs a call that answers with a status.
pub(crate) fn status(
    error: *mut *mut ms_error,
    call: impl FnOnce() -> Result<ms_status>,
) -> ms_status {
    fallible(error, call).unwrap_or_else(|failed| failed)
}

/// Runs a call that answers with a pointer, NULL if it fails.
pub(crate) fn pointer<T>(
    error: *mut *mut ms_error,
    call: impl FnOnce() -> Result<*mut T>,
) -> *mut T {
    fallible(error, call).unwrap_or(ptr::null_mut())
}

fn fallible<T>(
    error: *mut *mut ms_error,
    call: impl FnOnce() -> Result<T>,
) -> Result<T, ms_status> {
    caught(call).map_err(|failure| {
        let status = status_of(failure.kind());
        if let Err(failure) = report(error, failure) {
            plain((), || skin::unheard(&failure));
        }
        status
    })
}

/// Gives an error to C; back again if C has no place for it.
pub(crate) fn report(error: *mut *mut ms_error, failure: Error) -> Result<(), Error> {
    // SAFETY: `error` is NULL or points to a place for a pointer, by the rules of the C API.
    let Some(place) = (unsafe { OutParam::new(error) }) else { return Err(failure) };
    place.put(plain(ptr::null_mut(), || give(ms_error::new(failure))));
    Ok(())
}
