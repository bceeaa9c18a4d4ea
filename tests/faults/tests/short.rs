//! Every fault once, with always the same choices; `docs/FAULTS.md` tells of longer runs.

use std::process::Command;
use std::time::Duration;

/// Far more than it takes, for machines with other work.
const DEADLINE: Duration = Duration::from_secs(30 * 60);

#[test]
fn nothing_is_lost_under_any_fault() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_mongostream-faults"));
    let run = ground::output(program.args(["--seed", "1"]), DEADLINE);
    let [shown, progress] = [run.stdout, run.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(run.status.success(), "{progress}{shown}");
    println!("{shown}");
}
