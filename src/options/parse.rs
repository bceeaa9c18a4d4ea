//! From the text of an option to its value.

use std::collections::BTreeSet;

use bson::Document;

use crate::error::Result;
use crate::json;

pub(crate) const BOOLEAN: [(&str, bool); 2] = [("false", false), ("true", true)];

pub(crate) fn not_empty(value: &str) -> Result<String, String> {
    if value.is_empty() || value.contains('\0') {
        return Err("it is not empty and has no NUL".to_owned());
    }
    Ok(value.to_owned())
}

pub(crate) fn one_of<T: Copy>(names: &[(&str, T)], value: &str) -> Result<T, String> {
    names
        .iter()
        .find(|(name, _)| *name == value)
        .map(|(_, meaning)| *meaning)
        .ok_or_else(|| format!("{value:?} is none of these"))
}

pub(crate) fn parse_number(value: &str, least: u64, most: u64) -> Result<u64, String> {
    match value.parse::<u64>() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Ok(_) => Err(format!("{value} is out of range")),
        Err(_) => Err(format!("{value:?} is not such a number")),
    }
}

pub(crate) fn parse_time(value: &str) -> Result<(u32, u32), String> {
    let (seconds, increment) = value.split_once(':').unwrap_or((value, "0"));
    let seconds = parse_number(seconds, 0, u64::MAX)?;
    let increment = parse_number(increment, 0, u32::MAX.into())? as u32;
    let seconds = u32::try_from(seconds).map_err(|_| {
        format!("{seconds} does not fit into 32 bits; are these milliseconds instead of seconds?")
    })?;
    Ok((seconds, increment))
}

/// Items between commas, without the blanks around them; or a JSON array, whose items are taken as
/// they are.
pub(crate) fn parse_list(value: &str) -> Result<Vec<String>, String> {
    if value.trim_start().starts_with('[') {
        return serde_json::from_str(value).map_err(|error| error.to_string());
    }
    Ok(value.split(',').map(|item| item.trim().to_owned()).collect())
}

pub(crate) fn check_list(items: Vec<String>) -> Result<Vec<String>, String> {
    if items.is_empty() {
        return Err("the list is empty".to_owned());
    }
    match items.iter().position(|item| item.trim().is_empty()) {
        Some(index) => Err(format!("item {index} of the list is empty")),
        None => Ok(items),
    }
}

/// The operation types that servers up to 8.0 have (MongoDB manual, "Change Events"), and the library's own.
pub(crate) const OPERATIONS: [&str; 20] = [
    "insert",
    "update",
    "replace",
    "delete",
    "drop",
    "rename",
    "dropDatabase",
    "invalidate",
    "create",
    "createIndexes",
    "dropIndexes",
    "modify",
    "shardCollection",
    "reshardCollection",
    "refineCollectionShardKey",
    "migrateChunkToNewShard",
    "migrateLastChunkFromShard",
    "snapshot",
    "gap",
    "oversized",
];

/// A stream of a mistyped operation would wait for ever. One that is like none of the known ones may be
/// of a newer server.
pub(crate) fn check_operations(types: Vec<String>) -> Result<BTreeSet<String>, String> {
    let types = check_list(types)?;
    for given in &types {
        if let Some(meant) = meant(given) {
            return Err(format!("{given:?} is no operation type; {meant}"));
        }
    }
    Ok(types.into_iter().collect())
}

/// What to write instead of a text that is certainly a mistake.
pub(crate) fn meant(given: &str) -> Option<String> {
    if OPERATIONS.contains(&given) {
        return None;
    }
    let instead = |name: &str| Some(format!("{name:?} is"));
    let lower = given.to_lowercase();
    match lower.as_str() {
        "*" | "all" | "any" => return Some("leave the option out for all of them".to_owned()),
        "remove" | "removed" | "removes" => return instead("delete"),
        "upsert" | "upserts" => return Some("an upsert is \"insert\" or \"update\"".to_owned()),
        "add" | "added" | "new" => return instead("insert"),
        "change" | "changed" | "modified" => return instead("update"),
        _ => {}
    }
    let near = OPERATIONS.iter().find(|name| {
        let far = if name.len() < 5 { 1 } else { 2 };
        distance(&name.to_lowercase(), &lower) <= far
    });
    instead(near?)
}

/// How many characters have to be put in, taken out or replaced to make one text of the other.
pub(crate) fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (above, character) in one.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], above + 1);
        for (at, found) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(*found != character);
            diagonal = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

pub(crate) fn parse_token(value: &str) -> Result<Document, String> {
    let token = json::parse_document(value)?;
    if token.is_empty() {
        return Err("an empty document is no resume token".to_owned());
    }
    Ok(token)
}

/// The first key of a position, with its version.
pub(crate) const POSITION_KEY: &str = "mongostream_position";

/// `None` for an empty text. What it says is read when the stream is known.
pub(crate) fn parse_position(value: &str) -> Result<Option<String>, String> {
    if value.trim().is_empty() {
        return Ok(None);
    }
    let position: serde_json::Value =
        serde_json::from_str(value).map_err(|error| error.to_string())?;
    if position.get(POSITION_KEY).is_none() {
        let is_token = position.get("_data").is_some();
        let advice = if is_token { "; a resume token belongs to start_after" } else { "" };
        return Err(format!("it is no position of a message{advice}"));
    }
    Ok(Some(value.to_owned()))
}
