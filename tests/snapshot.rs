//! Existing documents before the stream: every one, without a gap to the changes, and on from where it
//! was after an interruption.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use ground::ReplicaSet;
use ground::mongodb::bson::oid::ObjectId;
use ground::mongodb::bson::spec::BinarySubtype;
use ground::mongodb::bson::{Binary, Bson, Document, RawDocument, RawDocumentBuf, Timestamp, doc};
use ground::mongodb::options::Collation;
use ground::mongodb::sync::{Collection, Database};
use mongostream::{
    Buffer, ErrorKind, FileCheckpoint, Message, Received, Snapshot, Start, Watch, Worker,
};

use support::{
    DEADLINE, event, failure, follow, is_closed, json, next, spawn_ready, take, watch_collection,
    watch_database,
};

/// A database on the shared set.
struct Shop {
    name: String,
}

impl Shop {
    fn new(label: &str) -> Self {
        Self { name: ground::shared().database(label) }
    }

    fn database(&self) -> Database {
        ground::shared().client().database(&self.name)
    }

    fn orders(&self) -> Collection<Document> {
        self.database().collection("orders")
    }

    fn watch(&self) -> Watch {
        watch_collection(&self.name, "orders").snapshot(Snapshot::Initial)
    }

    fn insert(&self, ids: std::ops::Range<i32>) {
        self.orders().insert_many(ids.map(|id| doc! { "_id": id, "n": 0 })).run().unwrap();
    }
}

/// A checkpoint file in a directory that is removed in the end.
struct Place(PathBuf);

impl Place {
    fn new(label: &str) -> Self {
        let path = std::env::temp_dir().join(ground::shared().database(label));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn checkpoint(&self) -> FileCheckpoint {
        FileCheckpoint::new(self.0.join("orders.token"))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The document that a snapshot found.
#[track_caller]
fn found(message: &Message) -> Document {
    assert_eq!(message.operation(), "snapshot");
    event(message).get_document("fullDocument").unwrap().clone()
}

/// The ids of the documents of the next messages.
#[track_caller]
fn found_ids(buffer: &Buffer, count: usize) -> Vec<i32> {
    take(buffer, count).iter().map(|message| found(message).get_i32("_id").unwrap()).collect()
}

fn ends(buffer: &Buffer, worker: Worker) {
    buffer.close();
    worker.join().unwrap();
}

#[test]
fn what_exists_comes_before_what_changes() {
    let shop = Shop::new("snapshot");
    shop.insert(0..10);
    let (buffer, worker) = follow(shop.watch());
    shop.insert(10..11);

    let first = next(&buffer);
    assert_eq!(found(&first), doc! { "_id": 0, "n": 0 });
    let shown = json(&first);
    assert_eq!(shown["OperationType"], "snapshot");
    assert_eq!(shown["DocumentKey"], serde_json::json!({ "DocumentId": "0", "_id": 0 }));
    assert_eq!(shown["Namespace"]["Database"], shop.name.as_str());
    assert_eq!(shown["FullDocument"], serde_json::json!({ "_id": 0, "n": 0 }));
    assert_eq!(first.namespace(), format!("{}.orders", shop.name));
    assert_eq!(first.resume_token(), None);

    let mut ids = found_ids(&buffer, 9);
    let mut change = next(&buffer);
    // The snapshot may have seen it too.
    if change.operation() == "snapshot" {
        ids.push(found(&change).get_i32("_id").unwrap());
        change = next(&buffer);
    }
    assert!(ids.iter().copied().eq(1..1 + ids.len() as i32), "{ids:?}");
    assert_eq!((change.operation(), support::id(&change)), ("insert", 10));
    let stats = buffer.stats().unwrap().workers.remove(0);
    let snapshot = stats.snapshot.unwrap();
    assert!(snapshot.finished);
    assert_eq!(snapshot.documents, ids.len() as u64 + 1);
    assert_eq!(snapshot.namespace, format!("{}.orders", shop.name));
    assert!((10..=11).contains(&snapshot.estimated), "{}", snapshot.estimated);
    assert_eq!(stats.reconnects, 0);
    drop(worker);
}

/// So many that they are read in several ranges.
const MANY: i32 = 100_000;

/// Lets the server make documents, each with the `_id` that this expression makes of its number `$n`.
fn make_many(shop: &Shop, id: impl Into<Bson>) {
    let seed = shop.database().collection::<Document>("seed");
    seed.insert_one(doc! {}).run().unwrap();
    let stages = [
        doc! { "$project": { "n": { "$range": [0, MANY] } } },
        doc! { "$unwind": "$n" },
        doc! { "$project": { "_id": id.into() } },
        doc! { "$merge": { "into": "orders" } },
    ];
    seed.aggregate(stages).run().unwrap();
}

/// The document key, as the server wrote it.
fn raw_key(message: &Message) -> Vec<u8> {
    let event = RawDocument::from_bytes(message.bson()).unwrap();
    event.get_document("documentKey").unwrap().as_bytes().to_vec()
}

/// Compares with what the server itself finds.
#[track_caller]
fn assert_each_is_found_once(shop: &Shop) {
    let expected: BTreeSet<Vec<u8>> = shop
        .orders()
        .clone_with_type::<RawDocumentBuf>()
        .find(doc! {})
        .run()
        .unwrap()
        .map(|document| document.unwrap().into_bytes())
        .collect();
    let (buffer, _worker) = follow(shop.watch());
    let mut found = BTreeSet::new();
    while found.len() < expected.len() {
        let Ok(Received::Some(batch)) = buffer.recv_batch_timeout(1000, DEADLINE) else {
            let missing = expected.difference(&found).next().unwrap();
            let missing = Document::from_reader(&**missing).unwrap();
            panic!("{} of {} are found, not {missing}", found.len(), expected.len());
        };
        for message in &batch {
            assert!(found.insert(raw_key(message)), "{} comes twice", message.json());
        }
    }
    assert!(found == expected);
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

#[test]
fn ids_of_every_type_are_found_once() {
    let shop = Shop::new("types");
    let modulo = |rest: i32| doc! { "$eq": [{ "$mod": ["$n", 6] }, rest] };
    make_many(
        &shop,
        doc! { "$switch": {
            "branches": [
                { "case": modulo(0), "then": { "$toLong": "$n" } },
                { "case": modulo(1), "then": { "$add": ["$n", 0.5] } },
                { "case": modulo(2), "then": { "$concat": ["order ", { "$toString": "$n" }] } },
                { "case": modulo(3), "then": { "shop": { "$mod": ["$n", 10] }, "number": "$n" } },
                { "case": modulo(4), "then": { "$toDate": { "$multiply": [{ "$toLong": "$n" }, 1000] } } },
            ],
            "default": "$n",
        }},
    );
    let others = (0..100).flat_map(|n: u8| {
        [
            Bson::ObjectId(ObjectId::new()),
            Bson::Timestamp(Timestamp { time: n.into(), increment: 1 }),
            Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: vec![n] }),
        ]
    });
    let single =
        [Bson::Null, true.into(), false.into(), Bson::MinKey, Bson::MaxKey, f64::NAN.into()];
    let others = others.chain(single).map(|id| doc! { "_id": id });
    shop.orders().insert_many(others).run().unwrap();
    assert_each_is_found_once(&shop);
}

#[test]
fn the_order_of_a_collation_is_respected() {
    let shop = Shop::new("collation");
    // Here 10 comes behind 9, and b behind A.
    let collation = Collation::builder().locale("sv").numeric_ordering(true).build();
    shop.database().create_collection("orders").collation(collation).run().unwrap();
    let is_even = doc! { "$eq": [{ "$mod": ["$n", 2] }, 0] };
    let word = doc! { "$cond": [is_even, "Order ", "order "] };
    make_many(&shop, doc! { "$concat": [word, { "$toString": "$n" }] });
    assert_each_is_found_once(&shop);
}

/// A consumer's copy of a collection, kept up to date from messages alone.
#[derive(Default)]
struct Copy(BTreeMap<i32, Document>);

impl Copy {
    fn apply(&mut self, message: &Message) {
        let event = event(message);
        let id = event.get_document("documentKey").unwrap().get_i32("_id").unwrap();
        match message.operation() {
            "snapshot" | "insert" | "replace" => {
                self.0.insert(id, event.get_document("fullDocument").unwrap().clone());
            }
            "update" => {
                let description = event.get_document("updateDescription").unwrap();
                let document = self.0.entry(id).or_default();
                document.extend(description.get_document("updatedFields").unwrap().clone());
            }
            "delete" => drop(self.0.remove(&id)),
            other => panic!("{other}"),
        }
    }
}

/// Changes documents below `ids` until it is dropped.
struct Writer {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    fn start(orders: Collection<Document>, ids: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut state: u32 = 1;
            while !stopped.load(Ordering::Relaxed) {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                let key = doc! { "_id": (state % ids as u32) as i32 };
                let n = state as i32;
                match state >> 8 & 3 {
                    0 => drop(orders.delete_one(key).run().unwrap()),
                    1 => {
                        let replacement = doc! { "replaced": n };
                        drop(orders.replace_one(key, replacement).upsert(true).run().unwrap());
                    }
                    _ => drop(orders.update_one(key, doc! { "$set": { "n": n } }).run().unwrap()),
                }
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// Receives until the document that was written last arrives.
fn catch_up(copy: &mut Copy, buffer: &Buffer, orders: &Collection<Document>) {
    const LAST: i32 = i32::MAX;
    orders.insert_one(doc! { "_id": LAST }).run().unwrap();
    loop {
        let message = next(buffer);
        if message.operation() == "insert" && support::id(&message) == LAST {
            break;
        }
        copy.apply(&message);
        message.ack();
    }
    copy.0.remove(&LAST);
    orders.delete_one(doc! { "_id": LAST }).run().unwrap();
}

fn contents(orders: &Collection<Document>) -> BTreeMap<i32, Document> {
    let all = orders.find(doc! {}).run().unwrap().map(Result::unwrap);
    all.map(|document| (document.get_i32("_id").unwrap(), document)).collect()
}

#[test]
fn under_writes_the_copy_becomes_the_collection() {
    let shop = Shop::new("writes");
    shop.insert(0..5_000);
    let writer = Writer::start(shop.orders(), 5_000);
    let buffer = Buffer::new(50);
    let _worker = spawn_ready(shop.watch().batch_size(100), &buffer);
    let mut copy = Copy::default();
    for _ in 0..10_000 {
        copy.apply(&next(&buffer));
    }
    drop(writer);
    catch_up(&mut copy, &buffer, &shop.orders());
    assert_eq!(copy.0, contents(&shop.orders()));
}

#[test]
fn the_first_checkpoint_of_a_snapshot_says_that_nothing_of_it_is_done() {
    let shop = Shop::new("first");
    let place = Place::new("first");
    shop.insert(0..3);
    // A crash right after this would begin the snapshot anew.
    let (_buffer, _worker) = follow(shop.watch().checkpoint(place.checkpoint()));
    let text = std::fs::read_to_string(place.0.join("orders.token")).unwrap();
    let checkpoint: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(checkpoint["token"].is_object() && checkpoint["snapshot"].is_object(), "{text}");
    assert_eq!(checkpoint["snapshot"].as_object().unwrap().len(), 0, "{text}");
}

#[test]
fn a_restart_goes_on_with_what_was_not_acknowledged() {
    let shop = Shop::new("interrupted");
    let place = Place::new("interrupted");
    shop.insert(0..1_000);
    // The last run does not ask for a snapshot: what was begun is finished all the same.
    let watch = |mode| shop.watch().snapshot(mode).batch_size(100).checkpoint(place.checkpoint());
    let mut seen = Vec::new();
    for mode in [Snapshot::Initial, Snapshot::Always] {
        let (buffer, worker) = follow(watch(mode));
        let messages = take(&buffer, 350);
        for message in &messages[..320] {
            message.ack();
        }
        seen.extend(messages.iter().map(|message| found(message).get_i32("_id").unwrap()));
        ends(&buffer, worker);
    }
    shop.insert(1_000..1_001);
    let (buffer, worker) = follow(watch(Snapshot::Never));
    let rest = loop {
        let message = next(&buffer);
        message.ack();
        if message.operation() == "insert" {
            break message;
        }
        seen.push(found(&message).get_i32("_id").unwrap());
    };
    assert_eq!(support::id(&rest), 1_000);
    // Of each run's 350 the last 30 were not acked.
    let mut expected: Vec<i32> = (0..350).chain(320..670).chain(640..1_000).collect();
    seen.retain(|id| *id != 1_000);
    expected.sort_unstable();
    seen.sort_unstable();
    let differ = expected.iter().zip(&seen).find(|(expected, seen)| expected != seen);
    assert_eq!((differ, seen.len()), (None, expected.len()));
    ends(&buffer, worker);

    // Nothing is left to be finished, and it is not the first time.
    shop.insert(1_001..1_002);
    let (buffer, worker) = follow(watch(Snapshot::Initial));
    assert_eq!(support::id(&next(&buffer)), 1_001);
    ends(&buffer, worker);
    let (buffer, _worker) = follow(watch(Snapshot::Always));
    assert_eq!(found_ids(&buffer, 1_002), (0..1_002).collect::<Vec<_>>());
}

#[test]
fn after_an_orderly_stop_exactly_what_was_not_acked_comes_again() {
    let shop = Shop::new("orderly");
    let place = Place::new("orderly");
    shop.insert(0..5_000);
    let watch = || shop.watch().checkpoint(place.checkpoint());
    for (acked, rest) in [(0..3_000, 3_000..5_000), (3_000..3_001, 3_001..5_000)] {
        let buffer = Buffer::new(10_000);
        let worker = spawn_ready(watch(), &buffer);
        for _ in acked {
            next(&buffer).ack();
        }
        ends(&buffer, worker);
        let buffer = Buffer::new(10_000);
        let worker = spawn_ready(watch(), &buffer);
        let found = found_ids(&buffer, rest.len());
        let range = (found.first().copied(), found.last().copied());
        assert_eq!(range, (Some(rest.start), Some(rest.end - 1)));
        assert!(found.into_iter().eq(rest));
        ends(&buffer, worker);
    }
}

/// Two ranges are read at a time, and acked out of order within a hundred.
#[test]
fn of_several_ranges_exactly_what_was_not_acked_comes_again() {
    let shop = Shop::new("ranges");
    let place = Place::new("ranges");
    make_many(&shop, "$n");
    let watch = || shop.watch().batch_size(1_000).checkpoint(place.checkpoint());
    let mut acked = BTreeSet::new();
    for count in [12_345, 20_001] {
        let buffer = Buffer::new(5_000);
        let worker = spawn_ready(watch(), &buffer);
        let messages = take(&buffer, count);
        for some in messages.chunks(100) {
            some.iter().rev().for_each(Message::ack);
        }
        let ids = messages.iter().map(|message| found(message).get_i32("_id").unwrap());
        ids.for_each(|id| assert!(acked.insert(id), "{id} comes twice"));
        // These are after a hole.
        take(&buffer, 30)[1..].iter().for_each(Message::ack);
        ends(&buffer, worker);
    }
    let buffer = Buffer::new(5_000);
    let worker = spawn_ready(watch(), &buffer);
    let rest = found_ids(&buffer, MANY as usize - acked.len());
    rest.into_iter().for_each(|id| assert!(acked.insert(id), "{id} comes twice"));
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
    assert_eq!(acked.len(), MANY as usize);
    ends(&buffer, worker);
}

#[test]
fn an_id_that_equals_nothing_is_found_again() {
    let shop = Shop::new("nan");
    let place = Place::new("nan");
    let ids = [Bson::Null, f64::NAN.into(), 5.into()];
    shop.orders().insert_many(ids.map(|id| doc! { "_id": id })).run().unwrap();
    let watch = || shop.watch().checkpoint(place.checkpoint());
    let (buffer, worker) = follow(watch());
    take(&buffer, 3)[..2].iter().for_each(Message::ack);
    ends(&buffer, worker);
    let (buffer, worker) = follow(watch());
    assert_eq!(found_ids(&buffer, 1), [5]);
    ends(&buffer, worker);
}

#[test]
fn what_breaks_in_between_neither_loses_nor_doubles() {
    let set = ReplicaSet::builder().uri_options("appName=snapshot").start().unwrap();
    let orders = set.client().database("shop").collection::<Document>("orders");
    orders.insert_many((0..2_000).map(|id| doc! { "_id": id })).run().unwrap();
    for (command, data) in [
        ("find", doc! { "errorCode": 91 }),
        ("find", doc! { "closeConnection": true }),
        ("getMore", doc! { "errorCode": 43 }),
        ("getMore", doc! { "errorCode": 11600 }),
        ("getMore", doc! { "closeConnection": true }),
    ] {
        let buffer = Buffer::new(150);
        let watch = Worker::watch(set.uri()).database("shop").collection("orders");
        let worker = watch.snapshot(Snapshot::Initial).batch_size(100).spawn(&buffer).unwrap();
        let mut ids = if command == "getMore" { found_ids(&buffer, 10) } else { Vec::new() };
        let mut fail = doc! { "failCommands": [command] };
        fail.extend(data.clone());
        let point = set
            .fail_point(doc! {
                "configureFailPoint": "failCommand", "mode": { "times": 2 }, "data": fail,
            })
            .unwrap();
        if command == "find" {
            // The first one may have been read before.
            worker.stop();
            worker.join().unwrap();
            let again = Worker::watch(set.uri()).database("shop").collection("orders");
            let again = again.snapshot(Snapshot::Initial).batch_size(100);
            let buffer = Buffer::new(150);
            let _worker = again.spawn(&buffer).unwrap();
            assert_eq!(found_ids(&buffer, 2_000), (0..2_000).collect::<Vec<_>>(), "{data}");
            point.wait_for_hits(2, DEADLINE).unwrap();
            continue;
        }
        ids.extend(found_ids(&buffer, 1_990));
        assert_eq!(ids, (0..2_000).collect::<Vec<_>>(), "{command} {data}");
        point.wait_for_hits(2, DEADLINE).unwrap();
    }
}

#[test]
fn a_database_is_read_collection_by_collection() {
    let shop = Shop::new("several");
    let database = shop.database();
    for (name, id) in [("orders", 1), ("items", 2), ("a.b", 3)] {
        database.collection(name).insert_one(doc! { "_id": id }).run().unwrap();
    }
    database.create_collection("empty").run().unwrap();
    database
        .create_collection("view")
        .view_on("orders")
        .pipeline([doc! { "$match": {} }])
        .run()
        .unwrap();
    let checkpoints = format!("{}.checkpoints", shop.name);
    let watch = || {
        watch_database(&shop.name)
            .snapshot(Snapshot::Initial)
            .option("checkpoint_collection", &checkpoints)
    };
    let (buffer, worker) = follow(watch());
    let messages = take(&buffer, 3);
    let names: Vec<&str> = messages.iter().map(Message::namespace).collect();
    assert_eq!(names, ["a.b", "items", "orders"].map(|name| format!("{}.{name}", shop.name)));
    // Two of three: the first is done, the second too.
    messages[0].ack();
    messages[1].ack();
    ends(&buffer, worker);
    database.collection("orders").insert_one(doc! { "_id": 4 }).run().unwrap();
    let (buffer, _worker) = follow(watch());
    assert_eq!(found_ids(&buffer, 1), [1]);
    let mut message = next(&buffer);
    // It is found too if a majority had it by then.
    if message.operation() == "snapshot" {
        assert_eq!(support::id(&message), 4);
        message = next(&buffer);
    }
    assert_eq!((message.operation(), support::id(&message)), ("insert", 4));
}

#[test]
fn a_deployment_is_read_without_the_servers_own() {
    let set = ReplicaSet::start().unwrap();
    for name in ["shop", "archive"] {
        set.client()
            .database(name)
            .collection("orders")
            .insert_one(doc! { "_id": 0 })
            .run()
            .unwrap();
    }
    let (buffer, _worker) = follow(Worker::watch(set.uri()).snapshot(Snapshot::Always));
    let names = take(&buffer, 2).iter().map(|m| m.namespace().to_owned()).collect::<Vec<_>>();
    assert_eq!(names, ["archive.orders", "shop.orders"]);
    set.client().database("shop").collection("orders").insert_one(doc! { "_id": 1 }).run().unwrap();
    assert_eq!(support::id(&next(&buffer)), 1);
}

#[test]
fn of_several_namespaces_exactly_these_are_read() {
    let (shop, archive) = (Shop::new("names"), Shop::new("names"));
    for database in [shop.database(), archive.database()] {
        for name in ["orders", "items", "items_2"] {
            database.collection(name).insert_one(doc! { "_id": name }).run().unwrap();
        }
    }
    let names = [format!("{}.items*", shop.name), format!("{}.orders", archive.name)];
    let watch = Worker::watch(ground::shared().uri()).namespaces(names);
    let (buffer, _worker) = follow(watch.snapshot(Snapshot::Always));
    let found: BTreeSet<String> =
        take(&buffer, 3).iter().map(|message| message.namespace().to_owned()).collect();
    let expected = [
        format!("{}.items", shop.name),
        format!("{}.items_2", shop.name),
        format!("{}.orders", archive.name),
    ];
    assert_eq!(found, BTreeSet::from(expected));
    shop.orders().insert_one(doc! {}).run().unwrap();
    archive.orders().insert_one(doc! { "_id": 1 }).run().unwrap();
    assert_eq!(support::id(&next(&buffer)), 1);
}

#[test]
fn a_collection_that_is_dropped_meanwhile_ends_its_part() {
    let shop = Shop::new("dropped");
    shop.insert(0..2_000);
    let buffer = Buffer::new(10);
    let _worker = spawn_ready(shop.watch().batch_size(10), &buffer);
    found_ids(&buffer, 5);
    shop.orders().drop().run().unwrap();
    let operations: Vec<String> = std::iter::from_fn(|| {
        let message = next(&buffer);
        Some(message.operation().to_owned())
    })
    .skip_while(|operation| operation == "snapshot")
    .take(2)
    .collect();
    assert_eq!(operations, ["drop", "invalidate"]);
    shop.insert(5_000..5_001);
    assert_eq!(support::id(&next(&buffer)), 5_000);
}

#[test]
fn a_start_point_beside_it_is_refused() {
    let buffer = Buffer::new(1);
    let watch = Shop::new("start").watch().start_at(Start::at(1));
    let error = watch.spawn(&buffer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument);
    assert!(error.to_string().contains("snapshot and start_at_time"), "{error}");
}

#[test]
fn it_stops_in_the_middle() {
    let shop = Shop::new("stop");
    shop.insert(0..1_000);
    let buffer = Buffer::new(1);
    let worker = spawn_ready(shop.watch().batch_size(10), &buffer);
    found_ids(&buffer, 3);
    worker.stop();
    worker.join().unwrap();
    while !is_closed(&buffer) {}
}

/// How many cursors are open on a collection of the shared set.
fn open_cursors(orders: &Collection<Document>) -> usize {
    let namespace = orders.namespace().to_string();
    let stages = [
        doc! { "$currentOp": { "idleCursors": true } },
        doc! { "$match": { "type": "idleCursor", "ns": namespace } },
    ];
    ground::shared().client().database("admin").aggregate(stages).run().unwrap().count()
}

/// The documents of a collection of its own may have any size: with these a range is soon a reply.
#[test]
fn no_more_than_two_ranges_are_read_at_a_time() {
    let shop = Shop::new("two");
    make_many(&shop, "$n");
    // The ranges are made of what the server counts: twice as many documents, twice as many ranges.
    let more = |n: i32| doc! { "_id": MANY + n };
    shop.orders().insert_many((0..MANY).map(more)).run().unwrap();
    let buffer = Buffer::new(1);
    let worker = spawn_ready(shop.watch().batch_size(100), &buffer);
    ground::wait_until(DEADLINE, "two cursors are open", || open_cursors(&shop.orders()) == 2);
    for _ in 0..300 {
        next(&buffer);
    }
    assert_eq!(open_cursors(&shop.orders()), 2);
    drop(worker);
}

#[test]
fn a_stop_in_the_middle_closes_the_cursors_on_the_server() {
    let shop = Shop::new("cursors");
    shop.insert(0..1_000);
    let buffer = Buffer::new(1);
    let worker = spawn_ready(shop.watch().batch_size(10), &buffer);
    ground::wait_until(DEADLINE, "a cursor is open", || open_cursors(&shop.orders()) > 0);
    worker.stop();
    worker.join().unwrap();
    ground::wait_until(DEADLINE, "no cursor is open", || open_cursors(&shop.orders()) == 0);
}

#[test]
fn a_checkpoint_with_a_damaged_snapshot_is_refused_and_kept() {
    let shop = Shop::new("damaged");
    let place = Place::new("damaged");
    shop.insert(0..100);
    let watch = || shop.watch().batch_size(10).checkpoint(place.checkpoint());
    let (buffer, worker) = follow(watch());
    take(&buffer, 10).iter().for_each(Message::ack);
    ends(&buffer, worker);
    let file = place.0.join("orders.token");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains("\"ranges\""), "{text}");
    let damaged = text.replace("\"ranges\"", "\"angers\"");
    std::fs::write(&file, &damaged).unwrap();
    let buffer = Buffer::new(1);
    let _worker = watch().spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    assert!(error.to_string().contains("its snapshot: ranges"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), damaged);
}

#[test]
fn a_pipeline_does_not_filter_a_snapshot() {
    let shop = Shop::new("unfiltered");
    shop.insert(0..2);
    let nothing = doc! { "$match": { "fullDocument.n": 1 } };
    let (buffer, _worker) = follow(shop.watch().pipeline([nothing]).operations(["delete"]));
    assert_eq!(found_ids(&buffer, 2), [0, 1]);
}
