//! A run: each trouble alone, then random ones, one or two at a time.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::broker::Broker;
use super::history::History;
use super::judge::Judge;
use super::pair::{LEASE, Pair};
use super::trouble::{Place, Trouble};
use crate::consumer::DATABASE;
use crate::plan::{PATIENCE, set};
use crate::random::Random;
use crate::referee::Referee;
use crate::report::Key;
use crate::writer::{self, Writer};
use crate::{Context, Result, wait_for};

/// Beyond what the pipes watch.
const CHECKPOINTS: &str = "checkpoints.pipes";

/// What is to be done.
pub struct Plan {
    /// The program `mongostream`.
    pub program: PathBuf,
    /// `nats` or `kafka`.
    pub to: String,
    /// Decides everything that is random.
    pub seed: u64,
    /// For how long; without it each trouble happens once and that is all.
    pub time: Option<Duration>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What was watched, and where to.
    pub server: String,
    /// The seed.
    pub seed: u64,
    /// How long it took.
    pub took: Duration,
    /// How often each trouble happened: alone, and with another.
    pub fired: Vec<(&'static str, usize, usize)>,
    /// Acknowledged writes, and those that the broker does not hold.
    pub writes: (usize, usize),
    /// Messages in the broker, repeats among them, how many there might be, saves of the checkpoint.
    pub counts: [usize; 4],
    /// How often the lease was taken.
    pub takings: usize,
    /// What is wrong.
    pub violations: Vec<String>,
}

/// Does it, and tells of each step.
///
/// # Errors
///
/// If servers, pipes or the writer cannot be started.
pub fn run(plan: &Plan, tell: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let began = Instant::now();
    let mut random = Random::new(plan.seed);
    let broker = Broker::start(&plan.to)?;
    let replicas = set(false).members(3).election_timeout_ms(2500).start()?;
    let (major, minor, patch) = replicas.version();
    let server = format!("MongoDB {major}.{minor}.{patch}, three members; {}", broker.name());
    tell(&format!("{server}; seed {}", plan.seed));
    let judge = Arc::new(Mutex::new(Judge::new(broker.removes_duplicates())));
    let history = History::follow(replicas.uri(), CHECKPOINTS, &judge)?;
    let mut arguments: Vec<String> = ["pipe", replicas.uri(), DATABASE].map(str::to_owned).into();
    arguments.extend(broker.arguments());
    let lease = LEASE.as_millis().to_string();
    let further = ["--checkpoint_collection", CHECKPOINTS, "--checkpoint_ms", "200", "--standby"];
    arguments.extend(further.map(str::to_owned));
    arguments.extend(["--lease_ms".to_owned(), lease]);
    // What the judge reads.
    arguments.extend(["--format", "event", "--json", "canonical"].map(str::to_owned));
    let pair = Pair::start(plan.program.clone(), arguments, &judge)?;
    let reader = broker.read(&judge);
    let referee = Arc::<Mutex<Referee>>::default();
    // The first pipe begins now; what is written before it streams is no change for it.
    wait_for(PATIENCE, "the first place is saved", || {
        judge.lock().expect("no panic").state()?.token.clone()
    })?;
    let mut writer = Writer::start(&writer::uri(&replicas), random.below(u64::MAX), &referee)?;

    let place = Place { set: &replicas, broker: &broker, pair: &pair, judge: &judge };
    let mut outcome = Outcome { server, seed: plan.seed, ..Outcome::default() };
    outcome.fired = Trouble::ALL.map(|trouble| (trouble.name(), 0, 0)).into();
    let missing = || {
        let writes = referee.lock().expect("no panic").writes();
        let judge = judge.lock().expect("no panic");
        writes.into_iter().filter(|key| !judge.holds(*key)).collect::<HashSet<Key>>()
    };
    let mut steps = Trouble::ALL.map(|trouble| vec![trouble]).to_vec().into_iter();
    loop {
        let troubles = match steps.next() {
            Some(troubles) => troubles,
            None if plan.time.is_some_and(|time| began.elapsed() < time) => some(&mut random),
            None => break,
        };
        let names: Vec<_> = troubles.iter().map(|trouble| trouble.name()).collect();
        let randoms: Vec<_> =
            troubles.iter().map(|_| Random::new(random.below(u64::MAX))).collect();
        let happened = writer.wait_for_more(50).and_then(|()| {
            let shown = std::thread::scope(|scope| {
                let threads: Vec<_> = troubles
                    .iter()
                    .zip(randoms)
                    .map(|(trouble, mut random)| {
                        let place = &place;
                        scope.spawn(move || {
                            trouble.inflict(place, &mut random).context(trouble.name())
                        })
                    })
                    .collect();
                let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
                    thread.join().unwrap_or_else(|_| Err("a thread panicked".into()))
                };
                threads.into_iter().map(join).collect::<Result<Vec<String>>>()
            })?;
            writer.wait_for_more(50)?;
            Ok(shown.join(" + "))
        });
        // One that has ended by itself is started again, as a supervisor would.
        let by_itself = pair.start_missing()?;
        let settled = {
            let until = missing();
            wait_for(PATIENCE, "what was written is in the broker", || {
                until.is_disjoint(&missing()).then_some(())
            })
            .map_err(|error| {
                format!("{error}, but for {}", until.intersection(&missing()).count()).into()
            })
        };
        for trouble in &troubles {
            let at = Trouble::ALL.iter().position(|one| one == trouble).unwrap_or(0);
            let (_, alone, others) = &mut outcome.fired[at];
            *(if troubles.len() == 1 { alone } else { others }) += 1;
        }
        let at = began.elapsed().as_secs_f64();
        let shown = match happened.and_then(|shown| settled.map(|()| shown)) {
            Ok(shown) => shown,
            Err(error) => {
                outcome.violations.push(error.to_string());
                format!("WRONG: {error}")
            }
        };
        let restarted =
            if by_itself > 0 { format!("; {by_itself} started again") } else { String::new() };
        tell(&format!("{at:>5.1} s  {}: {shown}{restarted}", names.join(" + ")));
        let told = pair.told();
        let wrong = judge.lock().expect("no panic").violations();
        if !wrong.is_empty() || !outcome.violations.is_empty() {
            told.iter().for_each(|line| tell(&format!("         {line}")));
            break;
        }
    }
    writer.stop();
    let all =
        wait_for(PATIENCE, "everything is in the broker", || missing().is_empty().then_some(()));
    drop(reader);
    drop(pair);
    drop(history);
    let judge = judge.lock().expect("no panic");
    let writes = referee.lock().expect("no panic").writes();
    let lost = writes.iter().filter(|key| !judge.holds(**key)).count();
    outcome.writes = (writes.len(), lost);
    if all.is_err() {
        outcome.violations.push(format!("{} writes are lost", outcome.writes.1));
    }
    outcome.violations.extend(judge.violations());
    outcome.counts = judge.counts();
    outcome.takings = judge.takings();
    outcome.took = began.elapsed();
    Ok(outcome)
}

/// One trouble, or two that go together.
fn some(random: &mut Random) -> Vec<Trouble> {
    let first = random.one_of(&Trouble::ALL);
    let others: Vec<_> = Trouble::ALL.into_iter().filter(|other| other.goes_with(first)).collect();
    match random.below(4) {
        0 => vec![first],
        // Elections go with everything, and are what happens while everything else fails.
        1 if first.goes_with(Trouble::Election) => vec![first, Trouble::Election],
        _ => vec![first, random.one_of(&others)],
    }
}

impl Outcome {
    /// For people, in the notation of Markdown tables.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = "| fault | alone | with another |\n|---|--:|--:|\n".to_owned();
        for (name, alone, others) in &self.fired {
            text.push_str(&format!("| {name} | {alone} | {others} |\n"));
        }
        let [messages, repeats, bound, saves] = self.counts;
        let (writes, lost) = self.writes;
        for violation in self.violations.iter().take(20) {
            text.push_str(&format!("WRONG: {violation}\n"));
        }
        text + &format!(
            "{}; seed {}; {:.0} s: {writes} writes, {lost} lost; {messages} messages, {repeats} repeats of at most \
             {bound}; {} takeovers, {saves} saves: {}\n",
            self.server,
            self.seed,
            self.took.as_secs_f64(),
            self.takings.saturating_sub(1),
            if self.violations.is_empty() { "nothing is wrong" } else { "FAILED" }
        )
    }

    /// For scripts.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let [messages, repeats, bound, saves] = self.counts;
        let fired: Vec<_> = (self.fired.iter())
            .map(|(name, alone, others)| json!({ "fault": name, "alone": alone, "with_another": others }))
            .collect();
        json!({
            "server": self.server, "seed": self.seed, "seconds": self.took.as_secs_f64(),
            "faults": fired, "writes": self.writes.0, "lost": self.writes.1, "messages": messages,
            "repeats": repeats, "repeats_bound": bound, "takeovers": self.takings.saturating_sub(1),
            "saves": saves, "violations": self.violations,
        })
    }
}
