//! The faults: how each is inflicted, ends, and proves that it happened.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use ground::mongodb::bson::{Document, doc};
use ground::{FailPoint, Member, ReplicaSet};

use crate::consumer::{CAPACITY, COLLECTION, DATABASE, WITH_FILES, checkpoint_file};
use crate::life::Consumer;
use crate::proxy::{CONSUMER, Proxies, Trouble, Way, Whose};
use crate::random::Random;
use crate::referee::Referee;
use crate::writer::{EVENT, Writer, command};
use crate::{Context, Result, wait_for};

/// How long a fault may take to show that it happened.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long an election may take before it is helped.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where faults happen.
pub struct Field {
    /// The servers.
    pub set: ReplicaSet,
    /// The proxies before them.
    pub proxies: Proxies,
    /// Who writes.
    pub writer: Writer,
    /// Who consumes.
    pub consumer: Consumer,
    /// Who compares.
    pub referee: Arc<Mutex<Referee>>,
}

impl Field {
    /// The referee, for a moment.
    ///
    /// # Panics
    ///
    /// If a thread that had it has panicked.
    pub fn referee(&self) -> MutexGuard<'_, Referee> {
        self.referee.lock().expect("no panic")
    }
}

/// What a fault acts on. Two faults on the same thing would undo each other's proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ground {
    Servers,
    Network,
    Commands,
    Consumer,
    Collections,
}

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The primary is killed (-9) and started again later.
    KillPrimary,
    /// The primary steps down.
    StepDown,
    /// The primary is frozen (SIGSTOP) for longer than the election timeout.
    FreezePrimary,
    /// All members are killed (-9) and started again.
    AllDown,
    /// All connections of the consumer are reset, new ones too for a while.
    Cut,
    /// All connections are reset, those between the members too.
    CutEverybody,
    /// Nothing passes between the consumer and the servers, both ways.
    Stall,
    /// Nothing passes from the consumer to the servers.
    StallUp,
    /// Nothing passes from the servers to the consumer.
    StallDown,
    /// The consumer's connections carry few bytes a second.
    Slow,
    /// The servers see the end of the consumer's connections, which stay open the other way.
    HalfCloseUp,
    /// The consumer sees the end of its connections, which stay open the other way.
    HalfCloseDown,
    /// The consumer's connections are reset in the middle of replies with events.
    CutReply,
    /// getMore fails with a resumable code.
    GetMoreFails,
    /// getMore breaks its connection.
    GetMoreBreaks,
    /// Opening the stream again fails, after its connections were cut.
    AggregateFails,
    /// getMore breaks its connection, and so does opening the stream again.
    BreakTwice,
    /// getMore is answered late.
    GetMoreBlocks,
    /// The consumer process is killed (-9) and started again.
    KillConsumer,
    /// The consumer process is frozen (SIGSTOP).
    FreezeConsumer,
    /// The consumer does not receive until the buffer is full.
    FullBuffer,
    /// There is no room for the checkpoint files (ENOSPC).
    DiskFull,
    /// The watched collection is dropped; the writer makes it again.
    Drop,
    /// The watched collection is renamed; the writer makes it again.
    Rename,
    /// The watched database is dropped; the writer makes it again.
    DropDatabase,
}

impl Fault {
    /// All faults.
    pub const ALL: [Fault; 25] = [
        Fault::KillPrimary,
        Fault::StepDown,
        Fault::FreezePrimary,
        Fault::AllDown,
        Fault::Cut,
        Fault::CutEverybody,
        Fault::Stall,
        Fault::StallUp,
        Fault::StallDown,
        Fault::Slow,
        Fault::HalfCloseUp,
        Fault::HalfCloseDown,
        Fault::CutReply,
        Fault::GetMoreFails,
        Fault::GetMoreBreaks,
        Fault::AggregateFails,
        Fault::BreakTwice,
        Fault::GetMoreBlocks,
        Fault::KillConsumer,
        Fault::FreezeConsumer,
        Fault::FullBuffer,
        Fault::DiskFull,
        Fault::Drop,
        Fault::Rename,
        Fault::DropDatabase,
    ];

    /// What it is called in the table.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fault::KillPrimary => "primary: kill -9",
            Fault::StepDown => "primary: step down",
            Fault::FreezePrimary => "primary: SIGSTOP",
            Fault::AllDown => "all members: kill -9",
            Fault::Cut => "network: cut",
            Fault::CutEverybody => "network: cut, members too",
            Fault::Stall => "network: stall",
            Fault::StallUp => "network: stall of requests",
            Fault::StallDown => "network: stall of replies",
            Fault::Slow => "network: slow",
            Fault::HalfCloseUp => "network: half-close of requests",
            Fault::HalfCloseDown => "network: half-close of replies",
            Fault::CutReply => "network: cut in mid-reply",
            Fault::GetMoreFails => "getMore: error code",
            Fault::GetMoreBreaks => "getMore: connection closed",
            Fault::AggregateFails => "aggregate: error code",
            Fault::BreakTwice => "getMore, aggregate: closed",
            Fault::GetMoreBlocks => "getMore: late",
            Fault::KillConsumer => "consumer: kill -9",
            Fault::FreezeConsumer => "consumer: SIGSTOP",
            Fault::FullBuffer => "consumer: full buffer",
            Fault::DiskFull => "checkpoint: disk full",
            Fault::Drop => "collection: drop",
            Fault::Rename => "collection: rename",
            Fault::DropDatabase => "database: drop",
        }
    }

    fn ground(self) -> Ground {
        match self {
            Fault::KillPrimary | Fault::StepDown | Fault::FreezePrimary | Fault::AllDown => {
                Ground::Servers
            }
            Fault::Cut
            | Fault::CutEverybody
            | Fault::Stall
            | Fault::StallUp
            | Fault::StallDown
            | Fault::Slow
            | Fault::HalfCloseUp
            | Fault::HalfCloseDown
            | Fault::CutReply => Ground::Network,
            Fault::GetMoreFails
            | Fault::GetMoreBreaks
            | Fault::AggregateFails
            | Fault::BreakTwice
            | Fault::GetMoreBlocks => Ground::Commands,
            Fault::KillConsumer | Fault::FreezeConsumer | Fault::FullBuffer | Fault::DiskFull => {
                Ground::Consumer
            }
            Fault::Drop | Fault::Rename | Fault::DropDatabase => Ground::Collections,
        }
    }

    /// Whether both can happen at the same time and still prove that they did. (A fail point is one
    /// server's; when that is left behind, it is hit no more.)
    #[must_use]
    pub fn goes_with(self, other: Fault) -> bool {
        let grounds = [self.ground(), other.ground()];
        let commands = grounds.contains(&Ground::Commands);
        let wire = grounds.contains(&Ground::Servers) || grounds.contains(&Ground::Network);
        grounds[0] != grounds[1] && !(commands && wire)
    }

    /// Whether servers of this version can do it.
    #[must_use]
    pub fn is_for(self, version: (u32, u32, u32)) -> bool {
        // Older servers' fail point knows no blockConnection.
        self != Fault::GetMoreBlocks || version >= (4, 4, 0)
    }

    /// Whether only a consumer that tells of its buffer and its saves shows that it happened.
    #[must_use]
    pub fn is_seen_inside(self) -> bool {
        matches!(self, Fault::FullBuffer | Fault::DiskFull)
    }

    /// Makes it happen, for about as long as `range` says (in milliseconds), and ends it.
    ///
    /// Returns what shows that it happened.
    ///
    /// # Errors
    ///
    /// If it did not happen.
    pub fn inflict(
        self,
        field: &Field,
        random: &mut Random,
        range: std::ops::Range<u64>,
    ) -> Result<String> {
        let time = random.milliseconds(range);
        let consumers = |trouble, hits| network(field, trouble, Whose::Consumer, hits, time);
        match self {
            Fault::KillPrimary => deposed(field, time, kill, |primary| Ok(primary.restart()?)),
            Fault::StepDown => {
                deposed(field, Duration::ZERO, |_| Ok(field.set.step_down()?), |_| Ok(()))
            }
            Fault::FreezePrimary => deposed(
                field,
                time,
                |primary| Ok(primary.pause()?),
                |primary| Ok(primary.resume()?),
            ),
            Fault::AllDown => all_down(field, time),
            Fault::Cut => consumers(Trouble::Cut, 1),
            Fault::CutEverybody => network(field, Trouble::Cut, Whose::Everybody, 1, time / 4),
            Fault::Stall => consumers(Trouble::Stall(None), 1),
            Fault::StallUp => consumers(Trouble::Stall(Some(Way::Up)), 1),
            Fault::StallDown => consumers(Trouble::Stall(Some(Way::Down)), 1),
            Fault::Slow => consumers(Trouble::Slow(100_000), 10),
            Fault::HalfCloseUp => consumers(Trouble::HalfClose(Way::Up), 1),
            Fault::HalfCloseDown => consumers(Trouble::HalfClose(Way::Down), 1),
            Fault::CutReply => consumers(Trouble::CutReply(EVENT), 3),
            Fault::GetMoreFails => {
                let code = random.one_of(&[
                    6, 7, 63, 89, 91, 133, 150, 189, 234, 262, 9001, 10107, 11600, 11602, 13435,
                    13436,
                ]);
                let data = doc! {
                    "failCommands": ["getMore"], "errorCode": code,
                    "errorLabels": ["ResumableChangeStreamError"],
                };
                Ok(format!("code {code}, {}", fail(field, data, 3, || Ok(()))?))
            }
            Fault::GetMoreBreaks => {
                let data = doc! { "failCommands": ["getMore"], "closeConnection": true };
                fail(field, data, 3, || Ok(()))
            }
            Fault::AggregateFails => {
                let code = random.one_of(&[
                    6, 7, 89, 91, 134, 189, 262, 9001, 10107, 11600, 11602, 13435, 13436,
                ]);
                let data = doc! { "failCommands": ["aggregate"], "errorCode": code };
                let cut =
                    || network(field, Trouble::Cut, Whose::Consumer, 1, Duration::ZERO).map(drop);
                Ok(format!("code {code}, {}", fail(field, data, 3, cut)?))
            }
            Fault::BreakTwice => {
                let data =
                    doc! { "failCommands": ["getMore", "aggregate"], "closeConnection": true };
                fail(field, data, 6, || Ok(()))
            }
            Fault::GetMoreBlocks => {
                let time = i64::try_from(time.as_millis())?;
                let data = doc! {
                    "failCommands": ["getMore"], "blockConnection": true, "blockTimeMS": time,
                };
                fail(field, data, 3, || Ok(()))
            }
            Fault::KillConsumer => {
                sleep(random.milliseconds(0..500));
                let signal = field.consumer.kill()?;
                (signal == 9).then_some(()).ok_or_else(|| format!("it died of signal {signal}"))?;
                sleep(random.milliseconds(0..500));
                let again = field.consumer.start()?;
                Ok(format!("it died of signal 9, and was started {} times", again + 1))
            }
            Fault::FreezeConsumer => {
                field.consumer.freeze(true)?;
                sleep(time);
                field.consumer.freeze(false)?;
                Ok("it was stopped".into())
            }
            Fault::FullBuffer => full_buffer(field, time),
            Fault::DiskFull => disk_full(field),
            Fault::Drop => invalidated(field, &[0], || {
                command(&field.set, DATABASE, &doc! { "drop": COLLECTION }).map(drop)
            }),
            Fault::Rename => invalidated(field, &[0], || {
                let (from, to) = (format!("{DATABASE}.{COLLECTION}"), format!("{DATABASE}.gone"));
                let rename = doc! { "renameCollection": from, "to": to, "dropTarget": true };
                command(&field.set, "admin", &rename)?;
                command(&field.set, DATABASE, &doc! { "drop": "gone" }).map(drop)
            }),
            Fault::DropDatabase => invalidated(field, &[0, 1], || {
                command(&field.set, DATABASE, &doc! { "dropDatabase": 1 }).map(drop)
            }),
        }
    }
}

fn kill(member: &Member) -> Result<()> {
    member.kill()?;
    (!member.is_running()).then_some(()).ok_or_else(|| "the member lives".into())
}

/// Makes another member primary, and lets it take writes before the old one is back.
fn deposed(
    field: &Field,
    time: Duration,
    depose: impl FnOnce(&Member) -> Result<()>,
    restore: impl FnOnce(&Member) -> Result<()>,
) -> Result<String> {
    let old = field.set.wait_for_primary(DEADLINE)?;
    let member = field.set.member(old);
    let elected = || {
        let new = field.set.wait_for_primary(PATIENCE).ok();
        if new.is_none() {
            // Those that are left may outvote each other time after time.
            let next = field.set.member((old + 1) % field.set.len());
            let step_up = doc! { "replSetStepUp": 1 };
            let _ = next.client().database("admin").run_command(step_up).run();
        }
        new.filter(|new| *new != old)
    };
    let new = depose(member).and_then(|()| {
        let new = wait_for(DEADLINE, "another primary", elected)?;
        field.writer.wait_for_more(20)?;
        sleep(time);
        Ok(new)
    });
    restore(member)?;
    whole(&field.set)?;
    Ok(format!("member {old} was primary, then member {}", new?))
}

fn all_down(field: &Field, time: Duration) -> Result<String> {
    let members = field.set.members();
    for member in members {
        member.kill()?;
    }
    let alive = members.iter().filter(|member| member.is_running()).count();
    sleep(time / 2);
    let started: Vec<Result<(), ground::Error>> = scope(|scope| {
        let threads: Vec<_> =
            members.iter().map(|member| scope.spawn(|| member.restart())).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    started.into_iter().collect::<Result<(), _>>()?;
    whole(&field.set)?;
    match alive {
        0 => Ok(format!("{} members were dead", members.len())),
        _ => Err(format!("{alive} members were alive").into()),
    }
}

/// Waits until the set has a primary and all others follow it.
fn whole(set: &ReplicaSet) -> Result<()> {
    wait_for(DEADLINE, "the set is whole again", || {
        let is = |member: &Member, role| {
            let hello = doc! { "isMaster": 1 };
            let hello = member.client().database("admin").run_command(hello).run();
            hello.is_ok_and(|hello| hello.get_bool(role).is_ok_and(|is| is))
        };
        let count = |role| set.members().iter().filter(|member| is(member, role)).count();
        (count("secondary") + 1 == set.len() && count("ismaster") == 1).then_some(())
    })
}

fn network(
    field: &Field,
    trouble: Trouble,
    whose: Whose,
    hits: u64,
    time: Duration,
) -> Result<String> {
    let before = field.proxies.hits(trouble);
    let met = || (field.proxies.hits(trouble) >= before + hits).then_some(());
    let end = Instant::now() + DEADLINE;
    let hit = loop {
        // Anew each time: some troubles are for connections that are there, and there may be none.
        field.proxies.make(trouble, whose);
        match wait_for(Duration::from_secs(1), "the trouble meets connections", met) {
            Err(_) if Instant::now() < end => {}
            hit => break hit,
        }
    };
    sleep(time);
    field.proxies.make(Trouble::None, whose);
    hit?;
    Ok(format!("{} hits", field.proxies.hits(trouble) - before))
}

/// Lets the primary's `failCommand` fire for the consumer's commands.
fn fail(
    field: &Field,
    mut data: Document,
    times: u32,
    then: impl FnOnce() -> Result<()>,
) -> Result<String> {
    if field.set.version() >= (4, 4, 0) {
        data.insert("appName", CONSUMER);
    } else {
        // It cannot tell clients apart, and spares the members; nobody else uses these commands.
        data.remove("errorLabels");
    }
    let point: FailPoint = field.set.fail_point(doc! {
        "configureFailPoint": "failCommand", "mode": { "times": times }, "data": data,
    })?;
    then()?;
    point.wait_for_hits(times.into(), DEADLINE)?;
    Ok(format!("{times} commands hit"))
}

fn full_buffer(field: &Field, time: Duration) -> Result<String> {
    field.consumer.hold(true)?;
    let full = wait_for(DEADLINE, "the buffer is full", || {
        let depth = field.referee().stats()["depth"].as_u64()?;
        (depth >= CAPACITY as u64).then_some(depth)
    });
    sleep(time);
    field.consumer.hold(false)?;
    Ok(format!("{} messages queued", full?))
}

fn disk_full(field: &Field) -> Result<String> {
    let places: Vec<(usize, PathBuf)> = WITH_FILES
        .into_iter()
        .map(|worker| {
            let mut path = checkpoint_file(field.consumer.directory(), worker).into_os_string();
            // What a save writes before it renames it.
            path.push(".new");
            (worker, path.into())
        })
        .collect();
    let saves = |worker| field.referee().saves(worker);
    let mut failed = 0;
    for (worker, path) in &places {
        let before = saves(*worker);
        wait_for(DEADLINE, "a full disk", || std::os::unix::fs::symlink("/dev/full", path).ok())?;
        let seen =
            wait_for(DEADLINE, "saves fail", || (saves(*worker).1 >= before.1 + 2).then_some(()));
        std::fs::remove_file(path).context("the full disk stays full")?;
        seen?;
        let after = saves(*worker);
        wait_for(DEADLINE, "saves succeed again", || (saves(*worker).0 > after.0).then_some(()))?;
        failed += after.1 - before.1;
    }
    Ok(format!("{failed} saves failed"))
}

fn invalidated(
    field: &Field,
    workers: &[usize],
    change: impl FnOnce() -> Result<()>,
) -> Result<String> {
    let count = || -> Vec<usize> {
        workers.iter().map(|worker| field.referee().invalidates(*worker)).collect()
    };
    let before = count();
    change()?;
    wait_for(DEADLINE, "an invalidate", || {
        count().iter().zip(&before).all(|(now, before)| now > before).then_some(())
    })?;
    Ok(format!("acknowledged, {} streams invalidated", workers.len()))
}
