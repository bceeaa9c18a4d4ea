//! Every fault once, on sets with passwords and TLS.

use std::process::Command;

#[test]
fn nothing_is_lost_under_any_fault_with_passwords_and_tls() {
    let run = Command::new(env!("CARGO_BIN_EXE_mongostream-faults"))
        .args(["--secure", "--seed", "1"])
        .output()
        .unwrap();
    let [shown, progress] = [run.stdout, run.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(run.status.success(), "{progress}{shown}");
    println!("{shown}");
}
