//! The documentation of the options, which is generated from the sources and committed, is what the sources
//! give. (The header is made in `capi/header`.)
//!
//! `MONGOSTREAM_WRITE=1 cargo test --workspace --test generated` writes both anew.

use std::path::Path;
use std::time::Duration;

use bson::doc;
use mongostream::{
    ExtendedJson, Format, FullDocument, FullDocumentBeforeChange, OPTIONS, OnHistoryLost,
    OnInvalidate, OnOversized, OptionInfo, Snapshot, Start, Watch, Worker,
};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Compares a committed file with what it should be, or writes it if that was asked for.
fn check(path: &Path, generated: &str) {
    if std::env::var_os("MONGOSTREAM_WRITE").is_some() {
        std::fs::write(path, generated).unwrap();
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    let difference = generated.lines().zip(found.lines()).find(|(new, old)| new != old);
    assert!(
        generated == found,
        "{} is out of date, first at {difference:?}; write it anew with\n    \
         MONGOSTREAM_WRITE=1 cargo test --workspace --test generated",
        path.display()
    );
}

/// Compares what stands between the marks of a committed file with what it should be, or writes it.
fn check_options(file: &str, generated: &str) {
    const BEGIN: &str = "<!-- options: made from src/options/table.rs by tests/generated.rs -->\n";
    const END: &str = "<!-- /options -->";
    let path = root().join(file);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("a place for the options");
    let (_, after) = rest.split_once(END).expect("an end of the place for the options");
    check(&path, &format!("{before}{BEGIN}{generated}{END}{after}"));
}

/// All of them on one screen.
fn table() -> String {
    let mut table = String::from("| option | values | default |\n|---|---|---|\n");
    for OptionInfo { name, values, default, .. } in OPTIONS {
        let default = if default.is_empty() { "" } else { &format!("`{default}`") };
        let values = values.replace('|', "\\|");
        table.push_str(&format!("| [`{name}`](#{name}) | {values} | {default} |\n"));
    }
    table
}

/// One way to set an option, in Rust and by name.
struct Setter {
    option: &'static str,
    value: &'static str,
    rust: &'static str,
    set: Box<dyn Fn(Watch) -> Watch>,
}

macro_rules! setters {
    ($($option:literal = $value:expr, $method:ident($argument:expr);)*) => {
        vec![$(Setter {
            option: $option,
            value: $value,
            rust: concat!(".", stringify!($method), "(", stringify!($argument), ")"),
            set: Box::new(move |watch| watch.$method($argument)),
        }),*]
    };
}

fn setters() -> Vec<Setter> {
    const TOKEN: &str = r#"{"_data":"8265A1B2C3000000012B0229296E04"}"#;
    const PAID: &str = r#"[{"$match": {"fullDocument.state": "paid"}}]"#;
    const POSITION: &str = r#"{"mongostream_position":1,"watch":"shop.orders","pipeline":[],"token":{"_data":"8265A1B2C3000000012B0229296E04"}}"#;
    let (token, position) = (TOKEN, POSITION);
    setters! {
        "name" = "orders", name("orders");
        "start_at_time" = "1586360547", start_at(Start::at(1586360547));
        "resume_after" = TOKEN, start_at(Start::ResumeAfter(token.to_owned()));
        "start_after" = TOKEN, start_at(Start::StartAfter(token.to_owned()));
        "start_at_position" = POSITION, start_at(Start::Position(position.to_owned()));
        "namespaces" = "shop.orders,shop.items_*", namespaces(["shop.orders", "shop.items_*"]);
        "operations" = "insert,delete", operations(["insert", "delete"]);
        "pipeline" = PAID, pipeline([doc! { "$match": { "fullDocument.state": "paid" } }]);
        "full_document" = "updateLookup", full_document(FullDocument::UpdateLookup);
        "full_document_before_change" = "required",
            full_document_before_change(FullDocumentBeforeChange::Required);
        "show_expanded_events" = "true", show_expanded_events(true);
        "batch_size" = "500", batch_size(500);
        "await_ms" = "250", await_time(Duration::from_millis(250));
        "format" = "event", format(Format::Event);
        "json" = "canonical", extended_json(ExtendedJson::Canonical);
        "updated_paths" = "true", updated_paths(true);
        "retry_ms" = "60000", retry_for(Duration::from_secs(60));
        "snapshot" = "initial", snapshot(Snapshot::Initial);
        "on_history_lost" = "restart", on_history_lost(OnHistoryLost::Restart);
        "on_oversized" = "skip", on_oversized(OnOversized::Skip);
        "on_invalidate" = "stop", on_invalidate(OnInvalidate::Stop);
        "checkpoint_name" = "orders", checkpoint_name("orders");
        "checkpoint_ms" = "200", checkpoint_interval(Duration::from_millis(200));
        "standby" = "true", standby(true);
        "lease_ms" = "3000", lease(Duration::from_secs(3));
    }
}

/// In Rust the place of a checkpoint is a store, which is not among the options.
const STORES: [(&str, &str, &str); 3] = [
    ("checkpoint_file", "orders.token", r#".checkpoint(FileCheckpoint::new("orders.token"))"#),
    (
        "checkpoint_collection",
        "state.checkpoints",
        r#".checkpoint(CollectionCheckpoint::new(uri, "state.checkpoints")?)"#,
    ),
    (
        "checkpoint_uri",
        "mongodb://other.example",
        r#".checkpoint(CollectionCheckpoint::new("mongodb://other.example", "state.checkpoints")?)"#,
    ),
];

/// The section of an option in its documentation.
fn section(option: &OptionInfo, value: &str, rust: &str) -> String {
    let OptionInfo { name, values, default, text, .. } = option;
    let (mut says, mut facts) = (Vec::new(), Vec::new());
    for sentence in text.trim_end_matches('.').split(". ") {
        if let Some(others) = sentence.strip_prefix("Excludes ") {
            facts.push(format!("- excludes: {others}\n"));
        } else if sentence.contains("eed MongoDB") || sentence.starts_with("Needs MongoDB") {
            let needs = sentence.strip_prefix("Needs ").unwrap_or(sentence);
            facts.push(format!("- needs: {needs}\n"));
        } else {
            says.push(format!("{sentence}."));
        }
    }
    let default = if default.is_empty() { "none" } else { &format!("`{default}`") };
    format!(
        "## `{name}`\n\n{}\n\n- values: {values}\n- default: {default}\n{}- C: `MS_OPT_{}`, \
         such as `{value}`\n- Rust: `{rust}`\n\n",
        says.join(" "),
        facts.concat(),
        name.to_uppercase(),
    )
}

#[test]
fn the_documented_options_are_those_of_the_code() {
    let setters = setters();
    let typed = setters.iter().map(|setter| (setter.option, setter.value, setter.rust));
    let all: Vec<_> = typed.chain(STORES).collect();
    let sections = OPTIONS.iter().map(|option| {
        let found = all.iter().find(|(name, ..)| *name == option.name);
        let (_, value, rust) = found.unwrap_or_else(|| panic!("how is {} set?", option.name));
        section(option, value, rust)
    });
    check_options("docs/OPTIONS.md", &format!("\n{}\n{}", table(), sections.collect::<String>()));
    assert_eq!(all.len(), OPTIONS.len());
}

#[test]
fn what_is_set_in_rust_is_what_is_set_by_name() {
    let watch = || Worker::watch("mongodb://localhost");
    for Setter { option, value, rust, set } in setters() {
        let by_name = format!("{:?}", watch().option(option, value));
        assert_eq!(format!("{:?}", set(watch())), by_name, "{rust}");
        assert_ne!(format!("{:?}", watch()), by_name, "{option}={value} changes nothing");
    }
}
