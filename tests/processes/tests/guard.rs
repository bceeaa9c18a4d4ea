//! A guarded program ends with the process that has started it.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use processes::{Guard, wait_until};

const LONG: Duration = Duration::from_secs(30);
/// Set for the process that starts a guarded program.
const ROLE: &str = "MONGOSTREAM_TEST_ROLE";

fn sleeper() -> Child {
    Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap()
}

/// Whether it is gone, or dead and waited for by nobody.
fn has_ended(pid: &str) -> bool {
    let state = Command::new("ps").args(["-o", "stat=", "-p", pid]).output().unwrap().stdout;
    matches!(state.first(), None | Some(b'Z'))
}

/// No test of its own: the process below.
#[test]
fn owner() {
    if std::env::var_os(ROLE).is_none() {
        return;
    }
    let mut sleeper = sleeper();
    let _guard = Guard::of(&sleeper).unwrap();
    println!("pid={}", sleeper.id());
    sleeper.wait().unwrap();
}

#[test]
fn program_of_a_killed_owner_is_killed() {
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner", "--nocapture"])
        .env(ROLE, "owner")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let pid = lines.find_map(|line| Some(line.unwrap().split_once("pid=")?.1.to_owned())).unwrap();
    assert!(!has_ended(&pid));
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_until(LONG, "the program has ended", || has_ended(&pid));
}

#[test]
fn program_outlives_a_guard_that_is_dropped() {
    let mut sleeper = sleeper();
    drop(Guard::of(&sleeper).unwrap());
    assert!(sleeper.try_wait().unwrap().is_none());
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}
