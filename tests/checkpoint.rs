//! A restart goes on exactly behind what was acknowledged, whatever the checkpoint lies in.

mod support;

use std::any::Any;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ground::ReplicaSet;
use ground::mongodb::bson::{Document, doc};
use mongostream::{
    Buffer, CheckpointStore, CollectionCheckpoint, ErrorKind, FileCheckpoint, Message, Start,
    StoreError, Waited, Watch, Worker, WorkerState,
};

use support::{
    DEADLINE, collection, failure, follow, id, take, wait_for_len, wait_for_state,
    watch_collection, watch_database,
};

/// A directory that is removed in the end.
struct Directory(PathBuf);

impl Directory {
    fn new() -> Self {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "mongostream-checkpoint-{}-{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("orders.token")
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A collection `orders` in a database of its own.
struct Shop {
    set: &'static ReplicaSet,
    database: String,
}

impl Shop {
    fn new(label: &str) -> Self {
        let set = ground::shared();
        Self { set, database: set.database(label) }
    }

    fn watch(&self) -> Watch {
        watch_collection(&self.database, "orders")
    }

    fn insert(&self, ids: std::ops::Range<i32>) {
        let orders = collection(&self.database, "orders");
        orders.insert_many(ids.map(|id| doc! { "_id": id })).run().unwrap();
    }
}

fn ids(messages: &[Message]) -> Vec<i32> {
    messages.iter().map(id).collect()
}

/// Runs a worker twice; the first consumer acknowledges 6 of 10, out of order.
fn restarts_behind_what_was_acked(shop: &Shop, watch: impl Fn() -> Watch) {
    let (buffer, worker) = follow(watch());
    shop.insert(0..10);
    let messages = take(&buffer, 10);
    for index in [1, 0, 2, 4, 3, 8] {
        messages[index].ack();
    }
    worker.stop();
    worker.join().unwrap();
    drop(worker);
    shop.insert(10..12);

    let (buffer, worker) = follow(watch());
    assert_eq!(ids(&take(&buffer, 7)), [5, 6, 7, 8, 9, 10, 11]);
    worker.stop();
    worker.join().unwrap();
}

#[test]
fn a_restart_goes_on_behind_what_was_acked_from_a_file() {
    let (shop, directory) = (Shop::new("file"), Directory::new());
    restarts_behind_what_was_acked(&shop, || {
        shop.watch().checkpoint(FileCheckpoint::new(directory.file()))
    });
}

#[test]
fn a_restart_goes_on_behind_what_was_acked_from_a_collection() {
    let shop = Shop::new("collection");
    let place = format!("{}.checkpoints", shop.database);
    restarts_behind_what_was_acked(&shop, || {
        let store = CollectionCheckpoint::new(shop.set.uri(), &place).unwrap();
        shop.watch().checkpoint(store)
    });
}

#[test]
fn a_restart_goes_on_behind_what_was_acked_by_options() {
    let (shop, directory) = (Shop::new("options"), Directory::new());
    restarts_behind_what_was_acked(&shop, || {
        let file = directory.file();
        shop.watch().option("checkpoint_file", file.to_str().unwrap())
    });
    let place = format!("{}_other.checkpoints", shop.database);
    let shop = Shop::new("options");
    restarts_behind_what_was_acked(&shop, || {
        shop.watch()
            .option("checkpoint_collection", &place)
            .option("checkpoint_uri", &shop.set.uri_with("appName=checkpoints"))
            .option("checkpoint_name", "orders")
    });
}

#[test]
fn the_opening_token_is_saved_before_the_worker_is_ready() {
    let (shop, directory) = (Shop::new("opening"), Directory::new());
    let watch = || shop.watch().checkpoint(FileCheckpoint::new(directory.file()));
    let (_buffer, worker) = follow(watch().checkpoint_interval(Duration::from_secs(3600)));
    // What a crash right now would leave.
    let crashed = Directory::new();
    std::fs::copy(directory.file(), crashed.file()).unwrap();
    shop.insert(0..3);
    drop(worker);
    let (buffer, _worker) = follow(shop.watch().checkpoint(FileCheckpoint::new(crashed.file())));
    assert_eq!(ids(&take(&buffer, 3)), [0, 1, 2]);
}

#[test]
fn acks_made_after_close_and_before_join_are_saved() {
    let (shop, directory) = (Shop::new("late"), Directory::new());
    let watch = || shop.watch().checkpoint(FileCheckpoint::new(directory.file()));
    let (buffer, worker) = follow(watch().checkpoint_interval(Duration::from_secs(3600)));
    shop.insert(0..4);
    wait_for_len(&buffer, 4);
    buffer.close();
    let messages: Vec<Message> = buffer.iter().map(Result::unwrap).collect();
    worker.join_timeout(DEADLINE).unwrap();
    messages[..3].iter().for_each(Message::ack);
    worker.join().unwrap();
    drop(worker);
    let (buffer, _worker) = follow(watch());
    assert_eq!(ids(&take(&buffer, 1)), [3]);
}

#[test]
fn a_running_worker_saves_by_itself() {
    let (shop, directory) = (Shop::new("running"), Directory::new());
    let store = FileCheckpoint::new(directory.file());
    let watch = shop.watch().checkpoint(store).checkpoint_interval(Duration::from_millis(20));
    let (buffer, worker) = follow(watch);
    shop.insert(0..1);
    let messages = take(&buffer, 1);
    messages[0].ack();
    let token = worker.resume_token().unwrap();
    ground::wait_until(DEADLINE, "the token is saved", || {
        std::fs::read_to_string(directory.file()).unwrap().contains(&token)
    });
}

#[test]
fn the_checkpoint_of_a_quiet_stream_keeps_up_with_the_oplog() {
    let (shop, directory) = (Shop::new("quiet"), Directory::new());
    let watch = shop
        .watch()
        .checkpoint(FileCheckpoint::new(directory.file()))
        .checkpoint_interval(Duration::from_millis(20))
        .await_time(Duration::from_millis(50));
    let (_buffer, _worker) = follow(watch);
    let first = std::fs::read_to_string(directory.file()).unwrap();
    let busy = collection(&shop.database, "busy");
    ground::wait_until(DEADLINE, "the checkpoint moves", || {
        busy.insert_one(doc! {}).run().unwrap();
        std::fs::read_to_string(directory.file()).unwrap() != first
    });
}

#[test]
fn a_saved_checkpoint_goes_before_every_start_option() {
    let (shop, directory) = (Shop::new("start"), Directory::new());
    let watch = || shop.watch().checkpoint(FileCheckpoint::new(directory.file()));
    let (buffer, worker) = follow(watch());
    shop.insert(0..3);
    let messages = take(&buffer, 3);
    messages[..2].iter().for_each(Message::ack);
    let first = messages[0].resume_token().unwrap().to_owned();
    worker.stop();
    worker.join().unwrap();
    drop(worker);
    let (buffer, _worker) = follow(watch().start_at(Start::StartAfter(first)));
    assert_eq!(ids(&take(&buffer, 1)), [2]);
}

#[test]
fn a_file_that_is_not_this_streams_checkpoint_is_refused_and_kept() {
    let (shop, directory) = (Shop::new("foreign"), Directory::new());
    let file = directory.file();
    let (_buffer, worker) = follow(shop.watch().checkpoint(FileCheckpoint::new(&file)));
    worker.stop();
    worker.join().unwrap();
    drop(worker);
    let good = std::fs::read_to_string(&file).unwrap();
    let pipeline = [doc! { "$match": { "operationType": "insert" } }];
    let other = || watch_collection(&shop.database, "customers");
    for (what, text, watch) in [
        ("is no checkpoint", "", shop.watch()),
        ("is no checkpoint", &good[..good.len() / 2], shop.watch()),
        ("is no checkpoint of mongostream", "{}\n", shop.watch()),
        ("is no checkpoint", "PATH=/usr/bin\n", shop.watch()),
        ("version 2", &good.replace("_checkpoint\":1", "_checkpoint\":2"), shop.watch()),
        ("its pipeline is", &good, shop.watch().pipeline(pipeline)),
        ("its name is", &good, shop.watch().checkpoint_name("another")),
        ("its watch is", &good, other().checkpoint_name(&format!("{}.orders", shop.database))),
    ] {
        std::fs::write(&file, text).unwrap();
        let buffer = Buffer::new(10);
        let worker = watch.checkpoint(FileCheckpoint::new(&file)).spawn(&buffer).unwrap();
        let error = failure(&buffer);
        assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
        assert_eq!(error.worker(), Some(worker.name()));
        assert!(error.to_string().contains(what), "no {what:?} in {error}");
        assert!(error.to_string().contains(file.to_str().unwrap()), "{error}");
        worker.join().unwrap_err();
        drop(worker);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), text, "{what}");
    }
}

#[test]
fn a_checkpoint_in_use_is_refused_and_free_again_after_join_and_drop() {
    let (shop, directory) = (Shop::new("twice"), Directory::new());
    let place = format!("{}.checkpoints", shop.database);
    let in_file = || shop.watch().checkpoint(FileCheckpoint::new(directory.file()));
    let in_collection =
        || shop.watch().checkpoint(CollectionCheckpoint::new(shop.set.uri(), &place).unwrap());
    let ways: [&dyn Fn() -> Watch; 2] = [&in_file, &in_collection];
    for watch in ways {
        for _ in 0..5 {
            let (buffer, worker) = follow(watch());
            let error = watch().spawn(&buffer).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
            assert!(error.to_string().contains("another worker"), "{error}");
            assert!(error.is_retriable());
            worker.stop();
            worker.join().unwrap();
        }
    }
}

#[test]
fn the_checkpoint_collection_is_not_in_the_stream() {
    let shop = Shop::new("own");
    let place = format!("{}.checkpoints", shop.database);
    let database = watch_database(&shop.database);
    let (buffer, _worker) = follow(
        database
            .option("checkpoint_collection", &place)
            .checkpoint_interval(Duration::from_millis(10)),
    );
    for number in 0..5 {
        shop.insert(number..number + 1);
        let messages = take(&buffer, 1);
        assert_eq!(messages[0].namespace(), format!("{}.orders", shop.database));
        messages[0].ack();
        let saves = collection(&shop.database, "checkpoints");
        let token = messages[0].resume_token().unwrap().to_owned();
        ground::wait_until(DEADLINE, "it is saved", || {
            let saved = saves.find_one(doc! {}).run().unwrap().unwrap();
            saved.get_str("checkpoint").unwrap().contains(&token)
                || saved.get_str("checkpoint").unwrap() > token.as_str()
        });
    }
    assert!(buffer.is_empty());
    let itself = shop.watch().option("checkpoint_collection", &format!("{}.orders", shop.database));
    assert_eq!(itself.spawn(&buffer).unwrap_err().kind(), ErrorKind::Argument);
}

/// Keeps texts in memory, and fails, waits or panics when it is told to.
///
/// The failures of its first loads are passing ones.
#[derive(Clone, Default)]
struct Memory {
    texts: Arc<Mutex<HashMap<String, String>>>,
    fails: Arc<AtomicBool>,
    panics: Arc<AtomicBool>,
    slow: Arc<AtomicBool>,
    saving: Arc<AtomicBool>,
    fails_to_load: Arc<AtomicUsize>,
}

impl CheckpointStore for Memory {
    fn place(&self) -> String {
        "memory".to_owned()
    }

    fn claim(&self, _name: &str) -> Result<Box<dyn Any + Send>, StoreError> {
        Ok(Box::new(()))
    }

    fn load(&self, name: &str) -> Result<Option<String>, StoreError> {
        let left = self.fails_to_load.load(Ordering::Relaxed);
        if left > 0 {
            self.fails_to_load.store(left - 1, Ordering::Relaxed);
            return Err(StoreError::retriable("not reached"));
        }
        Ok(self.texts.lock().unwrap().get(name).cloned())
    }

    fn save(&self, name: &str, text: &str) -> Result<(), StoreError> {
        assert!(!self.panics.load(Ordering::Relaxed), "told to");
        if self.fails.load(Ordering::Relaxed) {
            return Err("no room".into());
        }
        self.saving.store(true, Ordering::Relaxed);
        let end = Instant::now() + DEADLINE;
        while self.slow.load(Ordering::Relaxed) && Instant::now() < end {
            std::thread::yield_now();
        }
        self.texts.lock().unwrap().insert(name.to_owned(), text.to_owned());
        Ok(())
    }
}

#[test]
fn a_restart_goes_on_behind_what_was_acked_from_a_store_of_ones_own() {
    let (shop, store) = (Shop::new("memory"), Memory::default());
    restarts_behind_what_was_acked(&shop, || shop.watch().checkpoint(store.clone()));
}

#[test]
fn failed_saves_keep_the_stream_going_and_show_at_join() {
    let (shop, store) = (Shop::new("failing"), Memory::default());
    let interval = Duration::from_millis(5);
    let watch = || shop.watch().checkpoint(store.clone()).checkpoint_interval(interval);
    for trouble in [&store.fails, &store.panics] {
        let (buffer, worker) = follow(watch());
        trouble.store(true, Ordering::Relaxed);
        shop.insert(0..5);
        take(&buffer, 5).iter().for_each(Message::ack);
        worker.stop();
        let error = worker.join().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Checkpoint);
        assert!(error.to_string().contains("memory"), "{error}");
        trouble.store(false, Ordering::Relaxed);
        worker.join().unwrap();
        let orders = collection(&shop.database, "orders");
        orders.delete_many(doc! {}).run().unwrap();
        drop(worker);
        store.texts.lock().unwrap().clear();
    }
}

#[test]
fn a_first_save_that_fails_ends_the_worker_before_it_is_ready() {
    let (shop, store) = (Shop::new("first"), Memory::default());
    store.fails.store(true, Ordering::Relaxed);
    let buffer = Buffer::new(10);
    let worker = shop.watch().checkpoint(store).spawn(&buffer).unwrap();
    let error = worker.wait_ready().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
    assert!(error.to_string().contains("no room"), "{error}");
    assert_eq!(buffer.recv().unwrap_err().kind(), ErrorKind::Checkpoint);
}

#[test]
fn a_worker_that_was_stopped_during_its_first_save_was_never_ready() {
    let (shop, store) = (Shop::new("unready"), Memory::default());
    store.slow.store(true, Ordering::Relaxed);
    let buffer = Buffer::new(10);
    let worker = shop.watch().checkpoint(store.clone()).spawn(&buffer).unwrap();
    ground::wait_until(DEADLINE, "it saves", || store.saving.load(Ordering::Relaxed));
    worker.stop();
    assert_eq!(worker.wait_ready_timeout(DEADLINE).unwrap(), Waited::Stopped);
    store.slow.store(false, Ordering::Relaxed);
}

#[test]
fn a_directory_that_vanishes_is_reported_and_loses_nothing() {
    let (shop, directory) = (Shop::new("vanished"), Directory::new());
    let (buffer, worker) = follow(shop.watch().checkpoint(FileCheckpoint::new(directory.file())));
    std::fs::remove_dir_all(&directory.0).unwrap();
    shop.insert(0..5);
    take(&buffer, 5).iter().for_each(Message::ack);
    worker.stop();
    let error = worker.join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
    assert!(error.to_string().contains(directory.file().to_str().unwrap()), "{error}");
    std::fs::create_dir_all(&directory.0).unwrap();
    worker.join().unwrap();
    assert!(directory.file().exists());
}

#[test]
fn a_missing_directory_is_refused_at_the_start() {
    let shop = Shop::new("missing");
    let path = Path::new("/nonexistent/directory/orders.token");
    let buffer = Buffer::new(10);
    let error = shop.watch().checkpoint(FileCheckpoint::new(path)).spawn(&buffer).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/directory"), "{error}");
    // It is not in use: to wait would not help.
    assert_eq!((error.kind(), error.is_retriable()), (ErrorKind::Checkpoint, false), "{error}");
}

#[test]
fn a_slow_store_delays_neither_the_stream_nor_stop() {
    let (shop, store) = (Shop::new("slow"), Memory::default());
    let watch =
        shop.watch().checkpoint(store.clone()).checkpoint_interval(Duration::from_millis(1));
    let (buffer, worker) = follow(watch);
    store.slow.store(true, Ordering::Relaxed);
    for number in 0..5 {
        shop.insert(number..number + 1);
        take(&buffer, 1)[0].ack();
    }
    let began = Instant::now();
    buffer.close();
    assert!(buffer.recv().unwrap().is_none());
    drop(worker);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    store.slow.store(false, Ordering::Relaxed);
    ground::wait_until(DEADLINE, "the last position is saved all the same", || {
        !store.texts.lock().unwrap().is_empty()
    });
}

#[test]
fn join_does_not_wait_for_ever_for_a_save() {
    let (shop, store) = (Shop::new("stuck"), Memory::default());
    let (buffer, worker) = follow(shop.watch().checkpoint(store.clone()));
    store.slow.store(true, Ordering::Relaxed);
    shop.insert(0..1);
    take(&buffer, 1)[0].ack();
    worker.stop();
    let began = Instant::now();
    let error = worker.join_timeout(DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
    assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
    store.slow.store(false, Ordering::Relaxed);
    assert_eq!(worker.join_timeout(DEADLINE).unwrap(), Waited::Done);
}

#[test]
fn a_stream_that_ran_before_waits_for_its_server() {
    let set = ReplicaSet::start().unwrap();
    let directory = Directory::new();
    let uri = set.uri_with("serverSelectionTimeoutMS=300&w=majority&journal=true");
    let watch = || {
        let store = FileCheckpoint::new(directory.file());
        Worker::watch(&uri).database("shop").collection("orders").checkpoint(store)
    };
    let (_buffer, worker) = follow(watch());
    worker.stop();
    worker.join().unwrap();
    drop(worker);
    let client = ground::mongodb::sync::Client::with_uri_str(&uri).unwrap();
    let orders = client.database("shop").collection::<Document>("orders");
    orders.insert_one(doc! { "_id": 7 }).run().unwrap();

    set.member(0).kill().unwrap();
    let buffer = Buffer::new(10);
    let worker = watch().spawn(&buffer).unwrap();
    // Well beyond the time after which a new stream gives up.
    assert_eq!(worker.wait_ready_timeout(Duration::from_millis(1500)).unwrap(), Waited::Timeout);
    set.member(0).restart().unwrap();
    assert_eq!(ids(&take(&buffer, 1)), [7]);
}

#[test]
fn a_collection_that_is_away_for_a_moment_at_the_start_is_waited_for() {
    let set = ReplicaSet::start().unwrap();
    let orders = set.client().database("shop").collection::<Document>("orders");
    let watch = || {
        Worker::watch(set.uri())
            .database("shop")
            .collection("orders")
            .option("checkpoint_collection", "state.checkpoints")
    };
    let (buffer, worker) = follow(watch());
    orders.insert_one(doc! { "_id": 0 }).run().unwrap();
    take(&buffer, 1)[0].ack();
    buffer.close();
    worker.join().unwrap();
    drop(worker);

    let point = set
        .fail_point(doc! {
            "configureFailPoint": "failCommand",
            // The driver itself tries each twice, and so do we where another worker may have been faster.
            "mode": { "times": 5 },
            "data": { "failCommands": ["findAndModify"], "closeConnection": true },
        })
        .unwrap();
    orders.insert_one(doc! { "_id": 1 }).run().unwrap();
    let (buffer, _worker) = follow(watch());
    point.wait_for_hits(5, DEADLINE).unwrap();
    assert_eq!(ids(&take(&buffer, 1)), [1]);
}

#[test]
fn the_beginning_of_a_stream_is_saved_when_the_collection_takes_it() {
    let set = ReplicaSet::start().unwrap();
    let watch = |patience| {
        Worker::watch(set.uri_with(&format!("serverSelectionTimeoutMS={patience}")))
            .database("shop")
            .collection("orders")
            .option("checkpoint_collection", "state.checkpoints")
    };
    let fail = |mode| {
        let point = doc! {
            "configureFailPoint": "failCommand",
            "mode": mode,
            "data": { "failCommands": ["update"], "closeConnection": true },
        };
        set.fail_point(point).unwrap()
    };
    // The driver itself tries each twice.
    let point = fail(doc! { "times": 1_000_000 });
    let buffer = Buffer::new(10);
    let worker = watch(30_000).spawn(&buffer).unwrap();
    point.wait_for_hits(3, DEADLINE).unwrap();
    // The cursor is open already, and reads ahead.
    let orders = set.client().database("shop").collection::<Document>("orders");
    orders.insert_many((0..5).map(|id| doc! { "_id": id })).run().unwrap();
    drop(point);
    assert_eq!(worker.wait_ready_timeout(DEADLINE).unwrap(), Waited::Done);
    assert_eq!(ids(&take(&buffer, 5)), [0, 1, 2, 3, 4]);
    drop((buffer, worker));

    // For ever it is not waited for.
    let _point = fail(doc! { "times": 1_000_000 });
    let buffer = Buffer::new(1);
    let worker = watch(1_000).checkpoint_name("other").spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
    assert_eq!(worker.join().unwrap_err().kind(), ErrorKind::Checkpoint);
}

#[test]
fn a_worker_of_another_process_takes_a_checkpoint_in_a_collection_over() {
    let shop = Shop::new("taken");
    let place = format!("{}.checkpoints", shop.database);
    // Another name of the host is what another process is: nothing here knows that it is the same.
    let watch = |host: &str| {
        Worker::watch(shop.set.uri().replace("127.0.0.1", host))
            .database(&shop.database)
            .collection("orders")
            .option("checkpoint_collection", &place)
            .checkpoint_interval(Duration::from_millis(5))
    };
    let (first, old) = follow(watch("127.0.0.1"));
    shop.insert(0..3);
    take(&first, 1)[0].ack();
    old.stop();
    old.join().unwrap();
    // It has not ended for the others: its last acks come later.
    let (second, new) = follow(watch("localhost"));
    let messages = take(&second, 2);
    assert_eq!(ids(&messages), [1, 2]);
    messages[0].ack();
    let late = take(&first, 2);
    late[0].ack();
    late[1].ack();
    let error = old.join().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint);
    assert!(error.to_string().contains("another worker has taken it over"), "{error}");
    second.close();
    new.join().unwrap();
    drop((old, new));
    let (third, _worker) = follow(watch("localhost"));
    assert_eq!(ids(&take(&third, 1)), [2]);
}

#[test]
fn neither_another_name_nor_other_namespaces_make_another_checkpoint() {
    let shop = Shop::new("named");
    let place = format!("{}_state.checkpoints", shop.database);
    let watch = |name: &str, namespaces: &[&str]| {
        watch_database(&shop.database)
            .name(name)
            .namespaces(namespaces.iter().copied())
            .option("checkpoint_collection", &place)
    };
    let (buffer, worker) = follow(watch("one", &["orders"]));
    shop.insert(0..4);
    take(&buffer, 4)[..2].iter().for_each(Message::ack);
    worker.stop();
    worker.join().unwrap();
    drop(worker);

    let (buffer, worker) = follow(watch("two", &["orders"]));
    let messages = take(&buffer, 2);
    assert_eq!(ids(&messages), [2, 3]);
    messages[0].ack();
    worker.stop();
    worker.join().unwrap();
    drop(worker);

    let buffer = Buffer::new(10);
    let worker = watch("two", &["orders", "items"]).spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
    assert!(error.to_string().contains("its namespaces is"), "{error}");
    worker.join().unwrap_err();
    drop(worker);

    let (buffer, _worker) = follow(watch("three", &["orders"]));
    assert_eq!(ids(&take(&buffer, 1)), [3]);
}

#[test]
fn a_checkpoint_that_was_dropped_with_its_database_is_written_again() {
    let shop = Shop::new("dropped");
    let place = format!("{}.checkpoints", shop.database);
    let watch = || {
        watch_database(&shop.database)
            .option("checkpoint_collection", &place)
            .checkpoint_interval(Duration::from_millis(10))
    };
    let (buffer, worker) = follow(watch());
    shop.insert(0..3);
    take(&buffer, 3).iter().for_each(Message::ack);
    let checkpoints = collection(&shop.database, "checkpoints");
    let is_there = || checkpoints.find_one(doc! {}).run().unwrap().is_some();
    ground::wait_until(DEADLINE, "it is saved", is_there);
    ground::shared().client().database(&shop.database).drop().run().unwrap();
    ground::wait_until(DEADLINE, "the drop has arrived", || {
        let message = support::next(&buffer);
        message.ack();
        message.operation() == "invalidate"
    });
    shop.insert(10..14);
    let messages = take(&buffer, 4);
    messages[..2].iter().for_each(Message::ack);
    ground::wait_until(DEADLINE, "it is written again", is_there);
    worker.stop();
    worker.join().unwrap();
    drop(worker);
    let (buffer, _worker) = follow(watch());
    assert_eq!(ids(&take(&buffer, 2)), [12, 13]);
}

#[test]
fn what_was_removed_meanwhile_is_written_again_by_join() {
    let (shop, directory) = (Shop::new("removed"), Directory::new());
    let place = format!("{}_state.checkpoints", shop.database);
    let checkpoints = collection(&format!("{}_state", shop.database), "checkpoints");
    let in_file = || shop.watch().checkpoint(FileCheckpoint::new(directory.file()));
    let in_collection = || shop.watch().option("checkpoint_collection", &place);
    let remove_file = || std::fs::remove_file(directory.file()).unwrap();
    let remove_document =
        || assert_eq!(checkpoints.delete_many(doc! {}).run().unwrap().deleted_count, 1);
    let is_file = || directory.file().exists();
    let is_document = || checkpoints.find_one(doc! {}).run().unwrap().is_some();
    type Way<'a> = (&'a dyn Fn() -> Watch, &'a dyn Fn(), &'a dyn Fn() -> bool);
    let ways: [Way; 2] =
        [(&in_file, &remove_file, &is_file), (&in_collection, &remove_document, &is_document)];
    for (watch, remove, is_there) in ways {
        // Nothing moves but by acks, and it is not the time to save what the stream itself moves.
        let watch = watch().checkpoint_interval(Duration::from_secs(3600));
        let (_buffer, worker) = follow(watch);
        assert!(is_there());
        worker.stop();
        wait_for_state(&worker, WorkerState::Stopped);
        remove();
        worker.join().unwrap();
        assert!(is_there());
    }
}

#[test]
fn a_collection_says_once_that_its_document_had_vanished() {
    let shop = Shop::new("remarked");
    let state = format!("{}_state", shop.database);
    let checkpoints = collection(&state, "checkpoints");
    let store = CollectionCheckpoint::new(shop.set.uri(), &format!("{state}.checkpoints")).unwrap();
    let remove = || assert_eq!(checkpoints.delete_many(doc! {}).run().unwrap().deleted_count, 1);
    let saved = |text| {
        store.save("orders", text).unwrap();
        store.remark("orders")
    };
    let _claim = store.claim("orders").unwrap();
    assert_eq!(store.load("orders").unwrap(), None);
    assert_eq!(saved("first"), None, "it was never there");
    assert_eq!(saved("second"), None, "it is there");
    remove();
    assert_eq!(saved("third").as_deref(), Some("it had vanished, and is written again"));
    assert_eq!(store.remark("orders"), None, "once");
    assert_eq!(saved("fourth"), None);
    assert_eq!(store.load("orders").unwrap().as_deref(), Some("fourth"));
    remove();
    assert!(saved("fifth").is_some(), "it was there when it was loaded");
}

#[test]
fn a_save_that_the_collection_refuses_says_why_and_whether_it_may_succeed_later() {
    let set = ReplicaSet::start().unwrap();
    let store = CollectionCheckpoint::new(set.uri(), "state.checkpoints").unwrap();
    let _claim = store.claim("orders").unwrap();
    store.load("orders").unwrap();
    // What `waiting for replication timed out` looks like.
    let late = doc! { "code": 64, "codeName": "WriteConcernFailed", "errmsg": "too late" };
    let point = set
        .fail_point(doc! {
            "configureFailPoint": "failCommand",
            "mode": { "times": 1 },
            "data": { "failCommands": ["update"], "writeConcernError": late },
        })
        .unwrap();
    let error = store.save("orders", "text").unwrap_err();
    assert!(error.is_retriable(), "{error}");
    assert_eq!(error.to_string(), "too late (code 64, WriteConcernFailed)");
    drop(point);
    let validator = doc! { "collMod": "checkpoints", "validator": { "never": 1 } };
    set.client().database("state").run_command(validator).run().unwrap();
    let error = store.save("orders", "text").unwrap_err();
    assert!(!error.is_retriable(), "{error}");
    assert_eq!(error.to_string(), "Document failed validation (code 121)");
}

#[test]
fn a_refused_start_leaves_the_checkpoint_free() {
    let (shop, directory) = (Shop::new("refused"), Directory::new());
    let closed = Buffer::new(1);
    closed.close();
    let file = FileCheckpoint::new(directory.file());
    let place = format!("{}_state.checkpoints", shop.database);
    let store = CollectionCheckpoint::new(shop.set.uri(), &place).unwrap();
    for _ in 0..200 {
        let error = shop.watch().checkpoint(file.clone()).spawn(&closed).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State, "{error}");
        drop(file.claim("orders").unwrap());
        let watch = shop.watch().checkpoint(store.clone()).checkpoint_name("orders");
        watch.spawn(&closed).unwrap_err();
        drop(store.claim("orders").unwrap());
    }
}

#[test]
fn join_keeps_its_limit_while_a_save_is_slow() {
    let (shop, store) = (Shop::new("limit"), Memory::default());
    let (buffer, worker) = follow(shop.watch().checkpoint(store.clone()));
    store.slow.store(true, Ordering::Relaxed);
    shop.insert(0..1);
    take(&buffer, 1)[0].ack();
    worker.stop();
    wait_for_state(&worker, WorkerState::Stopped);
    for limit in [Duration::ZERO, Duration::from_millis(100)] {
        let began = Instant::now();
        assert_eq!(worker.join_timeout(limit).unwrap(), Waited::Timeout);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    store.fails.store(true, Ordering::Relaxed);
    store.slow.store(false, Ordering::Relaxed);
    // The save that was under way succeeds; then there is nothing left that could fail.
    ground::wait_until(DEADLINE, "it is saved", || {
        worker.join_timeout(Duration::ZERO).unwrap() == Waited::Done
    });
}

#[test]
fn a_join_that_gives_up_says_how_much_is_not_saved() {
    let (shop, store) = (Shop::new("given_up"), Memory::default());
    let (buffer, worker) = follow(shop.watch().checkpoint(store.clone()));
    store.slow.store(true, Ordering::Relaxed);
    shop.insert(0..3);
    take(&buffer, 3).iter().for_each(Message::ack);
    worker.stop();
    wait_for_state(&worker, WorkerState::Stopped);
    let error = worker.join_timeout(DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
    assert!(error.is_retriable(), "{error}");
    assert!(error.to_string().contains("3 acked messages are not saved"), "{error}");
    store.slow.store(false, Ordering::Relaxed);
    assert_eq!(worker.join_timeout(DEADLINE).unwrap(), Waited::Done);
}

#[test]
fn a_join_that_does_not_wait_tells_of_a_failed_save() {
    let (shop, store) = (Shop::new("polled"), Memory::default());
    let (buffer, worker) = follow(shop.watch().checkpoint(store.clone()));
    store.fails.store(true, Ordering::Relaxed);
    shop.insert(0..1);
    take(&buffer, 1)[0].ack();
    worker.stop();
    wait_for_state(&worker, WorkerState::Stopped);
    let error = ground::eventually(DEADLINE, || worker.join_timeout(Duration::ZERO).err());
    assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
    assert!(error.to_string().contains("no room"), "{error}");
    store.fails.store(false, Ordering::Relaxed);
    assert_eq!(worker.join_timeout(DEADLINE).unwrap(), Waited::Done);
}

#[test]
fn a_passing_failure_of_ones_own_store_is_tried_again() {
    let (shop, store) = (Shop::new("passing"), Memory::default());
    let watch = || shop.watch().checkpoint(store.clone());
    let (buffer, worker) = follow(watch());
    shop.insert(0..2);
    take(&buffer, 1)[0].ack();
    worker.stop();
    worker.join().unwrap();
    drop(worker);
    store.fails_to_load.store(3, Ordering::Relaxed);
    let (buffer, _worker) = follow(watch());
    assert_eq!(store.fails_to_load.load(Ordering::Relaxed), 0);
    assert_eq!(ids(&take(&buffer, 1)), [1]);
}

#[test]
fn what_a_store_says_of_a_claim_decides_the_kind_of_the_refusal() {
    struct Refusing(fn() -> StoreError);
    impl CheckpointStore for Refusing {
        fn place(&self) -> String {
            "memory".to_owned()
        }
        fn claim(&self, _name: &str) -> Result<Box<dyn Any + Send>, StoreError> {
            Err((self.0)())
        }
        fn load(&self, _name: &str) -> Result<Option<String>, StoreError> {
            unreachable!("it is not claimed")
        }
        fn save(&self, _name: &str, _text: &str) -> Result<(), StoreError> {
            unreachable!("it is not claimed")
        }
    }
    let (shop, buffer) = (Shop::new("claims"), Buffer::new(1));
    type Way = (fn() -> StoreError, ErrorKind, bool);
    let ways: [Way; 3] = [
        (|| StoreError::in_use("by another"), ErrorKind::InUse, true),
        (|| StoreError::retriable("not reached"), ErrorKind::Checkpoint, true),
        (|| "no such place".into(), ErrorKind::Checkpoint, false),
    ];
    for (error, kind, is_retriable) in ways {
        let refusal = shop.watch().checkpoint(Refusing(error)).spawn(&buffer).unwrap_err();
        assert_eq!((refusal.kind(), refusal.is_retriable()), (kind, is_retriable), "{refusal}");
        assert!(refusal.to_string().contains(&error().to_string()), "{refusal}");
    }
}

#[test]
fn another_stream_that_is_refused_does_not_take_a_checkpoint_over() {
    let shop = Shop::new("mistaken");
    let place = format!("{}_state.checkpoints", shop.database);
    // Another name of the host is what another process is.
    let watch = |host: &str, collection: &str| {
        Worker::watch(shop.set.uri().replace("127.0.0.1", host))
            .database(&shop.database)
            .collection(collection)
            .option("checkpoint_collection", &place)
            .checkpoint_name("orders")
    };
    let (buffer, worker) = follow(watch("127.0.0.1", "orders"));
    shop.insert(0..3);
    let messages = take(&buffer, 3);
    let other = Buffer::new(1);
    let mistaken = watch("localhost", "customers").spawn(&other).unwrap();
    let error = failure(&other);
    assert!(error.to_string().contains("another stream"), "{error}");
    mistaken.join().unwrap_err();
    messages[..2].iter().for_each(Message::ack);
    worker.stop();
    worker.join().unwrap();
    drop(worker);
    let (buffer, _worker) = follow(watch("127.0.0.1", "orders"));
    assert_eq!(ids(&take(&buffer, 1)), [2]);
}

#[test]
fn a_document_that_is_no_checkpoint_is_refused_and_kept() {
    let shop = Shop::new("in_the_way");
    let name = format!("{}.orders", shop.database);
    let checkpoints = collection(&shop.database, "state");
    for strange in [doc! { "price": 5 }, doc! { "checkpoint": 5, "owner": 5 }] {
        let mut document = doc! { "_id": &name };
        document.extend(strange);
        checkpoints.replace_one(doc! { "_id": &name }, &document).upsert(true).run().unwrap();
        let buffer = Buffer::new(1);
        let place = format!("{}.state", shop.database);
        let _worker = shop.watch().option("checkpoint_collection", &place).spawn(&buffer).unwrap();
        let error = failure(&buffer);
        assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
        assert!(error.to_string().contains("is no checkpoint"), "{error}");
        assert_eq!(checkpoints.find_one(doc! {}).run().unwrap().unwrap(), document);
    }
}

#[test]
fn who_has_lost_a_checkpoint_does_not_win_it_back_when_it_is_dropped() {
    let shop = Shop::new("lost");
    let place = format!("{}_state.checkpoints", shop.database);
    let checkpoints = collection(&format!("{}_state", shop.database), "checkpoints");
    let watch = |host: &str| {
        Worker::watch(shop.set.uri().replace("127.0.0.1", host))
            .database(&shop.database)
            .collection("orders")
            .option("checkpoint_collection", &place)
            .checkpoint_interval(Duration::from_secs(3600))
    };
    let (first, old) = follow(watch("127.0.0.1"));
    let (second, new) = follow(watch("localhost"));
    shop.insert(0..3);
    take(&first, 3).iter().for_each(Message::ack);
    take(&second, 3)[0].ack();
    old.stop();
    old.join().unwrap_err();
    checkpoints.drop().run().unwrap();
    old.join().unwrap_err();
    new.stop();
    new.join().unwrap();
    drop((old, new));
    let (third, _worker) = follow(watch("localhost"));
    assert_eq!(ids(&take(&third, 2)), [1, 2]);
}

#[test]
fn a_checkpoint_in_a_collection_is_on_the_disks_of_most_members_when_it_counts() {
    let set = ReplicaSet::start().unwrap();
    // The server writes each command into its log, whole.
    set.client().database("state").run_command(doc! { "profile": 0, "slowms": -1 }).run().unwrap();
    let buffer = Buffer::new(1);
    let worker = Worker::watch(set.uri())
        .database("shop")
        .option("checkpoint_collection", "state.checkpoints")
        .spawn(&buffer)
        .unwrap();
    assert_eq!(worker.wait_ready_timeout(DEADLINE).unwrap(), Waited::Done);
    let admin = set.client().database("admin");
    for command in ["findAndModify", "update"] {
        // From 4.4 on the log has JSON in it.
        let begins =
            [format!("{command}: \"checkpoints\""), format!("\"{command}\":\"checkpoints\"")];
        let line = ground::eventually(DEADLINE, || {
            let log = admin.run_command(doc! { "getLog": "global" }).run().unwrap();
            let mut lines = log.get_array("log").unwrap().iter().filter_map(|line| line.as_str());
            lines.find(|line| begins.iter().any(|begin| line.contains(begin))).map(str::to_owned)
        });
        let plain = line.replace([' ', '"'], "");
        assert!(plain.contains("w:majority") && plain.contains("j:true"), "{line}");
    }
}
