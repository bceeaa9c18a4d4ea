//! What a check has found: a list, for people as a table and for programs as JSON.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::options::wrapped;
use crate::secrets::{hide, hide_one};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Note,
    /// The stream works now, and may not always.
    Warning,
    /// The stream does not work.
    Problem,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    level: Level,
    /// What was looked at. It never changes from version to version.
    name: &'static str,
    /// Which of the things that may be found about it. It never changes either.
    case: &'static str,
    text: String,
    advice: Option<String>,
}

impl Finding {
    pub(crate) fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Ok, name, case: "ok", text: text.into(), advice: None }
    }

    pub(crate) fn new(
        level: Level,
        (name, case): (&'static str, &'static str),
        text: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let advice = Some(advice.into()).filter(|advice| !advice.is_empty());
        Self { level, name, case, text: text.into(), advice }
    }
}

/// All that was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    all: Vec<Finding>,
    /// What must never be shown.
    secrets: Vec<String>,
}

impl Findings {
    /// From now on this text is left out of every finding.
    pub(crate) fn hide(&mut self, secret: &str) {
        self.secrets.push(secret.to_owned());
    }

    pub(crate) fn add(&mut self, mut finding: Finding) {
        // No text is made of one; that of the driver or of a server might be.
        finding.text = hide(&finding.text);
        for secret in &self.secrets {
            finding.text = hide_one(&finding.text, secret);
        }
        self.all.push(finding);
    }

    pub(crate) fn extend(&mut self, findings: impl IntoIterator<Item = Finding>) {
        findings.into_iter().for_each(|finding| self.add(finding));
    }

    fn count(&self, level: Level) -> usize {
        self.all.iter().filter(|finding| finding.level == level).count()
    }

    pub(crate) fn has_problem(&self) -> bool {
        self.count(Level::Problem) > 0
    }

    pub(crate) fn to_json(&self) -> Value {
        let findings = self.all.iter().map(|finding| {
            json!({
                "name": finding.name,
                "case": finding.case,
                "level": finding.level.name(),
                "text": finding.text,
                "advice": finding.advice,
            })
        });
        json!({ "ok": !self.has_problem(), "findings": findings.collect::<Vec<_>>() })
    }

    pub(crate) fn to_table(&self, width: usize) -> String {
        let mut table = String::new();
        let names = self.all.iter().map(|finding| finding.name.len()).max().unwrap_or(0);
        let indent = "problem".len() + 2 + names + 2;
        let room = width.saturating_sub(indent).max(20);
        for finding in &self.all {
            let level = finding.level.name();
            let mut head = format!("{level:<7}  {:<names$}  ", finding.name);
            let advice =
                finding.advice.iter().flat_map(|advice| wrapped(&format!("-> {advice}"), room));
            for line in wrapped(&finding.text, room).into_iter().chain(advice) {
                // Writing to a String does not fail.
                let _ = writeln!(table, "{}", format!("{head}{line}").trim_end());
                head = " ".repeat(indent);
            }
        }
        let _ = writeln!(table, "\n{}", self.summary());
        table
    }

    fn summary(&self) -> String {
        let counted = |level, one: &str, many: &str| match self.count(level) {
            0 => None,
            1 => Some(format!("1 {one}")),
            count => Some(format!("{count} {many}")),
        };
        let parts = [
            counted(Level::Problem, "problem", "problems"),
            counted(Level::Warning, "warning", "warnings"),
        ];
        let parts = Vec::from_iter(parts.into_iter().flatten()).join(", ");
        match (self.has_problem(), parts.as_str()) {
            (true, _) => format!("It does not work yet: {parts}."),
            (false, "") => "It works.".to_owned(),
            (false, _) => format!("It works, with {parts}."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings() -> Findings {
        let mut findings = Findings::default();
        findings.hide("hunter2");
        findings.add(Finding::ok("version", "MongoDB 6.0.5"));
        findings.add(Finding::new(
            Level::Warning,
            ("oplog", "short"),
            "it is hunter2 short",
            "make it larger",
        ));
        findings
    }

    #[test]
    fn a_table_is_aligned_and_says_what_to_do() {
        let expected = "ok       version  MongoDB 6.0.5\n\
                        warning  oplog    it is *** short\n                  -> make it larger\n\n\
                        It works, with 1 warning.\n";
        assert_eq!(findings().to_table(80), expected);
        let narrow = findings().to_table(30);
        assert!(narrow.lines().all(|line| line.chars().count() <= 38), "{narrow}");
    }

    #[test]
    fn a_problem_is_counted_and_nothing_else_is_one() {
        let mut findings = findings();
        assert!(!findings.has_problem());
        assert_eq!(findings.to_json()["ok"], true);
        findings.add(Finding::new(Level::Problem, ("login", "refused"), "no", ""));
        assert!(findings.has_problem());
        let json = findings.to_json();
        assert_eq!((&json["ok"], &json["findings"][2]["advice"]), (&json!(false), &Value::Null));
        assert_eq!(json["findings"][1]["case"], "short");
        assert!(findings.to_table(80).ends_with("It does not work yet: 1 problem, 1 warning.\n"));
    }
}
