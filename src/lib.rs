//! MongoDB change streams as a plain blocking queue of JSON messages.
//!
//! ```text
//! MongoDB ──cursor──▶ worker (OS thread) ──▶ buffer (bounded) ──recv──▶ your code
//! ```
//!
//! A [`Worker`] drives one change-stream cursor on a thread of its own and feeds a [`Buffer`]. Any
//! number of workers may feed one buffer, and any number of threads may receive from it. A full
//! buffer makes its workers wait; nothing is dropped. A [`Message`] is one change event: its JSON is
//! made when it is asked for.
//!
//! ```no_run
//! use mongostream::{Buffer, Worker};
//!
//! let buffer = Buffer::new(1024);
//! let worker = Worker::watch("mongodb://localhost:27017").database("shop").spawn(&buffer)?;
//! for message in &buffer {
//!     println!("{}", message?.json());
//! }
//! # Ok::<(), mongostream::Error>(())
//! ```
//!
//! No async runtime is needed, and none of yours is used. The same library, with the same words,
//! can be called from C and from every language that can call C: see `include/mongostream.h`.
//!
//! # What goes wrong, and where it shows
//!
//! Mistakes in arguments are reported where they are made. What happens on a worker's thread (an
//! unreachable server, a refused password) comes through the buffer, in its place after the
//! messages that were read before, once. When no worker is left, the buffer is closed for its
//! consumers as soon as it is drained, so a dead worker is never a silent hang.
//!
//! A broken connection or an election is no failure: the worker opens its cursor again after the
//! last event it has read.
//!
//! Workers tell of all this through the [`log`](https://docs.rs/log) crate, target `mongostream`, each
//! line with its worker's name and none with credentials. Where a program has no logger, the environment
//! variable `MONGOSTREAM_LOG` (`error`, `warn`, `info` or `debug`) makes them appear on standard error;
//! otherwise the crate prints nothing.
//!
//! # Where to go on after a restart
//!
//! A consumer says with [`Message::ack`] that it is done with a message. [`Worker::resume_token`] is
//! the point up to which everything is acked; a worker that is started there
//! ([`Start::StartAfter`]) skips nothing. With a checkpoint ([`Watch::checkpoint`]) a worker keeps that
//! point durably and goes on there by itself. Ack a message after you have used it: what was acked does not come
//! again.
//!
//! ```no_run
//! use mongostream::{Buffer, FileCheckpoint, Worker};
//!
//! let buffer = Buffer::new(1024);
//! let watch = Worker::watch("mongodb://localhost:27017").database("shop").collection("orders");
//! let worker = watch.checkpoint(FileCheckpoint::new("orders.token")).spawn(&buffer)?;
//! worker.wait_ready()?; // from here on every change will be delivered
//! for message in &buffer {
//!     let message = message?;
//!     println!("{}", message.json()); // your work
//!     message.ack(); // done: it does not come again
//! }
//! # Ok::<(), mongostream::Error>(())
//! ```
//!
//! # Cargo features
//!
//! All are on by default. `dns` is for URIs that begin with `mongodb+srv://`; `snappy`, `zlib` and `zstd` are for the URI's
//! `compressors`. TLS is always there.
//!
//! # The way of an event through the code
//!
//! `watch` → `client` → `cursor` → `stream` → `buffer` → `message` → [`json`].

mod checkpoint;
mod clock;
mod control;
mod error;
mod exit;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod feed;
mod fork;
mod gate;
pub mod json;
mod log;
mod metrics;
mod options;
mod queue;
mod raw;
#[cfg(feature = "simulation")]
#[doc(hidden)]
#[path = "../tests/simulation/world/mod.rs"]
pub mod simulation;
#[doc(hidden)]
pub mod skin;
mod snapshot;
mod source;
mod state;
mod stats;
mod stream;
mod text;
mod wait;
mod watch;
mod worker;

// Compiles the Rust examples in it.
#[cfg(doctest)]
#[doc = include_str!("../docs/COMING-FROM.md")]
struct ComingFrom;

/// The crate of [`Watch::pipeline`]'s stages and of what messages show of their events, in the version that fits.
pub use bson;

pub use crate::checkpoint::collection::CollectionCheckpoint;
pub use crate::checkpoint::file::FileCheckpoint;
pub use crate::checkpoint::store::CheckpointStore;
pub use crate::checkpoint::store_error::StoreError;
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::exit::shutdown;
pub use crate::json::{ExtendedJson, Format};
pub use crate::metrics::OPEN_METRICS;
pub use crate::options::{
    FullDocument, FullDocumentBeforeChange, OPTIONS, OnHistoryLost, OnInvalidate, OnOversized,
    OptionInfo, OptionKind, Options, Snapshot, Start, describe_options,
};
pub use crate::queue::buffer::{Buffer, IntoIter, Iter};
pub use crate::queue::message::{Batch, Message};
pub use crate::state::WorkerState;
pub use crate::stats::{BufferStats, LeaseStats, SnapshotStats, WorkerStats};
pub use crate::wait::{Received, Waited};
pub use crate::watch::Watch;
pub use crate::worker::Worker;

/// The programs of the README are compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
