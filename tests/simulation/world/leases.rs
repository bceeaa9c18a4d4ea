//! Processes that share a lease, with clocks that run too fast or too slow, pauses, lost requests and elections.
//!
//! The lease of each process is the library's own. The document on the server is a model, with the conditions that
//! the library's requests have. At no time may two processes hand over.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;

use crate::checkpoint::lease::{Lease, Lost};

/// Milliseconds of true time.
type Time = u64;

const LEASE: u64 = 3000;
/// Disturbances happen until then.
const CALM: Time = 60_000;
/// By then somebody holds the lease again.
const END: Time = CALM + 5 * LEASE;

/// A clock that is off by up to a tenth of the time that passes.
struct Clock {
    offset: u64,
    /// Thousandths.
    rate: u64,
}

impl Clock {
    fn new(rng: &mut Rng) -> Self {
        Self { offset: rng.u64(100_000..200_000), rate: rng.u64(900..=1100) }
    }

    fn at(&self, time: Time) -> Duration {
        Duration::from_micros(self.offset * 1000 + time * self.rate)
    }

    /// The first true time at which it shows this one.
    fn when(&self, shown: Duration) -> Time {
        let micros = (shown.as_micros() as u64).saturating_sub(self.offset * 1000);
        micros.div_ceil(self.rate)
    }
}

struct Process {
    clock: Clock,
    paused_until: Time,
    owner: u64,
    term: Option<u64>,
    lease: Lease,
}

/// What the server keeps.
#[derive(Default)]
struct Document {
    owner: Option<u64>,
    term: u64,
    /// By the server's clock.
    expires: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ask {
    Take,
    Renew,
    Release,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Request {
    process: usize,
    owner: u64,
    term: u64,
    ask: Ask,
    /// By the clock of the process.
    sent: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A process looks what is to do.
    Turn(usize),
    Arrives(Request),
    /// With the term if it was granted.
    Answered(Request, Option<u64>),
    Election,
    Disturbance,
}

struct World {
    rng: Rng,
    now: Time,
    server: Clock,
    /// How far the server's clock is off since the last election, in milliseconds: two clocks differ by up to a tenth
    /// of the lease.
    skew: u64,
    document: Document,
    processes: Vec<Process>,
    owners: u64,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    count: u64,
    handed_over: u64,
}

/// What is wrong in the run of this seed, if anything is.
pub(super) fn run(seed: u64) -> Option<String> {
    let mut rng = Rng::with_seed(seed ^ 0x6c65_6173);
    let server = Clock::new(&mut rng);
    let mut world = World {
        now: 0,
        server,
        skew: 0,
        document: Document::default(),
        processes: Vec::new(),
        owners: 0,
        events: BinaryHeap::new(),
        count: 0,
        handed_over: 0,
        rng,
    };
    for process in 0..world.rng.usize(2..=3) {
        let clock = Clock::new(&mut world.rng);
        let (owner, lease) = (world.owner(), Lease::new(Duration::from_millis(LEASE)));
        world.processes.push(Process { clock, paused_until: 0, owner, term: None, lease });
        world.after(0, Event::Turn(process));
    }
    world.after(500, Event::Disturbance);
    world.after(2000, Event::Election);
    let finding = world.run();
    finding.map(|finding| format!("leases: {finding}"))
}

impl World {
    fn owner(&mut self) -> u64 {
        self.owners += 1;
        self.owners
    }

    fn after(&mut self, time: Time, event: Event) {
        self.count += 1;
        self.events.push(Reverse((self.now + time, self.count, event)));
    }

    fn server_time(&self) -> Duration {
        self.server.at(self.now) + Duration::from_millis(self.skew)
    }

    fn is_calm(&self) -> bool {
        self.now >= CALM
    }

    fn run(&mut self) -> Option<String> {
        while let Some(Reverse((time, _, event))) = self.events.pop() {
            if time > END {
                break;
            }
            self.now = time;
            match event {
                Event::Turn(process) => self.turn(process),
                Event::Arrives(request) => self.arrives(request),
                Event::Answered(request, granted) => self.answered(request, granted),
                Event::Election => self.election(),
                Event::Disturbance => self.disturbance(),
            }
            let handing_over = self.handing_over();
            if handing_over.len() > 1 {
                return Some(format!("{handing_over:?} hand over at {} ms", self.now));
            }
            self.handed_over += handing_over.len() as u64;
        }
        (self.handing_over().is_empty()).then(|| "nobody holds the lease in the end".to_owned())
    }

    fn handing_over(&self) -> Vec<usize> {
        let hands_over = |process: &Process| process.lease.hands_over(process.clock.at(self.now));
        let all = self.processes.iter().enumerate();
        all.filter(|(_, process)| hands_over(process)).map(|(index, _)| index).collect()
    }

    fn turn(&mut self, index: usize) {
        let process = &self.processes[index];
        if process.paused_until > self.now {
            let rest = process.paused_until - self.now;
            return self.after(rest, Event::Turn(index));
        }
        if process.lease.lost().is_some() {
            // It has ended; somebody starts it again.
            let owner = self.owner();
            let process = &mut self.processes[index];
            process.lease = Lease::new(Duration::from_millis(LEASE));
            (process.owner, process.term) = (owner, None);
        }
        let process = &self.processes[index];
        let shown = process.clock.at(self.now);
        match process.term {
            None => {
                self.ask(index, Ask::Take);
                let pause = self.rng.u64(200..300);
                self.after(pause, Event::Turn(index));
            }
            Some(_) if !self.is_calm() && self.rng.u8(..) < 2 => {
                // An orderly end.
                self.ask(index, Ask::Release);
                self.processes[index].lease.ends(Lost::Released);
                self.after(100, Event::Turn(index));
            }
            Some(_) => {
                let due = process.lease.renews_at();
                if due <= shown {
                    self.ask(index, Ask::Renew);
                    self.after(LEASE / 30, Event::Turn(index));
                } else {
                    let wait = process.clock.when(due).saturating_sub(self.now).max(1);
                    self.after(wait, Event::Turn(index));
                }
            }
        }
    }

    fn ask(&mut self, index: usize, ask: Ask) {
        let process = &self.processes[index];
        let request = Request {
            process: index,
            owner: process.owner,
            term: process.term.unwrap_or_default(),
            ask,
            sent: process.clock.at(self.now),
        };
        if self.is_lost() {
            return;
        }
        let way = self.way();
        self.after(way, Event::Arrives(request));
    }

    fn is_lost(&mut self) -> bool {
        !self.is_calm() && self.rng.u8(..) < 40
    }

    /// How long a request or an answer takes: mostly little, seldom very long.
    fn way(&mut self) -> Time {
        if !self.is_calm() && self.rng.u8(..) < 10 {
            self.rng.u64(0..2 * LEASE)
        } else {
            self.rng.u64(0..30)
        }
    }

    /// What the server does. A request that was granted is on most members.
    fn arrives(&mut self, request: Request) {
        let now = self.server_time();
        let length = Duration::from_millis(LEASE);
        let document = &mut self.document;
        let is_ours = document.owner == Some(request.owner) && document.term == request.term;
        let granted = match request.ask {
            Ask::Take if document.expires <= now || document.owner == Some(request.owner) => {
                document.owner = Some(request.owner);
                document.term += 1;
                document.expires = now + length;
                Some(document.term)
            }
            Ask::Renew if is_ours => {
                document.expires = now + length;
                Some(document.term)
            }
            Ask::Release if is_ours => {
                (document.owner, document.expires) = (None, now);
                None
            }
            _ => None,
        };
        if !self.is_lost() {
            let way = self.way();
            self.after(way, Event::Answered(request, granted));
        }
    }

    fn answered(&mut self, request: Request, granted: Option<u64>) {
        let process = &mut self.processes[request.process];
        if process.paused_until > self.now {
            let rest = process.paused_until - self.now;
            return self.after(rest, Event::Answered(request, granted));
        }
        // An answer to an earlier life, or to a request that was given up.
        if process.owner != request.owner {
            return;
        }
        match (request.ask, granted) {
            (Ask::Take, Some(term)) if process.term.is_none_or(|own| own < term) => {
                process.term = Some(term);
                process.lease.held(request.sent);
            }
            (Ask::Renew, Some(term)) if process.term == Some(term) => {
                process.lease.held(request.sent);
            }
            (Ask::Renew, None) if process.term == Some(request.term) => {
                process.lease.ends(Lost::Fenced("another one".to_owned()));
            }
            _ => {}
        }
    }

    /// Another member, with a clock of its own.
    fn election(&mut self) {
        if !self.is_calm() {
            self.skew = self.rng.u64(0..=LEASE / 10);
            let next = self.rng.u64(1000..20_000);
            self.after(next, Event::Election);
        }
    }

    /// A process is paused, for up to three leases.
    fn disturbance(&mut self) {
        if !self.is_calm() {
            let index = self.rng.usize(..self.processes.len());
            let pause = self.rng.u64(0..3 * LEASE);
            self.processes[index].paused_until = self.now + pause;
            let next = self.rng.u64(500..10_000);
            self.after(next, Event::Disturbance);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_hand_over_at_once() {
        for seed in 0..500 {
            assert_eq!(run(seed), None, "seed {seed}");
        }
    }
}
