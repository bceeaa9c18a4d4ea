//! The dotted paths of the fields that an update has set.

use std::collections::HashSet;

use crate::error::Result;
use crate::raw::element::{Document, Elements, Value};
use crate::raw::{MAX_DEPTH, event};

/// One path for each field in `updatedFields`, down to values that hold no others; each once, in the
/// server's order. Array indexes are left out: all elements of an array have one path.
///
/// Servers write `a.0.b` for an element of an array and for a field named `0` alike. Digits are taken
/// for an index unless `disambiguatedPaths` (6.1, with expanded events) says that they are a name.
pub(crate) fn updated(raw: &[u8]) -> Vec<String> {
    let Some(description) = event::update_description(raw) else { return Vec::new() };
    let inner = |name| match description.get(name)?.value {
        Value::Document(document) => Some(document),
        _ => None,
    };
    let told = inner(b"disambiguatedPaths");
    let mut paths = Paths::default();
    let fields = inner(b"updatedFields").map(Document::elements);
    for field in fields.into_iter().flatten().map_while(Result::ok) {
        let steps = told.and_then(|told| told.get(field.key)).map(|element| element.value);
        let path = match steps {
            Some(Value::Array(steps)) => told_path(steps),
            _ => guessed_path(field.key),
        };
        paths.descend(path, field.value);
    }
    paths.found
}

/// Field names are texts there, indexes are numbers.
fn told_path(steps: Document<'_>) -> Vec<u8> {
    let mut path = Vec::new();
    for step in steps.elements().map_while(Result::ok) {
        if let Value::String(name) = step.value {
            append(&mut path, name);
        }
    }
    path
}

/// The first step is always a field.
fn guessed_path(key: &[u8]) -> Vec<u8> {
    let mut path = Vec::new();
    for (index, step) in key.split(|byte| *byte == b'.').enumerate() {
        let is_index = !step.is_empty() && step.iter().all(u8::is_ascii_digit);
        if index == 0 || !is_index {
            append(&mut path, step);
        }
    }
    path
}

fn append(path: &mut Vec<u8>, step: &[u8]) {
    if !path.is_empty() {
        path.push(b'.');
    }
    path.extend_from_slice(step);
}

#[derive(Default)]
struct Paths {
    found: Vec<String>,
    seen: HashSet<String>,
}

/// A document or an array that is being walked.
struct Walked<'a> {
    elements: Elements<'a>,
    is_array: bool,
    is_empty: bool,
    /// The length of its own path.
    length: usize,
}

impl<'a> Walked<'a> {
    fn of(value: Value<'a>, length: usize) -> Option<Self> {
        let (document, is_array) = match value {
            Value::Document(document) => (document, false),
            Value::Array(array) => (array, true),
            _ => return None,
        };
        Some(Self { elements: document.elements(), is_array, is_empty: true, length })
    }
}

impl Paths {
    /// Not with the thread's stack: hosts bring small ones.
    fn descend(&mut self, mut path: Vec<u8>, value: Value<'_>) {
        let Some(first) = Walked::of(value, path.len()) else { return self.add(&path) };
        let mut frames = vec![first];
        while let Some(frame) = frames.last_mut() {
            path.truncate(frame.length);
            match frame.elements.next() {
                Some(Ok(element)) => {
                    frame.is_empty = false;
                    if !frame.is_array {
                        append(&mut path, element.key);
                    }
                    match Walked::of(element.value, path.len()) {
                        Some(inner) if frames.len() < MAX_DEPTH => frames.push(inner),
                        _ => self.add(&path),
                    }
                }
                Some(Err(_)) | None => {
                    if frame.is_empty {
                        self.add(&path);
                    }
                    frames.pop();
                }
            }
        }
    }

    fn add(&mut self, path: &[u8]) {
        let path = String::from_utf8_lossy(path);
        if !self.seen.contains(path.as_ref()) {
            self.seen.insert(path.clone().into_owned());
            self.found.push(path.into_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    fn of(description: bson::Document) -> Vec<String> {
        updated(&doc! { "_id": {}, "updateDescription": description }.to_vec().unwrap())
    }

    #[test]
    fn digits_are_indexes_unless_the_server_says_otherwise() {
        let fields = doc! { "a.0.b": 1, "2024.1.5": 2, "c.7": 3, "d.x1.2y": 4 };
        assert_eq!(of(doc! { "updatedFields": &fields }), ["a.b", "2024", "c", "d.x1.2y"]);
        let told = doc! { "a.0.b": ["a", "0", "b"], "2024.1.5": ["2024", 1, "5"], "c.7": ["c.7"] };
        let description = doc! { "updatedFields": fields, "disambiguatedPaths": told };
        assert_eq!(of(description), ["a.0.b", "2024.5", "c.7", "d.x1.2y"]);
    }

    #[test]
    fn a_damaged_or_bottomless_event_ends_somewhere() {
        let whole = doc! { "updateDescription": { "updatedFields": { "a": { "b": 1, "c": [] } } } };
        let whole = whole.to_vec().unwrap();
        for length in 0..whole.len() {
            let found = updated(&whole[..length]);
            assert!(
                found.iter().all(|path| ["a", "a.b", "a.c"].contains(&path.as_str())),
                "{found:?}"
            );
        }
        // The bson crate would need too much of the stack.
        let mut value = doc! {}.to_vec().unwrap();
        for key in ["x"; 1_500].into_iter().chain(["updatedFields", "updateDescription"]) {
            let mut outer = vec![0; 4];
            outer.push(0x03);
            outer.extend_from_slice(key.as_bytes());
            outer.push(0);
            outer.append(&mut value);
            outer.push(0);
            let length = outer.len() as u32;
            outer[..4].copy_from_slice(&length.to_le_bytes());
            value = outer;
        }
        assert_eq!(updated(&value), [["x"; MAX_DEPTH + 1].join(".")]);
    }
}
