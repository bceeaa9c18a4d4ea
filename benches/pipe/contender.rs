//! The programs of the comparison, and how each is started.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ground::wait_for_end;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::broker::{Broker, Kind};
use crate::support::programs::{root, scratch, the_program, tool};

/// A program that publishes the changes of a collection.
pub(crate) enum Contender {
    Pipe { program: PathBuf },
    Debezium { java: String, version: String, directory: PathBuf },
}

/// What it reads, and where it writes.
pub(crate) struct Route<'a> {
    pub(crate) uri: &'a str,
    pub(crate) database: &'a str,
    pub(crate) collection: &'a str,
    /// The name of the stream, with which the subjects and the topic begin.
    pub(crate) stream: &'a str,
    /// The subject or topic, the same for all programs.
    pub(crate) topic: &'a str,
    /// For its position, its configuration and its log.
    pub(crate) directory: &'a Path,
}

/// The Java that Debezium Server is compiled for.
const JAVA: u32 = 21;
/// The heap and the collector of Debezium's Java.
pub(crate) const JAVA_OPTIONS: [&str; 2] = ["-Xmx512m", "-XX:+UseG1GC"];

impl Contender {
    pub(crate) fn pipe() -> Self {
        Self::Pipe { program: the_program() }
    }

    /// Debezium Server in a directory, or fetched; the error says why it cannot run.
    pub(crate) fn debezium(java: &str, directory: Option<&str>) -> Result<Self, String> {
        let output = Command::new(java).arg("-version").output();
        let output = output.map_err(|error| format!("{java}: {error}"))?;
        // `openjdk version "21.0.4" 2024-07-16`
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let version = said.split('"').nth(1).unwrap_or_default().to_owned();
        let major = version.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
        if major.parse::<u32>().unwrap_or(0) < JAVA {
            return Err(format!(
                "{java} is Java {version}, and it needs {JAVA}; give one with --java"
            ));
        }
        let directory = match directory {
            Some(directory) => root().join(directory),
            None => fetched()?,
        };
        Ok(Self::Debezium { java: java.to_owned(), version, directory })
    }

    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, Self::Pipe { .. })
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Pipe { .. } => "mongostream pipe".to_owned(),
            Self::Debezium { version, directory, .. } => {
                let server = runner(directory).and_then(|runner| {
                    let name = runner.file_name()?.to_str()?;
                    let name = name.strip_prefix("debezium-server-dist-")?;
                    Some(name.strip_suffix("-runner.jar")?.trim_end_matches(".Final").to_owned())
                });
                format!("Debezium Server {}, Java {version}", server.unwrap_or_default())
            }
        }
    }

    /// Starts it; it goes on where it was before on the same route.
    pub(crate) fn start(&self, route: &Route<'_>, broker: &Broker) -> Running {
        fs::create_dir_all(route.directory).unwrap();
        let mut command = match self {
            Self::Pipe { program } => {
                let mut command = Command::new(program);
                command.args(["pipe", route.uri]);
                command.arg(format!("{}.{}", route.database, route.collection));
                command.args(["--checkpoint_file", "position", "--metrics", "127.0.0.1:0", "--to"]);
                command.arg(match broker.kind() {
                    Kind::JetStream => format!("nats://{}/{}", broker.address(), route.stream),
                    Kind::Kafka => format!("kafka://{}/{}", broker.address(), route.topic),
                });
                command
            }
            Self::Debezium { java, directory, .. } => {
                let config = route.directory.join("config");
                fs::create_dir_all(&config).unwrap();
                fs::create_dir_all(route.directory.join("data")).unwrap();
                fs::write(config.join("application.properties"), properties(route, broker))
                    .unwrap();
                let mut command = Command::new(java);
                let runner = runner(directory).expect("the jar of Debezium Server");
                // Java itself takes the star for all jars.
                let path = format!("{}:{}/lib/*", runner.display(), directory.display());
                command.args(JAVA_OPTIONS).args(["-cp", &path, "io.debezium.server.Main"]);
                command
            }
        };
        let log = route.directory.join("log");
        let file = File::options().create(true).append(true).open(&log).unwrap();
        command.current_dir(route.directory).env_remove("MONGOSTREAM_LOG").stdin(Stdio::null());
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Running { child: command.spawn().unwrap(), log }
    }
}

/// Debezium with its defaults but for these: JSON without a schema in each message, a position that is saved each
/// second as the pipe's is, and a sink of JetStream that does not wait for each message.
fn properties(route: &Route<'_>, broker: &Broker) -> String {
    let Route { uri, database, collection, stream, .. } = route;
    let address = broker.address();
    let mut text = format!(
        "debezium.source.connector.class=io.debezium.connector.mongodb.MongoDbConnector\n\
         debezium.source.mongodb.connection.string={uri}\n\
         debezium.source.topic.prefix={stream}\n\
         debezium.source.collection.include.list={database}.{collection}\n\
         debezium.source.snapshot.mode=no_data\n\
         debezium.source.offset.storage.file.filename=data/offsets.dat\n\
         debezium.source.offset.flush.interval.ms=1000\n\
         debezium.format.key.schemas.enable=false\n\
         debezium.format.value.schemas.enable=false\n\
         quarkus.log.console.json=false\n\
         quarkus.http.port=0\n"
    );
    text += &match broker.kind() {
        Kind::JetStream => format!(
            "debezium.sink.type=nats-jetstream\n\
             debezium.sink.nats-jetstream.url=nats://{address}\n\
             debezium.sink.nats-jetstream.async.enabled=true\n\
             debezium.sink.nats-jetstream.async.timeout.ms=60000\n"
        ),
        Kind::Kafka => {
            let serializer = "org.apache.kafka.common.serialization.StringSerializer";
            format!(
                "debezium.sink.type=kafka\n\
                 debezium.sink.kafka.producer.bootstrap.servers={address}\n\
                 debezium.sink.kafka.producer.acks=all\n\
                 debezium.sink.kafka.producer.enable.idempotence=true\n\
                 debezium.sink.kafka.producer.key.serializer={serializer}\n\
                 debezium.sink.kafka.producer.value.serializer={serializer}\n"
            )
        }
    };
    text
}

fn runner(directory: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    files.find(|path| path.to_string_lossy().ends_with("-runner.jar"))
}

fn fetched() -> Result<PathBuf, String> {
    let unpacked = scratch().join("debezium");
    let directory = unpacked.join("debezium-server");
    if !unpacked.join("done").exists() {
        eprintln!("fetching Debezium Server (780 MB, once)");
        let mut maven = Command::new("mvn");
        maven.args(["--quiet", "--batch-mode", "generate-resources"]);
        maven.arg("--file").arg(root().join("benches/pipe/debezium/pom.xml"));
        tool(maven.arg(format!("-Dunpacked={}", unpacked.display())))?;
        fs::write(unpacked.join("done"), "").unwrap();
    }
    Ok(directory)
}

/// A process; dropping it kills it.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Fails with its log if it has ended.
    pub(crate) fn assert_runs(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("it has ended with {status}; {}", self.log_tail());
        }
    }

    /// Ends it in an orderly way, so that it saves its position.
    pub(crate) fn stop(mut self) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        wait_for_end(&mut self.child, Duration::from_secs(60));
    }

    pub(crate) fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).into_owned();
        let lines: Vec<&str> = log.lines().collect();
        format!("its log ends:\n{}", lines[lines.len().saturating_sub(30)..].join("\n"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
