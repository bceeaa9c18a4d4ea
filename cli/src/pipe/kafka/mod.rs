//! Apache Kafka as the pipe's broker.

mod deliveries;
pub(crate) mod settings;
mod topic;

use std::cell::RefCell;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::admin::AdminClient;
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DeliveryResult, Producer, ProducerContext, ThreadedProducer};

use self::deliveries::Deliveries;
use self::settings::Settings;
use super::address::Address;
use super::broker::{Answers, Broker, Number, Record, Refusal, Taken};
use super::security::Security;
use super::template::Template;
use super::wishes::Wishes;
use crate::failure::Failure;

/// How long a broker may take for its first answer.
const DEADLINE: Duration = Duration::from_secs(10);
/// How long a cluster may take until it can make a topic.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two questions for a topic.
const PAUSE: Duration = Duration::from_millis(500);
/// The header with the resume token.
const TOKEN: &str = "resume-token";

/// What librdkafka complained of last.
#[derive(Clone, Default)]
struct Complaints(Arc<Mutex<Option<String>>>);

impl Complaints {
    fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Complaints {
    // Errors come below, and nothing is printed.
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        // It says no more than the ones before it.
        if code != Some(RDKafkaErrorCode::AllBrokersDown) || self.last().is_none() {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
        }
    }
}

/// What the producer tells: complaints, and what became of each record.
struct Context {
    complaints: Complaints,
    deliveries: Deliveries,
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.complaints.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.complaints.error(error, reason);
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Number;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Number) {
        let answer = result.as_ref().map(|_| Taken::New).map_err(|(error, _)| error.clone());
        self.deliveries.add(number, answer);
    }
}

/// A producer.
pub(crate) struct Kafka {
    producer: ThreadedProducer<Context>,
    deliveries: Deliveries,
    admin: Arc<AdminClient<Complaints>>,
    complaints: Complaints,
    wishes: Wishes,
    /// Whether `{partition}` is in the topic's name.
    names_partitions: bool,
    /// The topics that are there.
    topics: RefCell<HashSet<String>>,
}

impl Kafka {
    /// Connects, and makes the topic if its name is known and it is not there.
    pub(crate) async fn connect(
        address: &Address,
        security: &Security,
        given: &Settings,
        topic: &Template,
        wishes: &Wishes,
        warn: &dyn Fn(&str),
    ) -> Result<Self, Failure> {
        let shown = address.shown();
        let (mut config, mut asks) = (ClientConfig::new(), ClientConfig::new());
        for (name, value) in settings::all(address, security, wishes.limits, given) {
            if !settings::is_of_producers(&name) {
                asks.set(&name, &value);
            }
            config.set(name, value);
        }
        let wrong = |error: KafkaError| match error {
            KafkaError::ClientConfig(_, why, name, _) => {
                Failure::usage(format!("a setting of Kafka is wrong: {why} ({name})"))
            }
            error => Failure::failed(format!("{shown}: {error}")),
        };
        let complaints = Complaints::default();
        let deliveries = Deliveries::default();
        let context = Context { complaints: complaints.clone(), deliveries: deliveries.clone() };
        let producer = config.create_with_context(context).map_err(wrong)?;
        let admin = Arc::new(asks.create_with_context(complaints.clone()).map_err(wrong)?);
        let kafka = Self {
            producer,
            deliveries,
            admin,
            complaints,
            wishes: wishes.clone(),
            names_partitions: topic.has_partition(),
            topics: RefCell::default(),
        };
        kafka.reach().await.map_err(|why| Failure::failed(format!("{shown}: {why}")))?;
        if let Some(topic) = topic.constant() {
            let made = kafka.ensure_soon(topic, warn).await;
            made.map_err(|why| Failure::failed(format!("{shown}: {why}")))?;
        }
        Ok(kafka)
    }

    /// Waits until a broker answers.
    async fn reach(&self) -> Result<(), String> {
        let admin = Arc::clone(&self.admin);
        // It blocks.
        let asked = tokio::task::spawn_blocking(move || {
            admin.inner().fetch_metadata(None, DEADLINE).map(|metadata| metadata.brokers().len())
        });
        match asked.await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                let why = self.complaints.last().unwrap_or_else(|| error.to_string());
                Err(format!("cannot connect: {why}; {}", advice(&why)))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Asks again while the cluster cannot make the topic yet.
    async fn ensure_soon(&self, topic: &str, warn: &dyn Fn(&str)) -> Result<(), String> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.ensure(topic, warn).await {
                Ok(()) => return Ok(()),
                Err(Refusal::ForNow(_)) if Instant::now() < end => {
                    tokio::time::sleep(PAUSE).await;
                }
                Err(Refusal::ForNow(why) | Refusal::ForGood(why)) => return Err(why),
            }
        }
    }

    async fn ensure(&self, topic: &str, warn: &dyn Fn(&str)) -> Result<(), Refusal> {
        if self.topics.borrow().contains(topic) {
            return Ok(());
        }
        topic::ensure(&self.admin, topic, self.names_partitions, &self.wishes, warn).await?;
        self.topics.borrow_mut().insert(topic.to_owned());
        Ok(())
    }
}

/// What to do about a complaint.
fn advice(why: &str) -> &'static str {
    let why = why.to_lowercase();
    if why.contains("sasl") || why.contains("authentication") {
        "give user and password with -X sasl.username=USER -X sasl.password=PASSWORD, and the mechanism with -X sasl.mechanism"
    } else if why.contains("ssl") || why.contains("certificate") {
        "check --tls-ca, and -X security.protocol (SSL or SASL_SSL)"
    } else {
        "check that Kafka runs there, that this machine may connect to it, and that -X security.protocol is what it wants"
    }
}

impl Broker for Kafka {
    /// The idempotent producer does (Kafka documentation, `enable.idempotence`).
    const KEEPS_ORDER: bool = true;

    type Problem = KafkaError;

    async fn send(&self, number: Number, record: &Record) -> Result<(), Refusal> {
        if !self.topics.borrow().contains(&record.place) {
            check_topic(&record.place).map_err(Refusal::ForGood)?;
            self.ensure(&record.place, &|_| {}).await?;
        }
        let mut sent = BaseRecord::with_opaque_to(&record.place, number)
            .key(record.key.as_str())
            .payload(&record.payload[..]);
        if let Some(id) = &record.id {
            let header = Header { key: TOKEN, value: Some(id.as_str()) };
            sent = sent.headers(OwnedHeaders::new_with_capacity(1).insert(header));
        }
        self.producer.send(sent).map_err(|(error, _)| self.refusal(&error, record))
    }

    fn answered(&self, answers: &mut Answers<KafkaError>) -> impl Future<Output = ()> {
        self.deliveries.take(answers)
    }

    fn refusal(&self, error: &KafkaError, record: &Record) -> Refusal {
        if let Some((code, why)) = self.producer.client().fatal_error() {
            return Refusal::ForGood(format!(
                "the producer has ended ({code}): {why}; start it again, what was not acked is sent then"
            ));
        }
        match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::MessageSizeTooLarge) => Refusal::ForGood(format!(
                "a message of {} has {} bytes of JSON, more than the broker takes; raise max.message.bytes of the topic \
                 (and message.max.bytes of the broker), or leave fields out with --pipeline",
                record.place,
                record.payload.len()
            )),
            Some(RDKafkaErrorCode::QueueFull) => {
                Refusal::ForNow("more waits than the producer can hold".to_owned())
            }
            // Nothing that comes after it is sent before it: the message is refused for good, and the next start sends
            // it again.
            _ => {
                let complaint =
                    self.complaints.last().map(|why| format!(" ({why})")).unwrap_or_default();
                Refusal::ForGood(format!(
                    "a message of {} was refused: {error}{complaint}",
                    record.place
                ))
            }
        }
    }

    /// Kafka has letters, digits, `.`, `_` and `-` in its topics. Anything else becomes `_`.
    fn write_name(name: &str, text: &mut String) {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        text.extend(name.chars().map(|c| if is_allowed(c) { c } else { '_' }));
    }
}

/// The longest name of a topic (Kafka, `Topic.MAX_NAME_LENGTH`).
const LONGEST: usize = 249;

fn check_topic(topic: &str) -> Result<(), String> {
    match topic.len() {
        1..=LONGEST if topic != "." && topic != ".." => Ok(()),
        _ => {
            Err(format!("{topic:?} cannot be the name of a topic; choose a shorter one with --to"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_that_kafka_takes() {
        let mut text = String::new();
        Kafka::write_name("orders.größe a/b-c_d", &mut text);
        assert_eq!(text, "orders.gr__e_a_b-c_d");
        assert!(check_topic(&"a".repeat(LONGEST)).is_ok());
        for topic in ["", ".", "..", &"a".repeat(LONGEST + 1)] {
            assert!(check_topic(topic).is_err(), "{topic}");
        }
    }
}
