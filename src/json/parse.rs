//! Extended JSON to BSON: options, pipelines, checkpoints.

use bson::Bson;

use crate::error::Result;

/// Reads Extended JSON, relaxed or canonical; fields keep their order.
pub(crate) fn parse_document(text: &str) -> Result<bson::Document, String> {
    match parse(text)? {
        Bson::Document(document) => Ok(document),
        other => Err(format!("expected a JSON object, found {}", describe(&other))),
    }
}

/// Reads a JSON array of Extended JSON documents, as a pipeline is written.
pub(crate) fn parse_array_of_documents(text: &str) -> Result<Vec<bson::Document>, String> {
    let items = match parse(text)? {
        Bson::Array(items) => items,
        other => {
            let found = describe(&other);
            return Err(format!("expected a JSON array of objects, found {found}"));
        }
    };
    let documents = items.into_iter().enumerate().map(|(index, item)| match item {
        Bson::Document(document) => Ok(document),
        other => {
            let found = describe(&other);
            Err(format!("expected a JSON object at index {index}, found {found}"))
        }
    });
    documents.collect()
}

fn parse(text: &str) -> Result<Bson, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
    Bson::try_from(value).map_err(|error| match error.message {
        Some(message) => message,
        // The rest of the crate's text says only that it is an error of BSON.
        None => error.kind.to_string(),
    })
}

fn describe(value: &Bson) -> &'static str {
    match value {
        Bson::Document(_) => "an object",
        Bson::Array(_) => "an array",
        Bson::String(_) => "a string",
        Bson::Int32(_) | Bson::Int64(_) | Bson::Double(_) => "a number",
        Bson::Boolean(_) => "a boolean",
        Bson::Null => "null",
        _ => "a single Extended JSON value",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    #[test]
    fn both_modes_parse_and_keep_the_order() {
        let relaxed = parse_document(r#"{"z": 1, "a": {"$date": "1970-01-01T00:00:00Z"}}"#);
        let canonical =
            parse_document(r#"{"z": {"$numberInt": "1"}, "a": {"$date": {"$numberLong": "0"}}}"#);
        let expected = doc! {"z": 1, "a": bson::DateTime::from_millis(0)};
        assert_eq!(relaxed.as_ref(), Ok(&expected));
        assert_eq!(canonical.as_ref(), Ok(&expected));
        let keys: Vec<_> = expected.keys().collect();
        assert_eq!(keys, ["z", "a"]);
        assert_eq!(
            parse_array_of_documents(r#"[{"$match": {"n": {"$gt": 5000000000}}}, {}]"#),
            Ok(vec![doc! {"$match": {"n": {"$gt": 5_000_000_000_i64}}}, doc! {}])
        );
    }

    #[test]
    fn parse_errors_say_what_and_where() {
        let error = |text| parse_document(text).expect_err(text);
        assert!(error("{\"a\": }").contains("line 1 column 7"));
        assert_eq!(error("[]"), "expected a JSON object, found an array");
        assert_eq!(
            error(r#"{"$oid": "000000000000000000000000"}"#),
            "expected a JSON object, found a single Extended JSON value"
        );
        assert!(error(r#"{"a": {"$oid": "nonsense"}}"#).contains("invalid character 'n'"));
        assert!(error(r#"{"a": {"$date": "noon"}}"#).contains("\"noon\", expected rfc3339"));
        assert_eq!(
            parse_array_of_documents("[{}, 5]"),
            Err("expected a JSON object at index 1, found a number".to_owned())
        );
        assert_eq!(
            parse_array_of_documents("{}"),
            Err("expected a JSON array of objects, found an object".to_owned())
        );
    }
}
