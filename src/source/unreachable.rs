//! That no server of a deployment can be used, as a failure of the driver that carries its reason.

use std::fmt;
use std::io;

use mongodb::error::{Error as DriverError, ErrorKind as DriverErrorKind};

/// No server of the deployment can be used, and why.
#[derive(Debug)]
pub(crate) struct Unreachable {
    pub(crate) text: String,
    /// It will not be otherwise before the URI is another one.
    pub(crate) is_final: bool,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Unreachable {}

impl Unreachable {
    /// What is behind this failure, if it is that.
    pub(crate) fn of(error: &DriverError) -> Option<&Self> {
        let DriverErrorKind::Io(error) = &*error.kind else { return None };
        error.get_ref()?.downcast_ref()
    }
}

impl From<Unreachable> for DriverError {
    fn from(unreachable: Unreachable) -> Self {
        io::Error::new(io::ErrorKind::NotConnected, unreachable).into()
    }
}
