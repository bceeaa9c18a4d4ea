//! `mongostream checkpoint`: look at checkpoints, move them and repair them.

mod copy;
mod place;
mod remove;
mod saved;
mod set;
mod show;

use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::failure::Failure;

pub(crate) fn command() -> Command {
    Command::new("checkpoint")
        .about("Look at checkpoints, move them and repair them")
        .long_about(
            "Look at checkpoints, move them and repair them.\n\n\
             PLACE is the path of a file, or URI#DATABASE.COLLECTION. NAME is the checkpoint's name (option \
             checkpoint_name; if that is not set, what is watched: shop.orders, shop, or *). A file has one \
             checkpoint, so there NAME may be left out; where it is given, it must be the right one.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([show::command(), set::command(), copy::command(), remove::command()])
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("show", matches)) => show::run(matches),
        Some(("set", matches)) => set::run(matches),
        Some(("copy", matches)) => copy::run(matches),
        Some(("remove", matches)) => remove::run(matches),
        _ => Err(Failure::usage("no such command; see mongostream checkpoint --help")),
    }
}

/// The arguments `PLACE [NAME]`.
fn arguments() -> [Arg; 2] {
    [
        Arg::new("place")
            .value_name("PLACE")
            .required(true)
            .value_hint(clap::ValueHint::FilePath)
            .help("A file, or URI#DATABASE.COLLECTION"),
        Arg::new("name").value_name("NAME").help("The name of the checkpoint"),
    ]
}

fn force() -> Arg {
    Arg::new("force")
        .long("force")
        .action(ArgAction::SetTrue)
        .help("Replace the checkpoint that is there already")
}

fn text(matches: &ArgMatches, id: &str) -> Option<String> {
    matches.get_one::<String>(id).cloned()
}
