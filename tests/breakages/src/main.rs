//! Breaks the library in each way of the list, and shows which test finds it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use breakages::{Breakage, list, root};

const USAGE: &str = "usage: mongostream-breakages [--only TEXT] [--missing] [--fast] [--write]
  --only TEXT  only those whose file or sentence has this text in it
  --missing    only those that docs/BREAKAGES.md does not show as found
  --fast       without the tests on a real server
  --write      write what was found into docs/BREAKAGES.md";

/// Runs of the simulation for each breakage: about two seconds.
const RUNS: &str = "3000";

/// What is said where no test fails, and all the same they do not pass.
const ENDLESS: &str = "it does not end, or ends the process";

/// The package whose unit tests have both the library's and the simulation.
const FAST: &str = "mongostream-simulation";

/// What came of a breakage: the test that has found it, and after which time. `None` if all tests passed.
struct Verdict {
    found: Option<(String, Duration)>,
    /// The test, where it runs on a real server.
    on_server: Option<String>,
}

/// A copy of the repository, in which things are broken.
struct Copy {
    tree: PathBuf,
    target: PathBuf,
    is_fast: bool,
}

impl Copy {
    fn new(is_fast: bool) -> Result<Self, String> {
        let at = root().join("target/breakages");
        let copy = Self { tree: at.join("tree"), target: at.join("target"), is_fast };
        // What was removed from the repository must not be tested.
        let _ = fs::remove_dir_all(&copy.tree);
        let listed = run(Command::new("git").current_dir(root()).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        for name in String::from_utf8_lossy(&listed.stdout).split('\0') {
            let (from, to) = (root().join(name), copy.tree.join(name));
            if from.is_file() {
                fs::create_dir_all(to.parent().unwrap_or(&copy.tree))
                    .and_then(|()| fs::copy(&from, &to))
                    .map_err(|error| format!("{name}: {error}"))?;
            }
        }
        Ok(copy)
    }

    /// A broken library may wait for ever.
    fn cargo(&self, arguments: &[&str], server: Option<&str>) -> Command {
        let is_short = arguments.contains(&FAST) && !arguments.contains(&"--no-run");
        let limit = if is_short { "60" } else { "600" };
        let mut cargo = Command::new("timeout");
        cargo.args(["--signal=KILL", limit, "cargo", "test", "--profile", "trial"]).args(arguments);
        cargo.current_dir(&self.tree).env("CARGO_TARGET_DIR", &self.target);
        cargo.env("MONGOSTREAM_SIMULATION_RUNS", RUNS);
        if let Some(server) = server {
            cargo.env("MONGOSTREAM_TEST_SERVER", server);
        }
        cargo
    }

    /// The first test that fails, and after which time. The others are not waited for.
    fn failing(
        &self,
        arguments: &[&str],
        server: Option<&str>,
    ) -> Result<Option<(String, Duration)>, String> {
        let began = Instant::now();
        let mut cargo = self.cargo(arguments, server);
        cargo.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut running = cargo.spawn().map_err(|error| format!("{cargo:?}: {error}"))?;
        let output = running.stdout.take().map(BufReader::new);
        for line in output.into_iter().flat_map(BufRead::lines).map_while(Result::ok) {
            let failed =
                line.strip_prefix("test ").and_then(|line| line.strip_suffix(" ... FAILED"));
            if let Some(name) = failed {
                // It ends those whom it has started.
                let number = running.id().to_string();
                run(Command::new("kill").args(["-TERM", &number]))?;
                running.wait().map_err(|error| error.to_string())?;
                return Ok(Some((name.to_owned(), began.elapsed())));
            }
        }
        let ended = running.wait().map_err(|error| error.to_string())?;
        Ok((!ended.success()).then(|| (ENDLESS.to_owned(), began.elapsed())))
    }

    fn build(&self, arguments: &[&str]) -> Result<(), String> {
        let output = run(&mut self.cargo(&[arguments, &["--no-run"]].concat(), None))?;
        if output.status.success() {
            return Ok(());
        }
        Err(format!("it cannot be built:\n{}", String::from_utf8_lossy(&output.stderr)))
    }

    fn try_breakage(&self, breakage: &Breakage) -> Result<Verdict, String> {
        let file = self.tree.join(&breakage.file);
        let sound = fs::read_to_string(&file).map_err(|error| error.to_string())?;
        let write = |text: &str| fs::write(&file, text).map_err(|error| error.to_string());
        write(&breakage.applied_to(&sound)?)?;
        let verdict = self.try_tests(breakage);
        write(&sound)?;
        let verdict = verdict?;
        // A test that fails now and then, or in this copy of the repository, has found nothing.
        if let (Some(test), Some(by)) = (&verdict.on_server, &breakage.by) {
            let (arguments, server) = test_on_server(by);
            self.build(&arguments)?;
            let alone = [&arguments[..], &["--", "--exact", test]].concat();
            if self.failing(&alone, server)?.is_some() {
                return Err(format!("{test} fails without the breakage, too"));
            }
        }
        Ok(verdict)
    }

    fn try_tests(&self, breakage: &Breakage) -> Result<Verdict, String> {
        let fast = ["-p", FAST, "--lib"];
        if breakage.file.starts_with("src/") {
            self.build(&fast)?;
            let simulation = [&fast[..], &["--", "simulation::tests"]].concat();
            if let Some((_, time)) = self.failing(&simulation, None)? {
                return Ok(Verdict {
                    found: Some(("the simulation".to_owned(), time)),
                    on_server: None,
                });
            }
            let units = [&fast[..], &["--", "--skip", "simulation::tests"]].concat();
            if let Some((name, time)) = self.failing(&units, None)? {
                return Ok(Verdict { found: Some((format!("`{name}`"), time)), on_server: None });
            }
        }
        let Some(by) = breakage.by.as_ref().filter(|_| !self.is_fast) else {
            return Ok(Verdict { found: None, on_server: None });
        };
        let (arguments, server) = test_on_server(by);
        self.build(&arguments)?;
        let found = self.failing(&arguments, server)?;
        let on_server = found.as_ref().map(|(name, _)| name.clone()).filter(|name| name != ENDLESS);
        let found = found.map(|(name, time)| (format!("{by}: `{name}`"), time));
        Ok(Verdict { found, on_server })
    }
}

/// What cargo is told for a test that the list names, and the version of its server.
fn test_on_server(by: &str) -> (Vec<&str>, Option<&str>) {
    let (target, server) = by.split_once(" on ").map_or((by, None), |(t, s)| (t, Some(s)));
    match target {
        "capi" => return (vec!["-p", "mongostream-capi", "--lib"], server),
        "cli" => return (vec!["-p", "mongostream-cli", "--bins"], server),
        _ => {}
    }
    let package = match target {
        "c_api" => "mongostream-capi",
        "unified" => "mongostream-unified",
        "pipe_nats" | "pipe_kafka" => "mongostream-cli",
        _ => "mongostream",
    };
    (vec!["-p", package, "--test", target], server)
}

fn run(command: &mut Command) -> Result<Output, String> {
    command.output().map_err(|error| format!("{command:?}: {error}"))
}

/// The page with the table: what was found out about each breakage, the last time that it was tried.
struct Page {
    place: PathBuf,
    rows: BTreeMap<String, String>,
}

impl Page {
    fn read() -> Self {
        let place = root().join("docs/BREAKAGES.md");
        let text = fs::read_to_string(&place).unwrap_or_default();
        let rows = text.lines().filter_map(|line| {
            // After the file and the sentence.
            let (at, _) = line.match_indices(" | ").nth(1)?;
            let (key, rest) = line.split_at(at);
            Some((key.to_owned(), rest.to_owned()))
        });
        Self { rows: rows.collect(), place }
    }

    fn key(breakage: &Breakage) -> String {
        format!("| {} | {}", breakage.file, breakage.what)
    }

    /// What is known of a breakage.
    fn rest(&self, breakage: &Breakage) -> &str {
        self.rows.get(&Self::key(breakage)).map_or(" | not tried |  |", String::as_str)
    }

    fn is_found(&self, breakage: &Breakage) -> bool {
        !self.rest(breakage).contains("not tried") && !self.rest(breakage).contains("**nothing**")
    }

    fn add(&mut self, breakage: &Breakage, verdict: &Verdict) -> String {
        let rest = match &verdict.found {
            Some((name, time)) => format!(" | {name} | {:.1} s |", time.as_secs_f64()),
            None => " | **nothing** |  |".to_owned(),
        };
        let key = Self::key(breakage);
        let row = format!("{key}{rest}");
        self.rows.insert(key, rest);
        row
    }

    fn write(&self, all: &[Breakage]) -> Result<(), String> {
        let count = |is: &dyn Fn(&Breakage) -> bool| all.iter().filter(|one| is(one)).count();
        let found = count(&|one| self.is_found(one));
        let simulated = count(&|one| self.rest(one).starts_with(" | the simulation"));
        let by_units = count(&|one| {
            [" | `", " | capi: `", " | cli: `"].iter().any(|unit| self.rest(one).starts_with(unit))
        });
        let mut text = include_str!("../page.md").to_owned();
        let _ = writeln!(
            text,
            "\n{} breakages, {found} found: {simulated} by the simulation, {by_units} by a unit test, {} on a \
             real server.\n\n| File | What is broken | Found by | After |\n|---|---|---|---|",
            all.len(),
            found - simulated - by_units
        );
        for breakage in all {
            let _ = writeln!(text, "{}{}", Self::key(breakage), self.rest(breakage));
        }
        fs::write(&self.place, text).map_err(|error| error.to_string())
    }
}

/// What is asked for.
#[derive(Default)]
struct Asked {
    only: String,
    missing: bool,
    is_fast: bool,
    writes: bool,
}

fn try_all(asked: &Asked) -> Result<bool, String> {
    let all = list()?;
    let mut page = Page::read();
    let is_asked = |breakage: &&Breakage| {
        (breakage.file.contains(&asked.only) || breakage.what.contains(&asked.only))
            && !(asked.missing && page.is_found(breakage))
    };
    let chosen: Vec<Breakage> = all.iter().filter(is_asked).cloned().collect();
    let copy = Copy::new(asked.is_fast)?;
    eprintln!("building, and running the fast tests as they are");
    copy.build(&["-p", FAST, "--lib"])?;
    let sound = copy.failing(&["-p", FAST, "--lib"], None)?;
    if let Some((name, _)) = sound {
        return Err(format!("{name} fails before anything is broken"));
    }
    let mut lost = 0;
    for (number, breakage) in chosen.iter().enumerate() {
        let verdict = copy
            .try_breakage(breakage)
            .map_err(|error| format!("{} ({}): {error}", breakage.file, breakage.what))?;
        lost += usize::from(verdict.found.is_none());
        println!("{:>3} of {} {}", number + 1, chosen.len(), page.add(breakage, &verdict));
        if asked.writes {
            page.write(&all)?;
        }
    }
    println!("{} breakages, {lost} found by nothing", chosen.len());
    Ok(lost == 0)
}

fn main() -> ExitCode {
    let mut asked = Asked::default();
    let mut given = std::env::args().skip(1);
    while let Some(argument) = given.next() {
        match argument.as_str() {
            "--only" => asked.only = given.next().unwrap_or_default(),
            "--missing" => asked.missing = true,
            "--fast" => asked.is_fast = true,
            "--write" => asked.writes = true,
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::FAILURE;
            }
        }
    }
    match try_all(&asked) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
