//! What is sent of a message.

use std::cell::Cell;
use std::hash::{DefaultHasher, Hash, Hasher};

use mongostream::Message;

use super::broker::Record;
use super::order::Concern;
use super::template::{Template, Values};

/// How records are made.
pub(crate) struct Recipe {
    place: Template,
    partitions: u32,
    write_name: fn(&str, &mut String),
    /// Of the last record's JSON.
    length: Cell<usize>,
}

/// Beyond this a text's growing costs little beside its making.
const LARGE: usize = 16 * 1024;

impl Recipe {
    pub(crate) fn new(place: Template, partitions: u32, write_name: fn(&str, &mut String)) -> Self {
        Self { place, partitions, write_name, length: Cell::new(512) }
    }

    pub(crate) fn record(&self, message: &Message) -> Record {
        let place = match self.place.constant() {
            Some(place) => place.to_owned(),
            None => self.place.fill(Values::of(message, self.partitions), self.write_name),
        };
        // Not `json`: the message would keep the text, too. Most are about as long as the one before.
        let mut payload = String::with_capacity(self.length.get() + self.length.get() / 8);
        message.write_json(&mut payload);
        self.length.set(payload.len().min(LARGE));
        Record {
            place,
            id: message.resume_token().map(|token| id_of(token).to_owned()),
            key: match message.document_id() {
                "" => message.namespace().to_owned(),
                id => id.to_owned(),
            },
            payload: payload.into(),
        }
    }
}

/// What a message concerns, for its order among others.
pub(crate) fn concern(message: &Message) -> Concern {
    match message.document_id() {
        "" => Concern::All,
        id => {
            let mut hasher = DefaultHasher::new();
            (message.namespace(), id).hash(&mut hasher);
            Concern::Document(hasher.finish())
        }
    }
}

/// The part of a resume token that tells it from others.
fn id_of(token: &str) -> &str {
    // What may come after it, `_typeBits`, tells `1` from `1.0`, which no two documents' ids differ in.
    let rest = token.strip_prefix("{\"_data\":\"");
    let data = rest.and_then(|rest| rest.split_once('"')).map(|(data, _)| data);
    match data {
        Some(data) if !data.contains('\\') => data,
        _ => token,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Document, Timestamp, doc};

    fn message(event: &Document) -> Message {
        Message::for_tests("orders", event).unwrap()
    }

    fn insert(id: i32) -> Document {
        doc! {
            "_id": { "_data": "8266" },
            "operationType": "insert",
            "ns": { "db": "shop", "coll": "orders" },
            "documentKey": { "_id": id },
            "fullDocument": { "_id": id },
            "clusterTime": Timestamp { time: 1, increment: 1 },
        }
    }

    fn recipe(place: &str) -> Recipe {
        let place = Template::parse("--subject", place).unwrap();
        Recipe::new(place, 4, |name, text| text.push_str(name))
    }

    #[test]
    fn a_record_has_place_id_key_and_the_json() {
        let message = message(&insert(7));
        let record = recipe("{database}.{partition}").record(&message);
        let partition = super::super::partition::of("7", 4);
        assert_eq!(record.place, format!("shop.{partition}"));
        assert_eq!((record.id.as_deref(), record.key.as_str()), (Some("8266"), "7"));
        assert_eq!(record.payload, message.json().as_bytes());
        assert_eq!(recipe("orders").record(&message).place, "orders");
    }

    #[test]
    fn what_concerns_no_document_has_its_collection_as_key() {
        let drop = message(&doc! {
            "_id": { "_data": "8267" },
            "operationType": "drop",
            "ns": { "db": "shop", "coll": "orders" },
        });
        assert_eq!(recipe("a").record(&drop).key, "shop.orders");
        assert_eq!(concern(&drop), Concern::All);
        let others = [insert(1), insert(2), insert(1)].map(|event| concern(&message(&event)));
        assert_ne!(others[0], others[1]);
        assert_eq!(others[0], others[2]);
    }

    #[test]
    fn the_id_is_the_token_that_the_server_made() {
        assert_eq!(id_of(r#"{"_data":"82AB"}"#), "82AB");
        assert_eq!(id_of(r#"{"_data":"82AB","_typeBits":{"$binary":{}}}"#), "82AB");
        for whole in [r#"{"_data":"82\"AB"}"#, r#"{"x":"82AB"}"#, r#"{"_data":{"a":"b"}}"#] {
            assert_eq!(id_of(whole), whole);
        }
    }
}
