//! A snapshot whose consumer is killed; `docs/FAULTS.md` tells of larger ones.

use std::process::Command;

#[test]
fn a_killed_snapshot_becomes_the_collection() {
    let run = Command::new(env!("CARGO_BIN_EXE_mongostream-snapshot"))
        .args(["--documents", "60000", "--kills", "2"])
        .output()
        .unwrap();
    let [shown, progress] = [run.stdout, run.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(run.status.success(), "{progress}{shown}");
    assert_eq!(progress.matches("killed after").count(), 2, "{progress}");
    println!("{shown}");
}
