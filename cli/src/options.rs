//! `mongostream options`: the table of the library's options.

use std::fmt::Write;

use clap::{Arg, ArgAction, ArgMatches, Command};
use mongostream::OPTIONS;

use crate::failure::Failure;
use crate::output::print;

pub(crate) fn command() -> Command {
    Command::new("options")
        .about("List every option of a stream: its name, values, default, and what it does")
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("As a JSON array, for programs"),
        )
}

pub(crate) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.get_flag("json") {
        true => print(&format!("{}\n", mongostream::describe_options())),
        false => print(&for_people()),
    }
}

fn for_people() -> String {
    let mut text = String::new();
    for option in OPTIONS {
        let default = match option.default {
            "" => String::new(),
            default => format!(", default {default}"),
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{}\n    {}{default}", option.name, option.values);
        for line in wrapped(option.text, 92) {
            let _ = writeln!(text, "        {line}");
        }
        text.push('\n');
    }
    text.push_str("With tail, check and checkpoint set: --NAME VALUE, also with hyphens: --full-document updateLookup.\n");
    text
}

/// Lines of at most so many characters, broken at blanks.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().filter(|line| {
            line.is_empty() || line.chars().count() + 1 + word.chars().count() <= width
        });
        match line {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => line.extend([" ", word]),
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks() {
        assert_eq!(wrapped("a bc  def", 4), ["a bc", "def"]);
        assert_eq!(wrapped("abcdef g", 3), ["abcdef", "g"]);
        assert_eq!(wrapped("", 3), [""]);
    }
}
