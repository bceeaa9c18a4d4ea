//! `mongostream pipe` into Kafka, with real servers.
#![cfg(all(unix, feature = "kafka"))]

mod support;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use brokers::Kafka;
use ground::mongodb::bson::doc;
use nix::sys::signal::Signal;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};
use support::stream::{Piping, Stored, assert_each_once, versions, write_versions};
use support::{DEADLINE, Directory, Shop, closed_address, run};

/// Everything that a topic holds: each partition in its order, one after the other.
fn stored(address: &str, topic: &str) -> Vec<Stored> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), DEADLINE).unwrap();
    let partitions: Vec<_> = metadata.topics()[0].partitions().iter().map(|p| p.id()).collect();
    let mut all = TopicPartitionList::new();
    let mut left = 0;
    for &partition in &partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, DEADLINE).unwrap();
        left += high - low;
        all.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    let mut stored = Vec::new();
    while left > 0 {
        let message = consumer.poll(DEADLINE).expect("a message in time").unwrap();
        left -= 1;
        let token = message.headers().and_then(|headers| {
            let header = headers.iter().find(|header| header.key == "resume-token")?;
            Some(String::from_utf8(header.value?.to_vec()).unwrap())
        });
        stored.push(Stored {
            place: format!("{}/{}", message.topic(), message.partition()),
            id: token,
            key: message.key().map(|key| String::from_utf8(key.to_vec()).unwrap()),
            json: serde_json::from_slice(message.payload().unwrap()).unwrap(),
        });
    }
    stored
}

#[track_caller]
fn end(mut piping: Piping) -> String {
    piping.running.signal(Signal::SIGTERM);
    assert_eq!(piping.running.end().code(), Some(0));
    piping.running.stderr()
}

#[test]
fn each_change_is_stored_once_with_key_and_token_and_a_restart_continues() {
    if Kafka::is_missing() {
        return;
    }
    let (kafka, shop, directory) = (Kafka::start().unwrap(), Shop::new("kafka"), Directory::new());
    let to = format!("kafka://{}/orders", kafka.address());
    let further = ["--partitions", "4", "--checkpoint_ms", "3600000"];
    for first in [0, 100] {
        let piping = Piping::start(&shop, &to, &directory, &further);
        shop.insert(first..first + 100);
        piping.wait_until_published(100);
        let told = end(piping);
        assert!(told.contains("one replica"), "{told}");
    }
    let stored = stored(kafka.address(), "orders");
    assert_eq!(stored.len(), 200);
    let mut places = HashMap::<_, Vec<_>>::new();
    for Stored { place, id, key, json } in &stored {
        assert_eq!(id.as_deref(), json["ResumeToken"]["_data"].as_str());
        let document = json["DocumentKey"]["_id"].as_i64().unwrap();
        assert_eq!(key.as_deref(), Some(document.to_string().as_str()));
        places.entry(place).or_default().push(document);
    }
    assert_eq!(places.len(), 4, "each partition has some");
    assert!(places.values().all(|documents| documents.is_sorted()), "{places:?}");
    // What producers in other languages do with the same key, see Kafka's `Utils.murmur2`.
    let of_21 = stored.iter().find(|stored| stored.document() == "21").unwrap();
    assert_eq!(of_21.place, format!("orders/{}", (-973_932_308_i32 & 0x7fff_ffff) % 4));
}

#[test]
fn a_killed_broker_loses_nothing_and_each_document_keeps_its_order() {
    if Kafka::is_missing() {
        return;
    }
    let (kafka, shop, directory) = (Kafka::start().unwrap(), Shop::new("broker"), Directory::new());
    let to = format!("kafka://{}/orders", kafka.address());
    let piping = Piping::start(&shop, &to, &directory, &["--partitions", "2"]);
    std::thread::scope(|scope| {
        scope.spawn(|| write_versions(&shop, 5, 0..600));
        piping.wait_until_published(500);
        kafka.node().kill().unwrap();
        kafka.node().restart().unwrap();
    });
    piping.wait_until_published(3000);
    end(piping);
    assert_each_once(&stored(kafka.address(), "orders"), 5, 600);
}

#[test]
fn a_killed_pipe_repeats_what_was_not_saved_and_loses_nothing() {
    if Kafka::is_missing() {
        return;
    }
    let (kafka, shop, directory) = (Kafka::start().unwrap(), Shop::new("killed"), Directory::new());
    let to = format!("kafka://{}/orders", kafka.address());
    let first = Piping::start(&shop, &to, &directory, &["--checkpoint_ms", "50"]);
    let (documents, count) = (5, 300);
    std::thread::scope(|scope| {
        scope.spawn(|| write_versions(&shop, documents, 0..count));
        first.wait_until_published(700);
        first.running.signal(Signal::SIGKILL);
    });
    drop(first);
    let second = Piping::start(&shop, &to, &directory, &[]);
    let stored_all = || {
        let stored = stored(kafka.address(), "orders");
        let ids: HashSet<_> = stored.iter().filter_map(|stored| stored.id.clone()).collect();
        (ids.len() == 1500).then_some(stored)
    };
    let stored = ground::eventually(DEADLINE, stored_all);
    end(second);
    assert!(stored.len() < 1500 + 700, "{} repeats", stored.len() - 1500);
    // Without what came again everything is in order.
    let mut seen = HashSet::new();
    let first_of_each: Vec<_> =
        stored.into_iter().filter(|stored| seen.insert(stored.id.clone())).collect();
    assert_each_once(&first_of_each, 5, count);
}

#[test]
fn a_topic_for_each_collection_is_made_when_it_is_needed() {
    if Kafka::is_missing() {
        return;
    }
    let kafka = Kafka::builder().auto_create_topics(false).start().unwrap();
    let (shop, directory) = (Shop::new("topics"), Directory::new());
    let database = ground::shared().client().database(&shop.database);
    let to = format!("kafka://{}/x.{{collection}}.{{partition}}", kafka.address());
    let namespace = shop.database.clone();
    let metrics = "127.0.0.1:0";
    let mut running = support::Running::start({
        let mut command = support::program(["pipe", shop.uri(), &namespace, "--to", &to]);
        command.args(["--partitions", "2", "--count", "60", "--metrics", metrics]);
        command.args(["--checkpoint_file", &directory.file("token"), "--start_after", &shop.now()]);
        command
    });
    for id in 0..30 {
        for collection in ["orders", "größe"] {
            database
                .collection(collection)
                .insert_one(doc! { "_id": id, "version": 0 })
                .run()
                .unwrap();
        }
    }
    assert_eq!(running.end().code(), Some(0), "{}", running.stderr());
    for collection in ["orders", "gr__e"] {
        let both: Vec<_> = (0..2)
            .flat_map(|partition| stored(kafka.address(), &format!("x.{collection}.{partition}")))
            .collect();
        assert_eq!(versions(&both).len(), 30, "{collection}");
    }
}

#[test]
fn a_topic_that_cannot_be_made_yet_is_made_later() {
    if Kafka::is_missing() {
        return;
    }
    let (kafka, shop, directory) = (Kafka::start().unwrap(), Shop::new("later"), Directory::new());
    let to = format!("kafka://{}/x.{{collection}}", kafka.address());
    let mut piping = Piping::start(&shop, &to, &directory, &["--partitions", "2"]);
    kafka.node().pause().unwrap();
    shop.insert(0..10);
    ground::wait_until(DEADLINE, "the topic could not be made in time", || {
        piping.assert_runs();
        piping.figure("mongostream_pipe_retries_total") >= Some(1)
    });
    kafka.node().resume().unwrap();
    piping.wait_until_published(10);
    end(piping);
}

#[test]
fn a_frozen_broker_holds_the_stream_back_and_the_end_does_not_wait_for_ever() {
    if Kafka::is_missing() {
        return;
    }
    let (kafka, shop, directory) = (Kafka::start().unwrap(), Shop::new("frozen"), Directory::new());
    let to = format!("kafka://{}/orders", kafka.address());
    let mut piping = Piping::start(&shop, &to, &directory, &["--in-flight", "100"]);
    shop.insert(0..10);
    piping.wait_until_published(10);
    kafka.node().pause().unwrap();
    for thousand in 1..10 {
        shop.insert(thousand * 1000..(thousand + 1) * 1000);
    }
    ground::wait_until(DEADLINE, "the limit is reached", || {
        piping.figure("mongostream_pipe_waiting_messages") >= Some(100)
    });
    let begin = std::time::Instant::now();
    piping.running.signal(Signal::SIGTERM);
    assert_eq!(piping.running.end().code(), Some(1));
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    assert!(piping.running.stderr().contains("were not acked within 5 s"));
    kafka.node().resume().unwrap();
    let piping = Piping::start(&shop, &to, &directory, &[]);
    let ids = || {
        let stored = stored(kafka.address(), "orders");
        stored.into_iter().filter_map(|stored| stored.id).collect::<HashSet<_>>().len()
    };
    ground::wait_until(DEADLINE, "all are stored", || ids() == 9010);
    end(piping);
}

#[test]
fn a_message_that_the_broker_never_takes_ends_the_pipe() {
    if Kafka::is_missing() {
        return;
    }
    let kafka = Kafka::builder().property("message.max.bytes", "2000").start().unwrap();
    let (shop, directory) = (Shop::new("large"), Directory::new());
    let to = format!("kafka://{}/orders", kafka.address());
    let mut piping = Piping::start(&shop, &to, &directory, &[]);
    shop.orders().insert_one(doc! { "_id": 1, "text": "x".repeat(5000) }).run().unwrap();
    assert_eq!(piping.running.end().code(), Some(1));
    let told = piping.running.stderr();
    assert!(told.contains("max.message.bytes"), "{told}");
}

#[test]
fn a_password_works_and_what_is_wrong_is_named() {
    if Kafka::is_missing() {
        return;
    }
    let kafka = Kafka::builder().sasl("me", "s3cret").start().unwrap();
    let (shop, directory) = (Shop::new("sasl"), Directory::new());
    let to = format!("kafka://{}/orders", kafka.address());
    let file = directory.file("kafka.properties");
    let settings = "# how to log in\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\n\
                    sasl.username=me\nsasl.password=s3cret\n";
    std::fs::write(&file, settings).unwrap();
    let piping = Piping::start(&shop, &to, &directory, &["--kafka-config", &file]);
    shop.insert(0..10);
    piping.wait_until_published(10);
    end(piping);
    let in_the_address = format!("kafka://me:s3cret@{}/orders", kafka.address());
    end(Piping::start(&shop, &in_the_address, &directory, &[]));

    let namespace = shop.namespace();
    let refused = |to: &str, further: &[&str], code: i32, expected: &str| {
        let given = ["pipe", shop.uri(), &namespace, "--to", to, "--no-checkpoint"];
        let told = run(given.into_iter().chain(further.iter().copied())).assert_code(code).err;
        assert!(told.contains(expected) && !told.contains("wr0ng"), "{told}");
    };
    refused(&to, &["--kafka-config", &file, "-X", "sasl.password=wr0ng"], 1, "sasl.username=USER");
    refused(&to, &["-X", "no.such.setting=1"], 2, "no.such.setting");
    refused(&to, &["-X", "acks=1"], 2, "acks cannot be set");
    refused(&to, &["-X", "nothing"], 2, "NAME=VALUE");
    refused(&to, &["--kafka-config", "/nowhere"], 1, "/nowhere");
    refused(&to, &["--subject", "a"], 2, "--subject is for NATS");
    let nobody = format!("kafka://{}/orders", closed_address());
    refused(&nobody, &[], 1, "check that Kafka runs there");
}
