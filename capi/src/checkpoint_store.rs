//! `ms_options_set_checkpoint_store`: a store of checkpoints that the program brings along.

use std::any::Any;
use std::collections::HashSet;
use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use library::{CheckpointStore, StoreError};

use crate::boundary::{argument, required_mut, text};
use crate::calls::status;
use crate::error::ms_error;
use crate::options::ms_options;
use crate::status::{MS_OK, ms_status};

type Load = unsafe extern "C" fn(*mut c_void, *const c_char, *mut *mut c_char) -> i32;
type Save = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> i32;
type Release = unsafe extern "C" fn(*mut c_void);

/// Functions of C's and what they are to be called with.
pub(crate) struct Store {
    load: Load,
    save: Save,
    release: Option<Release>,
    user_data: *mut c_void,
    /// Names that a worker uses now.
    claims: Mutex<HashSet<String>>,
}

// SAFETY: C has promised with ms_options_set_checkpoint_store that all of it may be used from any thread.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some(release) = self.release {
            // SAFETY: nobody has the store any more, and C has promised that this may be called then.
            unsafe { release(self.user_data) }
        }
    }
}

/// What options and workers share.
#[derive(Clone)]
pub(crate) struct SharedStore(Arc<Store>);

/// A claim on a name, given up when dropped.
struct ClaimedName(Arc<Store>, String);

impl Drop for ClaimedName {
    fn drop(&mut self) {
        self.0.claims.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.1);
    }
}

/// What one of C's functions has answered.
fn answer(what: &str, answer: i32) -> Result<(), StoreError> {
    let text = || format!("the program's function to {what} it gave {answer}");
    match answer {
        0 => Ok(()),
        1.. => Err(StoreError::retriable(text())),
        _ => Err(text().into()),
    }
}

impl CheckpointStore for SharedStore {
    fn place(&self) -> String {
        "the program's own store".to_owned()
    }

    fn claim(&self, name: &str) -> Result<Box<dyn Any + Send>, StoreError> {
        let mut claims = self.0.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if !claims.insert(name.to_owned()) {
            return Err(StoreError::in_use(
                "another worker uses it; give each worker a checkpoint_name of its own",
            ));
        }
        Ok(Box::new(ClaimedName(Arc::clone(&self.0), name.to_owned())))
    }

    fn load(&self, name: &str) -> Result<Option<String>, StoreError> {
        let name = CString::new(name)?;
        let mut found: *mut c_char = ptr::null_mut();
        // SAFETY: C has promised that the function may be called so.
        let answered = unsafe { (self.0.load)(self.0.user_data, name.as_ptr(), &mut found) };
        // SAFETY: NULL or a string that C has made, which nobody else uses.
        let text = unsafe { text(found, "the checkpoint") }.map(|text| text.map(str::to_owned));
        // SAFETY: NULL or from malloc, as C has promised.
        unsafe { libc::free(found.cast()) };
        answer("load", answered)?;
        Ok(text?)
    }

    fn save(&self, name: &str, text: &str) -> Result<(), StoreError> {
        let (name, text) = (CString::new(name)?, CString::new(text)?);
        // SAFETY: C has promised that the function may be called so.
        answer("save", unsafe { (self.0.save)(self.0.user_data, name.as_ptr(), text.as_ptr()) })
    }
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
/// release (may be NULL) is called with user_data when nobody can call load or save any more: the options and their
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
        let claims = Mutex::default();
        options.store =
            Some(SharedStore(Arc::new(Store { load, save, release, user_data, claims })));
        Ok(MS_OK)
    })
}
