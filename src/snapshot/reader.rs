//! Reads what a snapshot has still to read. The only place that sends commands for one.
//!
//! A task on the shared runtime reads; never more than two replies are requested or held, as with a
//! cursor. Whatever breaks ends it, and another one goes on after what was handed over.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use bson::{Bson, Document, RawDocumentBuf, Timestamp, doc};
use crossbeam_channel::{Receiver, Sender, select, unbounded};
use futures_core::Stream;
use mongodb::Client;
use mongodb::error::{Error as DriverError, Result as DriverResult};
use mongodb::options::{ReadPreference, SelectionCriteria};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::raw::namespace::Namespace;
use crate::snapshot::division;
use crate::snapshot::progress::{IdRange, SnapshotProgress, Unread};

use crate::gate::Gate;
use crate::source::client::Deployment;
use crate::source::fault::Fault;
use crate::source::reply::Reply;
use crate::source::scope::Scope;

/// How many replies are requested or held at a time, and so how many ranges are read.
const PARALLEL: usize = 2;

/// What has been read, in order.
pub(crate) enum SnapshotItem {
    /// About how many documents there are to read.
    Estimate(u64),
    Collection(Unread),
    Documents {
        range: usize,
        reply: Reply,
    },
    Done {
        range: usize,
    },
    End,
    Failed(Fault),
    /// The worker was asked to stop.
    Stopped,
    /// The reading task is gone without a word: it panicked.
    Lost,
}

/// A snapshot that is being read.
pub(crate) struct Reading {
    items: Receiver<SnapshotItem>,
    slots: Arc<Semaphore>,
    task: JoinHandle<()>,
}

impl Reading {
    /// Returns at once. `at` is the time of the token from which the stream goes on afterwards: no
    /// document is read as it was before.
    pub(crate) fn start(
        deployment: &Arc<Deployment>,
        scope: Scope,
        progress: SnapshotProgress,
        at: Option<Timestamp>,
    ) -> Self {
        let (sender, items) = unbounded();
        let slots = Arc::new(Semaphore::new(PARALLEL));
        let reader = Arc::new(SnapshotReader {
            deployment: Arc::clone(deployment),
            scope,
            at,
            slots: Arc::clone(&slots),
            items: sender,
        });
        let task =
            deployment.runtime().spawn(async move {
                let read = reader.read(progress).await;
                reader.send(read.map_or_else(
                    |error| SnapshotItem::Failed(error.into()),
                    |()| SnapshotItem::End,
                ));
            });
        Self { items, slots, task }
    }

    /// Waits for what comes next, or for the stop gate.
    pub(crate) fn next(&self, stop: &Gate) -> SnapshotItem {
        select! {
            recv(self.items) -> item => item.unwrap_or(SnapshotItem::Lost),
            recv(stop.opened()) -> _ => SnapshotItem::Stopped,
        }
    }

    /// The documents of the last reply are handed over: the next may be requested.
    pub(crate) fn handed_over(&self) {
        self.slots.add_permits(1);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        // Drops the driver's cursors on the runtime, which tells the server to forget them.
        self.task.abort();
    }
}

struct SnapshotReader {
    deployment: Arc<Deployment>,
    scope: Scope,
    at: Option<Timestamp>,
    slots: Arc<Semaphore>,
    items: Sender<SnapshotItem>,
}

impl SnapshotReader {
    fn send(&self, item: SnapshotItem) {
        // An error means that the worker has gone.
        let _ = self.items.send(item);
    }

    async fn read(self: &Arc<Self>, progress: SnapshotProgress) -> DriverResult<()> {
        let client = self.deployment.client().await?;
        let mut unfinished = progress.current;
        let there = &self.deployment;
        let mut collections = there.while_server_is_there(self.collections(&client)).await?;
        if let Some(current) = &unfinished {
            collections.retain(|(namespace, _)| *namespace >= current.namespace);
        }
        self.send(SnapshotItem::Estimate(collections.iter().map(|(_, count)| count).sum()));
        for (namespace, count) in collections {
            let begun = unfinished.take_if(|current| current.namespace == namespace);
            let current = match begun {
                Some(current) => current,
                None => {
                    let ranges = self.ranges(&client, &namespace, count);
                    let ranges = there.while_server_is_there(ranges).await?;
                    Unread { namespace, ranges }
                }
            };
            self.send(SnapshotItem::Collection(current.clone()));
            self.read_collection(current).await?;
        }
        Ok(())
    }

    /// The collections of the scope, in order, each with about how many documents it has.
    async fn collections(&self, client: &Client) -> DriverResult<Vec<(Namespace, u64)>> {
        let mut collections = Vec::new();
        if let (Some(database), Some(collection)) = (&self.scope.database, &self.scope.collection) {
            let (database, collection) = (database.clone(), collection.clone());
            collections.push(Namespace { database, collection });
        } else {
            let databases = match (&self.scope.namespaces, &self.scope.database) {
                (Some(all), _) => all.databases().map(str::to_owned).collect(),
                (None, Some(database)) => vec![database.clone()],
                (None, None) => client.list_database_names().authorized_databases(true).await?,
            };
            // The databases that no stream on a deployment shows.
            let system = ["admin", "config", "local"];
            for database in databases.into_iter().filter(|name| !system.contains(&&**name)) {
                collections.extend(self.collections_of(client, database).await?);
            }
        }
        collections.sort();
        let mut counted = Vec::with_capacity(collections.len());
        for namespace in collections {
            let command = doc! { "count": &namespace.collection };
            let count = client.database(&namespace.database).run_command(command).await?;
            counted.push((namespace, division::count_of(&count)));
        }
        Ok(counted)
    }

    async fn collections_of(
        &self,
        client: &Client,
        database: String,
    ) -> DriverResult<Vec<Namespace>> {
        let command = doc! {
            "listCollections": 1,
            "filter": { "type": "collection" },
            "nameOnly": true,
            "authorizedCollections": true,
        };
        // The primary has every collection that was there before the stream's beginning.
        let handle = client.database(&database);
        let mut listed = handle.run_cursor_command(command).selection_criteria(primary()).await?;
        let mut collections = Vec::new();
        while listed.advance().await? {
            let collection = listed.current().get_str("name");
            let collection = collection.map_err(|error| {
                DriverError::custom(format!("the name of a collection of {database}: {error}"))
            })?;
            let collection = collection.to_owned();
            let namespace = Namespace { database: database.clone(), collection };
            if !namespace.collection.starts_with("system.") && self.scope.watches(&namespace) {
                collections.push(namespace);
            }
        }
        Ok(collections)
    }

    /// Divides a collection into ranges of about the same size, at ids drawn at random. The server
    /// sorts them: it alone knows the order of ids of any type, and under the collection's collation.
    async fn ranges(
        &self,
        client: &Client,
        namespace: &Namespace,
        count: u64,
    ) -> DriverResult<Vec<IdRange>> {
        let mut bounds: Vec<Bson> = Vec::new();
        if let Some(size) = division::sample_size(count) {
            let stages = [
                doc! { "$sample": { "size": size } },
                doc! { "$project": { "_id": 1 } },
                doc! { "$sort": { "_id": 1 } },
            ];
            let collection = client
                .database(&namespace.database)
                .collection::<RawDocumentBuf>(&namespace.collection);
            let mut drawn = collection.aggregate(stages).with_type::<RawDocumentBuf>().await?;
            let mut nth = 0;
            while drawn.advance().await? {
                nth += 1;
                if division::is_bound(nth)
                    && let Ok(Some(id)) = drawn.current().get("_id")
                    && let Ok(id) = Bson::try_from(id)
                {
                    bounds.push(id);
                }
            }
        }
        Ok(division::ranges(bounds))
    }

    async fn read_collection(self: &Arc<Self>, current: Unread) -> DriverResult<()> {
        let mut ranges = current.ranges.into_iter();
        let mut running = JoinSet::new();
        loop {
            while running.len() < PARALLEL
                && let Some(range) = ranges.next()
            {
                let (reader, namespace) = (Arc::clone(self), current.namespace.clone());
                running.spawn(async move {
                    let read = reader.read_range(&namespace, range);
                    reader.deployment.while_server_is_there(read).await
                });
            }
            match running.join_next().await {
                None => return Ok(()),
                Some(Ok(read)) => read?,
                Some(Err(error)) => return Err(DriverError::custom(error.to_string())),
            }
        }
    }

    async fn read_range(&self, namespace: &Namespace, range: IdRange) -> DriverResult<()> {
        self.read_all(namespace, &range, find(self.at, namespace, &range)).await?;
        if let Some(last) = division::last_of(&range) {
            let mut find = find(self.at, namespace, &last);
            find.insert("filter", doc! { "_id": Bson::MaxKey });
            self.read_all(namespace, &last, find).await?;
        }
        self.send(SnapshotItem::Done { range: range.number });
        Ok(())
    }

    async fn read_all(
        &self,
        namespace: &Namespace,
        range: &IdRange,
        find: Document,
    ) -> DriverResult<()> {
        let client = self.deployment.client().await?;
        let database = client.database(&namespace.database);
        let mut action = database.run_cursor_command(find).batch_size(self.scope.batch_size);
        if let Some(criteria) = client.selection_criteria() {
            action = action.selection_criteria(criteria.clone());
        }
        let mut cursor = action.batch().await?;
        let mut begun = range.from.as_ref().filter(|_| range.is_begun);
        loop {
            // Taken before the request, or a third reply could come to be held.
            let Ok(slot) = self.slots.acquire().await else { return Ok(()) };
            let next = poll_fn(|context| Pin::new(&mut cursor).poll_next(context));
            let Some(batch) = next.await else { return Ok(()) };
            let mut reply = Reply::of_documents(batch?)?;
            if let Some(begun) = begun.take_if(|_| !reply.spans().is_empty()) {
                reply.skip_first_if(begun);
            }
            if !reply.spans().is_empty() {
                slot.forget();
                self.send(SnapshotItem::Documents { range: range.number, reply });
            }
        }
    }
}

/// By the index's own order: comparisons in a filter see ids of one type only.
fn find(at: Option<Timestamp>, namespace: &Namespace, range: &IdRange) -> Document {
    let mut concern = doc! { "level": "majority" };
    if let Some(time) = at {
        // A secondary may not have come so far yet, and a document be in neither. A stream that begins
        // now begins at the time after the last one that there was.
        let increment = time.increment.saturating_sub(1);
        concern.insert("afterClusterTime", Timestamp { increment, ..time });
    }
    let mut command = doc! {
        "find": &namespace.collection,
        "hint": { "_id": 1 },
        "batchSize": 0,
        "readConcern": concern,
    };
    for (name, bound) in [("min", &range.from), ("max", &range.to)] {
        if let Some(id) = bound {
            command.insert(name, doc! { "_id": id });
        }
    }
    command
}

fn primary() -> SelectionCriteria {
    SelectionCriteria::ReadPreference(ReadPreference::Primary)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_by_their_ids_and_not_before_the_beginning_of_the_stream() {
        let namespace = Namespace { database: "shop".to_owned(), collection: "orders".to_owned() };
        let range =
            |from: Option<Bson>, to: Option<Bson>| IdRange { number: 0, from, is_begun: false, to };
        let plain = doc! {
            "find": "orders",
            "hint": { "_id": 1 },
            "batchSize": 0,
            "readConcern": { "level": "majority" },
        };
        assert_eq!(find(None, &namespace, &range(None, None)), plain);
        let at = Some(Timestamp { time: 7, increment: 3 });
        let mut bounded = plain;
        bounded.insert(
            "readConcern",
            doc! { "level": "majority", "afterClusterTime": Timestamp { time: 7, increment: 2 } },
        );
        assert_eq!(find(at, &namespace, &range(None, None)), bounded);
        bounded.insert("min", doc! { "_id": 1 });
        bounded.insert("max", doc! { "_id": "x" });
        assert_eq!(find(at, &namespace, &range(Some(1.into()), Some("x".into()))), bounded);
    }
}
