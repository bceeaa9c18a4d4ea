//! What is watched, and how: the aggregate command of a stream.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use bson::{Bson, Document, doc};
use mongodb::error::{Error as DriverError, Result as DriverResult};
use mongodb::raw_batch_cursor::RawBatchCursor;

use crate::options::pipeline::SPLIT_STAGE;
use crate::options::{OnOversized, Options, pipeline};
use crate::raw::event;
use crate::raw::namespace::Namespace;
use crate::source::client::Deployment;
use crate::source::failure;
use crate::source::failure::{WIRE_VERSION_4_4, WIRE_VERSION_6_0};
use crate::source::fault::Fault;
use crate::source::namespaces::Namespaces;
use crate::source::pace::{Advice, Pace};
use crate::source::poll::poll;
use crate::source::position::Position;

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
    pub(crate) has_unwanted_renames: bool,
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

    /// The scope that a cursor of this pace reads.
    pub(crate) fn at(&self, pace: Pace) -> Self {
        let mut scope = self.clone();
        scope.pace = pace;
        match pace {
            Pace::Full => {}
            Pace::One => scope.batch_size = 1,
            Pace::Careful => {
                scope.limit = Some(scope.batch_size as usize);
                scope.batch_size = 1;
            }
        }
        scope
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
    pub(crate) fn may_change(&self, to: Advice, came: usize, now: Instant) -> bool {
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
    pub(crate) async fn open(
        &self,
        deployment: &Deployment,
        from: &Position,
    ) -> DriverResult<(RawBatchCursor, bool)> {
        let may_split =
            deployment.newest_wire_version().is_none_or(|version| version >= WIRE_VERSION_6_0);
        if self.split && may_split {
            match self.open_with(deployment, from, true).await {
                Err(error) if failure::is_unknown_stage(&Fault::from(&error)) => {}
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
    pub(crate) async fn check_history(
        &self,
        deployment: &Deployment,
        from: &Position,
    ) -> DriverResult<()> {
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
                Some(Err(error)) if failure::is_too_large(&Fault::from(&error)) => break,
                Some(batch) => drop(batch?),
                None => break,
            }
        }
        Ok(())
    }
}
