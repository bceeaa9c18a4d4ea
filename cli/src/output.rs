//! What a command prints: whoever stops reading ends it in order.

use std::io::{self, Write};

use crate::failure::Failure;

/// Writes all of it to stdout. A closed stdout is no failure: nobody wants the rest.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    told(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()))
}

fn told(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| unwritten(&error)),
    }
}

/// Stdout takes nothing more, and that is a fault.
pub(crate) fn unwritten(error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write to the standard output: {error}"))
}
