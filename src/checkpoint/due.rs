//! When a checkpoint is due.

use std::time::Duration;

/// When a worker's checkpoint is to be saved. Times are those for which its clock has been running.
pub(crate) struct Due {
    interval: Duration,
    /// When it was saved last, and how many events were acked then.
    last: Duration,
    acked: u64,
    /// When the time for a save last came.
    ticked: Duration,
}

impl Due {
    /// A position that moved without an ack is saved this many times less often: where the
    /// store is a collection of the watched deployment, each save moves it again.
    const IDLE_FACTOR: u32 = 10;
    /// So many acked documents of a snapshot are saved without waiting for the time: however fast
    /// they are read, a crash repeats less than a range.
    const SNAPSHOT_STEP: u64 = 25_000;

    pub(crate) fn new(interval: Duration) -> Self {
        Self { interval, last: Duration::ZERO, acked: 0, ticked: Duration::ZERO }
    }

    /// How long to wait before asking whether it is due.
    pub(crate) fn patience(&self, is_in_snapshot: bool) -> Duration {
        const IN_A_SNAPSHOT: Duration = Duration::from_millis(50);
        if is_in_snapshot { self.interval.min(IN_A_SNAPSHOT) } else { self.interval }
    }

    /// Whether to save now that so many events are acked.
    pub(crate) fn is_due(&mut self, acked: u64, now: Duration) -> bool {
        if now.saturating_sub(self.ticked) < self.interval {
            return acked.saturating_sub(self.acked) >= Self::SNAPSHOT_STEP;
        }
        self.ticked = now;
        acked != self.acked || now.saturating_sub(self.last) >= self.interval * Self::IDLE_FACTOR
    }

    pub(crate) fn is_saved(&mut self, acked: u64, now: Duration) {
        (self.last, self.acked) = (now, acked);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn acks_are_saved_once_an_interval_and_what_is_only_quiet_ten_times_less_often() {
        let mut due = Due::new(s(1));
        assert!(!due.is_due(5, Duration::from_millis(999)));
        assert!(due.is_due(5, s(1)));
        due.is_saved(5, s(1));
        assert!(!due.is_due(6, Duration::from_millis(1999)));
        assert!(due.is_due(6, s(2)));
        due.is_saved(6, s(2));
        for second in 3..12 {
            assert!(!due.is_due(6, s(second)), "{second}");
        }
        assert!(due.is_due(6, s(12)));
    }

    #[test]
    fn a_save_that_failed_is_due_again_after_an_interval() {
        let mut due = Due::new(s(1));
        assert!(due.is_due(5, s(1)));
        assert!(!due.is_due(5, s(1)));
        assert!(due.is_due(5, s(2)));
    }

    #[test]
    fn many_acks_of_a_snapshot_do_not_wait_for_the_interval() {
        let mut due = Due::new(s(100));
        due.is_saved(10, s(1));
        assert!(!due.is_due(25_009, s(1)));
        assert!(due.is_due(25_010, s(1)));
        assert_eq!((due.patience(true), due.patience(false)), (Duration::from_millis(50), s(100)));
        assert_eq!(Due::new(Duration::from_millis(10)).patience(true), Duration::from_millis(10));
    }
}
