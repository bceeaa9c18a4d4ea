//! What the stream is to be: the options that were given, and what they ask of the deployment.

use serde_json::Value;

use crate::target::Target;

/// The options that were given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wishes(Vec<(&'static str, String)>);

impl Wishes {
    pub(crate) fn of<'a>(given: impl Iterator<Item = (&'static str, &'a str)>) -> Self {
        Self(given.map(|(name, value)| (name, value.to_owned())).collect())
    }

    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(given, _)| *given == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Those that MongoDB 6.0 is needed for.
    pub(crate) fn needing_6(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.iter().filter(|wish| {
            matches!(
                wish,
                ("show_expanded_events", "true")
                    | ("full_document_before_change", "whenAvailable" | "required")
                    | ("full_document", "whenAvailable" | "required")
            )
        })
    }

    /// Those for which the server has to keep documents as they were.
    pub(crate) fn needing_images(&self) -> Vec<(&'static str, &str)> {
        self.needing_6().filter(|(name, _)| *name != "show_expanded_events").collect()
    }

    fn namespaces(&self) -> Vec<String> {
        let Some(text) = self.value("namespaces") else { return Vec::new() };
        match serde_json::from_str::<Vec<Value>>(text) {
            Ok(names) => names.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
            Err(_) => text.split(',').map(|name| name.trim().to_owned()).collect(),
        }
    }
}

/// What is watched, as privileges name it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Watched {
    Collection(String, String),
    /// Of it these collections only, if any are named; `*` stands for any run of characters.
    Database(String, Vec<String>),
    Deployment,
}

impl Watched {
    pub(crate) fn of(target: &Target, in_uri: Option<&str>, wishes: &Wishes) -> Self {
        let names = wishes.namespaces();
        match (&target.database, &target.collection) {
            (Some(database), Some(collection)) => {
                return Self::Collection(database.clone(), collection.clone());
            }
            (Some(database), None) => return Self::Database(database.clone(), names),
            (None, _) => {}
        }
        if names.is_empty() {
            // In admin are the users.
            let database = in_uri.filter(|name| *name != "admin");
            return database
                .map_or(Self::Deployment, |name| Self::Database(name.to_owned(), names));
        }
        let mut databases = Vec::new();
        let mut collections = Vec::new();
        for name in &names {
            let (database, collection) = name.split_once('.').unwrap_or((name, "*"));
            databases.push(database.to_owned());
            collections.push(collection.to_owned());
        }
        databases.dedup();
        match <[String; 1]>::try_from(databases) {
            Ok([database]) => Self::Database(database, collections),
            Err(_) => Self::Deployment,
        }
    }

    /// Whether this collection of its database is watched.
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Collection(_, collection) => collection == name,
            Self::Database(_, names) => {
                names.is_empty() || names.iter().any(|pattern| matches(pattern, name))
            }
            Self::Deployment => true,
        }
    }
}

impl std::fmt::Display for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Collection(database, collection) => {
                write!(f, "the collection {database}.{collection}")
            }
            Self::Database(database, _) => write!(f, "the database {database}"),
            Self::Deployment => f.write_str("the whole deployment"),
        }
    }
}

fn matches(pattern: &str, name: &str) -> bool {
    let Some((before, after)) = pattern.split_once('*') else { return pattern == name };
    let Some(rest) = name.strip_prefix(before) else { return false };
    let ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.into_iter().any(|at| rest.get(at..).is_some_and(|rest| matches(after, rest)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(database: Option<&str>, in_uri: Option<&str>, namespaces: Option<&str>) -> Watched {
        let (database, collection) = (database.map(str::to_owned), None);
        let target = Target { uri: String::new(), database, collection };
        let given = namespaces.map(|value| ("namespaces", value));
        Watched::of(&target, in_uri, &Wishes::of(given.into_iter()))
    }

    fn database(name: &str, collections: &[&str]) -> Watched {
        let collections = collections.iter().map(|&name| name.to_owned()).collect();
        Watched::Database(name.to_owned(), collections)
    }

    #[test]
    fn what_is_watched_is_what_the_library_watches() {
        assert_eq!(watched(None, None, None), Watched::Deployment);
        assert_eq!(watched(None, Some("admin"), None), Watched::Deployment);
        assert_eq!(watched(None, Some("shop"), None), database("shop", &[]));
        assert_eq!(watched(Some("shop"), Some("x"), Some("a, b")), database("shop", &["a", "b"]));
        let one = watched(None, Some("x"), Some("[\"shop.a\",\"shop.b.c\"]"));
        assert_eq!(one, database("shop", &["a", "b.c"]));
        assert_eq!(watched(None, None, Some("shop.a,audit.log")), Watched::Deployment);
    }

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        let some = database("shop", &["items_*", "a*c*e", "orders"]);
        for name in ["items_", "items_1", "ace", "abcde", "orders"] {
            assert!(some.has(name), "{name}");
        }
        for name in ["items", "aced", "order", "orders2"] {
            assert!(!some.has(name), "{name}");
        }
    }
}
