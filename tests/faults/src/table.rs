//! How the outcome of a run is shown.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::consumer::WORKERS;
use crate::plan::{Outcome, Row};
use crate::referee::Window;

/// How many violations are shown to people.
const SHOWN: usize = 20;

/// As text, in the notation of Markdown tables.
#[must_use]
pub fn text(outcome: &Outcome) -> String {
    let header = [
        "fault",
        "alone",
        "with others",
        "events expected",
        "delivered",
        "lost",
        "told as lost",
        "twice",
        "out of order",
        "again after restart",
        "reopened",
        "longest wait",
    ];
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    lines.extend(outcome.rows.iter().map(cells));
    let mut total = Row { name: "all".into(), ..Row::default() };
    for row in &outcome.rows {
        total.window.add(&row.window);
        total.fired.0 += row.fired.0;
        total.fired.1 += if row.name == "random sequences" { 0 } else { row.fired.1 };
    }
    lines.push(cells(&total));
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let mut out = String::new();
    for (number, line) in lines.iter().enumerate() {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _ = match column {
                0 => write!(out, "| {cell:<width$} |"),
                _ => write!(out, " {cell:>width$} |"),
            };
        }
        out.push('\n');
        if number == 0 {
            for (column, width) in widths.iter().enumerate() {
                let bar = if column == 0 { "|" } else { "" };
                let colon = if column == 0 { "-" } else { ":" };
                let _ = write!(out, "{bar}{}{colon}|", "-".repeat(width + 1));
            }
            out.push('\n');
        }
    }
    for violation in outcome.violations.iter().take(SHOWN) {
        let _ = writeln!(out, "WRONG: {violation}");
    }
    if outcome.violations.len() > SHOWN {
        let _ = writeln!(out, "WRONG: {} more, see --json", outcome.violations.len() - SHOWN);
    }
    let Outcome { server, seed, took, .. } = outcome;
    let verdict = if outcome.violations.is_empty() { "nothing is wrong" } else { "FAILED" };
    let _ = writeln!(out, "{server}; seed {seed}; {:.0} s: {verdict}", took.as_secs_f64());
    out
}

fn cells(row: &Row) -> Vec<String> {
    let window = &row.window;
    let expected: usize = window.expected.iter().sum();
    let again = match window.again {
        (0, 0) => "-".to_owned(),
        (count, bound) => format!("{count} of {bound}"),
    };
    vec![
        row.name.clone(),
        row.fired.0.to_string(),
        row.fired.1.to_string(),
        expected.to_string(),
        (expected - window.lost - window.told).to_string(),
        window.lost.to_string(),
        window.told.to_string(),
        window.twice.to_string(),
        window.disordered.to_string(),
        again,
        window.reopened.to_string(),
        format!("{:.1} s", window.longest_wait.as_secs_f64()),
    ]
}

/// As JSON, for scripts.
#[must_use]
pub fn to_json(outcome: &Outcome) -> Value {
    let rows: Vec<Value> = outcome.rows.iter().map(row_json).collect();
    json!({
        "server": outcome.server,
        "seed": outcome.seed,
        "seconds": outcome.took.as_secs_f64(),
        "faults": rows,
        "violations": outcome.violations,
    })
}

fn row_json(row: &Row) -> Value {
    let Window {
        expected,
        lost,
        told,
        twice,
        disordered,
        again,
        needlessly,
        reopened,
        longest_wait,
    } = &row.window;
    let expected: serde_json::Map<String, Value> = WORKERS
        .iter()
        .zip(expected)
        .map(|(name, count)| ((*name).to_owned(), json!(count)))
        .collect();
    json!({
        "fault": row.name,
        "alone": row.fired.0,
        "with_others": row.fired.1,
        "expected": expected,
        "lost": lost,
        "told_as_lost": told,
        "twice": twice,
        "out_of_order": disordered,
        "again_after_restart": again.0,
        "again_bound": again.1,
        "again_needlessly": needlessly,
        "reopened": reopened,
        "longest_wait_ms": longest_wait.as_millis(),
    })
}
