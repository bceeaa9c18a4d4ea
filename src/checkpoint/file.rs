//! A checkpoint in a file.

use std::any::Any;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::checkpoint::store::CheckpointStore;
use crate::checkpoint::store_error::StoreError;
use crate::error::Result;
use crate::fork::PrivateFile;

/// Keeps one checkpoint in a file.
///
/// A save replaces the file as a whole, fsynced: after a crash it holds the last text or the one
/// before. Beside it stand `NAME.lock`, which keeps a second process from using it (flock), and while
/// saving `NAME.new`. A file that is no checkpoint, or one of another stream, is an error and is never
/// overwritten.
///
/// The lock ends with the worker, or with its process; a child that the process has forked does not
/// hold it.
#[derive(Clone, Debug)]
pub struct FileCheckpoint {
    path: PathBuf,
    state: Arc<Presence>,
}

#[derive(Debug, Default)]
struct Presence {
    /// The file was there once, since the name was claimed.
    was_there: AtomicBool,
    /// It was not, when it was saved last.
    had_vanished: AtomicBool,
}

impl FileCheckpoint {
    /// The file need not exist yet, its directory must. A relative path is resolved now: the program may
    /// change its working directory afterwards.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        // Fails where there is no working directory, and where the path is empty: then nothing can be opened
        // there either, and the claim says so.
        let path = std::path::absolute(&path).unwrap_or(path);
        Self { path, state: Arc::default() }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(self.path.as_os_str());
        name.push(suffix);
        name.into()
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }
}

/// The lock of a file, given back when dropped.
struct Lock(PrivateFile);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not do: a child that was forked in between may have the file open as well.
        // In such a child the lock is the parent's.
        if let Some(file) = self.0.file() {
            let _ = file.unlock();
        }
    }
}

/// Makes a rename in this directory durable, where the file system can. Some cannot sync a directory
/// (EINVAL, ENOTSUP), and not everybody who may write into a directory may open it.
#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    use io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match File::open(directory).and_then(|directory| directory.sync_all()) {
        Err(error) if matches!(error.kind(), InvalidInput | PermissionDenied | Unsupported) => {
            Ok(())
        }
        synced => synced,
    }
}

#[cfg(not(unix))]
fn sync_directory(_directory: &Path) -> io::Result<()> {
    Ok(())
}

impl CheckpointStore for FileCheckpoint {
    fn place(&self) -> String {
        format!("file {}", self.path.display())
    }

    fn claim(&self, _name: &str) -> Result<Box<dyn Any + Send>, StoreError> {
        let path = self.beside(".lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| format!("{}: {error}", path.display()))?;
        let lock = Lock(PrivateFile::new(file));
        let Some(file) = lock.0.file() else {
            return Err("this process was forked just now".into());
        };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StoreError::in_use(
                    "another worker uses it; give each worker a file of its own",
                ));
            }
            Err(TryLockError::Error(error)) => {
                return Err(format!("{}: {error}", path.display()).into());
            }
        }
        self.state.was_there.store(false, Ordering::Relaxed);
        Ok(Box::new(lock))
    }

    fn load(&self, _name: &str) -> Result<Option<String>, StoreError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => {
                self.state.was_there.store(true, Ordering::Relaxed);
                Ok(Some(text))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn save(&self, _name: &str, text: &str) -> Result<(), StoreError> {
        let is_there = self.path.try_exists().unwrap_or(true);
        let new = self.beside(".new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&new, &self.path)?;
        // The rename itself is durable only with its directory.
        sync_directory(self.directory())?;
        let was_there = self.state.was_there.swap(true, Ordering::Relaxed);
        self.state.had_vanished.store(was_there && !is_there, Ordering::Relaxed);
        Ok(())
    }

    fn remark(&self, _name: &str) -> Option<String> {
        let vanished = self.state.had_vanished.swap(false, Ordering::Relaxed);
        vanished.then(|| "it had vanished, and is written again".to_owned())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_cannot_be_synced_is_no_failure_and_a_missing_one_is() {
        // The kernel cannot sync anything in there.
        let directory = Path::new("/proc/self");
        let refused = File::open(directory).unwrap().sync_all().unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput, "{refused}");
        sync_directory(directory).unwrap();
        let missing = sync_directory(Path::new("/proc/self/no-such-directory")).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound, "{missing}");
    }
}
