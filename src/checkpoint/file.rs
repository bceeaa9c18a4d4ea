//! A checkpoint in a file.

use std::any::Any;
use std::ffi::OsString;
use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{CheckpointStore, StoreError};

/// Keeps one checkpoint in a file.
///
/// A save replaces the file as a whole, fsynced: after a crash it holds the last text or the one
/// before. Beside it stand `NAME.lock`, which keeps a second process from using it (flock), and while
/// saving `NAME.new`. A file that is no checkpoint, or one of another stream, is an error and is never
/// overwritten.
#[derive(Clone, Debug)]
pub struct FileCheckpoint {
    path: PathBuf,
}

impl FileCheckpoint {
    /// The file need not exist yet, its directory must.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
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

impl CheckpointStore for FileCheckpoint {
    fn place(&self) -> String {
        format!("file {}", self.path.display())
    }

    fn claim(&self, _name: &str) -> Result<Box<dyn Any + Send>, StoreError> {
        let lock =
            File::options().create(true).truncate(false).write(true).open(self.beside(".lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Box::new(lock)),
            Err(TryLockError::WouldBlock) => Err(StoreError::in_use(
                "another worker uses it; give each worker a file of its own",
            )),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    }

    fn load(&self, _name: &str) -> Result<Option<String>, StoreError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn save(&self, _name: &str, text: &str) -> Result<(), StoreError> {
        let new = self.beside(".new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        drop(file);
        std::fs::rename(&new, &self.path)?;
        // The rename itself is durable only with its directory.
        #[cfg(unix)]
        File::open(self.directory())?.sync_all()?;
        Ok(())
    }
}
