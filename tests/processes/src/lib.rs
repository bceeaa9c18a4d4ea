//! Server processes of tests, of whatever server: [`Node`] is one process that vanishes with its data when it is
//! dropped, and also when this process panics, exits or is killed with `kill -9`. [`Guard`] does that to a program
//! that a test starts itself. [`Entry`] is a program that is fetched once.
//!
//! The crates `ground` (MongoDB) and `brokers` (NATS, Kafka) are made of this.
#![cfg(unix)]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

use std::time::Duration;

mod cache;
mod error;
mod guard;
mod node;
pub mod pip;
mod ports;
mod start;
mod tls;
mod wait;
mod watchdog;

pub use cache::{Entry, run, say, variable};
pub use error::{Context, Error};
pub use guard::Guard;
pub use node::{Kind, Node};
pub use ports::{connect, free_ports, random};
pub use start::{Fault, start};
pub use tls::Certificates;
pub use wait::{eventually, output, poll, wait_for_end, wait_until};

/// How long a server may take to start: far more than it needs, for loaded machines.
pub const DEADLINE: Duration = Duration::from_secs(60);
