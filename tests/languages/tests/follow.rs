//! The program `follow` does the same in every language.

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::sync::Collection;
use ground::{ReplicaSet, shared};
use mongostream_languages::{Directory, LANGUAGES, Program, is_here};
use nix::sys::signal::Signal;

fn orders(database: &str) -> Collection<Document> {
    shared().client().database(database).collection("orders")
}

fn insert(orders: &Collection<Document>, ids: std::ops::Range<i32>) {
    orders.insert_many(ids.map(|id| doc! { "_id": id })).run().unwrap();
}

fn has_id(line: &str, id: i32) -> bool {
    line.starts_with(&format!(r#"{{"DocumentKey":{{"DocumentId":"{id}","#))
}

/// After an orderly end and after `kill -9` it continues with the first change that it has not printed.
fn it_continues_where_it_was(language: &str) {
    let database = shared().database("follow");
    let (orders, directory) = (orders(&database), Directory::new("follow"));
    let start = || {
        let arguments = [shared().uri(), &database, "orders", "checkpoint_file=orders.token"];
        let mut program = Program::start(language, None, &arguments, &directory.0);
        program.wait_until_ready();
        program
    };
    let mut program = start();
    insert(&orders, 0..3);
    (0..3).for_each(|id| assert!(has_id(&program.line(), id)));
    program.signal(Signal::SIGTERM);
    let (code, took, said) = program.end();
    assert_eq!(code, Some(0), "{said}");
    eprintln!("{language}: from SIGTERM to the end {took:?}");
    insert(&orders, 3..5);
    let mut program = start();
    let line = program.line();
    assert!(has_id(&line, 3), "{line}");
    assert!(has_id(&program.line(), 4));
    program.signal(Signal::SIGKILL);
    program.end();
    insert(&orders, 5..6);
    // What was printed and not saved may come again; nothing is missing.
    let mut program = start();
    let mut line = program.line();
    let first = (3..6).find(|id| has_id(&line, *id)).unwrap_or_else(|| panic!("{line}"));
    for id in first + 1..6 {
        line = program.line();
        assert!(has_id(&line, id), "{line}");
    }
}

fn what_ends_it_is_an_exit_code(language: &str) {
    let directory = Directory::new("codes");
    let start = |arguments: &[&str]| Program::start(language, None, arguments, &directory.0);
    let uri = shared().uri();
    let (code, _, said) = start(&[uri, "shop", "orders", "nonsense"]).end();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("usage: follow"), "{said}");
    let (code, _, said) = start(&[uri, "shop", "orders", "nonsense=1"]).end();
    assert!(matches!(code, Some(1 | 2)), "{said}");
    assert!(said.contains("there is no option \"nonsense\""), "{said}");
    // A worker that fails on its own thread.
    let bad = r#"pipeline=[{"$match":{"$nonsense":1}}]"#;
    let (code, _, said) = start(&[uri, "shop", "orders", bad]).end();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("$nonsense"), "{said}");
}

fn a_frozen_server_does_not_keep_it(language: &str) {
    let (set, directory) = (ReplicaSet::start().unwrap(), Directory::new("frozen"));
    let mut program = Program::start(language, None, &[set.uri(), "-", "-"], &directory.0);
    program.wait_until_ready();
    set.member(0).pause().unwrap();
    program.signal(Signal::SIGINT);
    let (code, took, said) = program.end();
    assert_eq!(code, Some(0), "{said}");
    eprintln!("{language}: from SIGINT to the end {took:?}, with a frozen server");
    set.member(0).resume().unwrap();
}

macro_rules! for_each_language {
    ($($language:ident)*) => {$(
        mod $language {
            fn with(test: fn(&str)) {
                let language = stringify!($language);
                if super::is_here(language) {
                    test(language);
                }
            }

            #[test]
            fn it_continues_where_it_was() {
                with(super::it_continues_where_it_was);
            }

            #[test]
            fn what_ends_it_is_an_exit_code() {
                with(super::what_ends_it_is_an_exit_code);
            }

            #[test]
            fn a_frozen_server_does_not_keep_it() {
                with(super::a_frozen_server_does_not_keep_it);
            }
        }
    )*};
}

for_each_language! { rust c cpp go python node }

/// How many changes the languages are compared with; `MONGOSTREAM_EVENTS` says another number.
const EVENTS: usize = 3_000;

/// Inserts, updates, replaces and deletes of documents with values of many types.
fn write_mixed(orders: &Collection<Document>, events: usize) {
    for round in 0..events / 5 {
        let id = round as i64;
        let text = "a\u{2028}b\u{85}\"\\ \u{1F600}\u{7}".repeat(1 + round % 9);
        let document = doc! {
            "_id": id, "text": &text, "double": 0.1 * id as f64, "list": [1, "x", { "y": null }],
            "large": i64::MAX - id, "flag": id % 2 == 0,
        };
        orders.insert_one(document).run().unwrap();
        let key = || doc! { "_id": id };
        orders.update_one(key(), doc! { "$set": { "text": "new", "a.b": id } }).run().unwrap();
        orders.update_one(key(), doc! { "$unset": { "flag": 1 } }).run().unwrap();
        orders.replace_one(key(), doc! { "other": text }).run().unwrap();
        orders.delete_one(key()).run().unwrap();
    }
}

#[test]
fn the_same_lines_come_in_every_language() {
    let database = shared().database("mixed");
    let (orders, directory) = (orders(&database), Directory::new("mixed"));
    let events = std::env::var("MONGOSTREAM_EVENTS").map_or(EVENTS, |text| text.parse().unwrap());
    let ping = shared().client().database("admin").run_command(doc! { "ping": 1 }).run().unwrap();
    let from = ping.get_timestamp("operationTime").unwrap();
    write_mixed(&orders, events);
    let start = format!("start_at_time={}:{}", from.time, from.increment);
    let arguments = [shared().uri(), &*database, "orders", &start];
    let mut expected: Vec<String> = Vec::new();
    for (language, _) in LANGUAGES {
        if !is_here(language) {
            continue;
        }
        let mut program = Program::start(language, None, &arguments, &directory.0);
        program.wait_until_ready();
        let lines: Vec<String> = (0..events / 5 * 5).map(|_| program.line()).collect();
        program.signal(Signal::SIGINT);
        assert_eq!(program.end().0, Some(0), "{language}");
        if expected.is_empty() {
            expected.clone_from(&lines);
        }
        for (number, (line, expected)) in lines.iter().zip(&expected).enumerate() {
            assert_eq!(line, expected, "{language}, line {number}");
        }
    }
}
