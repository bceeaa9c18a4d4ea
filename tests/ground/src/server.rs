//! One mongod.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use mongodb::bson::{Document, doc};
use mongodb::options::ClientOptions;
use mongodb::sync::Client;
use processes::{Certificates, Context, Error, Kind, Node};

use crate::fetch::Mongod;

static KIND: Kind = Kind {
    name: "mongod",
    listening: "waiting for connections",
    // Its log is enough.
    answers: |_| Ok(true),
};

/// What a mongod is started with.
pub(crate) struct Launch<'a> {
    pub mongod: &'a Mongod,
    /// The directory of the member, which is made.
    pub directory: PathBuf,
    pub port: u16,
    /// Name of the replica set; a standalone server has none.
    pub set: Option<&'a str>,
    /// Contents of the key file; switches authentication on.
    pub key: Option<&'a str>,
    /// Switches TLS on.
    pub tls: Option<&'a Certificates>,
    pub args: &'a [OsString],
    pub env: &'a [(OsString, OsString)],
}

/// One server of a set, or a standalone one. What its process can do, [`Node`] says: it can be paused, killed and
/// restarted. A killed one's data stay, as far as they were journaled: for `w=majority&journal=true` always, else 0.1 s
/// later. After a restart the set may still have to elect: see
/// [`wait_for_primary`](crate::ReplicaSet::wait_for_primary).
#[derive(Debug)]
pub struct Member {
    node: Node,
    authority: Option<PathBuf>,
    /// Set once users are made and the URI is known.
    direct: OnceLock<ClientOptions>,
    client: OnceLock<Client>,
}

impl Deref for Member {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.node
    }
}

impl Member {
    /// Starts mongod and returns while it is still coming up.
    pub(crate) fn launch(launch: Launch<'_>) -> Result<Self, Error> {
        let directory = launch.directory;
        let mut files = Vec::new();
        let mut file = |name: &'static str, text: &str| {
            files.push((name, text.to_owned()));
            directory.join(name).into_os_string()
        };
        let mut arguments: Vec<OsString> = vec![
            "--bind_ip".into(),
            "127.0.0.1".into(),
            "--port".into(),
            launch.port.to_string().into(),
            "--nounixsocket".into(),
            "--dbpath".into(),
            directory.join("data").into(),
            "--setParameter".into(),
            "enableTestCommands=1".into(),
            "--setParameter".into(),
            "diagnosticDataCollectionEnabled=false".into(),
        ];
        if let Some(set) = launch.set {
            arguments.extend(["--replSet".into(), set.into()]);
        }
        if let Some(key) = launch.key {
            arguments.extend(["--auth".into(), "--keyFile".into(), file("key", key)]);
        }
        let mut authority = None;
        if let Some(tls) = launch.tls {
            let path = file("authority.pem", &tls.authority);
            let server = file("server.pem", &tls.server);
            arguments.extend(["--tlsMode".into(), "requireTLS".into()]);
            arguments.extend(["--tlsCAFile".into(), path.clone()]);
            arguments.extend(["--tlsCertificateKeyFile".into(), server]);
            // Only members show one.
            arguments.push("--tlsAllowConnectionsWithoutCertificates".into());
            authority = Some(path.into());
        }
        let given = |name: &str| {
            launch.args.iter().any(|argument| {
                let argument = argument.to_string_lossy();
                argument == name || argument.starts_with(&format!("{name}="))
            })
        };
        for (name, value) in [
            // Half the machine's memory otherwise. 0.25 hangs on the largest documents.
            ("--wiredTigerCacheSizeGB", "1"),
            // 17 instead of 300 MB on disk.
            ("--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)"),
        ] {
            // mongod refuses an option given twice.
            if !given(name) {
                arguments.extend([name.into(), value.into()]);
            }
        }
        arguments.extend_from_slice(launch.args);

        let mut command = Vec::new();
        if let Some(path) = &launch.mongod.library_path {
            command.push(assignment("LD_LIBRARY_PATH", path));
        }
        command.extend(launch.env.iter().map(|(name, value)| assignment(name, value)));
        command.push(launch.mongod.path.clone().into());
        command.extend(arguments);
        let node = Node::new(&KIND, directory, launch.port, Path::new("env"), &command)?;
        let data = node.directory().join("data");
        fs::create_dir(&data).context(format!("cannot make {}", data.display()))?;
        for (name, text) in files {
            node.write(name, &text)?;
        }
        node.begin()?;
        Ok(Self { node, authority, direct: OnceLock::new(), client: OnceLock::new() })
    }

    /// The certificate of the authority that clients need, if it has TLS.
    pub(crate) fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// A client of this server alone (`directConnection`), logged in if the server wants that.
    /// Made once.
    ///
    /// # Panics
    ///
    /// If the client cannot be made.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.client.get_or_init(|| {
            let options = self.direct.get().expect("the server has started").clone();
            Client::with_options(options).expect("a client")
        })
    }

    pub(crate) fn set_direct(&self, mut options: ClientOptions) -> Result<(), Error> {
        options.hosts = vec![self.address().parse().context("an address")?];
        options.repl_set_name = None;
        options.direct_connection = Some(true);
        let _ = self.direct.set(options);
        Ok(())
    }
}

fn assignment(name: impl Into<OsString>, value: impl AsRef<OsStr>) -> OsString {
    let mut text = name.into();
    text.push("=");
    text.push(value);
    text
}

/// Runs a command on the `admin` database.
pub(crate) fn admin(client: &Client, command: Document) -> mongodb::error::Result<Document> {
    client.database("admin").run_command(command).run()
}

/// The `hello` reply of a server. By its old name: 4.2 knows no other, and all still know this one.
pub(crate) fn hello(client: &Client) -> mongodb::error::Result<Document> {
    admin(client, doc! { "isMaster": 1 })
}
