//! The change-stream tests of the drivers' specification, run on mongostream.
//!
//! The tests are fetched, not part of this repository. `list` has each of them by name: where it runs,
//! or why it is left out. One trial for each; one at a time, since they share names and fail points.

mod commands;
mod format;
mod list;
mod matching;
mod runner;
mod tap;

use std::collections::BTreeMap;
use std::fs;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use bson::doc;
use libtest_mimic::{Arguments, Completion, Failed, Trial};

use format::{File, Topology};
use list::Entry;
use runner::Deployment;

/// By name.
type Files = BTreeMap<String, File>;
type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// In the order in which a test that fits to several is to have them.
const THERE_ARE: [Topology; 2] = [Topology::ReplicaSet, Topology::Single];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    match trials(arguments.list) {
        Ok(trials) => libtest_mimic::run(&arguments, trials).exit_code(),
        Err(error) => {
            eprintln!("cannot run the tests of the change streams specification: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Only names are needed for a listing: nothing is fetched then.
fn trials(names_only: bool) -> Result<Vec<Trial>> {
    let entries = list::parse(include_str!("list"))?;
    let files = Arc::new(if names_only { Files::new() } else { read_files()? });
    let listed: Vec<String> = entries.iter().map(Entry::name).collect();
    let there = Arc::clone(&files);
    let mut trials = vec![
        Trial::test("the runner sees every difference", differences_are_seen),
        Trial::test("the list has every test there is", move || list_is_complete(&listed, &there)),
    ];
    trials.extend(entries.into_iter().map(|entry| {
        let files = Arc::clone(&files);
        Trial::ignorable_test(entry.name(), move || trial(&entry, &files).map_err(Failed::from))
    }));
    Ok(trials)
}

fn read_files() -> Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(ground::specification_tests()?)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file: File = serde_json::from_str(&fs::read_to_string(&path)?)
            .map_err(|error| format!("{name}: {error}"))?;
        if !file.schema_version.starts_with("1.") {
            return Err(format!("{name} has schema version {}", file.schema_version).into());
        }
        files.insert(name, file);
    }
    Ok(files)
}

/// The deployment of this kind, started once; it ends with the process.
fn deployment(topology: Topology) -> Result<&'static Deployment> {
    type Started = OnceLock<std::result::Result<Deployment, String>>;
    static SET: Started = OnceLock::new();
    static SINGLE: Started = OnceLock::new();
    let started = if topology == Topology::Single { &SINGLE } else { &SET };
    let deployment =
        started.get_or_init(|| Deployment::start(topology).map_err(|error| error.to_string()));
    deployment.as_ref().map_err(|error| error.as_str().into())
}

fn trial(entry: &Entry, files: &Files) -> Result<Completion> {
    let file = files.get(&entry.file).ok_or("there is no such file")?;
    let test = file.tests.iter().find(|test| test.description == entry.test);
    let test = test.ok_or("there is no such test")?;
    let version = deployment(Topology::ReplicaSet)?.version()?;
    let topology = file.topology(test, version, &THERE_ARE);
    let listed = entry.servers.topology(version, &THERE_ARE);
    if topology != listed {
        return Err(
            format!("on {version:?} it is for {topology:?}, the list says {listed:?}").into()
        );
    }
    let Some(topology) = topology else {
        return Ok(Completion::ignored_with(format!("for servers {}", entry.servers)));
    };
    if let Some(reason) = &entry.left_out {
        return Ok(Completion::ignored_with(reason));
    }
    runner::run(file, test, deployment(topology)?)?;
    Ok(Completion::Completed)
}

fn list_is_complete(listed: &[String], files: &Files) -> std::result::Result<(), Failed> {
    let mut there = Vec::new();
    for (name, file) in files {
        there.extend(file.tests.iter().map(|test| format!("{name}: {}", test.description)));
    }
    let missing: Vec<_> = there.iter().filter(|name| !listed.contains(name)).collect();
    if !missing.is_empty() || there.len() != listed.len() {
        let text = format!(
            "there are {} tests, {} are listed; not listed: {missing:#?}",
            there.len(),
            listed.len()
        );
        return Err(text.into());
    }
    Ok(())
}

/// A comparison that lets everything pass would let every test pass.
fn differences_are_seen() -> std::result::Result<(), Failed> {
    let actual = doc! { "a": 1_i64, "b": { "c": [1, "x"] } };
    for same in [
        doc! {},
        doc! { "a": 1 },
        doc! { "a": 1.0, "b": { "c": [1, "x"] } },
        doc! { "a": { "$$type": ["int", "long"] }, "b": { "$$exists": true } },
        doc! { "d": { "$$exists": false }, "e": { "$$unsetOrMatches": 1 } },
        doc! { "b": { "c": { "$$unsetOrMatches": [1, { "$$type": "string" }] } } },
    ] {
        matching::root(&same, &actual)?;
    }
    for other in [
        doc! { "a": 2 },
        doc! { "a": "1" },
        doc! { "d": 1 },
        doc! { "b": {} },
        doc! { "b": { "c": [1] } },
        doc! { "b": { "c": ["x", 1] } },
        doc! { "a": { "$$exists": false } },
        doc! { "d": { "$$exists": true } },
        doc! { "a": { "$$type": "int" } },
        doc! { "d": { "$$type": "int" } },
        doc! { "a": { "$$unsetOrMatches": 2 } },
        doc! { "a": { "$$unknown": 1 } },
    ] {
        if matching::root(&other, &actual).is_ok() {
            return Err(format!("{other} matches {actual}").into());
        }
    }
    Ok(())
}
