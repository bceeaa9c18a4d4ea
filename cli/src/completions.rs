//! `mongostream completions`: a script with which a shell completes commands, flags and values.

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::failure::Failure;
use crate::output::print;

pub(crate) fn command() -> Command {
    Command::new("completions")
        .about("Print the completions for a shell")
        .after_help(
            "Examples:\n  \
             mongostream completions bash > ~/.local/share/bash-completion/completions/mongostream\n  \
             mongostream completions fish > ~/.config/fish/completions/mongostream.fish",
        )
        .arg(Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell)))
}

/// `program` is the command line that is to be completed.
pub(crate) fn run(matches: &ArgMatches, mut program: Command) -> Result<(), Failure> {
    let Some(shell) = matches.get_one::<Shell>("shell").copied() else {
        return Err(Failure::usage(
            "completions needs a shell; see mongostream completions --help",
        ));
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, "mongostream", &mut script);
    print(&String::from_utf8_lossy(&script))
}
