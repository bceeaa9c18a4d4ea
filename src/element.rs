//! Walks raw BSON: one pass, nothing copied, nothing trusted.
//!
//! Every length is checked against the bytes that are really there, and a nested document is handed out
//! as a slice instead of being entered, so neither damage nor depth can make a walk panic or recurse.

use std::fmt;
use std::ops::Range;

use crate::words;

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

/// The bytes of a document or array, its length prefix included; not yet known to be sound inside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Document<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Document<'a> {
    /// An outermost document.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    pub(crate) fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn elements(self) -> Elements<'a> {
        let (declared, rest) = match self.bytes.split_first_chunk::<4>() {
            Some((declared, rest)) => (Some(i32::from_le_bytes(*declared)), rest),
            None => (None, [].as_slice()),
        };
        Elements {
            rest,
            end: self.offset.saturating_add(self.bytes.len()),
            sized: declared.and_then(|n| usize::try_from(n).ok()) == Some(self.bytes.len()),
            done: false,
        }
    }

    /// Where it lies in the outermost document.
    pub(crate) fn span(self) -> Range<usize> {
        self.offset..self.offset.saturating_add(self.bytes.len())
    }

    /// The first element with this key that stands before any damage.
    pub(crate) fn get(self, key: &[u8]) -> Option<Element<'a>> {
        self.elements().map_while(Result::ok).find(|element| element.key == key)
    }
}

/// How many bytes there are for a plain key.
pub(crate) const PLAIN: usize = 16;

/// One key and its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Element<'a> {
    /// The key without its NUL; not necessarily UTF-8.
    pub(crate) key: &'a [u8],
    /// The key with what follows it, if it is a short one in ASCII with nothing to escape in JSON: a copy of
    /// all these bytes is quicker than one of the key.
    pub(crate) plain_key: Option<&'a [u8; PLAIN]>,
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

impl Value<'_> {
    /// Whether the value holds elements of its own.
    pub(crate) fn is_nested(&self) -> bool {
        matches!(self, Value::Document(_) | Value::Array(_) | Value::CodeWithScope { .. })
    }
}

/// The elements of one document, up to its end or the first damage, which comes as the last item.
#[derive(Clone, Debug)]
pub(crate) struct Elements<'a> {
    rest: &'a [u8],
    end: usize,
    /// The length prefix agrees with the bytes that are there.
    sized: bool,
    done: bool,
}

impl<'a> Elements<'a> {
    pub(crate) fn new(document: &'a [u8]) -> Self {
        Document::new(document).elements()
    }

    /// Makes the walk end here.
    pub(crate) fn stop(&mut self) {
        self.done = true;
    }

    /// Where the next element begins.
    pub(crate) fn offset(&self) -> usize {
        self.end.saturating_sub(self.rest.len())
    }

    // Elements are large: inlined all the way down to `value`, they never travel through memory.
    #[inline(always)]
    fn advance(&mut self) -> Result<Option<Element<'a>>, &'static str> {
        let mut input = Input { rest: self.rest, end: self.end };
        let [kind] = *input.array::<1>()?;
        if kind == 0 {
            return if self.sized && input.rest.is_empty() {
                Ok(None)
            } else {
                Err("document length that does not match its content")
            };
        }
        let (key, plain_key) = input.key()?;
        let value = input.value(kind)?;
        self.rest = input.rest;
        Ok(Some(Element { key, plain_key, value }))
    }
}

impl<'a> Iterator for Elements<'a> {
    type Item = Result<Element<'a>, Malformed>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        match self.advance() {
            Ok(Some(element)) => Some(Ok(element)),
            Ok(None) => {
                self.done = true;
                None
            }
            Err(reason) => {
                self.done = true;
                let offset = self.offset();
                Some(Err(Malformed { offset, reason }))
            }
        }
    }
}

const CUT_OFF: &str = "document cut off";

/// What is left to read, and the offset at which it ends.
struct Input<'a> {
    rest: &'a [u8],
    end: usize,
}

impl<'a> Input<'a> {
    #[inline]
    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], &'static str> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        let (head, rest) = self.rest.split_at_checked(length).ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    fn i32(&mut self) -> Result<i32, &'static str> {
        self.array().map(|bytes| i32::from_le_bytes(*bytes))
    }

    #[inline]
    fn i64(&mut self) -> Result<i64, &'static str> {
        self.array().map(|bytes| i64::from_le_bytes(*bytes))
    }

    #[inline]
    fn length(&mut self) -> Result<usize, &'static str> {
        usize::try_from(self.i32()?).map_err(|_| "negative length")
    }

    /// A key, and the bytes of a plain one.
    #[inline(always)]
    fn key(&mut self) -> Result<(&'a [u8], Option<&'a [u8; PLAIN]>), &'static str> {
        let plain = self.rest.first_chunk().and_then(|bytes| Some((bytes, plain_length(bytes)?)));
        if let Some((bytes, length)) = plain
            && let Some((key, [0, rest @ ..])) = self.rest.split_at_checked(length)
        {
            self.rest = rest;
            return Ok((key, Some(bytes)));
        }
        Ok((self.c_string()?, None))
    }

    #[inline]
    fn c_string(&mut self) -> Result<&'a [u8], &'static str> {
        let (text, rest) = self.rest.split_at_checked(nul_position(self.rest)).ok_or(CUT_OFF)?;
        let (_nul, rest) = rest.split_first().ok_or(CUT_OFF)?;
        self.rest = rest;
        Ok(text)
    }

    #[inline]
    fn string(&mut self) -> Result<&'a [u8], &'static str> {
        let length = self.length()?;
        match self.bytes(length)?.split_last() {
            Some((0, text)) => Ok(text),
            _ => Err("string without its NUL"),
        }
    }

    #[inline]
    fn document(&mut self) -> Result<Document<'a>, &'static str> {
        const SMALLEST: usize = 5;
        let offset = self.end.saturating_sub(self.rest.len());
        let prefix = self.rest.first_chunk().ok_or(CUT_OFF)?;
        let length = usize::try_from(i32::from_le_bytes(*prefix)).map_err(|_| "negative length")?;
        if length < SMALLEST {
            return Err("document shorter than an empty one");
        }
        let bytes = self.bytes(length)?;
        Ok(Document { bytes, offset })
    }

    #[inline(always)]
    fn value(&mut self, kind: u8) -> Result<Value<'a>, &'static str> {
        Ok(match kind {
            0x01 => Value::Double(f64::from_le_bytes(*self.array()?)),
            0x02 => Value::String(self.string()?),
            0x03 => Value::Document(self.document()?),
            0x04 => Value::Array(self.document()?),
            0x05 => {
                let length = self.length()?;
                let [subtype] = *self.array()?;
                let bytes = self.bytes(length)?;
                Value::Binary { subtype, bytes }
            }
            0x06 => Value::Undefined,
            0x07 => Value::ObjectId(self.array()?),
            0x08 => {
                let [byte] = *self.array()?;
                Value::Boolean(byte != 0)
            }
            0x09 => Value::DateTime(self.i64()?),
            0x0A => Value::Null,
            0x0B => Value::Regex { pattern: self.c_string()?, options: self.c_string()? },
            0x0C => Value::DbPointer { namespace: self.string()?, id: self.array()? },
            0x0D => Value::Code(self.string()?),
            0x0E => Value::Symbol(self.string()?),
            0x0F => self.code_with_scope()?,
            0x10 => Value::Int32(self.i32()?),
            0x11 => Value::Timestamp {
                increment: u32::from_le_bytes(*self.array()?),
                time: u32::from_le_bytes(*self.array()?),
            },
            0x12 => Value::Int64(self.i64()?),
            0x13 => Value::Decimal128(self.array()?),
            0x7F => Value::MaxKey,
            0xFF => Value::MinKey,
            _ => return Err("unknown BSON type"),
        })
    }

    fn code_with_scope(&mut self) -> Result<Value<'a>, &'static str> {
        const PREFIX: usize = 4;
        const MISMATCH: &str = "code with scope whose length does not match its content";
        let length = self.length()?.checked_sub(PREFIX).ok_or(MISMATCH)?;
        let bytes = self.bytes(length)?;
        let mut inner = Input { rest: bytes, end: self.end.saturating_sub(self.rest.len()) };
        let code = inner.string()?;
        let scope = inner.document()?;
        if inner.rest.is_empty() { Ok(Value::CodeWithScope { code, scope }) } else { Err(MISMATCH) }
    }
}

/// Where the first byte stands that is a NUL, or special in JSON.
#[inline(always)]
fn plain_length(bytes: &[u8; PLAIN]) -> Option<usize> {
    let (words, _) = bytes.as_chunks::<8>();
    let found = words.iter().map(|word| words::special(u64::from_le_bytes(*word)));
    let (index, found) = found.enumerate().find(|(_, found)| *found != 0)?;
    Some(index * 8 + words::first(found))
}

/// Where the first NUL stands; the length if there is none.
#[inline]
fn nul_position(bytes: &[u8]) -> usize {
    let (words, tail) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let found = words::nuls(u64::from_le_bytes(*word));
        if found != 0 {
            return index * 8 + words::first(found);
        }
    }
    let in_tail = tail.iter().position(|&byte| byte == 0);
    words.len() * 8 + in_tail.unwrap_or(tail.len())
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
