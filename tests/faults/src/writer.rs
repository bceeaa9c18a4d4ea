//! Who writes: documents with a finite life, a few hundred versions a second, each acknowledged by a
//! majority before the next one of the same document.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::{Client, Collection};
use tokio::time::{sleep, timeout};

use crate::consumer::{COLLECTION, DATABASE};
use crate::random::Random;
use crate::referee::{Referee, Write};
use crate::report::{DELETED, Key, now};
use crate::{Context, Result};

/// Where documents live. The first one, which has a worker of its own, gets half of them.
const COLLECTIONS: [&str; 4] = [COLLECTION, "customers", COLLECTION, "parcels"];
/// How many write at the same time.
const WRITERS: u64 = 4;
/// The time from one write of one of them to its next.
const PACE: Duration = Duration::from_millis(11);
/// How long a write may take: a frozen server would keep it for ever.
const PATIENCE: Duration = Duration::from_secs(2);
/// The size of most events in bytes, and so of the replies that a proxy cuts.
pub const EVENT: usize = 1500;

/// Writes until it is dropped.
pub struct Writer {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts writing, and tells the referee.
    ///
    /// # Errors
    ///
    /// If there is no thread or no client.
    pub fn start(uri: &str, seed: u64, referee: &Arc<Mutex<Referee>>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(Client::with_uri_str(uri))?;
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let hands: Vec<Hand> = (0..WRITERS)
            .map(|number| Hand {
                client: client.clone(),
                random: Random::new(seed ^ (number << 32)),
                next: i64::try_from(number << 32).unwrap_or(0),
                alive: Vec::new(),
                referee: Arc::clone(referee),
                stop: Arc::clone(&stop),
                acknowledged: Arc::clone(&acknowledged),
            })
            .collect();
        let work = move || {
            runtime.block_on(async {
                let hands: Vec<_> =
                    hands.into_iter().map(|hand| tokio::spawn(hand.work())).collect();
                for hand in hands {
                    // One that panics is missed by `wait_for_more`.
                    let _ = hand.await;
                }
            });
            runtime.shutdown_background();
        };
        let thread = Some(thread::Builder::new().name("writer".into()).spawn(work)?);
        Ok(Self { stop, acknowledged, thread })
    }

    /// Waits for so many further writes that are acknowledged.
    ///
    /// # Errors
    ///
    /// If the set takes too few writes for a minute.
    pub fn wait_for_more(&self, count: u64) -> Result<()> {
        let goal = self.acknowledged.load(Relaxed) + count;
        let written = || (self.acknowledged.load(Relaxed) >= goal).then_some(());
        crate::wait_for(Duration::from_secs(60), "the set takes writes", written)
    }

    /// Stops writing; when this returns, the referee knows all that was acknowledged.
    pub fn stop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A document that lives.
struct Living {
    document: i64,
    version: u32,
    last: u32,
    collection: &'static str,
}

struct Hand {
    client: Client,
    random: Random,
    next: i64,
    alive: Vec<Living>,
    referee: Arc<Mutex<Referee>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Hand {
    async fn work(mut self) {
        const ALIVE: u64 = 12;
        while !self.stop.load(Relaxed) {
            let began = Instant::now();
            let chosen = usize::try_from(self.random.below(ALIVE)).unwrap_or(0);
            if chosen >= self.alive.len() {
                self.next += 1;
                let (document, collection) = (self.next, self.random.one_of(&COLLECTIONS));
                let last = 1 + u32::try_from(self.random.below(8)).unwrap_or(0);
                self.alive.push(Living { document, version: 0, last, collection });
            }
            let chosen = chosen.min(self.alive.len() - 1);
            let replace = self.random.below(4) == 0;
            match timeout(PATIENCE, self.write(&self.alive[chosen], replace)).await {
                Ok(Ok(Some(key))) => {
                    let collection = self.alive[chosen].collection;
                    let write = Write { key, collection, at: now() };
                    self.referee.lock().expect("no panic").wrote(write);
                    self.acknowledged.fetch_add(1, Relaxed);
                    if key.version == DELETED {
                        self.alive.swap_remove(chosen);
                    } else {
                        self.alive[chosen].version += 1;
                    }
                }
                // Nothing was there to change: somebody has dropped the collection.
                Ok(Ok(None)) => drop(self.alive.swap_remove(chosen)),
                // It may have happened, and may still happen, so no other version may follow.
                Ok(Err(_)) | Err(_) => {
                    self.alive.swap_remove(chosen);
                    sleep(PACE).await;
                }
            }
            sleep(PACE.saturating_sub(began.elapsed())).await;
        }
    }

    /// Makes the next version; `None` if the document is gone.
    async fn write(
        &self,
        living: &Living,
        replace: bool,
    ) -> ground::mongodb::error::Result<Option<Key>> {
        let Living { document, version, last, collection } = *living;
        let collection: Collection<Document> =
            self.client.database(DATABASE).collection(collection);
        let this = doc! { "_id": document };
        let v = i32::try_from(version).unwrap_or(0);
        let whole = doc! { "_id": document, "v": v, "text": "x".repeat(EVENT) };
        let found = if version == 0 {
            collection.insert_one(whole).await?;
            1
        } else if version > last {
            collection.delete_one(this).await?.deleted_count
        } else if replace {
            collection.replace_one(this, whole).await?.matched_count
        } else {
            let change = doc! { "$set": { "v": v } };
            collection.update_one(this, change).await?.matched_count
        };
        let version = if version > last { DELETED } else { version };
        Ok((found == 1).then_some(Key { document, version }))
    }
}

/// The writer's URI: with errors soon instead of patience.
#[must_use]
pub fn uri(set: &ground::ReplicaSet) -> String {
    set.uri_with(
        "appName=writer&w=majority&journal=true&retryWrites=true&serverSelectionTimeoutMS=2000\
         &heartbeatFrequencyMS=500&connectTimeoutMS=2000",
    )
}

/// Runs a command on the primary, whoever that is, until it is acknowledged.
///
/// # Errors
///
/// If it is not within a minute.
pub fn command(set: &ground::ReplicaSet, database: &str, command: &Document) -> Result<Document> {
    let mut last = String::new();
    let end = Instant::now() + Duration::from_secs(60);
    while Instant::now() < end {
        let primary = set.wait_for_primary(Duration::from_secs(30)).context("no primary")?;
        let client = set.member(primary).client();
        match client.database(database).run_command(command.clone()).run() {
            Ok(reply) => return Ok(reply),
            Err(error) => last = error.to_string(),
        }
        thread::sleep(Duration::from_millis(50));
    }
    Err(format!("the set does not take {command}: {last}").into())
}
