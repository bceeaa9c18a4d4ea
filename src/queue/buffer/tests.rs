//! What a consumer sees of a buffer.

use std::time::Instant;

use super::*;
use crate::checkpoint::identity::StreamIdentity;
use crate::checkpoint::ledger::Ledger;
use crate::control::Control;
use crate::error::{Error, ErrorKind};
use crate::gate::Gate;
use crate::options::Options;
use crate::queue::events::Events;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

fn fill(buffer: &Buffer, sizes: &[usize]) {
    let documents: Vec<_> = sizes.iter().map(|&size| vec![0; size]).collect();
    assert!(buffer.queue().push(&Events::for_test(0, &documents), &Gate::new()).is_ok());
}

fn sizes(batch: &Batch) -> Vec<usize> {
    batch.messages().iter().map(|message| message.bson().len()).collect()
}

#[test]
fn messages_are_received_one_by_one_or_together() {
    let buffer = Buffer::new(10);
    fill(&buffer, &[1, 2, 3, 4, 5, 6, 7]);
    let size = |message: Message| message.bson().len();
    assert_eq!((buffer.len(), buffer.is_empty()), (7, false));
    assert_eq!(buffer.recv().unwrap().map(size), Some(1));
    assert_eq!(buffer.try_recv().unwrap().map(size), Received::Some(2));
    assert_eq!(buffer.recv_timeout(LONG).unwrap().map(size), Received::Some(3));
    let two = buffer.recv_batch(2).unwrap().expect("a batch");
    assert_eq!(sizes(&two), [4, 5]);
    let rest = buffer.recv_batch_timeout(10, LONG).unwrap().map(|batch| sizes(&batch));
    assert_eq!(rest, Received::Some(vec![6, 7]));
    assert_eq!((buffer.len(), buffer.is_empty()), (0, true));
}

#[test]
fn a_receive_waits_for_as_long_as_it_is_told() {
    let buffer = Buffer::new(10);
    let size = |message: Message| message.bson().len();
    let begin = Instant::now();
    assert_eq!(buffer.try_recv().unwrap().map(size), Received::Timeout);
    let time = Duration::from_millis(30);
    assert_eq!(buffer.recv_timeout(time).unwrap().map(size), Received::Timeout);
    assert!(begin.elapsed() >= time);
    let batch = buffer.recv_batch_timeout(9, time).unwrap().map(|batch| batch.len());
    assert_eq!(batch, Received::Timeout);
    assert!(begin.elapsed() >= 2 * time && begin.elapsed() < LONG);
}

#[test]
fn a_buffer_counts_messages_and_bytes() {
    let buffer = Buffer::new(3);
    let stats = buffer.stats().unwrap();
    assert_eq!((stats.capacity, stats.max_bytes), (3, 64 << 20));
    let buffer = Buffer::with_max_bytes(0, 50);
    fill(&buffer, &[20]);
    let stats = buffer.stats().unwrap();
    assert_eq!((stats.capacity, stats.max_bytes, stats.depth, stats.bytes), (1, 50, 1, 20));
    let shown = format!("{buffer:?}");
    assert!(shown.contains("capacity: 1") && shown.contains("max_bytes: 50"), "{shown}");
}

#[test]
fn a_closed_buffer_is_drained_and_ends() {
    let buffer = Buffer::new(10);
    fill(&buffer, &[1, 2]);
    buffer.close();
    buffer.close();
    let received: Vec<_> = buffer.iter().map(|message| message.unwrap().bson().len()).collect();
    assert_eq!(received, [1, 2]);
    assert!(buffer.recv().unwrap().is_none());
    assert!(buffer.recv_batch(5).unwrap().is_none());
    assert!(matches!(buffer.try_recv().unwrap(), Received::Closed));
    assert!((&buffer).into_iter().next().is_none());
    assert!(buffer.into_iter().next().is_none());
}

#[test]
fn an_iteration_goes_on_after_a_workers_failure_and_ends_after_the_callers_mistake() {
    let buffer = Buffer::new(10);
    let ledger = Arc::new(Ledger::new("copy", Options::new().style(), StreamIdentity::default()));
    let control = Arc::new(Control::new(&ledger, "shop.orders".to_owned()));
    buffer.queue().attach(&control).unwrap();
    let failure = Error::new(ErrorKind::Server, "has failed").of_worker("copy");
    buffer.queue().detach(&control, Some(failure));
    let mut messages = buffer.iter();
    assert!(messages.next().unwrap().is_err());
    assert!(messages.next().is_none(), "no worker is left");
    let buffer = Buffer::new(10);
    fill(&buffer, &[1]);
    buffer.queue().refuse(Error::new(ErrorKind::Argument, "a mistake"));
    let mut messages = buffer.iter();
    assert!(messages.next().unwrap().is_err());
    assert!(messages.next().is_none(), "the mistake would come again and again");
    assert!(buffer.iter().next().unwrap().is_ok());
}

#[test]
fn an_iterator_can_hold_the_buffer() {
    let buffer = Buffer::new(10);
    fill(&buffer, &[1, 2]);
    let queue = Arc::clone(buffer.queue());
    let mut messages = buffer.into_iter();
    assert_eq!(messages.next().unwrap().unwrap().bson().len(), 1);
    assert!(matches!(queue.take(0, Wait::Not).unwrap(), Received::Some(_)), "it is not closed");
    drop(messages);
    assert!(matches!(queue.take(1, Wait::Not).unwrap(), Received::Closed));
}

#[test]
fn the_last_handle_closes_the_queue() {
    let buffer = Buffer::new(10);
    let queue = Arc::clone(buffer.queue());
    let second = buffer.clone();
    drop(buffer);
    assert!(matches!(queue.take(1, Wait::Not).unwrap(), Received::Timeout));
    drop(second);
    assert!(matches!(queue.take(1, Wait::Not).unwrap(), Received::Closed));
}

#[cfg(unix)]
#[test]
fn the_descriptor_is_readable_while_a_receive_would_not_wait() {
    use nix::poll::{PollFd, PollFlags, poll};
    let buffer = Buffer::new(10);
    let is_readable = || {
        let mut fds = [PollFd::new(buffer.fd().unwrap(), PollFlags::POLLIN)];
        poll(&mut fds, 0u8).unwrap() == 1
    };
    assert!(!is_readable());
    fill(&buffer, &[1, 2]);
    assert!(is_readable());
    buffer.recv().unwrap();
    assert!(is_readable());
    buffer.recv().unwrap();
    assert!(!is_readable());
    buffer.close();
    assert!(is_readable());
}
