//! Kafka, out of Maven artifacts. There is one node, broker and controller in one (KRaft).

use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use processes::{
    Context, Entry, Error, Fault, Kind, Node, free_ports, random, run, say, start, variable,
};

/// The jars, and what formatting makes.
struct Jars;

impl Entry for Jars {
    fn name(&self) -> &'static str {
        "kafka-4.1.0"
    }

    /// Two thirds are Kafka; the rest is what Maven needs itself.
    fn megabytes(&self) -> u32 {
        70
    }

    fn is_complete(&self, directory: &Path) -> bool {
        let jars = JARS.lines().filter_map(|line| line.split_whitespace().nth(1));
        jars.map(|name| directory.join("jars").join(name))
            .chain(FORMATTED.map(|name| directory.join("formatted").join(name)))
            .all(|path| path.is_file())
    }

    fn fetch(&self, partial: &Path, ready: &Path) -> Result<(), Error> {
        fetch(partial, ready)
    }
}

/// The jars and their checksums, as `sha256sum` writes them.
const JARS: &str = include_str!("kafka.sha256");

/// Kafka brings no logger of its own as a dependency; slf4j-simple writes to stderr.
const POM: &str = "\
<project>
  <modelVersion>4.0.0</modelVersion>
  <groupId>brokers</groupId>
  <artifactId>brokers</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>4.1.0</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
";

const GOAL: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies";

const NO_JAVA: &str = "Kafka needs Java 17 or later: install it, or set JAVA_HOME";
const NO_MAVEN: &str = "Kafka is fetched with Maven: install mvn, and let it reach a repository";

/// The files that formatting makes.
const FORMATTED: [&str; 2] = [META, "bootstrap.checkpoint"];
const META: &str = "meta.properties";

static KIND: Kind =
    Kind { name: "Kafka", listening: "kafka server started", answers: knows_its_requests };

/// How Kafka is to be started.
#[must_use]
#[derive(Debug)]
pub struct KafkaBuilder {
    auto_create_topics: bool,
    sasl: Option<(String, String)>,
    advertised: Option<String>,
    properties: Vec<(String, String)>,
}

impl KafkaBuilder {
    /// Whether a topic is made when a client first asks for it. Default true.
    pub fn auto_create_topics(mut self, yes: bool) -> Self {
        self.auto_create_topics = yes;
        self
    }

    /// Demands this user and password (`SASL_PLAINTEXT`, mechanism `PLAIN`). A user's name has letters, digits, `-` and
    /// `_`.
    pub fn sasl(mut self, user: &str, password: &str) -> Self {
        self.sasl = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Tells clients to come to this address (`host:port`), which may be that of a proxy.
    pub fn advertise(mut self, address: &str) -> Self {
        self.advertised = Some(address.to_owned());
        self
    }

    /// A property of the broker, like `message.max.bytes`. It overrides what this crate sets.
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Starts Kafka. When this returns, it takes requests.
    ///
    /// # Errors
    ///
    /// If Java is missing, Kafka cannot be fetched, or does not come up within [`DEADLINE`](crate::DEADLINE).
    pub fn start(self) -> Result<Kafka, Error> {
        if let Some((user, _)) = &self.sasl {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
            if user.is_empty() || !user.chars().all(plain) {
                return Err(Error::new(format!("a user cannot be called {user:?} in Kafka here")));
            }
        }
        check_java()?;
        let kafka = Jars.get()?;
        start("brokers", |root, end| self.attempt(&kafka, root, end))
    }

    fn attempt(&self, kafka: &Path, root: &Path, end: Instant) -> Result<Kafka, Fault> {
        let ports = free_ports(3)?;
        let directory = root.join("0");
        let mut arguments: Vec<OsString> = [
            // More than it needs, and no more than that for a machine with many tests.
            "-Xmx384m",
            // For a quick start.
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            // These would be left outside the directory.
            "-XX:-UsePerfData",
            "-Djava.io.tmpdir=tmp",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
            "-cp",
        ]
        .map(OsString::from)
        .into();
        arguments.extend([jars(kafka), "kafka.Kafka".into(), "server.properties".into()]);
        let node = Node::new(&KIND, directory, ports[0], &java(), &arguments)?;
        for name in ["data", "tmp"] {
            fs::create_dir(node.directory().join(name)).context("cannot make a folder")?;
        }
        format(kafka, &node)?;
        let mut properties = basics(&ports, self.sasl.is_some(), Path::new("data"));
        let mut set = |name: &str, value: &str| properties.push_str(&property(name, value));
        if let Some(client) = &self.advertised {
            let internal = ports[1];
            let both = format!("CLIENT://{client},INTERNAL://127.0.0.1:{internal}");
            set("advertised.listeners", &both);
        }
        set("auto.create.topics.enable", &self.auto_create_topics.to_string());
        for (name, value) in [
            // There is one node.
            ("offsets.topic.replication.factor", "1"),
            ("transaction.state.log.replication.factor", "1"),
            ("transaction.state.log.min.isr", "1"),
            ("share.coordinator.state.topic.replication.factor", "1"),
            ("share.coordinator.state.topic.min.isr", "1"),
            // 50 otherwise, each with files of its own.
            ("offsets.topic.num.partitions", "1"),
            ("transaction.state.log.num.partitions", "1"),
            ("share.coordinator.state.topic.num.partitions", "1"),
            // A killed broker may only come back after that time, 9 s otherwise.
            ("broker.session.timeout.ms", "2000"),
            ("broker.heartbeat.interval.ms", "200"),
            // Nobody else is going to join.
            ("group.initial.rebalance.delay.ms", "0"),
            // 128 MB of memory otherwise.
            ("log.cleaner.dedupe.buffer.size", "4194304"),
        ] {
            set(name, value);
        }
        if let Some((user, password)) = &self.sasl {
            let password = password.replace('\\', "\\\\").replace('"', "\\\"");
            let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
            set("sasl.enabled.mechanisms", "PLAIN");
            set(
                "listener.name.client.plain.sasl.jaas.config",
                &format!("{module} required user_{user}=\"{password}\";"),
            );
        }
        for (name, value) in &self.properties {
            set(name, value);
        }
        node.write("server.properties", &properties)?;
        node.begin()?;
        node.await_start(end)?;
        Ok(Kafka { node })
    }
}

/// A running Kafka node. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Kafka {
    node: Node,
}

impl Kafka {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// As [`KafkaBuilder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// For Kafka that is not the plain one.
    pub fn builder() -> KafkaBuilder {
        KafkaBuilder {
            auto_create_topics: true,
            sasl: None,
            advertised: None,
            properties: Vec::new(),
        }
    }

    /// `127.0.0.1:port` for clients (`bootstrap.servers`).
    #[must_use]
    pub fn address(&self) -> &str {
        self.node.address()
    }

    /// Its process.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Whether a test of Kafka has to be skipped because Java or Maven is missing, or because `MONGOSTREAM_KAFKA` is
    /// `later`: somebody runs it another time. It then says so on stderr.
    ///
    /// # Panics
    ///
    /// If they are missing and the environment variable `CI` is set: there a skipped test is a failure.
    #[must_use]
    pub fn is_missing() -> bool {
        let name = std::thread::current().name().unwrap_or("a test").to_owned();
        if std::env::var("MONGOSTREAM_KAFKA").is_ok_and(|value| value == "later") {
            say(&format!("LATER: {name}"));
            return true;
        }
        let Err(error) = check_java().and_then(|()| check_maven()) else {
            return false;
        };
        assert!(variable("CI").is_none(), "{name} cannot run: {error}");
        say(&format!("SKIPPED: {name}: {error}"));
        true
    }
}

/// What the storage tool does, without the second that it takes: its files are copied and get a name for the
/// cluster.
fn format(kafka: &Path, node: &Node) -> Result<(), Error> {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let formatted = kafka.join("formatted");
    let [meta, checkpoint] = FORMATTED.map(|name| formatted.join(name));
    let meta = fs::read_to_string(&meta).context(format!("cannot read {}", meta.display()))?;
    // 128 bits, 6 to a letter; the first is no hyphen, and of the last one only 2 bits count.
    let (high, low) = (random(), random());
    let mut name = String::from("A");
    for i in 0..20 {
        let bits = if i < 10 { high >> (6 * i) } else { low >> (6 * (i - 10)) };
        name.push(char::from(LETTERS[usize::try_from(bits & 63).unwrap_or(0)]));
    }
    name.push('A');
    let line = |line: &str| match line.starts_with("cluster.id=") {
        true => format!("cluster.id={name}\n"),
        false => format!("{line}\n"),
    };
    node.write("data/meta.properties", &meta.lines().map(line).collect::<String>())?;
    fs::copy(checkpoint, node.directory().join("data").join(FORMATTED[1]))
        .context("cannot copy what the storage tool made")?;
    Ok(())
}

/// Where it listens and where its data are: what the storage tool wants to know, too.
fn basics(ports: &[u16], sasl: bool, data: &Path) -> String {
    let [client, internal, controller] = [0, 1, 2].map(|i| format!("127.0.0.1:{}", ports[i]));
    let protocol = if sasl { "SASL_PLAINTEXT" } else { "PLAINTEXT" };
    [
        ("process.roles", "broker,controller"),
        ("node.id", "1"),
        ("controller.quorum.voters", &format!("1@{controller}")),
        (
            "listeners",
            &format!("CLIENT://{client},INTERNAL://{internal},CONTROLLER://{controller}"),
        ),
        (
            "listener.security.protocol.map",
            &format!("CLIENT:{protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"),
        ),
        // It talks to itself there, without a password.
        ("inter.broker.listener.name", "INTERNAL"),
        ("controller.listener.names", "CONTROLLER"),
        ("log.dirs", &data.to_string_lossy()),
    ]
    .map(|(name, value)| property(name, value))
    .concat()
}

/// A line of a properties file. A later one with the same name wins.
fn property(name: &str, value: &str) -> String {
    let mut line = format!("{name}=");
    for unit in value.encode_utf16() {
        match char::from_u32(unit.into()) {
            Some(c) if c.is_ascii_alphanumeric() => line.push(c),
            // A space at the begin would be lost, a backslash taken for an escape; Java takes this for any character.
            _ => {
                let _ = write!(line, "\\u{unit:04x}");
            }
        }
    }
    line.push('\n');
    line
}

/// Asks which requests it knows (`ApiVersions`). Clients may do so before they log in.
fn knows_its_requests(stream: &mut TcpStream) -> io::Result<bool> {
    // Length, kind of request, its version, number of ours, no name of a client.
    stream.write_all(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 0xff, 0xff])?;
    // Length, number of ours, error.
    let mut answer = [0; 10];
    stream.read_exact(&mut answer)?;
    Ok(answer[4..] == [0, 0, 0, 7, 0, 0])
}

fn java() -> PathBuf {
    variable("JAVA_HOME").map_or_else(|| "java".into(), |home| home.join("bin/java"))
}

fn jars(kafka: &Path) -> OsString {
    // Java itself takes the star for all jars.
    kafka.join("jars/*").into()
}

fn check_java() -> Result<(), Error> {
    let program = java();
    let output = Command::new(&program).arg("-version").stdin(Stdio::null()).output();
    let output = output.context(format!("{NO_JAVA} (cannot run {})", program.display()))?;
    // `openjdk version "17.0.15" 2025-04-15`
    let said = String::from_utf8_lossy(&output.stderr);
    let version = said.split('"').nth(1).unwrap_or_default();
    let major = version.split(|c: char| !c.is_ascii_digit()).next().and_then(|it| it.parse().ok());
    match major {
        Some(17u32..) => Ok(()),
        _ => Err(Error::new(format!("{NO_JAVA} ({} is {:?})", program.display(), said.trim()))),
    }
}

fn check_maven() -> Result<(), Error> {
    if Jars.is_cached() {
        return Ok(());
    }
    let output = Command::new("mvn").arg("--version").stdin(Stdio::null()).output();
    match output.context(format!("{NO_MAVEN} (cannot run mvn)"))? {
        output if output.status.success() => Ok(()),
        output => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(Error::new(format!("{NO_MAVEN} (mvn: {})", said.trim())))
        }
    }
}

fn fetch(partial: &Path, ready: &Path) -> Result<(), Error> {
    check_maven()?;
    let write = |name: &str, text: &str| {
        let path = partial.join(name);
        fs::write(&path, text).context("cannot write to the cache")?;
        Ok::<PathBuf, Error>(path)
    };
    let jars_ready = ready.join("jars");
    let option = |name: &str, path: &Path| {
        let mut option = OsString::from(format!("-D{name}="));
        option.push(path);
        option
    };
    let mut maven = Command::new("mvn");
    maven
        .args(["--quiet", "--batch-mode", "--strict-checksums", GOAL, "-DincludeScope=runtime"])
        .arg("--file")
        .arg(write("pom.xml", POM)?)
        .arg(option("outputDirectory", &jars_ready))
        // Not the user's own repository: two copies would be kept.
        .arg(option("maven.repo.local", &partial.join("repository")))
        .current_dir(partial);
    run(&mut maven, partial, NO_MAVEN)?;
    let sums = write("sums", JARS)?;
    // Of what there is on Linux and on macOS.
    let check =
        "if command -v sha256sum; then sha256sum -c \"$0\"; else shasum -a 256 -c \"$0\"; fi";
    let mut sh = Command::new("sh");
    sh.args(["-c", check]).arg(sums).current_dir(&jars_ready);
    run(&mut sh, partial, "the jars of Kafka are not those that were published")?;
    let found = fs::read_dir(&jars_ready).context("cannot read the cache")?.count();
    let expected = JARS.lines().count();
    if found != expected {
        return Err(Error::new(format!("Maven gave {found} jars, and {expected} are Kafka's")));
    }
    // Once for all: the ports and folders named here play no part in what is made.
    let settings =
        write("server.properties", &basics(&[1, 2, 3], false, &ready.join("formatted")))?;
    let mut format = Command::new(java());
    format
        .args(["-Xmx256m", "-XX:-UsePerfData", "-cp"])
        .arg(jars(ready))
        .args(["kafka.tools.StorageTool", "format", "--cluster-id", "AAAAAAAAAAAAAAAAAAAAAA"])
        .arg("--config")
        .arg(settings);
    run(&mut format, partial, NO_JAVA)
}
