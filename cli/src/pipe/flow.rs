//! The way of messages through the pipe: from the stream to the broker, and an ack back when the broker has
//! acked.
//!
//! Both directions are bounded. While the broker does not keep up, no more is taken from the stream than the limits say;
//! the buffer fills, and the worker waits. What the broker refuses for now is sent again until it is taken.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};
use mongostream::{Batch, Error, ErrorKind, Message};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::broker::{Broker, Number, Record, Refusal, Taken};
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
    /// It was asked to end, and this many messages were not acked in time.
    GaveUp(u64),
    /// The worker failed.
    Stream(Error),
    /// The broker will never take a message.
    Refused(String),
    /// The worker has failed, and without its lease nothing may be sent.
    Lost,
}

/// How long an orderly end waits for the broker.
const PATIENCE: Duration = Duration::from_secs(5);
/// The time before a message is sent again: the first, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// After pauses that have grown so long a message is stuck: the third time.
const STUCK: Duration = Duration::from_millis(100);

/// What is said to whoever watches: that the broker is in trouble, and that it is well again.
pub(crate) type Say<'a> = &'a dyn Fn(&str);

/// A message that was taken from the stream.
struct Waiting {
    concern: Concern,
    message: Message,
    record: Record,
    /// How long to wait before it is sent once more.
    pause: Duration,
}

/// What the pipe does between its two ends.
pub(crate) struct Flow<'a, B> {
    pub(crate) broker: &'a B,
    pub(crate) place: &'a str,
    pub(crate) recipe: &'a Recipe,
    pub(crate) limits: Limits,
    pub(crate) fence: Fence,
    /// The next record's.
    pub(crate) numbers: &'a Cell<Number>,
    pub(crate) progress: &'a Arc<Progress>,
    pub(crate) say: Say<'a>,
}

impl<B: Broker> Flow<'_, B> {
    /// Runs until the stream is at its end. `stops` is true when an orderly end was asked for.
    pub(crate) async fn run(
        self,
        mut incoming: mpsc::Receiver<Result<Batch, Error>>,
        mut stops: watch::Receiver<bool>,
    ) -> End {
        // What may be sent now, and what was sent. Both are bounded by what is held.
        let (outbox, mut to_send) = mpsc::unbounded_channel();
        let sent = RefCell::new(HashMap::new());
        let sender = async {
            while let Some(waiting) = to_send.recv().await {
                if let Err(end) = self.send_in_turn(waiting, &sent).await {
                    return end;
                }
            }
            pending().await
        };
        tokio::pin!(sender);

        let mut answers = Vec::new();
        let mut pauses = FuturesUnordered::new();
        let mut order = Order::default();
        let mut held = Held::default();
        let mut is_at_end = false;
        let mut deadline = None;
        // A failure of the worker is told when what came before it is with the broker.
        let mut failure = None;
        // Stands for a document where the broker keeps the order itself: then no message waits for another one.
        let mut count = 0;
        let end = 'flow: loop {
            if is_at_end && held.messages == 0 {
                break failure.map_or(End::Done, End::Stream);
            }
            let has_room = held.messages < self.limits.messages && held.bytes < self.limits.bytes;
            tokio::select! {
                () = self.broker.answered(&mut answers) => for (number, answer) in answers.drain(..) {
                    // An answer to a flow before this one, which has ended.
                    let Some(waiting) = sent.borrow_mut().remove(&number) else { continue };
                    let Err(problem) = answer.map(|taken| self.note(taken, &waiting.record)) else {
                        waiting.message.ack();
                        held.take(&waiting.record);
                        // Nobody but this loop ends what is sent to.
                        order.done(waiting.concern, |next| drop(outbox.send(next)));
                        continue;
                    };
                    match self.broker.refusal(&problem, &waiting.record) {
                        Refusal::ForNow(why) => {
                            self.complain(&why);
                            pauses.push(self.pause(waiting));
                        }
                        Refusal::ForGood(why) => break 'flow End::Refused(why),
                    }
                },
                Some(waiting) = pauses.next() => drop(outbox.send(waiting)),
                received = incoming.recv(), if has_room && !is_at_end => match received {
                    None => is_at_end = true,
                    // Somebody else delivers what is here.
                    Some(Err(error)) if error.kind() == ErrorKind::Fenced => break End::Stream(error),
                    Some(Err(error)) => failure = Some(error),
                    Some(Ok(batch)) => for message in batch {
                        let record = self.recipe.record(&message);
                        held.add(&record);
                        count += 1;
                        let concern = match concern(&message) {
                            Concern::Document(_) if B::KEEPS_ORDER => Concern::Document(count),
                            concern => concern,
                        };
                        let waiting = Waiting { concern, message, record, pause: PAUSES.0 };
                        if let Some(waiting) = order.begin(concern, waiting) {
                            drop(outbox.send(waiting));
                        }
                    },
                },
                end = &mut sender => break end,
                () = asked(&mut stops), if deadline.is_none() => {
                    deadline = Some(Instant::now() + PATIENCE);
                }
                () = passed(deadline) => break End::GaveUp(held.messages),
            }
            self.show(&held);
        };
        // What is left is neither sent nor acked any more.
        self.show(&Held::default());
        end
    }

    /// Sends one after the other, in the order of the stream. The error ends the flow: it cannot
    /// wait for the worker's failure to come through the stream, from which nothing is taken while there is no room.
    async fn send_in_turn(
        &self,
        waiting: Waiting,
        sent: &RefCell<HashMap<Number, Waiting>>,
    ) -> Result<(), End> {
        let number = self.numbers.get();
        self.numbers.set(number + 1);
        let mut pause = PAUSES.0;
        loop {
            if !self.fence.opened().await {
                return Err(End::Lost);
            }
            match self.broker.send(number, &waiting.record).await {
                Ok(()) => {
                    // Before the answer is looked at: both happen in this task.
                    sent.borrow_mut().insert(number, waiting);
                    return Ok(());
                }
                Err(Refusal::ForGood(why)) => return Err(End::Refused(why)),
                Err(Refusal::ForNow(why)) => {
                    self.complain(&why);
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSES.1);
                }
            }
        }
    }

    /// The time before a message that was refused for now is sent again.
    async fn pause(&self, waiting: Waiting) -> Waiting {
        if waiting.pause > STUCK {
            self.broker.is_stuck().await;
        }
        sleep(waiting.pause).await;
        Waiting { pause: (waiting.pause * 2).min(PAUSES.1), ..waiting }
    }

    fn complain(&self, why: &str) {
        let Self { progress, place, say, .. } = self;
        if progress.is_in_trouble(why) {
            say(&format!(
                "warning: {place}: {why}; what it has not acked is sent again until it is"
            ));
        }
        progress.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// The broker has acked a record.
    fn note(&self, taken: Taken, record: &Record) {
        let Self { progress, place, say, .. } = self;
        if progress.is_well_again() {
            say(&format!("{place}: takes messages again"));
        }
        progress.published.fetch_add(1, Ordering::Relaxed);
        progress.bytes.fetch_add(record.payload.len() as u64, Ordering::Relaxed);
        progress.duplicates.fetch_add(u64::from(taken == Taken::Again), Ordering::Relaxed);
    }

    fn show(&self, held: &Held) {
        self.progress.waiting.store(held.messages, Ordering::Relaxed);
        self.progress.waiting_bytes.store(held.bytes, Ordering::Relaxed);
    }
}

/// What was taken from the stream and is not acked.
#[derive(Default)]
struct Held {
    messages: u64,
    bytes: u64,
}

impl Held {
    fn add(&mut self, record: &Record) {
        self.messages += 1;
        self.bytes += record.payload.len() as u64;
    }

    fn take(&mut self, record: &Record) {
        self.messages -= 1;
        self.bytes -= record.payload.len() as u64;
    }
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
