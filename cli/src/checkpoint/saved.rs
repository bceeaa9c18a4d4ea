//! What a checkpoint says: to which stream it belongs, and where in it a restart goes on.

use bson::DateTime;
use serde_json::{Value, json};

/// The text of a checkpoint, read.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    pub(crate) name: String,
    value: Value,
}

impl Checkpoint {
    /// The library's own text, as `FileCheckpoint` and `CollectionCheckpoint` keep it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| format!("it is no checkpoint, or a part of one: {error}"))?;
        match value.get("mongostream_checkpoint").and_then(Value::as_u64) {
            Some(1) => {}
            Some(other) => return Err(format!("it has version {other}, and this program reads 1")),
            None => return Err("it is no checkpoint of mongostream".to_owned()),
        }
        match value.get("name").and_then(Value::as_str) {
            Some(name) => Ok(Self { name: name.to_owned(), value }),
            None => Err("it is no checkpoint of mongostream: it has no name".to_owned()),
        }
    }

    /// The same place under another name, as a text.
    pub(crate) fn renamed(mut self, name: &str) -> String {
        if let Some(key) = self.value.get_mut("name") {
            *key = Value::from(name);
        }
        self.value.to_string()
    }

    /// Seconds, and the number within the second.
    pub(crate) fn time(&self) -> Option<(u32, u32)> {
        let data = self.value.get("token")?.get("_data")?.as_str()?.strip_prefix("82")?;
        let number = |digits: &str| u32::from_str_radix(digits, 16).ok();
        Some((number(data.get(..8)?)?, number(data.get(8..16)?)?))
    }

    fn is_in_a_snapshot(&self) -> bool {
        self.value.get("snapshot").is_some()
    }

    pub(crate) fn to_json(&self, saved_at: Option<DateTime>) -> Value {
        let get = |key| self.value.get(key).cloned().unwrap_or_default();
        json!({
            "name": self.name,
            "watch": get("watch"),
            "namespaces": get("namespaces"),
            "operations": get("operations"),
            "pipeline": get("pipeline"),
            "token": get("token"),
            "time": self.time().map(|(t, i)| json!({ "t": t, "i": i })),
            "snapshot_unfinished": self.is_in_a_snapshot(),
            "saved_at": saved_at.and_then(|at| at.try_to_rfc3339_string().ok()),
        })
    }

    /// Lines of a name and a value.
    pub(crate) fn to_lines(
        &self,
        saved_at: Option<DateTime>,
        now: DateTime,
    ) -> Vec<(&'static str, String)> {
        let text = |key| {
            self.value.get(key).map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
        };
        let mut lines = vec![("checkpoint", self.name.clone())];
        lines.push(("stream", text("watch").unwrap_or_default()));
        for key in ["namespaces", "operations", "pipeline"] {
            lines.extend(text(key).filter(|value| value != "[]").map(|value| (key, value)));
        }
        if let Some((seconds, increment)) = self.time() {
            let at = DateTime::from_millis(i64::from(seconds) * 1000);
            lines.push(("time", format!("{seconds}:{increment}, {}", moment(at, now))));
        }
        lines.push(("token", text("token").unwrap_or_default()));
        if self.is_in_a_snapshot() {
            let told = "not finished: a restart reads the rest of it first";
            lines.push(("snapshot", told.to_owned()));
        }
        lines.extend(saved_at.map(|at| ("saved", moment(at, now))));
        lines
    }
}

/// A time for people.
fn moment(at: DateTime, now: DateTime) -> String {
    let seconds = (now.timestamp_millis() - at.timestamp_millis()) / 1000;
    let ago = match seconds {
        ..0 => "in the future".to_owned(),
        0..=119 => format!("{seconds} s ago"),
        120..=7199 => format!("{} minutes ago", seconds / 60),
        7200..=172_799 => format!("{} hours ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    };
    let shown = at.try_to_rfc3339_string().unwrap_or_default();
    format!("{shown} ({ago})")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"mongostream_checkpoint":1,"name":"copy","watch":"shop.orders","operations":["insert"],"pipeline":[],"token":{"_data":"82674040F2000000032B"},"snapshot":{}}"#;

    #[test]
    fn a_text_says_where_and_of_what_it_is() {
        let checkpoint = Checkpoint::parse(TEXT).unwrap();
        assert_eq!(checkpoint.time(), Some((0x6740_40F2, 3)));
        let saved = DateTime::from_millis(0x6740_40F2 * 1000);
        let now = DateTime::from_millis(saved.timestamp_millis() + 180_000);
        let lines = checkpoint.to_lines(Some(saved), now);
        let keys: Vec<_> = lines.iter().map(|(key, _)| *key).collect();
        assert_eq!(
            keys,
            ["checkpoint", "stream", "operations", "time", "token", "snapshot", "saved"]
        );
        assert_eq!(lines[3].1, "1732264178:3, 2024-11-22T08:29:38Z (3 minutes ago)");
        let json = checkpoint.to_json(None);
        assert_eq!((&json["snapshot_unfinished"], &json["time"]["i"]), (&json!(true), &json!(3)));
        assert_eq!(checkpoint.renamed("other"), TEXT.replace("copy", "other"));
    }

    #[test]
    fn what_is_no_checkpoint_is_refused() {
        for (text, why) in [
            ("", "a part of one"),
            ("{}", "no checkpoint of mongostream"),
            ("7", "no checkpoint of mongostream"),
            (r#"{"mongostream_checkpoint":2}"#, "version 2"),
            (r#"{"mongostream_checkpoint":1}"#, "no name"),
        ] {
            let reason = Checkpoint::parse(text).unwrap_err();
            assert!(reason.contains(why), "{text}: {reason}");
        }
        let strange = r#"{"mongostream_checkpoint":1,"name":"x","token":{"_data":"82ö"}}"#;
        assert_eq!(Checkpoint::parse(strange).unwrap().time(), None);
    }
}
