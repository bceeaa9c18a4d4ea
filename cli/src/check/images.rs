//! Whether the collections keep what documents were before and after a change, where the stream asks for it.

use bson::{Document, doc};

use crate::ask::Asked;
use crate::check::finding::{Finding, Level};
use crate::check::wishes::{Watched, Wishes};

/// How many collections are named in a text.
const NAMED: usize = 5;

pub(crate) fn check(deployment: &Asked, watched: &Watched, wishes: &Wishes) -> Option<Finding> {
    let wished = wishes.needing_images();
    if wished.is_empty() {
        return None;
    }
    let options = Vec::from_iter(wished.iter().map(|(name, value)| format!("{name}={value}")));
    let options = options.join(" and ");
    let is_required = wished.iter().any(|(_, value)| *value == "required");
    let (Watched::Collection(database, _) | Watched::Database(database, _)) = watched else {
        return Some(Finding::new(
            Level::Note,
            ("images", "not_checked"),
            format!(
                "{options}: whether each collection of the deployment keeps images was not looked at"
            ),
            "check one database, or set it on a collection: db.runCommand({ collMod: NAME, \
             changeStreamPreAndPostImages: { enabled: true } })",
        ));
    };
    let mut asked = doc! { "listCollections": 1, "cursor": { "batchSize": 10_000 } };
    if let Watched::Collection(_, name) = watched {
        asked.insert("filter", doc! { "name": name });
    }
    let collections = match deployment.batch(database, asked) {
        Ok(collections) => collections,
        Err(refusal) => {
            return Some(Finding::new(
                Level::Note,
                ("images", "not_allowed"),
                format!(
                    "{options}: whether the collections keep images is not known: {}",
                    refusal.text
                ),
                format!(
                    "for this check, not for a stream: the user needs listCollections on the database {database}"
                ),
            ));
        }
    };
    Some(judge(&collections, watched, &options, is_required))
}

fn judge(collections: &[Document], watched: &Watched, options: &str, is_required: bool) -> Finding {
    let ours = collections.iter().filter_map(|collection| {
        let name = collection.get_str("name").ok()?;
        // Views and time series have no change streams.
        let is_one = collection.get_str("type").is_ok_and(|kind| kind == "collection");
        (is_one && !name.starts_with("system.") && watched.has(name)).then_some((name, collection))
    });
    let ours: Vec<_> = ours.collect();
    let keeps = |collection: &Document| -> Option<bool> {
        let options = collection.get_document("options").ok()?;
        options.get_document("changeStreamPreAndPostImages").ok()?.get_bool("enabled").ok()
    };
    let off: Vec<&str> = ours
        .iter()
        .filter(|(_, collection)| keeps(collection) != Some(true))
        .map(|(name, _)| *name)
        .collect();
    if ours.is_empty() {
        return Finding::new(
            Level::Note,
            ("images", "no_collection"),
            match watched {
                Watched::Collection(..) => {
                    format!(
                        "{options}: {watched} does not exist yet, and a new one keeps no images"
                    )
                }
                _ => format!(
                    "{options}: {watched} has no such collection yet, and a new one keeps no images"
                ),
            },
            "make it with db.createCollection(NAME, { changeStreamPreAndPostImages: { enabled: true } })",
        );
    }
    let Some(first) = off.first() else {
        return Finding::ok("images", format!("{options}: images are kept"));
    };
    let mut names = Vec::from_iter(off.iter().take(NAMED).copied()).join(", ");
    if off.len() > NAMED {
        names.push_str(&format!(" and {} more", off.len() - NAMED));
    }
    let (level, consequence) = match is_required {
        true => (Level::Problem, "the stream ends at the first change without one"),
        false => (Level::Warning, "changes come without them"),
    };
    Finding::new(
        level,
        ("images", "off"),
        format!("{options}: no images are kept of {names}; {consequence}"),
        format!(
            "db.runCommand({{ collMod: {first:?}, changeStreamPreAndPostImages: {{ enabled: true }} }}); it holds for \
             changes after that"
        ),
    )
}
