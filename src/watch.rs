//! The description of a worker: what it watches, where it begins, its options; and its start.

use std::sync::Arc;
use std::time::Duration;

use crate::checkpoint::collection::CollectionCheckpoint;
use crate::checkpoint::file::FileCheckpoint;
use crate::checkpoint::identity::{Saved, StreamIdentity};
use crate::checkpoint::lease::Lost;
use crate::checkpoint::leased::LeasedCheckpoint;
use crate::checkpoint::ledger::Ledger;
use crate::checkpoint::saving::Checkpointer;
use crate::checkpoint::store::CheckpointStore;
use crate::clock::Clock;
use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::json::{ExtendedJson, Format};
use crate::log;
use crate::log::LogLevel;
use crate::options::names::check_namespace;
use crate::options::parse;
use crate::options::uri::Uri;
use crate::options::{
    FullDocument, FullDocumentBeforeChange, OnHistoryLost, OnInvalidate, OnOversized, Options,
    Snapshot, Start, pipeline,
};
use crate::queue::buffer::Buffer;
use crate::source::client::{Deployment, with_signals_blocked};
use crate::source::namespaces::Namespaces;
use crate::source::scope::Scope;
use crate::stream::Stream;
use crate::worker::Worker;

/// Describes a worker: what it watches, where it begins, its options.
///
/// Mistakes in it are reported by [`spawn`](Self::spawn).
#[derive(Clone)]
#[must_use = "a worker starts with spawn"]
pub struct Watch {
    uri: String,
    database: Option<String>,
    collection: Option<String>,
    options: Options,
    checkpoint: Option<Arc<dyn CheckpointStore>>,
    mistake: Option<Error>,
}

impl Worker {
    /// Describes a worker for the deployment at `uri` (MongoDB manual, "Connection Strings"); start
    /// it with [`Watch::spawn`].
    pub fn watch(uri: impl Into<String>) -> Watch {
        Watch::new(uri.into())
    }
}

impl Watch {
    pub(crate) fn new(uri: String) -> Self {
        Self {
            uri,
            database: None,
            collection: None,
            options: Options::new(),
            checkpoint: None,
            mistake: None,
        }
    }

    /// Watches this database only. Without it the database in the URI's path is watched
    /// (`mongodb://host/shop`), and without that one, or with `/admin`, the whole deployment. A path that only
    /// says where the user is kept belongs into `authSource`.
    pub fn database(mut self, name: impl Into<String>) -> Self {
        self.database = Some(name.into());
        self
    }

    /// Watches this collection of the database only. It need not exist yet.
    pub fn collection(mut self, name: impl Into<String>) -> Self {
        self.collection = Some(name.into());
        self
    }

    /// Where the stream begins; [`Start::Now`] if never called.
    pub fn start_at(self, start: Start) -> Self {
        self.check(|options| options.set_start(&start))
    }

    /// The worker's name in messages, errors and logs; the namespace if never called.
    pub fn name(self, name: &str) -> Self {
        self.option("name", name)
    }

    /// Watches many collections on one cursor: names of collections if a database is given, else
    /// `database.collection`, split at the first dot. `*` in the collection stands for any run of
    /// characters. Excludes [`collection`](Self::collection).
    ///
    /// The stream has what happens to these collections, what is renamed to one of their names, and the
    /// drop of their database.
    pub fn namespaces(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        self.check(|options| {
            options.namespaces = parse::check_list(names)
                .map_err(|reason| Error::argument(format!("option namespaces: {reason}")))?;
            Ok(())
        })
    }

    /// Delivers only these operation types, such as `insert`; all if never called. The library's own
    /// messages always come.
    pub fn operations(self, types: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let types = types.into_iter().map(Into::into).collect();
        self.check(|options| {
            options.operations = parse::check_operations(types)
                .map_err(|reason| Error::argument(format!("option operations: {reason}")))?;
            Ok(())
        })
    }

    /// Aggregation stages that the server puts after `$changeStream`. They do not filter the documents of a
    /// snapshot.
    pub fn pipeline(self, stages: impl IntoIterator<Item = bson::Document>) -> Self {
        let stages = stages.into_iter().collect();
        self.check(|options| {
            options.pipeline = pipeline::check(stages)
                .map_err(|reason| Error::argument(format!("pipeline: {reason}")))?;
            Ok(())
        })
    }

    /// Which version of the document updates carry.
    pub fn full_document(mut self, mode: FullDocument) -> Self {
        self.options.full_document = mode;
        self
    }

    /// Whether updates, replaces and deletes carry the document as it was before.
    pub fn full_document_before_change(mut self, mode: FullDocumentBeforeChange) -> Self {
        self.options.full_document_before_change = mode;
        self
    }

    /// Also the server's expanded events: `create`, `createIndexes`, `modify` and others (6.0).
    pub fn show_expanded_events(mut self, show: bool) -> Self {
        self.options.show_expanded_events = show;
        self
    }

    /// Most events in one reply of the server.
    pub fn batch_size(self, events: u32) -> Self {
        self.option("batch_size", &events.to_string())
    }

    /// Longest time that the server waits for an event before it answers with none, in whole
    /// milliseconds.
    pub fn await_time(self, time: Duration) -> Self {
        self.option("await_ms", &time.as_millis().to_string())
    }

    /// The shape of the JSON.
    pub fn format(mut self, format: Format) -> Self {
        self.options.format = format;
        self
    }

    /// The mode of Extended JSON.
    pub fn extended_json(mut self, mode: ExtendedJson) -> Self {
        self.options.json = mode;
        self
    }

    /// Oplog JSON of updates has a key `UpdatedPaths`, see
    /// [`Message::updated_paths`](crate::Message::updated_paths).
    pub fn updated_paths(mut self, show: bool) -> Self {
        self.options.updated_paths = show;
        self
    }

    /// Once the stream has been open: give up opening it again after this time. Without it the
    /// worker never gives up, but for a user that the server refuses: after 30 seconds.
    pub fn retry_for(mut self, time: Duration) -> Self {
        self.options.retry = Some(time);
        self
    }

    /// Keeps the acked position in a store, and continues there when the worker is started again. A saved
    /// checkpoint overrides every start point.
    pub fn checkpoint(mut self, store: impl CheckpointStore) -> Self {
        self.checkpoint = Some(Arc::new(store));
        self
    }

    /// The name of the checkpoint. If never called: the collection ("shop.orders"), the database ("shop"),
    /// or "*" for the deployment, whatever [`namespaces`](Self::namespaces) narrows it to. It must stay
    /// the same from run to run, and no other running worker may use it in the same store.
    pub fn checkpoint_name(self, name: &str) -> Self {
        self.option("checkpoint_name", name)
    }

    /// Save the checkpoint at most this often, in whole milliseconds.
    pub fn checkpoint_interval(self, time: Duration) -> Self {
        self.option("checkpoint_ms", &time.as_millis().to_string())
    }

    /// One of several workers of the same stream delivers, the others wait to take over. It needs the option
    /// `checkpoint_collection`: the lease lies in the checkpoint's document.
    pub fn standby(mut self, on: bool) -> Self {
        self.options.standby = on;
        self
    }

    /// How long a standby waits after it has heard of the worker that delivers for the last time, in whole milliseconds,
    /// 1 s to 600 s; 10 s if never called.
    pub fn lease(self, time: Duration) -> Self {
        self.option("lease_ms", &time.as_millis().to_string())
    }

    /// Whether the documents that exist are delivered before the stream.
    pub fn snapshot(mut self, mode: Snapshot) -> Self {
        self.options.snapshot = mode;
        self
    }

    /// What happens when the oplog no longer holds the point from which the stream is to go on.
    pub fn on_history_lost(mut self, policy: OnHistoryLost) -> Self {
        self.options.on_history_lost = policy;
        self
    }

    /// What happens when what is watched was dropped or renamed.
    pub fn on_invalidate(mut self, policy: OnInvalidate) -> Self {
        self.options.on_invalidate = policy;
        self
    }

    /// What happens with a change event that is larger than 16 MB.
    pub fn on_oversized(mut self, policy: OnOversized) -> Self {
        self.options.on_oversized = policy;
        self
    }

    /// Sets an option by its name, see [`OPTIONS`](crate::OPTIONS).
    pub fn option(self, name: &str, value: &str) -> Self {
        self.check(|options| options.set(name, value))
    }

    /// Replaces all options.
    pub fn options(mut self, options: &Options) -> Self {
        self.options = options.clone();
        self
    }

    /// The first mistake is the one that is reported.
    fn check(mut self, change: impl FnOnce(&mut Options) -> Result<()>) -> Self {
        if let Err(error) = change(&mut self.options) {
            self.mistake.get_or_insert(error);
        }
        self
    }

    /// Checks everything that can be checked without a server, and starts the worker. It connects on
    /// its own thread; what goes wrong there comes through the buffer.
    ///
    /// Keep a handle to the buffer: when the last one is dropped its workers stop.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Argument`] for a bad URI, name or option, [`ErrorKind::State`] for a closed
    /// buffer, [`ErrorKind::InUse`] if another worker uses the checkpoint, [`ErrorKind::Checkpoint`] if its
    /// store cannot be used, [`ErrorKind::Resource`] if the system gives no thread or descriptor.
    pub fn spawn(mut self, buffer: &Buffer) -> Result<Worker> {
        log::stderr::prepare();
        if let Some(mistake) = self.mistake {
            return Err(mistake);
        }
        let uri = Uri::parse(&self.uri)?;
        // Namespaces have their databases with them.
        let in_uri = (self.database.is_none() && self.options.namespaces.is_empty())
            .then(|| uri.database().map(str::to_owned))
            .flatten();
        if in_uri.is_some() {
            self.database.clone_from(&in_uri);
        }
        check_namespace(self.database.as_deref(), self.collection.as_deref())?;
        self.options.check()?;
        let database = self.database.as_deref();
        let collection = self.collection.as_deref();
        let namespaces = self.check_namespaces()?;

        let mut scope = Scope::new(database, collection, namespaces, &self.options);
        let name = self.options.name.clone().unwrap_or_else(|| scope.namespace());
        let identity = StreamIdentity::new(&scope, &self.options)?;
        let starts_at = self.starts_at(&identity)?;
        let deployment = Deployment::of(uri)?;
        let store = self.checkpoint_store(&deployment, &mut scope)?;
        let (leased, store) = match store {
            Some(Store::Leased(leased)) => {
                (Some(Arc::clone(&leased)), Some(leased as Arc<dyn CheckpointStore>))
            }
            Some(Store::Plain(store)) => (None, Some(store)),
            None => (None, None),
        };
        let lease = leased.as_ref().map(|leased| Arc::clone(leased.lease()));
        let ledger = Ledger::new(&name, self.options.style(), identity).with_lease(lease);
        let ledger = Arc::new(ledger);
        let control = Arc::new(Control::new(&ledger, scope.namespace()));
        let mut remarks = Vec::new();
        if let Some(database) = &in_uri {
            remarks.push((
                LogLevel::Info,
                format!("watches the database {database:?} of the URI's path, since no other one was given"),
            ));
        }
        for operation in self.options.unknown_operations() {
            remarks.push((
                LogLevel::Warn,
                format!(
                    "option operations has {operation:?}, which is no known operation type: if the server \
                     does not have it either, it never comes"
                ),
            ));
        }
        let checkpointer = match store {
            Some(store) => Some(Checkpointer::start(
                store,
                self.checkpoint_key(),
                self.options.checkpoint_interval,
                &ledger,
            )?),
            None => None,
        };
        // What is refused from here on must leave the checkpoint free for the next attempt.
        let release = || checkpointer.iter().for_each(Checkpointer::release);
        let queue = Arc::clone(buffer.queue());
        queue.attach(&control).inspect_err(|_| release())?;
        if let Some(lease) = &ledger.lease {
            let (queue, control) = (Arc::downgrade(&queue), Arc::downgrade(&control));
            lease.listen(move |lease| {
                if let (Some(Lost::Fenced(_)), Some(control)) = (lease.lost(), control.upgrade()) {
                    control.stop();
                }
                if let Some(queue) = queue.upgrade() {
                    queue.lease_changed();
                }
            });
        }
        let stream = Stream {
            deployment,
            scope,
            options: self.options,
            ledger,
            queue: Arc::clone(&queue),
            control: Arc::clone(&control),
            checkpointer: checkpointer.clone(),
            clock: Clock::start(),
            starts_at,
            leased,
            remarks,
        };
        let builder = std::thread::Builder::new().name("mongostream".to_owned());
        if let Err(error) = with_signals_blocked(|| builder.spawn(move || stream.run())) {
            queue.forget(&control);
            release();
            return Err(Error::new(
                ErrorKind::Resource,
                format!("cannot start a thread for worker {name}: {error}"),
            )
            .with_source(error)
            .retriable());
        }
        Ok(Worker::new(control, checkpointer))
    }

    /// The place that the option `start_at_position` names.
    fn starts_at(&self, stream: &StreamIdentity) -> Result<Option<Saved>> {
        let Some(text) = &self.options.start_at_position else { return Ok(None) };
        let place = stream.read_position(text).map_err(|reason| {
            Error::argument(format!(
                "option start_at_position: {reason}; give it the position of a message of the same stream, all of it"
            ))
        })?;
        Ok(Some(place))
    }

    /// Under which name the checkpoint is kept. By default what is watched, as it was given, without
    /// `namespaces`: were they a part of it, another list would not find the checkpoint and begin now, without
    /// a word. With this name the checkpoint is found, and refused where it does not fit.
    fn checkpoint_key(&self) -> String {
        self.options.checkpoint_name.clone().unwrap_or_else(|| self.watched())
    }

    /// What an error of a start may call the worker, before anything is known to be right.
    pub(crate) fn shown_name(&self) -> String {
        self.options.name.clone().unwrap_or_else(|| self.watched())
    }

    /// What is watched, as it was given, without `namespaces`.
    fn watched(&self) -> String {
        match (&self.database, &self.collection) {
            (Some(database), Some(collection)) => format!("{database}.{collection}"),
            (Some(database), None) => database.clone(),
            (None, _) => "*".to_owned(),
        }
    }

    fn check_namespaces(&self) -> Result<Option<Namespaces>> {
        let items = &self.options.namespaces;
        if items.is_empty() {
            return Ok(None);
        }
        if let Some(name) = &self.collection {
            return Err(Error::argument(format!(
                "option namespaces and the collection {name:?} exclude each other: name it among them"
            )));
        }
        Namespaces::new(self.database.as_deref(), items).map(Some)
    }

    /// The store that the options or [`checkpoint`](Self::checkpoint) ask for. Where it is a collection
    /// that the stream would see, the stream leaves it out.
    fn checkpoint_store(
        &self,
        deployment: &Arc<Deployment>,
        scope: &mut Scope,
    ) -> Result<Option<Store>> {
        let options = &self.options;
        let named = options.checkpoint_file.is_some() || options.checkpoint_collection.is_some();
        if named && self.checkpoint.is_some() {
            return Err(Error::argument("a checkpoint has one place, two are given"));
        }
        if let Some(path) = &options.checkpoint_file {
            return Ok(Some(Store::Plain(Arc::new(FileCheckpoint::new(path)))));
        }
        let Some(namespace) = &options.checkpoint_collection else {
            return Ok(self.checkpoint.clone().map(Store::Plain));
        };
        let home = match &options.checkpoint_uri {
            Some(uri) => Deployment::of(uri.clone())?,
            None => Arc::clone(deployment),
        };
        let store = CollectionCheckpoint::on(home, namespace)?;
        let (database, collection) = store.home().namespace();
        let watches_database = scope.database.as_deref().is_none_or(|name| name == database);
        if store.home().is_on(deployment) && watches_database {
            let (is_named, is_seen) = match (&scope.collection, &scope.namespaces) {
                (Some(name), _) => (name == collection, false),
                (None, Some(all)) => {
                    (all.lists(database, collection), all.has_patterns_in(database))
                }
                (None, None) => (false, true),
            };
            if is_named {
                return Err(Error::argument(format!(
                    "{namespace} is watched: its checkpoint cannot be in itself"
                )));
            }
            if is_seen {
                scope.leave_out(database, collection);
            }
        }
        Ok(Some(match options.standby {
            true => {
                let home = store.home().clone();
                Store::Leased(LeasedCheckpoint::new(home, self.checkpoint_key(), options.lease))
            }
            false => Store::Plain(Arc::new(store)),
        }))
    }
}

/// Where a worker's checkpoint lies.
enum Store {
    Plain(Arc<dyn CheckpointStore>),
    /// In a document that is a lease.
    Leased(Arc<LeasedCheckpoint>),
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the URI: it may hold a password.
        f.debug_struct("Watch")
            .field("database", &self.database)
            .field("collection", &self.collection)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_mistakes_the_first_is_told() {
        let watch = Worker::watch("mongodb://localhost")
            .option("batch_size", "none")
            .option("nonsense", "1");
        let error = watch.spawn(&Buffer::new(1)).map(drop).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("batch_size") && !text.contains("await_ms"), "{text}");
    }
}
