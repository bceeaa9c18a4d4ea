//! What a message holds is the server's own event, field for field, in every shape that can be asked for.

mod support;

use bson::oid::ObjectId;
use bson::raw::RawDocumentBuf;
use bson::spec::BinarySubtype;
use bson::{Binary, Bson, DateTime, Document, Timestamp, doc};
use mongodb::change_stream::event::ResumeToken;
use mongostream::{Buffer, ExtendedJson, Format, Message, Start, Watch};
use serde_json::{Value, json};

use support::{collection, event, json, now, take, wait_for_len, watch_database};

/// The next messages of a worker.
#[track_caller]
fn read(watch: Watch, count: usize) -> Vec<Message> {
    let buffer = Buffer::new(count);
    let _worker = watch.spawn(&buffer).unwrap();
    take(&buffer, count)
}

/// A document with a value of every type that a field can have.
fn document_of_every_type() -> Document {
    let binary = |subtype, bytes: &[u8]| Binary { subtype, bytes: bytes.to_vec() };
    let regex = bson::Regex {
        pattern: "^a/\"".to_owned().try_into().unwrap(),
        options: "imx".to_owned().try_into().unwrap(),
    };
    let code_with_scope =
        bson::JavaScriptCodeWithScope { code: "g()".to_owned(), scope: doc! { "a": "b" } };
    // The crate has no constructor for this type.
    let pointer = [b"\x1C\0\0\0\x0Cp\0\x04\0\0\0d.c\0".as_slice(), &[0xAB; 12], &[0]].concat();
    let pointer = Document::from_reader(pointer.as_slice()).unwrap().remove("p").unwrap();
    let decimals = ["1.50", "-0", "1E+100", "NaN", "-Infinity"]
        .map(|text| Bson::Decimal128(text.parse().unwrap()));
    doc! {
        "_id": ObjectId::from_bytes([1; 12]),
        "double": [0.0, -0.0, 2.5, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY],
        "string": ["", "plain", "quote\" back\\slash / line\r\n tab\t zero\0 \u{1F}", "ü\u{2028}🚀"],
        "document": { "a": {}, "b": { "c.d": 1, "ключ": 2, "quo\"te": 3 } },
        "array": [[], [1, [2]], {}],
        "binary": [
            binary(BinarySubtype::Generic, &[]),
            binary(BinarySubtype::Generic, &[255, 0]),
            binary(BinarySubtype::Function, b"f"),
            binary(BinarySubtype::BinaryOld, b"old"),
            binary(BinarySubtype::UuidOld, &[3; 16]),
            binary(BinarySubtype::Uuid, &[4; 16]),
            binary(BinarySubtype::Md5, &[5; 16]),
            binary(BinarySubtype::UserDefined(0x80), b"x"),
        ],
        "undefined": Bson::Undefined,
        "object_id": ObjectId::from_bytes([0xAB; 12]),
        "boolean": [true, false],
        "date": [
            DateTime::from_millis(0),
            DateTime::from_millis(1),
            DateTime::from_millis(1_356_351_330_501),
            DateTime::from_millis(253_402_300_799_999),
            DateTime::from_millis(-1),
        ],
        "null": null,
        "regex": regex,
        "pointer": pointer,
        "code": Bson::JavaScriptCode("f(\"\")".into()),
        "symbol": Bson::Symbol("s".into()),
        "code_with_scope": code_with_scope,
        "int32": [0, i32::MIN, i32::MAX],
        "timestamp": Timestamp { time: u32::MAX, increment: 7 },
        "int64": [0_i64, i64::MIN, i64::MAX],
        "decimal": decimals.to_vec(),
        "min_key": Bson::MinKey,
        "max_key": Bson::MaxKey,
    }
}

/// The bson crate's Extended JSON.
fn extended_json(document: Document, mode: ExtendedJson) -> Value {
    let mut json = match mode {
        ExtendedJson::Relaxed => Bson::Document(document).into_relaxed_extjson(),
        ExtendedJson::Canonical => Bson::Document(document).into_canonical_extjson(),
    };
    three_digits(&mut json);
    json
}

/// The crate drops zeros at the end of a date's fraction (".5Z"); the specification wants three digits.
fn three_digits(json: &mut Value) {
    match json {
        Value::Object(object) => {
            for (key, value) in object {
                if let ("$date", Value::String(text)) = (key.as_str(), &mut *value)
                    && let Some((seconds, fraction)) = text.trim_end_matches('Z').split_once('.')
                {
                    *text = format!("{seconds}.{fraction:0<3}Z");
                }
                three_digits(value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(three_digits),
        _ => {}
    }
}

/// One event of each kind that a database has, the document of every type among them.
const EVENTS: usize = 9;

fn make_events(database: &str) {
    let client = ground::shared().client();
    let collection = collection(database, "c");
    let document = document_of_every_type();
    collection.insert_one(&document).run().unwrap();
    collection.insert_one(doc! { "_id": document.clone() }).run().unwrap();
    let query = doc! { "_id": document.get("_id") };
    let update = doc! { "$set": { "whole": &document, "int32.1": 5 }, "$unset": { "null": "" } };
    collection.update_one(query.clone(), update).run().unwrap();
    collection.replace_one(query.clone(), doc! { "a": &document }).run().unwrap();
    collection.delete_one(query).run().unwrap();
    let [old, new] = ["c", "d"].map(|name| format!("{database}.{name}"));
    let rename = doc! { "renameCollection": old, "to": new };
    client.database("admin").run_command(rename).run().unwrap();
    // drop, dropDatabase and invalidate
    client.database(database).drop().run().unwrap();
}

const OPERATIONS: [&str; EVENTS] = [
    "insert",
    "insert",
    "update",
    "replace",
    "delete",
    "rename",
    "drop",
    "dropDatabase",
    "invalidate",
];

#[track_caller]
fn check_event_format(mode: ExtendedJson) {
    let database = ground::shared().database("event");
    let start = now(watch_database(&database));
    make_events(&database);
    let watch = watch_database(&database).start_at(start).format(Format::Event).extended_json(mode);
    for (message, operation) in read(watch, EVENTS).iter().zip(OPERATIONS) {
        assert_eq!(message.operation(), operation);
        let json = json(message);
        assert_eq!(json, extended_json(event(message), mode), "{operation}");
    }
}

#[test]
fn event_format_is_the_servers_event_in_canonical_extended_json() {
    check_event_format(ExtendedJson::Canonical);
}

#[test]
fn event_format_is_the_servers_event_in_relaxed_extended_json() {
    check_event_format(ExtendedJson::Relaxed);
}

#[track_caller]
fn check_full_document(mode: ExtendedJson) {
    let database = ground::shared().database("full");
    let document = document_of_every_type();
    let start = now(watch_database(&database));
    let collection = collection(&database, "c");
    collection.insert_one(&document).run().unwrap();
    let watch = watch_database(&database).start_at(start).extended_json(mode);
    let json = json(&read(watch, 1)[0]);
    for (field, value) in document {
        let expected = extended_json(doc! { &field: value }, mode);
        assert_eq!(json["FullDocument"][&field], expected[&field], "{field}");
    }
}

#[test]
fn full_document_is_the_inserted_one_in_canonical_extended_json() {
    check_full_document(ExtendedJson::Canonical);
}

#[test]
fn full_document_is_the_inserted_one_in_relaxed_extended_json() {
    check_full_document(ExtendedJson::Relaxed);
}

#[test]
fn full_document_keeps_the_fields_in_order() {
    let database = ground::shared().database("order");
    let document = document_of_every_type();
    let start = now(watch_database(&database));
    let collection = collection(&database, "c");
    collection.insert_one(&document).run().unwrap();
    let json = json(&read(watch_database(&database).start_at(start), 1)[0]);
    let fields: Vec<_> = json["FullDocument"].as_object().expect("an object").keys().collect();
    assert_eq!(fields, document.keys().collect::<Vec<_>>());
}

#[test]
fn bson_holds_the_inserted_document_byte_for_byte() {
    let database = ground::shared().database("bytes");
    let document = document_of_every_type();
    let start = now(watch_database(&database));
    let collection = collection(&database, "c");
    collection.insert_one(&document).run().unwrap();
    let messages = read(watch_database(&database).start_at(start), 1);
    let event = bson::raw::RawDocument::from_bytes(messages[0].bson()).unwrap();
    assert_eq!(event.get_document("fullDocument").unwrap().as_bytes(), document.to_vec().unwrap());
}

#[test]
fn bson_is_the_event_that_the_drivers_own_stream_reads() {
    let database = ground::shared().database("driver");
    let start = now(watch_database(&database));
    make_events(&database);
    let Start::StartAfter(token) = &start else { unreachable!() };
    let token: Value = serde_json::from_str(token).unwrap();
    let token: ResumeToken = serde_json::from_value(token).unwrap();
    let client = ground::shared().client().database(&database);
    let stream = client.watch().resume_after(token).run().unwrap();
    let theirs = stream.with_type::<RawDocumentBuf>();
    let theirs: Vec<Vec<u8>> =
        theirs.take(EVENTS).map(|event| event.unwrap().into_bytes()).collect();
    let ours: Vec<Vec<u8>> = read(watch_database(&database).start_at(start), EVENTS)
        .iter()
        .map(|message| message.bson().to_vec())
        .collect();
    assert_eq!(ours, theirs);
}

/// An insert of `{_id: 1}`, read with two workers.
#[track_caller]
fn check_same(set: impl Fn(Watch) -> Watch, named: &[(&str, &str)], number: &Value) {
    let database = ground::shared().database("named");
    let start = now(watch_database(&database));
    let collection = collection(&database, "c");
    collection.insert_one(doc! { "_id": 1 }).run().unwrap();
    let typed = set(watch_database(&database).start_at(start.clone()));
    let mut by_name = watch_database(&database).start_at(start);
    for (name, value) in named {
        by_name = by_name.option(name, value);
    }
    let [typed, by_name] = [typed, by_name].map(|watch| read(watch, 1).remove(0));
    assert_eq!(typed.json(), by_name.json());
    let json = json(&typed);
    let found = json.pointer("/documentKey/_id").or(json.pointer("/DocumentKey/_id"));
    assert_eq!(found, Some(number));
    let event = named.contains(&("format", "event"));
    assert_eq!(json.get("documentKey").is_some(), event, "{json}");
}

#[test]
fn the_default_is_oplog_json_relaxed() {
    let named = [("format", "oplog"), ("json", "relaxed")];
    check_same(|watch| watch, &named, &json!(1));
}

#[test]
fn format_and_json_can_be_set_by_name() {
    let canonical = json!({ "$numberInt": "1" });
    for (format, format_name) in [(Format::Oplog, "oplog"), (Format::Event, "event")] {
        for (mode, mode_name, number) in [
            (ExtendedJson::Relaxed, "relaxed", &json!(1)),
            (ExtendedJson::Canonical, "canonical", &canonical),
        ] {
            let named = [("format", format_name), ("json", mode_name)];
            check_same(|watch| watch.format(format).extended_json(mode), &named, number);
        }
    }
}

#[test]
fn json_is_one_line() {
    let database = ground::shared().database("line");
    let start = now(watch_database(&database));
    make_events(&database);
    for format in [Format::Oplog, Format::Event] {
        for message in
            read(watch_database(&database).start_at(start.clone()).format(format), EVENTS)
        {
            assert!(!message.json().contains(['\n', '\r']), "{}", message.json());
        }
    }
}

#[test]
fn write_json_appends_the_same_text() {
    let database = ground::shared().database("append");
    let start = now(watch_database(&database));
    make_events(&database);
    let messages = read(watch_database(&database).start_at(start), EVENTS);
    let (mut appended, mut expected) = (String::from("before "), String::from("before "));
    for message in &messages {
        message.write_json(&mut appended);
        expected.push_str(message.json());
    }
    assert_eq!(appended, expected);
}

#[test]
fn json_lines_are_the_messages_of_the_batch() {
    let database = ground::shared().database("lines");
    let start = now(watch_database(&database));
    make_events(&database);
    let buffer = Buffer::new(EVENTS);
    let _worker = watch_database(&database).start_at(start).spawn(&buffer).unwrap();
    wait_for_len(&buffer, EVENTS);
    let batch = buffer.recv_batch(EVENTS).unwrap().expect("a batch");
    assert_eq!(batch.len(), EVENTS);
    let lines: Vec<_> = batch.messages().iter().map(|message| message.json()).collect();
    assert_eq!(batch.json_lines(), lines.join("\n") + "\n");
    assert_eq!(batch.json_lines().lines().count(), EVENTS);
}
