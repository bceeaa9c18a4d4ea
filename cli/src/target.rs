//! What a stream is on: the URI, and a database or a collection of it.

use clap::{Arg, ArgMatches};
use mongostream::{Watch, Worker};

/// The arguments `URI [DB[.COLL]]`.
pub(crate) fn arguments() -> [Arg; 2] {
    [
        Arg::new("uri").value_name("URI").required(true).help(
            "The deployment, such as mongodb://localhost:27017 (MongoDB manual, \"Connection Strings\")",
        ),
        namespace().value_name("DB[.COLL]"),
    ]
}

/// The database or collection, yet to be placed.
pub(crate) fn namespace() -> Arg {
    Arg::new("namespace").help(
        "The database or collection, split at the first dot; without it the database in the URI's path, \
         and without that one the whole deployment",
    )
}

/// What was asked for.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) uri: String,
    pub(crate) database: Option<String>,
    pub(crate) collection: Option<String>,
}

impl Target {
    pub(crate) fn of(matches: &ArgMatches) -> Self {
        let text = |name| matches.get_one::<String>(name).cloned();
        let (database, collection) = match text("namespace") {
            Some(namespace) => match namespace.split_once('.') {
                Some((database, collection)) => (Some(database.into()), Some(collection.into())),
                None => (Some(namespace), None),
            },
            None => (None, None),
        };
        Self { uri: text("uri").unwrap_or_default(), database, collection }
    }

    /// A worker on it, yet to be started.
    pub(crate) fn watch(&self) -> Watch {
        let mut watch = Worker::watch(&self.uri);
        if let Some(database) = &self.database {
            watch = watch.database(database);
        }
        if let Some(collection) = &self.collection {
            watch = watch.collection(collection);
        }
        watch
    }
}
