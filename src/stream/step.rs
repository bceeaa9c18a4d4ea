//! The words between a stream's course and its thread: what to do, and what came of it.

use std::time::Duration;

use bson::Timestamp;

use crate::error::Error;
use crate::log::LogLevel;
use crate::options::{OnHistoryLost, OnInvalidate, OnOversized, Options, Snapshot};
use crate::raw::token::Token;
use crate::source::cursor::{Change, CursorProgress};
use crate::source::failure::Phase;
use crate::source::fault::Fault;
use crate::source::pace::Pace;
use crate::source::position::Position;

/// What the options say about the course.
#[derive(Clone)]
pub(crate) struct Rules {
    pub(crate) on_invalidate: OnInvalidate,
    pub(crate) on_history_lost: OnHistoryLost,
    pub(crate) on_oversized: OnOversized,
    pub(crate) snapshot: Snapshot,
    /// Where the start options say that a stream without a checkpoint begins.
    pub(crate) start: Position,
    /// For how long a stream that has been open is opened again in vain.
    pub(crate) retry: Option<Duration>,
    /// The same for one that has never been open.
    pub(crate) opening: Duration,
    pub(crate) batch_size: u32,
    pub(crate) await_time: Duration,
}

impl Rules {
    pub(crate) fn new(options: &Options, opening: Duration) -> Self {
        Self {
            on_invalidate: options.on_invalidate,
            on_history_lost: options.on_history_lost,
            on_oversized: options.on_oversized,
            snapshot: options.snapshot,
            start: Position::Start(options.start_field()),
            retry: options.retry,
            opening,
            batch_size: options.batch_size,
            await_time: options.await_time,
        }
    }
}

/// What to do next. What came of it is told to [`Course::next`](crate::stream::course::Course::next).
pub(crate) enum Step {
    /// Take the token of a start time. The reply that opens a cursor there may have an event already, and no token
    /// of the place before it, which has to be saved first.
    TakeToken(Position),
    /// Open a cursor, and hand over what it delivers for as long as it lives.
    Follow(Plan),
    /// Take the point from which the stream goes on after a snapshot.
    BeginSnapshot,
    /// Make sure that the stream can go on after a snapshot that an earlier run has begun.
    CheckPlace(Position),
    /// Hand over what exists.
    ReadSnapshot {
        /// At this time or later.
        at: Option<Timestamp>,
        /// An earlier run has begun it, and from now on every change will be delivered.
        is_rest: bool,
    },
    /// Look for an `invalidate` that a stage of the user's pipeline has kept from us.
    FindInvalidate(Position),
    /// Look at the first event from here, without most of its fields.
    FindOutline(Position),
    /// Ask whether the event of this token is really too large to be sent.
    Confirm(Position, Token),
    /// Put a message in the place of the event that was looked at.
    TellOversized {
        /// What the server said of it.
        said: Fault,
        /// The place before it, which the server has accepted.
        from: Position,
    },
    /// Wait, and go on.
    Wait(Pause),
    End(Ending),
}

/// Where and how a cursor is opened.
pub(crate) struct Plan {
    pub(crate) from: Position,
    pub(crate) pace: Pace,
    /// With which reply the server has accepted the place: it refuses a place when it begins to look for what comes
    /// after it. In the history that is not the opening reply, which has no event there.
    pub(crate) accepted_with: usize,
    /// How long full replies may take in the history.
    pub(crate) patience: Option<Duration>,
    /// How old the worker must be before full replies may be asked for, and before they may be tried.
    pub(crate) full_from: Duration,
    pub(crate) try_from: Duration,
    /// A message that says what is lost comes before the first event.
    pub(crate) leads_with_notice: bool,
    /// Why the stream is opened again at once, if it is.
    pub(crate) why: Option<(LogLevel, &'static str)>,
}

/// A wait before the stream is opened again.
pub(crate) struct Pause {
    pub(crate) why: Why,
    pub(crate) level: LogLevel,
    pub(crate) time: Duration,
}

/// Why a stream is opened again.
pub(crate) enum Why {
    Failed(Failed),
    /// The history is lost, and the stream goes on all the same.
    Lost(Failed),
    /// What is watched was dropped or renamed. Everything up to this `invalidate` is done.
    Invalidated(Token),
    /// The server closed the cursor.
    Closed,
}

/// How a stream ends.
pub(crate) enum Ending {
    Stopped,
    /// For this reason, which is for good or has lasted for too long.
    Failed(Failed),
    /// What is watched was dropped or renamed, and the options say to stop there.
    Invalidated(Option<Token>),
    /// What should be impossible.
    Bug(&'static str),
    Error(Error),
}

/// A failure, what was under way, and from where.
pub(crate) struct Failed {
    pub(crate) fault: Fault,
    pub(crate) phase: Phase,
    pub(crate) from: Position,
}

/// What came of a step.
pub(crate) enum Happened {
    /// The token was taken; the outline of the event has it; the stream can go on after it.
    Token(Token),
    Followed(End, Box<CursorProgress>),
    /// The stream can go on there, as far as the server says.
    PlaceIsThere,
    SnapshotBegun(Token),
    SnapshotRead,
    /// There is none.
    Nothing,
    /// It is as large as that, and this is what the server said.
    TooLarge(Fault),
    /// It is done.
    Done,
    /// A request failed, of a cursor that was open already or not.
    Failed {
        fault: Fault,
        is_open: bool,
        /// Of the server, if one was found.
        wire_version: Option<i32>,
    },
    /// The server closed the cursor.
    Closed,
    /// The worker was asked to stop.
    Stopped,
    Broken(Error),
}

/// Why a cursor is followed no longer.
pub(crate) enum End {
    Failed(Fault),
    /// The server closed it.
    Closed,
    /// It has read as many events as it should.
    Enough,
    /// Another pace fits better.
    Change(Change),
}

/// What follows from the reply with which the server accepts the stream.
pub(crate) struct Accepted {
    /// The place has to be saved before the first message: a crash before the first ack must not lead to
    /// a new "now".
    pub(crate) saves_first: bool,
    /// It is news that the stream is open.
    pub(crate) is_news: bool,
    pub(crate) lost: Option<Lost>,
}

/// Changes that the stream can no longer deliver: from this time on, where it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost {
    pub(crate) from: Option<Timestamp>,
}
