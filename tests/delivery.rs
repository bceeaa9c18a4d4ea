//! Every event arrives exactly once and in order, whatever the number of workers and consumers.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::sync::Database;
use mongostream::{Buffer, Message, Worker};

use support::{assert_ready, collection, id, next, spawn_ready, wait_for_len, watch_collection};

/// One change as a test compares it. Each is written at most once, so it names its place.
type Change = (&'static str, i32);

/// The document that is written last to each collection.
const LAST: i32 = -1;

/// What is done to each collection: 20,000 changes on 8,000 documents.
fn changes() -> Vec<Change> {
    let mut changes = Vec::new();
    for block in 0..80 {
        let ids = || block * 100..(block + 1) * 100;
        changes.extend(ids().map(|id| ("insert", id)));
        changes.extend(ids().filter(|id| id % 4 != 0).map(|id| ("update", id)));
        changes.extend(ids().filter(|id| id % 8 < 3).map(|id| ("replace", id)));
        changes.extend(ids().filter(|id| id % 8 > 4).map(|id| ("delete", id)));
    }
    changes.push(("insert", LAST));
    changes
}

/// Writes changes in their order, runs of the same operation with one command.
fn write(database: &Database, collection: &str, changes: &[Change]) {
    for run in changes.chunk_by(|a, b| a.0 == b.0) {
        let statement = |(operation, id): &Change| match *operation {
            "insert" => {
                doc! { "_id": id, "state": "new", "text": "x".repeat(id.unsigned_abs() as usize % 300) }
            }
            "update" => doc! { "q": { "_id": id }, "u": { "$set": { "state": "paid" } } },
            "replace" => doc! { "q": { "_id": id }, "u": { "_id": id, "state": "replaced" } },
            _ => doc! { "q": { "_id": id }, "limit": 1 },
        };
        let statements: Vec<Document> = run.iter().map(statement).collect();
        let command = match run[0].0 {
            "insert" => doc! { "insert": collection, "documents": statements },
            "delete" => doc! { "delete": collection, "deletes": statements },
            _ => doc! { "update": collection, "updates": statements },
        };
        let reply = database.run_command(command).run().unwrap();
        assert!(!reply.contains_key("writeErrors"), "{reply}");
    }
}

fn change_of(message: &Message) -> (String, i32) {
    (message.operation().to_owned(), id(message))
}

#[test]
fn a_hundred_thousand_mixed_events_arrive_exactly_once_and_in_order() {
    const COLLECTIONS: usize = 5;
    let set = ground::shared();
    let name = set.database("mixed");
    let changes = changes();
    assert!(changes.len() * COLLECTIONS >= 100_000, "{}", changes.len());
    let buffer = Buffer::new(64);
    let workers: Vec<Worker> = (0..COLLECTIONS)
        .map(|n| watch_collection(&name, &format!("c{n}")).spawn(&buffer).unwrap())
        .collect();
    workers.iter().for_each(assert_ready);

    let streams = AtomicUsize::new(COLLECTIONS);
    let received = thread::scope(|threads| {
        let consumers: Vec<_> = (0..2)
            .map(|_| {
                threads.spawn(|| {
                    let mut received: Vec<(String, (String, i32))> = Vec::new();
                    while let Some(message) = buffer.recv().unwrap() {
                        let change = change_of(&message);
                        // Behind the last of every stream nothing may come any more.
                        if change.1 == LAST && streams.fetch_sub(1, Ordering::Relaxed) == 1 {
                            buffer.close();
                        }
                        received.push((message.worker().to_owned(), change));
                        message.ack();
                    }
                    received
                })
            })
            .collect();
        let writers: Vec<_> = (0..COLLECTIONS)
            .map(|n| {
                let database = set.client().database(&name);
                let changes = &changes;
                threads.spawn(move || write(&database, &format!("c{n}"), changes))
            })
            .collect();
        for writer in writers {
            writer.join().unwrap();
        }
        consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect::<Vec<_>>()
    });

    let place: HashMap<(&str, i32), usize> =
        changes.iter().enumerate().map(|(place, change)| (*change, place)).collect();
    for worker in &workers {
        let mut seen = vec![0; changes.len()];
        for consumer in &received {
            let mut last = None;
            for (_, (operation, id)) in consumer.iter().filter(|(name, _)| name == worker.name()) {
                let place = place[&(operation.as_str(), *id)];
                assert!(last < Some(place), "{operation} of {id} came too late");
                last = Some(place);
                seen[place] += 1;
            }
        }
        let wrong = seen.iter().position(|times| *times != 1);
        assert_eq!(wrong.map(|place| (changes[place], seen[place])), None, "{}", worker.name());
    }
}

#[test]
fn sixty_four_workers_share_one_client_and_none_starves() {
    const WORKERS: usize = 64;
    let set = ground::ReplicaSet::start().unwrap();
    let uri = set.uri_with("appName=sixty-four");
    let buffer = Buffer::new(1024);
    let workers: Vec<Worker> = (0..WORKERS)
        .map(|n| {
            Worker::watch(&uri).database("shop").collection(format!("c{n}")).spawn(&buffer).unwrap()
        })
        .collect();
    workers.iter().for_each(assert_ready);
    let shop = set.client().database("shop");
    // The first insert also makes the collection, which may take the server a while.
    for n in 0..WORKERS {
        shop.collection(&format!("c{n}")).insert_one(doc! { "_id": 0 }).run().unwrap();
        next(&buffer);
    }
    let mut slowest = Duration::ZERO;
    for n in 0..WORKERS {
        let began = Instant::now();
        shop.collection(&format!("c{n}")).insert_one(doc! { "_id": 1 }).run().unwrap();
        let message = next(&buffer);
        slowest = slowest.max(began.elapsed());
        assert_eq!(message.worker(), format!("shop.c{n}"));
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");

    // Each client has a connection or two of its own for watching the server.
    let operations = doc! { "$currentOp": { "allUsers": true, "idleConnections": true } };
    let count =
        [operations, doc! { "$match": { "appName": "sixty-four" } }, doc! { "$count": "n" }];
    let reply =
        set.client().database("admin").aggregate(count).run().unwrap().next().unwrap().unwrap();
    let connections = reply.get_i32("n").unwrap() as usize;
    assert!((WORKERS..WORKERS + 10).contains(&connections), "{connections} connections");
}

#[test]
fn lines_of_a_batch_are_the_json_of_its_messages_whatever_their_workers_styles() {
    let database = ground::shared().database("styles");
    let buffer = Buffer::new(100);
    let _workers = ["oplog", "event", "oplog"].map(|format| {
        let watch = watch_collection(&database, "c").option("format", format);
        spawn_ready(watch, &buffer)
    });
    let documents = (0..3).map(|id| doc! { "_id": id });
    collection(&database, "c").insert_many(documents).run().unwrap();
    wait_for_len(&buffer, 9);
    let batch = buffer.recv_batch(100).unwrap().expect("messages");
    let lines: Vec<&str> = batch.json_lines().lines().collect();
    let messages: Vec<&str> = batch.messages().iter().map(|message| message.json()).collect();
    assert_eq!(lines, messages);
    assert!(batch.json_lines().ends_with('\n'));
}
