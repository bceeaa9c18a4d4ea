//! Every setting of a worker, once: its name, its values, its default, its check, its text.
//!
//! [`OPTIONS`] is the one table. It feeds [`Options::set`] (and so the C API), the `MS_OPT_*` macros
//! of the header and the documentation; the typed setters of [`Watch`](crate::Watch) end in the same
//! fields and the same checks.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use bson::Document;

use crate::error::{Error, Result};
use crate::json::{self, ExtendedJson, Format, Style};
use crate::pipeline;
use crate::uri::Uri;

/// Where a stream begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// With the first change after the cursor was opened.
    #[default]
    Now,
    /// With the first change at or after a cluster time (MongoDB manual, `$changeStream`,
    /// `startAtOperationTime`).
    Time {
        /// Seconds since 1970-01-01 UTC.
        seconds: u32,
        /// The ordinal within the second; 0 is the whole second.
        increment: u32,
    },
    /// Behind the event with this resume token, JSON as [`Message::resume_token`] gives it
    /// (`resumeAfter`: the server refuses the token of an `invalidate`).
    ///
    /// [`Message::resume_token`]: crate::Message::resume_token
    ResumeAfter(String),
    /// As `ResumeAfter`, and takes the token of an `invalidate` too (`startAfter`).
    StartAfter(String),
}

impl Start {
    /// At the beginning of a second, seconds since 1970-01-01 UTC, inclusive.
    pub fn at(seconds: u32) -> Self {
        Start::Time { seconds, increment: 0 }
    }
}

/// Which version of a changed document the server sends along with an update
/// (MongoDB manual, `$changeStream`, `fullDocument`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FullDocument {
    /// None for updates; inserts and replaces always carry theirs.
    #[default]
    Default,
    /// The document as it is when the event is read: it may be newer than the event, or null.
    UpdateLookup,
    /// The document right after the change if the server has it (6.0, with pre- and post-images).
    WhenAvailable,
    /// As `WhenAvailable`, and the stream fails where the server does not have it.
    Required,
}

impl FullDocument {
    const NAMES: [(&'static str, FullDocument); 4] = [
        ("default", FullDocument::Default),
        ("updateLookup", FullDocument::UpdateLookup),
        ("whenAvailable", FullDocument::WhenAvailable),
        ("required", FullDocument::Required),
    ];
}

/// Whether the server sends along the document as it was before a change
/// (MongoDB manual, `$changeStream`, `fullDocumentBeforeChange`; 6.0, with pre- and post-images).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FullDocumentBeforeChange {
    /// It does not.
    #[default]
    Off,
    /// If the server has it; else it is null.
    WhenAvailable,
    /// Always, and the stream fails where the server does not have it.
    Required,
}

impl FullDocumentBeforeChange {
    const NAMES: [(&'static str, FullDocumentBeforeChange); 3] = [
        ("off", FullDocumentBeforeChange::Off),
        ("whenAvailable", FullDocumentBeforeChange::WhenAvailable),
        ("required", FullDocumentBeforeChange::Required),
    ];
}

/// What happens when what is watched was dropped or renamed (MongoDB manual, "Change Events",
/// `invalidate`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnInvalidate {
    /// The stream goes on with what comes by the same name.
    #[default]
    Continue,
    /// The worker ends with [`ErrorKind::Invalidated`](crate::ErrorKind::Invalidated).
    Stop,
}

/// What happens when the oplog no longer holds the point from which the stream is to go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnHistoryLost {
    /// The worker ends with [`ErrorKind::HistoryLost`](crate::ErrorKind::HistoryLost).
    #[default]
    Fail,
    /// The stream goes on from now. A message of the library's own stands before its first event, with
    /// the operation `gap`; its `operationDescription` says `from` which cluster time `to` which
    /// changes may be missing. Until that message is acknowledged the worker's resume token stays where it
    /// was, so that no crash hides the loss.
    Restart,
    /// As `Restart`, and behind that message every document that exists, as a snapshot.
    Snapshot,
}

/// Whether the documents that exist are delivered before the stream, each as a message of the library's
/// own with the operation `snapshot` that carries it as `fullDocument`.
///
/// The stream goes on from a point before the snapshot: no change is missing, a change that a snapshot's
/// document already has comes again behind it, and of each document the last state comes last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Snapshot {
    /// They are not.
    #[default]
    Never,
    /// Where there is no checkpoint yet.
    Initial,
    /// Whenever the worker starts.
    Always,
}

/// What happens with a change event that is larger than the 16 MB of one message of the server
/// (MongoDB manual, "Change Streams", "Change Streams and BSON Size Limit").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnOversized {
    /// The server sends it in parts, which are put together again: it is one message like any other.
    /// Where the server cannot (before MongoDB 6.0.9, or a single field is too large), as `Fail`.
    #[default]
    Split,
    /// The worker ends with [`ErrorKind::Oversized`](crate::ErrorKind::Oversized), behind everything
    /// that comes before that event.
    Fail,
    /// A message of the library's own stands in its place, with the operation `oversized`. It has the
    /// event's resume token, namespace, document key and time; its `operationDescription` says which
    /// `operationType` the event has.
    Skip,
}

/// A worker's settings, by name or typed.
///
/// May be used for any number of workers; each copies what it needs.
#[derive(Clone, Debug)]
pub struct Options {
    pub(crate) name: Option<String>,
    pub(crate) start_at_time: Option<(u32, u32)>,
    pub(crate) resume_after: Option<Document>,
    pub(crate) start_after: Option<Document>,
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
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: None,
            start_at_time: None,
            resume_after: None,
            start_after: None,
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
        }
    }
}

/// What the table says of one option.
#[derive(Debug)]
#[non_exhaustive]
pub struct OptionInfo {
    /// The name that [`Options::set`] and `ms_options_set` take.
    pub name: &'static str,
    /// The values it takes.
    pub values: &'static str,
    /// The value that holds where none is set; empty: not set.
    pub default: &'static str,
    /// What it does.
    pub text: &'static str,
    set: fn(&mut Options, &str) -> Result<(), String>,
}

/// Every option there is.
pub static OPTIONS: &[OptionInfo] = &[
    OptionInfo {
        name: "name",
        values: "text",
        default: "",
        text: "Worker name in messages, errors and logs; where it is not set the namespace \
               (\"shop.orders\", \"shop\" for a database, \"shop.{items,orders}\" for several \
               collections, a long list cut short, \"*\" for a deployment).",
        set: |options, value| {
            options.name = Some(not_empty(value)?);
            Ok(())
        },
    },
    OptionInfo {
        name: "start_at_time",
        values: "unix seconds, or seconds:increment",
        default: "",
        text: "Begin with the first change at or after this cluster time. Excludes resume_after and \
               start_after.",
        set: |options, value| {
            options.start_at_time = Some(parse_time(value)?);
            Ok(())
        },
    },
    OptionInfo {
        name: "resume_after",
        values: "resume token (JSON)",
        default: "",
        text: "Begin behind the event with this token; the server refuses the token of an \
               invalidate. Excludes start_at_time and start_after.",
        set: |options, value| {
            options.resume_after = Some(parse_token(value)?);
            Ok(())
        },
    },
    OptionInfo {
        name: "start_after",
        values: "resume token (JSON)",
        default: "",
        text: "As resume_after, and takes the token of an invalidate too. Excludes start_at_time \
               and resume_after.",
        set: |options, value| {
            options.start_after = Some(parse_token(value)?);
            Ok(())
        },
    },
    OptionInfo {
        name: "namespaces",
        values: "comma list, or JSON array of texts",
        default: "",
        text: "Many collections on one cursor: collection names where a database is given, else \
               database.collection, split at the first dot. * in the collection stands for any run of \
               characters. Excludes a collection.",
        set: |options, value| {
            options.namespaces = check_list(parse_list(value)?)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "operations",
        values: "comma list of operation types",
        default: "",
        text: "Deliver only these, such as insert,update,delete; where it is not set all. The library's \
               own messages always come. A type that is almost one of the known ones is refused; another \
               one, which a newer server may have, is a warning in the log.",
        set: |options, value| {
            options.operations = check_operations(parse_list(value)?)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "pipeline",
        values: "JSON array of aggregation stages",
        default: "[]",
        text: "Stages that the server puts behind $changeStream, such as $match and $project. Keep \
               the event's _id: it is the resume token. They do not filter the documents of a snapshot.",
        set: |options, value| {
            options.pipeline = pipeline::check(json::parse_array_of_documents(value)?)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "full_document",
        values: "default | updateLookup | whenAvailable | required",
        default: "default",
        text: "Which version of the document updates carry (MongoDB manual, $changeStream, \
               fullDocument). whenAvailable and required need MongoDB 6.0.",
        set: |options, value| {
            options.full_document = one_of(&FullDocument::NAMES, value)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "full_document_before_change",
        values: "off | whenAvailable | required",
        default: "off",
        text: "Whether updates, replaces and deletes carry the document as it was before. Needs MongoDB \
               6.0 and changeStreamPreAndPostImages on the collection; required fails where the server \
               does not have it.",
        set: |options, value| {
            options.full_document_before_change = one_of(&FullDocumentBeforeChange::NAMES, value)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "show_expanded_events",
        values: "false | true",
        default: "false",
        text: "Also the server's expanded events: create, createIndexes, dropIndexes, modify, \
               shardCollection and others. Needs MongoDB 6.0.",
        set: |options, value| {
            options.show_expanded_events = one_of(&BOOLEAN, value)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "batch_size",
        values: "1 to 2147483647",
        default: "4000",
        text: "Most events in one reply of the server. Larger ones cost memory and gain nothing.",
        set: |options, value| {
            options.batch_size = parse_number(value, 1, i32::MAX as u64)? as u32;
            Ok(())
        },
    },
    OptionInfo {
        name: "await_ms",
        values: "1 to 2147483647",
        default: "1000",
        text: "Longest time in milliseconds that the server waits for an event before it answers \
               with none. Neither delivery nor stop depends on it.",
        set: |options, value| {
            options.await_time = Duration::from_millis(parse_number(value, 1, i32::MAX as u64)?);
            Ok(())
        },
    },
    OptionInfo {
        name: "format",
        values: "oplog | event",
        default: "oplog",
        text: "The shape of the JSON: oplog JSON, or the server's change event as it is.",
        set: |options, value| {
            options.format = one_of(&[("oplog", Format::Oplog), ("event", Format::Event)], value)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "json",
        values: "relaxed | canonical",
        default: "relaxed",
        text: "The mode of MongoDB Extended JSON v2.",
        set: |options, value| {
            let modes =
                [("relaxed", ExtendedJson::Relaxed), ("canonical", ExtendedJson::Canonical)];
            options.json = one_of(&modes, value)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "updated_paths",
        values: "false | true",
        default: "false",
        text: "Oplog JSON of updates has a key UpdatedPaths: the dotted paths of all fields that were \
               set, down to the innermost, without array indexes, each once. Removed fields and truncated \
               arrays are not among them. Where the server does not tell (before MongoDB 6.1, or without \
               show_expanded_events), a step of digits after the first is taken for an index, although it may \
               be a field's name.",
        set: |options, value| {
            options.updated_paths = one_of(&BOOLEAN, value)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "retry_ms",
        values: "-1 (never) to 9223372036854775807",
        default: "-1",
        text: "Once the stream has been open: give up opening it again after this many milliseconds. \
               Where the server refuses the user, the worker gives up after 30 seconds in any case.",
        set: |options, value| {
            options.retry = match value {
                "-1" => None,
                _ => Some(Duration::from_millis(parse_number(value, 0, i64::MAX as u64)?)),
            };
            Ok(())
        },
    },
    OptionInfo {
        name: "snapshot",
        values: "never | initial | always",
        default: "never",
        text: "Deliver the documents that exist before the stream, as messages with the operation \
               snapshot: where there is no checkpoint yet, or at every start. An unfinished one goes \
               on from its checkpoint, whatever is set. pipeline and operations do not filter them. Excludes start_at_time, resume_after and \
               start_after.",
        set: |options, value| {
            let modes = [
                ("never", Snapshot::Never),
                ("initial", Snapshot::Initial),
                ("always", Snapshot::Always),
            ];
            options.snapshot = one_of(&modes, value)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "on_history_lost",
        values: "fail | restart | snapshot",
        default: "fail",
        text: "When the oplog no longer holds the point to go on from: end with MS_ERR_HISTORY_LOST, or go \
               on from now behind a message with the operation gap, which says from when to when \
               changes may be missing, or the same with a snapshot behind that message.",
        set: |options, value| {
            let policies = [
                ("fail", OnHistoryLost::Fail),
                ("restart", OnHistoryLost::Restart),
                ("snapshot", OnHistoryLost::Snapshot),
            ];
            options.on_history_lost = one_of(&policies, value)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "on_invalidate",
        values: "continue | stop",
        default: "continue",
        text: "When what is watched was dropped or renamed: go on with what comes by the same name, or \
               end with MS_ERR_INVALIDATED behind the last event.",
        set: |options, value| {
            let policies = [("continue", OnInvalidate::Continue), ("stop", OnInvalidate::Stop)];
            options.on_invalidate = one_of(&policies, value)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "on_oversized",
        values: "split | fail | skip",
        default: "split",
        text: "When a change event is larger than 16 MB: let the server split it and put it together \
               again (MongoDB 6.0.9, else as fail), end with MS_ERR_OVERSIZED, or go on behind a message \
               with the operation oversized, which says which event it is.",
        set: |options, value| {
            let policies = [
                ("split", OnOversized::Split),
                ("fail", OnOversized::Fail),
                ("skip", OnOversized::Skip),
            ];
            options.on_oversized = one_of(&policies, value)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "checkpoint_file",
        values: "path",
        default: "",
        text: "Keep the acked position in this file, and continue there when the worker is started again: \
               a saved checkpoint overrides every start option. A relative path is resolved once, when the \
               worker starts. Excludes checkpoint_collection.",
        set: |options, value| {
            options.checkpoint_file = Some(PathBuf::from(not_empty(value)?));
            Ok(())
        },
    },
    OptionInfo {
        name: "checkpoint_collection",
        values: "database.collection",
        default: "",
        text: "Keep the acked position in this collection, written with majority, one document for \
               each checkpoint_name. Its own changes are not delivered. Put it into a database of its own: \
               if it is dropped together with the watched database, the running worker writes it again, but \
               one that does not run cannot. Excludes checkpoint_file.",
        set: |options, value| {
            options.checkpoint_collection = Some(not_empty(value)?);
            Ok(())
        },
    },
    OptionInfo {
        name: "checkpoint_uri",
        values: "MongoDB URI",
        default: "",
        text: "The deployment of checkpoint_collection, if it is not the watched one. If several deployments \
               keep their checkpoints there, give each stream a checkpoint_name.",
        set: |options, value| {
            options.checkpoint_uri = Some(Uri::parse(value).map_err(|error| error.to_string())?);
            Ok(())
        },
    },
    OptionInfo {
        name: "checkpoint_name",
        values: "text",
        default: "",
        text: "The name of the checkpoint. If it is not set: the collection (shop.orders), the database (shop), \
               or * for the deployment, whatever namespaces narrows it to; the worker's name does not matter. It \
               must stay the same from run to run, and no other running worker may use it in the same place. \
               Two workers on one database with different namespaces need a name each.",
        set: |options, value| {
            options.checkpoint_name = Some(not_empty(value)?);
            Ok(())
        },
    },
    OptionInfo {
        name: "checkpoint_ms",
        values: "1 to 2147483647",
        default: "1000",
        text: "Save at most this often, in milliseconds; a position that moved without an ack is saved \
               ten times less often. In a snapshot it is saved too whenever 25000 documents more are acked. \
               To join a worker always saves.",
        set: |options, value| {
            let interval = parse_number(value, 1, i32::MAX as u64)?;
            options.checkpoint_interval = Duration::from_millis(interval);
            Ok(())
        },
    },
];

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets one option by its name; the last value set holds.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Argument`](crate::ErrorKind::Argument) for an unknown name or a bad value, with
    /// what the option takes. The options are as before.
    pub fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let Some(option) = OPTIONS.iter().find(|option| option.name == name) else {
            let names: Vec<_> = OPTIONS.iter().map(|option| option.name).collect();
            return Err(Error::argument(format!(
                "there is no option {name:?}; the options are {}",
                names.join(", ")
            )));
        };
        (option.set)(self, value).map_err(|reason| {
            Error::argument(format!("option {name} takes {}: {reason}", option.values))
        })
    }

    /// What can only be checked when every option is known.
    pub(crate) fn check(&self) -> Result<()> {
        let starts = [
            ("start_at_time", self.start_at_time.is_some()),
            ("resume_after", self.resume_after.is_some()),
            ("start_after", self.start_after.is_some()),
        ];
        let mut set = starts.iter().filter(|(_, set)| *set);
        if let (Some((first, _)), Some((second, _))) = (set.next(), set.next()) {
            return Err(Error::argument(format!(
                "options {first} and {second} exclude each other: a stream has one start"
            )));
        }
        if let Some((start, _)) = starts.iter().find(|(_, set)| *set)
            && self.snapshot != Snapshot::Never
        {
            return Err(Error::argument(format!(
                "options snapshot and {start} exclude each other: a snapshot is the start"
            )));
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

    pub(crate) fn set_start(&mut self, start: &Start) -> Result<()> {
        let mut changed =
            Self { start_at_time: None, resume_after: None, start_after: None, ..self.clone() };
        match start {
            Start::Now => {}
            Start::Time { seconds, increment } => {
                changed.start_at_time = Some((*seconds, *increment))
            }
            Start::ResumeAfter(token) => changed.set("resume_after", token)?,
            Start::StartAfter(token) => changed.set("start_after", token)?,
        }
        *self = changed;
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

    /// The start option that is set, by its name, and the field of `$changeStream` that it asks for.
    pub(crate) fn start_field_and_option(
        &self,
    ) -> Option<(&'static str, (&'static str, bson::Bson))> {
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

const BOOLEAN: [(&str, bool); 2] = [("false", false), ("true", true)];

fn not_empty(value: &str) -> Result<String, String> {
    if value.is_empty() || value.contains('\0') {
        return Err("it is not empty and has no NUL".to_owned());
    }
    Ok(value.to_owned())
}

fn one_of<T: Copy>(names: &[(&str, T)], value: &str) -> Result<T, String> {
    names
        .iter()
        .find(|(name, _)| *name == value)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| format!("{value:?} is none of these"))
}

fn parse_number(value: &str, least: u64, most: u64) -> Result<u64, String> {
    match value.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(_) => Err(format!("{value} is out of range")),
        Err(_) => Err(format!("{value:?} is not such a number")),
    }
}

fn parse_time(value: &str) -> Result<(u32, u32), String> {
    let (seconds, increment) = value.split_once(':').unwrap_or((value, "0"));
    let seconds = parse_number(seconds, 0, u64::MAX)?;
    let increment = parse_number(increment, 0, u32::MAX.into())? as u32;
    let seconds = u32::try_from(seconds).map_err(|_| {
        format!("{seconds} does not fit into 32 bits; are these milliseconds instead of seconds?")
    })?;
    Ok((seconds, increment))
}

/// Items between commas, without the blanks around them; or a JSON array, whose items are taken as
/// they are.
fn parse_list(value: &str) -> Result<Vec<String>, String> {
    if value.trim_start().starts_with('[') {
        return serde_json::from_str(value).map_err(|error| error.to_string());
    }
    Ok(value.split(',').map(|item| item.trim().to_owned()).collect())
}

pub(crate) fn check_list(items: Vec<String>) -> Result<Vec<String>, String> {
    if items.is_empty() {
        return Err("the list is empty".to_owned());
    }
    match items.iter().position(|item| item.trim().is_empty()) {
        Some(index) => Err(format!("item {index} of the list is empty")),
        None => Ok(items),
    }
}

/// The operation types that servers up to 8.0 have (MongoDB manual, "Change Events"), and the library's own.
const OPERATIONS: [&str; 20] = [
    "insert",
    "update",
    "replace",
    "delete",
    "drop",
    "rename",
    "dropDatabase",
    "invalidate",
    "create",
    "createIndexes",
    "dropIndexes",
    "modify",
    "shardCollection",
    "reshardCollection",
    "refineCollectionShardKey",
    "migrateChunkToNewShard",
    "migrateLastChunkFromShard",
    "snapshot",
    "gap",
    "oversized",
];

/// A stream of a mistyped operation would wait for ever. One that is like none of the known ones may be
/// of a newer server.
pub(crate) fn check_operations(types: Vec<String>) -> Result<BTreeSet<String>, String> {
    let types = check_list(types)?;
    for given in &types {
        if let Some(meant) = meant(given) {
            return Err(format!("{given:?} is no operation type; {meant}"));
        }
    }
    Ok(types.into_iter().collect())
}

/// What to write instead of a text that is certainly a mistake.
fn meant(given: &str) -> Option<String> {
    if OPERATIONS.contains(&given) {
        return None;
    }
    let instead = |name: &str| Some(format!("{name:?} is"));
    let lower = given.to_lowercase();
    match lower.as_str() {
        "*" | "all" | "any" => return Some("leave the option out for all of them".to_owned()),
        "remove" | "removed" | "removes" => return instead("delete"),
        "upsert" | "upserts" => return Some("an upsert is \"insert\" or \"update\"".to_owned()),
        "add" | "added" | "new" => return instead("insert"),
        "change" | "changed" | "modified" => return instead("update"),
        _ => {}
    }
    let near = OPERATIONS.iter().find(|name| {
        let far = if name.len() < 5 { 1 } else { 2 };
        distance(&name.to_lowercase(), &lower) <= far
    });
    instead(near?)
}

/// How many characters have to be put in, taken out or replaced to make one text of the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, character) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (at, found) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(*found != character);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

fn parse_token(value: &str) -> Result<Document, String> {
    let token = json::parse_document(value)?;
    if token.is_empty() {
        return Err("an empty document is no resume token".to_owned());
    }
    Ok(token)
}

/// The stage by which the server splits events that are too large for one message.
pub(crate) const SPLIT_STAGE: &str = "$changeStreamSplitLargeEvent";

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str, value: &str) -> String {
        Options::new().set(name, value).expect_err(value).to_string()
    }

    #[test]
    fn every_default_is_accepted_and_is_the_default() {
        let mut options = Options::new();
        for option in OPTIONS.iter().filter(|option| !option.default.is_empty()) {
            options.set(option.name, option.default).unwrap();
        }
        assert_eq!(format!("{options:?}"), format!("{:?}", Options::new()));
    }

    #[test]
    fn bad_values_name_the_option_and_what_it_takes() {
        for (name, value) in [
            ("start_at_time", "1732264946123"),
            ("start_at_time", "yesterday"),
            ("start_at_time", "1:2:3"),
            ("start_at_time", "-1"),
            ("resume_after", "{"),
            ("resume_after", "[]"),
            ("start_after", "{}"),
            ("namespaces", ""),
            ("namespaces", " "),
            ("namespaces", "shop.orders,,shop.items"),
            ("namespaces", "shop.orders,"),
            ("namespaces", "[]"),
            ("namespaces", "[\"shop.orders\", \" \"]"),
            ("namespaces", "[\"shop.orders\", 1]"),
            ("namespaces", "[\"shop.orders\""),
            ("operations", ""),
            ("operations", "insert, ,delete"),
            ("full_document_before_change", "default"),
            ("show_expanded_events", "yes"),
            ("pipeline", "[{\"$project\":{\"_id\":0}}]"),
            ("pipeline", "{}"),
            ("pipeline", "[1]"),
            ("pipeline", "[{}]"),
            ("pipeline", "[{\"match\":{}}]"),
            ("full_document", "UpdateLookup"),
            ("full_document_before_change", "default"),
            ("batch_size", "0"),
            ("batch_size", "2147483648"),
            ("await_ms", ""),
            ("format", "xml"),
            ("json", ""),
            ("retry_ms", "-2"),
            ("name", ""),
            ("on_invalidate", "ignore"),
            ("on_oversized", "ignore"),
            ("pipeline", "[{\"$changeStreamSplitLargeEvent\":{}}]"),
            ("checkpoint_file", ""),
            ("checkpoint_uri", "nonsense"),
            ("checkpoint_ms", "0"),
        ] {
            let text = message(name, value);
            let option = OPTIONS.iter().find(|option| option.name == name).unwrap();
            assert!(text.contains(name) && text.contains(option.values), "{text}");
        }
        assert!(message("start_at_time", "1732264946123").contains("milliseconds"));
        assert!(message("shape", "x").contains("pipeline"), "names the options there are");
    }

    #[test]
    fn a_bad_value_changes_nothing() {
        let mut options = Options::new();
        options.set("batch_size", "7").unwrap();
        options.set("batch_size", "x").unwrap_err();
        assert_eq!(options.batch_size, 7);
    }

    #[test]
    fn lists_take_commas_or_json() {
        let mut options = Options::new();
        options.set("namespaces", "shop.orders , shop.a[b").unwrap();
        assert_eq!(options.namespaces, ["shop.orders", "shop.a[b"]);
        options.set("namespaces", " [\"shop.a,b\", \"shop. c\"]").unwrap();
        assert_eq!(options.namespaces, ["shop.a,b", "shop. c"]);
        options.set("operations", "update,insert,update,futureOperation").unwrap();
        let operations = Vec::from_iter(&options.operations);
        assert_eq!(operations, ["futureOperation", "insert", "update"]);
    }

    #[test]
    fn a_mistyped_operation_is_refused_with_the_right_one() {
        for (given, named) in [
            ("inserts", "\"insert\""),
            ("inserted", "\"insert\""),
            ("Insert", "\"insert\""),
            ("isnert", "\"insert\""),
            ("insert,updates", "\"update\""),
            ("deleted", "\"delete\""),
            ("remove", "\"delete\""),
            ("dropdatabase", "\"dropDatabase\""),
            ("createIndex", "\"createIndexes\""),
            ("drops", "\"drop\""),
            ("upsert", "\"update\""),
            ("*", "leave the option out"),
            ("all", "leave the option out"),
        ] {
            let text = message("operations", given);
            assert!(text.contains("option operations") && text.contains(named), "{text}");
        }
        let mut options = Options::new();
        for name in OPERATIONS {
            options.set("operations", name).unwrap();
            assert_eq!(options.unknown_operations().next(), None);
        }
        for unknown in ["futureOperation", "endOfTransaction", "ping"] {
            options.set("operations", &format!("insert,{unknown}")).unwrap();
            assert_eq!(options.unknown_operations().collect::<Vec<_>>(), [unknown]);
        }
    }

    #[test]
    fn two_starts_exclude_each_other() {
        let mut options = Options::new();
        options.set("start_at_time", "1:2").unwrap();
        options.check().unwrap();
        options.set("start_after", r#"{"_data":"82"}"#).unwrap();
        let text = options.check().unwrap_err().to_string();
        assert!(text.contains("start_at_time") && text.contains("start_after"), "{text}");
        options.set_start(&Start::Now).unwrap();
        options.check().unwrap();
    }
}
