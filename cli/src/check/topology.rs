//! What kind of deployment it is, and whether the names by which its members know each other mean anything here.

use std::collections::BTreeSet;

use bson::{Bson, Document};
use mongodb::options::{ClientOptions, ServerAddress};

use crate::ask::each;
use crate::check::address::reach;
use crate::check::finding::{Finding, Level};
use crate::check::seed::Greeting;

/// What the servers say of themselves.
pub(crate) fn check(greetings: &[Greeting], options: &ClientOptions) -> Vec<Finding> {
    if greetings.is_empty() {
        return Vec::new();
    }
    if let Some(greeting) = greetings.iter().find(|greeting| is_mongos(&greeting.hello)) {
        let text = format!("{}: a router of a sharded cluster", greeting.address);
        let advice =
            "mongostream is not tested with sharded clusters: try it before you rely on it";
        return vec![Finding::new(Level::Note, ("topology", "sharded"), text, advice)];
    }
    let outside: Vec<_> = greetings.iter().filter_map(outside_of_a_set).collect();
    if !outside.is_empty() {
        return outside;
    }
    let mut findings: Vec<_> = wrong_name(greetings, options).into_iter().collect();
    if options.direct_connection == Some(true) {
        findings.push(Finding::new(
            Level::Note,
            ("topology", "direct"),
            "directConnection=true: one server is used, whatever it is in its set",
            "leave directConnection out, so that the stream survives elections",
        ));
        return findings;
    }
    let (unreached, count) = members(greetings);
    let primary = greetings.iter().find_map(|greeting| greeting.hello.get_str("primary").ok());
    let set = greetings.iter().find_map(|greeting| set_name(&greeting.hello)).unwrap_or_default();
    findings.push(match primary {
        Some(primary) => {
            let members = if count == 1 { "1 member".to_owned() } else { format!("{count} members") };
            Finding::ok("topology", format!("replica set {set}, {members}; {primary} is primary"))
        }
        None => Finding::new(
            Level::Problem,
            ("topology", "no_primary"),
            format!("replica set {set}: it has no primary now"),
            "wait for the election; if it lasts, see rs.status(): a majority of the members must be there",
        ),
    });
    findings.extend(told(&unreached, count, primary));
    findings
}

fn is_mongos(hello: &Document) -> bool {
    hello.get_str("msg").is_ok_and(|message| message == "isdbgrid")
}

fn set_name(hello: &Document) -> Option<&str> {
    hello.get_str("setName").ok()
}

fn outside_of_a_set(greeting: &Greeting) -> Option<Finding> {
    let Greeting { address, hello, .. } = greeting;
    if set_name(hello).is_some() {
        return None;
    }
    Some(match hello.get_bool("isreplicaset").is_ok_and(|is| is) {
        true => Finding::new(
            Level::Problem,
            ("topology", "not_initiated"),
            format!("{address}: the replica set is not initiated, or has no place for this server"),
            "run rs.initiate() on it, in mongosh with directConnection=true; a server that is to join a set that \
             exists is added there with rs.add()",
        ),
        false => Finding::new(
            Level::Problem,
            ("topology", "standalone"),
            format!("{address}: a standalone server, which has no change streams"),
            "make it a replica set of one: start mongod with --replSet rs0 (replication.replSetName in its \
             configuration), and run rs.initiate() once",
        ),
    })
}

fn wrong_name(greetings: &[Greeting], options: &ClientOptions) -> Option<Finding> {
    let wanted = options.repl_set_name.as_deref()?;
    let (address, name) = greetings.iter().find_map(|greeting| {
        let name = set_name(&greeting.hello).filter(|name| *name != wanted)?;
        Some((&greeting.address, name))
    })?;
    Some(Finding::new(
        Level::Problem,
        ("set_name", "wrong"),
        format!("{address}: the set is called {name}, and the URI asks for {wanted}"),
        format!("write replicaSet={name} into the URI, or leave it out"),
    ))
}

/// Members that cannot be reached by their own names, of so many.
fn members(greetings: &[Greeting]) -> (Vec<(String, crate::check::address::Unreachable)>, usize) {
    let lists = greetings.iter().flat_map(|greeting| {
        // Arbiters have no data, and nobody connects to them.
        ["hosts", "passives"].into_iter().filter_map(|key| greeting.hello.get_array(key).ok())
    });
    let names: BTreeSet<&str> = lists.flatten().filter_map(Bson::as_str).collect();
    let reached = each(&names, |name| {
        let address = ServerAddress::parse(name).ok()?;
        Some(((*name).to_owned(), reach(&address).err()?))
    });
    (reached.into_iter().flatten().collect(), names.len())
}

fn told(
    unreached: &[(String, crate::check::address::Unreachable)],
    count: usize,
    primary: Option<&str>,
) -> Vec<Finding> {
    if unreached.is_empty() {
        return vec![Finding::ok("members", "each member can be reached by its own name")];
    }
    let finding = |(name, why): &(String, crate::check::address::Unreachable)| {
        let is_needed = unreached.len() == count || primary == Some(name.as_str());
        Finding::new(
            if is_needed { Level::Problem } else { Level::Warning },
            ("members", why.case()),
            format!(
                "the set knows a member as {name}, and it cannot be reached from here: {}",
                why.text()
            ),
            match is_needed {
                true => {
                    "the driver uses these names, whatever the URI says: make them known here (DNS, /etc/hosts), let \
                     the set use names that are valid here (rs.reconfig), or, for one server, add \
                     directConnection=true to the URI"
                }
                false => {
                    "the stream breaks when this member becomes primary: start it, or make its name known here (DNS, \
                     /etc/hosts)"
                }
            },
        )
    };
    unreached.iter().map(finding).collect()
}
