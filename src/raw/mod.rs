//! Raw BSON, read in place: values, the change event, its resume token, and what an update has set.

pub(crate) mod block;
pub(crate) mod document_key;
pub(crate) mod element;
pub(crate) mod event;
pub(crate) mod id;
pub(crate) mod namespace;
pub(crate) mod paths;
pub(crate) mod token;

/// Nesting below which documents are read.
pub(crate) const MAX_DEPTH: usize = 1_000;
