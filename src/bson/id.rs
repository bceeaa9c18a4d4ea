//! Whether two values of `_id` are one.

use bson::{Bson, doc};

/// Whether two ids are one; as values those that are not numbers, or hold such a one, do not even equal
/// themselves.
pub(crate) fn is_same_id(a: &Bson, b: &Bson) -> bool {
    match (a, b) {
        (Bson::Double(a), Bson::Double(b)) if a.is_nan() => b.is_nan(),
        (a, b) => a == b || doc! { "_id": a }.to_vec().ok() == doc! { "_id": b }.to_vec().ok(),
    }
}
