//! A place as text, in a checkpoint or as the position of a message, and the stream to which it belongs. A place of
//! another stream is refused.

use bson::RawDocumentBuf;
use serde_json::{Value, json};

use crate::checkpoint::store_error::StoreError;
use crate::error::{Error, Result};
use crate::json::{self, ExtendedJson};
use crate::options::Options;
use crate::options::parse::POSITION_KEY;
use crate::raw::token::Token;
use crate::snapshot::progress::{SnapshotPlace, SnapshotProgress};
use crate::source::scope::Scope;

/// What a stream is: a place means something for the same stream only.
pub(crate) struct StreamIdentity {
    watch: String,
    /// What narrows it, as JSON; null where nothing does.
    namespaces: Value,
    operations: Value,
    pipeline: String,
}

/// The whole deployment.
impl Default for StreamIdentity {
    fn default() -> Self {
        let (namespaces, operations) = Default::default();
        Self { watch: "*".to_owned(), namespaces, operations, pipeline: "[]".to_owned() }
    }
}

/// Where a worker continues: after this token, and first with what is left of a snapshot.
#[derive(Clone, PartialEq)]
pub(crate) struct Saved {
    pub(crate) token: Token,
    pub(crate) snapshot: Option<SnapshotProgress>,
}

impl Saved {
    /// The place after a message of a stream, by its resume token, or of a snapshot, by its document's key. `None` if
    /// it has none.
    pub(crate) fn after(
        snapshot: Option<&SnapshotPlace>,
        token: Option<&[u8]>,
        key: Option<&[u8]>,
    ) -> Option<Self> {
        match snapshot {
            Some(place) => {
                let snapshot = Some(place.after(key)?);
                Some(Self { token: Token::clone(&place.token), snapshot })
            }
            None => Some(Self { token: Token::from(token?), snapshot: None }),
        }
    }
}

/// The version of both texts.
const VERSION: u64 = 1;

/// What a text is, by its first key.
#[derive(Clone, Copy)]
enum Form<'a> {
    /// The checkpoint of this name.
    Checkpoint(&'a str),
    Position,
}

impl Form<'_> {
    fn version_key(self) -> &'static str {
        match self {
            Form::Checkpoint(_) => "mongostream_checkpoint",
            Form::Position => POSITION_KEY,
        }
    }

    fn what(self) -> &'static str {
        match self {
            Form::Checkpoint(_) => "checkpoint",
            Form::Position => "position",
        }
    }
}

impl StreamIdentity {
    pub(crate) fn new(scope: &Scope, options: &Options) -> Result<Self> {
        let mut pipeline = String::from("[");
        for (index, stage) in options.pipeline.iter().enumerate() {
            let stage = RawDocumentBuf::try_from(stage)
                .map_err(|error| Error::argument(format!("pipeline: {error}")))?;
            if index > 0 {
                pipeline.push(',');
            }
            json::write_document(&mut pipeline, stage.as_bytes(), ExtendedJson::Canonical);
        }
        pipeline.push(']');
        // What is shown of a long list is cut short.
        let watch = match &scope.namespaces {
            Some(_) => scope.database.clone().unwrap_or_else(|| "*".to_owned()),
            None => scope.namespace(),
        };
        let namespaces = scope.namespaces.as_ref().map(|all| Vec::from_iter(all.names()));
        let operations = Some(&options.operations).filter(|types| !types.is_empty());
        Ok(Self { watch, namespaces: json!(namespaces), operations: json!(operations), pipeline })
    }

    /// The text of a checkpoint of this name.
    pub(crate) fn write_checkpoint(&self, name: &str, place: &Saved) -> Result<String, StoreError> {
        self.write(Form::Checkpoint(name), place)
    }

    /// The place that the checkpoint of this name has, if it belongs to this stream.
    pub(crate) fn read_checkpoint(&self, name: &str, text: &str) -> Result<Saved, String> {
        self.read(Form::Checkpoint(name), text)
    }

    /// The text of the position of a message.
    pub(crate) fn write_position(&self, place: &Saved) -> Result<String, StoreError> {
        self.write(Form::Position, place)
    }

    /// The place that a position names, if it belongs to this stream.
    pub(crate) fn read_position(&self, text: &str) -> Result<Saved, String> {
        self.read(Form::Position, text)
    }

    fn write(&self, form: Form<'_>, place: &Saved) -> Result<String, StoreError> {
        let mut text = format!("{{\"{}\":{VERSION},", form.version_key());
        if let Form::Checkpoint(name) = form {
            text.push_str(&format!("\"name\":{},", Value::from(name)));
        }
        text.push_str(&format!("\"watch\":{},", Value::from(self.watch.as_str())));
        for (key, value) in [("namespaces", &self.namespaces), ("operations", &self.operations)] {
            if !value.is_null() {
                text.push_str(&format!("\"{key}\":{value},"));
            }
        }
        let token = json::of_token(&place.token);
        text.push_str(&format!("\"pipeline\":{},\"token\":{token}", self.pipeline));
        if let Some(snapshot) = &place.snapshot {
            text.push_str(",\"snapshot\":");
            // Without it the text would say that the snapshot is finished.
            let snapshot = snapshot.to_document().to_vec().map_err(|error| error.to_string())?;
            json::write_document(&mut text, &snapshot, ExtendedJson::Canonical);
        }
        text.push('}');
        Ok(text)
    }

    fn read(&self, form: Form<'_>, text: &str) -> Result<Saved, String> {
        let what = form.what();
        let value: Value = serde_json::from_str(text)
            .map_err(|error| format!("it is no {what}, or a part of one: {error}"))?;
        match value.get(form.version_key()).and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => {
                return Err(format!("it has version {other}, this library reads {VERSION}"));
            }
            None => return Err(format!("it is no {what} of mongostream")),
        }
        let pipeline: Value = serde_json::from_str(&self.pipeline).unwrap_or_default();
        let name = match form {
            Form::Checkpoint(name) => Value::from(name),
            Form::Position => Value::Null,
        };
        for (key, ours) in [
            ("name", name),
            ("watch", Value::from(self.watch.as_str())),
            ("namespaces", self.namespaces.clone()),
            ("operations", self.operations.clone()),
            ("pipeline", pipeline),
        ] {
            let theirs = value.get(key).unwrap_or(&Value::Null);
            if *theirs != ours {
                return Err(format!(
                    "it belongs to another stream: its {key} is {theirs}, not {ours}"
                ));
            }
        }
        let token = value.get("token").map(Value::to_string).unwrap_or_default();
        let token = json::parse_document(&token).map_err(|error| format!("its token: {error}"))?;
        let token =
            RawDocumentBuf::try_from(&token).map_err(|error| format!("its token: {error}"))?;
        let snapshot = value.get("snapshot").map(|snapshot| {
            let snapshot = json::parse_document(&snapshot.to_string())?;
            SnapshotProgress::from_document(&snapshot)
        });
        let snapshot = snapshot.transpose().map_err(|error| format!("its snapshot: {error}"))?;
        Ok(Saved { token: Token::from(token.as_bytes()), snapshot })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    fn identity(set: &[(&str, &str)], collection: Option<&str>) -> StreamIdentity {
        let mut options = Options::new();
        set.iter().for_each(|(name, value)| options.set(name, value).unwrap());
        let namespaces = (!options.namespaces.is_empty()).then(|| {
            crate::source::namespaces::Namespaces::new(Some("shop"), &options.namespaces).unwrap()
        });
        let scope = Scope::new(Some("shop"), collection, namespaces, &options);
        StreamIdentity::new(&scope, &options).unwrap()
    }

    fn place() -> Saved {
        Saved { token: Token::from(doc! { "_data": "82" }.to_vec().unwrap()), snapshot: None }
    }

    #[test]
    fn a_checkpoint_names_what_it_belongs_to_and_nothing_that_is_not_set() {
        let plain = identity(&[], Some("orders")).write_checkpoint("copy", &place()).unwrap();
        assert_eq!(
            plain,
            r#"{"mongostream_checkpoint":1,"name":"copy","watch":"shop.orders","pipeline":[],"token":{"_data":"82"}}"#
        );
        let narrowed = [
            ("namespaces", "items"),
            ("operations", "insert"),
            ("pipeline", r#"[{"$match":{"n":1}}]"#),
        ];
        assert_eq!(
            identity(&narrowed, None).write_checkpoint("copy", &place()).unwrap(),
            r#"{"mongostream_checkpoint":1,"name":"copy","watch":"shop","namespaces":["shop.items"],"#.to_owned()
                + r#""operations":["insert"],"pipeline":[{"$match":{"n":{"$numberInt":"1"}}}],"#
                + r#""token":{"_data":"82"}}"#
        );
    }

    #[test]
    fn a_checkpoint_of_anything_else_is_refused() {
        let ours = [("namespaces", "items"), ("operations", "insert")];
        let text = identity(&ours, None).write_checkpoint("copy", &place()).unwrap();
        let read = |set: &[(&str, &str)], text: &str| {
            identity(set, None).read_checkpoint("copy", text).map(drop)
        };
        assert_eq!(read(&ours, &text), Ok(()));
        for (key, set) in [
            ("namespaces", [("namespaces", "orders"), ("operations", "insert")]),
            ("operations", [("namespaces", "items"), ("operations", "insert,update")]),
            ("namespaces", [("name", "x"), ("operations", "insert")]),
            ("operations", [("namespaces", "items"), ("name", "x")]),
        ] {
            let error = read(&set, &text).unwrap_err();
            assert!(error.contains(&format!("its {key} is")), "{key}: {error}");
        }
        let filtered = [ours[0], ours[1], ("pipeline", "[{\"$match\":{}}]")];
        assert!(read(&filtered, &text).unwrap_err().contains("its pipeline is"));
        for (what, damaged) in [
            ("name", text.replace("\"copy\"", "\"other\"")),
            ("watch", text.replace("\"shop\"", "\"store\"")),
            ("version 2", text.replace("checkpoint\":1", "checkpoint\":2")),
            ("version 0", text.replace("checkpoint\":1", "checkpoint\":0")),
            ("no checkpoint of mongostream", text.replace("checkpoint\":1", "checkpoint\":\"1\"")),
            ("its token", text.replace("{\"_data\":\"82\"}", "82")),
            ("or a part of one", text[..text.len() - 1].to_owned()),
        ] {
            let error = read(&ours, &damaged).unwrap_err();
            assert!(error.contains(what), "{what}: {error}");
        }
    }

    #[test]
    fn a_position_is_a_checkpoint_without_a_name_and_neither_is_taken_for_the_other() {
        let ours = identity(&[("operations", "insert")], Some("orders"));
        let place = Saved { snapshot: Some(SnapshotProgress::default()), ..place() };
        let text = ours.write_position(&place).unwrap();
        assert_eq!(
            text,
            r#"{"mongostream_position":1,"watch":"shop.orders","operations":["insert"],"pipeline":[],"#
                .to_owned()
                + r#""token":{"_data":"82"},"snapshot":{}}"#
        );
        assert!(ours.read_position(&text) == Ok(place.clone()));
        let error = |read: Result<Saved, String>| read.map(drop).unwrap_err();
        assert!(error(ours.read_checkpoint("copy", &text)).contains("no checkpoint of"));
        let checkpoint = ours.write_checkpoint("copy", &place).unwrap();
        assert!(error(ours.read_position(&checkpoint)).contains("no position of mongostream"));
        let other = identity(&[("operations", "insert")], Some("items"));
        assert!(error(other.read_position(&text)).contains("its watch is \"shop.orders\", not"));
        assert!(error(ours.read_position("")).contains("no position, or a part of one"));
    }
}
