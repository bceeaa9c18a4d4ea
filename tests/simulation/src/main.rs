//! Runs the simulation: `mongostream-simulation [--runs N] [--seed N]`.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mongostream_simulation::simulation::{Report, describe, run};

const USAGE: &str = "usage: mongostream-simulation [--runs N] [--seconds N] [--seed N]
  --runs N     so many runs; 100,000 without it
  --seconds N  no longer than this
  --seed N     the first seed; the runs have this one and those after it. With --runs 1 the steps are printed.";

struct Arguments {
    runs: u64,
    limit: Option<Duration>,
    seed: u64,
}

fn arguments() -> Option<Arguments> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut arguments = Arguments { runs: 100_000, limit: None, seed: now.as_nanos() as u64 >> 10 };
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let number: u64 = given.next()?.parse().ok()?;
        match name.as_str() {
            "--runs" => arguments.runs = number,
            "--seconds" => arguments.limit = Some(Duration::from_secs(number)),
            "--seed" => arguments.seed = number,
            _ => return None,
        }
    }
    Some(arguments)
}

/// The fewest disturbances with which a seed still fails in the same way.
fn shrunk(seed: u64, events: u64) -> u64 {
    (0..events).find(|few| run(seed, Some(*few)).finding.is_some()).unwrap_or(events)
}

fn add(total: &mut Report, report: &Report) {
    total.steps += report.steps;
    total.events += report.events;
    total.delivered += report.delivered;
    total.opens += report.opens;
    total.lives += report.lives;
    total.gaps += report.gaps;
}

fn main() -> ExitCode {
    let Some(arguments) = arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let began = Instant::now();
    let last = arguments.seed.wrapping_add(arguments.runs);
    println!("{} runs, seeds {} to {last}", arguments.runs, arguments.seed);
    if arguments.runs == 1 {
        println!("{}", describe(arguments.seed, None));
    }
    let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let (total, found) = (Mutex::new(Report::default()), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Report::default();
                while !stop.load(Ordering::Relaxed) {
                    let number = done.fetch_add(1, Ordering::Relaxed);
                    let is_late = arguments.limit.is_some_and(|limit| began.elapsed() > limit);
                    if number >= arguments.runs || is_late {
                        done.fetch_sub(1, Ordering::Relaxed);
                        break;
                    }
                    if number > 0 && number % 100_000 == 0 {
                        println!("{:>6} s  {number} runs", began.elapsed().as_secs());
                    }
                    let seed = arguments.seed.wrapping_add(number);
                    let report = run(seed, None);
                    add(&mut own, &report);
                    if let Some(finding) = report.finding {
                        stop.store(true, Ordering::Relaxed);
                        if let Ok(mut found) = found.lock() {
                            found.get_or_insert((seed, report.events, finding));
                        }
                    }
                }
                if let Ok(mut total) = total.lock() {
                    add(&mut total, &own);
                }
            });
        }
    });
    if let Ok(total) = total.lock() {
        println!(
            "{} runs in {:.1} s: {} lives, {} cursors, {} disturbances, {} messages, {} losses reported",
            done.load(Ordering::Relaxed),
            began.elapsed().as_secs_f64(),
            total.lives,
            total.opens,
            total.events,
            total.delivered,
            total.gaps
        );
    }
    let found = found.into_inner().unwrap_or_default();
    match found {
        None => {
            println!("nothing is wrong");
            ExitCode::SUCCESS
        }
        Some((seed, events, finding)) => {
            println!("seed {seed}: {finding}");
            let few = shrunk(seed, events);
            println!("with {few} of its {events} disturbances:\n{}", describe(seed, Some(few)));
            ExitCode::FAILURE
        }
    }
}
