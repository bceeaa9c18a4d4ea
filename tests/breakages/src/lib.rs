//! Small breakages of the library, and a way to see which test finds each.
//!
//! `breakages.txt` is the list. An entry names a file, says what is broken, and shows the lines before and after:
//!
//! ```text
//! == src/checkpoint/acks.rs
//! The position moves to a token although events before it are not acked.
//! -        if self.next == self.read {
//! -            copy(&token, &mut self.position);
//! +        if true {
//! +            copy(&token, &mut self.position);
//! by: checkpoint
//! ```
//!
//! `by` names the test that is run if neither the simulation nor a unit test finds it; with `on 4.2.6` on that server.
//! `capi` stands for the unit tests of the C API, and `cli` for those of the program.

use std::path::{Path, PathBuf};

/// One small change of a file that makes the library wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breakage {
    /// From the root of the repository.
    pub file: String,
    /// What is wrong with it, in a sentence.
    pub what: String,
    /// The lines that are taken away, and those that take their place.
    pub old: Vec<String>,
    /// See `old`.
    pub new: Vec<String>,
    /// The test that finds it on a real server, if the fast tests cannot, and perhaps on which one.
    pub by: Option<String>,
}

/// The root of the repository.
pub fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap_or(root)
}

/// The list that belongs to this package.
///
/// # Errors
///
/// An entry that cannot be understood.
pub fn list() -> Result<Vec<Breakage>, String> {
    include_str!("../breakages.txt").split("\n== ").skip(1).map(parse).collect()
}

fn parse(entry: &str) -> Result<Breakage, String> {
    let mut lines = entry.lines();
    let file = lines.next().unwrap_or_default().trim().to_owned();
    let (mut what, mut old, mut new, mut by) = (Vec::new(), Vec::new(), Vec::new(), None);
    for line in lines {
        if let Some(line) = line.strip_prefix('-') {
            old.push(line.to_owned());
        } else if let Some(line) = line.strip_prefix('+') {
            new.push(line.to_owned());
        } else if let Some(test) = line.strip_prefix("by:") {
            by = Some(test.trim().to_owned());
        } else if !line.trim().is_empty() {
            what.push(line.trim());
        }
    }
    let what = what.join(" ");
    if what.is_empty() || old.is_empty() || !file.ends_with(".rs") {
        return Err(format!("{file}: an entry has a file, a sentence and lines to take away"));
    }
    Ok(Breakage { file, what, old, new, by })
}

impl Breakage {
    /// The file's text with the breakage in it.
    ///
    /// # Errors
    ///
    /// The old lines are not there, or more than once.
    pub fn applied_to(&self, text: &str) -> Result<String, String> {
        let lines: Vec<&str> = text.lines().collect();
        let is_here = |at: &usize| {
            let here = lines[*at..].iter().map(|line| line.trim());
            here.take(self.old.len()).eq(self.old.iter().map(|line| line.trim()))
        };
        let mut places = (0..lines.len()).filter(is_here);
        let place = places.next().ok_or_else(|| self.error("has not these lines"))?;
        if places.next().is_some() {
            return Err(self.error("has these lines more than once"));
        }
        let new = self.new.iter().map(String::as_str);
        let after = lines[place + self.old.len()..].iter().copied();
        let broken: Vec<&str> = lines[..place].iter().copied().chain(new).chain(after).collect();
        Ok(broken.join("\n") + "\n")
    }

    fn error(&self, why: &str) -> String {
        format!("{} {why}:\n{}\n({})", self.file, self.old.join("\n"), self.what)
    }
}
