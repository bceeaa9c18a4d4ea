//! A consumer of a NATS JetStream stream that shares the work with other processes.
//!
//! ```text
//! mongostream pipe mongodb://localhost shop.orders --to nats://localhost/SHOP --partitions 6 --checkpoint_file orders.token
//! jetstream_consumer nats://localhost SHOP 6 billing     # three times, on one machine or on several
//! ```
//!
//! The pipe puts all changes of a document into one partition, with a subject of its own: `SHOP.3.shop.orders`. Here each
//! partition has a durable consumer, `billing-3`, and every process asks all of them for messages. The server gives out one
//! message of a partition at a time (`max_ack_pending = 1`). The next one comes after the ack, no matter to which process. So
//! the changes of a document are handled in order.
//!
//! Nothing is planned, and nobody is in charge. A process that is started gets a part of the work at once. When one dies,
//! the server gives its messages to others after `--ack-wait`. While one works for longer than that, it tells the server that
//! it is alive.
//!
//! What may come twice is the message that a process had in hand when it died, one in each partition. A process that was
//! frozen for longer than `--ack-wait` may also finish its message after another process has done so. If that matters, keep
//! the message's sequence with its effect, and do nothing if the kept one is not smaller.
//! docs/beyond-one-machine.md has a mark that also knows what the pipe has sent twice.
//!
//! A partition handles one message at a time. So it handles at most 1 / (time of one message + one way to the server and
//! back) a second. Choose more partitions if the work of a message takes long, or if more processes shall work at once than
//! there are partitions. An idle partition costs one request a second from each process.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, AckKind, Context, Message};
use clap::{Arg, Command, value_parser};
use futures_util::StreamExt;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::sleep;

/// How long the server keeps a request for which it has no message. An orderly end waits for it.
const REQUEST: Duration = Duration::from_secs(1);
/// The time before a new attempt, where the stream or the server is not there.
const PAUSE: Duration = Duration::from_secs(1);

struct Consumer {
    context: Context,
    stream: String,
    name: String,
    ack_wait: Duration,
    work: Duration,
    /// True when the process is to end.
    stops: watch::Receiver<bool>,
}

impl Consumer {
    /// Handles messages of a partition until the process is to end.
    async fn follow(&self, partition: u32) {
        while !*self.stops.borrow() {
            if let Err(error) = self.handle_messages(partition).await {
                eprintln!("partition {partition}: {error}; trying again");
                self.pause().await;
            }
        }
    }

    /// Waits for a while, or until the process is to end.
    async fn pause(&self) {
        let mut stops = self.stops.clone();
        let _ = tokio::time::timeout(PAUSE, stops.wait_for(|stops| *stops)).await;
    }

    async fn handle_messages(&self, partition: u32) -> Result<(), async_nats::Error> {
        let config = pull::Config {
            durable_name: Some(format!("{}-{partition}", self.name)),
            filter_subject: format!("{}.{partition}.>", self.stream),
            ack_policy: AckPolicy::Explicit,
            ack_wait: self.ack_wait,
            // This is what keeps the order.
            max_ack_pending: 1,
            ..pull::Config::default()
        };
        // The processes all do this. It makes the consumer once.
        let consumer = self.context.create_consumer_on_stream(config, &*self.stream).await?;
        while !*self.stops.borrow() {
            let mut given = consumer.batch().max_messages(1).expires(REQUEST).messages().await?;
            // It is not interrupted: what the server has sent already would wait for `ack_wait`.
            while let Some(message) = given.next().await {
                self.handle_and_ack(partition, &message?).await?;
            }
        }
        Ok(())
    }

    async fn handle_and_ack(
        &self,
        partition: u32,
        message: &Message,
    ) -> Result<(), async_nats::Error> {
        tokio::select! {
            handled = self.handle(partition, message) => handled?,
            lost = self.say_that_it_works(message) => lost?,
        }
        // With a confirmation: an ack that is lost on its way would be a message that comes twice.
        message.double_ack().await
    }

    /// Your work. Here it is a line on stdout.
    async fn handle(&self, partition: u32, message: &Message) -> Result<(), async_nats::Error> {
        let line = format!(
            "{{\"process\":{},\"partition\":{partition},\"seq\":{},\"message\":{}}}\n",
            std::process::id(),
            message.info()?.stream_sequence,
            std::str::from_utf8(&message.payload)?,
        );
        // In one piece: other processes may write to the same pipe.
        std::io::stdout().lock().write_all(line.as_bytes())?;
        sleep(self.work).await;
        Ok(())
    }

    /// Keeps the server from giving the message to another process while this one works on it.
    async fn say_that_it_works(&self, message: &Message) -> Result<(), async_nats::Error> {
        loop {
            sleep(self.ack_wait / 3).await;
            message.ack_with(AckKind::Progress).await?;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let milliseconds = |name: &'static str, default: &'static str| {
        Arg::new(name)
            .long(name)
            .value_name("MS")
            .default_value(default)
            .value_parser(value_parser!(u64))
    };
    let matches = Command::new("jetstream_consumer")
        .arg(Arg::new("server").value_name("nats://HOST").required(true))
        .arg(Arg::new("stream").value_name("STREAM").required(true))
        .arg(
            Arg::new("partitions")
                .value_name("PARTITIONS")
                .required(true)
                .value_parser(value_parser!(u32).range(1..))
                .help("As many as the pipe has"),
        )
        .arg(
            Arg::new("name")
                .value_name("NAME")
                .required(true)
                .help("Processes of one name share the messages"),
        )
        .arg(milliseconds("ack-wait", "5000").help("When the work of a dead process goes on"))
        .arg(milliseconds("work", "0").help("Pretends that each message takes so long"))
        .get_matches();
    let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
    let time = |name: &str| {
        Duration::from_millis(matches.get_one::<u64>(name).copied().unwrap_or_default())
    };

    let (stop, stops) = watch::channel(false);
    on_signals(move || _ = stop.send(true))?;
    let client =
        async_nats::ConnectOptions::new().name(text("name")).connect(text("server")).await?;
    let consumer = Consumer {
        context: jetstream::new(client),
        stream: text("stream"),
        name: text("name"),
        ack_wait: time("ack-wait"),
        work: time("work"),
        stops,
    };
    while !*consumer.stops.borrow()
        && let Err(error) = consumer.context.get_stream(&consumer.stream).await
    {
        eprintln!("{error}; waiting for the pipe to make the stream");
        consumer.pause().await;
    }
    let partitions = matches.get_one::<u32>("partitions").copied().unwrap_or(1);
    join_all((0..partitions).map(|partition| consumer.follow(partition))).await;
    Ok(())
}

/// SIGINT and SIGTERM ask for an orderly end.
#[cfg(unix)]
fn on_signals(end: impl FnOnce() + Send + 'static) -> Result<(), Box<dyn Error + Send + Sync>> {
    use signal_hook::consts::{SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            end();
        }
    });
    Ok(())
}

#[cfg(not(unix))]
fn on_signals(end: impl FnMut() + Send + 'static) -> Result<(), Box<dyn Error + Send + Sync>> {
    Ok(ctrlc::set_handler(end)?)
}
