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
use std::time::{Duration, Instant, SystemTime};

use bson::{Bson, Document, RawDocument, RawDocumentBuf, Timestamp, doc};
use crossbeam_channel::{Receiver, Select, Sender, TrySendError, bounded, select};
use futures_core::Stream;
use mongodb::error::{Error as DriverError, Result as DriverResult};
use mongodb::raw_batch_cursor::{RawBatch, RawBatchCursor};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, yield_now};

use crate::ack::Token;
use crate::client::Deployment;
use crate::element::{self, Value};
use crate::event::{self, TokenPlace};
use crate::fragments::{self, Fragments, Part};
use crate::gate::Gate;
use crate::heap::Heap;
use crate::namespaces::Namespaces;
use crate::options::{OnOversized, Options, SPLIT_STAGE};
use crate::pace::{Advice, Came, Pace, Tuner};
use crate::pipeline;
use crate::resume::{self, WIRE_VERSION_4_4, WIRE_VERSION_6_0};
use crate::servers::{self, ServerFacts};
use crate::snapshot::{Namespace, is_same_id};

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
    /// Whether renames that nobody asked for are among the events: they are looked at and left out.
    has_unwanted_renames: bool,
    /// The collection of the worker's own checkpoints, where the stream would show it.
    left_out: Option<Namespace>,
    pub(crate) batch_size: u32,
    pub(crate) await_time: Duration,
    /// Let the server split events that are too large for one message, if it can.
    pub(crate) split: bool,
    /// Whether the reply that opens a cursor at a place has the first event after it, if there is one. Servers
    /// refuse a place only when they have begun to look for what comes after it. Such a reply comes only when the
    /// oplog is read to its end.
    pub(crate) opens_with_event: bool,
    /// Read so many events and no more.
    pub(crate) limit: Option<usize>,
    pub(crate) pace: Pace,
    /// How long a full reply may take in the history before it is given up.
    pub(crate) patience: Option<Duration>,
    /// When full replies may be asked for at the earliest: where the pace says so, and where it is only a try.
    pub(crate) full_from: Option<Instant>,
    pub(crate) try_from: Option<Instant>,
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
            has_unwanted_renames: pipeline::has_unwanted_renames(
                &options.operations,
                &options.pipeline,
            ),
            left_out: None,
            batch_size: options.batch_size,
            await_time: options.await_time,
            split: options.on_oversized == OnOversized::Split,
            opens_with_event: true,
            limit: None,
            pace: Pace::Full,
            patience: None,
            full_from: None,
            try_from: None,
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

    /// Whether what a rename gave a new name to comes as no message, although that name is watched.
    pub(crate) fn misses(&self, rename: &[u8]) -> bool {
        let is_watched = |(database, collection): &(String, String)| {
            let known = |name: &Option<String>, is: &str| name.as_deref().is_none_or(|n| n == is);
            known(&self.database, database)
                && known(&self.collection, collection)
                && self.namespaces.as_ref().is_none_or(|all| all.include(database, collection))
        };
        event::rename_target(rename).is_some_and(|target| is_watched(&target))
            && (self.has_unwanted_renames
                || event::database_and_collection(rename).is_none_or(|from| !is_watched(&from)))
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

    /// Whether it is time for another pace. At the end of the oplog it is.
    fn may_change(&self, to: Advice, came: usize, now: Instant) -> bool {
        let from = match to {
            Advice::One => None,
            Advice::Full(_) => self.full_from.filter(|_| came > 0),
            Advice::Try(_) => self.try_from,
        };
        from.is_none_or(|from| from <= now)
    }

    fn command(&self, from: &Position, split: bool) -> DriverResult<Document> {
        let mut change_stream = self.change_stream.clone();
        let field = from.field().map_err(DriverError::custom)?;
        // From now on there is nothing to look for: the reply comes at once, with a token.
        let first = i32::from(self.opens_with_event && field.is_some());
        if let Some((name, value)) = field {
            change_stream.insert(name, value);
        }
        let target = self.collection.as_ref().map_or(Bson::Int32(1), |name| name.as_str().into());
        let mut pipeline = vec![Bson::Document(doc! { "$changeStream": change_stream })];
        pipeline.extend(from.stage().map(Bson::Document));
        pipeline.extend(self.stages.iter().cloned().map(Bson::Document));
        if split {
            pipeline.push(Bson::Document(doc! { SPLIT_STAGE: {} }));
        }
        Ok(doc! {
            "aggregate": target,
            "pipeline": pipeline,
            "cursor": { "batchSize": first },
            // The URI may ask for another level, which change streams refuse.
            "readConcern": { "level": "majority" },
        })
    }

    /// Opens the cursor, and tells whether its server splits events.
    ///
    /// Only a server itself knows whether it can: another one may be asked for its version than the
    /// one that then gets the command, and they differ while a set is being upgraded. That no server
    /// before 6.0 can is known without asking, as soon as all are older.
    async fn open(
        &self,
        deployment: &Deployment,
        from: &Position,
    ) -> DriverResult<(RawBatchCursor, bool)> {
        let may_split =
            deployment.newest_wire_version().is_none_or(|version| version >= WIRE_VERSION_6_0);
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
            .run_cursor_command(self.command(from, split)?)
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
        let version = deployment.server_facts().and_then(|server| server.wire_version);
        let is_old = version.is_some_and(|version| version < WIRE_VERSION_4_4);
        let Some(time) = from.time().filter(|_| is_old) else { return Ok(()) };
        let mut probe = self.clone();
        probe.batch_size = 1;
        probe.await_time = Duration::from_millis(1);
        // What comes first may be an event that cannot be sent, which is no reason not to go on after it.
        probe.opens_with_event = false;
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
    /// After an event that the stages of this stream do not let through, or not any more: a lookup finds another
    /// document now, an image has expired, the options are others. Servers do not find the token of such an
    /// event. So the stream begins at the token's time, and everything up to the token is left out: servers
    /// compare tokens in the same way. It does not matter in how many parts such an event is split.
    Past(Token),
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
            Position::Past(_) => f.write_str("at the time of its token"),
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
            Position::After(token) | Position::Past(token) => Some(Token::clone(token)),
            Position::Start(Some((_, Bson::Document(token)))) => {
                Some(Token::from(RawDocumentBuf::try_from(token).ok()?.as_bytes()))
            }
            Position::Start(_) => None,
        }
    }

    /// Whether it is a time for which there is no token yet.
    pub(crate) fn needs_token(&self) -> bool {
        matches!(self, Position::Start(Some((_, Bson::Timestamp(_)))))
    }

    /// How long ago it was, by the clock of this machine; `None` for one without a time.
    fn age(&self) -> Option<Duration> {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(self.time()?.time.into());
        Some(SystemTime::now().duration_since(time).unwrap_or_default())
    }

    pub(crate) fn is_in_history(&self) -> bool {
        self.age().is_some_and(|age| age > Pace::HISTORY)
    }

    /// The same place for a server that does not find the event of its token, if there is a way to it.
    pub(crate) fn past(&self) -> Option<Position> {
        match self {
            Position::Past(_) => None,
            Position::After(_) | Position::Start(_) => {
                let token = self.token()?;
                let is_known =
                    TokenPlace::of(&token).is_some() && event::token_time(&token).is_some();
                is_known.then_some(Position::Past(token))
            }
        }
    }

    /// Whether a token that the server sends lies no further than this.
    fn covers(&self, token: &[u8]) -> bool {
        match self {
            Position::Start(_) => false,
            Position::After(at) => **at == *token,
            Position::Past(at) => match (TokenPlace::of(at), TokenPlace::of(token)) {
                (Some(at), Some(token)) => at.reaches(&token),
                _ => false,
            },
        }
    }

    fn field(&self) -> Result<Option<(&'static str, Bson)>, String> {
        match self {
            Position::Start(field) => Ok(field.clone()),
            // `startAfter` takes every token, the one of an `invalidate` too, which `resumeAfter`
            // refuses.
            Position::After(token) => {
                let document = RawDocument::from_bytes(token).and_then(Document::try_from);
                // Without it the stream would begin now.
                let document = document.map_err(|error| {
                    format!(
                        "the resume token of the stream is damaged, please report this: {error}"
                    )
                })?;
                Ok(Some(("startAfter", Bson::Document(document))))
            }
            Position::Past(token) => {
                let time = event::token_time(token)
                    .ok_or("a resume token has no time, please report this")?;
                // The event of an invalidate's token is the last of its time, and would end the cursor once more.
                let is_last = TokenPlace::of(token).is_some_and(|place| place.is_of_invalidate());
                let behind = u32::from(is_last);
                let time = Timestamp { time: time.0, increment: time.1.saturating_add(behind) };
                Ok(Some(("startAtOperationTime", time.into())))
            }
        }
    }

    /// A stage that lets only through what lies behind.
    fn stage(&self) -> Option<Document> {
        let Position::Past(token) = self else { return None };
        let (place, time) = (TokenPlace::of(token)?, self.time()?);
        let digits = |from: usize, count: usize| {
            doc! { "$substrBytes": ["$_id._data", from as i32, count as i32] }
        };
        let after_version = TokenPlace::TIME + TokenPlace::VERSION;
        let theirs = [digits(0, TokenPlace::TIME), digits(after_version, place.digits())];
        let is_behind = doc! { "$gt": [{ "$concat": theirs.to_vec() }, place.text()] };
        // The time decides for all events but those of the token's own transaction.
        Some(
            doc! { "$match": { "$or": [{ "clusterTime": { "$gt": time } }, { "$expr": is_behind }] } },
        )
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
    /// It has had events.
    pub(crate) has_events: bool,
    /// What is known of the server that it was opened on; `None` where none was found.
    pub(crate) server: Option<ServerFacts>,
}

impl Progress {
    fn over(&mut self, reply: &Reply) {
        self.replies += 1;
        self.has_events |= !reply.spans.is_empty();
        if let Some(token) = reply.token()
            && !self.position.covers(token)
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
    Change(Change),
}

/// Another pace fits the history better.
pub(crate) struct Change {
    pub(crate) to: Advice,
    /// How long the server was at work on a request that was given up.
    pub(crate) wasted: Duration,
}

/// What a worker gets next.
pub(crate) enum Next {
    /// A reply, and the number of its first event.
    Reply(Reply, u64),
    Failed(DriverError),
    Ended,
    /// As many events were read as were asked for.
    Enough,
    Change(Change),
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

    /// Is told of a collection that was given another name, before the reply with that event.
    fn renamed(&mut self, _event: &[u8]) {}

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
            has_events: false,
            server: None,
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
            Ok(Item::Change(change)) => Next::Change(change),
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
            // Without the last item the worker learns that this task is gone, and fails.
            let _ = self.send(last);
        }
    }

    /// An error only where the channel is full. A slot is taken before each item, so that would be a bug; the
    /// events of the item would be lost if nobody heard of it.
    fn send(&self, item: Item) -> DriverResult<()> {
        match self.sender.try_send(item) {
            // The worker has gone.
            Ok(()) | Err(TrySendError::Disconnected(_)) => Ok(()),
            Err(TrySendError::Full(_)) => Err(DriverError::custom(
                "the reading task is further ahead than it may be; please report this bug",
            )),
        }
    }

    /// Reads to the end, and tells what that is.
    async fn read(&mut self) -> DriverResult<Item> {
        let last = self.read_all().await;
        let server = self.deployment.server_facts();
        self.progress().server = server;
        last
    }

    async fn read_all(&mut self) -> DriverResult<Item> {
        let from = self.progress().position.clone();
        let (mut cursor, splits) = self.scope.open(&self.deployment, &from).await?;
        self.progress().is_open = true;
        self.scope.check_history(&self.deployment, &from).await?;
        let round_trip = self.deployment.server_facts().and_then(|server| server.round_trip);
        let mut tuner = Tuner::new(self.scope.pace, round_trip, self.scope.patience);
        let mut fragments = splits.then(Fragments::default);
        let mut left = self.scope.limit;
        let slots = Arc::clone(&self.slots);
        let mut heap = Heap::default();
        // Taken before each request, or a third reply could come to be held.
        let mut slot = slots.acquire().await;
        let mut answer = Poll::Pending;
        loop {
            let requested = Instant::now();
            let next = match answer {
                Poll::Ready(next) => next,
                Poll::Pending => {
                    let in_history = self.progress().position.is_in_history();
                    let next = poll_fn(|context| poll(&mut cursor, context));
                    match tuner.patience().filter(|_| in_history) {
                        None => next.await,
                        Some(patience) => {
                            let patience = patience.saturating_add(self.scope.await_time);
                            match tokio::time::timeout(patience, next).await {
                                Ok(next) => next,
                                Err(_) => {
                                    let change = Change { to: Advice::One, wasted: patience };
                                    return Ok(Item::Change(change));
                                }
                            }
                        }
                    }
                }
            };
            let took = requested.elapsed();
            let (Ok(taken), Some(batch)) = (slot, next) else { return Ok(Item::Ended) };
            let batch = batch?;
            // Behind a large reply more will come at once: the server should be at it before this one is
            // looked at, since whom that wakes takes the processor for a while. A small one goes on at once.
            // Where there is no slot, the worker still has the reply before this one.
            let size = batch.as_raw_document().as_bytes().len();
            let looks_ahead = is_large(batch.as_raw_document().as_bytes()) && left.is_none();
            let ahead = looks_ahead.then(|| slots.try_acquire().ok()).flatten();
            answer = match &ahead {
                Some(_) => request(&mut cursor).await,
                None => Poll::Pending,
            };
            heap.keeps(batch.as_raw_document().as_bytes().len());
            let mut reply = Reply::parse(batch, self.scope.has_invalidate)?;
            reply.begin_at(&from);
            let is_opening = self.opened.is_none();
            if is_opening {
                self.opened = reply.cursor();
            }
            let came = reply.spans.len();
            for event in reply.take_renames(&self.scope) {
                self.observer.renamed(&event);
            }
            left = left.map(|left| left.saturating_sub(reply.spans.len()));
            // The server closes the cursor behind that one, and only its end says so.
            let ends = reply.invalidate_token().is_some();
            match &mut fragments {
                Some(fragments) if reply.has_fragments(fragments) => {
                    let replies = reply.join(fragments)?;
                    drop(taken);
                    self.deliver_joined(replies).await?;
                }
                _ => {
                    if self.deliver(reply)? {
                        taken.forget();
                    }
                }
            }
            let is_pending = fragments.as_ref().is_some_and(Fragments::is_pending);
            if !ends && !is_pending {
                if left == Some(0) {
                    return Ok(Item::Enough);
                }
                // How long the opening reply takes says more of the opening than of the history.
                let looks_back = self.scope.pace == Pace::One;
                let age = looks_back.then(|| self.progress().position.age()).flatten();
                let came = Came { events: came, bytes: size, took, age };
                if !is_opening
                    && let Some(to) = tuner.came(&came)
                    && self.scope.may_change(to, came.events, requested)
                {
                    return Ok(Item::Change(Change { to, wasted: Duration::ZERO }));
                }
            }
            slot = match ahead {
                Some(ahead) => Ok(ahead),
                None => slots.acquire().await,
            };
        }
    }

    /// Lets the observer see a reply, for which a slot was taken, and perhaps the worker: whether it does.
    fn deliver(&mut self, reply: Reply) -> DriverResult<bool> {
        let first = self.observer.read(&reply);
        self.progress().over(&reply);
        let Some(first) = first else { return Ok(false) };
        // Where this is the only slot that is taken, the worker waits.
        let is_awaited = self.slots.available_permits() + 1 == SLOTS;
        let left = if is_awaited { self.observer.take(reply, first) } else { Some(reply) };
        let Some(reply) = left else { return Ok(false) };
        self.send(Item::Reply(reply, first))?;
        Ok(true)
    }

    /// One after the other: what was not delivered when the cursor is given up was not read.
    async fn deliver_joined(&mut self, replies: Vec<Reply>) -> DriverResult<()> {
        let slots = Arc::clone(&self.slots);
        for reply in replies {
            let Ok(slot) = slots.acquire().await else { return Ok(()) };
            if self.deliver(reply)? {
                slot.forget();
            }
        }
        Ok(())
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

    /// The server places the replies of a stream that begins at a time before the place that is meant.
    fn begin_at(&mut self, from: &Position) {
        if let (Position::Past(at), Some(token)) = (from, &self.token)
            && from.covers(token)
        {
            self.token = Some(Token::clone(at));
        }
    }

    /// Copies of the events that gave a collection another name. Those that nobody asked for are left out.
    fn take_renames(&mut self, scope: &Scope) -> Vec<Vec<u8>> {
        // A rename ends the stream of one collection, so it is among the last there: it, and its invalidate.
        let all = scope.collection.is_none() || scope.has_unwanted_renames;
        let first = if all { 0 } else { self.spans.len().saturating_sub(2) };
        let mut found = Vec::new();
        for index in first..self.spans.len() {
            let span = &self.spans[index];
            let event = &self.bytes()[span.start as usize..span.end as usize];
            if event::is_rename(event) {
                found.push((index, event.to_vec()));
            }
        }
        if scope.has_unwanted_renames {
            for (index, _) in found.iter().rev() {
                self.spans.remove(*index);
            }
        }
        found.into_iter().map(|(_, event)| event).collect()
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
        let first = self.spans.first().and_then(|span| self.id(span));
        if first.is_some_and(|first| is_same_id(&first, id)) {
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
