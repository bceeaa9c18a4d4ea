//! What people build first is built once, and without what only tests and benchmarks need.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Every crate that cargo compiles for a choice of packages, and the features with which it does. That may be
/// more than once: what build scripts and macros use is apart.
fn crates(choice: &[&str]) -> BTreeMap<String, BTreeSet<String>> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--offline", "--edges", "normal,build,dev", "--prefix", "none"]);
    cargo.args(["--no-dedupe", "--format", "{p}|{f}"]).args(choice);
    let output = cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut crates = BTreeMap::<_, BTreeSet<_>>::new();
    for line in String::from_utf8(output.stdout).unwrap().lines() {
        if let Some((package, features)) = line.trim_end_matches(" (*)").split_once('|') {
            crates.entry(package.to_owned()).or_default().insert(features.to_owned());
        }
    }
    crates
}

/// The crates of the first choice that the second has with other features, or not at all.
fn anew(first: &[&str], second: &[&str]) -> Vec<String> {
    let there = crates(second);
    let differ = |(package, features): (String, BTreeSet<String>)| {
        let other = there.get(&package);
        let is_there = other.is_some_and(|other| features.is_subset(other));
        (!is_there).then(|| format!("{package}: {features:?}, {other:?}"))
    };
    crates(first).into_iter().filter_map(differ).collect()
}

/// As `cargo quickstart` has it, see .cargo/config.toml.
const QUICKSTART: [&str; 2] = ["-p", "mongostream-quickstart"];
const LIBRARY: [&str; 2] = ["-p", "mongostream"];
const GROUND: [&str; 3] = ["-p", "mongostream-ground", "--no-default-features"];

#[test]
fn the_quickstart_is_built_without_the_benchmarks_crates_and_the_headers() {
    let crates = crates(&QUICKSTART);
    let has = |name: &str| crates.keys().any(|package| package.split(' ').next() == Some(name));
    assert!(has("mongodb") && has("mongostream-ground"), "{crates:#?}");
    for name in
        ["cbindgen", "clap", "criterion", "hickory-proto", "libtest-mimic", "toml", "zstd-sys"]
    {
        assert!(!has(name), "{name} is built for the quickstart");
    }
}

#[test]
fn the_ground_is_built_from_what_the_quickstart_was() {
    assert_eq!(anew(&GROUND, &QUICKSTART), [""; 0], "built once more, with other features");
}

#[test]
fn what_is_run_first_has_the_profile_that_is_built_soonest() {
    let config =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/.cargo/config.toml"))
            .unwrap();
    for alias in ["quickstart", "ground"] {
        let line = config.lines().find(|line| line.starts_with(&format!("{alias} = "))).unwrap();
        let profile = ["--profile quickstart", "--package mongostream"];
        assert!(profile.iter().all(|option| line.contains(option)), "{line}");
    }
}

/// CI runs them beside the others.
#[test]
fn the_tests_under_faults_are_built_once() {
    assert_eq!(anew(&["-p", "mongostream-faults"], &["--workspace"]), [""; 0]);
}

#[test]
fn the_driver_is_built_once_for_all_tests() {
    let anew = anew(&LIBRARY, &["--workspace"]);
    assert_eq!(anew, [""; 0], "built once more, with other features");
}
