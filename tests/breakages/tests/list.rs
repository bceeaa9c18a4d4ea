//! The list fits the code, and covers it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use breakages::{list, root};

/// Files that decide nothing: names, types, constants, what only hands on, and what only benchmarks use.
const NOTHING_TO_BREAK: [&str; 25] = [
    "capi/src/lib.rs",
    "src/raw/mod.rs",
    "src/raw/namespace.rs",
    "src/checkpoint/mod.rs",
    "src/checkpoint/store.rs",
    "src/feed.rs",
    "src/json/mod.rs",
    "src/json/style.rs",
    "src/lib.rs",
    "src/options/mod.rs",
    "src/queue/mod.rs",
    "src/skin.rs",
    "src/snapshot/mod.rs",
    "src/source/heap.rs",
    "src/source/mod.rs",
    "src/source/poll.rs",
    "src/source/unreachable.rs",
    "src/state.rs",
    // Tests.
    "src/checkpoint/acks/tests.rs",
    "src/checkpoint/saving/tests.rs",
    "src/queue/bounded/tests.rs",
    "src/queue/buffer/tests.rs",
    "src/queue/message/tests.rs",
    "src/source/failure/tests.rs",
    "src/stream/course/tests.rs",
];

fn files_of(folder: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(root().join(folder)).unwrap() {
        let name = format!("{folder}/{}", entry.unwrap().file_name().to_str().unwrap());
        if root().join(&name).is_dir() {
            files_of(&name, found);
        } else if name.ends_with(".rs") {
            found.insert(name);
        }
    }
}

#[test]
fn each_breakage_fits_its_file_and_changes_it() {
    let mut sentences = BTreeSet::new();
    for breakage in list().unwrap() {
        let text = fs::read_to_string(root().join(&breakage.file)).unwrap();
        let broken = breakage.applied_to(&text).unwrap_or_else(|error| panic!("{error}"));
        assert_ne!(broken, text, "{}", breakage.what);
        assert!(breakage.what.ends_with('.'), "{}", breakage.what);
        assert!(sentences.insert(breakage.what.clone()), "twice: {}", breakage.what);
    }
    assert!(sentences.len() >= 60);
}

#[test]
fn each_file_that_decides_something_is_broken_somewhere() {
    let mut files = BTreeSet::new();
    ["src", "capi/src"].iter().for_each(|folder| files_of(folder, &mut files));
    let broken: BTreeSet<String> =
        list().unwrap().into_iter().map(|breakage| breakage.file).collect();
    for file in &files {
        let is_named = NOTHING_TO_BREAK.contains(&file.as_str());
        assert_ne!(
            is_named,
            broken.contains(file),
            "{file} needs either an entry in tests/breakages/breakages.txt or its name in NOTHING_TO_BREAK of \
             tests/breakages/tests/list.rs"
        );
    }
    for file in NOTHING_TO_BREAK {
        assert!(files.contains(file), "{file} is no more");
    }
}

#[test]
fn the_page_shows_each_breakage_and_who_has_found_it() {
    let page = fs::read_to_string(root().join("docs/BREAKAGES.md")).unwrap();
    for breakage in list().unwrap() {
        let row = format!("| {} | {} | ", breakage.file, breakage.what);
        let found = page.lines().find_map(|line| line.strip_prefix(&*row));
        let found = found.unwrap_or_else(|| panic!("not in docs/BREAKAGES.md: {row}"));
        assert!(!found.contains("**nothing**"), "{row}{found}");
    }
}

#[test]
fn the_tests_that_are_named_exist() {
    for by in list().unwrap().into_iter().filter_map(|breakage| breakage.by) {
        let target = by.split(" on ").next().unwrap();
        // Unit tests.
        if ["capi", "cli"].contains(&target) {
            continue;
        }
        let places = ["tests", "capi/tests", "cli/tests", "tests/unified"];
        let is_there =
            |place: &str| Path::new(&root()).join(place).join(format!("{target}.rs")).is_file();
        assert!(places.into_iter().any(is_there), "{by}");
    }
}
