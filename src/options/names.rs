//! Which names databases and collections may have.

use crate::error::{Error, Result};

/// Takes the names that servers take (tried with 4.2.6 and 6.0.5; only 4.2 takes a database with a `$`).
pub(crate) fn check_namespace(database: Option<&str>, collection: Option<&str>) -> Result<()> {
    const NOT_IN_DATABASE: [char; 6] = ['/', '\\', '.', ' ', '"', '\0'];
    if let Some(name) = database
        && (name.is_empty() || name.len() > 63 || name.contains(NOT_IN_DATABASE))
    {
        return Err(Error::argument(format!(
            "{name:?} is not a database name: it has 1 to 63 bytes and none of / \\ . \", space and NUL"
        )));
    }
    if let Some(name) = collection {
        if database.is_none() {
            return Err(Error::argument(format!("collection {name:?} needs a database beside it")));
        }
        if name.is_empty() || name.contains(['$', '\0']) || name.starts_with('.') {
            return Err(Error::argument(format!(
                "{name:?} is not a collection name: it is not empty, has no $ and no NUL, and does not begin \
                 with a dot"
            )));
        }
    }
    Ok(())
}
