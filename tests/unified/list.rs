//! The committed list of all tests: where each one runs, and which are left out, with the reason.

use crate::format::{Topology, Version};

pub(crate) struct Entry {
    pub(crate) file: String,
    pub(crate) test: String,
    pub(crate) servers: Servers,
    /// Why it does not run where it could.
    pub(crate) left_out: Option<String>,
}

/// "4.2..4.4, 6.0..": both ends count; "single 4.2..": not on a replica set.
pub(crate) struct Servers {
    text: String,
    topology: Topology,
    ranges: Vec<(Release, Release)>,
}

/// Major and minor.
type Release = (u32, u32);

impl Entry {
    pub(crate) fn name(&self) -> String {
        format!("{}: {}", self.file, self.test)
    }
}

impl Servers {
    /// Where the test runs, if this server is one of those for which it is.
    pub(crate) fn topology(&self, version: Version, there_are: &[Topology]) -> Option<Topology> {
        let release = (version.0, version.1);
        let is_in = |(from, to): &(Release, Release)| (*from..=*to).contains(&release);
        (there_are.contains(&self.topology) && self.ranges.iter().any(is_in))
            .then_some(self.topology)
    }
}

impl std::fmt::Display for Servers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

pub(crate) fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let mut file = None;
    let mut entries = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let columns: Vec<&str> = line.split('|').map(str::trim).collect();
        match (&columns[..], &file) {
            ([name], _) => file = Some((*name).to_owned()),
            ([servers, outcome, test], Some(file)) => entries.push(Entry {
                file: file.clone(),
                test: (*test).to_owned(),
                servers: parse_servers(servers)
                    .ok_or_else(|| format!("line {number}: {servers:?} are no servers"))?,
                left_out: (*outcome != "run").then(|| (*outcome).to_owned()),
            }),
            _ => return Err(format!("line {number} is no file and no test of one: {line}")),
        }
    }
    Ok(entries)
}

fn parse_servers(text: &str) -> Option<Servers> {
    let (topology, ranges) = match text.split_once(' ') {
        Some(("single", ranges)) => (Topology::Single, ranges),
        Some(("sharded", ranges)) => (Topology::Sharded, ranges),
        _ => (Topology::ReplicaSet, text),
    };
    let release = |text: &str| {
        let (major, minor) = text.split_once('.')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let ranges = ranges.split(", ").map(|range| {
        let (from, to) = range.split_once("..")?;
        let to = if to.is_empty() { (u32::MAX, u32::MAX) } else { release(to)? };
        Some((release(from)?, to))
    });
    Some(Servers { text: text.to_owned(), topology, ranges: ranges.collect::<Option<_>>()? })
}
