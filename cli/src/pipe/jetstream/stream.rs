//! The stream in JetStream: made if it is not there, looked at if it is.

use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::context::{CreateStreamErrorKind, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

use super::super::template::{Template, Values};
use super::super::wishes::Wishes;
use super::chain;
use super::subject::{covers, write_name};

/// For so long the server knows a message again: its own default (NATS documentation, "Streams").
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);
/// The server's code for a stream that is not there (nats-server, `JSStreamNotFoundErr`).
const NOT_FOUND: u64 = 10059;
/// The server's code of a cluster without a leader (nats-server, `JSClusterNotAvailErr`).
const UNAVAILABLE: u64 = 10008;

/// Makes the stream, or checks the one that is there. The error says what is wrong and what to do.
pub(crate) async fn ensure(
    context: &Context,
    name: &str,
    subject: &Template,
    wishes: &Wishes,
    warn: &dyn Fn(&str),
) -> Result<(), String> {
    check_name(name)?;
    let (config, is_new) = found_or_made(context, name, subject, wishes).await?;
    if let Some(wanted) = wishes.replicas
        && !is_new
        && config.num_replicas != wanted
    {
        warn(&format!(
            "the stream has {} replicas, and --replicas says {wanted}; `nats stream edit {name} --replicas {wanted}` changes it",
            config.num_replicas
        ));
    }
    check(&config, subject)?;
    for risk in risks(&config) {
        warn(&risk);
    }
    Ok(())
}

fn no_jetstream(why: &str) -> String {
    format!(
        "JetStream does not answer: {why}; start the server with JetStream (`nats-server -js`), and give the user \
         permission for $JS.API.> and the subjects, with an inbox to answer to (_INBOX.>)"
    )
}

fn check_name(name: &str) -> Result<(), String> {
    let is_wrong =
        |c: char| c.is_whitespace() || c.is_control() || matches!(c, '.' | '*' | '>' | '\\');
    match name.contains(is_wrong) {
        true => {
            Err(format!("{name:?} cannot be the name of a stream: leave out spaces and . * > \\"))
        }
        false => Ok(()),
    }
}

/// How long a cluster may take to elect a leader.
const PATIENCE: Duration = Duration::from_secs(20);

/// The stream's settings, and whether it was made just now. A cluster that has no leader yet, or that is making the stream
/// for somebody else, does not answer in time; it is asked again.
async fn found_or_made(
    context: &Context,
    name: &str,
    subject: &Template,
    wishes: &Wishes,
) -> Result<(Config, bool), String> {
    let end = Instant::now() + PATIENCE;
    loop {
        let why = match context.get_stream(name).await {
            Ok(stream) => return Ok((stream.cached_info().config.clone(), false)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code().0 == NOT_FOUND => {
                    match context.create_stream(config(name, subject, wishes)?).await {
                        Ok(stream) => return Ok((stream.cached_info().config.clone(), true)),
                        Err(error) if error.kind() == CreateStreamErrorKind::TimedOut => {
                            chain(&error)
                        }
                        Err(error) => {
                            return Err(format!("the stream cannot be made: {}", chain(&error)));
                        }
                    }
                }
                GetStreamErrorKind::JetStream(unavailable)
                    if unavailable.error_code().0 == UNAVAILABLE =>
                {
                    // It answers at once.
                    tokio::time::sleep(Duration::from_millis(200)).await;
                    chain(&error)
                }
                GetStreamErrorKind::Request if chain(&error).contains("timed out") => chain(&error),
                _ => return Err(no_jetstream(&chain(&error))),
            },
        };
        if Instant::now() > end {
            return Err(no_jetstream(&why));
        }
    }
}

/// The settings of a new stream.
fn config(name: &str, subject: &Template, wishes: &Wishes) -> Result<Config, String> {
    Ok(Config {
        name: name.to_owned(),
        subjects: vec![all_subjects(subject)?],
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: wishes.replicas.unwrap_or(1),
        duplicate_window: DUPLICATE_WINDOW,
        description: Some("Changes of a MongoDB database, written by mongostream pipe".to_owned()),
        ..Config::default()
    })
}

/// The subjects of a stream for all that a template can give.
fn all_subjects(subject: &Template) -> Result<String, String> {
    if let Some(subject) = subject.constant() {
        return Ok(subject.to_owned());
    }
    // Up to the last token that has no field in it.
    match subject.beginning().rsplit_once('.') {
        Some((beginning, _)) if !beginning.is_empty() => Ok(format!("{beginning}.>")),
        _ => Err("a stream can only be made for subjects with a common beginning: give one that begins \
                  with a fixed token, such as --subject shop.{collection}, or make the stream yourself"
            .to_owned()),
    }
}

/// What would keep the pipe from working.
fn check(config: &Config, subject: &Template) -> Result<(), String> {
    let values = Values { database: "a", collection: "a", operation: "insert", partition: 0 };
    let example = subject.fill(values, write_name);
    if !config.subjects.iter().any(|pattern| covers(pattern, &example)) {
        return Err(format!(
            "the stream has the subjects {}, and messages would go to subjects such as {example}; \
             choose them with --subject, or add them to the stream",
            config.subjects.join(", ")
        ));
    }
    if config.no_ack {
        return Err("the stream acks nothing (no_ack); set it to false".to_owned());
    }
    if config.sealed {
        return Err("the stream is sealed; choose another one".to_owned());
    }
    if config.mirror.is_some() {
        return Err(
            "the stream is a mirror, which takes no messages; choose another one".to_owned()
        );
    }
    Ok(())
}

/// Settings that can lose messages that were acked, or let them come twice.
fn risks(config: &Config) -> Vec<String> {
    let mut risks = Vec::new();
    if config.storage == StorageType::Memory {
        risks.push(
            "the stream is in memory: a restart of the server loses it; use file storage"
                .to_owned(),
        );
    }
    if config.num_replicas < 2 {
        risks.push(
            "the stream has one replica, and NATS acks before the disk has a message: a crash of that machine \
             can lose acked messages; use --replicas 3 in a cluster, or `sync_interval: always` in the server's jetstream settings"
                .to_owned(),
        );
    }
    let has_limit =
        config.max_messages > 0 || config.max_bytes > 0 || config.max_messages_per_subject > 0;
    if config.discard == DiscardPolicy::Old && has_limit {
        risks.push(
            "the stream drops its oldest messages when it is full, read or not; `discard: new` makes the pipe wait instead"
                .to_owned(),
        );
    }
    if config.duplicate_window < DUPLICATE_WINDOW {
        risks.push(format!(
            "the stream knows a message again for only {} s: what is repeated after a longer interruption comes twice; \
             set its duplicate window to 2 minutes or more",
            config.duplicate_window.as_secs_f64()
        ));
    }
    risks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(text: &str) -> Template {
        Template::parse("--subject", text).unwrap()
    }

    fn config(subjects: &[&str]) -> Config {
        Config {
            subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
            num_replicas: 3,
            duplicate_window: DUPLICATE_WINDOW,
            ..Config::default()
        }
    }

    #[test]
    fn a_new_stream_has_the_subjects_of_the_template() {
        for (text, expected) in [
            ("SHOP.{database}.{collection}", "SHOP.>"),
            ("a.b.{partition}", "a.b.>"),
            ("a.b{partition}.c", "a.>"),
            ("a.b", "a.b"),
        ] {
            assert_eq!(all_subjects(&template(text)).as_deref(), Ok(expected));
        }
        for text in ["{database}.a", "a{database}", "a{database}.b"] {
            assert!(all_subjects(&template(text)).is_err(), "{text}");
        }
    }

    #[test]
    fn a_stream_that_would_not_work_is_refused() {
        let subject = template("SHOP.{database}.{collection}");
        let check = |config: Config| check(&config, &subject);
        assert_eq!(check(config(&["SHOP.>"])), Ok(()));
        assert_eq!(check(config(&["OTHER.>", "*.*.*"])), Ok(()));
        let with = |change: fn(&mut Config)| {
            let mut config = config(&["SHOP.>"]);
            change(&mut config);
            check(config).unwrap_err()
        };
        assert!(check(config(&["OTHER.>"])).unwrap_err().contains("SHOP.a.a"));
        assert!(with(|config| config.no_ack = true).contains("no_ack"));
        assert!(with(|config| config.sealed = true).contains("sealed"));
        assert!(with(|config| config.mirror = Some(Default::default())).contains("mirror"));
    }

    #[test]
    fn what_may_lose_messages_is_named() {
        assert_eq!(risks(&config(&["a"])), [""; 0]);
        let with = |change: fn(&mut Config)| {
            let mut config = config(&["a"]);
            change(&mut config);
            risks(&config).join("\n")
        };
        assert!(with(|config| config.storage = StorageType::Memory).contains("in memory"));
        assert!(with(|config| config.num_replicas = 1).contains("one replica"));
        assert!(with(|config| config.max_bytes = 1).contains("drops its oldest"));
        assert!(with(|config| config.max_messages_per_subject = 1).contains("drops its oldest"));
        assert_eq!(with(|config| (config.max_bytes, config.discard) = (1, DiscardPolicy::New)), "");
        assert!(
            with(|config| config.duplicate_window = Duration::from_secs(1))
                .contains("for only 1 s")
        );
    }

    #[test]
    fn a_name_that_no_stream_can_have_is_refused() {
        assert!(check_name("SHOP_1-a").is_ok());
        for name in ["a.b", "a b", "a*", "a>"] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
