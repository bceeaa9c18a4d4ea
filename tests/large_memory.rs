//! What memory a process needs for events that the server has to split. The only test of its binary,
//! because the figure belongs to the whole process.

use std::time::Duration;

use ground::ReplicaSet;
use ground::mongodb::bson::{Document, RawDocument, doc};
use mongostream::{Buffer, Worker};

const DEADLINE: Duration = Duration::from_secs(60);
const MB: usize = 1 << 20;
/// The document is there three times in each event.
const DOCUMENT: usize = 13 * MB;
const COUNT: i32 = 8;
/// One event alone is larger than this.
const MAX_BYTES: usize = 16 * MB;
/// One that is queued, the two that are read ahead, and one in the making, of 39 MB each; replies of
/// the server with the driver's copies of them.
const MOST: usize = 4 * 3 * DOCUMENT + 100 * MB;

/// The most memory that was resident, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn a_consumer_that_does_not_read_split_events_costs_bounded_memory() {
    let set =
        ReplicaSet::builder().version("6.0.27").args(["--oplogSize", "2000"]).start().unwrap();
    let stages: Vec<Document> =
        ["copy", "another"].map(|name| doc! { "$addFields": { name: "$fullDocument" } }).into();
    let buffer = Buffer::with_max_bytes(1000, MAX_BYTES);
    let watch = Worker::watch(set.uri()).database("shop").pipeline(stages);
    let worker = watch.spawn(&buffer).unwrap();
    worker.wait_ready().unwrap();

    // The server makes the documents itself: what a writer needs must not count here.
    let seed = set.client().database("seed").collection::<Document>("seed");
    seed.insert_one(doc! { "_id": 0, "text": "x".repeat(DOCUMENT) }).run().unwrap();
    for id in 0..COUNT {
        let into = doc! { "db": "shop", "coll": "large" };
        let stages = [doc! { "$set": { "_id": id } }, doc! { "$merge": { "into": into } }];
        seed.aggregate(stages).run().unwrap();
    }
    // One is queued, one is being handed over, one is read ahead.
    ground::wait_until(DEADLINE, "as much is read as there is room for", || {
        buffer.stats().unwrap().workers[0].received == 3
    });

    for (expected, message) in (0..COUNT).zip(&buffer) {
        let message = message.unwrap();
        let event = RawDocument::from_bytes(message.bson()).unwrap();
        assert_eq!(event.get_document("documentKey").unwrap().get_i32("_id").unwrap(), expected);
        assert!(message.bson().len() > 3 * DOCUMENT);
        assert!(buffer.len() <= 1);
        message.ack();
    }
    let peak = peak();
    eprintln!("peak: {} MB", peak / MB);
    assert!(peak < MOST, "the peak was {} MB", peak / MB);
}
