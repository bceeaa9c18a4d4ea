//! One run: what its seed decides, and what came of it.

use std::fmt::Write;

use fastrand::Rng;

use super::leases;
use super::life::World;

/// What a run has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What went wrong, if anything did.
    pub finding: Option<String>,
    /// How many steps it took until then.
    pub steps: u64,
    /// Each of what may happen, and how often it did.
    pub events: u64,
    /// Messages that were delivered.
    pub delivered: u64,
    /// Cursors that were opened.
    pub opens: u64,
    /// Lives of the worker that ended in a crash, in an orderly stop, or in a failure.
    pub lives: u64,
    /// Losses that were reported.
    pub gaps: u64,
    /// A number that differs if anything in the run differs.
    pub trace: u64,
}

/// Runs a seed. Of what it lets happen, everything up to this number of disturbances happens; all of it without one.
pub fn run(seed: u64, disturbances: Option<u64>) -> Report {
    let report = World::new(Rng::with_seed(seed), disturbances).run(None);
    match report.finding {
        // Few, because most of what the other runs look for does not depend on a lease.
        None if seed.is_multiple_of(8) => Report { finding: leases::run(seed), ..report },
        None => report,
        Some(_) => report,
    }
}

/// The steps of a run, a line each.
pub fn describe(seed: u64, disturbances: Option<u64>) -> String {
    let mut lines = Vec::new();
    let report = World::new(Rng::with_seed(seed), disturbances).run(Some(&mut lines));
    let mut text = lines.join("\n");
    let _ = write!(text, "\n{report:?}");
    text
}
