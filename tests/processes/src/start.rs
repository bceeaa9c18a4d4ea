//! Starting servers, again where another program has taken a port.

use std::env;
use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Instant;

use crate::error::Context;
use crate::{DEADLINE, Error};

/// A failed start.
#[derive(Debug)]
pub struct Fault {
    /// What is told.
    pub error: Error,
    /// Other ports may do better.
    pub port_taken: bool,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { error, port_taken: false }
    }
}

/// Starts servers in a directory of their own, which has the label in its name. Between our look at a port and the
/// server's own, another program may take it: then all begins anew, with other ports.
///
/// # Errors
///
/// That of the last attempt.
pub fn start<T>(
    label: &str,
    mut attempt: impl FnMut(&Path, Instant) -> Result<T, Fault>,
) -> Result<T, Error> {
    let end = Instant::now() + DEADLINE;
    loop {
        let root = new_directory(label)?;
        match attempt(&root, end) {
            Ok(started) => return Ok(started),
            Err(fault) => {
                // No watchdog may have been there to do it.
                let _ = fs::remove_dir(&root);
                if !fault.port_taken || Instant::now() >= end {
                    return Err(fault.error);
                }
            }
        }
    }
}

/// The watchdog of its last node removes it.
fn new_directory(label: &str) -> Result<PathBuf, Error> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let temp = env::temp_dir();
    // The programs run in directories of their own.
    let temp = fs::canonicalize(&temp).context(format!("no folder {}", temp.display()))?;
    loop {
        let number = NUMBER.fetch_add(1, Relaxed);
        let path = temp.join(format!("mongostream-{label}-{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            // Of a process of the same number that died with its watchdogs.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).context(format!("cannot make {}", path.display())),
        }
    }
}
