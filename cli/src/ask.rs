//! Questions to servers, none of which waits for ever.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bson::{Bson, Document};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::ClientOptions;
use mongodb::sync::Client;

/// How long a name, a connection or an answer is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// How long a server is looked for: the driver has to connect, and to ask.
pub(crate) const SELECTION: Duration = Duration::from_secs(3);

/// What the work gives; `None` if it takes longer. A thread that is late is left alone.
pub(crate) fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let (sender, answer) = mpsc::channel();
    let named = thread::Builder::new().name("check".to_owned());
    named.spawn(move || sender.send(work())).ok()?;
    answer.recv_timeout(limit).ok()
}

/// Does the same with each item at the same time.
pub(crate) fn each<I, T>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> T + Send + Sync,
) -> Vec<T>
where
    I: Send,
    T: Send,
{
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    })
}

/// The driver's settings, with little patience.
pub(crate) fn hasty(mut options: ClientOptions) -> ClientOptions {
    options.app_name = Some("mongostream check".to_owned());
    options.server_selection_timeout = Some(SELECTION);
    options.connect_timeout = Some(PATIENCE);
    options
}

/// A deployment that answers.
#[derive(Clone)]
pub(crate) struct Asked(Client);

impl Asked {
    pub(crate) fn new(options: ClientOptions) -> Result<Self, Refusal> {
        Client::with_options(options).map(Self).map_err(|error| Refusal::of(&error))
    }

    /// Runs a command; of a cursor the first batch is in the answer.
    pub(crate) fn command(&self, database: &str, command: Document) -> Result<Document, Refusal> {
        let (client, database) = (self.0.clone(), database.to_owned());
        let run = move || client.database(&database).run_command(command).run();
        match within(SELECTION + PATIENCE, run) {
            Some(answer) => answer.map_err(|error| Refusal::of(&error)),
            None => {
                Err(Refusal { code: 0, is_login: false, text: "there is no answer".to_owned() })
            }
        }
    }

    /// The documents of a command's first batch.
    pub(crate) fn batch(
        &self,
        database: &str,
        command: Document,
    ) -> Result<Vec<Document>, Refusal> {
        let answer = self.command(database, command)?;
        let batch = answer.get_document("cursor").and_then(|cursor| cursor.get_array("firstBatch"));
        let documents = batch.into_iter().flatten().filter_map(Bson::as_document);
        Ok(documents.cloned().collect())
    }
}

/// Why there is no answer.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    /// The server's, or 0.
    pub(crate) code: i32,
    /// The server refuses the user.
    pub(crate) is_login: bool,
    pub(crate) text: String,
}

impl Refusal {
    /// The server's code for what a user may not do.
    const UNAUTHORIZED: i32 = 13;

    fn of(error: &Error) -> Self {
        match &*error.kind {
            ErrorKind::Command(command) => Self {
                code: command.code,
                is_login: command.code == 18,
                text: format!("{} (code {}, {})", command.message, command.code, command.code_name),
            },
            kind => Self {
                code: 0,
                is_login: matches!(kind, ErrorKind::Authentication { .. }),
                text: kind.to_string(),
            },
        }
    }

    pub(crate) fn is_unauthorized(&self) -> bool {
        self.code == Self::UNAUTHORIZED
    }
}

/// A number of any of the server's types.
pub(crate) fn number(document: &Document, key: &str) -> Option<f64> {
    match document.get(key)? {
        Bson::Int32(number) => Some((*number).into()),
        #[expect(clippy::cast_precision_loss, reason = "sizes and times")]
        Bson::Int64(number) => Some(*number as f64),
        Bson::Double(number) => Some(*number),
        _ => None,
    }
}
