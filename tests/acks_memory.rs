//! What memory a process needs for messages that were acked after a hole. The only test of its
//! binary, because the figure belongs to the whole process.

mod support;

use ground::ReplicaSet;
use ground::mongodb::bson::{Document, doc};
use mongostream::{Buffer, Worker};
use support::now;

/// The memory that is resident, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn every_second_message_without_an_ack_costs_next_to_nothing() {
    const COUNT: usize = 150_000;
    let set = ReplicaSet::builder().args(["--oplogSize", "2000"]).start().unwrap();
    let watch = || Worker::watch(set.uri()).database("shop");
    let start = now(watch());
    let orders = set.client().database("shop").collection::<Document>("orders");
    for _ in 0..COUNT / 10_000 {
        orders.insert_many((0..10_000).map(|_| doc! {})).run().unwrap();
    }
    let buffer = Buffer::new(4000);
    let _worker = watch().start_at(start).spawn(&buffer).unwrap();
    let mut before = 0;
    for (number, message) in buffer.iter().take(COUNT).enumerate() {
        let message = message.unwrap();
        if number % 2 == 1 {
            message.ack();
        }
        if number == COUNT / 10 {
            before = resident();
        }
    }
    let growth = resident().saturating_sub(before);
    eprintln!("{growth} bytes");
    assert_eq!(buffer.stats().unwrap().workers[0].unacked as usize, COUNT / 2);
    // A token for each ack would be 15 MB.
    assert!(growth < 4 << 20, "{growth} bytes");
}
