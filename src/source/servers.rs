//! What the driver's monitoring knows of the servers, and so whether a cursor may still wait for its own.
//!
//! A server that is frozen or cut off answers nothing and closes nothing: a getMore may wait for it
//! for ever, and a deadline would also end one that is at work in a long oplog. The monitoring has
//! connections of its own to every server, and so it knows better.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::time::Duration;

use mongodb::ServerType;
use mongodb::error::{Error as DriverError, ErrorKind as DriverErrorKind, Result as DriverResult};
use mongodb::event::cmap::CmapEvent;
use mongodb::event::sdam::{SdamEvent, TopologyDescription, TopologyType};
use mongodb::options::ServerAddress;
use tokio::sync::watch;

tokio::task_local! {
    /// The server that the task's last command went to. The driver tells it in the command's own
    /// task, and before it has a connection: so it is known of an aggregate without a reply too.
    static SERVER: watch::Sender<Option<ServerAddress>>;
}

/// The servers of one deployment, as the driver's events tell.
#[derive(Default)]
pub(crate) struct Servers {
    view: watch::Sender<View>,
}

/// What is known of one server that matters to a cursor on it. The members of a set may differ while it is
/// being upgraded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServerFacts {
    pub(crate) wire_version: Option<i32>,
    pub(crate) round_trip: Option<Duration>,
}

impl Servers {
    /// The newest wire version that any server has told, `None` before the first.
    pub(crate) fn newest_wire_version(&self) -> Option<i32> {
        self.view.borrow().servers.values().filter_map(|server| server.facts.wire_version).max()
    }

    /// Of the server that the last command of this task went to; `None` if there was none yet.
    pub(crate) fn facts(&self) -> Option<ServerFacts> {
        let server = SERVER.try_with(|server| server.borrow().clone()).ok().flatten()?;
        Some(self.view.borrow().servers.get(&server).map(|known| known.facts).unwrap_or_default())
    }

    pub(crate) fn monitored(&self, event: SdamEvent) {
        match event {
            SdamEvent::TopologyDescriptionChanged(event) => {
                self.view.send_if_modified(|view| view.described(&event.new_description));
            }
            SdamEvent::ServerHeartbeatSucceeded(event) => {
                self.view.send_if_modified(|view| view.heard(&event.server_address, true));
            }
            SdamEvent::ServerHeartbeatFailed(event) => {
                self.view.send_if_modified(|view| view.heard(&event.server_address, false));
            }
            _ => {}
        }
    }

    /// Called in the task that wants a connection.
    pub(crate) fn connecting(event: &CmapEvent) {
        if let CmapEvent::ConnectionCheckoutStarted(event) = event {
            // Commands that are no cursor's have no such task.
            let _ = SERVER.try_with(|server| {
                server.send_if_modified(|known| {
                    let other = known.as_ref() != Some(&event.address);
                    if other {
                        *known = Some(event.address.clone());
                    }
                    other
                })
            });
        }
    }

    /// Does `work`, whose commands all go to one server, until that server is lost. What has arrived
    /// by then goes first.
    pub(crate) async fn while_there<T>(
        &self,
        needs_primary: impl Fn() -> bool,
        work: impl Future<Output = DriverResult<T>>,
    ) -> DriverResult<T> {
        let (sender, server) = watch::channel(None);
        tokio::select! {
            biased;
            result = SERVER.scope(sender, work) => result,
            lost = self.lost(server, needs_primary) => Err(lost),
        }
    }

    /// Waits until the server is lost. The result is a network error, as if the connection had
    /// broken, so that it is resumed from like one.
    async fn lost(
        &self,
        mut server: watch::Receiver<Option<ServerAddress>>,
        needs_primary: impl Fn() -> bool,
    ) -> DriverError {
        /// The driver uses what it has learnt a moment before or after it tells: a cursor may be
        /// opened on a new primary that this view does not have yet.
        const GRACE: Duration = Duration::from_millis(20);
        let mut view = self.view.subscribe();
        let mut suspected = false;
        loop {
            let loss = server
                .borrow_and_update()
                .as_ref()
                .and_then(|server| view.borrow_and_update().loss_of(server, needs_primary()));
            match loss {
                Some(loss) if suspected => {
                    return io::Error::new(io::ErrorKind::TimedOut, loss).into();
                }
                Some(_) => {
                    suspected = true;
                    tokio::time::sleep(GRACE).await;
                }
                None => {
                    suspected = false;
                    // Neither sender is dropped before this future.
                    tokio::select! {
                        _ = view.changed() => {}
                        _ = server.changed() => {}
                    }
                }
            }
        }
    }
}

/// The server of a cursor that was given up only because there is a newer primary.
pub(crate) fn deposed(error: &DriverError) -> Option<&ServerAddress> {
    let DriverErrorKind::Io(error) = &*error.kind else { return None };
    match error.get_ref()?.downcast_ref()? {
        Loss::Deposed(server, _) => Some(server),
        Loss::Left(_) | Loss::Dead(_) => None,
    }
}

#[derive(Default)]
struct View {
    servers: HashMap<ServerAddress, Server>,
    /// Of a replica set. The driver believes only in the one that was elected last.
    primary: Option<ServerAddress>,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Server {
    /// The driver would use it.
    usable: bool,
    pulse: Pulse,
    facts: ServerFacts,
}

/// What the driver says of one server.
struct Described {
    address: ServerAddress,
    usable: bool,
    facts: ServerFacts,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Pulse {
    #[default]
    Alive,
    /// A heartbeat failed of a server that the driver had given up before. The driver itself ends
    /// heartbeats so when the connection of any command breaks: that alone says nothing.
    Doubtful,
    Dead,
}

/// Why a cursor's server is not worth waiting for.
#[derive(Debug, PartialEq)]
enum Loss {
    Left(ServerAddress),
    Dead(ServerAddress),
    Deposed(ServerAddress, ServerAddress),
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Loss::Left(server) => write!(f, "{server} has left the deployment"),
            Loss::Dead(server) => write!(f, "{server} does not answer heartbeats"),
            Loss::Deposed(server, primary) => {
                write!(f, "{server} is no longer the primary, {primary} is")
            }
        }
    }
}

impl std::error::Error for Loss {}

impl View {
    fn described(&mut self, topology: &TopologyDescription) -> bool {
        let servers = topology.servers();
        let primary = servers
            .iter()
            .find(|(_, server)| {
                topology.topology_type() == TopologyType::ReplicaSetWithPrimary
                    && server.server_type() == ServerType::RsPrimary
            })
            .map(|(address, _)| ServerAddress::clone(address));
        let described = servers.iter().map(|(address, server)| Described {
            address: ServerAddress::clone(address),
            usable: server.server_type() != ServerType::Unknown,
            facts: ServerFacts {
                wire_version: server.max_wire_version(),
                round_trip: server.average_round_trip_time(),
            },
        });
        self.update(described.collect(), primary)
    }

    fn update(&mut self, described: Vec<Described>, primary: Option<ServerAddress>) -> bool {
        let before = std::mem::take(&mut self.servers);
        for Described { address, usable, facts } in described {
            let known = before.get(&address).copied().unwrap_or_default();
            // A server that cannot be reached tells nothing, and is the same as before when it comes back.
            let facts = ServerFacts {
                wire_version: facts.wire_version.or(known.facts.wire_version),
                round_trip: facts.round_trip.or(known.facts.round_trip),
            };
            self.servers.insert(address, Server { usable, pulse: known.pulse, facts });
        }
        let same = before == self.servers && primary == self.primary;
        self.primary = primary;
        !same
    }

    fn heard(&mut self, address: &ServerAddress, alive: bool) -> bool {
        let Some(server) = self.servers.get_mut(address) else { return false };
        let pulse = match server.pulse {
            _ if alive => Pulse::Alive,
            Pulse::Alive if !server.usable => Pulse::Doubtful,
            _ => Pulse::Dead,
        };
        std::mem::replace(&mut server.pulse, pulse) != pulse
    }

    fn loss_of(&self, address: &ServerAddress, needs_primary: bool) -> Option<Loss> {
        let Some(server) = self.servers.get(address) else {
            return Some(Loss::Left(address.clone()));
        };
        if server.pulse == Pulse::Dead {
            return Some(Loss::Dead(address.clone()));
        }
        // Without another primary there is nowhere to go, and this one may be elected again.
        let primary =
            self.primary.as_ref().filter(|primary| needs_primary && *primary != address)?;
        Some(Loss::Deposed(address.clone(), primary.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(name: &str) -> ServerAddress {
        ServerAddress::Tcp { host: name.to_owned(), port: None }
    }

    fn view(servers: &[(&str, bool)], primary: Option<&str>) -> View {
        let mut view = View::default();
        update(&mut view, servers, primary);
        view
    }

    fn update(view: &mut View, servers: &[(&str, bool)], primary: Option<&str>) -> bool {
        let described = |(name, usable): &(&str, bool)| Described {
            address: address(name),
            usable: *usable,
            facts: ServerFacts::default(),
        };
        view.update(servers.iter().map(described).collect(), primary.map(address))
    }

    fn describe(view: &mut View, name: &str, wire_version: Option<i32>) {
        let facts = ServerFacts { wire_version, round_trip: None };
        view.update(vec![Described { address: address(name), usable: true, facts }], None);
    }

    #[tokio::test]
    async fn each_server_has_its_own_version() {
        let servers = Servers::default();
        assert_eq!(servers.newest_wire_version(), None);
        let of = |name: &'static str, version| Described {
            address: address(name),
            usable: true,
            facts: ServerFacts { wire_version: version, round_trip: None },
        };
        // The one that was heard last is the older one.
        servers.view.send_modify(|view| {
            view.update(vec![of("new", Some(9)), of("old", Some(8))], None);
        });
        assert_eq!(servers.newest_wire_version(), Some(9));
        for (name, version) in [("new", 9), ("old", 8)] {
            let (sender, _) = watch::channel(Some(address(name)));
            let facts = SERVER.scope(sender, async { servers.facts() }).await;
            assert_eq!(facts.and_then(|facts| facts.wire_version), Some(version), "{name}");
        }
        assert_eq!(servers.facts(), None, "no command was sent");
    }

    #[test]
    fn a_server_that_is_away_keeps_its_version() {
        let mut view = view(&[], None);
        describe(&mut view, "a", Some(8));
        describe(&mut view, "a", None);
        assert_eq!(view.servers[&address("a")].facts.wire_version, Some(8));
        describe(&mut view, "a", Some(9));
        assert_eq!(view.servers[&address("a")].facts.wire_version, Some(9));
    }

    #[test]
    fn a_new_primary_ends_only_what_needs_the_primary() {
        let mut view = view(&[("a", true), ("b", true)], Some("a"));
        assert_eq!(view.loss_of(&address("a"), true), None);
        assert!(update(&mut view, &[("a", true), ("b", true)], None));
        assert_eq!(view.loss_of(&address("a"), true), None);
        assert!(update(&mut view, &[("a", true), ("b", true)], Some("b")));
        assert!(!update(&mut view, &[("a", true), ("b", true)], Some("b")));
        let deposed = Loss::Deposed(address("a"), address("b"));
        assert_eq!(view.loss_of(&address("a"), true), Some(deposed));
        assert_eq!(view.loss_of(&address("a"), false), None);
        assert_eq!(view.loss_of(&address("b"), true), None);
    }

    #[test]
    fn a_server_that_has_left_is_lost() {
        let mut view = view(&[("a", true), ("b", true)], None);
        assert!(update(&mut view, &[("b", true)], None));
        assert_eq!(view.loss_of(&address("a"), false), Some(Loss::Left(address("a"))));
        assert_eq!(view.loss_of(&address("b"), false), None);
    }

    #[test]
    fn a_failed_heartbeat_counts_until_the_next_one() {
        let mut view = view(&[("a", true)], None);
        assert!(view.heard(&address("a"), false));
        assert!(update(&mut view, &[("a", false)], None));
        assert_eq!(view.loss_of(&address("a"), false), Some(Loss::Dead(address("a"))));
        assert!(view.heard(&address("a"), true));
        assert_eq!(view.loss_of(&address("a"), false), None);
    }

    #[test]
    fn a_heartbeat_that_the_driver_ended_itself_does_not_count() {
        let mut view = view(&[("a", false)], None);
        view.heard(&address("a"), false);
        assert_eq!(view.loss_of(&address("a"), false), None);
        view.heard(&address("a"), false);
        assert_eq!(view.loss_of(&address("a"), false), Some(Loss::Dead(address("a"))));
    }
}
