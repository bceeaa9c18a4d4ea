//! The one place from which the library speaks: to the `log` crate's facade, to the callback that C has
//! set, and, where there is neither and `MONGOSTREAM_LOG` asks for it, to standard error.
//!
//! Only workers' threads speak, except of a start that has failed, and then only to standard error: a call
//! of the host's never waits for the host's own logger.

use std::cell::Cell;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::fmt::Arguments;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::error::{Error, ErrorKind, Result};
use crate::fork::Origin;

/// How much a line matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// As a limit: no line at all.
    Off,
    /// A worker has failed.
    Error,
    /// Something is wrong, and the worker goes on.
    Warn,
    /// A worker's stream is open, or has ended.
    Info,
    /// For whoever looks for a fault.
    Debug,
}

impl LogLevel {
    /// From the smallest to the largest.
    pub const ALL: [LogLevel; 5] =
        [LogLevel::Off, LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug];

    fn name(self) -> &'static str {
        match self {
            LogLevel::Off => "off",
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }
    }

    /// The facade's; `None` for `Off`.
    fn of_facade(self) -> Option<::log::Level> {
        match self {
            LogLevel::Off => None,
            LogLevel::Error => Some(::log::Level::Error),
            LogLevel::Warn => Some(::log::Level::Warn),
            LogLevel::Info => Some(::log::Level::Info),
            LogLevel::Debug => Some(::log::Level::Debug),
        }
    }
}

/// The target of every line in the facade.
const TARGET: &str = "mongostream";

/// Logs a line of a worker: `line!(LogLevel::Info, name, "streaming {what}")`. The rest is not even
/// evaluated when nobody listens.
macro_rules! line {
    ($level:expr, $worker:expr, $($text:tt)+) => {
        if $crate::log::is_wanted($level) {
            $crate::log::write($level, $worker, ::std::format_args!($($text)+));
        }
    };
}
pub(crate) use line;

/// The most that the callback wants, so that a line that nobody wants costs no lock. Which lines it
/// gets is decided by its [`Sink`].
static WANTED: AtomicU8 = AtomicU8::new(LogLevel::Off as u8);

pub(crate) fn is_wanted(level: LogLevel) -> bool {
    level as u8 <= WANTED.load(Ordering::Relaxed)
        || stderr::wants(level)
        || level.of_facade().is_some_and(|level| {
            shielded(|| ::log::log_enabled!(target: TARGET, level)).unwrap_or(false)
        })
}

pub(crate) fn write(level: LogLevel, worker: &str, text: Arguments<'_>) {
    if let Some(level) = level.of_facade() {
        shielded(|| ::log::log!(target: TARGET, level, "worker {worker}: {text}"));
    }
    let sink = Registry::existing().and_then(|registry| registry.sink());
    if let Some(sink) = sink.filter(|sink| level <= sink.level) {
        shielded(|| sink.write(level, worker, &text.to_string()));
    }
    if stderr::wants(level) {
        stderr::write(level, &format!("worker {worker}: {text}"));
    }
}

/// A worker could not even be started.
pub(crate) fn refused(worker: &str, error: &Error) {
    stderr::prepare();
    if stderr::wants(LogLevel::Error) {
        stderr::write(LogLevel::Error, &format!("worker {worker}: cannot start: {error}"));
    }
}

/// C has no place for the error of a call. That of a worker has its line already.
pub fn unheard(error: &Error) {
    stderr::prepare();
    if error.worker().is_none() && stderr::wants(LogLevel::Error) {
        stderr::write(LogLevel::Error, &error.to_string());
    }
}

/// Whether the host listens by itself.
fn is_heard() -> bool {
    WANTED.load(Ordering::Relaxed) != LogLevel::Off as u8
        || ::log::max_level() != ::log::LevelFilter::Off
}

/// Standard error, for who asks for it from outside the program.
pub(crate) mod stderr {
    use std::ffi::OsStr;
    use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

    use super::{LogLevel, is_heard};

    const VARIABLE: &str = "MONGOSTREAM_LOG";

    /// Up to which level it wants lines.
    static LEVEL: AtomicU8 = AtomicU8::new(UNREAD);

    const UNREAD: u8 = u8::MAX;

    /// Reads the environment, once. Called on threads of the host's, before there are others: who changes the
    /// environment knows of them. No lock, which a thread that is not in a forked child could hold.
    pub(crate) fn prepare() {
        if LEVEL.load(Relaxed) != UNREAD {
            return;
        }
        let value = std::env::var_os(VARIABLE).unwrap_or_default();
        let level = level_of(&value);
        let read = level.unwrap_or(LogLevel::Off) as u8;
        let is_first = LEVEL.compare_exchange(UNREAD, read, Relaxed, Relaxed).is_ok();
        if is_first && level.is_none() && !is_heard() {
            let text = format!(
                "{VARIABLE}={} is no level, so nothing is logged: use error, warn, info or debug",
                value.display()
            );
            write(LogLevel::Error, &text);
        }
    }

    fn level_of(value: &OsStr) -> Option<LogLevel> {
        if value.is_empty() {
            return Some(LogLevel::Off);
        }
        LogLevel::ALL.into_iter().find(|level| value.eq_ignore_ascii_case(level.name()))
    }

    pub(super) fn wants(level: LogLevel) -> bool {
        let limit = LEVEL.load(Relaxed);
        limit != UNREAD && level as u8 <= limit && !is_heard()
    }

    /// Nobody can be told if it fails.
    pub(super) fn write(level: LogLevel, text: &str) {
        let text = text.trim_end().replace(['\n', '\r'], " ");
        write_all(format!("mongostream: {}: {text}\n", level.name()).as_bytes());
    }

    /// Not by the standard library's `Stderr`, whose lock may be held for ever in a forked child.
    #[cfg(unix)]
    fn write_all(mut line: &[u8]) {
        while !line.is_empty() {
            match nix::unistd::write(std::io::stderr(), line) {
                Ok(written) if written > 0 => line = line.get(written..).unwrap_or_default(),
                Err(nix::errno::Errno::EINTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }

    #[cfg(not(unix))]
    fn write_all(line: &[u8]) {
        let _ = std::io::Write::write_all(&mut std::io::stderr(), line);
    }
}

/// A panic of the host's logger must not end a worker.
fn shielded<T>(call: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(AssertUnwindSafe(call)).ok()
}

/// What is called with each line: its level, the worker's name, and the text.
pub type Callback = dyn Fn(LogLevel, &CStr, &CStr) + Send + Sync;

/// A callback that is set. Each call holds it, so that its end is the end of all calls.
struct Sink {
    level: LogLevel,
    callback: Arc<Callback>,
    /// Never carries anything; dropped after the callback, by whoever lets go of the sink last.
    _alive: Sender<Infallible>,
}

thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

impl Sink {
    fn write(&self, level: LogLevel, worker: &str, text: &str) {
        struct Leave;
        impl Drop for Leave {
            fn drop(&mut self) {
                IN_CALLBACK.set(false);
            }
        }
        // What a callback causes is not told to it: it would never end.
        if IN_CALLBACK.replace(true) {
            return;
        }
        let _leave = Leave;
        // C would see a text only up to a NUL.
        let text_of = |text: &str| CString::new(text.replace('\0', "\u{fffd}"));
        let text = text.trim_end_matches(['\n', '\r']);
        if let (Ok(worker), Ok(text)) = (text_of(worker), text_of(text)) {
            (self.callback)(level, &worker, &text);
        }
    }
}

/// A sink, and the end of its last call.
struct Current {
    sink: Arc<Sink>,
    ended: Receiver<Infallible>,
}

impl Current {
    fn new(level: LogLevel, callback: Arc<Callback>) -> Self {
        let (alive, ended) = bounded(0);
        Self { sink: Arc::new(Sink { level, callback, _alive: alive }), ended }
    }
}

/// Where a process keeps its sink.
///
/// A forked child has one of its own: the locks of its parent's may be held for ever, and calls may
/// be running in it that never end. It begins with the parent's callback, because a host that sets
/// one, forks into the background and starts its workers there wants their lines.
struct Registry {
    origin: Origin,
    /// Held by who changes the sink, also while waiting for calls to end. Never by who logs.
    changing: Mutex<()>,
    current: Mutex<Option<Current>>,
    child: OnceLock<Box<Registry>>,
}

static FIRST: OnceLock<Registry> = OnceLock::new();

impl Registry {
    fn new(current: Option<Current>) -> Self {
        Self {
            origin: Origin::here(),
            changing: Mutex::new(()),
            current: Mutex::new(current),
            child: OnceLock::new(),
        }
    }

    /// This process's; `None` if no callback was ever set.
    fn existing() -> Option<&'static Self> {
        let mut registry = FIRST.get()?;
        while !registry.origin.is_here() {
            registry = registry.child.get_or_init(|| Box::new(registry.inherited()));
        }
        Some(registry)
    }

    fn inherited(&self) -> Self {
        // Held only if the fork came in the middle of a change; then there is nothing to go by.
        let current = self.current.try_lock().ok();
        let sink = current.as_ref().and_then(|current| Some(&current.as_ref()?.sink));
        Self::new(sink.map(|sink| Current::new(sink.level, Arc::clone(&sink.callback))))
    }

    fn current(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sink(&self) -> Option<Arc<Sink>> {
        self.current().as_ref().map(|current| Arc::clone(&current.sink))
    }
}

/// Sets the callback, or none, and waits until no call of the one before is running.
///
/// Meanwhile other threads log on: to the new callback.
pub fn set(new: Option<(LogLevel, Arc<Callback>)>) -> Result<()> {
    if IN_CALLBACK.get() {
        return Err(Error::new(
            ErrorKind::State,
            "a log callback cannot be changed from inside one: it would wait for itself",
        ));
    }
    FIRST.get_or_init(|| Registry::new(None));
    let Some(registry) = Registry::existing() else { return Ok(()) };
    let _changing = registry.changing.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = new.as_ref().map_or(LogLevel::Off, |(level, _)| *level);
    let new = new.map(|(level, callback)| Current::new(level, callback));
    let old = std::mem::replace(&mut *registry.current(), new);
    WANTED.store(wanted as u8, Ordering::Relaxed);
    if let Some(Current { sink, ended }) = old {
        drop(sink);
        // Disconnected, as nothing is ever sent.
        let _ = ended.recv();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_nobody_wants_is_not_evaluated() {
        fn text() -> String {
            panic!("it is not wanted")
        }
        line!(LogLevel::Error, "w", "{}", text());
    }

    thread_local! {
        static PANICS: Cell<bool> = const { Cell::new(false) };
    }

    /// Wants nothing.
    struct Logger;

    impl ::log::Log for Logger {
        fn enabled(&self, _: &::log::Metadata<'_>) -> bool {
            assert!(!PANICS.get(), "this logger panics when it is asked what it wants");
            false
        }

        fn log(&self, _: &::log::Record<'_>) {}

        fn flush(&self) {}
    }

    #[test]
    fn a_logger_that_panics_when_it_is_asked_what_it_wants_does_no_harm() {
        ::log::set_logger(&Logger).unwrap();
        ::log::set_max_level(::log::LevelFilter::Trace);
        PANICS.set(true);
        line!(LogLevel::Error, "w", "it is not wanted");
        PANICS.set(false);
    }

    #[test]
    fn a_callback_gets_a_whole_line_without_its_end() {
        let (sender, lines) = crossbeam_channel::unbounded();
        let callback: Arc<Callback> = Arc::new(move |level, worker: &CStr, text: &CStr| {
            let [worker, text] = [worker, text].map(|text| text.to_string_lossy().into_owned());
            let _ = sender.send((level, worker, text));
        });
        let current = Current::new(LogLevel::Info, callback);
        current.sink.write(LogLevel::Info, "w\0", "a\0b\r\n");
        let expected = (LogLevel::Info, "w\u{fffd}".to_owned(), "a\u{fffd}b".to_owned());
        assert_eq!(lines.try_recv(), Ok(expected));
    }
}
