//! One cursor follows many collections: all of them, nothing else, and on through what happens to them.

mod support;

use std::time::Duration;

use bson::{Document, doc};
use ground::wait_until;
use mongostream::{
    Buffer, ErrorKind, FileCheckpoint, Message, OnInvalidate, Received, Start, Watch, Worker,
    WorkerState,
};

use support::reference::{Scope, driver_events, events, insert_last, is_last};
use support::{
    DEADLINE, collection, failure, follow, is_closed, json_id, next, now, take, wait_for_state,
    watch_database,
};

fn deployment() -> Watch {
    Worker::watch(ground::shared().uri())
}

#[track_caller]
fn insert(database: &str, name: &str) {
    collection(database, name).insert_one(doc! { "in": name }).run().unwrap();
}

#[track_caller]
fn rename(database: &str, from: &str, to: &str) {
    let [from, to] = [from, to].map(|name| format!("{database}.{name}"));
    let rename = doc! { "renameCollection": from, "to": to };
    ground::shared().client().database("admin").run_command(rename).run().unwrap();
}

fn drop_database(database: &str) {
    ground::shared().client().database(database).drop().run().unwrap();
}

/// `insert shop.orders`, for several messages; the databases are numbered as they are given.
fn summaries(messages: &[Message], databases: &[&str]) -> Vec<String> {
    let short = |message: &Message| {
        let mut text = format!("{} {}", message.operation(), message.namespace());
        for (number, database) in databases.iter().enumerate() {
            text = text.replace(database, &format!("d{number}"));
        }
        text.trim_end().to_owned()
    };
    messages.iter().map(short).collect()
}

fn place<'a>(event: &'a Document, field: &str) -> Option<(&'a str, &'a str)> {
    let namespace = event.get_document(field).ok()?;
    Some((namespace.get_str("db").ok()?, namespace.get_str("coll").ok()?))
}

/// The worker reads what the driver does, but only where `wanted` says so.
#[track_caller]
fn check_same(
    watch: Watch,
    start: &Start,
    (scope, database): (Scope, &str),
    wanted: impl Fn(&str, &str) -> bool,
) {
    let wanted = |event: &Document| {
        ["ns", "to"].iter().filter_map(|field| place(event, field)).any(|(d, c)| wanted(d, c))
    };
    let mut theirs = driver_events(scope, database, start, None);
    theirs.retain(wanted);
    assert!(theirs.last().is_some_and(|event| is_last(event, database)), "{theirs:?}");
    let buffer = Buffer::new(1000);
    let _worker = watch.start_at(start.clone()).spawn(&buffer).unwrap();
    // If one too many came, another would be missing at the end.
    assert_eq!(events(&take(&buffer, theirs.len())), theirs);
}

/// Names that a pattern might take for each other.
const NAMES: [&str; 12] =
    ["a.b", "axb", "a+b", "aab", "a[", "a\\b", "a|b", "^a", "a\nb", "ä.b", "b", "A.B"];

/// A database where something was inserted into each of these collections.
fn with_names() -> (String, Start) {
    let database = ground::shared().database("names");
    let start = now(watch_database(&database));
    NAMES.iter().for_each(|name| insert(&database, name));
    (database, start)
}

#[test]
fn names_are_taken_as_they_are() {
    let (database, start) = with_names();
    let listed = ["a.b", "a+b", "a[", "^a", "last"];
    insert_last(&database, "last");
    let wanted = |_: &str, collection: &str| listed.contains(&collection);
    let typed = watch_database(&database).namespaces(listed);
    check_same(typed, &start, (Scope::Database, &database), wanted);
    let by_name = watch_database(&database).option("namespaces", &listed.join(", "));
    check_same(by_name, &start, (Scope::Database, &database), wanted);
    let full = listed.map(|name| format!("{database}.{name}"));
    check_same(deployment().namespaces(full.clone()), &start, (Scope::Database, &database), wanted);
    let as_json = serde_json::to_string(&full).unwrap();
    check_same(
        deployment().option("namespaces", &as_json),
        &start,
        (Scope::Database, &database),
        wanted,
    );
}

#[test]
fn a_star_is_any_run_of_characters_and_all_else_is_itself() {
    for (pattern, matches) in [
        ("a.*", &["a.b"][..]),
        ("a*b", &["a.b", "axb", "a+b", "aab", "a\\b", "a|b", "a\nb"]),
        ("a+*", &["a+b"]),
        ("*[", &["a["]),
        ("^*", &["^a"]),
        ("*a*", &["a.b", "axb", "a+b", "aab", "a[", "a\\b", "a|b", "^a", "a\nb", "last"]),
        ("ä*", &["ä.b"]),
        ("a\\*", &["a\\b"]),
        ("**b", &["a.b", "axb", "a+b", "aab", "a\\b", "a|b", "a\nb", "ä.b", "b"]),
        ("*", &NAMES),
    ] {
        let (database, start) = with_names();
        insert_last(&database, "last");
        let wanted =
            |_: &str, collection: &str| matches.contains(&collection) || collection == "last";
        let watch = watch_database(&database).namespaces([pattern, "last"]);
        check_same(watch, &start, (Scope::Database, &database), wanted);
    }
}

#[test]
fn collections_of_the_same_name_in_other_databases_stay_out() {
    let [one, two, three] = ["one", "two", "three"].map(|label| ground::shared().database(label));
    let start = now(deployment());
    for database in [&one, &two, &three] {
        ["orders", "items", "items.eu"].iter().for_each(|name| insert(database, name));
    }
    // Renames in one of them are none of the other's.
    rename(&three, "orders", "items.us");
    rename(&one, "items", "old");
    rename(&two, "orders", "items.new");
    insert_last(&one, "orders");
    let list = [format!("{one}.orders"), format!("{two}.items*")];
    let wanted = |database: &str, collection: &str| {
        (database == one && collection == "orders")
            || (database == two && collection.starts_with("items"))
    };
    check_same(deployment().namespaces(list), &start, (Scope::Deployment, &one), wanted);
    let list = [format!("{one}.orders"), format!("{two}.*")];
    let wanted = |database: &str, collection: &str| {
        database == two || (database == one && collection == "orders")
    };
    check_same(deployment().namespaces(list), &start, (Scope::Deployment, &one), wanted);

    let (buffer, _worker) =
        follow(watch_database(&one).namespaces(["orders", "items"]).start_at(start));
    insert(&two, "orders");
    insert(&one, "items");
    let summaries = summaries(&take(&buffer, 5), &[&one]);
    let expected = [
        "insert d0.orders",
        "insert d0.items",
        "rename d0.items",
        "insert d0.orders",
        "insert d0.items",
    ];
    assert_eq!(summaries, expected);
}

/// The same two collections, by a cursor of their database and by one of the deployment, which also
/// follows another.
fn both_kinds(database: &str) -> [Watch; 2] {
    let list = ["orders", "items"].map(|name| format!("{database}.{name}"));
    let mut more = list.to_vec();
    more.push(format!("{database}_other.orders"));
    [deployment().namespaces(list), deployment().namespaces(more)]
}

#[test]
fn renames_into_and_out_of_the_list_are_delivered() {
    let database = ground::shared().database("renames");
    for name in ["orders", "draft", "unseen"] {
        insert(&database, name);
    }
    let start = now(watch_database(&database));
    rename(&database, "orders", "old");
    insert(&database, "old");
    rename(&database, "unseen", "unseen2");
    rename(&database, "draft", "orders");
    insert(&database, "orders");
    for watch in both_kinds(&database) {
        let (buffer, _worker) = follow(watch.start_at(start.clone()));
        let messages = take(&buffer, 3);
        assert_eq!(
            summaries(&messages, &[&database]),
            ["rename d0.orders", "rename d0.draft", "insert d0.orders"]
        );
        assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
    }
}

#[test]
fn a_drop_of_one_collection_is_an_event_like_others() {
    for kind in [0, 1] {
        let database = ground::shared().database("drop");
        let (buffer, worker) = follow(both_kinds(&database)[kind].clone());
        insert(&database, "orders");
        collection(&database, "orders").drop().run().unwrap();
        insert(&database, "items");
        insert(&database, "orders");
        assert_eq!(
            summaries(&take(&buffer, 4), &[&database]),
            ["insert d0.orders", "drop d0.orders", "insert d0.items", "insert d0.orders"]
        );
        assert_eq!(worker.state(), WorkerState::Streaming);
        assert_eq!(buffer.stats().unwrap().workers[0].reconnects, 0);
    }
}

#[test]
fn a_drop_of_the_database_is_delivered_and_passed() {
    for (kind, last) in [&["invalidate"][..], &[]].into_iter().enumerate() {
        let database = ground::shared().database("dropdb");
        let (buffer, worker) = follow(both_kinds(&database)[kind].clone());
        insert(&database, "orders");
        insert(&database, "unseen");
        drop_database(&format!("{database}_unseen"));
        drop_database(&database);
        let mut expected = vec!["insert d0.orders", "drop d0.orders", "dropDatabase d0"];
        expected.extend(last);
        assert_eq!(summaries(&take(&buffer, expected.len()), &[&database]), expected);
        insert(&database, "items");
        assert_eq!(summaries(&take(&buffer, 1), &[&database]), ["insert d0.items"]);
        wait_for_state(&worker, WorkerState::Streaming);
    }
}

#[test]
fn a_worker_that_shall_stop_at_an_invalidate_ends_with_its_database() {
    let database = ground::shared().database("dropdb");
    let watch = watch_database(&database).namespaces(["orders", "items"]);
    let (buffer, _worker) = follow(watch.on_invalidate(OnInvalidate::Stop));
    insert(&database, "orders");
    drop_database(&database);
    take(&buffer, 4);
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Invalidated, "{error}");
    assert!(error.to_string().contains(&format!("{database}.{{items,orders}}")), "{error}");
    assert!(is_closed(&buffer));
}

#[test]
fn resuming_loses_nothing_with_all_filters_set() {
    let database = ground::shared().database("resume");
    let uri = ground::shared().uri_with(&format!("appName={database}"));
    let watch = Worker::watch(uri)
        .database(&database)
        .namespaces(["orders", "log.*"])
        .operations(["insert"])
        .pipeline([doc! { "$match": { "fullDocument.keep": true } }]);
    let (buffer, worker) = follow(watch);
    let admin = ground::shared().client().database("admin");
    let mut expected = Vec::new();
    let write = |id: i32| {
        for (name, keep) in [("orders", true), ("log.eu", false), ("other", true), ("log.us", true)]
        {
            let document = doc! { "_id": id, "keep": keep };
            collection(&database, name).insert_one(document).run().unwrap();
            collection(&database, name).delete_one(doc! { "_id": id }).run().unwrap();
        }
    };
    for round in 0..3 {
        write(2 * round);
        // The cursor that the worker waits on, whichever it is.
        let running = [
            doc! { "$currentOp": { "allUsers": true, "idleCursors": true } },
            doc! { "$match": { "appName": &database, "cursor.cursorId": { "$exists": true } } },
        ];
        let reconnects = || buffer.stats().unwrap().workers[0].reconnects;
        let before = reconnects();
        wait_until(DEADLINE, "the cursor is killed and opened again", || {
            for operation in admin.aggregate(running.clone()).run().unwrap() {
                let operation = operation.unwrap();
                let cursor = operation.get_document("cursor").unwrap().get_i64("cursorId").unwrap();
                let kill = doc! { "killCursors": "$cmd.aggregate", "cursors": [cursor] };
                let target = ground::shared().client().database(&database);
                target.run_command(kill).run().unwrap();
            }
            reconnects() > before
        });
        write(2 * round + 1);
        for id in [2 * round, 2 * round + 1] {
            expected
                .extend([(format!("{database}.orders"), id), (format!("{database}.log.us"), id)]);
        }
    }
    let found: Vec<_> = take(&buffer, expected.len())
        .iter()
        .map(|message| (message.namespace().to_owned(), support::id(message)))
        .collect();
    assert_eq!(found, expected);
    assert!(buffer.is_empty());
    assert!(worker.state() != WorkerState::Failed);
}

#[test]
fn a_bad_list_is_refused_at_the_start() {
    let buffer = Buffer::new(10);
    let shop = || deployment().database("shop");
    for (watch, named) in [
        (deployment().namespaces([""; 0]), "empty"),
        (deployment().namespaces(["shop.orders", ""]), "item 1"),
        (deployment().namespaces(["orders"]), "database.collection"),
        (deployment().namespaces(["*.orders"]), "* in the database"),
        (deployment().namespaces(["shop.or$ders"]), "collection name"),
        (deployment().option("namespaces", "shop.orders,,shop.items"), "item 1"),
        (deployment().option("namespaces", "[\"shop.orders\", 5]"), "namespaces takes"),
        (shop().namespaces([".orders"]), "collection name"),
        (shop().collection("orders").namespaces(["items"]), "exclude each other"),
        (deployment().database("").namespaces(["items"]), "database name"),
        (deployment().database("sh*p").namespaces(["items"]), "* in the database"),
    ] {
        let error = watch.spawn(&buffer).expect_err(named);
        assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
        assert!(error.to_string().contains(named), "{named}: {error}");
    }
}

#[test]
fn the_list_is_the_name_and_the_namespace() {
    let database = ground::shared().database("named");
    let buffer = Buffer::new(10);
    let worker = watch_database(&database).namespaces(["orders", "items"]).spawn(&buffer).unwrap();
    let name = format!("{database}.{{items,orders}}");
    assert_eq!(worker.name(), name);
    assert_eq!(buffer.stats().unwrap().workers[0].namespace, name);
}

#[test]
fn a_checkpoint_belongs_to_its_list_in_any_order() {
    let database = ground::shared().database("checkpoint");
    let file = std::env::temp_dir().join(format!("{database}.token"));
    let watch = |list: &[&str]| {
        let watch = watch_database(&database).namespaces(list.iter().copied()).name("list");
        watch.checkpoint(FileCheckpoint::new(&file))
    };
    let (buffer, worker) = follow(watch(&["orders", "items"]));
    insert(&database, "orders");
    next(&buffer).ack();
    worker.stop();
    worker.join().unwrap();
    drop(worker);
    let saved = std::fs::read_to_string(&file).unwrap();
    insert(&database, "items");

    let refused = |watch: Watch, key: &str| {
        let buffer = Buffer::new(10);
        let worker = watch.spawn(&buffer).unwrap();
        let error = failure(&buffer);
        assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
        assert!(error.to_string().contains(&format!("its {key} is")), "{error}");
        worker.join().unwrap_err();
        drop(worker);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), saved);
    };
    refused(watch(&["orders"]), "namespaces");
    refused(watch(&["orders", "items", "more"]), "namespaces");
    refused(watch(&["items", "orders"]).operations(["insert"]), "operations");
    let plain = watch_database(&database).name("list").checkpoint(FileCheckpoint::new(&file));
    refused(plain, "namespaces");

    let (buffer, worker) = follow(watch(&["items", "orders"]));
    assert_eq!(summaries(&take(&buffer, 1), &[&database]), ["insert d0.items"]);
    worker.stop();
    worker.join().unwrap();
    drop(worker);
    let _ = std::fs::remove_file(file);
}

#[test]
fn a_checkpoint_collection_that_a_pattern_covers_is_left_out() {
    let database = ground::shared().database("own");
    let place = format!("{database}.log.checkpoints");
    let in_place = |watch: Watch| watch.option("checkpoint_collection", &place);
    let watch = watch_database(&database).namespaces(["log.*"]);
    let interval = Duration::from_millis(10);
    let (buffer, worker) = follow(in_place(watch).checkpoint_interval(interval));
    let saves = collection(&database, "log.checkpoints");
    let saved = || {
        let saved = saves.find_one(doc! {}).run().unwrap().expect("the opening token is saved");
        saved.get_str("checkpoint").unwrap().to_owned()
    };
    for _ in 0..3 {
        insert(&database, "log.eu");
        let message = next(&buffer);
        assert_eq!(message.namespace(), format!("{database}.log.eu"));
        let before = saved();
        message.ack();
        wait_until(DEADLINE, "the checkpoint moves", || saved() != before);
    }
    worker.stop();
    worker.join().unwrap();
    assert!(buffer.is_empty());

    let listed = watch_database(&database).namespaces(["log.checkpoints"]);
    let error = in_place(listed).spawn(&buffer).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
    assert!(error.to_string().contains("cannot be in itself"), "{error}");
}

#[test]
fn a_checkpoint_collection_that_is_not_listed_is_no_matter() {
    let database = ground::shared().database("beside");
    let watch = watch_database(&database).namespaces(["orders"]);
    let place = format!("{database}.checkpoints");
    let (buffer, _worker) = follow(watch.option("checkpoint_collection", &place));
    collection(&database, "orders").insert_one(doc! { "_id": 5 }).run().unwrap();
    assert_eq!(json_id(&next(&buffer)), 5);
}
