//! A broker, and how many messages it holds. Both are asked in their own protocols, so that nobody's client is needed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use brokers::{Kafka, Nats};
use serde_json::{Value, json};

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    JetStream,
    Kafka,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::JetStream, Self::Kafka];

    /// For the command line.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::JetStream => "nats",
            Self::Kafka => "kafka",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::JetStream => "JetStream",
            Self::Kafka => "Kafka",
        }
    }
}

/// A broker of one node.
pub(crate) enum Broker {
    JetStream(Nats, Asker),
    Kafka(Kafka, TcpStream),
}

impl Broker {
    pub(crate) fn start(kind: Kind) -> Self {
        match kind {
            Kind::JetStream => {
                let nats = Nats::start().unwrap();
                let asker = Asker::connect(nats.node(0).address());
                Self::JetStream(nats, asker)
            }
            Kind::Kafka => {
                let kafka = Kafka::start().unwrap();
                let socket = connect(kafka.address());
                Self::Kafka(kafka, socket)
            }
        }
    }

    /// `host:port`
    pub(crate) fn address(&self) -> &str {
        match self {
            Self::JetStream(nats, _) => nats.node(0).address(),
            Self::Kafka(kafka, _) => kafka.address(),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::JetStream(..) => Kind::JetStream,
            Self::Kafka(..) => Kind::Kafka,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        match self {
            Self::JetStream(nats, _) => nats.node(0).pid(),
            Self::Kafka(kafka, _) => kafka.node().pid(),
        }
    }

    /// Makes the stream with the subjects that begin with its name, as the pipe would make it. Kafka makes a topic itself.
    pub(crate) fn make(&mut self, stream: &str) {
        if let Self::JetStream(_, asker) = self {
            let minutes = Duration::from_secs(120);
            asker.ask(
                "CREATE",
                stream,
                &json!({
                    "name": stream, "subjects": [format!("{stream}.>")], "storage": "file",
                    "retention": "limits", "num_replicas": 1, "duplicate_window": minutes.as_nanos() as u64,
                }),
            );
        }
    }

    /// Removes it. A topic of Kafka goes with the broker.
    pub(crate) fn remove(&mut self, stream: &str) {
        if let Self::JetStream(_, asker) = self {
            asker.ask("DELETE", stream, &json!({}));
        }
    }

    /// How many bytes the stream keeps of each message, with its headers; 0 for Kafka, which does not tell.
    pub(crate) fn bytes_per_message(&mut self, stream: &str) -> f64 {
        let Self::JetStream(_, asker) = self else { return 0.0 };
        let state = &asker.ask("INFO", stream, &json!({}))["state"];
        let number = |name: &str| state[name].as_f64().expect("the state of a stream");
        number("bytes") / number("messages")
    }

    /// How many messages the stream holds, or the topic, which has one partition.
    pub(crate) fn count(&mut self, stream: &str, topic: &str) -> u64 {
        match self {
            Self::JetStream(_, asker) => {
                let info = asker.ask("INFO", stream, &json!({}));
                info["state"]["messages"].as_u64().expect("the state of a stream")
            }
            Self::Kafka(_, socket) => end_offset(socket, topic),
        }
    }
}

fn connect(address: &str) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    socket
}

/// A connection to a NATS server, for requests to JetStream (NATS documentation, "NATS Protocol", "JetStream wire API").
pub(crate) struct Asker(BufReader<TcpStream>);

impl Asker {
    const INBOX: &str = "_INBOX.bench";

    fn connect(address: &str) -> Self {
        let mut asker = Self(BufReader::new(connect(address)));
        let inbox = Self::INBOX;
        asker.say(&format!("CONNECT {{\"verbose\":false}}\r\nSUB {inbox} 1\r\n"));
        asker
    }

    fn say(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).unwrap();
    }

    /// Asks something of a stream.
    fn ask(&mut self, what: &str, stream: &str, body: &Value) -> Value {
        let (inbox, body) = (Self::INBOX, body.to_string());
        let length = body.len();
        self.say(&format!("PUB $JS.API.STREAM.{what}.{stream} {inbox} {length}\r\n{body}\r\n"));
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "NATS has ended");
            let mut words = line.split_whitespace();
            match words.next() {
                Some("PING") => self.say("PONG\r\n"),
                Some("MSG") => {
                    let length: usize = words.last().unwrap().parse().unwrap();
                    let mut body = vec![0; length + "\r\n".len()];
                    self.0.read_exact(&mut body).unwrap();
                    let answer: Value = serde_json::from_slice(&body).unwrap();
                    assert!(answer["error"].is_null(), "{what} {stream}: {answer}");
                    return answer;
                }
                Some("-ERR") => panic!("NATS: {line}"),
                _ => {}
            }
        }
    }
}

/// The end of a topic's partition 0, 0 if the topic is not there yet (Kafka protocol, `ListOffsets`, version 1).
fn end_offset(socket: &mut TcpStream, topic: &str) -> u64 {
    const LIST_OFFSETS: i16 = 2;
    const UNKNOWN_TOPIC: i16 = 3;
    let mut request = Vec::new();
    request.extend(LIST_OFFSETS.to_be_bytes());
    request.extend(1i16.to_be_bytes());
    // Number of the request, and no name of a client.
    request.extend(1i32.to_be_bytes());
    request.extend((-1i16).to_be_bytes());
    // Not a replica; one topic, one partition, its latest offset.
    request.extend((-1i32).to_be_bytes());
    request.extend(1i32.to_be_bytes());
    request.extend((topic.len() as i16).to_be_bytes());
    request.extend(topic.as_bytes());
    request.extend(1i32.to_be_bytes());
    request.extend(0i32.to_be_bytes());
    request.extend((-1i64).to_be_bytes());
    let length = (request.len() as i32).to_be_bytes();
    socket.write_all(&[length.as_slice(), &request].concat()).unwrap();

    let mut length = [0; 4];
    socket.read_exact(&mut length).unwrap();
    let mut answer = vec![0; i32::from_be_bytes(length) as usize];
    socket.read_exact(&mut answer).unwrap();
    // It ends with error, time and offset.
    let (rest, offset) = answer.split_last_chunk().expect("an offset");
    let (_, error) = rest[..rest.len() - size_of::<i64>()].split_last_chunk().expect("an error");
    match i16::from_be_bytes(*error) {
        0 => i64::from_be_bytes(*offset) as u64,
        // A broker that has just made a topic may not lead it yet (5, 6).
        UNKNOWN_TOPIC | 5 | 6 => 0,
        code => panic!("Kafka: error {code} for the end of {topic}"),
    }
}
