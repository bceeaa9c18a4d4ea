//! The test ground: real MongoDB servers for tests, examples and benchmarks.
//!
//! [`shared`] gives every test of a process the same one-node replica set; [`ReplicaSet::builder`]
//! starts sets of a test's own, which may be paused, killed, restarted and made to fail. Servers
//! take free ports and vanish with their data when dropped, and also when the process that
//! started them panics, exits or is killed with `kill -9`.
//!
//! | environment variable | meaning |
//! |---|---|
//! | `MONGOD` | path of the mongod to run instead of a fetched one |
//! | `MONGOSTREAM_TEST_SERVER` | the version to fetch and run, one of [`VERSIONS`] |
//! | `MONGOSTREAM_TEST_URI` | a running replica set for [`shared`] to use instead of its own |
//! | `MONGOSTREAM_GROUND_CACHE` | where what is fetched is kept (else `$XDG_CACHE_HOME/mongostream`, `~/.cache/mongostream`) |
//!
//! ```no_run
//! let set = ground::shared();
//! let name = set.database("orders");
//! set.client().database(&name).create_collection("c").run()?;
//!
//! let three = ground::ReplicaSet::builder().members(3).election_timeout_ms(500).start()?;
//! three.member(three.primary()).kill()?;
//! three.wait_for_primary(std::time::Duration::from_secs(20))?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod failpoint;
mod fetch;
mod server;
mod set;

pub use failpoint::FailPoint;
pub use fetch::{DEFAULT_VERSION, VERSIONS, is_cached, specification_tests};
pub use mongodb;
pub use processes::{Error, Node, eventually, output, wait_for_end, wait_until};
pub use server::Member;
pub use set::{Builder, ReplicaSet, Standalone, database_name, shared};
