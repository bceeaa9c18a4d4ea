//! The version of a server, and what needs which.

use std::fmt;

use crate::check::finding::{Finding, Level};
use crate::check::wishes::Wishes;

/// `6.0.5`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32, u32, u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

impl Version {
    /// What comes after the number, such as `-rc1`, does not matter.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(['.', '-', '+']).map(str::parse::<u32>);
        let mut next = || parts.next()?.ok();
        Some(Self(next()?, next()?, next().unwrap_or(0)))
    }

    /// MongoDB manual, "$changeStreamSplitLargeEvent": 7.0, and 6.0 from 6.0.9.
    fn splits(self) -> bool {
        match (self.0, self.1) {
            (6, 0) => self.2 >= 9,
            (major, _) => major >= 7,
        }
    }
}

/// Whether the oldest of the servers can do what is wished.
pub(crate) fn check(versions: &[Version], wishes: &Wishes) -> Vec<Finding> {
    let (Some(oldest), Some(newest)) = (versions.iter().min(), versions.iter().max()) else {
        let text = "no server tells its version";
        return vec![Finding::new(Level::Note, ("version", "unknown"), text, "")];
    };
    let mut findings = Vec::new();
    if *oldest < Version(4, 2, 0) {
        findings.push(Finding::new(
            Level::Problem,
            ("version", "too_old"),
            format!("MongoDB {oldest}"),
            "change streams as they are used here need MongoDB 4.2 or later: upgrade the server",
        ));
        return findings;
    }
    for (option, value) in wishes.needing_6() {
        if *oldest < Version(6, 0, 0) {
            findings.push(Finding::new(
                Level::Problem,
                ("version", "too_old"),
                format!("{option}={value} needs MongoDB 6.0, and the server is {oldest}"),
                format!("upgrade the server, or leave {option} out"),
            ));
        }
    }
    if findings.is_empty() {
        findings.push(match oldest == newest {
            true => Finding::ok("version", format!("MongoDB {oldest}")),
            false => Finding::new(
                Level::Note,
                ("version", "mixed"),
                format!("MongoDB {oldest} to {newest}"),
                "finish the upgrade of the set: what the newest has does not work before that",
            ),
        });
    }
    findings.push(large_events(*oldest, wishes));
    findings
}

fn large_events(version: Version, wishes: &Wishes) -> Finding {
    if version.splits() {
        return Finding::ok(
            "large_events",
            "change events above 16 MB are split, and put together again",
        );
    }
    let (level, case) = match wishes.value("on_oversized") {
        Some("split") => (Level::Warning, "not_split"),
        Some("skip") => {
            return Finding::ok(
                "large_events",
                "change events above 16 MB are left out, with a message",
            );
        }
        _ => (Level::Note, "not_split"),
    };
    Finding::new(
        level,
        ("large_events", case),
        format!(
            "MongoDB {version} cannot split change events above 16 MB: the stream ends at one with MS_ERR_OVERSIZED"
        ),
        "upgrade to 6.0.9 or later, 7.0 or later; or set on_oversized=skip to go on without such an event",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(versions: &[&str], given: &[(&'static str, &str)]) -> Vec<(String, String, String)> {
        let versions: Vec<_> = versions.iter().map(|text| Version::parse(text).unwrap()).collect();
        let mut findings = crate::check::finding::Findings::default();
        findings.extend(check(&versions, &Wishes::of(given.iter().copied())));
        let json = findings.to_json();
        let text =
            |finding: &serde_json::Value, key: &str| finding[key].as_str().unwrap().to_owned();
        let findings = json["findings"].as_array().unwrap().iter();
        findings.map(|f| (text(f, "name"), text(f, "case"), text(f, "level"))).collect()
    }

    #[track_caller]
    fn assert_is(found: &[(String, String, String)], expected: &[&str]) {
        let found: Vec<_> = found.iter().map(|(n, c, l)| format!("{n} {c} {l}")).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn versions_are_numbers_and_not_texts() {
        let version = |text| Version::parse(text).unwrap();
        assert!(version("10.0.0") > version("6.0.27") && version("6.0.27") > version("6.0.9"));
        assert_eq!(version("8.0.0-rc1"), version("8.0.0"));
        assert_eq!(version("7.0").to_string(), "7.0.0");
        assert_eq!(Version::parse("nonsense"), None);
    }

    #[test]
    fn what_a_server_cannot_do_is_a_problem_only_where_it_is_asked_for() {
        assert_is(&cases(&["4.0.28"], &[]), &["version too_old problem"]);
        assert_is(&cases(&["4.2.6"], &[]), &["version ok ok", "large_events not_split note"]);
        let asked: &[(&'static str, &str)] = &[("full_document", "whenAvailable")];
        let old = ["version too_old problem", "large_events not_split note"];
        assert_is(&cases(&["5.0.4"], asked), &old);
        assert_is(&cases(&["6.0.9", "5.0.4"], &[("show_expanded_events", "true")]), &old);
        assert_is(&cases(&["5.0.4"], &[("full_document_before_change", "required")]), &old);
        let harmless: &[(&'static str, &str)] =
            &[("full_document", "updateLookup"), ("show_expanded_events", "false")];
        assert_is(&cases(&["5.0.4"], harmless), &["version ok ok", "large_events not_split note"]);
        assert_is(&cases(&["6.0.9"], asked), &["version ok ok", "large_events ok ok"]);
        assert_is(&cases(&["6.3.1"], &[]), &["version ok ok", "large_events not_split note"]);
        assert_is(&cases(&["7.0.0", "8.0.1"], &[]), &["version mixed note", "large_events ok ok"]);
        let split = cases(&["6.0.8"], &[("on_oversized", "split")]);
        assert_is(&split, &["version ok ok", "large_events not_split warning"]);
        assert_is(
            &cases(&["6.0.8"], &[("on_oversized", "skip")]),
            &["version ok ok", "large_events ok ok"],
        );
        assert_is(&cases(&[], &[]), &["version unknown note"]);
    }
}
