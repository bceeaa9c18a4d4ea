//! How many events a stream asks for at a time.
//!
//! Where few events lie in a long history, a reply with several of them keeps the first of them back. A server
//! answers a request for one event as soon as it finds one. Of a larger reply it hands out nothing before it has
//! 4 MB of the stream's events, or has looked through its oplog to the end (seen with 6.0.5). After that the events
//! that it has are there at once, whatever the size of the next replies.
//!
//! So a stream that begins in the past asks for one event at a time, and for full replies as soon as the way to the
//! server and back takes up a notable part of the time.
//!
//! A reply that would hold an event which the server cannot send fails as a whole. So everything before such an
//! event is read in replies of one event, until it is the next: that is the place where the stream fails, or from
//! which it passes over that one event. Never by its time: its transaction's other events have the same.

use std::fmt;
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Replies as large as the options allow.
    Full,
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
            Pace::One | Pace::Careful => "with replies of one event",
        })
    }
}

impl Pace {
    /// A position that lies further back than this is in the history, where events may be far apart. What is
    /// nearer takes a server no time to look through.
    pub(crate) const HISTORY: Duration = Duration::from_secs(10);

    /// Whether full replies of so many events are no larger than those of this pace.
    pub(crate) fn is_full_for(self, most: u32) -> bool {
        match self {
            Pace::Full => true,
            Pace::One => most == 1,
            Pace::Careful => false,
        }
    }
}

/// Finds the pace that fits, from how long the replies of one cursor take.
pub(crate) struct Tuner {
    pace: Pace,
    round_trip: Duration,
    window: Window,
    /// How long ago the first event was, and how long the events after it took.
    first: Option<Duration>,
    since_first: Duration,
    /// For full replies in the history.
    patience: Option<Duration>,
}

/// What came since the pace was last considered.
#[derive(Default)]
struct Window {
    events: u32,
    bytes: usize,
    took: Duration,
    /// The reply that came soonest.
    fastest: Option<Duration>,
}

/// A reply, as far as it tells how to go on.
pub(crate) struct Came {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
    pub(crate) took: Duration,
    /// How long ago its last event was.
    pub(crate) age: Option<Duration>,
}

/// What fits better than the pace so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    One,
    /// Full replies, of which the first is given up after this time: the events after it may lie far apart.
    Full(Duration),
    /// Full replies, for this time, if there is time to lose: nothing but a busy server may have made the events
    /// look as if they were far apart.
    Try(Duration),
}

impl Tuner {
    /// The pace is considered after so many single events.
    const WINDOW: u32 = 16;
    /// The way to the server and back may take this part of the time. It is more than what is measured: where both
    /// sides wait for each other they have to be woken, too.
    const PART: u32 = 24;
    /// The same where full replies would take longer than [`SILENCE`](Self::SILENCE).
    const PART_BEFORE_SILENCE: u32 = 4;
    const SILENCE: Duration = Duration::from_secs(30);
    /// Nobody minds if the rest of a history comes all at once that takes no longer than this.
    const SHORT: Duration = Duration::from_secs(3);
    /// Where it is not known how long the way to the server and back takes, no longer than this.
    const ROUND_TRIP: Duration = Duration::from_millis(1);
    /// What a server collects before it answers a request for several events.
    const FILL: usize = 4 << 20;
    /// A reply may take so many times as long as is expected of it.
    const LATE: u32 = 2;
    /// A server that waits for a first event is not to be taken for one at work.
    pub(crate) const AT_LEAST: Duration = Duration::from_secs(1);

    pub(crate) fn new(
        pace: Pace,
        round_trip: Option<Duration>,
        patience: Option<Duration>,
    ) -> Self {
        let round_trip = round_trip.unwrap_or(Self::ROUND_TRIP);
        let (window, since_first) = (Window::default(), Duration::ZERO);
        Self { pace, round_trip, window, first: None, since_first, patience }
    }

    /// How long the next reply may take in the history, beside the time for which a server waits for an event.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.patience.filter(|_| self.pace == Pace::Full)
    }

    /// What a reply says of the pace.
    pub(crate) fn came(&mut self, reply: &Came) -> Option<Advice> {
        match self.pace {
            Pace::Careful => None,
            Pace::Full => {
                let patience = &mut self.patience;
                *patience = patience.map(|patience| patience.max(reply.took * Self::LATE));
                None
            }
            // The server has looked through all it has.
            Pace::One if reply.events == 0 => Some(Advice::Full(Self::AT_LEAST)),
            Pace::One => {
                self.window.add(reply);
                match self.first {
                    Some(_) => self.since_first += reply.took,
                    None => self.first = reply.age,
                }
                if self.window.events < Self::WINDOW {
                    return None;
                }
                let window = std::mem::take(&mut self.window);
                let least = self.round_trip.min(window.fastest.unwrap_or_default());
                let on_the_way = least * window.events;
                let full = window.full_reply(on_the_way);
                let end = self.to_the_end(reply.age);
                let full = end.map_or(full, |end| end.min(full));
                let is_short = end.is_some_and(|end| end <= Self::SHORT);
                let part =
                    if full > Self::SILENCE { Self::PART_BEFORE_SILENCE } else { Self::PART };
                Some(match is_short || on_the_way * part >= window.took {
                    true => Advice::Full(Self::AT_LEAST.max(full * Self::LATE)),
                    false => Advice::Try(Self::AT_LEAST),
                })
            }
        }
    }

    /// How long it takes to read the rest of the history, if that can be told: times have whole seconds.
    fn to_the_end(&self, age: Option<Duration>) -> Option<Duration> {
        const SURE: Duration = Duration::from_secs(2);
        let (first, now) = (self.first?, age?);
        let read = first.saturating_sub(now);
        (read >= SURE).then(|| self.since_first.mul_f64(now.as_secs_f64() / read.as_secs_f64()))
    }
}

impl Window {
    fn add(&mut self, reply: &Came) {
        self.events += 1;
        self.bytes += reply.bytes;
        self.took += reply.took;
        let fastest = self.fastest.get_or_insert(reply.took);
        *fastest = reply.took.min(*fastest);
    }

    /// How long a server would work on a full reply.
    fn full_reply(&self, on_the_way: Duration) -> Duration {
        let at_work = self.took.saturating_sub(on_the_way);
        at_work.mul_f64(Tuner::FILL as f64 / self.bytes.max(1) as f64)
    }
}

/// How much time a stream has spent on requests that it gave up: a server that has not answered such a request
/// may hold some events and be looking for the rest, so it is asked again for one event at a time. It then looks
/// through that part of its oplog again, which must not take up a large part of the time.
#[derive(Clone, Copy, Default)]
pub(crate) struct Waste {
    spent: Duration,
    longest: Duration,
}

impl Waste {
    /// The part of its time that a stream may spend so, before it gives up one more request.
    const PART: u32 = 10;
    /// The part that it may spend so where nothing speaks for a request.
    const PART_TO_TRY: u32 = 20;

    /// How old a stream must be to give up one more.
    pub(crate) fn age_for_more(self) -> Duration {
        self.spent.saturating_mul(Self::PART)
    }

    /// How old a stream must be to try one that may take so long.
    pub(crate) fn age_to_try(self, patience: Duration) -> Duration {
        self.spent.saturating_add(self.patience(patience)).saturating_mul(Self::PART_TO_TRY)
    }

    pub(crate) fn add(&mut self, spent: Duration) {
        self.spent += spent;
        self.longest = self.longest.max(spent);
    }

    /// How long the next request may take that should not take longer than this: a server may be slow.
    pub(crate) fn patience(self, expected: Duration) -> Duration {
        expected.max(self.longest.saturating_mul(2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A single event of 1 KiB.
    fn one(took: Duration) -> Came {
        Came { events: 1, bytes: 1024, took, age: None }
    }

    /// What a tuner says after a window of such events.
    fn after_a_window(tuner: &mut Tuner, event: &Came) -> Option<Advice> {
        for _ in 1..Tuner::WINDOW {
            assert_eq!(tuner.came(event), None);
        }
        tuner.came(event)
    }

    const TRY: Option<Advice> = Some(Advice::Try(Tuner::AT_LEAST));

    #[test]
    fn a_dense_history_is_read_in_full_replies() {
        let mut tuner = Tuner::new(Pace::One, Some(ms(1)), None);
        // 4,096 events fill a reply.
        assert_eq!(after_a_window(&mut tuner, &one(ms(8))), Some(Advice::Full(2 * ms(7 * 4096))));
        assert_eq!(after_a_window(&mut tuner, &one(ms(1))), Some(Advice::Full(Tuner::AT_LEAST)));
        assert_eq!(tuner.patience(), None);
    }

    #[test]
    fn a_full_reply_may_take_longer_once_it_is_known_that_it_does() {
        let mut tuner = Tuner::new(Pace::Full, Some(ms(2)), Some(ms(1000)));
        let full = |took| Came { events: 4000, bytes: 4 << 20, took, age: None };
        assert_eq!(tuner.came(&full(ms(700))), None);
        assert_eq!(tuner.patience(), Some(ms(1400)));
        assert_eq!(tuner.came(&full(ms(1))), None);
        assert_eq!(tuner.patience(), Some(ms(1400)));
    }

    #[test]
    fn a_sparse_history_is_read_one_event_at_a_time() {
        let mut tuner = Tuner::new(Pace::One, Some(ms(1)), None);
        assert_eq!(after_a_window(&mut tuner, &one(ms(25))), TRY);
        // Nothing for half a minute and more must be worth it.
        assert_eq!(after_a_window(&mut tuner, &one(ms(10))), TRY);
        let mut tuner = Tuner::new(Pace::One, Some(ms(10)), None);
        assert_eq!(after_a_window(&mut tuner, &one(ms(41))), TRY);
        let patience = 2 * ms(30 * 4096);
        assert_eq!(after_a_window(&mut tuner, &one(ms(40))), Some(Advice::Full(patience)));
    }

    #[test]
    fn a_short_rest_of_a_sparse_history_is_read_at_once() {
        let age = |seconds| Some(Duration::from_secs(seconds));
        // After the first one, 15 events in 15 times this, and all of them within so many seconds.
        let rest = |took, first, last| {
            let mut tuner = Tuner::new(Pace::One, Some(ms(1)), None);
            for _ in 1..Tuner::WINDOW {
                assert_eq!(tuner.came(&Came { age: age(first), ..one(took) }), None);
            }
            tuner.came(&Came { age: age(last), ..one(took) })
        };
        assert_eq!(rest(ms(10), 64, 60), Some(Advice::Full(2 * ms(2250))));
        assert_eq!(rest(ms(10), 61, 60), TRY, "it cannot be told from one second");
        assert_eq!(rest(ms(100), 66, 12), Some(Advice::Full(Tuner::AT_LEAST)));
        assert_eq!(rest(ms(100), 106, 100), TRY, "the rest takes 25 s");
    }

    #[test]
    fn each_window_counts_for_itself() {
        let mut tuner = Tuner::new(Pace::One, Some(ms(1)), None);
        assert_eq!(after_a_window(&mut tuner, &one(ms(10_000))), TRY);
        assert_eq!(after_a_window(&mut tuner, &one(ms(1))), Some(Advice::Full(Tuner::AT_LEAST)));
    }

    #[test]
    fn a_round_trip_is_no_longer_than_the_fastest_reply() {
        let mut tuner = Tuner::new(Pace::One, Some(ms(50)), None);
        assert_eq!(tuner.came(&one(ms(1))), None);
        for _ in 2..Tuner::WINDOW {
            assert_eq!(tuner.came(&one(ms(30))), None);
        }
        assert_eq!(tuner.came(&one(ms(30))), TRY);
        let mut tuner = Tuner::new(Pace::One, None, None);
        assert_eq!(after_a_window(&mut tuner, &one(ms(25))), TRY);
    }

    #[test]
    fn at_the_end_of_the_oplog_replies_may_be_full() {
        let none = Came { events: 0, bytes: 0, took: ms(60_000), age: None };
        let full = Some(Advice::Full(Tuner::AT_LEAST));
        assert_eq!(Tuner::new(Pace::One, None, None).came(&none), full);
        assert_eq!(Tuner::new(Pace::Careful, None, None).came(&none), None);
    }

    #[test]
    fn what_is_given_up_is_a_small_part_of_the_time() {
        let mut waste = Waste::default();
        assert_eq!((waste.age_for_more(), waste.age_to_try(ms(1000))), (ms(0), ms(20_000)));
        waste.add(ms(2000));
        waste.add(ms(500));
        assert_eq!((waste.age_for_more(), waste.age_to_try(ms(1000))), (ms(25_000), ms(130_000)));
    }

    #[test]
    fn a_slow_server_gets_more_time_each_time() {
        let mut waste = Waste::default();
        assert_eq!(waste.patience(ms(1000)), ms(1000));
        waste.add(ms(2000));
        assert_eq!(waste.patience(ms(1000)), ms(4000));
        waste.add(ms(1000));
        assert_eq!(waste.patience(ms(5000)), ms(5000));
    }
}
