//! The commands that a client has sent, against those that a test expects.

use bson::{Bson, Document};

use crate::Result;
use crate::format::{ExpectedEvent, ExpectedEvents};
use crate::matching;
use crate::tap::{Sent, Tap};

/// No driver publishes events of these.
const NEVER_OBSERVED: [&str; 4] = ["hello", "isMaster", "ismaster", "endSessions"];

struct Command {
    name: String,
    command: Document,
}

/// Whether the client of this name has sent what is expected.
pub(crate) fn check(
    tap: &Tap,
    app_name: &str,
    ignored: &[String],
    expected: &ExpectedEvents,
) -> Result<()> {
    let mut commands: Vec<Command> = tap
        .sent_by(app_name)
        .into_iter()
        .filter_map(|Sent { command, .. }| {
            Some(Command { name: command.keys().next()?.clone(), command })
        })
        .collect();
    in_the_words_of_the_tests(&mut commands)?;
    commands.retain(|Command { name, .. }| {
        !ignored.contains(name) && !NEVER_OBSERVED.contains(&name.as_str())
    });
    compare(expected, &commands).map_err(|difference| {
        let sent: Vec<_> = commands.iter().map(|command| command.command.to_string()).collect();
        format!("{difference}; these were sent:\n{}", sent.join("\n")).into()
    })
}

fn compare(expected: &ExpectedEvents, commands: &[Command]) -> std::result::Result<(), String> {
    for (number, event) in expected.events.iter().enumerate() {
        let ExpectedEvent::CommandStartedEvent { command, command_name, database_name } = event;
        let Some(actual) = commands.get(number) else {
            return Err(format!("command {number} was not sent"));
        };
        if command_name.as_ref().is_some_and(|name| *name != actual.name) {
            return Err(format!("command {number} is {}", actual.name));
        }
        let database = actual.command.get_str("$db").ok();
        if database_name.is_some() && database_name.as_deref() != database {
            return Err(format!("command {number} went to {database:?}"));
        }
        if let Some(command) = command {
            matching::root(&without_defaults(command), &actual.command)
                .map_err(|difference| format!("command {number}: {difference}"))?;
        }
    }
    match commands.get(expected.events.len()) {
        Some(extra) if !expected.ignore_extra_events => {
            Err(format!("{} was sent, and is not expected", extra.name))
        }
        _ => Ok(()),
    }
}

/// An option that has its default is not sent, for older servers refuse those they do not know.
fn without_defaults(expected: &Document) -> Document {
    let mut expected = expected.clone();
    if let Ok(pipeline) = expected.get_array_mut("pipeline")
        && let Some(Bson::Document(first)) = pipeline.first_mut()
        && let Ok(change_stream) = first.get_document_mut("$changeStream")
        && change_stream.get_str("fullDocumentBeforeChange").is_ok_and(|value| value == "off")
    {
        change_stream.remove("fullDocumentBeforeChange");
    }
    expected
}

/// Two things mongostream does in its own way, on purpose; the tests are written for the drivers' way.
///
/// A cursor is opened with `batchSize: 0`, or 1 where it begins at a place, and asked for batches of the wanted
/// size afterwards. It is opened again with `startAfter`, which means what `resumeAfter` means and takes every token.
fn in_the_words_of_the_tests(commands: &mut [Command]) -> Result<()> {
    const DEFAULT_BATCH_SIZE: i32 = 4000;
    let mut was_open = false;
    for number in 0..commands.len() {
        let asked = batch_size_asked_later(&commands[number..]);
        let command = &mut commands[number].command;
        let Ok(pipeline) = command.get_array_mut("pipeline") else { continue };
        let Some(Bson::Document(first)) = pipeline.first_mut() else { continue };
        let Ok(change_stream) = first.get_document_mut("$changeStream") else { continue };
        if std::mem::replace(&mut was_open, true)
            && let Some(token) = change_stream.remove("startAfter")
        {
            change_stream.insert("resumeAfter", token);
        }
        let cursor = command.get_document_mut("cursor")?;
        match cursor.remove("batchSize") {
            Some(Bson::Int32(0 | 1)) => {}
            other => return Err(format!("a cursor was opened with batchSize {other:?}").into()),
        }
        if let Some(asked) = asked.filter(|asked| *asked != Bson::Int32(DEFAULT_BATCH_SIZE)) {
            cursor.insert("batchSize", asked);
        }
    }
    Ok(())
}

/// The batch size of the first getMore for the cursor that the first of these commands opens; a cursor
/// and its getMores have one session.
fn batch_size_asked_later(commands: &[Command]) -> Option<Bson> {
    let (first, later) = commands.split_first()?;
    let session = first.command.get("lsid");
    let get_more = later
        .iter()
        .find(|later| later.name == "getMore" && later.command.get("lsid") == session)?;
    get_more.command.get("batchSize").cloned()
}
