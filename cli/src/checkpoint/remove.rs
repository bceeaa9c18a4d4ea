//! `mongostream checkpoint remove`: the stream will begin anew.

use bson::doc;
use clap::{ArgMatches, Command};
use mongostream::CheckpointStore;

use crate::checkpoint::place::Place;
use crate::checkpoint::{arguments, text};
use crate::failure::Failure;
use crate::output::print;

pub(super) fn command() -> Command {
    Command::new("remove")
        .about("Remove a checkpoint: the next start begins as if there had been none")
        .long_about(
            "Remove a checkpoint: the next start begins as if there had been none.\n\n\
             Stop its worker first. A file that a running worker uses is refused. A collection does not tell who runs, \
             and a running worker writes its checkpoint again.",
        )
        .after_help(
            "Examples:\n  \
             mongostream checkpoint remove orders.token\n  \
             mongostream checkpoint remove 'mongodb://localhost#state.checkpoints' shop.orders",
        )
        .args(arguments())
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let place = Place::parse(&text(matches, "place").unwrap_or_default())?;
    let name = text(matches, "name");
    match &place {
        Place::File(path) => {
            // Before the lock: it would be left where there is nothing.
            place.read_one(name.as_deref())?;
            let store = mongostream::FileCheckpoint::new(path);
            let claimed = store.claim("").map_err(|error| {
                Failure::failed(format!("{}: {error}; stop that worker first", place.shown()))
            })?;
            let (found, _) = place.read_one(name.as_deref())?;
            std::fs::remove_file(path)
                .map_err(|error| Failure::failed(format!("{}: {error}", place.shown())))?;
            drop(claimed);
            print(&format!("removed checkpoint {:?} in {}\n", found.name, place.shown()))
        }
        Place::Collection { .. } => {
            let Some(name) = name else {
                return Err(Failure::usage(
                    "a collection has many checkpoints: give the NAME of one",
                ));
            };
            // Of other documents with this `_id` we know nothing.
            let is_one = [
                doc! { "checkpoint": { "$type": "string" } },
                doc! { "owner": { "$exists": true } },
            ];
            let filter = doc! { "_id": &name, "$or": is_one.as_slice() };
            let removed = place.ask(move |collection| collection.delete_one(filter).run())?;
            if removed.deleted_count == 0 {
                return Err(Failure::failed(format!(
                    "{}: there is no checkpoint {name:?}; mongostream checkpoint show PLACE lists what is there",
                    place.shown()
                )));
            }
            print(&format!("removed checkpoint {name:?} in {}\n", place.shown()))
        }
    }
}
