//! Prints the changes of a collection as lines of JSON, until Ctrl-C.
//!
//! ```text
//! follow mongodb://localhost:27017 shop orders checkpoint_file=orders.token
//! ```
//!
//! "-" stands for no collection (the whole database) or no database (the whole deployment). Options are those of
//! docs/OPTIONS.md. Messages go to standard output, everything else to standard error. It ends with 0 after SIGINT or
//! SIGTERM, with 1 after a failure, with 2 if it is called wrongly.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use mongostream::{Buffer, Waited, Worker};
use nix::sys::signal::{SigSet, Signal};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, database, collection, settings @ ..] = arguments.as_slice() else {
        return usage();
    };
    let mut watch = Worker::watch(uri);
    if database != "-" {
        watch = watch.database(database);
    }
    if collection != "-" {
        watch = watch.collection(collection);
    }
    for setting in settings {
        let Some((name, value)) = setting.split_once('=') else { return usage() };
        watch = watch.option(name, value);
    }
    let buffer = Buffer::new(1024);
    let followed = close_on_signal(&buffer).and_then(|()| follow(&buffer, &watch.spawn(&buffer)?));
    match followed {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("follow: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: follow URI DATABASE COLLECTION [option=value ...]");
    ExitCode::from(2)
}

/// Prints and acks every message, until the buffer is closed and drained.
fn follow(buffer: &Buffer, worker: &Worker) -> Result<(), Box<dyn Error>> {
    // A stop before that is no failure.
    if worker.wait_ready_timeout(Duration::MAX)? == Waited::Done {
        eprintln!("ready");
    }
    let mut out = std::io::stdout().lock();
    for message in buffer {
        let message = message?;
        writeln!(out, "{}", message.json())?;
        out.flush()?;
        message.ack();
    }
    // Saves the checkpoint.
    worker.join()?;
    Ok(())
}

/// Closes the buffer on SIGINT and SIGTERM: what is queued can still be received.
fn close_on_signal(buffer: &Buffer) -> Result<(), Box<dyn Error>> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    // Before any thread starts, so that only the one that waits for them gets them.
    signals.thread_block()?;
    let buffer = buffer.clone();
    thread::spawn(move || {
        if signals.wait().is_ok() {
            buffer.close();
        }
        // A second one ends the process at once.
        if signals.wait().is_ok() {
            std::process::exit(1);
        }
    });
    Ok(())
}
