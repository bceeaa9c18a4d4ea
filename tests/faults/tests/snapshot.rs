//! A snapshot whose consumer is killed; `docs/FAULTS.md` tells of larger ones.

use std::process::Command;
use std::time::Duration;

/// Far more than it takes, for machines with other work.
const DEADLINE: Duration = Duration::from_secs(30 * 60);

#[test]
fn a_killed_snapshot_becomes_the_collection() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mongostream-snapshot"));
    let run = ground::output(program.args(["--documents", "60000", "--kills", "2"]), DEADLINE);
    let [shown, progress] = [run.stdout, run.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(run.status.success(), "{progress}{shown}");
    assert_eq!(progress.matches("killed after").count(), 2, "{progress}");
    println!("{shown}");
}
