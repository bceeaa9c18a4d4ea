//! What a worker watches, and where its stream begins.

mod support;

use std::time::Duration;

use bson::{Bson, Timestamp, doc};
use mongostream::{Buffer, ErrorKind, Message, Start, Watch, Worker};
use serde_json::Value;

use support::{
    DEADLINE, cluster_time, collection, event, failure, follow, json_id, next, take,
    watch_collection, watch_database,
};

#[track_caller]
fn insert(database: &str, name: &str, id: impl Into<Bson>) {
    collection(database, name).insert_one(doc! { "_id": id.into() }).run().unwrap();
}

fn insert_numbers(database: &str, count: i32) {
    let documents = (0..count).map(|number| doc! { "_id": number });
    collection(database, "c").insert_many(documents).run().unwrap();
}

fn deployment() -> Watch {
    Worker::watch(ground::shared().uri())
}

/// The collection that most tests are about.
fn watch(database: &str) -> Watch {
    watch_collection(database, "c")
}

#[track_caller]
fn ids(buffer: &Buffer, count: usize) -> Vec<Value> {
    take(buffer, count).iter().map(json_id).collect()
}

/// The cluster time that a token stands for: its bytes 1 to 8.
fn time_of(token: &str) -> Timestamp {
    let token: Value = serde_json::from_str(token).unwrap();
    let hex = token["_data"].as_str().expect("text");
    let number = |range| u32::from_str_radix(&hex[range], 16).unwrap();
    Timestamp { time: number(2..10), increment: number(10..18) }
}

fn token(message: &Message) -> String {
    message.resume_token().expect("a token").to_owned()
}

/// Starts a stream there and checks that it delivers numbers from `first` to 9, and then what is
/// inserted next: nothing less, nothing more.
#[track_caller]
fn check_rest(database: &str, start: Start, first: i32) {
    let (buffer, _worker) = follow(watch(database).start_at(start));
    let marker = format!("marker {first}");
    insert(database, "c", marker.as_str());
    let mut expected: Vec<Value> = (first..10).map(Value::from).collect();
    expected.push(marker.into());
    assert_eq!(ids(&buffer, expected.len()), expected, "from {first} on");
}

/// Numbers 0 to 9, as a first worker read them.
fn ten(label: &str) -> (String, Vec<Message>) {
    let database = ground::shared().database(label);
    let (buffer, _worker) = follow(watch(&database));
    insert_numbers(&database, 10);
    let messages = take(&buffer, 10);
    (database, messages)
}

#[test]
fn collection_scope_is_this_collection_only() {
    let database = ground::shared().database("collection");
    let (buffer, _worker) = follow(watch(&database));
    insert(&database, "other", 1);
    insert(&database, "c.d", 2);
    insert(&database, "c", 3);
    assert_eq!(ids(&buffer, 1), [3]);
}

#[test]
fn collection_scope_takes_a_collection_that_does_not_exist_yet() {
    let database = ground::shared().database("absent");
    let (buffer, _worker) = follow(watch(&database));
    let client = ground::shared().client().database(&database);
    assert_eq!(client.list_collection_names().run().unwrap(), [""; 0]);
    insert(&database, "c", 1);
    assert_eq!(ids(&buffer, 1), [1]);
}

#[test]
fn collections_of_the_same_name_do_not_mix() {
    let [one, two] = ["one", "two"].map(|label| ground::shared().database(label));
    let [(ones, _one), (twos, _two)] = [&one, &two].map(|database| follow(watch(database)));
    for number in 0..3 {
        insert(&one, "c", format!("one {number}"));
        insert(&two, "c", format!("two {number}"));
    }
    assert_eq!(ids(&ones, 3), ["one 0", "one 1", "one 2"]);
    assert_eq!(ids(&twos, 3), ["two 0", "two 1", "two 2"]);
}

#[test]
fn database_scope_is_every_collection_of_this_database() {
    let [mine, other] = ["mine", "other"].map(|label| ground::shared().database(label));
    let (buffer, _worker) = follow(watch_database(&mine));
    insert(&mine, "a", 1);
    insert(&other, "a", 2);
    insert(&mine, "b", 3);
    let namespaces: Vec<_> =
        take(&buffer, 2).iter().map(|message| message.namespace().to_owned()).collect();
    assert_eq!(namespaces, [format!("{mine}.a"), format!("{mine}.b")]);
}

#[test]
fn deployment_scope_is_every_database() {
    let [one, two] = ["every", "every"].map(|label| ground::shared().database(label));
    let (buffer, _worker) = follow(deployment());
    insert(&one, "a", 1);
    insert(&two, "b", 2);
    let mut found = Vec::new();
    // Other tests write to the same server.
    while found.len() < 2 {
        let message = next(&buffer);
        let namespace = message.namespace().to_owned();
        if [&one, &two].iter().any(|database| namespace.starts_with(&format!("{database}."))) {
            found.push(namespace);
        }
    }
    assert_eq!(found, [format!("{one}.a"), format!("{two}.b")]);
}

#[test]
fn now_is_everything_after_ready_and_nothing_older() {
    let database = ground::shared().database("now");
    insert_numbers(&database, 10);
    check_rest(&database, Start::Now, 10);
}

#[test]
fn time_is_exact_to_the_increment() {
    let (database, messages) = ten("time");
    let Timestamp { time: seconds, increment } = cluster_time(&messages[4]);
    check_rest(&database, Start::Time { seconds, increment }, 4);
}

#[test]
fn resume_after_goes_on_behind_the_event() {
    let (database, messages) = ten("resume_after");
    check_rest(&database, Start::ResumeAfter(token(&messages[4])), 5);
}

#[test]
fn start_after_goes_on_behind_the_event() {
    let (database, messages) = ten("start_after");
    check_rest(&database, Start::StartAfter(token(&messages[4])), 5);
}

/// A collection that was dropped, and the token of the stream's end.
fn dropped(label: &str) -> (String, String) {
    let database = ground::shared().database(label);
    insert(&database, "c", "old");
    let (buffer, _worker) = follow(watch(&database));
    collection(&database, "c").drop().run().unwrap();
    let messages = take(&buffer, 2);
    assert_eq!(messages[1].operation(), "invalidate");
    (database, token(&messages[1]))
}

#[test]
fn start_after_takes_the_token_of_an_invalidate() {
    let (database, token) = dropped("invalidate");
    insert(&database, "c", "new");
    let (buffer, _worker) = follow(watch(&database).start_at(Start::StartAfter(token)));
    assert_eq!(ids(&buffer, 1), ["new"]);
}

#[test]
fn resume_after_the_token_of_an_invalidate_is_the_servers_error() {
    const INVALID_RESUME_TOKEN: i32 = 260;
    let (database, token) = dropped("refused");
    let buffer = Buffer::new(10);
    let watch = watch(&database).start_at(Start::ResumeAfter(token)).name("resumed");
    let _worker = watch.spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Server, "{error}");
    assert_eq!(error.server_code(), INVALID_RESUME_TOKEN, "{error}");
    assert_eq!(error.worker(), Some("resumed"), "{error}");
    assert!(!error.is_retriable(), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("cannot open the change stream") && text.contains("invalidate"),
        "{text}"
    );
}

#[test]
fn a_messages_token_is_the_id_of_its_event() {
    let (_, messages) = ten("token");
    for message in &messages {
        let expected =
            Bson::from(event(message).get_document("_id").unwrap()).into_canonical_extjson();
        assert_eq!(serde_json::from_str::<Value>(&token(message)).unwrap(), expected);
    }
}

#[test]
fn every_messages_token_is_a_place_of_its_own() {
    let (database, messages) = ten("places");
    let streams = messages.iter().map(|message| {
        let (buffer, worker) = follow(watch(&database).start_at(Start::StartAfter(token(message))));
        (buffer, worker)
    });
    let streams: Vec<_> = streams.collect();
    insert(&database, "c", 10);
    let firsts: Vec<_> = streams.iter().map(|(buffer, _)| json_id(&next(buffer))).collect();
    assert_eq!(firsts, (1..=10).map(Value::from).collect::<Vec<_>>());
}

#[test]
fn resume_token_is_behind_what_is_acknowledged_without_a_hole() {
    let database = ground::shared().database("acks");
    let (buffer, worker) = follow(watch(&database));
    insert_numbers(&database, 10);
    let messages = take(&buffer, 10);
    for number in [6, 2, 0, 4, 1] {
        messages[number].ack();
    }
    let position = worker.resume_token().unwrap();
    assert_eq!(position, token(&messages[2]));
    check_rest(&database, Start::StartAfter(position), 3);
}

#[test]
fn resume_token_does_not_move_without_an_ack() {
    let database = ground::shared().database("unacked");
    // Replies without an event come at once, and must not move it either.
    let (buffer, worker) = follow(watch(&database).await_time(Duration::from_millis(1)));
    insert_numbers(&database, 10);
    let messages = take(&buffer, 10);
    let (busy, _busy) = follow(watch_database(&database));
    insert(&database, "busy", 1);
    next(&busy);
    let position = worker.resume_token().unwrap();
    assert!(time_of(&position) < cluster_time(&messages[0]));
    check_rest(&database, Start::StartAfter(position), 0);
}

#[test]
fn resume_token_after_the_last_ack_is_behind_everything() {
    let database = ground::shared().database("acked");
    let (buffer, worker) = follow(watch(&database));
    insert_numbers(&database, 10);
    take(&buffer, 10).iter().for_each(Message::ack);
    check_rest(&database, Start::StartAfter(worker.resume_token().unwrap()), 10);
}

#[test]
fn resume_token_of_an_idle_stream_keeps_up_with_the_server() {
    let database = ground::shared().database("idle");
    let (_buffer, worker) = follow(watch(&database).await_time(Duration::from_millis(50)));
    let (busy, _busy) = follow(watch_database(&database));
    insert(&database, "busy", 1);
    let elsewhere = cluster_time(&next(&busy));
    ground::wait_until(DEADLINE, "the token passes what happened elsewhere", || {
        time_of(&worker.resume_token().expect("a token")) >= elsewhere
    });
    insert(&database, "c", 2);
    let start = Start::StartAfter(worker.resume_token().unwrap());
    let (buffer, _worker) = follow(watch(&database).start_at(start));
    assert_eq!(ids(&buffer, 1), [2]);
}

/// The URI of the shared set with this path.
fn with_path(path: &str) -> String {
    let (hosts, options) = ground::shared().uri().split_once("/?").unwrap();
    format!("{hosts}/{path}?{options}")
}

#[test]
fn the_database_in_the_path_of_the_uri_is_watched() {
    let (own, other) = (ground::shared().database("own"), ground::shared().database("other"));
    let (buffer, worker) = follow(Worker::watch(with_path(&own)));
    assert_eq!(worker.name(), own);
    insert(&other, "c", 1);
    insert(&own, "c", 2);
    assert_eq!(ids(&buffer, 1), [2]);

    let (buffer, worker) = follow(Worker::watch(with_path(&own)).collection("d"));
    assert_eq!(worker.name(), format!("{own}.d"));
    insert(&own, "c", 3);
    insert(&own, "d", 4);
    assert_eq!(ids(&buffer, 1), [4]);

    // One that is given goes before it; that of the users is none; and namespaces have their own.
    let (buffer, worker) = follow(Worker::watch(with_path(&own)).database(&other));
    assert_eq!(worker.name(), other);
    insert(&other, "c", 5);
    assert_eq!(ids(&buffer, 1), [5]);
    let (_buffer, worker) = follow(Worker::watch(with_path("admin")));
    assert_eq!(worker.name(), "*");
    let watch = Worker::watch(with_path(&own)).namespaces([format!("{other}.c")]);
    let (buffer, _worker) = follow(watch);
    insert(&own, "c", 6);
    insert(&other, "c", 7);
    assert_eq!(ids(&buffer, 1), [7]);
}

#[test]
fn names_that_servers_take_are_taken() {
    let database = ground::shared().database("names");
    for name in ["trail.", "a..b", "sp ace", "a/b", "*", "\u{fc}n\u{ef}"] {
        let (buffer, _worker) = follow(watch_collection(&database, name));
        insert(&database, name, 1);
        assert_eq!(ids(&buffer, 1), [1], "{name}");
    }
    let (buffer, _worker) = follow(watch_database(&database).namespaces(["trail."]));
    insert(&database, "trail.", 2);
    assert_eq!(ids(&buffer, 1), [2]);
}
