//! A consumer of a Kafka topic that shares the work with other processes of its group.
//!
//! ```text
//! mongostream pipe mongodb://localhost shop.orders --to kafka://localhost/orders --partitions 6 --checkpoint_file orders.token
//! kafka_consumer localhost:9092 orders billing     # three times, on one machine or on several
//! ```
//!
//! The key of each message is the document's id, so all changes of a document are in one partition. Kafka gives each
//! partition to one process of the group. That process handles its messages one after the other. So the changes of a
//! document are handled in order.
//!
//! When a process is started or ends, Kafka moves some partitions and leaves the others where they are
//! (`cooperative-sticky`). When one dies, the others get its partitions after `--session-timeout`.
//!
//! A message is committed after it was handled, and not before. A commit costs one way to the broker and back. So there is
//! one commit for some messages (`--commit-after`), and one whenever no message waits, before a partition moves, and at the
//! end. What may come twice is what a process had handled after its last commit when it died. A process that was frozen for
//! longer than `--session-timeout` may also finish a message after another process has done so. If that matters, keep the
//! message's offset with its effect, and do nothing if the kept one is not smaller.
//! docs/beyond-one-machine.md has a mark that also knows what the pipe has sent twice.
//!
//! More processes than partitions gain nothing: some of them get none. Choose more partitions than you have processes now.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Arg, Command, value_parser};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientContext, Message};

/// How long it waits for a message before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);

struct Group;

impl ClientContext for Group {}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        // Another process goes on with these partitions, after what was handled here.
        if let Rebalance::Revoke(_) = rebalance {
            commit(consumer);
        }
    }
}

/// Commits what was handled. If that fails the next commit covers it.
fn commit(consumer: &BaseConsumer<Group>) -> bool {
    match consumer.commit_consumer_state(CommitMode::Sync) {
        Ok(()) | Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::NoOffset)) => true,
        // While partitions move, the broker may refuse it for a moment.
        Err(error) => {
            eprintln!("{error}; what was handled is committed later");
            false
        }
    }
}

/// Your work. Here it is a line on stdout.
fn handle(message: &BorrowedMessage<'_>, work: Duration) -> Result<(), Box<dyn Error>> {
    let line = format!(
        "{{\"process\":{},\"partition\":{},\"seq\":{},\"message\":{}}}\n",
        std::process::id(),
        message.partition(),
        message.offset(),
        std::str::from_utf8(message.payload().unwrap_or(b"null"))?,
    );
    // In one piece: other processes may write to the same pipe.
    std::io::stdout().lock().write_all(line.as_bytes())?;
    std::thread::sleep(work);
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let number = |name: &'static str, value: &'static str, default: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name(value)
            .default_value(default)
            .value_parser(value_parser!(u64))
    };
    let matches = Command::new("kafka_consumer")
        .arg(Arg::new("brokers").value_name("HOST:PORT").required(true))
        .arg(Arg::new("topic").value_name("TOPIC").required(true))
        .arg(
            Arg::new("group")
                .value_name("GROUP")
                .required(true)
                .help("Processes of one group share the messages"),
        )
        .arg(number("session-timeout", "MS", "6000").help(
            "When the work of a dead process goes on (no less than the brokers' group.min.session.timeout.ms)",
        ))
        .arg(number("commit-after", "N", "100").help("Most messages for one commit"))
        .arg(number("work", "MS", "0").help("Pretends that each message takes so long"))
        .get_matches();
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let number = |name: &str| matches.get_one::<u64>(name).copied().unwrap_or_default();
    let work = Duration::from_millis(number("work"));

    let stops = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(&stops);
    on_signals(move || stop.store(true, Ordering::SeqCst))?;
    let consumer: BaseConsumer<Group> = ClientConfig::new()
        .set("bootstrap.servers", text("brokers"))
        .set("group.id", text("group"))
        // A new group begins with the oldest message.
        .set("auto.offset.reset", "earliest")
        // A message is committed when it was handled, and not when it was received.
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("partition.assignment.strategy", "cooperative-sticky")
        .set("session.timeout.ms", number("session-timeout").to_string())
        .set("heartbeat.interval.ms", (number("session-timeout") / 3).to_string())
        // So soon it sees a topic that was not there.
        .set("topic.metadata.refresh.interval.ms", "5000")
        .create_with_context(Group)?;
    consumer.subscribe(&[&text("topic")])?;
    let mut uncommitted = 0;
    let mut patience = POLL;
    while !stops.load(Ordering::SeqCst) {
        match consumer.poll(patience) {
            Some(Ok(message)) => {
                handle(&message, work)?;
                consumer.store_offset_from_message(&message)?;
                uncommitted += 1;
                patience = Duration::ZERO;
                if uncommitted < number("commit-after") {
                    continue;
                }
            }
            Some(Err(error)) => eprintln!("{error}"),
            None => {}
        }
        // So many were handled, or no message waits.
        if uncommitted > 0 && commit(&consumer) {
            uncommitted = 0;
        }
        patience = POLL;
    }
    // It leaves the group, and the others need not wait for its time-out. Before that it commits, as before each move of
    // partitions.
    drop(consumer);
    Ok(())
}

/// SIGINT and SIGTERM ask for an orderly end.
#[cfg(unix)]
fn on_signals(end: impl FnOnce() + Send + 'static) -> Result<(), Box<dyn Error>> {
    use signal_hook::consts::{SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            end();
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn on_signals(end: impl FnMut() + Send + 'static) -> Result<(), Box<dyn Error>> {
    Ok(ctrlc::set_handler(end)?)
}
