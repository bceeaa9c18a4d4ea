//! A history of changes for benchmarks: the mixed writes of a shop.

use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Document, doc};
use ground::{ReplicaSet, wait_until};

use super::documents::{changes, order};

pub(crate) const DATABASE: &str = "bench";
pub(crate) const COLLECTION: &str = "orders";

/// The kinds of a block of changes: half of them inserts.
const INSERTS: usize = 500;
const UPDATES: usize = 300;
const REPLACES: usize = 100;
const DELETES: usize = 100;
const BLOCK: usize = INSERTS + UPDATES + REPLACES + DELETES;

/// A set whose oplog keeps this many events.
pub(crate) fn set_for(events: usize) -> ReplicaSet {
    let megabytes = (events / 500).max(1000);
    let arguments = ["--oplogSize".to_owned(), megabytes.to_string()];
    ReplicaSet::builder().args(arguments).start().unwrap()
}

/// A second at the beginning of which none of the changes that follow have been made.
pub(crate) fn next_second(set: &ReplicaSet) -> u32 {
    let clock = set.client().database("clock").collection::<Document>("c");
    let now = || {
        clock.insert_one(doc! {}).run().unwrap();
        let answer = set.client().database("admin").run_command(doc! { "ping": 1 }).run().unwrap();
        answer.get_timestamp("operationTime").unwrap().time
    };
    let first = now();
    wait_until(Duration::from_secs(10), "the next second", || now() > first);
    now()
}

/// Makes changes to the collection; the second with which they begin.
pub(crate) fn write(set: &ReplicaSet, events: usize) -> u32 {
    let start = next_second(set);
    let database = set.client().database(DATABASE);
    let collection = database.collection::<Document>(COLLECTION);
    let run = |command: Document| {
        let answer = database.run_command(command).run().unwrap();
        assert!(answer.get("writeErrors").is_none(), "{answer}");
    };
    let mut written = 0;
    while written < events {
        let ids: Vec<ObjectId> = (0..INSERTS).map(|_| ObjectId::new()).collect();
        let number = |index: usize| (written + index) as i32;
        let orders = ids.iter().enumerate().map(|(index, id)| order(*id, number(index)));
        collection.insert_many(orders).run().unwrap();
        let update = |index: usize| doc! { "q": { "_id": ids[index] }, "u": { "$set": changes(number(index)) } };
        let updates: Vec<Document> = (0..UPDATES).map(update).collect();
        run(doc! { "update": COLLECTION, "updates": updates });
        let replace = |index: usize| doc! { "q": { "_id": ids[index] }, "u": order(ids[index], -number(index)) };
        let replaces: Vec<Document> = (UPDATES..UPDATES + REPLACES).map(replace).collect();
        run(doc! { "update": COLLECTION, "updates": replaces });
        let delete = |index: usize| doc! { "q": { "_id": ids[index] }, "limit": 1 };
        let deletes: Vec<Document> = (0..DELETES).map(delete).collect();
        run(doc! { "delete": COLLECTION, "deletes": deletes });
        written += BLOCK;
    }
    start
}

/// Rounds up to what [`write`] makes.
pub(crate) fn whole_blocks(events: usize) -> usize {
    events.div_ceil(BLOCK) * BLOCK
}
