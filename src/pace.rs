//! How many events a stream asks for at a time.
//!
//! A server answers a request for several events only when it has them all, when they fill about 4 MB, or when
//! it has looked through its oplog to the end (seen with 6.0.5). Where a long history holds few events of the
//! stream, full replies would keep the first of them back until the last one is found. So a stream that begins in
//! the past asks for one event first, then for some, and for full replies as soon as these come fast.
//!
//! A reply that would hold an event which the server cannot send fails as a whole. So everything before such an
//! event is read in replies of one event, until it is the next: that is the place where the stream fails, or from
//! which it passes over that one event. Never by its time: its transaction's other events have the same.

use std::fmt;
use std::time::Duration;

use crate::cursor::Scope;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Replies as large as the options allow.
    Full,
    /// Replies of some events: to see whether full ones would come fast.
    Some,
    /// Replies of one event: the history may be sparse.
    One,
    /// Replies of one event, as many as a full one holds: one of them may be too large to be sent.
    Careful,
}

/// For the log.
impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pace::Full => "with full replies",
            Pace::Some => "with replies of some events",
            Pace::One | Pace::Careful => "with replies of one event",
        })
    }
}

impl Pace {
    const SOME: u32 = 64;

    /// A position that lies further back than this is in the history, where events may be far apart. What is
    /// nearer takes a server no time to look through.
    pub(crate) const HISTORY: Duration = Duration::from_secs(10);

    /// Whether full replies of so many events are no larger than those of this pace.
    pub(crate) fn is_full_for(self, most: u32) -> bool {
        match self {
            Pace::Full => true,
            Pace::Some => most <= Self::SOME,
            Pace::One => most == 1,
            Pace::Careful => false,
        }
    }

    /// The scope that a cursor of this pace reads.
    pub(crate) fn of(self, scope: &Scope) -> Scope {
        let mut scope = scope.clone();
        scope.pace = self;
        match self {
            Pace::Full => {}
            Pace::Some => scope.batch_size = scope.batch_size.min(Self::SOME),
            Pace::One => scope.batch_size = 1,
            Pace::Careful => {
                scope.limit = Some(scope.batch_size as usize);
                scope.batch_size = 1;
            }
        }
        scope
    }
}

/// Finds the pace that fits, from how long the replies of one cursor take.
pub(crate) struct Tuner {
    pace: Pace,
    /// How far apart two messages to the server and back are at least.
    round_trip: Duration,
    /// So many replies in a row came fast.
    fast: u32,
}

impl Tuner {
    /// After so many single events that came fast it is worth asking for some.
    const SURE: u32 = 3;
    /// To find one event, beside the round trip.
    const FAST_ONE: Duration = Duration::from_millis(2);
    /// To find some events: a full reply is then there in about a second, and most often much sooner.
    const FAST_SOME: Duration = Duration::from_millis(16);
    /// Longer than this no event is kept back on purpose.
    const SLOW: Duration = Duration::from_millis(200);

    pub(crate) fn new(pace: Pace, round_trip: Duration) -> Self {
        Self { pace, round_trip, fast: 0 }
    }

    /// What a reply with so many events that took so long says: another pace, if there is one that fits better.
    pub(crate) fn came(&mut self, events: usize, took: Duration) -> Option<Pace> {
        let took = took.saturating_sub(self.round_trip);
        match self.pace {
            Pace::Full | Pace::Careful => None,
            // The server has looked through all it has.
            Pace::Some | Pace::One if events == 0 => Some(Pace::Full),
            Pace::Some if took > Self::SLOW => Some(Pace::One),
            Pace::Some => (took <= Self::FAST_SOME).then_some(Pace::Full),
            Pace::One => {
                self.fast = if took <= Self::FAST_ONE { self.fast + 1 } else { 0 };
                (self.fast == Self::SURE).then_some(Pace::Some)
            }
        }
    }
}

/// How much time a stream has spent on requests that it gave up: a server that has not answered such a request
/// may hold some events and be looking for the rest, so it is asked again for one event at a time. It then looks
/// through that part of its oplog again, which must not take up a large part of the time.
#[derive(Default)]
pub(crate) struct Waste {
    spent: Duration,
}

impl Waste {
    /// A stream may spend this much, and a tenth of its time.
    const FREE: Duration = Duration::from_secs(3);

    /// Whether a request may be given up after `patience` by a stream that is `age` old.
    pub(crate) fn allows(&self, patience: Duration, age: Duration) -> bool {
        self.spent + patience <= Self::FREE.max(age / 10)
    }

    pub(crate) fn add(&mut self, spent: Duration) {
        self.spent += spent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_dense_history_is_soon_read_in_full_replies() {
        let mut tuner = Tuner::new(Pace::One, ms(0));
        assert_eq!(tuner.came(1, ms(1)), None);
        assert_eq!(tuner.came(1, ms(2)), None);
        assert_eq!(tuner.came(1, ms(1)), Some(Pace::Some));
        let mut tuner = Tuner::new(Pace::Some, ms(0));
        assert_eq!(tuner.came(64, ms(16)), Some(Pace::Full));
        assert_eq!(Tuner::new(Pace::Full, ms(0)).came(4000, ms(60_000)), None);
    }

    #[test]
    fn a_sparse_history_is_read_one_event_at_a_time() {
        let mut tuner = Tuner::new(Pace::One, ms(0));
        for _ in 0..100 {
            assert_eq!(tuner.came(1, ms(1)), None);
            assert_eq!(tuner.came(1, ms(1)), None);
            assert_eq!(tuner.came(1, ms(3)), None, "one slow event, and it begins anew");
        }
        let mut tuner = Tuner::new(Pace::Some, ms(0));
        assert_eq!(tuner.came(64, ms(17)), None);
        assert_eq!(tuner.came(64, ms(200)), None);
        assert_eq!(tuner.came(64, ms(201)), Some(Pace::One));
    }

    #[test]
    fn at_the_end_of_the_oplog_replies_may_be_full() {
        assert_eq!(Tuner::new(Pace::One, ms(0)).came(0, ms(60_000)), Some(Pace::Full));
        assert_eq!(Tuner::new(Pace::Some, ms(0)).came(0, ms(60_000)), Some(Pace::Full));
        assert_eq!(Tuner::new(Pace::Careful, ms(0)).came(0, ms(0)), None);
    }

    #[test]
    fn the_way_to_the_server_is_not_its_work() {
        let mut tuner = Tuner::new(Pace::One, ms(50));
        assert_eq!(tuner.came(1, ms(52)), None);
        assert_eq!(tuner.came(1, ms(51)), None);
        assert_eq!(tuner.came(1, ms(40)), Some(Pace::Some));
        assert_eq!(Tuner::new(Pace::Some, ms(50)).came(64, ms(66)), Some(Pace::Full));
    }

    #[test]
    fn what_is_given_up_is_a_small_part_of_the_time() {
        let mut waste = Waste::default();
        assert!(waste.allows(ms(2000), ms(0)));
        waste.add(ms(2000));
        assert!(!waste.allows(ms(2000), ms(30_000)));
        assert!(waste.allows(ms(2000), ms(40_000)));
        assert!(!waste.allows(ms(3001), ms(50_000)));
    }
}
