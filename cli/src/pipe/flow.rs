//! The way of messages through the pipe: from the stream to the broker, and an ack back when the broker has
//! acknowledged.
//!
//! Both directions are bounded. While the broker does not keep up, no more is taken from the stream than the limits say;
//! the buffer fills, and the worker waits. What the broker refuses for now is sent again until it is taken.

use std::future::{Future, pending};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use mongostream::{Batch, Error, Message};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::broker::{Broker, Record, Refusal, Taken};
use super::fence::Fence;
use super::order::{Concern, Order};
use super::progress::Progress;
use super::record::{Recipe, concern};

/// How much may be on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) messages: u64,
    /// Of JSON.
    pub(crate) bytes: u64,
}

/// How the flow came to its end.
#[derive(Debug)]
pub(crate) enum End {
    /// Everything that the stream gave is with the broker.
    Done,
    /// It was asked to end, and so many messages were not acknowledged in time.
    GaveUp(u64),
    /// The worker failed.
    Stream(Error),
    /// The broker takes a message never.
    Refused(String),
}

/// How long an orderly end waits for the broker.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time before a message is sent again: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// What is said to whoever watches: that the broker is in trouble, and that it is well again.
pub(crate) type Say<'a> = &'a dyn Fn(&str);

/// One message on its way.
struct Sent {
    concern: Concern,
    message: Message,
    bytes: u64,
    result: Result<(), String>,
}

type Sending<'a> = Pin<Box<dyn Future<Output = Sent> + 'a>>;

/// A message that was taken from the stream.
struct Waiting {
    message: Message,
    record: Record,
}

/// The pipe's inside.
pub(crate) struct Flow<'a, B> {
    pub(crate) broker: &'a B,
    pub(crate) place: &'a str,
    pub(crate) recipe: &'a Recipe,
    pub(crate) limits: Limits,
    pub(crate) fence: Rc<Fence>,
    pub(crate) progress: &'a Arc<Progress>,
    pub(crate) say: Say<'a>,
}

impl<'a, B: Broker> Flow<'a, B> {
    /// Runs until the stream is at its end. `stops` is true when an orderly end was asked for.
    pub(crate) async fn run(
        self,
        mut incoming: mpsc::Receiver<Result<Batch, Error>>,
        mut stops: watch::Receiver<bool>,
    ) -> End {
        let mut order = Order::default();
        let mut sending = FuturesUnordered::<Sending<'_>>::new();
        let mut held = Held::default();
        let mut is_at_end = false;
        let mut deadline: Option<Instant> = None;
        // A failure of the worker is told when what came before it is with the broker.
        let mut failure = None;
        // A counter in place of a hash: nothing waits where the broker keeps the order itself.
        let mut number = 0;
        let end = loop {
            if is_at_end && held.messages == 0 {
                break failure.map_or(End::Done, End::Stream);
            }
            let has_room = held.messages < self.limits.messages && held.bytes < self.limits.bytes;
            tokio::select! {
                biased;
                Some(Sent { concern, message, bytes, result }) = sending.next() => {
                    if let Err(why) = result {
                        break End::Refused(why);
                    }
                    message.ack();
                    held.messages -= 1;
                    held.bytes -= bytes;
                    order.done(concern, |concern, waiting| sending.push(self.send(concern, waiting)));
                }
                received = incoming.recv(), if has_room && !is_at_end => match received {
                    None => is_at_end = true,
                    Some(Err(error)) if error.kind() == mongostream::ErrorKind::Fenced => {
                        // Somebody else delivers what is here.
                        break End::Stream(error);
                    }
                    Some(Err(error)) => failure = Some(error),
                    Some(Ok(batch)) => for message in batch {
                        let record = self.recipe.record(&message);
                        held.messages += 1;
                        held.bytes += record.payload.len() as u64;
                        number += 1;
                        let concern = match concern(&message) {
                            Concern::Document(_) if B::KEEPS_ORDER => Concern::Document(number),
                            concern => concern,
                        };
                        if let Some(waiting) = order.begin(concern, Waiting { message, record }) {
                            sending.push(self.send(concern, waiting));
                        }
                    },
                },
                () = asked(&mut stops), if deadline.is_none() => {
                    deadline = Some(Instant::now() + PATIENCE);
                }
                () = passed(deadline) => break End::GaveUp(held.messages),
            }
            self.progress.waiting.store(held.messages, Ordering::Relaxed);
            self.progress.waiting_bytes.store(held.bytes, Ordering::Relaxed);
        };
        // Nothing of what is left is sent any more, and none of it is acked.
        self.progress.waiting.store(0, Ordering::Relaxed);
        self.progress.waiting_bytes.store(0, Ordering::Relaxed);
        end
    }

    fn send(&self, concern: Concern, Waiting { message, record }: Waiting) -> Sending<'a> {
        let (broker, place, say) = (self.broker, self.place, self.say);
        let (fence, progress) = (Rc::clone(&self.fence), self.progress);
        Box::pin(async move {
            let bytes = record.payload.len() as u64;
            let mut pause = PAUSES.0;
            let result = loop {
                fence.opened().await;
                match broker.send(&record).await {
                    Ok(taken) => {
                        if progress.is_well_again() {
                            say(&format!("{place}: takes messages again"));
                        }
                        progress.published.fetch_add(1, Ordering::Relaxed);
                        progress.bytes.fetch_add(bytes, Ordering::Relaxed);
                        let duplicates = u64::from(taken == Taken::Again);
                        progress.duplicates.fetch_add(duplicates, Ordering::Relaxed);
                        break Ok(());
                    }
                    Err(Refusal::ForGood(why)) => break Err(why),
                    Err(Refusal::ForNow(why)) => {
                        if progress.is_in_trouble(&why) {
                            say(&format!(
                                "warning: {place}: {why}; what it has not acknowledged is sent again until it is"
                            ));
                        }
                        progress.retries.fetch_add(1, Ordering::Relaxed);
                        sleep(pause).await;
                        pause = (pause * 2).min(PAUSES.1);
                    }
                }
            };
            Sent { concern, message, bytes, result }
        })
    }
}

/// What was taken from the stream and is not acknowledged.
#[derive(Default)]
struct Held {
    messages: u64,
    bytes: u64,
}

async fn asked(stops: &mut watch::Receiver<bool>) {
    if stops.wait_for(|stops| *stops).await.is_err() {
        // Nobody is left to ask.
        pending::<()>().await;
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
