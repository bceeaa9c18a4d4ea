//! What a failure means for a stream: go on, or end, and with which error.
//!
//! The rules are those of the change streams specification ("Resumable Error"), with the terminal
//! codes that servers are known to send; a code that is in no list ends the stream, because a stream
//! that is opened again and again on a dead token helps nobody.

use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::options::uri::Uri;
use crate::options::{OnOversized, Options};
use crate::source::fault::{Fault, FaultKind};
use crate::source::position::Position;
use bson::{DateTime, Timestamp};

#[cfg(test)]
mod tests;

/// What the worker was doing when it failed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The cursor has never been open.
    Opening,
    /// The cursor has been open before.
    Reopening,
    /// The cursor was open: a getMore failed.
    Streaming,
    /// Documents were read.
    Snapshot,
}

/// Resumable codes of servers before 4.4, which set no label (change streams specification,
/// "Resumable Error").
const RESUMABLE_CODES: [i32; 17] =
    [6, 7, 63, 89, 91, 133, 150, 189, 234, 262, 9001, 10107, 11600, 11602, 13388, 13435, 13436];

/// Codes after which a read may be tried again (retryable reads specification, "Retryable Error").
const RETRYABLE_READ_CODES: [i32; 13] =
    [6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436];

/// Codes by which a server says that it is about to go. It may say so on a new connection before it has
/// seen a getMore, and so without a label.
const SHUTTING_DOWN: [i32; 2] = [91, 11600];

/// By killOp: somebody or something has ended this one operation, and not what it is for.
const INTERRUPTED: i32 = 11601;
/// What a member of a set with passwords answers to the cluster time of another one until it has read the keys by
/// which it checks that: for a moment, after it was started.
const KEY_NOT_FOUND: i32 = 211;
const CURSOR_NOT_FOUND: i32 = 43;
/// What a getMore that waits in the server gets where a later one would get CursorNotFound.
const CURSOR_KILLED: i32 = 237;
/// What is read was dropped or renamed; then there is nothing left to read of it.
const QUERY_PLAN_KILLED: i32 = 175;
/// What a server says, beside code 72, that has not yet heard of the time from which it shall read.
const TIME_NOT_REACHED: &str = "afterClusterTime value must not be greater";
const UNAUTHORIZED: i32 = 13;
const AUTHENTICATION_FAILED: i32 = 18;
/// What Atlas answers to a login, and to much else.
const ATLAS_ERROR: i32 = 8000;
const NOT_A_REPLICA_SET: i32 = 40573;
/// BSONObjectTooLarge; an event above 64 MB, which is the server's limit while it makes one; an event
/// that cannot be split because one of its fields is too large (seen with 6.0.27).
const EVENT_TOO_LARGE: [i32; 3] = [10334, 13548, 7182500];
const UNKNOWN_STAGE: i32 = 40324;
/// What servers that do not know of split events say of their tokens (seen with 6.0.5).
const INVALID_TOKEN: i32 = 40646;
/// What servers that can split events say when they meet one that has to be split after a token that comes from a
/// server, or a stream, which could not: the tokens of such a stream have no place for a part's number (seen
/// with 6.0.27).
const TOKEN_WITHOUT_PARTS: i32 = 7182504;
const CHANGE_STREAM_FATAL: i32 = 280;
const INVALIDATE_TOKEN: i32 = 260;
/// What servers say of a token that is none, or not one for them: no hexadecimal digits, no key, no field, not
/// the right type (seen with 4.2.6 and 6.0.5).
const BAD_TOKEN: [i32; 11] =
    [9, 15, INVALIDATE_TOKEN, 40645, INVALID_TOKEN, 40647, 40648, 40649, 50788, 50811, 50874];
/// What 6.0 answers where an image is required that it does not have.
const NO_MATCHING_DOCUMENT: i32 = 47;
/// ChangeStreamHistoryLost, ChangeStreamFatalError.
const HISTORY_LOST: [i32; 2] = [286, CHANGE_STREAM_FATAL];
/// The oplog was cut off just where the server stood in it. That may have been before the stream's place: a server
/// begins to look further back (seen with 4.2.6). When the stream is opened again the server checks its history.
const CAPPED_POSITION_LOST: i32 = 136;

/// What servers say where a pipeline did not keep the event's `_id` (seen with 4.2.6 and 6.0.5).
const ID_WAS_CHANGED: &str = "_id field";

/// From 4.4 servers set the label, and know without an event that a token is gone.
pub(crate) const WIRE_VERSION_4_4: i32 = 9;

pub(crate) const WIRE_VERSION_6_0: i32 = 17;

/// What servers before 6.0 answer to options of `$changeStream` that they do not know: the name is
/// unknown, or the value (40575 with 4.2.6, 2 with 5.0.4).
const UNKNOWN_OPTION: [i32; 3] = [40415, 40575, 2];

/// For how long a stream that has been open is opened again although the server refuses its user: a
/// user, a password or a role may be in the middle of being replaced.
pub(crate) const REFUSED_PATIENCE: Duration = Duration::from_secs(30);

/// Whether the stream may be opened again after this failure, from where it was.
pub(crate) fn is_resumable(fault: &Fault, phase: Phase, wire_version: Option<i32>) -> bool {
    match &fault.kind {
        // Behind an address of a set that was there before, another may answer for a while.
        FaultKind::Unreachable { is_final: true } => phase != Phase::Opening,
        FaultKind::Unreachable { .. } | FaultKind::Network | FaultKind::ConnectionsGivenUp => true,
        // No login fails with a label.
        FaultKind::Login(cause) => {
            cause.as_ref().is_some_and(|cause| is_resumable(cause, Phase::Reopening, None))
        }
        FaultKind::Server => is_answer_resumable(fault, phase, wire_version),
        FaultKind::Argument | FaultKind::Other => false,
    }
}

fn is_answer_resumable(fault: &Fault, phase: Phase, wire_version: Option<i32>) -> bool {
    let Some(answer) = &fault.answer else { return false };
    let code = answer.code;
    if matches!(code, INTERRUPTED | KEY_NOT_FOUND | CAPPED_POSITION_LOST) {
        return true;
    }
    let is_gone = matches!(code, CURSOR_NOT_FOUND | CURSOR_KILLED);
    match phase {
        Phase::Streaming => {
            let is_old = wire_version.is_some_and(|version| version < WIRE_VERSION_4_4);
            !is_terminal(code)
                && (is_gone
                    || SHUTTING_DOWN.contains(&code)
                    || answer.is_resumable
                    || is_old && RESUMABLE_CODES.contains(&code))
        }
        Phase::Snapshot => {
            RETRYABLE_READ_CODES.contains(&code)
                || is_gone
                || code == QUERY_PLAN_KILLED
                || fault.says(TIME_NOT_REACHED)
        }
        Phase::Opening | Phase::Reopening => RETRYABLE_READ_CODES.contains(&code),
    }
}

/// Whether the server refuses the user: the login, or what the user may do.
pub(crate) fn is_refused(fault: &Fault) -> bool {
    match &fault.kind {
        FaultKind::Login(cause) => {
            cause.as_ref().is_none_or(|cause| !is_resumable(cause, Phase::Reopening, None))
        }
        FaultKind::Server => match fault.code() {
            Some(UNAUTHORIZED | AUTHENTICATION_FAILED) => true,
            Some(ATLAS_ERROR) => fault.says("auth"),
            _ => false,
        },
        _ => false,
    }
}

/// Whether no server could be asked. That the driver has given up its connections, which it does after a login
/// that failed, says nothing about that.
pub(crate) fn is_unreachable(fault: &Fault) -> bool {
    matches!(fault.kind, FaultKind::Network | FaultKind::Unreachable { .. })
}

/// Whether the server treats the connection, which was logged in, as one that is not: its user was dropped.
pub(crate) fn is_logged_out(fault: &Fault) -> bool {
    fault.kind == FaultKind::Server
        && fault.code() == Some(UNAUTHORIZED)
        && fault.says("requires authentication")
}

fn is_terminal(code: i32) -> bool {
    HISTORY_LOST.contains(&code) || EVENT_TOO_LARGE.contains(&code)
}

/// Whether the server has met an event that it cannot send.
pub(crate) fn is_too_large(fault: &Fault) -> bool {
    fault.code().is_some_and(|code| EVENT_TOO_LARGE.contains(&code))
}

/// Whether the server does not know a stage of the pipeline.
pub(crate) fn is_unknown_stage(fault: &Fault) -> bool {
    fault.code() == Some(UNKNOWN_STAGE)
}

/// Whether the stream's tokens cannot name the parts of an event. A stream that begins at a time has others.
pub(crate) fn is_token_without_parts(fault: &Fault) -> bool {
    fault.code() == Some(TOKEN_WITHOUT_PARTS)
}

/// Whether the server has not found the event of a resume token.
///
/// That may mean that the event does not pass the stages of the stream: because a lookup finds another document
/// than before, because an image has expired, because the options are others. Or it is split otherwise than
/// before, or no longer, or only now: each part has a token of its own. The history may be complete.
pub(crate) fn is_token_not_found(fault: &Fault) -> bool {
    fault.kind == FaultKind::Server
        && matches!(fault.code(), Some(CHANGE_STREAM_FATAL | INVALID_TOKEN))
        && !fault.says(ID_WAS_CHANGED)
}

/// The kind of the library's error for a failure.
pub(crate) fn kind(fault: &Fault) -> ErrorKind {
    kind_and_advice(cause(fault)).0
}

/// The library's error for a failure of the driver.
///
/// `from` is where the stream was to go on, if that is known.
pub(crate) fn error(fault: &Fault, uri: &Uri, what: &str, from: Option<Timestamp>) -> Error {
    let fault = cause(fault);
    let code = fault.code().unwrap_or(0);
    let (kind, advice) = kind_and_advice(fault);
    let mut text = format!("cannot {what} on {}: {}{advice}", uri.shown(), fault.text);
    if let (ErrorKind::HistoryLost, Some(Timestamp { time: seconds, .. })) = (kind, from) {
        let time = DateTime::from_millis(i64::from(seconds) * 1000);
        let time = time.try_to_rfc3339_string().unwrap_or_default();
        text.push_str(&format!("; it was to go on from {time}, unix time {seconds}"));
    }
    let result = Error::new(kind, text).with_server_code(code);
    let is_final = fault.kind == FaultKind::Unreachable { is_final: true };
    if !is_final && is_resumable(fault, Phase::Reopening, None) {
        result.retriable()
    } else {
        result
    }
}

/// What kind of error a failure is, and what to do about it.
fn kind_and_advice(fault: &Fault) -> (ErrorKind, &'static str) {
    const CHECK_USER: &str = "; check the user, the password and authSource";
    let code = fault.code().unwrap_or(0);
    match &fault.kind {
        FaultKind::Login(_) => (ErrorKind::Auth, CHECK_USER),
        FaultKind::Server => match code {
            AUTHENTICATION_FAILED => (ErrorKind::Auth, CHECK_USER),
            UNAUTHORIZED => (
                ErrorKind::Auth,
                "; the user needs the actions find and changeStream on what is watched",
            ),
            NOT_A_REPLICA_SET => (
                ErrorKind::Server,
                "; change streams need a replica set or a sharded cluster, this is a standalone \
                 server",
            ),
            _ if EVENT_TOO_LARGE.contains(&code) => (
                ErrorKind::Oversized,
                "; a change event is larger than the 16 MB that the server can send",
            ),
            NO_MATCHING_DOCUMENT => (
                ErrorKind::Server,
                "; enable changeStreamPreAndPostImages on the collection, or ask for whenAvailable \
                 instead of required",
            ),
            // It has the code of a lost history, or one of its own on older servers.
            _ if fault.says(ID_WAS_CHANGED) => (
                ErrorKind::Server,
                "; a stage of the option pipeline removes or changes the event's _id, which is its \
                 resume token: keep it",
            ),
            _ if HISTORY_LOST.contains(&code) => (
                ErrorKind::HistoryLost,
                "; the oplog no longer reaches the point from which the stream has to go on",
            ),
            _ => (ErrorKind::Server, ""),
        },
        // It says itself what to do.
        FaultKind::Unreachable { .. } => (ErrorKind::Connect, ""),
        FaultKind::Network | FaultKind::ConnectionsGivenUp => (
            ErrorKind::Connect,
            "; check that the servers run and can be reached from here, and the URI's host names, \
             TLS options and replicaSet",
        ),
        FaultKind::Argument => (ErrorKind::Argument, ""),
        FaultKind::Other => (ErrorKind::Server, ""),
    }
}

/// What to do about an event that the server cannot send, beyond what the options already say.
pub(crate) fn oversized_advice(policy: OnOversized) -> &'static str {
    match policy {
        OnOversized::Split => {
            "; this server cannot split it (that takes MongoDB 6.0.9, no field above 16 MB and 64 MB together): \
             on_oversized=skip leaves it out, with a message in its place, and a $project in the option \
             pipeline makes it smaller"
        }
        OnOversized::Fail => {
            "; on_oversized=split has it sent in parts (MongoDB 6.0.9), on_oversized=skip leaves it out, with a \
             message in its place, and a $project in the option pipeline makes it smaller"
        }
        OnOversized::Skip => {
            "; a message with the operation oversized stands in its place, as on_oversized=skip says; a $project \
             in the option pipeline makes such events smaller"
        }
    }
}

/// Which option to look at where the server does not take a resume token.
pub(crate) fn token_advice(fault: &Fault, from: &Position) -> Option<&'static str> {
    let code = fault.code().filter(|code| BAD_TOKEN.contains(code))?;
    match from {
        Position::Start(Some(("resumeAfter", _))) if code == INVALIDATE_TOKEN => Some(
            "; the option resume_after has the token of an invalidate: give it to start_after instead",
        ),
        Position::Start(Some(("resumeAfter", _))) => Some(
            "; the option resume_after has something else: give it the resume token of a message, all of it",
        ),
        Position::Start(Some(("startAfter", _))) => Some(
            "; the option start_after has something else: give it the resume token of a message, all of it",
        ),
        _ => None,
    }
}

/// What to do about a server that is too old for an option.
pub(crate) fn missing_feature(
    fault: &Fault,
    options: &Options,
    wire_version: Option<i32>,
) -> Option<String> {
    let is_old = wire_version.is_some_and(|version| version < WIRE_VERSION_6_0);
    let is_unknown = fault.code().is_some_and(|code| UNKNOWN_OPTION.contains(&code));
    let names = options.new_in_6_0();
    (is_old && is_unknown && !names.is_empty()).then(|| {
        format!("; this server is too old: MongoDB 6.0 or later is needed for {}", names.join(", "))
    })
}

/// What has ended a login if it was not the user, else the failure itself.
fn cause(fault: &Fault) -> &Fault {
    match &fault.kind {
        FaultKind::Login(Some(cause)) if !is_refused(fault) => cause,
        _ => fault,
    }
}

/// What happened, for people.
pub(crate) fn text_of(fault: &Fault) -> &str {
    &cause(fault).text
}
