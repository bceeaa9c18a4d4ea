//! The values of every BSON type, in both modes.

use std::fmt::Write;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::json::pieces::{hex, put_integer, put_object_id, put_timestamp};
use crate::json::style::ExtendedJson;
use crate::json::writer::{Inner, Shape, Writer};
use crate::json::{date, decimal};
use crate::raw::element::Value;

impl<'a> Writer<'a> {
    pub(super) fn string(&mut self, text: &[u8]) {
        self.out.quoted(text, b',');
    }

    /// `{"$name":"text"}`, the opening given up to the text's own quotes.
    pub(super) fn wrapped_text<const N: usize>(&mut self, opening: &[u8; N], text: &[u8]) {
        self.out.put(opening);
        self.string(text);
        self.out.close(b'}');
    }

    pub(super) fn quoted_integer<const N: usize>(&mut self, opening: &[u8; N], number: i64) {
        self.out.put(opening);
        self.out.integer(number);
        self.out.put(b"\"},");
    }

    /// A value of any type, in any mode, those among them that [`member`](Self::member) writes more quickly.
    pub(super) fn any(&mut self, value: Value<'a>) -> Result<Inner<'a>, &'static str> {
        match value {
            Value::Document(document) => {
                let document = self.enter(document)?;
                self.out.put(b"{");
                return Ok(Some((document, Shape::Object)));
            }
            Value::Array(array) => {
                let array = self.enter(array)?;
                self.out.put(b"[");
                return Ok(Some((array, Shape::Array)));
            }
            Value::CodeWithScope { code, scope } => {
                let scope = self.enter(scope)?;
                self.out.put(b"{\"$code\":");
                self.string(code);
                self.out.put(b"\"$scope\":{");
                return Ok(Some((scope, Shape::Scope)));
            }
            Value::String(text) => self.string(text),
            Value::Int32(number) => self.integer(b"{\"$numberInt\":\"", number.into()),
            Value::Int64(number) => self.integer(b"{\"$numberLong\":\"", number),
            Value::Double(number) => self.double(number),
            Value::Boolean(true) => self.out.put(b"true,"),
            Value::Boolean(false) => self.out.put(b"false,"),
            Value::Null => self.out.put(b"null,"),
            Value::ObjectId(id) => self.object_id(id),
            Value::DateTime(millis) => self.date(millis),
            Value::Timestamp { time, increment } => {
                self.timestamp(u64::from(time) << 32 | u64::from(increment))
            }
            Value::Binary { subtype, bytes } => self.binary(subtype, bytes),
            Value::Decimal128(bytes) => {
                self.out.put(b"{\"$numberDecimal\":\"");
                decimal::write(&mut self.out, *bytes);
                self.out.put(b"\"},");
            }
            Value::Regex { pattern, options } => self.regex(pattern, options),
            Value::DbPointer { namespace, id } => {
                self.out.put(b"{\"$dbPointer\":{\"$ref\":");
                self.string(namespace);
                self.out.put(b"\"$id\":");
                self.object_id(id);
                self.out.close(b'}');
                self.out.close(b'}');
            }
            Value::Code(code) => self.wrapped_text(b"{\"$code\":", code),
            Value::Symbol(symbol) => self.wrapped_text(b"{\"$symbol\":", symbol),
            Value::Undefined => self.out.put(b"{\"$undefined\":true},"),
            Value::MinKey => self.out.put(b"{\"$minKey\":1},"),
            Value::MaxKey => self.out.put(b"{\"$maxKey\":1},"),
        }
        Ok(None)
    }

    pub(super) fn object_id(&mut self, id: &[u8; 12]) {
        self.out.write(|room| put_object_id(room, id));
    }

    /// In the canonical mode after that opening.
    pub(super) fn integer<const N: usize>(&mut self, opening: &[u8; N], number: i64) {
        if self.mode == ExtendedJson::Canonical {
            return self.quoted_integer(opening, number);
        }
        self.out.write(|room| put_integer(room, number, b','));
    }

    /// The time in the upper half, the increment in the lower one.
    #[inline(always)]
    pub(super) fn timestamp(&mut self, both: u64) {
        self.out.write(|room| put_timestamp(room, both));
    }

    pub(super) fn date(&mut self, millis: i64) {
        if self.mode == ExtendedJson::Relaxed && date::has_text(millis) {
            return self.out.write(|room| date::put(room, millis));
        }
        self.quoted_integer(b"{\"$date\":{\"$numberLong\":\"", millis);
        self.out.close(b'}');
    }

    pub(super) fn double(&mut self, number: f64) {
        const OPENING: &[u8; 17] = b"{\"$numberDouble\":";
        if number.is_nan() {
            return self.wrapped_text(OPENING, b"NaN");
        }
        if number.is_infinite() {
            let negative = number.is_sign_negative();
            let text: &[u8] = if negative { b"-Infinity" } else { b"Infinity" };
            return self.wrapped_text(OPENING, text);
        }
        let mut buffer = zmij::Buffer::new();
        // The shortest text that reads back as the same double, always with a point or an exponent.
        let text = buffer.format_finite(number);
        if self.mode == ExtendedJson::Relaxed {
            self.out.text(text.as_bytes());
            return self.out.put(b",");
        }
        self.out.put(OPENING);
        self.out.put(b"\"");
        match text.split_once('e') {
            None => self.out.text(text.as_bytes()),
            // Inside a string the spelling counts, and the specification's is 1.5E+18.
            Some((mantissa, exponent)) => {
                self.out.text(mantissa.as_bytes());
                self.out.text(if exponent.starts_with('-') { b"E" } else { b"E+" });
                self.out.text(exponent.trim_start_matches('+').as_bytes());
            }
        }
        self.out.put(b"\"},");
    }

    pub(super) fn binary(&mut self, subtype: u8, bytes: &[u8]) {
        const OLD_BINARY: u8 = 2;
        let payload = match bytes.split_first_chunk::<4>() {
            // Subtype 2 repeats the length inside, and the official form leaves that out.
            Some((length, payload))
                if subtype == OLD_BINARY
                    && usize::try_from(i32::from_le_bytes(*length)) == Ok(payload.len()) =>
            {
                payload
            }
            _ => bytes,
        };
        self.out.put(b"{\"$binary\":{\"base64\":\"");
        let _ = write!(self.out, "{}", Base64Display::new(payload, &BASE64));
        self.out.put(b"\",\"subType\":\"");
        self.out.put(&hex(subtype));
        self.out.put(b"\"}},");
    }

    pub(super) fn regex(&mut self, pattern: &[u8], options: &[u8]) {
        let mut options = options.to_vec();
        options.sort_unstable();
        self.out.put(b"{\"$regularExpression\":{\"pattern\":");
        self.string(pattern);
        self.out.put(b"\"options\":");
        self.string(&options);
        self.out.close(b'}');
        self.out.close(b'}');
    }
}
