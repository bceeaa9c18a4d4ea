//! One process of a server, which can be paused, killed and restarted.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Context;
use crate::ports::connect;
use crate::start::Fault;
use crate::wait::poll;
use crate::watchdog::Watchdog;
use crate::{DEADLINE, Error};

/// What sort of server a node is.
#[derive(Debug)]
pub struct Kind {
    /// The program's.
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

/// One process of a server.
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
    ///
    /// # Errors
    ///
    /// If the directory cannot be made, or there is no `/bin/sh`.
    pub fn new(
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
        let watchdog = Watchdog::new(&directory, &directory.join("log"), program, arguments)?;
        Ok(Self {
            kind,
            address: format!("127.0.0.1:{port}"),
            directory,
            pid: AtomicU32::new(0),
            state: Mutex::new((watchdog, State::Killed)),
        })
    }

    /// Starts the program and returns while it is still coming up.
    ///
    /// # Errors
    ///
    /// If the watchdog is gone.
    pub fn begin(&self) -> Result<(), Error> {
        self.begin_with(&mut self.state())
    }

    /// Waits until it takes connections.
    ///
    /// # Errors
    ///
    /// If it ends, or takes none until `end`; with the tail of its log.
    pub fn await_start(&self, end: Instant) -> Result<(), Fault> {
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

    /// The folder of its settings, its log and its data. It is removed when the server is dropped.
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
    ///
    /// # Errors
    ///
    /// If it is there already, or cannot be written.
    pub fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
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
    #[must_use]
    pub fn is_awake(&self) -> bool {
        self.state().1 == State::Running && self.is_running()
    }

    /// Tells the watchdog to clean up, without waiting for it.
    pub fn let_go(&self) {
        self.state().0.let_go();
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
    /// The log is asked before the port: were our port lost to another server, that one would answer.
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
