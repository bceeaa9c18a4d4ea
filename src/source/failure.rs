//! What a failure of the driver means for a stream: go on, or end, and with which error.
//!
//! The rules are those of the change streams specification ("Resumable Error"), with the terminal
//! codes that servers are known to send; a code that is in no list ends the stream, because a stream
//! that is opened again and again on a dead token helps nobody.

use std::time::Duration;

use bson::{DateTime, Timestamp};
use mongodb::error::{Error as DriverError, ErrorKind as DriverErrorKind};

use crate::error::{Error, ErrorKind};
use crate::options::uri::Uri;
use crate::options::{OnOversized, Options};
use crate::source::position::Position;
use crate::source::unreachable::Unreachable;

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

/// The label by which servers since 4.4 say that a getMore's failure is resumable.
const RESUMABLE_LABEL: &str = "ResumableChangeStreamError";

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
pub(crate) fn is_resumable(error: &DriverError, phase: Phase, wire_version: Option<i32>) -> bool {
    match &*error.kind {
        // Behind an address of a set that was there before, another may answer for a while.
        _ if Unreachable::of(error).is_some_and(|reason| reason.is_final) => {
            phase != Phase::Opening
        }
        DriverErrorKind::Io(_)
        | DriverErrorKind::ConnectionPoolCleared { .. }
        | DriverErrorKind::ServerSelection { .. }
        | DriverErrorKind::DnsResolve { .. } => true,
        // No login fails with a label.
        DriverErrorKind::Authentication { .. } => {
            wrapped(error).is_some_and(|cause| is_resumable(cause, Phase::Reopening, None))
        }
        DriverErrorKind::Command(command)
            if matches!(command.code, INTERRUPTED | KEY_NOT_FOUND | CAPPED_POSITION_LOST) =>
        {
            true
        }
        DriverErrorKind::Command(command) if phase == Phase::Streaming => {
            let code = command.code;
            !is_terminal(code)
                && (matches!(code, CURSOR_NOT_FOUND | CURSOR_KILLED)
                    || SHUTTING_DOWN.contains(&code)
                    || error.contains_label(RESUMABLE_LABEL)
                    || (wire_version.is_some_and(|version| version < WIRE_VERSION_4_4)
                        && RESUMABLE_CODES.contains(&code)))
        }
        DriverErrorKind::Command(command) => {
            RETRYABLE_READ_CODES.contains(&command.code)
                || (phase == Phase::Snapshot
                    && ([CURSOR_NOT_FOUND, CURSOR_KILLED, QUERY_PLAN_KILLED]
                        .contains(&command.code)
                        || command.message.contains(TIME_NOT_REACHED)))
        }
        _ => false,
    }
}

/// Whether the server refuses the user: the login, or what the user may do.
pub(crate) fn is_refused(error: &DriverError) -> bool {
    match &*error.kind {
        DriverErrorKind::Authentication { .. } => {
            wrapped(error).is_none_or(|cause| !is_resumable(cause, Phase::Reopening, None))
        }
        DriverErrorKind::Command(command) => {
            matches!(command.code, UNAUTHORIZED | AUTHENTICATION_FAILED)
                || command.code == ATLAS_ERROR && command.message.contains("auth")
        }
        _ => false,
    }
}

/// Whether no server could be asked. That the driver has given up its connections, which it does after a login
/// that failed, says nothing about that.
pub(crate) fn is_unreachable(error: &DriverError) -> bool {
    matches!(
        &*error.kind,
        DriverErrorKind::Io(_)
            | DriverErrorKind::ServerSelection { .. }
            | DriverErrorKind::DnsResolve { .. }
    )
}

/// Whether the server treats the connection, which was logged in, as one that is not: its user was dropped.
pub(crate) fn is_logged_out(error: &DriverError) -> bool {
    matches!(&*error.kind, DriverErrorKind::Command(command)
        if command.code == UNAUTHORIZED && command.message.contains("requires authentication"))
}

fn is_terminal(code: i32) -> bool {
    HISTORY_LOST.contains(&code) || EVENT_TOO_LARGE.contains(&code)
}

/// Whether the server has met an event that it cannot send.
pub(crate) fn is_too_large(error: &DriverError) -> bool {
    server_code(error).is_some_and(|code| EVENT_TOO_LARGE.contains(&code))
}

/// Whether the server does not know a stage of the pipeline.
pub(crate) fn is_unknown_stage(error: &DriverError) -> bool {
    server_code(error) == Some(UNKNOWN_STAGE)
}

/// Whether the stream's tokens cannot name the parts of an event. A stream that begins at a time has others.
pub(crate) fn is_token_without_parts(error: &DriverError) -> bool {
    server_code(error) == Some(TOKEN_WITHOUT_PARTS)
}

/// Whether the server has not found the event of a resume token.
///
/// That may mean that the event does not pass the stages of the stream: because a lookup finds another document
/// than before, because an image has expired, because the options are others. Or it is split otherwise than
/// before, or no longer, or only now: each part has a token of its own. The history may be complete.
pub(crate) fn is_token_not_found(error: &DriverError) -> bool {
    let DriverErrorKind::Command(command) = &*error.kind else { return false };
    matches!(command.code, CHANGE_STREAM_FATAL | INVALID_TOKEN)
        && !command.message.contains(ID_WAS_CHANGED)
}

/// The library's error for a failure of the driver.
///
/// `from` is where the stream was to go on, if that is known.
pub(crate) fn error(error: &DriverError, uri: &Uri, what: &str, from: Option<Timestamp>) -> Error {
    let error = cause(error);
    let code = server_code(error).unwrap_or(0);
    let (kind, advice) = match &*error.kind {
        DriverErrorKind::Authentication { .. } => {
            (ErrorKind::Auth, "; check the user, the password and authSource")
        }
        DriverErrorKind::Command(command) => match code {
            AUTHENTICATION_FAILED => {
                (ErrorKind::Auth, "; check the user, the password and authSource")
            }
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
            _ if command.message.contains(ID_WAS_CHANGED) => (
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
        _ if Unreachable::of(error).is_some() => (ErrorKind::Connect, ""),
        DriverErrorKind::Io(_)
        | DriverErrorKind::ConnectionPoolCleared { .. }
        | DriverErrorKind::ServerSelection { .. }
        | DriverErrorKind::DnsResolve { .. } => (
            ErrorKind::Connect,
            "; check that the servers run and can be reached from here, and the URI's host names, \
             TLS options and replicaSet",
        ),
        DriverErrorKind::InvalidArgument { .. } | DriverErrorKind::InvalidTlsConfig { .. } => {
            (ErrorKind::Argument, "")
        }
        _ => (ErrorKind::Server, ""),
    };
    let mut text = format!("cannot {what} on {}: {}{advice}", uri.shown(), text_of(error));
    if let (ErrorKind::HistoryLost, Some(Timestamp { time: seconds, .. })) = (kind, from) {
        let time = DateTime::from_millis(i64::from(seconds) * 1000);
        let time = time.try_to_rfc3339_string().unwrap_or_default();
        text.push_str(&format!("; it was to go on from {time}, unix time {seconds}"));
    }
    let result = Error::new(kind, text).with_server_code(code);
    let is_final = Unreachable::of(error).is_some_and(|reason| reason.is_final);
    if !is_final && is_resumable(error, Phase::Reopening, None) {
        result.retriable()
    } else {
        result
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
pub(crate) fn token_advice(error: &DriverError, from: &Position) -> Option<&'static str> {
    let code = server_code(error).filter(|code| BAD_TOKEN.contains(code))?;
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
    error: &DriverError,
    options: &Options,
    wire_version: Option<i32>,
) -> Option<String> {
    let is_old = wire_version.is_some_and(|version| version < WIRE_VERSION_6_0);
    let is_unknown = server_code(error).is_some_and(|code| UNKNOWN_OPTION.contains(&code));
    let names = options.new_in_6_0();
    (is_old && is_unknown && !names.is_empty()).then(|| {
        format!("; this server is too old: MongoDB 6.0 or later is needed for {}", names.join(", "))
    })
}

/// The server's code, also where the driver has wrapped it (an authentication failure, say).
fn server_code(error: &DriverError) -> Option<i32> {
    if let DriverErrorKind::Command(command) = &*error.kind {
        return Some(command.code);
    }
    wrapped(error).and_then(server_code)
}

/// What has ended a login if it was not the user, else the failure itself.
fn cause(error: &DriverError) -> &DriverError {
    match &*error.kind {
        DriverErrorKind::Authentication { .. } if !is_refused(error) => {
            wrapped(error).unwrap_or(error)
        }
        _ => error,
    }
}

/// The failure of which the driver has made this one. Whatever ends a login is an authentication failure to it.
fn wrapped(error: &DriverError) -> Option<&DriverError> {
    let source = std::error::Error::source(error)?;
    let boxed = || source.downcast_ref::<Box<DriverError>>().map(|error| &**error);
    source.downcast_ref::<DriverError>().or_else(boxed)
}

/// The driver's text without its debugging details.
pub(crate) fn text_of(error: &DriverError) -> String {
    match &*cause(error).kind {
        DriverErrorKind::Command(command) if command.code_name.is_empty() => {
            format!("{} (code {})", command.message, command.code)
        }
        DriverErrorKind::Command(command) => {
            format!("{} (code {}, {})", command.message, command.code, command.code_name)
        }
        DriverErrorKind::InvalidArgument { message, .. } => message.clone(),
        // Of ours.
        DriverErrorKind::Custom(_) => match error.get_custom::<String>() {
            Some(text) => text.clone(),
            None => "an unknown failure".to_owned(),
        },
        DriverErrorKind::Io(inner) => match inner.get_ref() {
            Some(reason) => reason.to_string(),
            None => format!("I/O error: {inner}"),
        },
        // Without the dump of the other failure.
        DriverErrorKind::ConnectionPoolCleared { message, .. } => {
            let text = message.split(" because another operation failed").next();
            let text = text.and_then(|text| text.strip_prefix("Connection pool for "));
            match text.and_then(|text| text.strip_suffix(" cleared")) {
                Some(server) => {
                    format!("the connections to {server} were given up, since another one failed")
                }
                None => "the connections were given up, since another one failed".to_owned(),
            }
        }
        DriverErrorKind::ServerSelection { .. } => "no server can be used".to_owned(),
        kind => kind.to_string(),
    }
}
