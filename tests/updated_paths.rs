//! The dotted paths of what an update has set.

mod support;

use bson::{Document, doc};
use mongostream::{Buffer, Format, Message, Watch};
use serde_json::{Value, json};

use support::{collection, follow, json, now, take, watch_collection};

fn document() -> Document {
    doc! {
        "_id": 1, "state": "new", "address": { "street": "a", "zip": { "code": 1 } },
        "items": [{ "price": 1, "name": "x" }, { "price": 2, "name": "y" }], "tags": ["a", "b"],
    }
}

/// An insert, then these updates, then a delete.
#[track_caller]
fn changes(set: impl FnOnce(Watch) -> Watch, updates: &[Document]) -> Vec<Message> {
    let database = ground::shared().database("paths");
    let start = now(watch_collection(&database, "orders"));
    let orders = collection(&database, "orders");
    orders.insert_one(document()).run().unwrap();
    for update in updates {
        orders.update_one(doc! { "_id": 1 }, update.clone()).run().unwrap();
    }
    orders.delete_one(doc! { "_id": 1 }).run().unwrap();
    let buffer = Buffer::new(100);
    let watch = watch_collection(&database, "orders").start_at(start);
    let _worker = set(watch).spawn(&buffer).unwrap();
    take(&buffer, updates.len() + 2)
}

fn updates() -> Vec<(Document, Vec<&'static str>)> {
    let deep =
        doc! { "a": { "b": 1, "c": { "d": [{ "e": 1, "f": {} }, { "e": 2 }, 5] } }, "0": [] };
    vec![
        (doc! { "$set": { "state": "paid" } }, vec!["state"]),
        (doc! { "$set": { "address.zip.code": 2 } }, vec!["address.zip.code"]),
        (doc! { "$set": { "items.0.price": 5, "items.1.price": 6 } }, vec!["items.price"]),
        (doc! { "$push": { "tags": "c" } }, vec!["tags"]),
        (
            doc! { "$set": { "address": { "street": "b", "zip": { "code": 3 } } } },
            vec!["address.street", "address.zip.code"],
        ),
        (
            doc! { "$set": { "items": [{ "price": 1 }, { "price": 2, "name": "z" }, [{ "x": 1 }]] } },
            vec!["items.price", "items.name", "items.x"],
        ),
        (
            doc! { "$set": { "deep": deep } },
            vec!["deep.a.b", "deep.a.c.d.e", "deep.a.c.d.f", "deep.a.c.d", "deep.0"],
        ),
        (doc! { "$unset": { "state": "" } }, vec![]),
        (doc! { "$set": { "empty": {}, "none": [], "null": null } }, vec!["empty", "none", "null"]),
    ]
}

#[test]
fn every_field_that_was_set_has_its_path() {
    let (documents, expected): (Vec<_>, Vec<_>) = updates().into_iter().unzip();
    let messages = changes(|watch| watch, &documents);
    for ((message, update), expected) in messages[1..].iter().zip(&documents).zip(expected) {
        assert_eq!(message.operation(), "update");
        assert_eq!(message.updated_paths(), expected, "{update}");
    }
    for other in [&messages[0], messages.last().expect("the delete")] {
        assert!(other.updated_paths().is_empty(), "{}", other.operation());
    }
}

#[test]
fn oplog_json_has_the_paths_where_they_are_asked_for() {
    let (documents, expected): (Vec<_>, Vec<_>) = updates().into_iter().unzip();
    let paths = |message: &Message| json(message).get("UpdatedPaths").cloned();
    let typed: fn(Watch) -> Watch = |watch| watch.updated_paths(true);
    let by_name: fn(Watch) -> Watch = |watch| watch.option("updated_paths", "true");
    for set in [typed, by_name] {
        let messages = changes(set, &documents);
        let found: Vec<_> = messages[1..=documents.len()].iter().map(paths).collect();
        let expected: Vec<_> = expected.iter().map(|paths| Some(json!(paths))).collect();
        assert_eq!(found, expected);
        assert_eq!((paths(&messages[0]), messages.last().and_then(paths)), (None, None));
        let keys: Vec<_> = match json(&messages[1]) {
            Value::Object(object) => object.into_iter().map(|(key, _)| key).collect(),
            other => panic!("{other}"),
        };
        assert_eq!(keys[3..5], ["UpdateDescription", "UpdatedPaths"]);
    }
}

#[test]
fn nothing_has_the_paths_unasked() {
    let updates = [doc! { "$set": { "state": "paid" } }];
    let plain = changes(|watch| watch, &updates);
    assert_eq!(json(&plain[1]).get("UpdatedPaths"), None);
    let event = changes(|watch| watch.updated_paths(true).format(Format::Event), &updates);
    let event = json(&event[1]);
    assert_eq!(event["operationType"], "update");
    assert_eq!(event.get("UpdatedPaths"), None);
}

#[test]
fn a_replacement_sets_no_fields() {
    let database = ground::shared().database("replace");
    let orders = collection(&database, "orders");
    orders.insert_one(document()).run().unwrap();
    let (buffer, _worker) = follow(watch_collection(&database, "orders").updated_paths(true));
    orders.replace_one(doc! { "_id": 1 }, doc! { "a": { "b": 1 } }).run().unwrap();
    let message = take(&buffer, 1).remove(0);
    assert_eq!(message.operation(), "replace");
    assert!(message.updated_paths().is_empty());
}
