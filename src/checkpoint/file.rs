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
        // An absolute path has one, unless it is the root, which is no file.
        self.path.parent().unwrap_or(&self.path)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of its own, removed in the end.
    struct Directory(PathBuf);

    impl Directory {
        fn new(test: &str) -> Self {
            let name = format!("mongostream-{test}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn names(&self) -> Vec<String> {
            let entries = std::fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> = entries
                .map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned())
                .collect();
            names.sort();
            names
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_text_is_saved_and_loaded() {
        let directory = Directory::new("saved");
        let path = directory.0.join("orders.token");
        let store = FileCheckpoint::new(&path);
        assert_eq!(store.place(), format!("file {}", path.display()));
        assert_eq!(store.directory(), directory.0);
        let claim = store.claim("orders").unwrap();
        assert_eq!(store.load("orders").unwrap(), None);
        store.save("orders", "first").unwrap();
        store.save("orders", "second").unwrap();
        assert_eq!(store.load("orders").unwrap().as_deref(), Some("second\n"));
        drop(claim);
        assert_eq!(directory.names(), ["orders.token", "orders.token.lock"]);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_and_not_a_missing_one() {
        let directory = Directory::new("unreadable");
        let store = FileCheckpoint::new(&directory.0);
        assert!(store.load("orders").is_err(), "it is a directory");
        assert!(store.save("orders", "text").is_err());
        let store = FileCheckpoint::new(directory.0.join("missing/orders.token"));
        assert_eq!(store.load("orders").unwrap(), None);
        assert!(store.save("orders", "text").is_err());
        let Err(error) = store.claim("orders") else { panic!("there is no such directory") };
        assert!(!error.is_in_use() && error.to_string().contains("missing"), "{error}");
    }

    #[test]
    fn a_file_has_one_worker_at_a_time() {
        let directory = Directory::new("claimed");
        let path = directory.0.join("orders.token");
        let (first, second) = (FileCheckpoint::new(&path), FileCheckpoint::new(&path));
        let claim = first.claim("orders").unwrap();
        assert!(second.claim("orders").err().is_some_and(|error| error.is_in_use()));
        drop(claim);
        assert!(second.claim("orders").is_ok());
    }

    #[test]
    fn a_file_that_has_vanished_is_a_remark_when_it_is_written_again() {
        let directory = Directory::new("vanished");
        let path = directory.0.join("orders.token");
        let store = FileCheckpoint::new(&path);
        let saved = |text| {
            store.save("orders", text).unwrap();
            store.remark("orders")
        };
        let claim = store.claim("orders").unwrap();
        assert_eq!(saved("first"), None, "it was never there");
        assert_eq!(saved("second"), None, "it is there");
        std::fs::remove_file(&path).unwrap();
        let remark = saved("third");
        assert_eq!(remark.as_deref(), Some("it had vanished, and is written again"));
        assert_eq!(store.remark("orders"), None, "once");
        assert_eq!(saved("fourth"), None);
        drop(claim);
        // Whoever removes it between two claims starts anew.
        std::fs::remove_file(&path).unwrap();
        let claim = store.claim("orders").unwrap();
        assert_eq!(saved("fifth"), None);
        drop(claim);
        let _claim = store.claim("orders").unwrap();
        store.load("orders").unwrap();
        std::fs::remove_file(&path).unwrap();
        assert!(saved("sixth").is_some(), "it was there when it was loaded");
    }

    #[cfg(target_os = "linux")]
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
