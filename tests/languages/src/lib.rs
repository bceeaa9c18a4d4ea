//! The example programs as processes: started with `examples/run`, read line by line, ended with a signal.
//!
//! A language whose tools are missing is a failure where the environment variable `CI` is set. Elsewhere it is a loud line
//! on standard error, and its tests are left out.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// For what must happen: far more than it takes, for a machine that builds something else as well.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// The first start of a language builds what it needs.
const BUILD: Duration = Duration::from_secs(20 * 60);

/// The languages, each with the tools that it needs besides those of the others.
pub const LANGUAGES: [(&str, &[&str]); 6] = [
    ("rust", &["cargo"]),
    ("c", &["cc"]),
    ("cpp", &["c++"]),
    ("go", &["go"]),
    ("python", &["python3"]),
    ("node", &["node", "npm"]),
];

/// The repository.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Whether the tools of a language are here.
///
/// # Panics
///
/// If they are not, and `CI` is set.
pub fn is_here(language: &str) -> bool {
    let tools = LANGUAGES.iter().find(|(name, _)| *name == language).expect("a language").1;
    let has =
        |tool: &str| Command::new("which").arg(tool).output().is_ok_and(|o| o.status.success());
    let Some(missing) = tools.iter().find(|tool| !has(tool)) else { return true };
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!in_ci, "{language} needs {missing}, which is not installed");
    eprintln!("SKIPPED: {language} needs {missing}, which is not installed");
    false
}

/// A program that runs. It is killed when it is dropped.
pub struct Program {
    child: Child,
    lines: Receiver<String>,
    said: Receiver<String>,
    heard: String,
    readers: Vec<JoinHandle<()>>,
}

fn read(from: impl Read + Send + 'static) -> (Receiver<String>, JoinHandle<()>) {
    let (sender, receiver) = channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    (receiver, reader)
}

impl Program {
    /// Starts the program `follow` of a language, or with `program` another one of it.
    pub fn start(
        language: &str,
        program: Option<&Path>,
        arguments: &[&str],
        directory: &Path,
    ) -> Self {
        let mut command = Command::new(root().join("examples/run"));
        command.arg(language).args(arguments).current_dir(directory);
        if let Some(program) = program {
            command.env("MONGOSTREAM_PROGRAM", program);
        }
        let mut child = command
            // So that whatever it starts ends with it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("examples/run");
        let (lines, reader) = read(child.stdout.take().expect("a pipe"));
        let (said, other) = read(child.stderr.take().expect("a pipe"));
        Self { child, lines, said, heard: String::new(), readers: vec![reader, other] }
    }

    /// Waits until it says `ready` on standard error.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        self.wait_until_it_says("ready", BUILD);
    }

    /// Waits until a line on standard error contains this.
    #[track_caller]
    pub fn wait_until_it_says(&mut self, text: &str, deadline: Duration) {
        let end = Instant::now() + deadline;
        while !self.heard.contains(text) {
            match self.said.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => self.heard.push_str(&format!("{line}\n")),
                Err(error) => panic!("it does not say {text:?} ({error}): {}", self.heard),
            }
        }
    }

    /// The next line on standard output.
    #[track_caller]
    pub fn line(&mut self) -> String {
        let line = self.lines.recv_timeout(DEADLINE);
        line.unwrap_or_else(|error| panic!("it prints nothing ({error}): {}", self.said()))
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().is_ok_and(|status| status.is_some())
    }

    /// What it has said on standard error.
    pub fn said(&mut self) -> &str {
        self.said.try_iter().for_each(|line| self.heard.push_str(&format!("{line}\n")));
        &self.heard
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).expect("a process id");
        // It may have ended.
        let _ = killpg(Pid::from_raw(group), signal);
    }

    /// Waits until it ends: its exit code, how long that took, and everything that it said and had not yet been heard.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, Duration, String) {
        let began = Instant::now();
        let status = ground::wait_for_end(&mut self.child, DEADLINE);
        let took = began.elapsed();
        for reader in self.readers.drain(..) {
            reader.join().expect("no panic");
        }
        let said: Vec<_> = self.said.try_iter().collect();
        (status.code(), took, self.heard.clone() + &said.join("\n"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// A directory that is removed in the end.
pub struct Directory(pub PathBuf);

impl Directory {
    /// A new one.
    pub fn new(label: &str) -> Self {
        let path = std::env::temp_dir().join(ground::database_name(label));
        std::fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What stands in the fence of this kind in a Markdown file, the first one that contains `word`.
pub fn program_in(file: &str, fence: &str, word: &str) -> String {
    let text = std::fs::read_to_string(root().join(file)).expect(file);
    let marker = format!("```{fence}\n");
    let blocks = text.split(&*marker).skip(1).filter_map(|rest| rest.split("```").next());
    let program = blocks.into_iter().find(|code| code.contains(word));
    program.unwrap_or_else(|| panic!("{file} has no {fence} with {word:?}")).to_owned()
}
