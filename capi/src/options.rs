//! `ms_options`: a worker's settings, by name.

use std::ffi::{c_char, c_void};
use std::ptr;

use library::Options;

use crate::boundary::{
    argument, borrow, free, give, give_text, plain, required_mut, required_text,
};
use crate::calls::status;
use crate::checkpoint_store::SharedStore;
use crate::error::ms_error;
use crate::status::{MS_OK, ms_status};

/// A worker's settings. Use one from one thread at a time; it may serve for any number of workers,
/// each of which copies what it needs.
pub struct ms_options {
    pub(crate) options: Options,
    pub(crate) store: Option<SharedStore>,
}

/// Options with every default. Yours: release them with ms_options_free. NULL only on a bug.
#[unsafe(no_mangle)]
#[must_use = "it is yours to release"]
pub extern "C" fn ms_options_new() -> *mut ms_options {
    plain(ptr::null_mut(), || give(ms_options { options: Options::new(), store: None }))
}

/// Sets one option, see the MS_OPT macros; the last value set holds. Name and value are copied.
///
/// MS_OK; MS_ERR_ARGUMENT for an unknown name, a bad value, NULL or text that is not UTF-8, with an
/// error text that names the option and what it takes; the options are then as before. What can only
/// be checked when every option is known is checked by ms_worker_start.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_options_set(
    options: *mut ms_options,
    name: *const c_char,
    value: *const c_char,
    error: *mut *mut ms_error,
) -> ms_status {
    // SAFETY: each is NULL or valid, as the C API asks for, and the options are this thread's now.
    status(error, || unsafe {
        let name = required_text(name, "the option's name")?;
        let value = required_text(value, &format!("the value of option {name}"))?;
        required_mut(options, "options")?.options.set(name, value)?;
        Ok(MS_OK)
    })
}

/// A copy with every value that is set so far; later changes to one do not touch the other. Yours: release it
/// with ms_options_free. NULL for NULL.
#[unsafe(no_mangle)]
#[must_use = "it is yours to release"]
pub unsafe extern "C" fn ms_options_clone(options: *const ms_options) -> *mut ms_options {
    plain(ptr::null_mut(), || {
        // SAFETY: NULL or live options of this thread, as the C API asks for.
        let Some(from) = (unsafe { borrow(options) }) else { return ptr::null_mut() };
        give(ms_options { options: from.options.clone(), store: from.store.clone() })
    })
}

/// The table of options as a JSON array, for bindings, completions and forms. Each option is an object:
/// name; kind ("text", "integer", "boolean", "choice", "list", "json"); values (what it takes, in words);
/// choices (the words of a "choice", else empty); default (null if there is none); text (what it does). Later
/// versions may have more options, kinds and keys. Yours: release it with ms_string_free. NULL only without
/// memory.
#[unsafe(no_mangle)]
#[must_use = "it is yours to release"]
pub extern "C" fn ms_options_describe() -> *mut c_char {
    plain(ptr::null_mut(), || give_text(&library::describe_options()).unwrap_or(ptr::null_mut()))
}

/// Releases options. NULL does nothing. Workers that were started with them are not affected.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_options_free(options: *mut ms_options) {
    // SAFETY: NULL or options that are used no more, as the C API asks for.
    unsafe { free(options) }
}

/// Keeps the checkpoints of workers that are started with these options in a store of your own, in place of
/// checkpoint_file and checkpoint_collection. A checkpoint is one text for each name (see MS_OPT_CHECKPOINT_NAME).
/// The text is opaque.
///
/// load gives the text that was saved last under the name: *text is from malloc (the library frees it), or stays
/// NULL if there is none. save replaces the text: when it returns 0, the text must survive a crash of the machine;
/// else the text before must still be there. Both return 0 when it is done, a number above 0 if the same call may
/// succeed later (it is tried again), a number below 0 if not. name and text live only during the call.
///
/// Both are called from a thread of the library, for one worker one call after the other, for several workers at once.
/// They may wait: the stream goes on meanwhile. They must not call ms_worker_join, and never be left with longjmp or
/// an exception.
///
/// release (may be NULL) is called with user_data, once and from any thread, when nobody can call load or save any more: the options and their
/// copies are freed, and every worker that was started with them has ended and saved. Until then both functions and
/// user_data must stay usable. If this call fails, release is not called.
///
/// MS_OK; MS_ERR_ARGUMENT if options, load or save is NULL. A second call replaces the store of the first.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ms_options_set_checkpoint_store(
    options: *mut ms_options,
    load: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            name: *const c_char,
            text: *mut *mut c_char,
        ) -> i32,
    >,
    save: Option<
        unsafe extern "C" fn(
            user_data: *mut c_void,
            name: *const c_char,
            text: *const c_char,
        ) -> i32,
    >,
    release: Option<unsafe extern "C" fn(user_data: *mut c_void)>,
    user_data: *mut c_void,
    error: *mut *mut ms_error,
) -> ms_status {
    status(error, || {
        // SAFETY: NULL or live options of this thread, as the C API asks for.
        let options = unsafe { required_mut(options, "options") }?;
        let load = load.ok_or_else(|| argument("load is NULL"))?;
        let save = save.ok_or_else(|| argument("save is NULL"))?;
        options.store = Some(SharedStore::new(load, save, release, user_data));
        Ok(MS_OK)
    })
}
