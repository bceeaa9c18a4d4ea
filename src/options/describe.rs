//! The table of options as JSON, from which others generate what they need.

use serde_json::{Value, json};

use crate::options::table::{OPTIONS, OptionInfo};

/// The table of options as a JSON array, for bindings, completions and forms.
///
/// Each option is an object with these keys:
///
/// | key | value |
/// |---|---|
/// | `name` | the name that [`Options::set`](crate::Options::set) takes |
/// | `kind` | `text`, `integer`, `boolean`, `choice`, `list` or `json`: see [`OptionKind`](crate::OptionKind) |
/// | `values` | the values it takes, in words |
/// | `choices` | of a `choice` the words, else an empty array |
/// | `default` | the value that holds where none is set; null if there is none |
/// | `text` | what it does |
///
/// Later versions may have more options, kinds and keys.
///
/// ```
/// let options: Vec<serde_json::Value> = serde_json::from_str(&mongostream::describe_options())?;
/// let format = options.iter().find(|option| option["name"] == "format").unwrap();
/// assert_eq!(format["choices"], serde_json::json!(["oplog", "event"]));
/// # Ok::<(), serde_json::Error>(())
/// ```
pub fn describe_options() -> String {
    Value::Array(OPTIONS.iter().map(described).collect()).to_string()
}

fn described(option: &OptionInfo) -> Value {
    json!({
        "name": option.name,
        "kind": option.kind.name(),
        "values": option.values,
        "choices": option.choices().collect::<Vec<_>>(),
        "default": Some(option.default).filter(|default| !default.is_empty()),
        "text": option.text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Options;
    use crate::options::table::OptionKind;

    #[test]
    fn each_option_is_described_as_it_is() {
        let all: Vec<Value> = serde_json::from_str(&describe_options()).unwrap();
        assert_eq!(all.len(), OPTIONS.len());
        for (option, described) in OPTIONS.iter().zip(&all) {
            assert_eq!(described["name"], option.name);
            assert_eq!(described["text"], option.text);
            assert_eq!(described["kind"], option.kind.name());
            let choices: Vec<_> = option.choices().collect();
            assert_eq!(described["choices"], json!(choices));
            assert_eq!(described["default"].as_str().unwrap_or_default(), option.default);
        }
    }

    /// What the kind says is what the check takes.
    #[test]
    fn each_kind_is_what_the_option_takes() {
        for option in OPTIONS {
            let takes = |value: &str| Options::new().set(option.name, value).is_ok();
            let choices: Vec<_> = option.choices().collect();
            assert_eq!(choices.is_empty(), option.kind != OptionKind::Choice, "{}", option.name);
            assert!(choices.iter().all(|choice| takes(choice)), "{}", option.name);
            match option.kind {
                OptionKind::Boolean => assert!(takes("true") && takes("false") && !takes("1")),
                OptionKind::Integer => assert!(takes("1000") && !takes("x"), "{}", option.name),
                OptionKind::Choice => assert!(!takes("x"), "{}", option.name),
                OptionKind::Json => assert!(!takes("x"), "{}", option.name),
                OptionKind::List => assert!(!takes("[1]"), "{}", option.name),
                OptionKind::Text => assert!(!takes(""), "{}", option.name),
            }
        }
    }
}
