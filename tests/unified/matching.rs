//! Whether a value is what a test expects: the unified test format's "Evaluating Matches", with the
//! special operators that the change-stream tests use.

use bson::spec::ElementType;
use bson::{Bson, Document};

/// A document that may have further fields at its root, though nowhere else.
pub(crate) fn root(expected: &Document, actual: &Document) -> Result<(), String> {
    fields(expected, actual, "", true)
}

fn fields(expected: &Document, actual: &Document, path: &str, root: bool) -> Result<(), String> {
    for (key, value) in expected {
        matches(value, actual.get(key), &format!("{path}.{key}"))?;
    }
    match actual.keys().find(|key| !root && !expected.contains_key(key)) {
        Some(key) => Err(format!("{path}.{key} is there, and is not expected")),
        None => Ok(()),
    }
}

fn matches(expected: &Bson, actual: Option<&Bson>, path: &str) -> Result<(), String> {
    if let Bson::Document(document) = expected
        && let Some((operator, value)) = document.iter().next()
        && operator.starts_with("$$")
    {
        return special(operator, value, actual, path);
    }
    let Some(actual) = actual else { return Err(format!("{path} is not there")) };
    match (expected, actual) {
        (Bson::Document(expected), Bson::Document(actual)) => fields(expected, actual, path, false),
        (Bson::Array(expected), Bson::Array(actual)) if expected.len() == actual.len() => {
            let mut pairs = expected.iter().zip(actual).enumerate();
            pairs.try_for_each(|(i, (expected, actual))| {
                matches(expected, Some(actual), &format!("{path}.{i}"))
            })
        }
        _ if expected == actual || same_number(expected, actual) => Ok(()),
        _ => Err(format!("{path} is {actual}, {expected} is expected")),
    }
}

fn special(operator: &str, value: &Bson, actual: Option<&Bson>, path: &str) -> Result<(), String> {
    match (operator, value, actual) {
        ("$$exists", Bson::Boolean(wanted), _) => match (wanted, actual) {
            (true, None) => Err(format!("{path} is not there")),
            (false, Some(actual)) => Err(format!("{path} is there: {actual}")),
            _ => Ok(()),
        },
        ("$$unsetOrMatches", _, None) => Ok(()),
        ("$$unsetOrMatches", _, Some(_)) => matches(value, actual, path),
        ("$$type", _, None) => Err(format!("{path} is not there")),
        ("$$type", _, Some(actual)) => {
            let wanted = match value {
                Bson::Array(names) => names.as_slice(),
                name => std::slice::from_ref(name),
            };
            let name = type_name(actual);
            match wanted.iter().any(|wanted| wanted.as_str() == Some(name)) {
                true => Ok(()),
                false => Err(format!("{path} is of type {name}, {value} is expected")),
            }
        }
        _ => Err(format!("{path}: the runner does not know {operator}: {value}")),
    }
}

/// Numbers are the same whatever their types, for JSON has one type only.
fn same_number(left: &Bson, right: &Bson) -> bool {
    let whole = |value: &Bson| match value {
        Bson::Int32(number) => Some(i64::from(*number)),
        Bson::Int64(number) => Some(*number),
        _ => None,
    };
    let real = |value: &Bson| match value {
        Bson::Double(number) => Some(*number),
        other => whole(other).map(|number| number as f64),
    };
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => left == right,
        _ => real(left).zip(real(right)).is_some_and(|(left, right)| left == right),
    }
}

/// The name by which the server's `$type` knows it.
fn type_name(value: &Bson) -> &'static str {
    match value.element_type() {
        ElementType::Double => "double",
        ElementType::String => "string",
        ElementType::EmbeddedDocument => "object",
        ElementType::Array => "array",
        ElementType::Binary => "binData",
        ElementType::Undefined => "undefined",
        ElementType::ObjectId => "objectId",
        ElementType::Boolean => "bool",
        ElementType::DateTime => "date",
        ElementType::Null => "null",
        ElementType::RegularExpression => "regex",
        ElementType::DbPointer => "dbPointer",
        ElementType::JavaScriptCode => "javascript",
        ElementType::Symbol => "symbol",
        ElementType::JavaScriptCodeWithScope => "javascriptWithScope",
        ElementType::Int32 => "int",
        ElementType::Timestamp => "timestamp",
        ElementType::Int64 => "long",
        ElementType::Decimal128 => "decimal",
        ElementType::MinKey => "minKey",
        ElementType::MaxKey => "maxKey",
    }
}
