//! The C API, from C: the programs in `capi/tests/c` and `examples/c`, compiled against the header,
//! linked to the shared library, run against a real replica set.
//!
//! A C program prints what the harness has to know, one line each; what it finds wrong it prints to
//! standard error before it exits with a failure. Its arguments begin with a URI, a database, and a
//! time since which that database's collection `c` has had changes.
#![cfg(target_os = "linux")]

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ground::ReplicaSet;
use ground::mongodb::bson::{Document, doc};
use ground::mongodb::sync::Database;
use serde_json::Value;

/// Lets the library write its log to standard error.
const LOG: &str = "MONGOSTREAM_LOG";

/// How long one C program may run.
const DEADLINE: Duration = Duration::from_secs(45);

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

// ---------------------------------------------------------------------------------- the library

/// The library that `MONGOSTREAM_TEST_LIBRARY` names, as a path from the repository's root.
fn named_library() -> Option<PathBuf> {
    std::env::var_os("MONGOSTREAM_TEST_LIBRARY").map(|path| root().join(path))
}

/// The shared library of the build that this test belongs to, unless another is named. cargo builds
/// it beside the test, and only cargo knows where.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        if let Some(named) = named_library() {
            assert!(named.exists(), "there is no {}", named.display());
            return named;
        }
        let test = std::env::current_exe().unwrap();
        // <target directory>[/<triple>]/<profile>/deps/<test>
        let profile_directory = test.parent().and_then(Path::parent).unwrap();
        let target_directory = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let inside = profile_directory.strip_prefix(target_directory).unwrap_or_else(|_| {
            panic!("{} is not in {}", test.display(), target_directory.display())
        });
        let parts: Vec<_> = inside.iter().collect();
        let (profile, triple) = parts.split_last().expect("a profile's directory");
        let profile = if *profile == "debug" { OsStr::new("dev") } else { profile };
        let mut cargo = Command::new(env!("CARGO"));
        // What cargo tells this test of its package looks to build scripts (ring's) like a change.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text == "OUT_DIR"
                || text.starts_with("CARGO_PKG_")
                || text.starts_with("CARGO_MANIFEST_")
            {
                cargo.env_remove(&name);
            }
        }
        // The very units that `cargo test` has built, but for the library itself, which no test of cargo's needs.
        cargo.args(["build", "--lib", "--test", "c_api", "--message-format=json"]);
        cargo.args(["--package", "mongostream-capi", "--manifest-path"]);
        cargo.arg(root().join("Cargo.toml"));
        cargo.arg("--target-dir").arg(target_directory).arg("--profile").arg(profile);
        if let Some(triple) = triple.first() {
            cargo.arg("--target").arg(triple);
        }
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let messages = String::from_utf8(output.stdout).unwrap();
        let built = messages
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|message| message["target"]["name"] == "mongostream")
            .flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default())
            .filter_map(|file| file.as_str().map(PathBuf::from))
            .find(|file| file.extension() == Some(OsStr::new("so")));
        built.unwrap_or_else(|| panic!("cargo built no shared library:\n{messages}"))
    })
}

/// Runs a tool and returns what it prints.
fn tool(command: &mut Command) -> String {
    let name = command.get_program().to_string_lossy().into_owned();
    let output =
        command.output().unwrap_or_else(|error| panic!("{name} is needed for this test: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Compiles a C program, once.
fn compile(source: &str, flags: &[&str]) -> PathBuf {
    static COMPILED: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let library = library();
    let mut compiled = COMPILED.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let compiled = compiled.get_or_insert_default();
    let name = format!("{source}{}", flags.concat());
    if let Some(program) = compiled.get(&name) {
        return program.clone();
    }
    let directory = scratch().join("programs");
    std::fs::create_dir_all(&directory).unwrap();
    let program = directory.join(name.replace('/', "_"));
    let beside = library.parent().unwrap();
    tool(
        Command::new("gcc")
            .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pthread", "-g"])
            .args(flags)
            .arg("-I")
            .arg(root().join("include"))
            .arg(root().join(source))
            .arg("-o")
            .arg(&program)
            .arg("-L")
            .arg(beside)
            .arg("-lmongostream")
            // Without new tags it goes before LD_LIBRARY_PATH, in which cargo names other places.
            .arg(format!("-Wl,--disable-new-dtags,-rpath,{}", beside.display())),
    );
    compiled.insert(name, program.clone());
    program
}

/// A directory of this process. The next run removes what earlier ones have left.
fn scratch() -> &'static Path {
    static SCRATCH: OnceLock<PathBuf> = OnceLock::new();
    SCRATCH.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR")).join("c_api");
        std::fs::create_dir_all(&all).unwrap();
        for entry in std::fs::read_dir(&all).unwrap().flatten() {
            let alive = Path::new("/proc").join(entry.file_name()).exists();
            if !alive {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let own = all.join(std::process::id().to_string());
        std::fs::create_dir_all(&own).unwrap();
        own
    })
}

// --------------------------------------------------------------------------------- the programs

/// A C program that runs.
struct Running {
    name: String,
    child: Child,
    lines: Receiver<String>,
    complaints: Complaints,
    end: Instant,
}

/// What a program has written to standard error so far.
struct Complaints {
    text: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Complaints {
    fn of(stderr: ChildStderr) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let shared = Arc::clone(&text);
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines() {
                let mut text = shared.lock().unwrap();
                text.push_str(&line.unwrap());
                text.push('\n');
            }
        });
        Self { text, reader: Some(reader) }
    }

    fn so_far(&self) -> String {
        self.text.lock().unwrap().clone()
    }

    /// Everything, once the program has ended.
    fn all(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.so_far()
    }
}

/// How a program has ended, and what it printed that nobody had waited for.
struct Ended {
    status: ExitStatus,
    lines: Vec<String>,
    stderr: String,
}

fn start<A: AsRef<OsStr>>(source: &str, arguments: impl IntoIterator<Item = A>) -> Running {
    Running::of(source, Command::new(compile(source, &[])).args(arguments))
}

impl Running {
    fn of(name: &str, command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // Only where a test sets it: else everything that a program writes there is a complaint.
        if !command.get_envs().any(|(name, _)| name == LOG) {
            command.env_remove(LOG);
        }
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let complaints = Complaints::of(child.stderr.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines() {
                let _ = sender.send(line.unwrap());
            }
        });
        let end = Instant::now() + DEADLINE;
        Self { name: name.to_owned(), child, lines, complaints, end }
    }

    #[track_caller]
    fn line(&mut self) -> String {
        let left = self.end.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => line,
            Err(error) => self.give_up(&format!("no line ({error})")),
        }
    }

    #[track_caller]
    fn give_up(&mut self, what: &str) -> ! {
        let _ = self.child.kill();
        panic!("{}: {what}: {}", self.name, self.complaints.all());
    }

    #[track_caller]
    fn wait_for_stderr(&self, part: &str) {
        ground::wait_until(DEADLINE, part, || self.complaints.so_far().contains(part));
    }

    fn interrupt(&self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        nix::sys::signal::kill(pid, nix::sys::signal::SIGINT).unwrap();
    }

    #[track_caller]
    fn expect(&mut self, expected: &str) {
        assert_eq!(self.line(), expected, "{}", self.name);
    }

    #[track_caller]
    fn end(mut self) -> Ended {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > self.end {
                self.give_up("it still runs");
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let stderr = self.complaints.all();
        Ended { status, lines: self.lines.iter().collect(), stderr }
    }

    /// Waits for a good end, and gives the lines. The library prints nothing, so standard error has
    /// nothing but what a check has to say.
    #[track_caller]
    fn succeed(self) -> Vec<String> {
        let name = self.name.clone();
        let ended = self.end();
        assert!(ended.status.success(), "{name}: {}: {}", ended.status, ended.stderr);
        assert_eq!(ended.stderr, "", "{name}");
        ended.lines
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// ---------------------------------------------------------------------------------- the database

/// A database of a test's own.
struct Place {
    uri: String,
    database: Database,
    since: String,
}

impl Place {
    fn new(label: &str) -> Self {
        Self::on(ground::shared(), label)
    }

    fn on(set: &ReplicaSet, label: &str) -> Self {
        let database = set.client().database(&set.database(label));
        let reply = database.run_command(doc! { "create": "c" }).run().unwrap();
        let time = reply.get_timestamp("operationTime").unwrap();
        let since = format!("{}:{}", time.time, time.increment);
        Self { uri: set.uri().to_owned(), database, since }
    }

    /// One that has had `count` inserts.
    fn with_inserts(label: &str, count: i32) -> Self {
        let place = Self::new(label);
        place.insert(0..count);
        place
    }

    fn insert(&self, ids: std::ops::Range<i32>) {
        let documents: Vec<Document> =
            ids.map(|id| doc! { "_id": id, "text": format!("document {id}") }).collect();
        self.run(doc! { "insert": "c", "documents": documents });
    }

    fn run(&self, command: Document) {
        let reply = self.database.run_command(command).run().unwrap();
        assert!(!reply.contains_key("writeErrors"), "{reply}");
    }

    fn start(&self, source: &str, arguments: &[&str]) -> Running {
        start(source, [&[&*self.uri, self.database.name(), &self.since], arguments].concat())
    }
}

/// The ids of the documents that lines of oplog JSON tell of.
fn ids(lines: &[String]) -> Vec<i64> {
    lines.iter().map(|line| id(&json(line))).collect()
}

fn id(message: &Value) -> i64 {
    message["DocumentKey"]["_id"].as_i64().unwrap_or_else(|| panic!("{message}"))
}

fn json(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

/// What `_data` a resume token has: the server's tokens order as their events do.
fn token(token: &Value) -> String {
    token["_data"].as_str().unwrap_or_else(|| panic!("{token}")).to_owned()
}

// ------------------------------------------------------------------------------------- the tests

#[test]
fn the_library_exports_the_functions_of_the_header_and_nothing_else() {
    let header = std::fs::read_to_string(root().join("include/mongostream.h")).unwrap();
    // Each declaration begins with MS_API, and its name is what stands before the first bracket.
    let declared: BTreeSet<&str> = header
        .split("\nMS_API")
        .skip(1)
        .filter_map(|declaration| declaration.split_once('('))
        .filter_map(|(before, _)| before.rsplit([' ', '*', '\n']).next())
        .collect();
    let symbols = tool(Command::new("nm").args(["-D", "--defined-only"]).arg(library()));
    let exported: BTreeSet<&str> =
        symbols.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(declared, exported);
    assert!(declared.len() >= 40, "the header was read: {declared:?}");
}

#[test]
fn the_library_has_its_soname_and_is_never_unloaded() {
    let dynamic = tool(Command::new("readelf").arg("-d").arg(library()));
    // Until 1.0 a minor version may change the interface.
    let version = match env!("CARGO_PKG_VERSION_MAJOR") {
        "0" => concat!("0.", env!("CARGO_PKG_VERSION_MINOR")),
        major => major,
    };
    let soname = format!("libmongostream.so.{version}");
    assert!(dynamic.contains(&format!("Library soname: [{soname}]")), "{dynamic}");
    // Without it beside the library nobody could use what cargo has built.
    let beside = library().with_file_name(&soname);
    assert_eq!(std::fs::canonicalize(beside).unwrap(), std::fs::canonicalize(library()).unwrap());
    let flags = dynamic.lines().find(|line| line.contains("FLAGS_1")).unwrap_or_default();
    assert!(flags.contains("NODELETE"), "{dynamic}");
}

#[test]
fn the_version_that_runs_is_the_headers() {
    let lines = start("capi/tests/c/version.c", [""; 0]).succeed();
    assert_eq!(lines, [env!("CARGO_PKG_VERSION")]);
}

#[track_caller]
fn misuse(mistake: &str) {
    let place = Place::with_inserts("misuse", 1);
    assert_eq!(place.start("capi/tests/c/misuse.c", &[mistake]).succeed(), ["done"]);
}

#[test]
fn null_where_a_value_is_required_is_an_error() {
    misuse("null_where_a_value_is_required");
}

#[test]
fn a_capacity_or_a_batch_of_nothing_is_an_error() {
    misuse("nothing_asked_for");
}

#[test]
fn text_that_is_not_utf8_is_an_error() {
    misuse("text_that_is_not_utf8");
}

#[test]
fn an_unknown_option_or_a_bad_value_is_an_error_and_changes_nothing() {
    misuse("options_that_do_not_exist_or_fit");
}

#[test]
fn two_starts_for_one_worker_are_an_error() {
    misuse("options_that_exclude_each_other");
}

#[test]
fn a_bad_uri_is_an_error_that_keeps_the_password() {
    misuse("uris_that_are_wrong");
}

#[test]
fn a_bad_database_or_collection_is_an_error() {
    misuse("scopes_that_do_not_exist");
}

#[test]
fn a_closed_buffer_takes_no_worker() {
    misuse("a_worker_for_a_closed_buffer");
}

#[test]
fn a_start_that_fails_unheard_is_told_by_the_next_receive() {
    misuse("a_start_that_fails_beside_a_worker");
}

/// Runs the shortest program; gives what it wrote to standard error.
#[track_caller]
fn shortest(uri: &str, log: Option<&str>) -> String {
    let mut command = Command::new(compile("capi/tests/c/shortest.c", &[]));
    command.args([uri, "shop"]);
    if let Some(log) = log {
        command.env(LOG, log);
    }
    let ended = Running::of("shortest", &mut command).end();
    assert!(ended.status.success() && ended.lines.is_empty(), "{}", ended.stderr);
    ended.stderr
}

const UNREACHABLE: &str = "mongodb://somebody:hush@127.0.0.1:1/?serverSelectionTimeoutMS=100";

#[test]
fn the_shortest_program_ends_whatever_is_wrong_and_prints_nothing() {
    for uri in ["nonsense", UNREACHABLE] {
        assert_eq!(shortest(uri, None), "", "{uri}");
        assert_eq!(shortest(uri, Some("")), "", "{uri}");
        assert_eq!(shortest(uri, Some("off")), "", "{uri}");
    }
}

#[test]
fn the_log_goes_to_standard_error_where_the_environment_asks_for_it() {
    let stderr = shortest("nonsense", Some("error"));
    assert!(stderr.starts_with("mongostream: error: worker shop.c: cannot start: "), "{stderr}");
    assert!(stderr.contains("nonsense") && stderr.lines().count() == 1, "{stderr}");
    let stderr = shortest(UNREACHABLE, Some("error"));
    assert!(stderr.starts_with("mongostream: error: worker shop.c: has failed: "), "{stderr}");
    assert!(stderr.contains("127.0.0.1:1") && stderr.lines().count() == 1, "{stderr}");
    let stderr = shortest(UNREACHABLE, Some("Debug"));
    let opening = "mongostream: debug: worker shop.c: opening the stream from now\n";
    assert!(stderr.starts_with(opening) && !stderr.contains("hush"), "{stderr}");
}

#[test]
fn a_level_that_does_not_exist_is_one_line_in_the_log() {
    let stderr = shortest(UNREACHABLE, Some("verbose"));
    let expected = "mongostream: error: MONGOSTREAM_LOG=verbose is no level, so nothing is logged: \
                    use error, warn, info or debug\n";
    assert_eq!(stderr, expected);
}

#[test]
fn a_callback_takes_the_place_of_standard_error() {
    let place = Place::new("log");
    let mut command = Command::new(compile("capi/tests/c/log.c", &[]));
    command.args([&*place.uri, place.database.name(), &place.since, "inside"]).env(LOG, "debug");
    assert_eq!(Running::of("log", &mut command).succeed(), ["done"]);
}

#[test]
fn an_error_that_nobody_takes_is_a_line_in_the_log() {
    let place = Place::new("log");
    let mut command = Command::new(compile("capi/tests/c/log.c", &[]));
    command.args([&*place.uri, place.database.name(), &place.since, "errors_that_nobody_takes"]);
    let ended = Running::of("log", command.env(LOG, "error")).end();
    assert!(ended.status.success() && ended.lines == ["done"], "{}", ended.stderr);
    let first = ended.stderr.starts_with("mongostream: error: ") && ended.stderr.contains("first");
    assert!(first && ended.stderr.lines().count() == 1, "{}", ended.stderr);
}

#[test]
fn every_number_has_a_status_name() {
    misuse("statuses_that_do_not_exist");
}

#[test]
fn the_simple_path_receives_every_change_and_acks_it() {
    const COUNT: i32 = 20;
    let place = Place::new("simple");
    let mut program = place.start("capi/tests/c/simple.c", &[&COUNT.to_string()]);
    let opened = token(&json(&program.line()));
    program.expect("ready");
    place.insert(0..COUNT);
    let lines = program.succeed();
    let (messages, tokens): (Vec<_>, Vec<_>) =
        lines.chunks(2).map(|pair| (json(&pair[0]), token(&json(&pair[1])))).unzip();
    assert!(messages.iter().map(id).eq(0..i64::from(COUNT)));
    let own: Vec<String> = messages.iter().map(|message| token(&message["ResumeToken"])).collect();
    assert!(opened < own[0]);
    for number in 0..messages.len() {
        // A message's own token, or behind the last one read the server's later one.
        assert!(tokens[number] >= own[number], "message {number} is acked");
        assert!(own.get(number + 1).is_none_or(|next| tokens[number] < *next), "and no other");
    }
}

#[track_caller]
fn receive(way: &str) -> Vec<String> {
    let place = Place::with_inserts("receive", 10);
    place.start("capi/tests/c/receive.c", &[way]).succeed()
}

#[test]
fn a_receive_that_finds_nothing_waits_as_long_as_it_is_told() {
    receive("timeouts");
}

#[test]
fn a_clone_is_the_same_message() {
    receive("clones");
}

#[test]
fn what_a_snapshot_reads_has_no_resume_token() {
    receive("snapshot");
}

#[test]
fn a_batch_takes_what_is_there_up_to_max() {
    assert_eq!(ids(&receive("batches")), Vec::from_iter(0..10));
}

#[test]
fn the_workers_token_is_the_acked_prefix() {
    receive("acks");
}

/// An event of the same document three times, 39 MB together, between two small ones: for each message
/// its operation and the sizes of its BSON and its JSON.
fn large(set: &ReplicaSet, policy: &str) -> Vec<(String, usize, usize)> {
    let place = Place::on(set, "large");
    place.insert(0..1);
    let text = "x".repeat(13 << 20);
    place.run(doc! { "insert": "c", "documents": [{ "_id": 1, "text": text }] });
    place.insert(2..3);
    let copies = "[{\"$addFields\":{\"copy\":\"$fullDocument\",\"another\":\"$fullDocument\"}}]";
    let lines = place.start("capi/tests/c/large.c", &[copies, policy]).succeed();
    let words = lines.iter().map(|line| line.split(' ').collect::<Vec<_>>());
    words.map(|w| (w[0].to_owned(), w[1].parse().unwrap(), w[2].parse().unwrap())).collect()
}

#[test]
fn an_event_of_40_mb_is_whole_where_the_server_splits_it() {
    let set = ReplicaSet::builder().version("6.0.27").start().unwrap();
    let messages = large(&set, "split");
    let (operation, bson, json) = &messages[1];
    assert!(messages.len() == 3 && operation == "insert", "{messages:?}");
    assert!(*bson > 39 << 20 && *json > 39 << 20, "{messages:?}");
}

#[test]
fn an_event_that_is_too_large_is_an_error_or_a_message_in_its_place() {
    let messages = large(ground::shared(), "skip");
    let words: Vec<_> = messages.iter().map(|(operation, ..)| &**operation).collect();
    assert_eq!(words, ["insert", "oversized", "insert"]);
    assert_eq!(large(ground::shared(), "fail").len(), 1);
}

#[test]
fn the_statistics_tell_what_was_queued_and_received() {
    let lines = Place::with_inserts("stats", 5).start("capi/tests/c/stats.c", &[]).succeed();
    let [queued, received, closed] = &lines.iter().map(|line| json(line)).collect::<Vec<_>>()[..]
    else {
        panic!("{lines:?}");
    };
    for (stats, depth, delivered) in [(queued, 5, 0), (received, 3, 2), (closed, 3, 2)] {
        assert_eq!((&stats["depth"], &stats["high_water"]), (&depth.into(), &5.into()), "{stats}");
        assert_eq!((&stats["capacity"], &stats["failures"]), (&100.into(), &0.into()), "{stats}");
        assert_eq!(stats["closed"], std::ptr::eq(stats, closed), "{stats}");
        let [worker] = &stats["workers"].as_array().unwrap()[..] else { panic!("{stats}") };
        let (name, state) = (&worker["name"], &worker["state"]);
        let expected = if std::ptr::eq(stats, closed) { "stopped" } else { "streaming" };
        assert_eq!((name, state.as_str()), (&"counted".into(), Some(expected)), "{stats}");
        let counts = ["received", "delivered"].map(|key| worker[key].as_i64().unwrap());
        assert_eq!(counts, [5, delivered], "{stats}");
        // Received as text one is acked at once; the other one was not.
        let acked = delivered / 2;
        assert_eq!(worker["unacked"], 5 - acked, "{stats}");
    }
}

#[test]
fn messages_and_batches_outlive_their_worker_and_buffer() {
    assert_eq!(ids(&receive("survivors")), [0, 1, 2]);
}

#[test]
fn the_descriptor_is_readable_exactly_while_a_receive_would_not_wait() {
    let place = Place::with_inserts("poll", 5);
    let mut program = place.start("capi/tests/c/poll.c", &[]);
    program.expect("ready");
    place.insert(10..12);
    program.succeed();
}

#[test]
fn close_wakes_consumers_however_they_wait() {
    Place::new("close").start("capi/tests/c/close.c", &[]).succeed();
}

#[test]
fn every_order_of_freeing_is_safe_while_the_worker_streams() {
    Place::with_inserts("orders", 30).start("capi/tests/c/free_orders.c", &["streaming"]).succeed();
}

#[test]
fn every_order_of_freeing_is_safe_while_the_buffer_is_full() {
    Place::with_inserts("orders", 30).start("capi/tests/c/free_orders.c", &["blocked"]).succeed();
}

#[test]
fn every_order_of_freeing_is_safe_before_the_worker_has_connected() {
    Place::with_inserts("orders", 30)
        .start("capi/tests/c/free_orders.c", &["connecting"])
        .succeed();
}

/// Runs a program under valgrind: no invalid access, no leak. Where valgrind is not installed gcc's
/// AddressSanitizer stands in: it sees leaks and freed memory too, but not what the library reads of
/// memory that was never written.
#[track_caller]
fn without_leaks(source: &str, place: &Place, arguments: &[&str]) {
    let found = Command::new("valgrind").arg("--version").output();
    let valgrind = found.is_ok_and(|output| output.status.success());
    assert!(
        valgrind || std::env::var_os("MONGOSTREAM_REQUIRE_VALGRIND").is_none(),
        "valgrind is required and not installed"
    );
    let mut command = if valgrind {
        let mut command = Command::new("valgrind");
        command.args(["--quiet", "--error-exitcode=99", "--leak-check=full"]);
        // What the runtime's threads and statics hold at the end is still reachable, and meant to be.
        command.args(["--show-leak-kinds=definite,indirect"]);
        command.args(["--errors-for-leak-kinds=definite,indirect"]);
        command.arg(compile(source, &[]));
        command
    } else {
        let mut command = Command::new(compile(source, &["-fsanitize=address"]));
        command.env("ASAN_OPTIONS", "detect_leaks=1");
        command
    };
    command.args([&*place.uri, place.database.name(), &place.since]).args(arguments);
    Running::of(source, &mut command).succeed();
}

#[test]
fn freeing_in_every_order_leaks_nothing_and_touches_nothing_freed() {
    let place = Place::with_inserts("orders", 30);
    let situations = ["streaming", "blocked", "connecting"];
    without_leaks("capi/tests/c/free_orders.c", &place, &situations);
}

#[test]
fn receiving_leaks_nothing_and_touches_nothing_freed() {
    let place = Place::with_inserts("receive", 10);
    let ways = ["timeouts", "batches", "acks", "survivors", "clones", "snapshot"];
    without_leaks("capi/tests/c/receive.c", &place, &ways);
}

#[track_caller]
fn fork(way: &str) {
    let place = Place::with_inserts("fork", 30);
    assert_eq!(place.start("capi/tests/c/fork.c", &[way]).succeed(), ["done"]);
}

#[test]
fn a_child_of_fork_gets_errors_instead_of_hanging() {
    fork("parents_objects");
}

#[test]
fn a_child_of_fork_may_ack() {
    fork("acks");
}

#[test]
fn fork_before_the_first_use_is_harmless() {
    fork("before_the_first_use");
}

#[track_caller]
fn exit(way: &str) -> Vec<String> {
    let place = Place::with_inserts("exit", 30);
    place.start("capi/tests/c/exit.c", &[way]).succeed()
}

#[test]
fn every_wait_ends_at_exit() {
    assert_eq!(exit("with_a_worker"), ["done", "joined"]);
    assert_eq!(exit("without_a_worker"), ["done", "joined"]);
}

#[test]
fn exit_in_a_signal_handler_ends_the_process_whatever_it_interrupts() {
    assert_eq!(exit("in_a_signal_handler"), ["done"]);
}

#[test]
fn a_host_that_joins_its_threads_before_exit_can_end_their_waits() {
    assert_eq!(exit("asked"), ["done", "joined"]);
}

#[test]
fn the_exit_of_a_child_of_fork_ends_its_own_waits_and_not_its_parents() {
    assert_eq!(exit("in_a_child"), ["joined", "done", "joined"]);
}

#[test]
fn large_blocks_are_mapped_as_the_host_says_if_it_says_so() {
    let place = Place::new("heap");
    let text = "x".repeat(1_000_000);
    // The first one comes with the reply that opens the stream, alone.
    let documents: Vec<_> = (0..4).map(|id| doc! { "_id": id, "text": &text }).collect();
    place.run(doc! { "insert": "c", "documents": documents });
    let arguments = |way| [&*place.uri, place.database.name(), &place.since, way];
    let run = |way, tunables: &str| {
        let mut command = Command::new(compile("capi/tests/c/heap.c", &[]));
        command.args(arguments(way)).env("GLIBC_TUNABLES", tunables);
        Running::of("heap", &mut command).succeed().concat()
    };
    assert_eq!(run("default", ""), "kept");
    assert_eq!(run("own", ""), "mapped");
    assert_eq!(run("default", "glibc.malloc.mmap_threshold=131072"), "mapped");
}

/// The program that the README shows, with this checkpoint.
fn program_of_the_readme(place: &Place, directory: &Path) -> Running {
    let text = std::fs::read_to_string(root().join("README.md")).unwrap();
    let blocks = text.split("```c\n").skip(1).filter_map(|rest| rest.split("```").next());
    let code = blocks.into_iter().find(|code| code.contains("#include")).expect("a whole program");
    let source = directory.join("readme.c");
    let names = format!("\"{}\", \"c\"", place.database.name());
    std::fs::write(&source, code.replace("\"shop\", \"orders\"", &names)).unwrap();
    let program = compile(source.to_str().unwrap(), &[]);
    let mut command = Command::new(program);
    command.arg(&*place.uri).current_dir(directory);
    let program = Running::of("readme", &mut command);
    // It is saved before the stream is ready.
    ground::wait_until(DEADLINE, "a checkpoint", || directory.join("orders.token").exists());
    program
}

#[test]
fn the_readmes_program_loses_nothing_when_it_is_killed() {
    let place = Place::new("readme");
    let directory = scratch().join("readme");
    std::fs::create_dir_all(&directory).unwrap();
    let mut next = 0;
    for round in 0..3 {
        let mut program = program_of_the_readme(&place, &directory);
        place.insert(10 * round..10 * round + 10);
        // What was not saved before the kill comes again.
        loop {
            let id = id(&json(&program.line()));
            assert!(id <= next, "{next} is missing");
            next = next.max(id + 1);
            if next == i64::from(10 * round + 10) {
                break;
            }
        }
    }
    let mut refused = Command::new(compile(directory.join("readme.c").to_str().unwrap(), &[]));
    let ended = Running::of("readme", refused.arg("nonsense").current_dir(&directory)).end();
    assert_eq!(ended.status.code(), Some(1));
    assert!(ended.stderr.contains("nonsense"), "{}", ended.stderr);
}

#[track_caller]
fn log(way: &str) {
    assert_eq!(Place::new("log").start("capi/tests/c/log.c", &[way]).succeed(), ["done"]);
}

#[test]
fn the_callback_hears_of_every_worker_up_to_its_level_and_no_secret() {
    log("levels");
}

#[test]
fn an_unknown_log_level_is_an_error_and_changes_nothing() {
    log("levels_that_do_not_exist");
}

#[test]
fn the_log_callback_is_not_changed_from_inside_it() {
    log("inside");
}

#[test]
fn changing_the_log_callback_waits_for_its_calls_and_holds_nobody_up() {
    log("a_slow_callback");
}

#[test]
fn a_child_of_fork_may_change_the_log_callback_whatever_its_parent_does() {
    log("forks");
}

#[test]
fn a_log_callback_that_is_set_before_fork_is_called_in_the_child() {
    log("set_before_fork");
}

#[test]
fn logging_leaks_nothing_and_touches_nothing_freed() {
    let ways = ["levels", "levels_that_do_not_exist", "inside", "a_slow_callback"];
    without_leaks("capi/tests/c/log.c", &Place::new("log"), &ways);
}

#[test]
fn the_hosts_signals_reach_only_the_hosts_threads() {
    let place = Place::with_inserts("signals", 200);
    assert_eq!(place.start("capi/tests/c/signals.c", &[]).succeed(), ["taking signals"]);
}

/// `uri`: of one member, by a name that has to be looked up.
#[track_caller]
fn in_want_of(what: &str) {
    let place = Place::new("resources");
    let port = ground::shared().member(0).address().rsplit(':').next().unwrap().to_owned();
    let uri = format!("mongodb://localhost:{port}/?directConnection=true");
    assert_eq!(place.start("capi/tests/c/resources.c", &[what, &uri]).succeed(), ["done"]);
}

#[test]
fn a_start_without_a_thread_to_have_says_so_and_may_succeed_later() {
    in_want_of("threads");
}

#[test]
fn a_start_at_the_systems_limit_of_threads_says_so_and_may_succeed_later() {
    in_want_of("threads_of_a_user");
}

#[test]
fn a_start_without_a_descriptor_to_have_says_so_and_may_succeed_later() {
    in_want_of("descriptors");
}

#[test]
fn the_death_of_the_server_does_not_kill_the_host() {
    let set = ReplicaSet::start().unwrap();
    let place = Place::on(&set, "gone");
    place.insert(0..2);
    let mut program = place.start("capi/tests/c/server_gone.c", &[]);
    program.expect("ready");
    set.member(0).kill().unwrap();
    program.expect("reconnecting");
    set.member(0).restart().unwrap();
    set.wait_for_primary(Duration::from_secs(20)).unwrap();
    place.insert(10..11);
    assert_eq!(program.succeed(), ["received"]);
}

/// Documents a collection; each is inserted, updated, replaced and deleted.
const DOCUMENTS: i32 = 5_000;
const COLLECTIONS: i32 = 5;
const OPERATIONS: [&str; 4] = ["insert", "update", "replace", "delete"];

/// Makes 20,000 changes and gives them in their order.
fn write_mixed(place: &Place, collection: &str) -> Vec<(&'static str, i32)> {
    const BLOCK: i32 = 500;
    let mut written = Vec::new();
    for first in (0..DOCUMENTS).step_by(BLOCK as usize) {
        let block = first..first + BLOCK;
        let each =
            |make: fn(i32) -> Document| -> Vec<Document> { block.clone().map(make).collect() };
        place.run(doc! { "insert": collection, "documents": each(|id| {
            doc! { "_id": id, "state": "new", "items": [{ "sku": format!("sku-{id}") }] }
        }) });
        place.run(doc! { "update": collection, "updates": each(|id| {
            doc! { "q": { "_id": id }, "u": { "$set": { "state": "paid" } } }
        }) });
        place.run(doc! { "update": collection, "updates": each(|id| {
            doc! { "q": { "_id": id }, "u": { "state": "replaced" } }
        }) });
        place.run(doc! { "delete": collection, "deletes": each(|id| {
            doc! { "q": { "_id": id }, "limit": 1 }
        }) });
        for operation in OPERATIONS {
            written.extend(block.clone().map(|id| (operation, id)));
        }
    }
    written
}

#[test]
fn a_hundred_thousand_changes_arrive_once_and_in_order() {
    let total = DOCUMENTS * COLLECTIONS * OPERATIONS.len() as i32;
    let place = Place::new("mixed");
    let files = [scratch().join("mixed-0"), scratch().join("mixed-1")];
    let paths = files.each_ref().map(|file| file.to_str().unwrap());
    let mut program =
        place.start("capi/tests/c/mixed.c", &[&total.to_string(), paths[0], paths[1]]);
    program.expect("ready");
    let written: HashMap<String, Vec<(&str, i32)>> = std::thread::scope(|threads| {
        let writers: Vec<_> = (0..COLLECTIONS)
            .map(|number| {
                let (place, name) = (&place, format!("c{number}"));
                threads.spawn(move || (name.clone(), write_mixed(place, &name)))
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    program.succeed();

    // Where each change stands in what was written to its collection.
    let places: HashMap<(&str, &str, i32), usize> = written
        .iter()
        .flat_map(|(collection, changes)| {
            let numbered = changes.iter().enumerate();
            numbered.map(move |(at, (operation, id))| ((&**collection, *operation, *id), at))
        })
        .collect();
    assert_eq!(places.len(), total as usize, "every change is one of a kind");
    let mut received = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    for file in &files {
        let text = std::fs::read_to_string(file).unwrap();
        let mut last: HashMap<&str, usize> = HashMap::new();
        let mut last_number = None;
        for line in text.lines() {
            let [number, worker, operation, id] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{line}");
            };
            let number: i64 = number.parse().unwrap();
            assert!(last_number.replace(number).is_none_or(|last| last < number), "{line}");
            numbers.insert(number);
            let change = (worker, operation, id.parse().unwrap());
            let at = *places.get(&change).unwrap_or_else(|| panic!("never written: {line}"));
            assert!(received.insert((worker.to_owned(), at)), "twice: {line}");
            let before = last.insert(worker, at);
            assert!(before.is_none_or(|before| before < at), "out of order: {line}");
        }
        assert!(text.lines().count() > 1000, "both consumers took part");
    }
    assert_eq!(received.len(), total as usize, "every change has arrived");
    assert!(numbers.into_iter().eq(0..i64::from(total)));
}

#[test]
fn the_example_follows_changes_until_ctrl_c() {
    let place = Place::new("follow");
    let mut program = start("examples/c/follow.c", [&place.uri, place.database.name(), "c"]);
    program.wait_for_stderr("ready");
    place.insert(0..3);
    let lines: Vec<String> = (0..3).map(|_| program.line()).collect();
    assert_eq!(ids(&lines), [0, 1, 2]);
    program.interrupt();
    let ended = program.end();
    assert_eq!(
        (ended.status.code(), ended.stderr.lines().count()),
        (Some(0), 1),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.lines, [""; 0]);
}

#[test]
fn the_example_says_what_went_wrong() {
    for (uri, status, text) in [
        ("nonsense", 1, "MS_ERR_ARGUMENT"),
        ("mongodb://u:hush@127.0.0.1:1/?serverSelectionTimeoutMS=100", 1, "MS_ERR_CONNECT"),
    ] {
        let ended = start("examples/c/follow.c", [uri, "shop", "orders"]).end();
        assert_eq!(ended.status.code(), Some(status), "{}", ended.stderr);
        assert!(ended.stderr.contains(text) && !ended.stderr.contains("hush"), "{}", ended.stderr);
    }
    assert_eq!(start("examples/c/follow.c", [""; 0]).end().status.code(), Some(2));
}

/// The limit is for the optimised library. A debug build takes five times as much, and more on a busy machine; workers
/// that ask again and again instead of waiting would take much more than that.
#[test]
fn fifty_idle_workers_cost_less_than_a_hundredth_of_a_core() {
    let set = ReplicaSet::start().unwrap();
    let lines = start("capi/tests/c/idle.c", [set.uri()]).succeed();
    let percent: f64 = lines.first().expect("a figure").parse().unwrap();
    eprintln!("50 idle workers use {percent} % of a core");
    let limit = if named_library().is_some() { 1.0 } else { 20.0 };
    assert!(percent < limit, "{percent} % of a core");
}

#[test]
fn a_program_that_was_killed_goes_on_behind_what_it_had_acked() {
    let place = Place::with_inserts("checkpoint", 10);
    let file = scratch().join("checkpoint.token");
    let file = file.to_str().unwrap();
    // Each run acks some and dies; the last says which one comes then.
    for acks in ["3", "1", "4"] {
        let ended = place.start("capi/tests/c/checkpoint.c", &[file, acks]).end();
        assert_eq!(ended.status.signal(), Some(9), "{}", ended.stderr);
    }
    let lines = place.start("capi/tests/c/checkpoint.c", &[file, "0"]).succeed();
    assert_eq!(ids(&lines), [8]);
    // The simple path has acked that one.
    let lines = place.start("capi/tests/c/checkpoint.c", &[file, "0"]).succeed();
    assert_eq!(ids(&lines), [9]);
}

#[track_caller]
fn checkpoint_store(way: &str) {
    let place = Place::with_inserts("store", 10);
    assert_eq!(place.start("capi/tests/c/checkpoint_store.c", &[way]).succeed(), ["done"]);
}

#[test]
fn a_restart_goes_on_after_what_was_acked_from_a_store_of_the_programs_own() {
    checkpoint_store("restarts");
}

#[test]
fn a_store_of_the_programs_own_has_one_worker_a_name() {
    checkpoint_store("claims");
}

#[test]
fn a_store_of_the_programs_own_is_waited_for_or_ends_the_worker_as_it_says() {
    checkpoint_store("failures");
}

#[test]
fn a_store_that_is_refused_is_not_called() {
    checkpoint_store("misuse");
}

#[test]
fn a_store_of_the_programs_own_leaks_nothing_and_touches_nothing_freed() {
    let ways = ["restarts", "claims", "failures", "misuse"];
    without_leaks("capi/tests/c/checkpoint_store.c", &Place::with_inserts("store", 10), &ways);
}

#[test]
fn a_relative_checkpoint_file_stays_where_it_was_when_the_worker_started() {
    let place = Place::with_inserts("relative", 3);
    let [here, there] = ["here", "there"].map(|name| scratch().join(name));
    let arguments = ["relative", here.to_str().unwrap(), there.to_str().unwrap()];
    assert_eq!(place.start("capi/tests/c/checkpoint_file.c", &arguments).succeed(), ["done"]);
}

#[test]
fn a_checkpoint_file_is_on_the_disk_before_it_counts() {
    let place = Place::with_inserts("durable", 1);
    let file = scratch().join("durable.token");
    let lines = place.start("capi/tests/c/durable.c", &[file.to_str().unwrap()]).succeed();
    let each = "text rename directory ";
    let saves = lines[0].len() / each.len();
    assert!(saves > 0 && lines[0] == each.repeat(saves), "{lines:?}");
}

#[test]
fn a_child_of_fork_neither_holds_nor_frees_the_lock_of_a_checkpoint_file() {
    let place = Place::with_inserts("bystander", 3);
    let file = scratch().join("bystander.token");
    let arguments = ["bystander", file.to_str().unwrap()];
    assert_eq!(place.start("capi/tests/c/checkpoint_file.c", &arguments).succeed(), ["done"]);
}

#[test]
fn the_lock_of_a_checkpoint_file_dies_with_its_process_although_a_child_lives() {
    let place = Place::with_inserts("orphan", 3);
    let file = scratch().join("orphan.token");
    let file = file.to_str().unwrap();
    let mut program = place.start("capi/tests/c/checkpoint_file.c", &["orphan", file]);
    let child: i32 = program.line().parse().unwrap();
    assert_eq!(program.end().status.signal(), Some(9));
    let lines = place.start("capi/tests/c/checkpoint.c", &[file, "0"]).succeed();
    assert_eq!(ids(&lines), [0]);
    // It has lived all the time.
    let child = nix::unistd::Pid::from_raw(child);
    nix::sys::signal::kill(child, nix::sys::signal::SIGKILL).unwrap();
}

#[test]
fn a_checkpoint_in_a_collection_costs_one_thread_and_no_second_runtime() {
    let place = Place::with_inserts("threads", 1);
    let collection = format!("{}.checkpoints", place.database.name());
    let lines = place.start("capi/tests/c/threads.c", &[&collection]).succeed();
    // Those three, the program's own, and the one that is kept for the lookups of host names.
    assert_eq!(lines, ["5 threads", "1 of a runtime", "1 of a worker", "1 of a saver"]);
}
