//! NATS: servers start, obey and vanish.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use brokers::{DEADLINE, Nats, Node};

/// The server tells if nobody is there to answer a request.
const OPTIONS: &str = r#""verbose":false,"headers":true,"no_responders":true"#;

/// A connection that speaks the text protocol.
struct Client {
    stream: BufReader<TcpStream>,
    info: String,
}

impl Client {
    /// `login` is the inside of the CONNECT message.
    fn new(node: &Node, login: &str) -> Self {
        let stream = TcpStream::connect(node.address()).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut client = Self { stream: BufReader::new(stream), info: String::new() };
        client.info = client.line();
        client.send(&format!("CONNECT {{{OPTIONS}{login}}}\r\nPING\r\n"));
        client
    }

    fn open(node: &Node) -> Self {
        let mut client = Self::new(node, "");
        assert_eq!(client.line(), "PONG");
        client.send("SUB inbox 1\r\n");
        client
    }

    fn send(&mut self, text: &str) {
        self.stream.get_mut().write_all(text.as_bytes()).unwrap();
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends a request and returns the answer.
    fn request(&mut self, subject: &str, body: &str) -> String {
        self.send(&format!("PUB {subject} inbox {}\r\n{body}\r\n", body.len()));
        loop {
            let line = self.line();
            if line == "PING" {
                self.send("PONG\r\n");
            } else if line.starts_with("MSG inbox ") || line.starts_with("HMSG inbox ") {
                let mut answer = vec![0; line.rsplit(' ').next().unwrap().parse().unwrap()];
                self.stream.read_exact(&mut answer).unwrap();
                self.line();
                return String::from_utf8(answer).unwrap();
            } else {
                assert!(line.starts_with("INFO "), "{line}");
            }
        }
    }

    fn create_stream(&mut self, replicas: usize) {
        let config = format!(
            "{{\"name\":\"S\",\"subjects\":[\"s.>\"],\"storage\":\"file\",\"num_replicas\":{replicas}}}"
        );
        let answer = self.request("$JS.API.STREAM.CREATE.S", &config);
        assert!(!answer.contains("\"error\""), "{answer}");
    }

    fn messages(&mut self) -> String {
        let answer = self.request("$JS.API.STREAM.INFO.S", "");
        let (_, state) = answer.split_once("\"messages\":").unwrap_or_else(|| panic!("{answer}"));
        state.split(',').next().unwrap().to_owned()
    }
}

#[track_caller]
fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < end, "not within {DEADLINE:?}: {what}");
        sleep(Duration::from_millis(5));
    }
}

fn gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn server_speaks_nats() {
    let nats = Nats::start().unwrap();
    assert_eq!(nats.url(), format!("nats://{}", nats.node(0).address()));
    let info = Client::open(nats.node(0)).info;
    assert!(info.contains("\"jetstream\":true"), "{info}");
}

#[test]
fn killed_server_comes_back_with_its_stream() {
    let nats = Nats::start().unwrap();
    let (node, address, pid) =
        (nats.node(0), nats.node(0).address().to_owned(), nats.node(0).pid());
    let mut client = Client::open(node);
    client.create_stream(1);
    let ack = client.request("s.x", "hello");
    assert!(ack.contains("\"seq\":1"), "{ack}");
    node.kill().unwrap();
    assert!(gone(pid) && !node.is_running() && node.pid() == 0);
    assert!(TcpStream::connect(&address).is_err());
    node.restart().unwrap();
    assert_eq!(node.address(), address);
    assert_eq!(Client::open(node).messages(), "1");
}

#[test]
fn dead_server_cannot_be_paused_but_killed_again() {
    let nats = Nats::start().unwrap();
    nats.node(0).kill().unwrap();
    assert!(nats.node(0).pause().is_err() && nats.node(0).resume().is_err());
    nats.node(0).kill().unwrap();
}

#[test]
fn restart_waits_for_a_busy_port() {
    let nats = Nats::start().unwrap();
    nats.node(0).kill().unwrap();
    let busy = TcpListener::bind(nats.node(0).address()).unwrap();
    let directory = nats.node(0).directory().to_owned();
    let freed = std::thread::spawn(move || {
        let refused = || {
            let log = std::fs::read_to_string(directory.join("log")).unwrap();
            log.contains("address already in use")
        };
        wait_until("the server has met the busy port", refused);
        drop(busy);
    });
    nats.node(0).restart().unwrap();
    freed.join().unwrap();
}

#[test]
fn paused_server_is_silent_until_it_goes_on() {
    let nats = Nats::start().unwrap();
    let mut client = Client::open(nats.node(0));
    nats.node(0).pause().unwrap();
    assert!(nats.node(0).is_running());
    client.send("PING\r\n");
    client.stream.get_ref().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(client.stream.read_line(&mut String::new()).is_err());
    nats.node(0).resume().unwrap();
    client.stream.get_ref().set_read_timeout(Some(DEADLINE)).unwrap();
    assert_eq!(client.line(), "PONG");
}

#[test]
fn cluster_works_on_without_one_node() {
    let nats = Nats::builder().nodes(3).start().unwrap();
    assert_eq!(nats.url().split(',').count(), 3);
    let mut client = Client::open(nats.node(0));
    client.create_stream(3);
    // A new stream has its leader a moment later; before that nobody answers.
    wait_until("the stream takes messages", || client.request("s.x", "1").contains("\"seq\":1"));
    nats.node(1).kill().unwrap();
    nats.wait_until_ready().unwrap();
    // The stream has a leader of its own, which may have been on the dead node.
    wait_until("the stream takes messages", || client.request("s.x", "2").contains("\"seq\":"));
    nats.node(1).restart().unwrap();
    nats.wait_until_ready().unwrap();
    assert_eq!(Client::open(nats.node(1)).messages(), "2");
}

#[test]
fn password_is_demanded() {
    let nats = Nats::builder().user("a user", "p\"ss\\word").start().unwrap();
    let mut known = Client::new(nats.node(0), r#","user":"a user","pass":"p\"ss\\word""#);
    assert_eq!(known.line(), "PONG");
    let mut unknown = Client::new(nats.node(0), r#","user":"a user","pass":"other""#);
    assert_eq!(unknown.line(), "-ERR 'Authorization Violation'");
}

#[test]
fn token_is_demanded() {
    let nats = Nats::builder().token("s3cret").start().unwrap();
    assert_eq!(Client::new(nats.node(0), r#","auth_token":"s3cret""#).line(), "PONG");
    let refused = Client::new(nats.node(0), "").line();
    assert_eq!(refused, "-ERR 'Authorization Violation'");
}

#[test]
fn tls_is_demanded() {
    let nats = Nats::builder().tls().start().unwrap();
    let info = Client::new(nats.node(0), "").info;
    assert!(info.contains("\"tls_required\":true"), "{info}");
    let authority = std::fs::read_to_string(nats.authority().unwrap()).unwrap();
    assert!(authority.contains("BEGIN CERTIFICATE"), "{authority}");
}

#[test]
fn largest_message_is_set() {
    let nats = Nats::builder().max_payload(100_000_000).start().unwrap();
    let info = Client::open(nats.node(0)).info;
    assert!(info.contains("\"max_payload\":100000000"), "{info}");
}

#[test]
fn further_configuration_counts() {
    let nats = Nats::builder().config("no_header_support: true").start().unwrap();
    let info = Client::new(nats.node(0), "").info;
    assert!(info.contains("\"headers\":false"), "{info}");
}

#[test]
fn failed_start_says_why_and_leaves_nothing() {
    let error = Nats::builder().config("listen: nonsense:x:y").start().unwrap_err().to_string();
    assert!(error.contains("ended while starting") && error.contains("nonsense"), "{error}");
    let left = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let config = std::fs::read_to_string(entry.path().join("0/nats.conf"));
        name.starts_with(&format!("mongostream-brokers-{}-", std::process::id()))
            && config.is_ok_and(|config| config.contains("nonsense"))
    });
    assert!(!left);
}

#[test]
fn too_many_nodes_are_refused() {
    assert!(Nats::builder().nodes(6).start().is_err());
}

#[test]
fn panic_leaves_nothing() {
    let nats = Nats::builder().nodes(2).start().unwrap();
    let traces: Vec<(u32, PathBuf)> =
        nats.nodes().iter().map(|node| (node.pid(), node.directory().to_owned())).collect();
    let panicked = std::thread::spawn(move || {
        let _dropped_by_the_panic = nats;
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(panicked.join().is_err());
    for (pid, directory) in traces {
        assert!(gone(pid) && !directory.parent().unwrap().exists());
    }
}

const OWNER: &str = "BROKERS_OWNER";

/// The process that is killed by the next test.
#[test]
#[ignore = "another test runs it"]
fn owner() {
    if std::env::var_os(OWNER).is_none() {
        return;
    }
    let nats = Nats::start().unwrap();
    println!("\nnode {} {}", nats.node(0).pid(), nats.node(0).directory().display());
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

#[test]
fn killed_owner_leaves_nothing() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner", "--ignored", "--nocapture"])
        .env(OWNER, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines().map(Result::unwrap);
    let found = lines.into_iter().find_map(|line| line.strip_prefix("node ").map(str::to_owned));
    let found = found.unwrap();
    let (pid, directory) = found.split_once(' ').unwrap();
    let (number, directory) = (pid.parse().unwrap(), Path::new(directory));
    assert!(!gone(number) && directory.exists());
    // Stopped and then orphaned: the kernel wakes its group with a hang-up in that case.
    assert!(Command::new("sh").args(["-c", "kill -STOP $0", pid]).status().unwrap().success());
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until("the server and its data are gone", || gone(number) && !directory.exists());
}
