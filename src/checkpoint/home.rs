//! The collection in which checkpoints lie, and how the server is asked about one.

use std::sync::Arc;
use std::time::Duration;

use bson::{Document, RawDocumentBuf};
use crossbeam_channel::{Receiver, bounded};
use mongodb::Collection;
use mongodb::error::{
    Error as DriverError, ErrorKind as DriverErrorKind, Result as DriverResult, WriteFailure,
};
use mongodb::options::{Acknowledgment, WriteConcern};

use crate::checkpoint::store_error::StoreError;
use crate::error::{Error, Result};
use crate::source::client::Deployment;
use crate::source::failure;
use crate::source::failure::Phase;
use crate::source::fault::Fault;

/// Its documents come as bytes: with [`Document`] the compiler would make one more copy of all code that reads BSON, a
/// third of what it makes of this library.
pub(crate) type Documents = Collection<RawDocumentBuf>;

/// A document that has come.
pub(crate) fn read(bytes: Option<RawDocumentBuf>) -> DriverResult<Option<Document>> {
    Ok(bytes.map(Document::try_from).transpose()?)
}

/// A collection for checkpoints.
#[derive(Clone)]
pub(crate) struct Home {
    deployment: Arc<Deployment>,
    database: String,
    collection: String,
}

impl Home {
    /// How long the server may take for one write.
    const DEADLINE: Duration = Duration::from_secs(5);

    /// `namespace` is `database.collection`.
    pub(crate) fn new(deployment: Arc<Deployment>, namespace: &str) -> Result<Self> {
        let Some((database, collection)) = namespace.split_once('.') else {
            return Err(Error::argument(format!(
                "{namespace:?} is no place for checkpoints: give it as database.collection"
            )));
        };
        crate::options::names::check_namespace(Some(database), Some(collection))?;
        let (database, collection) = (database.to_owned(), collection.to_owned());
        Ok(Self { deployment, database, collection })
    }

    pub(crate) fn is_on(&self, deployment: &Arc<Deployment>) -> bool {
        Arc::ptr_eq(&self.deployment, deployment)
    }

    /// Database and collection.
    pub(crate) fn namespace(&self) -> (&str, &str) {
        (&self.database, &self.collection)
    }

    /// For messages: without credentials.
    pub(crate) fn place(&self) -> String {
        format!(
            "collection {}.{} on {}",
            self.database,
            self.collection,
            self.deployment.uri().shown()
        )
    }

    /// That no election takes back what is written.
    pub(crate) fn concern() -> WriteConcern {
        WriteConcern::builder()
            .w(Acknowledgment::Majority)
            .journal(true)
            .w_timeout(Self::DEADLINE)
            .build()
    }

    /// How long an answer may take: the driver looks for a server twice, and each may take its time.
    fn limit(selection: Duration) -> Duration {
        2 * (selection + Self::DEADLINE)
    }

    /// Does the work on the process's one runtime.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.deployment.runtime().spawn(work);
    }

    /// Asks the server, within the limit.
    pub(crate) async fn request<T, F>(
        self,
        limit: Option<Duration>,
        work: impl FnOnce(Documents) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = DriverResult<T>>,
    {
        let limit =
            limit.unwrap_or_else(|| Self::limit(self.deployment.server_selection_timeout()));
        let Self { deployment, database, collection } = self;
        let done = async {
            let client = deployment.client().await?;
            work(client.database(&database).collection(&collection)).await
        };
        // A frozen server would never answer.
        match tokio::time::timeout(limit, deployment.while_primary_is_there(done)).await {
            Ok(done) => done.map_err(|error| failure_of(&error)),
            Err(_) => {
                let text = format!("the server has not answered within {} ms", limit.as_millis());
                Err(StoreError::retriable(text))
            }
        }
    }

    /// Asks the server and waits for the answer: the driver's own blocking client would start a second runtime, with
    /// a thread for each core.
    pub(crate) fn ask<T, F>(
        &self,
        work: impl FnOnce(Documents) -> F + Send + 'static,
    ) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = DriverResult<T>> + Send + 'static,
    {
        let (sender, answer) = bounded(1);
        let home = self.clone();
        self.spawn(async move { drop(sender.send(home.request(None, work).await)) });
        received(&answer)
    }
}

/// What a task has answered.
fn received<T>(answer: &Receiver<Result<T, StoreError>>) -> Result<T, StoreError> {
    answer.recv().unwrap_or_else(|_| {
        Err("the task that asks the server is gone; please report this bug".into())
    })
}

/// Whether a document with this `_id` is there already.
pub(crate) fn is_duplicate(error: &DriverError) -> bool {
    const DUPLICATE_KEY: i32 = 11000;
    match &*error.kind {
        DriverErrorKind::Command(command) => command.code == DUPLICATE_KEY,
        DriverErrorKind::Write(WriteFailure::WriteError(error)) => error.code == DUPLICATE_KEY,
        _ => false,
    }
}

/// Retriable where a worker would open its stream again, and where the members are too slow or too few.
fn failure_of(error: &DriverError) -> StoreError {
    match &*error.kind {
        DriverErrorKind::Write(WriteFailure::WriteConcernError(late)) => StoreError::retriable(
            format!("{} (code {}, {})", late.message, late.code, late.code_name),
        ),
        DriverErrorKind::Write(WriteFailure::WriteError(refused)) => {
            format!("{} (code {})", refused.message, refused.code).into()
        }
        _ => {
            let fault = Fault::from(error);
            let text = failure::text_of(&fault).to_owned();
            match failure::is_resumable(&fault, Phase::Reopening, None) {
                true => StoreError::retriable(text),
                false => text.into(),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_members_have_it_on_their_disks_within_the_time() {
        let concern = Home::concern();
        assert_eq!((concern.w, concern.journal), (Some(Acknowledgment::Majority), Some(true)));
        assert_eq!(concern.w_timeout, Some(Duration::from_secs(5)));
        assert_eq!(Home::limit(Duration::from_secs(30)), Duration::from_secs(70));
    }
}
