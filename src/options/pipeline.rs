//! The stages that stand after `$changeStream`: those of the user, checked, and ours.

use std::collections::BTreeSet;

use bson::{Bson, Document, RawDocument, doc};

use crate::error::Result;

/// The stage by which the server splits events that are too large for one message.
pub(crate) const SPLIT_STAGE: &str = "$changeStreamSplitLargeEvent";

/// The event that ends a stream.
const INVALIDATE: &str = "invalidate";

const RENAME: &str = "rename";

/// A stage that lets nothing through but the event that ends a stream.
pub(crate) fn only_invalidate() -> Document {
    doc! { "$match": { "operationType": INVALIDATE } }
}

/// A stage that lets only the event with this token through.
pub(crate) fn only_event(token: &[u8]) -> bson::error::Result<Document> {
    let token = Document::try_from(RawDocument::from_bytes(token)?)?;
    Ok(doc! { "$match": { "_id": token } })
}

/// A stage that lets these operations through.
///
/// The `invalidate` always passes, so that the end of the cursor has its reason; who did not ask for it
/// drops it. So does a rename that [`shows_renames`].
pub(crate) fn only_operations(wanted: &BTreeSet<String>, pipeline: &[Document]) -> Document {
    let mut wanted = wanted.clone();
    wanted.insert(INVALIDATE.to_owned());
    if shows_renames(pipeline) {
        wanted.insert(RENAME.to_owned());
    }
    doc! { "$match": { "operationType": { "$in": Vec::from_iter(wanted) } } }
}

/// Whether the event that ends a stream is among these operations; all are where none are named.
pub(crate) fn has_invalidate(wanted: &BTreeSet<String>) -> bool {
    wanted.is_empty() || wanted.contains(INVALIDATE)
}

/// Whether a rename is still one after these stages, so that it can be told from other events.
pub(crate) fn shows_renames(pipeline: &[Document]) -> bool {
    pipeline.iter().all(is_match)
}

/// Whether renames are seen that nobody asked for, because they may replace a collection that is watched.
pub(crate) fn has_unwanted_renames(wanted: &BTreeSet<String>, pipeline: &[Document]) -> bool {
    !wanted.is_empty() && !wanted.contains(RENAME) && shows_renames(pipeline)
}

/// Whether a stage leaves every event as it is.
fn is_match(stage: &Document) -> bool {
    stage.contains_key("$match")
}

/// Refuses what is no pipeline, and what certainly removes or changes the event's `_id`, its resume
/// token: the server would refuse that too, but not before the first event.
pub(crate) fn check(stages: Vec<Document>) -> Result<Vec<Document>, String> {
    let mut untouched = true;
    for (index, stage) in stages.iter().enumerate() {
        let mut items = stage.iter();
        let (name, body) = match (items.next(), items.next()) {
            (Some((name, body)), None) if name.starts_with('$') => (name.as_str(), body),
            _ => return Err(format!("stage {index} is not a document with one $name")),
        };
        if name == SPLIT_STAGE {
            return Err(format!("leave {SPLIT_STAGE} to the option on_oversized=split"));
        }
        let loses = match (name, body) {
            ("$project", Bson::Document(fields)) => project_loses_id(fields, untouched),
            ("$addFields" | "$set", Bson::Document(fields)) => {
                fields.get("_id").is_some_and(|value| is_other(value, untouched))
            }
            ("$unset", Bson::String(field)) => is_token(field),
            ("$unset", Bson::Array(fields)) => {
                fields.iter().any(|field| field.as_str().is_some_and(is_token))
            }
            ("$replaceRoot", Bson::Document(fields)) => {
                fields.get("newRoot").is_some_and(|root| root_loses_id(root, untouched))
            }
            ("$replaceWith", root) => root_loses_id(root, untouched),
            _ => false,
        };
        if loses {
            return Err(format!(
                "stage {index}, {name}, removes or changes the event's _id, which is its resume \
                 token: keep it"
            ));
        }
        untouched &= is_match(stage);
    }
    Ok(stages)
}

/// The token, or the field of it that says where in the stream it stands.
fn is_token(field: &str) -> bool {
    matches!(field, "_id" | "_id._data")
}

/// Whether `$project` leaves out the token: a number or boolean keeps or drops a field, all else is its
/// new value.
fn project_loses_id(fields: &Document, untouched: bool) -> bool {
    fields.iter().any(|(field, value)| match keeps(value) {
        Some(keeps) => !keeps && is_token(field),
        None => field == "_id" && is_other(value, untouched),
    })
}

fn keeps(value: &Bson) -> Option<bool> {
    Some(match value {
        Bson::Boolean(value) => *value,
        Bson::Int32(value) => *value != 0,
        Bson::Int64(value) => *value != 0,
        Bson::Double(value) => *value != 0.0,
        _ => return None,
    })
}

/// Whether a value is certainly not the token. Operators may give anything, and so may fields once a
/// stage has made them; a nested document changes only a part.
fn is_other(value: &Bson, untouched: bool) -> bool {
    match value {
        Bson::String(text) if text == "$$REMOVE" => true,
        Bson::String(text) => match text.strip_prefix('$') {
            Some(path) => is_other_path(path, untouched, "_id"),
            None => true,
        },
        Bson::Document(document) => document.contains_key("$literal"),
        _ => true,
    }
}

/// Whether the new root certainly has no token.
fn root_loses_id(root: &Bson, untouched: bool) -> bool {
    match root {
        Bson::String(text) => {
            text.strip_prefix('$').is_some_and(|path| is_other_path(path, untouched, ""))
        }
        Bson::Document(root) if root.keys().any(|key| key.starts_with('$')) => {
            root.contains_key("$literal")
        }
        Bson::Document(root) => match root.get("_id") {
            Some(Bson::Document(_)) => false,
            Some(value) => is_other(value, untouched),
            None => true,
        },
        _ => false,
    }
}

/// Whether a path leads certainly elsewhere. Variables may be anything.
fn is_other_path(path: &str, untouched: bool, wanted: &str) -> bool {
    untouched && !path.starts_with('$') && path != wanted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn check_text(text: &str) -> Result<Vec<Document>, String> {
        check(json::parse_array_of_documents(text).expect(text))
    }

    #[test]
    fn what_certainly_loses_the_token_is_refused() {
        for (text, stage) in [
            (r#"[{"$project":{"_id":0}}]"#, "stage 0, $project,"),
            (r#"[{"$project":{"_id":false,"ns":1}}]"#, "stage 0, $project,"),
            (r#"[{"$project":{"_id":0.0}}]"#, "stage 0, $project,"),
            (r#"[{"$project":{"_id":{"$numberLong":"0"}}}]"#, "stage 0, $project,"),
            (r#"[{"$project":{"_id._data":0}}]"#, "stage 0, $project,"),
            (r#"[{"$match":{}},{"$project":{"_id":"$documentKey._id"}}]"#, "stage 1, $project,"),
            (r#"[{"$project":{"_id":"text"}}]"#, "stage 0, $project,"),
            (r#"[{"$project":{"_id":{"$literal":1}}}]"#, "stage 0, $project,"),
            (r#"[{"$project":{"_id":null}}]"#, "stage 0, $project,"),
            (r#"[{"$unset":"_id"}]"#, "stage 0, $unset,"),
            (r#"[{"$unset":["ns","_id"]}]"#, "stage 0, $unset,"),
            (r#"[{"$set":{"_id":1}}]"#, "stage 0, $set,"),
            (r#"[{"$addFields":{"_id":"$$REMOVE"}}]"#, "stage 0, $addFields,"),
            (r#"[{"$addFields":{"_id":"$fullDocument._id"}}]"#, "stage 0, $addFields,"),
            (r#"[{"$replaceRoot":{"newRoot":"$fullDocument"}}]"#, "stage 0, $replaceRoot,"),
            (r#"[{"$replaceRoot":{"newRoot":{"a":"$ns"}}}]"#, "stage 0, $replaceRoot,"),
            (r#"[{"$replaceWith":"$fullDocument"}]"#, "stage 0, $replaceWith,"),
            (r#"[{"$replaceWith":{"_id":"$ns"}}]"#, "stage 0, $replaceWith,"),
        ] {
            let error = check_text(text).expect_err(text);
            assert!(error.starts_with(stage) && error.contains("resume token"), "{text}: {error}");
        }
    }

    #[test]
    fn what_may_keep_the_token_is_not_refused() {
        for text in [
            "[]",
            r#"[{"$match":{"_id":0}}]"#,
            r#"[{"$project":{"fullDocument":1}}]"#,
            r#"[{"$project":{"_id":1}}]"#,
            r#"[{"$project":{"_id":true}}]"#,
            r#"[{"$project":{"_id":{"$numberLong":"1"}}}]"#,
            r#"[{"$project":{"_id":0.5}}]"#,
            r#"[{"$project":{"_id":"$_id"}}]"#,
            r#"[{"$project":{"_id":"$$ROOT._id"}}]"#,
            r#"[{"$project":{"_id":{"_data":1}}}]"#,
            r#"[{"$project":{"_id":{"$ifNull":["$_id",0]}}}]"#,
            r#"[{"$addFields":{"token":"$_id"}},{"$project":{"_id":"$token"}}]"#,
            r#"[{"$set":{"_id":"$_id","fullDocument._id":0}}]"#,
            r#"[{"$unset":["fullDocument._id","_id._typeBits"]}]"#,
            r#"[{"$replaceRoot":{"newRoot":{"$mergeObjects":["$fullDocument",{"_id":"$_id"}]}}}]"#,
            r#"[{"$replaceRoot":{"newRoot":{"_id":"$_id","a":"$ns"}}}]"#,
            r#"[{"$replaceWith":"$$ROOT"}]"#,
            r#"[{"$set":{"ns._id":"$_id"}},{"$replaceWith":"$ns"}]"#,
            r#"[{"$redact":"$$KEEP"},{"$somethingNew":{"_id":0}}]"#,
        ] {
            check_text(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn the_invalidate_always_passes_and_renames_where_they_can_be_told_from_others() {
        let operations = |wanted: &str, pipeline: &[Document]| {
            let wanted = BTreeSet::from([wanted.to_owned()]);
            let stage = only_operations(&wanted, pipeline);
            let condition = stage.get_document("$match").unwrap();
            let all = condition.get_document("operationType").unwrap().get_array("$in").unwrap();
            let all: Vec<_> = all.iter().map(|name| name.as_str().unwrap().to_owned()).collect();
            (all.join(" "), has_unwanted_renames(&wanted, pipeline))
        };
        let with = |all: &str, unwanted| (all.to_owned(), unwanted);
        let filter = [doc! { "$match": {} }];
        assert_eq!(operations("insert", &[]), with("insert invalidate rename", true));
        assert_eq!(operations("rename", &filter), with("invalidate rename", false));
        let flat = [doc! { "$project": { "ns": 1 } }];
        assert_eq!(operations("insert", &flat), with("insert invalidate", false));
        assert!(!has_unwanted_renames(&BTreeSet::new(), &[]));
    }

    #[test]
    fn stages_that_look_for_one_thing_let_through_nothing_else() {
        assert_eq!(only_invalidate(), doc! { "$match": { "operationType": "invalidate" } });
        let token = doc! { "_data": "82" };
        let only = only_event(&token.to_vec().unwrap()).unwrap();
        assert_eq!(only, doc! { "$match": { "_id": token } });
        assert!(only_event(&[1, 2]).is_err());
        let shows =
            |wanted: &[&str]| has_invalidate(&wanted.iter().map(|&name| name.into()).collect());
        assert!(shows(&[]) && shows(&["insert", "invalidate"]));
        assert!(!shows(&["insert"]));
    }
}
