//! Who may hand over: the lease of a worker that has a standby, as its own process sees it.
//!
//! The lease lies in the checkpoint's document ([`leased`](crate::checkpoint::leased)), and expires there by the
//! server's clock. Its holder cannot ask the server before each message, so it counts for itself, from the moment at
//! which it *sent* the last renewal that succeeded: the server began to count later. It hands over for two thirds of
//! the lease's time. The last third is room for clocks that run at different speeds, and for servers whose clocks
//! differ.
//!
//! Nothing here asks for the time or waits: the queue asks with each hand-over, the keeper of the lease renews.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Told when the holder may hand over again, and when the lease is gone.
type Listener = Box<dyn Fn(&Lease) + Send + Sync>;

/// A lease. Times are those of [`boot_time`](crate::clock::boot_time).
pub(crate) struct Lease {
    length: Duration,
    /// Until when it may hand over, in nanoseconds; 0 when it may not.
    until: AtomicU64,
    /// Why it is gone for good.
    lost: OnceLock<Lost>,
    /// What the server's document says, for the statistics.
    seen: Mutex<Option<Seen>>,
    listener: OnceLock<Listener>,
}

/// How a lease has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// Its holder has given it back.
    Released,
    /// Somebody else has it, or had it since.
    Fenced(String),
}

/// Who holds a lease, by the checkpoint's document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    /// As it calls itself: `host:process`.
    pub(crate) holder: String,
    /// Grows by one whenever the lease is taken.
    pub(crate) term: i64,
    /// When it was taken, by the server's clock: milliseconds since 1970.
    pub(crate) since: i64,
    /// It is this worker.
    pub(crate) is_own: bool,
}

impl Lease {
    pub(crate) fn new(length: Duration) -> Self {
        Self {
            length,
            until: AtomicU64::new(0),
            lost: OnceLock::new(),
            seen: Mutex::default(),
            listener: OnceLock::new(),
        }
    }

    pub(crate) fn length(&self) -> Duration {
        self.length
    }

    /// Who is told of each change. Only the first call counts.
    pub(crate) fn listen(&self, listener: impl Fn(&Lease) + Send + Sync + 'static) {
        let _ = self.listener.set(Box::new(listener));
    }

    /// It was taken or renewed, by a request that was sent at this time.
    pub(crate) fn held(&self, sent: Duration) {
        if self.lost.get().is_none() {
            // An answer may be overtaken by that of a later request.
            self.until.fetch_max(nanoseconds(sent + self.length * 2 / 3), Ordering::AcqRel);
            self.tell();
        }
    }

    /// It is gone. Only the first reason counts.
    pub(crate) fn ends(&self, why: Lost) {
        let is_news = self.lost.set(why).is_ok();
        self.until.store(0, Ordering::Release);
        if is_news {
            self.tell();
        }
    }

    fn tell(&self) {
        if let Some(listener) = self.listener.get() {
            listener(self);
        }
    }

    /// Whether its holder may hand over at this time.
    pub(crate) fn hands_over(&self, now: Duration) -> bool {
        self.lost.get().is_none() && nanoseconds(now) < self.until.load(Ordering::Acquire)
    }

    /// When it is to be renewed: so that there are two more tries before the server gives it to somebody else.
    pub(crate) fn renews_at(&self) -> Duration {
        let until = Duration::from_nanos(self.until.load(Ordering::Acquire));
        until.saturating_sub(self.length / 3)
    }

    pub(crate) fn lost(&self) -> Option<&Lost> {
        self.lost.get()
    }

    pub(crate) fn sees(&self, seen: Seen) {
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(seen);
    }

    pub(crate) fn seen(&self) -> Option<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_hands_over_for_two_thirds_from_the_sending_on() {
        let lease = Lease::new(s(30));
        assert!(!lease.hands_over(s(0)), "nobody has it yet");
        lease.held(s(100));
        assert!(lease.hands_over(s(100)) && lease.hands_over(s(119)));
        assert!(!lease.hands_over(s(120)));
        lease.held(s(125));
        assert!(lease.hands_over(s(144)) && !lease.hands_over(s(145)));
    }

    #[test]
    fn an_answer_that_was_overtaken_takes_nothing_back() {
        let lease = Lease::new(s(30));
        lease.held(s(110));
        lease.held(s(100));
        assert!(lease.hands_over(s(129)));
    }

    #[test]
    fn what_is_gone_stays_gone_for_the_first_reason() {
        let lease = Lease::new(s(30));
        lease.held(s(100));
        lease.ends(Lost::Fenced("by b".to_owned()));
        lease.held(s(101));
        lease.ends(Lost::Released);
        assert!(!lease.hands_over(s(101)));
        assert_eq!(lease.lost(), Some(&Lost::Fenced("by b".to_owned())));
    }

    #[test]
    fn each_change_is_told_and_an_end_once() {
        let lease = Lease::new(s(30));
        let told = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&told);
        lease.listen(move |_| _ = count.fetch_add(1, Ordering::Relaxed));
        lease.held(s(1));
        lease.held(s(2));
        lease.ends(Lost::Released);
        lease.ends(Lost::Released);
        lease.held(s(3));
        assert_eq!(told.load(Ordering::Relaxed), 3);
    }
}
