//! How a command ends that has not done what it was asked: what stderr is told, and the exit code.

use std::io::Write;
use std::process::ExitCode;

use mongostream::{Error, ErrorKind};

use crate::secrets::hide;

/// Why a command ends with another code than 0.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong: 2.
    Usage(String),
    /// It has not worked: 1.
    Failed(String),
    /// It has not worked, and everything is said already: 1.
    Told,
}

impl Failure {
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self::Usage(text.into())
    }

    pub(crate) fn failed(text: impl Into<String>) -> Self {
        Self::Failed(text.into())
    }

    /// Tells stderr, and gives the exit code.
    pub(crate) fn tell(self) -> ExitCode {
        let (text, code) = match self {
            Self::Usage(text) => (text, 2),
            Self::Failed(text) => (text, 1),
            Self::Told => return ExitCode::from(1),
        };
        // Not eprintln: it panics where stderr is closed.
        let _ = writeln!(std::io::stderr(), "error: {}", hide(&text));
        ExitCode::from(code)
    }
}

/// What the library finds wrong with its arguments came from the command line.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Argument => Self::Usage(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
