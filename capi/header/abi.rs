//! What a program is compiled against: the functions and constants of the header, as data.

use serde_json::{Value, json};

/// A parameter: its C type, and its name.
pub(crate) struct Parameter {
    pub(crate) name: String,
    pub(crate) kind: Type,
}

pub(crate) enum Type {
    Plain(String),
    /// A pointer to a function.
    Callback(Signature),
}

pub(crate) struct Signature {
    pub(crate) returns: String,
    pub(crate) parameters: Vec<Parameter>,
}

pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) signature: Signature,
    /// Its result must not be dropped.
    pub(crate) is_must_use: bool,
}

/// An enum: its name, and its constants in order.
pub(crate) struct Enum {
    pub(crate) name: String,
    pub(crate) constants: Vec<(String, i64)>,
}

pub(crate) struct Abi {
    pub(crate) version: Vec<i64>,
    pub(crate) enums: Vec<Enum>,
    /// What only pointers to exist.
    pub(crate) opaque: Vec<String>,
    pub(crate) functions: Vec<Function>,
}

impl Abi {
    /// Reads the header as cbindgen writes it.
    pub(crate) fn of_header(header: &str) -> Self {
        let text = without_comments(header);
        let version = ["MAJOR", "MINOR", "PATCH"].map(|part| {
            let line = format!("#define MS_VERSION_{part} ");
            let value = text.split_once(&line).expect("a version").1.lines().next();
            value.and_then(|value| value.parse().ok()).expect("a number")
        });
        let code: String =
            text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
        let words = code.split_whitespace().collect::<Vec<_>>().join(" ");
        let (mut enums, mut opaque, mut functions) = (Vec::new(), Vec::new(), Vec::new());
        for statement in words.split(';').map(str::trim) {
            if let Some(function) = statement.split_once("MS_API ").map(|(_, function)| function) {
                functions.push(function_of(function));
            } else if let Some((name, constants)) = enum_of(statement) {
                enums.push(Enum { name, constants });
            } else if let Some(names) = statement.strip_prefix("typedef struct ") {
                opaque.push(names.split(' ').next_back().expect("a name").to_owned());
            } else {
                let is_known = ["typedef ", "} "].iter().any(|known| statement.starts_with(known))
                    || ["", "}"].contains(&statement);
                assert!(is_known, "the header has something new: {statement:?}");
            }
        }
        Self { version: version.to_vec(), enums, opaque, functions }
    }

    pub(crate) fn to_json(&self) -> String {
        let enums = self.enums.iter().map(|Enum { name, constants }| {
            let constants: serde_json::Map<_, _> =
                constants.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
            json!({ "name": name, "constants": constants })
        });
        let functions = self.functions.iter().map(|function| {
            let mut json = of_signature(&function.signature);
            json["name"] = json!(function.name);
            json["must_use"] = json!(function.is_must_use);
            json
        });
        let abi = json!({
            "version": self.version,
            "opaque": self.opaque,
            "enums": enums.collect::<Vec<_>>(),
            "functions": functions.collect::<Vec<_>>(),
        });
        format!("{abi:#}\n")
    }
}

fn of_signature(signature: &Signature) -> Value {
    let parameters = signature.parameters.iter().map(|Parameter { name, kind }| match kind {
        Type::Plain(kind) => json!({ "name": name, "type": kind }),
        Type::Callback(signature) => json!({ "name": name, "callback": of_signature(signature) }),
    });
    json!({ "returns": signature.returns, "parameters": parameters.collect::<Vec<_>>() })
}

fn without_comments(header: &str) -> String {
    let mut parts = header.split("/*");
    let mut text = parts.next().unwrap_or_default().to_owned();
    parts.for_each(|part| text.push_str(part.split_once("*/").expect("an end of the comment").1));
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

fn enum_of(statement: &str) -> Option<(String, Vec<(String, i64)>)> {
    let (head, body) = statement.strip_suffix('}')?.split_once('{')?;
    let name = head.split_once("enum ")?.1.split(' ').next()?.to_owned();
    let constants = body.split(',').map(str::trim).filter(|constant| !constant.is_empty());
    let constants = constants.map(|constant| {
        let (name, value) = constant.split_once(" = ").expect("a value");
        (name.to_owned(), value.parse().expect("a number"))
    });
    Some((name, constants.collect()))
}

/// Splits at the commas that stand in no parentheses.
fn at_commas(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut from) = (Vec::new(), 0, 0);
    for (at, char) in text.char_indices() {
        match char {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[from..].trim());
    parts
}

fn function_of(text: &str) -> Function {
    let (is_must_use, text) = match text.strip_prefix("MS_MUST_USE ") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (head, parameters) = text.strip_suffix(')').expect(text).split_once('(').expect(text);
    let (returns, name) = typed(head);
    Function { name, signature: Signature { returns, parameters: all(parameters) }, is_must_use }
}

fn all(parameters: &str) -> Vec<Parameter> {
    at_commas(parameters).into_iter().filter(|text| *text != "void").map(parameter_of).collect()
}

fn parameter_of(text: &str) -> Parameter {
    let Some((returns, rest)) = text.split_once(" (*") else {
        let (kind, name) = typed(text);
        return Parameter { name, kind: Type::Plain(kind) };
    };
    let (name, parameters) = rest.strip_suffix(')').expect(text).split_once(")(").expect(text);
    let signature = Signature { returns: returns.to_owned(), parameters: all(parameters) };
    Parameter { name: name.to_owned(), kind: Type::Callback(signature) }
}

/// The type and the name in a declaration.
fn typed(text: &str) -> (String, String) {
    let at = text.rfind([' ', '*']).expect(text) + 1;
    (text[..at].trim().to_owned(), text[at..].to_owned())
}
