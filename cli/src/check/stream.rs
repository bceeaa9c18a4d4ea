//! The proof: a stream is really opened, by the library, with the options that were given.

use std::time::{Duration, Instant};

use mongostream::{Buffer, ErrorKind, Waited, Watch};

use crate::check::finding::{Finding, Level};
use crate::check::wishes::Wishes;
use crate::failure::Failure;
use crate::target::Target;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(8);

/// The worker, without what would write or read more than a stream does.
fn watch(target: &Target, wishes: &Wishes) -> Watch {
    let is_harmless = |name: &str| {
        !name.starts_with("checkpoint_") && name != "snapshot" && name != "start_at_position"
    };
    let harmless = wishes.iter().filter(|(name, _)| is_harmless(name));
    harmless.fold(target.watch(), |watch, (name, value)| watch.option(name, value))
}

/// What is wrong with the command line, before any server is asked.
pub(crate) fn validate(target: &Target, wishes: &Wishes) -> Result<(), Failure> {
    for (name, value) in wishes.iter() {
        mongostream::Options::new().set(name, value)?;
    }
    let closed = Buffer::new(1);
    closed.close();
    match watch(target, wishes).spawn(&closed) {
        // It would have been started.
        Err(error) if error.kind() == ErrorKind::State => Ok(()),
        started => started.map(drop).map_err(Failure::from),
    }
}

/// Opens the stream, and closes it. A mistake in the arguments may show only here.
pub(crate) fn check(target: &Target, wishes: &Wishes) -> Result<Finding, Failure> {
    let buffer = Buffer::new(1000);
    let began = Instant::now();
    let worker = watch(target, wishes).spawn(&buffer)?;
    let failed = |error: mongostream::Error| {
        let case = match error.kind() {
            ErrorKind::Auth => "auth",
            ErrorKind::Connect => "connect",
            ErrorKind::HistoryLost => "history_lost",
            ErrorKind::Server => "server",
            _ => "failed",
        };
        Finding::new(Level::Problem, ("stream", case), error.to_string(), "")
    };
    match worker.wait_ready_timeout(PATIENCE) {
        Ok(Waited::Done) => {
            let took = began.elapsed().as_millis();
            Ok(Finding::ok("stream", format!("opened {} in {took} ms", worker.name())))
        }
        Ok(Waited::Timeout | Waited::Stopped) => {
            let reason = worker.stats().ok().and_then(|stats| stats.last_error);
            let reason = reason.map_or_else(String::new, |error| format!(": {error}"));
            Ok(Finding::new(
                Level::Problem,
                ("stream", "not_open"),
                format!("the stream is not open after {} s{reason}", PATIENCE.as_secs()),
                "a stream opens when a majority of the members has what was written last: see rs.status(); a start in the past \
                 may take the server long; mongostream tail with MONGOSTREAM_LOG=debug in the environment says more",
            ))
        }
        Err(error) if error.kind() == ErrorKind::Argument => Err(error.into()),
        Err(error) => Ok(failed(error)),
    }
}
