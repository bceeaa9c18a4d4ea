//! Pipes and brokers: every fault once; `docs/FAULTS.md` tells of longer runs.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Far more than it takes, for machines with other work.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// The program. It is built as for the tests of the whole workspace: then it is there already.
fn program() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--workspace", "--bin", "mongostream"])
        .args(["--message-format", "json", "--quiet"])
        .output()
        .unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let lines = String::from_utf8(built.stdout).unwrap();
    lines
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|line| Some(PathBuf::from(line["executable"].as_str()?)))
        .expect("the program's path")
}

fn nothing_is_lost_into(broker: &str) {
    let mut run = Command::new(env!("CARGO_BIN_EXE_mongostream-pipes"));
    run.args(["--to", broker, "--seed", "1", "--program"]).arg(program());
    let run = ground::output(&mut run, DEADLINE);
    let [shown, progress] = [run.stdout, run.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(run.status.success(), "{progress}{shown}");
    println!("{shown}");
}

#[test]
fn nothing_is_lost_or_twice_in_jetstream() {
    nothing_is_lost_into("nats");
}

#[test]
fn nothing_is_lost_in_kafka() {
    if !brokers::Kafka::is_missing() {
        nothing_is_lost_into("kafka");
    }
}
