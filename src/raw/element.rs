//! Walks raw BSON: one pass, nothing copied, nothing trusted.
//!
//! Every length is checked against the bytes that are really there, and a nested document is handed out
//! as a slice instead of being entered, so neither damage nor depth can make a walk panic or recurse.
//!
//! A document, a place in it and its elements are each made of the others. So they share this file, which is longer than
//! the others.

use std::fmt;
use std::ops::Range;

use crate::raw::block::{self, Block};

/// A place where the bytes stop being BSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Where the offending element begins, counted from the start of the outermost document.
    pub(crate) offset: usize,
    pub(crate) reason: &'static str,
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.offset)
    }
}

/// A document or array, its length prefix included; not yet known to be sound inside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document<'a> {
    /// From its beginning to the end of the outermost document.
    ahead: &'a [u8],
    length: usize,
    /// The length of the outermost document.
    outermost: usize,
}

impl<'a> Document<'a> {
    /// An outermost document.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { ahead: bytes, length: bytes.len(), outermost: bytes.len() }
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.ahead.get(..self.length).unwrap_or_default()
    }

    #[inline(always)]
    pub(crate) fn elements(self) -> Elements<'a> {
        let (declared, ahead) = match self.ahead.split_first_chunk::<4>() {
            Some((declared, ahead)) => (i32::from_le_bytes(*declared), ahead),
            None => (0, [].as_slice()),
        };
        let is_sized = usize::try_from(declared) == Ok(self.length);
        Elements {
            ahead,
            beyond: self.ahead.len().saturating_sub(self.length).min(ahead.len()),
            outermost: self.outermost,
            state: if is_sized { ElementsState::Sized } else { ElementsState::Unsized },
        }
    }

    /// Where it begins in the outermost document.
    fn offset(self) -> usize {
        self.outermost.saturating_sub(self.ahead.len())
    }

    /// Where it lies in the outermost document.
    pub(crate) fn span(self) -> Range<usize> {
        self.offset()..self.offset().saturating_add(self.length)
    }

    /// Where the value of the first element with this key stands, if that is before any damage.
    #[inline(always)]
    pub(crate) fn find(self, key: &[u8]) -> Option<ValuePlace> {
        let mut elements = self.elements();
        loop {
            match elements.place()? {
                Ok((head, place)) if head.key == key => return Some(place),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    }

    /// The first element with this key that stands before any damage.
    pub(crate) fn get(self, key: &[u8]) -> Option<Element<'a>> {
        self.elements().map_while(Result::ok).find(|element| element.key == key)
    }
}

/// The type byte of an element.
// A whole word: what is copied along with a smaller field, the bytes after it, takes long to read back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kind(usize);

impl Kind {
    pub(crate) const DOUBLE: Kind = Kind(0x01);
    pub(crate) const STRING: Kind = Kind(0x02);
    pub(crate) const DOCUMENT: Kind = Kind(0x03);
    pub(crate) const ARRAY: Kind = Kind(0x04);
    pub(crate) const OBJECT_ID: Kind = Kind(0x07);
    pub(crate) const BOOLEAN: Kind = Kind(0x08);
    pub(crate) const DATE_TIME: Kind = Kind(0x09);
    pub(crate) const NULL: Kind = Kind(0x0A);
    pub(crate) const INT32: Kind = Kind(0x10);
    pub(crate) const TIMESTAMP: Kind = Kind(0x11);
    pub(crate) const INT64: Kind = Kind(0x12);
}

/// One key and its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    pub(crate) kind: Kind,
    /// The key without its NUL; not necessarily UTF-8.
    pub(crate) key: &'a [u8],
    pub(crate) value: Value<'a>,
}

/// A BSON value of any type, the deprecated ones included. Text is without its NUL and not necessarily UTF-8.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Value<'a> {
    Double(f64),
    String(&'a [u8]),
    Document(Document<'a>),
    Array(Document<'a>),
    Binary { subtype: u8, bytes: &'a [u8] },
    Undefined,
    ObjectId(&'a [u8; 12]),
    Boolean(bool),
    DateTime(i64),
    Null,
    Regex { pattern: &'a [u8], options: &'a [u8] },
    DbPointer { namespace: &'a [u8], id: &'a [u8; 12] },
    Code(&'a [u8]),
    Symbol(&'a [u8]),
    CodeWithScope { code: &'a [u8], scope: Document<'a> },
    Int32(i32),
    Timestamp { time: u32, increment: u32 },
    Int64(i64),
    Decimal128(&'a [u8; 16]),
    MinKey,
    MaxKey,
}

/// What stands before a value.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub(crate) kind: Kind,
    /// Without its NUL; not necessarily UTF-8.
    pub(crate) key: &'a [u8],
    /// A block that begins with the key and its NUL, if the key is short and plain JSON and that was asked for:
    /// a copy of all these bytes is quicker than one of the key.
    pub(crate) plain: Option<&'a Block>,
}

/// Where a value stands: less to keep than the value.
#[derive(Clone, Copy, Default)]
pub(crate) struct ValuePlace {
    kind: Kind,
    offset: usize,
}

impl ValuePlace {
    /// Whether there is one.
    pub(crate) fn is_some(&self) -> bool {
        self.kind != Kind::default()
    }

    /// The value there, of the document that it was found in, or of the one around that.
    #[inline(always)]
    pub(crate) fn value(self, outermost: &[u8]) -> Option<Value<'_>> {
        self.elements(outermost).value_of(self.kind).ok()
    }

    /// The document there, if it is one.
    #[inline(always)]
    pub(crate) fn document(self, outermost: &[u8]) -> Option<Document<'_>> {
        let mut elements = (self.kind == Kind::DOCUMENT).then(|| self.elements(outermost))?;
        elements.document().ok()
    }

    /// Its type.
    pub(crate) fn kind(self) -> Kind {
        self.kind
    }

    /// The bytes of a value of that type, whose values have that size.
    #[inline(always)]
    pub(crate) fn array_of<const N: usize>(self, kind: Kind, outermost: &[u8]) -> Option<&[u8; N]> {
        let bytes = outermost.get(self.offset..)?.first_chunk();
        bytes.filter(|_| self.kind == kind)
    }

    /// Elements of which it is the value to be asked for.
    #[inline(always)]
    pub(crate) fn elements(self, outermost: &[u8]) -> Elements<'_> {
        let ahead = outermost.get(self.offset..).unwrap_or_default();
        Elements { ahead, beyond: 0, outermost: outermost.len(), state: ElementsState::Sized }
    }
}

/// The elements of one document, up to its end or the first damage, which comes as the last item.
// No field that can be had from others: what a walk needs all the time should fit into registers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Elements<'a> {
    /// What is left of the outermost document: looking at more of it at once is quicker.
    ahead: &'a [u8],
    /// How much of that is no longer this document's.
    beyond: usize,
    /// The length of the outermost document.
    outermost: usize,
    state: ElementsState,
}

// A whole word, see `Kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
enum ElementsState {
    /// The length prefix agrees with the bytes that are there.
    Sized,
    Unsized,
    Done,
}

impl<'a> Elements<'a> {
    pub(crate) fn new(document: &'a [u8]) -> Self {
        Document::new(document).elements()
    }

    /// Makes the walk end here.
    pub(crate) fn stop(&mut self) {
        self.state = ElementsState::Done;
        self.beyond = self.ahead.len();
    }

    /// Where the next element, or its value, begins.
    pub(crate) fn offset(&self) -> usize {
        self.outermost.saturating_sub(self.ahead.len())
    }

    /// What is left of the document itself.
    fn own(&self) -> &'a [u8] {
        let length = self.ahead.len().saturating_sub(self.beyond);
        self.ahead.get(..length).unwrap_or_default()
    }

    /// What stands before the next value, which is to be asked for before the next head.
    #[inline(always)]
    pub(crate) fn head(&mut self) -> Option<Result<Head<'a>, Malformed>> {
        let head = self.head_by(block::nul);
        head.map(|head| head.map(|head| Head { plain: None, ..head }))
    }

    /// [`head`](Self::head), which tells of most keys that are plain JSON.
    #[inline(always)]
    pub(crate) fn plain_head(&mut self) -> Option<Result<Head<'a>, Malformed>> {
        // One look for both.
        self.head_by(|block| {
            let first = block::special(block).first();
            (block.get(first) == Some(&0)).then_some(first)
        })
    }

    /// Where a block holds a short key, `length` finds how long it is, or leaves it to others.
    // Inlined all the way, no value travels through memory.
    #[inline(always)]
    fn head_by(
        &mut self,
        length: impl FnOnce(&Block) -> Option<usize>,
    ) -> Option<Result<Head<'a>, Malformed>> {
        if let Some([kind, key @ ..]) = self.ahead.first_chunk::<{ block::SIZE + 1 }>()
            && *kind != 0
            && let Some(key) = key.first_chunk::<{ block::SIZE }>()
            && let Some(length) = length(key)
            && let Some(ahead) = self.ahead.get(length + 2..)
            && ahead.len() >= self.beyond
        {
            self.ahead = ahead;
            let (kind, plain) = (Kind(usize::from(*kind)), Some(key));
            return Some(Ok(Head { kind, key: key.get(..length)?, plain }));
        }
        if let ([0], ElementsState::Sized) = (self.own(), self.state) {
            self.stop();
            return None;
        }
        let (head, rest) = self.other_head();
        *self = rest;
        head
    }

    /// Any head, the end of the document and damage, and what is left after it.
    // Not by reference: what is not referred to need not be in memory.
    #[inline(never)]
    fn other_head(mut self) -> (Option<Result<Head<'a>, Malformed>>, Self) {
        if self.state == ElementsState::Done {
            return (None, self);
        }
        let offset = self.offset();
        let head = match self.array() {
            Ok([0]) => Err("document length that does not match its content"),
            Ok([kind]) => self.c_string().map(|key| (Kind(usize::from(*kind)), key)),
            Err(reason) => Err(reason),
        };
        let head = head.map(|(kind, key)| Head { kind, key, plain: None });
        if head.is_err() {
            self.stop();
        }
        (Some(head.map_err(|reason| Malformed { offset, reason })), self)
    }

    /// The value after a head.
    #[inline(always)]
    pub(crate) fn value(&mut self, head: &Head<'_>) -> Result<Value<'a>, Malformed> {
        let mut behind = *self;
        match behind.value_of(head.kind) {
            Ok(value) => {
                *self = behind;
                Ok(value)
            }
            Err(reason) => Err(self.damaged(head, reason)),
        }
    }

    /// Makes the walk end at the value after a head.
    #[inline(always)]
    pub(crate) fn damaged(&mut self, head: &Head<'_>, reason: &'static str) -> Malformed {
        // Type, key and NUL.
        let offset = self.offset().saturating_sub(head.key.len() + 2);
        self.stop();
        Malformed { offset, reason }
    }

    /// The next element, whose value is only walked over.
    #[inline(always)]
    pub(crate) fn place(&mut self) -> Option<Result<(Head<'a>, ValuePlace), Malformed>> {
        let head = match self.head()? {
            Ok(head) => head,
            Err(malformed) => return Some(Err(malformed)),
        };
        let place = ValuePlace { kind: head.kind, offset: self.offset() };
        let mut behind = *self;
        match behind.pass(head.kind) {
            Ok(()) => {
                *self = behind;
                Some(Ok((head, place)))
            }
            Err(reason) => Some(Err(self.damaged(&head, reason))),
        }
    }

    /// Walks over the next element if this is what stands before its value: type, key and NUL.
    #[inline(always)]
    pub(crate) fn place_of<const N: usize>(&mut self, head: &[u8; N]) -> Option<ValuePlace> {
        let mut behind = *self;
        if behind.array() != Ok(head) {
            return None;
        }
        let place = ValuePlace { kind: Kind(usize::from(head[0])), offset: behind.offset() };
        behind.pass(place.kind).ok()?;
        *self = behind;
        Some(place)
    }

    /// Walks over a value.
    #[inline(always)]
    fn pass(&mut self, kind: Kind) -> Result<(), &'static str> {
        match kind {
            Kind::STRING => self.string().map(drop),
            Kind::DOCUMENT | Kind::ARRAY => self.document().map(drop),
            Kind::DATE_TIME | Kind::TIMESTAMP => self.array::<8>().map(drop),
            Kind::OBJECT_ID => self.array::<12>().map(drop),
            _ => {
                let behind;
                (*self, behind) = self.pass_other(kind);
                behind
            }
        }
    }

    #[inline(never)]
    fn pass_other(mut self, kind: Kind) -> (Self, Result<(), &'static str>) {
        let value = self.value_of(kind).map(drop);
        (self, value)
    }

    /// A value of that size.
    #[inline(always)]
    pub(crate) fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], &'static str> {
        match self.ahead.split_first_chunk() {
            Some((head, ahead)) if ahead.len() >= self.beyond => {
                self.ahead = ahead;
                Ok(head)
            }
            _ => Err(CUT_OFF),
        }
    }

    #[inline(always)]
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        match self.ahead.split_at_checked(length) {
            Some((head, ahead)) if ahead.len() >= self.beyond => {
                self.ahead = ahead;
                Ok(head)
            }
            _ => Err(CUT_OFF),
        }
    }

    #[inline(always)]
    fn i32(&mut self) -> Result<i32, &'static str> {
        self.array().map(|bytes| i32::from_le_bytes(*bytes))
    }

    #[inline(always)]
    fn i64(&mut self) -> Result<i64, &'static str> {
        self.array().map(|bytes| i64::from_le_bytes(*bytes))
    }

    #[inline(always)]
    fn length(&mut self) -> Result<usize, &'static str> {
        usize::try_from(self.i32()?).map_err(|_| "negative length")
    }

    fn c_string(&mut self) -> Result<&'a [u8], &'static str> {
        let text = self.bytes(nul_position(self.own()))?;
        self.array::<1>()?;
        Ok(text)
    }

    /// A string, without its NUL.
    #[inline(always)]
    pub(crate) fn string(&mut self) -> Result<&'a [u8], &'static str> {
        let mut behind = *self;
        let length = behind.length()?;
        match behind.bytes(length)?.split_last() {
            Some((0, text)) => {
                *self = behind;
                Ok(text)
            }
            _ => Err("string without its NUL"),
        }
    }

    /// A string, without its NUL, and the block that begins with it, if there is so much.
    #[inline(always)]
    pub(crate) fn string_and_block(
        &mut self,
    ) -> Result<(&'a [u8], Option<&'a Block>), &'static str> {
        const PREFIX: usize = 4;
        let block = self.ahead.get(PREFIX..).and_then(<[u8]>::first_chunk);
        Ok((self.string()?, block))
    }

    /// A document or an array.
    #[inline(always)]
    pub(crate) fn document(&mut self) -> Result<Document<'a>, &'static str> {
        const SMALLEST: usize = 5;
        let ahead = self.ahead;
        let prefix = self.own().first_chunk().ok_or(CUT_OFF)?;
        let length = usize::try_from(i32::from_le_bytes(*prefix)).map_err(|_| "negative length")?;
        if length < SMALLEST {
            return Err("document shorter than an empty one");
        }
        self.bytes(length)?;
        Ok(Document { ahead, length, outermost: self.outermost })
    }

    /// A value of any type. What fails may have been read in part.
    #[inline(always)]
    pub(crate) fn value_of(&mut self, kind: Kind) -> Result<Value<'a>, &'static str> {
        Ok(match kind {
            Kind::DOUBLE => Value::Double(f64::from_le_bytes(*self.array()?)),
            Kind::STRING => Value::String(self.string()?),
            Kind::DOCUMENT => Value::Document(self.document()?),
            Kind::ARRAY => Value::Array(self.document()?),
            Kind(0x05) => {
                let length = self.length()?;
                let [subtype] = *self.array()?;
                let bytes = self.bytes(length)?;
                Value::Binary { subtype, bytes }
            }
            Kind(0x06) => Value::Undefined,
            Kind::OBJECT_ID => Value::ObjectId(self.array()?),
            Kind::BOOLEAN => {
                let [byte] = *self.array()?;
                Value::Boolean(byte != 0)
            }
            Kind::DATE_TIME => Value::DateTime(self.i64()?),
            Kind::NULL => Value::Null,
            Kind(0x0B) => Value::Regex { pattern: self.c_string()?, options: self.c_string()? },
            Kind(0x0C) => Value::DbPointer { namespace: self.string()?, id: self.array()? },
            Kind(0x0D) => Value::Code(self.string()?),
            Kind(0x0E) => Value::Symbol(self.string()?),
            Kind(0x0F) => self.code_with_scope()?,
            Kind::INT32 => Value::Int32(self.i32()?),
            Kind::TIMESTAMP => Value::Timestamp {
                increment: u32::from_le_bytes(*self.array()?),
                time: u32::from_le_bytes(*self.array()?),
            },
            Kind::INT64 => Value::Int64(self.i64()?),
            Kind(0x13) => Value::Decimal128(self.array()?),
            Kind(0x7F) => Value::MaxKey,
            Kind(0xFF) => Value::MinKey,
            _ => return Err("unknown BSON type"),
        })
    }

    fn code_with_scope(&mut self) -> Result<Value<'a>, &'static str> {
        const PREFIX: usize = 4;
        const MISMATCH: &str = "code with scope whose length does not match its content";
        let length = self.length()?.checked_sub(PREFIX).ok_or(MISMATCH)?;
        let mut inner = *self;
        self.bytes(length)?;
        inner.beyond = self.ahead.len();
        let code = inner.string()?;
        let scope = inner.document()?;
        if inner.own().is_empty() {
            Ok(Value::CodeWithScope { code, scope })
        } else {
            Err(MISMATCH)
        }
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Malformed>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        let head = match self.head()? {
            Ok(head) => head,
            Err(malformed) => return Some(Err(malformed)),
        };
        match self.value(&head) {
            Ok(value) => {
                let Head { kind, key, .. } = head;
                Some(Ok(Element { kind, key, value }))
            }
            Err(malformed) => Some(Err(malformed)),
        }
    }
}

const CUT_OFF: &str = "document cut off";

/// Where the first NUL stands; the length if there is none.
#[inline]
fn nul_position(bytes: &[u8]) -> usize {
    let (blocks, tail) = bytes.as_chunks();
    let mut found = blocks.iter().enumerate();
    let in_blocks = found.find_map(|(index, block)| Some(index * block::SIZE + block::nul(block)?));
    if let Some(position) = in_blocks {
        return position;
    }
    let in_tail = tail.iter().position(|&byte| byte == 0);
    blocks.len() * block::SIZE + in_tail.unwrap_or(tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(bytes: &[u8]) -> Vec<Result<(String, String), Malformed>> {
        Elements::new(bytes)
            .map(|item| {
                item.map(|element| {
                    let key = String::from_utf8_lossy(element.key).into_owned();
                    (key, format!("{:?}", element.value))
                })
            })
            .collect()
    }

    fn pair(key: &str, value: &str) -> Result<(String, String), Malformed> {
        Ok((key.to_owned(), value.to_owned()))
    }

    fn malformed(offset: usize, reason: &'static str) -> Result<(String, String), Malformed> {
        Err(Malformed { offset, reason })
    }

    const AB: &[u8] = b"\x13\0\0\0\x10a\0\x01\0\0\0\x0Ab\0\x08c\0\x01\0";

    #[test]
    fn elements_come_in_order_and_end() {
        let expected = vec![pair("a", "Int32(1)"), pair("b", "Null"), pair("c", "Boolean(true)")];
        assert_eq!(walk(AB), expected);
        assert_eq!(walk(b"\x05\0\0\0\0"), vec![]);
    }

    #[test]
    fn damage_is_the_last_item_and_says_where_its_element_begins() {
        let cut = AB.get(..13).unwrap();
        assert_eq!(walk(cut), vec![pair("a", "Int32(1)"), malformed(11, CUT_OFF)]);
        assert_eq!(walk(b""), vec![malformed(0, CUT_OFF)]);
        assert_eq!(walk(b"\x0A\0"), vec![malformed(2, CUT_OFF)]);
        assert_eq!(walk(b"\x08\0\0\0\x77a\0\0"), vec![malformed(4, "unknown BSON type")]);
        assert_eq!(
            walk(b"\x0C\0\0\0\x02a\0\xFF\xFF\xFF\xFF\0"),
            vec![malformed(4, "negative length")]
        );
        assert_eq!(
            walk(b"\x0D\0\0\0\x02a\0\x01\0\0\0x\0"),
            vec![malformed(4, "string without its NUL")]
        );
    }

    #[test]
    fn a_length_prefix_that_lies_is_noticed_at_the_end() {
        let reason = "document length that does not match its content";
        assert_eq!(walk(b"\x06\0\0\0\0"), vec![malformed(4, reason)]);
        assert_eq!(walk(b"\x05\0\0\0\0\0"), vec![malformed(4, reason)]);
        assert_eq!(walk(b"\x05\0\0\0\x0Aa\0\0"), vec![pair("a", "Null"), malformed(7, reason)]);
    }

    #[test]
    fn offsets_inside_nested_documents_count_from_the_outermost_one() {
        let bytes = b"\x12\0\0\0\x03d\0\x0A\0\0\0\x77k\0\0\0\0\0";
        let Some(Ok(element)) = Elements::new(bytes).next() else {
            panic!("no element");
        };
        let Value::Document(inner) = element.value else {
            panic!("no document");
        };
        assert_eq!(inner.bytes(), b"\x0A\0\0\0\x77k\0\0\0\0");
        let damage = inner.elements().find_map(Result::err);
        assert_eq!(damage.map(|damage| damage.offset), Some(11));
    }

    #[test]
    fn code_with_scope_must_fill_its_length() {
        let exact = b"\x17\0\0\0\x0Fc\0\x0F\0\0\0\x02\0\0\0x\0\x05\0\0\0\0\0";
        assert_eq!(walk(exact).len(), 1);
        assert!(walk(exact).iter().all(Result::is_ok));
        let longer = b"\x18\0\0\0\x0Fc\0\x10\0\0\0\x02\0\0\0x\0\x05\0\0\0\0\0\0";
        let reason = "code with scope whose length does not match its content";
        assert_eq!(walk(longer), vec![malformed(4, reason)]);
    }

    #[test]
    fn the_first_nul_is_found_wherever_it_stands() {
        for length in 0..30 {
            for position in 0..=length {
                for other in [1, 0x7F, 0x80, 0xFF] {
                    let mut bytes = vec![other; length];
                    bytes.iter_mut().skip(position).for_each(|byte| *byte = 0);
                    assert_eq!(nul_position(&bytes), position);
                    bytes.iter_mut().skip(position + 1).for_each(|byte| *byte = 1);
                    assert_eq!(nul_position(&bytes), position);
                }
            }
        }
    }
}
