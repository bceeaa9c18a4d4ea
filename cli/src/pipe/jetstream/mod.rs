//! NATS JetStream as the pipe's broker.

mod acks;
mod stream;
mod subject;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::time::{Duration, Instant};

use async_nats::client::{PublishError, PublishErrorKind};
use async_nats::connection::State;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, HeaderMap};
use tokio::sync::watch;

use self::acks::{Acks, Problem};
use super::address::Address;
use super::broker::{Answers, Broker, Number, Record, Refusal};
use super::security::Security;
use super::template::Template;
use super::wishes::Wishes;
use crate::failure::Failure;

/// How long the server may take for an answer.
const DEADLINE: Duration = Duration::from_secs(5);
/// Answers that may wait beyond the pipe's own limit: of what was given up, and comes late.
const LATE_ANSWERS: usize = 4096;

/// A connection to one or more servers, and a stream there.
pub(crate) struct JetStream {
    context: Context,
    /// That of the context, which would give a copy each time.
    client: Client,
    acks: RefCell<Acks>,
    stream: String,
    is_connected: watch::Receiver<bool>,
    /// When another leader was asked for.
    asked: Cell<Option<Instant>>,
}

impl JetStream {
    /// The subjects where the user does not say which.
    pub(crate) fn usual_subject(address: &Address, partitions: Option<u32>) -> String {
        let partition = if partitions.is_some() { ".{partition}" } else { "" };
        format!("{}{partition}.{{database}}.{{collection}}", address.name)
    }

    /// Connects, and makes the stream if it is not there. `warn` is told what may lose messages.
    pub(crate) async fn connect(
        address: &Address,
        security: &Security,
        subject: &Template,
        wishes: &Wishes,
        warn: &dyn Fn(&str),
    ) -> Result<Self, Failure> {
        let shown = address.shown();
        // An answer that finds no room is dropped.
        let limit = usize::try_from(wishes.limits.messages).unwrap_or(usize::MAX >> 4);
        let room = limit.saturating_add(LATE_ANSWERS).min(1 << 20);
        let (client, is_connected) = connected(address, security, room).await?;
        let context = ContextBuilder::new().timeout(DEADLINE).build(client.clone());
        stream::ensure(&context, &address.name, subject, wishes, warn)
            .await
            .map_err(|why| Failure::failed(format!("{shown}: {why}")))?;
        let acks = Acks::new(&client, &address.name, DEADLINE).await;
        let acks = acks.map_err(|error| Failure::failed(format!("{shown}: {error}")))?;
        Ok(Self {
            context,
            client,
            acks: RefCell::new(acks),
            stream: address.name.clone(),
            is_connected,
            asked: Cell::default(),
        })
    }
}

async fn connected(
    address: &Address,
    security: &Security,
    room: usize,
) -> Result<(Client, watch::Receiver<bool>), Failure> {
    let shown = address.shown();
    let (connects, is_connected) = watch::channel(true);
    let mut options = ConnectOptions::new()
        .name("mongostream pipe")
        .connection_timeout(DEADLINE)
        .request_timeout(Some(DEADLINE))
        .subscription_capacity(room)
        .require_tls(address.tls)
        .max_reconnects(None)
        .reconnect_delay_callback(|attempts| Duration::from_millis(50 << attempts.min(5)))
        .event_callback(move |event| {
            match event {
                Event::Connected => _ = connects.send_replace(true),
                Event::Disconnected | Event::Closed => _ = connects.send_replace(false),
                _ => {}
            }
            async {}
        });
    options = match &address.user {
        Some((user, Some(password))) => options.user_and_password(user.clone(), password.clone()),
        Some((token, None)) => options.token(token.clone()),
        None => options,
    };
    if let Some(file) = &security.credentials {
        options = options.credentials_file(file).await.map_err(|error| {
            Failure::failed(format!(
                "--creds {}: {error}; give it a credentials file as `nsc generate creds` writes it",
                file.display()
            ))
        })?;
    }
    if let Some(file) = &security.ca {
        options = options.add_root_certificates(file.clone());
    }
    if let Some((certificate, key)) = &security.certificate {
        options = options.add_client_certificate(certificate.clone(), key.clone());
    }
    let servers: Vec<_> = address.servers.iter().map(|server| format!("nats://{server}")).collect();
    match options.connect(servers).await {
        Ok(client) => Ok((client, is_connected)),
        Err(error) => Err(Failure::failed(format!("{shown}: {}", connect_error(&error)))),
    }
}

const TLS: &str =
    "give the certificate of the authority that has signed the server's with --tls-ca";

/// What has failed, and what to do.
fn connect_error(error: &ConnectError) -> String {
    let text = chain(error);
    let advice = match error.kind() {
        // It comes as an error of the connection, too.
        _ if text.contains("certificate") => TLS,
        ConnectErrorKind::ServerParse => "check the address",
        ConnectErrorKind::Dns => "check the host name",
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            "give user and password as nats://USER:PASSWORD@HOST, or a credentials file with --creds"
        }
        ConnectErrorKind::TimedOut | ConnectErrorKind::Io | ConnectErrorKind::MaxReconnects => {
            "check that nats-server runs there and that this machine may connect to it"
        }
        ConnectErrorKind::Tls => TLS,
    };
    format!("cannot connect: {text}; {advice}")
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some texts have their cause in them already.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

impl Broker for JetStream {
    /// A message that the server has not stored is sent again, after the next one.
    const KEEPS_ORDER: bool = false;

    type Problem = Problem;

    async fn send(&self, number: Number, record: &Record) -> Result<(), Refusal> {
        if !self.is_connected().await {
            return Err(Refusal::ForNow("the connection is lost".to_owned()));
        }
        let mut headers = HeaderMap::new();
        if let Some(id) = &record.id {
            // By this JetStream knows a message again (NATS documentation, "Message Deduplication").
            headers.insert(NATS_MESSAGE_ID, id.as_str());
        }
        let inbox = self.acks.borrow().next_inbox();
        let (subject, payload) = (record.place.clone(), record.payload.clone());
        let sent = self.client.publish_with_reply_and_headers(subject, inbox, headers, payload);
        sent.await.map_err(|error| self.not_sent(&error, record))?;
        self.acks.borrow_mut().expect(number);
        Ok(())
    }

    fn answered(&self, answers: &mut Answers<Problem>) -> impl Future<Output = ()> {
        poll_fn(|context| self.acks.borrow_mut().poll(context, answers))
    }

    fn refusal(&self, problem: &Problem, record: &Record) -> Refusal {
        match problem {
            Problem::Refused(error) if error.error_code().0 == LARGER_THAN_THE_STREAM_TAKES => {
                Refusal::ForGood(format!(
                    "a message of {} has {} bytes of JSON, more than the stream takes; raise its max_msg_size, or leave fields out with --pipeline",
                    record.place,
                    record.payload.len()
                ))
            }
            Problem::Refused(error) => Refusal::ForNow(error.to_string()),
            Problem::NoStream => Refusal::ForNow(format!(
                "no stream answers for the subject {:?} (is there a stream with this subject, and does it have a leader?)",
                record.place
            )),
            Problem::NoAnswer => Refusal::ForNow(format!("no ack within {} s", DEADLINE.as_secs())),
            Problem::OtherStream(stream) => Refusal::ForGood(format!(
                "the subject {:?} belongs to the stream {stream:?}; choose another one with --subject, or change \
                 the subjects of the streams",
                record.place
            )),
            Problem::Strange(why) => Refusal::ForNow(format!("an answer that is no ack: {why}")),
        }
    }

    /// A leader whose followers die may forget a message and remember its id: it answers nothing to the same id until
    /// the duplicate window is over. The next leader forgets such ids (nats-server, pull request 6486).
    async fn is_stuck(&self) {
        let is_recent = |asked: Instant| asked.elapsed() < Duration::from_secs(30);
        if self.asked.get().is_some_and(is_recent) {
            return;
        }
        self.asked.set(Some(Instant::now()));
        let subject = format!("STREAM.LEADER.STEPDOWN.{}", self.stream);
        // One node alone has no other leader, and not every user may ask.
        let _ =
            self.context.request::<_, _, serde_json::Value>(subject, &serde_json::json!({})).await;
    }

    fn write_name(name: &str, text: &mut String) {
        subject::write_name(name, text);
    }
}

/// The stream's own limit of a message's size (nats-server, `JSMessageSizeExceedsMaximumErr`).
const LARGER_THAN_THE_STREAM_TAKES: u64 = 10054;

impl JetStream {
    /// Waits for the connection, and not for ever. What is sent without one would only be kept in memory.
    async fn is_connected(&self) -> bool {
        let is_there = || self.client.connection_state() == State::Connected;
        if !is_there() {
            let mut is_connected = self.is_connected.clone();
            let again = is_connected.wait_for(|is_connected| *is_connected);
            let _ = tokio::time::timeout(Duration::from_millis(200), again).await;
        }
        is_there()
    }

    /// Why a message could not even be sent.
    fn not_sent(&self, error: &PublishError, record: &Record) -> Refusal {
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Refusal::ForGood(format!(
                "a message of {} has {} bytes of JSON, and the server takes no more than {}; raise max_payload in the server's configuration (up to 64MB), or leave fields out with --pipeline",
                record.place,
                record.payload.len(),
                self.client.server_info().max_payload
            )),
            PublishErrorKind::InvalidSubject => Refusal::ForGood(format!(
                "{:?} cannot be a subject; choose another one with --subject",
                record.place
            )),
            PublishErrorKind::Send => Refusal::ForNow(chain(error)),
        }
    }
}
