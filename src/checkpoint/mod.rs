//! Checkpoints: where a worker's position outlives the process.
//!
//! [`acks`] finds the position, [`identity`] is what is saved of it, [`saving`] decides when, and a *store* keeps one
//! opaque text for each name: in a [`file`], in a [`collection`], or in a place of the user's.

pub(crate) mod acks;
mod bits;
pub(crate) mod collection;
pub(crate) mod due;
pub(crate) mod file;
pub(crate) mod home;
pub(crate) mod identity;
mod kept;
pub(crate) mod lease;
pub(crate) mod leased;
pub(crate) mod ledger;
pub(crate) mod saving;
pub(crate) mod store;
pub(crate) mod store_error;
