//! Runs a replica set for people: `ground [VERSION] [--members N]` prints its URI and keeps it
//! until Ctrl-C or the end of standard input.

use std::io::{Write, copy, sink, stdin, stdout};
use std::process::ExitCode;

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
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        builder = match argument.as_str() {
            "--members" => builder.members(arguments.next().unwrap_or_default().parse()?),
            version if !version.starts_with('-') => builder.version(version),
            _ => {
                println!("usage: ground [VERSION] [--members N]");
                println!("versions: {}", ground::VERSIONS.join(" "));
                return Ok(());
            }
        };
    }
    let set = builder.start()?;
    println!("{}", set.uri());
    stdout().flush()?;
    copy(&mut stdin(), &mut sink())?;
    Ok(())
}
