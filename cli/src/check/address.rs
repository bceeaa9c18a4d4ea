//! Whether an address can be reached from here: its name, and somebody who listens.

use std::io::ErrorKind;
use std::net::{TcpStream, ToSocketAddrs};

use mongodb::options::ServerAddress;

use crate::ask::{PATIENCE, within};

/// Why an address cannot be reached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Unreachable {
    Name(String),
    Connection(String),
}

impl Unreachable {
    /// What a finding calls it.
    pub(crate) fn case(&self) -> &'static str {
        match self {
            Self::Name(_) => "dns",
            Self::Connection(_) => "tcp",
        }
    }

    pub(crate) fn text(&self) -> &str {
        let (Self::Name(text) | Self::Connection(text)) = self;
        text
    }

    pub(crate) fn advice(&self) -> &'static str {
        match self {
            Self::Name(_) => "check the spelling, and the DNS or /etc/hosts of this machine",
            Self::Connection(_) => {
                "check that the server runs, its port and net.bindIp, and firewalls in between"
            }
        }
    }
}

/// Looks its name up, and connects. A socket in the file system is left to the driver.
pub(crate) fn reach(address: &ServerAddress) -> Result<(), Unreachable> {
    let ServerAddress::Tcp { host, port } = address else { return Ok(()) };
    let (host, port) = (host.trim_matches(['[', ']']).to_owned(), port.unwrap_or(27017));
    let name = host.clone();
    let found =
        within(PATIENCE, move || (host.as_str(), port).to_socket_addrs().map(Vec::from_iter));
    let addresses = match found {
        Some(Ok(addresses)) if !addresses.is_empty() => addresses,
        Some(Ok(_)) => return Err(Unreachable::Name(format!("the name {name} has no address"))),
        Some(Err(error)) => {
            let reason = error.to_string();
            let reason = reason.trim_start_matches("failed to lookup address information: ");
            return Err(Unreachable::Name(format!("the name {name} cannot be resolved: {reason}")));
        }
        None => {
            let text = format!("the name {name} was not resolved within {} s", PATIENCE.as_secs());
            return Err(Unreachable::Name(text));
        }
    };
    // localhost has often two, of which one is served.
    let each = PATIENCE / u32::try_from(addresses.len()).unwrap_or(1).max(1);
    let mut reason = String::new();
    for address in addresses {
        match TcpStream::connect_timeout(&address, each) {
            Ok(_) => return Ok(()),
            Err(error) => reason = told(&error),
        }
    }
    Err(Unreachable::Connection(reason))
}

fn told(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::ConnectionRefused => "nobody listens there".to_owned(),
        ErrorKind::TimedOut => format!("no answer within {} s", PATIENCE.as_secs()),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ports_are_told_apart() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let here = listener.local_addr().unwrap().to_string();
        let reached = |address: &str| reach(&ServerAddress::parse(address).unwrap());
        assert_eq!(reached(&here), Ok(()));
        drop(listener);
        let refused = Unreachable::Connection("nobody listens there".to_owned());
        assert_eq!(reached(&here), Err(refused));
        let unknown = reached("nowhere.invalid:27017").unwrap_err();
        assert_eq!(unknown.case(), "dns");
        assert!(unknown.text().contains("nowhere.invalid"), "{unknown:?}");
    }
}
