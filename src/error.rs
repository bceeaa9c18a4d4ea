//! What can go wrong, as a value.

use std::fmt;
use std::sync::Arc;

/// What kind of thing went wrong.
///
/// Each kind has a number and a name that are the same in every language, see [`status`](Self::status).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or option is wrong. Nothing was started.
    Argument,
    /// The call does not fit the object's state, such as starting a worker on a closed buffer.
    State,
    /// The process was forked after the library had started threads, which do not exist in the
    /// child.
    Forked,
    /// Another worker uses this checkpoint. The same call may succeed as soon as that one has ended.
    InUse,
    /// The system has no thread, descriptor or memory to give. The same call may succeed later.
    Resource,
    /// The deployment could not be reached, or not again within `retry_ms`.
    Connect,
    /// The server refused the credentials or lacks a privilege for them.
    Auth,
    /// The server refused the change stream for another reason; see
    /// [`Error::server_code`].
    Server,
    /// The server's oplog no longer reaches back to the point where the stream must go on.
    HistoryLost,
    /// The watched collection or database was dropped or renamed, and the stream was asked to stop
    /// there.
    Invalidated,
    /// A checkpoint could not be loaded or saved.
    Checkpoint,
    /// A change event is larger than the server can send.
    Oversized,
    /// Another worker has taken the lease over (option `standby`). What this one had not acked and saved comes from
    /// that one.
    Fenced,
    /// A bug: a thread of the library panicked, or met what should be impossible. The process goes on.
    Panic,
}

impl ErrorKind {
    /// Its number in every language, and in the statistics: the C API's `ms_status`. It never changes.
    pub const fn status(self) -> i32 {
        match self {
            ErrorKind::Argument => -1,
            ErrorKind::State => -2,
            ErrorKind::Forked => -3,
            ErrorKind::InUse => -4,
            ErrorKind::Resource => -5,
            ErrorKind::Connect => -10,
            ErrorKind::Auth => -11,
            ErrorKind::Server => -12,
            ErrorKind::HistoryLost => -13,
            ErrorKind::Invalidated => -14,
            ErrorKind::Checkpoint => -15,
            ErrorKind::Oversized => -16,
            ErrorKind::Fenced => -17,
            ErrorKind::Panic => -99,
        }
    }

    /// The name of that number in every language, and in the statistics.
    pub const fn status_name(self) -> &'static str {
        match self {
            ErrorKind::Argument => "MS_ERR_ARGUMENT",
            ErrorKind::State => "MS_ERR_STATE",
            ErrorKind::Forked => "MS_ERR_FORKED",
            ErrorKind::InUse => "MS_ERR_IN_USE",
            ErrorKind::Resource => "MS_ERR_RESOURCE",
            ErrorKind::Connect => "MS_ERR_CONNECT",
            ErrorKind::Auth => "MS_ERR_AUTH",
            ErrorKind::Server => "MS_ERR_SERVER",
            ErrorKind::HistoryLost => "MS_ERR_HISTORY_LOST",
            ErrorKind::Invalidated => "MS_ERR_INVALIDATED",
            ErrorKind::Checkpoint => "MS_ERR_CHECKPOINT",
            ErrorKind::Oversized => "MS_ERR_OVERSIZED",
            ErrorKind::Fenced => "MS_ERR_FENCED",
            ErrorKind::Panic => "MS_ERR_PANIC",
        }
    }
}

/// The name of its number, such as `MS_ERR_CONNECT`.
impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.status_name())
    }
}

/// What failed, where, and what to do about it.
///
/// The text ([`Display`](fmt::Display)) names the deployment without its credentials. Cloning is
/// cheap; an error may be sent to and shared between threads.
#[derive(Clone)]
pub struct Error(Arc<Details>);

#[derive(Clone)]
struct Details {
    kind: ErrorKind,
    message: String,
    server_code: i32,
    retriable: bool,
    worker: Option<String>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
}

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Details {
            kind,
            message: message.into(),
            server_code: 0,
            retriable: false,
            worker: None,
            source: None,
        }))
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Argument, message)
    }

    pub(crate) fn with_server_code(self, server_code: i32) -> Self {
        self.change(|inner| inner.server_code = server_code)
    }

    pub(crate) fn with_advice(self, advice: &str) -> Self {
        self.change(|inner| inner.message.push_str(advice))
    }

    pub(crate) fn retriable(self) -> Self {
        self.change(|inner| inner.retriable = true)
    }

    pub(crate) fn of_worker(self, name: &str) -> Self {
        self.change(|inner| inner.worker = Some(name.to_owned()))
    }

    /// What led to it. Its text is in this error's text already.
    pub(crate) fn with_source(
        self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.change(|inner| inner.source = Some(Arc::from(source.into())))
    }

    fn change(self, change: impl FnOnce(&mut Details)) -> Self {
        let mut inner = Arc::unwrap_or_clone(self.0);
        change(&mut inner);
        Self(Arc::new(inner))
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The server's error code, 0 if the error is not the server's.
    pub fn server_code(&self) -> i32 {
        self.0.server_code
    }

    /// Whether the same call, or the same worker started again, may succeed without a change by
    /// you: the network or an election was the cause.
    pub fn is_retriable(&self) -> bool {
        self.0.retriable
    }

    /// The name of the worker that failed; `None` where the mistake is the caller's own.
    ///
    /// A consumer that receives an error with a worker may go on receiving; one without should
    /// stop its loop.
    pub fn worker(&self) -> Option<&str> {
        self.0.worker.as_deref()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("server_code", &self.0.server_code)
            .field("retriable", &self.0.retriable)
            .field("worker", &self.0.worker)
            .finish()
    }
}

/// What led to the error, if that was an error as well: the system's or a checkpoint store's.
impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.0.source.as_deref()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_led_to_an_error_can_be_had() {
        use std::error::Error as _;
        let plain = Error::argument("no");
        assert!(plain.source().is_none());
        let error = plain.with_source("the reason").of_worker("copy");
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("the reason"));
        assert_eq!(
            (error.to_string(), error.kind().to_string()),
            ("no".to_owned(), "MS_ERR_ARGUMENT".to_owned())
        );
    }

    #[test]
    fn the_number_of_each_kind_stays_what_it_is() {
        use ErrorKind::*;
        let numbers = [
            (Argument, -1),
            (State, -2),
            (Forked, -3),
            (InUse, -4),
            (Resource, -5),
            (Connect, -10),
            (Auth, -11),
            (Server, -12),
            (HistoryLost, -13),
            (Invalidated, -14),
            (Checkpoint, -15),
            (Oversized, -16),
            (Panic, -99),
        ];
        for (kind, number) in numbers {
            assert_eq!(kind.status(), number, "{kind:?}");
            let words = kind.status_name().strip_prefix("MS_ERR_").unwrap().replace('_', "");
            assert_eq!(words, format!("{kind:?}").to_uppercase());
        }
    }

    #[test]
    fn what_is_added_to_an_error_is_there_and_the_rest_stays() {
        let plain = Error::new(ErrorKind::Server, "no");
        let full =
            plain.clone().with_server_code(7).with_advice("; wait").retriable().of_worker("shop");
        assert_eq!((plain.server_code(), plain.is_retriable(), plain.worker()), (0, false, None));
        assert_eq!((full.kind(), full.server_code()), (ErrorKind::Server, 7));
        assert_eq!((full.is_retriable(), full.worker()), (true, Some("shop")));
        assert_eq!((full.to_string(), plain.to_string()), ("no; wait".to_owned(), "no".to_owned()));
        let shown = format!("{full:?}");
        for part in ["Server", "no; wait", "7", "true", "shop"] {
            assert!(shown.contains(part), "{shown}");
        }
    }
}
