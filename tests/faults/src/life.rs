//! The consumer process from outside: started, heard, frozen, killed, started again.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::adapter;
use crate::consumer::WORKERS;
use crate::referee::Referee;
use crate::report::{Line, now};
use crate::{Context, Result, wait_for};

/// What the consumer is started with.
#[derive(Clone)]
pub struct Setting {
    /// The program: this crate's binary.
    pub program: PathBuf,
    /// The deployment.
    pub uri: String,
    /// Where its checkpoint files lie.
    pub directory: PathBuf,
    /// For its random choices.
    pub seed: u64,
    /// Somebody else's consumer, see [`adapter`].
    pub command: Option<String>,
    /// Options of its workers: `name=value`.
    pub options: Vec<String>,
}

/// A consumer process, one after the other.
pub struct Consumer {
    setting: Setting,
    referee: Arc<Mutex<Referee>>,
    process: Mutex<Option<Process>>,
}

struct Process {
    child: Child,
    listener: JoinHandle<()>,
}

impl Consumer {
    /// Nothing runs yet.
    #[must_use]
    pub fn new(setting: Setting, referee: &Arc<Mutex<Referee>>) -> Self {
        let sees_no_saves = setting.command.is_some();
        referee.lock().unwrap_or_else(PoisonError::into_inner).sees_no_saves = sees_no_saves;
        Self { setting, referee: Arc::clone(referee), process: Mutex::new(None) }
    }

    /// The directory with its checkpoint files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.setting.directory
    }

    /// Starts the process and waits until all its streams are open.
    ///
    /// A checkpoint that cannot be loaded because the set has just no primary ends a worker, by design;
    /// whoever runs it then starts it again, and so does this.
    ///
    /// Returns how often it had to.
    ///
    /// # Errors
    ///
    /// If it does not come up within two minutes, or a worker fails for another reason.
    pub fn start(&self) -> Result<usize> {
        self.launch()?;
        let mut again = 0;
        loop {
            let ready = || {
                let mut referee = self.referee();
                let failures = referee.take_failures();
                (referee.all_ready() || !failures.is_empty()).then_some(failures)
            };
            let failures = wait_for(Duration::from_secs(120), "the streams are open", ready)?;
            let is_early = |text: &str| text.starts_with("Checkpoint cannot load");
            match failures.iter().find(|(_, text)| !is_early(text)) {
                Some((worker, text)) => {
                    return Err(format!("{}: failed: {text}", WORKERS[*worker]).into());
                }
                None if failures.is_empty() => return Ok(again),
                None => {
                    self.kill()?;
                    self.launch()?;
                    again += 1;
                }
            }
        }
    }

    /// Starts the process and does not wait.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn launch(&self) -> Result<()> {
        let Setting { program, uri, directory, seed, command, options } = &self.setting;
        let _ = std::fs::remove_file(adapter::groups_file(directory));
        let words = match command {
            Some(command) => ["adapter".to_owned(), command.clone(), uri.clone()],
            None => ["consumer".to_owned(), uri.clone(), seed.to_string()],
        };
        let mut child = Command::new(program)
            .args(words)
            .arg(directory)
            .args(options)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the consumer")?;
        let lines = BufReader::new(child.stdout.take().ok_or("no pipe")?);
        self.referee().started(now());
        let referee = Arc::clone(&self.referee);
        let listener = thread::spawn(move || listen(lines, &referee));
        *self.process.lock().expect("no panic") = Some(Process { child, listener });
        Ok(())
    }

    /// Kills the process (`kill -9`) and hears what it has told before; returns the signal it died of.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn kill(&self) -> Result<i32> {
        let mut process = self.process.lock().expect("no panic").take().ok_or("it does not run")?;
        match &self.setting.command {
            // It tells what they have printed before, and ends then.
            Some(_) => self.groups()?.into_iter().for_each(adapter::kill),
            None => process.child.kill()?,
        }
        let status = process.child.wait()?;
        process.listener.join().map_err(|_| "the consumer told nonsense")?;
        self.referee().killed(now());
        if status.code() == Some(adapter::KILLED) {
            return Ok(9);
        }
        status.signal().ok_or_else(|| format!("the consumer had ended by itself: {status}").into())
    }

    /// Freezes the process (SIGSTOP), or lets it go on.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let ids = match &self.setting.command {
            Some(_) => self.groups()?,
            None => vec![self.id()?],
        };
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        // It may tell something before it is seen to go on.
        if !frozen {
            self.referee().excused(now());
        }
        for id in ids {
            match &self.setting.command {
                Some(_) => adapter::signal(id, signal),
                None => kill(Pid::from_raw(i32::try_from(id)?), signal)?,
            }
            wait_for(Duration::from_secs(5), "the signal takes effect", || {
                let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
                let state = stat.rsplit(") ").next()?.chars().next()?;
                ((state == 'T') == frozen).then_some(())
            })?;
        }
        if !frozen {
            self.referee().excused(now());
        }
        Ok(())
    }

    /// Keeps the consumer from receiving, or lets it.
    ///
    /// # Errors
    ///
    /// If it does not run.
    pub fn hold(&self, held: bool) -> Result<()> {
        let mut process = self.process.lock().expect("no panic");
        let process = process.as_mut().ok_or("it does not run")?;
        let order: &[u8] = if held { b"hold\n" } else { b"go\n" };
        Ok(process.child.stdin.as_mut().ok_or("no pipe")?.write_all(order)?)
    }

    /// The process groups of somebody else's programs.
    fn groups(&self) -> Result<Vec<u32>> {
        let file = adapter::groups_file(&self.setting.directory);
        let read = || std::fs::read_to_string(&file).ok();
        let text = wait_for(Duration::from_secs(10), "the programs are started", read)?;
        text.lines().map(|line| Ok(line.parse()?)).collect()
    }

    fn id(&self) -> Result<u32> {
        let process = self.process.lock().expect("no panic");
        Ok(process.as_ref().ok_or("it does not run")?.child.id())
    }

    fn referee(&self) -> std::sync::MutexGuard<'_, Referee> {
        self.referee.lock().expect("no panic")
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

fn listen(mut lines: impl BufRead, referee: &Mutex<Referee>) {
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
        if let Some((at, worker, line)) = Line::read(&line) {
            referee.lock().expect("no panic").heard(at, worker, line);
        }
        line.clear();
    }
}
