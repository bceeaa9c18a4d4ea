//! The name of a collection with its database, as a value.

/// A collection's database and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Namespace {
    pub(crate) database: String,
    pub(crate) collection: String,
}

impl Namespace {
    pub(crate) fn full(&self) -> String {
        format!("{}.{}", self.database, self.collection)
    }
}
