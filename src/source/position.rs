//! Where a stream begins, or goes on.

use std::fmt;
use std::time::Duration;

use bson::{Bson, Document, RawDocument, RawDocumentBuf, Timestamp, doc};

use crate::error::Result;
use crate::raw::token;
use crate::raw::token::{Token, TokenPlace};
use crate::source::pace::Pace;

/// Where a stream begins, or goes on.
#[derive(Clone, PartialEq)]
pub(crate) enum Position {
    /// Where the options say: a field of `$changeStream`; `None` is now.
    Start(Option<(&'static str, Bson)>),
    After(Token),
    /// After an event that the stages of this stream do not let through, or not any more: a lookup finds another
    /// document now, an image has expired, the options are others. Servers do not find the token of such an
    /// event. So the stream begins at the token's time, and everything up to the token is left out: servers
    /// compare tokens in the same way. It does not matter in how many parts such an event is split.
    Past(Token),
}

/// For the log. Not the token: it holds the key of a document.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Position::Start(None) => f.write_str("from now"),
            Position::Start(Some((name, Bson::Timestamp(time)))) => {
                write!(f, "with {name} {}:{}", time.time, time.increment)
            }
            Position::Start(Some((name, _))) => write!(f, "with {name}"),
            Position::After(_) => f.write_str("with startAfter"),
            Position::Past(_) => f.write_str("at the time of its token"),
        }
    }
}

impl Position {
    /// Its cluster time, if it has one.
    pub(crate) fn time(&self) -> Option<Timestamp> {
        if let Position::Start(Some((_, Bson::Timestamp(time)))) = self {
            return Some(*time);
        }
        let (time, increment) = token::token_time(&self.token()?)?;
        Some(Timestamp { time, increment })
    }

    /// The resume token, if it is one.
    pub(crate) fn token(&self) -> Option<Token> {
        match self {
            Position::After(token) | Position::Past(token) => Some(Token::clone(token)),
            Position::Start(Some((_, Bson::Document(token)))) => {
                Some(Token::from(RawDocumentBuf::try_from(token).ok()?.as_bytes()))
            }
            Position::Start(_) => None,
        }
    }

    /// Whether it is a time for which there is no token yet.
    pub(crate) fn needs_token(&self) -> bool {
        matches!(self, Position::Start(Some((_, Bson::Timestamp(_)))))
    }

    /// How long ago it was at this unix time; `None` for one without a time.
    pub(crate) fn age(&self, now: Duration) -> Option<Duration> {
        Some(now.saturating_sub(Duration::from_secs(self.time()?.time.into())))
    }

    /// Whether it lies so far back that events may be far apart.
    pub(crate) fn is_in_history(&self, now: Duration) -> bool {
        self.age(now).is_some_and(|age| age > Pace::HISTORY)
    }

    /// The same place for a server that does not find the event of its token, if there is a way to it.
    pub(crate) fn past(&self) -> Option<Position> {
        match self {
            Position::Past(_) => None,
            Position::After(_) | Position::Start(_) => {
                let token = self.token()?;
                let is_known =
                    TokenPlace::of(&token).is_some() && token::token_time(&token).is_some();
                is_known.then_some(Position::Past(token))
            }
        }
    }

    /// Whether a token that the server sends lies no further than this.
    pub(crate) fn covers(&self, token: &[u8]) -> bool {
        match self {
            Position::Start(_) => false,
            Position::After(at) => **at == *token,
            Position::Past(at) => match (TokenPlace::of(at), TokenPlace::of(token)) {
                (Some(at), Some(token)) => at.reaches(&token),
                _ => false,
            },
        }
    }

    /// A token that the server sends, or this place if the token lies before it.
    pub(crate) fn no_earlier(&self, token: Token) -> Token {
        match self {
            Position::Past(at) if self.covers(&token) => Token::clone(at),
            _ => token,
        }
    }

    pub(crate) fn field(&self) -> Result<Option<(&'static str, Bson)>, String> {
        match self {
            Position::Start(field) => Ok(field.clone()),
            // `startAfter` takes every token, the one of an `invalidate` too, which `resumeAfter`
            // refuses.
            Position::After(token) => {
                let document = RawDocument::from_bytes(token).and_then(Document::try_from);
                // Without it the stream would begin now.
                let document = document.map_err(|error| {
                    format!(
                        "the resume token of the stream is damaged, please report this: {error}"
                    )
                })?;
                Ok(Some(("startAfter", Bson::Document(document))))
            }
            Position::Past(token) => {
                let time = token::token_time(token)
                    .ok_or("a resume token has no time, please report this")?;
                // The event of an invalidate's token is the last of its time, and would end the cursor once more.
                let is_last = TokenPlace::of(token).is_some_and(|place| place.is_of_invalidate());
                let behind = u32::from(is_last);
                let time = Timestamp { time: time.0, increment: time.1.saturating_add(behind) };
                Ok(Some(("startAtOperationTime", time.into())))
            }
        }
    }

    /// A stage that lets only through what lies after.
    pub(crate) fn stage(&self) -> Option<Document> {
        let Position::Past(token) = self else { return None };
        let (place, time) = (TokenPlace::of(token)?, self.time()?);
        let digits = |from: usize, count: usize| {
            doc! { "$substrBytes": ["$_id._data", from as i32, count as i32] }
        };
        let after_version = TokenPlace::TIME + TokenPlace::VERSION;
        let theirs = [digits(0, TokenPlace::TIME), digits(after_version, place.digits())];
        let is_behind = doc! { "$gt": [{ "$concat": theirs.to_vec() }, place.text()] };
        // The time decides for all events but those of the token's own transaction.
        Some(
            doc! { "$match": { "$or": [{ "clusterTime": { "$gt": time } }, { "$expr": is_behind }] } },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_cannot_be_read_is_a_failure_and_no_start_from_now() {
        for damaged in [&[][..], &[5, 0, 0], b"\x10\0\0\0\x02_data\0\xFF\0\0\0\0"] {
            let token = Token::from(damaged);
            assert!(Position::After(Token::clone(&token)).field().is_err(), "{damaged:?}");
            assert!(Position::Past(token).field().is_err(), "{damaged:?}");
        }
        let sound = Token::from(doc! { "_data": "82" }.to_vec().expect("BSON"));
        let field = Position::After(sound).field().expect("a field").expect("no start from now");
        assert_eq!(field, ("startAfter", doc! { "_data": "82" }.into()));
    }

    fn token(data: &str) -> Token {
        Token::from(doc! { "_data": data }.to_vec().expect("BSON"))
    }

    #[test]
    fn only_a_token_whose_time_and_place_are_known_has_a_place_by_its_time() {
        let past = |data: &str| Position::After(token(data)).past().map(|past| past.to_string());
        let by_time = Some("at the time of its token".to_owned());
        assert_eq!(past("826B02EAFC000000012B022C0100296E"), by_time);
        assert_eq!(past("826B02EAFC00000001"), None, "a time and no place");
        assert_eq!(past("82zB02EAFC000000012B022C0100296E"), None, "a place and no time");
        let known = Position::Past(token("826B02EAFC000000012B022C0100296E"));
        assert!(known.past().is_none(), "there is no other way than that");
    }

    #[test]
    fn the_log_is_told_where_a_stream_begins_and_no_key() {
        let start = |name, value: Bson| Position::Start(Some((name, value))).to_string();
        assert_eq!(Position::Start(None).to_string(), "from now");
        let time = Timestamp { time: 7, increment: 3 };
        assert_eq!(start("startAtOperationTime", time.into()), "with startAtOperationTime 7:3");
        assert_eq!(start("resumeAfter", doc! { "_data": "82" }.into()), "with resumeAfter");
        assert_eq!(Position::After(token("82")).to_string(), "with startAfter");
    }

    #[test]
    fn what_lies_up_to_a_token_is_left_out_by_its_time_and_place() {
        let past = Position::Past(token("826B02EAFC000000012B022C0100296E5A1004"));
        let time = Timestamp { time: 0x6B02_EAFC, increment: 1 };
        let digits = |from: i32, count: i32| doc! { "$substrBytes": ["$_id._data", from, count] };
        let place = "826B02EAFC000000012C0100296E";
        let theirs = vec![digits(0, 18), digits(22, place.len() as i32 - 18)];
        let after = doc! { "$gt": [{ "$concat": theirs }, place] };
        let expected =
            doc! { "$match": { "$or": [{ "clusterTime": { "$gt": time } }, { "$expr": after }] } };
        assert_eq!(past.stage(), Some(expected));
        assert_eq!(Position::After(token("82")).stage(), None);
    }

    #[test]
    fn a_token_of_before_does_not_move_a_place_back() {
        let (before, at, after) =
            ("826B02EAFC00000001", "826B02EAFC00000005", "826B02EAFC00000009");
        let full = |data: &str| token(&format!("{data}2B022C0100296E5A1004"));
        let past = Position::Past(full(at));
        assert!(past.no_earlier(full(before)) == full(at));
        assert!(past.no_earlier(full(at)) == full(at));
        assert!(past.no_earlier(full(after)) == full(after));
        assert!(Position::After(full(at)).no_earlier(full(before)) == full(before));
    }
}
