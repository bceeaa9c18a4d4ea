//! Each option of the library's table as a flag, made from the table.

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command, ValueHint};
use mongostream::{OPTIONS, OptionInfo, OptionKind, Watch};

/// What the id of a flag begins with: commands have arguments of their own that are called like an option.
const PREFIX: &str = "option.";

fn id(option: &OptionInfo) -> String {
    format!("{PREFIX}{}", option.name)
}

/// Adds the flags of all options but those that the command has no use for.
pub(crate) fn add(command: Command, but: &[&str]) -> Command {
    let options = OPTIONS.iter().filter(|option| !but.contains(&option.name));
    command.args(options.map(flag))
}

fn flag(option: &'static OptionInfo) -> Arg {
    let default = match option.default {
        "" => String::new(),
        default => format!(" [default: {default}]"),
    };
    let flag = Arg::new(id(option))
        .long(option.name)
        .help_heading("Options of the stream")
        .help(format!("{}{default}", first_sentence(option.text)))
        .long_help(format!("{}\n\nValues: {}{default}", option.text, option.values))
        .value_name(option.kind.name().to_uppercase());
    let flag = match option.name.contains('_') {
        true => flag.alias(option.name.replace('_', "-")),
        false => flag,
    };
    match option.kind {
        OptionKind::Choice => flag.value_parser(words(option.choices())),
        // The flag alone means true.
        OptionKind::Boolean => flag
            .value_parser(words(["false", "true"].into_iter()))
            .num_args(0..=1)
            .default_missing_value("true"),
        // -1 is a value.
        OptionKind::Integer => flag.allow_negative_numbers(true),
        _ if option.values == "path" => flag.value_hint(ValueHint::FilePath),
        _ => flag,
    }
}

fn words(words: impl Iterator<Item = &'static str>) -> PossibleValuesParser {
    PossibleValuesParser::new(words.collect::<Vec<_>>())
}

fn first_sentence(text: &str) -> &str {
    let end = [". ", "; ", " ("].into_iter().filter_map(|end| text.find(end)).min();
    end.map_or(text, |end| text.get(..end).unwrap_or(text)).trim_end_matches('.')
}

/// The options that were given, as names and values.
pub(crate) fn given(matches: &ArgMatches) -> impl Iterator<Item = (&'static str, &str)> {
    OPTIONS.iter().filter_map(|option| {
        // A command need not have all of them.
        let value = matches.try_get_one::<String>(&id(option)).ok().flatten()?;
        Some((option.name, value.as_str()))
    })
}

/// Sets the options that were given.
pub(crate) fn set(watch: Watch, matches: &ArgMatches) -> Watch {
    given(matches).fold(watch, |watch, (name, value)| watch.option(name, value))
}
