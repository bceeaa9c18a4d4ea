//! The text from which each message's subject or topic is made, such as `shop.{collection}`.

use mongostream::Message;

use super::partition;
use crate::failure::Failure;

/// Literal texts and fields, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Database,
    Collection,
    Operation,
    Partition,
}

/// What a message gives for the fields.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Values<'a> {
    pub(crate) database: &'a str,
    pub(crate) collection: &'a str,
    pub(crate) operation: &'a str,
    pub(crate) partition: u32,
}

impl<'a> Values<'a> {
    pub(crate) fn of(message: &'a Message, partitions: u32) -> Self {
        let id = match message.document_id() {
            // A drop belongs to its collection.
            "" => message.namespace(),
            id => id,
        };
        Self {
            database: message.database().unwrap_or_default(),
            collection: message.collection().unwrap_or_default(),
            operation: message.operation(),
            partition: partition::of(id, partitions),
        }
    }
}

/// What stands for a name that is not there, such as the collection of a dropped database.
const NONE: &str = "-";

impl Template {
    /// `option` is what the user calls it.
    pub(crate) fn parse(option: &str, text: &str) -> Result<Self, Failure> {
        let wrong = |why: String| {
            Failure::usage(format!(
                "{option} {text:?}: {why}; it may contain {{database}}, {{collection}}, {{operation}} and {{partition}}"
            ))
        };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            let Some((name, after)) = after.split_once('}') else {
                return Err(wrong("a { has no }".to_owned()));
            };
            let field = match name {
                "database" => Field::Database,
                "collection" => Field::Collection,
                "operation" => Field::Operation,
                "partition" => Field::Partition,
                _ => return Err(wrong(format!("there is no {{{name}}}"))),
            };
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Field(field));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        parts.retain(|part| *part != Part::Text(String::new()));
        if parts.iter().any(|part| matches!(part, Part::Text(text) if text.contains(['{', '}']))) {
            return Err(wrong("a } has no {".to_owned()));
        }
        Ok(Self(parts))
    }

    pub(crate) fn has_partition(&self) -> bool {
        self.0.contains(&Part::Field(Field::Partition))
    }

    /// The text itself, where it is the same for all messages.
    pub(crate) fn constant(&self) -> Option<&str> {
        match self.0.as_slice() {
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// What stands before the first field.
    pub(crate) fn beginning(&self) -> &str {
        match self.0.first() {
            Some(Part::Text(text)) => text,
            _ => "",
        }
    }

    /// The text for a message. `write_name` writes a name of the database in a form that the broker takes.
    pub(crate) fn fill(&self, values: Values<'_>, write_name: fn(&str, &mut String)) -> String {
        let mut filled = String::new();
        for part in &self.0 {
            let name = match part {
                Part::Text(text) => {
                    filled.push_str(text);
                    continue;
                }
                Part::Field(Field::Partition) => {
                    filled.push_str(&values.partition.to_string());
                    continue;
                }
                Part::Field(Field::Database) => values.database,
                Part::Field(Field::Collection) => values.collection,
                Part::Field(Field::Operation) => values.operation,
            };
            write_name(if name.is_empty() { NONE } else { name }, &mut filled);
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values<'_> =
        Values { database: "shop", collection: "orders", operation: "insert", partition: 3 };

    fn filled(text: &str) -> String {
        let template = Template::parse("--subject", text).unwrap();
        template.fill(VALUES, |name, text| text.push_str(name))
    }

    #[test]
    fn fields_are_filled_in() {
        assert_eq!(filled("orders"), "orders");
        assert_eq!(filled("{database}.{collection}"), "shop.orders");
        assert_eq!(filled("a.{operation}.{partition}.b{partition}"), "a.insert.3.b3");
        let dropped = Values { collection: "", ..VALUES };
        let template = Template::parse("--subject", "x.{database}.{collection}").unwrap();
        assert_eq!(template.fill(dropped, |name, text| text.push_str(name)), "x.shop.-");
    }

    #[test]
    fn a_template_knows_what_it_has() {
        let template = |text| Template::parse("--subject", text).unwrap();
        assert!(template("a.{partition}").has_partition());
        assert!(!template("a.{database}").has_partition());
        assert_eq!(template("a.b").constant(), Some("a.b"));
        assert_eq!(template("a.{database}").constant(), None);
        assert_eq!(template("a.{database}").beginning(), "a.");
        assert_eq!(template("{database}.a").beginning(), "");
    }

    #[test]
    fn what_is_no_template_is_refused() {
        for (text, reason) in [
            ("{databse}", "there is no {databse}"),
            ("{}", "there is no {}"),
            ("a{database", "a { has no }"),
            ("a}", "a } has no {"),
        ] {
            match Template::parse("--subject", text) {
                Err(Failure::Usage(told)) => assert!(told.contains(reason), "{text}: {told}"),
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_concerns_no_document_is_in_the_partition_of_its_collection() {
        let drop = bson::doc! {
            "_id": { "_data": "8267" },
            "operationType": "drop",
            "ns": { "db": "shop", "coll": "orders" },
        };
        let drop = Message::for_tests("orders", &drop).unwrap();
        assert_eq!(Values::of(&drop, 1000).partition, partition::of("shop.orders", 1000));
    }
}
