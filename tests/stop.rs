//! Stop, close and free never wait for the server, for room, or for a consumer.

mod support;

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use ground::ReplicaSet;
use ground::mongodb::bson::{Document, doc};
use mongostream::{Buffer, Received, Waited, Worker, WorkerState};

use support::{
    DEADLINE, assert_ready, collection, next, spawn_ready, wait_for_len, watch_collection,
    watch_database,
};

/// What `stop` and `join` together may take; the median of some tries, because the machine may be
/// busy with other tests.
const LIMIT: Duration = Duration::from_millis(50);
const TRIES: usize = 5;

/// Starts a worker `TRIES` times, brings it where it shall be, and times `stop` until `join` returns.
fn median_stop_time(mut prepare: impl FnMut() -> (Buffer, Worker)) -> Duration {
    let mut times: Vec<Duration> = (0..TRIES)
        .map(|_| {
            let (_buffer, worker) = prepare();
            let began = Instant::now();
            worker.stop();
            assert_eq!(worker.join_timeout(DEADLINE).unwrap(), Waited::Done);
            let took = began.elapsed();
            assert_eq!(worker.state(), WorkerState::Stopped);
            took
        })
        .collect();
    times.sort();
    times[TRIES / 2]
}

/// Inserts documents until told to stop.
fn keep_writing(uri: &str, database: &str) -> impl FnOnce() + use<> {
    let (stop, stopped) = mpsc::channel::<()>();
    let client = ground::mongodb::sync::Client::with_uri_str(uri).unwrap();
    let collection = client.database(database).collection::<Document>("orders");
    let writer = thread::spawn(move || {
        while let Err(mpsc::TryRecvError::Empty) = stopped.try_recv() {
            collection
                .insert_many((0..200).map(|n| doc! { "n": n, "text": "x".repeat(200) }))
                .run()
                .unwrap();
        }
    });
    move || {
        drop(stop);
        writer.join().unwrap();
    }
}

#[test]
fn an_idle_worker_stops_at_once() {
    let set = ground::shared();
    let database = set.database("idle");
    let took = median_stop_time(|| {
        let buffer = Buffer::new(10);
        // It waits in a getMore of a minute when it is stopped.
        let watch = watch_database(&database).await_time(Duration::from_secs(60));
        let worker = spawn_ready(watch, &buffer);
        (buffer, worker)
    });
    assert!(took < LIMIT, "{took:?}");
}

#[test]
fn a_worker_in_mid_stream_stops_at_once() {
    let set = ground::shared();
    let database = set.database("midstream");
    let end = keep_writing(set.uri(), &database);
    let took = median_stop_time(|| {
        let buffer = Buffer::new(100_000);
        let worker = watch_database(&database).spawn(&buffer).unwrap();
        for message in buffer.iter().take(1000) {
            message.unwrap();
        }
        (buffer, worker)
    });
    end();
    assert!(took < LIMIT, "{took:?}");
}

#[test]
fn a_worker_blocked_on_a_full_buffer_stops_at_once() {
    let set = ground::shared();
    let database = set.database("full");
    let end = keep_writing(set.uri(), &database);
    let took = median_stop_time(|| {
        let buffer = Buffer::new(10);
        let worker = watch_database(&database).spawn(&buffer).unwrap();
        wait_for_len(&buffer, 10);
        (buffer, worker)
    });
    end();
    assert!(took < LIMIT, "{took:?}");
}

#[test]
fn a_worker_of_a_frozen_server_stops_at_once() {
    let set = ground::ReplicaSet::start().unwrap();
    let took = median_stop_time(|| {
        set.member(0).resume().unwrap();
        let buffer = Buffer::new(10);
        let worker = spawn_ready(Worker::watch(set.uri()).database("shop"), &buffer);
        set.member(0).pause().unwrap();
        // One that is only now being opened meets the frozen server too.
        let late = Worker::watch(set.uri()).database("shop").spawn(&buffer).unwrap();
        late.stop();
        assert_eq!(late.join_timeout(DEADLINE).unwrap(), Waited::Done);
        (buffer, worker)
    });
    set.member(0).resume().unwrap();
    assert!(took < LIMIT, "{took:?}");
}

#[test]
fn a_worker_that_never_connected_stops_at_once() {
    // A port that was free a moment ago: nobody answers there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let took = median_stop_time(|| {
        let buffer = Buffer::new(10);
        let uri = format!("mongodb://127.0.0.1:{port}/?replicaSet=none");
        let worker = Worker::watch(uri).database("shop").spawn(&buffer).unwrap();
        assert_eq!(worker.wait_ready_timeout(Duration::from_millis(100)).unwrap(), Waited::Timeout);
        assert_eq!(worker.state(), WorkerState::Starting);
        (buffer, worker)
    });
    assert!(took < LIMIT, "{took:?}");
}

#[test]
fn stop_is_idempotent_and_says_why_it_was_never_ready() {
    let buffer = Buffer::new(1);
    let worker = Worker::watch("mongodb://127.0.0.1:1/?replicaSet=none").spawn(&buffer).unwrap();
    worker.stop();
    worker.stop();
    worker.join().unwrap();
    worker.stop();
    assert_eq!(worker.wait_ready_timeout(DEADLINE).unwrap(), Waited::Stopped);
    assert!(worker.wait_ready().unwrap_err().to_string().contains("stopped"));
    assert!(buffer.recv().unwrap().is_none(), "no worker is left, so the buffer is closed");
}

#[test]
fn what_was_queued_before_a_stop_can_still_be_received() {
    let set = ground::shared();
    let database = set.database("queued");
    let buffer = Buffer::new(100);
    let worker = spawn_ready(watch_database(&database), &buffer);
    let orders = collection(&database, "orders");
    orders.insert_many((0..7).map(|n| doc! { "_id": n })).run().unwrap();
    wait_for_len(&buffer, 7);
    worker.stop();
    worker.join().unwrap();
    assert_eq!(buffer.iter().map(Result::unwrap).count(), 7);
}

#[test]
fn close_stops_the_workers_and_wakes_every_blocked_consumer() {
    let set = ground::shared();
    let database = set.database("close");
    let buffer = Buffer::new(10);
    let workers: Vec<Worker> = (0..2)
        .map(|n| {
            let collection = format!("orders{n}");
            watch_collection(&database, &collection).spawn(&buffer).unwrap()
        })
        .collect();
    for worker in &workers {
        assert_ready(worker);
    }
    let (woken, reports) = mpsc::channel();
    thread::scope(|threads| {
        for kind in 0..6 {
            let (buffer, woken) = (buffer.clone(), woken.clone());
            threads.spawn(move || {
                let closed = match kind % 3 {
                    0 => buffer.recv().unwrap().is_none(),
                    1 => matches!(buffer.recv_timeout(DEADLINE).unwrap(), Received::Closed),
                    _ => buffer.recv_batch(7).unwrap().is_none(),
                };
                woken.send(closed).unwrap();
            });
        }
        assert!(reports.recv_timeout(Duration::from_millis(100)).is_err(), "they wait");
        buffer.close();
        for _ in 0..6 {
            assert!(reports.recv_timeout(DEADLINE).expect("a consumer was not woken"));
        }
    });
    for worker in &workers {
        assert_eq!(worker.join_timeout(DEADLINE).unwrap(), Waited::Done);
    }
}

#[test]
fn a_worker_that_waits_long_for_its_server_stops_at_once() {
    let set = ReplicaSet::start().unwrap();
    let buffer = Buffer::new(10);
    let watch = Worker::watch(set.uri()).database("shop").await_time(Duration::from_millis(10));
    let worker = spawn_ready(watch, &buffer);
    let _fail_point = set
        .fail_point(doc! {
            "configureFailPoint": "failCommand",
            "mode": "alwaysOn",
            "data": { "failCommands": ["getMore", "aggregate"], "errorCode": 91 },
        })
        .unwrap();
    // By then a wait takes four seconds or more: see the waits in `backoff.rs`.
    let attempts = || buffer.stats().unwrap().workers[0].attempts;
    ground::wait_until(DEADLINE, "many attempts", || attempts() >= 29);
    worker.stop();
    assert_eq!(worker.join_timeout(Duration::from_secs(2)).unwrap(), Waited::Done);
}

#[test]
fn dropping_every_handle_of_a_buffer_stops_its_workers() {
    let set = ground::shared();
    let database = set.database("dropped");
    let end = keep_writing(set.uri(), &database);
    let buffer = Buffer::new(10);
    let worker = watch_database(&database).spawn(&buffer).unwrap();
    wait_for_len(&buffer, 10);
    let clone = buffer.clone();
    drop(buffer);
    assert_eq!(worker.join_timeout(Duration::from_millis(50)).unwrap(), Waited::Timeout);
    drop(clone);
    assert_eq!(worker.join_timeout(DEADLINE).unwrap(), Waited::Done);
    end();
}

#[test]
fn dropping_its_handle_stops_a_worker() {
    let set = ground::shared();
    let database = set.database("handle");
    let buffer = Buffer::new(10);
    drop(spawn_ready(watch_database(&database), &buffer));
    assert!(matches!(buffer.recv_timeout(DEADLINE).unwrap(), Received::Closed));
}

#[test]
fn messages_and_workers_outlive_their_buffer() {
    let set = ground::shared();
    let database = set.database("outlive");
    let buffer = Buffer::new(10);
    let worker = spawn_ready(watch_database(&database), &buffer);
    let orders = collection(&database, "orders");
    orders.insert_one(doc! { "_id": 1 }).run().unwrap();
    let message = next(&buffer);
    drop(buffer);
    worker.join().unwrap();
    message.ack();
    // Behind it if another reply was read before the end: 4.2 answers when others write, too.
    assert!(worker.resume_token().as_deref() >= message.resume_token());
    drop(worker);
    assert!(message.json().contains("insert"));
}
