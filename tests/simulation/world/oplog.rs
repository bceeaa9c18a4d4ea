//! The model of a deployment: an oplog, and cursors that read it by the rules of MongoDB.

use std::time::Duration;

use bson::doc;

use crate::raw::token::{Token, TokenPlace};
use crate::source::fault::{Answer, Fault, FaultKind};
use crate::source::position::Position;

/// The unix time at which each run begins.
pub(super) const BEGAN: u64 = 1_800_000_000;

/// What an entry of the oplog is to the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A change that the stream shows.
    Shown,
    /// A change that the stream shows until a lookup finds another document, at this time.
    Until(Duration),
    /// Nothing to the stream.
    Other,
    /// A change that is too large to be sent whole.
    Large,
    /// What is watched is dropped. An `invalidate` follows.
    Drop,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    second: u64,
    increment: u32,
    /// Its place in a transaction.
    place: u32,
    pub(super) kind: Kind,
    token: Token,
}

/// The stream's own way to write a number into a token.
fn number(value: u32) -> String {
    match value {
        0 => "29".to_owned(),
        1..=0x7F => format!("2B{:02X}", value << 1),
        _ => format!("2C{:04X}", value << 1),
    }
}

impl Entry {
    fn time(&self) -> (u64, u32) {
        (self.second, self.increment)
    }

    /// The token of the `invalidate` after it.
    fn invalidate(&self) -> Token {
        token_of(self.time(), self.place, "6F")
    }

    pub(super) fn token(&self) -> Token {
        Token::clone(&self.token)
    }
}

fn token_of((second, increment): (u64, u32), place: u32, end: &str) -> Token {
    let place = number(place);
    let data = format!("82{second:08X}{increment:08X}2B022C0100{place}{end}5A1004AA04");
    Token::from(doc! { "_data": data }.to_vec().unwrap_or_default())
}

/// The token that stands before all events of a time.
fn high_water((second, increment): (u64, u32)) -> Token {
    let data = format!("82{second:08X}{increment:08X}2B0229296E04");
    Token::from(doc! { "_data": data }.to_vec().unwrap_or_default())
}

pub(super) struct Oplog {
    pub(super) entries: Vec<Entry>,
    /// The first entry that is still there.
    pub(super) first: usize,
    /// The time of the newest entry, shown or not.
    newest: (u64, u32),
    /// Whether the stream hides its `invalidate`.
    pub(super) hides_invalidate: bool,
    pub(super) splits: bool,
}

impl Oplog {
    pub(super) fn new(hides_invalidate: bool, splits: bool) -> Self {
        let (entries, newest) = (Vec::new(), (BEGAN, 1));
        Self { entries, first: 0, newest, hides_invalidate, splits }
    }

    /// Writes the changes of one transaction, or a single change.
    pub(super) fn write(&mut self, now: Duration, kinds: &[Kind]) {
        let second = (BEGAN + now.as_secs()).max(self.newest.0);
        let increment = if second == self.newest.0 { self.newest.1 + 1 } else { 1 };
        self.newest = (second, increment);
        for (place, kind) in kinds.iter().enumerate() {
            let place = place as u32;
            let token = token_of((second, increment), place, "6E");
            self.entries.push(Entry { second, increment, place, kind: *kind, token });
        }
    }

    /// Cuts the oplog off before this entry, and all of the entry's time.
    pub(super) fn cut(&mut self, at: usize) {
        let Some(time) = self.entries.get(at).map(Entry::time) else { return };
        let first = self.entries.iter().position(|entry| entry.time() == time).unwrap_or(at);
        self.first = self.first.max(first);
    }

    fn shows(&self, index: usize, now: Duration) -> bool {
        match self.entries[index].kind {
            Kind::Shown | Kind::Large | Kind::Drop => true,
            Kind::Until(time) => now < time,
            Kind::Other => false,
        }
    }

    /// The first entry after a place, where nothing is lost before it.
    fn first_after(&self, from: &Position, now: Duration) -> Result<usize, Fault> {
        let lost = || Err(server(286, "the oplog has rolled over"));
        match from {
            Position::Start(None) => Ok(self.entries.len()),
            Position::Start(Some(_)) => {
                let Some(time) = from.time() else { return Err(server(2, "no time")) };
                self.first_from((time.time.into(), time.increment)).map_or_else(lost, Ok)
            }
            Position::After(token) => {
                let Some(time) = from.time() else { return Err(server(50811, "no token")) };
                let time = (u64::from(time.time), time.increment);
                let Some(start) = self.first_from(time) else { return lost() };
                if *token == high_water(time) {
                    return Ok(start);
                }
                let mut of_time = (start..self.entries.len())
                    .take_while(|index| self.entries[*index].time() == time);
                let is_it = |index: &usize| {
                    let entry = &self.entries[*index];
                    *token == entry.token
                        || entry.kind == Kind::Drop && *token == entry.invalidate()
                };
                match of_time.find(is_it) {
                    Some(index) if self.shows(index, now) => Ok(index + 1),
                    _ => Err(server(280, "the resume token was not found")),
                }
            }
            // The stage that leaves out what comes before is looked at with each event.
            Position::Past(_) => {
                let Some(time) = from.time() else { return Err(server(2, "no time")) };
                self.first_from((time.time.into(), time.increment)).map_or_else(lost, Ok)
            }
        }
    }

    /// The first entry of this time or later, if the oplog reaches back to it.
    fn first_from(&self, time: (u64, u32)) -> Option<usize> {
        let first = self.entries.partition_point(|entry| entry.time() < time);
        (first >= self.first).then_some(first)
    }

    /// How many shown changes there are from here on.
    pub(super) fn must_come(&self, range: std::ops::Range<usize>) -> impl Iterator<Item = usize> {
        range.filter(|index| {
            matches!(self.entries[*index].kind, Kind::Shown | Kind::Large | Kind::Drop)
        })
    }
}

/// A server's answer.
pub(super) fn server(code: i32, text: &str) -> Fault {
    let answer = Answer { code, message: text.to_owned(), is_resumable: false };
    Fault { kind: FaultKind::Server, answer: Some(answer), text: format!("{text} (code {code})") }
}

/// A cursor of the model.
pub(super) struct ModelCursor {
    from: Position,
    next: usize,
    /// It ends at the next reply.
    is_dying: bool,
    has_place_been_looked_for: bool,
    /// The last token that was sent. No later one lies before it.
    floor: Option<Token>,
}

/// One reply.
pub(super) struct ModelReply {
    /// The entries that come with it.
    pub(super) events: Vec<usize>,
    pub(super) token: Token,
    pub(super) invalidate: Option<Token>,
}

pub(super) enum Answered {
    Reply(ModelReply),
    Failed(Fault),
    Closed,
}

impl ModelCursor {
    pub(super) fn open(from: Position) -> Self {
        let floor = from.token();
        Self { from, next: 0, is_dying: false, has_place_been_looked_for: false, floor }
    }

    /// The next reply. The one that opens the cursor has events only if it is asked for some.
    pub(super) fn next(&mut self, oplog: &Oplog, now: Duration, most: usize) -> Answered {
        if self.is_dying {
            return Answered::Closed;
        }
        // A cursor from now begins when it is opened. Others look for their place with the first event.
        let is_now = self.from == Position::Start(None);
        if !self.has_place_been_looked_for {
            if most == 0 && !is_now {
                let time = self.from.time().map(|time| (u64::from(time.time), time.increment));
                let start = || high_water(time.unwrap_or((BEGAN, 0)));
                let token = self.from.token().unwrap_or_else(start);
                return self.reply(Vec::new(), token, None);
            }
            match oplog.first_after(&self.from, now) {
                Ok(next) => self.next = next,
                Err(fault) => return Answered::Failed(fault),
            }
            self.has_place_been_looked_for = true;
        }
        if self.next < oplog.first {
            return Answered::Failed(server(136, "the oplog was cut off here"));
        }
        // The token of the drop itself lies before its invalidate, which comes again.
        if let Some(entry) = self.next.checked_sub(1).map(|last| &oplog.entries[last])
            && entry.kind == Kind::Drop
            && self.from == Position::After(entry.token())
        {
            return self.invalidated(oplog, entry, Vec::new());
        }
        let mut events = Vec::new();
        let mut seen = None;
        while events.len() < most && self.next < oplog.entries.len() {
            let index = self.next;
            let entry = &oplog.entries[index];
            let is_before = self.from.covers(&entry.token());
            if !is_before && oplog.shows(index, now) {
                if entry.kind == Kind::Large && !oplog.splits {
                    // The whole reply fails, with the events before it.
                    return Answered::Failed(server(10334, "too large"));
                }
                events.push(index);
            }
            self.next += 1;
            seen = Some(index);
            if entry.kind == Kind::Drop && !self.from.covers(&entry.invalidate()) {
                return self.invalidated(oplog, entry, events);
            }
        }
        // The token of the last event, or of the time up to which the server has looked.
        let token = match seen.or(self.next.checked_sub(1)) {
            Some(last) if events.last() == Some(&last) => oplog.entries[last].token(),
            _ if self.next >= oplog.entries.len() => {
                let (second, increment) = oplog.newest;
                high_water((second, increment + 1))
            }
            Some(last) => events.last().map_or_else(
                || high_water(oplog.entries[last].time()),
                |event| oplog.entries[*event].token(),
            ),
            None => high_water((BEGAN, 0)),
        };
        self.reply(events, token, None)
    }

    /// The last reply of a cursor, with the events before the invalidate.
    fn invalidated(&mut self, oplog: &Oplog, entry: &Entry, events: Vec<usize>) -> Answered {
        self.is_dying = true;
        let token = entry.invalidate();
        let known = (!oplog.hides_invalidate).then(|| Token::clone(&token));
        let after = if oplog.hides_invalidate { entry.token() } else { token };
        self.reply(events, after, known)
    }

    fn reply(&mut self, events: Vec<usize>, token: Token, invalidate: Option<Token>) -> Answered {
        let reaches = |floor: &Token| match (TokenPlace::of(floor), TokenPlace::of(&token)) {
            (Some(floor), Some(token)) => floor.reaches(&token),
            _ => false,
        };
        let token = self.floor.take().filter(reaches).unwrap_or(token);
        self.floor = Some(Token::clone(&token));
        // As the library does with each reply.
        let token = self.from.no_earlier(token);
        Answered::Reply(ModelReply { events, token, invalidate })
    }
}
