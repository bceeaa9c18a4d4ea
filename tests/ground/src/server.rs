//! One mongod and the watchdog that ends it.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use mongodb::sync::Client;

use crate::Error;
use crate::error::Context;
use crate::fetch::Mongod;
use crate::tls::Certificates;
use crate::wait::poll;

/// How long a server may take to come up: far more than it needs, for loaded machines.
pub(crate) const START: Duration = Duration::from_secs(60);

/// The parent of one mongod, taking orders on standard input. The end of its input is the death of
/// our process, however it came (or a drop): it then kills mongod, stopped or not, and removes the
/// data.
///
/// A signal to die at the parent's death, the kernel's own way, hangs on the *thread* that made
/// the child, and threads of tests are short-lived. Signals are ignored since a closing terminal,
/// or the kernel finding a stopped mongod orphaned, would send some before the work is done.
/// As mongod's parent it alone sees to it that the process number stays mongod's until reaped.
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

/// What a mongod is started with.
pub(crate) struct Launch<'a> {
    pub mongod: &'a Mongod,
    /// The directory of the set: the member's own is made inside.
    pub root: &'a Path,
    pub index: usize,
    /// Name of the replica set; a standalone server has none.
    pub set: Option<&'a str>,
    /// Contents of the key file; switches authentication on.
    pub key: Option<&'a str>,
    /// Switches TLS on.
    pub tls: Option<&'a Certificates>,
    pub args: &'a [OsString],
    pub env: &'a [(OsString, OsString)],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Paused,
    Killed,
}

/// One server of a set, or a standalone one.
#[derive(Debug)]
pub struct Member {
    address: String,
    log: PathBuf,
    authority: Option<PathBuf>,
    pid: AtomicU32,
    state: Mutex<(Watchdog, State)>,
    /// Set once users are made and the URI is known.
    direct: OnceLock<ClientOptions>,
    client: OnceLock<Client>,
}

impl Member {
    /// Starts mongod and returns while it is still coming up.
    pub(crate) fn launch(launch: &Launch<'_>) -> Result<Self, Error> {
        let directory = launch.root.join(launch.index.to_string());
        let data = directory.join("data");
        let log = directory.join("log");
        let port = free_port().context("cannot find a free port")?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&data)
            .context(format!("cannot make {}", data.display()))?;
        let mut arguments: Vec<OsString> = vec![
            "--bind_ip".into(),
            "127.0.0.1".into(),
            "--port".into(),
            port.to_string().into(),
            "--nounixsocket".into(),
            "--dbpath".into(),
            data.into(),
            "--setParameter".into(),
            "enableTestCommands=1".into(),
            "--setParameter".into(),
            "diagnosticDataCollectionEnabled=false".into(),
        ];
        if let Some(set) = launch.set {
            arguments.extend(["--replSet".into(), set.into()]);
        }
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)
                .and_then(|mut file| file.write_all(text.as_bytes()))
                .context(format!("cannot write {}", path.display()))?;
            Ok(path)
        };
        if let Some(key) = launch.key {
            arguments.extend(["--auth".into(), "--keyFile".into(), write("key", key)?.into()]);
        }
        let mut authority = None;
        if let Some(tls) = launch.tls {
            let path = write("authority.pem", &tls.authority)?;
            let server = write("server.pem", &tls.server)?;
            arguments.extend(["--tlsMode".into(), "requireTLS".into()]);
            arguments.extend(["--tlsCAFile".into(), path.clone().into()]);
            arguments.extend(["--tlsCertificateKeyFile".into(), server.into()]);
            // Only members show one.
            arguments.push("--tlsAllowConnectionsWithoutCertificates".into());
            authority = Some(path);
        }
        let given = |name: &str| {
            launch.args.iter().any(|argument| {
                let argument = argument.to_string_lossy();
                argument == name || argument.starts_with(&format!("{name}="))
            })
        };
        for (name, value) in [
            // Half the machine's memory otherwise. 0.25 hangs on the largest documents.
            ("--wiredTigerCacheSizeGB", "1"),
            // 17 instead of 300 MB on disk.
            ("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)"),
        ] {
            // mongod refuses an option given twice.
            if !given(name) {
                arguments.extend([name.into(), value.into()]);
            }
        }
        arguments.extend_from_slice(launch.args);

        let mut command = Command::new("/bin/sh");
        command.args(["-c", WATCHDOG, "ground-watchdog"]).args([&directory, &log]).arg("env");
        if let Some(path) = &launch.mongod.library_path {
            command.arg(assignment("LD_LIBRARY_PATH", path));
        }
        for (name, value) in launch.env {
            command.arg(assignment(name, value));
        }
        let spawned = command
            .arg(&launch.mongod.path)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal, and a kill of our whole group, are not for the watchdog.
            .process_group(0)
            .spawn();
        let mut child = spawned.context("cannot run /bin/sh")?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        let mut watchdog = Watchdog {
            child,
            orders,
            answers: BufReader::new(answers.ok_or_else(|| Error::new("no pipe"))?),
        };
        let pid = begin(&mut watchdog)?;
        Ok(Self {
            address: format!("127.0.0.1:{port}"),
            log,
            authority,
            pid: AtomicU32::new(pid),
            state: Mutex::new((watchdog, State::Running)),
            direct: OnceLock::new(),
            client: OnceLock::new(),
        })
    }

    /// Waits until a launched mongod takes connections.
    pub(crate) fn await_start(&self, end: Instant) -> Result<(), Fault> {
        self.await_listening(&mut self.state(), 0, end)
    }

    /// `from` is where this run's part of the log begins.
    ///
    /// The log tells it rather than a connection: were our port lost to another mongod, that one
    /// would answer.
    fn await_listening(
        &self,
        state: &mut (Watchdog, State),
        from: usize,
        end: Instant,
    ) -> Result<(), Fault> {
        let ready = poll(end, "mongod takes connections", || {
            let running = self.is_running();
            let log = fs::read(&self.log).unwrap_or_default();
            let log = String::from_utf8_lossy(log.get(from..).unwrap_or_default()).to_lowercase();
            if log.contains("waiting for connections") && running {
                return Ok(Some(Ok(())));
            }
            // What it wrote before it died is read after it was seen dead.
            Ok((!running).then(|| Err(log.contains("address already in use"))))
        });
        let (what, port_taken) = match ready {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(port_taken)) => {
                // Not every end is in the log: a processor too old for the binary gives 132.
                let status = self.halt(state).unwrap_or_default();
                (format!("mongod ended while starting, status {status}"), port_taken)
            }
            Err(error) => (error.to_string(), false),
        };
        let error =
            Error::new(format!("{what} ({}); its log ends:\n{}", self.address, self.log_tail()));
        Err(Fault { error, port_taken })
    }

    /// `host:port` it really listens on, whatever name the set knows it by.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The certificate of the authority that clients need, if it has TLS.
    pub(crate) fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
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

    /// A client of this server alone (`directConnection`), logged in if the server wants that.
    /// Made once.
    ///
    /// # Panics
    ///
    /// If the client cannot be made.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.client.get_or_init(|| {
            let options = self.direct.get().expect("the server has started").clone();
            Client::with_options(options).expect("a client")
        })
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

    /// Kills the process (SIGKILL, paused or not) and waits for its end. Its data stay, as far as
    /// they were journaled: for `w=majority&journal=true` always, else 0.1 s later.
    ///
    /// # Errors
    ///
    /// If the watchdog is gone. Killing a server that is dead already is none.
    pub fn kill(&self) -> Result<(), Error> {
        self.halt(&mut self.state())?;
        Ok(())
    }

    /// Starts the server again, on the same port and data, and waits until it takes connections
    /// (the set may still have to elect: see
    /// [`wait_for_primary`](crate::ReplicaSet::wait_for_primary)). Kills it first if it runs.
    ///
    /// # Errors
    ///
    /// If mongod does not come up; with the tail of its log.
    pub fn restart(&self) -> Result<(), Error> {
        let end = Instant::now() + START;
        let mut state = self.state();
        loop {
            self.halt(&mut state)?;
            let from = fs::metadata(&self.log).map_or(0, |log| log.len());
            self.pid.store(begin(&mut state.0)?, Relaxed);
            match self.await_listening(&mut state, usize::try_from(from).unwrap_or(0), end) {
                Ok(()) => break,
                // Perhaps a passing connection has it: the port cannot be another one now.
                Err(fault) if fault.port_taken && Instant::now() < end => {}
                Err(fault) => return Err(fault.error),
            }
        }
        state.1 = State::Running;
        Ok(())
    }

    /// The last lines of mongod's log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(25)..];
        let cut = |line: &&str| line.chars().take(500).collect::<String>();
        tail.iter().map(cut).collect::<Vec<_>>().join("\n")
    }

    /// Whether it is neither paused nor dead: only then will it answer.
    pub(crate) fn answers(&self) -> bool {
        self.state().1 == State::Running && self.is_running()
    }

    /// Tells the watchdog to clean up, without waiting for it.
    pub(crate) fn let_go(&self) {
        self.state().0.orders = None;
    }

    /// Waits until the watchdog, let go, has cleaned up.
    pub(crate) fn await_watchdog(&self) {
        let _ = self.state().0.child.wait();
    }

    pub(crate) fn set_direct(&self, mut options: ClientOptions) -> Result<(), Error> {
        options.hosts = vec![self.address.parse().context("an address")?];
        options.repl_set_name = None;
        options.direct_connection = Some(true);
        let _ = self.direct.set(options);
        Ok(())
    }

    /// Ends mongod; returns its exit status (above 128 a signal), empty if it had ended before.
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
    /// Another port may do better.
    pub port_taken: bool,
}

fn begin(watchdog: &mut Watchdog) -> Result<u32, Error> {
    let pid = watchdog.order("start").context("cannot start mongod")?;
    pid.parse().context("cannot start mongod")
}

fn assignment(name: impl Into<OsString>, value: impl AsRef<std::ffi::OsStr>) -> OsString {
    let mut text = name.into();
    text.push("=");
    text.push(value);
    text
}

/// Runs a command on the `admin` database.
pub(crate) fn admin(client: &Client, command: Document) -> mongodb::error::Result<Document> {
    client.database("admin").run_command(command).run()
}

/// The `hello` reply of a server. By its old name: 4.2 knows no other, and all still know this one.
pub(crate) fn hello(client: &Client) -> mongodb::error::Result<Document> {
    admin(client, doc! { "isMaster": 1 })
}

/// A random port below the range that systems take outgoing connections' ports from. Of those, a
/// client that calls again and again for a server that is down may get the server's own port.
fn free_port() -> io::Result<u16> {
    for _ in 0..100 {
        let port = 15_000 + u16::try_from(random() % 17_000).unwrap_or(0);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// The standard library seeds its hashers from the system's randomness.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0)
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
