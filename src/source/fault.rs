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

#[cfg(test)]
mod tests {
    use std::io;

    use mongodb::options::ConnectionString;

    use super::*;

    /// The server's answer to a command that failed.
    fn command(code_name: &str) -> DriverError {
        let answer = bson::doc! { "code": 13, "codeName": code_name, "errmsg": "not authorized" };
        DriverErrorKind::Command(bson::deserialize_from_document(answer).unwrap()).into()
    }

    #[test]
    fn the_servers_answer_is_kept_with_its_code() {
        let fault = Fault::from(command("Unauthorized"));
        assert_eq!(fault.kind, FaultKind::Server);
        assert_eq!(fault.text, "not authorized (code 13, Unauthorized)");
        let (message, code) = ("not authorized".to_owned(), 13);
        assert_eq!(fault.answer, Some(Answer { code, message, is_resumable: false }));
        assert_eq!(fault.code(), Some(13));
        assert!(fault.says("authorized") && !fault.says("Unauthorized"));
        assert_eq!(Fault::from(command("")).text, "not authorized (code 13)");
    }

    #[test]
    fn a_broken_connection_is_the_networks_fault() {
        let broken = Fault::from(DriverError::from(io::Error::other("it broke")));
        assert_eq!((broken.kind, broken.text.as_str()), (FaultKind::Network, "it broke"));
        assert_eq!(broken.answer, None);
        let reset = Fault::from(DriverError::from(io::ErrorKind::ConnectionReset));
        assert_eq!(reset.text, "I/O error: connection reset");
    }

    #[test]
    fn a_deployment_that_cannot_be_reached_says_whether_that_is_final() {
        for is_final in [false, true] {
            let reason = Unreachable { text: "nobody listens".to_owned(), is_final };
            let fault = Fault::from(DriverError::from(reason));
            assert_eq!(fault.kind, FaultKind::Unreachable { is_final });
            assert_eq!(fault.text, "nobody listens");
        }
    }

    #[test]
    fn a_wrong_uri_is_the_callers_fault() {
        let error = ConnectionString::parse("nonsense").unwrap_err();
        let fault = Fault::from(error.clone());
        assert_eq!(fault.kind, FaultKind::Argument);
        assert_eq!(
            format!("An invalid argument was provided: {}", fault.text),
            error.kind.to_string()
        );
    }

    #[test]
    fn our_own_failures_are_texts() {
        let own = Fault::from(DriverError::custom("of ours".to_owned()));
        assert_eq!((own.kind, own.text.as_str()), (FaultKind::Other, "of ours"));
        assert_eq!(Fault::from(DriverError::custom(1)).text, "an unknown failure");
    }
}
