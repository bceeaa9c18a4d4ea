//! A worker's settings as values, and what the server is asked for by them.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use bson::Document;

use crate::error::{Error, Result};
use crate::json::{ExtendedJson, Format, Style};
use crate::options::parse::OPERATIONS;
use crate::options::uri::Uri;
use crate::options::values::{
    FullDocument, FullDocumentBeforeChange, OnHistoryLost, OnInvalidate, OnOversized, Snapshot,
};

const START_AT_POSITION: &str = "start_at_position";

/// A worker's settings, by name or typed.
///
/// May be used for any number of workers; each copies what it needs.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) name: Option<String>,
    pub(crate) start_at_time: Option<(u32, u32)>,
    pub(crate) resume_after: Option<Document>,
    pub(crate) start_after: Option<Document>,
    pub(crate) start_at_position: Option<String>,
    /// As they were given, at least one where it is not empty.
    pub(crate) namespaces: Vec<String>,
    /// Those to deliver; all where it is empty.
    pub(crate) operations: BTreeSet<String>,
    pub(crate) pipeline: Vec<Document>,
    pub(crate) full_document: FullDocument,
    pub(crate) full_document_before_change: FullDocumentBeforeChange,
    pub(crate) show_expanded_events: bool,
    pub(crate) batch_size: u32,
    pub(crate) await_time: Duration,
    pub(crate) format: Format,
    pub(crate) json: ExtendedJson,
    pub(crate) updated_paths: bool,
    pub(crate) retry: Option<Duration>,
    pub(crate) snapshot: Snapshot,
    pub(crate) on_history_lost: OnHistoryLost,
    pub(crate) on_invalidate: OnInvalidate,
    pub(crate) on_oversized: OnOversized,
    pub(crate) checkpoint_file: Option<PathBuf>,
    pub(crate) checkpoint_collection: Option<String>,
    pub(crate) checkpoint_uri: Option<Uri>,
    pub(crate) checkpoint_name: Option<String>,
    pub(crate) checkpoint_interval: Duration,
    pub(crate) standby: bool,
    pub(crate) lease: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            start_at_time: None,
            resume_after: None,
            start_after: None,
            start_at_position: None,
            namespaces: Vec::new(),
            operations: BTreeSet::new(),
            pipeline: Vec::new(),
            full_document: FullDocument::Default,
            full_document_before_change: FullDocumentBeforeChange::Off,
            show_expanded_events: false,
            batch_size: 4000,
            await_time: Duration::from_secs(1),
            format: Format::Oplog,
            json: ExtendedJson::Relaxed,
            updated_paths: false,
            retry: None,
            snapshot: Snapshot::Never,
            on_history_lost: OnHistoryLost::Fail,
            on_invalidate: OnInvalidate::Continue,
            on_oversized: OnOversized::Split,
            checkpoint_file: None,
            checkpoint_collection: None,
            checkpoint_uri: None,
            checkpoint_name: None,
            checkpoint_interval: Duration::from_secs(1),
            standby: false,
            lease: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// What can only be checked when every option is known.
    pub(crate) fn check(&self) -> Result<()> {
        let starts = [
            ("start_at_time", self.start_at_time.is_some()),
            ("resume_after", self.resume_after.is_some()),
            ("start_after", self.start_after.is_some()),
            (START_AT_POSITION, self.start_at_position.is_some()),
        ];
        let mut set = starts.iter().filter(|(_, set)| *set);
        if let (Some((first, _)), Some((second, _))) = (set.next(), set.next()) {
            return Err(Error::argument(format!(
                "options {first} and {second} exclude each other: a stream has one start"
            )));
        }
        // A position may be in the middle of a snapshot.
        if let Some((start, _)) =
            starts.iter().find(|(name, set)| *set && *name != START_AT_POSITION)
            && self.snapshot != Snapshot::Never
        {
            return Err(Error::argument(format!(
                "options snapshot and {start} exclude each other: a snapshot is the start"
            )));
        }
        if self.standby && self.checkpoint_collection.is_none() {
            return Err(Error::argument(
                "option standby needs checkpoint_collection: the lease lies in the checkpoint's document",
            ));
        }
        if self.checkpoint_file.is_some() && self.checkpoint_collection.is_some() {
            return Err(Error::argument(
                "options checkpoint_file and checkpoint_collection exclude each other: a checkpoint \
                 has one place",
            ));
        }
        if self.checkpoint_uri.is_some() && self.checkpoint_collection.is_none() {
            return Err(Error::argument(
                "option checkpoint_uri needs checkpoint_collection: it says on which deployment that is",
            ));
        }
        Ok(())
    }

    /// How messages are written.
    pub(crate) fn style(&self) -> Style {
        Style { format: self.format, mode: self.json, updated_paths: self.updated_paths }
    }

    /// The `$changeStream` document, without a start point.
    pub(crate) fn change_stream(&self) -> Document {
        let mut stage = Document::new();
        if self.full_document != FullDocument::Default {
            for (name, value) in FullDocument::NAMES {
                if value == self.full_document {
                    stage.insert("fullDocument", name);
                }
            }
        }
        if self.full_document_before_change != FullDocumentBeforeChange::Off {
            for (name, value) in FullDocumentBeforeChange::NAMES {
                if value == self.full_document_before_change {
                    stage.insert("fullDocumentBeforeChange", name);
                }
            }
        }
        if self.show_expanded_events {
            stage.insert("showExpandedEvents", true);
        }
        stage
    }

    /// The operation types of the option that this library does not know.
    pub(crate) fn unknown_operations(&self) -> impl Iterator<Item = &str> {
        let types = self.operations.iter().map(String::as_str);
        types.filter(|given| !OPERATIONS.contains(given))
    }

    /// The options that servers before 6.0 do not know, as they are set.
    pub(crate) fn new_in_6_0(&self) -> Vec<&'static str> {
        let images =
            matches!(self.full_document, FullDocument::WhenAvailable | FullDocument::Required);
        let before = self.full_document_before_change != FullDocumentBeforeChange::Off;
        [
            ("full_document=whenAvailable and required", images),
            ("full_document_before_change", before),
            ("show_expanded_events", self.show_expanded_events),
        ]
        .into_iter()
        .filter_map(|(name, set)| set.then_some(name))
        .collect()
    }

    /// The field of `$changeStream` that the start options ask for.
    pub(crate) fn start_field(&self) -> Option<(&'static str, bson::Bson)> {
        self.start_field_and_option().map(|(_, field)| field)
    }

    /// The name of the start option that is set.
    pub(crate) fn start_option(&self) -> Option<&'static str> {
        let position = self.start_at_position.as_ref().map(|_| START_AT_POSITION);
        position.or_else(|| self.start_field_and_option().map(|(option, _)| option))
    }

    /// The start option that is set, by its name, and the field of `$changeStream` that it asks for.
    fn start_field_and_option(&self) -> Option<(&'static str, (&'static str, bson::Bson))> {
        if let Some((time, increment)) = self.start_at_time {
            let time = bson::Timestamp { time, increment };
            return Some(("start_at_time", ("startAtOperationTime", time.into())));
        }
        if let Some(token) = &self.resume_after {
            return Some(("resume_after", ("resumeAfter", token.clone().into())));
        }
        let token = self.start_after.as_ref()?;
        Some(("start_after", ("startAfter", token.clone().into())))
    }
}
