//! The committed header is what the sources give, and it compiles alone in C and in C++.
//!
//! `MONGOSTREAM_WRITE=1 cargo test --workspace --test generated` writes it anew.

use std::path::{Path, PathBuf};
use std::process::Command;

use mongostream::OPTIONS;

use crate::abi::Abi;

mod abi;
mod bindings;

/// In the order in which a reader of the header wants them.
const SOURCES: [&str; 9] =
    ["version", "status", "error", "log", "options", "buffer", "worker", "message", "batch"];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// The `MS_OPT_*` macros, which cbindgen cannot make of Rust's text constants.
fn option_macros() -> String {
    let mut text = String::new();
    for option in OPTIONS {
        let default = match option.default {
            "" => String::new(),
            default => format!(" [{default}]"),
        };
        let words = format!("{}{default}. {}", option.values, option.text);
        text.push_str(&comment(&words));
        text.push_str(&format!(
            "#define MS_OPT_{} \"{}\"\n",
            option.name.to_uppercase(),
            option.name
        ));
    }
    text
}

fn comment(words: &str) -> String {
    let mut text = String::from("\n/**\n *");
    let mut column = 2;
    for word in words.split_whitespace() {
        if column + 1 + word.len() > 100 {
            text.push_str("\n *");
            column = 2;
        }
        text.push(' ');
        text.push_str(word);
        column += 1 + word.len();
    }
    text + "\n */\n"
}

fn generate() -> String {
    let mut config = cbindgen::Config::from_file(root().join("cbindgen.toml")).unwrap();
    config.after_includes.get_or_insert_default().push_str(&option_macros());
    let mut builder = cbindgen::Builder::new().with_config(config);
    for source in SOURCES {
        builder = builder.with_src(root().join("capi/src").join(source).with_extension("rs"));
    }
    let mut header = Vec::new();
    builder.generate().unwrap().write(&mut header);
    String::from_utf8(header).unwrap()
}

fn committed() -> PathBuf {
    root().join("include/mongostream.h")
}

/// Compares a committed file with what it should be, or writes it if that was asked for.
fn check(path: &Path, generated: &str) {
    if std::env::var_os("MONGOSTREAM_WRITE").is_some() {
        std::fs::write(path, generated).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let difference = generated.lines().zip(found.lines()).find(|(new, old)| new != old);
    assert!(
        generated == found,
        "{} is out of date, first at {difference:?}; write it anew with\n    \
         MONGOSTREAM_WRITE=1 cargo test --workspace --test generated",
        path.display()
    );
}

#[test]
fn the_committed_header_is_what_the_sources_give() {
    check(&committed(), &generate());
}

#[test]
fn the_committed_abi_is_what_the_sources_give() {
    // A difference here is a difference for every program that is compiled already.
    check(&root().join("capi/abi.json"), &Abi::of_header(&generate()).to_json());
}

#[test]
fn the_declarations_of_other_languages_are_those_of_the_sources() {
    let abi = Abi::of_header(&generate());
    for (file, generated) in [
        ("python/src/mongostream/_abi.py", bindings::python(&abi)),
        ("python/src/mongostream/_options.py", bindings::python_options()),
        ("node/lib/abi.js", bindings::node(&abi)),
        ("node/lib/options.d.ts", bindings::node_options()),
        ("go/abi.go", bindings::go(&abi)),
    ] {
        check(&root().join("bindings").join(file), &generated);
    }
}

#[test]
fn every_file_of_the_c_skin_is_in_the_header() {
    let mut files: Vec<_> = std::fs::read_dir(root().join("capi/src"))
        .unwrap()
        .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_str()?.to_owned()))
        .filter(|name| !["lib", "boundary", "calls", "checkpoint_store"].contains(&name.as_str()))
        .collect();
    let mut sources = SOURCES.map(str::to_owned).to_vec();
    files.sort();
    sources.sort();
    assert_eq!(files, sources);
}

#[test]
fn every_option_has_its_macro() {
    // Not the committed header: another test may be writing it now.
    let header = generate();
    for option in OPTIONS {
        let line = format!("#define MS_OPT_{} \"{}\"\n", option.name.to_uppercase(), option.name);
        assert!(header.contains(&line), "{line}");
    }
    assert_eq!(header.matches("#define MS_OPT_").count(), OPTIONS.len());
}

#[test]
fn the_header_compiles_alone_in_every_c_and_cpp() {
    // The name of C++23 that compilers of its time know, too.
    let c = ["c99", "c11", "c17"].map(|standard| (standard, "c"));
    let cpp = ["c++11", "c++14", "c++17", "c++20", "c++2b"].map(|standard| (standard, "c++"));
    for (gcc, clang) in [("gcc", "clang"), ("g++", "clang++")] {
        let languages = if gcc == "gcc" { &c[..] } else { &cpp[..] };
        let has_clang = Command::new(clang).arg("--version").output().is_ok();
        if !has_clang {
            // A second opinion, where there is one.
            eprintln!("there is no {clang} here: the header is compiled with {gcc} alone");
        }
        for (standard, language) in languages {
            for compiler in [gcc, clang].iter().take(1 + usize::from(has_clang)) {
                compile(compiler, standard, language);
            }
        }
    }
}

#[track_caller]
fn compile(compiler: &str, standard: &str, language: &str) {
    let output = Command::new(compiler)
        .args([&format!("-std={standard}"), "-x", language, "-fsyntax-only"])
        .args(["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-include"])
        .arg(committed())
        .arg("/dev/null")
        .output()
        .unwrap_or_else(|error| panic!("{compiler} is needed for this test: {error}"));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{compiler} -std={standard}: {text}");
}
