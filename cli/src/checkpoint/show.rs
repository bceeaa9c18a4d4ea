//! `mongostream checkpoint show`: what a checkpoint says. It reads, and takes nothing over.

use std::fmt::Write;

use bson::DateTime;
use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Value, json};

use crate::checkpoint::place::{Found, Place};
use crate::checkpoint::saved::Checkpoint;
use crate::checkpoint::{arguments, text};
use crate::failure::Failure;
use crate::output::print;

pub(super) fn command() -> Command {
    Command::new("show")
        .about("Show where a stream would go on")
        .after_help(
            "Examples:\n  \
             mongostream checkpoint show orders.token\n  \
             mongostream checkpoint show 'mongodb://localhost#state.checkpoints'\n  \
             mongostream checkpoint show 'mongodb://localhost#state.checkpoints' shop.orders --json",
        )
        .args(arguments())
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("As JSON: an object, or an array of all in a collection"),
        )
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let place = Place::parse(&text(matches, "place").unwrap_or_default())?;
    let name = text(matches, "name");
    let is_json = matches.get_flag("json");
    let now = DateTime::now();
    if place.is_file() || name.is_some() {
        let (found, checkpoint) = place.read_one(name.as_deref())?;
        return print(&match is_json {
            true => format!("{:#}\n", checkpoint.to_json(found.saved_at)),
            false => table(&checkpoint.to_lines(found.saved_at, now)),
        });
    }
    let all = place.read(None)?;
    if is_json {
        let values = all.iter().map(listed).collect::<Vec<_>>();
        return print(&format!("{:#}\n", Value::Array(values)));
    }
    let lines = all.iter().map(|found| match read(found) {
        Ok(Some(checkpoint)) => table(&checkpoint.to_lines(found.saved_at, now)),
        Ok(None) => table(&[("checkpoint", found.name.clone()), ("saved", "not yet".to_owned())]),
        Err(reason) => table(&[("checkpoint", found.name.clone()), ("unreadable", reason)]),
    });
    match all.is_empty() {
        true => print(&format!("no checkpoints in {}\n", place.shown())),
        false => print(&lines.collect::<Vec<_>>().join("\n")),
    }
}

fn read(found: &Found) -> Result<Option<Checkpoint>, String> {
    found.text.as_deref().map(Checkpoint::parse).transpose()
}

fn listed(found: &Found) -> Value {
    match read(found) {
        Ok(Some(checkpoint)) => checkpoint.to_json(found.saved_at),
        Ok(None) => json!({ "name": found.name, "token": null }),
        Err(reason) => json!({ "name": found.name, "error": reason }),
    }
}

fn table(lines: &[(&'static str, String)]) -> String {
    lines.iter().fold(String::new(), |mut table, (key, value)| {
        // Writing to a String does not fail.
        let _ = writeln!(table, "{key:<10}  {value}");
        table
    })
}
