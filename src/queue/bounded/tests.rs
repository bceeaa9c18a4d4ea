//! What a queue does for those who wait, and at its bounds.

use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::checkpoint::identity::StreamIdentity;
use crate::checkpoint::lease::{Lease, Lost};
use crate::checkpoint::ledger::Ledger;

/// For how long a test waits for what has to come at once. Whoever waits inside of it waits longer.
const DEADLINE: Duration = Duration::from_secs(10);

fn worker() -> Arc<Control> {
    let ledger =
        Ledger::new("test", crate::options::Options::new().style(), StreamIdentity::default());
    Arc::new(Control::new(&Arc::new(ledger), "test".to_owned()))
}

/// Events of these sizes, the first with this number.
fn events(first: u64, sizes: &[usize]) -> Arc<Events> {
    let documents: Vec<_> = sizes.iter().map(|&size| vec![0; size]).collect();
    Events::for_test(first, &documents)
}

fn failure(text: &str) -> Error {
    Error::new(ErrorKind::Server, text)
}

/// Waits until the queue is like that.
fn await_that(queue: &Queue, is_so: impl Fn(&Contents) -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so(&queue.state()) {
        assert!(Instant::now() < deadline, "it does not come to that");
        thread::yield_now();
    }
}

/// Takes without a wait: the numbers of messages in pieces, or the failure, or how it ended.
fn take(queue: &Queue, max: usize) -> String {
    match queue.take(max, Wait::Not) {
        Ok(Received::Some(pieces)) => {
            format!("{:?}", pieces.iter().map(|piece| piece.range.clone()).collect::<Vec<_>>())
        }
        Ok(Received::Timeout) => "nothing".to_owned(),
        Ok(Received::Closed) => "closed".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Takes with a wait that is long enough.
fn take_one(queue: &Queue) -> Received<Vec<Piece>> {
    queue.take(1, Wait::at_most(2 * DEADLINE)).expect("no failure")
}

#[test]
fn as_many_events_are_admitted_as_fit() {
    let queue = Queue::new(5, 100);
    let all = events(0, &[40, 30, 30, 1, 5, 5]);
    let admitted = |messages, bytes, at| {
        queue.admit(&Contents { messages, bytes, ..Contents::default() }, &all, at)
    };
    assert_eq!(admitted(0, 0, 0), (3, 100), "the bytes are used up");
    assert_eq!(admitted(0, 0, 1), (6, 71), "all five");
    assert_eq!(admitted(1, 0, 1), (5, 66), "four messages");
    assert_eq!(admitted(4, 0, 3), (4, 1));
    assert_eq!(admitted(5, 0, 3), (3, 0), "it is full");
    assert_eq!(admitted(1, 60, 0), (1, 40), "to the last byte");
    assert_eq!(admitted(1, 61, 0), (0, 0));
    assert_eq!(admitted(1, 99, 3), (4, 1));
    assert_eq!(admitted(1, 100, 3), (3, 0));
    let large = events(0, &[101, 1]);
    assert_eq!(queue.admit(&Contents::default(), &large, 0), (1, 101), "alone it always fits");
    let state = Contents { messages: 1, ..Contents::default() };
    assert_eq!(queue.admit(&state, &large, 0), (0, 0), "it is not alone");
    let second = events(0, &[1, 101]);
    assert_eq!(queue.admit(&Contents::default(), &second, 0), (1, 1), "nor is the second one");
}

#[test]
fn messages_come_in_order_and_a_failure_comes_after_those_before_it() {
    let (queue, stop, failing, other) = (Queue::new(10, 1000), Gate::new(), worker(), worker());
    queue.attach(&failing).unwrap();
    queue.attach(&other).unwrap();
    assert!(queue.push(&events(0, &[1; 3]), &stop).is_ok());
    queue.detach(&failing, Some(failure("first")));
    assert!(queue.push(&events(3, &[2; 2]), &stop).is_ok());
    let counts = || {
        let stats = queue.stats().unwrap();
        (stats.depth, stats.bytes, stats.failures, stats.high_water)
    };
    assert_eq!(counts(), (5, 7, 1, 5));
    assert_eq!(take(&queue, 2), "[0..2]");
    assert_eq!(counts(), (3, 5, 1, 5));
    assert_eq!(take(&queue, 9), "[2..3]", "up to the failure");
    assert_eq!(take(&queue, 9), "first");
    assert_eq!(counts(), (2, 4, 0, 5));
    assert_eq!(take(&queue, 1), "[0..1]");
    assert!(queue.push(&events(5, &[3]), &stop).is_ok());
    assert_eq!(take(&queue, 2), "[1..2, 0..1]", "of two pieces");
    assert_eq!(counts(), (0, 0, 0, 5));
    assert_eq!(take(&queue, 1), "nothing");
    queue.refuse(failure("second"));
    queue.refuse(failure("third"));
    assert_eq!(counts().2, 1, "the last one counts");
    assert_eq!(take(&queue, 1), "third");
    assert_eq!(counts().2, 0);
    queue.detach(&other, None);
    assert_eq!(take(&queue, 0), "closed");
}

#[test]
fn a_queue_that_only_failures_have_reached_is_at_its_end_after_them() {
    let queue = Queue::new(10, 1000);
    queue.refuse(failure("no"));
    assert_eq!(take(&queue, 1), "no");
    assert_eq!(take(&queue, 1), "closed");
}

#[test]
fn each_waiting_consumer_is_woken() {
    let (queue, stop) = (Queue::new(10, 1000), Gate::new());
    thread::scope(|scope| {
        let all: Vec<_> =
            (0..3).map(|_| scope.spawn(|| take_one(&queue).some().is_some())).collect();
        await_that(&queue, |state| state.waiting_consumers == 3);
        assert!(queue.push(&events(0, &[1; 3]), &stop).is_ok());
        await_that(&queue, |state| state.waiting_consumers == 0);
        assert!(all.into_iter().all(|consumer| consumer.join().unwrap()));
        let all: Vec<_> =
            (0..3).map(|_| scope.spawn(|| take_one(&queue).some().is_none())).collect();
        await_that(&queue, |state| state.waiting_consumers == 3);
        queue.close();
        await_that(&queue, |state| state.waiting_consumers == 0);
        assert!(all.into_iter().all(|consumer| consumer.join().unwrap()), "closing wakes all");
    });
    assert_eq!(queue.state().waiting_consumers, 0);
}

#[test]
fn each_waiting_worker_is_woken_when_half_is_free() {
    for (capacity, max_bytes) in [(4, 1000), (100, 40)] {
        let (queue, stop) = (Queue::new(capacity, max_bytes), Gate::new());
        assert!(queue.push(&events(0, &[10; 4]), &stop).is_ok());
        thread::scope(|scope| {
            let push = |first| queue.push(&events(first, &[10; 2]), &stop).is_ok();
            let workers = [scope.spawn(move || push(4)), scope.spawn(move || push(6))];
            await_that(&queue, |state| state.waiting_workers == 2);
            assert_eq!(take(&queue, 1), "[0..1]");
            assert_eq!((queue.len(), queue.room.1.len()), (3, 0), "not yet");
            assert_eq!(take(&queue, 1), "[1..2]");
            await_that(&queue, |state| state.messages == 4 && state.waiting_workers == 1);
            assert_eq!(take(&queue, 2), "[2..4]");
            assert!(workers.into_iter().all(|worker| worker.join().unwrap()));
        });
        let state = queue.state();
        assert_eq!((state.messages, state.bytes, state.waiting_workers), (4, 40, 0));
        assert!(state.waited > Duration::ZERO);
    }
}

#[test]
fn a_worker_that_is_pushing_ends_with_its_stop_or_its_buffer() {
    for closes in [false, true] {
        let (queue, stop) = (Queue::new(2, 1000), Gate::new());
        thread::scope(|scope| {
            let worker = scope.spawn(|| queue.push(&events(0, &[1; 3]), &stop).is_err());
            await_that(&queue, |state| state.waiting_workers == 1);
            if closes {
                queue.close();
                take(&queue, 2);
            } else {
                stop.open();
            }
            assert!(worker.join().unwrap());
        });
        assert!(queue.push(&events(0, &[]), &stop).is_err(), "not even nothing, after that");
    }
}

#[test]
fn what_fits_of_a_reply_is_there_before_the_rest_has_room() {
    let (queue, stop) = (Queue::new(2, 1000), Gate::new());
    thread::scope(|scope| {
        let worker = scope.spawn(|| queue.push(&events(0, &[1; 5]), &stop).is_ok());
        let mut come = Vec::new();
        while come.len() < 5 {
            for piece in take_one(&queue).some().unwrap() {
                come.extend(piece.range);
            }
            assert!(queue.len() <= 2);
        }
        assert_eq!(come, [0, 1, 2, 3, 4]);
        assert!(worker.join().unwrap());
    });
}

#[test]
fn of_workers_that_have_ended_the_last_sixteen_are_kept() {
    let queue = Queue::new(5, 1000);
    let held = worker();
    queue.attach(&held).unwrap();
    queue.detach(&held, None);
    for _ in 0..20 {
        let worker = worker();
        queue.attach(&worker).unwrap();
        queue.detach(&worker, None);
    }
    assert_eq!(queue.stats().unwrap().workers.len(), 17, "and the one with a handle");
    let last = Arc::clone(queue.state().ended.last().unwrap());
    let second = Arc::clone(&queue.state().ended[1]);
    queue.stats().unwrap();
    let state = queue.state();
    assert!(Arc::ptr_eq(&state.ended[0], &held) && Arc::ptr_eq(&state.ended[1], &second));
    assert!(Arc::ptr_eq(state.ended.last().unwrap(), &last));
}

#[test]
fn there_is_room_only_for_what_may_be_pushed_now() {
    let (queue, stop) = (Queue::new(3, 100), Gate::new());
    let push = |sizes: &[usize]| {
        let room = queue.room_for(sizes.len(), sizes.iter().sum(), &stop);
        let documents: Vec<_> = sizes.iter().map(|&size| vec![0; size]).collect();
        room.map(|room| room.push(Events::for_test(0, &documents))).is_some()
    };
    let take = || queue.take(9, Wait::Not).ok().and_then(Received::some).map(|all| all.len());
    assert!(!push(&[5; 4]), "more messages than the buffer holds");
    assert!(!push(&[60, 60]), "more bytes than the buffer holds");
    assert!(push(&[150]), "one message alone always fits");
    assert!(!push(&[5]), "its bytes are there");
    assert_eq!(take(), Some(1));
    assert!(push(&[5, 5]) && push(&[5]));
    assert!(!push(&[5]), "full");
    assert_eq!((queue.len(), take()), (3, Some(2)));
    stop.open();
    assert!(!push(&[5]), "after a stop");
    let (queue, stop) = (Queue::new(3, 100), Gate::new());
    queue.close();
    assert!(queue.room_for(1, 5, &stop).is_none(), "closed");
}

#[test]
fn a_worker_whose_thread_could_not_be_started_leaves_the_buffer_as_it_was() {
    let queue = Queue::new(3, 100);
    let take = || queue.take(1, Wait::Not).map(|received| received.map(|all| all.len()));
    let (refused, running) = (worker(), worker());
    queue.attach(&refused).unwrap();
    queue.forget(&refused);
    assert!(matches!(take(), Ok(Received::Timeout)), "no worker has fed it yet");
    queue.attach(&running).unwrap();
    queue.attach(&refused).unwrap();
    queue.forget(&refused);
    queue.detach(&running, None);
    assert!(matches!(take(), Ok(Received::Closed)), "its only worker has ended");
}

#[test]
fn a_consumer_that_was_woken_for_nothing_waits_on() {
    let queue = Queue::new(5, 1000);
    let time = Duration::from_millis(50);
    // Another consumer was faster.
    queue.arrivals.0.send(()).unwrap();
    let begin = Instant::now();
    assert!(matches!(queue.take(1, Wait::at_most(time)), Ok(Received::Timeout)));
    assert!(begin.elapsed() >= time);
}

#[test]
fn a_worker_that_waits_adds_nothing_to_a_full_queue() {
    let (queue, stop) = (Queue::new(1, 1000), Gate::new());
    assert!(queue.push(&events(0, &[1]), &stop).is_ok());
    let entries = thread::scope(|scope| {
        let worker = scope.spawn(|| queue.push(&events(1, &[1]), &stop).is_err());
        await_that(&queue, |state| state.waiting_workers == 1);
        let entries = queue.entries.1.len();
        stop.open();
        assert!(worker.join().unwrap());
        entries
    });
    assert_eq!(entries, 1);
}

/// Events of a worker with this lease.
fn leased(lease: &Arc<Lease>) -> impl Fn(u64, &[usize]) -> Arc<Events> + use<> {
    let options = crate::options::Options::new();
    let ledger = Ledger::new("leased", options.style(), StreamIdentity::default());
    let ledger = Arc::new(ledger.with_lease(Some(Arc::clone(lease))));
    move |first, sizes| {
        let documents: Vec<_> = sizes.iter().map(|&size| vec![0; size]).collect();
        Events::of_bytes(&ledger, first, &documents)
    }
}

fn lease() -> Arc<Lease> {
    Arc::new(Lease::new(Duration::from_secs(3600)))
}

#[test]
fn what_waits_for_a_lease_holds_up_nobody_and_keeps_its_order() {
    let (queue, lease, stop) = (Queue::new(100, 1000), lease(), Gate::new());
    let of_leased = leased(&lease);
    let push = |events: &Arc<Events>| assert!(queue.push(events, &stop).is_ok());
    push(&of_leased(0, &[1; 3]));
    push(&events(0, &[1; 2]));
    assert_eq!(take(&queue, 10), "[0..2]", "those of the other worker");
    assert_eq!((take(&queue, 10).as_str(), queue.len()), ("nothing", 3));
    // The lease is sure again, and nobody has told the queue yet: the first ones are still set aside.
    push(&of_leased(3, &[1; 4]));
    lease.held(boot_time());
    assert_eq!(take(&queue, 10), "nothing");
    queue.lease_changed();
    assert_eq!(take(&queue, 2), "[0..2]");
    assert_eq!(take(&queue, 10), "[2..3, 0..4]");
    assert_eq!(queue.len(), 0);
}

#[test]
fn who_waits_for_a_message_gets_it_when_the_lease_is_sure_again() {
    let (queue, lease, stop) = (Queue::new(100, 1000), lease(), Gate::new());
    assert!(queue.push(&leased(&lease)(0, &[1]), &stop).is_ok());
    thread::scope(|scope| {
        let consumer = scope.spawn(|| take_one(&queue));
        await_that(&queue, |state| state.waiting_consumers == 1 && !state.aside.is_empty());
        lease.held(boot_time());
        queue.lease_changed();
        assert!(matches!(consumer.join().expect("no panic"), Received::Some(_)));
    });
}

#[test]
fn what_a_worker_has_queued_that_has_lost_its_lease_is_dropped() {
    let (queue, lease, stop) = (Queue::new(3, 1000), lease(), Gate::new());
    let of_leased = leased(&lease);
    let control = worker();
    queue.attach(&control).expect("it is open");
    assert!(queue.push(&of_leased(0, &[1; 2]), &stop).is_ok());
    assert_eq!(take(&queue, 1), "nothing");
    assert!(queue.push(&of_leased(2, &[1]), &stop).is_ok());
    lease.ends(Lost::Released);
    queue.lease_changed();
    assert_eq!(take(&queue, 10), "nothing");
    let state = queue.state();
    assert_eq!((state.messages, state.bytes, state.aside.len()), (0, 0, 0));
    drop(state);
    queue.detach(&control, Some(failure("fenced")));
    assert_eq!((take(&queue, 1), take(&queue, 1)), ("fenced".to_owned(), "closed".to_owned()));
}

#[cfg(unix)]
#[test]
fn the_descriptor_is_not_readable_for_what_is_set_aside() {
    use nix::poll::{PollFd, PollFlags, poll};

    let (queue, lease, stop) = (Queue::new(3, 1000), lease(), Gate::new());
    let is_readable = || {
        let descriptor = queue.wakeup().expect("a descriptor").fd();
        poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], 0u8) == Ok(1)
    };
    assert!(!is_readable());
    assert!(queue.push(&leased(&lease)(0, &[1]), &stop).is_ok());
    assert_eq!(take(&queue, 1), "nothing");
    assert!(!is_readable());
    lease.held(boot_time());
    queue.lease_changed();
    assert!(is_readable());
}
