//! What the packages of other languages need of the header and of the table of options.

use std::fmt::Write;

use mongostream::{OPTIONS, OptionInfo, OptionKind};

use crate::abi::{Abi, Enum, Function, Parameter, Signature, Type};

const DO_NOT_EDIT: &str = "Generated from the C header and the table of options: do not edit. `MONGOSTREAM_WRITE=1 cargo \
                           test --workspace --test generated` writes it anew.";

/// `MS_ERR_IN_USE` of `ms_status` is `ERR_IN_USE`, and `MS_WORKER_FAILED` of `ms_worker_state` is `FAILED`.
fn constants(of: &Enum) -> impl Iterator<Item = (&str, i64)> {
    let words = of.constants.iter().map(|(name, _)| name.split('_').collect::<Vec<_>>());
    let mut shared = words.clone().map(|words| words[1]);
    let first = shared.next();
    let skipped = if shared.all(|word| Some(word) == first) { 2 } else { 1 };
    of.constants.iter().map(move |(name, value)| {
        (name.splitn(skipped + 1, '_').last().unwrap_or_default(), *value)
    })
}

/// `ms_worker_state` is `WorkerState`.
fn camel(name: &str) -> String {
    let words = name.split('_').filter(|word| *word != "ms");
    words.map(|word| word[..1].to_uppercase() + &word[1..].to_lowercase()).collect()
}

fn has_length(signature: &Signature) -> bool {
    signature.parameters.iter().any(|parameter| parameter.name == "length")
}

/// The option's text and values as one line.
fn words(option: &OptionInfo) -> String {
    let default = match option.default {
        "" => String::new(),
        default => format!(" Default: {default}."),
    };
    format!("{} Values: {}.{default}", option.text, option.values)
}

/// `bindings/python/src/mongostream/_abi.py`
pub(crate) fn python(abi: &Abi) -> String {
    let mut text =
        format!("\"\"\"Declarations of the C library.\n\n{}\n\"\"\"\n\n", wrapped(DO_NOT_EDIT, ""));
    text.push_str(
        "import ctypes\nimport enum\nfrom typing import Any, Dict, List, Optional, Tuple\n\n",
    );
    let version: Vec<_> = abi.version.iter().map(i64::to_string).collect();
    let _ = writeln!(text, "VERSION: Tuple[int, int, int] = ({})", version.join(", "));
    for of in &abi.enums {
        let _ = writeln!(
            text,
            "\n\nclass {}(enum.IntEnum):\n    \"\"\"The constants of {}.\"\"\"\n",
            camel(&of.name),
            of.name
        );
        for (name, value) in constants(of) {
            let _ = writeln!(text, "    {name} = {value}");
        }
    }
    text.push_str("\n\n");
    for (function, parameter, callback) in callbacks(abi) {
        let parameters: Vec<_> = callback
            .parameters
            .iter()
            .map(|p| python_type(abi, &p.kind, "", &p.name, false))
            .collect();
        let returns = python_return(abi, callback);
        let _ = writeln!(
            text,
            "{} = ctypes.CFUNCTYPE({returns}, {})",
            callback_name(&function.name, &parameter.name),
            parameters.join(", ")
        );
    }
    text.push_str("\nFUNCTIONS: Dict[str, Tuple[Optional[Any], List[Any]]] = {\n");
    for function in &abi.functions {
        let signature = &function.signature;
        let parameters: Vec<_> = (signature.parameters.iter())
            .map(|p| python_type(abi, &p.kind, &function.name, &p.name, false))
            .collect();
        let returns = python_return(abi, signature);
        let _ =
            writeln!(text, "    \"{}\": ({returns}, [{}]),", function.name, parameters.join(", "));
    }
    text + "}\n"
}

/// Every parameter that is a pointer to a function.
fn callbacks(abi: &Abi) -> impl Iterator<Item = (&Function, &Parameter, &Signature)> {
    abi.functions.iter().flat_map(|function| {
        function.signature.parameters.iter().filter_map(move |parameter| match &parameter.kind {
            Type::Callback(signature) => Some((function, parameter, signature)),
            Type::Plain(_) => None,
        })
    })
}

fn callback_name(function: &str, parameter: &str) -> String {
    camel(&format!("{function}_{parameter}"))
}

fn python_return(abi: &Abi, signature: &Signature) -> String {
    match &*signature.returns {
        "void" => "None".to_owned(),
        returns => {
            let kind = Type::Plain(returns.to_owned());
            python_type(abi, &kind, "", "", has_length(signature) || returns == "char *")
        }
    }
}

/// Text that somebody has to free, or that has a length, is an address.
fn python_type(abi: &Abi, kind: &Type, function: &str, name: &str, is_address: bool) -> String {
    let kind = match kind {
        Type::Plain(kind) => kind,
        Type::Callback(_) => return callback_name(function, name),
    };
    match &**kind {
        "const char *" if !is_address => "ctypes.c_char_p".to_owned(),
        "bool" | "size_t" | "int32_t" | "uint32_t" | "int64_t" => {
            format!("ctypes.c_{}", kind.trim_end_matches("_t")).replace("c_size", "c_size_t")
        }
        "int" => "ctypes.c_int".to_owned(),
        "size_t *" => "ctypes.POINTER(ctypes.c_size_t)".to_owned(),
        "uint32_t *" => "ctypes.POINTER(ctypes.c_uint32)".to_owned(),
        pointer if pointer.ends_with("**") => "ctypes.POINTER(ctypes.c_void_p)".to_owned(),
        pointer if pointer.ends_with('*') => "ctypes.c_void_p".to_owned(),
        of_enum if abi.enums.iter().any(|of| of.name == of_enum) => "ctypes.c_int32".to_owned(),
        other => panic!("no type of Python for {other}"),
    }
}

/// `bindings/python/src/mongostream/_options.py`
pub(crate) fn python_options() -> String {
    let mut text =
        format!("\"\"\"The options of a worker.\n\n{}\n\"\"\"\n\n", wrapped(DO_NOT_EDIT, ""));
    text.push_str("from typing import Any, Literal, Mapping, Sequence, TypedDict, Union\n\n\n");
    text.push_str("class Options(TypedDict, total=False):\n    \"\"\"The options of Buffer.watch, as keyword arguments.\"\"\"\n");
    for option in OPTIONS {
        let kind = match option.kind {
            OptionKind::Text => "str".to_owned(),
            OptionKind::Integer => "int".to_owned(),
            OptionKind::Boolean => "bool".to_owned(),
            OptionKind::Choice => {
                let words: Vec<_> = option.choices().map(|word| format!("\"{word}\"")).collect();
                format!("Literal[{}]", words.join(", "))
            }
            OptionKind::List => "Union[str, Sequence[str]]".to_owned(),
            OptionKind::Json => {
                "Union[str, Mapping[str, Any], Sequence[Mapping[str, Any]]]".to_owned()
            }
            _ => "Any".to_owned(),
        };
        let _ =
            writeln!(text, "\n{}\n    {}: {kind}", wrapped(&words(option), "    # "), option.name);
    }
    text
}

/// `bindings/node/lib/abi.js`
pub(crate) fn node(abi: &Abi) -> String {
    let mut text = format!("{}\n\"use strict\";\n\n", wrapped(DO_NOT_EDIT, "// "));
    let version: Vec<_> = abi.version.iter().map(i64::to_string).collect();
    let _ = writeln!(text, "exports.version = [{}];", version.join(", "));
    for of in &abi.enums {
        let _ = writeln!(text, "\nexports.{} = {{", camel(&of.name));
        for (name, value) in constants(of) {
            let _ = writeln!(text, "  {name}: {value},");
        }
        text.push_str("};\n");
    }
    text.push_str("\n// Types of functions that C calls.\nexports.callbacks = [\n");
    for (function, parameter, callback) in callbacks(abi) {
        let name = callback_name(&function.name, &parameter.name);
        let _ = writeln!(text, "  \"{}\",", node_signature(abi, &name, callback));
    }
    text.push_str("];\n\nexports.functions = [\n");
    for function in &abi.functions {
        let _ =
            writeln!(text, "  \"{}\",", node_signature(abi, &function.name, &function.signature));
    }
    text + "];\n"
}

fn node_signature(abi: &Abi, name: &str, signature: &Signature) -> String {
    let is_address = has_length(signature) || signature.returns == "char *";
    let parameters = signature.parameters.iter().map(|parameter| match &parameter.kind {
        Type::Plain(kind) => node_parameter(abi, kind, &parameter.name),
        Type::Callback(_) => {
            format!("{} *{}", callback_name(name, &parameter.name), parameter.name)
        }
    });
    let parameters = parameters.collect::<Vec<_>>().join(", ");
    let parameters = if parameters.is_empty() { "void" } else { &parameters };
    let returns = match &*signature.returns {
        "void" => "void ".to_owned(),
        returns => node_type(abi, returns, is_address),
    };
    format!("{returns}{name}({parameters})")
}

fn node_parameter(abi: &Abi, kind: &str, name: &str) -> String {
    match kind {
        "size_t *" | "uint32_t *" => format!("_Out_ {kind}{name}"),
        pointer if pointer.ends_with("**") => format!("_Out_ void **{name}"),
        other => format!("{}{name}", node_type(abi, other, false)),
    }
}

fn node_type(abi: &Abi, kind: &str, is_address: bool) -> String {
    match kind {
        "const char *" if !is_address => kind.to_owned(),
        pointer if pointer.ends_with('*') => "void *".to_owned(),
        of_enum if abi.enums.iter().any(|of| of.name == of_enum) => "int32_t ".to_owned(),
        other => format!("{other} "),
    }
}

/// `bindings/node/lib/options.d.ts`
pub(crate) fn node_options() -> String {
    let mut text = format!(
        "{}\n\n/** The options of Buffer.watch. */\nexport interface Options {{\n",
        wrapped(DO_NOT_EDIT, "// ")
    );
    for option in OPTIONS {
        let kind = match option.kind {
            OptionKind::Text => "string".to_owned(),
            OptionKind::Integer => "number | bigint".to_owned(),
            OptionKind::Boolean => "boolean".to_owned(),
            OptionKind::Choice => {
                let words: Vec<_> = option.choices().map(|word| format!("\"{word}\"")).collect();
                words.join(" | ")
            }
            OptionKind::List => "string | readonly string[]".to_owned(),
            OptionKind::Json => "string | object".to_owned(),
            _ => "unknown".to_owned(),
        };
        let words = wrapped(&words(option).replace("*/", "* /"), "   * ");
        let _ = writeln!(text, "  /**\n{words}\n   */\n  {}?: {kind};", option.name);
    }
    text + "}\n"
}

/// `bindings/go/abi.go`
pub(crate) fn go(abi: &Abi) -> String {
    let mut text = format!(
        "// Code generated from the C header; DO NOT EDIT.\n//\n{}\n\npackage mongostream\n",
        wrapped(DO_NOT_EDIT, "// ")
    );
    for of in &abi.enums {
        let kind = camel(&of.name);
        let prefix = kind.strip_prefix("Worker").unwrap_or(&kind);
        let _ = writeln!(
            text,
            "\n// {kind} has the constants of {}.\ntype {kind} int32\n\nconst (",
            of.name
        );
        // Go writes initialisms in capitals.
        let name = |constant: &str| match constant {
            "OK" => format!("{prefix}OK"),
            _ => format!("{prefix}{}", camel(constant.trim_start_matches("ERR_"))),
        };
        let width = constants(of).map(|(constant, _)| name(constant).len()).max().unwrap_or(0);
        for (constant, value) in constants(of) {
            let _ = writeln!(text, "\t{:width$} {kind} = {value}", name(constant));
        }
        text.push_str(")\n");
    }
    text
}

/// Breaks a text into lines of at most 100 columns, each with the prefix.
fn wrapped(words: &str, prefix: &str) -> String {
    let mut lines = vec![String::new()];
    for word in words.split_whitespace() {
        let line = lines.last_mut().expect("a line");
        if !line.is_empty() && prefix.len() + line.len() + 1 + word.len() > 100 {
            lines.push(word.to_owned());
            continue;
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.iter().map(|line| format!("{prefix}{line}")).collect::<Vec<_>>().join("\n")
}
