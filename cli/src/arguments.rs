//! The command line as a whole: its commands, each described by its own module.

use clap::Command;

use crate::{check, checkpoint, completions, man, options, pipe, tail};

/// Everything that the program takes.
pub(crate) fn command() -> Command {
    Command::new("mongostream")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Follow, pipe, check and repair MongoDB change streams")
        .after_help(
            "Exit codes: 0 done, 1 it has failed, 2 wrong usage.\n\
             MONGOSTREAM_LOG=error, warn, info or debug in the environment shows the library's log on stderr.",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .max_term_width(100)
        .subcommands([
            tail::command(),
            pipe::command(),
            check::command(),
            checkpoint::command(),
            options::command(),
            completions::command(),
            man::command(),
        ])
}
