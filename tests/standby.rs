//! Of the workers with one lease one delivers. Another takes over when that one is gone, and goes on after what was
//! acked and saved.

mod support;

use std::time::{Duration, Instant};

use ground::ReplicaSet;
use ground::mongodb::bson::{DateTime, Document, doc, oid::ObjectId};
use ground::mongodb::options::UpdateModifications;
use ground::mongodb::sync::Collection;
use mongostream::{Buffer, ErrorKind, Message, Received, Waited, Watch, Worker, WorkerState};

use support::{DEADLINE, assert_ready, failure, follow, id, take, wait_for_len, wait_for_state};

const LEASE: Duration = Duration::from_millis(1500);

/// A collection that is watched, and where the lease lies.
struct Shop<'a> {
    set: &'a ReplicaSet,
    database: String,
}

impl<'a> Shop<'a> {
    fn on(set: &'a ReplicaSet, label: &str) -> Self {
        Self { set, database: set.database(label) }
    }

    /// A worker of those that share the lease.
    fn watch(&self) -> Watch {
        Worker::watch(self.set.uri())
            .database(&self.database)
            .collection("orders")
            .option("checkpoint_collection", &self.place())
            .checkpoint_interval(Duration::from_millis(50))
            .standby(true)
            .lease(LEASE)
    }

    fn place(&self) -> String {
        format!("{}_state.checkpoints", self.database)
    }

    fn insert(&self, ids: std::ops::Range<i32>) {
        let orders = self.set.client().database(&self.database).collection::<Document>("orders");
        orders.insert_many(ids.map(|id| doc! { "_id": id })).run().unwrap();
    }

    fn leases(&self) -> Collection<Document> {
        self.set.client().database(&format!("{}_state", self.database)).collection("checkpoints")
    }

    fn name(&self) -> String {
        format!("{}.orders", self.database)
    }

    fn document(&self) -> Document {
        self.leases().find_one(doc! { "_id": self.name() }).run().unwrap().unwrap()
    }

    /// Somebody else takes the lease by force, for an hour.
    fn take_by_force(&self) {
        let change = doc! { "$set": {
            "owner": ObjectId::new(),
            "holder": "elsewhere:1",
            "term": { "$add": [{ "$ifNull": ["$term", 0_i64] }, 1_i64] },
            "takenAt": "$$NOW",
            "expires": { "$add": ["$$NOW", 3_600_000_i64] },
        } };
        let change = UpdateModifications::Pipeline(vec![change]);
        self.leases().update_one(doc! { "_id": self.name() }, change).run().unwrap();
    }
}

fn ids(messages: &[Message]) -> Vec<i32> {
    messages.iter().map(id).collect()
}

fn standing_by(watch: Watch) -> (Buffer, Worker) {
    let buffer = Buffer::new(1000);
    let worker = watch.spawn(&buffer).unwrap();
    wait_for_state(&worker, WorkerState::Standby);
    (buffer, worker)
}

#[test]
fn after_an_orderly_end_the_standby_goes_on_at_once_after_what_was_acked() {
    let shop = Shop::on(ground::shared(), "standby_orderly");
    // Nobody waits here until it expires.
    let watch = || shop.watch().lease(Duration::from_secs(600));
    let (first, worker) = follow(watch());
    let (second, standby) = standing_by(watch());
    shop.insert(0..10);
    let messages = take(&first, 10);
    for message in &messages[..6] {
        message.ack();
    }
    assert_eq!(second.len(), 0, "only the holder reads");
    assert_eq!(standby.state(), WorkerState::Standby);
    first.close();
    worker.join().unwrap();
    assert_ready(&standby);
    assert_eq!(ids(&take(&second, 4)), [6, 7, 8, 9]);
    shop.insert(10..12);
    assert_eq!(ids(&take(&second, 2)), [10, 11]);
}

#[test]
fn a_lease_is_seen_in_the_document_and_in_the_statistics() {
    let shop = Shop::on(ground::shared(), "standby_stats");
    let (_first, worker) = follow(shop.watch());
    let (_second, standby) = standing_by(shop.watch());
    let document = shop.document();
    assert_eq!(document.get_i64("term").unwrap(), 1);
    let holder = document.get_str("holder").unwrap();
    assert!(holder.ends_with(&format!(":{}", std::process::id())), "{holder}");
    let since = document.get_datetime("takenAt").unwrap().timestamp_millis();
    for (worker, held) in [(&worker, true), (&standby, false)] {
        let lease = worker.stats().unwrap().lease.expect("a lease");
        assert_eq!((lease.holder.as_str(), lease.term), (holder, 1));
        assert_eq!((lease.since_unix_ms, lease.held), (since, held));
    }
    worker.stop();
    worker.join().unwrap();
    assert_ready(&standby);
    let lease = standby.stats().unwrap().lease.expect("a lease");
    assert_eq!((lease.term, lease.held), (2, true));
    let lease = worker.stats().unwrap().lease.expect("a lease");
    assert!(!lease.held);
}

#[test]
fn a_worker_that_stands_by_can_be_stopped_and_disturbs_nobody() {
    let shop = Shop::on(ground::shared(), "standby_stopped");
    let (first, _worker) = follow(shop.watch());
    let (second, standby) = standing_by(shop.watch());
    assert_eq!(standby.wait_ready_timeout(Duration::from_millis(1)).unwrap(), Waited::Timeout);
    standby.stop();
    standby.join().unwrap();
    assert_eq!(standby.state(), WorkerState::Stopped);
    assert!(support::is_closed(&second));
    shop.insert(0..2);
    assert_eq!(ids(&take(&first, 2)), [0, 1]);
    assert_eq!(shop.document().get_i64("term").unwrap(), 1);
}

#[test]
fn a_lease_that_is_not_renewed_is_taken_when_it_has_expired_and_not_before() {
    let shop = Shop::on(ground::shared(), "standby_expired");
    // A holder that has just died.
    let change = doc! { "$set": {
        "owner": ObjectId::new(), "term": 7_i64, "holder": "gone:1", "takenAt": "$$NOW",
        "expires": { "$add": ["$$NOW", 2000_i64] },
    } };
    let name = doc! { "_id": shop.name() };
    let change = UpdateModifications::Pipeline(vec![change]);
    shop.leases().update_one(name, change).upsert(true).run().unwrap();
    let expires = shop.document().get_datetime("expires").unwrap().timestamp_millis();
    let (_buffer, standby) = standing_by(shop.watch());
    assert_ready(&standby);
    let document = shop.document();
    assert!(document.get_datetime("takenAt").unwrap().timestamp_millis() >= expires);
    assert_eq!(document.get_i64("term").unwrap(), 8);
}

#[test]
fn who_has_lost_the_lease_hands_over_nothing_more_and_moves_no_checkpoint() {
    let shop = Shop::on(ground::shared(), "standby_fenced");
    let (buffer, worker) = follow(shop.watch());
    shop.insert(0..5);
    wait_for_len(&buffer, 5);
    let taken = take(&buffer, 2);
    shop.take_by_force();
    let before = shop.document();
    // It learns so when it renews the lease.
    wait_for_state(&worker, WorkerState::Failed);
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
    let text = error.to_string();
    assert!(text.contains("elsewhere:1") && text.contains("lease_ms"), "{text}");
    assert!(support::is_closed(&buffer), "what was queued is not handed over");
    for message in &taken {
        message.ack();
    }
    assert_eq!(worker.join().unwrap_err().kind(), ErrorKind::Fenced);
    drop(worker);
    assert_eq!(shop.document(), before, "the former holder has changed nothing");
}

#[test]
fn who_cannot_renew_hands_over_nothing_until_it_has() {
    let set = ReplicaSet::start().unwrap();
    let shop = Shop::on(&set, "standby_unsure");
    let watch = shop.watch().checkpoint_interval(Duration::from_secs(3600));
    let (buffer, worker) = follow(watch);
    let held = || worker.stats().unwrap().lease.is_some_and(|lease| lease.held);
    assert!(held());
    let point = set
        .fail_point(doc! {
            "configureFailPoint": "failCommand",
            "mode": "alwaysOn",
            "data": { "failCommands": ["update"], "errorCode": 11600 },
        })
        .unwrap();
    shop.insert(0..3);
    wait_for_len(&buffer, 3);
    ground::wait_until(DEADLINE, "the lease is not sure", || !held());
    assert!(matches!(buffer.try_recv(), Ok(Received::Timeout)));
    assert_eq!(buffer.len(), 3);
    drop(point);
    assert_eq!(ids(&take(&buffer, 3)), [0, 1, 2], "nobody else has taken it");
    assert_eq!(shop.document().get_i64("term").unwrap(), 1);
}

#[test]
fn a_worker_whose_lease_is_not_sure_holds_up_nobody_else() {
    let set = ReplicaSet::start().unwrap();
    let shop = Shop::on(&set, "standby_beside");
    let buffer = Buffer::new(100);
    let watch = shop.watch().checkpoint_interval(Duration::from_secs(3600));
    let leased = support::spawn_ready(watch, &buffer);
    let other = Worker::watch(set.uri()).database(&shop.database).collection("items");
    let _other = support::spawn_ready(other, &buffer);
    let point = set
        .fail_point(doc! {
            "configureFailPoint": "failCommand",
            "mode": "alwaysOn",
            "data": { "failCommands": ["update"], "errorCode": 11600 },
        })
        .unwrap();
    let held = || leased.stats().unwrap().lease.is_some_and(|lease| lease.held);
    ground::wait_until(DEADLINE, "the lease is not sure", || !held());
    shop.insert(0..3);
    wait_for_len(&buffer, 3);
    let items = set.client().database(&shop.database).collection::<Document>("items");
    items.insert_many((10..12).map(|id| doc! { "_id": id })).run().unwrap();
    assert_eq!(ids(&take(&buffer, 2)), [10, 11]);
    drop(point);
    assert_eq!(ids(&take(&buffer, 3)), [0, 1, 2]);
}

#[test]
fn a_lease_costs_the_servers_little() {
    let set = ReplicaSet::start().unwrap();
    let shop = Shop::on(&set, "standby_cost");
    let watch = || shop.watch().checkpoint_interval(Duration::from_secs(3600));
    let (_first, worker) = follow(watch());
    let (_second, _standby) = standing_by(watch());
    let writes = || {
        let oplog = set.client().database("local").collection::<Document>("oplog.rs");
        oplog.count_documents(doc! { "ns": shop.place() }).run().unwrap()
    };
    let (began, before) = (Instant::now(), writes());
    let renewals = 4;
    let enough = || writes() >= before + renewals;
    ground::wait_until(DEADLINE, "the lease is renewed", enough);
    // A renewal after each third of the lease's time, and nothing by the standby.
    let passed = began.elapsed();
    assert!(passed >= (LEASE / 3) * 3, "{renewals} writes in {passed:?}");
    drop(worker);
}

#[test]
fn a_document_that_was_dropped_is_written_again_by_its_holder() {
    let shop = Shop::on(ground::shared(), "standby_dropped");
    let (buffer, worker) = follow(shop.watch());
    shop.leases().drop().run().unwrap();
    shop.insert(0..3);
    let messages = take(&buffer, 3);
    messages.iter().for_each(Message::ack);
    worker.stop();
    worker.join().unwrap();
    let (second, _worker) = follow(shop.watch());
    shop.insert(3..4);
    assert_eq!(ids(&take(&second, 1)), [3]);
}

#[test]
fn what_is_no_checkpoint_is_left_alone() {
    let shop = Shop::on(ground::shared(), "standby_foreign");
    let foreign = doc! { "_id": shop.name(), "price": 5, "at": DateTime::from_millis(1) };
    shop.leases().insert_one(&foreign).run().unwrap();
    let buffer = Buffer::new(10);
    let _worker = shop.watch().spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert_eq!(error.kind(), ErrorKind::Checkpoint, "{error}");
    assert!(error.to_string().contains("is no checkpoint"), "{error}");
    assert_eq!(shop.document(), foreign);
}

#[test]
fn a_checkpoint_without_a_lease_is_taken_and_gets_one() {
    let shop = Shop::on(ground::shared(), "standby_before");
    let (buffer, worker) = follow(shop.watch().option("standby", "false"));
    shop.insert(0..3);
    for message in take(&buffer, 2) {
        message.ack();
    }
    buffer.close();
    worker.join().unwrap();
    let (buffer, _worker) = follow(shop.watch());
    assert_eq!(ids(&take(&buffer, 1)), [2]);
    assert_eq!(shop.document().get_i64("term").unwrap(), 1);
}

#[test]
fn a_standby_needs_a_collection_and_a_sensible_time() {
    let buffer = Buffer::new(1);
    let watch = || Worker::watch("mongodb://localhost").database("shop").collection("orders");
    let refused = |watch: Watch| watch.spawn(&buffer).map(drop).unwrap_err().to_string();
    assert!(refused(watch().standby(true).lease(LEASE)).contains("checkpoint_collection"));
    let file = watch().standby(true).lease(LEASE).option("checkpoint_file", "/tmp/token");
    assert!(refused(file).contains("checkpoint_collection"));
    for time in [999, 600_001] {
        let text = refused(watch().standby(true).lease(Duration::from_millis(time)));
        assert!(text.contains("lease_ms") && text.contains("1000 to 600000"), "{text}");
    }
}
