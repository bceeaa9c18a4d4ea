//! The results as a picture: events a second, and what they cost the client.

use crate::programs::{Kind, Run};
use crate::report::Row;
use crate::width::width;

const BAR: usize = 18;
const STEP: usize = 26;
const TOP: usize = 46;
const FONT: usize = 13;
/// Between the edge, a name, and its bar.
const SPACE: usize = 10;
const PANEL: usize = 230;
const GAP: usize = 90;

/// One of the two figures of each program.
struct Panel {
    title: &'static str,
    figure: fn(&Run) -> f64,
    decimals: usize,
    unit: f64,
}

const PANELS: [Panel; 2] = [
    Panel {
        title: "thousand events a second",
        figure: |run| run.events_per_s,
        decimals: 1,
        unit: 1000.0,
    },
    Panel {
        title: "client CPU, µs an event", figure: |run| run.client_us, decimals: 2, unit: 1.0
    },
];

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

/// Rows with a special size of replies are left out: there they look like the others.
pub(crate) fn svg(rows: &[Row]) -> String {
    let rows: Vec<&Row> = rows.iter().filter(|row| !row.program.key.ends_with("-5000")).collect();
    let names: Vec<String> = rows.iter().map(|row| row.program.name.replace('`', "")).collect();
    let longest = names.iter().map(|name| width(name, FONT as f64)).fold(0.0, f64::max);
    let names_end = SPACE + longest.ceil() as usize;
    let bars = names_end + SPACE;
    let (width, height) = (bars + 2 * (PANEL + GAP), TOP + rows.len() * STEP + 10);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"{FONT}\">\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    for (index, name) in names.iter().enumerate() {
        let y = TOP + index * STEP + BAR - 5;
        let name = escaped(name);
        text += &format!("<text x=\"{names_end}\" y=\"{y}\" text-anchor=\"end\">{name}</text>\n");
    }
    for (index, panel) in PANELS.iter().enumerate() {
        let Panel { title, decimals, .. } = panel;
        let left = bars + index * (PANEL + GAP);
        text += &format!("<text x=\"{left}\" y=\"28\" font-weight=\"bold\">{title}</text>\n");
        let figures: Vec<f64> = rows.iter().map(|row| row.median(panel.figure)).collect();
        let largest = figures.iter().copied().fold(0.0, f64::max);
        for (index, (row, figure)) in rows.iter().zip(figures).enumerate() {
            let color = match row.program.kind {
                Kind::Ceiling => "#9aa0a6",
                Kind::Ours => "#13aa52",
                Kind::Other => "#d08770",
            };
            let (y, length) = (TOP + index * STEP, (figure / largest * PANEL as f64).max(1.0));
            let (end, line) = (left as f64 + length + 6.0, y + BAR - 5);
            let figure = figure / panel.unit;
            text += &format!(
                "<rect x=\"{left}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{color}\"/>\n\
                 <text x=\"{end:.1}\" y=\"{line}\">{figure:.decimals$}</text>\n"
            );
        }
    }
    text + "</svg>\n"
}
