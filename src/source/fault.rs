//! A failure of the driver as plain values: what it was, and what a server said.
//!
//! Decisions are made on these values, not on the driver's errors. A test can make any of them.

use mongodb::error::{Error as DriverError, ErrorKind as DriverErrorKind};

use crate::source::unreachable::Unreachable;

/// The label by which servers since 4.4 say that a getMore's failure is resumable.
const RESUMABLE_LABEL: &str = "ResumableChangeStreamError";

/// A failure of a request, or of the way to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: FaultKind,
    /// What a server said. Where a login failed, what it said to that.
    pub(crate) answer: Option<Answer>,
    /// For people, without the driver's debugging details.
    pub(crate) text: String,
}

/// What kind of failure it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// A server has answered the command with a code.
    Server,
    /// A connection broke, or no server was found.
    Network,
    /// The driver has given up the connections to a server because another one of them failed.
    ConnectionsGivenUp,
    /// No server of the deployment can be used.
    Unreachable {
        /// It will not be otherwise before the URI is another one.
        is_final: bool,
    },
    /// A login has not succeeded. Whatever ended it is in here; nothing, if that was the user.
    Login(Option<Box<Fault>>),
    /// The URI or an option is wrong.
    Argument,
    /// Anything else: the driver's own checks, and ours.
    Other,
}

/// A server's answer to a command that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) code: i32,
    pub(crate) message: String,
    /// The server calls the failure resumable.
    pub(crate) is_resumable: bool,
}

impl Fault {
    /// The code of the server's answer.
    pub(crate) fn code(&self) -> Option<i32> {
        self.answer.as_ref().map(|answer| answer.code)
    }

    /// Whether the server's answer has this text.
    pub(crate) fn says(&self, text: &str) -> bool {
        self.answer.as_ref().is_some_and(|answer| answer.message.contains(text))
    }
}

impl From<&DriverError> for Fault {
    fn from(error: &DriverError) -> Self {
        let inner = wrapped(error).map(Fault::from);
        let kind = match &*error.kind {
            DriverErrorKind::Command(_) => FaultKind::Server,
            _ if Unreachable::of(error).is_some() => {
                let is_final = Unreachable::of(error).is_some_and(|reason| reason.is_final);
                FaultKind::Unreachable { is_final }
            }
            DriverErrorKind::Io(_)
            | DriverErrorKind::ServerSelection { .. }
            | DriverErrorKind::DnsResolve { .. } => FaultKind::Network,
            DriverErrorKind::ConnectionPoolCleared { .. } => FaultKind::ConnectionsGivenUp,
            DriverErrorKind::Authentication { .. } => FaultKind::Login(inner.clone().map(Box::new)),
            DriverErrorKind::InvalidArgument { .. } | DriverErrorKind::InvalidTlsConfig { .. } => {
                FaultKind::Argument
            }
            _ => FaultKind::Other,
        };
        let answer = match &*error.kind {
            DriverErrorKind::Command(command) => Some(Answer {
                code: command.code,
                message: command.message.clone(),
                is_resumable: error.contains_label(RESUMABLE_LABEL),
            }),
            _ => inner.and_then(|inner| inner.answer),
        };
        Self { kind, answer, text: text_of(error) }
    }
}

impl From<DriverError> for Fault {
    fn from(error: DriverError) -> Self {
        Self::from(&error)
    }
}

/// The failure of which the driver has made this one. Whatever ends a login is an authentication failure to it.
fn wrapped(error: &DriverError) -> Option<&DriverError> {
    let source = std::error::Error::source(error)?;
    let boxed = || source.downcast_ref::<Box<DriverError>>().map(|error| &**error);
    source.downcast_ref::<DriverError>().or_else(boxed)
}

/// The driver's text without its debugging details.
fn text_of(error: &DriverError) -> String {
    match &*error.kind {
        DriverErrorKind::Command(command) if command.code_name.is_empty() => {
            format!("{} (code {})", command.message, command.code)
        }
        DriverErrorKind::Command(command) => {
            format!("{} (code {}, {})", command.message, command.code, command.code_name)
        }
        DriverErrorKind::InvalidArgument { message, .. } => message.clone(),
        // Of ours.
        DriverErrorKind::Custom(_) => match error.get_custom::<String>() {
            Some(text) => text.clone(),
            None => "an unknown failure".to_owned(),
        },
        DriverErrorKind::Io(inner) => match inner.get_ref() {
            Some(reason) => reason.to_string(),
            None => format!("I/O error: {inner}"),
        },
        // Without the dump of the other failure.
        DriverErrorKind::ConnectionPoolCleared { message, .. } => {
            let text = message.split(" because another operation failed").next();
            let text = text.and_then(|text| text.strip_prefix("Connection pool for "));
            match text.and_then(|text| text.strip_suffix(" cleared")) {
                Some(server) => {
                    format!("the connections to {server} were given up, since another one failed")
                }
                None => "the connections were given up, since another one failed".to_owned(),
            }
        }
        DriverErrorKind::ServerSelection { .. } => "no server can be used".to_owned(),
        kind => kind.to_string(),
    }
}
