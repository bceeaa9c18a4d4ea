//! What time it is. Decisions take it as a value, so that a test can choose it.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime};

/// The time at which something is decided.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Now {
    /// For how long the worker has been running. Never goes back.
    pub(crate) running: Duration,
    /// The unix time, by the clock of this machine.
    pub(crate) unix: Duration,
}

/// A worker's clock.
pub(crate) struct Clock {
    began: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { began: Instant::now() }
    }

    pub(crate) fn now(&self) -> Now {
        Now { running: self.began.elapsed(), unix: unix_time() }
    }

    /// When the worker has been running for so long.
    pub(crate) fn at(&self, running: Duration) -> Instant {
        self.began + running
    }
}

/// The unix time, by the clock of this machine.
pub(crate) fn unix_time() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The time since the machine was started. Unlike [`Instant`] it goes on while the machine sleeps, where the system
/// has such a clock (Linux: `CLOCK_BOOTTIME`).
pub(crate) fn boot_time() -> Duration {
    #[cfg(target_os = "linux")]
    if let Ok(time) = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME) {
        return time.into();
    }
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    BEGAN.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_since_the_start_grows() {
        let before = boot_time();
        std::thread::sleep(Duration::from_millis(2));
        assert!(boot_time() > before);
    }

    #[test]
    fn a_time_of_its_running_is_an_instant_after_its_start() {
        let clock = Clock::start();
        let minute = Duration::from_secs(60);
        assert_eq!(clock.at(minute).duration_since(clock.at(Duration::ZERO)), minute);
        assert!(clock.at(clock.now().running) <= Instant::now());
    }
}
