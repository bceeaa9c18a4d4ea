//! `mongostream pipe` into NATS JetStream, with real servers.
#![cfg(all(unix, feature = "nats"))]

mod support;

use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::stream::{Config, StorageType};
use brokers::Nats;
use futures_util::StreamExt;
use nix::sys::signal::Signal;
use support::stream::{Piping, Stored, assert_each_once, write_versions};
use support::{DEADLINE, Directory, Running, Shop, closed_address, program, run};

/// Does something with a client of its own.
fn with_client<T>(
    nats: &Nats,
    options: async_nats::ConnectOptions,
    work: impl AsyncFnOnce(async_nats::jetstream::Context) -> T,
) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let servers: Vec<_> = nats.url().split(',').map(str::to_owned).collect();
        let client = options.connect(servers).await.unwrap();
        work(async_nats::jetstream::new(client)).await
    })
}

/// Everything that a stream holds, in its order.
fn stored(nats: &Nats, stream: &str) -> Vec<Stored> {
    with_client(nats, async_nats::ConnectOptions::new(), async |context| {
        let stream = context.get_stream(stream).await.unwrap();
        let count = stream.cached_info().state.messages;
        let all = pull::Config {
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::None,
            ..pull::Config::default()
        };
        let consumer = stream.create_consumer(all).await.unwrap();
        let mut messages = consumer.messages().await.unwrap();
        let mut stored = Vec::new();
        while (stored.len() as u64) < count {
            let next = tokio::time::timeout(DEADLINE, messages.next()).await;
            let message = next.expect("a message in time").unwrap().unwrap();
            let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
            stored.push(Stored {
                place: message.subject.to_string(),
                id: id.map(|id| id.as_str().to_owned()),
                key: None,
                json: serde_json::from_slice(&message.payload).unwrap(),
            });
        }
        stored
    })
}

fn create(nats: &Nats, config: Config) {
    with_client(nats, async_nats::ConnectOptions::new(), async |context| {
        context.create_stream(config).await.unwrap();
    });
}

#[test]
fn each_change_is_stored_once_under_its_subject_and_a_restart_continues() {
    let (nats, shop, directory) = (Nats::start().unwrap(), Shop::new("pipe"), Directory::new());
    let to = format!("{}/SHOP", nats.url());
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut piping = Piping::start(&shop, &to, &directory, &["--checkpoint_ms", "3600000"]);
        let first = if signal == Signal::SIGTERM { 0 } else { 100 };
        shop.insert(first..first + 100);
        piping.wait_until_published(100);
        piping.running.signal(signal);
        assert_eq!(piping.running.end().code(), Some(0));
        assert_eq!(piping.running.rest(), [""; 0], "nothing is written to stdout");
    }
    let stored = stored(&nats, "SHOP");
    let ids: Vec<_> =
        stored.iter().map(|stored| stored.json["DocumentKey"]["_id"].as_i64()).collect();
    assert_eq!(ids, Vec::from_iter((0..200).map(Some)));
    for Stored { place, id, json, .. } in &stored {
        assert_eq!(*place, format!("SHOP.{}", shop.namespace()));
        assert_eq!(id.as_deref(), json["ResumeToken"]["_data"].as_str());
        assert_eq!(json["OperationType"], "insert");
    }
}

#[test]
fn a_killed_broker_loses_nothing_and_each_document_keeps_its_order() {
    let (nats, shop, directory) = (Nats::start().unwrap(), Shop::new("broker"), Directory::new());
    let to = format!("{}/SHOP", nats.url());
    let mut piping = Piping::start(&shop, &to, &directory, &[]);
    let (documents, versions) = (5, 400);
    std::thread::scope(|scope| {
        scope.spawn(|| write_versions(&shop, documents, 0..versions));
        for messages in [200, 700] {
            piping.wait_until_published(messages);
            nats.node(0).kill().unwrap();
            // Some are sent while nobody listens.
            ground::wait_until(DEADLINE, "the pipe knows", || {
                piping.figure("mongostream_pipe_broker_up") == Some(0)
            });
            nats.node(0).restart().unwrap();
        }
    });
    piping.wait_until_published(2000);
    assert!(piping.figure("mongostream_pipe_retries_total") > Some(0));
    piping.running.signal(Signal::SIGTERM);
    assert_eq!(piping.running.end().code(), Some(0));
    let told = piping.running.stderr();
    assert!(
        told.contains("is sent again until it is") && told.contains("takes messages again"),
        "{told}"
    );
    assert_each_once(&stored(&nats, "SHOP"), 5, versions);
}

#[test]
fn a_leader_that_dies_in_a_cluster_loses_nothing() {
    let nats = Nats::builder().nodes(3).start().unwrap();
    let (shop, directory) = (Shop::new("cluster"), Directory::new());
    let to = format!("{}/SHOP", nats.url());
    let mut piping = Piping::start(&shop, &to, &directory, &["--replicas", "3"]);
    let leader = with_client(&nats, async_nats::ConnectOptions::new(), async |context| {
        let info = context.get_stream("SHOP").await.unwrap();
        let config = &info.cached_info().config;
        assert_eq!((config.num_replicas, config.storage), (3, StorageType::File));
        info.cached_info().cluster.as_ref().unwrap().leader.clone().unwrap()
    });
    let leader = (0..3)
        .find(|node| {
            let file = nats.node(*node).directory().join("nats.conf");
            std::fs::read_to_string(file).is_ok_and(|text| text.contains(&leader))
        })
        .expect("the leader's node");
    std::thread::scope(|scope| {
        scope.spawn(|| write_versions(&shop, 5, 0..200));
        piping.wait_until_published(200);
        nats.node(leader).kill().unwrap();
    });
    piping.wait_until_published(1000);
    piping.running.signal(Signal::SIGTERM);
    assert_eq!(piping.running.end().code(), Some(0));
    nats.node(leader).restart().unwrap();
    nats.wait_until_ready().unwrap();
    assert_each_once(&stored(&nats, "SHOP"), 5, 200);
}

#[test]
fn what_a_killed_pipe_sends_again_is_stored_once() {
    let (nats, shop, directory) = (Nats::start().unwrap(), Shop::new("killed"), Directory::new());
    let to = format!("{}/SHOP", nats.url());
    std::thread::scope(|scope| {
        // Nothing is saved but at the first start, so all of it comes again.
        let further = ["--checkpoint_ms", "3600000"];
        let first = Piping::start(&shop, &to, &directory, &further);
        scope.spawn(|| write_versions(&shop, 5, 0..300));
        first.wait_until_published(500);
        first.running.signal(Signal::SIGKILL);
        drop(first);
        let mut second = Piping::start(&shop, &to, &directory, &further);
        second.wait_until_published(1500);
        assert!(second.figure("mongostream_pipe_duplicates_total") >= Some(500));
        second.running.signal(Signal::SIGTERM);
        assert_eq!(second.running.end().code(), Some(0));
    });
    assert_each_once(&stored(&nats, "SHOP"), 5, 300);
}

#[test]
fn a_frozen_broker_holds_the_stream_back_within_the_limits() {
    let (nats, shop, directory) = (Nats::start().unwrap(), Shop::new("frozen"), Directory::new());
    let to = format!("{}/SHOP", nats.url());
    let mut piping =
        Piping::start(&shop, &to, &directory, &["--in-flight", "100", "--checkpoint_ms", "10"]);
    shop.insert(0..10);
    piping.wait_until_published(10);
    nats.node(0).pause().unwrap();
    for thousand in 1..20 {
        shop.insert(thousand * 1000..(thousand + 1) * 1000);
    }
    ground::wait_until(DEADLINE, "the limit is reached", || {
        piping.figure("mongostream_pipe_waiting_messages") >= Some(100)
    });
    // A batch that was taken is not given back.
    let most = 100 + 256;
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        assert!(piping.figure("mongostream_pipe_waiting_messages") <= Some(most));
    }
    assert_eq!(piping.published(), 10);
    // It does not wait for ever, and says what is left.
    let begin = Instant::now();
    piping.running.signal(Signal::SIGTERM);
    assert_eq!(piping.running.end().code(), Some(1));
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
    let told = piping.running.stderr();
    assert!(told.contains("were not acked within 5 s"), "{told}");
    nats.node(0).resume().unwrap();

    let mut piping = Piping::start(&shop, &to, &directory, &[]);
    ground::wait_until(DEADLINE, "all are stored", || stored_count(&nats) >= 19_010);
    piping.running.signal(Signal::SIGTERM);
    assert_eq!(piping.running.end().code(), Some(0));
    assert_eq!(stored_count(&nats), 19_010);
}

/// What is frozen takes some megabytes into its buffers; the next message waits before it is sent at all.
#[test]
fn a_message_that_could_not_be_sent_for_a_while_is_not_forgotten() {
    let (nats, shop, directory) = (Nats::start().unwrap(), Shop::new("full"), Directory::new());
    let to = format!("{}/SHOP", nats.url());
    let mut piping = Piping::start(&shop, &to, &directory, &["--in-flight-bytes", "100000000"]);
    nats.node(0).pause().unwrap();
    let text = "x".repeat(20_000);
    for hundred in 0..30 {
        let ids = hundred * 100..(hundred + 1) * 100;
        let documents = ids.map(|id| ground::mongodb::bson::doc! { "_id": id, "text": &text });
        shop.orders().insert_many(documents).run().unwrap();
    }
    let retries = || piping.figure("mongostream_pipe_retries_total").unwrap_or(0);
    // Each that was sent has had no answer in time, and so none is left that could have one.
    let mut last = (0, Instant::now());
    ground::wait_until(DEADLINE, "no answer comes in time", || {
        let now = retries();
        if now != last.0 {
            last = (now, Instant::now());
        }
        now > 0 && last.1.elapsed() > Duration::from_secs(2)
    });
    nats.node(0).resume().unwrap();
    piping.wait_until_published(3000);
    piping.running.signal(Signal::SIGTERM);
    assert_eq!(piping.running.end().code(), Some(0));
    assert_eq!(stored_count(&nats), 3000);
}

fn stored_count(nats: &Nats) -> u64 {
    with_client(nats, async_nats::ConnectOptions::new(), async |context| {
        context.get_stream("SHOP").await.unwrap().cached_info().state.messages
    })
}

#[test]
fn a_template_names_what_a_message_is_and_its_partition() {
    let (nats, shop, directory) = (Nats::start().unwrap(), Shop::new("template"), Directory::new());
    let to = format!("{}/SHOP", nats.url());
    let further =
        ["--partitions", "4", "--subject", "a.{partition}.{collection}.{operation}.{database}"];
    let mut piping = Piping::start(&shop, &to, &directory, &further);
    shop.insert(0..40);
    shop.orders().drop().run().unwrap();
    piping.wait_until_published(41);
    piping.running.signal(Signal::SIGTERM);
    assert_eq!(piping.running.end().code(), Some(0));
    let stored = stored(&nats, "SHOP");
    let mut partitions = [0; 4];
    for Stored { place, .. } in &stored[..40] {
        let token = place.split('.').nth(1).unwrap();
        let partition: usize = token.parse().unwrap();
        partitions[partition] += 1;
        assert_eq!(*place, format!("a.{partition}.orders.insert.{}", shop.database));
    }
    assert!(partitions.iter().all(|&count| count > 2), "{partitions:?}");
    assert!(stored[40].place.ends_with(&format!(".orders.drop.{}", shop.database)), "{stored:?}");
}

#[test]
fn a_password_and_tls_work_and_a_wrong_one_is_named() {
    let nats = Nats::builder().user("me", "s3cret").tls().start().unwrap();
    let (shop, directory) = (Shop::new("tls"), Directory::new());
    let ca = nats.authority().unwrap().to_str().unwrap().to_owned();
    let host = nats.url().strip_prefix("nats://").unwrap().replace("127.0.0.1", "localhost");
    let to = |login: &str| format!("tls://{login}@{host}/SHOP");
    let mut piping = Piping::start(&shop, &to("me:s3cret"), &directory, &["--tls-ca", &ca]);
    shop.insert(0..10);
    piping.wait_until_published(10);
    piping.running.signal(Signal::SIGTERM);
    assert_eq!(piping.running.end().code(), Some(0));

    let namespace = shop.namespace();
    let refused = |login: &str, further: &[&str]| {
        let to = to(login);
        let given = ["pipe", shop.uri(), &namespace, "--to", &to, "--no-checkpoint"];
        let ended = run(given.into_iter().chain(further.iter().copied())).assert_code(1);
        assert!(!ended.err.contains("s3cret") && !ended.err.contains("wr0ng"), "{}", ended.err);
        ended.err
    };
    let told = refused("me:wr0ng", &["--tls-ca", &ca]);
    assert!(told.contains(&host) && told.contains("--creds"), "{told}");
    let told = refused("me:s3cret", &[]);
    assert!(told.contains("--tls-ca"), "{told}");
    let told = refused("me:s3cret", &["--tls-ca", "/nowhere/ca.pem"]);
    assert!(told.contains("/nowhere/ca.pem"), "{told}");
}

#[test]
fn what_keeps_a_pipe_from_its_start_is_said_with_what_to_do() {
    let (nats, shop) = (Nats::start().unwrap(), Shop::new("refused"));
    let config = |name: &str, subject: &str| Config {
        name: name.to_owned(),
        subjects: vec![subject.to_owned()],
        storage: StorageType::Memory,
        ..Config::default()
    };
    create(&nats, config("OTHER", "other.>"));
    create(&nats, Config { no_ack: true, ..config("MUTE", "MUTE.>") });
    let namespace = shop.namespace();
    let refused = |to: &str, further: &[&str], code: i32, expected: &str| {
        let given = ["pipe", shop.uri(), &namespace, "--to", to];
        let told = run(given.into_iter().chain(further.iter().copied())).assert_code(code).err;
        assert!(told.contains(expected), "{told}");
    };
    let nats = |stream: &str| format!("{}/{stream}", nats.url());
    let without = &["--no-checkpoint"];
    refused(&nats("OTHER"), without, 1, "the stream has the subjects other.>");
    refused(&nats("MUTE"), without, 1, "no_ack");
    refused(&nats("A.B"), without, 1, "leave out spaces");
    refused(
        &format!("nats://{}/S", closed_address()),
        without,
        1,
        "check that nats-server runs there",
    );
    refused("nats://nowhere.invalid/S", without, 1, "nowhere.invalid");
    refused(&nats("S"), &[], 2, "--checkpoint_file FILE");
    refused(
        &nats("S"),
        &["--no-checkpoint", "--subject", "a.{partition}"],
        2,
        "{partition} needs --partitions",
    );
    refused(&nats("S"), &["--no-checkpoint", "--subject", "{collection}"], 1, "a fixed token");
    refused(&nats("S"), &["--no-checkpoint", "-X", "a=b"], 2, "--kafka-option is for Kafka");
    refused("redis://localhost/S", without, 2, "nats://HOST");
    refused(&nats("S"), &["--no-checkpoint", "--creds", "/nowhere"], 1, "--creds /nowhere");
    refused(&nats("S"), &["--no-checkpoint", "--start_after", "nonsense"], 2, "start_after");
}

#[test]
fn what_can_lose_messages_is_a_warning() {
    let (nats, shop, directory) = (Nats::start().unwrap(), Shop::new("warning"), Directory::new());
    create(
        &nats,
        Config {
            name: "SHOP".to_owned(),
            subjects: vec!["SHOP.>".to_owned()],
            storage: StorageType::Memory,
            max_bytes: 1 << 20,
            ..Config::default()
        },
    );
    let to = format!("{}/SHOP", nats.url());
    let mut piping = Piping::start(&shop, &to, &directory, &[]);
    piping.running.signal(Signal::SIGTERM);
    assert_eq!(piping.running.end().code(), Some(0));
    let told = piping.running.stderr();
    for expected in ["in memory", "one replica", "drops its oldest"] {
        assert!(
            told.lines().any(|line| line.starts_with("warning: ") && line.contains(expected)),
            "{told}"
        );
    }
}

#[test]
fn a_message_that_the_server_never_takes_ends_the_pipe_and_is_not_acked() {
    let nats = Nats::builder().max_payload(4096).start().unwrap();
    let (shop, directory) = (Shop::new("large"), Directory::new());
    let to = format!("{}/SHOP", nats.url());
    let mut piping = Piping::start(&shop, &to, &directory, &[]);
    use ground::mongodb::bson::doc;
    shop.insert(0..3);
    shop.orders().insert_one(doc! { "_id": 3, "text": "x".repeat(5000) }).run().unwrap();
    shop.insert(4..6);
    assert_eq!(piping.running.end().code(), Some(1));
    let told = piping.running.stderr();
    assert!(told.contains("max_payload") && told.contains("5"), "{told}");
    drop(piping);
    // It is there again at the next start.
    let namespace = shop.namespace();
    let file = directory.file("token");
    let ended = run(["pipe", shop.uri(), &namespace, "--to", &to, "--checkpoint_file", &file]);
    assert!(ended.assert_code(1).err.contains("max_payload"));
    let stored = stored(&nats, "SHOP");
    let ids: Vec<_> = stored.iter().map(Stored::document).collect();
    assert!(
        ids.starts_with(&["0", "1", "2"].map(str::to_owned)) && !ids.contains(&"3".to_owned()),
        "{ids:?}"
    );
}

#[test]
fn a_snapshot_comes_first() {
    let (nats, shop, directory) = (Nats::start().unwrap(), Shop::new("snapshot"), Directory::new());
    shop.insert(0..1000);
    let to = format!("{}/SHOP", nats.url());
    let further = ["--snapshot", "initial", "--count", "1010"];
    let mut piping = Piping::start(&shop, &to, &directory, &further);
    shop.insert(1000..1010);
    assert_eq!(piping.running.end().code(), Some(0));
    let stored = stored(&nats, "SHOP");
    assert_eq!(stored.len(), 1010);
    let snapshot = stored.iter().filter(|stored| stored.json["OperationType"] == "snapshot");
    assert!(snapshot.clone().count() >= 1000);
    assert!(snapshot.clone().all(|stored| stored.id.is_none()));
}

#[test]
fn the_second_of_a_pair_goes_on_when_the_first_is_killed() {
    let (nats, shop) = (Nats::start().unwrap(), Shop::new("pair"));
    let to = format!("{}/SHOP", nats.url());
    let place = format!("{}.checkpoints", shop.database);
    let begin = || {
        let checkpoint = ["--checkpoint_collection", &place];
        Piping::begin(&shop, &to, &checkpoint, &["--standby", "--lease_ms", "1500"])
    };
    let mut first = begin();
    first.wait_until_streaming();
    let mut second = begin();
    ground::wait_until(DEADLINE, "the second stands by", || {
        second.get("/healthz").is_some_and(|text| text.contains("standby"))
    });
    std::thread::scope(|scope| {
        scope.spawn(|| write_versions(&shop, 5, 0..300));
        first.wait_until_published(300);
        assert_eq!(second.published(), 0);
        first.running.signal(Signal::SIGKILL);
    });
    second.wait_until_streaming();
    ground::wait_until(DEADLINE, "all are stored", || stored_count(&nats) >= 1500);
    second.running.signal(Signal::SIGTERM);
    assert_eq!(second.running.end().code(), Some(0));
    assert_each_once(&stored(&nats, "SHOP"), 5, 300);
}

#[test]
fn a_holder_that_was_paused_stands_by_after_it_has_lost_the_lease() {
    let (nats, shop) = (Nats::start().unwrap(), Shop::new("paused"));
    let to = format!("{}/SHOP", nats.url());
    let place = format!("{}.checkpoints", shop.database);
    let begin = || {
        let checkpoint = ["--checkpoint_collection", &place];
        Piping::begin(&shop, &to, &checkpoint, &["--standby", "--lease_ms", "1500"])
    };
    let mut first = begin();
    first.wait_until_streaming();
    let mut second = begin();
    std::thread::scope(|scope| {
        scope.spawn(|| write_versions(&shop, 5, 0..400));
        first.wait_until_published(200);
        first.running.signal(Signal::SIGSTOP);
        second.wait_until_streaming();
        second.wait_until_published(200);
        first.running.signal(Signal::SIGCONT);
        ground::wait_until(DEADLINE, "the first stands by", || {
            first.get("/healthz").is_some_and(|text| text.contains("standby"))
        });
    });
    ground::wait_until(DEADLINE, "all are stored", || stored_count(&nats) >= 2000);
    second.running.signal(Signal::SIGTERM);
    assert_eq!(second.running.end().code(), Some(0));
    // An orderly end gives the lease back.
    first.wait_until_streaming();
    first.running.signal(Signal::SIGTERM);
    assert_eq!(first.running.end().code(), Some(0));
    let told = first.running.stderr();
    assert!(told.contains("this one stands by now"), "{told}");
    assert_each_once(&stored(&nats, "SHOP"), 5, 400);
}

#[test]
fn who_is_fenced_while_nothing_more_may_be_on_its_way_stands_by_too() {
    use ground::mongodb::bson::{DateTime, Document, doc};

    let (nats, shop) = (Nats::start().unwrap(), Shop::new("full"));
    let to = format!("{}/SHOP", nats.url());
    let place = format!("{}.checkpoints", shop.database);
    let checkpoint = ["--checkpoint_collection", &place];
    let further = ["--standby", "--lease_ms", "1500", "--in-flight", "10"];
    let mut piping = Piping::begin(&shop, &to, &checkpoint, &further);
    piping.wait_until_streaming();
    nats.node(0).pause().unwrap();
    write_versions(&shop, 1, 0..1000);
    ground::wait_until(DEADLINE, "the limit is reached", || {
        piping.figure("mongostream_pipe_waiting_messages") >= Some(10)
    });
    let database = ground::shared().client().database(&shop.database);
    let leases = database.collection::<Document>("checkpoints");
    let end = DateTime::from_millis(DateTime::now().timestamp_millis() + 3_600_000);
    let set = doc! { "holder": "elsewhere:1", "owner": "x", "expires": end };
    let taken = doc! { "$inc": { "term": 1_i64 }, "$set": set };
    leases.update_one(doc! {}, taken).run().unwrap();
    ground::wait_until(DEADLINE, "it stands by", || {
        piping.get("/healthz").is_some_and(|text| text.contains("standby"))
    });
    nats.node(0).resume().unwrap();
}

#[test]
fn a_stop_before_the_start_is_an_orderly_end() {
    // Whoever is asked to end while it connects ends, too.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let shop = Shop::new("stop");
    let to = format!("nats://{}/SHOP", listener.local_addr().unwrap());
    let namespace = shop.namespace();
    let mut running =
        Running::start(program(["pipe", shop.uri(), &namespace, "--to", &to, "--no-checkpoint"]));
    let _connection = listener.accept().unwrap();
    running.signal(Signal::SIGTERM);
    assert_eq!(running.end().code(), Some(0));
}
