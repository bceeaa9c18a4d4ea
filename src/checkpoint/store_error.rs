//! What a store may fail with.

use std::fmt;

use crate::error::{Error, ErrorKind};

/// Why a [`CheckpointStore`](crate::CheckpointStore) could not do what it was asked.
///
/// Made from any error or text with `?` or `into()`, it is permanent. A store says otherwise with
/// [`StoreError::retriable`] and [`StoreError::in_use`]. An [`Error`] of this library keeps what it is.
///
/// It is not itself a [`std::error::Error`], so that every such error can become one;
/// [`source`](Self::source) gives the error inside.
pub struct StoreError {
    kind: StoreErrorKind,
    source: Box<dyn std::error::Error + Send + Sync>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StoreErrorKind {
    Permanent,
    Retriable,
    InUse,
}

impl StoreError {
    /// The same call may succeed later: the network, an election, a full disk.
    pub fn retriable(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind: StoreErrorKind::Retriable, source: reason.into() }
    }

    /// Another worker uses the name. From [`claim`](crate::CheckpointStore::claim) it becomes
    /// [`ErrorKind::InUse`].
    pub fn in_use(reason: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { kind: StoreErrorKind::InUse, source: reason.into() }
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        self.kind != StoreErrorKind::Permanent
    }

    /// Whether another worker uses the name.
    pub fn is_in_use(&self) -> bool {
        self.kind == StoreErrorKind::InUse
    }

    /// The error inside; of a text, an error that shows it.
    pub fn source(&self) -> &(dyn std::error::Error + Send + Sync + 'static) {
        &*self.source
    }
}

impl StoreError {
    pub(crate) fn into_source(self) -> Box<dyn std::error::Error + Send + Sync> {
        self.source
    }
}

impl<E: Into<Box<dyn std::error::Error + Send + Sync>>> From<E> for StoreError {
    fn from(reason: E) -> Self {
        let source = reason.into();
        let kind = match source.downcast_ref::<Error>() {
            Some(error) if error.kind() == ErrorKind::InUse => StoreErrorKind::InUse,
            Some(error) if error.is_retriable() => StoreErrorKind::Retriable,
            _ => StoreErrorKind::Permanent,
        };
        Self { kind, source }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.source.fmt(f)
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError")
            .field("kind", &self.kind)
            .field("source", &self.source)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_says_of_its_failure_is_kept() {
        let kind = |error: StoreError| (error.is_retriable(), error.is_in_use(), error.to_string());
        let text = || "no room".to_owned();
        assert_eq!(kind("no room".into()), (false, false, text()));
        assert_eq!(kind(std::io::Error::other("no room").into()), (false, false, text()));
        assert_eq!(kind(StoreError::retriable("no room")), (true, false, text()));
        assert_eq!(kind(StoreError::in_use("no room")), (true, true, text()));
        let own = Error::new(ErrorKind::Checkpoint, "no room");
        assert_eq!(kind(own.clone().into()), (false, false, text()));
        assert_eq!(kind(own.retriable().into()), (true, false, text()));
        let used = Error::new(ErrorKind::InUse, "no room");
        assert_eq!(kind(used.into()), (true, true, text()));
        let shown = format!("{:?}", StoreError::in_use("no room"));
        assert!(shown.contains("InUse") && shown.contains("no room"), "{shown}");
        assert_eq!(StoreError::from("no room").source().to_string(), text());
    }
}
