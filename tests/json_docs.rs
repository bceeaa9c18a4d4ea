//! The examples in docs/JSON.md are what a server's events really become.
//!
//! `MONGOSTREAM_WRITE=1 cargo test --test json_docs` writes them anew, with a server of the newest version
//! that they need.

mod support;

use std::collections::BTreeMap;
use std::path::PathBuf;

use ground::mongodb::bson::oid::ObjectId;
use ground::mongodb::bson::{Document, doc};
use ground::mongodb::sync::Collection;
use mongostream::{
    Buffer, ExtendedJson, Format, FullDocument, FullDocumentBeforeChange, Message, OnHistoryLost,
    OnOversized, Snapshot, Start, Watch, Worker,
};
use serde_json::{Value, json};

use support::{
    cluster_time, collection, follow, json, next, now, small_oplog, watch_collection,
    watch_database,
};

/// Servers before this version lack some of the events and fields.
const COMPLETE: (u32, u32, u32) = (6, 0, 0);

/// The example of each name, as the document has it.
type Examples = BTreeMap<&'static str, Value>;

fn version() -> (u32, u32, u32) {
    ground::shared().version()
}

fn run(database: &str, command: Document) {
    ground::shared().client().database(database).run_command(command).run().unwrap();
}

/// One event of each kind, in a database of its own, to its end.
fn make_events(database: &str) {
    let orders = collection(database, "orders");
    run(database, doc! { "create": "orders" });
    let index = doc! { "key": { "state": 1 }, "name": "by_state" };
    run(database, doc! { "createIndexes": "orders", "indexes": [index] });
    let hidden = doc! { "name": "by_state", "hidden": true };
    if version() >= COMPLETE {
        run(database, doc! { "collMod": "orders", "index": hidden });
    }
    run(database, doc! { "dropIndexes": "orders", "index": "by_state" });

    let id = ObjectId::parse_str("652f1f77bcf86cd799439011").unwrap();
    let lines = [doc! { "item": "tea", "count": 2 }];
    let order = doc! { "_id": id, "state": "open", "coupon": "SPRING", "lines": lines.to_vec() };
    orders.insert_one(order).run().unwrap();
    let paid = doc! { "$set": { "state": "paid", "lines.0.count": 3 }, "$unset": { "coupon": "" } };
    orders.update_one(doc! { "_id": id }, paid).run().unwrap();
    orders.replace_one(doc! { "_id": id }, doc! { "state": "sent" }).run().unwrap();
    orders.delete_one(doc! { "_id": id }).run().unwrap();

    support::transaction(|session| {
        orders.insert_one(doc! { "_id": 7, "state": "open" }).session(&mut *session).run()?;
        Ok(())
    });

    let carts = collection(database, "carts");
    let mut create = doc! { "create": "carts" };
    if version() >= COMPLETE {
        create.insert("changeStreamPreAndPostImages", doc! { "enabled": true });
    }
    run(database, create);
    // Of small values the server writes the new one whole.
    let items = |count: i32| (0..count).map(|item| format!("item {item}")).collect::<Vec<_>>();
    carts.insert_one(doc! { "_id": "c1", "items": items(40) }).run().unwrap();
    let fewer = vec![doc! { "$set": { "items": { "$slice": ["$items", 30] } } }];
    carts.update_one(doc! { "_id": "c1" }, fewer).run().unwrap();
    carts.insert_one(doc! { "_id": "c2", "n": 1 }).run().unwrap();
    carts.update_one(doc! { "_id": "c2" }, doc! { "$set": { "n": 2 } }).run().unwrap();

    let [from, to] = ["orders", "archive"].map(|name| format!("{database}.{name}"));
    run("admin", doc! { "renameCollection": from, "to": to });
    collection(database, "archive").drop().run().unwrap();
    ground::shared().client().database(database).drop().run().unwrap();
}

/// Everything up to the end of the database.
fn read(watch: Watch) -> Vec<Message> {
    let (buffer, _worker) = follow(watch);
    let mut messages = Vec::new();
    while messages.last().is_none_or(|last: &Message| last.operation() != "invalidate") {
        messages.push(next(&buffer));
    }
    messages
}

/// The first of these messages that is of this operation and, if one is given, this document.
#[track_caller]
fn find(messages: &[Message], operation: &str, id: Option<&str>) -> Value {
    let shown = messages.iter().filter(|message| message.operation() == operation).map(json);
    let found = |shown: &Value| {
        id.is_none_or(|id| {
            let key = shown.get("DocumentKey").or(shown.get("documentKey"));
            key.is_some_and(|key| key["DocumentId"] == id || key["_id"] == id)
        })
    };
    let mut shown = shown.filter(found);
    shown.next().unwrap_or_else(|| panic!("no {operation} of {id:?}"))
}

fn events(examples: &mut Examples) {
    let database = ground::shared().database("json");
    let start = now(watch_database(&database));
    make_events(&database);
    let watch = || watch_database(&database).start_at(start.clone());
    let mut put = |name: &'static str, mut example: Value| {
        normalise(&mut example, &database);
        examples.insert(name, example);
    };

    let plain = read(watch());
    for operation in
        ["insert", "update", "replace", "delete", "rename", "drop", "dropDatabase", "invalidate"]
    {
        put(operation, find(&plain, operation, None));
    }
    put("transaction", find(&plain, "insert", Some("7")));
    let canonical = read(watch().extended_json(ExtendedJson::Canonical));
    put("insert canonical", find(&canonical, "insert", None));
    let same = read(watch().format(Format::Event));
    for (name, operation) in [
        ("event insert", "insert"),
        ("event update", "update"),
        ("event rename", "rename"),
        ("event dropDatabase", "dropDatabase"),
        ("event invalidate", "invalidate"),
    ] {
        put(name, find(&same, operation, None));
    }
    if version() >= (5, 0, 0) {
        // Older servers sort the updated fields.
        let paths = read(watch().updated_paths(true));
        put("updated paths", find(&paths, "update", None));
        put("truncated", find(&plain, "update", Some("c1")));
    }
    if version() >= COMPLETE {
        let images = watch()
            .full_document(FullDocument::WhenAvailable)
            .full_document_before_change(FullDocumentBeforeChange::WhenAvailable);
        put("images", find(&read(images), "update", Some("c2")));
        let expanded = read(watch().show_expanded_events(true));
        for operation in ["create", "createIndexes", "modify", "dropIndexes"] {
            put(operation, find(&expanded, operation, None));
        }
        put("expanded update", find(&expanded, "update", None));
        put("expanded drop", find(&expanded, "drop", None));
        put("expanded rename", find(&expanded, "rename", None));
    }
}

fn snapshot(examples: &mut Examples) {
    let database = ground::shared().database("json");
    let order = doc! { "_id": 7, "state": "open" };
    collection(&database, "orders").insert_one(order).run().unwrap();
    for (name, format) in [("snapshot", Format::Oplog), ("event snapshot", Format::Event)] {
        let watch = watch_collection(&database, "orders").snapshot(Snapshot::Initial);
        let (buffer, _worker) = follow(watch.format(format));
        let mut example = json(&next(&buffer));
        normalise(&mut example, &database);
        examples.insert(name, example);
    }
}

fn gap(examples: &mut Examples) {
    let set = small_oplog::start();
    let orders: Collection<Document> = set.client().database("shop").collection("orders");
    let watch = || Worker::watch(set.uri()).database("shop").collection("orders");
    let (buffer, _worker) = follow(watch());
    orders.insert_one(doc! {}).run().unwrap();
    let lost = next(&buffer);
    small_oplog::roll_past(&set, cluster_time(&lost));
    for (name, format, bounds) in [
        ("gap", Format::Oplog, "OperationDescription"),
        ("event gap", Format::Event, "operationDescription"),
    ] {
        let start = Start::StartAfter(lost.resume_token().unwrap().to_owned());
        let watch = watch().start_at(start).on_history_lost(OnHistoryLost::Restart);
        let buffer = Buffer::new(10);
        let _worker = watch.format(format).spawn(&buffer).unwrap();
        let mut example = json(&next(&buffer));
        normalise(&mut example, "shop");
        // Before the time to which changes are missing.
        example[bounds]["from"] = json!({ "$timestamp": { "t": 1_732_264_900, "i": 1 } });
        examples.insert(name, example);
    }
}

fn oversized(examples: &mut Examples) {
    let database = ground::shared().database("json");
    let twice = doc! { "$addFields": { "copy": "$fullDocument" } };
    let watch = || {
        let watch = watch_collection(&database, "files").pipeline([twice.clone()]);
        watch.on_oversized(OnOversized::Skip)
    };
    let start = now(watch());
    let file = doc! { "_id": 7, "text": "x".repeat(9 << 20) };
    collection(&database, "files").insert_one(file).run().unwrap();
    for (name, format) in [("oversized", Format::Oplog), ("event oversized", Format::Event)] {
        let (buffer, _worker) = follow(watch().start_at(start.clone()).format(format));
        let mut example = json(&next(&buffer));
        normalise(&mut example, &database);
        examples.insert(name, example);
    }
}

/// Gives everything that differs from run to run one value.
fn normalise(value: &mut Value, database: &str) {
    match value {
        Value::Object(object) => {
            if object.contains_key("_data") {
                object.insert("_data".to_owned(), json!("82..."));
            }
            for (key, value) in object {
                match key.as_str() {
                    "$timestamp" => *value = json!({ "t": 1_732_264_946, "i": 3 }),
                    "$date" if value.is_string() => *value = json!("2024-11-22T08:42:26.123Z"),
                    "$date" => *value = json!({ "$numberLong": "1732264946123" }),
                    "$binary" if value["subType"] == "04" => {
                        value["base64"] = json!("b2ctbXVzdGFyZC1zZWVkcw==")
                    }
                    "TxnNumber" => *value = json!(1),
                    _ => normalise(value, database),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| normalise(item, database)),
        Value::String(text) => *text = text.replace(database, "shop"),
        _ => {}
    }
}

/// A line for each key.
fn render(example: &Value) -> String {
    let Value::Object(fields) = example else { panic!("{example} is no message") };
    let fields = fields.iter().map(|(key, value)| format!("{}:{value}", json!(key)));
    format!("{{{}}}\n", fields.collect::<Vec<_>>().join(",\n "))
}

/// Without the keys that the server under test does not know.
fn as_known(mut example: Value) -> Value {
    let Some(object) = example.as_object_mut() else { return example };
    object.retain(|key, _| !["WallTime", "wallTime"].contains(&key.as_str()));
    if version() < (5, 0, 0) {
        for description in ["UpdateDescription", "updateDescription"] {
            if let Some(Value::Object(fields)) = object.get_mut(description) {
                fields.retain(|key, _| key != "truncatedArrays");
            }
        }
    }
    example
}

const BEGIN: &str = "<!-- example: ";

/// The document, piece by piece: what stands before the first example, then for each its name, its text
/// and what follows.
fn parse(text: &str) -> (&str, Vec<(&str, &str, &str)>) {
    let mut pieces = text.split(BEGIN);
    let before = pieces.next().unwrap();
    let examples = pieces.map(|piece| {
        let (name, rest) = piece.split_once(" -->\n```json\n").expect("an example");
        let (example, after) = rest.split_once("```\n").expect("the example's end");
        (name, example, after)
    });
    (before, examples.collect())
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/JSON.md")
}

#[test]
fn the_examples_are_what_the_server_and_the_library_give() {
    let mut examples = Examples::new();
    events(&mut examples);
    snapshot(&mut examples);
    gap(&mut examples);
    oversized(&mut examples);

    let document = std::fs::read_to_string(path()).unwrap();
    let (before, found) = parse(&document);
    if std::env::var_os("MONGOSTREAM_WRITE").is_some() {
        assert!(version() >= COMPLETE, "this server lacks some of the events");
        let mut text = before.to_owned();
        for (name, _, after) in &found {
            let example = render(&examples[name]);
            text.push_str(&format!("{BEGIN}{name} -->\n```json\n{example}```\n{after}"));
        }
        std::fs::write(path(), text).unwrap();
        return;
    }
    let names: Vec<_> = found.iter().map(|(name, ..)| *name).collect();
    let missing = examples.keys().find(|name| !names.contains(name));
    assert_eq!(missing, None, "an example that docs/JSON.md does not have");
    for (name, text, _) in found {
        let Some(example) = examples.get(name) else {
            assert!(version() < COMPLETE, "nothing is like the example {name}");
            continue;
        };
        let found: Value = serde_json::from_str(text).unwrap_or_default();
        let is_same = match version() {
            // The order of keys is not the same everywhere.
            older if older < COMPLETE => as_known(found) == *example,
            _ => text == render(example),
        };
        assert!(
            is_same,
            "the example {name} is out of date, it should be\n{}write all anew with\n    \
             MONGOSTREAM_WRITE=1 cargo test --test json_docs",
            render(example)
        );
    }
}
