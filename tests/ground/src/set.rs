use std::env;
use std::ffi::OsString;
use std::fmt::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

use mongodb::bson::{Bson, Document, doc, oid::ObjectId};
use mongodb::options::ClientOptions;
use mongodb::sync::Client;

use processes::{Certificates, Context, DEADLINE, Error, Fault, free_ports, poll, random, start};

use crate::failpoint::number;
use crate::fetch::{self, Mongod};
use crate::server::{Launch, admin, hello};
use crate::{FailPoint, Member};

/// How many sets and database names this process has made.
static COUNTER: AtomicU32 = AtomicU32::new(0);

type Advertise = Box<dyn FnMut(usize, &str) -> String + Send>;

/// How a set, or a standalone server, is to be started.
#[must_use]
pub struct Builder {
    members: usize,
    version: Option<String>,
    election_timeout_ms: u32,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    auth: Option<(String, String)>,
    uri_options: String,
    tls: bool,
    advertise: Option<Advertise>,
    horizon: Option<Advertise>,
}

impl Builder {
    /// How many servers, 1 to 7. Default 1.
    pub fn members(mut self, members: usize) -> Self {
        self.members = members;
        self
    }

    /// The server version, one of [`VERSIONS`](crate::VERSIONS). Goes before `MONGOD` and
    /// `MONGOSTREAM_TEST_SERVER`: for tests that are about a version.
    pub fn version(mut self, version: &str) -> Self {
        self.version = Some(version.to_owned());
        self
    }

    /// How long the members miss a primary before they elect another. Default 1000; MongoDB's
    /// own is 10 000.
    pub fn election_timeout_ms(mut self, milliseconds: u32) -> Self {
        self.election_timeout_ms = milliseconds;
        self
    }

    /// Further arguments of each mongod, like `["--oplogSize", "1"]`.
    pub fn args<S: Into<OsString>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// An environment variable of each mongod.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Demands authentication and makes this user, with role `root`. The URI has its credentials.
    pub fn auth(mut self, user: &str, password: &str) -> Self {
        self.auth = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Demands TLS, with certificates of its own, which the program `openssl` makes. The URI has what clients need.
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// The name (`localhost:port`) by which a member is known to those clients that ask for it as `localhost`
    /// (a *horizon*; it takes TLS, in which clients say for whom they ask).
    pub fn horizon(mut self, name: impl FnMut(usize, &str) -> String + Send + 'static) -> Self {
        self.horizon = Some(Box::new(name));
        self
    }

    /// URI options that every client of the servers needs, this crate's included, like
    /// `tls=true&tlsCAFile=/path`.
    pub fn uri_options(mut self, options: &str) -> Self {
        options.clone_into(&mut self.uri_options);
        self
    }

    /// The name (`host:port`) that the set shall know a member by, given its number and real
    /// address: that of a proxy, through which then all clients and members go.
    pub fn advertise(mut self, name: impl FnMut(usize, &str) -> String + Send + 'static) -> Self {
        self.advertise = Some(Box::new(name));
        self
    }

    /// Starts the set; when this returns there is a primary and all others are secondaries.
    ///
    /// # Errors
    ///
    /// If there is no mongod, it does not come up, or the set elects no primary within a minute.
    pub fn start(mut self) -> Result<ReplicaSet, Error> {
        if !(1..=7).contains(&self.members) {
            return Err(Error::new("a set has 1 to 7 voting members"));
        }
        let name = format!("rs_{}_{}", std::process::id(), COUNTER.fetch_add(1, Relaxed));
        let members = self.launch(Some(&name))?;
        let end = Instant::now() + DEADLINE;
        self.trust(&members);
        let mut advertise = self.advertise.take();
        let names: Vec<String> = members
            .iter()
            .enumerate()
            .map(|(i, member)| match &mut advertise {
                Some(advertise) => advertise(i, member.address()),
                None => member.address().to_owned(),
            })
            .collect();
        let mut horizon = self.horizon.take();
        let horizons: Vec<Option<String>> = members
            .iter()
            .enumerate()
            .map(|(i, member)| horizon.as_mut().map(|name| name(i, member.address())))
            .collect();
        let clients = self.initiate(&name, &members, &names, &horizons, end)?;
        if let Some(user) = &self.auth {
            let primary = poll(end, "the set has a primary", || Ok(primary_of(&clients)))?;
            create_user(&clients[primary], user, members.len())?;
        }
        let options = format!("replicaSet={name}");
        let uri = self.uri(&names.join(","), &options);
        let set = ReplicaSet {
            // A proxy may be cut, and clients of one server need not go through it.
            client_uri: match (&advertise, members.as_slice()) {
                (Some(_), [only]) => self.uri(only.address(), "directConnection=true"),
                _ => uri.clone(),
            },
            uri,
            patience: Duration::from_millis(5000 + 2 * u64::from(self.election_timeout_ms)),
            members,
            client: OnceLock::new(),
            version: OnceLock::new(),
        };
        let options = client_options(&set.client_uri, set.patience)?;
        for member in &set.members {
            member.set_direct(options.clone())?;
            // Before its first checkpoint a server before 5.0 (wire version 13), if killed, forgets
            // that it is in a set, whatever the journal has. Later ones may refuse this here.
            let client = member.client();
            let wire = hello(client).context("the set does not answer")?.get_i32("maxWireVersion");
            if wire.is_ok_and(|version| version < 13) {
                admin(client, doc! { "fsync": 1 }).context("no first checkpoint")?;
            }
        }
        Ok(set)
    }

    /// Starts one server that is no replica set: it has no change streams.
    ///
    /// # Errors
    ///
    /// If there is no mongod or it does not come up.
    pub fn start_standalone(mut self) -> Result<Standalone, Error> {
        self.members = 1;
        let members = self.launch(None)?;
        self.trust(&members);
        let member = members.into_iter().next().ok_or_else(|| Error::new("no server"))?;
        if let Some(user) = &self.auth {
            create_user(&self.bare_client(&member)?, user, 1)?;
        }
        let uri = self.uri(member.address(), "");
        member.set_direct(client_options(&uri, Duration::from_secs(5))?)?;
        Ok(Standalone { uri, member })
    }

    /// Clients need to know who has signed the servers' certificates.
    fn trust(&mut self, members: &[Member]) {
        if let Some(authority) = members.first().and_then(Member::authority) {
            let joint = if self.uri_options.is_empty() { "" } else { "&" };
            let path = percent(&authority.to_string_lossy());
            self.uri_options.push_str(&format!("{joint}tls=true&tlsCAFile={path}"));
        }
    }

    /// Starts all mongods and waits until they take connections.
    fn launch(&self, set: Option<&str>) -> Result<Vec<Member>, Error> {
        let mongod = fetch::mongod(self.version.as_deref())?;
        start("ground", |root, end| self.attempt(&mongod, set, root, end))
    }

    fn attempt(
        &self,
        mongod: &Mongod,
        set: Option<&str>,
        root: &Path,
        end: Instant,
    ) -> Result<Vec<Member>, Fault> {
        let key = self.auth.as_ref().map(|_| {
            (0..4).fold(String::new(), |mut key, _| {
                let _ = write!(key, "{:016x}", random());
                key
            })
        });
        let tls = self.tls.then(|| Certificates::make(&root.join("tls"))).transpose()?;
        let launch = |(index, port): (usize, u16)| {
            Member::launch(Launch {
                mongod,
                directory: root.join(index.to_string()),
                port,
                set,
                key: key.as_deref(),
                tls: tls.as_ref(),
                args: &self.args,
                env: &self.env,
            })
        };
        let ports = free_ports(self.members)?;
        let members: Vec<_> =
            ports.into_iter().enumerate().map(launch).collect::<Result<_, _>>()?;
        for member in &members {
            member.await_start(end)?;
        }
        Ok(members)
    }

    /// Makes a set of the running servers; returns direct clients that are not logged in.
    fn initiate(
        &self,
        name: &str,
        members: &[Member],
        names: &[String],
        horizons: &[Option<String>],
        end: Instant,
    ) -> Result<Vec<Client>, Error> {
        let clients: Vec<Client> =
            members.iter().map(|member| self.bare_client(member)).collect::<Result<_, _>>()?;
        let number = |i: usize| i32::try_from(i).unwrap_or(0);
        let hosts: Vec<Document> = (0..)
            .zip(names.iter().zip(horizons))
            .map(|(i, (host, horizon))| {
                let mut member = doc! { "_id": number(i), "host": host };
                if let Some(name) = horizon {
                    member.insert("horizons", doc! { "outside": name });
                }
                member
            })
            .collect();
        let timeout = i64::from(self.election_timeout_ms);
        let config = doc! {
            "_id": name, "members": hosts, "settings": { "electionTimeoutMillis": timeout },
        };
        let failed = |what: &str| {
            let logs: Vec<String> = members.iter().map(|member| member.log_tail()).collect();
            format!("{what}; the logs end:\n{}", logs.join("\n\n"))
        };
        admin(&clients[0], doc! { "replSetInitiate": config }).map_err(|error| {
            Error::new(failed(&format!("the set cannot be initiated: {error}")))
        })?;
        let mut step_up = members.len() > 1;
        poll(end, "the set has a primary and all its secondaries", || {
            let Ok(hellos) = clients.iter().map(hello).collect::<Result<Vec<_>, _>>() else {
                return Ok(None);
            };
            let count =
                |what| hellos.iter().filter(|hello| hello.get_bool(what).is_ok_and(|b| b)).count();
            let (primaries, secondaries) = (count("ismaster"), count("secondary"));
            if primaries == 1 && primaries + secondaries == hellos.len() {
                return Ok(Some(()));
            }
            if step_up && secondaries == hellos.len() {
                // They would wait for the election timeout. Earlier it would cost the first
                // sync of the others a second. Where users are wanted and none is there yet,
                // nobody may ask for it: then they do wait.
                step_up =
                    self.auth.is_none() && admin(&clients[0], doc! { "replSetStepUp": 1 }).is_err();
            }
            Ok(None)
        })
        .map_err(|error| Error::new(failed(&error.to_string())))?;
        Ok(clients)
    }

    /// A client of one server, without credentials: there are no users yet.
    fn bare_client(&self, member: &Member) -> Result<Client, Error> {
        let options = &self.uri_options;
        let uri = format!("mongodb://{}/?directConnection=true&{options}", member.address());
        let options = client_options(uri.trim_end_matches('&'), Duration::from_secs(10))?;
        Client::with_options(options).context("cannot make a client")
    }

    fn uri(&self, hosts: &str, options: &str) -> String {
        let mut uri = match &self.auth {
            None => format!("mongodb://{hosts}/"),
            Some((user, password)) => {
                let (user, password) = (percent(user), percent(password));
                format!("mongodb://{user}:{password}@{hosts}/?authSource=admin")
            }
        };
        for options in [options, &self.uri_options] {
            if !options.is_empty() {
                uri = with(&uri, options);
            }
        }
        uri
    }
}

impl std::fmt::Debug for Builder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Builder")
            .field("members", &self.members)
            .field("version", &self.version)
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}

/// A running replica set. Dropping it kills its servers and removes their data.
#[derive(Debug)]
pub struct ReplicaSet {
    uri: String,
    client_uri: String,
    /// How long our clients wait for a primary.
    patience: Duration,
    client: OnceLock<Client>,
    version: OnceLock<(u32, u32, u32)>,
    /// None if the set is not ours.
    members: Vec<Member>,
}

impl ReplicaSet {
    /// Starts a set of one member.
    ///
    /// # Errors
    ///
    /// As [`Builder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    /// For a set that is not the plain one.
    pub fn builder() -> Builder {
        Builder {
            members: 1,
            version: None,
            election_timeout_ms: 1000,
            args: Vec::new(),
            env: Vec::new(),
            auth: None,
            uri_options: String::new(),
            tls: false,
            advertise: None,
            horizon: None,
        }
    }

    /// A set that runs elsewhere. It has no [`member`](Self::member)s to control; dropping this
    /// leaves it alone.
    ///
    /// # Errors
    ///
    /// If the URI is wrong, nobody answers, or it is no replica set.
    pub fn connect(uri: &str) -> Result<Self, Error> {
        let set = Self {
            uri: uri.to_owned(),
            client_uri: uri.to_owned(),
            patience: Duration::from_secs(25),
            client: OnceLock::new(),
            version: OnceLock::new(),
            members: Vec::new(),
        };
        let client = Client::with_options(client_options(uri, set.patience)?)
            .context(format!("cannot use {uri}"))?;
        let hello = hello(&client).context(format!("no answer from {uri}"))?;
        if !hello.contains_key("setName") {
            return Err(Error::new(format!("{uri} is no replica set")));
        }
        let _ = set.client.set(client);
        Ok(set)
    }

    /// Whether it runs elsewhere and cannot be controlled.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.members.is_empty()
    }

    /// `mongodb://[user:password@]127.0.0.1:p1,.../?replicaSet=...`
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The URI with further options, like `appName=x&w=majority`.
    #[must_use]
    pub fn uri_with(&self, options: &str) -> String {
        with(&self.uri, options)
    }

    /// A client of the set, for what a test does besides its subject. Made once; `appName` is
    /// `ground`, so that fail points may spare it.
    ///
    /// # Panics
    ///
    /// If the client cannot be made.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.client.get_or_init(|| {
            let options = client_options(&self.client_uri, self.patience).expect("our own URI");
            Client::with_options(options).expect("a client")
        })
    }

    /// A database name of the caller's own: see [`database_name`].
    #[must_use]
    #[allow(clippy::unused_self)]
    pub fn database(&self, label: &str) -> String {
        database_name(label)
    }

    /// How many members can be controlled.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there is no member to control: [`is_external`](Self::is_external).
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The members, in the order of the configuration.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// A member by its number.
    ///
    /// # Panics
    ///
    /// If there is none of this number.
    #[must_use]
    pub fn member(&self, index: usize) -> &Member {
        let there = self.members.get(index);
        there.unwrap_or_else(|| panic!("no member {index} of {} to control", self.members.len()))
    }

    /// The number of the primary; waits for one. (0 for an external set.)
    ///
    /// # Panics
    ///
    /// If there is none within 30 seconds.
    #[must_use]
    #[track_caller]
    pub fn primary(&self) -> usize {
        let primary = self.wait_for_primary(Duration::from_secs(30));
        primary.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Waits until a member takes writes and gives its number. (0 for an external set.)
    ///
    /// # Errors
    ///
    /// If there is none within `deadline`.
    pub fn wait_for_primary(&self, deadline: Duration) -> Result<usize, Error> {
        poll(Instant::now() + deadline, "a primary", || {
            if self.is_external() {
                return Ok(hello(self.client()).ok().map(|_| 0));
            }
            let answering = self.members.iter().enumerate();
            Ok(latest_primary(answering.filter_map(|(i, member)| {
                // One that is stopped would keep us waiting for ever.
                let hello = member.is_awake().then(|| hello(member.client()).ok());
                Some((i, hello??))
            })))
        })
    }

    /// Makes the primary step down. Of more members another is elected at once; a single one
    /// stands again at once. See [`wait_for_primary`](Self::wait_for_primary).
    ///
    /// # Errors
    ///
    /// If the primary does not do so.
    pub fn step_down(&self) -> Result<(), Error> {
        let primary = self.primary_client()?;
        let command = match self.members.len() {
            1 => doc! { "replSetStepDown": 60, "force": true, "secondaryCatchUpPeriodSecs": 0 },
            // On a busy machine the others need their time.
            _ => doc! { "replSetStepDown": 20, "secondaryCatchUpPeriodSecs": 15 },
        };
        admin(&primary, command).context("the primary does not step down")?;
        if self.members.len() == 1 {
            admin(&primary, doc! { "replSetFreeze": 0 })
                .context("the only member does not stand again")?;
        }
        Ok(())
    }

    /// The server's version, as it says itself.
    ///
    /// # Panics
    ///
    /// If it does not answer.
    #[must_use]
    #[track_caller]
    pub fn version(&self) -> (u32, u32, u32) {
        *self.version.get_or_init(|| {
            let info = admin(self.client(), doc! { "buildInfo": 1 })
                .unwrap_or_else(|error| panic!("no buildInfo: {error}"));
            let part = |i: usize| {
                let array = info.get_array("versionArray").ok()?;
                u32::try_from(number(array.get(i))?).ok()
            };
            let part = |i| part(i).unwrap_or(0);
            (part(0), part(1), part(2))
        })
    }

    /// Switches a fail point on, on the member that is primary now, until the guard is dropped.
    ///
    /// `doc! { "configureFailPoint": "failCommand", "mode": { "times": 1 }, "data": {
    /// "failCommands": ["getMore"], "errorCode": 91, "appName": "subject" } }`: with an
    /// `appName`, or it may hit the test's other clients, and the members of a larger set. (4.2.6
    /// does not know `appName`.)
    ///
    /// # Errors
    ///
    /// If there is no primary or it refuses the fail point.
    pub fn fail_point(&self, document: Document) -> Result<FailPoint, Error> {
        FailPoint::set(self.primary_client()?, document)
    }

    fn primary_client(&self) -> Result<Client, Error> {
        let primary = self.wait_for_primary(Duration::from_secs(30))?;
        let member = self.members.get(primary);
        Ok(member.map_or_else(|| self.client(), Member::client).clone())
    }
}

impl Drop for ReplicaSet {
    fn drop(&mut self) {
        // All at once; dropping the members then waits for each.
        self.members.iter().for_each(|member| member.let_go());
    }
}

/// A running server that is no replica set. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct Standalone {
    uri: String,
    member: Member,
}

impl Standalone {
    /// Starts one; for other settings see [`Builder::start_standalone`].
    ///
    /// # Errors
    ///
    /// If there is no mongod or it does not come up.
    pub fn start() -> Result<Self, Error> {
        ReplicaSet::builder().start_standalone()
    }

    /// `mongodb://127.0.0.1:port/`
    #[must_use]
    pub fn uri(&self) -> &str {
        &self.uri
    }

    /// The URI with further options.
    #[must_use]
    pub fn uri_with(&self, options: &str) -> String {
        with(&self.uri, options)
    }

    /// A client of the server. Made once.
    ///
    /// # Panics
    ///
    /// If the client cannot be made.
    #[must_use]
    pub fn client(&self) -> &Client {
        self.member.client()
    }

    /// The server, to pause, kill and restart.
    #[must_use]
    pub fn member(&self) -> &Member {
        &self.member
    }
}

/// The set that all tests of this process share: one member, started at the first call, or the
/// one that `MONGOSTREAM_TEST_URI` names. It ends with the process. Tests that disturb the server
/// start their own.
///
/// # Panics
///
/// If it does not start.
pub fn shared() -> &'static ReplicaSet {
    static SHARED: OnceLock<Result<ReplicaSet, Error>> = OnceLock::new();
    let set = SHARED.get_or_init(|| match env::var("MONGOSTREAM_TEST_URI") {
        Ok(uri) if !uri.is_empty() => ReplicaSet::connect(&uri),
        _ => ReplicaSet::start(),
    });
    set.as_ref().unwrap_or_else(|error| panic!("{error}"))
}

/// A database name nobody else has: `label_<process>_<number>`, at most 60 characters.
#[must_use]
pub fn database_name(label: &str) -> String {
    let unique = format!("_{}_{}", std::process::id(), COUNTER.fetch_add(1, Relaxed));
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let label: String = label.chars().map(allowed).take(60 - unique.len()).collect();
    label + &unique
}

fn primary_of(clients: &[Client]) -> Option<usize> {
    let numbered = clients.iter().enumerate();
    latest_primary(numbered.filter_map(|(i, client)| Some((i, hello(client).ok()?))))
}

/// Of several that think they are primary (one may just have come back), the last elected.
fn latest_primary(hellos: impl Iterator<Item = (usize, Document)>) -> Option<usize> {
    let primaries = hellos.filter_map(|(i, hello)| {
        let elected: ObjectId = hello.get_object_id("electionId").ok()?;
        hello.get_bool("ismaster").ok()?.then_some((elected, i))
    });
    Some(primaries.max()?.1)
}

/// The first user may be made without logging in, from the server's own machine.
fn create_user(
    client: &Client,
    (name, password): &(String, String),
    members: usize,
) -> Result<(), Error> {
    // All shall know the user when the start is over.
    let concern = doc! { "w": i32::try_from(members).unwrap_or(1), "wtimeout": 30_000 };
    let roles = [Bson::from("root")];
    let command =
        doc! { "createUser": name, "pwd": password, "roles": roles, "writeConcern": concern };
    admin(client, command).context("cannot make the user")?;
    Ok(())
}

fn client_options(uri: &str, patience: Duration) -> Result<ClientOptions, Error> {
    let parsed = ClientOptions::parse(uri).run();
    let mut options = parsed.context(format!("cannot use {uri}"))?;
    options.app_name = Some("ground".into());
    options.server_selection_timeout = Some(patience);
    options.connect_timeout = Some(Duration::from_secs(5));
    // The least the driver takes: with its default it may see an election's end 10 s late.
    options.heartbeat_freq = Some(Duration::from_millis(500));
    Ok(options)
}

/// Adds options to a URI.
fn with(uri: &str, options: &str) -> String {
    let joint = match uri.split_once('?') {
        Some((_, "")) => "",
        Some(_) => "&",
        None if uri.matches('/').count() >= 3 => "?",
        None => "/?",
    };
    format!("{uri}{joint}{options}")
}

/// What a URI may not hold as it is, escaped.
fn percent(text: &str) -> String {
    text.bytes().fold(String::new(), |mut escaped, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                escaped.push(byte.into());
            }
            _ => {
                let _ = write!(escaped, "%{byte:02X}");
            }
        }
        escaped
    })
}
