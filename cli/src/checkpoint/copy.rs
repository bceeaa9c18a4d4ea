//! `mongostream checkpoint copy`: from place to place, or under another name.

use clap::{Arg, ArgMatches, Command};

use crate::checkpoint::force;
use crate::checkpoint::place::Place;
use crate::failure::Failure;
use crate::output::print;

pub(super) fn command() -> Command {
    Command::new("copy")
        .about("Copy a checkpoint to another place or name")
        .long_about(
            "Copy a checkpoint to another place or name.\n\n\
             The one that is copied is only read: the worker that uses it goes on. Stop that worker first if the copy \
             is to go on where it has stopped.",
        )
        .after_help(
            "Examples:\n  \
             mongostream checkpoint copy orders.token 'mongodb://localhost#state.checkpoints'\n  \
             mongostream checkpoint copy orders.token shop.orders orders2.token orders2\n  \
             mongostream checkpoint copy 'mongodb://localhost#state.checkpoints' shop.orders orders.token",
        )
        .override_usage("mongostream checkpoint copy PLACE [NAME] PLACE\n       mongostream checkpoint copy PLACE NAME PLACE NAME")
        .arg(
            Arg::new("places")
                .value_name("PLACE NAME PLACE NAME")
                .required(true)
                .num_args(2..=4)
                .value_hint(clap::ValueHint::FilePath)
                .help(
                    "From where, which one (not needed for a file), to where, and under which name (if it is not the \
                     same)",
                ),
        )
        .arg(force())
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let given: Vec<&str> =
        matches.get_many::<String>("places").into_iter().flatten().map(String::as_str).collect();
    let (from, name, to, new_name) = match *given.as_slice() {
        [from, to] => (from, None, to, None),
        [from, name, to] => (from, Some(name), to, None),
        [from, name, to, new_name] => (from, Some(name), to, Some(new_name)),
        _ => return Err(Failure::usage("copy takes PLACE [NAME] PLACE, or PLACE NAME PLACE NAME")),
    };
    let (from, to) = (Place::parse(from)?, Place::parse(to)?);
    let (_, checkpoint) = from.read_one(name)?;
    let name = new_name.map_or_else(|| checkpoint.name.clone(), str::to_owned);
    to.write(&name, &checkpoint.renamed(&name), matches.get_flag("force"))?;
    print(&format!("copied to checkpoint {name:?} in {}\n", to.shown()))
}
