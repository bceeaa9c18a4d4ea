//! For how long a stream has not worked, and how often it was opened in vain.

use std::time::Duration;

use crate::log::LogLevel;
use crate::source::failure;
use crate::source::fault::Fault;
use crate::stream::backoff::Backoff;

/// For how long the stream has not worked, and how often it was opened in vain. Times are those for which the worker
/// has been running.
pub(crate) struct Trouble {
    since: Option<Duration>,
    pub(crate) backoff: Backoff,
    told: bool,
    /// Since when the server refuses the user.
    refused: Option<Duration>,
}

impl Trouble {
    /// The time before the first open counts from the start.
    pub(crate) fn new(now: Duration, seed: u64) -> Self {
        Self { since: Some(now), backoff: Backoff::new(seed), told: false, refused: None }
    }

    /// The stream works. The next trouble begins with short waits only if it has worked well.
    pub(crate) fn ends(&mut self, is_sound: bool) {
        self.since = None;
        self.refused = None;
        self.told = false;
        if is_sound {
            self.backoff.reset();
        }
    }

    /// What was so far does not count.
    pub(crate) fn begins_anew(&mut self, now: Duration) {
        self.since = Some(now);
    }

    /// The next line is about something else.
    pub(crate) fn is_another(&mut self) {
        self.told = false;
    }

    /// Of its next line: that it has begun is a warning, that it goes on is none.
    pub(crate) fn level(&mut self) -> LogLevel {
        if std::mem::replace(&mut self.told, true) { LogLevel::Info } else { LogLevel::Warn }
    }

    /// Whether the server refuses the user for so short a time that it may be a mistake. Time in which it
    /// cannot be reached does not count.
    pub(crate) fn bears(&mut self, fault: &Fault, is_refused: bool, now: Duration) -> bool {
        if is_refused {
            let since = *self.refused.get_or_insert(now);
            return now.saturating_sub(since) < failure::REFUSED_PATIENCE;
        }
        if failure::is_unreachable(fault) {
            self.refused = None;
        }
        true
    }

    /// Whether it began less than so long ago; it begins now if it has not yet.
    pub(crate) fn lasts_less_than(&mut self, limit: Option<Duration>, now: Duration) -> bool {
        let since = *self.since.get_or_insert(now);
        limit.is_none_or(|limit| now.saturating_sub(since) < limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::fault::FaultKind;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_counts_from_the_first_failure_until_it_ends() {
        let mut trouble = Trouble::new(s(5), 1);
        assert!(trouble.lasts_less_than(Some(s(10)), s(14)));
        assert!(!trouble.lasts_less_than(Some(s(10)), s(15)));
        assert!(trouble.lasts_less_than(None, s(1_000_000)));
        trouble.begins_anew(s(20));
        assert!(trouble.lasts_less_than(Some(s(10)), s(29)));
        trouble.ends(true);
        assert!(trouble.lasts_less_than(Some(s(10)), s(100)), "it begins here");
        assert!(!trouble.lasts_less_than(Some(s(10)), s(110)));
    }

    #[test]
    fn only_an_end_after_a_sound_stream_shortens_the_next_wait() {
        let mut trouble = Trouble::new(s(0), 1);
        assert_eq!(trouble.backoff.next(), s(0));
        trouble.ends(false);
        assert!(trouble.backoff.next() > s(0));
        trouble.ends(true);
        assert_eq!(trouble.backoff.next(), s(0));
    }

    #[test]
    fn only_the_first_line_is_a_warning() {
        let mut trouble = Trouble::new(s(0), 1);
        let levels = |trouble: &mut Trouble| (trouble.level(), trouble.level());
        assert_eq!(levels(&mut trouble), (LogLevel::Warn, LogLevel::Info));
        trouble.ends(false);
        assert_eq!(levels(&mut trouble), (LogLevel::Warn, LogLevel::Info));
        trouble.is_another();
        assert_eq!(levels(&mut trouble), (LogLevel::Warn, LogLevel::Info));
    }

    #[test]
    fn a_refused_user_is_borne_for_a_bounded_time_in_which_the_server_answers() {
        let fault = |kind| Fault { kind, answer: None, text: String::new() };
        let (refusal, network) = (fault(FaultKind::Login(None)), fault(FaultKind::Network));
        let mut trouble = Trouble::new(s(0), 1);
        let limit = failure::REFUSED_PATIENCE;
        assert!(trouble.bears(&refusal, true, s(10)));
        // The driver gives up the other connections after a login that failed: that is no interruption.
        assert!(trouble.bears(&fault(FaultKind::ConnectionsGivenUp), false, s(11)));
        assert!(trouble.bears(&refusal, true, s(9) + limit));
        assert!(!trouble.bears(&refusal, true, s(10) + limit));
        assert!(trouble.bears(&network, false, s(11) + limit));
        assert!(trouble.bears(&refusal, true, s(12) + limit), "it counts anew");
        assert!(!trouble.bears(&refusal, true, s(12) + limit + limit));
        trouble.ends(false);
        assert!(trouble.bears(&refusal, true, s(13) + limit + limit));
    }
}
