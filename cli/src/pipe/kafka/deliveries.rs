//! What became of the records, from librdkafka's thread to the pipe's.
//!
//! librdkafka tells of one record after the other. To wake the pipe for each would cost more than to send it. So the pipe
//! is woken for the first, and takes a moment later what has come by then.

use std::mem::take;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::error::KafkaError;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::super::broker::{Answers, Number, Taken};

/// How long an answer may wait for others.
const MOMENT: Duration = Duration::from_millis(1);

/// Both ends.
#[derive(Clone, Default)]
pub(crate) struct Deliveries(Arc<Shared>);

#[derive(Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    comes: Notify,
}

#[derive(Default)]
struct Waiting {
    answers: Answers<KafkaError>,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Deliveries {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, number: Number, answer: Result<Taken, KafkaError>) {
        let mut waiting = self.waiting();
        waiting.answers.push((number, answer));
        if waiting.since.is_none() {
            waiting.since = Some(Instant::now());
            drop(waiting);
            self.0.comes.notify_one();
        }
    }

    /// Waits for answers. They stay here until they are handed over: dropping the future loses none.
    pub(crate) async fn take(&self, answers: &mut Answers<KafkaError>) {
        loop {
            let since = self.waiting().since;
            match since {
                None => self.0.comes.notified().await,
                Some(since) => {
                    sleep_until(since + MOMENT).await;
                    let mut waiting = self.waiting();
                    waiting.since = None;
                    answers.append(&mut take(&mut waiting.answers));
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap()
    }

    fn numbers(answers: &Answers<KafkaError>) -> Vec<Number> {
        answers.iter().map(|(number, _)| *number).collect()
    }

    #[test]
    fn answers_come_together_and_once() {
        runtime().block_on(async {
            let (deliveries, mut answers) = (Deliveries::default(), Vec::new());
            for number in 0..3 {
                deliveries.add(number, Ok(Taken::New));
            }
            deliveries.take(&mut answers).await;
            assert_eq!(numbers(&answers), [0, 1, 2]);
            assert!(deliveries.take(&mut answers).now_or_never().is_none(), "no more");
        });
    }

    #[test]
    fn an_answer_from_another_thread_wakes_who_waits() {
        let (deliveries, mut answers) = (Deliveries::default(), Vec::new());
        let other = deliveries.clone();
        runtime().block_on(async {
            let thread = std::thread::spawn(move || other.add(7, Ok(Taken::New)));
            let taken =
                tokio::time::timeout(Duration::from_secs(20), deliveries.take(&mut answers));
            taken.await.unwrap();
            thread.join().unwrap();
        });
        assert_eq!(numbers(&answers), [7]);
    }

    #[test]
    fn a_wait_that_is_given_up_loses_nothing() {
        runtime().block_on(async {
            let (deliveries, mut answers) = (Deliveries::default(), Vec::new());
            assert!(deliveries.take(&mut answers).now_or_never().is_none());
            deliveries.add(1, Ok(Taken::New));
            assert!(deliveries.take(&mut answers).now_or_never().is_none(), "it waits for others");
            assert_eq!(numbers(&answers), [0; 0]);
            deliveries.add(2, Ok(Taken::New));
            deliveries.take(&mut answers).await;
            assert_eq!(numbers(&answers), [1, 2]);
        });
    }
}
