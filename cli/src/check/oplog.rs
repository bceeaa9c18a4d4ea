//! How far back the oplog reaches: for so long a program may be offline.

use bson::{Document, doc};

use crate::ask::{Asked, number};
use crate::check::finding::{Finding, Level};

/// A program that was stopped in the evening is started again in the morning.
const ENOUGH_HOURS: f64 = 24.0;
/// What has happened in less time says nothing of a day.
const MEANINGFUL_SECONDS: f64 = 600.0;
/// An oplog that is fuller than this is taken for one that forgets already: it is cut in larger pieces.
const FULL: f64 = 0.9;

pub(crate) fn check(deployment: &Asked) -> Finding {
    let end = |order: i32| {
        let asked = doc! {
            "find": "oplog.rs", "sort": { "$natural": order }, "limit": 1, "projection": { "ts": 1 },
        };
        let found = deployment.batch("local", asked);
        found.map(|found| found.first().and_then(|entry| entry.get_timestamp("ts").ok()))
    };
    let (first, last) = match (end(1), end(-1)) {
        (Ok(Some(first)), Ok(Some(last))) => (first, last),
        (Err(refusal), _) | (_, Err(refusal)) => return unread(&refusal),
        _ => {
            return Finding::new(Level::Note, ("oplog", "empty"), "local.oplog.rs is empty", "");
        }
    };
    let statistics = doc! {
        "aggregate": "oplog.rs", "pipeline": [{ "$collStats": { "storageStats": {} } }], "cursor": {},
    };
    let sizes = deployment.batch("local", statistics).ok().and_then(|found| sizes(found.first()?));
    let span = f64::from(last.time.saturating_sub(first.time));
    judge(span, sizes)
}

/// What is used, of how much.
fn sizes(statistics: &Document) -> Option<(f64, f64)> {
    let storage = statistics.get_document("storageStats").ok()?;
    Some((number(storage, "size")?, number(storage, "maxSize").filter(|most| *most > 0.0)?))
}

fn unread(refusal: &crate::ask::Refusal) -> Finding {
    if refusal.is_unauthorized() {
        return Finding::new(
            Level::Note,
            ("oplog", "not_allowed"),
            "how far back the oplog reaches is not known: the user may not find on local.oplog.rs",
            "for this check, not for a stream: give the user the role { role: \"read\", db: \"local\" }, or ask \
             rs.printReplicationInfo() as another user",
        );
    }
    Finding::new(
        Level::Note,
        ("oplog", "unreadable"),
        format!("how far back the oplog reaches is not known: {}", refusal.text),
        "on a sharded cluster ask rs.printReplicationInfo() on a member of each shard",
    )
}

const ADVICE: &str = "a program that is offline for longer loses changes (MS_ERR_HISTORY_LOST): make the oplog larger \
    with the command replSetResizeOplog, or set on_history_lost";

/// What a span of so many seconds means, of an oplog that uses so much of so much.
fn judge(seconds: f64, sizes: Option<(f64, f64)>) -> Finding {
    let reaches = format!("the oplog reaches back {}", time(seconds));
    let Some((used, most)) = sizes else {
        return match seconds / 3600.0 >= ENOUGH_HOURS {
            true => Finding::ok("oplog", reaches),
            false => Finding::new(
                Level::Note,
                ("oplog", "size_not_allowed"),
                format!("{reaches}, and whether it is full already is not known"),
                "for this check, not for a stream: the user needs collStats on local.oplog.rs, which the role { role: \
                 \"read\", db: \"local\" } has",
            ),
        };
    };
    if used >= FULL * most {
        return match seconds / 3600.0 >= ENOUGH_HOURS {
            true => Finding::ok("oplog", reaches),
            false => Finding::new(Level::Warning, ("oplog", "short"), reaches, ADVICE),
        };
    }
    let filled = format!("{reaches} and is {:.0} % full", 100.0 * used / most);
    if seconds < MEANINGFUL_SECONDS || used <= 0.0 {
        return Finding::new(
            Level::Note,
            ("oplog", "too_young"),
            format!("{filled}: that is too little to tell how long it will keep a change"),
            "check again when it has been used for an hour",
        );
    }
    let estimate = seconds * most / used;
    let text =
        format!("{filled}; at this rate it will reach back about {} (an estimate)", time(estimate));
    match estimate / 3600.0 >= ENOUGH_HOURS {
        true => Finding::ok("oplog", text),
        false => Finding::new(Level::Warning, ("oplog", "short"), text, ADVICE),
    }
}

/// In hours, and in minutes below one.
fn time(seconds: f64) -> String {
    match seconds / 3600.0 {
        hours if hours < 1.0 => format!("{:.2} hours ({:.0} minutes)", hours, seconds / 60.0),
        hours if hours < 100.0 => format!("{hours:.1} hours"),
        hours => format!("{hours:.0} hours ({:.0} days)", hours / 24.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(hours: f64, sizes: Option<(f64, f64)>) -> (String, String, String) {
        let mut findings = crate::check::finding::Findings::default();
        findings.add(judge(hours * 3600.0, sizes));
        let json = findings.to_json();
        let text = |key: &str| json["findings"][0][key].as_str().unwrap().to_owned();
        (text("case"), text("level"), text("text"))
    }

    #[track_caller]
    fn assert_judged(
        hours: f64,
        sizes: Option<(f64, f64)>,
        case: &str,
        level: &str,
        words: &[&str],
    ) {
        let (found, its_level, text) = judged(hours, sizes);
        assert_eq!((found.as_str(), its_level.as_str()), (case, level), "{text}");
        assert!(words.iter().all(|word| text.contains(word)), "{text}");
    }

    #[test]
    fn a_full_oplog_is_what_it_spans() {
        assert_judged(25.0, Some((95.0, 100.0)), "ok", "ok", &["25.0 hours"]);
        assert_judged(23.0, Some((100.0, 100.0)), "short", "warning", &["23.0 hours"]);
        assert_judged(0.5, Some((101.0, 100.0)), "short", "warning", &["30 minutes"]);
        assert_judged(240.0, Some((101.0, 100.0)), "ok", "ok", &["240 hours (10 days)"]);
    }

    #[test]
    fn one_that_is_not_full_is_estimated_and_says_so() {
        assert_judged(
            2.0,
            Some((10.0, 200.0)),
            "ok",
            "ok",
            &["5 % full", "40.0 hours", "estimate"],
        );
        assert_judged(
            2.0,
            Some((50.0, 200.0)),
            "short",
            "warning",
            &["25 % full", "8.0 hours", "estimate"],
        );
        assert_judged(0.1, Some((1.0, 200.0)), "too_young", "note", &["6 minutes"]);
        assert_judged(5.0, Some((0.0, 200.0)), "too_young", "note", &[]);
    }

    #[test]
    fn without_sizes_a_day_is_enough_and_less_is_not_judged() {
        assert_judged(24.0, None, "ok", "ok", &["24.0 hours"]);
        assert_judged(3.0, None, "size_not_allowed", "note", &["not known"]);
    }
}
