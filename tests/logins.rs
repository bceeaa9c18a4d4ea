//! A stream that has been open outlives logins that fail: at once where the server is about to go, and for
//! a while where it refuses the user, who may be about to be made anew.

mod support;

use std::time::{Duration, Instant};

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::sync::Collection;
use ground::{FailPoint, ReplicaSet, wait_until};
use mongostream::{
    Buffer, CollectionCheckpoint, Error, ErrorKind, Received, Waited, Watch, Worker, WorkerState,
};

use support::{DEADLINE, failure, id, is_closed, next, spawn_ready, wait_for_state};

const SECRET: &str = "hunter2";
/// What the follower is called, so that fail points meet nobody else.
const FOLLOWER: &str = "follower";
/// How long the server waits for events, so how soon a fail point meets a getMore.
const AWAIT: Duration = Duration::from_millis(50);

/// A set with passwords, and a user who may do no more than a stream needs.
fn start() -> ReplicaSet {
    let set = ReplicaSet::builder().auth("root", SECRET).start().unwrap();
    create_user(&set);
    set
}

fn admin(set: &ReplicaSet, command: Document) -> Document {
    set.client().database("admin").run_command(command).run().unwrap()
}

fn roles() -> Document {
    doc! { "role": "readWriteAnyDatabase", "db": "admin" }
}

fn create_user(set: &ReplicaSet) {
    admin(set, doc! { "createUser": "follower", "pwd": SECRET, "roles": [roles()] });
}

fn drop_user(set: &ReplicaSet) {
    admin(set, doc! { "dropUser": "follower" });
}

fn uri(set: &ReplicaSet) -> String {
    set.uri_with(&format!("appName={FOLLOWER}&serverSelectionTimeoutMS=2000"))
        .replace("root:", "follower:")
}

fn watch(set: &ReplicaSet) -> Watch {
    Worker::watch(uri(set)).database("shop").collection("orders").await_time(AWAIT)
}

fn orders(set: &ReplicaSet) -> Collection<Document> {
    set.client().database("shop").collection("orders")
}

fn insert(set: &ReplicaSet, ids: impl IntoIterator<Item = i32>) {
    for id in ids {
        orders(set).insert_one(doc! { "_id": id }).run().unwrap();
    }
}

#[track_caller]
fn assert_receives(buffer: &Buffer, ids: impl IntoIterator<Item = i32>) {
    for expected in ids {
        assert_eq!(id(&next(buffer)), expected);
    }
}

fn fail_point(set: &ReplicaSet, times: i32, mut data: Document) -> FailPoint {
    if set.version() >= (4, 4, 0) {
        data.insert("appName", FOLLOWER);
    }
    let mode = doc! { "times": times };
    set.fail_point(doc! { "configureFailPoint": "failCommand", "mode": mode, "data": data })
        .unwrap()
}

/// What is sent of a login when it has not come with the greeting.
const LOGIN: [&str; 2] = ["saslStart", "saslContinue"];

/// A server that shuts down, and a connection that breaks: then the driver connects anew.
fn disconnecting() -> [Document; 3] {
    let labels = ["ResumableChangeStreamError"].as_slice();
    [
        doc! { "errorCode": 91, "errorLabels": labels },
        doc! { "errorCode": 11600, "errorLabels": labels },
        doc! { "closeConnection": true },
    ]
}

#[test]
fn a_login_that_fails_in_an_election_is_tried_again() {
    let set = start();
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch(&set), &buffer);
    for (mut how, first) in disconnecting().into_iter().zip((0..).step_by(6)) {
        insert(&set, first..first + 2);
        if set.version() < (4, 4, 0) {
            how.remove("errorLabels");
        }
        let [start, go_on] = LOGIN;
        how.insert("failCommands", [start, go_on, "getMore"].as_slice());
        // The getMore, and three logins.
        let point = fail_point(&set, 4, how);
        point.wait_for_hits(2, DEADLINE).unwrap();
        insert(&set, first + 2..first + 4);
        point.wait_for_hits(4, DEADLINE).unwrap();
        insert(&set, first + 4..first + 6);
        assert_receives(&buffer, first..first + 6);
        wait_for_state(&worker, WorkerState::Streaming);
    }
}

#[test]
fn a_server_that_shuts_down_may_say_so_without_a_label() {
    let set = start();
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch(&set), &buffer);
    for (code, id) in [(91, 0), (11600, 1)] {
        let how = doc! { "failCommands": ["getMore"], "errorCode": code };
        fail_point(&set, 1, how).wait_for_hits(1, DEADLINE).unwrap();
        insert(&set, [id]);
        assert_receives(&buffer, [id]);
        wait_for_state(&worker, WorkerState::Streaming);
    }
}

#[test]
fn the_first_login_is_tried_again_where_the_user_is_not_the_reason() {
    let set = start();
    let codes = [11600, 91, 11602, 189, 10107, 13435];
    let hows = codes.map(|code| doc! { "errorCode": code });
    for (number, mut how) in hows.into_iter().chain([doc! { "closeConnection": true }]).enumerate()
    {
        how.insert("failCommands", LOGIN.as_slice());
        let point = fail_point(&set, 2, how.clone());
        let buffer = Buffer::new(100);
        // A client of its own, which has to log in.
        let uri = format!("{}&localThresholdMS={}", uri(&set), 15 + number);
        let worker = Worker::watch(uri).database("shop").spawn(&buffer).unwrap();
        let ready = worker.wait_ready_timeout(DEADLINE);
        assert!(matches!(ready, Ok(Waited::Done)), "{how}: {ready:?}");
        point.wait_for_hits(2, DEADLINE).unwrap();
    }
}

#[test]
fn a_user_that_is_made_anew_is_waited_for() {
    let set = start();
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch(&set), &buffer);
    for first in [0, 6] {
        insert(&set, first..first + 2);
        drop_user(&set);
        wait_for_state(&worker, WorkerState::Reconnecting);
        insert(&set, first + 2..first + 4);
        // The server has refused the user, and not only the connection that was his.
        let refused = || buffer.stats().unwrap().workers[0].last_error.clone();
        wait_until(DEADLINE, "a login was refused", || {
            refused().is_some_and(|error| error.to_string().contains("Authentication failed"))
        });
        create_user(&set);
        wait_for_state(&worker, WorkerState::Streaming);
        insert(&set, first + 4..first + 6);
        assert_receives(&buffer, first..first + 6);
    }
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
}

#[test]
fn a_role_that_is_given_again_is_waited_for() {
    let set = start();
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch(&set), &buffer);
    let change = |what: &str| admin(&set, doc! { what: "follower", "roles": [roles()] });
    change("revokeRolesFromUser");
    wait_for_state(&worker, WorkerState::Reconnecting);
    insert(&set, 0..2);
    change("grantRolesToUser");
    wait_for_state(&worker, WorkerState::Streaming);
    insert(&set, 2..4);
    assert_receives(&buffer, 0..4);
}

/// How long the worker of a user that was dropped for good lives on, and with which error it ends.
fn end_of_a_dropped_user(retry_ms: &str) -> (Duration, Error) {
    let set = start();
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch(&set).option("retry_ms", retry_ms), &buffer);
    let began = Instant::now();
    drop_user(&set);
    let failed = || worker.state() == WorkerState::Failed;
    wait_until(Duration::from_secs(55), "the worker has failed", failed);
    let took = began.elapsed();
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Auth, "{error}");
    assert_eq!(error.server_code(), 18, "{error}");
    assert!(!error.is_retriable(), "{error}");
    assert!(error.to_string().contains("check the user"), "{error}");
    assert!(!format!("{error} {error:?}").contains(SECRET), "{error:?}");
    assert!(is_closed(&buffer));
    (took, error)
}

#[test]
fn a_user_that_stays_away_ends_the_worker_after_retry_ms() {
    let (took, error) = end_of_a_dropped_user("1000");
    let expected = Duration::from_secs(1)..Duration::from_secs(10);
    assert!(expected.contains(&took), "{took:?}: {error}");
}

#[test]
fn a_user_that_stays_away_ends_the_worker_also_without_retry_ms() {
    let (took, error) = end_of_a_dropped_user("-1");
    let expected = Duration::from_secs(30)..Duration::from_secs(55);
    assert!(expected.contains(&took), "{took:?}: {error}");
}

/// A worker that has run before, by its checkpoint, is treated as one that is running.
#[test]
fn a_stream_that_ran_before_waits_for_its_user() {
    let set = start();
    let watch = || {
        let store = CollectionCheckpoint::new(&uri(&set), "positions.all").unwrap();
        watch(&set).checkpoint(store)
    };
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch(), &buffer);
    insert(&set, [0]);
    next(&buffer).ack();
    worker.stop();
    worker.join_timeout(DEADLINE).unwrap();
    drop(worker);
    insert(&set, [1]);

    // The checkpoint can be read, and the stream not be opened.
    let refused = doc! { "failCommands": ["aggregate"], "errorCode": 13 };
    let point = fail_point(&set, 3, refused);
    let worker = spawn_ready(watch(), &buffer);
    point.wait_for_hits(3, DEADLINE).unwrap();
    assert_receives(&buffer, [1]);
    assert_eq!(worker.state(), WorkerState::Streaming);
}

#[test]
fn a_checkpoint_is_saved_by_a_user_that_was_made_anew() {
    let set = start();
    let buffer = Buffer::new(100);
    let store = CollectionCheckpoint::new(&uri(&set), "positions.all").unwrap();
    // The stream itself is another user's, and so has another client.
    let stream = Worker::watch(set.uri()).database("shop").await_time(AWAIT);
    let every = Duration::from_millis(20);
    let _worker = spawn_ready(stream.checkpoint(store).checkpoint_interval(every), &buffer);
    let error = || buffer.stats().unwrap().workers[0].checkpoint_error.clone();
    insert(&set, [0]);
    next(&buffer).ack();
    drop_user(&set);
    insert(&set, [1]);
    next(&buffer).ack();
    wait_until(DEADLINE, "a save fails", || error().is_some());
    create_user(&set);
    insert(&set, [2]);
    next(&buffer).ack();
    wait_until(DEADLINE, "a save succeeds", || error().is_none());
}
