//! `mongostream man`: the manual pages, made from the descriptions of the commands.

use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, Command, ValueHint, value_parser};
use clap_mangen::Man;

use crate::failure::Failure;
use crate::output::print;

pub(crate) fn command() -> Command {
    Command::new("man")
        .about("Print the manual page, or write those of all commands into a directory")
        .after_help(
            "Examples:\n  \
             mongostream man | man -l -\n  \
             mongostream man --dir ~/.local/share/man/man1",
        )
        .arg(
            Arg::new("dir")
                .long("dir")
                .value_name("DIRECTORY")
                .value_hint(ValueHint::DirPath)
                .value_parser(value_parser!(PathBuf))
                .help("Write mongostream.1, mongostream-tail.1 and so on into this directory"),
        )
}

/// `program` is the command line that is to be described.
pub(crate) fn run(matches: &ArgMatches, mut program: Command) -> Result<(), Failure> {
    match matches.get_one::<PathBuf>("dir") {
        Some(directory) => {
            program.build();
            write_all(&program, "mongostream", directory)
        }
        None => print(&page(program)?),
    }
}

fn page(command: Command) -> Result<String, Failure> {
    let mut page = Vec::new();
    Man::new(command)
        .render(&mut page)
        .map_err(|error| Failure::failed(format!("cannot make the manual page: {error}")))?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// The page of a command, and those of its own commands.
fn write_all(command: &Command, name: &str, directory: &Path) -> Result<(), Failure> {
    let path = directory.join(format!("{name}.1"));
    let page = page(command.clone().name(name.to_owned()))?;
    std::fs::write(&path, page).map_err(|error| {
        Failure::failed(format!(
            "cannot write {}: {error}; --dir takes a directory that exists and may be written",
            path.display()
        ))
    })?;
    let commands = command.get_subcommands().filter(|command| command.get_name() != "help");
    for command in commands {
        write_all(command, &format!("{name}-{}", command.get_name()), directory)?;
    }
    Ok(())
}
