//! `mongostream tail`: the messages of a stream as lines of JSON on stdout.

mod end;
mod metrics;
mod status_line;

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{Arg, ArgMatches, Command, value_parser};
use mongostream::{Batch, Buffer};

use crate::failure::Failure;
use crate::flags;
use crate::output::unwritten;
use crate::target::{self, Target};

use self::metrics::Metrics;
use self::status_line::StatusLine;

/// How many messages may wait for stdout.
const CAPACITY: usize = 10_000;
/// How many are written before they are acked.
const BATCH: usize = 1000;

pub(crate) fn command() -> Command {
    let command = Command::new("tail")
        .about("Print the changes of a collection, a database or a deployment as lines of JSON")
        .long_about(
            "Print the changes of a collection, a database or a deployment as lines of JSON.\n\n\
             A message is acked after stdout has taken it: with a checkpoint a restart skips what was written, \
             and nothing else. SIGINT and SIGTERM end it in order, a second one at once. A closed stdout \
             (head) is an orderly end, too.",
        )
        .after_help(
            "Examples:\n  \
             mongostream tail mongodb://localhost shop.orders\n  \
             mongostream tail mongodb://localhost shop --operations insert,update --count 10\n  \
             mongostream tail mongodb://localhost shop.orders --checkpoint_file orders.token >> orders.json",
        )
        .args(target::arguments())
        .arg(
            Arg::new("count")
                .long("count")
                .value_name("N")
                .value_parser(value_parser!(u64).range(1..))
                .help("End after exactly N messages"),
        )
        .arg(
            Arg::new("metrics")
                .long("metrics")
                .value_name("ADDRESS")
                .help("Serve OpenMetrics on http://ADDRESS/metrics, and the health on /healthz")
                .long_help(
                    "Serve OpenMetrics on http://ADDRESS/metrics, and the health on /healthz: 200 while the \
                     stream is open, and for 30 s after it was open last; 503 otherwise. ADDRESS is host:port, \
                     such as 127.0.0.1:9187; with port 0 the system chooses one, and stderr says which.",
                ),
        );
    flags::add(command, &[])
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let target = Target::of(matches);
    let metrics = matches.get_one::<String>("metrics").map(|address| Metrics::bind(address));
    let metrics = metrics.transpose()?;
    let buffer = Buffer::new(CAPACITY);
    end::on_signals(&buffer)?;
    let worker = flags::set(target.watch(), matches).spawn(&buffer)?;
    end::with_stdout(&buffer);
    if let Some(metrics) = metrics {
        metrics.serve(&buffer);
    }

    let written = Arc::new(AtomicU64::new(0));
    let status_line = StatusLine::begin(&buffer, &written);
    let count = matches.get_one::<u64>("count").copied();
    let mut lines = Lines { status_line, written, left: count };
    let ended = lines.write_all_of(&buffer);
    // What is left in the buffer now was not written, and comes again.
    buffer.close();
    let joined = worker.join();
    lines.status_line.end();
    ended?;
    // What stopped the worker has come through the buffer before.
    joined.map_err(Failure::from)
}

/// Lines on stdout, up to a number of them.
struct Lines {
    status_line: StatusLine,
    written: Arc<AtomicU64>,
    left: Option<u64>,
}

impl Lines {
    /// Writes messages until there are no more, or enough, or nobody reads them.
    fn write_all_of(&mut self, buffer: &Buffer) -> Result<(), Failure> {
        while self.left != Some(0) {
            let most = self.left.and_then(|left| usize::try_from(left).ok());
            let Some(batch) = buffer.recv_batch(most.unwrap_or(BATCH).min(BATCH))? else { break };
            match self.write(&batch) {
                Ok(()) => batch.ack(),
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break,
                Err(error) => return Err(unwritten(&error)),
            }
            let messages = batch.len() as u64;
            self.written.fetch_add(messages, Ordering::Relaxed);
            self.left = self.left.map(|left| left.saturating_sub(messages));
        }
        Ok(())
    }

    fn write(&self, batch: &Batch) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        // On one terminal they would be in each other's way.
        let _cleared = stdout.is_terminal().then(|| self.status_line.clear());
        stdout.write_all(batch.json_lines().as_bytes())?;
        stdout.flush()
    }
}
