//! A TCP proxy that cuts its connections, one before each node of a broker.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::Result;

/// A proxy. It serves until the process ends.
#[derive(Clone)]
pub struct Wire {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    target: Option<SocketAddr>,
    is_cut: bool,
    connections: Vec<TcpStream>,
    cuts: usize,
}

impl Wire {
    /// Listens on a free port; whom it leads to is said later.
    ///
    /// # Errors
    ///
    /// If there is no port or no thread.
    pub fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let state = Arc::<Mutex<State>>::default();
        let served = Arc::clone(&state);
        thread::Builder::new().name("wire".to_owned()).spawn(move || {
            for client in listener.incoming().flatten() {
                // A client that finds nobody comes again.
                let _ = connect(&served, client);
            }
        })?;
        Ok(Self { address, state })
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Whom it leads to.
    ///
    /// # Errors
    ///
    /// If that is no address.
    pub fn lead_to(&self, address: &str) -> Result<()> {
        lock(&self.state).target = Some(address.parse()?);
        Ok(())
    }

    /// Resets all connections, and refuses new ones for a while. Returns how many there were.
    pub fn cut(&self, time: Duration) -> usize {
        let connections = {
            let mut state = lock(&self.state);
            state.is_cut = true;
            std::mem::take(&mut state.connections)
        };
        let mut cut = 0;
        for connection in &connections {
            cut += usize::from(connection.shutdown(Shutdown::Both).is_ok());
        }
        thread::sleep(time);
        let mut state = lock(&self.state);
        state.is_cut = false;
        state.cuts += 1;
        cut
    }
}

fn lock(state: &Mutex<State>) -> std::sync::MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn connect(state: &Mutex<State>, client: TcpStream) -> std::io::Result<()> {
    let target = {
        let state = lock(state);
        if state.is_cut { None } else { state.target }
    };
    let Some(target) = target else { return Ok(()) };
    let server = TcpStream::connect(target)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let mut state = lock(state);
    if state.is_cut {
        return Ok(());
    }
    state.connections.extend([client.try_clone()?, server.try_clone()?]);
    let ways = [(client.try_clone()?, server.try_clone()?), (server, client)];
    for (from, to) in ways {
        thread::Builder::new().spawn(move || copy(from, to))?;
    }
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
