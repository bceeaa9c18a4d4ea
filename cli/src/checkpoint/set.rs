//! `mongostream checkpoint set`: a stream shall go on at a point of your choice.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};

use clap::{Arg, ArgMatches, Command};
use mongostream::{Buffer, CheckpointStore, StoreError};

use crate::checkpoint::place::Place;
use crate::checkpoint::saved::Checkpoint;
use crate::checkpoint::{arguments, force, text};
use crate::failure::Failure;
use crate::flags;
use crate::target::{self, Target};

/// What `--at`, PLACE and NAME say already.
const SAID: [&str; 10] = [
    "start_at_time",
    "resume_after",
    "start_after",
    "start_at_position",
    "snapshot",
    "checkpoint_file",
    "checkpoint_collection",
    "checkpoint_uri",
    "checkpoint_name",
    "checkpoint_ms",
];

pub(super) fn command() -> Command {
    let command = Command::new("set")
        .about("Let a stream go on at a time, after a token, or now")
        .long_about(
            "Let a stream go on at a time, after a token, or now.\n\n\
             The stream is opened there first, and what the library would save is put into PLACE: a point that the \
             server does not have any more is refused, and the checkpoint before stays. A checkpoint belongs to one \
             stream: give --namespace and the options namespaces, operations and pipeline as the stream has them.",
        )
        .after_help(
            "Examples:\n  \
             mongostream checkpoint set orders.token --at now --uri mongodb://localhost --namespace shop.orders\n  \
             mongostream checkpoint set 'mongodb://localhost#state.checkpoints' shop.orders --at 1732264946:3 \
             --uri mongodb://localhost --namespace shop.orders --force",
        )
        .args(arguments())
        .arg(
            Arg::new("at")
                .long("at")
                .value_name("POINT")
                .required(true)
                .help("now, SECONDS[:INCREMENT] of the cluster's time, or a resume token (JSON)"),
        )
        .arg(
            Arg::new("uri")
                .long("uri")
                .value_name("URI")
                .required(true)
                .help("The deployment that is watched"),
        )
        .arg(target::namespace().long("namespace").value_name("DB[.COLL]"))
        .arg(force());
    flags::add(command, &SAID)
}

pub(super) fn run(matches: &ArgMatches) -> Result<(), Failure> {
    let place = Place::parse(&text(matches, "place").unwrap_or_default())?;
    let name = text(matches, "name");
    let is_forced = matches.get_flag("force");
    let memory = Memory::default();
    let mut watch = flags::set(Target::of(matches).watch(), matches).checkpoint(memory.clone());
    let at = text(matches, "at").unwrap_or_default();
    watch = match at.trim() {
        "now" => watch,
        token if token.starts_with('{') => watch.option("start_after", token),
        time => watch.option("start_at_time", time),
    };
    if let Some(name) = &name {
        watch = watch.checkpoint_name(name);
    }
    // Before anything is opened, if the name is known.
    if !is_forced
        && (place.is_file() || name.is_some())
        && let Some(found) = place.read(name.as_deref().filter(|_| !place.is_file()))?.first()
        && found.text.is_some()
    {
        return Err(place.there_already(&found.name));
    }
    let buffer = Buffer::new(1);
    let worker = watch.spawn(&buffer)?;
    // With a checkpoint the place is saved before that.
    worker.wait_ready()?;
    worker.stop();
    worker.join()?;
    let Some((name, text)) = memory.taken() else {
        return Err(Failure::failed("the library has saved no checkpoint; please report this bug"));
    };
    let checkpoint = Checkpoint::parse(&text).map_err(Failure::failed)?;
    let time = checkpoint.time().map_or_else(String::new, |(t, i)| format!(" at {t}:{i}"));
    place.write(&name, &text, is_forced)?;
    crate::output::print(&format!("checkpoint {name:?} in {} is{time}\n", place.shown()))
}

/// A store that keeps the last text, and has none in the beginning.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Option<(String, String)>>>);

impl Memory {
    /// Name and text.
    fn taken(&self) -> Option<(String, String)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl CheckpointStore for Memory {
    fn place(&self) -> String {
        "the memory of this program".to_owned()
    }

    fn claim(&self, _name: &str) -> Result<Box<dyn Any + Send>, StoreError> {
        Ok(Box::new(()))
    }

    fn load(&self, _name: &str) -> Result<Option<String>, StoreError> {
        Ok(None)
    }

    fn save(&self, name: &str, text: &str) -> Result<(), StoreError> {
        let saved = Some((name.to_owned(), text.to_owned()));
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = saved;
        Ok(())
    }
}
