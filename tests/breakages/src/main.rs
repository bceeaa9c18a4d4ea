//! Breaks the library in each way of the list, and shows which test finds it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
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

/// The package whose unit tests have both the library's and the simulation.
const FAST: &str = "mongostream-simulation";

/// What came of a breakage: the test that has found it, and after which time. `None` if all tests passed.
struct Verdict {
    found: Option<(String, Duration)>,
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
        let listed = run(Command::new("git").current_dir(root()).args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        for name in String::from_utf8_lossy(&listed.stdout).split('\0') {
            let (from, to) = (root().join(name), copy.tree.join(name));
            if !from.is_file() {
                continue;
            }
            copy.write(&to, &fs::read(&from).map_err(|error| error.to_string())?)?;
        }
        Ok(copy)
    }

    /// Leaves a file that is right as it is: it need not be built again.
    fn write(&self, to: &Path, bytes: &[u8]) -> Result<(), String> {
        if fs::read(to).is_ok_and(|present| present == bytes) {
            return Ok(());
        }
        let folder = to.parent().unwrap_or(&self.tree);
        fs::create_dir_all(folder)
            .and_then(|()| fs::write(to, bytes))
            .map_err(|error| format!("{}: {error}", to.display()))
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
        let name = || "it does not end, or ends the process".to_owned();
        Ok((!ended.success()).then(|| (name(), began.elapsed())))
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
        self.write(&file, breakage.applied_to(&sound)?.as_bytes())?;
        let verdict = self.try_tests(breakage);
        self.write(&file, sound.as_bytes())?;
        verdict
    }

    fn try_tests(&self, breakage: &Breakage) -> Result<Verdict, String> {
        let fast = ["-p", FAST, "--lib"];
        let is_of_library = breakage.file.starts_with("src/");
        if is_of_library {
            self.build(&fast)?;
            let simulation = [&fast[..], &["--", "simulation::tests"]].concat();
            if let Some((_, time)) = self.failing(&simulation, None)? {
                let found = Some(("the simulation".to_owned(), time));
                return Ok(Verdict { found });
            }
            let units = [&fast[..], &["--", "--skip", "simulation::tests"]].concat();
            if let Some((name, time)) = self.failing(&units, None)? {
                return Ok(Verdict { found: Some((format!("`{name}`"), time)) });
            }
        }
        let Some(by) = breakage.by.as_ref().filter(|_| !self.is_fast) else {
            return Ok(Verdict { found: None });
        };
        let (target, server) =
            by.split_once(" on ").map_or((by.as_str(), None), |(t, s)| (t, Some(s)));
        let package = match target {
            "c_api" => "mongostream-capi",
            "unified" => "mongostream-unified",
            _ => "mongostream",
        };
        let arguments = ["-p", package, "--test", target];
        self.build(&arguments)?;
        let found = self.failing(&arguments, server)?;
        let found = found.map(|(name, time)| (format!("{by}: `{name}`"), time));
        Ok(Verdict { found })
    }
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
        let by_units = count(&|one| self.rest(one).starts_with(" | `"));
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
