//! Events that are larger than the 16 MB of one message of the server: whole where the server can split
//! them, by the option `on_oversized` where it cannot, and never in the way of the others.

mod support;

use std::sync::OnceLock;
use std::time::Duration;

use ground::ReplicaSet;
use ground::mongodb::bson::{Document, RawDocument, doc};
use ground::mongodb::sync::{Collection, Database};
use mongostream::{
    Buffer, ErrorKind, FileCheckpoint, Format, FullDocument, FullDocumentBeforeChange, Message,
    OnHistoryLost, OnOversized, Start, Watch, Worker,
};

use support::{DEADLINE, cluster_time, event, failure, follow, id, json, next, now};

const MB: usize = 1 << 20;
const AWAIT: Duration = Duration::from_millis(50);

/// A server that splits events, whatever the others are.
fn splitting() -> &'static ReplicaSet {
    static SET: OnceLock<ReplicaSet> = OnceLock::new();
    SET.get_or_init(start_splitting)
}

fn start_splitting() -> ReplicaSet {
    ReplicaSet::builder().version("6.0.27").start().unwrap()
}

/// A collection, and a stream of it.
struct Place<'a> {
    set: &'a ReplicaSet,
    database: Database,
}

impl<'a> Place<'a> {
    fn new(set: &'a ReplicaSet, label: &str) -> Self {
        Self { set, database: set.client().database(&set.database(label)) }
    }

    fn files(&self) -> Collection<Document> {
        self.database.collection("files")
    }

    fn watch(&self) -> Watch {
        Worker::watch(self.set.uri())
            .database(self.database.name())
            .collection("files")
            .await_time(AWAIT)
    }

    /// A stream whose events have the document twice: with one above 8 MB they are too large.
    fn watch_twice(&self, policy: OnOversized) -> Watch {
        let twice = doc! { "$addFields": { "copy": "$fullDocument" } };
        self.watch().pipeline([twice]).on_oversized(policy)
    }

    /// A stream whose events have the document as it is now: behind a large update of a large document
    /// they are too large.
    fn watch_lookup(&self) -> Watch {
        self.watch().full_document(FullDocument::UpdateLookup)
    }

    fn insert(&self, id: i32, size: usize) {
        let files = self.files();
        files.insert_one(doc! { "_id": id, "text": "x".repeat(size) }).run().unwrap();
    }

    fn update(&self, id: i32, update: Document) {
        self.files().update_one(doc! { "_id": id }, doc! { "$set": update }).run().unwrap();
    }
}

/// A small event, one of `of` times 13 MB (document, document before, update), and a small one.
fn place_with_images(set: &ReplicaSet) -> (Place<'_>, Watch, Start) {
    let place = Place::new(set, "images");
    let images = doc! { "enabled": true };
    let create = doc! { "create": "files", "changeStreamPreAndPostImages": images };
    place.database.run_command(create).run().unwrap();
    let watch = place
        .watch()
        .full_document(FullDocument::Required)
        .full_document_before_change(FullDocumentBeforeChange::Required);
    place.files().insert_one(doc! { "_id": 1, "text": "a".repeat(13 * MB) }).run().unwrap();
    let start = now(watch.clone());
    place.insert(0, 1);
    place.update(1, doc! { "text": "b".repeat(13 * MB) });
    place.update(0, doc! { "text": "y" });
    (place, watch, start)
}

fn keys(message: &Message) -> Vec<String> {
    let event = RawDocument::from_bytes(message.bson()).unwrap();
    event.iter().map(|element| element.unwrap().0.to_string()).collect()
}

#[track_caller]
fn assert_text(document: &RawDocument, field: &str, byte: u8) {
    let text = document.get_str(field).unwrap().as_bytes();
    assert!(text.len() == 13 * MB && text.iter().all(|found| *found == byte), "{field}");
}

#[track_caller]
fn assert_has_images(message: &Message) {
    assert_eq!((id(message), message.operation()), (1, "update"));
    let event = RawDocument::from_bytes(message.bson()).unwrap();
    assert_text(event.get_document("fullDocument").unwrap(), "text", b'b');
    assert_text(event.get_document("fullDocumentBeforeChange").unwrap(), "text", b'a');
    let update = event.get_document("updateDescription").unwrap();
    assert_text(update.get_document("updatedFields").unwrap(), "text", b'b');
}

fn token(message: &Message) -> Start {
    Start::StartAfter(message.resume_token().unwrap().to_owned())
}

/// The ids of the next messages; those of events that were left out with their operation.
#[track_caller]
fn next_ids(buffer: &Buffer, count: usize) -> Vec<(i32, String)> {
    support::take(buffer, count).iter().map(|m| (id(m), m.operation().to_owned())).collect()
}

fn inserts(ids: &[i32]) -> Vec<(i32, String)> {
    ids.iter().map(|id| (*id, "insert".to_owned())).collect()
}

// ------------------------------------------------------------------------------------ split events

#[test]
fn an_event_of_40_mb_is_one_message_where_the_server_splits_it() {
    let (_place, watch, start) = place_with_images(splitting());
    let (buffer, _worker) = follow(watch.start_at(start));
    assert_eq!(id(&next(&buffer)), 0);
    let large = next(&buffer);
    let behind = next(&buffer);
    assert_has_images(&large);
    assert!(large.bson().len() > 39 * MB);
    // Field for field in the order of an event that was never split.
    assert_eq!(id(&behind), 0);
    assert_eq!(keys(&large), keys(&behind));
    assert!(cluster_time(&large) < cluster_time(&behind));

    let shown = json(&large);
    for text in [
        &shown["FullDocument"]["text"],
        &shown["UpdateDescription"]["updatedFields"]["text"],
        &shown["FullDocumentBeforeChange"]["text"],
    ] {
        assert_eq!(text.as_str().unwrap().len(), 13 * MB);
    }
    assert!(shown.get("splitEvent").is_none());
    let stats = buffer.stats().unwrap();
    assert_eq!((stats.workers[0].received, stats.workers[0].delivered), (3, 3));
}

#[test]
fn the_json_of_a_split_event_is_whole_in_both_shapes() {
    let (_place, watch, start) = place_with_images(splitting());
    let (buffer, _worker) = follow(watch.start_at(start).format(Format::Event));
    next(&buffer);
    let large = json(&next(&buffer));
    assert_eq!(large["documentKey"]["_id"], 1);
    assert!(large.get("$malformed").is_none());
    assert_eq!(large["fullDocumentBeforeChange"]["text"].as_str().unwrap().len(), 13 * MB);
}

#[test]
fn a_cursor_that_breaks_between_fragments_delivers_the_event_once() {
    let set = start_splitting();
    let (_place, watch, start) = place_with_images(&set);
    let lost = doc! { "errorCode": 43 };
    let cut = doc! { "closeConnection": true };
    for (skip, what) in [(1, &lost), (2, &lost), (1, &cut), (2, &cut)] {
        let mut data = doc! { "failCommands": ["getMore"] };
        data.extend(what.clone());
        let fail_point = set
            .fail_point(doc! {
                "configureFailPoint": "failCommand", "mode": { "skip": skip }, "data": data,
            })
            .unwrap();
        let buffer = Buffer::new(10);
        let worker = watch.clone().start_at(start.clone()).spawn(&buffer).unwrap();
        fail_point.wait_for_hits(1, DEADLINE).unwrap();
        let first = next(&buffer);
        // Not behind a fragment.
        first.ack();
        assert_eq!(worker.resume_token().as_deref(), first.resume_token(), "{skip} {what}");
        fail_point.off().unwrap();
        assert_eq!(id(&first), 0);
        assert_has_images(&next(&buffer));
        assert_eq!(next(&buffer).operation(), "update");
        assert_eq!(buffer.stats().unwrap().workers[0].received, 3, "{skip} {what}");
    }
}

#[test]
fn replies_of_one_fragment_make_one_message() {
    let (_place, watch, start) = place_with_images(splitting());
    let (buffer, _worker) = follow(watch.start_at(start).batch_size(1));
    assert_eq!(id(&next(&buffer)), 0);
    assert_has_images(&next(&buffer));
    assert_eq!(id(&next(&buffer)), 0);
}

#[test]
fn a_restart_goes_on_around_a_split_event() {
    let (place, watch, start) = place_with_images(splitting());
    let directory = std::env::temp_dir().join(place.database.name());
    std::fs::create_dir_all(&directory).unwrap();
    let watch =
        watch.start_at(start).checkpoint(FileCheckpoint::new(directory.join("files.token")));
    for expected in [(0, "insert"), (1, "update"), (0, "update")] {
        let (buffer, worker) = follow(watch.clone());
        let message = next(&buffer);
        assert_eq!((id(&message), message.operation()), expected);
        message.ack();
        worker.stop();
        worker.join().unwrap();
    }
    let _ = std::fs::remove_dir_all(directory);
}

#[test]
fn behind_a_split_event_a_stream_may_go_on_with_another_policy() {
    let (_place, watch, start) = place_with_images(splitting());
    let (buffer, _worker) = follow(watch.clone().start_at(start));
    next(&buffer);
    let large = next(&buffer);
    for policy in [OnOversized::Fail, OnOversized::Skip] {
        // That the server refuses the token of a fragment is no lost history.
        let watch = watch.clone().on_oversized(policy).on_history_lost(OnHistoryLost::Restart);
        let (buffer, _worker) = follow(watch.start_at(token(&large)));
        let behind = next(&buffer);
        assert_eq!((id(&behind), behind.operation()), (0, "update"), "{policy:?}");
    }
}

#[test]
fn behind_a_split_event_a_stream_goes_on_when_that_is_not_large_any_more() {
    let place = Place::new(splitting(), "shrunk");
    place.insert(1, 1);
    let start = now(place.watch_lookup());
    place.update(1, doc! { "more": "y".repeat(9 * MB) });
    let (buffer, _worker) = follow(place.watch_lookup().start_at(start));
    let large = next(&buffer);
    assert!(large.bson().len() > 18 * MB);
    place.update(1, doc! { "more": "small", "number": 1 });
    let watch = place.watch_lookup().on_history_lost(OnHistoryLost::Restart);
    let (again, _worker) = follow(watch.start_at(token(&large)));
    let behind = event(&next(&again));
    let update = behind.get_document("updateDescription").unwrap();
    assert_eq!(update.get_document("updatedFields").unwrap().get_i32("number").unwrap(), 1);
}

#[test]
fn behind_an_event_that_was_left_out_a_stream_may_split_the_next() {
    let place = Place::new(splitting(), "left_out");
    let start = now(place.watch());
    for (id, size) in [(0, 9 * MB), (1, 1), (2, 9 * MB), (3, 1)] {
        place.insert(id, size);
    }
    let (buffer, _worker) = follow(place.watch_twice(OnOversized::Skip).start_at(start));
    let left_out = next(&buffer);
    assert_eq!((id(&left_out), left_out.operation()), (0, "oversized"));
    // Neither token has a place for the number of a part.
    let behind = next(&buffer);
    for (start, rest) in [(&left_out, &[1, 2, 3][..]), (&behind, &[2, 3])] {
        let watch = place.watch_twice(OnOversized::Split).on_history_lost(OnHistoryLost::Restart);
        let (buffer, _worker) = follow(watch.start_at(token(start)));
        assert_eq!(next_ids(&buffer, rest.len()), inserts(rest));
    }
}

#[test]
fn a_field_that_cannot_be_split_is_too_large() {
    let place = Place::new(splitting(), "field");
    let twice = doc! { "$addFields": { "copy": ["$fullDocument", "$fullDocument"] } };
    let (buffer, _worker) = follow(place.watch().pipeline([twice]));
    place.insert(0, 1);
    place.insert(1, 9 * MB);
    assert_eq!(id(&next(&buffer)), 0);
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Oversized, "{error}");
}

// --------------------------------------------------------------------- events that cannot be had

/// A set of its own, and a stream's start before events of which those with these ids are too large.
fn place_with_inserts<'a>(set: &'a ReplicaSet, count: i32, large: &[i32]) -> (Place<'a>, Start) {
    let place = Place::new(set, "large");
    let start = now(place.watch());
    for id in 0..count {
        place.insert(id, if large.contains(&id) { 9 * MB } else { 1 });
    }
    (place, start)
}

#[test]
fn the_worker_fails_behind_everything_before_an_event_that_is_too_large() {
    let (place, start) = place_with_inserts(ground::shared(), 4, &[2]);
    let (buffer, worker) = follow(place.watch_twice(OnOversized::Fail).start_at(start));
    assert_eq!(next_ids(&buffer, 1), inserts(&[0]));
    let last = next(&buffer);
    assert_eq!(id(&last), 1);
    let error = failure(&buffer);
    assert_eq!((error.kind(), error.server_code()), (ErrorKind::Oversized, 10334), "{error}");
    assert!(!error.is_retriable());
    for word in ["on_oversized=skip", "on_oversized=split", "6.0.9", "$project"] {
        assert!(error.to_string().contains(word), "no {word} in {error}");
    }
    drop(worker);
    // A restart does the same.
    let watch = place.watch_twice(OnOversized::Fail).start_at(token(&last));
    let buffer = Buffer::new(10);
    let worker = watch.spawn(&buffer).unwrap();
    assert_eq!(worker.wait_ready().unwrap_err().kind(), ErrorKind::Oversized);
    assert_eq!(failure(&buffer).kind(), ErrorKind::Oversized);
}

#[test]
fn what_a_server_cannot_split_is_too_large() {
    let set = ground::shared();
    if set.version() >= (6, 0, 9) {
        return;
    }
    let (place, start) = place_with_inserts(set, 2, &[1]);
    let (buffer, _worker) = follow(place.watch_twice(OnOversized::Split).start_at(start));
    assert_eq!(next_ids(&buffer, 1), inserts(&[0]));
    assert_eq!(failure(&buffer).kind(), ErrorKind::Oversized);
}

#[test]
fn a_message_stands_where_an_event_was_left_out() {
    let (place, start) = place_with_inserts(ground::shared(), 3, &[1]);
    let (buffer, worker) = follow(place.watch_twice(OnOversized::Skip).start_at(start));
    let [before, left_out, behind] = support::take(&buffer, 3).try_into().unwrap();
    assert_eq!(
        [&before, &left_out, &behind].map(|message| (id(message), message.operation())),
        [(0, "insert"), (1, "oversized"), (2, "insert")]
    );
    assert_eq!(left_out.namespace(), format!("{}.files", place.database.name()));
    let time = cluster_time(&left_out);
    assert!(cluster_time(&before) < time && time < cluster_time(&behind));
    let shown = json(&left_out);
    assert_eq!(shown["OperationType"], "oversized");
    assert_eq!(shown["OperationDescription"]["operationType"], "insert");
    assert_eq!(shown["DocumentKey"]["_id"], 1);
    assert_eq!(shown["Namespace"]["Collection"], "files");

    // It does not advise what is done already.
    let told = buffer.stats().unwrap().workers[0].last_error.clone().unwrap().to_string();
    assert!(told.contains("as on_oversized=skip says") && !told.contains("split"), "{told}");

    // It has its place in the sequence of the acknowledgements.
    before.ack();
    behind.ack();
    assert_eq!(worker.resume_token().as_deref(), before.resume_token());
    let watch = || place.watch_twice(OnOversized::Skip);
    let (again, _worker) = follow(watch().start_at(token(&before)));
    assert_eq!(next_ids(&again, 1), [(1, "oversized".to_owned())]);
    let (again, _worker) = follow(watch().start_at(token(&left_out)));
    assert_eq!(next_ids(&again, 1), inserts(&[2]));
    left_out.ack();
    assert_ne!(worker.resume_token().as_deref(), before.resume_token());
}

#[test]
fn a_new_stream_whose_first_event_is_left_out_saves_its_place_first() {
    let (place, start) = place_with_inserts(ground::shared(), 2, &[0]);
    let file = std::env::temp_dir().join(format!("{}.token", place.database.name()));
    let watch = place.watch_twice(OnOversized::Skip).start_at(start);
    let buffer = Buffer::new(10);
    let watch = watch.option("checkpoint_file", &file.to_string_lossy());
    let worker = watch.spawn(&buffer).unwrap();
    let first = support::next(&buffer);
    assert_eq!((id(&first), first.operation()), (0, "oversized"));
    assert!(file.exists(), "it is saved before the first message");
    assert!(worker.resume_token().is_some());
    worker.stop();
    worker.join_timeout(support::DEADLINE).unwrap();
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn events_around_those_left_out_come_once_and_in_order() {
    let large = [0, 2, 3, 9];
    let (place, start) = place_with_inserts(ground::shared(), 12, &large);
    for batch_size in [1, 4, 1000] {
        let watch = place.watch_twice(OnOversized::Skip).batch_size(batch_size);
        let (buffer, _worker) = follow(watch.start_at(start.clone()));
        let expected: Vec<_> = (0..12)
            .map(|id| (id, if large.contains(&id) { "oversized" } else { "insert" }.to_owned()))
            .collect();
        assert_eq!(next_ids(&buffer, 12), expected, "replies of {batch_size}");
    }
}

#[test]
fn the_other_events_of_a_transaction_are_not_left_out() {
    let set = ground::shared();
    let place = Place::new(set, "transaction");
    place.database.create_collection("files").run().unwrap();
    let (buffer, _worker) = follow(place.watch_twice(OnOversized::Skip));
    support::transaction(|session| {
        for (id, size) in [(0, 1), (1, 9 * MB), (2, 1)] {
            let document = doc! { "_id": id, "text": "x".repeat(size) };
            place.files().insert_one(document).session(&mut *session).run()?;
        }
        Ok(())
    });
    let messages = support::take(&buffer, 3);
    let found: Vec<_> = messages.iter().map(|m| (id(m), m.operation())).collect();
    assert_eq!(found, [(0, "insert"), (1, "oversized"), (2, "insert")]);
    assert_eq!(cluster_time(&messages[0]), cluster_time(&messages[2]));
}

#[test]
fn an_event_that_is_not_too_large_any_more_comes_as_it_is() {
    let set = ReplicaSet::start().unwrap();
    let place = Place::new(&set, "smaller");
    let (buffer, worker) = follow(place.watch().batch_size(3).on_oversized(OnOversized::Fail));
    place.insert(0, 1);
    assert_eq!(next_ids(&buffer, 1), inserts(&[0]));
    let data = doc! { "failCommands": ["getMore"], "errorCode": 10334 };
    let mode = doc! { "times": 1 };
    let fail_point = set
        .fail_point(doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data })
        .unwrap();
    fail_point.wait_for_hits(1, DEADLINE).unwrap();
    for id in 1..10 {
        place.insert(id, 1);
    }
    assert_eq!(next_ids(&buffer, 9), inserts(&(1..10).collect::<Vec<_>>()));
    assert_eq!(buffer.stats().unwrap().workers[0].received, 10);
    // One event after the other is read only as far as the failed reply could have reached.
    assert_eq!(buffer.stats().unwrap().workers[0].reconnects, 2);
    drop(worker);
}

#[test]
fn an_event_that_is_not_too_large_is_never_left_out() {
    let set = ReplicaSet::start().unwrap();
    let place = Place::new(&set, "innocent");
    // The reply with the event fails, and when the stream looks for what is too large there is nothing.
    // Replies of several events are read one by one first.
    for (batch_size, times) in [(1, 1), (3, 2)] {
        let watch = place.watch().batch_size(batch_size).on_oversized(OnOversized::Skip);
        let (buffer, _worker) = follow(watch);
        let data = doc! { "failCommands": ["getMore"], "errorCode": 10334 };
        let fail_point = set
            .fail_point(doc! {
                "configureFailPoint": "failCommand", "mode": { "times": times as i32 }, "data": data,
            })
            .unwrap();
        fail_point.wait_for_hits(1, DEADLINE).unwrap();
        let first = i32::try_from(batch_size).unwrap() * 10;
        (first..first + 5).for_each(|id| place.insert(id, 1));
        let expected = Vec::from_iter(first..first + 5);
        assert_eq!(next_ids(&buffer, 5), inserts(&expected), "replies of {batch_size}");
        fail_point.wait_for_hits(times, DEADLINE).unwrap();
    }
}

#[test]
fn an_event_that_can_be_sent_when_it_is_asked_for_alone_is_not_left_out() {
    let set = ReplicaSet::start().unwrap();
    let (place, start) = place_with_inserts(&set, 5, &[]);
    let data = doc! { "failCommands": ["getMore"], "errorCode": 10334 };
    let fail_point = set
        .fail_point(
            doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": data },
        )
        .unwrap();
    let buffer = Buffer::new(10);
    let watch = place.watch().batch_size(1).on_oversized(OnOversized::Skip).start_at(start);
    let _worker = watch.spawn(&buffer).unwrap();
    assert_eq!(next_ids(&buffer, 5), inserts(&[0, 1, 2, 3, 4]));
    fail_point.wait_for_hits(1, DEADLINE).unwrap();
}

#[test]
fn what_always_fails_is_not_looked_for_for_ever() {
    let set = ReplicaSet::start().unwrap();
    let place = Place::new(&set, "for_ever");
    let (buffer, _worker) = follow(place.watch().on_oversized(OnOversized::Skip));
    let data = doc! { "failCommands": ["getMore"], "errorCode": 10334 };
    let _fail_point = set
        .fail_point(doc! { "configureFailPoint": "failCommand", "mode": "alwaysOn", "data": data })
        .unwrap();
    assert_eq!(failure(&buffer).kind(), ErrorKind::Oversized);
}

#[test]
fn a_connection_that_breaks_while_an_event_is_left_out_costs_nothing() {
    let set = ReplicaSet::start().unwrap();
    let (place, start) = place_with_inserts(&set, 3, &[1]);
    // Each command from the first open to the read behind the event: it fails, and all behind it.
    for skip in 0..10 {
        let data = doc! { "failCommands": ["aggregate", "getMore"], "closeConnection": true };
        let fail_point = set
            .fail_point(doc! {
                "configureFailPoint": "failCommand", "mode": { "skip": skip }, "data": data,
            })
            .unwrap();
        let buffer = Buffer::new(10);
        let watch = place.watch_twice(OnOversized::Skip).start_at(start.clone());
        let _worker = watch.spawn(&buffer).unwrap();
        fail_point.wait_for_hits(1, DEADLINE).unwrap();
        fail_point.off().unwrap();
        let expected = [(0, "insert"), (1, "oversized"), (2, "insert")];
        let found = next_ids(&buffer, 3);
        assert!(found.iter().map(|(id, word)| (*id, &**word)).eq(expected), "{skip}: {found:?}");
        let stats = buffer.stats().unwrap();
        assert_eq!((stats.depth, stats.workers[0].received), (0, 3), "{skip}");
    }
}
