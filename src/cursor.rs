//! The change-stream cursor: open, next reply. The only place that sends commands for a stream.
//!
//! A task on the shared runtime reads replies one ahead of the worker: while the worker hands over
//! one reply, the next is already requested. Never more than these two are held. A reply without
//! events is the task's own affair: it only moves the position, and an idle worker's thread sleeps.

use std::cell::Cell;
use std::fmt;
use std::future::poll_fn;
use std::ops::Range;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bson::{Bson, Document, RawDocument, RawDocumentBuf, Timestamp, doc};
use crossbeam_channel::{Receiver, Select, Sender, bounded, select};
use futures_core::Stream;
use mongodb::error::{Error as DriverError, Result as DriverResult};
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};

use crate::ack::Token;
use crate::client::Deployment;
use crate::element::{self, Value};
use crate::event;
use crate::fragments::{self, Fragments, Part};
use crate::gate::Gate;
use crate::heap::Heap;
use crate::namespaces::Namespaces;
use crate::options::{OnOversized, Options, SPLIT_STAGE};
use crate::pipeline;
use crate::resume::{self, WIRE_VERSION_4_4, WIRE_VERSION_6_0};
use crate::servers;
use crate::snapshot::Namespace;

/// What is watched, and how: everything of the aggregate command but the point to go on from.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) database: Option<String>,
    pub(crate) collection: Option<String>,
    pub(crate) namespaces: Option<Namespaces>,
    pub(crate) change_stream: Document,
    pub(crate) stages: Vec<Document>,
    /// Whether the `invalidate` is an event like others, or only the end of a cursor.
    pub(crate) has_invalidate: bool,
    /// The collection of the worker's own checkpoints, where the stream would show it.
    left_out: Option<Namespace>,
    pub(crate) batch_size: u32,
    pub(crate) await_time: Duration,
    /// Let the server split events that are too large for one message, if it can.
    pub(crate) split: bool,
    /// Read so many events and no more.
    pub(crate) limit: Option<usize>,
}

impl Scope {
    pub(crate) fn new(
        database: Option<&str>,
        collection: Option<&str>,
        namespaces: Option<Namespaces>,
        options: &Options,
    ) -> Self {
        // A stream of one database needs fewer privileges than one of the deployment.
        let database = database.or_else(|| namespaces.as_ref().and_then(Namespaces::database));
        let mut change_stream = options.change_stream();
        if database.is_none() {
            change_stream.insert("allChangesForCluster", true);
        }
        let mut stages: Vec<Document> = namespaces.iter().map(Namespaces::stage).collect();
        if !options.operations.is_empty() {
            stages.push(pipeline::only_operations(&options.operations, &options.pipeline));
        }
        stages.extend(options.pipeline.iter().cloned());
        Self {
            database: database.map(str::to_owned),
            collection: collection.map(str::to_owned),
            namespaces,
            change_stream,
            stages,
            has_invalidate: pipeline::has_invalidate(&options.operations),
            left_out: None,
            batch_size: options.batch_size,
            await_time: options.await_time,
            split: options.on_oversized == OnOversized::Split,
            limit: None,
        }
    }

    /// "shop.orders", "shop", "shop.{items,orders}", or "*" for the whole deployment.
    pub(crate) fn namespace(&self) -> String {
        if let Some(namespaces) = &self.namespaces {
            return namespaces.to_string();
        }
        match (&self.database, &self.collection) {
            (Some(database), Some(collection)) => format!("{database}.{collection}"),
            (Some(database), None) => database.clone(),
            (None, _) => "*".to_owned(),
        }
    }

    /// The namespace as change events carry it; `None` for the whole deployment.
    pub(crate) fn ns(&self) -> Option<Document> {
        let mut ns = doc! { "db": self.database.as_ref()? };
        if let Some(collection) = &self.collection {
            ns.insert("coll", collection);
        }
        Some(ns)
    }

    /// Keeps the changes of one collection out of the stream: a worker's own checkpoints.
    pub(crate) fn leave_out(&mut self, database: &str, collection: &str) {
        let own = doc! { "ns.db": database, "ns.coll": collection };
        self.stages.insert(0, doc! { "$match": { "$nor": [own] } });
        let (database, collection) = (database.to_owned(), collection.to_owned());
        self.left_out = Some(Namespace { database, collection });
    }

    /// Whether the documents of a collection belong to it, of which the database may.
    pub(crate) fn watches(&self, namespace: &Namespace) -> bool {
        let Namespace { database, collection } = namespace;
        self.left_out.as_ref() != Some(namespace)
            && self.namespaces.as_ref().is_none_or(|all| all.include(database, collection))
    }

    fn command(&self, from: &Position, split: bool) -> Document {
        let mut change_stream = self.change_stream.clone();
        if let Some((name, value)) = from.field() {
            change_stream.insert(name, value);
        }
        let target = self.collection.as_ref().map_or(Bson::Int32(1), |name| name.as_str().into());
        let mut pipeline = vec![Bson::Document(doc! { "$changeStream": change_stream })];
        pipeline.extend(self.stages.iter().cloned().map(Bson::Document));
        if split {
            pipeline.push(Bson::Document(doc! { SPLIT_STAGE: {} }));
        }
        doc! {
            "aggregate": target,
            "pipeline": pipeline,
            // Opening returns at once, with a token and without scanning the oplog first.
            "cursor": { "batchSize": 0 },
            // The URI may ask for another level, which change streams refuse.
            "readConcern": { "level": "majority" },
        }
    }

    /// Opens the cursor, and tells whether its server splits events.
    ///
    /// Only a server itself knows whether it can: another one may be asked for its version than the
    /// one that then gets the command, and they differ while a set is being upgraded. That no server
    /// before 6.0 can is known without asking.
    async fn open(
        &self,
        deployment: &Deployment,
        from: &Position,
    ) -> DriverResult<(RawBatchCursor, bool)> {
        let may_split = deployment.wire_version().is_none_or(|version| version >= WIRE_VERSION_6_0);
        if self.split && may_split {
            match self.open_with(deployment, from, true).await {
                Err(error) if resume::is_unknown_stage(&error) => {}
                opened => return opened.map(|cursor| (cursor, true)),
            }
        }
        self.open_with(deployment, from, false).await.map(|cursor| (cursor, false))
    }

    async fn open_with(
        &self,
        deployment: &Deployment,
        from: &Position,
        split: bool,
    ) -> DriverResult<RawBatchCursor> {
        let client = deployment.client().await?;
        let database = client.database(self.database.as_deref().unwrap_or("admin"));
        let mut action = database
            .run_cursor_command(self.command(from, split))
            .batch_size(self.batch_size)
            .max_time(self.await_time);
        if let Some(criteria) = client.selection_criteria() {
            action = action.selection_criteria(criteria.clone());
        }
        action.batch().await
    }

    /// Servers before 4.4 notice that the event of a token is gone only when they meet a later one;
    /// until then they hand out later tokens, which would hide the loss. Asked to begin at the token's
    /// time they notice at once.
    async fn check_history(&self, deployment: &Deployment, from: &Position) -> DriverResult<()> {
        let is_old = deployment.wire_version().is_some_and(|version| version < WIRE_VERSION_4_4);
        let Some(time) = from.time().filter(|_| is_old) else { return Ok(()) };
        let mut probe = self.clone();
        probe.batch_size = 1;
        probe.await_time = Duration::from_millis(1);
        let start = Position::Start(Some(("startAtOperationTime", time.into())));
        let mut cursor = probe.open_with(deployment, &start, false).await?;
        // The opening reply, and the one that has looked at the oplog.
        for _ in 0..2 {
            match poll_fn(|context| poll(&mut cursor, context)).await {
                // It is there, whatever its size.
                Some(Err(error)) if resume::is_too_large(&error) => break,
                Some(batch) => drop(batch?),
                None => break,
            }
        }
        Ok(())
    }
}

/// Where a stream begins, or goes on.
#[derive(Clone, PartialEq)]
pub(crate) enum Position {
    /// Where the options say: a field of `$changeStream`; `None` is now.
    Start(Option<(&'static str, Bson)>),
    After(Token),
}

/// For the log. Not the token: it holds the key of a document.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Start(None) => f.write_str("from now"),
            Position::Start(Some((name, Bson::Timestamp(time)))) => {
                write!(f, "with {name} {}:{}", time.time, time.increment)
            }
            Position::Start(Some((name, _))) => write!(f, "with {name}"),
            Position::After(_) => f.write_str("with startAfter"),
        }
    }
}

impl Position {
    /// Its cluster time, if it has one.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        if let Position::Start(Some((_, Bson::Timestamp(time)))) = self {
            return Some(*time);
        }
        let (time, increment) = event::token_time(&self.token()?)?;
        Some(Timestamp { time, increment })
    }

    /// The resume token, if it is one.
    pub(crate) fn token(&self) -> Option<Token> {
        match self {
            Position::After(token) => Some(Token::clone(token)),
            Position::Start(Some((_, Bson::Document(token)))) => {
                Some(Token::from(RawDocumentBuf::try_from(token).ok()?.as_bytes()))
            }
            Position::Start(_) => None,
        }
    }

    fn field(&self) -> Option<(&'static str, Bson)> {
        match self {
            Position::Start(field) => field.clone(),
            // `startAfter` takes every token, the one of an `invalidate` too, which `resumeAfter`
            // refuses. A token that is no document would not have come this far.
            Position::After(token) => {
                let document = RawDocument::from_bytes(token).ok()?;
                Some(("startAfter", Bson::Document(Document::try_from(document).ok()?)))
            }
        }
    }
}

/// How far a cursor has come.
#[derive(Clone)]
pub(crate) struct Progress {
    /// Behind everything that was read.
    pub(crate) position: Position,
    /// Where the stream was before the last reply that moved it.
    pub(crate) before: Position,
    /// The token of the `invalidate`, if the last reply ended in one.
    pub(crate) invalidate: Option<Token>,
    /// Replies so far, the one that opened the cursor included.
    pub(crate) replies: usize,
    /// The server has taken the stream: what fails from now on are requests for its events.
    pub(crate) is_open: bool,
}

impl Progress {
    fn over(&mut self, reply: &Reply) {
        self.replies += 1;
        if let Some(token) = reply.token()
            && !matches!(&self.position, Position::After(at) if at == token)
        {
            let after = Position::After(Token::clone(token));
            self.before = std::mem::replace(&mut self.position, after);
        }
        self.invalidate = reply.invalidate_token().cloned();
    }
}

/// What the reading task sends to the worker.
enum Item {
    /// A reply, and the number of its first event.
    Reply(Reply, u64),
    Failed(DriverError),
    /// The server has closed the cursor, and everything it had is delivered.
    Ended,
    /// As many events were read as were asked for.
    Enough,
}

/// What a worker gets next.
pub(crate) enum Next {
    /// A reply, and the number of its first event.
    Reply(Reply, u64),
    Failed(DriverError),
    Ended,
    /// As many events were read as were asked for.
    Enough,
    /// The worker was asked to stop.
    Stopped,
    /// The reading task is gone without a word: it panicked.
    Lost,
}

/// How many replies are held at most: the one that is handed over, and the next.
const SLOTS: usize = 2;

/// Who sees the replies of a cursor on the runtime's thread, before the worker does.
pub(crate) trait Observer: Send + 'static {
    /// Is told of every reply, in order. Gives the number of the reply's first event if the worker shall
    /// see the reply.
    fn read(&mut self, reply: &Reply) -> Option<u64>;

    /// May hand a reply over itself while the worker waits and has handed over all before it; one that it
    /// does not take goes to the worker. That saves waking the worker, where waking the consumer is the
    /// larger part of the way. Must not wait.
    fn take(&mut self, reply: Reply, _first: u64) -> Option<Reply> {
        Some(reply)
    }
}

impl<F: FnMut(&Reply) -> Option<u64> + Send + 'static> Observer for F {
    fn read(&mut self, reply: &Reply) -> Option<u64> {
        self(reply)
    }
}

/// An open cursor, or one that is being opened: the first reply is the one that opened it.
pub(crate) struct Cursor {
    items: Receiver<Item>,
    /// Places for replies: in hand-over, read, or requested.
    slots: Arc<Semaphore>,
    /// The worker has an item, which keeps its place until it asks for the next one.
    in_hand: Cell<bool>,
    progress: Arc<Mutex<Progress>>,
    task: JoinHandle<()>,
}

impl Cursor {
    /// Returns at once.
    pub(crate) fn open(
        deployment: &Arc<Deployment>,
        scope: Scope,
        from: Position,
        observer: impl Observer,
    ) -> Self {
        let (sender, items) = bounded(SLOTS);
        let slots = Arc::new(Semaphore::new(SLOTS));
        let progress = Arc::new(Mutex::new(Progress {
            before: from.clone(),
            position: from,
            invalidate: None,
            replies: 0,
            is_open: false,
        }));
        let reader = Reader {
            deployment: Arc::clone(deployment),
            scope,
            slots: Arc::clone(&slots),
            progress: Arc::clone(&progress),
            sender,
            observer,
            opened: None,
        };
        let task = deployment.runtime().spawn(reader.run());
        Self { items, slots, in_hand: Cell::new(false), progress, task }
    }

    /// Waits for the next reply, or for the stop gate.
    pub(crate) fn next(&self, stop: &Gate) -> Next {
        if self.in_hand.take() {
            self.slots.add_permits(1);
        }
        let item = select! {
            recv(self.items) -> item => item,
            recv(stop.opened()) -> _ => return Next::Stopped,
        };
        self.in_hand.set(true);
        match item {
            Ok(Item::Reply(reply, first)) => Next::Reply(reply, first),
            Ok(Item::Failed(error)) => Next::Failed(error),
            Ok(Item::Ended) => Next::Ended,
            Ok(Item::Enough) => Next::Enough,
            Err(_) => Next::Lost,
        }
    }

    /// Waits until [`next`](Self::next) would not wait. Whether that is so in time.
    pub(crate) fn has_next_within(&self, stop: &Gate, limit: Duration) -> bool {
        let mut wait = Select::new();
        wait.recv(&self.items);
        wait.recv(stop.opened());
        wait.ready_timeout(limit).is_ok()
    }

    /// How far it has come; final once it has failed or ended.
    pub(crate) fn progress(&self) -> Progress {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        // Drops the driver's cursor on the runtime, which tells the server to forget it.
        self.task.abort();
    }
}

/// The task that reads.
struct Reader<O> {
    deployment: Arc<Deployment>,
    scope: Scope,
    slots: Arc<Semaphore>,
    progress: Arc<Mutex<Progress>>,
    sender: Sender<Item>,
    observer: O,
    /// Namespace and id of the server's cursor.
    opened: Option<(String, i64)>,
}

impl<O: Observer> Reader<O> {
    async fn run(mut self) {
        let deployment = Arc::clone(&self.deployment);
        // What is not delivered was not read: giving up loses nothing.
        let last = deployment.while_server_is_there(self.read()).await;
        if let Err(error) = &last
            && let Some(server) = servers::deposed(error)
            && let Some((namespace, id)) = &self.opened
        {
            deployment.close_cursor(server, namespace, *id);
        }
        let last = last.unwrap_or_else(Item::Failed);
        if let Ok(slot) = self.slots.acquire().await {
            slot.forget();
            self.send(last);
        }
    }

    fn send(&self, item: Item) {
        // Never full: a slot is taken before each item. An error means that the worker has gone.
        let _ = self.sender.try_send(item);
    }

    /// Reads to the end, and tells what that is.
    async fn read(&mut self) -> DriverResult<Item> {
        let from = self.progress().position.clone();
        let (mut cursor, splits) = self.scope.open(&self.deployment, &from).await?;
        self.progress().is_open = true;
        self.scope.check_history(&self.deployment, &from).await?;
        let mut fragments = splits.then(Fragments::default);
        let mut left = self.scope.limit;
        let slots = Arc::clone(&self.slots);
        let mut heap = Heap::default();
        // Taken before each request, or a third reply could come to be held.
        let mut slot = slots.acquire().await;
        let mut answer = Poll::Pending;
        loop {
            let next = match answer {
                Poll::Ready(next) => next,
                Poll::Pending => poll_fn(|context| poll(&mut cursor, context)).await,
            };
            let (Ok(taken), Some(batch)) = (slot, next) else { return Ok(Item::Ended) };
            let batch = batch?;
            // Behind a large reply more will come at once: the server should be at it before this one is
            // looked at, since whom that wakes takes the processor for a while. A small one goes on at once.
            // Where there is no slot, the worker still has the reply before this one.
            let looks_ahead = is_large(batch.as_raw_document().as_bytes()) && left.is_none();
            let ahead = looks_ahead.then(|| slots.try_acquire().ok()).flatten();
            answer = match &ahead {
                Some(_) => request(&mut cursor).await,
                None => Poll::Pending,
            };
            heap.keeps(batch.as_raw_document().as_bytes().len());
            let reply = Reply::parse(batch, self.scope.has_invalidate)?;
            if self.opened.is_none() {
                self.opened = reply.cursor();
            }
            left = left.map(|left| left.saturating_sub(reply.spans.len()));
            // The server closes the cursor behind that one, and only its end says so.
            let ends = reply.invalidate_token().is_some();
            match &mut fragments {
                Some(fragments) if reply.has_fragments(fragments) => {
                    let replies = reply.join(fragments)?;
                    drop(taken);
                    self.deliver_joined(replies).await;
                }
                _ => {
                    if self.deliver(reply) {
                        taken.forget();
                    }
                }
            }
            let is_pending = fragments.as_ref().is_some_and(Fragments::is_pending);
            if left == Some(0) && !ends && !is_pending {
                return Ok(Item::Enough);
            }
            slot = match ahead {
                Some(ahead) => Ok(ahead),
                None => slots.acquire().await,
            };
        }
    }

    /// Lets the observer see a reply, for which a slot was taken, and perhaps the worker: whether it does.
    fn deliver(&mut self, reply: Reply) -> bool {
        let first = self.observer.read(&reply);
        self.progress().over(&reply);
        let Some(first) = first else { return false };
        // Where this is the only slot that is taken, the worker waits.
        let is_awaited = self.slots.available_permits() + 1 == SLOTS;
        let left = if is_awaited { self.observer.take(reply, first) } else { Some(reply) };
        let Some(reply) = left else { return false };
        self.send(Item::Reply(reply, first));
        true
    }

    /// One after the other: what was not delivered when the cursor is given up was not read.
    async fn deliver_joined(&mut self, replies: Vec<Reply>) {
        let slots = Arc::clone(&self.slots);
        for reply in replies {
            let Ok(slot) = slots.acquire().await else { return };
            if self.deliver(reply) {
                slot.forget();
            }
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

type Answer = Poll<Option<DriverResult<RawBatch>>>;

fn poll(cursor: &mut RawBatchCursor, context: &mut Context<'_>) -> Answer {
    Pin::new(cursor).poll_next(context)
}

/// Has the driver send the request for the next reply. It takes a connection from its pool first, which
/// another task of the runtime hands out.
async fn request(cursor: &mut RawBatchCursor) -> Answer {
    /// Turns of the runtime after which it has been sent, a busy runtime apart.
    const TURNS: usize = 2;
    for _ in 0..TURNS {
        let answer = poll_fn(|context| Poll::Ready(poll(cursor, context))).await;
        if answer.is_ready() {
            return answer;
        }
        yield_now().await;
    }
    Poll::Pending
}

fn is_large(reply: &[u8]) -> bool {
    const LARGE: usize = 64 << 10;
    reply.len() >= LARGE
}

/// One reply of the server, or a part of it: its events and the token that stands behind them.
pub(crate) struct Reply {
    memory: Memory,
    spans: Vec<Range<u32>>,
    token: Option<Token>,
    invalidate: Option<Token>,
}

#[derive(Clone)]
enum Memory {
    Batch(Arc<RawBatch>),
    /// One event, put together from several replies.
    Event(Arc<Vec<u8>>),
}

impl Reply {
    fn parse(batch: RawBatch, has_invalidate: bool) -> DriverResult<Self> {
        let mut reply = Self::of_documents(batch)?;
        let token = match reply.of_cursor(b"postBatchResumeToken") {
            Some(Value::Document(token)) => Some(Token::from(token.bytes())),
            _ => None,
        };
        let last = reply.last_token();
        // The event that ends a stream is its last one.
        if reply.last().is_some_and(event::is_invalidate) {
            reply.invalidate.clone_from(&last);
            if !has_invalidate {
                reply.spans.pop();
            }
        }
        reply.token = token.or(last);
        Ok(reply)
    }

    /// A reply with documents that are no events: it has no token.
    pub(crate) fn of_documents(batch: RawBatch) -> DriverResult<Self> {
        let mut reply = Self {
            memory: Memory::Batch(Arc::new(batch)),
            spans: Vec::new(),
            token: None,
            invalidate: None,
        };
        let documents = reply.of_cursor(b"nextBatch").or_else(|| reply.of_cursor(b"firstBatch"));
        let Some(Value::Array(documents)) = documents else {
            return Err(DriverError::custom("what came is not the reply of a cursor".to_owned()));
        };
        let mut spans = Vec::new();
        for element in documents.elements() {
            let span = match element.map(|element| element.value) {
                Ok(Value::Document(document)) => document.span(),
                Ok(_) => return Err(DriverError::custom("what came is not a document".to_owned())),
                Err(damage) => {
                    return Err(DriverError::custom(format!("what came is damaged: {damage}")));
                }
            };
            spans.push(span.start as u32..span.end as u32);
        }
        reply.spans = spans;
        Ok(reply)
    }

    /// Leaves the first document out if it has this `_id`.
    pub(crate) fn skip_first_if(&mut self, id: &Bson) {
        if self.spans.first().and_then(|span| self.id(span)).as_ref() == Some(id) {
            self.spans.remove(0);
        }
    }

    fn id(&self, span: &Range<u32>) -> Option<Bson> {
        let document = self.bytes().get(span.start as usize..span.end as usize)?;
        let document = RawDocument::from_bytes(document).ok()?;
        Bson::try_from(document.get("_id").ok()??).ok()
    }

    fn has_fragments(&self, fragments: &Fragments) -> bool {
        fragments.is_pending() || self.events().any(fragments::is_fragment)
    }

    /// The reply as if no event had been split, in parts: each whole event is one. What its last
    /// fragments miss comes with the next reply.
    ///
    /// In the middle of an event the reply's own token is a fragment's, behind which nothing may go on.
    fn join(self, fragments: &mut Fragments) -> DriverResult<Vec<Reply>> {
        let parts = fragments.join(self.events()).map_err(DriverError::custom)?;
        let mut replies: Vec<Reply> = parts.into_iter().map(|part| self.part(part)).collect();
        if let Some(last) = replies.last_mut()
            && !fragments.is_pending()
        {
            last.token = self.token;
            last.invalidate = self.invalidate;
        }
        Ok(replies)
    }

    fn part(&self, part: Part) -> Reply {
        let (memory, spans) = match part {
            Part::Events(run) => (self.memory.clone(), self.spans[run].to_vec()),
            Part::Whole(event) => {
                let span = 0..event.len() as u32;
                (Memory::Event(Arc::new(event)), vec![span])
            }
        };
        let mut reply = Reply { memory, spans, token: None, invalidate: None };
        reply.token = reply.last_token();
        reply
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.memory {
            Memory::Batch(batch) => batch.as_raw_document().as_bytes(),
            Memory::Event(event) => event,
        }
    }

    pub(crate) fn events(&self) -> impl Iterator<Item = &[u8]> {
        let bytes = self.bytes();
        self.spans.iter().map(|span| &bytes[span.start as usize..span.end as usize])
    }

    /// Whether its events are worth waking one thread more.
    pub(crate) fn is_large(&self) -> bool {
        is_large(self.bytes())
    }

    /// What the server says of the cursor.
    fn of_cursor(&self, name: &[u8]) -> Option<Value<'_>> {
        let Memory::Batch(batch) = &self.memory else { return None };
        let reply = element::Document::new(batch.as_raw_document().as_bytes());
        match reply.get(b"cursor")?.value {
            Value::Document(cursor) => Some(cursor.get(name)?.value),
            _ => None,
        }
    }

    /// The namespace and the id of its cursor.
    fn cursor(&self) -> Option<(String, i64)> {
        match (self.of_cursor(b"ns")?, self.of_cursor(b"id")?) {
            (Value::String(namespace), Value::Int64(id)) => {
                Some((String::from_utf8_lossy(namespace).into_owned(), id))
            }
            _ => None,
        }
    }

    /// Where the events lie in [`bytes`](Self::bytes), in order.
    pub(crate) fn spans(&self) -> &[Range<u32>] {
        &self.spans
    }

    fn last(&self) -> Option<&[u8]> {
        let span = self.spans.last()?;
        self.bytes().get(span.start as usize..span.end as usize)
    }

    fn last_token(&self) -> Option<Token> {
        self.last().and_then(event::resume_token).map(Token::from)
    }

    /// The `_id` of the last document.
    pub(crate) fn last_id(&self) -> Option<Bson> {
        self.id(self.spans.last()?)
    }

    /// The token behind the last event: the reply's own (`postBatchResumeToken`), or the last
    /// event's; `None` where the server gave neither.
    pub(crate) fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// The token of the event that ends the stream, if the server sent it in this reply.
    pub(crate) fn invalidate_token(&self) -> Option<&Token> {
        self.invalidate.as_ref()
    }
}
