//! What goes wrong with pipes and brokers. Each has to show that it happened.

use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use ground::ReplicaSet;
use nix::sys::signal::Signal;

use super::broker::Broker;
use super::judge::Judge;
use super::pair::{LEASE, Pair};
use crate::random::Random;
use crate::{Context, Result, wait_for};

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The holder is killed, and started again as the standby.
    KillHolder,
    /// The holder is asked to end, and started again.
    EndHolder,
    /// The holder stands still for longer than its lease.
    FreezeHolder,
    /// The standby is killed, and started again.
    KillStandby,
    /// A node of the broker is killed and restarted.
    KillBroker,
    /// A node of the broker stands still.
    FreezeBroker,
    /// All connections to the broker are reset, and refused for a while.
    CutBroker,
    /// The replica set elects another primary.
    Election,
}

/// Where they happen.
pub struct Place<'a> {
    /// The replica set.
    pub set: &'a ReplicaSet,
    /// The broker.
    pub broker: &'a Broker,
    /// The pipes.
    pub pair: &'a Pair,
    /// Knows the history of the lease.
    pub judge: &'a Arc<Mutex<Judge>>,
}

const PATIENCE: Duration = Duration::from_secs(60);

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::KillHolder,
        Self::EndHolder,
        Self::FreezeHolder,
        Self::KillStandby,
        Self::KillBroker,
        Self::FreezeBroker,
        Self::CutBroker,
        Self::Election,
    ];

    /// In words.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::KillHolder => "kill -9 of the holder",
            Self::EndHolder => "orderly end of the holder",
            Self::FreezeHolder => "holder frozen for longer than its lease",
            Self::KillStandby => "kill -9 of the standby",
            Self::KillBroker => "broker's node killed and restarted",
            Self::FreezeBroker => "broker's node frozen",
            Self::CutBroker => "connections to the broker cut",
            Self::Election => "election in the replica set",
        }
    }

    /// Whether both may happen at once.
    #[must_use]
    pub fn goes_with(self, other: Self) -> bool {
        let touches = |trouble| match trouble {
            Self::KillHolder | Self::EndHolder | Self::FreezeHolder | Self::KillStandby => 0,
            Self::KillBroker | Self::FreezeBroker => 1,
            Self::CutBroker => 2,
            Self::Election => 3,
        };
        touches(self) != touches(other)
    }

    /// Does it, and tells what shows that it happened.
    ///
    /// # Errors
    ///
    /// If it did not happen.
    pub fn inflict(self, place: &Place<'_>, random: &mut Random) -> Result<String> {
        let Place { pair, broker, set, judge } = place;
        let takings = || judge.lock().expect("no panic").takings();
        let taken_over = |before: usize| {
            wait_for(PATIENCE, "another pipe takes over", || (takings() > before).then_some(()))
        };
        match self {
            Self::KillHolder | Self::EndHolder => {
                let (holder, before) = (pair.holder()?, takings());
                let kills = self == Self::KillHolder;
                pair.signal(holder, if kills { Signal::SIGKILL } else { Signal::SIGTERM })?;
                let status = pair.ended(holder)?;
                taken_over(before)?;
                pair.start_missing()?;
                Ok(status)
            }
            Self::FreezeHolder => {
                let (holder, before) = (pair.holder()?, takings());
                pair.signal(holder, Signal::SIGSTOP)?;
                let over = taken_over(before);
                sleep(random.milliseconds(0..u64::try_from(LEASE.as_millis())?));
                pair.signal(holder, Signal::SIGCONT)?;
                over.map(|()| "taken over".to_owned())
            }
            Self::KillStandby => {
                let standby = pair.standby()?;
                pair.signal(standby, Signal::SIGKILL)?;
                let status = pair.ended(standby)?;
                pair.start_missing()?;
                Ok(status)
            }
            Self::KillBroker => {
                let nodes = broker.nodes();
                let node = &nodes[random.below(nodes.len() as u64) as usize];
                node.kill()?;
                sleep(random.milliseconds(0..2000));
                node.restart()?;
                broker.recovers()?;
                Ok(format!("node {}", node.address()))
            }
            Self::FreezeBroker => {
                let nodes = broker.nodes();
                let node = &nodes[random.below(nodes.len() as u64) as usize];
                node.pause()?;
                sleep(random.milliseconds(500..6000));
                node.resume()?;
                broker.recovers()?;
                Ok(format!("node {}", node.address()))
            }
            Self::CutBroker => {
                let time = random.milliseconds(100..3000);
                let cut: usize = std::thread::scope(|scope| {
                    let cuts: Vec<_> = (broker.wires().iter())
                        .map(|wire| scope.spawn(move || wire.cut(time)))
                        .collect();
                    cuts.into_iter().map(|cut| cut.join().unwrap_or(0)).sum()
                });
                match cut {
                    0 => Err("there was no connection to cut".into()),
                    cut => Ok(format!("{cut} ends of connections")),
                }
            }
            Self::Election => {
                let before = set.primary();
                set.step_down().context("the primary does not step down")?;
                set.wait_for_primary(PATIENCE)?;
                Ok(format!("member {before} to {}", set.primary()))
            }
        }
    }
}
