//! Many collections on one cursor: which ones, and the stage that lets their events through.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bson::{Bson, Document, Regex, doc};

use crate::error::{Error, Result};
use crate::options::names::check_namespace;

/// The collections that one stream watches; `*` in a name stands for any run of characters.
///
/// Sorted and without duplicates: the same collections are the same stream, however they were listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Namespaces(BTreeMap<String, BTreeSet<String>>);

impl Namespaces {
    /// Of collection names where a database is given, of `database.collection` else.
    pub(crate) fn new(database: Option<&str>, items: &[String]) -> Result<Self> {
        let mut databases = BTreeMap::<String, BTreeSet<String>>::new();
        for item in items {
            let (database, collection) = split(database, item)
                .map_err(|reason| Error::argument(format!("option namespaces: {reason}")))?;
            databases.entry(database.to_owned()).or_default().insert(collection.to_owned());
        }
        Ok(Self(databases))
    }

    /// The database, if it is the same for all of them.
    pub(crate) fn database(&self) -> Option<&str> {
        let mut names = self.0.keys();
        names.next().filter(|_| names.next().is_none()).map(String::as_str)
    }

    /// Their databases.
    pub(crate) fn databases(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether a collection is one of them, by name or by a name with `*`.
    pub(crate) fn include(&self, database: &str, collection: &str) -> bool {
        let names = self.0.get(database);
        names.is_some_and(|names| names.iter().any(|name| stands_for(name, collection)))
    }

    /// All of them as `database.collection`.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(|(database, collections)| {
            collections.iter().map(move |name| format!("{database}.{name}"))
        })
    }

    /// Whether this very name is listed.
    pub(crate) fn lists(&self, database: &str, collection: &str) -> bool {
        self.0.get(database).is_some_and(|names| names.contains(collection))
    }

    /// Whether a name with `*` may stand for a collection of this database.
    pub(crate) fn has_patterns_in(&self, database: &str) -> bool {
        self.0.get(database).is_some_and(|names| names.iter().any(|name| name.contains('*')))
    }

    /// Lets through what happens to these collections, what is renamed to one of them, and what ends
    /// them all: the drop of their database, and the `invalidate` without which the server would end
    /// the cursor unseen.
    ///
    /// Servers look up plain fields much faster than they compare whole `ns` documents, and many names
    /// faster in an expression (seen with 6.0.5). Within one database the cursor itself is of that database.
    pub(crate) fn stage(&self) -> Document {
        // What most events meet stands first: the server looks no further.
        let mut any = Vec::new();
        let mut operations = vec!["invalidate"];
        for (database, collections) in &self.0 {
            if collections.contains("*") {
                any.push(doc! { "ns.db": database });
                any.push(doc! { "to.db": database });
                continue;
            }
            let names = Vec::from_iter(collections.iter().map(|name| condition(name)));
            let mut own = if names.iter().all(|name| name.as_str().is_some()) {
                // Literally: a name may begin with a `$`, as a path of fields does.
                doc! { "$expr": { "$in": ["$ns.coll", { "$literal": names.clone() }] } }
            } else {
                doc! { "ns.coll": { "$in": names.clone() } }
            };
            let mut renamed = doc! { "to.coll": { "$in": names } };
            if self.database().is_some() {
                operations.push("dropDatabase");
            } else {
                own.insert("ns.db", database);
                renamed.insert("to.db", database);
                any.push(doc! { "operationType": "dropDatabase", "ns.db": database });
            }
            any.extend([own, renamed]);
        }
        any.push(doc! { "operationType": { "$in": operations } });
        doc! { "$match": { "$or": any } }
    }
}

/// `shop.orders`, `shop.{items,orders}`, `audit.log,shop.{items,orders}`; cut short where it is long.
impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Bytes of names.
        const ENOUGH: usize = 80;
        let mut left: usize = self.0.values().map(BTreeSet::len).sum();
        let mut written = 0;
        for (index, (database, collections)) in self.0.iter().enumerate() {
            if written >= ENOUGH {
                return write!(f, ",... {left} more");
            }
            let comma = if index > 0 { "," } else { "" };
            let braces = collections.len() > 1;
            write!(f, "{comma}{database}.{}", if braces { "{" } else { "" })?;
            for (index, name) in collections.iter().enumerate() {
                let comma = if index > 0 { "," } else { "" };
                if written >= ENOUGH {
                    return write!(f, "{comma}... {left} more}}");
                }
                write!(f, "{comma}{name}")?;
                written += name.len() + 1;
                left -= 1;
            }
            f.write_str(if braces { "}" } else { "" })?;
        }
        Ok(())
    }
}

fn split<'a>(database: Option<&'a str>, item: &'a str) -> Result<(&'a str, &'a str), String> {
    let (database, collection) = match database {
        Some(database) => (database, item),
        None => item.split_once('.').ok_or_else(|| {
            format!("{item:?} names no database: give it as database.collection, or the database beside it")
        })?,
    };
    if database.contains('*') {
        return Err(format!(
            "{item:?} has a * in the database: it can only stand in the collection"
        ));
    }
    check_namespace(Some(database), Some(collection)).map_err(|error| error.to_string())?;
    Ok((database, collection))
}

/// Whether a name, in which `*` is any run of characters, stands for this one.
fn stands_for(name: &str, collection: &str) -> bool {
    let Some((first, rest)) = name.split_once('*') else { return name == collection };
    let Some(mut left) = collection.strip_prefix(first) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*') {
        match left.find(part) {
            Some(at) => left = &left[at + part.len()..],
            None => return false,
        }
    }
    left.ends_with(last)
}

/// What `$in` takes: the name itself, or a regular expression if it has a `*`.
fn condition(name: &str) -> Bson {
    if !name.contains('*') {
        return name.into();
    }
    let mut pattern = String::from("^");
    for character in name.chars() {
        match character {
            // A dot would stop at a line's end, as `$` would.
            '*' => pattern.push_str(r"[\s\S]*"),
            _ => {
                if character.is_ascii() && !character.is_ascii_alphanumeric() {
                    pattern.push('\\');
                }
                pattern.push(character);
            }
        }
    }
    pattern.push_str(r"\z");
    // No name has a NUL, which is all that a pattern cannot have.
    let regex = |pattern| Ok::<_, bson::error::Error>(Regex { pattern, options: "".try_into()? });
    pattern.try_into().and_then(regex).map_or_else(|_| name.into(), Bson::RegularExpression)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(database: Option<&str>, items: &[&str]) -> Result<Namespaces> {
        let items: Vec<String> = items.iter().copied().map(str::to_owned).collect();
        Namespaces::new(database, &items)
    }

    fn shown(items: &[&str]) -> String {
        of(None, items).unwrap().to_string()
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (name, is, is_not) in [
            ("orders", vec!["orders"], vec!["order", "orders2", ""]),
            ("*", vec!["", "orders", "a.b"], vec![]),
            ("or*", vec!["or", "orders"], vec!["o", "for"]),
            ("*s", vec!["s", "orders"], vec!["", "order"]),
            ("a*b*c", vec!["abc", "a-b-c", "abbc", "abcc"], vec!["ab", "acb", "abca"]),
            ("a*a", vec!["aa", "aba"], vec!["a"]),
            ("*aa*aa*", vec!["aaaa", "aabaa"], vec!["aaa", "aaba"]),
            ("ä*ö", vec!["äö", "ä ö"], vec!["ä"]),
        ] {
            assert!(is.iter().all(|collection| stands_for(name, collection)), "{name}");
            assert!(!is_not.iter().any(|collection| stands_for(name, collection)), "{name}");
        }
    }

    #[test]
    fn the_same_collections_are_equal_however_they_are_listed() {
        let names = of(None, &["shop.orders", "shop.items.eu", "shop.orders"]).unwrap();
        assert_eq!(names, of(Some("shop"), &["items.eu", "orders"]).unwrap());
        assert_eq!(names.names().collect::<Vec<_>>(), ["shop.items.eu", "shop.orders"]);
        assert_eq!(names.database(), Some("shop"));
        assert_eq!(of(None, &["a.x", "b.x"]).unwrap().database(), None);
    }

    #[test]
    fn bad_items_are_named_with_what_is_wrong() {
        for (database, item, named) in [
            (None, "orders", "database.collection"),
            (None, "sh*p.orders", "a * in the database"),
            (None, "*.orders", "a * in the database"),
            (Some("sh*p"), "orders", "a * in the database"),
            (None, ".orders", "database name"),
            (None, "sh op.orders", "database name"),
            (None, "shop.", "collection name"),
            (None, "shop..orders", "collection name"),
            (None, "shop.or$ders", "collection name"),
            (Some("shop"), "", "collection name"),
            (Some("shop"), ".orders", "collection name"),
        ] {
            let text = of(database, &[item]).expect_err(item).to_string();
            assert!(text.starts_with("option namespaces: ") && text.contains(named), "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_short() {
        assert_eq!(shown(&["shop.orders"]), "shop.orders");
        assert_eq!(shown(&["shop.orders", "shop.items"]), "shop.{items,orders}");
        assert_eq!(shown(&["b.x", "a.y", "b.w"]), "a.y,b.{w,x}");
        let many: Vec<String> = (0..100).map(|n| format!("shop.collection{n:02}")).collect();
        let text = Namespaces::new(None, &many).unwrap().to_string();
        assert!(text.starts_with("shop.{collection00,collection01,"), "{text}");
        assert!(text.ends_with(",... 93 more}"), "{text}");
        let many: Vec<String> = (0..100).map(|n| format!("d{n:02}.collection")).collect();
        let text = Namespaces::new(None, &many).unwrap().to_string();
        assert!(text.ends_with(",d07.collection,... 92 more"), "{text}");
        // The commas count.
        let many: Vec<String> = (0..100).map(|n| format!("shop.eleven{n:03}")).collect();
        let text = Namespaces::new(None, &many).unwrap().to_string();
        assert!(text.ends_with("eleven007,... 92 more}"), "{text}");
    }

    #[test]
    fn the_stage_lets_through_the_collections_their_renames_and_what_ends_them() {
        let stage = |items: &[&str]| {
            let stage = of(None, items).unwrap().stage();
            stage.get_document("$match").unwrap().get_array("$or").unwrap().clone()
        };
        let documents =
            |all: &[Document]| all.iter().cloned().map(Bson::Document).collect::<Vec<_>>();
        let ends = |words: &[&str]| doc! { "operationType": { "$in": words.to_vec() } };
        assert_eq!(
            stage(&["shop.b", "shop.a"]),
            documents(&[
                doc! { "$expr": { "$in": ["$ns.coll", { "$literal": ["a", "b"] }] } },
                doc! { "to.coll": { "$in": ["a", "b"] } },
                ends(&["invalidate", "dropDatabase"]),
            ])
        );
        assert_eq!(
            stage(&["shop.*", "shop.a"]),
            documents(&[doc! { "ns.db": "shop" }, doc! { "to.db": "shop" }, ends(&["invalidate"])])
        );
        let names = vec!["x"];
        assert_eq!(
            stage(&["a.x", "b.*"]),
            documents(&[
                doc! { "operationType": "dropDatabase", "ns.db": "a" },
                doc! { "$expr": { "$in": ["$ns.coll", { "$literal": &names }] }, "ns.db": "a" },
                doc! { "to.coll": { "$in": &names }, "to.db": "a" },
                doc! { "ns.db": "b" },
                doc! { "to.db": "b" },
                ends(&["invalidate"]),
            ])
        );
        let pattern = |name: &str| match condition(name) {
            Bson::RegularExpression(regex) => regex.pattern.to_string(),
            other => other.to_string(),
        };
        assert_eq!(pattern("plain"), "\"plain\"");
        // From the first character to the last one, and across the ends of lines.
        assert_eq!(pattern("*_log"), r"^[\s\S]*\_log\z");
        assert_eq!(pattern("a.b*ü1"), r"^a\.b[\s\S]*ü1\z");
        let patterns = ["a*".to_owned(), "b".to_owned()].map(|name| condition(&name));
        assert_eq!(
            stage(&["shop.a*", "shop.b"])[0],
            doc! { "ns.coll": { "$in": patterns.to_vec() } }.into()
        );
    }

    #[test]
    fn what_is_included_is_known_without_the_server() {
        let names = of(None, &["shop.a*", "shop.b", "store.c"]).unwrap();
        assert!(
            names.include("shop", "ax")
                && names.include("shop", "b")
                && names.include("store", "c")
        );
        assert!(
            !names.include("store", "b") && !names.include("shop", "c") && !names.include("x", "b")
        );
        assert!(
            names.lists("shop", "b") && names.lists("shop", "a*") && !names.lists("shop", "ax")
        );
        assert!(names.has_patterns_in("shop") && !names.has_patterns_in("store"));
        assert_eq!(names.databases().collect::<Vec<_>>(), ["shop", "store"]);
    }
}
