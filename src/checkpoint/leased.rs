//! A checkpoint whose document is a lease: one worker has it, and a standby takes over when that one is gone.
//!
//! The document is that of a [`CollectionCheckpoint`](crate::CollectionCheckpoint), with the lease's keys:
//!
//! ```text
//! {_id: name, owner: id, checkpoint: text, savedAt: date,
//!  term: long, expires: date, holder: "host:process", takenAt: date}
//! ```
//!
//! Only the server's clock decides whether a lease has expired (`$$NOW`, MongoDB 4.2). Whatever the holder writes names
//! owner and term, so that a former holder changes nothing. Each write goes to most of the members, so that no election
//! takes a lease back.

use std::any::Any;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bson::oid::ObjectId;
use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use crossbeam_channel::{Receiver, bounded, select};
use mongodb::error::Result as DriverResult;
use mongodb::options::{ReturnDocument, UpdateModifications};
use mongodb::results::UpdateResult;

use crate::checkpoint::home::{Documents, Home, is_duplicate, read};
use crate::checkpoint::lease::{Lease, Lost, Seen};
use crate::checkpoint::store::CheckpointStore;
use crate::checkpoint::store_error::StoreError;
use crate::clock::boot_time;
use crate::gate::Gate;

const OWNER: &str = "owner";
const TEXT: &str = "checkpoint";
const TERM: &str = "term";
const EXPIRES: &str = "expires";
const HOLDER: &str = "holder";
const TAKEN_AT: &str = "takenAt";

/// The store of one worker that has a standby.
pub(crate) struct LeasedCheckpoint {
    home: Home,
    name: String,
    owner: ObjectId,
    lease: Arc<Lease>,
    taken: Arc<Mutex<Taken>>,
}

/// What is known since the lease was taken.
#[derive(Clone, Debug, Default)]
struct Taken {
    term: Option<i64>,
    /// The text that was there.
    text: Option<String>,
}

/// What came of an attempt to take the lease.
pub(crate) enum Attempt {
    Taken,
    /// Somebody else has it.
    Held(Seen),
    /// The worker was asked to stop.
    Stopped,
}

impl LeasedCheckpoint {
    pub(crate) fn new(home: Home, name: String, length: Duration) -> Arc<Self> {
        let (owner, lease) = (ObjectId::new(), Arc::new(Lease::new(length)));
        Arc::new(Self { home, name, owner, lease, taken: Arc::default() })
    }

    /// Name and place, for messages.
    pub(crate) fn what(&self) -> String {
        format!("checkpoint {:?} in {}", self.name, self.home.place())
    }

    pub(crate) fn lease(&self) -> &Arc<Lease> {
        &self.lease
    }

    /// How long a standby waits before it looks again: an orderly end is noticed soon, and to look is a read of one
    /// document.
    pub(crate) fn pause(&self) -> Duration {
        (self.lease.length() / 12).clamp(Duration::from_millis(20), Duration::from_millis(250))
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn terms(&self) -> Terms {
        Terms {
            name: self.name.clone(),
            owner: self.owner,
            term: self.taken().term.unwrap_or_default(),
            length: self.lease.length(),
        }
    }

    /// Takes the lease if it is free or has expired.
    pub(crate) fn attempt(&self, stop: &Gate) -> Result<Attempt, StoreError> {
        let (sender, answer) = bounded(1);
        let (home, terms) = (self.home.clone(), self.terms());
        self.home.spawn(async move {
            let attempt = take(&home, &terms).await;
            if let Err(unheard) = sender.send(attempt)
                && let Ok(Answer::Taken { term, .. }) = unheard.into_inner()
            {
                // Nobody waits for it any more.
                let _ = release(&home, &Terms { term, ..terms }).await;
            }
        });
        let answer = select! {
            recv(answer) -> answer => received(answer),
            recv(stop.opened()) -> _ => return Ok(Attempt::Stopped),
        };
        match answer? {
            Answer::Held(seen) => {
                self.lease.sees(seen.clone());
                Ok(Attempt::Held(seen))
            }
            Answer::Taken { term, text, seen, sent } => {
                *self.taken() = Taken { term: Some(term), text };
                self.lease.sees(seen);
                self.lease.held(sent);
                self.keep();
                Ok(Attempt::Taken)
            }
        }
    }

    /// Renews the lease until it is gone.
    fn keep(&self) {
        let (home, terms, lease) = (self.home.clone(), self.terms(), Arc::clone(&self.lease));
        self.home.spawn(async move {
            while lease.lost().is_none() {
                let wait = lease.renews_at().saturating_sub(boot_time());
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                    continue;
                }
                let sent = boot_time();
                match renew(&home, &terms, None).await {
                    Ok(true) => lease.held(sent),
                    Ok(false) => lease.ends(fenced(&home, &terms.name).await),
                    // The next try is soon: a lease that is not renewed stops its holder.
                    Err(_) => tokio::time::sleep(terms.length / 30).await,
                }
            }
        });
    }
}

/// Who claims what.
#[derive(Clone)]
struct Terms {
    name: String,
    owner: ObjectId,
    term: i64,
    length: Duration,
}

impl Terms {
    /// Matches for as long as nobody else has taken it.
    fn ours(&self) -> Document {
        doc! { "_id": &self.name, OWNER: self.owner, TERM: self.term }
    }

    /// When a lease ends that is taken or renewed now.
    fn end(&self) -> Document {
        doc! { "$add": ["$$NOW", self.length.as_millis() as i64] }
    }
}

enum Answer {
    Taken { term: i64, text: Option<String>, seen: Seen, sent: Duration },
    Held(Seen),
}

/// How this process calls itself in the document, for those who look for it.
fn holder() -> String {
    #[cfg(unix)]
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    #[cfg(not(unix))]
    let host = std::env::var("COMPUTERNAME").ok();
    format!("{}:{}", host.unwrap_or_else(|| "unknown".to_owned()), std::process::id())
}

/// What an update does: each value is computed from the document as it was.
fn set(changes: Document) -> UpdateModifications {
    UpdateModifications::Pipeline(vec![doc! { "$set": changes }])
}

fn seen(document: &Document, owner: &ObjectId) -> Seen {
    Seen {
        holder: document.get_str(HOLDER).unwrap_or("a worker without standby").to_owned(),
        term: document.get_i64(TERM).unwrap_or_default(),
        since: document.get_datetime(TAKEN_AT).map_or(0, |date| date.timestamp_millis()),
        is_own: document.get_object_id(OWNER).is_ok_and(|found| found == *owner),
    }
}

/// Whether the lease is free, as an expression.
fn is_free(owner: &ObjectId) -> Document {
    let expires = doc! { "$ifNull": [format!("${EXPIRES}"), DateTime::from_millis(0)] };
    doc! { "$or": [{ "$lte": [expires, "$$NOW"] }, { "$eq": [format!("${OWNER}"), owner] }] }
}

/// Takes the lease if it is free. A look comes first: a standby only reads.
async fn take(home: &Home, terms: &Terms) -> Result<Answer, StoreError> {
    let Terms { name, owner, .. } = terms.clone();
    let look = vec![
        doc! { "$match": { "_id": &name } },
        doc! { "$project": {
            OWNER: 1, TERM: 1, HOLDER: 1, TAKEN_AT: 1, "isFree": is_free(&owner),
        } },
    ];
    let found = home
        .clone()
        .request(None, async |collection| {
            let mut found = collection.aggregate(look).with_type::<RawDocumentBuf>().await?;
            match found.advance().await? {
                true => Ok(Some(Document::try_from(found.current())?)),
                false => Ok(None),
            }
        })
        .await?;
    if let Some(found) = found
        && !found.get_bool("isFree").unwrap_or_default()
    {
        return Ok(Answer::Held(seen(&found, &owner)));
    }
    let mut taken = try_to_take(home, terms).await?;
    if taken.is_none() {
        // Two have inserted it at once.
        taken = try_to_take(home, terms).await?;
    }
    taken.ok_or_else(|| format!("the document with _id {name:?} is no checkpoint").into())
}

/// `None` if something else is there than a checkpoint, or if somebody has inserted it just now.
async fn try_to_take(home: &Home, terms: &Terms) -> Result<Option<Answer>, StoreError> {
    let owner = terms.owner;
    // What is no checkpoint does not match, and the document that is then to be inserted has its `_id`.
    let claimed = doc! { OWNER: { "$exists": true }, TEXT: { "$exists": false } };
    let ours = doc! { "_id": &terms.name, "$or": [{ TEXT: { "$type": "string" } }, claimed] };
    let free = is_free(&owner);
    let change = |key: &str, value: Bson| {
        doc! { "$cond": [free.clone(), value, format!("${key}")] }
    };
    let next = doc! { "$add": [{ "$ifNull": [format!("${TERM}"), 0_i64] }, 1_i64] };
    let changes = set(doc! {
        OWNER: change(OWNER, owner.into()),
        TERM: change(TERM, next.into()),
        EXPIRES: change(EXPIRES, terms.end().into()),
        HOLDER: change(HOLDER, doc! { "$literal": holder() }.into()),
        TAKEN_AT: change(TAKEN_AT, "$$NOW".into()),
    });
    let sent = boot_time();
    let after = home
        .clone()
        .request(None, async |collection| {
            let after = collection
                .find_one_and_update(ours, changes)
                .upsert(true)
                .return_document(ReturnDocument::After)
                .write_concern(Home::concern())
                .await;
            match after {
                Err(error) if is_duplicate(&error) => Ok(None),
                after => read(after?),
            }
        })
        .await?;
    Ok(after.map(|after| {
        let seen = seen(&after, &owner);
        match seen.is_own {
            true => Answer::Taken {
                term: seen.term,
                text: after.get_str(TEXT).ok().map(str::to_owned),
                seen,
                sent,
            },
            false => Answer::Held(seen),
        }
    }))
}

/// Renews the lease, and saves a text. False if somebody else has it. A document that is gone is written again.
async fn renew(home: &Home, terms: &Terms, text: Option<&str>) -> Result<bool, StoreError> {
    let mut changes = doc! {
        EXPIRES: terms.end(),
        HOLDER: { "$literal": holder() },
        TAKEN_AT: { "$ifNull": [format!("${TAKEN_AT}"), "$$NOW"] },
    };
    if let Some(text) = text {
        changes.insert(TEXT, doc! { "$literal": text });
        changes.insert("savedAt", "$$NOW");
    }
    let limit = text.is_none().then_some(terms.length / 3);
    let updated = update(home, terms, changes, limit, true).await?;
    Ok(updated.is_some_and(|updated| updated.matched_count > 0 || updated.upserted_id.is_some()))
}

/// Gives the lease back, so that a standby takes it at once.
async fn release(home: &Home, terms: &Terms) -> Result<(), StoreError> {
    // Without an owner a renewal that is on its way changes nothing.
    let changes = doc! { EXPIRES: "$$NOW", OWNER: Bson::Null };
    update(home, terms, changes, Some(terms.length / 3), false).await.map(drop)
}

/// `None` if somebody else has it.
async fn update(
    home: &Home,
    terms: &Terms,
    changes: Document,
    limit: Option<Duration>,
    inserts: bool,
) -> Result<Option<UpdateResult>, StoreError> {
    let ours = terms.ours();
    let work = async |collection: Documents| -> DriverResult<Option<UpdateResult>> {
        let update = collection.update_one(ours, set(changes)).upsert(inserts);
        match update.write_concern(Home::concern()).await {
            Err(error) if is_duplicate(&error) => Ok(None),
            updated => updated.map(Some),
        }
    };
    home.clone().request(limit, work).await
}

/// Why the lease is gone.
async fn fenced(home: &Home, name: &str) -> Lost {
    let own = doc! { "_id": name };
    let found =
        home.clone().request(None, async |collection| read(collection.find_one(own).await?));
    let text = match found.await {
        Ok(Some(found)) => {
            let Seen { holder, term, .. } = seen(&found, &ObjectId::new());
            format!("{holder} has taken its lease over (term {term})")
        }
        _ => "somebody else has taken its lease over".to_owned(),
    };
    Lost::Fenced(text)
}

fn received<T, E>(answer: Result<Result<T, StoreError>, E>) -> Result<T, StoreError> {
    answer.unwrap_or_else(|_| {
        Err("the task that asks the server is gone; please report this bug".into())
    })
}

/// Held while the worker may still save. The lease is given back with it.
struct Guard {
    home: Home,
    lease: Arc<Lease>,
    taken: Arc<Mutex<Taken>>,
    terms: Terms,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let term = self.taken.lock().unwrap_or_else(PoisonError::into_inner).term;
        let is_held = term.is_some() && self.lease.lost().is_none();
        self.lease.ends(Lost::Released);
        let Some(term) = term.filter(|_| is_held) else { return };
        let (home, terms) = (self.home.clone(), Terms { term, ..self.terms.clone() });
        let (sender, done): (_, Receiver<()>) = bounded(1);
        self.home.spawn(async move {
            let _ = release(&home, &terms).await;
            drop(sender);
        });
        // The process may end next; then the standby would have to wait until the lease expires.
        let _ = done.recv_timeout(Duration::from_millis(500));
    }
}

impl CheckpointStore for LeasedCheckpoint {
    fn place(&self) -> String {
        self.home.place()
    }

    /// The lease decides who has the name, in this process too.
    fn claim(&self, _: &str) -> Result<Box<dyn Any + Send>, StoreError> {
        Ok(Box::new(Guard {
            home: self.home.clone(),
            lease: Arc::clone(&self.lease),
            taken: Arc::clone(&self.taken),
            terms: self.terms(),
        }))
    }

    fn load(&self, _: &str) -> Result<Option<String>, StoreError> {
        Ok(self.taken().text.clone())
    }

    fn save(&self, _: &str, text: &str) -> Result<(), StoreError> {
        let (sender, answer) = bounded(1);
        let (home, terms, text) = (self.home.clone(), self.terms(), text.to_owned());
        let sent = boot_time();
        self.home.spawn(async move {
            let is_ours = renew(&home, &terms, Some(&text)).await;
            let lost = match is_ours {
                Ok(false) => Some(fenced(&home, &terms.name).await),
                _ => None,
            };
            drop(sender.send(is_ours.map(|_| lost)));
        });
        match received(answer.recv())? {
            None => self.lease.held(sent),
            Some(lost) => self.lease.ends(lost),
        }
        match self.lease.lost() {
            Some(Lost::Fenced(text)) => Err(text.as_str().into()),
            Some(Lost::Released) | None => Ok(()),
        }
    }
}
