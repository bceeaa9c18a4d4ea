//! What every call from C passes: panics are caught, pointers and text are checked.

use std::ffi::{CStr, c_char};
use std::panic::AssertUnwindSafe;
use std::ptr::{self, NonNull};

use library::{Error, ErrorKind, Result, skin};

/// Runs a call that cannot fail in words; `otherwise` is for a panic.
pub(crate) fn plain<T>(otherwise: T, call: impl FnOnce() -> T) -> T {
    std::panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or(otherwise)
}

/// Runs a call; a panic is an error like others.
pub(crate) fn caught<T>(call: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        let text =
            "a call into mongostream panicked; this is a bug in mongostream, please report it";
        Err(skin::error(ErrorKind::Panic, text, false))
    })
}

/// Hands an object over to C.
pub(crate) fn give<T>(object: T) -> *mut T {
    Box::into_raw(Box::new(object))
}

/// Takes an object back from C; `None` for NULL.
///
/// # Safety
///
/// `object` is NULL or came from [`give`], and is not used any more.
pub(crate) unsafe fn take<T>(object: *mut T) -> Option<Box<T>> {
    if object.is_null() {
        return None;
    }
    // SAFETY: not NULL, so from `give`, by the caller's word.
    Some(unsafe { Box::from_raw(object) })
}

/// Frees an object that came from [`give`]; NULL does nothing.
///
/// # Safety
///
/// As for [`take`].
pub(crate) unsafe fn free<T>(object: *mut T) {
    // SAFETY: the caller's word is the same as `take` asks for.
    plain((), || drop(unsafe { take(object) }));
}

/// Borrows an object that C holds; `None` for NULL.
///
/// # Safety
///
/// `object` is NULL or a live object from [`give`].
pub(crate) unsafe fn borrow<'a, T>(object: *const T) -> Option<&'a T> {
    // SAFETY: as the caller says.
    unsafe { object.as_ref() }
}

/// As [`borrow`], and NULL is the caller's mistake.
///
/// # Safety
///
/// As for [`borrow`].
pub(crate) unsafe fn required<'a, T>(object: *const T, what: &str) -> Result<&'a T> {
    // SAFETY: as the caller says.
    unsafe { borrow(object) }.ok_or_else(|| missing(what))
}

/// As [`required`], for an object that is changed.
///
/// # Safety
///
/// As for [`borrow`], and nobody else uses the object now.
pub(crate) unsafe fn required_mut<'a, T>(object: *mut T, what: &str) -> Result<&'a mut T> {
    // SAFETY: as the caller says.
    unsafe { object.as_mut() }.ok_or_else(|| missing(what))
}

/// Where C wants a result. Nothing need have been written there before, so it is never referred to, only
/// written.
pub(crate) struct OutParam<T>(NonNull<T>);

impl<T> OutParam<T> {
    /// `None` for NULL.
    ///
    /// # Safety
    ///
    /// `place` is NULL or points to writable memory for a `T`, which nobody else uses as long as this lives.
    pub(crate) unsafe fn new(place: *mut T) -> Option<Self> {
        NonNull::new(place).map(Self)
    }

    /// As [`new`](Self::new), and NULL is the caller's mistake.
    ///
    /// # Safety
    ///
    /// As for [`new`](Self::new).
    pub(crate) unsafe fn required(place: *mut T, what: &str) -> Result<Self> {
        // SAFETY: as the caller says.
        unsafe { Self::new(place) }.ok_or_else(|| missing(what))
    }

    pub(crate) fn put(self, value: T) {
        // SAFETY: it is writable memory for a `T`, by the word of who made this.
        unsafe { self.0.write(value) }
    }
}

/// The caller's mistake.
pub(crate) fn argument(text: impl Into<String>) -> Error {
    skin::error(ErrorKind::Argument, text, false)
}

fn missing(what: &str) -> Error {
    argument(format!("{what} is NULL"))
}

/// Text from C; `None` for NULL.
///
/// # Safety
///
/// `text` is NULL or a string that ends in NUL and stays as it is during the call.
pub(crate) unsafe fn text<'a>(text: *const c_char, what: &str) -> Result<Option<&'a str>> {
    if text.is_null() {
        return Ok(None);
    }
    // SAFETY: not NULL, and ends in NUL by the caller's word.
    let bytes = unsafe { CStr::from_ptr(text) };
    bytes.to_str().map(Some).map_err(|error| {
        argument(format!("{what} is not UTF-8 text: byte {} is wrong", error.valid_up_to()))
    })
}

/// As [`text`], and NULL is the caller's mistake.
///
/// # Safety
///
/// As for [`text`].
pub(crate) unsafe fn required_text<'a>(value: *const c_char, what: &str) -> Result<&'a str> {
    // SAFETY: as the caller says.
    unsafe { text(value, what) }?.ok_or_else(|| missing(what))
}

/// Text that C owns from now on, in memory of `malloc`, so that it is exactly as large as it must be
/// without a second allocation.
pub(crate) fn give_text(text: &str) -> Result<*mut c_char> {
    // SAFETY: malloc takes any size.
    let memory: *mut u8 = unsafe { libc::malloc(text.len() + 1) }.cast();
    if memory.is_null() {
        return Err(skin::error(ErrorKind::Resource, "out of memory", true));
    }
    // SAFETY: the memory has room for the text and its NUL and overlaps nothing.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr(), memory, text.len());
        memory.add(text.len()).write(0);
    }
    Ok(memory.cast())
}

/// Borrowed bytes for C, with their length if it is wanted.
///
/// # Safety
///
/// `length` is NULL or points to a place for a `usize`.
pub(crate) unsafe fn lend_bytes(bytes: &[u8], length: *mut usize) -> *const u8 {
    // SAFETY: as the caller says.
    if let Some(length) = unsafe { OutParam::new(length) } {
        length.put(bytes.len());
    }
    bytes.as_ptr()
}

/// Borrowed text for C, from bytes that end in a NUL; the length leaves the NUL out.
///
/// # Safety
///
/// As for [`lend_bytes`].
pub(crate) unsafe fn lend_text(with_nul: &[u8], length: *mut usize) -> *const c_char {
    let text = with_nul.strip_suffix(&[0]).unwrap_or_default();
    // SAFETY: as the caller says. The NUL stands right after the bytes that are lent.
    unsafe { lend_bytes(text, length) }.cast()
}

/// `handler` runs when the process exits: whether the system has taken it.
#[cfg(unix)]
pub(crate) fn on_exit(handler: extern "C" fn()) -> bool {
    // SAFETY: the handler is a function of this library, which is never unloaded.
    unsafe { libc::atexit(handler) == 0 }
}

#[cfg(not(unix))]
pub(crate) fn on_exit(_handler: extern "C" fn()) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A panic that writes nothing to standard error.
    fn panic() -> ! {
        std::panic::resume_unwind(Box::new("a test"))
    }

    #[test]
    fn a_panic_ends_before_c() {
        assert_eq!(plain(7, || panic()), 7);
        let error = caught::<()>(|| panic()).unwrap_err();
        assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Panic, false));
    }

    #[test]
    fn a_call_without_a_panic_answers_for_itself() {
        assert_eq!(plain(7, || 8), 8);
        assert_eq!(caught(|| Ok(8)).unwrap(), 8);
        assert_eq!(caught::<()>(|| Err(argument("no"))).unwrap_err().kind(), ErrorKind::Argument);
    }
}
