//! How fast a stream reads: around an event that the server cannot send, one event after the other.
//!
//! A reply that would hold such an event fails as a whole. So everything before it is read in replies
//! of one event, until the event itself is the next: that is the place where the stream fails, or from
//! which it passes over that one event. Never by its time: its transaction's other events have the same.

use std::fmt;

use crate::cursor::Scope;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Replies as large as the options allow.
    Full,
    /// Replies of one event, as many as a full one holds.
    Single,
    /// One event, and from a server that splits none. Where the stream begins behind an event whose
    /// token was given out for the whole of it, a server that splits it does not find that token.
    Unsplit,
}

/// For the log.
impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Pace::Full => "with full replies",
            Pace::Single => "with replies of one event",
            Pace::Unsplit => "for one event that is not split",
        })
    }
}

impl Pace {
    /// The scope that a cursor of this pace reads.
    pub(crate) fn of(self, scope: &Scope) -> Scope {
        let mut scope = scope.clone();
        match self {
            Pace::Full => {}
            Pace::Single => {
                scope.limit = Some(scope.batch_size as usize);
                scope.batch_size = 1;
            }
            Pace::Unsplit => {
                scope.limit = Some(1);
                scope.batch_size = 1;
                scope.split = false;
            }
        }
        scope
    }
}
