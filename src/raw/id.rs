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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_that_holds_what_is_not_a_number_is_itself() {
        let nan = || Bson::Double(f64::NAN);
        let holds = |number: Bson| Bson::Document(doc! { "a": 1, "b": [number] });
        assert!(is_same_id(&nan(), &nan()) && is_same_id(&holds(nan()), &holds(nan())));
        assert!(is_same_id(&1.into(), &1.into()));
        assert!(!is_same_id(&nan(), &1.0.into()) && !is_same_id(&1.0.into(), &nan()));
        assert!(!is_same_id(&holds(nan()), &holds(1.into())));
    }
}
