//! What is saved: a place, and the stream to which it belongs. One of another stream is refused.

use bson::RawDocumentBuf;
use serde_json::{Value, json};

use crate::checkpoint::ledger::Ledger;
use crate::checkpoint::store_error::StoreError;
use crate::error::{Error, Result};
use crate::json::{self, ExtendedJson};
use crate::options::Options;
use crate::raw::token::Token;
use crate::snapshot::progress::SnapshotProgress;
use crate::source::scope::Scope;

/// What a stream is: a position means something for the same stream only.
pub(crate) struct Identity {
    pub(crate) name: String,
    watch: String,
    /// What narrows it, as JSON; null where nothing does.
    namespaces: Value,
    operations: Value,
    pipeline: String,
}

/// Where a worker goes on: after this token, and first with what is left of a snapshot.
#[derive(Clone, PartialEq)]
pub(crate) struct Saved {
    pub(crate) token: Token,
    pub(crate) snapshot: Option<SnapshotProgress>,
}

impl Saved {
    /// Up to where everything is acked, `None` before the stream was open; and how many messages
    /// that are.
    pub(crate) fn acked(ledger: &Ledger) -> (Option<Self>, u64) {
        let acks = ledger.acks();
        let acked = acks.acked();
        let place = acks.position().map(|token| {
            let snapshot = ledger.snapshot().acked(acked, acks.document()).cloned();
            Saved { token, snapshot }
        });
        (place, acked)
    }
}

/// The version of the saved text.
const VERSION: u64 = 1;
const VERSION_KEY: &str = "mongostream_checkpoint";

impl Identity {
    pub(crate) fn new(name: &str, scope: &Scope, options: &Options) -> Result<Self> {
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
        Ok(Self {
            name: name.to_owned(),
            watch,
            namespaces: json!(namespaces),
            operations: json!(operations),
            pipeline,
        })
    }

    pub(crate) fn write(&self, place: &Saved) -> Result<String, StoreError> {
        let mut narrowed = String::new();
        for (key, value) in [("namespaces", &self.namespaces), ("operations", &self.operations)] {
            if !value.is_null() {
                narrowed.push_str(&format!("\"{key}\":{value},"));
            }
        }
        let mut text = format!(
            "{{\"{VERSION_KEY}\":{VERSION},\"name\":{},\"watch\":{},{narrowed}\"pipeline\":{},\
             \"token\":{}",
            Value::from(self.name.as_str()),
            Value::from(self.watch.as_str()),
            self.pipeline,
            json::of_token(&place.token),
        );
        if let Some(snapshot) = &place.snapshot {
            text.push_str(",\"snapshot\":");
            // Without it the text would say that the snapshot is finished.
            let snapshot = snapshot.to_document().to_vec().map_err(|error| error.to_string())?;
            json::write_document(&mut text, &snapshot, ExtendedJson::Canonical);
        }
        text.push('}');
        Ok(text)
    }

    /// The place that a saved text names, if it belongs to this stream.
    pub(crate) fn read(&self, text: &str) -> Result<Saved, String> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| format!("it is no checkpoint, or a part of one: {error}"))?;
        match value.get(VERSION_KEY).and_then(Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => {
                return Err(format!("it has version {other}, this library reads {VERSION}"));
            }
            None => return Err("it is no checkpoint of mongostream".to_owned()),
        }
        let pipeline: Value = serde_json::from_str(&self.pipeline).unwrap_or_default();
        for (key, ours) in [
            ("name", Value::from(self.name.as_str())),
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

    fn identity(set: &[(&str, &str)], collection: Option<&str>) -> Identity {
        let mut options = Options::new();
        set.iter().for_each(|(name, value)| options.set(name, value).unwrap());
        let namespaces = (!options.namespaces.is_empty()).then(|| {
            crate::source::namespaces::Namespaces::new(Some("shop"), &options.namespaces).unwrap()
        });
        let scope = Scope::new(Some("shop"), collection, namespaces, &options);
        Identity::new("copy", &scope, &options).unwrap()
    }

    fn place() -> Saved {
        Saved { token: Token::from(doc! { "_data": "82" }.to_vec().unwrap()), snapshot: None }
    }

    #[test]
    fn a_checkpoint_names_what_it_belongs_to_and_nothing_that_is_not_set() {
        let plain = identity(&[], Some("orders")).write(&place()).unwrap();
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
            identity(&narrowed, None).write(&place()).unwrap(),
            r#"{"mongostream_checkpoint":1,"name":"copy","watch":"shop","namespaces":["shop.items"],"#.to_owned()
                + r#""operations":["insert"],"pipeline":[{"$match":{"n":{"$numberInt":"1"}}}],"#
                + r#""token":{"_data":"82"}}"#
        );
    }

    #[test]
    fn a_checkpoint_of_anything_else_is_refused() {
        let ours = [("namespaces", "items"), ("operations", "insert")];
        let text = identity(&ours, None).write(&place()).unwrap();
        let read = |set: &[(&str, &str)], text: &str| identity(set, None).read(text).map(drop);
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
}
