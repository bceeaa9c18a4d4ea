//! The parent of a server: it ends the server and removes its data when this process is gone.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::Error;
use crate::error::Context;

/// The parent of one server, taking orders on standard input. The end of its input is the death of our process,
/// however it came (or a drop). It then kills the server, stopped or not, and removes the data.
///
/// The kernel can send a signal at a parent's death, but it goes by the *thread* that made the child, and threads of
/// tests end early. Signals are ignored because a closing terminal, or the kernel that finds a stopped server
/// orphaned, would send some before the work is done. The watchdog is the server's parent: so the process number stays
/// the server's until the watchdog has reaped it.
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
pub(crate) struct Watchdog {
    child: Child,
    /// `None` once it has been let go.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Watchdog {
    /// Of a program that does not run yet. Its directory is removed in the end, and the one around it if nothing is left
    /// in it.
    pub(crate) fn new(
        directory: &Path,
        log: &Path,
        program: &Path,
        arguments: &[OsString],
    ) -> Result<Self, Error> {
        let mut child = Command::new("/bin/sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .args([directory, log])
            .arg(program)
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal, and a kill of our whole group, are not for the watchdog.
            .process_group(0)
            .spawn()
            .context("cannot run /bin/sh")?;
        let (orders, answers) = (child.stdin.take(), child.stdout.take());
        let answers = BufReader::new(answers.ok_or_else(|| Error::new("no pipe"))?);
        Ok(Self { child, orders, answers })
    }

    /// Tells it to clean up, without waiting for it.
    pub(crate) fn let_go(&mut self) {
        self.orders = None;
    }

    pub(crate) fn order(&mut self, order: &str) -> io::Result<String> {
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
