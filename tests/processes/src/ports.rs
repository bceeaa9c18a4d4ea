//! Free ports, and connections to them.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::Error;
use crate::error::Context;

/// Free ports below the range that systems take outgoing connections' ports from. Of those, a client that calls again
/// and again for a server that is down may get the server's own port.
///
/// # Errors
///
/// If there are not so many.
pub fn free_ports(count: usize) -> Result<Vec<u16>, Error> {
    // Kept until all are found, so that none is found twice.
    let mut found = Vec::new();
    for _ in 0..1000 {
        let port = 15_000 + u16::try_from(random() % 17_000).unwrap_or(0);
        found.extend(TcpListener::bind(("127.0.0.1", port)));
        if found.len() == count {
            let ports = found.iter().map(|listener| listener.local_addr().map(|it| it.port()));
            return ports.collect::<io::Result<_>>().context("cannot find free ports");
        }
    }
    Err(Error::new("cannot find free ports between 15000 and 32000"))
}

/// A connection that gives up soon: a paused server's port takes connections, too.
///
/// # Errors
///
/// If nothing listens there, or the address is none.
pub fn connect(address: &str) -> io::Result<TcpStream> {
    let patience = Duration::from_secs(2);
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let stream = TcpStream::connect_timeout(&address, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    Ok(stream)
}

/// A random number. The standard library seeds its hashers from the system's randomness.
#[must_use]
pub fn random() -> u64 {
    RandomState::new().hash_one(0)
}
