//! Somebody else's consumer under test: three processes of a program `follow URI DATABASE COLLECTION [option=value ...]`,
//! one for each worker, whose output is told as if it were the consumer's own.
//!
//! Such a program prints each message's JSON as a line, and acks the message after it has printed it. So what it has
//! printed may be acked, and when it prints the next line it surely is. What it saves is not seen from outside.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use ground::mongodb::bson::{Bson, RawDocumentBuf};

use crate::consumer::{COLLECTION, DATABASE, SAVE_EVERY, WORKERS, checkpoint_file};
use crate::report::{Line, Received, tell};
use crate::{Context, Result};

/// The exit code of an adapter whose programs were killed, as shells have it.
pub const KILLED: i32 = 128 + 9;

/// The file that names the programs' process groups, a line each.
#[must_use]
pub fn groups_file(directory: &Path) -> PathBuf {
    directory.join("groups")
}

/// Starts the programs, tells what they print, and waits until they have ended. With the end of standard input it
/// kills them.
///
/// # Errors
///
/// If one cannot be started.
pub fn run(command: &str, uri: &str, directory: &Path, options: &[String]) -> Result<i32> {
    let mut programs = Vec::new();
    for (worker, name) in WORKERS.into_iter().enumerate() {
        let (database, collection) = match worker {
            0 => (DATABASE, COLLECTION),
            1 => (DATABASE, "-"),
            _ => ("-", "-"),
        };
        let program = Command::new("sh")
            .args(["-c", &format!("exec {command} \"$@\""), "sh", uri, database, collection])
            .args(["format=event", "json=canonical", &format!("name={name}")])
            .arg(format!("checkpoint_file={}", checkpoint_file(directory, worker).display()))
            .arg(format!("checkpoint_ms={}", SAVE_EVERY.as_millis()))
            .args(options)
            // So that whatever it starts itself is killed with it.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context(&format!("cannot start {command:?}"))?;
        programs.push(program);
    }
    let groups: Vec<u32> = programs.iter().map(Child::id).collect();
    let text: String = groups.iter().map(|group| format!("{group}\n")).collect();
    // As a whole: who reads it must not find a part.
    let new = directory.join("groups.new");
    std::fs::write(&new, text)?;
    std::fs::rename(new, groups_file(directory))?;
    thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        groups.into_iter().for_each(kill);
    });
    thread::spawn(|| {
        loop {
            // There are none, but the runner waits for those that are told after its question.
            tell(0, [Line::Stats("{}".to_owned())]);
            thread::sleep(Duration::from_millis(100));
        }
    });
    let mut was_killed = true;
    thread::scope(|scope| {
        let ends: Vec<_> = (programs.into_iter().enumerate())
            .map(|(worker, program)| scope.spawn(move || follow(worker, program)))
            .collect();
        for end in ends {
            was_killed &= end.join().unwrap_or(false);
        }
    });
    Ok(if was_killed { KILLED } else { 1 })
}

/// Kills a process group.
pub fn kill(group: u32) {
    signal(group, nix::sys::signal::Signal::SIGKILL);
}

/// Sends a signal to a process group.
pub fn signal(group: u32, signal: nix::sys::signal::Signal) {
    if let Ok(group) = i32::try_from(group) {
        // It may have ended.
        let _ = nix::sys::signal::killpg(nix::unistd::Pid::from_raw(group), signal);
    }
}

/// Tells what one program prints, until it ends; whether it was killed.
fn follow(worker: usize, mut program: Child) -> bool {
    let (stdout, stderr) = (program.stdout.take(), program.stderr.take());
    let said = thread::spawn(move || {
        let mut said = String::new();
        for line in stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines()) {
            let Ok(line) = line else { break };
            match &*line {
                "ready" => tell(worker, [Line::Ready]),
                _ => said.push_str(&format!("{line}; ")),
            }
        }
        said
    });
    if let Some(stdout) = stdout {
        print(worker, BufReader::new(stdout));
    }
    let said = said.join().unwrap_or_default();
    let status = program.wait();
    let signal = status.as_ref().ok().and_then(ExitStatusExt::signal);
    // A shell between us and the program tells of the signal in its own way.
    let code = status.as_ref().ok().and_then(std::process::ExitStatus::code);
    if signal == Some(9) || code == Some(KILLED) {
        return true;
    }
    let kind = if said.contains("on_history_lost") { "HistoryLost" } else { "Failed" };
    tell(worker, [Line::Failed(format!("{kind} {said}it ended with {status:?}"))]);
    false
}

fn print(worker: usize, mut lines: impl BufRead) {
    let (mut line, mut number) = (String::new(), 0);
    loop {
        line.clear();
        // A line without an end was never printed as a whole, so it is not acked.
        if !lines.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
            return;
        }
        let mut told = Vec::new();
        if number > 0 {
            told.push(Line::Acked(vec![number - 1]));
        }
        match event(&line) {
            Ok(event) => {
                let operation = event.get_str("operationType").unwrap_or_default().to_owned();
                told.push(Line::Received(Received::of_event(Some(&event), operation, number)));
                told.push(Line::Acking(vec![number]));
                number += 1;
            }
            Err(error) => {
                let text = format!("Failed it printed {line:?}, which is no event: {error}");
                told.push(Line::Failed(text));
            }
        }
        tell(worker, told);
    }
}

fn event(line: &str) -> Result<RawDocumentBuf> {
    let value: serde_json::Value = serde_json::from_str(line)?;
    let Bson::Document(event) = Bson::try_from(value)? else { return Err("no document".into()) };
    Ok(RawDocumentBuf::try_from(&event)?)
}
