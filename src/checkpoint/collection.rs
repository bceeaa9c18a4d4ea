//! A checkpoint in a collection.

use std::any::Any;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, doc};
use mongodb::options::ReturnDocument;

use crate::checkpoint::home::{Home, is_duplicate, read};
use crate::checkpoint::store::CheckpointStore;
use crate::checkpoint::store_error::StoreError;
use crate::error::Result;
use crate::options::uri::Uri;
use crate::source::client::Deployment;

/// Keeps checkpoints in a collection, one document for each name: `{_id: name, owner: id, checkpoint: text,
/// savedAt: date}`.
///
/// Each is written with write concern majority, so that no election takes it back. Within a process a name
/// that is in use is refused. A worker of another process that uses it takes it over at its start, since
/// the one before may be dead; if that one lives after all, its saves fail from then on, and nothing that
/// the new one saves is overwritten. If the document is gone (a dropped collection or database) the worker
/// that had it last writes it again.
#[derive(Clone)]
pub struct CollectionCheckpoint {
    home: Home,
    owner: ObjectId,
    names: Arc<Mutex<HashMap<String, Known>>>,
}

/// What is known of a name that was claimed.
#[derive(Default)]
struct Known {
    /// Who had it before.
    before: Option<Bson>,
    /// A text was there once.
    was_there: bool,
    /// It was not, when it was saved last.
    had_vanished: bool,
    /// Somebody else has it now.
    is_lost: bool,
}

/// The key of the id of whoever took the checkpoint last.
const OWNER: &str = "owner";
/// The key of what was saved.
const TEXT: &str = "checkpoint";

impl CollectionCheckpoint {
    /// The collection `database.collection` on the deployment at `uri`; it need not exist yet.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for a bad URI or namespace.
    pub fn new(uri: &str, namespace: &str) -> Result<Self> {
        Self::on(Deployment::of(Uri::parse(uri)?)?, namespace)
    }

    pub(crate) fn on(deployment: Arc<Deployment>, namespace: &str) -> Result<Self> {
        let home = Home::new(deployment, namespace)?;
        Ok(Self { home, owner: ObjectId::new(), names: Arc::default() })
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    fn known<T>(&self, name: &str, change: impl FnOnce(&mut Known) -> T) -> T {
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        change(names.entry(name.to_owned()).or_default())
    }

    /// Takes a name over; gives what was there before. `None` if something else is there than a
    /// checkpoint, or if another worker did the same just now.
    fn take_over(&self, name: &str) -> Result<Option<Option<Document>>, StoreError> {
        // What is no checkpoint does not match, and the document that is then to be inserted has its
        // `_id`.
        let claimed = doc! { OWNER: { "$exists": true }, TEXT: { "$exists": false } };
        let ours = doc! { "_id": name, "$or": [{ TEXT: { "$type": "string" } }, claimed] };
        let change = doc! { "$set": { OWNER: self.owner } };
        self.home.ask(async move |collection| {
            let before = collection
                .find_one_and_update(ours, change)
                .upsert(true)
                .return_document(ReturnDocument::Before)
                .write_concern(Home::concern())
                .await;
            match before {
                Err(error) if is_duplicate(&error) => Ok(None),
                before => read(before?).map(Some),
            }
        })
    }
}

impl std::fmt::Debug for CollectionCheckpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("CollectionCheckpoint").field(&self.place()).finish()
    }
}

/// A claim on a name, given up when dropped.
struct NameInUse(String);

static CLAIMS: Mutex<Option<HashSet<String>>> = Mutex::new(None);

impl Drop for NameInUse {
    fn drop(&mut self) {
        if let Some(claims) = &mut *CLAIMS.lock().unwrap_or_else(PoisonError::into_inner) {
            claims.remove(&self.0);
        }
    }
}

impl CheckpointStore for CollectionCheckpoint {
    fn place(&self) -> String {
        self.home.place()
    }

    fn claim(&self, name: &str) -> Result<Box<dyn Any + Send>, StoreError> {
        let key = format!("{}\0{name}", self.place());
        let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
        if !claims.get_or_insert_default().insert(key.clone()) {
            return Err(StoreError::in_use(
                "another worker uses it; give each worker a checkpoint_name of its own",
            ));
        }
        drop(claims);
        self.known(name, |known| *known = Known::default());
        Ok(Box::new(NameInUse(key)))
    }

    fn load(&self, name: &str) -> Result<Option<String>, StoreError> {
        let mut before = self.take_over(name)?;
        if before.is_none() {
            before = self.take_over(name)?;
        }
        let Some(before) = before else {
            return Err(format!("the document with _id {name:?} is no checkpoint").into());
        };
        let Some(mut before) = before else { return Ok(None) };
        let text = before.get_str(TEXT).ok().map(str::to_owned);
        self.known(name, |known| {
            known.before = before.remove(OWNER);
            known.was_there = text.is_some();
        });
        Ok(text)
    }

    fn save(&self, name: &str, text: &str) -> Result<(), StoreError> {
        let own = doc! { "_id": name, OWNER: self.owner };
        let changes = doc! { "$set": { TEXT: text, "savedAt": DateTime::now() } };
        // If the document is gone nobody has it, and this inserts it again. If another worker has it, the insert
        // fails. Whoever has lost it once does not win it back in this way.
        let inserts = !self.known(name, |known| known.is_lost);
        let is_ours = self.home.ask(async move |collection| {
            let update = collection.update_one(own, changes).upsert(inserts);
            match update.write_concern(Home::concern()).await {
                Err(error) if is_duplicate(&error) => Ok(None),
                Ok(updated) if updated.upserted_id.is_some() => Ok(Some(false)),
                Ok(updated) if updated.matched_count == 0 => Ok(None),
                updated => updated.map(|_| Some(true)),
            }
        })?;
        self.known(name, |known| {
            let Some(was_there) = is_ours else {
                known.is_lost = true;
                return Err(
                    "another worker has taken it over: two workers must not use the same one"
                        .into(),
                );
            };
            known.had_vanished = known.was_there && !was_there;
            (known.was_there, known.is_lost) = (true, false);
            Ok(())
        })
    }

    fn give_back(&self, name: &str) -> Result<(), StoreError> {
        let Some(before) = self.known(name, |known| known.before.take()) else { return Ok(()) };
        let own = doc! { "_id": name, OWNER: self.owner };
        let change = doc! { "$set": { OWNER: before } };
        self.home.ask(async move |collection| {
            collection.update_one(own, change).write_concern(Home::concern()).await.map(drop)
        })
    }

    fn remark(&self, name: &str) -> Option<String> {
        let vanished = self.known(name, |known| std::mem::take(&mut known.had_vanished));
        vanished.then(|| "it had vanished, and is written again".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nobody listens there, and nobody is asked.
    fn deployment(name: &str) -> Arc<Deployment> {
        let uri = format!("mongodb://somebody:secret@127.0.0.1:1/?appName={name}");
        Deployment::of(Uri::parse(&uri).unwrap()).unwrap()
    }

    fn store(name: &str) -> CollectionCheckpoint {
        CollectionCheckpoint::on(deployment(name), "state.checkpoints.a").unwrap()
    }

    #[test]
    fn a_store_says_where_it_is_and_no_password() {
        let store = store("where");
        assert_eq!(store.home().namespace(), ("state", "checkpoints.a"));
        assert_eq!(store.place(), "collection state.checkpoints.a on mongodb://127.0.0.1:1");
        let shown = format!("{store:?}");
        assert!(shown.contains("state.checkpoints.a") && !shown.contains("secret"), "{shown}");
        for namespace in ["", "state", ".a", "state.", "st ate.a"] {
            let refused = CollectionCheckpoint::on(deployment("where"), namespace);
            assert!(refused.is_err(), "{namespace:?}");
        }
        assert!(CollectionCheckpoint::new("nonsense", "state.checkpoints").is_err());
    }

    #[test]
    fn a_store_knows_its_own_deployment() {
        let (here, there) = (deployment("here"), deployment("there"));
        let store = CollectionCheckpoint::on(Arc::clone(&here), "state.checkpoints").unwrap();
        assert!(store.home().is_on(&here) && !store.home().is_on(&there));
    }

    #[test]
    fn a_name_has_one_worker_at_a_time_in_one_place() {
        let (first, second) = (store("claims"), store("claims"));
        let claim = first.claim("orders").unwrap();
        assert!(second.claim("orders").err().is_some_and(|error| error.is_in_use()));
        assert!(second.claim("items").is_ok());
        drop(claim);
        assert!(second.claim("orders").is_ok());
    }
}
