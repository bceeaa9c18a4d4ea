//! Events that the server has split because they are larger than one message, put together again
//! (MongoDB manual, `$changeStreamSplitLargeEvent`).
//!
//! Each fragment has a resume token of its own as `_id`, its place (`splitEvent: {fragment, of}`) and
//! some of the event's fields, whole, in the order of their sizes. A stream may go on after a
//! fragment, and would then begin in the middle of the event: only the last one's token may be kept.

use std::ops::Range;

use crate::error::Result;
use crate::raw::element::{Element, Elements, Malformed, Value};

/// The order in which servers send an event's fields (seen with 6.0.27). A field that a stage of the
/// user's pipeline has added stands after them.
const ORDER: [&[u8]; 14] = [
    b"txnNumber",
    b"lsid",
    TOKEN,
    b"operationType",
    b"clusterTime",
    b"collectionUUID",
    b"wallTime",
    b"fullDocument",
    b"ns",
    b"to",
    b"documentKey",
    b"updateDescription",
    b"operationDescription",
    b"fullDocumentBeforeChange",
];
const TOKEN: &[u8] = b"_id";
const PLACE: &[u8] = b"splitEvent";

/// A part of a reply in which there are fragments.
pub(crate) enum Part {
    /// Events that were not split, by their index.
    Events(Range<usize>),
    /// An event whose last fragment has come.
    Whole(Vec<u8>),
}

/// The fragments of one cursor.
#[derive(Default)]
pub(crate) struct Fragments {
    /// The event of which some fragments have come.
    pending: Option<Pending>,
}

impl Fragments {
    /// Whether the last reply ended in the middle of an event.
    pub(crate) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// Takes the events of a reply apart. What is pending then goes on with the next reply.
    pub(crate) fn join<'a>(
        &mut self,
        events: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Vec<Part>, String> {
        let mut parts = Vec::new();
        for (index, event) in events.enumerate() {
            match place_of(event) {
                Some(place) => {
                    let pending = self.pending.get_or_insert_with(|| Pending::new(place.of));
                    pending.add(place, event)?;
                    if place.fragment == place.of
                        && let Some(pending) = self.pending.take()
                    {
                        parts.push(Part::Whole(pending.whole()?));
                    }
                }
                None if self.is_pending() => {
                    return Err("the server sent another event between the fragments of one".into());
                }
                None => match parts.last_mut() {
                    Some(Part::Events(run)) => run.end = index + 1,
                    _ => parts.push(Part::Events(index..index + 1)),
                },
            }
        }
        Ok(parts)
    }
}

/// Whether this is a fragment.
pub(crate) fn is_fragment(event: &[u8]) -> bool {
    place_of(event).is_some()
}

/// Which fragment of how many.
#[derive(Clone, Copy)]
struct FragmentPlace {
    fragment: i32,
    of: i32,
}

/// `None` for an event that was not split. Of those only two fields are looked at: it is asked of
/// every event, and in a fragment its place stands right after its token.
fn place_of(event: &[u8]) -> Option<FragmentPlace> {
    let element = Elements::new(event).nth(1)?.ok()?;
    let Value::Document(place) = element.value else { return None };
    let number = |key| match place.get(key)?.value {
        Value::Int32(number) => Some(number),
        _ => None,
    };
    (element.key == PLACE)
        .then(|| Some(FragmentPlace { fragment: number(b"fragment")?, of: number(b"of")? }))
        .flatten()
}

/// An event of which some fragments have come.
struct Pending {
    /// How many have come, of how many.
    come: i32,
    of: i32,
    /// Its fields, each with its place in [`ORDER`] and as the bytes of its element.
    fields: Vec<(usize, Vec<u8>)>,
}

impl Pending {
    fn new(of: i32) -> Self {
        Self { come: 0, of, fields: Vec::new() }
    }

    fn add(&mut self, place: FragmentPlace, fragment: &[u8]) -> Result<(), String> {
        if place.fragment != self.come + 1 || place.of != self.of {
            return Err(format!(
                "the server sent fragment {} of {} of an event after fragment {} of {}",
                place.fragment, place.of, self.come, self.of
            ));
        }
        self.come = place.fragment;
        let mut elements = Elements::new(fragment);
        let mut start = elements.offset();
        while let Some(element) = elements.next() {
            let Element { key, .. } = element.map_err(|damage: Malformed| {
                format!("the server sent a damaged fragment of an event: {damage}")
            })?;
            let end = elements.offset();
            // Of the tokens the last one is the event's.
            if key != PLACE && (key != TOKEN || self.come == self.of) {
                let rank = ORDER.iter().position(|known| *known == key).unwrap_or(ORDER.len());
                let field = fragment.get(start..end).ok_or("the server sent a damaged fragment")?;
                self.fields.push((rank, field.to_vec()));
            }
            start = end;
        }
        Ok(())
    }

    fn whole(mut self) -> Result<Vec<u8>, String> {
        const LENGTH: usize = size_of::<i32>();
        self.fields.sort_by_key(|(rank, _)| *rank);
        let size = self.fields.iter().map(|(_, field)| field.len()).sum::<usize>() + LENGTH + 1;
        let length = i32::try_from(size)
            .map_err(|_| format!("an event of {size} bytes is larger than BSON can be"))?;
        let mut event = Vec::with_capacity(size);
        event.extend_from_slice(&length.to_le_bytes());
        // One after the other is given free: the memory of a large event is not needed twice.
        for (_, field) in self.fields {
            event.extend_from_slice(&field);
        }
        event.push(0);
        Ok(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::{Document, doc};

    fn join(fragments: &mut Fragments, events: &[Document]) -> Result<Vec<Part>, String> {
        let events: Vec<_> = events.iter().map(|event| event.to_vec().unwrap()).collect();
        fragments.join(events.iter().map(Vec::as_slice))
    }

    fn fragment(number: i32, of: i32, fields: Document) -> Document {
        let mut fragment = doc! {
            "_id": { "_data": format!("82{number}") },
            "splitEvent": { "fragment": number, "of": of },
        };
        fragment.extend(fields);
        fragment
    }

    #[test]
    fn an_event_is_as_if_it_had_never_been_split() {
        let mut fragments = Fragments::default();
        let one = fragment(1, 3, doc! { "ns": { "db": "a" }, "operationType": "update" });
        let two = fragment(2, 3, doc! { "added": 1, "fullDocument": { "splitEvent": 1 } });
        let three = fragment(3, 3, doc! { "updateDescription": {}, "lsid": {}, "more": 2 });
        let plain = || doc! { "_id": { "_data": "82" }, "operationType": "insert" };

        let parts = join(&mut fragments, &[plain(), plain(), one]).unwrap();
        assert!(matches!(&parts[..], [Part::Events(Range { start: 0, end: 2 })]));
        assert!(fragments.is_pending());
        assert!(join(&mut fragments, &[two]).unwrap().is_empty());
        let parts = join(&mut fragments, &[three, plain()]).unwrap();
        assert!(!fragments.is_pending());
        let [Part::Whole(event), Part::Events(Range { start: 1, end: 2 })] = &parts[..] else {
            panic!("{} parts", parts.len());
        };
        let expected = doc! {
            "lsid": {},
            "_id": { "_data": "823" },
            "operationType": "update",
            "fullDocument": { "splitEvent": 1 },
            "ns": { "db": "a" },
            "updateDescription": {},
            "added": 1,
            "more": 2,
        };
        assert_eq!(*event, expected.to_vec().unwrap());
    }

    #[test]
    fn fragments_that_do_not_belong_together_are_an_error() {
        let first = || fragment(1, 3, doc! {});
        for wrong in [
            fragment(3, 3, doc! {}),
            fragment(2, 2, doc! {}),
            first(),
            doc! { "_id": {}, "operationType": "insert" },
        ] {
            let mut fragments = Fragments::default();
            join(&mut fragments, &[first(), wrong]).err().expect("an error");
        }
        join(&mut Fragments::default(), &[fragment(2, 3, doc! {})]).err().expect("an error");
    }

    #[test]
    fn a_field_of_the_same_name_elsewhere_is_no_fragment() {
        for event in [
            doc! { "_id": {}, "splitEvent": 1 },
            doc! { "_id": {}, "splitEvent": { "fragment": 1 } },
            doc! { "_id": {}, "fullDocument": { "fragment": 1, "of": 2 } },
            doc! { "_id": {} },
        ] {
            assert!(!is_fragment(&event.to_vec().unwrap()), "{event}");
        }
    }
}
