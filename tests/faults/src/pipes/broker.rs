//! The brokers: started, broken, and read.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use brokers::{Kafka, Nats, Node};
use futures_util::StreamExt;
use ground::mongodb::bson::{Bson, RawDocumentBuf};
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::judge::{Judge, Stored};
use super::wire::Wire;
use crate::Result;
use crate::report::{Received, now};

/// The stream, or the topic.
const NAME: &str = "FAULTS";
/// How many partitions.
const PARTITIONS: i32 = 4;

/// A broker behind proxies.
pub enum Broker {
    /// JetStream with three nodes.
    Nats(Nats, Vec<Wire>),
    /// Kafka with one node.
    Kafka(Kafka, Vec<Wire>),
}

impl Broker {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// If it cannot be fetched or started.
    pub fn start(kind: &str) -> Result<Self> {
        let wires = |count| (0..count).map(|_| Wire::start()).collect::<Result<Vec<_>>>();
        match kind {
            "nats" => {
                let (nats, wires) = (Nats::builder().nodes(3).start()?, wires(3)?);
                for (wire, node) in wires.iter().zip(nats.nodes()) {
                    wire.lead_to(node.address())?;
                }
                Ok(Self::Nats(nats, wires))
            }
            "kafka" => {
                let wires = wires(1)?;
                let kafka = Kafka::builder().advertise(&wires[0].address()).start()?;
                wires[0].lead_to(kafka.address())?;
                Ok(Self::Kafka(kafka, wires))
            }
            other => Err(format!("--to is nats or kafka, and not {other}").into()),
        }
    }

    /// What the pipes get as `--to`, and further arguments.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let all = |wires: &[Wire]| wires.iter().map(Wire::address).collect::<Vec<_>>().join(",");
        let arguments = match self {
            Self::Nats(_, wires) => vec![format!("nats://{}/{NAME}", all(wires)), "3".to_owned()],
            Self::Kafka(_, wires) => vec![format!("kafka://{}/{NAME}", all(wires)), "1".to_owned()],
        };
        let [to, replicas] = [0, 1].map(|at: usize| arguments[at].clone());
        ["--to", &to, "--replicas", &replicas, "--partitions", &PARTITIONS.to_string()]
            .map(str::to_owned)
            .into()
    }

    /// In words.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nats(..) => "JetStream with three nodes",
            Self::Kafka(..) => "Kafka with one node",
        }
    }

    /// Whether it removes what comes twice.
    #[must_use]
    pub fn removes_duplicates(&self) -> bool {
        matches!(self, Self::Nats(..))
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        match self {
            Self::Nats(nats, _) => nats.nodes(),
            Self::Kafka(kafka, _) => std::slice::from_ref(kafka.node()),
        }
    }

    /// The proxies before them.
    #[must_use]
    pub fn wires(&self) -> &[Wire] {
        match self {
            Self::Nats(_, wires) | Self::Kafka(_, wires) => wires,
        }
    }

    /// Waits until it works again after a node was restarted.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn recovers(&self) -> Result<()> {
        match self {
            Self::Nats(nats, _) => Ok(nats.wait_until_ready()?),
            Self::Kafka(..) => Ok(()),
        }
    }

    /// Reads what it holds, as it comes, for the judge.
    #[must_use]
    pub fn read(&self, judge: &Arc<Mutex<Judge>>) -> Reader {
        let stop = Arc::new(AtomicBool::new(false));
        let (judge, stopped) = (Arc::clone(judge), Arc::clone(&stop));
        let thread = match self {
            Self::Nats(nats, _) => {
                let url = nats.url().to_owned();
                thread::spawn(move || read_nats(&url, &judge, &stopped))
            }
            Self::Kafka(kafka, _) => {
                let address = kafka.address().to_owned();
                thread::spawn(move || read_kafka(&address, &judge, &stopped))
            }
        };
        Reader { stop, thread: Some(thread) }
    }
}

/// Reads until it is dropped.
pub struct Reader {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn event(json: &[u8]) -> Result<RawDocumentBuf> {
    let value: serde_json::Value = serde_json::from_slice(json)?;
    let Bson::Document(event) = Bson::try_from(value)? else { return Err("no document".into()) };
    Ok(RawDocumentBuf::try_from(&event)?)
}

fn stored(place: &str, token: Option<String>, payload: &[u8]) -> Stored {
    let event = event(payload).ok();
    let operation = event.as_ref().and_then(|event| event.get_str("operationType").ok());
    let received =
        Received::of_event(event.as_deref(), operation.unwrap_or_default().to_owned(), 0);
    Stored {
        at: now(),
        place: place.to_owned(),
        token,
        key: received.key,
        is_event: event.is_some(),
    }
}

const PAUSE: Duration = Duration::from_millis(100);

fn read_nats(url: &str, judge: &Mutex<Judge>, stop: &AtomicBool) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return;
    };
    let mut next = 1;
    while !stop.load(Ordering::Relaxed) {
        // A node may be away; then it begins anew.
        let _ = runtime.block_on(read_nats_once(url, judge, stop, &mut next));
        thread::sleep(PAUSE);
    }
}

async fn read_nats_once(
    url: &str,
    judge: &Mutex<Judge>,
    stop: &AtomicBool,
    next: &mut u64,
) -> Result<()> {
    let servers: Vec<_> = url.split(',').map(str::to_owned).collect();
    let client = async_nats::connect(servers).await?;
    let stream = async_nats::jetstream::new(client).get_stream(NAME).await?;
    let from = pull::Config {
        deliver_policy: DeliverPolicy::ByStartSequence { start_sequence: *next },
        ack_policy: AckPolicy::None,
        memory_storage: true,
        ..pull::Config::default()
    };
    let mut messages = stream.create_consumer(from).await?.messages().await?;
    while !stop.load(Ordering::Relaxed) {
        let Ok(message) = tokio::time::timeout(Duration::from_secs(3), messages.next()).await
        else {
            // Its consumer may be gone with a node.
            return Ok(());
        };
        let message = message.ok_or("the end")??;
        let sequence = message.info()?.stream_sequence;
        if sequence < *next {
            continue;
        }
        *next = sequence + 1;
        let token = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
        let token = token.map(|token| token.as_str().to_owned());
        let stored = stored(&message.subject, token, &message.payload);
        judge.lock().expect("no panic").stored(stored);
    }
    Ok(())
}

fn read_kafka(address: &str, judge: &Mutex<Judge>, stop: &AtomicBool) {
    let consumer: BaseConsumer = match ClientConfig::new()
        .set("bootstrap.servers", address)
        .set("group.id", "judge")
        .set("enable.auto.commit", "false")
        .create()
    {
        Ok(consumer) => consumer,
        Err(_) => return,
    };
    // The topic is there when the first pipe has started.
    let is_there = || {
        let metadata = consumer.fetch_metadata(Some(NAME), Duration::from_secs(1));
        metadata
            .is_ok_and(|metadata| metadata.topics()[0].partitions().len() == PARTITIONS as usize)
    };
    while !is_there() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        thread::sleep(PAUSE);
    }
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        if all.add_partition_offset(NAME, partition, Offset::Beginning).is_err() {
            return;
        }
    }
    if consumer.assign(&all).is_err() {
        return;
    }
    while !stop.load(Ordering::Relaxed) {
        // Errors are those of a broker that is away.
        let Some(Ok(message)) = consumer.poll(PAUSE) else { continue };
        let token = message.headers().and_then(|headers| {
            let header = headers.iter().find(|header| header.key == "resume-token")?;
            String::from_utf8(header.value?.to_vec()).ok()
        });
        let place = format!("{}/{}", message.topic(), message.partition());
        let stored = stored(&place, token, message.payload().unwrap_or_default());
        judge.lock().expect("no panic").stored(stored);
    }
}
