//! The history of the checkpoint's document, from its own change stream.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use ground::mongodb::bson::{Bson, Document, RawDocument};
use mongostream::{Buffer, Worker};

use super::judge::{Judge, State};
use crate::Result;
use crate::report::now;

/// Follows it until it is dropped.
pub struct History {
    buffer: Buffer,
    thread: Option<JoinHandle<()>>,
}

impl History {
    /// Tells the judge of each state.
    ///
    /// # Errors
    ///
    /// If the stream cannot be opened.
    pub fn follow(uri: &str, namespace: &str, judge: &Arc<Mutex<Judge>>) -> Result<Self> {
        let (database, collection) = namespace.split_once('.').ok_or("no collection")?;
        let buffer = Buffer::new(10_000);
        let watch = Worker::watch(uri).database(database).collection(collection);
        let worker = watch.spawn(&buffer)?;
        worker.wait_ready_timeout(crate::plan::PATIENCE)?;
        let (judge, messages) = (Arc::clone(judge), buffer.clone());
        let thread = thread::spawn(move || {
            let mut document = Document::new();
            for message in messages.iter() {
                // A failure is told by what is missing.
                let Ok(message) = message else { break };
                if let Ok(event) = RawDocument::from_bytes(message.bson())
                    && let Ok(event) = Document::try_from(event)
                {
                    apply(&mut document, &event);
                    judge.lock().expect("no panic").saw(now(), state(&document));
                }
            }
            drop(worker);
        });
        Ok(Self { buffer, thread: Some(thread) })
    }
}

impl Drop for History {
    fn drop(&mut self) {
        self.buffer.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn apply(document: &mut Document, event: &Document) {
    if let Ok(whole) = event.get_document("fullDocument") {
        *document = whole.clone();
    }
    if let Ok(changes) = event.get_document("updateDescription") {
        let updated = changes.get_document("updatedFields");
        document.extend(updated.into_iter().flatten().map(|(k, v)| (k.clone(), v.clone())));
        for removed in changes.get_array("removedFields").into_iter().flatten() {
            removed.as_str().map(|name| document.remove(name));
        }
    }
}

fn state(document: &Document) -> State {
    let text = document.get_str("checkpoint").unwrap_or_default();
    let text: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    State {
        owner: match document.get("owner") {
            Some(Bson::ObjectId(owner)) => Some(owner.to_hex()),
            _ => None,
        },
        term: document.get_i64("term").unwrap_or_default(),
        holder: document.get_str("holder").unwrap_or_default().to_owned(),
        token: text["token"]["_data"].as_str().map(str::to_owned),
    }
}
