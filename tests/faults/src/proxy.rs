//! TCP proxies, one before each member, which do to connections what networks do.
//!
//! The members are known by their proxies' addresses, so everything passes through them: the consumer,
//! the writer, the members among themselves. Whose connection it is the proxy reads in the first message
//! on it, in which every client and every member tells its application's name. With TLS it cannot: there the
//! set has a horizon for the consumer, which goes through listeners of its own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::Result;

/// The consumer's application name in its URI.
pub const CONSUMER: &str = "mongostream-under-faults";

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What the proxies do to the connections.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trouble {
    /// They let everything pass.
    None,
    /// They reset every connection, and new ones as soon as they are known.
    Cut,
    /// They hold back what goes this way; both ways if `None`.
    Stall(Option<Way>),
    /// Each connection carries only so many bytes a second each way.
    Slow(usize),
    /// They end one direction of the connections that are there, and leave the other open.
    HalfClose(Way),
    /// They reset each connection in the middle of a reply of at least so many bytes.
    CutReply(usize),
}

/// Whose connections a trouble is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The consumer's only.
    Consumer,
    /// Everybody's, the members' own included.
    Everybody,
}

#[derive(Clone, Copy)]
struct Rule {
    trouble: Trouble,
    whose: Whose,
    /// Counts the rules, so that a connection knows which ones are older than itself.
    number: u64,
    /// The numbers of the last cut of everybody, and of the consumer. A connection may learn of a cut
    /// only after the next rule has replaced it.
    cut: [u64; 2],
}

impl Rule {
    const fn first() -> Self {
        Self { trouble: Trouble::None, whose: Whose::Everybody, number: 0, cut: [0; 2] }
    }

    fn next(&self, trouble: Trouble, whose: Whose) -> Self {
        let number = self.number + 1;
        let [everybody, _] = self.cut;
        let cut = match (trouble, whose) {
            (Trouble::Cut, Whose::Everybody) => [number; 2],
            (Trouble::Cut, Whose::Consumer) => [everybody, number],
            _ => self.cut,
        };
        Self { trouble, whose, number, cut }
    }

    /// Whether it cuts a connection that is as old as the rule `born`.
    fn cuts(&self, is_consumer: bool, born: u64) -> bool {
        let is_now =
            self.trouble == Trouble::Cut && (is_consumer || self.whose == Whose::Everybody);
        is_now || self.cut[usize::from(is_consumer)] > born
    }
}

#[derive(Default)]
struct Hits([AtomicU64; 6]);

impl Hits {
    fn of(&self, trouble: Trouble) -> &AtomicU64 {
        let [none, cut, stall, slow, half, reply] = &self.0;
        match trouble {
            Trouble::None => none,
            Trouble::Cut => cut,
            Trouble::Stall(_) => stall,
            Trouble::Slow(_) => slow,
            Trouble::HalfClose(_) => half,
            Trouble::CutReply(_) => reply,
        }
    }
}

/// The proxies of a set.
pub struct Proxies {
    addresses: Vec<SocketAddr>,
    /// Those of the consumer, with TLS.
    outside: Vec<SocketAddr>,
    targets: Arc<Vec<OnceLock<String>>>,
    rule: watch::Sender<Rule>,
    hits: Arc<Hits>,
    runtime: Option<Runtime>,
}

impl Proxies {
    /// Starts proxies that do not yet know their servers.
    ///
    /// # Errors
    ///
    /// If the system gives no thread or no port.
    pub fn start(count: usize, secure: bool) -> Result<Self> {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let targets: Arc<Vec<OnceLock<String>>> =
            Arc::new((0..count).map(|_| OnceLock::new()).collect());
        let (rule, _) = watch::channel(Rule::first());
        let hits = Arc::new(Hits::default());
        let (mut addresses, mut outside) = (Vec::new(), Vec::new());
        let whose = if secure { &[Some(false), Some(true)][..] } else { &[None] };
        for (index, is_consumer) in
            (0..count).flat_map(|index| whose.iter().map(move |whose| (index, *whose)))
        {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0"))?;
            let place = if is_consumer == Some(true) { &mut outside } else { &mut addresses };
            place.push(listener.local_addr()?);
            let (targets, rules, hits) = (Arc::clone(&targets), rule.subscribe(), hits.clone());
            runtime.spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    let Some(target) = targets[index].get().cloned() else { continue };
                    let hits = Arc::clone(&hits);
                    tokio::spawn(serve(client, target, is_consumer, rules.clone(), hits));
                }
            });
        }
        Ok(Self { addresses, outside, targets, rule, hits, runtime: Some(runtime) })
    }

    /// For [`ground::Builder::advertise`]: takes the members' addresses and gives those of the proxies.
    pub fn names(&self) -> impl FnMut(usize, &str) -> String + Send + 'static {
        let (addresses, targets) = (self.addresses.clone(), Arc::clone(&self.targets));
        move |member, real| {
            // A member is named once.
            let _ = targets[member].set(real.to_owned());
            addresses[member].to_string()
        }
    }

    /// For [`ground::Builder::horizon`].
    pub fn horizon(&self) -> impl FnMut(usize, &str) -> String + Send + 'static {
        let ports: Vec<u16> = self.outside.iter().map(SocketAddr::port).collect();
        move |member, _| format!("localhost:{}", ports[member])
    }

    /// The URI by which the consumer comes through its own listeners, if it has such.
    #[must_use]
    pub fn consumers(&self, uri: &str) -> String {
        let names = self.addresses.iter().zip(&self.outside);
        names.fold(uri.to_owned(), |uri, (all, own)| {
            uri.replace(&all.to_string(), &format!("localhost:{}", own.port()))
        })
    }

    /// Makes trouble until the next call.
    pub fn make(&self, trouble: Trouble, whose: Whose) {
        self.rule.send_modify(|rule| *rule = rule.next(trouble, whose));
    }

    /// How often a trouble of this kind has met a connection (or bytes that it held back).
    #[must_use]
    pub fn hits(&self, trouble: Trouble) -> u64 {
        self.hits.of(trouble).load(Relaxed)
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The connection is to be reset.
struct Reset;

impl From<std::io::Error> for Reset {
    fn from(_: std::io::Error) -> Self {
        Reset
    }
}

type Rules = watch::Receiver<Rule>;

/// `known` is whose connection it is, with TLS; else its first message tells.
async fn serve(
    mut client: TcpStream,
    target: String,
    known: Option<bool>,
    mut rules: Rules,
    hits: Arc<Hits>,
) {
    let born = rules.borrow().number;
    let (is_consumer, first) = match known {
        Some(is_consumer) => (is_consumer, Vec::new()),
        None => {
            let Ok(first) = first_message(&mut client).await else { return };
            let name = CONSUMER.as_bytes();
            (first.windows(name.len()).any(|window| window == name), first)
        }
    };
    let Ok(mut server) = TcpStream::connect(target).await else {
        let _ = client.set_zero_linger();
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let pump = |way, pending| Pump {
        way,
        pending,
        is_consumer,
        born,
        rules: rules.clone(),
        hits: Arc::clone(&hits),
        message: Framing { tls: known.is_some(), ..Framing::default() },
    };
    let (up, down) = (pump(Way::Up, first), pump(Way::Down, Vec::new()));
    let end = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let work = async {
            tokio::try_join!(up.run(from_client, to_server), down.run(from_server, to_client))
        };
        let cut = async {
            if rules.wait_for(|rule| rule.cuts(is_consumer, born)).await.is_ok() {
                hits.of(Trouble::Cut).fetch_add(1, Relaxed);
            }
        };
        tokio::select! {
            ended = work => ended.map(drop),
            () = cut => Err(Reset),
        }
    };
    if let Err(Reset) = end {
        // Closing then sends RST.
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

/// A message of the wire protocol begins with its length, 4 bytes, little-endian.
async fn first_message(client: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    client.read_exact(&mut length).await?;
    let mut message = vec![0; (u32::from_le_bytes(length) as usize).clamp(16, 1 << 16)];
    message[..4].copy_from_slice(&length);
    client.read_exact(&mut message[4..]).await?;
    Ok(message)
}

/// Where in a message a direction of a connection is.
#[derive(Default)]
struct Framing {
    /// The messages are TLS records.
    tls: bool,
    header: Vec<u8>,
    length: usize,
    at: usize,
}

impl Framing {
    /// Takes bytes that pass; returns how many of them come before the middle of a message of at least
    /// `size` bytes, if that lies in them.
    fn middle(&mut self, mut bytes: &[u8], size: Option<usize>) -> Option<usize> {
        let mut passed = 0;
        while !bytes.is_empty() {
            // A record begins with its kind and version, and then the length of the rest, big-endian.
            let needed = if self.tls { 5 } else { 4 };
            if self.header.len() < needed {
                let (head, rest) = bytes.split_at(bytes.len().min(needed - self.header.len()));
                self.header.extend_from_slice(head);
                (passed, bytes) = (passed + head.len(), rest);
                match *self.header.as_slice() {
                    [a, b, c, d] if !self.tls => {
                        self.length = u32::from_le_bytes([a, b, c, d]) as usize;
                    }
                    [_, _, _, high, low] => {
                        self.length = needed + usize::from(u16::from_be_bytes([high, low]));
                    }
                    _ => continue,
                }
                self.at = needed;
                continue;
            }
            let (body, rest) = bytes.split_at(bytes.len().min(self.length.saturating_sub(self.at)));
            let middle = self.length / 2;
            if size.is_some_and(|size| self.length >= size)
                && (self.at..self.at + body.len()).contains(&middle)
            {
                return Some(passed + middle - self.at);
            }
            (passed, bytes, self.at) = (passed + body.len(), rest, self.at + body.len());
            if self.at >= self.length {
                self.header.clear();
            }
        }
        None
    }
}

/// One direction of a connection.
struct Pump {
    way: Way,
    pending: Vec<u8>,
    is_consumer: bool,
    born: u64,
    rules: Rules,
    hits: Arc<Hits>,
    message: Framing,
}

impl Pump {
    async fn run(mut self, mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> Result<(), Reset> {
        const SLICES: usize = 20;
        let mut buffer = vec![0; 1 << 16];
        let mut measured = 0;
        loop {
            let rule = *self.rules.borrow_and_update();
            let trouble = match rule.whose {
                Whose::Consumer if !self.is_consumer => Trouble::None,
                _ => rule.trouble,
            };
            match trouble {
                Trouble::Stall(way) if way.is_none_or(|way| way == self.way) => {
                    if self.pending.is_empty() {
                        tokio::select! {
                            ready = from.readable() => ready?,
                            changed = self.rules.changed() => { changed.map_err(|_| Reset)?; continue }
                        }
                    }
                    self.hit(trouble);
                    self.rules.changed().await.map_err(|_| Reset)?;
                    continue;
                }
                Trouble::HalfClose(way) if way == self.way && rule.number > self.born => {
                    self.hit(trouble);
                    to.shutdown().await?;
                    return Ok(());
                }
                _ => {}
            }
            if self.pending.is_empty() {
                tokio::select! {
                    biased;
                    changed = self.rules.changed() => changed.map_err(|_| Reset)?,
                    read = from.read(&mut buffer) => match read? {
                        0 => {
                            to.shutdown().await?;
                            return Ok(());
                        }
                        count => {
                            self.pending.extend_from_slice(&buffer[..count]);
                            measured = 0;
                        }
                    },
                }
                continue;
            }
            if self.way == Way::Down && measured < self.pending.len() {
                let size = match trouble {
                    Trouble::CutReply(size) => Some(size),
                    _ => None,
                };
                if let Some(middle) = self.message.middle(&self.pending[measured..], size) {
                    to.write_all(&self.pending[..measured + middle]).await?;
                    self.hit(trouble);
                    return Err(Reset);
                }
                measured = self.pending.len();
            }
            if let Trouble::Slow(bytes) = trouble {
                let some = self.pending.len().min(bytes / SLICES).max(1);
                to.write_all(&self.pending[..some]).await?;
                self.pending.drain(..some);
                measured = measured.saturating_sub(some);
                self.hit(trouble);
                sleep(Duration::from_secs(1) / SLICES as u32).await;
            } else {
                to.write_all(&self.pending).await?;
                self.pending.clear();
                measured = 0;
            }
        }
    }

    fn hit(&self, trouble: Trouble) {
        self.hits.of(trouble).fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_reaches_the_connections_that_were_there_even_when_it_is_over() {
        let cut = Rule::first().next(Trouble::Cut, Whose::Consumer);
        let over = cut.next(Trouble::None, Whose::Consumer);
        assert!(cut.cuts(true, 0) && cut.cuts(true, 1), "and new ones while it lasts");
        assert!(over.cuts(true, 0));
        assert!(!over.cuts(true, 2), "a connection that came later");
        assert!(!cut.cuts(false, 0) && !over.cuts(false, 0), "somebody else's");
        let all = over.next(Trouble::Cut, Whose::Everybody).next(Trouble::None, Whose::Everybody);
        assert!(all.cuts(false, 2) && all.cuts(true, 2));
        assert!(!all.cuts(false, 4));
    }

    #[test]
    fn the_middle_of_a_large_message_is_found_however_it_is_cut_up() {
        let message =
            |length: u32| [&length.to_le_bytes()[..], &vec![0; length as usize - 4]].concat();
        let stream = [message(20), message(100), message(30)].concat();
        for step in 1..stream.len() {
            let mut framing = Framing::default();
            let mut passed = 0;
            let found = stream.chunks(step).find_map(|chunk| {
                let middle = framing.middle(chunk, Some(50)).map(|middle| passed + middle);
                passed += chunk.len();
                middle
            });
            assert_eq!(found, Some(20 + 50), "in steps of {step}");
        }
        assert_eq!(Framing::default().middle(&stream, Some(101)), None);
        let record = |length: u8| [&[23, 3, 3, 0, length][..], &vec![0; length.into()]].concat();
        let stream = [record(20), record(100), record(30)].concat();
        let mut framing = Framing { tls: true, ..Framing::default() };
        assert_eq!(framing.middle(&stream, Some(50)), Some(25 + 52));
    }
}
