//! What the tests read from a broker, and how they start a pipe.

// Each test binary has a copy of this module and uses a part of it.
#![allow(dead_code)]

use std::collections::HashMap;
use std::time::Duration;

use ground::mongodb::bson::doc;
use serde_json::Value;

use super::{DEADLINE, Directory, Running, Shop, program};

/// A message in a broker.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// The subject, or the topic and its partition.
    pub(crate) place: String,
    pub(crate) id: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) json: Value,
}

impl Stored {
    pub(crate) fn document(&self) -> String {
        self.json["DocumentKey"]["_id"].to_string()
    }
}

/// The pipe from a shop to a broker, with metrics.
pub(crate) struct Piping {
    pub(crate) running: Running,
    metrics: String,
}

impl Piping {
    /// Waits until the stream is open.
    #[track_caller]
    pub(crate) fn start(shop: &Shop, to: &str, directory: &Directory, further: &[&str]) -> Self {
        let mut piping =
            Self::begin(shop, to, &["--checkpoint_file", &directory.file("token")], further);
        piping.wait_until_streaming();
        piping
    }

    #[track_caller]
    pub(crate) fn begin(shop: &Shop, to: &str, checkpoint: &[&str], further: &[&str]) -> Self {
        let namespace = shop.namespace();
        let mut command = program(["pipe", shop.uri(), &namespace, "--to", to]);
        command.args(checkpoint).args(further);
        // Two processes may be given the same port one after the other.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let metrics = listener.local_addr().unwrap().to_string();
        drop(listener);
        command.args(["--metrics", &metrics]);
        Self { running: Running::start(command), metrics }
    }

    #[track_caller]
    pub(crate) fn wait_until_streaming(&mut self) {
        ground::wait_until(DEADLINE, "the pipe streams", || {
            self.assert_runs();
            self.get("/healthz").is_some_and(|text| text.contains("streaming"))
        });
    }

    #[track_caller]
    pub(crate) fn assert_runs(&mut self) {
        if let Some(status) = self.running.process.try_wait().unwrap() {
            panic!("{status}: {}", self.running.stderr());
        }
    }

    pub(crate) fn get(&self, path: &str) -> Option<String> {
        use std::io::{Read, Write};

        let mut server = std::net::TcpStream::connect(&self.metrics).ok()?;
        server.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(server, "GET {path} HTTP/1.0\r\n\r\n").ok()?;
        let mut text = String::new();
        server.read_to_string(&mut text).ok()?;
        text.contains("\r\n\r\n").then_some(text)
    }

    /// A figure of the metrics.
    pub(crate) fn figure(&self, name: &str) -> Option<u64> {
        let text = self.get("/metrics")?;
        let line = text.lines().find(|line| line.split(' ').next() == Some(name))?;
        line.split(' ').nth(1)?.parse().ok()
    }

    pub(crate) fn published(&self) -> u64 {
        self.figure("mongostream_pipe_messages_total").unwrap_or(0)
    }

    #[track_caller]
    pub(crate) fn wait_until_published(&self, messages: u64) {
        ground::wait_until(DEADLINE, "the broker has the messages", || {
            self.published() >= messages
        });
    }
}

/// Changes documents `0..documents`, each to all its versions in turn; a writer of a few seconds.
pub(crate) fn write_versions(shop: &Shop, documents: i32, versions: std::ops::Range<i32>) {
    let orders = shop.orders();
    for version in versions {
        for id in 0..documents {
            let change = doc! { "$set": { "version": version } };
            orders.update_one(doc! { "_id": id }, change).upsert(true).run().unwrap();
        }
    }
}

/// The versions of each document, in the order of the stream.
pub(crate) fn versions(stored: &[Stored]) -> HashMap<String, Vec<i64>> {
    let mut versions = HashMap::<_, Vec<_>>::new();
    for message in stored {
        let json = &message.json;
        let updated = &json["UpdateDescription"]["updatedFields"]["version"];
        let version = updated.as_i64().or_else(|| json["FullDocument"]["version"].as_i64());
        versions.entry(message.document()).or_default().push(version.expect("a version"));
    }
    versions
}

/// Each document's versions are complete, in order, and there once.
#[track_caller]
pub(crate) fn assert_each_once(stored: &[Stored], documents: usize, count: i32) {
    let versions = versions(stored);
    assert_eq!(versions.len(), documents);
    for (document, versions) in versions {
        let expected: Vec<_> = (0..i64::from(count)).collect();
        assert_eq!(versions, expected, "document {document}");
    }
}
