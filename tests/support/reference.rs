//! The driver's own change stream, to compare with.

use ground::mongodb::bson::raw::RawDocumentBuf;
use ground::mongodb::bson::{Document, doc};
use ground::mongodb::change_stream::event::ResumeToken;
use ground::mongodb::options::ChangeStreamOptions;
use mongostream::{Message, Start};
use serde_json::Value;

use super::{collection, event};

/// The `_id` of the document whose insert ends what is compared: databases of other tests have others.
fn last_of(database: &str) -> String {
    format!("the last one of {database}")
}

/// What the driver watches.
#[derive(Clone, Copy)]
pub(crate) enum Scope {
    Database,
    Deployment,
}

/// Inserts what ends a comparison.
#[track_caller]
pub(crate) fn insert_last(database: &str, name: &str) {
    collection(database, name).insert_one(doc! { "_id": last_of(database) }).run().unwrap();
}

pub(crate) fn is_last(event: &Document, database: &str) -> bool {
    event
        .get_document("documentKey")
        .and_then(|key| key.get_str("_id"))
        .is_ok_and(|id| id == last_of(database))
}

/// What the driver reads behind `start`, up to the insert of the last document into this database.
#[track_caller]
pub(crate) fn driver_events(
    scope: Scope,
    database: &str,
    start: &Start,
    options: Option<ChangeStreamOptions>,
) -> Vec<Document> {
    let Start::StartAfter(token) = start else { panic!("{start:?} is no token") };
    let token: Value = serde_json::from_str(token).unwrap();
    let token: ResumeToken = serde_json::from_value(token).unwrap();
    let client = ground::shared().client();
    let handle = client.database(database);
    let watch = match scope {
        Scope::Database => handle.watch(),
        Scope::Deployment => client.watch(),
    };
    let stream = watch.with_options(options).start_after(token).run().unwrap();
    let mut events = Vec::new();
    for raw in stream.with_type::<RawDocumentBuf>() {
        events.push(Document::try_from(&raw.unwrap()).unwrap());
        if events.last().is_some_and(|event| is_last(event, database)) {
            break;
        }
    }
    events
}

/// What a worker's consumer holds, to compare with it.
#[track_caller]
pub(crate) fn events(messages: &[Message]) -> Vec<Document> {
    messages.iter().map(event).collect()
}
