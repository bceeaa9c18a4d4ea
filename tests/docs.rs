//! What the documentation points to is there: files, headings, tests; its C compiles, and its picture is whole.

#[path = "../benches/throughput/width.rs"]
mod width;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Markdown file of the repository.
fn documents() -> Vec<PathBuf> {
    fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if path.is_dir() && name != "target" && name != "node_modules" && !name.starts_with('.')
            {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    collect(root(), &mut found);
    found
}

/// The lines that are no code.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// Text and target of each link to something in the repository.
fn links(text: &str) -> Vec<(String, String)> {
    // Together, because the text of a link may reach over the end of a line.
    let text = prose(text).collect::<Vec<_>>().join(" ");
    let ends = text.match_indices("](").map(|(at, _)| at);
    let links = ends.filter_map(|at| {
        let (shown, rest) = (&text[..at], &text[at + 2..]);
        let (target, _) = rest.split_once(')')?;
        let (_, shown) = shown.rsplit_once('[')?;
        Some((shown.to_owned(), target.to_owned()))
    });
    links.filter(|(_, target)| !target.contains("://")).collect()
}

/// The anchors that GitHub gives to a document's headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let heading = line.trim_start_matches('#').trim().to_lowercase();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

/// What is wrong with a link.
fn fault(document: &Path, shown: &str, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let path = match file {
        "" => document.to_owned(),
        file => document.parent().unwrap().join(file),
    };
    if !path.exists() {
        return Some(format!("there is no {}", path.display()));
    }
    if path.is_dir() {
        return None;
    }
    let text = fs::read_to_string(&path).unwrap();
    if !anchor.is_empty() && !anchors(&text).contains(anchor) {
        return Some(format!("{} has no heading #{anchor}", path.display()));
    }
    // A test is cited by its name.
    let name = shown.strip_prefix('`').and_then(|name| name.strip_suffix('`'))?;
    let is_test = file.ends_with(".rs") && !name.contains(['.', '/']);
    let has_it = [format!("fn {name}("), format!("fn {name}<")].iter().any(|f| text.contains(f));
    (is_test && !has_it).then(|| format!("{} has no test {name}", path.display()))
}

#[test]
fn every_link_within_the_repository_leads_somewhere() {
    let mut count = 0;
    for document in documents() {
        for (shown, target) in links(&fs::read_to_string(&document).unwrap()) {
            count += 1;
            if let Some(fault) = fault(&document, &shown, &target) {
                panic!("{}: [{shown}]({target}): {fault}", document.display());
            }
        }
    }
    assert!(count > 20, "only {count} links are found");
}

/// The examples in C that are whole: those that include the header.
fn c_examples(text: &str) -> Vec<&str> {
    let blocks = text.split("```c\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|code| code.contains("#include <mongostream.h>")).collect()
}

#[test]
fn the_examples_in_c_compile() {
    let mut count = 0;
    for document in documents() {
        for code in c_examples(&fs::read_to_string(&document).unwrap()) {
            count += 1;
            let mut compiler = Command::new("gcc")
                .args(["-std=c11", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", "-x", "c", "-"])
                .arg("-I")
                .arg(root().join("include"))
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("gcc is needed for this test: {error}"));
            compiler.stdin.take().unwrap().write_all(code.as_bytes()).unwrap();
            let output = compiler.wait_with_output().unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{}: {errors}", document.display());
        }
    }
    assert!(count > 0);
}

#[test]
fn every_text_of_the_picture_is_inside_of_it() {
    const FONT: f64 = 13.0;
    let picture = fs::read_to_string(root().join("docs/throughput.svg")).unwrap();
    let number = |line: &str, before: &str| -> f64 {
        let (_, rest) = line.split_once(before).unwrap();
        rest.split(['"', ' ']).next().unwrap().parse().unwrap()
    };
    let right = number(&picture, "viewBox=\"0 0 ");
    assert_eq!(number(&picture, "font-size=\""), FONT);
    let texts: Vec<&str> = picture.lines().filter(|line| line.starts_with("<text ")).collect();
    assert!(texts.len() > 20);
    for line in texts {
        let (_, text) = line.strip_suffix("</text>").unwrap().split_once('>').unwrap();
        // Bold letters are wider.
        let size = if line.contains("bold") { FONT * 1.15 } else { FONT };
        let (x, width) = (number(line, "x=\""), width::width(text, size));
        let start = if line.contains("text-anchor=\"end\"") { x - width } else { x };
        assert!(start >= 0.0 && start + width <= right, "{text}: {start} to {}", start + width);
    }
}
