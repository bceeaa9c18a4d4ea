//! A simulated world around the decisions of a worker: a deployment, consumers, a store for checkpoints, and faults.
//!
//! The decisions are the library's own: the course, the acks, the marks of a snapshot, when a checkpoint is due and what it
//! says, what a failure means, the order of tokens. The world around them is a model, and so is the thread that does what
//! the course says. One seed is one run.

mod consumers;
mod faults;
mod leases;
mod life;
mod oplog;
mod plan;
mod snapshot;
mod thread;

pub use self::plan::{Report, describe, run};

/// The simulation among the unit tests, so that one build has both: for trying small changes of the code.
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simulation() {
        let runs = std::env::var("MONGOSTREAM_SIMULATION_RUNS").ok();
        let runs: u64 = runs.and_then(|runs| runs.parse().ok()).unwrap_or(200);
        for seed in 0..runs {
            let report = run(seed, None);
            assert_eq!(report.finding, None, "seed {seed}");
        }
    }
}
