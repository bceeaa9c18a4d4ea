//! `mongostream-pipes --to nats|kafka [--minutes N] [--seed N] [--program PATH] [--json]`

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use faults::Result;
use faults::pipes::plan::{Plan, run};

const USAGE: &str = "usage: mongostream-pipes --to nats|kafka [--minutes N] [--seed N] [--program PATH] [--json]

Starts a replica set, a broker and two pipes, one of which stands by; makes all of them fail, and compares what was
written with what the broker holds. Without --minutes each fault happens once. --program is the program
mongostream; without it the one beside this program.";

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mongostream-pipes: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<ExitCode> {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let program = std::env::current_exe()?.with_file_name("mongostream");
    let mut plan = Plan { program, to: String::new(), seed: clock.as_secs(), time: None };
    let mut json = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--to" => plan.to = value()?,
            "--minutes" => plan.time = Some(Duration::from_secs(60).mul_f64(value()?.parse()?)),
            "--seed" => plan.seed = value()?.parse()?,
            "--program" => plan.program = PathBuf::from(value()?),
            "--json" => json = true,
            _ => {
                println!("{USAGE}");
                let code = if argument == "--help" { 0 } else { 2 };
                return Ok(ExitCode::from(code));
            }
        }
    }
    if !plan.program.exists() {
        let program = plan.program.display();
        return Err(format!(
            "{program} is missing: build it with `cargo build -p mongostream-cli`"
        )
        .into());
    }
    let outcome = run(&plan, &mut |line| eprintln!("{line}"))?;
    match json {
        true => println!("{}", outcome.to_json()),
        false => print!("{}", outcome.to_text()),
    }
    Ok(if outcome.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
