//! The programs of the comparison, and how each is started.

use std::cell::LazyCell;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ground::ReplicaSet;

use crate::support::programs::{c, go, library, node_package, python_package, root, rust, tool};
use crate::support::{peak_memory, server_cpu};

/// A program of the comparison.
pub(crate) struct Program {
    pub(crate) key: &'static str,
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// The ceiling with the same size of replies.
    pub(crate) ceiling: &'static str,
    pub(crate) batch_size: u32,
    /// It drains only this part of the history.
    part: usize,
    start: Result<Start, String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ceiling,
    Ours,
    Other,
}

/// What is run, and its arguments before and after URI, second and events.
struct Start {
    program: PathBuf,
    before: Vec<String>,
    after: Vec<String>,
    environment: Vec<(&'static str, PathBuf)>,
}

/// What one run of a program has shown.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) events_per_s: f64,
    pub(crate) client_us: f64,
    pub(crate) server_us: f64,
    pub(crate) peak_mb: f64,
    pub(crate) bytes_per_event: f64,
}

/// What mongostream asks for where no option says otherwise.
const DEFAULT: u32 = 4000;
const LARGE: u32 = 5000;

/// A program that is built when it is first asked for.
type Build = LazyCell<Result<PathBuf, String>>;

fn clients() -> PathBuf {
    root().join("benches/throughput/clients")
}

/// The programs that are wanted by their keys, in the order of the table, each built only then; those that
/// cannot run have the reason instead.
pub(crate) fn all(is_wanted: impl Fn(&str) -> bool) -> Vec<Program> {
    let itself = |name: &str, batch_size: u32| {
        Ok(Start {
            program: std::env::current_exe().unwrap(),
            before: vec!["--program".to_owned(), name.to_owned()],
            after: vec![batch_size.to_string()],
            environment: vec![],
        })
    };
    let compiled = |program: &Build, after: &[&str]| {
        program.as_ref().map_err(String::clone).map(|program| Start {
            program: program.clone(),
            before: vec![],
            after: after.iter().map(|&text| text.to_owned()).collect(),
            environment: vec![],
        })
    };
    let script = |interpreter: &str, script: &str, environment| Start {
        program: interpreter.into(),
        before: vec![clients().join(script).display().to_string()],
        after: vec![],
        environment,
    };
    let shared = || ("MONGOSTREAM_LIBRARY", library().join("libmongostream.so"));
    let in_c: Build = LazyCell::new(|| c(&clients().join("lines.c"), None));
    let libmongoc: Build =
        LazyCell::new(|| c(&clients().join("libmongoc.c"), Some("libmongoc-1.0")));
    let in_cpp: Build = LazyCell::new(|| c(&clients().join("lines.cpp"), None));
    let in_go: Build = LazyCell::new(|| go(&clients().join("go_lines")));
    let go_library: Build = LazyCell::new(|| go(&clients().join("go_library")));
    let rust_driver: Build = LazyCell::new(|| rust(&clients().join("rust_driver")));

    let program = |key, name, kind, batch_size, start: &dyn Fn() -> Result<Start, String>| {
        is_wanted(key).then(|| Program {
            key,
            name,
            kind,
            ceiling: if batch_size == LARGE { "ceiling-5000" } else { "ceiling" },
            batch_size,
            // It is slow.
            part: if key == "pymongo" { 5 } else { 1 },
            start: start(),
        })
    };
    let (ours, other) = (Kind::Ours, Kind::Other);
    let large = LARGE.to_string();
    let all = [
        program(
            "ceiling",
            "the ceiling: replies read and thrown away",
            Kind::Ceiling,
            DEFAULT,
            &|| itself("ceiling", DEFAULT),
        ),
        program("ceiling-5000", "the ceiling", Kind::Ceiling, LARGE, &|| itself("ceiling", LARGE)),
        program("rust", "mongostream, Rust: `recv_batch` + `json`", ours, DEFAULT, &|| {
            itself("mongostream", 0)
        }),
        program("rust-5000", "mongostream, Rust: `recv_batch` + `json`", ours, LARGE, &|| {
            itself("mongostream", LARGE)
        }),
        program("c-lines", "mongostream, C: batches as JSON lines", ours, DEFAULT, &|| {
            compiled(&in_c, &["lines", "0"])
        }),
        program("c-lines-5000", "mongostream, C: batches as JSON lines", ours, LARGE, &|| {
            compiled(&in_c, &["lines", &large])
        }),
        program("c-messages", "mongostream, C: message by message", ours, DEFAULT, &|| {
            compiled(&in_c, &["messages", "0"])
        }),
        program("c-messages-5000", "mongostream, C: message by message", ours, LARGE, &|| {
            compiled(&in_c, &["messages", &large])
        }),
        program("cpp", "mongostream, C++: batches as JSON lines", ours, DEFAULT, &|| {
            compiled(&in_cpp, &[])
        }),
        program("go", "mongostream, Go: batches as JSON lines", ours, DEFAULT, &|| {
            compiled(&in_go, &[])
        }),
        program("python", "mongostream, Python: batches as JSON lines", ours, DEFAULT, &|| {
            tool(Command::new("python3").arg("--version"))?;
            let package = ("PYTHONPATH", root().join("bindings/python/src"));
            Ok(script("python3", "lines.py", vec![package, shared()]))
        }),
        program("node", "mongostream, Node: batches as JSON lines", ours, DEFAULT, &|| {
            node_package()?;
            Ok(script("node", "lines.mjs", vec![shared()]))
        }),
        program("libmongoc", "libmongoc, counting only", other, 0, &|| {
            compiled(&libmongoc, &["count", "0"])
        }),
        program("libmongoc-json", "libmongoc, JSON", other, 0, &|| {
            compiled(&libmongoc, &["json", "0"])
        }),
        program("go-library", "the Go library's way: Go driver, channel, JSON", other, 0, &|| {
            compiled(&go_library, &[])
        }),
        program(
            "driver",
            "Rust driver as it comes (bson 2): typed events, serde_json",
            other,
            0,
            &|| compiled(&rust_driver, &[]),
        ),
        program(
            "driver-bson-3",
            "Rust driver, bson 3: typed events, serde_json",
            other,
            0,
            &|| itself("driver", 0),
        ),
        program("pymongo", "pymongo, json_util", other, 0, &|| {
            let pymongo = python_package("pymongo>=4.6,<5")?;
            Ok(script("python3", "pymongo_loop.py", vec![("PYTHONPATH", pymongo)]))
        }),
    ];
    all.into_iter().flatten().collect()
}

impl Program {
    /// Why it cannot run, if it cannot.
    pub(crate) fn missing(&self) -> Option<&str> {
        self.start.as_ref().err().map(String::as_str)
    }

    /// Lets it drain the history in a process of its own; the error says why that failed.
    pub(crate) fn run(&self, set: &ReplicaSet, second: u32, events: usize) -> Result<Run, String> {
        let start = self.start.as_ref().map_err(String::clone)?;
        let mut command = Command::new(&start.program);
        command.args(&start.before).arg(set.uri()).arg(second.to_string());
        command.arg((events / self.part).to_string()).args(&start.after);
        command.envs(start.environment.iter().cloned());
        let server = server_cpu(set);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(|error| {
                format!("{} cannot be started: {error}", start.program.display())
            })?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let server = (server_cpu(set) - server).as_secs_f64();
        let figures: Vec<f64> = line.split_whitespace().flat_map(str::parse).collect();
        let &[events, bytes, time, client] = figures.as_slice() else {
            let status = child.wait().unwrap();
            return Err(format!("{} ended with {status} and without a result", self.key));
        };
        let peak = peak_memory(child.id());
        drop(child.stdin.take());
        child.wait().unwrap();
        Ok(Run {
            events_per_s: events / time,
            client_us: client * 1e6 / events,
            server_us: server * 1e6 / events,
            peak_mb: peak as f64 / f64::from(1 << 20),
            bytes_per_event: bytes / events,
        })
    }
}
