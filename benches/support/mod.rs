//! What several benchmarks need: their arguments, figures of processes, programs in other languages.

// Each benchmark has a copy of this module and uses a part of it.
#![allow(dead_code)]

pub(crate) mod documents;
pub(crate) mod history;
pub(crate) mod programs;

use std::str::FromStr;
use std::time::Duration;

use ground::ReplicaSet;

/// What stands on the command line.
pub(crate) struct Arguments(Vec<String>);

impl Arguments {
    /// `None` if this is no benchmark run: `cargo test --all-targets` starts benchmarks too.
    pub(crate) fn of_bench() -> Option<Self> {
        let all: Vec<String> = std::env::args().skip(1).collect();
        all.iter().any(|argument| argument == "--bench").then_some(Self(all))
    }

    pub(crate) fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|argument| argument == flag)
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|argument| argument == name)?;
        let value = self.0.get(at + 1).unwrap_or_else(|| panic!("{name} has no value"));
        Some(value)
    }

    pub(crate) fn number<T: FromStr>(&self, name: &str, otherwise: T) -> T {
        let parse = |text: &str| {
            text.parse().unwrap_or_else(|_| panic!("{name} {text}: this is no number for it"))
        };
        self.text(name).map_or(otherwise, parse)
    }
}

/// User and system time of a process (proc(5), `/proc/pid/stat`), in steps of 10 ms.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name before it may hold anything but this.
    let (_, fields) = stat.rsplit_once(')').expect("the name of the process");
    let ticks = fields.split_whitespace().skip(11).take(2).map(|n| n.parse::<u32>().unwrap());
    TICK * ticks.sum::<u32>()
}

/// User and system time of the set's only server.
pub(crate) fn server_cpu(set: &ReplicaSet) -> Duration {
    cpu_time(set.member(0).pid())
}

/// User and system time of this process, in microseconds.
pub(crate) fn own_cpu() -> Duration {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    let of = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec() as u64, time.tv_usec() as u32 * 1000)
    };
    of(usage.user_time()) + of(usage.system_time())
}

/// The most memory of a process that was resident, in bytes. Not `ru_maxrss`: a child begins that with
/// its parent's.
pub(crate) fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The figure below which this part of them lies; 0.5 is the median.
pub(crate) fn quantile(figures: impl IntoIterator<Item = f64>, part: f64) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    let last = figures.len() - 1;
    let at = part * last as f64;
    let (below, above) = (figures[at.floor() as usize], figures[at.ceil() as usize]);
    below + (above - below) * at.fract()
}

pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    quantile(figures, 0.5)
}
