//! Runs one test: its entities, its operations, what it expects of them. Change streams are
//! mongostream's; everything else goes through the ordinary driver.

use std::collections::HashMap;
use std::time::Duration;

use bson::{Bson, Document, RawDocument, doc};
use ground::mongodb::IndexModel;
use ground::mongodb::options::{IndexOptions, UpdateModifications, WriteConcern};
use ground::mongodb::sync::{Client, Collection, Database};
use ground::{FailPoint, ReplicaSet, Standalone};
use mongostream::{Buffer, Error, Received, Worker};

use crate::format::{
    Action, EntityDescription, ExpectedError, File, Operation, Test, Topology, Version,
};
use crate::tap::Tap;
use crate::{Result, commands, matching};

const DEADLINE: Duration = Duration::from_secs(25);

/// A deployment that is the tests' own.
pub(crate) enum Deployment {
    /// All but our own client go through the tap.
    ReplicaSet(ReplicaSet, Tap),
    Standalone(Box<Standalone>),
}

impl Deployment {
    pub(crate) fn start(topology: Topology) -> Result<Self> {
        Ok(match topology {
            Topology::Single => Self::Standalone(Box::new(Standalone::start()?)),
            _ => {
                let tap = Tap::new()?;
                let (address, door) = (tap.address()?, tap.clone());
                let builder = ReplicaSet::builder().advertise(move |_, server| {
                    door.open(server);
                    address.clone()
                });
                Self::ReplicaSet(builder.start()?, tap)
            }
        })
    }

    pub(crate) fn version(&self) -> Result<Version> {
        match self {
            Self::ReplicaSet(set, _) => Ok(set.version()),
            Self::Standalone(_) => Err("the set is to be asked".into()),
        }
    }

    fn uri_with(&self, options: &str) -> String {
        match self {
            Self::ReplicaSet(set, _) => set.uri_with(options),
            Self::Standalone(server) => server.uri_with(options),
        }
    }

    fn client(&self) -> &Client {
        match self {
            Self::ReplicaSet(set, _) => set.client(),
            Self::Standalone(server) => server.client(),
        }
    }

    fn tap(&self) -> Result<&Tap> {
        match self {
            Self::ReplicaSet(_, tap) => Ok(tap),
            Self::Standalone(_) => Err("only the set has a tap".into()),
        }
    }

    fn fail_point(&self, document: Document) -> Result<FailPoint> {
        match self {
            Self::ReplicaSet(set, _) => Ok(set.fail_point(document)?),
            Self::Standalone(_) => Err("fail points are for the set".into()),
        }
    }
}

/// A client, a database or a collection.
#[derive(Clone)]
struct Target {
    uri: String,
    client: Client,
    database: Option<String>,
    collection: Option<String>,
}

impl Target {
    fn database(&self) -> Result<Database> {
        let name = self.database.as_deref().ok_or("a client is no database")?;
        Ok(self.client.database(name))
    }

    fn collection(&self) -> Result<Collection<Document>> {
        let name = self.collection.as_deref().ok_or("this is no collection")?;
        Ok(self.database()?.collection(name))
    }
}

/// A client's commands.
struct Observed {
    /// By which the tap knows the client.
    app_name: String,
    ignored: Vec<String>,
}

struct ChangeStream {
    buffer: Buffer,
    worker: Worker,
}

impl Drop for ChangeStream {
    fn drop(&mut self) {
        self.worker.stop();
        // The next test's fail points are not for this stream.
        let _ = self.worker.join_timeout(DEADLINE);
    }
}

/// What came of an operation.
enum Outcome {
    Done,
    Event(Document),
    Failed(Error),
}

/// A running test.
struct Run<'a> {
    deployment: &'a Deployment,
    targets: HashMap<&'a str, Target>,
    observed: HashMap<&'a str, Observed>,
    streams: HashMap<&'a str, ChangeStream>,
    fail_points: Vec<FailPoint>,
}

pub(crate) fn run(file: &File, test: &Test, deployment: &Deployment) -> Result<()> {
    if let Deployment::ReplicaSet(_, tap) = deployment {
        tap.wait_until_read(DEADLINE);
    }
    for data in &file.initial_data {
        let database = deployment.client().database(&data.database_name);
        let collection = database.collection::<Document>(&data.collection_name);
        let concern = WriteConcern::majority();
        collection.drop().write_concern(concern.clone()).run()?;
        database.create_collection(&data.collection_name).write_concern(concern.clone()).run()?;
        if !data.documents.is_empty() {
            collection.insert_many(&data.documents).write_concern(concern).run()?;
        }
    }
    let mut run = Run::new(deployment, &file.create_entities)?;
    for (number, operation) in test.operations.iter().enumerate() {
        run.operation(operation).map_err(|error| {
            format!("operation {number}, {} on {}: {error}", operation.name, operation.object)
        })?;
    }
    for expected in &test.expect_events {
        let Observed { app_name, ignored } = get(&run.observed, &expected.client)?;
        commands::check(deployment.tap()?, app_name, ignored, expected)?;
    }
    Ok(())
}

impl<'a> Run<'a> {
    fn new(deployment: &'a Deployment, entities: &'a [EntityDescription]) -> Result<Self> {
        let mut run = Self {
            deployment,
            targets: HashMap::new(),
            observed: HashMap::new(),
            streams: HashMap::new(),
            fail_points: Vec::new(),
        };
        entities.iter().try_for_each(|entity| run.create(entity))?;
        Ok(run)
    }

    fn create(&mut self, entity: &'a EntityDescription) -> Result<()> {
        let (id, target) = match entity {
            EntityDescription::Client {
                id,
                observe_events,
                ignore_command_monitoring_events,
                ..
            } => {
                if observe_events.iter().any(|event| event != "commandStartedEvent") {
                    return Err(format!("{id} observes more than commands that start").into());
                }
                let app_name = ground::database_name(id);
                let uri = self.deployment.uri_with(&format!("appName={app_name}"));
                let client = Client::with_uri_str(&uri)?;
                let ignored = ignore_command_monitoring_events.clone();
                self.observed.insert(id, Observed { app_name, ignored });
                (id, Target { uri, client, database: None, collection: None })
            }
            EntityDescription::Database { id, client, database_name } => {
                let client = get(&self.targets, client)?.clone();
                (id, Target { database: Some(database_name.clone()), ..client })
            }
            EntityDescription::Collection { id, database, collection_name } => {
                let database = get(&self.targets, database)?.clone();
                (id, Target { collection: Some(collection_name.clone()), ..database })
            }
        };
        self.targets.insert(id, target);
        Ok(())
    }

    fn operation(&mut self, operation: &'a Operation) -> Result<()> {
        if operation.save_result_as_entity.is_some() && operation.name != "createChangeStream" {
            return Err("the runner keeps nothing but change streams".into());
        }
        let outcome = self.act(operation)?;
        match (outcome, &operation.expect_error, &operation.expect_result) {
            (Outcome::Failed(error), Some(expected), None) => check_error(expected, &error),
            (Outcome::Failed(error), _, _) => Err(error.into()),
            (_, Some(_), _) => Err("it has not failed".into()),
            (Outcome::Event(event), None, Some(Bson::Document(expected))) => {
                matching::root(expected, &event)
                    .map_err(|difference| format!("{difference}; the event is {event}").into())
            }
            (Outcome::Done, None, Some(_)) => Err("the runner does not know its result".into()),
            (_, None, Some(expected)) => Err(format!("no result can be {expected}").into()),
            (_, None, None) => Ok(()),
        }
    }

    fn act(&mut self, operation: &'a Operation) -> Result<Outcome> {
        let object = operation.object.as_str();
        let database = || get(&self.targets, object)?.database();
        let collection = || get(&self.targets, object)?.collection();
        match operation.action()? {
            Action::CreateChangeStream(arguments) => {
                return self.watch(object, &arguments, operation.save_result_as_entity.as_deref());
            }
            Action::IterateUntilDocumentOrError {} => {
                let stream = get(&self.streams, object)?;
                return match stream.buffer.recv_timeout(DEADLINE) {
                    Ok(Received::Some(message)) => {
                        let event = RawDocument::from_bytes(message.bson())?;
                        Ok(Outcome::Event(Document::try_from(event)?))
                    }
                    Ok(nothing) => Err(format!("{nothing:?} instead of an event").into()),
                    Err(error) => Ok(Outcome::Failed(error)),
                };
            }
            Action::InsertOne { document } => {
                collection()?.insert_one(document).run()?;
            }
            Action::UpdateOne { filter, update } => {
                let update = match update {
                    Bson::Document(update) => UpdateModifications::Document(update),
                    pipeline => UpdateModifications::Pipeline(documents(&pipeline)?),
                };
                collection()?.update_one(filter, update).run()?;
            }
            Action::ReplaceOne { filter, replacement } => {
                collection()?.replace_one(filter, replacement).run()?;
            }
            Action::DeleteOne { filter } => {
                collection()?.delete_one(filter).run()?;
            }
            Action::CreateCollection { collection, view_on } => {
                let mut command = doc! { "create": collection };
                command.extend(view_on.map(|on| ("viewOn".to_owned(), on.into())));
                database()?.run_command(command).run()?;
            }
            Action::DropCollection { collection } => {
                database()?.collection::<Document>(&collection).drop().run()?;
            }
            Action::Rename { to, drop_target } => {
                let from = collection()?.namespace();
                let to = format!("{}.{to}", from.db);
                let mut command = doc! { "renameCollection": from.to_string(), "to": to };
                command.extend(drop_target.map(|drop| ("dropTarget".to_owned(), drop.into())));
                let client = &get(&self.targets, object)?.client;
                client.database("admin").run_command(command).run()?;
            }
            Action::CreateIndex { keys, name } => {
                let options = IndexOptions::builder().name(name).build();
                let index = IndexModel::builder().keys(keys).options(options).build();
                collection()?.create_index(index).run()?;
            }
            Action::DropIndex { name } => collection()?.drop_index(name).run()?,
            Action::RunCommand { command, command_name } => {
                if command.keys().next() != Some(&command_name) {
                    return Err(format!("{command} is no {command_name}").into());
                }
                database()?.run_command(command).run()?;
            }
            Action::FailPoint { client, fail_point } => {
                get(&self.targets, &client)?;
                self.fail_points.push(self.deployment.fail_point(fail_point)?);
            }
        }
        Ok(Outcome::Done)
    }

    fn watch(
        &mut self,
        object: &str,
        arguments: &Document,
        save_as: Option<&'a str>,
    ) -> Result<Outcome> {
        let Target { uri, database, collection, .. } = get(&self.targets, object)?.clone();
        // A driver adds no stage of its own.
        let mut watch = Worker::watch(uri).option("format", "event").option("on_oversized", "fail");
        if let Some(database) = database {
            watch = watch.database(database);
        }
        if let Some(collection) = collection {
            watch = watch.collection(collection);
        }
        for (name, value) in arguments {
            watch = watch.option(&option_name(name), &option_value(value));
        }
        let buffer = Buffer::new(100);
        let worker = match watch.spawn(&buffer) {
            Ok(worker) => worker,
            Err(error) => return Ok(Outcome::Failed(error)),
        };
        let ready = worker.wait_ready_timeout(DEADLINE);
        let stream = ChangeStream { buffer, worker };
        match ready {
            Ok(mongostream::Waited::Done) => {
                if let Some(id) = save_as {
                    self.streams.insert(id, stream);
                }
                Ok(Outcome::Done)
            }
            Ok(waited) => Err(format!("{waited:?} instead of an open stream").into()),
            Err(error) => Ok(Outcome::Failed(error)),
        }
    }
}

fn get<'m, T>(entities: &'m HashMap<&str, T>, id: &str) -> Result<&'m T> {
    entities.get(id).ok_or_else(|| format!("there is no such entity {id}").into())
}

fn documents(array: &Bson) -> Result<Vec<Document>> {
    let array = array.as_array().ok_or_else(|| format!("{array} is no array"))?;
    let documents = array.iter().map(|value| value.as_document().cloned());
    documents.collect::<Option<_>>().ok_or_else(|| "no array of documents".into())
}

/// mongostream calls an option what the drivers call it, in snake case.
fn option_name(driver_name: &str) -> String {
    let mut name = String::new();
    for letter in driver_name.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

fn option_value(value: &Bson) -> String {
    match value {
        Bson::String(text) => text.clone(),
        other => other.clone().into_relaxed_extjson().to_string(),
    }
}

/// A library's error has no labels. That the worker has ended says that it could not resume, which is
/// the label's meaning here.
fn check_error(expected: &ExpectedError, error: &Error) -> Result<()> {
    let ExpectedError { is_client_error, error_code, error_code_name, error_labels_contain } =
        expected;
    let is_client = error.server_code() == 0;
    let differs = is_client_error.is_some_and(|expected| expected != is_client)
        || error_code.is_some_and(|code| code != error.server_code())
        || error_code_name.as_ref().is_some_and(|name| !error.to_string().contains(name));
    if differs {
        return Err(format!("another error than expected: {error:?}").into());
    }
    for label in error_labels_contain {
        match label.as_str() {
            "NonResumableChangeStreamError" if !error.is_retriable() => {}
            _ => return Err(format!("label {label} does not fit to {error:?}").into()),
        }
    }
    Ok(())
}
