//! What the consumer tells the runner, a line each, on its standard output.
//!
//! A line is written with one call and before (or after) the deed, so that all that a killed consumer
//! did is known: what is in a pipe outlives its writer, and a line without an end was never finished.

use std::fmt::Write;
use std::io::Write as _;

use ground::mongodb::bson::{RawDocument, Timestamp};
use mongostream::Message;
use nix::time::{ClockId, clock_gettime};

/// Microseconds on a clock that all processes of the machine share and nobody sets.
#[must_use]
pub fn now() -> u64 {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        u64::try_from(time.tv_sec() * 1_000_000 + time.tv_nsec() / 1000).unwrap_or(0)
    })
}

/// The version by which a delete goes, the last of every document.
pub const DELETED: u32 = u32::MAX;

/// A version of a document: what the writer makes and the consumer receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The document's `_id`.
    pub document: i64,
    /// From 0 on, [`DELETED`] in the end.
    pub version: u32,
}

/// A line of the consumer's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The worker's stream is open.
    Ready,
    /// A message was received; the worker's next number.
    Received(Received),
    /// The messages of these numbers are about to be acknowledged.
    Acking(Vec<usize>),
    /// They are.
    Acked(Vec<usize>),
    /// A save begins.
    Saving,
    /// The store has saved.
    Saved,
    /// The store has failed to save.
    NotSaved,
    /// The worker has failed: kind and text.
    Failed(String),
    /// Figures of the buffer, JSON.
    Stats(String),
}

/// A message, as far as the referee needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which one of the worker's, from 0 on.
    pub number: usize,
    /// Which write it tells of; `None` for what the writer did not write.
    pub key: Option<Key>,
    /// The time the server gave it: seconds and increment.
    pub time: (u32, u32),
    /// The operation type.
    pub operation: String,
    /// For a gap: from when to when events are missing.
    pub gap: Option<[(u32, u32); 2]>,
}

impl Received {
    /// Reads the server's event in a message.
    #[must_use]
    pub fn of(message: &Message, number: usize) -> Self {
        let event = RawDocument::from_bytes(message.bson()).ok();
        Self::of_event(event, message.operation().to_owned(), number)
    }

    /// The same of an event alone.
    #[must_use]
    pub fn of_event(event: Option<&RawDocument>, operation: String, number: usize) -> Self {
        let time = event.and_then(|event| event.get_timestamp("clusterTime").ok());
        let gap = event.and_then(|event| {
            let gap = event.get_document("operationDescription").ok()?;
            Some([pair(gap.get_timestamp("from").ok()?), pair(gap.get_timestamp("to").ok()?)])
        });
        Self { number, key: event.and_then(key), time: time.map_or((0, 0), pair), operation, gap }
    }
}

fn pair(time: Timestamp) -> (u32, u32) {
    (time.time, time.increment)
}

fn key(event: &RawDocument) -> Option<Key> {
    let version = match event.get_str("operationType").ok()? {
        "insert" | "replace" => event.get_document("fullDocument").ok()?.get_i32("v").ok()?,
        "update" => {
            let description = event.get_document("updateDescription").ok()?;
            description.get_document("updatedFields").ok()?.get_i32("v").ok()?
        }
        "delete" => -1,
        _ => return None,
    };
    let document = event.get_document("documentKey").ok()?.get_i64("_id").ok()?;
    Some(Key { document, version: u32::try_from(version).unwrap_or(DELETED) })
}

/// Writes lines of one worker, all at once.
pub fn tell(worker: usize, lines: impl IntoIterator<Item = Line>) {
    let now = now();
    let mut text = String::new();
    for line in lines {
        let _ = write!(text, "{now} {worker} ");
        line.write(&mut text);
        text.push('\n');
    }
    // Without a runner there is no use in going on.
    if std::io::stdout().lock().write_all(text.as_bytes()).is_err() {
        std::process::exit(1);
    }
}

impl Line {
    fn write(&self, out: &mut String) {
        let numbers = |out: &mut String, word: &str, numbers: &[usize]| {
            out.push_str(word);
            for number in numbers {
                let _ = write!(out, " {number}");
            }
        };
        match self {
            Line::Ready => out.push_str("ready"),
            Line::Received(Received { number, key, time, operation, gap }) => {
                let (seconds, increment) = time;
                let _ = write!(out, "received {number} {seconds} {increment} {operation}");
                if let Some(Key { document, version }) = key {
                    let _ = write!(out, " {document} {version}");
                }
                for (seconds, increment) in gap.iter().flatten() {
                    let _ = write!(out, " {seconds} {increment}");
                }
            }
            Line::Acking(these) => numbers(out, "acking", these),
            Line::Acked(these) => numbers(out, "acked", these),
            Line::Saving => out.push_str("saving"),
            Line::Saved => out.push_str("saved"),
            Line::NotSaved => out.push_str("not-saved"),
            Line::Failed(text) => {
                let _ = write!(out, "failed {}", text.replace('\n', " "));
            }
            Line::Stats(json) => {
                let _ = write!(out, "stats {json}");
            }
        }
    }

    /// Reads a line: time, worker, and what it tells. `None` if it is not whole.
    #[must_use]
    pub fn read(text: &str) -> Option<(u64, usize, Line)> {
        let mut parts = text.strip_suffix('\n')?.splitn(4, ' ');
        let (time, worker) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let (word, rest) = (parts.next()?, parts.next().unwrap_or_default());
        let numbers = || -> Option<Vec<usize>> {
            rest.split(' ').map(|number| number.parse().ok()).collect()
        };
        let line = match word {
            "ready" => Line::Ready,
            "received" => Line::Received(received(rest)?),
            "acking" => Line::Acking(numbers()?),
            "acked" => Line::Acked(numbers()?),
            "saving" => Line::Saving,
            "saved" => Line::Saved,
            "not-saved" => Line::NotSaved,
            "failed" => Line::Failed(rest.to_owned()),
            "stats" => Line::Stats(rest.to_owned()),
            _ => return None,
        };
        Some((time, worker, line))
    }
}

fn received(text: &str) -> Option<Received> {
    let mut parts = text.split(' ');
    let number = parts.next()?.parse().ok()?;
    let time = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let operation = parts.next()?.to_owned();
    let rest: Vec<i64> = parts.map(str::parse).collect::<Result<_, _>>().ok()?;
    let short = |number: i64| u32::try_from(number).unwrap_or(0);
    let (key, gap) = match rest[..] {
        [document, version] => (Some(Key { document, version: short(version) }), None),
        [a, b, c, d] => (None, Some([(short(a), short(b)), (short(c), short(d))])),
        _ => (None, None),
    };
    Some(Received { number, key, time, operation, gap })
}
