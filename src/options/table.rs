//! Every setting of a worker, once: its name, its values, its default, its check, its text.
//!
//! [`OPTIONS`] is the one table. It feeds [`Options::set`] (and so the C API), the `MS_OPT_*` macros
//! of the header and the documentation; the typed setters of [`Watch`](crate::Watch) end in the same
//! fields and the same checks. The file is long because every option stands in it.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::json::{self, ExtendedJson, Format};
use crate::options::parse::{
    BOOLEAN, check_list, check_operations, not_empty, one_of, parse_list, parse_number,
    parse_position, parse_time, parse_token,
};
use crate::options::pipeline;
use crate::options::settings::Options;
use crate::options::uri::Uri;
use crate::options::values::{
    FullDocument, FullDocumentBeforeChange, OnHistoryLost, OnInvalidate, OnOversized, Snapshot,
    Start,
};

/// How the value of an option is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OptionKind {
    /// A text, such as a name or a path.
    Text,
    /// A whole number.
    Integer,
    /// `true` or `false`.
    Boolean,
    /// One of a few words, see [`OptionInfo::choices`].
    Choice,
    /// Texts, separated by commas or as a JSON array.
    List,
    /// JSON.
    Json,
}

impl OptionKind {
    /// Its name in [`describe_options`](crate::describe_options).
    pub const fn name(self) -> &'static str {
        match self {
            OptionKind::Text => "text",
            OptionKind::Integer => "integer",
            OptionKind::Boolean => "boolean",
            OptionKind::Choice => "choice",
            OptionKind::List => "list",
            OptionKind::Json => "json",
        }
    }
}

/// What the table says of one option.
#[derive(Debug)]
#[non_exhaustive]
pub struct OptionInfo {
    /// The name that [`Options::set`] and `ms_options_set` take.
    pub name: &'static str,
    /// How a value is written.
    pub kind: OptionKind,
    /// The values it takes.
    pub values: &'static str,
    /// The value that holds where none is set; empty: not set.
    pub default: &'static str,
    /// What it does.
    pub text: &'static str,
    set: fn(&mut Options, &str) -> Result<(), String>,
}

impl OptionInfo {
    /// The words of which it takes one; none for an option of another kind.
    pub fn choices(&self) -> impl Iterator<Item = &'static str> {
        let values = if self.kind == OptionKind::Choice { self.values } else { "" };
        values.split(" | ").filter(|choice| !choice.is_empty())
    }
}

/// Every option there is.
pub static OPTIONS: &[OptionInfo] = &[
    OptionInfo {
        name: "name",
        kind: OptionKind::Text,
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
        kind: OptionKind::Text,
        values: "unix seconds, or seconds:increment",
        default: "",
        text: "Begin with the first change at or after this cluster time. Excludes the other start options.",
        set: |options, value| {
            options.start_at_time = Some(parse_time(value)?);
            Ok(())
        },
    },
    OptionInfo {
        name: "resume_after",
        kind: OptionKind::Json,
        values: "resume token (JSON)",
        default: "",
        text: "Begin after the event with this token; the server refuses the token of an \
               invalidate. Excludes the other start options.",
        set: |options, value| {
            options.resume_after = Some(parse_token(value)?);
            Ok(())
        },
    },
    OptionInfo {
        name: "start_after",
        kind: OptionKind::Json,
        values: "resume token (JSON)",
        default: "",
        text: "As resume_after, and takes the token of an invalidate too. Excludes the other start options.",
        set: |options, value| {
            options.start_after = Some(parse_token(value)?);
            Ok(())
        },
    },
    OptionInfo {
        name: "start_at_position",
        kind: OptionKind::Json,
        values: "position of a message (JSON), or an empty text",
        default: "",
        text: "Continue after the message with this position, which your program has stored with what it made of \
               the message; an unfinished snapshot is finished first. An empty text is as if it were not set. \
               It may stand next to snapshot, which then begins where there is no position. Excludes the other \
               start options.",
        set: |options, value| {
            options.start_at_position = parse_position(value)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "namespaces",
        kind: OptionKind::List,
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
        kind: OptionKind::List,
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
        kind: OptionKind::Json,
        values: "JSON array of aggregation stages",
        default: "[]",
        text: "Stages that the server puts after $changeStream, such as $match and $project. Keep \
               the event's _id: it is the resume token. They do not filter the documents of a snapshot.",
        set: |options, value| {
            options.pipeline = pipeline::check(json::parse_array_of_documents(value)?)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "full_document",
        kind: OptionKind::Choice,
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
        kind: OptionKind::Choice,
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
        kind: OptionKind::Boolean,
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
        kind: OptionKind::Integer,
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
        kind: OptionKind::Integer,
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
        kind: OptionKind::Choice,
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
        kind: OptionKind::Choice,
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
        kind: OptionKind::Boolean,
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
        kind: OptionKind::Integer,
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
        kind: OptionKind::Choice,
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
        kind: OptionKind::Choice,
        values: "fail | restart | snapshot",
        default: "fail",
        text: "When the oplog no longer holds the point to go on from: end with MS_ERR_HISTORY_LOST, or go \
               on from now after a message with the operation gap, which says from when to when \
               changes may be missing, or the same with a snapshot after that message.",
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
        kind: OptionKind::Choice,
        values: "continue | stop",
        default: "continue",
        text: "When what is watched was dropped or renamed: go on with what comes by the same name, or \
               end with MS_ERR_INVALIDATED after the last event.",
        set: |options, value| {
            let policies = [("continue", OnInvalidate::Continue), ("stop", OnInvalidate::Stop)];
            options.on_invalidate = one_of(&policies, value)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "on_oversized",
        kind: OptionKind::Choice,
        values: "split | fail | skip",
        default: "split",
        text: "When a change event is larger than 16 MB: let the server split it and put it together \
               again (MongoDB 6.0.9, else as fail), end with MS_ERR_OVERSIZED, or go on after a message \
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
        kind: OptionKind::Text,
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
        kind: OptionKind::Text,
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
        kind: OptionKind::Text,
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
        kind: OptionKind::Text,
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
        kind: OptionKind::Integer,
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
    OptionInfo {
        name: "standby",
        kind: OptionKind::Boolean,
        values: "true | false",
        default: "false",
        text: "One of two or more workers of the same stream, in processes of their own, delivers; the others wait in \
               state standby, and one takes over when it is gone. Needs checkpoint_collection. Give all of them the \
               same checkpoint_name and options.",
        set: |options, value| {
            options.standby = one_of(&BOOLEAN, value)?;
            Ok(())
        },
    },
    OptionInfo {
        name: "lease_ms",
        kind: OptionKind::Integer,
        values: "1000 to 600000",
        default: "10000",
        text: "How long a standby waits after it has heard of the worker that delivers for the last time, in \
               milliseconds. That worker renews its lease after each third of this time. The clocks of the \
               deployment's members must agree to within a tenth of it.",
        set: |options, value| {
            options.lease = Duration::from_millis(parse_number(value, 1000, 600_000)?);
            Ok(())
        },
    },
];

impl Options {
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

    pub(crate) fn set_start(&mut self, start: &Start) -> Result<()> {
        let mut changed = Self {
            start_at_time: None,
            resume_after: None,
            start_after: None,
            start_at_position: None,
            ..self.clone()
        };
        match start {
            Start::Now => {}
            Start::Time { seconds, increment } => {
                changed.start_at_time = Some((*seconds, *increment))
            }
            Start::ResumeAfter(token) => changed.set("resume_after", token)?,
            Start::StartAfter(token) => changed.set("start_after", token)?,
            Start::Position(text) => changed.set("start_at_position", text)?,
        }
        *self = changed;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::parse::OPERATIONS;

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
            ("start_at_position", "{"),
            ("start_at_position", "{}"),
            ("start_at_position", r#"{"_data":"82"}"#),
            ("start_at_position", r#"{"mongostream_checkpoint":1}"#),
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
    fn a_position_stands_next_to_a_snapshot_and_an_empty_one_is_none() {
        let mut options = Options::new();
        options.set("snapshot", "initial").unwrap();
        options.set("start_at_position", r#"{"mongostream_position":1}"#).unwrap();
        options.check().unwrap();
        assert_eq!(options.start_option(), Some("start_at_position"));
        options.set("start_at_time", "1").unwrap();
        assert!(options.check().is_err());
        options.set("start_at_position", " ").unwrap();
        assert_eq!(options.start_option(), Some("start_at_time"));
        options.set_start(&Start::Position(r#"{"mongostream_position":1}"#.to_owned())).unwrap();
        assert_eq!(options.start_option(), Some("start_at_position"));
        options.set_start(&Start::Now).unwrap();
        assert_eq!(options.start_option(), None);
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
