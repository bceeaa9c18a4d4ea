//! The simulation as a test: a few runs, and that a seed is a run.

use mongostream_simulation::simulation::{describe, run};

#[test]
fn a_few_runs_find_nothing() {
    for seed in 0..200 {
        let report = run(seed, None);
        assert_eq!(report.finding, None, "seed {seed}:\n{}", describe(seed, None));
    }
}

#[test]
fn one_seed_is_one_run() {
    for seed in 0..20 {
        let report = run(seed, None);
        assert_eq!(run(seed, None), report, "seed {seed}");
        assert_eq!(describe(seed, None), describe(seed, None), "seed {seed}");
        assert_ne!(run(seed + 1, None).trace, report.trace, "seed {seed}");
    }
}

#[test]
fn with_fewer_disturbances_a_run_begins_in_the_same_way() {
    for seed in 0..20 {
        let all = describe(seed, None);
        let few = describe(seed, Some(10));
        let same = all.lines().zip(few.lines()).take_while(|(all, few)| all == few).count();
        assert!(same > 3, "seed {seed}: {same} lines");
        assert!(run(seed, Some(10)).events <= 10);
    }
}
