//! Passing over an event that is too large to be sent, with a message in its place.
//!
//! Without most of its fields the server can send the event, and so its token. But a lookup may have found another
//! document since, so that another event is the next one now. So the server is asked whether it is really this one that
//! it cannot send.

use crate::clock::Now;
use crate::raw::token::Token;
use crate::source::failure::Phase;
use crate::source::fault::Fault;
use crate::source::pace::Pace;
use crate::source::position::Position;
use crate::stream::course::{Course, Doing};
use crate::stream::step::{Ending, Happened, Step};

/// Whatever changes while the stream looks: it looks no more often than this at one place.
const PATIENCE: u32 = 5;

impl Course {
    /// Looks at the event after the position, which met this failure.
    pub(super) fn pass_over(&mut self, fault: Fault, phase: Phase) -> Step {
        // These streams may not let the event before it through, without which no server finds the place after it.
        let from = self.position.clone();
        let place = from.past().unwrap_or(from);
        self.doing(Doing::PassingOver(fault, phase, None), Step::FindOutline(place))
    }

    /// What comes after a step of the way around.
    pub(super) fn passed_over(
        &mut self,
        fault: Fault,
        phase: Phase,
        token: Option<Token>,
        happened: Happened,
        now: Now,
    ) -> Step {
        let from = self.position.clone();
        match (token, happened) {
            (None, Happened::Token(token)) => {
                let place = from.past().unwrap_or(from);
                let passing = Doing::PassingOver(fault, phase, Some(Token::clone(&token)));
                self.doing(passing, Step::Confirm(place, token))
            }
            (Some(token), Happened::TooLarge(said)) => {
                let passing = Doing::PassingOver(fault, phase, Some(token));
                self.doing(passing, Step::TellOversized { said, from })
            }
            (Some(token), Happened::Done) => {
                let why = "an event that is too large was left out";
                self.again(why, Position::After(token), None, now)
            }
            (_, Happened::Nothing) => {
                self.in_vain += 1;
                if self.in_vain > PATIENCE {
                    return self.judge(fault, phase, now);
                }
                let why = "the event that is too large is not there any more, or not as large";
                self.again(why, from, Some(Pace::Careful), now)
            }
            // One of the looking, which may have failed to begin: that is judged as an opening.
            (_, Happened::Failed { fault, is_open, wire_version }) => {
                self.failed(fault, is_open, wire_version, now)
            }
            _ => Step::End(Ending::Bug("passing over an event had a result that is not its own")),
        }
    }
}
