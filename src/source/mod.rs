//! The server's side: clients, what is watched, the cursor and its replies, and what failures mean.

pub(crate) mod client;
pub(crate) mod cursor;
pub(crate) mod failure;
pub(crate) mod fault;
pub(crate) mod fragments;
pub(crate) mod heap;
pub(crate) mod namespaces;
pub(crate) mod pace;
pub(crate) mod poll;
pub(crate) mod position;
pub(crate) mod reach;
pub(crate) mod reply;
pub(crate) mod scope;
pub(crate) mod servers;
pub(crate) mod unreachable;
