//! Kafka: a node starts, obeys and vanishes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use brokers::{DEADLINE, Kafka};

const METADATA: i16 = 3;
const SASL_HANDSHAKE: i16 = 17;
const SASL_AUTHENTICATE: i16 = 36;
/// Error of a topic that is not there.
const UNKNOWN: i16 = 3;

/// A connection that speaks the protocol.
struct Client(TcpStream);

impl Client {
    fn new(kafka: &Kafka) -> Self {
        let stream = TcpStream::connect(kafka.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        Self(stream)
    }

    fn send(&mut self, request: i16, version: i16, body: &[u8]) {
        let mut bytes = Vec::new();
        bytes.extend(u32::try_from(10 + body.len()).unwrap().to_be_bytes());
        bytes.extend(request.to_be_bytes());
        bytes.extend(version.to_be_bytes());
        // A number that comes back; no name of the client.
        bytes.extend([0, 0, 0, 5, 0xff, 0xff]);
        bytes.extend(body);
        self.0.write_all(&bytes).unwrap();
    }

    fn answer(&mut self) -> std::io::Result<Vec<u8>> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length)?;
        let mut answer = vec![0; u32::from_be_bytes(length).try_into().unwrap()];
        self.0.read_exact(&mut answer)?;
        assert_eq!(answer[..4], [0, 0, 0, 5]);
        Ok(answer.split_off(4))
    }

    fn ask(&mut self, request: i16, version: i16, body: &[u8]) -> Vec<u8> {
        self.send(request, version, body);
        self.answer().unwrap()
    }

    /// The error of a topic (0: there is none), and how many partitions it has.
    fn topic(&mut self, name: &str, make: bool) -> (i16, u32) {
        let body = [&[0, 0, 0, 1], string(name).as_slice(), &[u8::from(make)]].concat();
        let answer = self.ask(METADATA, 4, &body);
        // The topic stands at the end: error, name, whether it is internal, number of partitions.
        let at = answer.windows(name.len()).rposition(|part| part == name.as_bytes()).unwrap();
        let error = answer[at - 4..at - 2].try_into().unwrap();
        let partitions = answer[at + name.len() + 1..][..4].try_into().unwrap();
        (i16::from_be_bytes(error), u32::from_be_bytes(partitions))
    }

    /// Asks for a topic, which is made then, until it has so many partitions.
    #[track_caller]
    fn make_topic(&mut self, name: &str, partitions: u32) {
        let end = Instant::now() + DEADLINE;
        while self.topic(name, true) != (0, partitions) {
            assert!(Instant::now() < end, "no topic {name} within {DEADLINE:?}");
            sleep(Duration::from_millis(10));
        }
    }

    /// The error of a login, 0 if it succeeds.
    fn log_in(&mut self, user: &str, password: &str) -> i16 {
        let answer = self.ask(SASL_HANDSHAKE, 1, &string("PLAIN"));
        assert_eq!(answer[..2], [0, 0]);
        let plain = format!("\0{user}\0{password}");
        let length = u32::try_from(plain.len()).unwrap().to_be_bytes();
        let answer = self.ask(SASL_AUTHENTICATE, 0, &[&length, plain.as_bytes()].concat());
        i16::from_be_bytes(answer[..2].try_into().unwrap())
    }
}

fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap().to_be_bytes();
    [&length, text.as_bytes()].concat()
}

fn gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn node_makes_the_topics_it_is_asked_for() {
    if Kafka::is_missing() {
        return;
    }
    let kafka = Kafka::start().unwrap();
    assert!(kafka.node().is_running());
    Client::new(&kafka).make_topic("orders", 1);
}

#[test]
fn node_makes_no_topics_if_told_so() {
    if Kafka::is_missing() {
        return;
    }
    let kafka = Kafka::builder().auto_create_topics(false).start().unwrap();
    assert_eq!(Client::new(&kafka).topic("orders", true).0, UNKNOWN);
}

#[test]
fn killed_node_comes_back_with_its_topics() {
    if Kafka::is_missing() {
        return;
    }
    let kafka = Kafka::start().unwrap();
    Client::new(&kafka).make_topic("orders", 1);
    let (pid, address) = (kafka.node().pid(), kafka.address().to_owned());
    kafka.node().kill().unwrap();
    assert!(gone(pid) && !kafka.node().is_running());
    assert!(TcpStream::connect(&address).is_err());
    kafka.node().restart().unwrap();
    assert_eq!(kafka.address(), address);
    assert_eq!(Client::new(&kafka).topic("orders", false).1, 1);
}

#[test]
fn paused_node_is_silent_until_it_goes_on() {
    if Kafka::is_missing() {
        return;
    }
    let kafka = Kafka::start().unwrap();
    let mut client = Client::new(&kafka);
    kafka.node().pause().unwrap();
    client.send(METADATA, 4, &[0, 0, 0, 0, 0]);
    client.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(client.answer().is_err());
    kafka.node().resume().unwrap();
    client.0.set_read_timeout(Some(DEADLINE)).unwrap();
    client.answer().unwrap();
}

#[test]
fn password_is_demanded() {
    if Kafka::is_missing() {
        return;
    }
    let password = "p\"ss\\wörd 1";
    let kafka = Kafka::builder().sasl("some-user_1", password).start().unwrap();
    let mut known = Client::new(&kafka);
    assert_eq!(known.log_in("some-user_1", password), 0);
    known.make_topic("orders", 1);
    assert_ne!(Client::new(&kafka).log_in("some-user_1", "other"), 0);
    let mut unknown = Client::new(&kafka);
    unknown.send(METADATA, 4, &[0, 0, 0, 0, 0]);
    assert!(unknown.answer().is_err());
}

#[test]
fn further_properties_count() {
    if Kafka::is_missing() {
        return;
    }
    let kafka = Kafka::builder().property("num.partitions", "3").start().unwrap();
    Client::new(&kafka).make_topic("orders", 3);
}

#[test]
fn failed_start_says_why() {
    if Kafka::is_missing() {
        return;
    }
    let error = Kafka::builder().property("node.id", "nonsense").start().unwrap_err().to_string();
    assert!(error.contains("ended while starting") && error.contains("nonsense"), "{error}");
}

#[test]
fn strange_user_is_refused() {
    assert!(Kafka::builder().sasl("a user", "x").start().is_err());
}

#[test]
fn dropped_node_leaves_nothing() {
    if Kafka::is_missing() {
        return;
    }
    let kafka = Kafka::start().unwrap();
    let (pid, directory) = (kafka.node().pid(), kafka.node().directory().to_owned());
    assert!(!gone(pid) && directory.exists());
    drop(kafka);
    assert!(gone(pid) && !directory.parent().unwrap().exists());
}
