//! What the Go library that this one succeeds could do, feature by feature.

mod support;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

use bson::oid::ObjectId;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, Timestamp, doc};
use mongostream::{Buffer, ErrorKind, Start, Worker};
use serde_json::json;

use support::{
    DEADLINE, assert_ready, cluster_time, collection, failure, follow, next, next_json,
    spawn_ready, watch_collection, watch_database,
};

/// The operation types of the next messages.
#[track_caller]
fn operations(buffer: &Buffer, count: usize) -> Vec<String> {
    (0..count)
        .map(|_| {
            let json = next_json(buffer);
            json["OperationType"].as_str().expect("text").to_owned()
        })
        .collect()
}

#[test]
fn several_listeners_share_one_small_buffer() {
    const COLLECTIONS: i32 = 4;
    const DOCUMENTS: i32 = 60;
    let database = ground::shared().database("listeners");
    let buffer = Buffer::new(3);
    let name = |number| format!("c{number}");
    let workers: Vec<Worker> = (0..COLLECTIONS)
        .map(|number| watch_collection(&database, &name(number)).spawn(&buffer).unwrap())
        .collect();
    workers.iter().for_each(assert_ready);

    let mut arrived: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    thread::scope(|threads| {
        for number in 0..COLLECTIONS {
            let collection = collection(&database, &name(number));
            threads.spawn(move || {
                for document in 0..DOCUMENTS {
                    collection.insert_one(doc! { "_id": document }).run().unwrap();
                }
            });
        }
        for _ in 0..COLLECTIONS * DOCUMENTS {
            let json = next_json(&buffer);
            let collection = json["Namespace"]["Collection"].as_str().expect("text").to_owned();
            let id = json["DocumentKey"]["_id"].as_i64().expect("a number");
            arrived.entry(collection).or_default().push(id);
        }
    });

    let all: Vec<i64> = (0..DOCUMENTS.into()).collect();
    let expected: BTreeMap<String, Vec<i64>> =
        (0..COLLECTIONS).map(|number| (name(number), all.clone())).collect();
    assert_eq!(arrived, expected);
}

#[test]
fn document_id_is_text_for_every_type_an_id_can_have() {
    let binary = |subtype, bytes: &[u8]| Bson::Binary(Binary { subtype, bytes: bytes.to_vec() });
    let code_with_scope =
        bson::JavaScriptCodeWithScope { code: "f".to_owned(), scope: doc! { "a": "b" } };
    // The crate has no constructor for this type.
    let pointer = [b"\x1C\0\0\0\x0Cp\0\x04\0\0\0d.c\0".as_slice(), &[0xAB; 12], &[0]].concat();
    let pointer = Document::from_reader(pointer.as_slice()).unwrap().remove("p").unwrap();
    let cases: Vec<(Bson, &str)> = vec![
        (ObjectId::from_bytes([0xAB; 12]).into(), "abababababababababababab"),
        ("plain".into(), "plain"),
        ("".into(), ""),
        ("quote\" line\n zero\0 ü".into(), "quote\" line\n zero\0 ü"),
        (5.into(), "5"),
        (i64::MIN.into(), "-9223372036854775808"),
        (2.5.into(), "2.5"),
        (7.0.into(), "7.0"),
        (f64::NAN.into(), r#"{"$numberDouble":"NaN"}"#),
        (f64::INFINITY.into(), r#"{"$numberDouble":"Infinity"}"#),
        (Bson::Decimal128("1.50".parse().unwrap()), r#"{"$numberDecimal":"1.50"}"#),
        (true.into(), "true"),
        (false.into(), "false"),
        (Bson::Null, "null"),
        (DateTime::from_millis(1).into(), r#"{"$date":"1970-01-01T00:00:00.001Z"}"#),
        (DateTime::from_millis(-1).into(), r#"{"$date":{"$numberLong":"-1"}}"#),
        (
            binary(BinarySubtype::Uuid, &[0; 16]),
            r#"{"$binary":{"base64":"AAAAAAAAAAAAAAAAAAAAAA==","subType":"04"}}"#,
        ),
        (
            binary(BinarySubtype::Generic, &[255, 0]),
            r#"{"$binary":{"base64":"/wA=","subType":"00"}}"#,
        ),
        (
            binary(BinarySubtype::UserDefined(0x80), b"x"),
            r#"{"$binary":{"base64":"eA==","subType":"80"}}"#,
        ),
        (doc! { "a": 1, "b": [{ "c": "\"" }] }.into(), r#"{"a":1,"b":[{"c":"\""}]}"#),
        (doc! {}.into(), "{}"),
        (Timestamp { time: 1, increment: 2 }.into(), r#"{"$timestamp":{"t":1,"i":2}}"#),
        (Bson::JavaScriptCode("f".into()), r#"{"$code":"f"}"#),
        (Bson::JavaScriptCodeWithScope(code_with_scope), r#"{"$code":"f","$scope":{"a":"b"}}"#),
        (Bson::Symbol("s".into()), r#"{"$symbol":"s"}"#),
        (pointer, r#"{"$dbPointer":{"$ref":"d.c","$id":{"$oid":"abababababababababababab"}}}"#),
        (Bson::MinKey, r#"{"$minKey":1}"#),
        (Bson::MaxKey, r#"{"$maxKey":1}"#),
    ];
    let database = ground::shared().database("ids");
    let (buffer, _worker) = follow(watch_collection(&database, "c"));
    let documents = cases.iter().map(|(id, _)| doc! { "_id": id });
    collection(&database, "c").insert_many(documents).run().unwrap();
    for (id, text) in cases {
        let json = next_json(&buffer);
        let expected = json!({ "DocumentId": text, "_id": id.clone().into_relaxed_extjson() });
        assert_eq!(json["DocumentKey"], expected, "{id:?}");
    }
}

#[test]
fn namespace_is_database_and_collection() {
    let database = ground::shared().database("namespace");
    let (buffer, _worker) = follow(watch_database(&database));
    for name in ["orders", "orders.eu.2024", "Größe"] {
        collection(&database, name).insert_one(doc! { "_id": 1 }).run().unwrap();
        let json = next_json(&buffer);
        assert_eq!(json["Namespace"], json!({ "Database": database, "Collection": name }));
    }
}

#[test]
fn operation_type_of_changes_to_documents() {
    let database = ground::shared().database("operations");
    let (buffer, _worker) = follow(watch_collection(&database, "c"));
    let collection = collection(&database, "c");
    collection.insert_one(doc! { "_id": 1 }).run().unwrap();
    collection.update_one(doc! { "_id": 1 }, doc! { "$set": { "a": 1 } }).run().unwrap();
    collection.replace_one(doc! { "_id": 1 }, doc! { "b": 1 }).run().unwrap();
    collection.delete_one(doc! { "_id": 1 }).run().unwrap();
    assert_eq!(operations(&buffer, 4), ["insert", "update", "replace", "delete"]);
}

#[test]
fn operation_type_of_a_dropped_collection() {
    let database = ground::shared().database("drop");
    let collection = collection(&database, "c");
    collection.insert_one(doc! { "_id": 1 }).run().unwrap();
    let (buffer, _worker) = follow(watch_collection(&database, "c"));
    collection.drop().run().unwrap();
    assert_eq!(operations(&buffer, 2), ["drop", "invalidate"]);
}

#[test]
fn operation_type_of_a_renamed_collection_and_its_new_name() {
    let database = ground::shared().database("rename");
    collection(&database, "old").insert_one(doc! { "_id": 1 }).run().unwrap();
    let (buffer, _worker) = follow(watch_collection(&database, "old"));
    let [old, new] = ["old", "new"].map(|name| format!("{database}.{name}"));
    let admin = ground::shared().client().database("admin");
    admin.run_command(doc! { "renameCollection": old, "to": new }).run().unwrap();
    let json = next_json(&buffer);
    assert_eq!(json["OperationType"], "rename");
    assert_eq!(json["Namespace"], json!({ "Database": database, "Collection": "old" }));
    assert_eq!(json["To"], json!({ "Database": database, "Collection": "new" }));
    assert_eq!(operations(&buffer, 1), ["invalidate"]);
}

#[test]
fn operation_type_of_a_dropped_database() {
    let database = ground::shared().database("drop_database");
    collection(&database, "c").insert_one(doc! { "_id": 1 }).run().unwrap();
    let (buffer, _worker) = follow(watch_database(&database));
    ground::shared().client().database(&database).drop().run().unwrap();
    assert_eq!(operations(&buffer, 1), ["drop"]);
    let json = next_json(&buffer);
    assert_eq!(json["OperationType"], "dropDatabase");
    assert_eq!(json["Namespace"], json!({ "Database": database, "Collection": "" }));
    let json = next_json(&buffer);
    assert_eq!(json["OperationType"], "invalidate");
    assert_eq!(json["Namespace"], json!({ "Database": "", "Collection": "" }));
    assert_eq!(json["DocumentKey"], json!({ "DocumentId": "" }));
}

#[test]
fn updated_fields_of_any_shape() {
    let database = ground::shared().database("updated");
    let collection = collection(&database, "c");
    let document = doc! {
        "_id": 1,
        "n": 1,
        "address": { "street": "s", "city": "c" },
        "tags": ["a", "b", "c"],
        "items": [{ "sku": 1, "count": 1 }, { "sku": 2, "count": 2 }],
    };
    collection.insert_one(document).run().unwrap();
    let (buffer, _worker) = follow(watch_collection(&database, "c"));
    let cases = [
        (doc! { "$set": { "n": "text" } }, json!({ "n": "text" })),
        (doc! { "$set": { "n": null, "new": true } }, json!({ "n": null, "new": true })),
        (doc! { "$set": { "address.city": "d" } }, json!({ "address.city": "d" })),
        (
            doc! { "$set": { "address.a": { "b": { "c": 1 } } } },
            json!({ "address.a": { "b": { "c": 1 } } }),
        ),
        (doc! { "$set": { "address": { "x": [] } } }, json!({ "address": { "x": [] } })),
        (doc! { "$set": { "tags.1": "B" } }, json!({ "tags.1": "B" })),
        (doc! { "$push": { "tags": "d" } }, json!({ "tags.3": "d" })),
        (doc! { "$set": { "tags": [[1], { "a": 2 }] } }, json!({ "tags": [[1], { "a": 2 }] })),
        (doc! { "$inc": { "items.1.count": 5 } }, json!({ "items.1.count": 7 })),
        (doc! { "$set": { "m": { "x.y": 1 } } }, json!({ "m": { "x.y": 1 } })),
        (doc! { "$set": { "m": { "0": 1 } } }, json!({ "m": { "0": 1 } })),
        (doc! { "$set": { "m.0": 2 } }, json!({ "m.0": 2 })),
    ];
    for (update, expected) in cases {
        collection.update_one(doc! { "_id": 1 }, update.clone()).run().unwrap();
        let json = next_json(&buffer);
        assert_eq!(json["UpdateDescription"]["updatedFields"], expected, "{update}");
        assert_eq!(json["UpdateDescription"]["removedFields"], json!([]), "{update}");
    }
}

#[test]
fn updated_fields_is_an_object_where_nothing_was_updated() {
    let database = ground::shared().database("not_updated");
    let (buffer, _worker) = follow(watch_collection(&database, "c"));
    collection(&database, "c").insert_one(doc! { "_id": 1 }).run().unwrap();
    assert_eq!(next_json(&buffer)["UpdateDescription"], json!({ "updatedFields": {} }));
}

#[test]
fn removed_fields() {
    let database = ground::shared().database("removed");
    let collection = collection(&database, "c");
    let document = doc! { "_id": 1, "a": 1, "b": { "c": 1, "d": 1 } };
    collection.insert_one(document).run().unwrap();
    let (buffer, _worker) = follow(watch_collection(&database, "c"));
    let update = doc! { "$unset": { "a": "", "b.c": "" } };
    collection.update_one(doc! { "_id": 1 }, update).run().unwrap();
    let json = next_json(&buffer);
    assert_eq!(json["UpdateDescription"]["removedFields"], json!(["a", "b.c"]));
    assert_eq!(json["UpdateDescription"]["updatedFields"], json!({}));
}

#[test]
fn truncated_arrays() {
    let database = ground::shared().database("truncated");
    let collection = collection(&database, "c");
    // Of small values the server writes the new one whole.
    let tags = |count: i32| (0..count).map(|tag| format!("tag {tag}")).collect::<Vec<_>>();
    let document = doc! { "_id": 1, "tags": tags(40), "padding": "x".repeat(500) };
    collection.insert_one(document).run().unwrap();
    let (buffer, _worker) = follow(watch_collection(&database, "c"));
    let pipeline = vec![doc! { "$set": { "tags": tags(30) } }];
    collection.update_one(doc! { "_id": 1 }, pipeline).run().unwrap();
    let json = next_json(&buffer);
    if ground::shared().version() >= (5, 0, 0) {
        let truncated = &json["UpdateDescription"]["truncatedArrays"];
        assert_eq!(*truncated, json!([{ "field": "tags", "newSize": 30 }]));
    } else {
        // These servers write the whole document.
        assert_eq!(json["OperationType"], "replace");
        assert_eq!(json["FullDocument"]["tags"], json!(tags(30)));
    }
}

#[test]
fn start_from_a_unix_timestamp_is_inclusive() {
    let database = ground::shared().database("timestamp");
    let collection = collection(&database, "c");
    let (buffer, _worker) = follow(watch_collection(&database, "c"));
    collection.insert_one(doc! { "_id": "before" }).run().unwrap();
    let before = cluster_time(&next(&buffer)).time;
    ground::wait_until(DEADLINE, "the server's clock shows the next second", || {
        let hello = doc! { "isMaster": 1 };
        let reply = ground::shared().client().database("admin").run_command(hello).run().unwrap();
        reply.get_datetime("localTime").unwrap().timestamp_millis() / 1000 > before.into()
    });
    collection.insert_one(doc! { "_id": "at" }).run().unwrap();
    let at = cluster_time(&next(&buffer)).time;
    assert!(at > before);

    let buffer = Buffer::new(10);
    let watch = watch_collection(&database, "c");
    let _worker = watch.start_at(Start::at(at)).spawn(&buffer).unwrap();
    assert_eq!(next_json(&buffer)["DocumentKey"]["DocumentId"], "at");
}

#[test]
fn stop_from_another_thread_ends_the_loop() {
    let database = ground::shared().database("stop");
    let (buffer, worker) = follow(watch_collection(&database, "c"));
    let (arrived, arrivals) = mpsc::channel();
    let (over, ended) = mpsc::channel();
    let listener = thread::spawn(move || {
        for message in &buffer {
            let _ = arrived.send(message.unwrap().operation().to_owned());
        }
        let _ = over.send(());
    });
    collection(&database, "c").insert_one(doc! { "_id": 1 }).run().unwrap();
    assert_eq!(arrivals.recv_timeout(DEADLINE).as_deref(), Ok("insert"));
    worker.stop();
    ended.recv_timeout(DEADLINE).expect("the loop's end");
    listener.join().unwrap();
}

#[test]
fn a_failure_is_a_value_and_work_goes_on() {
    let buffer = Buffer::new(10);
    let nobody = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100";
    let _failing = Worker::watch(nobody).name("lost").spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert_eq!((error.kind(), error.worker()), (ErrorKind::Connect, Some("lost")));

    let database = ground::shared().database("failure");
    let _worker = spawn_ready(watch_database(&database), &buffer);
    collection(&database, "c").insert_one(doc! { "_id": 1 }).run().unwrap();
    assert_eq!(operations(&buffer, 1), ["insert"]);
}
