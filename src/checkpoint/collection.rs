//! A checkpoint in a collection.

use std::any::Any;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{DateTime, Document, doc};
use mongodb::error::Error as DriverError;
use mongodb::options::{Acknowledgment, ReadConcern, SelectionCriteria, WriteConcern};
use mongodb::sync::{Client, Collection};

use super::{CheckpointStore, StoreError};
use crate::client::Deployment;
use crate::error::{Error, ErrorKind, Result};
use crate::resume::{self, Phase};
use crate::uri::Uri;

/// Keeps checkpoints in a collection, one document for each name: `{_id: name, owner: id, checkpoint: text,
/// savedAt: date}`.
///
/// Written with majority, so that no election takes one back, and read from the primary with
/// majority. Within a process a name that is in use is refused. A worker of another process that
/// uses it takes it over at its start, since the one before may be dead; if that one lives after all, its
/// saves fail from then on, and nothing that the new one saves is overwritten.
#[derive(Clone)]
pub struct CollectionCheckpoint {
    deployment: Arc<Deployment>,
    database: String,
    collection: String,
    owner: ObjectId,
}

/// The key of the id of whoever took the checkpoint last.
const OWNER: &str = "owner";

impl CollectionCheckpoint {
    /// How long the server may take for one save.
    const DEADLINE: Duration = Duration::from_secs(5);

    /// The collection `database.collection` on the deployment at `uri`; it need not exist yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for a bad URI or namespace.
    pub fn new(uri: &str, namespace: &str) -> Result<Self> {
        Self::on(Deployment::of(Uri::parse(uri)?)?, namespace)
    }

    pub(crate) fn on(deployment: Arc<Deployment>, namespace: &str) -> Result<Self> {
        let Some((database, collection)) = namespace.split_once('.') else {
            return Err(Error::argument(format!(
                "{namespace:?} is no place for checkpoints: give it as database.collection"
            )));
        };
        crate::watch::check_namespace(Some(database), Some(collection))?;
        let (database, collection) = (database.to_owned(), collection.to_owned());
        Ok(Self { deployment, database, collection, owner: ObjectId::new() })
    }

    pub(crate) fn is_on(&self, deployment: &Arc<Deployment>) -> bool {
        Arc::ptr_eq(&self.deployment, deployment)
    }

    /// Database and collection.
    pub(crate) fn namespace(&self) -> (&str, &str) {
        (&self.database, &self.collection)
    }

    fn concern() -> WriteConcern {
        WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .w_timeout(Self::DEADLINE)
            .build()
    }

    fn collection(&self) -> Result<Collection<Document>, StoreError> {
        let (sender, made) = crossbeam_channel::bounded(1);
        let deployment = Arc::clone(&self.deployment);
        self.deployment.runtime().spawn(async move {
            let _ = sender.send(deployment.client().await);
        });
        let client = Client::from(made.recv()??);
        Ok(client.database(&self.database).collection(&self.collection))
    }

    /// Retriable where a worker would open its stream again.
    fn failure(&self, error: DriverError) -> StoreError {
        let error = self.deployment.failed(error);
        let failure = Error::new(ErrorKind::Checkpoint, resume::text_of(&error));
        let passes = resume::is_resumable(&error, Phase::Reopening, None);
        Box::new(if passes { failure.retriable() } else { failure })
    }
}

impl std::fmt::Debug for CollectionCheckpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CollectionCheckpoint").field(&self.place()).finish()
    }
}

/// A claim on a name, given up when dropped.
struct Claim(String);

static CLAIMS: Mutex<Option<HashSet<String>>> = Mutex::new(None);

impl Drop for Claim {
    fn drop(&mut self) {
        if let Some(claims) = &mut *CLAIMS.lock().unwrap_or_else(PoisonError::into_inner) {
            claims.remove(&self.0);
        }
    }
}

impl CheckpointStore for CollectionCheckpoint {
    fn place(&self) -> String {
        format!(
            "collection {}.{} on {}",
            self.database,
            self.collection,
            self.deployment.uri().shown()
        )
    }

    fn claim(&self, name: &str) -> Result<Box<dyn Any + Send>, StoreError> {
        let key = format!("{}\0{name}", self.place());
        let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
        if !claims.get_or_insert_default().insert(key.clone()) {
            return Err("another worker uses it".into());
        }
        Ok(Box::new(Claim(key)))
    }

    fn load(&self, name: &str) -> Result<Option<String>, StoreError> {
        let collection = self.collection()?;
        let found = collection
            .find_one(doc! { "_id": name })
            .read_concern(ReadConcern::majority())
            .selection_criteria(SelectionCriteria::ReadPreference(
                mongodb::options::ReadPreference::Primary,
            ))
            .run()
            .map_err(|error| self.failure(error))?;
        let text = match &found {
            Some(document)
                if !document.contains_key("checkpoint") && document.contains_key(OWNER) =>
            {
                None
            }
            Some(document) => Some(document.get_str("checkpoint")?.to_owned()),
            None => None,
        };
        collection
            .update_one(doc! { "_id": name }, doc! { "$set": { OWNER: self.owner } })
            .upsert(true)
            .write_concern(Self::concern())
            .run()
            .map_err(|error| self.failure(error))?;
        Ok(text)
    }

    fn save(&self, name: &str, text: &str) -> Result<(), StoreError> {
        let changes = doc! { "checkpoint": text, "savedAt": DateTime::now() };
        let updated = self
            .collection()?
            .update_one(doc! { "_id": name, OWNER: self.owner }, doc! { "$set": changes })
            .write_concern(Self::concern())
            .run()
            .map_err(|error| self.failure(error))?;
        if updated.matched_count == 0 {
            return Err(
                "another worker has taken it over, or it was removed: two workers must not use \
                        the same one"
                    .into(),
            );
        }
        Ok(())
    }
}
