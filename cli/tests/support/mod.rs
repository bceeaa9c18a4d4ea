//! What the tests do with the program: run it, read its lines, send it signals.

// Each test binary has a copy of this module and uses a part of it.
#![allow(dead_code, missing_docs)]

#[cfg(any(feature = "nats", feature = "kafka"))]
pub(crate) mod stream;

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::sync::Collection;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// For what must happen, on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(40);

/// The program, with its arguments.
pub(crate) fn program<S: AsRef<std::ffi::OsStr>>(
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mongostream"));
    command.args(arguments).env_remove("MONGOSTREAM_LOG").stdin(Stdio::null());
    command
}

/// What it printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    #[track_caller]
    pub(crate) fn assert_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        self
    }
}

/// Runs it to its end.
#[track_caller]
pub(crate) fn run<S: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ended {
    let output = ground::output(&mut program(arguments), DEADLINE);
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    Ended { code: output.status.code(), out, err }
}

/// The program while it runs, killed when dropped.
pub(crate) struct Running {
    pub(crate) process: Child,
    lines: Receiver<String>,
}

impl Running {
    #[track_caller]
    pub(crate) fn start(mut command: Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in stdout.lines() {
                if line.is_err() || sender.send(line.unwrap()).is_err() {
                    break;
                }
            }
        });
        Self { process, lines }
    }

    #[track_caller]
    pub(crate) fn line(&self) -> String {
        self.lines.recv_timeout(DEADLINE).expect("a line")
    }

    #[track_caller]
    pub(crate) fn lines(&self, count: usize) -> Vec<String> {
        let mut lines = Vec::with_capacity(count);
        while lines.len() < count {
            lines.push(self.line());
        }
        lines
    }

    /// Whether a line is there, and takes it.
    pub(crate) fn has_line(&self) -> bool {
        self.lines.try_recv().is_ok()
    }

    /// Every line that is still to come.
    pub(crate) fn rest(&self) -> Vec<String> {
        self.lines.iter().collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.process.id().try_into().unwrap()), signal).unwrap();
    }

    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        ground::wait_for_end(&mut self.process, DEADLINE)
    }

    pub(crate) fn stderr(&mut self) -> String {
        let mut text = String::new();
        let stderr: Option<ChildStderr> = self.process.stderr.take();
        stderr.unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A process that is killed when dropped: a test that has failed leaves none.
pub(crate) struct Guarded(Child);

impl Guarded {
    #[track_caller]
    pub(crate) fn spawn(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }
}

impl std::ops::Deref for Guarded {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Guarded {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory that is removed in the end.
pub(crate) struct Directory(PathBuf);

impl Directory {
    pub(crate) fn new() -> Self {
        static COUNTER: AtomicUsize = AtomicUsize::new(0);
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("mongostream-cli-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A path in it, as text.
    pub(crate) fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A collection `orders` in a database of its own, on the shared set.
pub(crate) struct Shop {
    pub(crate) database: String,
}

impl Shop {
    pub(crate) fn new(label: &str) -> Self {
        Self { database: ground::database_name(label) }
    }

    pub(crate) fn uri(&self) -> &'static str {
        ground::shared().uri()
    }

    pub(crate) fn namespace(&self) -> String {
        format!("{}.orders", self.database)
    }

    pub(crate) fn orders(&self) -> Collection<Document> {
        ground::shared().client().database(&self.database).collection("orders")
    }

    pub(crate) fn insert(&self, ids: std::ops::Range<i32>) {
        self.orders().insert_many(ids.map(|id| doc! { "_id": id })).run().unwrap();
    }

    /// `tail` of the orders.
    pub(crate) fn tail(&self, further: &[&str]) -> Command {
        let namespace = self.namespace();
        let mut command = program(["tail", self.uri(), &namespace]);
        command.args(further);
        command
    }

    /// A place in the stream before whatever is inserted from now on.
    pub(crate) fn now(&self) -> String {
        let buffer = mongostream::Buffer::new(10);
        let watch = mongostream::Worker::watch(self.uri()).database(&self.database);
        let worker = watch.collection("orders").spawn(&buffer).unwrap();
        worker.wait_ready_timeout(DEADLINE).unwrap();
        worker.resume_token().unwrap()
    }
}

/// The `_id` of each line's document.
#[track_caller]
pub(crate) fn ids(lines: &[String]) -> Vec<i64> {
    let id = |line: &String| {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        value["DocumentKey"]["_id"].as_i64().unwrap_or_else(|| panic!("{line}"))
    };
    lines.iter().map(id).collect()
}

/// An address at which nobody listens.
pub(crate) fn closed_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}
