//! The example consumers: processes share the partitions of a pipe. One is killed, and the others go on with its part.
#![cfg(all(unix, feature = "nats", feature = "kafka"))]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{BufRead, BufReader, PipeWriter};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_nats::jetstream::{self, consumer::PullConsumer};
use ground::mongodb::bson::doc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::{DEADLINE, Guarded, Shop, program};

mod support;

const PARTITIONS: u32 = 6;
const DOCUMENTS: i32 = 60;
/// After this time the others get what a killed process had. A process that a busy machine keeps waiting for so long would
/// be taken for dead.
const DEAD_AFTER: Duration = Duration::from_secs(4);
/// The process that is killed is so slow: it has something in hand then.
const SLOW: &str = "--work=300";
/// The others: messages come sooner than they are handled.
const USUAL: &str = "--work=10";

/// cargo builds the examples beside the tests, unless it is told to build one test only.
fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile: PathBuf = test.ancestors().nth(2).unwrap().into();
    let path = profile.join("examples").join(name);
    assert!(path.exists(), "{} is missing: run cargo build --examples", path.display());
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

/// A change of a document: what was done, and the version that the document has then. A delete leaves none.
type Change = (&'static str, Option<i64>);

/// Makes changes and keeps account of them.
struct Writer {
    shop: Shop,
    round: i32,
    versions: Vec<i64>,
    /// Of each document, by its id.
    changes: BTreeMap<i32, Vec<Change>>,
}

impl Writer {
    fn new(label: &str) -> Self {
        let versions = vec![0; usize::try_from(DOCUMENTS).unwrap()];
        Self { shop: Shop::new(label), round: 0, versions, changes: BTreeMap::new() }
    }

    /// Changes each document once. Each goes through insert, four updates, and a delete, over and over, not all at the same
    /// time.
    fn round(&mut self) {
        let orders = self.shop.orders();
        for (id, version) in (0..).zip(&mut self.versions) {
            *version += 1;
            let set = doc! { "_id": id, "v": *version };
            let change = match (self.round, (self.round + id) % 6) {
                (0, _) | (_, 0) => {
                    orders.replace_one(doc! { "_id": id }, set).upsert(true).run().unwrap();
                    // The first round inserts all, and not after a delete.
                    let is_there =
                        self.changes.get(&id).is_some_and(|c| c.last().unwrap().0 != "delete");
                    (if is_there { "replace" } else { "insert" }, Some(*version))
                }
                (_, 5) => {
                    orders.delete_one(doc! { "_id": id }).run().unwrap();
                    ("delete", None)
                }
                _ => {
                    let update = doc! { "$set": { "v": *version } };
                    orders.update_one(doc! { "_id": id }, update).run().unwrap();
                    ("update", Some(*version))
                }
            };
            self.changes.entry(id).or_default().push(change);
        }
        self.round += 1;
    }

    fn count(&self) -> usize {
        self.changes.values().map(Vec::len).sum()
    }
}

/// A line of a consumer.
#[derive(Clone, Debug)]
struct Handled {
    process: u32,
    partition: i64,
    seq: i64,
    document: i32,
    change: (String, Option<i64>),
    token: String,
}

impl Handled {
    fn parse(line: &str) -> Self {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        let message = &value["message"];
        let operation = message["OperationType"].as_str().unwrap();
        let version = match operation {
            "update" => &message["UpdateDescription"]["updatedFields"]["v"],
            _ => &message["FullDocument"]["v"],
        };
        Self {
            process: value["process"].as_u64().unwrap().try_into().unwrap(),
            partition: value["partition"].as_i64().unwrap(),
            seq: value["seq"].as_i64().unwrap(),
            document: message["DocumentKey"]["_id"].as_i64().unwrap().try_into().unwrap(),
            change: (operation.to_owned(), version.as_i64()),
            token: message["ResumeToken"]["_data"].as_str().unwrap().to_owned(),
        }
    }

    fn place(&self) -> (i64, i64) {
        (self.partition, self.seq)
    }
}

/// What all consumers print. They share one pipe, so the order of its lines is the order in which they were printed: a
/// write of less than 4 KB is in one piece (pipe(7), `PIPE_BUF`).
struct Output {
    writer: PipeWriter,
    lines: Arc<Mutex<Vec<Handled>>>,
}

impl Output {
    fn new() -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let lines = Arc::default();
        let seen: Arc<Mutex<Vec<Handled>>> = Arc::clone(&lines);
        std::thread::spawn(move || {
            for line in BufReader::new(reader).lines() {
                seen.lock().unwrap().push(Handled::parse(&line.unwrap()));
            }
        });
        Self { writer, lines }
    }

    fn start(&self, command: &mut Command) -> Guarded {
        Guarded::spawn(command.stdout(self.writer.try_clone().unwrap()))
    }

    fn lines(&self) -> Vec<Handled> {
        self.lines.lock().unwrap().clone()
    }

    fn count(&self) -> usize {
        self.lines.lock().unwrap().len()
    }

    /// How many lines a process has printed.
    fn count_of(&self, process: &Guarded) -> usize {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|handled| handled.process == process.id()).count()
    }

    fn count_of_different(&self) -> usize {
        self.lines().iter().map(Handled::place).collect::<HashSet<_>>().len()
    }
}

/// A pipe from the collection as it is now.
fn start_pipe(shop: &Shop, to: &str) -> Guarded {
    let mut pipe = program(["pipe", shop.uri(), &shop.namespace(), "--to", to]);
    pipe.args(["--partitions", &PARTITIONS.to_string(), "--no-checkpoint"]);
    Guarded::spawn(pipe.args(["--resume_after", &shop.now()]).stderr(Stdio::null()))
}

fn ask_to_end(process: &Guarded) {
    kill(Pid::from_raw(process.id().try_into().unwrap()), Signal::SIGTERM).unwrap();
}

#[track_caller]
fn ends_in_order(process: &mut Guarded) {
    let status = ground::wait_for_end(process, DEADLINE);
    assert_eq!(status.code(), Some(0), "{status:?}");
}

/// What a broker has to do with it.
struct Setup<'a> {
    label: &'a str,
    /// Where the pipe leads to.
    to: String,
    /// A consumer.
    consumer: &'a dyn Fn() -> Command,
    /// Arguments of those that end in order.
    usual: &'a [&'a str],
    /// And of the one that is killed.
    slow: &'a [&'a str],
    /// How many messages the broker takes for being in work.
    in_hand: &'a dyn Fn() -> usize,
    /// So many lines the process prints before it is killed.
    lines_before_kill: usize,
    /// How many messages may come twice.
    most_repeats: usize,
}

fn share_work_when_one_is_killed(setup: &Setup<'_>) {
    let mut writer = Writer::new(setup.label);
    let _pipe = start_pipe(&writer.shop, &setup.to);
    let output = Output::new();
    let mut others = [0, 1].map(|_| output.start((setup.consumer)().args(setup.usual)));
    // A round, and most of it handled.
    let mut pass_a_round = || {
        let before = output.count();
        writer.round();
        let most = usize::try_from(DOCUMENTS).unwrap() / 2;
        ground::wait_until(DEADLINE, "a round is handled", || output.count() >= before + most);
    };
    ground::wait_until(DEADLINE, "both handle some", || {
        pass_a_round();
        others.iter().all(|process| output.count_of(process) > 0)
    });
    let mut victim = output.start((setup.consumer)().args(setup.slow));
    ground::wait_until(DEADLINE, "the third one handles some", || {
        pass_a_round();
        output.count_of(&victim) > 0
    });
    for _ in 0..3 {
        writer.round();
    }
    ground::wait_until(DEADLINE, "it handles some more", || {
        output.count_of(&victim) >= setup.lines_before_kill
    });
    victim.kill().unwrap();
    victim.wait().unwrap();
    for _ in 0..3 {
        writer.round();
    }
    ground::wait_until(DEADLINE, "every change is handled", || {
        output.count_of_different() >= writer.count()
    });
    let after_kill = check(&writer, &output.lines(), victim.id(), setup.most_repeats);
    assert!(after_kill > 0, "what the killed process had in hand comes again");

    // Who ends in order leaves nothing to be done again, although more waits.
    for _ in 0..3 {
        writer.round();
    }
    others.iter().for_each(ask_to_end);
    others.iter_mut().for_each(ends_in_order);
    assert_eq!((setup.in_hand)(), 0, "nobody has a message");
    let mut last = output.start((setup.consumer)().args(setup.usual));
    writer.round();
    ground::wait_until(DEADLINE, "another process goes on", || {
        output.count_of_different() >= writer.count()
    });
    ask_to_end(&last);
    ends_in_order(&mut last);
    let lines = output.lines();
    let after_end = check(&writer, &lines, victim.id(), setup.most_repeats);
    assert_eq!(after_end, after_kill, "an orderly end repeats nothing");
}

/// Whether all was handled in order. Gives how many messages were handled twice.
#[track_caller]
fn check(writer: &Writer, lines: &[Handled], victim: u32, most_repeats: usize) -> usize {
    let mut first = HashMap::new();
    let mut last_of_partition = HashMap::new();
    let mut changes: BTreeMap<i32, Vec<(String, Option<i64>)>> = BTreeMap::new();
    let mut partition_of_document = HashMap::new();
    let mut last_token = HashMap::new();
    let mut repeats = HashSet::new();
    for handled in lines {
        let partition = partition_of_document.entry(handled.document).or_insert(handled.partition);
        assert_eq!(*partition, handled.partition, "a document stays in its partition: {handled:?}");
        if let Some(process) = first.get(&handled.place()) {
            assert_eq!(*process, victim, "only what the killed one had comes again: {handled:?}");
            assert_ne!(handled.process, victim, "{handled:?}");
            assert!(repeats.insert(handled.place()), "comes a third time: {handled:?}");
            continue;
        }
        first.insert(handled.place(), handled.process);
        let last = last_of_partition.insert(handled.partition, handled.seq);
        assert!(last < Some(handled.seq), "after {last:?} in its partition: {handled:?}");
        changes.entry(handled.document).or_default().push(handled.change.clone());
        // By this a consumer knows what it has handled before: docs/beyond-one-machine.md.
        let token = last_token.insert(handled.document, &handled.token);
        assert!(token < Some(&handled.token), "tokens grow: {token:?}, {handled:?}");
    }
    for (document, expected) in &writer.changes {
        let expected: Vec<_> = expected
            .iter()
            .map(|(operation, version)| ((*operation).to_owned(), *version))
            .collect();
        assert_eq!(changes.get(document), Some(&expected), "the changes of document {document}");
    }
    assert_eq!(changes.len(), writer.changes.len());
    assert_eq!(last_of_partition.len(), usize::try_from(PARTITIONS).unwrap());
    // What comes again is what the killed one had handled last in the partition.
    for partition in 0..PARTITIONS.into() {
        let seqs = |is_wanted: &dyn Fn(&Handled) -> bool| -> Vec<i64> {
            let wanted = lines.iter().filter(|h| h.partition == partition && is_wanted(h));
            wanted.map(|handled| handled.seq).collect()
        };
        let of_victim = seqs(&|handled| handled.process == victim);
        let repeated =
            seqs(&|handled| handled.process != victim && repeats.contains(&handled.place()));
        assert!(of_victim.ends_with(&repeated), "{of_victim:?} ends with {repeated:?}");
    }
    assert!(repeats.len() <= most_repeats, "{} of {most_repeats}", repeats.len());
    repeats.len()
}

/// The messages of all partitions that wait for an ack.
fn in_hand(url: &str, stream: &str, name: &str) -> usize {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let context = jetstream::new(async_nats::connect(url).await.unwrap());
        let mut in_hand = 0;
        for partition in 0..PARTITIONS {
            let consumer = context.get_consumer_from_stream(format!("{name}-{partition}"), stream);
            let consumer: PullConsumer = consumer.await.unwrap();
            in_hand += consumer.cached_info().num_ack_pending;
        }
        in_hand
    })
}

#[test]
fn consumers_of_a_jetstream_stream_share_its_partitions_and_the_part_of_one_that_is_killed() {
    let nats = brokers::Nats::start().unwrap();
    let consumer = || {
        let mut command = example("jetstream_consumer");
        command.args([nats.url(), "SHOP", &PARTITIONS.to_string(), "billing"]);
        command.arg(format!("--ack-wait={}", DEAD_AFTER.as_millis()));
        command
    };
    share_work_when_one_is_killed(&Setup {
        label: "consumers_jetstream",
        to: format!("{}/SHOP", nats.url()),
        consumer: &consumer,
        usual: &[USUAL],
        slow: &[SLOW],
        in_hand: &|| in_hand(nats.url(), "SHOP", "billing"),
        // Two in each partition.
        lines_before_kill: 12,
        // One in each partition.
        most_repeats: 6,
    });
}

#[test]
fn a_message_that_takes_longer_than_the_ack_wait_stays_with_its_process() {
    let nats = brokers::Nats::start().unwrap();
    let shop = Shop::new("consumers_progress");
    let _pipe = start_pipe(&shop, &format!("{}/SHOP", nats.url()));
    let output = Output::new();
    let _processes = [0, 1].map(|_| {
        let mut consumer = example("jetstream_consumer");
        consumer.args([nats.url(), "SHOP", &PARTITIONS.to_string(), "billing"]);
        output.start(consumer.args(["--ack-wait=2000", "--work=5000"]))
    });
    let orders = shop.orders();
    orders.insert_one(doc! { "_id": 1, "v": 1 }).run().unwrap();
    orders.update_one(doc! { "_id": 1 }, doc! { "$set": { "v": 2 } }).run().unwrap();
    ground::wait_until(DEADLINE, "the second change", || output.count_of_different() == 2);
    let versions: Vec<_> = output.lines().iter().map(|handled| handled.change.1).collect();
    assert_eq!(versions, [Some(1), Some(2)]);
}

#[test]
fn consumers_of_a_kafka_topic_share_its_partitions_and_the_part_of_one_that_is_killed() {
    if brokers::Kafka::is_missing() {
        return;
    }
    let kafka =
        brokers::Kafka::builder().property("group.min.session.timeout.ms", "1000").start().unwrap();
    let consumer = || {
        let mut command = example("kafka_consumer");
        command.args([kafka.address(), "orders", "billing"]);
        command.arg(format!("--session-timeout={}", DEAD_AFTER.as_millis()));
        command
    };
    share_work_when_one_is_killed(&Setup {
        label: "consumers_kafka",
        to: format!("kafka://{}/orders", kafka.address()),
        consumer: &consumer,
        // Whatever happens to those, they have something to commit then.
        usual: &[USUAL, "--commit-after=30"],
        slow: &[SLOW, "--commit-after=3"],
        // Kafka knows no such thing.
        in_hand: &|| 0,
        lines_before_kill: 5,
        // Of one commit.
        most_repeats: 3,
    });
}
