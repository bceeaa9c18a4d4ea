//! `mongostream tail`: the messages of a stream as lines of JSON on stdout.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{Arg, ArgMatches, Command, value_parser};
use mongostream::{Batch, Buffer, BufferStats};

use crate::end;
use crate::failure::Failure;
use crate::flags;
use crate::metrics::{self, Metrics};
use crate::output::unwritten;
use crate::status_line::StatusLine;
use crate::target::{self, Target};

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
        .arg(metrics::argument());
    flags::add(command, &[])
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let target = Target::of(matches);
    let metrics = Metrics::of(matches)?;
    let buffer = Buffer::new(CAPACITY);
    let closed = buffer.clone();
    end::on_signals(move || closed.close())?;
    let worker = flags::set(target.watch(), matches).spawn(&buffer)?;
    end::with_stdout(&buffer);
    if let Some(metrics) = metrics {
        metrics.serve(stats_of(&buffer), String::new);
    }

    let written = Arc::new(AtomicU64::new(0));
    let status_line = StatusLine::begin(stats_of(&buffer), &written, String::new);
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

fn stats_of(buffer: &Buffer) -> impl Fn() -> Option<BufferStats> + Send + 'static {
    let buffer = buffer.clone();
    move || buffer.stats().ok()
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
