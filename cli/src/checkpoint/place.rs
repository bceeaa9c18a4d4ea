//! Where checkpoints lie: a file, or a collection.

use std::path::PathBuf;
use std::time::Duration;

use bson::{Bson, DateTime, Document, doc};
use mongodb::error::Result as DriverResult;
use mongodb::options::{Acknowledgment, ClientOptions, WriteConcern};
use mongodb::sync::{Client, Collection};
use mongostream::{CheckpointStore, CollectionCheckpoint, FileCheckpoint};

use crate::ask::within;
use crate::checkpoint::saved::Checkpoint;
use crate::failure::Failure;

/// How long a server is looked for.
const SELECTION: Duration = Duration::from_secs(5);
/// How long a question to a collection may take in all.
const PATIENCE: Duration = Duration::from_secs(20);

/// A place of checkpoints.
pub(crate) enum Place {
    /// It has one.
    File(PathBuf),
    Collection {
        uri: String,
        database: String,
        collection: String,
    },
}

/// What lies under a name: the text, and when it was saved.
pub(crate) struct Found {
    pub(crate) name: String,
    /// None where a worker has taken the name and saved nothing yet.
    pub(crate) text: Option<String>,
    pub(crate) saved_at: Option<DateTime>,
}

impl Place {
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if !text.starts_with("mongodb://") && !text.starts_with("mongodb+srv://") {
            return match text {
                "" => {
                    Err(Failure::usage("an empty PLACE: give a file, or URI#DATABASE.COLLECTION"))
                }
                path => Ok(Self::File(PathBuf::from(path))),
            };
        }
        let Some((uri, namespace)) = text.rsplit_once('#') else {
            return Err(Failure::usage(
                "the PLACE is a URI without a collection: give it as URI#DATABASE.COLLECTION",
            ));
        };
        // It looks at the URI and the names, and asks nobody.
        CollectionCheckpoint::new(uri, namespace)?;
        let (database, collection) = namespace.split_once('.').unwrap_or_default();
        let (uri, database) = (uri.to_owned(), database.to_owned());
        Ok(Self::Collection { uri, database, collection: collection.to_owned() })
    }

    /// The library's store of it.
    pub(crate) fn store(&self) -> Result<Box<dyn CheckpointStore>, Failure> {
        Ok(match self {
            Self::File(path) => Box::new(FileCheckpoint::new(path)),
            Self::Collection { uri, database, collection } => {
                Box::new(CollectionCheckpoint::new(uri, &format!("{database}.{collection}"))?)
            }
        })
    }

    /// For messages: without credentials.
    pub(crate) fn shown(&self) -> String {
        self.store().map_or_else(|_| "the place".to_owned(), |store| store.place())
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }

    /// What lies there, under this name or all of it. It reads and takes nothing over.
    pub(crate) fn read(&self, name: Option<&str>) -> Result<Vec<Found>, Failure> {
        match self {
            Self::File(path) => {
                let text = match std::fs::read_to_string(path) {
                    Ok(text) => text,
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                        return Ok(vec![]);
                    }
                    Err(error) => return Err(self.unread(&error)),
                };
                let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
                let saved_at = modified.ok().map(DateTime::from_system_time);
                let its_name =
                    Checkpoint::parse(&text).map_err(|reason| self.unread(&reason))?.name;
                if let Some(name) = name.filter(|name| *name != its_name) {
                    return Err(Failure::failed(format!(
                        "{}: it has the checkpoint {its_name:?}, not {name:?}; give the right name or none",
                        self.shown()
                    )));
                }
                Ok(vec![Found { name: its_name, text: Some(text), saved_at }])
            }
            Self::Collection { .. } => {
                let filter = name.map_or_else(Document::new, |name| doc! { "_id": name });
                let documents = self.ask(move |collection| {
                    collection
                        .find(filter)
                        .sort(doc! { "_id": 1 })
                        .run()?
                        .collect::<DriverResult<Vec<_>>>()
                })?;
                Ok(documents.into_iter().filter_map(found).collect())
            }
        }
    }

    /// The one that lies there under this name, with its text.
    pub(crate) fn read_one(&self, name: Option<&str>) -> Result<(Found, Checkpoint), Failure> {
        if name.is_none() && !self.is_file() {
            return Err(Failure::usage("a collection has many checkpoints: give the NAME of one"));
        }
        let found = self.read(name)?.into_iter().next();
        let Some(found) = found else {
            let named = name.map_or_else(String::new, |name| format!(" {name:?}"));
            let advice = match self {
                Self::File(_) => "check the path",
                Self::Collection { .. } => "mongostream checkpoint show PLACE lists what is there",
            };
            return Err(Failure::failed(format!(
                "{}: there is no checkpoint{named}; {advice}",
                self.shown()
            )));
        };
        let Some(text) = &found.text else {
            return Err(Failure::failed(format!(
                "{}: a worker has taken the name {:?}, and has not saved yet; try again when its stream is open",
                self.shown(),
                found.name
            )));
        };
        let checkpoint = Checkpoint::parse(text).map_err(|reason| self.unread(&reason))?;
        Ok((found, checkpoint))
    }

    pub(crate) fn unread(&self, reason: &dyn std::fmt::Display) -> Failure {
        Failure::failed(format!("{}: it cannot be read: {reason}", self.shown()))
    }

    /// Asks the collection.
    pub(crate) fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(Collection<Document>) -> DriverResult<T> + Send + 'static,
    ) -> Result<T, Failure> {
        let Self::Collection { uri, database, collection } = self else {
            return Err(Failure::failed("a file is no collection"));
        };
        let (uri, database, collection) = (uri.clone(), database.clone(), collection.clone());
        let done = within(PATIENCE, move || {
            let mut options = ClientOptions::parse(uri).run()?;
            options.app_name = Some("mongostream checkpoint".to_owned());
            options.server_selection_timeout.get_or_insert(SELECTION);
            // As the library writes them.
            let concern = WriteConcern::builder().w(Acknowledgment::Majority).journal(true).build();
            options.write_concern = Some(concern);
            work(Client::with_options(options)?.database(&database).collection(&collection))
        });
        match done {
            Some(Ok(done)) => Ok(done),
            Some(Err(error)) => Err(Failure::failed(format!(
                "{}: {}; check the URI with mongostream check",
                self.shown(),
                error.kind
            ))),
            None => Err(Failure::failed(format!(
                "{}: no answer within {} s; check the URI with mongostream check",
                self.shown(),
                PATIENCE.as_secs()
            ))),
        }
    }

    /// Puts a text there, by the library's own store. What is there already is replaced only with `force`.
    pub(crate) fn write(&self, name: &str, text: &str, force: bool) -> Result<(), Failure> {
        let store = self.store()?;
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Failure::failed(format!(
                "cannot {what} checkpoint {name:?} in {}: {error}",
                store.place()
            ))
        };
        let claimed = store.claim(name).map_err(|error| failed("claim", &error))?;
        let before = store.load(name).map_err(|error| failed("load", &error))?;
        let refused = before.and_then(|before| match Checkpoint::parse(&before) {
            Err(reason) => Some(failed("replace", &format!("{reason}; it is left as it is"))),
            Ok(_) => (!force).then(|| self.there_already(name)),
        });
        if let Some(refused) = refused {
            // Whoever had it goes on; and if that is not possible, nothing is lost either.
            let _ = store.give_back(name);
            return Err(refused);
        }
        store.save(name, text).map_err(|error| failed("save", &error))?;
        drop(claimed);
        Ok(())
    }

    pub(crate) fn there_already(&self, name: &str) -> Failure {
        Failure::failed(format!(
            "{}: there is a checkpoint {name:?} already; add --force to replace it",
            self.shown()
        ))
    }
}

fn found(mut document: Document) -> Option<Found> {
    let Some(Bson::String(name)) = document.remove("_id") else { return None };
    let text = match document.remove("checkpoint") {
        Some(Bson::String(text)) => Some(text),
        _ if document.contains_key("owner") => None,
        // Something else.
        _ => return None,
    };
    Some(Found { name, text, saved_at: document.get_datetime("savedAt").ok().copied() })
}
