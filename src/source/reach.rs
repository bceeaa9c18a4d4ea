//! Why a deployment cannot be used: what each of its servers answered last, in words.
//!
//! The driver's own text for this is a dump of its view of the deployment, which has forgotten the servers that
//! the driver has struck off: those of another set, and those whose set knows them by another name.

use std::collections::BTreeMap;
use std::io;

use bson::Document;
use mongodb::error::{Error as DriverError, ErrorKind as DriverErrorKind};
use mongodb::event::sdam::{SdamEvent, TopologyDescription};
use mongodb::options::{ClientOptions, Tls};
use tokio::sync::watch;

use crate::source::fault::Fault;
use crate::source::unreachable::Unreachable;

/// What is known of the servers of one client.
#[derive(Default)]
pub(crate) struct Reach(watch::Sender<Outlook>);

#[derive(Default)]
struct Outlook {
    /// The hosts of the URI, or what its SRV record says.
    seeds: Vec<String>,
    /// The set that the URI names.
    set: Option<String>,
    direct: bool,
    tls: bool,
    /// The servers that the driver knows now. `None` before it has looked.
    known: Option<Vec<String>>,
    /// What each server has answered last, those included that the driver has struck off.
    seen: BTreeMap<String, Seen>,
}

#[derive(Debug, PartialEq)]
enum Seen {
    Member {
        set: String,
        role: &'static str,
    },
    /// In no set, or not yet, or no longer.
    Ghost,
    Standalone,
    Router,
    Failed(Failure),
}

#[derive(Debug, PartialEq)]
enum Failure {
    Refused,
    Unresolved,
    Silent,
    Closed,
    Tls(String),
    Other(String),
}

const PRIMARY: &str = "primary";
const SECONDARY: &str = "secondary";

impl Reach {
    /// What the client is about to look for.
    pub(crate) fn begins(&self, options: &ClientOptions) {
        self.0.send_modify(|outlook| {
            outlook.seeds = options.hosts.iter().map(ToString::to_string).collect();
            outlook.set.clone_from(&options.repl_set_name);
            outlook.direct = options.direct_connection == Some(true);
            outlook.tls = matches!(options.tls, Some(Tls::Enabled(_)));
        });
    }

    pub(crate) fn monitored(&self, event: &SdamEvent) {
        match event {
            SdamEvent::TopologyDescriptionChanged(event) => {
                let known = addresses(&event.new_description);
                self.0.send_if_modified(|outlook| outlook.knows(known));
            }
            SdamEvent::ServerHeartbeatSucceeded(event) => {
                let seen = Seen::of_reply(&event.reply);
                self.0.send_if_modified(|outlook| {
                    outlook.sees(event.server_address.to_string(), seen)
                });
            }
            SdamEvent::ServerHeartbeatFailed(event) => {
                let seen = Seen::Failed(Failure::of(&event.failure));
                self.0.send_if_modified(|outlook| {
                    outlook.sees(event.server_address.to_string(), seen)
                });
            }
            _ => {}
        }
    }

    /// Why there is no server now.
    pub(crate) fn reason(&self) -> Unreachable {
        self.0.borrow().reason()
    }

    /// The same where there is none; another one than the primary may do.
    pub(crate) fn trouble(&self, needs_primary: bool) -> Option<Unreachable> {
        let outlook = self.0.borrow();
        (!outlook.is_usable(needs_primary)).then(|| outlook.reason())
    }

    /// Waits until the driver has struck off all servers, and looks for none any more.
    pub(crate) async fn is_hopeless(&self) -> Unreachable {
        let mut outlook = self.0.subscribe();
        loop {
            let reason = Some(outlook.borrow_and_update()).filter(|now| now.is_hopeless());
            if let Some(reason) = reason.map(|now| now.reason()) {
                return reason;
            }
            // Its sender lives as long as this future.
            let _ = outlook.changed().await;
        }
    }
}

fn addresses(topology: &TopologyDescription) -> Vec<String> {
    topology.servers().keys().map(ToString::to_string).collect()
}

impl Outlook {
    fn knows(&mut self, mut known: Vec<String>) -> bool {
        known.sort();
        let is_new = self.known.as_ref() != Some(&known);
        self.known = Some(known);
        is_new
    }

    fn sees(&mut self, address: String, seen: Seen) -> bool {
        if self.seen.get(&address) == Some(&seen) {
            return false;
        }
        self.seen.insert(address, seen);
        true
    }

    fn is_usable(&self, needs_primary: bool) -> bool {
        let known = self.known.iter().flatten();
        let mut seen = known.map(|address| self.seen.get(address));
        seen.any(|seen| match seen {
            Some(seen @ Seen::Member { role, .. }) => {
                let fits = *role == PRIMARY || *role == SECONDARY && !needs_primary || self.direct;
                fits && !self.is_wrong(seen)
            }
            Some(seen @ (Seen::Standalone | Seen::Router)) => !self.is_wrong(seen),
            Some(Seen::Ghost | Seen::Failed(_)) | None => false,
        })
    }

    /// Whether this server can never be used with this URI.
    fn is_wrong(&self, seen: &Seen) -> bool {
        match (seen, &self.set) {
            (Seen::Member { set, .. }, Some(expected)) => set != expected,
            (Seen::Standalone | Seen::Router, Some(_)) => true,
            // Alone it can be used, and the server says what is wrong.
            (Seen::Standalone, None) => self.seeds.len() > 1,
            _ => false,
        }
    }

    fn is_hopeless(&self) -> bool {
        let is_left = |known: &Vec<String>| !known.is_empty() && !self.direct;
        let wrong = |seed: &String| self.seen.get(seed).is_some_and(|seen| self.is_wrong(seen));
        self.known.as_ref().is_some_and(|known| !is_left(known)) && self.seeds.iter().all(wrong)
    }

    fn reason(&self) -> Unreachable {
        let is_final = self.is_hopeless();
        let no_servers = Vec::new();
        let known = match &self.known {
            Some(known) if !known.is_empty() => known,
            _ => &self.seeds,
        };
        let seen = |address: &String| self.seen.get(address);
        let all = |addresses: &[String]| {
            let shown = addresses.iter().map(|one| format!("{one} ({})", self.shown(one)));
            shown.collect::<Vec<_>>().join(", ")
        };
        let answers = |address: &&String| {
            seen(address).is_some_and(|seen| matches!(seen, Seen::Member { .. }))
        };
        let fails =
            |address: &String| seen(address).is_none_or(|seen| matches!(seen, Seen::Failed(_)));
        let struck = self.seeds.iter().filter(|seed| !known.contains(seed)).find(answers);
        let text = if is_final {
            let set = match &self.set {
                Some(set) => format!("no member of the replica set {set:?}, which the URI names"),
                None => "no replica set".to_owned(),
            };
            format!(
                "there is {set}: {}; check the hosts and the option replicaSet of the URI",
                all(&self.seeds)
            )
        } else if let Some(seed) = struck
            && known.iter().all(fails)
        {
            format!(
                "{seed} answers, but its set knows its members by other names, and these cannot be reached \
                 from here: {}; make these names known to this machine, or add directConnection=true to the \
                 URI and name one server, which is then the only one that is used",
                all(known)
            )
        } else if known.iter().any(|one| seen(one) == Some(&Seen::Ghost)) {
            format!(
                "a server is in no replica set: {}; initiate the set with rs.initiate(), or add the server to it",
                all(known)
            )
        } else if known.iter().any(|one| answers(&one)) {
            format!(
                "no server can be used: {}; the set needs a primary, and a server that fits the URI's \
                 readPreference",
                all(known)
            )
        } else {
            let wants_tls = |one: &String| {
                matches!(seen(one), Some(Seen::Failed(Failure::Closed | Failure::Tls(_))))
            };
            let failing = if known.iter().any(wants_tls) { known } else { &no_servers };
            let advice = if failing.is_empty() { "" } else { ", and its TLS options" };
            format!(
                "no server can be reached: {}; check that the servers run and can be reached from here, and \
                 the URI's host names{advice}",
                all(known)
            )
        };
        Unreachable { text, is_final }
    }

    /// What a server has answered.
    fn shown(&self, address: &str) -> String {
        match self.seen.get(address) {
            None => "no answer so far".to_owned(),
            Some(Seen::Member { set, role }) => match &self.set {
                Some(expected) if expected != set => format!("a member of the set {set:?}"),
                _ => (*role).to_owned(),
            },
            Some(Seen::Ghost) => "in no replica set".to_owned(),
            Some(Seen::Standalone) => "a standalone server".to_owned(),
            Some(Seen::Router) => "a mongos of a sharded cluster".to_owned(),
            Some(Seen::Failed(failure)) => match failure {
                Failure::Refused => "connection refused: nobody listens there".to_owned(),
                Failure::Unresolved => "its name cannot be resolved".to_owned(),
                Failure::Silent => "no answer in time".to_owned(),
                Failure::Closed if self.tls => {
                    "it ends the connection: it does not speak TLS, or not with this client".to_owned()
                }
                Failure::Closed => {
                    "it ends the connection: it may require TLS, which tls=true in the URI switches on"
                        .to_owned()
                }
                Failure::Tls(text) => format!("TLS: {text}"),
                Failure::Other(text) => text.clone(),
            },
        }
    }
}

impl Seen {
    fn of_reply(reply: &Document) -> Self {
        let is = |key: &str| reply.get_bool(key).unwrap_or(false);
        if let Ok(set) = reply.get_str("setName") {
            let role = match () {
                () if is("ismaster") || is("isWritablePrimary") => PRIMARY,
                () if is("secondary") => SECONDARY,
                () if is("arbiterOnly") => "arbiter",
                () => "neither primary nor secondary",
            };
            return Seen::Member { set: set.to_owned(), role };
        }
        match () {
            () if is("isreplicaset") => Seen::Ghost,
            () if reply.get_str("msg").is_ok_and(|text| text == "isdbgrid") => Seen::Router,
            () => Seen::Standalone,
        }
    }
}

impl Failure {
    fn of(error: &DriverError) -> Self {
        match &*error.kind {
            DriverErrorKind::DnsResolve { .. } => Failure::Unresolved,
            DriverErrorKind::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => Failure::Refused,
                io::ErrorKind::TimedOut => Failure::Silent,
                io::ErrorKind::UnexpectedEof
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::BrokenPipe => Failure::Closed,
                // Of the TLS library.
                io::ErrorKind::InvalidData => Failure::Tls(error.to_string()),
                _ if error.to_string().contains("failed to lookup address") => Failure::Unresolved,
                _ => Failure::Other(error.to_string()),
            },
            _ => Failure::Other(Fault::from(error).text),
        }
    }
}
