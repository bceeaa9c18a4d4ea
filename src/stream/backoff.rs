//! How long a stream waits before it is opened again.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Waiting times between attempts to open the cursor again: exponential, with jitter, so that many
/// workers do not come back at the same moment.
pub(crate) struct Backoff {
    attempt: u32,
    step: Duration,
    /// The steps so far, together.
    total: Duration,
    seed: u64,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    /// The longest step while an election may be under way: a stream shall not sleep through the
    /// new primary's first writes. By far the most of that time passes in the driver, which waits
    /// for a primary without asking one.
    const LONGEST_AT_FIRST: Duration = Duration::from_millis(250);
    const AT_FIRST: Duration = Duration::from_secs(5);
    const LONGEST: Duration = Duration::from_secs(10);

    /// The seed decides the jitter.
    pub(crate) fn new(seed: u64) -> Self {
        Self { attempt: 0, step: Self::FIRST, total: Duration::ZERO, seed }
    }

    /// Begins with the first attempt again.
    pub(crate) fn reset(&mut self) {
        *self = Self::new(self.seed);
    }

    /// The first attempt comes at once: most broken connections are just that.
    pub(crate) fn next(&mut self) -> Duration {
        let attempt = self.attempt;
        self.attempt = attempt.saturating_add(1);
        if attempt == 0 {
            return Duration::ZERO;
        }
        let full = self.step;
        self.total = self.total.saturating_add(full);
        let longest =
            if self.total < Self::AT_FIRST { Self::LONGEST_AT_FIRST } else { Self::LONGEST };
        self.step = full.saturating_mul(2).min(longest);
        let mut hasher = DefaultHasher::new();
        (self.seed, attempt).hash(&mut hasher);
        full / 2 + full.mul_f64((hasher.finish() % 1024) as f64 / 2048.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_limit_with_jitter() {
        let mut backoff = Backoff::new(1);
        assert_eq!(backoff.next(), Duration::ZERO);
        let mut fulls: Vec<u64> = vec![50, 100, 200];
        fulls.extend([250; 19]);
        fulls.extend([500, 1000, 2000, 4000, 8000]);
        fulls.extend([10_000; 40]);
        let mut parts = Vec::new();
        for full in fulls.into_iter().map(Duration::from_millis) {
            let wait = backoff.next();
            assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
            parts.push(wait.as_secs_f64() / full.as_secs_f64());
        }
        assert!(parts.iter().any(|part| *part < 0.6) && parts.iter().any(|part| *part > 0.9));
        backoff.reset();
        assert_eq!(backoff.next(), Duration::ZERO);
        assert!(backoff.next() <= Duration::from_millis(50));
    }
}
