//! One process of a broker, and the watchdog that ends it.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::error::Context;
use crate::{DEADLINE, Error};

/// The parent of one broker, taking orders on standard input. The end of its input is the death of our process,
/// however it came (or a drop). It then kills the broker, stopped or not, and removes the data.
///
/// The kernel can send a signal at a parent's death, but it goes by the *thread* that made the child, and threads of
/// tests end early. Signals are ignored because a closing terminal, or the kernel that finds a stopped broker
/// orphaned, would send some before the work is done. The watchdog is the broker's parent: so the process number stays
/// the broker's until the watchdog has reaped it.
const WATCHDOG: &str = r#"
directory=$1 log=$2 pid=
shift 2
trap '' HUP INT QUIT TERM PIPE
halt() {
    status=
    [ -n "$pid" ] || return 0
    kill -KILL "$pid"
    wait "$pid"
    status=$? pid=
}
while read -r order; do
    case $order in
    start)
        (trap - HUP INT QUIT TERM PIPE; exec "$@") </dev/null >>"$log" 2>&1 &
        pid=$!
        echo "$pid" ;;
    halt) halt; echo "done $status" ;;
    pause) kill -STOP "$pid" && echo done || echo failed ;;
    resume) kill -CONT "$pid" && echo done || echo failed ;;
    esac
done
halt
cd /
rm -rf "$directory"
rmdir "${directory%/*}"
"#;

#[derive(Debug)]
struct Watchdog {
    child: Child,
    /// `None` once it has been let go.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Watchdog {
    fn order(&mut self, order: &str) -> io::Result<String> {
        let gone = || io::Error::other("the watchdog is gone");
        let orders = self.orders.as_mut().ok_or_else(gone)?;
        orders.write_all(format!("{order}\n").as_bytes())?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        match answer.trim() {
            "" => Err(gone()),
            answer => Ok(answer.to_owned()),
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.child.wait();
    }
}

/// What sort of broker a node is.
#[derive(Debug)]
pub(crate) struct Kind {
    pub name: &'static str,
    /// What stands in its log once it takes connections, in small letters.
    pub listening: &'static str,
    /// Whether it speaks its protocol on a new connection.
    pub answers: fn(&mut TcpStream) -> io::Result<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Paused,
    Killed,
}

/// One process of a broker.
#[derive(Debug)]
pub struct Node {
    kind: &'static Kind,
    address: String,
    directory: PathBuf,
    pid: AtomicU32,
    state: Mutex<(Watchdog, State)>,
}

impl Node {
    /// Makes the directory of a node and its watchdog. Nothing runs yet: the files that the program needs can be
    /// written now.
    pub(crate) fn new(
        kind: &'static Kind,
        directory: PathBuf,
        port: u16,
        program: &Path,
        arguments: &[OsString],
    ) -> Result<Self, Error> {
        DirBuilder::new()
            .mode(0o700)
            .create(&directory)
            .context(format!("cannot make {}", directory.display()))?;
        let mut child = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "brokers-watchdog"])
            .args([&directory, &directory.join("log")])
            .arg(program)
            .args(arguments)
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal, and a kill of our whole group, are not for the watchdog.
            .process_group(0)
            .spawn()
            .context("cannot run /bin/sh")?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        let watchdog = Watchdog {
            child,
            orders,
            answers: BufReader::new(answers.ok_or_else(|| Error::new("no pipe"))?),
        };
        Ok(Self {
            kind,
            address: format!("127.0.0.1:{port}"),
            directory,
            pid: AtomicU32::new(0),
            state: Mutex::new((watchdog, State::Killed)),
        })
    }

    /// Starts the program and returns while it is still coming up.
    pub(crate) fn begin(&self) -> Result<(), Error> {
        self.begin_with(&mut self.state())
    }

    /// Waits until it takes connections.
    pub(crate) fn await_start(&self, end: Instant) -> Result<(), Fault> {
        self.await_listening(&mut self.state(), 0, end)
    }

    /// `127.0.0.1:port` for clients.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process; after a [`restart`](Self::restart) another one, 0 while it is killed.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.load(Relaxed)
    }

    /// Whether the process is there (a paused one is).
    #[must_use]
    pub fn is_running(&self) -> bool {
        !matches!(process_state(self.pid()), None | Some('Z' | 'X'))
    }

    /// The folder of its settings, its log and its data. It is removed when the broker is dropped.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Stops the process in its tracks (SIGSTOP): connections stay open and nothing answers.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn pause(&self) -> Result<(), Error> {
        let mut state = self.running("pause")?;
        self.order(&mut state, "pause")?;
        state.1 = State::Paused;
        let stopped = || Ok(matches!(process_state(self.pid()), Some('T')).then_some(()));
        poll(Instant::now() + Duration::from_secs(5), "SIGSTOP takes effect", stopped)
    }

    /// Lets a paused process go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn resume(&self) -> Result<(), Error> {
        let mut state = self.running("resume")?;
        self.order(&mut state, "resume")?;
        state.1 = State::Running;
        Ok(())
    }

    /// Kills the process (SIGKILL, paused or not) and waits for its end. Its data stay.
    ///
    /// # Errors
    ///
    /// If the watchdog is gone. Killing a node that is dead already is no error.
    pub fn kill(&self) -> Result<(), Error> {
        self.halt(&mut self.state())?;
        Ok(())
    }

    /// Starts the node again, on the same port and data, and waits until it takes connections. Kills it first if it
    /// runs.
    ///
    /// # Errors
    ///
    /// If it does not come up; with the tail of its log.
    pub fn restart(&self) -> Result<(), Error> {
        let end = Instant::now() + DEADLINE;
        let mut state = self.state();
        loop {
            self.halt(&mut state)?;
            let from = fs::metadata(self.log()).map_or(0, |log| log.len());
            self.begin_with(&mut state)?;
            match self.await_listening(&mut state, usize::try_from(from).unwrap_or(0), end) {
                Ok(()) => return Ok(()),
                // Perhaps a passing connection has it: the port cannot be another one now.
                Err(fault) if fault.port_taken && Instant::now() < end => {}
                Err(fault) => return Err(fault.error),
            }
        }
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read(self.log()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(25)..];
        let cut = |line: &&str| line.chars().take(500).collect::<String>();
        tail.iter().map(cut).collect::<Vec<_>>().join("\n")
    }

    /// Writes a file that only we can read into its directory.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.directory.join(name);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .context(format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Whether it is neither paused nor dead: only then will it answer.
    pub(crate) fn is_awake(&self) -> bool {
        self.state().1 == State::Running && self.is_running()
    }

    /// Tells the watchdog to clean up, without waiting for it.
    pub(crate) fn let_go(&self) {
        self.state().0.orders = None;
    }

    fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    fn begin_with(&self, state: &mut (Watchdog, State)) -> Result<(), Error> {
        let doing = || format!("cannot start {}", self.kind.name);
        let pid = state.0.order("start").context(doing())?;
        self.pid.store(pid.parse().context(doing())?, Relaxed);
        state.1 = State::Running;
        Ok(())
    }

    /// `from` is where this run's part of the log begins.
    ///
    /// The log is asked before the port: were our port lost to another broker, that one would answer.
    fn await_listening(
        &self,
        state: &mut (Watchdog, State),
        from: usize,
        end: Instant,
    ) -> Result<(), Fault> {
        let name = self.kind.name;
        let ready = poll(end, &format!("{name} takes connections"), || {
            let running = self.is_running();
            let log = fs::read(self.log()).unwrap_or_default();
            let log = String::from_utf8_lossy(log.get(from..).unwrap_or_default()).to_lowercase();
            if running && log.contains(self.kind.listening) && self.answers() {
                return Ok(Some(Ok(())));
            }
            // What it wrote before it died is read after it was seen dead.
            Ok((!running).then(|| Err(log.contains("address already in use"))))
        });
        let (what, port_taken) = match ready {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(port_taken)) => {
                // Not every end is in the log: a program that is not there gives 127.
                let status = self.halt(state).unwrap_or_default();
                (format!("{name} ended while starting, status {status}"), port_taken)
            }
            Err(error) => (error.to_string(), false),
        };
        let error =
            Error::new(format!("{what} ({}); its log ends:\n{}", self.address, self.log_tail()));
        Err(Fault { error, port_taken })
    }

    fn answers(&self) -> bool {
        let answer = connect(&self.address).and_then(|mut stream| (self.kind.answers)(&mut stream));
        answer.unwrap_or(false)
    }

    /// Ends the program; returns its exit status (above 128 a signal), empty if it had ended before.
    fn halt(&self, state: &mut (Watchdog, State)) -> Result<String, Error> {
        // From here the number may become another process's.
        self.pid.store(0, Relaxed);
        state.1 = State::Killed;
        self.order(state, "halt")
    }

    fn order(&self, state: &mut (Watchdog, State), order: &str) -> Result<String, Error> {
        let doing = || format!("cannot {order} {}", self.address);
        match state.0.order(order).context(doing())?.strip_prefix("done") {
            Some(status) => Ok(status.trim().to_owned()),
            None => Err(Error::new(doing())),
        }
    }

    fn running(&self, what: &str) -> Result<MutexGuard<'_, (Watchdog, State)>, Error> {
        let state = self.state();
        match self.is_running() {
            true => Ok(state),
            false => Err(Error::new(format!("cannot {what} {}: it is dead", self.address))),
        }
    }

    fn state(&self) -> MutexGuard<'_, (Watchdog, State)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A failed start.
pub(crate) struct Fault {
    pub error: Error,
    /// Other ports may do better.
    pub port_taken: bool,
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self { error, port_taken: false }
    }
}

/// Starts a broker in a directory of its own. Between our look at a port and the broker's own, another program may take
/// it: then all begins anew, with other ports.
pub(crate) fn start<T>(
    mut attempt: impl FnMut(&Path, Instant) -> Result<T, Fault>,
) -> Result<T, Error> {
    let end = Instant::now() + DEADLINE;
    loop {
        let root = new_directory()?;
        match attempt(&root, end) {
            Ok(broker) => return Ok(broker),
            Err(fault) => {
                // No watchdog may have been there to do it.
                let _ = fs::remove_dir(&root);
                if !fault.port_taken || Instant::now() >= end {
                    return Err(fault.error);
                }
            }
        }
    }
}

/// Free ports below the range that systems take outgoing connections' ports from. Of those, a client that calls again
/// and again for a broker that is down may get the broker's own port.
pub(crate) fn free_ports(count: usize) -> Result<Vec<u16>, Error> {
    // Kept until all are found, so that none is found twice.
    let mut found = Vec::new();
    for _ in 0..1000 {
        let port = 15_000 + u16::try_from(random() % 17_000).unwrap_or(0);
        found.extend(TcpListener::bind(("127.0.0.1", port)));
        if found.len() == count {
            let ports = found.iter().map(|listener| listener.local_addr().map(|it| it.port()));
            return ports.collect::<io::Result<_>>().context("cannot find free ports");
        }
    }
    Err(Error::new("cannot find free ports between 15000 and 32000"))
}

/// A connection that gives up soon: a paused broker's port takes connections, too.
pub(crate) fn connect(address: &str) -> io::Result<TcpStream> {
    let patience = Duration::from_secs(2);
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// Tries every 10 ms.
pub(crate) fn poll<T>(
    end: Instant,
    what: &str,
    mut attempt: impl FnMut() -> Result<Option<T>, Error>,
) -> Result<T, Error> {
    loop {
        if let Some(value) = attempt()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            return Err(Error::new(format!("not within the deadline: {what}")));
        }
        sleep(Duration::from_millis(10));
    }
}

/// The standard library seeds its hashers from the system's randomness.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

/// The directory of a broker. The watchdog of its last node removes it.
fn new_directory() -> Result<PathBuf, Error> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let temp = env::temp_dir();
    // The programs run in directories of their own.
    let temp = fs::canonicalize(&temp).context(format!("no folder {}", temp.display()))?;
    loop {
        let number = NUMBER.fetch_add(1, Relaxed);
        let path = temp.join(format!("mongostream-brokers-{}-{number}", std::process::id()));
        match DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            // Of a process of the same number that died with its watchdogs.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).context(format!("cannot make {}", path.display())),
        }
    }
}

/// The state letter of a process (`T` stopped, `Z` dead but not yet reaped); `None` if there is none.
fn process_state(pid: u32) -> Option<char> {
    if pid == 0 {
        return None;
    }
    if cfg!(target_os = "linux") {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        return stat.rsplit(") ").next()?.chars().next();
    }
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().ok()?;
    String::from_utf8_lossy(&output.stdout).trim().chars().next()
}
