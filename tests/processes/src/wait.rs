//! Waiting for something, with a deadline.

use std::io::Read;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::Error;

/// Waits until `done` is true, looking every 5 ms.
///
/// # Panics
///
/// Once `deadline` has passed, with `what` in the message.
#[track_caller]
pub fn wait_until(deadline: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let end = Instant::now() + deadline;
    while !done() {
        assert!(Instant::now() < end, "not within {deadline:?}: {what}");
        sleep(Duration::from_millis(5));
    }
}

/// Waits until `attempt` gives a value, trying every 5 ms.
///
/// # Panics
///
/// Once `deadline` has passed.
#[track_caller]
pub fn eventually<T>(deadline: Duration, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + deadline;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "no value within {deadline:?}");
        sleep(Duration::from_millis(5));
    }
}

/// Waits until a process ends.
///
/// # Panics
///
/// Once `deadline` has passed, or if the system cannot tell; the process is killed then.
#[track_caller]
pub fn wait_for_end(process: &mut Child, deadline: Duration) -> ExitStatus {
    let end = Instant::now() + deadline;
    loop {
        match process.try_wait() {
            Ok(Some(status)) => return status,
            Ok(None) if Instant::now() < end => sleep(Duration::from_millis(5)),
            other => {
                let _ = process.kill();
                let _ = process.wait();
                panic!("process {} has not ended within {deadline:?}: {other:?}", process.id());
            }
        }
    }
}

/// What a program prints, and how it ends. It has nothing on its standard input.
///
/// # Panics
///
/// If it cannot be started, or has not ended once `deadline` has passed.
#[track_caller]
pub fn output(program: &mut Command, deadline: Duration) -> Output {
    let piped = program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = piped.spawn().unwrap_or_else(|error| panic!("{program:?}: {error}"));
    let stdout = process.stdout.take().map(read_all);
    let stderr = process.stderr.take().map(read_all);
    let status = wait_for_end(&mut process, deadline);
    let [stdout, stderr] = [stdout, stderr]
        .map(|reader| reader.and_then(|reader| reader.join().ok()).unwrap_or_default());
    Output { status, stdout, stderr }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// Waits until `attempt` gives a value, trying every 10 ms.
///
/// # Errors
///
/// That of `attempt`, or, once `end` has passed, one with `what` in it.
pub fn poll<T>(
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
