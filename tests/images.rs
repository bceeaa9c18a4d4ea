//! What servers since 6.0 tell beyond the event itself: the document as it was before, and expanded
//! events. Older servers refuse, and the error says which one is needed.

mod support;

use bson::{Bson, Document, doc};
use ground::mongodb::options::{ChangeStreamOptions, FullDocumentBeforeChangeType as TheirMode};
use mongostream::{
    Buffer, ErrorKind, ExtendedJson, Format, FullDocument, FullDocumentBeforeChange, Watch,
};
use serde_json::{Value, json};

use support::reference::{Scope, driver_events, events, insert_last};
use support::{collection, failure, json, now, take, watch_database};

fn is_old() -> bool {
    ground::shared().version() < (6, 0, 0)
}

fn run(database: &str, command: Document) {
    ground::shared().client().database(database).run_command(command).run().unwrap();
}

/// The worker fails because the server is too old, and says so. Servers since 4.4 know the option
/// `full_document_before_change`, but no images that it could give.
#[track_caller]
fn check_too_old(watch: Watch, option: &str) {
    let buffer = Buffer::new(10);
    let _worker = watch.spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    assert_ne!(error.server_code(), 0, "{error}");
    for named in [option, "MongoDB 6.0"] {
        assert!(error.to_string().contains(named), "{error}");
    }
}

#[test]
fn a_server_before_6_0_is_told_from_other_mistakes() {
    let database = ground::shared().database("old");
    for (name, value) in [
        ("full_document", "required"),
        ("full_document", "whenAvailable"),
        ("full_document_before_change", "required"),
        ("full_document_before_change", "whenAvailable"),
        ("show_expanded_events", "true"),
    ] {
        let watch = watch_database(&database).option(name, value);
        let knows =
            name == "full_document_before_change" && ground::shared().version() >= (4, 4, 0);
        if is_old() && !knows {
            check_too_old(watch, name);
        } else {
            let (_buffer, _worker) = support::follow(watch);
        }
    }
    // Another mistake is no question of the version.
    let buffer = Buffer::new(10);
    let watch = watch_database(&database).pipeline([doc! { "$nonsense": 1 }]);
    let _worker = watch.show_expanded_events(!is_old()).spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert!(!error.to_string().contains("too old"), "{error}");
}

/// A collection that keeps images, and one that does not.
fn create(database: &str) {
    let images = doc! { "enabled": true };
    run(database, doc! { "create": "kept", "changeStreamPreAndPostImages": images.clone() });
    run(database, doc! { "create": "late" });
    run(database, doc! { "collMod": "late", "changeStreamPreAndPostImages": images });
    run(database, doc! { "create": "bare" });
}

fn change(database: &str, name: &str) {
    let collection = collection(database, name);
    collection.insert_one(doc! { "_id": 1, "a": 1 }).run().unwrap();
    collection.update_one(doc! {}, doc! { "$set": { "a": 2 } }).run().unwrap();
    collection.replace_one(doc! {}, doc! { "b": 3 }).run().unwrap();
    collection.delete_one(doc! {}).run().unwrap();
}

#[test]
fn the_document_before_the_change_is_the_one_that_the_driver_reads() {
    if is_old() {
        return;
    }
    for (mode, theirs, names) in [
        (FullDocumentBeforeChange::Off, TheirMode::Off, &["kept", "late", "bare"][..]),
        (
            FullDocumentBeforeChange::WhenAvailable,
            TheirMode::WhenAvailable,
            &["kept", "late", "bare"],
        ),
        (FullDocumentBeforeChange::Required, TheirMode::Required, &["kept", "late"]),
    ] {
        let database = ground::shared().database("before");
        create(&database);
        let start = now(watch_database(&database));
        names.iter().for_each(|name| change(&database, name));
        insert_last(&database, "kept");
        let options =
            ChangeStreamOptions::builder().full_document_before_change(theirs.clone()).build();
        let theirs = driver_events(Scope::Database, &database, &start, Some(options));
        let buffer = Buffer::new(100);
        let watch = watch_database(&database).start_at(start);
        let _worker = watch.full_document_before_change(mode).spawn(&buffer).unwrap();
        let messages = take(&buffer, theirs.len());
        assert_eq!(events(&messages), theirs, "{mode:?}");

        let shown: Vec<Value> = messages[..4].iter().map(json).collect();
        let before = shown.iter().map(|json| json.get("FullDocumentBeforeChange").cloned());
        let expected = match mode {
            FullDocumentBeforeChange::Off => vec![None; 4],
            _ => vec![
                None,
                Some(json!({ "_id": 1, "a": 1 })),
                Some(json!({ "_id": 1, "a": 2 })),
                Some(json!({ "_id": 1, "b": 3 })),
            ],
        };
        assert_eq!(before.collect::<Vec<_>>(), expected, "{mode:?}");
        if mode == FullDocumentBeforeChange::WhenAvailable {
            assert_eq!(json(&messages[9])["FullDocumentBeforeChange"], Value::Null);
        }
    }
}

#[test]
fn an_image_that_is_required_and_missing_is_a_failure_that_says_what_to_do() {
    let database = ground::shared().database("missing");
    collection(&database, "bare").insert_one(doc! { "_id": 1 }).run().unwrap();
    let start = now(watch_database(&database));
    let set = doc! { "$set": { "a": 2 } };
    collection(&database, "bare").update_one(doc! {}, set).run().unwrap();
    let before =
        |watch: Watch| watch.full_document_before_change(FullDocumentBeforeChange::Required);
    let after = |watch: Watch| watch.full_document(FullDocument::Required);
    for (watch, option) in [
        (before(watch_database(&database)), "full_document_before_change"),
        (after(watch_database(&database)), "full_document=whenAvailable and required"),
    ] {
        if is_old() {
            if ground::shared().version() < (4, 4, 0) {
                check_too_old(watch, option);
            }
            continue;
        }
        let buffer = Buffer::new(100);
        let _worker = watch.start_at(start.clone()).spawn(&buffer).unwrap();
        let error = failure(&buffer);
        assert_eq!(error.server_code(), 47, "{error}");
        for named in ["changeStreamPreAndPostImages", "whenAvailable"] {
            assert!(error.to_string().contains(named), "{error}");
        }
    }
}

/// Every kind of expanded event that a replica set has.
fn make_expanded(database: &str) -> Vec<&'static str> {
    run(database, doc! { "create": "c" });
    let index = doc! { "key": { "a": 1 }, "name": "by_a" };
    run(database, doc! { "createIndexes": "c", "indexes": [index] });
    let hidden = doc! { "name": "by_a", "hidden": true };
    run(database, doc! { "collMod": "c", "index": hidden });
    run(database, doc! { "dropIndexes": "c", "index": "by_a" });
    let [from, to] = ["c", "d"].map(|name| format!("{database}.{name}"));
    run("admin", doc! { "renameCollection": from, "to": to });
    collection(database, "d").drop().run().unwrap();
    insert_last(database, "e");
    let mut operations = vec!["create", "createIndexes", "modify", "dropIndexes"];
    operations.extend(["rename", "drop", "create", "insert"]);
    operations
}

#[test]
fn expanded_events_pass_through_with_all_their_fields() {
    let database = ground::shared().database("expanded");
    if is_old() {
        let watch = watch_database(&database).show_expanded_events(true);
        return check_too_old(watch, "show_expanded_events");
    }
    let start = now(watch_database(&database));
    let operations = make_expanded(&database);
    let options = ChangeStreamOptions::builder().show_expanded_events(true).build();
    let theirs = driver_events(Scope::Database, &database, &start, Some(options));
    let found: Vec<_> =
        theirs.iter().map(|event| event.get_str("operationType").unwrap()).collect();
    assert_eq!(found, operations);

    let read = |format| {
        let watch = watch_database(&database).start_at(start.clone()).show_expanded_events(true);
        let watch = watch.format(format).extended_json(ExtendedJson::Canonical);
        let buffer = Buffer::new(100);
        let _worker = watch.spawn(&buffer).unwrap();
        take(&buffer, theirs.len())
    };
    assert_eq!(events(&read(Format::Event)), theirs);
    for (message, event) in read(Format::Event).iter().zip(&theirs) {
        assert_eq!(json(message), Bson::Document(event.clone()).into_canonical_extjson());
    }
    for (message, event) in read(Format::Oplog).iter().zip(&theirs) {
        check_oplog(&json(message), event);
    }
}

/// Every field of the event stands in oplog JSON, under the name that it has there.
#[track_caller]
fn check_oplog(shown: &Value, event: &Document) {
    let mut expected = serde_json::Map::new();
    let namespace = |value: &Document| {
        let part = |name| value.get_str(name).unwrap_or_default();
        json!({ "Database": part("db"), "Collection": part("coll") })
    };
    expected.insert("DocumentKey".into(), json!({ "DocumentId": "" }));
    expected.insert("UpdateDescription".into(), json!({ "updatedFields": {} }));
    for (name, value) in event {
        let json = value.clone().into_canonical_extjson();
        let (key, json) = match name.as_str() {
            "_id" => ("ResumeToken", json),
            "operationType" => ("OperationType", json),
            "clusterTime" => ("ClusterTime", json),
            "wallTime" => ("WallTime", json),
            "fullDocument" => ("FullDocument", json),
            "operationDescription" => ("OperationDescription", json),
            "txnNumber" => ("TxnNumber", json),
            "lsid" => ("Lsid", json),
            "ns" => ("Namespace", namespace(value.as_document().unwrap())),
            "to" => ("To", namespace(value.as_document().unwrap())),
            "documentKey" => {
                let id = event.get_document("documentKey").unwrap().get_str("_id").unwrap();
                ("DocumentKey", json!({ "DocumentId": id, "_id": id }))
            }
            other => (other, json),
        };
        expected.insert(key.into(), json);
    }
    assert_eq!(*shown, Value::Object(expected), "{event}");
}

#[test]
fn a_transactions_events_carry_its_session_and_number() {
    let database = ground::shared().database("transaction");
    run(&database, doc! { "create": "c" });
    let start = now(watch_database(&database));
    let orders = collection(&database, "c");
    support::transaction(|session| {
        for id in ["one", "two"] {
            orders.insert_one(doc! { "_id": id }).session(&mut *session).run()?;
        }
        Ok(())
    });
    insert_last(&database, "c");
    let theirs = driver_events(Scope::Database, &database, &start, None);
    assert_eq!(theirs.len(), 3);
    let buffer = Buffer::new(100);
    let watch = watch_database(&database).start_at(start).extended_json(ExtendedJson::Canonical);
    let _worker = watch.spawn(&buffer).unwrap();
    let messages = take(&buffer, 3);
    assert_eq!(events(&messages), theirs);
    for (message, event) in messages.iter().zip(&theirs) {
        check_oplog(&json(message), event);
    }
    for message in &messages[..2] {
        let json = json(message);
        assert!(json["TxnNumber"].is_object() && json["Lsid"]["id"].is_object(), "{json}");
    }
}
