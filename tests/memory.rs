//! What memory a process needs while its consumer does not read. The only test of its binary,
//! because the figure belongs to the whole process.

use std::time::Duration;

use ground::mongodb::bson::{Document, doc};
use mongostream::{Buffer, Worker};

const DEADLINE: Duration = Duration::from_secs(60);
const LARGE: usize = 5 << 20;
const COUNT: i32 = 60;
const MAX_BYTES: usize = 32 << 20;
/// What the process may need beside the buffer: replies, the driver's copies of them, the rest.
const BESIDE: usize = 100 << 20;

/// The most memory that was resident, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn a_consumer_that_does_not_read_costs_bounded_memory_and_loses_nothing() {
    let set = ground::ReplicaSet::builder().args(["--oplogSize", "2000"]).start().unwrap();
    let buffer = Buffer::with_max_bytes(1000, MAX_BYTES);
    let worker = Worker::watch(set.uri()).database("shop").spawn(&buffer).unwrap();
    worker.wait_ready().unwrap();

    // The server makes the documents itself: what a writer needs must not count here.
    let seed = set.client().database("seed").collection::<Document>("seed");
    seed.insert_one(doc! { "_id": 0, "text": "x".repeat(LARGE) }).run().unwrap();
    for id in 0..COUNT {
        let into = doc! { "db": "shop", "coll": "large" };
        let stages = [doc! { "$set": { "_id": id } }, doc! { "$merge": { "into": into } }];
        seed.aggregate(stages).run().unwrap();
    }
    ground::wait_until(DEADLINE, "the buffer is full", || buffer.len() == MAX_BYTES / LARGE);

    let mut next = 0;
    for message in &buffer {
        let message = message.unwrap();
        let event = message.bson();
        let id = bson_id(event);
        assert_eq!(id, next);
        assert!(buffer.len() * LARGE <= MAX_BYTES, "{} messages are queued", buffer.len());
        message.ack();
        next += 1;
        if next == COUNT {
            buffer.close();
        }
    }
    assert_eq!(next, COUNT);
    let peak = peak();
    eprintln!("peak: {} MB", peak >> 20);
    assert!(peak < MAX_BYTES + BESIDE, "the peak was {} MB", peak >> 20);
}

fn bson_id(event: &[u8]) -> i32 {
    let event = ground::mongodb::bson::RawDocument::from_bytes(event).unwrap();
    event.get_document("documentKey").unwrap().get_i32("_id").unwrap()
}
