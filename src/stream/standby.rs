//! A worker with a standby takes its lease first, and waits for as long as another one holds it.

use std::time::{Duration, Instant};

use crate::checkpoint::lease::{Lost, Seen};
use crate::checkpoint::leased::{Attempt, LeasedCheckpoint};
use crate::error::{Error, ErrorKind, Result};
use crate::log::{self, LogLevel};
use crate::state::WorkerState;
use crate::stream::Stream;
use crate::stream::course::Course;

impl Stream {
    /// Waits until the lease is this worker's. False if the worker was stopped before.
    pub(super) fn take_lease(
        &self,
        leased: &LeasedCheckpoint,
        course: &mut Course,
    ) -> Result<bool> {
        let mut told: Option<Seen> = None;
        loop {
            let wait = match leased.attempt(&self.control.stop) {
                Ok(Attempt::Taken) => break,
                Ok(Attempt::Stopped) => return Ok(false),
                Ok(Attempt::Held(seen)) => {
                    self.stands_by(&seen, &mut told);
                    course.store_answered();
                    leased.pause()
                }
                Err(error) => {
                    let what = format!("cannot take the lease in {}: {error}", leased.what());
                    let failure = Error::new(ErrorKind::Checkpoint, what);
                    let failure = match error.is_retriable() {
                        true => failure.with_source(error.into_source()).retriable(),
                        false => failure.with_source(error.into_source()),
                    };
                    // One that has stood by once is as patient as a stream that was open once.
                    let now = self.clock.now();
                    let Some((level, wait)) = course.lease_failed(&failure, told.is_some(), now)
                    else {
                        return Err(failure);
                    };
                    log::line!(level, self.name(), "{failure}; it is tried again");
                    self.ledger.meter.troubled(failure.of_worker(self.name()));
                    // A worker that reaches nobody must not ask without a pause.
                    wait.max(Duration::from_millis(50))
                }
            };
            if self.control.stop.wait(Some(Instant::now() + wait)) {
                return Ok(false);
            }
        }
        course.store_answered();
        self.control.set(WorkerState::Starting);
        if let Some(Seen { term, .. }) = self.ledger.lease.as_ref().and_then(|lease| lease.seen()) {
            log::line!(LogLevel::Info, self.name(), "has taken the lease (term {term})");
        }
        Ok(true)
    }

    /// Says once who holds the lease.
    fn stands_by(&self, seen: &Seen, told: &mut Option<Seen>) {
        self.control.set(WorkerState::Standby);
        if told.as_ref() != Some(seen) {
            let Seen { holder, term, .. } = seen;
            log::line!(
                LogLevel::Info,
                self.name(),
                "stands by: {holder} holds the lease (term {term})"
            );
            *told = Some(seen.clone());
        }
    }

    /// The failure of a worker that has lost its lease to another one.
    pub(super) fn fenced(&self) -> Option<Error> {
        let Some(Lost::Fenced(by)) = self.ledger.lease.as_ref()?.lost() else { return None };
        let text = format!(
            "{by}. Nothing more is handed over here; what was not acked and saved comes from that one. If this happens \
             without a crash or a pause of this process, make lease_ms longer"
        );
        Some(Error::new(ErrorKind::Fenced, text))
    }
}
