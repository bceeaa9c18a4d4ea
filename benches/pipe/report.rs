//! The results as a table, and as JSON.

use serde_json::{Value, json};

use crate::broker::Kind;
use crate::contender::{Contender, JAVA_OPTIONS};
use crate::drain::Run;
use crate::support::{median, quantile};

/// A program with a broker, and its runs, one a round.
pub(crate) struct Row {
    name: String,
    is_ours: bool,
    kind: Kind,
    pub(crate) runs: Vec<Run>,
}

impl Row {
    pub(crate) fn new(contender: &Contender, kind: Kind) -> Self {
        Self { name: contender.name(), is_ours: contender.is_ours(), kind, runs: Vec::new() }
    }

    pub(crate) fn name(&self) -> String {
        format!("{} into {}", self.name, self.kind.name())
    }

    fn median(&self, of: fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(of))
    }

    fn range(&self, of: fn(&Run) -> f64) -> (f64, f64) {
        let part = |part| quantile(self.runs.iter().map(of), part);
        (part(0.0), part(1.0))
    }
}

/// For Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| program | messages/s | its CPU µs/message | in the second half | with its start | mongod CPU µs | broker CPU µs | peak MB | first message after |\n\
         |---|---|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let (least, most) = row.range(|run| run.messages_per_s);
        let (cpu_least, cpu_most) = row.range(|run| run.program_us);
        text += &format!(
            "| {} | {:.0} ({least:.0}–{most:.0}) | {:.2} ({cpu_least:.2}–{cpu_most:.2}) | {:.2} | {:.2} | {:.1} | {:.1} | {:.0} | {:.2} s, {:.2} s of CPU |\n",
            row.name(),
            row.median(|run| run.messages_per_s),
            row.median(|run| run.program_us),
            row.median(|run| run.late_us),
            row.median(|run| run.whole_us),
            row.median(|run| run.mongod_us),
            row.median(|run| run.broker_us),
            row.range(|run| run.peak_mb).1,
            row.median(|run| run.start_s),
            row.median(|run| run.start_cpu_s),
        );
    }
    text
}

/// The pipe and Debezium with the same broker.
fn pairs(rows: &[Row]) -> impl Iterator<Item = (&Row, &Row)> {
    rows.iter().filter(|row| row.is_ours).filter_map(|ours| {
        let other = rows.iter().find(|row| !row.is_ours && row.kind == ours.kind)?;
        Some((ours, other))
    })
}

/// What Debezium takes, as multiples of what the pipe takes.
fn ratio(ours: &Row, other: &Row, of: fn(&Run) -> f64) -> f64 {
    other.median(of) / ours.median(of)
}

pub(crate) fn ratios(rows: &[Row]) -> Vec<String> {
    pairs(rows)
        .map(|(ours, other)| {
            let ratio = |of| ratio(ours, other, of);
            format!(
                "{}: the pipe is {:.2} × as fast; Debezium takes {:.1} × its CPU time ({:.1} × in the second half, {:.1} × with \
                 the start), {:.1} × its memory; a message has {:.0} bytes, Debezium's {:.0} (0: not known)",
                ours.kind.name(),
                1.0 / ratio(|run| run.messages_per_s),
                ratio(|run| run.program_us),
                ratio(|run| run.late_us),
                ratio(|run| run.whole_us),
                ratio(|run| run.peak_mb),
                ours.median(|run| run.bytes),
                other.median(|run| run.bytes),
            )
        })
        .collect()
}

/// What the pipe promises of these figures: for each whether it is kept. In the second half Java has compiled what it
/// runs, so that the ratio is that of programs which run for long.
pub(crate) fn promises(rows: &[Row]) -> Vec<(String, bool)> {
    let mut promises = Vec::new();
    for row in rows.iter().filter(|row| row.is_ours) {
        let (peak, bound) = (row.range(|run| run.peak_mb).1, 60.0);
        promises
            .push((format!("{}: peak MB {peak:.1}, at most {bound}", row.name()), peak <= bound));
    }
    for (ours, other) in pairs(rows) {
        let (ratio, bound) = (ratio(ours, other, |run| run.late_us), 8.0);
        let text = format!(
            "{}: CPU of Debezium to its in the second half {ratio:.2}, at least {bound}",
            ours.name()
        );
        promises.push((text, ratio >= bound));
    }
    promises
}

pub(crate) fn as_json(rows: &[Row], events: u64) -> Value {
    let figures = |row: &Row, of: fn(&Run) -> f64| {
        let (least, most) = row.range(of);
        json!({ "median": row.median(of), "min": least, "max": most })
    };
    let programs: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "program": row.name, "broker": row.kind.key(), "is_mongostream": row.is_ours,
                "messages_per_s": figures(row, |run| run.messages_per_s),
                "cpu_us_per_message": figures(row, |run| run.program_us),
                "cpu_us_per_message_second_half": figures(row, |run| run.late_us),
                "cpu_us_per_message_with_start": figures(row, |run| run.whole_us),
                "mongod_cpu_us_per_message": figures(row, |run| run.mongod_us),
                "broker_cpu_us_per_message": figures(row, |run| run.broker_us),
                "first_message_s": figures(row, |run| run.start_s),
                "first_message_cpu_s": figures(row, |run| run.start_cpu_s),
                "peak_mb": figures(row, |run| run.peak_mb),
                "stored_bytes_per_message": figures(row, |run| run.bytes),
            })
        })
        .collect();
    let promises: Vec<Value> = promises(rows)
        .into_iter()
        .map(|(text, kept)| json!({ "promise": text, "kept": kept }))
        .collect();
    json!({
        "events": events, "java_options": JAVA_OPTIONS, "programs": programs, "promises": promises,
    })
}
