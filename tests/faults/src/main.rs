//! `mongostream-faults [--minutes N] [--seed N] [--secure] [--consumer-command COMMAND] [--json]`

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use faults::plan::{Plan, run};
use faults::{Result, adapter, consumer, table};

const USAGE: &str = "usage: mongostream-faults [--minutes N] [--seed N] [--secure] [--consumer-command COMMAND] [--json]

Starts a replica set of its own, makes it, the network and a consumer fail, and compares what was written
with what arrives. Without --minutes each fault happens once. With --secure the sets have passwords and TLS.
With --consumer-command the consumer is not this program but COMMAND, such as 'examples/run python': it is started with
URI DATABASE COLLECTION [option=value ...], prints each message as a line, and acks it then.";

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mongostream-faults: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, uri, seed, directory, options @ ..] = &arguments[..]
        && word == "consumer"
    {
        consumer::run(uri, Path::new(directory), seed.parse()?, options)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let [word, command, uri, directory, options @ ..] = &arguments[..]
        && word == "adapter"
    {
        std::process::exit(adapter::run(command, uri, Path::new(directory), options)?);
    }
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let program = std::env::current_exe()?;
    let mut plan =
        Plan { program, seed: clock.as_secs(), time: None, secure: false, command: None };
    let mut json = false;
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--minutes" => plan.time = Some(Duration::from_secs(60).mul_f64(value()?.parse()?)),
            "--seed" => plan.seed = value()?.parse()?,
            "--secure" => plan.secure = true,
            "--consumer-command" => plan.command = Some(value()?),
            "--json" => json = true,
            _ => {
                println!("{USAGE}");
                return Ok(if argument == "--help" {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::from(2)
                });
            }
        }
    }
    let outcome = run(&plan, &mut |line| eprintln!("{line}"))?;
    if json {
        println!("{}", table::to_json(&outcome));
    } else {
        print!("{}", table::text(&outcome));
    }
    Ok(if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
