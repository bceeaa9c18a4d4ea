//! Walks a document, or a change event, and writes what it meets.

use std::ops::Range;

use smallvec::SmallVec;

use crate::json::date;
use crate::json::out::{Key, Out};
use crate::json::pieces::{put, put_integer, put_object_id, put_quoted, put_timestamp};
use crate::json::style::ExtendedJson;

use crate::error::Result;
use crate::raw::block::Block;
use crate::raw::element::{Document, Elements, Head, Kind, Malformed, ValuePlace};
use crate::raw::{MAX_DEPTH, block};

const TOO_DEEP: &str = "document nested too deeply";

// A whole word, see `Kind`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum Shape {
    Object,
    Array,
    /// The scope of `{"$code":"...","$scope":{...}}`, which closes both objects.
    Scope,
    /// Members of an object that others open and close.
    Members,
}

/// What a value holds that is to be written next, if it is nested.
pub(super) type Inner<'a> = Option<(Document<'a>, Shape)>;

/// An object or array around the one being written.
struct Frame<'a> {
    elements: Elements<'a>,
    shape: Shape,
}

/// Every value is followed by a comma, which goes where nothing follows.
pub(super) struct Writer<'a> {
    pub(super) out: Out,
    pub(super) mode: ExtendedJson,
    /// The objects and arrays around the one being written: few of them, mostly, and then without an allocation.
    /// Not by recursion: hosts bring small stacks.
    stack: SmallVec<[Frame<'a>; 8]>,
    /// The last `ns`, and where it is written: the next is often the same.
    pub(super) namespace: Option<(&'a [u8], Range<usize>)>,
}

impl<'a> Writer<'a> {
    /// Appends to `bytes`, which will probably need so many more.
    pub(super) fn new(bytes: Vec<u8>, more: usize, mode: ExtendedJson) -> Self {
        Self { out: Out::new(bytes, more), mode, stack: SmallVec::new(), namespace: None }
    }

    /// What is written, the last value without a comma.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.out.drop_comma();
        self.out.finish()
    }

    /// Ends a text with this byte, and tells where that is.
    pub(super) fn end(&mut self, byte: u8) -> usize {
        self.out.drop_comma();
        self.out.put(&[byte]);
        self.out.len()
    }

    pub(super) fn document(&mut self, document: &'a [u8]) {
        self.out.put(b"{");
        self.nested(Document::new(document), Shape::Object);
    }

    pub(super) fn texts(&mut self, texts: &[String]) {
        self.out.put(b"[");
        for text in texts {
            self.string(text.as_bytes());
        }
        self.out.close(b']');
    }

    /// Writes a value that has been walked over.
    #[inline(never)]
    pub(super) fn unnamed(&mut self, outermost: &'a [u8], place: ValuePlace) {
        self.value(Key::NONE, outermost, place);
    }

    /// Writes a member whose value has been walked over.
    #[inline(never)]
    pub(super) fn named(&mut self, key: Key<'_>, outermost: &'a [u8], place: ValuePlace) {
        self.value(key, outermost, place);
    }

    #[inline(always)]
    fn value(&mut self, key: Key<'_>, outermost: &'a [u8], place: ValuePlace) {
        let mut elements = place.elements(outermost);
        if let Ok(Some((document, shape))) = self.member(key, place.kind(), &mut elements) {
            self.nested(document, shape);
        }
    }

    /// Writes what an object or array holds that is open, and closes it.
    #[inline(never)]
    pub(super) fn nested(&mut self, document: Document<'a>, mut shape: Shape) {
        let mut elements = document.elements();
        loop {
            let damage = match elements.plain_head() {
                Some(Ok(head)) => {
                    let key = Key { is_named: shape != Shape::Array, ..key(&head) };
                    match self.member(key, head.kind, &mut elements) {
                        Ok(None) => continue,
                        Ok(Some((document, inner))) => {
                            self.stack.push(Frame { elements, shape });
                            (elements, shape) = (document.elements(), inner);
                            continue;
                        }
                        Err(reason) => elements.damaged(&head, reason),
                    }
                }
                Some(Err(malformed)) => malformed,
                None => {
                    match shape {
                        Shape::Object => self.out.close(b'}'),
                        Shape::Array => self.out.close(b']'),
                        Shape::Scope => {
                            self.out.close(b'}');
                            self.out.close(b'}');
                        }
                        Shape::Members => {}
                    }
                    match self.stack.pop() {
                        Some(outer) => Frame { elements, shape } = outer,
                        None => return,
                    }
                    continue;
                }
            };
            self.mark(shape, damage);
        }
    }

    #[cold]
    pub(super) fn mark(&mut self, shape: Shape, malformed: Malformed) {
        if shape == Shape::Array {
            self.out.put(b"{");
            self.malformed(malformed);
            self.out.close(b'}');
        } else {
            self.malformed(malformed);
        }
    }

    pub(super) fn malformed(&mut self, malformed: Malformed) {
        self.out.put(b"\"$malformed\":");
        self.string(malformed.to_string().as_bytes());
    }

    /// Writes a member whose value comes next, or opens it and gives back what it holds. Nothing is written,
    /// and nothing read, where something is wrong with it.
    // One step from the type to what is written: no value travels through memory.
    #[inline(always)]
    fn member(
        &mut self,
        key: Key<'_>,
        kind: Kind,
        elements: &mut Elements<'a>,
    ) -> Result<Inner<'a>, &'static str> {
        let is_relaxed = self.mode == ExtendedJson::Relaxed;
        match kind {
            Kind::DOCUMENT => {
                let document = self.enter(elements.document()?)?;
                self.out.member(key, |room| put(room, b"{"));
                return Ok(Some((document, Shape::Object)));
            }
            Kind::ARRAY => {
                let array = self.enter(elements.document()?)?;
                self.out.member(key, |room| put(room, b"["));
                return Ok(Some((array, Shape::Array)));
            }
            Kind::STRING => {
                let (text, block) = elements.string_and_block()?;
                // The NUL after it is the first that is special.
                let is_plain = |block: &&Block| block::special(block).first() == text.len();
                match block.filter(|_| text.len() < block::SIZE).filter(is_plain) {
                    Some(block) => {
                        self.out.member(key, |room| put_quoted(room, block, text.len(), b','))
                    }
                    None => {
                        self.out.member(key, |_| 0);
                        self.out.quoted(text, b',');
                    }
                }
            }
            Kind::INT32 if is_relaxed => {
                let number = i32::from_le_bytes(*elements.array()?);
                self.out.member(key, |room| put_integer(room, number, b','));
            }
            Kind::INT64 if is_relaxed => {
                let number = i64::from_le_bytes(*elements.array()?);
                self.out.member(key, |room| put_integer(room, number, b','));
            }
            Kind::BOOLEAN => {
                let [byte] = *elements.array()?;
                let text = if byte == 0 { b"false," } else { b"true,\0" };
                self.out.member(key, |room| put(room, text) - usize::from(byte != 0));
            }
            Kind::NULL => self.out.member(key, |room| put(room, b"null,")),
            Kind::OBJECT_ID => {
                let id = elements.array()?;
                self.out.member(key, |room| put_object_id(room, id));
            }
            Kind::DATE_TIME if is_relaxed => {
                let millis = i64::from_le_bytes(*elements.array()?);
                if date::has_text(millis) {
                    self.out.member(key, |room| date::put(room, millis));
                } else {
                    self.out.member(key, |_| 0);
                    self.date(millis);
                }
            }
            Kind::DOUBLE if is_relaxed => {
                let number = f64::from_le_bytes(*elements.array()?);
                self.out.member(key, |_| 0);
                self.double(number);
            }
            Kind::TIMESTAMP => {
                let both = u64::from_le_bytes(*elements.array()?);
                self.out.member(key, |room| put_timestamp(room, both));
            }
            _ => {
                let before = self.out.len();
                self.out.member(key, |_| 0);
                match self.value_of(kind, *elements) {
                    Ok((behind, inner)) => {
                        *elements = behind;
                        return Ok(inner);
                    }
                    Err(reason) => {
                        self.out.truncate(before);
                        return Err(reason);
                    }
                }
            }
        }
        Ok(None)
    }

    #[inline(always)]
    pub(super) fn enter(&self, document: Document<'a>) -> Result<Document<'a>, &'static str> {
        if self.stack.len() + 1 < MAX_DEPTH { Ok(document) } else { Err(TOO_DEEP) }
    }

    /// [`member`](Self::member) after the key, and what is left after the value.
    #[inline(never)]
    pub(super) fn value_of(
        &mut self,
        kind: Kind,
        mut elements: Elements<'a>,
    ) -> Result<(Elements<'a>, Inner<'a>), &'static str> {
        let value = elements.value_of(kind)?;
        let inner = self.any(value)?;
        Ok((elements, inner))
    }
}

#[inline(always)]
pub(super) fn key<'a>(head: &Head<'a>) -> Key<'a> {
    Key { text: head.key, plain: head.plain, is_named: true }
}
