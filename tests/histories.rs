//! A stream that is cut between any two messages goes on exactly there: generated histories, every place,
//! every kind of stream.

mod support;

use std::any::Any;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::sync::{Collection, Database};
use mongostream::{
    Buffer, CheckpointStore, Format, Message, OnInvalidate, Received, Snapshot, Start, StoreError,
    Watch, Worker,
};

use support::{event, follow, next, now, watch_database};

/// A checkpoint in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Option<String>>>);

impl CheckpointStore for Memory {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn claim(&self, _name: &str) -> Result<Box<dyn Any + Send>, StoreError> {
        Ok(Box::new(()))
    }

    fn load(&self, _name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn save(&self, _name: &str, text: &str) -> Result<(), StoreError> {
        *self.0.lock().unwrap() = Some(text.to_owned());
        Ok(())
    }
}

/// A small generator: a seed gives the same history again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// What happens in a database: changes of every kind to three collections, and what ends streams.
fn make_history(database: &Database, seed: u64, steps: u64) {
    let mut random = Random(0x9e37_79b9_7f4a_7c15 ^ seed);
    for step in 0..steps {
        let name = ["orders", "items", "audit"][random.below(3) as usize];
        let collection: Collection<Document> = database.collection(name);
        let key = doc! { "_id": random.below(4) as i32 };
        let n = step as i32;
        match random.below(20) {
            0..5 => drop(collection.insert_one(doc! { "n": n }).run().unwrap()),
            5..9 => {
                let update = doc! { "$set": { "n": n, "a.b": [n] }, "$unset": { "old": 1 } };
                drop(collection.update_one(key, update).upsert(true).run().unwrap());
            }
            9..11 => {
                let replacement = doc! { "n": n, "old": 1 };
                drop(collection.replace_one(key, replacement).upsert(true).run().unwrap());
            }
            11..13 => drop(collection.delete_one(key).run().unwrap()),
            13..16 => transaction(database, n),
            16 => drop(collection.drop().run()),
            17 => {
                let rename = doc! {
                    "renameCollection": format!("{}.{name}", database.name()),
                    "to": format!("{}.other", database.name()),
                    "dropTarget": true,
                };
                // It may not be there.
                drop(ground::shared().client().database("admin").run_command(rename).run());
            }
            18 => {
                let many = (0..5).map(|m| doc! { "n": n, "m": m });
                drop(collection.insert_many(many).run().unwrap());
            }
            _ if step % 3 == 0 => database.drop().run().unwrap(),
            _ => drop(collection.delete_many(doc! {}).run().unwrap()),
        }
    }
}

/// Several events of one time.
fn transaction(database: &Database, n: i32) {
    let (orders, items) = (database.collection("orders"), database.collection("items"));
    for name in ["orders", "items"] {
        // 4.2 makes no collection in a transaction; there already is no error worth telling.
        drop(database.create_collection(name).run());
    }
    support::transaction(|session| {
        for m in 0..3 {
            orders.insert_one(doc! { "n": n, "m": m }).session(&mut *session).run()?;
            items.insert_one(doc! { "n": n, "m": m }).session(&mut *session).run()?;
        }
        Ok(())
    });
}

fn token(message: &Message) -> String {
    message.resume_token().unwrap().to_owned()
}

/// The document after which nothing follows.
fn is_end(message: &Message) -> bool {
    let event = event(message);
    event.get_document("fullDocument").is_ok_and(|document| document.contains_key("end"))
}

/// The tokens of everything up to the end.
fn tokens(buffer: &Buffer) -> Vec<String> {
    let mut tokens = Vec::new();
    loop {
        let message = next(buffer);
        tokens.push(token(&message));
        if is_end(&message) {
            return tokens;
        }
    }
}

/// Takes some messages, acknowledges them, and ends.
fn take_and_end(watch: Watch, count: usize) -> Vec<Message> {
    let (buffer, worker) = follow(watch);
    let messages = support::take(&buffer, count);
    messages.iter().for_each(Message::ack);
    buffer.close();
    worker.join().unwrap();
    messages
}

/// Cuts the stream between any two messages of a generated history.
fn goes_on_wherever_it_is_cut(label: &str, seed: u64, watch: impl Fn(&str) -> Watch) {
    let name = ground::shared().database(label);
    let database = ground::shared().client().database(&name);
    let beginning = now(watch(&name));
    make_history(&database, seed, 40);
    database.collection("orders").insert_one(doc! { "end": true }).run().unwrap();

    let (buffer, _worker) = follow(watch(&name).start_at(beginning.clone()));
    let all = tokens(&buffer);
    assert!(all.len() > 5, "{} messages are too few to prove anything", all.len());
    assert_eq!(BTreeSet::from_iter(&all).len(), all.len());
    for cut in 0..all.len() {
        let memory = Memory::default();
        let watch = || watch(&name).start_at(beginning.clone()).checkpoint(memory.clone());
        take_and_end(watch(), cut);
        let (buffer, _worker) = follow(watch());
        assert!(tokens(&buffer) == all[cut..], "{label}, seed {seed}, cut at {cut}");
        assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
    }
}

#[test]
fn a_collection_that_comes_and_goes() {
    for seed in [1, 2] {
        goes_on_wherever_it_is_cut("collection", seed, |database| {
            watch_database(database).collection("orders").batch_size(3)
        });
    }
}

#[test]
fn a_whole_database_in_small_batches() {
    goes_on_wherever_it_is_cut("database", 3, |database| watch_database(database).batch_size(2));
}

#[test]
fn several_collections_on_one_cursor() {
    goes_on_wherever_it_is_cut("several", 4, |database| {
        watch_database(database).namespaces(["orders", "aud*"])
    });
}

#[test]
fn some_operations_behind_a_pipeline() {
    goes_on_wherever_it_is_cut("filtered", 5, |database| {
        watch_database(database)
            .collection("orders")
            .option("operations", "insert,update,drop")
            .pipeline([doc! { "$match": { "fullDocument.m": { "$ne": 1 } } }])
            .on_invalidate(OnInvalidate::Continue)
            .format(Format::Event)
    });
}

#[test]
fn updates_with_their_documents() {
    goes_on_wherever_it_is_cut("lookup", 6, |database| {
        watch_database(database).option("full_document", "updateLookup")
    });
}

#[test]
fn a_snapshot_and_the_stream_behind_it() {
    const DOCUMENTS: i32 = 30;
    let name = ground::shared().database("snapshot");
    let orders = ground::shared().client().database(&name).collection::<Document>("orders");
    orders.insert_many((0..DOCUMENTS).map(|id| doc! { "_id": id })).run().unwrap();
    let id = |message: &Message| support::id(message);
    for cut in 0..=DOCUMENTS as usize {
        let memory = Memory::default();
        let watch = || {
            watch_database(&name)
                .collection("orders")
                .snapshot(Snapshot::Initial)
                .batch_size(7)
                .checkpoint(memory.clone())
        };
        let mut found: Vec<i32> = take_and_end(watch(), cut).iter().map(id).collect();
        orders.insert_one(doc! { "_id": DOCUMENTS, "end": true }).run().unwrap();
        let (buffer, _worker) = follow(watch());
        loop {
            let message = next(&buffer);
            if message.operation() == "insert" {
                assert!(is_end(&message), "cut at {cut}");
                break;
            }
            found.push(id(&message));
        }
        // It may be found as well, and nothing comes behind it.
        found.retain(|id| *id != DOCUMENTS);
        assert!(found.len() < DOCUMENTS as usize + 7, "cut at {cut}: {} came", found.len());
        let found = BTreeSet::from_iter(found);
        assert!(found.into_iter().eq(0..DOCUMENTS), "cut at {cut}");
        orders.delete_one(doc! { "_id": DOCUMENTS }).run().unwrap();
    }
}

/// Not a worker's own: any number of them may begin at the token of one message.
#[test]
fn the_token_of_any_message_is_a_place_to_begin() {
    let name = ground::shared().database("tokens");
    let database = ground::shared().client().database(&name);
    let watch = || Worker::watch(ground::shared().uri()).database(&name).collection("orders");
    let beginning = now(watch());
    make_history(&database, 7, 40);
    database.collection("orders").insert_one(doc! { "end": true }).run().unwrap();
    let (buffer, _worker) = follow(watch().start_at(beginning));
    let all = tokens(&buffer);
    for (index, token) in all[..all.len() - 1].iter().enumerate() {
        let buffer = Buffer::new(1000);
        let start = Start::StartAfter(token.clone());
        let _worker = watch().start_at(start).spawn(&buffer).unwrap();
        assert!(tokens(&buffer) == all[index + 1..], "behind message {index}");
    }
}
