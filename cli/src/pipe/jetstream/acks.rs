//! The server's answers to what was published: one inbox for all, and one timer.
//!
//! The client's own acks have a channel, a permit and a timer each, and read each answer twice.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use async_nats::{Client, Message, StatusCode, SubscribeError, Subscriber, jetstream};
use futures_util::stream::StreamExt;
use serde::Deserialize;
use tokio::time::{Instant, Sleep, sleep_until};

use super::super::broker::{Answers, Number, Taken};

/// Why a message has no ack.
#[derive(Debug)]
pub(crate) enum Problem {
    /// The server has not answered in time.
    NoAnswer,
    /// No stream has the subject, or none that has a leader.
    NoStream,
    Refused(jetstream::Error),
    /// Another stream than the pipe's has the message.
    OtherStream(String),
    /// The answer is none of JetStream's.
    Strange(String),
}

/// How many answers are taken at once.
const MOST: usize = 256;

/// What was published and has no answer, and where the answers come.
pub(crate) struct Acks {
    stream: String,
    /// How long the server may take.
    patience: Duration,
    inbox: String,
    replies: Subscriber,
    pending: Pending,
    timer: Pin<Box<Sleep>>,
}

impl Acks {
    pub(crate) async fn new(
        client: &Client,
        stream: &str,
        patience: Duration,
    ) -> Result<Self, SubscribeError> {
        let inbox = client.new_inbox();
        let replies = client.subscribe(format!("{inbox}.*")).await?;
        let timer = Box::pin(sleep_until(Instant::now() + patience));
        let pending = Pending::default();
        Ok(Self { stream: stream.to_owned(), patience, inbox, replies, pending, timer })
    }

    /// The subject to which the answer to the next message is to be sent.
    pub(crate) fn next_inbox(&self) -> String {
        format!("{}.{}", self.inbox, self.pending.next())
    }

    /// Expects the answer to the message that was published just now, to be sent to [`next_inbox`](Self::next_inbox). Not
    /// before: what waits for the connection must not be given up, because it is sent later all the same.
    pub(crate) fn expect(&mut self, number: Number) {
        self.pending.add(number, Instant::now() + self.patience);
    }

    pub(crate) fn poll(
        &mut self,
        context: &mut Context<'_>,
        answers: &mut Answers<Problem>,
    ) -> Poll<()> {
        while answers.len() < MOST
            && let Poll::Ready(Some(reply)) = self.replies.poll_next_unpin(context)
        {
            // An answer without a place came too late: its message was sent again.
            let place = reply.subject.rsplit('.').next().and_then(|place| place.parse().ok());
            if let Some(number) = place.and_then(|place| self.pending.take(place)) {
                answers.push((number, read(&reply, &self.stream)));
            }
        }
        while self.timer.as_mut().poll(context).is_ready() {
            let now = Instant::now();
            self.pending.expire(now, |number| answers.push((number, Err(Problem::NoAnswer))));
            // Nothing that is sent later is due before this.
            let next = self.pending.first_due().unwrap_or(now + self.patience);
            self.timer.as_mut().reset(next);
        }
        if answers.is_empty() { Poll::Pending } else { Poll::Ready(()) }
    }
}

/// What the server answers (NATS documentation, "JetStream wire API Reference", `PubAck`).
#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    stream: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    duplicate: bool,
    error: Option<jetstream::Error>,
}

fn read(reply: &Message, expected: &str) -> Result<Taken, Problem> {
    if reply.status == Some(StatusCode::NO_RESPONDERS) {
        return Err(Problem::NoStream);
    }
    let strange = |why: String| {
        Problem::Strange(format!("{why}: {}", String::from_utf8_lossy(&reply.payload)))
    };
    let read =
        serde_json::from_slice(&reply.payload).map_err(|error| strange(error.to_string()))?;
    match read {
        Reply { error: Some(error), .. } => Err(Problem::Refused(error)),
        Reply { stream: Some(stream), duplicate, .. } if stream == expected => {
            Ok(if duplicate { Taken::Again } else { Taken::New })
        }
        Reply { stream: Some(stream), .. } => Err(Problem::OtherStream(stream.into_owned())),
        Reply { stream: None, .. } => Err(strange("no stream is named".to_owned())),
    }
}

/// Counts what was published.
type Place = u64;

/// What was published, in its order.
#[derive(Default)]
struct Pending {
    /// The place of the first of `sent`.
    first: Place,
    /// `None`: it was answered.
    sent: VecDeque<Option<(Number, Instant)>>,
}

impl Pending {
    /// The place of what is added next.
    fn next(&self) -> Place {
        self.first + self.sent.len() as u64
    }

    fn add(&mut self, number: Number, due: Instant) {
        self.sent.push_back(Some((number, due)));
    }

    fn take(&mut self, place: Place) -> Option<Number> {
        let index = usize::try_from(place.checked_sub(self.first)?).ok()?;
        let (number, _) = self.sent.get_mut(index)?.take()?;
        self.shorten();
        Some(number)
    }

    fn shorten(&mut self) {
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
            self.first += 1;
        }
    }

    /// Takes out what was due before now.
    fn expire(&mut self, now: Instant, mut each: impl FnMut(Number)) {
        while let Some(&Some((number, due))) = self.sent.front()
            && due <= now
        {
            each(number);
            self.sent[0] = None;
            self.shorten();
        }
    }

    fn first_due(&self) -> Option<Instant> {
        self.sent.front().copied().flatten().map(|(_, due)| due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_answered_once_in_whatever_order() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        let add = |pending: &mut Pending, number| {
            let place = pending.next();
            pending.add(number, now);
            place
        };
        let places: Vec<_> = (10..14).map(|number| add(&mut pending, number)).collect();
        assert_eq!(pending.take(places[2]), Some(12));
        assert_eq!(pending.take(places[2]), None, "twice");
        assert_eq!(pending.take(places[0]), Some(10));
        assert_eq!(pending.take(places[0]), None, "before the first");
        assert_eq!(pending.take(places[3] + 1), None, "after the last");
        assert_eq!(pending.take(places[1]), Some(11));
        let next = add(&mut pending, 14);
        assert_eq!((pending.take(places[3]), pending.take(next)), (Some(13), Some(14)));
        assert!(pending.sent.is_empty());
    }

    #[test]
    fn what_is_due_expires_and_nothing_else() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        let second = Duration::from_secs(1);
        (1..=4_u32).for_each(|number| pending.add(number as Number, now + second * number));
        assert_eq!(pending.first_due(), Some(now + second));
        pending.take(1);
        let mut expired = Vec::new();
        pending.expire(now + second * 3, |number| expired.push(number));
        assert_eq!(expired, [1, 3]);
        assert_eq!(pending.first_due(), Some(now + second * 4));
        assert_eq!(pending.take(0), None, "an answer that comes too late");
    }

    fn reply(status: Option<StatusCode>, payload: &'static str) -> Message {
        Message {
            subject: "_INBOX.a.0".into(),
            reply: None,
            payload: payload.into(),
            headers: None,
            status,
            description: None,
            length: 0,
        }
    }

    #[test]
    fn an_answer_says_what_became_of_the_message() {
        let read = |text| read(&reply(None, text), "SHOP");
        assert_eq!(read(r#"{"stream":"SHOP","seq":7}"#).unwrap(), Taken::New);
        let again = r#"{"stream":"SHOP","domain":"hub","seq":7,"duplicate":true}"#;
        assert_eq!(read(again).unwrap(), Taken::Again);
        let other = read(r#"{"stream":"OTHER","seq":7}"#).unwrap_err();
        assert!(matches!(other, Problem::OtherStream(name) if name == "OTHER"));
        let full = r#"{"error":{"code":503,"err_code":10077,"description":"maximum bytes exceeded"},"stream":"SHOP","seq":0}"#;
        assert!(
            matches!(read(full).unwrap_err(), Problem::Refused(error) if error.error_code().0 == 10077)
        );
        for strange in ["", "{}", "[]", "+OK"] {
            assert!(matches!(read(strange).unwrap_err(), Problem::Strange(_)), "{strange}");
        }
    }

    #[test]
    fn a_subject_of_no_stream_has_an_answer_without_text() {
        let answer = read(&reply(Some(StatusCode::NO_RESPONDERS), ""), "SHOP");
        assert!(matches!(answer.unwrap_err(), Problem::NoStream));
    }
}
