//! Every fault once, with always the same choices; `docs/FAULTS.md` tells of longer runs.

use std::process::Command;

#[test]
fn nothing_is_lost_under_any_fault() {
    let run = Command::new(env!("CARGO_BIN_EXE_mongostream-faults"))
        .args(["--seed", "1"])
        .output()
        .unwrap();
    let [shown, progress] = [run.stdout, run.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(run.status.success(), "{progress}{shown}");
    println!("{shown}");
}
