//! For a program that a test starts itself: it is killed when this process is gone, however it went.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use crate::Error;
use crate::error::Context;

/// The end of its input is our death.
const GUARD: &str = r#"
trap '' HUP INT QUIT TERM PIPE
cat >/dev/null
kill -KILL "$1"
"#;

/// Kills a process when this process has ended or was killed. Drop it before the process is waited for: later its number
/// may be another process's.
#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    /// Guards a process that runs.
    ///
    /// # Errors
    ///
    /// If there is no `/bin/sh`.
    pub fn of(process: &Child) -> Result<Self, Error> {
        let guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "guard", &process.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        guard.context("cannot run /bin/sh").map(Self)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Before its input ends.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
