//! A store of checkpoints that the program brings along: functions of C's as the library's trait.

use std::any::Any;
use std::collections::HashSet;
use std::ffi::{CString, c_char, c_void};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};

use library::{CheckpointStore, StoreError};

use crate::boundary::text;

pub(crate) type Load = unsafe extern "C" fn(*mut c_void, *const c_char, *mut *mut c_char) -> i32;
pub(crate) type Save = unsafe extern "C" fn(*mut c_void, *const c_char, *const c_char) -> i32;
pub(crate) type Release = unsafe extern "C" fn(*mut c_void);

/// Functions of C's and what they are to be called with.
struct Store {
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

impl SharedStore {
    pub(crate) fn new(
        load: Load,
        save: Save,
        release: Option<Release>,
        user_data: *mut c_void,
    ) -> Self {
        Self(Arc::new(Store { load, save, release, user_data, claims: Mutex::default() }))
    }
}

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
