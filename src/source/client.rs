//! One driver client a URI, shared by its workers, and the threads that carry its input and output.

use std::collections::HashMap;
use std::io;
use std::panic::AssertUnwindSafe;
#[cfg(unix)]
use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use bson::doc;
use crossbeam_channel::{Sender, bounded};
use mongodb::Client;
use mongodb::error::{Error as DriverError, ErrorKind as DriverErrorKind, Result as DriverResult};
use mongodb::event::EventHandler;
use mongodb::options::{
    ClientOptions, DriverInfo, HostInfo, ReadPreference, SelectionCriteria, ServerAddress,
};
#[cfg(unix)]
use tokio::io::AsyncWrite;
use tokio::runtime::{Handle, Runtime};
use tokio::sync::OnceCell;

use crate::error::{Error, ErrorKind, Result};
use crate::exit;
use crate::fork::Origin;
use crate::options::uri::Uri;
use crate::source::failure;
use crate::source::fault::Fault;
use crate::source::reach::Reach;
use crate::source::servers::{ServerFacts, Servers};
use crate::source::unreachable::Unreachable;

struct Io {
    runtime: Arc<Runtime>,
    origin: Origin,
}

static IO: OnceLock<Io> = OnceLock::new();

/// Whether this process has its thread for network I/O.
pub(crate) fn has_io() -> bool {
    IO.get().is_some_and(|io| io.origin.is_here())
}

/// The runtime that drives every connection of the process. It is never shut down: a dropped cursor
/// still sends its killCursors. What could not be started is tried again by the next caller.
fn runtime() -> Result<&'static Runtime> {
    static STARTING: Mutex<()> = Mutex::new(());
    if IO.get().is_none() {
        let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
        if IO.get().is_none() {
            let runtime = start_runtime().map_err(|error| {
                let text = format!("cannot start the threads for network I/O: {error}");
                Error::new(ErrorKind::Resource, text).with_source(error).retriable()
            })?;
            // Cannot be set already: the lock is held.
            let _ = IO.set(Io { runtime, origin: Origin::here() });
        }
    }
    let io = IO.get().ok_or_else(|| Error::new(ErrorKind::State, "there is no network I/O"))?;
    io.origin.check()?;
    Ok(&io.runtime)
}

/// One thread is enough: it only moves bytes, at many times the speed of a server, and a second one costs
/// a heap of its own and wakeups between the two. We make it ourselves, because tokio panics where the
/// system refuses it one.
fn start_runtime() -> io::Result<Arc<Runtime>> {
    let (sender, started) = bounded(1);
    let builder = std::thread::Builder::new().name("mongostream-io".to_owned());
    with_signals_blocked(|| builder.spawn(move || drive_runtime(&sender)))?;
    started.recv().unwrap_or_else(|_| Err(io::Error::other("the thread has ended")))
}

/// What that thread does. It also makes the runtime, since one that is given up must not be dropped on a thread
/// of the host's that is inside another one.
fn drive_runtime(started: &Sender<io::Result<Arc<Runtime>>>) {
    // Whoever started the thread waits for the answer, so none is lost.
    let runtime = match build_runtime() {
        Ok(runtime) => Arc::new(runtime),
        Err(error) => return drop(started.send(Err(error))),
    };
    runtime.block_on(async {
        let mut lookups = match Lookups::start().await {
            Ok(lookups) => lookups,
            Err(error) => return drop(started.send(Err(error))),
        };
        let _ = started.send(Ok(Arc::clone(&runtime)));
        loop {
            tokio::select! {
                () = tokio::time::sleep(Lookups::STEP) => lookups.keep().await,
                () = exit::closing() => {}
            }
        }
    });
}

fn build_runtime() -> io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.thread_name("mongostream-dns").thread_keep_alive(Lookups::KEPT).enable_all();
    let room = room_for_descriptors()?;
    // They are free again, and very likely still when tokio takes as many.
    drop(room);
    let built = std::panic::catch_unwind(AssertUnwindSafe(|| builder.build()));
    built.unwrap_or_else(|_| Err(io::Error::other("no descriptor")))
}

/// As many descriptors as a runtime takes. tokio panics where the system refuses it some of them.
#[cfg(unix)]
fn room_for_descriptors() -> io::Result<impl Sized> {
    (0..4).map(|_| io::pipe()).collect::<io::Result<Vec<_>>>()
}

#[cfg(not(unix))]
fn room_for_descriptors() -> io::Result<impl Sized> {
    Ok(())
}

/// Keeps a thread in the runtime's pool for the lookup of host names, the only thing that is done there.
///
/// A pool without a thread panics if the system refuses it one, which would end a connection's task for
/// good. One with a thread lets the next lookup wait.
struct Lookups {
    #[cfg(unix)]
    file: tokio::fs::File,
}

#[cfg(unix)]
impl Lookups {
    /// A thread goes when it has had nothing to do for so long.
    const KEPT: Duration = Duration::from_secs(90);
    /// One is given something to do this often.
    const STEP: Duration = Duration::from_secs(60);

    async fn start() -> io::Result<Self> {
        // Any descriptor will do, nothing is written.
        let (reader, _) = io::pipe()?;
        let file = std::fs::File::from(std::os::fd::OwnedFd::from(reader));
        let mut lookups = Self { file: tokio::fs::File::from_std(file) };
        lookups.touch().await?;
        Ok(lookups)
    }

    async fn keep(&mut self) {
        // If there is no thread now, there may be one the next time.
        let _ = self.touch().await;
    }

    /// Makes the pool do something. Nothing but a write tells with an error, and not with a panic, that
    /// there is no thread for it.
    async fn touch(&mut self) -> io::Result<usize> {
        std::future::poll_fn(|context| Pin::new(&mut self.file).poll_write(context, &[])).await
    }
}

#[cfg(not(unix))]
impl Lookups {
    const KEPT: Duration = Duration::from_secs(10);
    const STEP: Duration = Duration::MAX;

    async fn start() -> io::Result<Self> {
        Ok(Self {})
    }

    async fn keep(&mut self) {}
}

/// Starts threads in which signals are blocked: they are the host program's, and a thread inherits its
/// mask from the one that starts it. Those that tell of a crash are left as they are: the host's handler,
/// if it has one, runs on the thread that crashes.
pub(crate) fn with_signals_blocked<T>(start: impl FnOnce() -> T) -> T {
    #[cfg(unix)]
    let _restored = unix::block_signals();
    start()
}

#[cfg(unix)]
mod unix {
    use nix::sys::signal::{SigSet, SigmaskHow, Signal};

    /// The mask of this thread as it was, restored when this is dropped.
    pub(super) struct Restored(Option<SigSet>);

    impl Drop for Restored {
        fn drop(&mut self) {
            if let Some(before) = self.0 {
                // Cannot fail: the set came from the system.
                let _ = before.thread_set_mask();
            }
        }
    }

    pub(super) fn block_signals() -> Restored {
        const OF_A_CRASH: [Signal; 7] = [
            Signal::SIGSEGV,
            Signal::SIGBUS,
            Signal::SIGILL,
            Signal::SIGFPE,
            Signal::SIGTRAP,
            Signal::SIGABRT,
            Signal::SIGSYS,
        ];
        let mut signals = SigSet::all();
        for signal in OF_A_CRASH {
            signals.remove(signal);
        }
        Restored(signals.thread_swap_mask(SigmaskHow::SIG_BLOCK).ok())
    }
}

/// A deployment that is being watched: its URI, its client, what is known of its servers.
pub(crate) struct Deployment {
    uri: Uri,
    runtime: &'static Runtime,
    connected: Mutex<Arc<Connected>>,
}

/// A client, and what its monitoring tells of the servers.
struct Connected {
    client: OnceCell<Client>,
    servers: Arc<Servers>,
    reach: Arc<Reach>,
    runtime: &'static Runtime,
}

impl Connected {
    fn new(runtime: &'static Runtime) -> Arc<Self> {
        Arc::new(Self {
            client: OnceCell::new(),
            servers: Arc::default(),
            reach: Arc::default(),
            runtime,
        })
    }

    fn adjust(&self, mut options: ClientOptions) -> ClientOptions {
        // Every open cursor holds a connection while it waits: with the default of 10 the eleventh
        // stream would starve, and two at a time would connect slowly.
        options.max_pool_size = Some(options.max_pool_size.unwrap_or(0).max(65_536));
        options.max_connecting = Some(options.max_connecting.unwrap_or(0).max(64));
        // The driver's retried aggregate forgets where a stream was; we open it again ourselves.
        options.retry_reads = Some(false);
        // The least the driver takes, for servers before 4.4, which have to be asked whether there is
        // a new primary. Later ones tell by themselves: it costs them a small message each time.
        options.heartbeat_freq.get_or_insert(Duration::from_millis(500));
        // Also how long a server may be silent on a heartbeat before it counts as dead, 10 s by the
        // driver's default. To reach a server on another continent takes four round trips, with TLS,
        // of some 0.3 s, and a second or three more where the first or the second packet is lost:
        // less than 5 s. Elections are seen without it, from the other members.
        options.connect_timeout.get_or_insert(Duration::from_secs(5));
        options.driver_info = Some(
            DriverInfo::builder()
                .name("mongostream")
                .version(Some(env!("CARGO_PKG_VERSION").to_owned()))
                .build(),
        );
        self.reach.begins(&options);
        let (servers, reach) = (Arc::clone(&self.servers), Arc::clone(&self.reach));
        options.sdam_event_handler = Some(EventHandler::callback(move |event| {
            reach.monitored(&event);
            servers.monitored(event);
        }));
        options.cmap_event_handler =
            Some(EventHandler::callback(|event| Servers::connecting(&event)));
        options
    }

    /// Whether the URI's read preference is the primary and nothing else.
    fn needs_primary(&self) -> bool {
        let criteria = self.client.get().and_then(Client::selection_criteria);
        matches!(criteria, None | Some(SelectionCriteria::ReadPreference(ReadPreference::Primary)))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        let client = self.client.take();
        match Handle::try_current() {
            // At exit, in what a host has registered with atexit: this thread can enter no runtime any more.
            Err(error) if error.is_thread_local_destroyed() => {
                drop(self.runtime.spawn(async move { drop(client) }));
            }
            // The client's own clean-up needs a runtime to run on.
            _ => {
                let _guard = self.runtime.enter();
                drop(client);
            }
        }
    }
}

impl Deployment {
    /// The process's one object for this URI. Connects nothing.
    pub(crate) fn of(uri: Uri) -> Result<Arc<Self>> {
        static DEPLOYMENTS: Mutex<Option<HashMap<String, Weak<Deployment>>>> = Mutex::new(None);
        // First of all: in a forked child the lock below may be held for ever.
        let runtime = runtime()?;
        let mut deployments = DEPLOYMENTS.lock().unwrap_or_else(PoisonError::into_inner);
        let deployments = deployments.get_or_insert_default();
        if let Some(known) = deployments.get(uri.text()).and_then(Weak::upgrade) {
            return Ok(known);
        }
        deployments.retain(|_, deployment| deployment.strong_count() > 0);
        let connected = Mutex::new(Connected::new(runtime));
        let deployment = Arc::new(Self { uri, runtime, connected });
        deployment.check()?;
        deployments.insert(deployment.uri.text().to_owned(), Arc::downgrade(&deployment));
        Ok(deployment)
    }

    /// Makes the client now where that needs no DNS, so that what is wrong with the URI beside its
    /// syntax (options that exclude each other, a missing file) is known before a worker starts.
    fn check(self: &Arc<Self>) -> Result<()> {
        if let HostInfo::DnsRecord(_) = self.uri.parsed().host_info {
            return Ok(());
        }
        let (sender, made) = bounded(1);
        let deployment = Arc::clone(self);
        // Not `block_on`: the caller may be inside a runtime of its own, which forbids that.
        self.runtime.spawn(async move {
            let _ = sender.send(deployment.client().await.map(drop));
        });
        match made.recv() {
            Ok(Err(error)) => Err(self.uri.invalid(&error)),
            // A panic in there will come again on the worker's thread, where it is reported.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    pub(crate) fn uri(&self) -> &Uri {
        &self.uri
    }

    pub(crate) fn runtime(&self) -> &'static Runtime {
        self.runtime
    }

    /// The newest wire version that any server of it has told, `None` before the first.
    pub(crate) fn newest_wire_version(&self) -> Option<i32> {
        self.connected().servers.newest_wire_version()
    }

    /// Of the server that the last command of this task went to; `None` if there was none yet.
    pub(crate) fn server_facts(&self) -> Option<ServerFacts> {
        self.connected().servers.facts()
    }

    fn connected(&self) -> Arc<Connected> {
        Arc::clone(&self.connected.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What a failure of this client means: why there is no server, where the driver has found none; and
    /// that a client which will not recover is replaced.
    ///
    /// A server logs a connection out when its user is dropped, and does not take that back when the user is
    /// made anew. The driver goes on using such a connection, and logs in on new ones only. And a client that
    /// has struck off all servers, since others have answered at their addresses, looks for none any more.
    fn failed_on(&self, connected: &Arc<Connected>, error: DriverError) -> DriverError {
        let error = match &*error.kind {
            DriverErrorKind::ServerSelection { .. } => connected.reach.reason().into(),
            _ => error,
        };
        let has_user = self.uri.parsed().credential.is_some();
        let is_hopeless = Unreachable::of(&error).is_some_and(|reason| reason.is_final);
        if is_hopeless || has_user && failure::is_logged_out(&Fault::from(&error)) {
            self.begin_anew(connected);
        }
        error
    }

    /// Replaces this client, if that has not been done since.
    fn begin_anew(&self, failed: &Arc<Connected>) {
        /// By then nobody uses it any more but open cursors, which keep it for themselves.
        const GRACE: Duration = Duration::from_secs(60);
        let mut connected = self.connected.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&connected, failed) {
            let old = std::mem::replace(&mut *connected, Connected::new(self.runtime));
            self.runtime.spawn(async move {
                tokio::time::sleep(GRACE).await;
                drop(old);
            });
        }
    }

    /// Why no server can be used now, if that is so.
    pub(crate) fn trouble(&self) -> Option<Fault> {
        let connected = self.connected();
        connected.reach.trouble(connected.needs_primary()).map(|why| DriverError::from(why).into())
    }

    /// Does the work of one cursor until its server is lost, see [`Servers::while_there`].
    pub(crate) async fn while_server_is_there<T>(
        &self,
        work: impl Future<Output = DriverResult<T>>,
    ) -> DriverResult<T> {
        let connected = self.connected();
        let work = connected.servers.while_there(|| connected.needs_primary(), work);
        let result = tokio::select! {
            biased;
            result = work => result,
            hopeless = connected.reach.is_hopeless() => Err(hopeless.into()),
        };
        result.map_err(|error| self.failed_on(&connected, error))
    }

    /// The same for a write, which the primary alone takes.
    pub(crate) async fn while_primary_is_there<T>(
        &self,
        work: impl Future<Output = DriverResult<T>>,
    ) -> DriverResult<T> {
        let connected = self.connected();
        let result = connected.servers.while_there(|| true, work).await;
        result.map_err(|error| self.failed_on(&connected, error))
    }

    /// Closes a cursor that was given up while its server may be well. The driver's own killCursors goes
    /// to the server that it would open a cursor on now.
    pub(crate) fn close_cursor(&self, server: &ServerAddress, namespace: &str, cursor: i64) {
        /// Then the server does it itself, after 10 minutes by default.
        const PATIENCE: Duration = Duration::from_secs(5);
        let connected = self.connected();
        let Some((client, (database, collection))) =
            connected.client.get().zip(namespace.split_once('.'))
        else {
            return;
        };
        let server = server.clone();
        let database = client.database(database);
        let command = doc! { "killCursors": collection, "cursors": [cursor] };
        let there =
            SelectionCriteria::Predicate(Arc::new(move |candidate| *candidate.address() == server));
        self.runtime.spawn(async move {
            let command = database.run_command(command).selection_criteria(there);
            let _ = tokio::time::timeout(PATIENCE, command.into_future()).await;
        });
    }

    /// How long the driver looks for a server, by the URI or its default
    /// (server selection specification, `serverSelectionTimeoutMS`).
    pub(crate) fn server_selection_timeout(&self) -> Duration {
        self.uri.parsed().server_selection_timeout.unwrap_or(Duration::from_secs(30))
    }

    /// The client, made by the first caller; the others wait for it.
    pub(crate) async fn client(&self) -> DriverResult<Client> {
        let connected = self.connected();
        let client = connected.client.get_or_try_init(|| async {
            let options = ClientOptions::parse(self.uri.parsed().clone()).await?;
            Client::with_options(connected.adjust(options))
        });
        client.await.cloned()
    }
}
