//! Existing documents before the stream.
//!
//! A snapshot begins with a resume token, then reads every document as it is then or later, and then
//! the stream goes on from that token: no change is missing, and of each document the last state comes
//! last. Collections are read one after the other in the order of their names, each in ranges of
//! `_id` ([`division`]), two of them at a time ([`reader`]). How far the consumer has come is a part of the checkpoint
//! ([`progress`]).

pub(crate) mod division;
pub(crate) mod progress;
pub(crate) mod reader;
