//! What the program says of itself: help, options, completions and manual pages.
#![cfg(unix)]

mod support;

use std::process::{Command, Stdio};

use mongostream::{OPTIONS, OptionKind};
use serde_json::Value;

use support::{Directory, run};

#[test]
fn every_option_is_a_flag_with_its_text_and_default() {
    let help = run(["tail", "--help"]).assert_code(0).out;
    let flat = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for option in OPTIONS {
        // What is true or false needs no value.
        let flag = match option.kind {
            OptionKind::Boolean => format!("--{} [<", option.name),
            _ => format!("--{} <", option.name),
        };
        assert!(flat.contains(&flag), "{}", option.name);
        let text = option.text.split_whitespace().collect::<Vec<_>>().join(" ");
        // The pager of words breaks at hyphens, too.
        let beginning: String = text.chars().take(40).collect();
        assert!(flat.contains(&beginning), "{}: {beginning}", option.name);
        if !option.default.is_empty() {
            assert!(flat.contains(&format!("[default: {}]", option.default)), "{}", option.name);
        }
        for choice in option.choices() {
            assert!(flat.contains(choice), "{}: {choice}", option.name);
        }
    }
    let short = run(["tail", "-h"]).assert_code(0).out;
    assert!(short.lines().count() < 130, "{}", short.lines().count());
}

#[test]
fn options_are_a_table_for_people_and_the_library_s_json_for_programs() {
    let table = run(["options"]).assert_code(0).out;
    for option in OPTIONS {
        assert!(table.lines().any(|line| line == option.name), "{}", option.name);
        assert!(table.contains(option.values), "{}", option.name);
    }
    let json: Value = run(["options", "--json"]).assert_code(0).json();
    let expected: Value = serde_json::from_str(&mongostream::describe_options()).unwrap();
    assert_eq!(json, expected);
}

/// What bash offers for the last of these words.
fn completed(words: &[&str]) -> Vec<String> {
    let script = run(["completions", "bash"]).assert_code(0).out;
    let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
    let last = words.len() - 1;
    let before = words[last.saturating_sub(1)];
    let ask = format!(
        "{script}\nCOMP_WORDS=({})\nCOMP_CWORD={last}\n_mongostream mongostream '{}' '{before}'\n\
         printf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
        quoted.join(" "),
        words[last],
    );
    let mut bash = Command::new("bash");
    bash.args(["--norc", "--noprofile", "-c", &ask]).stdin(Stdio::null());
    let output = bash.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_flags_and_values() {
    assert_eq!(completed(&["mongostream", "ta"]), ["tail"]);
    assert_eq!(completed(&["mongostream", "checkpoint", "s"]), ["show", "set"]);
    let flags = completed(&["mongostream", "tail", "--"]);
    for option in OPTIONS {
        assert!(flags.contains(&format!("--{}", option.name)), "{}: {flags:?}", option.name);
    }
    for option in OPTIONS.iter().filter(|option| option.choices().next().is_some()) {
        let words = ["mongostream", "tail", &format!("--{}", option.name), ""];
        assert_eq!(completed(&words), option.choices().collect::<Vec<_>>(), "{}", option.name);
    }
    assert_eq!(completed(&["mongostream", "check", "--show_expanded_events", "t"]), ["true"]);
    assert_eq!(completed(&["mongostream", "completions", "z"]), ["zsh"]);
}

#[test]
fn every_shell_has_completions_and_a_closed_stdout_is_no_failure() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(["completions", shell]).assert_code(0).out;
        assert!(script.contains("on_history_lost"), "{shell}");
    }
    run(["completions", "nonsense"]).assert_code(2);
    let program = env!("CARGO_BIN_EXE_mongostream");
    for command in ["completions bash", "options", "man", "tail --help", "--version"] {
        let piped = format!("set -o pipefail; '{program}' {command} 2>&1 >&- ; echo $?");
        let output = Command::new("bash").args(["-c", &piped]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(!text.contains("panicked"), "{command}: {text}");
        let piped = format!("set -o pipefail; '{program}' {command} | true");
        let output = Command::new("bash").args(["-c", &piped]).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{command}: {output:?}");
    }
}

#[test]
fn there_is_a_manual_page_of_each_command() {
    let page = run(["man"]).assert_code(0).out;
    assert!(page.contains(".TH mongostream 1"), "{page}");
    let directory = Directory::new();
    run(["man", "--dir", directory.path().to_str().unwrap()]).assert_code(0);
    let read = |name: &str| {
        let path = directory.path().join(format!("{name}.1"));
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"))
    };
    for name in [
        "mongostream",
        "mongostream-tail",
        "mongostream-check",
        "mongostream-checkpoint",
        "mongostream-checkpoint-show",
        "mongostream-checkpoint-set",
        "mongostream-checkpoint-copy",
        "mongostream-checkpoint-remove",
        "mongostream-options",
        "mongostream-completions",
        "mongostream-man",
    ] {
        assert!(read(name).starts_with(".ie"), "{name}");
    }
    let tail = read("mongostream-tail");
    for option in OPTIONS {
        assert!(tail.contains(&option.name.replace('-', "\\-")), "{}", option.name);
    }
    let refused = run(["man", "--dir", &directory.file("missing")]).assert_code(1);
    assert!(refused.err.contains("missing"), "{refused:?}");
}

#[test]
fn a_flag_may_be_written_with_hyphens() {
    let closed = format!("mongodb://{}/?serverSelectionTimeoutMS=200", support::closed_address());
    run(["tail", &closed, "--batch-size", "x"]).assert_code(2);
    run(["tail", &closed, "--batch-size", "7", "--retry-ms", "-1"]).assert_code(1);
    let version = run(["--version"]).assert_code(0).out;
    assert_eq!(version, format!("mongostream {}\n", env!("CARGO_PKG_VERSION")));
}
