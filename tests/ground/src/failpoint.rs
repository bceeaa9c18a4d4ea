use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mongodb::bson::{Bson, Document, doc};
use mongodb::error::ErrorKind;
use mongodb::sync::Client;

use processes::{Context, Error};

use crate::server::admin;

/// A fail point that is switched on, from [`ReplicaSet::fail_point`](crate::ReplicaSet::fail_point);
/// dropping it switches it off.
#[derive(Debug)]
pub struct FailPoint {
    client: Client,
    name: String,
    /// What the server had counted before: its counter never goes back.
    before: Option<i64>,
}

impl FailPoint {
    pub(crate) fn set(client: Client, document: Document) -> Result<Self, Error> {
        let name = document
            .get_str("configureFailPoint")
            .context("a fail point document begins with configureFailPoint")?
            .to_owned();
        let reply =
            admin(&client, document).context(format!("cannot set the fail point {name}"))?;
        let before = number(reply.get("count"));
        Ok(Self { client, name, before })
    }

    /// How often the fail point has fired since it was set. `None` if the server does not
    /// tell.
    #[must_use]
    pub fn hits(&self) -> Option<u64> {
        // No command reads the counter and leaves the fail point alone; asking whether it has
        // passed a value does.
        let mut hits = 0;
        while self.reached(hits + 1, Duration::from_millis(100))? {
            hits += 1;
        }
        Some(hits)
    }

    /// Waits in the server until the fail point has fired `hits` times since it was set.
    ///
    /// # Errors
    ///
    /// If it has not within `deadline`, or if the server does not tell.
    pub fn wait_for_hits(&self, hits: u64, deadline: Duration) -> Result<(), Error> {
        match self.reached(hits, deadline) {
            Some(true) => Ok(()),
            Some(false) => Err(Error::new(format!(
                "the fail point {} has not fired {hits} times within {deadline:?}",
                self.name
            ))),
            None => Err(Error::new(format!(
                "the server does not tell how often the fail point {} fired",
                self.name
            ))),
        }
    }

    /// Switches it off before its drop does.
    ///
    /// # Errors
    ///
    /// If the server does not do so.
    pub fn off(&self) -> Result<(), Error> {
        off(&self.client, &self.name)
    }

    fn reached(&self, hits: u64, deadline: Duration) -> Option<bool> {
        let wait = i64::try_from(deadline.as_millis()).ok()?.max(1);
        let count = self.before?.checked_add_unsigned(hits)?;
        let asked = doc! {
            "waitForFailPoint": &self.name, "timesEntered": count, "maxTimeMS": wait,
        };
        match admin(&self.client, asked) {
            Ok(_) => Some(true),
            Err(error) => match *error.kind {
                // MaxTimeMSExpired
                ErrorKind::Command(ref error) if error.code == 50 => Some(false),
                _ => None,
            },
        }
    }
}

fn off(client: &Client, name: &str) -> Result<(), Error> {
    admin(client, doc! { "configureFailPoint": name, "mode": "off" })
        .context(format!("cannot switch off the fail point {name}"))?;
    Ok(())
}

impl Drop for FailPoint {
    fn drop(&mut self) {
        // A server that is gone has no fail points either; one that is paused never answers, and
        // the driver waits for an answer without end.
        let (client, name) = (self.client.clone(), self.name.clone());
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            let _ = off(&client, &name);
            let _ = done.send(());
        });
        let _ = ended.recv_timeout(Duration::from_secs(5));
    }
}

pub(crate) fn number(value: Option<&Bson>) -> Option<i64> {
    match value? {
        Bson::Int32(n) => Some((*n).into()),
        Bson::Int64(n) => Some(*n),
        #[allow(clippy::cast_possible_truncation)]
        Bson::Double(n) => Some(*n as i64),
        _ => None,
    }
}
