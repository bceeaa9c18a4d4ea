//! Proof of `mongostream pipe` under faults: two pipes, one of which stands by, and a real broker.
//!
//! The writer of the other runs writes. The pipes are processes. Faults happen to them, to the broker, to the network
//! between them, and to the replica set. A judge reads what the broker holds, and the history of the checkpoint.

pub mod broker;
pub mod history;
pub mod judge;
pub mod pair;
pub mod plan;
pub mod trouble;
pub mod wire;
