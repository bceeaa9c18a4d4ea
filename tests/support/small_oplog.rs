//! An oplog that soon forgets.

use ground::ReplicaSet;
use ground::mongodb::bson::{Document, Timestamp, doc};

use super::DEADLINE;

/// One server with an oplog of 1 MB, which it trims as soon as it knows what is durable.
pub(crate) fn start() -> ReplicaSet {
    ReplicaSet::builder().args(["--oplogSize", "1", "--syncdelay", "1"]).start().unwrap()
}

/// Writes elsewhere until the oplog begins behind this time.
pub(crate) fn roll_past(set: &ReplicaSet, time: Timestamp) {
    let filler = set.client().database("other").collection::<Document>("filler");
    let oplog = set.client().database("local").collection::<Document>("oplog.rs");
    let text = "x".repeat(100_000);
    ground::wait_until(3 * DEADLINE, "the oplog has rolled over", || {
        filler.insert_many((0..20).map(|_| doc! { "text": &text })).run().unwrap();
        // It fails when the server trims the oplog just where it is read.
        let first = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).run().ok().flatten();
        first.is_some_and(|first| first.get_timestamp("ts").unwrap() > time)
    });
}
