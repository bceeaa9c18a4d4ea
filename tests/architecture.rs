//! Imports point one way: from what decides to what it is made of, and never in a circle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A module: the names that lead to it, `["queue", "buffer"]`.
type Module = Vec<String>;

/// What is no comment and no test.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]\nmod tests").unwrap_or(text.len());
    let lines = text[..end].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Every module of a crate, with its code.
fn modules(sources: &str) -> BTreeMap<Module, String> {
    fn collect(directory: &Path, above: &Module, found: &mut BTreeMap<Module, String>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let mut module = above.clone();
            if path.is_dir() {
                module.push(name);
                collect(&path, &module, found);
                continue;
            }
            if name != "mod" {
                module.push(name);
            }
            found.insert(module, code(&fs::read_to_string(&path).unwrap()));
        }
    }
    let mut found = BTreeMap::new();
    collect(&root().join(sources), &Module::new(), &mut found);
    found.remove(&vec!["lib".to_owned()]);
    found
}

/// The paths that begin here, those in braces each on its own.
fn paths(text: &str, before: &[String], found: &mut Vec<Module>) {
    let mut path = before.to_vec();
    let mut rest = text;
    loop {
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        rest = &rest[name.len()..];
        if !name.is_empty() {
            path.push(name);
        } else if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut begin = 0;
            for (at, c) in group.char_indices() {
                match c {
                    '{' => depth += 1,
                    '}' if depth > 0 => depth -= 1,
                    ',' | '}' if depth == 0 => {
                        paths(group[begin..at].trim(), &path, found);
                        begin = at + 1;
                        if c == '}' {
                            return;
                        }
                    }
                    _ => {}
                }
            }
            return;
        }
        match rest.strip_prefix("::") {
            Some(next) => rest = next,
            None => break,
        }
    }
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    found.push(path);
}

/// Which modules each module imports from.
fn imports(modules: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeSet<Module>> {
    let of = |module: &Module, code: &String| {
        let mut found = Vec::new();
        let beginnings = [("crate::", Module::new()), ("self::", module.clone())];
        for (beginning, before) in beginnings {
            for (at, _) in code.match_indices(beginning) {
                let is_start = !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '$');
                if is_start {
                    paths(&code[at + beginning.len()..], &before, &mut found);
                }
            }
        }
        let module_of = |path: &Module| {
            let lengths = (1..=path.len()).rev();
            lengths.map(|length| path[..length].to_vec()).find(|m| modules.contains_key(m))
        };
        let all = found.iter().filter_map(module_of).filter(|found| found != module);
        all.collect::<BTreeSet<_>>()
    };
    modules.iter().map(|(module, code)| (module.clone(), of(module, code))).collect()
}

/// The layers as ARCHITECTURE.md lists them, the lowest first.
fn layers() -> Vec<String> {
    let text = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let list = text.split("```layers\n").nth(1).expect("a list of the layers");
    let list = list.split("```").next().unwrap();
    let names = list.lines().filter_map(|line| line.split_whitespace().next());
    names.map(|name| name.trim_end_matches(['/']).trim_end_matches(".rs").to_owned()).collect()
}

fn shown(module: &Module) -> String {
    module.join("::")
}

#[test]
fn no_import_points_upwards() {
    let modules = modules("src");
    let layers = layers();
    let height = |module: &Module| {
        let layer = layers.iter().position(|layer| *layer == module[0]);
        layer.unwrap_or_else(|| panic!("ARCHITECTURE.md lists no layer {}", module[0]))
    };
    let mut wrong = Vec::new();
    for (module, imported) in imports(&modules) {
        let above = imported.iter().filter(|other| height(other) > height(&module));
        wrong.extend(above.map(|other| format!("{} -> {}", shown(&module), shown(other))));
    }
    assert_eq!(wrong, [""; 0], "a lower layer imports from a higher one");
    let there: BTreeSet<&String> = modules.keys().map(|module| &module[0]).collect();
    let listed: BTreeSet<&String> = layers.iter().collect();
    assert_eq!(there, listed, "the layers of ARCHITECTURE.md");
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    for (sources, least) in [("src", 100), ("capi/src", 10)] {
        let imports = imports(&modules(sources));
        let count = imports.values().map(BTreeSet::len).sum::<usize>();
        assert!(count > least, "the imports of {sources} were read");
        assert_no_circle(imports);
    }
}

fn assert_no_circle(mut imports: BTreeMap<Module, BTreeSet<Module>>) {
    // Who imports from nobody that is left is in no circle.
    loop {
        let free: BTreeSet<Module> = imports
            .iter()
            .filter(|(_, imported)| imported.iter().all(|other| !imports.contains_key(other)))
            .map(|(module, _)| module.clone())
            .collect();
        if free.is_empty() {
            break;
        }
        imports.retain(|module, _| !free.contains(module));
    }
    let left = imports.iter().map(|(module, imported)| {
        let within = imported.iter().filter(|other| imports.contains_key(*other)).map(shown);
        format!("{} -> {}", shown(module), within.collect::<Vec<_>>().join(", "))
    });
    assert_eq!(left.collect::<Vec<_>>(), [""; 0], "modules in a circle, or above one");
}

#[test]
fn a_group_of_imports_is_read() {
    let mut found = Vec::new();
    paths("a::{self, b::{c, D}, e};", &[], &mut found);
    let found: Vec<String> = found.iter().map(shown).collect();
    assert_eq!(found, ["a", "a::b::c", "a::b::D", "a::e"]);
}
