//! The results as a table, and as JSON.

use serde_json::{Value, json};

use crate::programs::{Kind, Program, Run};
use crate::support::{median, quantile};

/// A program and its runs, one a round.
pub(crate) struct Row {
    pub(crate) program: Program,
    pub(crate) runs: Vec<Run>,
}

impl Row {
    pub(crate) fn median(&self, of: fn(&Run) -> f64) -> f64 {
        median(self.runs.iter().map(of))
    }

    fn range(&self, of: fn(&Run) -> f64) -> (f64, f64) {
        let part = |part| quantile(self.runs.iter().map(of), part);
        (part(0.0), part(1.0))
    }
}

fn row<'a>(rows: &'a [Row], key: &str) -> Option<&'a Row> {
    rows.iter().find(|row| row.program.key == key)
}

/// The throughput as part of the ceiling's with the same size of replies.
pub(crate) fn of_ceiling(rows: &[Row], of: &Row) -> Option<f64> {
    let ceiling = row(rows, of.program.ceiling)?;
    Some(of.median(|run| run.events_per_s) / ceiling.median(|run| run.events_per_s))
}

/// For Markdown.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut text = String::from(
        "| program | events/s | of the ceiling | client CPU µs/event | server CPU µs/event | peak MB |\n\
         |---|---|---|---|---|---|\n",
    );
    for row in rows {
        let Program { name, batch_size, .. } = &row.program;
        let size =
            if *batch_size == 0 { String::new() } else { format!(", replies of {batch_size}") };
        let (least, most) = row.range(|run| run.events_per_s);
        let part = of_ceiling(rows, row).map_or("–".to_owned(), |part| format!("{part:.2}"));
        text += &format!(
            "| {name}{size} | {:.0} ({least:.0}–{most:.0}) | {part} | {:.2} | {:.1} | {:.0} |\n",
            row.median(|run| run.events_per_s),
            row.median(|run| run.client_us),
            row.median(|run| run.server_us),
            row.range(|run| run.peak_mb).1,
        );
    }
    text
}

/// What mongostream promises of these figures: for each whether it is kept.
pub(crate) fn promises(rows: &[Row]) -> Vec<(String, bool)> {
    let mut kept = Vec::new();
    let mut at_least = |what: &str, figure: f64, bound: f64| {
        kept.push((format!("{what}: {figure:.3}, at least {bound}"), figure >= bound));
    };
    for (key, bound) in [
        ("rust", 0.97),
        ("rust-5000", 0.97),
        ("c-lines", 0.97),
        ("c-lines-5000", 0.97),
        ("c-messages", 0.93),
        ("c-messages-5000", 0.93),
    ] {
        if let Some(part) = row(rows, key).and_then(|row| of_ceiling(rows, row)) {
            at_least(&format!("throughput of {key} as part of the ceiling's"), part, bound);
        }
    }
    for (key, bound) in
        [("go-library", 4.0), ("driver", 9.0), ("driver-bson-3", 9.0), ("libmongoc-json", 12.0)]
    {
        for ours in ["rust", "c-lines"] {
            if let (Some(other), Some(ours_row)) = (row(rows, key), row(rows, ours)) {
                let ratio =
                    other.median(|run| run.client_us) / ours_row.median(|run| run.client_us);
                at_least(&format!("client CPU of {key} to {ours}'s"), ratio, bound);
            }
        }
    }
    if let Some(c) = row(rows, "c-lines") {
        for (key, bound) in [("cpp", 1.05), ("go", 1.5), ("python", 1.3), ("node", 2.0)] {
            let Some(row) = row(rows, key) else { continue };
            let ratio = |of: fn(&Run) -> f64| row.median(of) / c.median(of);
            let (cpu, throughput) = (ratio(|run| run.client_us), ratio(|run| run.events_per_s));
            let text = format!("client CPU of {key} to c-lines': {cpu:.3}, at most {bound}");
            kept.push((text, cpu <= bound));
            let text = format!("throughput of {key} to c-lines': {throughput:.3}, at least 0.95");
            kept.push((text, throughput >= 0.95));
        }
    }
    for key in ["rust", "c-lines", "c-messages"] {
        if let Some(row) = row(rows, key) {
            let (peak, bound) = (row.range(|run| run.peak_mb).1, 25.0);
            kept.push((format!("peak MB of {key}: {peak:.1}, at most {bound}"), peak <= bound));
        }
    }
    kept
}

pub(crate) fn as_json(rows: &[Row], events: usize) -> Value {
    let figures = |row: &Row, of: fn(&Run) -> f64| {
        let (least, most) = row.range(of);
        json!({ "median": row.median(of), "min": least, "max": most })
    };
    let programs: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "program": row.program.key, "batch_size": row.program.batch_size,
                "is_mongostream": row.program.kind == Kind::Ours,
                "of_ceiling": of_ceiling(rows, row),
                "events_per_s": figures(row, |run| run.events_per_s),
                "client_cpu_us_per_event": figures(row, |run| run.client_us),
                "server_cpu_us_per_event": figures(row, |run| run.server_us),
                "peak_mb": figures(row, |run| run.peak_mb),
                "json_bytes_per_event": figures(row, |run| run.bytes_per_event),
            })
        })
        .collect();
    let promises: Vec<Value> = promises(rows)
        .into_iter()
        .map(|(text, kept)| json!({ "promise": text, "kept": kept }))
        .collect();
    json!({ "events": events, "programs": programs, "promises": promises })
}
