//! A tap on the wire between all clients and the server: hands every byte on as it comes, and keeps the
//! commands, so that a test can say what really was sent. MongoDB manual, "MongoDB Wire Protocol".

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use bson::{Bson, Document};

const OP_QUERY: i32 = 2004;
const OP_MSG: i32 = 2013;
const HEADER: usize = 16;
/// More than servers take (`maxMessageSizeBytes`).
const LONGEST: usize = 64 << 20;

/// A command, and the `appName` of the client that sent it.
#[derive(Clone)]
pub(crate) struct Sent {
    app_name: String,
    pub(crate) command: Document,
}

#[derive(Clone)]
pub(crate) struct Tap {
    listener: Arc<TcpListener>,
    sent: Arc<Mutex<Vec<Sent>>>,
    /// Connections on which a getMore was sent, and that the server has not closed.
    reading: Arc<AtomicUsize>,
}

impl Tap {
    pub(crate) fn new() -> std::io::Result<Self> {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0")?);
        Ok(Self { listener, sent: Arc::default(), reading: Arc::default() })
    }

    pub(crate) fn address(&self) -> std::io::Result<String> {
        Ok(self.listener.local_addr()?.to_string())
    }

    /// Lets clients through to the server.
    pub(crate) fn open(&self, server: &str) {
        let (tap, server) = (self.clone(), server.to_owned());
        thread::spawn(move || {
            // A connection that does not come about is one that the client sees end.
            for client in tap.listener.incoming().flatten() {
                let (tap, server) = (tap.clone(), server.clone());
                thread::spawn(move || tap.connect(&client, &server));
            }
        });
    }

    /// Everything that the client of this name has sent so far.
    pub(crate) fn sent_by(&self, app_name: &str) -> Vec<Sent> {
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.iter().filter(|sent| sent.app_name == app_name).cloned().collect()
    }

    /// Waits until the server has read all that the clients of an earlier test have sent.
    ///
    /// A stream that stops leaves its getMore unanswered. On a busy machine, that getMore reaches the
    /// server later than the next test's fail point, and uses it up.
    pub(crate) fn wait_until_read(&self, deadline: Duration) {
        ground::wait_until(deadline, "the connections of the last test are closed", || {
            self.reading.load(Ordering::SeqCst) == 0
        });
    }

    /// Ends when the server has closed its side. It does so once it has read what the client sent.
    fn connect(&self, client: &TcpStream, server: &str) {
        let mut reading = false;
        if let Ok(server) = TcpStream::connect(server) {
            let _ = client.set_nodelay(true).and_then(|()| server.set_nodelay(true));
            thread::scope(|threads| {
                threads.spawn(|| {
                    let _ = std::io::copy(&mut &server, &mut &*client);
                    let _ = client.shutdown(Shutdown::Both);
                    // A client that is gone takes nothing more, but the server is still to read.
                    let _ = std::io::copy(&mut &server, &mut std::io::sink());
                });
                let _ = self.listen(client, &server, &mut reading);
                let _ = server.shutdown(Shutdown::Write);
            });
        }
        if reading {
            self.reading.fetch_sub(1, Ordering::SeqCst);
        }
        let _ = client.shutdown(Shutdown::Both);
    }

    fn listen(
        &self,
        mut client: &TcpStream,
        mut server: &TcpStream,
        reading: &mut bool,
    ) -> std::io::Result<()> {
        let mut app_name = String::new();
        loop {
            let mut message = vec![0; HEADER];
            client.read_exact(&mut message)?;
            let length = number(&message, 0).and_then(|length| usize::try_from(length).ok());
            let Some(length) = length.filter(|length| (HEADER..=LONGEST).contains(length)) else {
                return Err(std::io::ErrorKind::InvalidData.into());
            };
            message.resize(length, 0);
            client.read_exact(&mut message[HEADER..])?;
            if let Some(command) = command(&message) {
                if let Some(name) = name_of_client(&command) {
                    app_name = name.to_owned();
                }
                if command.contains_key("getMore") && !std::mem::replace(reading, true) {
                    self.reading.fetch_add(1, Ordering::SeqCst);
                }
                let sent = Sent { app_name: app_name.clone(), command };
                self.sent.lock().unwrap_or_else(PoisonError::into_inner).push(sent);
            }
            // Noted before it is there: who has its answer finds it noted.
            server.write_all(&message)?;
        }
    }
}

fn name_of_client(hello: &Document) -> Option<&str> {
    hello.get_document("client").ok()?.get_document("application").ok()?.get_str("name").ok()
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn command(message: &[u8]) -> Option<Document> {
    let document = |bytes: &[u8]| Document::from_reader(bytes).ok();
    let after_text =
        |at: usize| Some(at + message.get(at..)?.iter().position(|byte| *byte == 0)? + 1);
    match number(message, 12)? {
        OP_MSG => {
            let mut command = Document::new();
            let mut at = HEADER + 4;
            while let Some(kind) = message.get(at) {
                let size = usize::try_from(number(message, at + 1)?).ok()?;
                let end = at + 1 + size;
                if *kind == 0 {
                    command.extend(document(message.get(at + 1..end)?)?);
                } else {
                    // A sequence of documents that belongs to the command as an array.
                    let mut from = after_text(at + 5)?;
                    let name = String::from_utf8_lossy(message.get(at + 5..from - 1)?).into_owned();
                    let mut array = Vec::new();
                    while from < end {
                        array.push(Bson::Document(document(message.get(from..end)?)?));
                        from += usize::try_from(number(message, from)?).ok()?;
                    }
                    command.insert(name, array);
                }
                at = end;
            }
            Some(command)
        }
        // The first hello of a connection.
        OP_QUERY => document(message.get(after_text(HEADER + 4)? + 8..)?),
        _ => None,
    }
}
