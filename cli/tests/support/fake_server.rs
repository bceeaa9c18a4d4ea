//! A server that says what it is told to say: what no real one says on this machine.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use ground::mongodb::bson::{Document, doc};

/// Answers every command with the same document; gives its address.
pub(crate) fn start(answer: impl Fn(&str) -> Document + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let own = address.clone();
    let answer = answer(&own);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let answer = answer.clone();
            thread::spawn(move || serve(stream, &answer));
        }
    });
    address
}

/// What a member of a set says (MongoDB manual, "hello").
pub(crate) fn hello(address: &str) -> Document {
    doc! {
        "ok": 1, "ismaster": true, "isWritablePrimary": true, "setName": "rs0", "setVersion": 1,
        "hosts": [address], "primary": address, "me": address, "minWireVersion": 0, "maxWireVersion": 17,
        "maxBsonObjectSize": 16_777_216, "maxMessageSizeBytes": 48_000_000, "maxWriteBatchSize": 100_000,
        "version": "6.0.5", "versionArray": [6, 0, 5, 0],
    }
}

/// MongoDB manual, "MongoDB Wire Protocol".
fn serve(mut stream: TcpStream, answer: &Document) -> Option<()> {
    const OP_REPLY: i32 = 1;
    const OP_QUERY: i32 = 2004;
    const OP_MSG: i32 = 2013;
    let body = answer.to_vec().ok()?;
    for number in 1.. {
        let mut header = [0; 16];
        stream.read_exact(&mut header).ok()?;
        let word = |at: usize| i32::from_le_bytes(header[at..at + 4].try_into().unwrap());
        let mut rest = vec![0; usize::try_from(word(0)).ok()?.checked_sub(16)?];
        stream.read_exact(&mut rest).ok()?;
        let (code, before) = match word(12) {
            // Flags, cursor, first document, how many.
            OP_QUERY => (OP_REPLY, [&[0; 16][..], &1_i32.to_le_bytes()].concat()),
            // Flags, and one document follows.
            OP_MSG => (OP_MSG, vec![0; 5]),
            _ => return None,
        };
        let length = i32::try_from(16 + before.len() + body.len()).ok()?;
        let header = [length, number, word(4), code].map(i32::to_le_bytes).concat();
        stream.write_all(&[header, before, body.clone()].concat()).ok()?;
    }
    Some(())
}
