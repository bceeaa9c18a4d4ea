//! The settings of librdkafka that the user gives, and those that the pipe needs.

use std::path::Path;

use clap::ArgMatches;

use super::super::address::Address;
use super::super::flow::Limits;
use super::super::security::Security;
use crate::failure::Failure;

/// Names and values, the last one of a name counts.
pub(crate) type Settings = Vec<(String, String)>;

/// What the pipe's promises rest on.
const OURS: [(&str, &str); 5] = [
    ("enable.idempotence", "each message is stored once and in order"),
    ("acks", "a message counts when all replicas in sync have it"),
    ("message.timeout.ms", "a message is sent again until the broker has it"),
    ("bootstrap.servers", "--to says which brokers"),
    ("transactional.id", "the pipe uses no transactions"),
];

/// Other names of the same settings (librdkafka, `CONFIGURATION.md`).
const ALIASES: [(&str, &str); 3] = [
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("metadata.broker.list", "bootstrap.servers"),
];

/// What the flags give.
pub(crate) fn of(matches: &ArgMatches) -> Result<Settings, Failure> {
    let mut settings = Settings::new();
    if let Some(file) = matches.get_one::<String>("kafka-config") {
        let text = std::fs::read_to_string(Path::new(file))
            .map_err(|error| Failure::failed(format!("--kafka-config {file}: {error}")))?;
        settings.extend(
            of_file(&text)
                .map_err(|why| Failure::usage(format!("--kafka-config {file}: {why}")))?,
        );
    }
    for option in matches.get_many::<String>("kafka-option").into_iter().flatten() {
        let setting = of_line(option).ok_or_else(|| {
            Failure::usage("a --kafka-option has no value: give it as NAME=VALUE")
        })?;
        settings.push(setting);
    }
    match settings.iter().find_map(|(name, _)| reserved(name)) {
        Some(text) => Err(Failure::usage(text)),
        None => Ok(settings),
    }
}

fn reserved(name: &str) -> Option<String> {
    let real = ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, real)| real);
    let (_, why) = OURS.iter().find(|(ours, _)| *ours == real)?;
    Some(format!("{name} cannot be set: {why}"))
}

fn of_line(line: &str) -> Option<(String, String)> {
    let (name, value) = line.split_once('=')?;
    let name = name.trim();
    (!name.is_empty()).then(|| (name.to_owned(), value.trim().to_owned()))
}

/// One setting in each line; `#` begins a comment.
fn of_file(text: &str) -> Result<Settings, String> {
    let lines = text.lines().map(str::trim).enumerate();
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| {
            // The line itself may hold a password.
            of_line(line).ok_or_else(|| format!("line {} is not NAME=VALUE", number + 1))
        })
        .collect()
}

/// Whether a client that sends nothing has no use for it.
pub(crate) fn is_of_producers(name: &str) -> bool {
    matches!(
        name,
        "partitioner" | "linger.ms" | "enable.idempotence" | "acks" | "message.timeout.ms"
    ) || name.starts_with("queue.buffering.")
}

/// All settings of the producer.
pub(crate) fn all(
    address: &Address,
    security: &Security,
    limits: Limits,
    given: &Settings,
) -> Settings {
    let mut all: Settings = [
        ("client.id", "mongostream"),
        // As Kafka's own producers do it, so that all agree on a document's partition.
        ("partitioner", "murmur2_random"),
        // Batches grow while the broker is slower than the stream.
        ("linger.ms", "5"),
        // The broker decides what is too large.
        ("message.max.bytes", "100000000"),
        ("socket.keepalive.enable", "true"),
        ("reconnect.backoff.ms", "50"),
        ("reconnect.backoff.max.ms", "2000"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    if let Some((user, password)) = &address.user {
        all.push(("sasl.username".to_owned(), user.clone()));
        all.push(("sasl.password".to_owned(), password.clone().unwrap_or_default()));
        all.push(("sasl.mechanism".to_owned(), "PLAIN".to_owned()));
        let tls = security.ca.is_some() || security.certificate.is_some();
        let protocol = if tls { "SASL_SSL" } else { "SASL_PLAINTEXT" };
        all.push(("security.protocol".to_owned(), protocol.to_owned()));
    } else if security.ca.is_some() || security.certificate.is_some() {
        all.push(("security.protocol".to_owned(), "SSL".to_owned()));
    }
    let path = |path: &Path| path.to_string_lossy().into_owned();
    if let Some(ca) = &security.ca {
        all.push(("ssl.ca.location".to_owned(), path(ca)));
    }
    if let Some((certificate, key)) = &security.certificate {
        all.push(("ssl.certificate.location".to_owned(), path(certificate)));
        all.push(("ssl.key.location".to_owned(), path(key)));
    }
    all.extend(given.iter().cloned());
    // More than the flow ever sends.
    let kilobytes = (limits.bytes / 1024 + 128 * 1024).min(2_097_151);
    all.extend(
        [
            ("bootstrap.servers", address.servers.join(",")),
            ("enable.idempotence", "true".to_owned()),
            ("acks", "all".to_owned()),
            // For ever.
            ("message.timeout.ms", "0".to_owned()),
            ("queue.buffering.max.messages", (limits.messages + 10_000).to_string()),
            ("queue.buffering.max.kbytes", kilobytes.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_setting_in_each_line() {
        let text = "# the cluster\nsasl.username=me\n\n sasl.password = a=b \n";
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(
            of_file(text).unwrap(),
            [pair("sasl.username", "me"), pair("sasl.password", "a=b")]
        );
        assert_eq!(of_file("a=b\nsecret").unwrap_err(), "line 2 is not NAME=VALUE");
        assert!(of_file("=b").is_err());
    }

    #[test]
    fn what_the_promises_rest_on_cannot_be_set() {
        for name in ["acks", "request.required.acks", "enable.idempotence", "delivery.timeout.ms"] {
            assert!(reserved(name).is_some(), "{name}");
        }
        assert_eq!(reserved("linger.ms"), None);
    }

    #[test]
    fn the_users_settings_go_before_the_usual_ones_and_ours_before_both() {
        let address = Address::parse("kafka://me:secret@a,b/T").unwrap();
        let given = vec![
            ("linger.ms".to_owned(), "50".to_owned()),
            ("sasl.mechanism".to_owned(), "SCRAM-SHA-256".to_owned()),
        ];
        let limits = Limits { messages: 10, bytes: 1 << 40 };
        let all = all(&address, &Security::default(), limits, &given);
        let last = |wanted: &str| {
            all.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        assert_eq!(last("linger.ms"), Some("50"));
        assert_eq!(last("bootstrap.servers"), Some("a:9092,b:9092"));
        assert_eq!(last("sasl.mechanism"), Some("SCRAM-SHA-256"));
        assert_eq!(last("sasl.password"), Some("secret"));
        assert_eq!(last("security.protocol"), Some("SASL_PLAINTEXT"));
        assert_eq!(last("message.timeout.ms"), Some("0"));
        assert_eq!(last("queue.buffering.max.kbytes"), Some("2097151"));
    }
}
