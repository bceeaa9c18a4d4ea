//! `ms_status`: how a call ended.

use std::ffi::{CStr, c_char};

use library::ErrorKind;

/// How a call ended: MS_OK, another way that is no error (above 0), or an error (below 0).
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ms_status {
    /// Done.
    MS_OK = 0,
    /// What was waited for has not happened within the time. Not an error.
    MS_TIMEOUT = 1,
    /// The buffer is drained, and closed or without a running worker; or the worker was stopped. Not an
    /// error.
    MS_CLOSED = 2,
    /// An argument or option is wrong. Nothing was changed or started.
    MS_ERR_ARGUMENT = -1,
    /// The call does not fit the object's state.
    MS_ERR_STATE = -2,
    /// The process was forked after mongostream had started its threads, which do not exist in the
    /// child.
    MS_ERR_FORKED = -3,
    /// Another worker uses this checkpoint. Retriable: the same call may succeed as soon as that one has
    /// ended.
    MS_ERR_IN_USE = -4,
    /// The system has no thread, descriptor or memory to give. Retriable: the same call may succeed later.
    MS_ERR_RESOURCE = -5,
    /// The deployment could not be reached, or not again within retry_ms.
    MS_ERR_CONNECT = -10,
    /// The server refused the user, the password, or the privilege.
    MS_ERR_AUTH = -11,
    /// The server refused the change stream for another reason, see ms_error_server_code.
    MS_ERR_SERVER = -12,
    /// The oplog no longer reaches back to the point where the stream must go on: changes are lost.
    MS_ERR_HISTORY_LOST = -13,
    /// What is watched was dropped or renamed, and the stream was asked to stop there.
    MS_ERR_INVALIDATED = -14,
    /// A checkpoint could not be loaded or saved.
    MS_ERR_CHECKPOINT = -15,
    /// A change event is larger than the server can send.
    MS_ERR_OVERSIZED = -16,
    /// Another worker has taken the lease over (option standby). What was not acked and saved comes from that one.
    MS_ERR_FENCED = -17,
    /// A bug: code of the library panicked, or met what should be impossible. The process goes on.
    MS_ERR_PANIC = -99,
}

pub(crate) use ms_status::*;

/// The number is the kind's own, see [`ErrorKind::status`].
pub(crate) fn status_of(kind: ErrorKind) -> ms_status {
    let number = kind.status();
    ALL.into_iter().find(|status| *status as i32 == number).unwrap_or(MS_ERR_PANIC)
}

const ALL: [ms_status; 17] = [
    MS_OK,
    MS_TIMEOUT,
    MS_CLOSED,
    MS_ERR_ARGUMENT,
    MS_ERR_STATE,
    MS_ERR_FORKED,
    MS_ERR_IN_USE,
    MS_ERR_RESOURCE,
    MS_ERR_CONNECT,
    MS_ERR_AUTH,
    MS_ERR_SERVER,
    MS_ERR_HISTORY_LOST,
    MS_ERR_INVALIDATED,
    MS_ERR_CHECKPOINT,
    MS_ERR_OVERSIZED,
    MS_ERR_FENCED,
    MS_ERR_PANIC,
];

fn name_of(status: ms_status) -> &'static CStr {
    match status {
        MS_OK => c"MS_OK",
        MS_TIMEOUT => c"MS_TIMEOUT",
        MS_CLOSED => c"MS_CLOSED",
        MS_ERR_ARGUMENT => c"MS_ERR_ARGUMENT",
        MS_ERR_STATE => c"MS_ERR_STATE",
        MS_ERR_FORKED => c"MS_ERR_FORKED",
        MS_ERR_IN_USE => c"MS_ERR_IN_USE",
        MS_ERR_RESOURCE => c"MS_ERR_RESOURCE",
        MS_ERR_CONNECT => c"MS_ERR_CONNECT",
        MS_ERR_AUTH => c"MS_ERR_AUTH",
        MS_ERR_SERVER => c"MS_ERR_SERVER",
        MS_ERR_HISTORY_LOST => c"MS_ERR_HISTORY_LOST",
        MS_ERR_INVALIDATED => c"MS_ERR_INVALIDATED",
        MS_ERR_CHECKPOINT => c"MS_ERR_CHECKPOINT",
        MS_ERR_OVERSIZED => c"MS_ERR_OVERSIZED",
        MS_ERR_FENCED => c"MS_ERR_FENCED",
        MS_ERR_PANIC => c"MS_ERR_PANIC",
    }
}

/// The name of a status, such as "MS_ERR_CONNECT"; "MS_UNKNOWN" for a number that is none. Static,
/// never NULL, not to be freed. Any thread.
#[unsafe(no_mangle)]
pub extern "C" fn ms_status_name(status: i32) -> *const c_char {
    // A number and not the enum: C may give any.
    let status = ALL.into_iter().find(|known| *known as i32 == status);
    status.map_or(c"MS_UNKNOWN", name_of).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_error_has_its_status() {
        for (kind, status) in [
            (ErrorKind::Argument, MS_ERR_ARGUMENT),
            (ErrorKind::State, MS_ERR_STATE),
            (ErrorKind::Forked, MS_ERR_FORKED),
            (ErrorKind::InUse, MS_ERR_IN_USE),
            (ErrorKind::Resource, MS_ERR_RESOURCE),
            (ErrorKind::Connect, MS_ERR_CONNECT),
            (ErrorKind::Auth, MS_ERR_AUTH),
            (ErrorKind::Server, MS_ERR_SERVER),
            (ErrorKind::HistoryLost, MS_ERR_HISTORY_LOST),
            (ErrorKind::Invalidated, MS_ERR_INVALIDATED),
            (ErrorKind::Checkpoint, MS_ERR_CHECKPOINT),
            (ErrorKind::Oversized, MS_ERR_OVERSIZED),
            (ErrorKind::Fenced, MS_ERR_FENCED),
            (ErrorKind::Panic, MS_ERR_PANIC),
        ] {
            assert_eq!(status_of(kind), status, "{kind:?}");
            assert_eq!(status as i32, kind.status());
            assert_eq!(name_of(status).to_str(), Ok(kind.status_name()));
        }
    }
}
