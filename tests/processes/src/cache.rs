//! The folder with what has been fetched. All tests of a machine share it.

use std::env;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::Error;
use crate::error::Context;

/// Something that is fetched once.
pub trait Entry {
    /// Name of its directory in the cache.
    fn name(&self) -> &str;

    /// How much is downloaded.
    fn megabytes(&self) -> u32;

    /// Whether a directory holds all of it.
    fn is_complete(&self, directory: &Path) -> bool;

    /// Puts it into the second directory. All that comes up on the way belongs into the first one.
    ///
    /// # Errors
    ///
    /// If it cannot be fetched: what to do then is in the text.
    fn fetch(&self, partial: &Path, ready: &Path) -> Result<(), Error>;

    /// Whether it has been fetched.
    fn is_cached(&self) -> bool {
        self.is_complete(&folder().join(self.name()))
    }

    /// Its directory. It is fetched if it is not there yet.
    ///
    /// # Errors
    ///
    /// That of [`fetch`](Self::fetch), or if there is no place for it.
    fn get(&self) -> Result<PathBuf, Error> {
        let cache = folder();
        let directory = cache.join(self.name());
        if self.is_complete(&directory) {
            return Ok(directory);
        }
        fs::create_dir_all(&cache).context(format!("cannot make the cache {}", cache.display()))?;
        // Test processes start side by side: one fetches, the others wait for it. The lock is the
        // kernel's, so it goes when its holder dies.
        let lock = cache.join(format!(".{}.lock", self.name()));
        let file = File::create(&lock).context(format!("cannot make {}", lock.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                say(&format!("waiting for another process to fetch {}", self.name()));
                file.lock().context("cannot lock the cache")?;
            }
            Err(TryLockError::Error(error)) => return Err(error).context("cannot lock the cache"),
        }
        if self.is_complete(&directory) {
            return Ok(directory);
        }
        let partial = cache.join(format!(".{}.partial", self.name()));
        // Left by a process that died here.
        remove(&partial)?;
        let ready = partial.join("ready");
        fs::create_dir_all(&ready).context(format!("cannot make {}", ready.display()))?;
        let result = fill(self, &cache, &partial, &ready).and_then(|()| {
            remove(&directory)?;
            fs::rename(&ready, &directory).context("cannot move the fetched files into the cache")
        });
        let _ = fs::remove_dir_all(&partial);
        result?;
        Ok(directory)
    }
}

fn fill<E: Entry + ?Sized>(
    entry: &E,
    cache: &Path,
    partial: &Path,
    ready: &Path,
) -> Result<(), Error> {
    let begun = Instant::now();
    let (name, megabytes) = (entry.name(), entry.megabytes());
    say(&format!("fetching {name} ({megabytes} MB, once; kept in {})", cache.display()));
    entry.fetch(partial, ready)?;
    if !entry.is_complete(ready) {
        return Err(Error::new(format!("{name}: what was fetched is not all of it")));
    }
    say(&format!("fetched {name} in {:.1} s", begun.elapsed().as_secs_f32()));
    Ok(())
}

/// Runs a command to its end. Its output goes to a file in the directory, where it is read if the command fails.
///
/// # Errors
///
/// If it fails: `way_out` says what to do.
pub fn run(command: &mut Command, directory: &Path, way_out: &str) -> Result<(), Error> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |why: String| Err(Error::new(format!("{name} failed: {why}\n{way_out}")));
    let path = directory.join("output");
    let output = File::create(&path).context(format!("cannot make {}", path.display()))?;
    let errors = output.try_clone().context("cannot share a file")?;
    let spawned = command.stdin(Stdio::null()).stdout(output).stderr(errors).spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) => return failed(format!("cannot run it: {error}")),
    };
    let begun = Instant::now();
    let mut told = 0;
    let status = loop {
        match child.try_wait().context(&name)? {
            Some(status) => break status,
            None => sleep(Duration::from_millis(20)),
        }
        // Somebody may be waiting for it before a terminal.
        let seconds = begun.elapsed().as_secs();
        if seconds >= told + 5 {
            told = seconds;
            say(&format!("{name}: {seconds} s, {} MB", bytes_in(directory) / 1_000_000));
        }
    };
    match status.success() {
        true => Ok(()),
        false => {
            let said = fs::read(&path).unwrap_or_default();
            failed(format!("{status}\n{}", String::from_utf8_lossy(&said).trim()))
        }
    }
}

/// Speaks past the test harness, which would hold `eprintln!` back until the test has failed.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "mongostream tests: {text}");
}

/// An environment variable that is set and not empty.
#[must_use]
pub fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn folder() -> PathBuf {
    if let Some(path) = variable("MONGOSTREAM_GROUND_CACHE") {
        return path;
    }
    let usual = variable("XDG_CACHE_HOME")
        .or_else(|| variable("HOME").map(|home| home.join(".cache")))
        .map(|path| path.join("mongostream"));
    match usual {
        Some(path) if fs::create_dir_all(&path).is_ok() => path,
        _ => env::temp_dir().join("mongostream-cache"),
    }
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).context(format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn bytes_in(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(data) if data.is_dir() => bytes_in(&entry.path()),
            Ok(data) => data.len(),
            Err(_) => 0,
        })
        .sum()
}
