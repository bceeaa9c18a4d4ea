//! Runs a replica set for people and for programs; see its `--help`.

use std::io::{IsTerminal, Write, copy, sink, stdin, stdout};
use std::process::ExitCode;
use std::thread;

const USAGE: &str = "\
usage: ground [VERSION] [--members N] [--until-eof]

Starts a MongoDB replica set, prints its URI, and keeps it until SIGINT or SIGTERM
(Ctrl-C, kill), in a terminal also until Ctrl-D. The servers and their data vanish
with this program, however it ends.

  --members N    so many members, 1 if it is left out
  --until-eof    until the end of standard input, also if that is no terminal: a program
                 that starts this one with a pipe ends it by closing the pipe, or by its
                 own death";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ground: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut builder = ground::ReplicaSet::builder();
    let mut until_eof = stdin().is_terminal();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        builder = match argument.as_str() {
            "--members" => builder.members(arguments.next().unwrap_or_default().parse()?),
            "--until-eof" => {
                until_eof = true;
                builder
            }
            "--help" | "-h" => {
                println!("{USAGE}\n\nversions: {}", ground::VERSIONS.join(" "));
                return Ok(());
            }
            version if !version.starts_with('-') => builder.version(version),
            _ => return Err(format!("{argument} is no option\n{USAGE}").into()),
        };
    }
    let set = builder.start()?;
    println!("{}", set.uri());
    stdout().flush()?;
    if until_eof {
        copy(&mut stdin(), &mut sink())?;
        return Ok(());
    }
    // A signal ends the process, and the end of the process the servers.
    loop {
        thread::park();
    }
}
