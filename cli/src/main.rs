//! The program `mongostream`: follow, pipe, check and repair change streams from a terminal. One module a command.

mod arguments;
mod ask;
mod check;
mod checkpoint;
mod completions;
mod end;
mod failure;
mod flags;
mod man;
mod metrics;
mod options;
mod output;
mod pipe;
mod secrets;
mod status_line;
mod tail;
mod target;

use std::io::Write;
use std::process::ExitCode;

use crate::failure::Failure;

fn main() -> ExitCode {
    let matches = match arguments::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            let text = secrets::hide(&error.render().to_string());
            // Nobody is left to be told if this fails.
            let _ = match error.use_stderr() {
                true => std::io::stderr().write_all(text.as_bytes()),
                false => std::io::stdout().write_all(text.as_bytes()),
            };
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let done = match matches.subcommand() {
        Some(("tail", matches)) => tail::run(matches),
        Some(("pipe", matches)) => pipe::run(matches),
        Some(("check", matches)) => check::run(matches),
        Some(("checkpoint", matches)) => checkpoint::run(matches),
        Some(("options", matches)) => options::run(matches),
        Some(("completions", matches)) => completions::run(matches, arguments::command()),
        Some(("man", matches)) => man::run(matches, arguments::command()),
        _ => Err(Failure::usage("no such command; see mongostream --help")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}
