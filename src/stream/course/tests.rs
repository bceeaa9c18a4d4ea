//! Leads a course through what may happen, and compares what it does. Long, because all tests share the ride.

use std::time::Duration;

use bson::{Timestamp, doc};

use super::*;
use crate::options::Options;
use crate::snapshot::progress::SnapshotProgress;
use crate::source::fault::{Answer, FaultKind};
use crate::source::servers::ServerFacts;

/// The unix time at which each course begins.
const BEGAN: u64 = 1_800_000_000;
/// For how long a stream is opened that was never open.
const OPENING: Duration = Duration::from_secs(30);

const NOT_FOUND: i32 = 280;
const HISTORY_LOST: i32 = 286;
const TOO_LARGE: i32 = 10334;
const WITHOUT_PARTS: i32 = 7182504;

/// The token of an event at this second.
fn token(second: u64) -> Token {
    let data = format!("82{second:08X}000000012B022C0100296E5A1004AA04");
    Token::from(doc! { "_data": data }.to_vec().expect("BSON"))
}

fn recent(number: u64) -> Token {
    token(BEGAN + number)
}

fn server(code: i32) -> Fault {
    let answer = Answer { code, message: "no".to_owned(), is_resumable: false };
    Fault { kind: FaultKind::Server, answer: Some(answer), text: format!("no ({code})") }
}

fn network() -> Fault {
    Fault { kind: FaultKind::Network, answer: None, text: "broken".to_owned() }
}

fn refusal() -> Fault {
    Fault { kind: FaultKind::Login(None), answer: None, text: "who?".to_owned() }
}

/// Leads one course.
struct Ride {
    course: Course,
    now: Now,
    /// Where the last cursor was opened.
    from: Option<Position>,
}

fn options(set: &[(&str, &str)]) -> Options {
    let mut options = Options::new();
    set.iter().for_each(|(name, value)| options.set(name, value).expect("an option"));
    options
}

impl Ride {
    fn new(set: &[(&str, &str)]) -> Self {
        let now = Now { running: Duration::ZERO, unix: Duration::from_secs(BEGAN) };
        let rules = Rules::new(&options(set), OPENING);
        Self { course: Course::new(rules, now, 7), now, from: None }
    }

    fn begin(&mut self, saved: Option<Saved>) -> String {
        let step = self.course.begin(saved.as_ref(), saved.is_some(), self.now);
        self.shown(&step)
    }

    fn pass(&mut self, time: Duration) {
        self.now.running += time;
        self.now.unix += time;
    }

    fn next(&mut self, happened: Happened) -> String {
        let step = self.course.next(happened, self.now);
        self.shown(&step)
    }

    /// The followed cursor was opened, had so many replies, of which the last moved it, and ended.
    fn followed(&mut self, replies: usize, to: Option<Token>, end: End) -> String {
        let mut progress = CursorProgress::at(self.from.clone().expect("a cursor"));
        progress.is_open = true;
        progress.server = Some(ServerFacts { wire_version: Some(17), round_trip: None });
        for number in 0..replies {
            let token = to.as_ref().filter(|_| number + 1 == replies);
            progress.over(usize::from(token.is_some()), token, None);
        }
        if replies > 0 {
            self.course.is_open();
        }
        self.next(Happened::Followed(end, Box::new(progress)))
    }

    /// The followed cursor could not be opened.
    fn refused(&mut self, fault: Fault) -> String {
        let progress = CursorProgress::at(self.from.clone().expect("a cursor"));
        self.next(Happened::Followed(End::Failed(fault), Box::new(progress)))
    }

    fn failed(&mut self, fault: Fault) -> String {
        self.next(Happened::Failed { fault, is_open: false, wire_version: None })
    }

    /// A course whose stream is open, after some events.
    fn open(set: &[(&str, &str)]) -> Self {
        let mut ride = Self::new(set);
        ride.begin(None);
        ride.pass(Duration::from_secs(2));
        assert_eq!(ride.followed(3, Some(recent(1)), End::Failed(network())), "wait: broken");
        assert_eq!(ride.next(Happened::Done), "follow after 1, full");
        ride
    }

    fn shown(&mut self, step: &Step) -> String {
        let why = |why: &Why| match why {
            Why::Failed(failed) => failed.fault.text.clone(),
            Why::Lost(failed) => format!("lost by {}", failed.fault.text),
            Why::Invalidated(token) => format!("invalidated at {}", number(token)),
            Why::Closed => "closed".to_owned(),
        };
        match step {
            Step::TakeToken(from) => format!("take the token {}", place(from)),
            Step::Follow(plan) => {
                self.from = Some(plan.from.clone());
                let pace = match plan.pace {
                    Pace::Full => "full",
                    Pace::One => "one",
                    Pace::Careful => "careful",
                };
                let notice = if plan.leads_with_notice { ", with a notice" } else { "" };
                format!("follow {}, {pace}{notice}", place(&plan.from))
            }
            Step::BeginSnapshot => "begin a snapshot".to_owned(),
            Step::CheckPlace(from) => format!("check {}", place(from)),
            Step::ReadSnapshot { at, is_rest } => {
                let at = at.map(|at| u64::from(at.time) - BEGAN);
                format!("read {}at {at:?}", if *is_rest { "the rest " } else { "" })
            }
            Step::FindInvalidate(from) => format!("find the invalidate {}", place(from)),
            Step::FindOutline(from) => format!("find the outline {}", place(from)),
            Step::Confirm(from, token) => format!("confirm {} {}", number(token), place(from)),
            Step::TellOversized { from, .. } => format!("tell {}", place(from)),
            Step::Wait(wait) => format!("wait: {}", why(&wait.why)),
            Step::End(ending) => match ending {
                Ending::Stopped => "stopped".to_owned(),
                Ending::Failed(failed) => format!("failed: {}", failed.fault.text),
                Ending::Invalidated(token) => {
                    format!("invalidated at {:?}", token.as_deref().map(number))
                }
                Ending::Bug(text) => format!("a bug: {text}"),
                Ending::Error(error) => format!("error: {error}"),
            },
        }
    }
}

fn number(token: &[u8]) -> i64 {
    let (time, _) = crate::raw::token::token_time(token).expect("a time");
    i64::from(time) - BEGAN as i64
}

fn place(position: &Position) -> String {
    match position {
        Position::Start(None) => "now".to_owned(),
        Position::Start(Some((name, _))) => format!("at {name}"),
        Position::After(token) => format!("after {}", number(token)),
        Position::Past(token) => format!("past {}", number(token)),
    }
}

fn saved(token: Token, snapshot: Option<SnapshotProgress>) -> Option<Saved> {
    Some(Saved { token, snapshot })
}

#[test]
fn a_stream_begins_where_the_options_and_the_checkpoint_say() {
    let time = ("start_at_time", "1799999000");
    let (initial, always) = (("snapshot", "initial"), ("snapshot", "always"));
    let rest = || Some(SnapshotProgress::default());
    for (set, saved, first) in [
        (vec![], None, "follow now, full"),
        (vec![time], None, "take the token at startAtOperationTime"),
        (vec![initial], None, "begin a snapshot"),
        (vec![always], None, "begin a snapshot"),
        (vec![], saved(recent(0), None), "follow after 0, full"),
        (vec![time], saved(recent(0), None), "follow after 0, full"),
        (vec![initial], saved(recent(0), None), "follow after 0, full"),
        (vec![always], saved(recent(0), None), "begin a snapshot"),
        (vec![], saved(recent(0), rest()), "check after 0"),
        (vec![initial], saved(recent(0), rest()), "check after 0"),
        (vec![always], saved(recent(0), rest()), "check after 0"),
        (vec![], saved(token(BEGAN - 60), None), "follow after -60, one"),
        (vec![("batch_size", "1")], saved(token(BEGAN - 60), None), "follow after -60, full"),
    ] {
        assert_eq!(Ride::new(&set).begin(saved), first, "{set:?}");
    }
}

#[test]
fn what_lies_far_back_is_accepted_with_the_second_reply_and_read_one_by_one() {
    for (age, accepted_with, pace) in [(10, 1, Pace::Full), (11, 2, Pace::One)] {
        let mut ride = Ride::new(&[]);
        let place = saved(token(BEGAN - age), None);
        let step = ride.course.begin(place.as_ref(), true, ride.now);
        let Step::Follow(plan) = step else { panic!("no cursor") };
        assert_eq!((plan.accepted_with, plan.pace), (accepted_with, pace), "{age} s");
        assert_eq!(plan.patience.is_some(), pace == Pace::Full);
    }
}

#[test]
fn the_token_of_a_start_time_is_taken_first() {
    let mut ride = Ride::new(&[("start_at_time", "1799999999")]);
    ride.begin(None);
    assert_eq!(ride.failed(network()), "wait: broken");
    assert_eq!(ride.next(Happened::Done), "take the token at startAtOperationTime");
    assert_eq!(ride.next(Happened::Token(recent(0))), "follow after 0, full");
}

#[test]
fn a_stream_that_was_never_open_is_tried_for_as_long_as_the_driver_looks_for_a_server() {
    let mut ride = Ride::new(&[]);
    ride.begin(None);
    assert_eq!(ride.refused(network()), "wait: broken");
    ride.next(Happened::Done);
    ride.pass(OPENING - Duration::from_millis(1));
    assert_eq!(ride.refused(network()), "wait: broken");
    ride.next(Happened::Done);
    ride.pass(Duration::from_millis(1));
    assert_eq!(ride.refused(network()), "failed: broken");
}

#[test]
fn a_stream_that_was_at_work_before_it_was_open_is_not_called_unreachable() {
    let mut ride = Ride::new(&[]);
    ride.begin(None);
    ride.pass(OPENING);
    let mut progress = CursorProgress::at(Position::Start(None));
    progress.server = Some(ServerFacts::default());
    let end = |progress: &CursorProgress| {
        Happened::Followed(End::Failed(network()), Box::new(progress.clone()))
    };
    assert_eq!(ride.next(end(&progress)), "wait: broken");
    ride.next(Happened::Done);
    // Less than a second with a server is no work.
    ride.pass(OPENING - Duration::from_secs(2));
    assert_eq!(ride.next(end(&progress)), "wait: broken", "it has begun anew");
    ride.next(Happened::Done);
    progress.server = None;
    ride.pass(OPENING);
    assert_eq!(ride.next(end(&progress)), "failed: broken", "no server was found");
}

#[test]
fn a_stream_that_has_been_open_is_opened_again_for_ever_or_for_retry_ms() {
    let mut ride = Ride::open(&[]);
    for _ in 0..100 {
        ride.pass(Duration::from_secs(3600));
        assert_eq!(ride.refused(network()), "wait: broken");
        assert_eq!(ride.next(Happened::Done), "follow after 1, one");
    }
    let mut ride = Ride::open(&[("retry_ms", "5000")]);
    ride.pass(Duration::from_millis(4999));
    assert_eq!(ride.refused(network()), "wait: broken");
    ride.next(Happened::Done);
    ride.pass(Duration::from_millis(1));
    assert_eq!(ride.refused(network()), "failed: broken");
}

#[test]
fn only_a_reply_after_the_opening_one_ends_the_time_of_retry_ms() {
    for (replies, after) in [(1, "failed: broken"), (2, "wait: broken")] {
        let mut ride = Ride::open(&[("retry_ms", "5000")]);
        ride.pass(Duration::from_secs(4));
        assert_eq!(ride.followed(replies, None, End::Failed(network())), "wait: broken");
        ride.next(Happened::Done);
        ride.pass(Duration::from_secs(1));
        assert_eq!(ride.refused(network()), after, "{replies} replies");
    }
}

#[test]
fn a_failure_that_is_for_good_ends_the_stream() {
    for code in [13548, 286, 73, 8000, 40324, 2] {
        assert_eq!(Ride::open(&[]).refused(server(code)), format!("failed: no ({code})"));
    }
}

#[test]
fn a_user_that_is_refused_is_waited_for_only_where_the_stream_has_been_open() {
    let mut ride = Ride::new(&[]);
    ride.begin(None);
    assert_eq!(ride.refused(refusal()), "failed: who?");
    let mut ride = Ride::open(&[]);
    assert_eq!(ride.refused(refusal()), "wait: who?");
    ride.next(Happened::Done);
    ride.pass(failure::REFUSED_PATIENCE - Duration::from_millis(1));
    assert_eq!(ride.refused(refusal()), "wait: who?");
    ride.next(Happened::Done);
    ride.pass(Duration::from_millis(1));
    assert_eq!(ride.refused(refusal()), "failed: who?");
    let mut ride = Ride::new(&[]);
    ride.begin(saved(recent(0), None));
    assert_eq!(ride.refused(refusal()), "wait: who?", "it ran before");
}

#[test]
fn the_waits_grow_until_a_cursor_was_sound() {
    let wait = |ride: &mut Ride, happened| {
        let Step::Wait(wait) = ride.course.next(happened, ride.now) else { panic!("no wait") };
        ride.next(Happened::Done);
        wait.time
    };
    let broken = |ride: &Ride, replies| {
        let mut progress = CursorProgress::at(ride.from.clone().expect("a cursor"));
        (0..replies).for_each(|_| progress.over(0, None, None));
        Happened::Followed(End::Failed(network()), Box::new(progress))
    };
    for (replies, lived, is_reset) in
        [(0, 5000, false), (1, 5000, false), (2, 999, false), (2, 1000, true)]
    {
        let mut ride = Ride::open(&[]);
        for _ in 0..30 {
            let happened = broken(&ride, 0);
            wait(&mut ride, happened);
        }
        ride.pass(Duration::from_millis(lived));
        let happened = broken(&ride, replies);
        let time = wait(&mut ride, happened);
        assert_eq!(time.is_zero(), is_reset, "{replies} replies in {lived} ms: {time:?}");
        assert!(time.is_zero() || time >= Duration::from_secs(1), "{time:?}");
    }
}

#[test]
fn a_cursor_that_is_closed_again_and_again_where_it_is_does_not_make_the_worker_spin() {
    assert!(!is_sound(&End::Closed, false));
    assert!(is_sound(&End::Closed, true));
    assert!(is_sound(&End::Enough, false));
    assert!(!is_sound(&End::Failed(network()), false) && !is_sound(&End::Failed(network()), true));
}

#[test]
fn a_cursor_that_was_closed_after_it_had_moved_was_sound() {
    for (to, has_events, is_reset) in
        [(None, false, false), (Some(recent(5)), false, true), (Some(recent(5)), true, true)]
    {
        let mut ride = Ride::open(&[]);
        ride.refused(network());
        ride.next(Happened::Done);
        ride.refused(network());
        ride.next(Happened::Done);
        let mut progress = CursorProgress::at(ride.from.clone().expect("a cursor"));
        progress.is_open = true;
        progress.over(0, None, None);
        progress.over(usize::from(has_events), to.as_ref(), None);
        let step = ride.next(Happened::Followed(End::Closed, Box::new(progress)));
        assert!(step.starts_with("find the invalidate"), "{step}");
        let Step::Wait(wait) = ride.course.next(Happened::Nothing, ride.now) else {
            panic!("no wait")
        };
        assert_eq!(wait.time.is_zero(), is_reset, "{to:?}, {has_events}");
    }
}

#[test]
fn a_stream_that_is_closed_while_its_token_is_taken_may_have_met_an_invalidate() {
    let mut ride = Ride::new(&[("start_at_time", "1799999999")]);
    assert_eq!(ride.begin(None), "take the token at startAtOperationTime");
    assert_eq!(ride.next(Happened::Closed), "find the invalidate at startAtOperationTime");
    let mut ride = Ride::new(&[("snapshot", "initial")]);
    assert_eq!(ride.begin(None), "begin a snapshot");
    assert_eq!(ride.next(Happened::Closed), "find the invalidate now");
}

#[test]
fn a_report_is_told_of_the_last_server_and_of_the_checkpoint() {
    let mut ride = Ride::new(&[]);
    ride.begin(None);
    assert_eq!((ride.course.wire_version(), ride.course.ran_before()), (None, false));
    ride.followed(1, None, End::Failed(network()));
    assert_eq!(ride.course.wire_version(), Some(17));
    ride.next(Happened::Done);
    ride.refused(network());
    assert_eq!(ride.course.wire_version(), None, "no server was found");
    let mut ride = Ride::new(&[]);
    ride.begin(saved(recent(0), None));
    assert!(ride.course.ran_before() && ride.course.is_saved());
}

#[test]
fn a_position_that_the_consumer_has_kept_is_saved_before_the_stream_is_ready() {
    let mut ride = Ride::new(&[]);
    ride.begin(saved(recent(0), None));
    assert!(!ride.course.accepted().saves_first, "the checkpoint says so already");
    let mut ride = Ride::new(&[]);
    ride.course.begin(saved(recent(0), None).as_ref(), false, ride.now);
    assert!(ride.course.accepted().saves_first);
    assert!(ride.course.ran_before() && !ride.course.is_saved());
}

#[test]
fn a_token_that_is_not_found_is_looked_for_by_its_time_and_lost_only_then() {
    let mut ride = Ride::open(&[]);
    assert_eq!(ride.refused(server(NOT_FOUND)), "follow past 1, full");
    assert_eq!(ride.refused(network()), "wait: broken");
    assert_eq!(ride.next(Happened::Done), "follow past 1, full");
    assert_eq!(ride.refused(server(NOT_FOUND)), "failed: no (280)");
    // After events it is no question of where the cursor began.
    let mut ride = Ride::open(&[]);
    let end = End::Failed(server(NOT_FOUND));
    assert_eq!(ride.followed(2, Some(recent(2)), end), "failed: no (280)");
    // There is no way around a start option's place that has no token.
    let mut ride = Ride::new(&[]);
    ride.begin(None);
    assert_eq!(ride.refused(server(NOT_FOUND)), "failed: no (280)");
}

#[test]
fn a_lost_history_ends_the_stream_or_begins_it_anew() {
    for (policy, then) in [
        ("fail", None),
        ("restart", Some("follow now, full, with a notice")),
        ("snapshot", Some("begin a snapshot")),
    ] {
        let mut ride = Ride::open(&[("on_history_lost", policy)]);
        let first = ride.refused(server(HISTORY_LOST));
        match then {
            None => assert_eq!(first, "failed: no (286)"),
            Some(then) => {
                assert_eq!(first, "wait: lost by no (286)");
                assert_eq!(ride.next(Happened::Done), then);
                let from = Timestamp { time: (BEGAN + 1) as u32, increment: 1 };
                assert_eq!(ride.course.accepted().lost, Some(Lost { from: Some(from) }));
            }
        }
    }
}

#[test]
fn the_first_loss_is_told_once_and_the_time_of_the_first() {
    let lost = |ride: &Ride| ride.course.accepted().lost.map(|lost| lost.from.map(|at| at.time));
    let mut ride = Ride::open(&[("on_history_lost", "restart")]);
    ride.refused(server(HISTORY_LOST));
    ride.next(Happened::Done);
    // The cursor from now breaks before it has had a reply, and the next one meets a loss again.
    assert_eq!(ride.refused(network()), "wait: broken");
    assert_eq!(ride.next(Happened::Done), "follow now, full, with a notice");
    assert_eq!(ride.refused(server(HISTORY_LOST)), "wait: lost by no (286)");
    ride.next(Happened::Done);
    assert_eq!(lost(&ride), Some(Some((BEGAN + 1) as u32)));
    assert_eq!(ride.followed(1, Some(recent(9)), End::Failed(network())), "wait: broken");
    assert_eq!(ride.next(Happened::Done), "follow after 9, full");
    assert_eq!(lost(&ride), None);
}

#[test]
fn a_snapshot_that_is_not_finished_needs_the_history_from_its_beginning() {
    let mut ride = Ride::new(&[("snapshot", "initial"), ("on_history_lost", "restart")]);
    ride.begin(None);
    assert_eq!(ride.next(Happened::SnapshotBegun(recent(3))), "read at Some(3)");
    ride.course.is_open();
    let lost = Happened::Failed { fault: server(HISTORY_LOST), is_open: true, wire_version: None };
    assert_eq!(ride.next(lost), "wait: lost by no (286)");
    assert_eq!(ride.next(Happened::Done), "begin a snapshot");
    assert_eq!(ride.next(Happened::SnapshotBegun(recent(5))), "read at Some(5)");
    assert_eq!(ride.course.accepted().lost, None, "it was told");
    assert_eq!(ride.next(Happened::SnapshotRead), "follow after 5, full");
    assert_eq!(ride.refused(server(HISTORY_LOST)), "wait: lost by no (286)");
    assert_eq!(ride.next(Happened::Done), "follow now, full, with a notice");
}

#[test]
fn a_snapshot_is_read_on_after_a_failure() {
    let mut ride = Ride::new(&[("snapshot", "initial")]);
    ride.begin(None);
    ride.next(Happened::SnapshotBegun(recent(3)));
    ride.course.is_open();
    let failed = |fault| Happened::Failed { fault, is_open: true, wire_version: None };
    for code in [43, 237, 175, 11600, 91] {
        assert_eq!(ride.next(failed(server(code))), format!("wait: no ({code})"));
        assert_eq!(ride.next(Happened::Done), "read at Some(3)");
    }
    assert_eq!(ride.next(failed(server(13))), "wait: no (13)", "a role may be being replaced");
    ride.next(Happened::Done);
    assert_eq!(ride.next(failed(server(2))), "failed: no (2)");
}

#[test]
fn the_place_of_a_snapshot_is_checked_before_its_rest_is_read() {
    let rest = || saved(recent(3), Some(SnapshotProgress::default()));
    let fails = |code| Happened::Failed { fault: server(code), is_open: false, wire_version: None };
    for (happened, then) in [
        (Happened::PlaceIsThere, "read the rest at Some(3)"),
        (Happened::Closed, "read the rest at Some(3)"),
        (fails(TOO_LARGE), "read the rest at Some(3)"),
        (fails(NOT_FOUND), "check past 3"),
        (fails(HISTORY_LOST), "failed: no (286)"),
        (fails(91), "wait: no (91)"),
        (Happened::Stopped, "stopped"),
    ] {
        let mut ride = Ride::new(&[]);
        ride.begin(rest());
        assert_eq!(ride.next(happened), then);
    }
    let mut ride = Ride::new(&[]);
    ride.begin(rest());
    ride.next(fails(NOT_FOUND));
    assert_eq!(ride.next(fails(NOT_FOUND)), "failed: no (280)");
}

#[test]
fn a_stream_goes_on_after_an_invalidate_or_stops_there() {
    let ends = |ride: &mut Ride| {
        let mut progress = CursorProgress::at(ride.from.clone().expect("a cursor"));
        progress.over(1, Some(&recent(4)), None);
        progress.over(0, Some(&recent(6)), Some(&recent(5)));
        ride.next(Happened::Followed(End::Closed, Box::new(progress)))
    };
    let mut ride = Ride::open(&[]);
    assert_eq!(ends(&mut ride), "wait: invalidated at 5");
    assert_eq!(ride.next(Happened::Done), "follow after 5, full");
    let mut ride = Ride::open(&[("on_invalidate", "stop")]);
    assert_eq!(ends(&mut ride), "invalidated at Some(5)");
}

#[test]
fn a_hidden_invalidate_is_looked_for_from_before_the_last_reply() {
    let closed = |ride: &mut Ride| ride.followed(2, Some(recent(4)), End::Closed);
    for (policy, happened, then) in [
        ("continue", Happened::Token(recent(5)), "wait: invalidated at 5"),
        ("continue", Happened::Nothing, "wait: closed"),
        ("continue", Happened::Stopped, "stopped"),
        ("stop", Happened::Token(recent(5)), "invalidated at Some(5)"),
        ("stop", Happened::Nothing, "invalidated at None"),
    ] {
        let mut ride = Ride::open(&[("on_invalidate", policy)]);
        assert_eq!(closed(&mut ride), "find the invalidate after 1");
        assert_eq!(ride.next(happened), then);
    }
    let mut ride = Ride::open(&[]);
    closed(&mut ride);
    ride.next(Happened::Nothing);
    assert_eq!(ride.next(Happened::Done), "follow after 4, full");
}

#[test]
fn an_event_that_is_too_large_is_approached_one_by_one() {
    let mut ride = Ride::open(&[]);
    let large = || End::Failed(server(TOO_LARGE));
    assert_eq!(ride.followed(2, Some(recent(2)), large()), "follow after 2, careful");
    assert_eq!(ride.followed(3, Some(recent(3)), End::Enough), "follow after 3, full");
    assert_eq!(ride.followed(1, None, large()), "follow after 3, careful");
    assert_eq!(ride.followed(1, None, large()), "failed: no (10334)");
    // Where it is the next one for sure, nothing is tried.
    assert_eq!(Ride::open(&[]).refused(server(TOO_LARGE)), "failed: no (10334)");
    let mut ride = Ride::open(&[("batch_size", "1")]);
    assert_eq!(ride.followed(1, None, large()), "failed: no (10334)");
}

#[test]
fn an_event_that_is_too_large_is_left_out_once_it_is_known_to_be_that_one() {
    let mut ride = Ride::open(&[("on_oversized", "skip")]);
    assert_eq!(ride.refused(server(TOO_LARGE)), "find the outline past 1");
    assert_eq!(ride.next(Happened::Token(recent(2))), "confirm 2 past 1");
    assert_eq!(ride.next(Happened::TooLarge(server(TOO_LARGE))), "tell after 1");
    assert_eq!(ride.next(Happened::Done), "follow after 2, full");
    // Another one is the next by now.
    assert_eq!(ride.refused(server(TOO_LARGE)), "find the outline past 2");
    ride.next(Happened::Token(recent(3)));
    assert_eq!(ride.next(Happened::Nothing), "follow after 2, careful");
    assert_eq!(ride.refused(server(TOO_LARGE)), "find the outline past 2");
    assert_eq!(ride.failed(network()), "wait: broken");
    assert_eq!(ride.next(Happened::Done), "follow after 2, full");
    // The looking failed to begin, on a server that steps down: that is no failure of an open cursor.
    const STEPPED_DOWN: i32 = 189;
    assert_eq!(ride.followed(1, None, End::Failed(server(TOO_LARGE))), "follow after 2, careful");
    ride.followed(1, None, End::Failed(server(TOO_LARGE)));
    assert_eq!(ride.failed(server(STEPPED_DOWN)), "wait: no (189)");
}

#[test]
fn a_stream_looks_for_an_event_that_is_too_large_five_times_at_one_place() {
    let mut ride = Ride::open(&[("on_oversized", "skip")]);
    let in_vain = |ride: &mut Ride| {
        ride.refused(server(TOO_LARGE));
        ride.next(Happened::Nothing)
    };
    for _ in 0..5 {
        assert_eq!(in_vain(&mut ride), "follow after 1, careful");
    }
    // Events mean another place.
    ride.followed(2, Some(recent(2)), End::Enough);
    for _ in 0..5 {
        assert_eq!(in_vain(&mut ride), "follow after 2, careful");
    }
    assert_eq!(in_vain(&mut ride), "failed: no (10334)");
}

#[test]
fn tokens_without_places_for_parts_are_replaced() {
    let mut ride = Ride::open(&[]);
    let end = || End::Failed(server(WITHOUT_PARTS));
    assert_eq!(ride.followed(2, Some(recent(2)), end()), "follow past 2, full");
    assert_eq!(ride.followed(1, None, end()), "failed: no (7182504)");
}

#[test]
fn another_pace_is_taken_at_once_and_waste_makes_it_rarer() {
    let change = |to, wasted| End::Change(Change { to, wasted: Duration::from_secs(wasted) });
    let mut ride = Ride::new(&[]);
    ride.begin(saved(token(BEGAN - 600), None));
    let full = Advice::Full(Duration::from_secs(3));
    assert_eq!(
        ride.followed(2, Some(token(BEGAN - 500)), change(full, 0)),
        "follow after -500, full"
    );
    assert!(!ride.course.accepted().is_news);
    let end = change(Advice::One, 4);
    assert_eq!(ride.followed(2, Some(token(BEGAN - 400)), end), "follow after -400, one");
    let end = change(Advice::Try(Duration::from_secs(1)), 0);
    let progress = CursorProgress::at(ride.from.clone().expect("a cursor"));
    let Step::Follow(plan) =
        ride.course.next(Happened::Followed(end, Box::new(progress)), ride.now)
    else {
        panic!("no cursor");
    };
    assert_eq!(plan.full_from, Duration::from_secs(40));
    assert_eq!(plan.patience, None, "nothing is given up before");
    assert_eq!(plan.why.map(|(level, _)| level), Some(LogLevel::Debug));
    assert_eq!(ride.failed(network()), "wait: broken");
}

#[test]
fn the_first_place_of_a_new_stream_is_saved_before_it_is_ready() {
    let saves = |ride: &Ride| ride.course.accepted().saves_first;
    let mut ride = Ride::new(&[]);
    ride.begin(None);
    assert!(saves(&ride));
    ride.course.is_open();
    assert!(!saves(&ride), "once");
    let mut ride = Ride::new(&[]);
    ride.begin(saved(recent(0), None));
    assert!(!saves(&ride), "it was saved");
    let mut ride = Ride::new(&[("snapshot", "always")]);
    ride.begin(saved(recent(0), None));
    assert!(saves(&ride), "a new beginning is a new place");
}

#[test]
fn a_store_that_fails_is_asked_for_as_long_as_a_server_is_looked_for() {
    let failure = Error::new(ErrorKind::Checkpoint, "no");
    let mut ride = Ride::new(&[]);
    assert!(ride.course.store_failed(&failure, ride.now).is_none(), "it is for good");
    let failure = failure.retriable();
    let mut ride = Ride::new(&[]);
    let (level, _) = ride.course.store_failed(&failure, ride.now).expect("a wait");
    assert_eq!(level, LogLevel::Warn);
    ride.pass(OPENING - Duration::from_millis(1));
    assert!(ride.course.store_failed(&failure, ride.now).is_some());
    ride.pass(Duration::from_millis(1));
    assert!(ride.course.store_failed(&failure, ride.now).is_none());
    // However long the deployment was away: that is not the store's time, and each of its failures has its own.
    let mut ride = Ride::new(&[]);
    ride.begin(None);
    ride.pass(OPENING);
    assert!(ride.course.store_failed(&failure, ride.now).is_some());
    ride.course.is_open();
    ride.pass(OPENING);
    assert!(ride.course.store_failed(&failure, ride.now).is_some());
}

#[test]
fn a_stop_ends_whatever_is_under_way() {
    let bug = Error::new(ErrorKind::Panic, "no");
    for set in [vec![], vec![("snapshot", "initial")], vec![("start_at_time", "1799999000")]] {
        let mut ride = Ride::new(&set);
        ride.begin(None);
        assert_eq!(ride.next(Happened::Stopped), "stopped");
        let mut ride = Ride::new(&set);
        ride.begin(None);
        assert!(ride.next(Happened::Broken(bug.clone())).starts_with("error: "));
        let mut ride = Ride::new(&set);
        ride.begin(None);
        assert!(ride.next(Happened::SnapshotRead).starts_with("a bug: "));
    }
    let mut ride = Ride::open(&[]);
    ride.refused(network());
    assert_eq!(ride.next(Happened::Stopped), "stopped", "of the wait");
}
