//! A resume token: where in the stream an event is, read from the bytes that servers make.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::Result;
use crate::raw::element::{Elements, Value};

/// A resume token: the raw BSON of the server's `_id` or `postBatchResumeToken` document.
pub(crate) type Token = Arc<[u8]>;

/// The cluster time of a resume token: seconds since 1970 and the ordinal within the second. It is
/// the beginning of its `_data`: in hexadecimal, the type byte of a timestamp (0x82), then seconds and
/// increment, 4 bytes each.
pub(crate) fn token_time(token: &[u8]) -> Option<(u32, u32)> {
    let digits = token_data(token)?.strip_prefix(b"82")?;
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let number = |digits: &[u8]| digits.iter().try_fold(0, |n, byte| Some(n << 4 | digit(byte)?));
    Some((number(digits.get(..8)?)?, number(digits.get(8..16)?)?))
}

/// A resume token's `_data`, in hexadecimal.
fn token_data(token: &[u8]) -> Option<&[u8]> {
    let mut elements = Elements::new(token).map_while(Result::ok);
    elements.find_map(|element| match (element.key, element.value) {
        (b"_data", Value::String(text)) => Some(text),
        _ => None,
    })
}

/// What of a resume token says where in the stream its event is: its time; the kind of token and the place in a
/// transaction; and whether it is the token of an `invalidate`, which has the time of the event before it.
///
/// The token's version stands between, and the event's collection and key come after it. These are not the same
/// in all tokens of an event: it is another version with split events than without. As texts, two places compare
/// in the order of the stream.
pub(crate) struct TokenPlace<'a> {
    time: &'a [u8],
    rest: &'a [u8],
    /// How many digits of `rest` are the place; the others are the event's.
    digits: usize,
}

impl<'a> TokenPlace<'a> {
    /// In digits: the type of the time, seconds and increment.
    pub(crate) const TIME: usize = 2 + 8 + 8;
    /// In digits: a number of one byte.
    pub(crate) const VERSION: usize = 2 + 2;

    /// `None` for what is not a token of the kind that servers since 4.2 make.
    pub(crate) fn of(token: &'a [u8]) -> Option<Self> {
        let (time, rest) = token_data(token)?.split_at_checked(Self::TIME)?;
        let (version, rest) = rest.split_at_checked(Self::VERSION)?;
        if !time.starts_with(b"82") || !version.starts_with(b"2B") {
            return None;
        }
        // The numbers are in the server's key format, and false and true are 6E and 6F.
        let kind = digits_of_number(rest)?;
        let place = digits_of_number(rest.get(kind..)?)?;
        let digits = kind + place + 2;
        (rest.len() >= digits).then_some(Self { time, rest, digits })
    }

    pub(crate) fn is_of_invalidate(&self) -> bool {
        self.text_of_rest().ends_with("6F")
    }

    /// How many digits after the version say where the event is.
    pub(crate) fn digits(&self) -> usize {
        self.digits
    }

    /// All digits of the place, without the version.
    pub(crate) fn text(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(self.time), self.text_of_rest())
    }

    fn text_of_rest(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(self.rest.get(..self.digits).unwrap_or_default())
    }

    /// Whether another token's event comes no later than this one.
    pub(crate) fn reaches(&self, other: &TokenPlace<'_>) -> bool {
        let ours = self.rest.get(..self.digits).unwrap_or_default();
        let theirs = other.rest.get(..self.digits).unwrap_or(other.rest);
        (other.time, theirs) <= (self.time, ours)
    }
}

/// How many digits a number takes in the server's key format: zero is a byte alone, the others say how many bytes
/// follow, from one to eight.
fn digits_of_number(text: &[u8]) -> Option<usize> {
    let bytes = match text.get(..2)? {
        b"29" => 0,
        [b'2', kind @ b'B'..=b'F'] => usize::from(kind - b'B') + 1,
        [b'3', kind @ b'0'..=b'2'] => usize::from(kind - b'0') + 6,
        _ => return None,
    };
    Some(2 + 2 * bytes)
}

/// The seconds of [`token_time`].
pub(crate) fn token_seconds(token: &[u8]) -> Option<u32> {
    token_time(token).map(|(seconds, _)| seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bson::doc;

    fn bytes(document: &bson::Document) -> Vec<u8> {
        document.to_vec().unwrap()
    }

    #[test]
    fn a_tokens_time_is_in_its_first_bytes() {
        let time = |token| token_time(&bytes(&token));
        let idle = doc! {"_data": "8265A1B2C30000000A2B0229296E04"};
        assert_eq!(time(idle), Some((0x65A1_B2C3, 10)));
        assert_eq!(
            time(doc! {"_typeBits": 1, "_data": "8265a1b2c300000001"}),
            Some((0x65A1_B2C3, 1))
        );
        for other in [
            "",
            "82",
            "8265A1B2C3",
            "8265A1B2C30000000",
            "8165A1B2C300000001",
            "82zzA1B2C300000001",
            "82+5A1B2C300000001",
        ] {
            assert_eq!(time(doc! {"_data": other}), None, "{other}");
        }
        assert_eq!(time(doc! {"_data": 5}), None);
        assert_eq!(time(doc! {}), None);
        assert_eq!(token_time(b"\x05"), None);
    }

    #[test]
    fn tokens_are_in_the_order_of_the_stream_whatever_their_version_is() {
        let token = |data: &str| bytes(&doc! { "_data": data });
        // In the order of the stream: an earlier time; a time alone, which stands before its events; of a
        // transaction the events 0, 5, 6 and 200; a drop and its invalidate; a later time.
        let in_order = [
            ("826B02EAFC00000001", "2C0100296E"),
            ("826B02EAFC00000002", "29296E"),
            ("826B02EAFC00000002", "2C0100296E"),
            ("826B02EAFC00000002", "2C01002B0A6E"),
            ("826B02EAFC00000002", "2C01002B0C6E"),
            ("826B02EAFC00000002", "2C01002C01906E"),
            ("826B02EAFC00000003", "2C0100296E"),
            ("826B02EAFC00000003", "2C0100296F"),
            ("826B02EAFD00000001", "29296E"),
        ];
        let versions = [("2B02", "5A1004FF"), ("2B04", "5A100411463C6F7065"), ("2B04", "04")];
        for (number, (time, place)) in in_order.iter().enumerate() {
            for (other, (other_time, other_place)) in in_order.iter().enumerate() {
                for (version, event) in versions {
                    let token = token(&format!("{time}2B02{place}5A1004AA04"));
                    let bytes = bytes(&doc! {
                        "_data": format!("{other_time}{version}{other_place}{event}"), "x": 1,
                    });
                    let (ours, theirs) = (TokenPlace::of(&token), TokenPlace::of(&bytes));
                    let reaches = ours.unwrap().reaches(&theirs.unwrap());
                    assert_eq!(reaches, other <= number, "{number} and {other}");
                }
            }
        }
        let place = token("826B02EAFC000000022B042C01002B0A6E5A1004");
        assert_eq!(TokenPlace::of(&place).unwrap().text(), "826B02EAFC000000022C01002B0A6E");
    }
}
