//! The files of the drivers' unified test format, as far as the change-stream tests use it. A field
//! that is not known here is an error: nothing that a test asks for is passed over.

use std::cmp::Ordering;

use bson::{Bson, Document, doc};
use serde::Deserialize;
use serde::de::IgnoredAny;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct File {
    #[serde(rename = "description")]
    _description: IgnoredAny,
    pub(crate) schema_version: String,
    #[serde(default)]
    run_on_requirements: Vec<Requirement>,
    pub(crate) create_entities: Vec<EntityDescription>,
    #[serde(default)]
    pub(crate) initial_data: Vec<CollectionData>,
    pub(crate) tests: Vec<Test>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Test {
    pub(crate) description: String,
    #[serde(default)]
    run_on_requirements: Vec<Requirement>,
    pub(crate) operations: Vec<Operation>,
    #[serde(default)]
    pub(crate) expect_events: Vec<ExpectedEvents>,
}

/// What of a deployment's shape the tests ask for; serverless ones are none of ours.
#[derive(Clone, Copy, Deserialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Topology {
    ReplicaSet,
    Single,
    Sharded,
    #[serde(rename = "sharded-replicaset")]
    ShardedReplicaSet,
    #[serde(rename = "load-balanced")]
    LoadBalanced,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Requirement {
    min_server_version: Option<String>,
    max_server_version: Option<String>,
    topologies: Option<Vec<Topology>>,
    serverless: Option<Serverless>,
}

#[derive(Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Serverless {
    Require,
    Forbid,
    Allow,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) enum EntityDescription {
    #[serde(rename_all = "camelCase")]
    Client {
        id: String,
        #[serde(default)]
        observe_events: Vec<String>,
        #[serde(default)]
        ignore_command_monitoring_events: Vec<String>,
        /// Means something on sharded clusters only.
        #[serde(rename = "useMultipleMongoses", default)]
        _use_multiple_mongoses: bool,
    },
    #[serde(rename_all = "camelCase")]
    Database { id: String, client: String, database_name: String },
    #[serde(rename_all = "camelCase")]
    Collection { id: String, database: String, collection_name: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CollectionData {
    pub(crate) database_name: String,
    pub(crate) collection_name: String,
    pub(crate) documents: Vec<Document>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Operation {
    pub(crate) name: String,
    pub(crate) object: String,
    #[serde(default)]
    arguments: Document,
    pub(crate) expect_result: Option<Bson>,
    pub(crate) expect_error: Option<ExpectedError>,
    pub(crate) save_result_as_entity: Option<String>,
}

impl Operation {
    pub(crate) fn action(&self) -> bson::error::Result<Action> {
        bson::deserialize_from_document(doc! { &self.name: &self.arguments })
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Action {
    CreateChangeStream(Document),
    IterateUntilDocumentOrError {},
    InsertOne { document: Document },
    UpdateOne { filter: Document, update: Bson },
    ReplaceOne { filter: Document, replacement: Document },
    DeleteOne { filter: Document },
    CreateCollection { collection: String, view_on: Option<String> },
    DropCollection { collection: String },
    Rename { to: String, drop_target: Option<bool> },
    CreateIndex { keys: Document, name: String },
    DropIndex { name: String },
    RunCommand { command: Document, command_name: String },
    FailPoint { client: String, fail_point: Document },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExpectedError {
    pub(crate) is_client_error: Option<bool>,
    pub(crate) error_code: Option<i32>,
    pub(crate) error_code_name: Option<String>,
    #[serde(default)]
    pub(crate) error_labels_contain: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ExpectedEvents {
    pub(crate) client: String,
    #[serde(default)]
    pub(crate) ignore_extra_events: bool,
    pub(crate) events: Vec<ExpectedEvent>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum ExpectedEvent {
    CommandStartedEvent {
        command: Option<Document>,
        command_name: Option<String>,
        database_name: Option<String>,
    },
}

/// Major, minor and patch.
pub(crate) type Version = (u32, u32, u32);

impl File {
    /// Of the topologies there are, the first on which the test is to run with this server.
    pub(crate) fn topology(
        &self,
        test: &Test,
        version: Version,
        there_are: &[Topology],
    ) -> Option<Topology> {
        let met = |requirements: &[Requirement], topology| {
            requirements.is_empty()
                || requirements.iter().any(|requirement| requirement.is_met(version, topology))
        };
        there_are.iter().copied().find(|topology| {
            met(&self.run_on_requirements, *topology) && met(&test.run_on_requirements, *topology)
        })
    }
}

impl Requirement {
    fn is_met(&self, version: Version, topology: Topology) -> bool {
        let order = |bound: &Option<String>| bound.as_deref().map(|text| version.cmp(&parse(text)));
        order(&self.min_server_version) != Some(Ordering::Less)
            && order(&self.max_server_version) != Some(Ordering::Greater)
            && self.topologies.as_ref().is_none_or(|these| these.contains(&topology))
            && self.serverless != Some(Serverless::Require)
    }
}

/// Parts that are not there are 0.
fn parse(version: &str) -> Version {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(u32::MAX));
    let mut part = || parts.next().unwrap_or(0);
    (part(), part(), part())
}
