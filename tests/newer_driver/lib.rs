//! A program that uses a newer MongoDB driver next to mongostream: both take the same copy of it.

#![cfg(test)]

use ground::ReplicaSet;
use mongodb::sync::Client;
use mongostream::bson::doc;
use mongostream::{Buffer, FileCheckpoint, Worker};

#[test]
fn what_the_programs_driver_writes_is_received_and_the_place_is_kept() {
    let set = ReplicaSet::start().unwrap();
    let orders = Client::with_uri_str(set.uri()).unwrap().database("shop").collection("orders");
    let directory = std::env::temp_dir().join(format!("mongostream-driver-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    for first in [0, 2] {
        let buffer = Buffer::new(16);
        let worker = Worker::watch(set.uri())
            .database("shop")
            .collection("orders")
            .checkpoint(FileCheckpoint::new(directory.join("orders.token")))
            .spawn(&buffer)
            .unwrap();
        assert!(worker.wait_ready().unwrap());
        if first == 0 {
            orders.insert_many((0..4).map(|id| doc! { "_id": id })).run().unwrap();
        }
        for id in first..first + 2 {
            let message = buffer.recv().unwrap();
            let key = message.document_key().unwrap().get_i32("_id").unwrap();
            assert_eq!(key, id, "{}", message.json());
            message.ack();
        }
        buffer.close();
        worker.join().unwrap();
    }
    std::fs::remove_dir_all(&directory).unwrap();
}
