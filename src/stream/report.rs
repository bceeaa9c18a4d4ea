//! What a stream says of its failures, to its consumers and in the log.

use crate::error::{Error, ErrorKind};
use crate::log::{self, LogLevel};
use crate::options::Snapshot;
use crate::source::failure::{self, Phase};
use crate::source::position::Position;
use crate::stream::Stream;
use crate::stream::course::Course;
use crate::stream::step::Failed;

impl Stream {
    /// The error for a failure, with all that is known of it and what to do.
    pub(super) fn error(&self, failed: &Failed, course: &Course) -> Error {
        let Failed { fault, phase, from } = failed;
        let what = match phase {
            Phase::Opening => "open the change stream",
            Phase::Reopening | Phase::Streaming => "go on with the change stream",
            Phase::Snapshot => "read the snapshot",
        };
        let mut error = failure::error(fault, self.deployment.uri(), what, from.time());
        match failure::missing_feature(fault, &self.options, course.wire_version()) {
            Some(advice) => error = error.with_advice(&advice),
            None if error.kind() == ErrorKind::HistoryLost => {
                error = error.with_advice(&self.advice_on_lost_history(course));
            }
            None => {}
        }
        if error.kind() == ErrorKind::Oversized {
            error = error.with_advice(failure::oversized_advice(self.options.on_oversized));
        }
        match failure::token_advice(fault, from) {
            Some(advice) => error.with_advice(advice),
            None => error,
        }
    }

    /// Where the place came from, and which option goes on all the same.
    fn advice_on_lost_history(&self, course: &Course) -> String {
        let start = self.options.start_option();
        let from = match (&self.checkpointer, course.is_saved(), start) {
            (Some(checkpointer), true, _) => {
                format!("; that is the place in {}, which stays as it is", checkpointer.what())
            }
            (_, _, Some(option)) if !self.control.ready.is_open() => {
                format!("; that is the place of the option {option}")
            }
            _ => String::new(),
        };
        format!(
            "{from}; with on_history_lost=restart the worker goes on from now after a message that says what is \
             missing, and with on_history_lost=snapshot it reads what exists after that message"
        )
    }

    pub(super) fn invalidated(&self) -> Error {
        Error::new(
            ErrorKind::Invalidated,
            format!(
                "{} on {} was dropped or renamed, and the stream was asked to stop there; a worker \
                 that starts after the worker's resume token goes on after it",
                self.scope.namespace(),
                self.deployment.uri().shown()
            ),
        )
    }

    pub(super) fn bug(&self, text: &str) -> Error {
        Error::new(
            ErrorKind::Panic,
            format!(
                "the stream on {} met what should be impossible ({text}); this is a bug in mongostream, \
                 please report it",
                self.deployment.uri().shown()
            ),
        )
    }

    pub(super) fn panicked(&self, panic: &(dyn std::any::Any + Send)) -> Error {
        let text = panic
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no text");
        self.bug(&format!("a thread panicked: {text}"))
    }

    /// What happened before "now" is not delivered: whoever expected a checkpoint has to learn that none
    /// was found.
    pub(super) fn tell_of_an_empty_store(&self, what: &str, start: &Position) {
        let name = self.name();
        if self.starts_at.is_some() {
            log::line!(
                LogLevel::Info,
                name,
                "there is no {what} yet: beginning at start_at_position"
            );
        } else if self.options.snapshot != Snapshot::Never {
            log::line!(LogLevel::Info, name, "there is no {what} yet: beginning with a snapshot");
        } else if *start == Position::Start(None) {
            log::line!(
                LogLevel::Warn,
                name,
                "there is no {what} yet: the stream begins now, and changes before now are not delivered"
            );
        } else {
            log::line!(LogLevel::Info, name, "there is no {what} yet: beginning {start}");
        }
    }

    /// Such a stream is silent until then, which looks like one that is broken.
    pub(super) fn warn_of_a_start_in_the_future(&self) {
        let Some((start, _)) = self.options.start_at_time else { return };
        let ahead = u64::from(start).saturating_sub(self.clock.now().unix.as_secs());
        if ahead > 0 {
            log::line!(
                LogLevel::Warn,
                self.name(),
                "start_at_time {start} lies {ahead} s in the future, by the clock of this machine"
            );
        }
    }
}
