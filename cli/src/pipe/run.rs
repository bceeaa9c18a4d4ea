//! What `mongostream pipe` does from its start to its end.

use std::cell::Cell;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use clap::ArgMatches;
use mongostream::{Batch, Buffer, BufferStats, Error, ErrorKind, Worker};
use tokio::sync::{mpsc, watch};

use super::address::{Address, Kind};
use super::broker::{Broker, Number};
use super::fence::Fence;
use super::flow::{End, Flow};
use super::progress::Progress;
use super::record::Recipe;
use super::security::Security;
use super::template::Template;
use super::wishes::Wishes;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::status_line::StatusLine;
use crate::target::Target;
use crate::{end, flags};

/// How many messages, and how many bytes of them, may wait in the buffer.
const CAPACITY: usize = 4096;
const MAX_BYTES: usize = 8 << 20;
/// How many are taken from it at once.
const BATCH: usize = 256;

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let text = |name: &str| matches.get_one::<String>(name).map(String::as_str);
    let address = Address::parse(text("to").unwrap_or_default())?;
    super::check_flags(matches, address.kind)?;
    check_checkpoint(matches)?;
    let wishes = super::wishes(matches);
    let security = Security::of(matches)?;
    let place = place(&address, text("subject"), &wishes)?;
    let metrics = Metrics::of(matches)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    let pipe = Pipe {
        matches,
        target: Target::of(matches),
        shown: address.shown(),
        current: Arc::new(Mutex::new(new_buffer())),
        progress: Arc::default(),
        stops: watch::Sender::new(false),
        numbers: Cell::default(),
    };
    pipe.ends_on_signals()?;
    if let Some(metrics) = metrics {
        let progress = Arc::clone(&pipe.progress);
        metrics.serve(pipe.stats(), move || progress.metrics());
    }
    runtime.block_on(async {
        let warn = |text: &str| say_plainly(&format!("warning: {}: {text}", pipe.shown));
        match address.kind {
            #[cfg(feature = "nats")]
            Kind::JetStream => {
                use super::jetstream::JetStream;

                let connecting = JetStream::connect(&address, &security, &place, &wishes, &warn);
                pipe.run(connecting, place.clone(), &wishes).await
            }
            #[cfg(feature = "kafka")]
            Kind::Kafka => {
                use super::kafka::Kafka;

                let settings = super::kafka::settings::of(matches)?;
                let connecting = Kafka::connect(&address, &security, &settings, &place, &wishes, &warn);
                pipe.run(connecting, place.clone(), &wishes).await
            }
            #[cfg(not(all(feature = "nats", feature = "kafka")))]
            _ => Err(Failure::usage(format!(
                "--to {}: this program was built without it; build it with `cargo install --path cli --features nats,kafka`",
                pipe.shown
            ))),
        }
    })
}

/// Where each message goes.
fn place(address: &Address, subject: Option<&str>, wishes: &Wishes) -> Result<Template, Failure> {
    let template = match (address.kind, subject) {
        (Kind::JetStream, Some(subject)) => Template::parse("--subject", subject)?,
        #[cfg(feature = "nats")]
        (Kind::JetStream, None) => {
            let subject = super::jetstream::JetStream::usual_subject(address, wishes.partitions);
            Template::parse("--subject", &subject)?
        }
        _ => Template::parse("the topic", &address.name)?,
    };
    if template.has_partition() && wishes.partitions.is_none() {
        return Err(Failure::usage("{partition} needs --partitions"));
    }
    Ok(template)
}

/// A pipe without a checkpoint loses what happens between an end and the next start.
fn check_checkpoint(matches: &ArgMatches) -> Result<(), Failure> {
    let has = flags::given(matches)
        .any(|(name, _)| matches!(name, "checkpoint_file" | "checkpoint_collection"));
    if has || matches.get_flag("no-checkpoint") {
        return Ok(());
    }
    Err(Failure::usage(
        "a pipe keeps its place in a checkpoint: give --checkpoint_file FILE or --checkpoint_collection DB.COLL \
         (--no-checkpoint does without, and after a restart what happened meanwhile is missing)",
    ))
}

fn say_plainly(text: &str) {
    use std::io::Write;

    // Nobody is left to be told if this fails.
    let _ = writeln!(std::io::stderr(), "{}", crate::secrets::hide(text));
}

fn new_buffer() -> Buffer {
    Buffer::with_max_bytes(CAPACITY, MAX_BYTES)
}

/// What outlives a worker.
struct Pipe<'a> {
    matches: &'a ArgMatches,
    target: Target,
    /// The broker's address without credentials.
    shown: String,
    /// The buffer of the worker that runs now, or is to run next.
    current: Arc<Mutex<Buffer>>,
    progress: Arc<Progress>,
    /// True when an orderly end was asked for.
    stops: watch::Sender<bool>,
    /// The next record's. The broker may still answer to what a worker before this one has sent.
    numbers: Cell<Number>,
}

impl Pipe<'_> {
    fn ends_on_signals(&self) -> Result<(), Failure> {
        let (current, stops) = (Arc::clone(&self.current), self.stops.clone());
        end::on_signals(move || {
            stops.send_replace(true);
            current.lock().unwrap_or_else(PoisonError::into_inner).close();
        })
    }

    fn stats(&self) -> impl Fn() -> Option<BufferStats> + Send + 'static {
        let current = Arc::clone(&self.current);
        move || current.lock().unwrap_or_else(PoisonError::into_inner).stats().ok()
    }

    /// Connects, and then runs one worker after the other: one that was fenced is followed by a standby.
    async fn run<B: Broker>(
        &self,
        connecting: impl Future<Output = Result<B, Failure>>,
        place: Template,
        wishes: &Wishes,
    ) -> Result<(), Failure> {
        let mut stops = self.stops.subscribe();
        let broker = tokio::select! {
            broker = connecting => broker?,
            _ = stops.wait_for(|stops| *stops) => return Ok(()),
        };
        let recipe = Recipe::new(place, wishes.partitions.unwrap_or(1), B::write_name);
        let progress = Arc::clone(&self.progress);
        let mut line =
            StatusLine::begin(self.stats(), &self.progress.published, move || progress.status());
        let mut left = self.matches.get_one::<u64>("count").copied();
        let done = loop {
            if *stops.borrow() {
                break Ok(());
            }
            let ended = self.run_one(&broker, &recipe, wishes, &line, &mut left).await;
            match ended {
                Ok(Next::Again(why)) => {
                    line.say(&format!("warning: {why}; this one stands by now"));
                    *self.current.lock().unwrap_or_else(PoisonError::into_inner) = new_buffer();
                }
                Ok(Next::End) => break Ok(()),
                Err(failure) => break Err(failure),
            }
        };
        line.end();
        done
    }

    async fn run_one<B: Broker>(
        &self,
        broker: &B,
        recipe: &Recipe,
        wishes: &Wishes,
        line: &StatusLine,
        left: &mut Option<u64>,
    ) -> Result<Next, Failure> {
        let buffer = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let worker = match flags::set(self.target.watch(), self.matches).spawn(&buffer) {
            Ok(worker) => worker,
            // It was closed meanwhile.
            Err(_) if *self.stops.borrow() => return Ok(Next::End),
            Err(error) => return Err(error.into()),
        };
        let has_standby = flags::given(self.matches).any(|given| given == ("standby", "true"));
        let worker = Arc::new(worker);
        let fence = Fence::new(has_standby.then(|| Arc::clone(&worker)));
        let (taken, incoming) = mpsc::channel(1);
        let taker = Taker { buffer: buffer.clone(), taken, left: *left };
        let taker = thread::Builder::new().name("taker".to_owned()).spawn(move || taker.run());
        let taker = taker.map_err(|error| Failure::failed(format!("no thread: {error}")))?;
        let say = |text: &str| line.say(text);
        let flow = Flow {
            broker,
            place: &self.shown,
            recipe,
            limits: wishes.limits,
            fence,
            numbers: &self.numbers,
            progress: &self.progress,
            say: &say,
        };
        let end = flow.run(incoming, self.stops.subscribe()).await;
        buffer.close();
        *left = taker.join().unwrap_or(*left);
        let joined = join(worker).await;
        match end {
            End::Done => joined.map(|()| Next::End).map_err(Failure::from),
            End::GaveUp(messages) => Err(Failure::failed(format!(
                "{}: {messages} messages were not acked within 5 s; they are sent after the next start",
                self.shown
            ))),
            End::Stream(error) => Next::after(error),
            End::Lost => match joined {
                Err(error) => Next::after(error),
                Ok(()) => Ok(Next::Again("the lease is gone".to_owned())),
            },
            End::Refused(why) => Err(Failure::failed(format!("{}: {why}", self.shown))),
        }
    }
}

/// What follows when a worker has ended.
enum Next {
    End,
    /// It was fenced.
    Again(String),
}

impl Next {
    /// After a failure of the worker.
    fn after(error: Error) -> Result<Self, Failure> {
        match error.kind() {
            ErrorKind::Fenced => Ok(Self::Again(error.to_string())),
            _ => Err(error.into()),
        }
    }
}

/// Saves the checkpoint, beside whatever else the broker's client does.
async fn join(worker: Arc<Worker>) -> Result<(), Error> {
    let joined = tokio::task::spawn_blocking(move || worker.join()).await;
    // The thread does nothing that could panic.
    joined.unwrap_or(Ok(()))
}

/// Takes messages from the buffer, which blocks, for the flow, which must not.
struct Taker {
    buffer: Buffer,
    taken: mpsc::Sender<Result<Batch, Error>>,
    /// How many are still wanted.
    left: Option<u64>,
}

impl Taker {
    /// Gives how many are still wanted.
    fn run(mut self) -> Option<u64> {
        while self.left != Some(0) {
            let most = self.left.and_then(|left| usize::try_from(left).ok());
            match self.buffer.recv_batch(most.unwrap_or(BATCH).min(BATCH)) {
                Ok(None) => break,
                Ok(Some(batch)) => {
                    self.left = self.left.map(|left| left.saturating_sub(batch.len() as u64));
                    if self.taken.blocking_send(Ok(batch)).is_err() {
                        break;
                    }
                }
                Err(error) => {
                    // There is one worker, and it has failed.
                    let _ = self.taken.blocking_send(Err(error));
                    break;
                }
            }
        }
        self.left
    }
}
