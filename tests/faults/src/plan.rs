//! A run: each fault alone, then random sequences of one and two at a time, then lost history.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::scope;
use std::time::{Duration, Instant};

use ground::ReplicaSet;

use crate::fault::{Fault, Field};
use crate::history;
use crate::life::{Consumer, Setting};
use crate::proxy::{CONSUMER, Proxies};
use crate::random::Random;
use crate::referee::{Referee, Window};
use crate::report::now;
use crate::writer::{self, Writer};
use crate::{Context, Result, wait_for};

/// How long an acknowledged write may take to come, once the fault is over.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// How long faults last in a short run, in milliseconds.
const SHORT: Range<u64> = 800..1200;
/// How long they last in a long run: up to more than all time limits of the library.
const LONG: Range<u64> = 300..8000;

/// What is to be done.
pub struct Plan {
    /// This crate's binary, which is also the consumer.
    pub program: PathBuf,
    /// Decides everything that is random.
    pub seed: u64,
    /// For how long; without it each fault happens once and that is all.
    pub time: Option<Duration>,
    /// On sets with passwords and TLS.
    pub secure: bool,
    /// Somebody else's consumer, see [`adapter`](crate::adapter).
    pub command: Option<String>,
}

/// A set with passwords and TLS, if that is wanted.
pub(crate) fn set(secure: bool) -> ground::Builder {
    let set = ReplicaSet::builder();
    if secure { set.auth("faults", "a secret").tls() } else { set }
}

/// A line of the table.
#[derive(Debug, Default)]
pub struct Row {
    /// What happened.
    pub name: String,
    /// How often it happened alone and together with others.
    pub fired: (usize, usize),
    /// What the referee saw while it happened alone.
    pub window: Window,
}

/// What came of a run.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was watched on which servers.
    pub server: String,
    /// The seed.
    pub seed: u64,
    /// How long it took.
    pub took: Duration,
    /// One for each fault, and one for the random sequences.
    pub rows: Vec<Row>,
    /// What the library, or a fault that did not happen, got wrong.
    pub violations: Vec<String>,
}

/// A directory that is removed in the end.
pub(crate) struct Directory(pub(crate) PathBuf);

impl Directory {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("mongostream-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Does it, and tells of each step.
///
/// # Errors
///
/// If the servers, the consumer or the writer cannot be started.
pub fn run(plan: &Plan, tell: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let began = Instant::now();
    let directory = Directory::new("faults")?;
    let mut random = Random::new(plan.seed);
    let proxies = Proxies::start(3, plan.secure)?;
    // With 1 s the members that are left depose each other while one is frozen, and take no writes.
    let builder = || set(plan.secure).members(3).election_timeout_ms(2500);
    let builder = || builder().advertise(proxies.names());
    let builder = || if plan.secure { builder().horizon(proxies.horizon()) } else { builder() };
    // Else a member that follows a frozen one looks for another only after 5 s, and no majority forms.
    let quickly = builder().args(["--setParameter", "oplogNetworkTimeoutBufferSeconds=1"]).start();
    // Servers before 4.4 do not know it.
    let set = quickly.or_else(|_| builder().start())?;
    let (major, minor, patch) = set.version();
    let how = if plan.secure { ", passwords and TLS" } else { "" };
    let server = format!("MongoDB {major}.{minor}.{patch}, three members{how}");
    let server = match &plan.command {
        Some(command) => format!("{server}; consumer: {command}"),
        None => server,
    };
    tell(&format!("{server}; seed {}", plan.seed));

    let referee = Arc::new(Mutex::new(Referee::default()));
    let setting = Setting {
        program: plan.program.clone(),
        uri: proxies.consumers(&set.uri_with(&format!("appName={CONSUMER}"))),
        directory: directory.0.clone(),
        seed: random.below(u64::MAX),
        command: plan.command.clone(),
        options: Vec::new(),
    };
    let consumer = Consumer::new(setting, &referee);
    consumer.start()?;
    let writer = Writer::start(&writer::uri(&set), random.below(u64::MAX), &referee)?;
    let field = Field { set, proxies, writer, consumer, referee };
    let sees_inside = plan.command.is_none();
    let mut game =
        Game { field, random, rows: Vec::new(), violations: Vec::new(), began, sees_inside };

    let lasting = if plan.time.is_some() { LONG } else { SHORT };
    for fault in Fault::ALL {
        // What is lost stays lost, and every further step would wait for it.
        if !game.violations.is_empty() {
            break;
        }
        if !game.can((major, minor, patch), fault) {
            tell(&format!("{}: not with this server or consumer", fault.name()));
            game.rows.push((fault.name().to_owned(), (0, 0), Vec::new()));
            continue;
        }
        let window = game.step(&[fault], lasting.clone(), tell);
        game.rows.push((fault.name().to_owned(), (1, 0), vec![window]));
    }
    let mut windows = Vec::new();
    while plan.time.is_some_and(|time| began.elapsed() < time) && game.violations.is_empty() {
        let faults = game.some_faults((major, minor, patch));
        windows.push(game.step(&faults, lasting.clone(), tell));
        for fault in &faults {
            if let Some(at) = Fault::ALL.iter().position(|one| one == fault) {
                game.rows[at].1.1 += 1;
            }
        }
    }
    if plan.time.is_some() {
        game.rows.push(("random sequences".to_owned(), (0, windows.len()), windows));
    }
    let mut outcome = game.end();
    for (name, scenario) in history::SCENARIOS {
        tell(&format!("{:>5.1} s  {name}", began.elapsed().as_secs_f64()));
        match scenario(plan).context(name) {
            Ok(window) => outcome.rows.push(Row { name: name.to_owned(), fired: (1, 0), window }),
            Err(error) => outcome.violations.push(error.to_string()),
        }
    }
    (outcome.server, outcome.seed, outcome.took) = (server, plan.seed, began.elapsed());
    Ok(outcome)
}

/// A run that goes on.
struct Game {
    field: Field,
    random: Random,
    /// Name, how often alone and with others, windows.
    rows: Vec<(String, (usize, usize), Vec<usize>)>,
    violations: Vec<String>,
    began: Instant,
    /// The consumer tells how full its buffer is, and of its saves.
    sees_inside: bool,
}

impl Game {
    /// Whether a fault can happen here, and be seen to have happened.
    fn can(&self, version: (u32, u32, u32), fault: Fault) -> bool {
        fault.is_for(version) && (self.sees_inside || !fault.is_seen_inside())
    }

    /// One fault, or two that go together.
    fn some_faults(&mut self, version: (u32, u32, u32)) -> Vec<Fault> {
        let possible: Vec<Fault> =
            Fault::ALL.into_iter().filter(|fault| self.can(version, *fault)).collect();
        let first = self.random.one_of(&possible);
        let others: Vec<Fault> =
            possible.into_iter().filter(|other| other.goes_with(first)).collect();
        match self.random.below(4) {
            0 => vec![first],
            _ => vec![first, self.random.one_of(&others)],
        }
    }

    /// Inflicts faults while the writer writes, and waits until everything has come; returns the window.
    fn step(&mut self, faults: &[Fault], lasting: Range<u64>, tell: &mut dyn FnMut(&str)) -> usize {
        let names: Vec<&str> = faults.iter().map(|fault| fault.name()).collect();
        let names = names.join(" + ");
        let field = &self.field;
        let window = field.referee().open_window();
        let randoms: Vec<Random> =
            faults.iter().map(|_| Random::new(self.random.below(u64::MAX))).collect();
        let happened = field.writer.wait_for_more(20).and_then(|()| {
            let shown: Vec<Result<String>> = scope(|scope| {
                let threads: Vec<_> = faults
                    .iter()
                    .zip(randoms)
                    .map(|(fault, mut random)| {
                        let lasting = lasting.clone();
                        scope.spawn(move || {
                            if faults.len() > 1 {
                                std::thread::sleep(random.milliseconds(0..1000));
                            }
                            fault.inflict(field, &mut random, lasting).context(fault.name())
                        })
                    })
                    .collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))
                };
                threads.into_iter().map(join).collect()
            });
            let shown = shown.into_iter().collect::<Result<Vec<String>>>()?;
            field.writer.wait_for_more(20)?;
            Ok(shown.join(" + "))
        });
        let settled = self.settle();
        let before = self.began.elapsed().as_secs_f64();
        let shown = match happened.and_then(|shown| settled.map(|()| shown)) {
            Ok(shown) => shown,
            Err(error) => {
                self.violations.push(error.to_string());
                format!("WRONG: {error}")
            }
        };
        tell(&format!("{before:>5.1} s  {names}: {shown}"));
        window
    }

    /// Waits until everything that is acknowledged by now has come.
    fn settle(&self) -> Result<()> {
        let until = now();
        let left = || self.field.referee().missing(until).len();
        let failed = || !self.field.referee().violations().is_empty();
        wait_for(PATIENCE, "everything has come", || (left() == 0 || failed()).then_some(()))
            .map_err(|error| format!("{error}, but for {}", left()))?;
        // What the streams did meanwhile stands in figures that are told later.
        let told = now();
        let measured = || (self.field.referee().measured_at() > told).then_some(());
        wait_for(PATIENCE, "the consumer's figures", measured)?;
        match self.field.referee().violations().first() {
            Some(violation) => Err(violation.clone().into()),
            None => Ok(()),
        }
    }

    /// Ends the writing, and counts.
    fn end(mut self) -> Outcome {
        self.field.writer.stop();
        if self.violations.is_empty()
            && let Err(error) = self.settle()
        {
            self.violations.push(error.to_string());
        }
        let mut referee = self.field.referee();
        referee.finish();
        let mut violations = self.violations;
        violations.extend(referee.violations());
        violations.dedup();
        let rows = self.rows.into_iter().map(|(name, fired, windows)| {
            let mut sum = Window::default();
            windows.into_iter().for_each(|window| sum.add(referee.window(window)));
            Row { name, fired, window: sum }
        });
        let rows = rows.collect();
        drop(referee);
        Outcome { rows, violations, ..Outcome::default() }
    }
}

/// The consumer's setting for a scenario of its own.
pub(crate) fn setting(plan: &Plan, uri: &str, directory: &Directory) -> Setting {
    Setting {
        program: plan.program.clone(),
        uri: uri.to_owned(),
        directory: directory.0.clone(),
        seed: plan.seed,
        command: plan.command.clone(),
        options: Vec::new(),
    }
}
