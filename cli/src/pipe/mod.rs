//! `mongostream pipe`: the messages of a stream into a broker, from which consumers can share the work.

mod address;
mod broker;
mod fence;
mod flow;
#[cfg(feature = "nats")]
mod jetstream;
#[cfg(feature = "kafka")]
mod kafka;
mod order;
mod partition;
mod progress;
mod record;
mod run;
mod security;
mod template;
mod wishes;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::failure::Failure;
use crate::{flags, metrics, target};

pub(crate) use self::run::run;

const HEADING: &str = "The broker";

pub(crate) fn command() -> Command {
    let command = Command::new("pipe")
        .about("Send the changes of a collection, a database or a deployment to NATS JetStream or Kafka")
        .long_about(
            "Send the changes of a collection, a database or a deployment to NATS JetStream or Kafka.\n\n\
             The checkpoint moves past a message only after the broker has acked it. So nothing is lost, whatever \
             crashes. The changes of each document keep their order. SIGINT and SIGTERM end it in order: it waits up to 5 s for \
             the broker, and what is not acked by then is sent after the next start.",
        )
        .after_help(
            "Examples:\n  \
             mongostream pipe mongodb://localhost shop.orders --to nats://localhost/SHOP --checkpoint_file orders.token\n  \
             mongostream pipe mongodb://localhost shop --to kafka://localhost/shop.{collection} --checkpoint_collection state.checkpoints --standby",
        )
        .args(target::arguments())
        .arg(
            Arg::new("to")
                .long("to")
                .value_name("ADDRESS")
                .required(true)
                .help("The broker, and the stream or topic there")
                .long_help(
                    "The broker, and the stream or topic there: nats://HOST[:PORT][,HOST...]/STREAM (tls:// with TLS), or \
                     kafka://HOST[:PORT][,HOST...]/TOPIC. The topic is a template as for --subject.",
                ),
        )
        .arg(
            Arg::new("subject")
                .long("subject")
                .value_name("TEMPLATE")
                .help_heading(HEADING)
                .help("NATS: the subject of each message [default: STREAM.{database}.{collection}]")
                .long_help(
                    "NATS: the subject of each message. It may contain {database}, {collection}, {operation} and \
                     {partition}. [default: STREAM.{database}.{collection}, with --partitions \
                     STREAM.{partition}.{database}.{collection}]",
                ),
        )
        .arg(
            Arg::new("partitions")
                .long("partitions")
                .value_name("N")
                .value_parser(value_parser!(u32).range(1..=100_000))
                .help_heading(HEADING)
                .help("Share the documents among N partitions: {partition} is 0 to N - 1")
                .long_help(
                    "Share the documents among N partitions: {partition} is 0 to N - 1, and all changes of a document are in the \
                     same one (murmur2 of its id, as Kafka's producers do it). A Kafka topic that is not there is made with N \
                     partitions, if the topic does not contain {partition}.",
                ),
        )
        .arg(
            Arg::new("replicas")
                .long("replicas")
                .value_name("N")
                .value_parser(value_parser!(u16).range(1..=99))
                .help_heading(HEADING)
                .help("Copies of a stream or topic that is not there and is made"),
        )
        .arg(
            Arg::new("in-flight")
                .long("in-flight")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..=1_000_000))
                .default_value("4096")
                .help_heading(HEADING)
                .help("How many messages may wait for the broker's ack"),
        )
        .arg(
            Arg::new("in-flight-bytes")
                .long("in-flight-bytes")
                .value_name("BYTES")
                .value_parser(value_parser!(u64).range(1..=(16 << 30)))
                .default_value("8388608")
                .help_heading(HEADING)
                .help("How many bytes of JSON may wait for it; one message that is larger passes alone"),
        )
        .args(security::arguments())
        .arg(
            Arg::new("kafka-option")
                .short('X')
                .long("kafka-option")
                .value_name("NAME=VALUE")
                .action(ArgAction::Append)
                .help_heading(HEADING)
                .help("Kafka: a setting of librdkafka, such as security.protocol=SASL_SSL; may be repeated"),
        )
        .arg(
            Arg::new("kafka-config")
                .long("kafka-config")
                .value_name("FILE")
                .value_hint(clap::ValueHint::FilePath)
                .help_heading(HEADING)
                .help("Kafka: a file with such settings, one NAME=VALUE in each line"),
        )
        .arg(
            Arg::new("no-checkpoint")
                .long("no-checkpoint")
                .action(ArgAction::SetTrue)
                .help("Keep no checkpoint: after a restart, what happened meanwhile is missing"),
        )
        .arg(
            Arg::new("count")
                .long("count")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .help("End after exactly N messages"),
        )
        .arg(metrics::argument());
    flags::add(command, &[])
}

/// What the flags say of the flow and the broker.
fn wishes(matches: &ArgMatches) -> wishes::Wishes {
    let usual = wishes::Wishes::default();
    let number = |name| matches.get_one::<u64>(name).copied();
    wishes::Wishes {
        replicas: matches.get_one::<u16>("replicas").map(|&replicas| replicas.into()),
        partitions: matches.get_one::<u32>("partitions").copied(),
        limits: flow::Limits {
            messages: number("in-flight").unwrap_or(usual.limits.messages),
            bytes: number("in-flight-bytes").unwrap_or(usual.limits.bytes),
        },
    }
}

/// Refuses what the broker's kind has no use for.
fn check_flags(matches: &ArgMatches, kind: address::Kind) -> Result<(), Failure> {
    let (names, other): (&[&str], _) = match kind {
        address::Kind::JetStream => (&["kafka-option", "kafka-config"], "Kafka"),
        address::Kind::Kafka => (&["subject", "creds"], "NATS"),
    };
    match names.iter().find(|name| matches.contains_id(name)) {
        Some(name) => Err(Failure::usage(format!("--{name} is for {other}, and --to is not"))),
        None => Ok(()),
    }
}
