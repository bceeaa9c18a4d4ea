//! The C API: a thin skin over the Rust API, one file a C type.
//!
//! `include/mongostream.h` is generated from these files and documents them for C. The names are
//! C's, and every function is safe to call as its documentation says; from Rust use the crate's own
//! types instead.

#![allow(non_camel_case_types)]
// The rules for every pointer are the same, and stand once at the head of the header.
#![allow(clippy::missing_safety_doc)]

mod boundary;
mod calls;
mod checkpoint_store;

pub mod version;

pub mod status;

pub mod error;

pub mod options;

pub mod buffer;

pub mod worker;

pub mod message;

pub mod batch;

pub mod log;
