//! Two pipes, one of which stands by: started, told apart, broken, and started again.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use processes::Guard;

use super::judge::Judge;
use crate::{Context, Result, wait_for};

/// The lease of the pipes.
pub const LEASE: Duration = Duration::from_millis(2000);
const PATIENCE: Duration = Duration::from_secs(60);

/// Both pipes.
pub struct Pair {
    program: PathBuf,
    arguments: Vec<String>,
    pipes: Mutex<[Option<Pipe>; 2]>,
    judge: Arc<Mutex<Judge>>,
    /// What they have told on stderr.
    told: Arc<Mutex<Vec<String>>>,
}

/// A process; it does not outlive the pair, however that ends.
struct Pipe {
    process: Child,
    /// Until the process is known to have ended.
    guard: Option<Guard>,
}

impl Pipe {
    fn has_ended(&mut self) -> std::io::Result<Option<ExitStatus>> {
        let status = self.process.try_wait()?;
        if status.is_some() {
            self.guard = None;
        }
        Ok(status)
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.guard = None;
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Pair {
    /// Starts both.
    ///
    /// # Errors
    ///
    /// If one cannot be started, or none takes the lease.
    pub fn start(
        program: PathBuf,
        arguments: Vec<String>,
        judge: &Arc<Mutex<Judge>>,
    ) -> Result<Self> {
        let pair = Self {
            program,
            arguments,
            pipes: Mutex::default(),
            judge: Arc::clone(judge),
            told: Arc::default(),
        };
        pair.start_missing()?;
        pair.holder()?;
        Ok(pair)
    }

    /// Starts whichever does not run. Returns how many.
    ///
    /// # Errors
    ///
    /// If one cannot be started.
    pub fn start_missing(&self) -> Result<usize> {
        let mut pipes = self.pipes.lock().expect("no panic");
        let mut started = 0;
        for pipe in pipes.iter_mut() {
            let runs = match pipe {
                Some(pipe) => pipe.has_ended()?.is_none(),
                None => false,
            };
            if !runs {
                *pipe = Some(self.launch()?);
                started += 1;
            }
        }
        Ok(started)
    }

    fn launch(&self) -> Result<Pipe> {
        let mut process = Command::new(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start the pipe")?;
        let lines = BufReader::new(process.stderr.take().ok_or("no pipe")?).lines();
        let (told, id) = (Arc::clone(&self.told), process.id());
        thread::spawn(move || {
            for line in lines.map_while(std::io::Result::ok) {
                told.lock().expect("no panic").push(format!("pipe {id}: {line}"));
            }
        });
        let guard = Some(Guard::of(&process)?);
        Ok(Pipe { process, guard })
    }

    /// What they have told since the last call.
    #[must_use]
    pub fn told(&self) -> Vec<String> {
        std::mem::take(&mut *self.told.lock().expect("no panic"))
    }

    /// The process that holds the lease, by the checkpoint's document.
    ///
    /// # Errors
    ///
    /// If there is none for a minute.
    pub fn holder(&self) -> Result<u32> {
        wait_for(PATIENCE, "a pipe holds the lease", || {
            let ids = self.ids();
            let judge = self.judge.lock().expect("no panic");
            let state = judge.state()?;
            state.owner.as_ref()?;
            let holder = state.holder.rsplit_once(':')?.1.parse().ok()?;
            ids.contains(&holder).then_some(holder)
        })
    }

    fn ids(&self) -> Vec<u32> {
        self.pipes
            .lock()
            .expect("no panic")
            .iter()
            .flatten()
            .map(|pipe| pipe.process.id())
            .collect()
    }

    /// The other one.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn standby(&self) -> Result<u32> {
        let holder = self.holder()?;
        self.ids().into_iter().find(|id| *id != holder).ok_or_else(|| "there is no standby".into())
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// If there is no such process.
    pub fn signal(&self, id: u32, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(i32::try_from(id)?), signal)?)
    }

    /// Waits until a process of the pair has ended; returns its status in words.
    ///
    /// # Errors
    ///
    /// If it does not.
    pub fn ended(&self, id: u32) -> Result<String> {
        wait_for(PATIENCE, "the pipe ends", || {
            let mut pipes = self.pipes.lock().expect("no panic");
            let pipe = pipes.iter_mut().flatten().find(|pipe| pipe.process.id() == id)?;
            pipe.has_ended().ok()?.map(|status| status.to_string())
        })
    }
}
