//! What fails, and for how long a worker may bear it.

use std::collections::VecDeque;
use std::time::Duration;

use super::life::{Broken, Life, OPENING, World};
use super::oplog::server;
use crate::error::ErrorKind;
use crate::options::OnInvalidate;
use crate::source::failure::{self, Phase};
use crate::source::fault::{Fault, FaultKind};
use crate::stream::step::{Ending, Failed};

/// So many cursors may be followed, and so many requests made, in one second without a message.
pub(super) const FOLLOWS_A_SECOND: usize = 12;
const REQUESTS_A_SECOND: usize = 25;

/// What is asked of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To open a cursor.
    Open,
    /// For the next reply of one.
    More,
    /// For documents of a snapshot.
    Documents,
}

impl World {
    /// A failure of a request, if one is due.
    pub(super) fn fault(&mut self, asked: Asked) -> Option<Fault> {
        if self.disturbed(600) {
            self.note(|_| "a request fails for good".to_owned());
            self.fatal = true;
            return Some(server(59, "no such command"));
        }
        self.passing_fault(asked)
    }

    /// The same, and it is worth another attempt.
    pub(super) fn passing_fault(&mut self, asked: Asked) -> Option<Fault> {
        let of = |kind, text: &str| Fault { kind, answer: None, text: text.to_owned() };
        if self.now < self.outage {
            return Some(of(FaultKind::Network, "no primary"));
        }
        if self.now < self.refusal {
            // What the driver does with the other connections says nothing of the user.
            if self.random.u8(..3) == 0 {
                return Some(of(FaultKind::ConnectionsGivenUp, "given up"));
            }
            return Some(match self.random.bool() {
                true => server(13, "not authorized"),
                false => of(FaultKind::Login(None), "the login is refused"),
            });
        }
        if !self.disturbed(12) {
            return None;
        }
        let codes: &[i32] = match asked {
            Asked::Open => &[91, 189, 211, 11600, 11601],
            // Before 4.4 without a label.
            Asked::More if self.wire_version < 9 => &[43, 133, 234, 237, 11601, 13435],
            Asked::More => &[43, 91, 237, 11600, 11601],
            Asked::Documents => &[43, 91, 175, 237, 11601, 13436],
        };
        let fault = match self.random.u8(..8) {
            0 => of(FaultKind::Network, "broken"),
            1 => of(FaultKind::ConnectionsGivenUp, "given up"),
            2 => {
                let cause = Box::new(server(91, "shutting down"));
                of(FaultKind::Login(Some(cause)), "a login fails")
            }
            3 if asked == Asked::More => {
                let mut fault = server(20_000, "anything");
                fault.answer.iter_mut().for_each(|answer| answer.is_resumable = true);
                fault
            }
            4 if asked == Asked::Documents => {
                server(72, "afterClusterTime value must not be greater than the current time")
            }
            _ => server(codes[self.random.usize(..codes.len())], "a passing failure"),
        };
        self.note(|_| format!("a request fails: {}", fault.text));
        Some(fault)
    }

    pub(super) fn request(&mut self, life: &Life) -> Result<(), Broken> {
        self.report.opens += 1;
        self.trace(self.report.opens);
        if count(&mut self.requests, self.now) > REQUESTS_A_SECOND {
            let position = life.course.position();
            return Err(Broken::Finding(format!("a hot loop {position}")));
        }
        let time = Duration::from_millis(self.random.u64(1..4));
        self.pass(time);
        Ok(())
    }

    /// What was asked before does not count any more.
    pub(super) fn forget_requests(&mut self) {
        self.requests.clear();
        self.follows.clear();
    }

    /// The stream works.
    pub(super) fn works(&mut self, life: &mut Life) {
        (life.worked, life.failing) = (self.now, None);
        self.refused = None;
    }

    /// Sees that a stream is not opened again for longer than it may.
    pub(super) fn check_patience(
        &mut self,
        life: &mut Life,
        failed: &Failed,
    ) -> Result<(), Broken> {
        let since = *life.failing.get_or_insert(self.now);
        let limit = match failed.phase {
            Phase::Opening => Some(OPENING),
            _ => self.options.retry,
        };
        if limit.is_some_and(|limit| self.now - since >= limit) {
            return Err(Broken::Finding(
                "it goes on although it has failed for too long".to_owned(),
            ));
        }
        if failure::is_unreachable(&failed.fault) {
            self.refused = None;
        }
        if failure::is_refused(&failed.fault) {
            self.refused.get_or_insert(self.now);
            if self.has_been_refused() {
                return Err(Broken::Finding("a refused user is borne for too long".to_owned()));
            }
        }
        Ok(())
    }

    /// Whether the user has been refused for as long as a worker bears it.
    pub(super) fn has_been_refused(&self) -> bool {
        self.refused.is_some_and(|since| self.now - since >= Duration::from_secs(30))
    }

    /// Whether the stream has not worked for as long as the options bear, or a first start may take.
    pub(super) fn has_lasted(&self, life: &Life) -> bool {
        let limit = if life.course.ran_before() || life.is_ready {
            self.options.retry
        } else {
            Some(OPENING)
        };
        limit.is_some_and(|limit| self.now - life.worked >= limit)
    }

    /// Whether a new life may follow such an end, or an error that says that it should not have come.
    pub(super) fn may_end_so(&mut self, ending: &Ending, life: &Life) -> Result<bool, String> {
        let (kind, text) = match ending {
            Ending::Failed(failed) => (failure::kind(&failed.fault), failed.fault.text.clone()),
            Ending::Invalidated(_) => (ErrorKind::Invalidated, "invalidated".to_owned()),
            Ending::Error(error) => (error.kind(), error.to_string()),
            Ending::Bug(text) => return Err(format!("a bug: {text}")),
            Ending::Stopped => return Ok(true),
        };
        self.note(|_| format!("the worker has failed: {kind:?}, {text}"));
        // A server cannot know that nothing was between the place and the first entry that is left.
        let is_lost = life.expected.is_none_or(|expected| expected <= self.oplog.first);
        match kind {
            ErrorKind::HistoryLost if is_lost => Ok(false),
            ErrorKind::HistoryLost => Err(format!(
                "the history is called lost ({text}), but it begins at entry {} and {:?} is next",
                self.oplog.first, life.expected
            )),
            ErrorKind::Invalidated if self.options.on_invalidate == OnInvalidate::Stop => Ok(true),
            ErrorKind::Oversized => Ok(false),
            // Bearing it is worth it only for a stream that has been open.
            ErrorKind::Auth if !life.is_ready && !life.course.ran_before() => Ok(true),
            ErrorKind::Auth if self.has_been_refused() => Ok(true),
            ErrorKind::Server if self.fatal => Ok(true),
            _ if self.has_lasted(life) => Ok(true),
            _ => Err(format!("no reason to fail: {kind:?}, {text}")),
        }
    }
}

/// Adds one, and tells how many there were in the last second.
pub(super) fn count(times: &mut VecDeque<Duration>, now: Duration) -> usize {
    while times.front().is_some_and(|at| *at + Duration::from_secs(1) < now) {
        times.pop_front();
    }
    times.push_back(now);
    times.len()
}
