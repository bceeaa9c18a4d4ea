//! The programs of the comparison that are written in Rust: this benchmark starts itself for them.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bson::{Document, RawArray, RawDocument, Timestamp, doc};
use ground::mongodb::change_stream::event::ChangeStreamEvent;
use ground::mongodb::sync::Client;
use mongostream::{Buffer, Start, Worker};

use crate::support::history::{COLLECTION, DATABASE};
use crate::support::own_cpu;

/// What a program is asked to do.
struct Task {
    uri: String,
    second: u32,
    events: usize,
    /// 0 for the program's default.
    batch_size: u32,
}

impl Task {
    fn start(&self) -> Timestamp {
        Timestamp { time: self.second, increment: 0 }
    }
}

/// How many events there were, and how many bytes of JSON.
struct Drained {
    events: usize,
    bytes: usize,
}

/// Runs a program: its name, URI, second, events, batch size or 0.
pub(crate) fn run(arguments: &[String]) {
    let [name, uri, second, events, batch_size] = arguments else {
        panic!("{arguments:?}: name, URI, second, events, batch size");
    };
    let task = Task {
        uri: uri.clone(),
        second: second.parse().unwrap(),
        events: events.parse().unwrap(),
        batch_size: batch_size.parse().unwrap(),
    };
    let (began, cpu) = (Instant::now(), own_cpu());
    let drained = match name.as_str() {
        "ceiling" => ceiling(&task),
        "mongostream" => mongostream(&task),
        "driver" => driver(&task),
        other => panic!("there is no program {other}"),
    };
    let (time, cpu) = (began.elapsed().as_secs_f64(), (own_cpu() - cpu).as_secs_f64());
    println!("{} {} {time} {cpu}", drained.events, drained.bytes);
    // Until its memory has been looked at.
    let _ = std::io::stdin().read(&mut [0]);
}

/// As fast as the server gives: one socket, the next request under way before a reply is read, and of the
/// reply nothing used but how many events it has.
fn ceiling(task: &Task) -> Drained {
    let address = task.uri.trim_start_matches("mongodb://").split('/').next().unwrap();
    let mut wire = Wire { socket: TcpStream::connect(address).unwrap(), reply: Vec::new() };
    wire.socket.set_nodelay(true).unwrap();
    wire.socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    wire.send(doc! {
        "aggregate": COLLECTION, "$db": DATABASE, "cursor": { "batchSize": 0 },
        "pipeline": [{ "$changeStream": { "startAtOperationTime": task.start() } }],
    });
    let cursor = wire.receive().get_i64("id").unwrap();
    let more = doc! {
        "getMore": cursor, "collection": COLLECTION, "$db": DATABASE,
        "batchSize": task.batch_size, "maxTimeMS": 1000,
    };
    let mut events = 0;
    wire.send(more.clone());
    while events < task.events {
        wire.send(more.clone());
        let batch: &RawArray = wire.receive().get_array("nextBatch").unwrap();
        events += batch.into_iter().count();
    }
    Drained { events, bytes: 0 }
}

/// A connection to the server on which commands go as `OP_MSG`.
struct Wire {
    socket: TcpStream,
    reply: Vec<u8>,
}

impl Wire {
    const OP_MSG: i32 = 2013;
    /// Length, request, response to, opcode, flags; a byte for the kind of the only section.
    const HEAD: usize = 5 * 4 + 1;

    fn send(&mut self, command: Document) {
        let body = command.to_vec().unwrap();
        let length = (Self::HEAD + body.len()) as i32;
        let head = [length, 1, 0, Self::OP_MSG, 0].map(i32::to_le_bytes);
        let message = [head.as_flattened(), &[0], &body].concat();
        self.socket.write_all(&message).unwrap();
    }

    /// The cursor of the next reply.
    fn receive(&mut self) -> &RawDocument {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length).unwrap();
        self.reply.resize(u32::from_le_bytes(length) as usize - length.len(), 0);
        self.socket.read_exact(&mut self.reply).unwrap();
        let reply = RawDocument::from_bytes(&self.reply[Self::HEAD - length.len()..]).unwrap();
        reply.get_document("cursor").unwrap_or_else(|_| panic!("{reply:?}"))
    }
}

fn mongostream(task: &Task) -> Drained {
    let buffer = Buffer::new(4096);
    let start = Start::at(task.second);
    let mut watch =
        Worker::watch(&task.uri).database(DATABASE).collection(COLLECTION).start_at(start);
    if task.batch_size > 0 {
        watch = watch.batch_size(task.batch_size);
    }
    let _worker = watch.spawn(&buffer).unwrap();
    let mut drained = Drained { events: 0, bytes: 0 };
    while drained.events < task.events {
        let batch = buffer.recv_batch(1000).unwrap().expect("the worker runs");
        for message in &batch {
            drained.bytes += message.json().len();
        }
        drained.events += batch.len();
        batch.ack();
    }
    drained
}

fn driver(task: &Task) -> Drained {
    let client = Client::with_uri_str(&task.uri).unwrap();
    let orders = client.database(DATABASE).collection::<Document>(COLLECTION);
    let stream = orders.watch().start_at_operation_time(task.start()).run().unwrap();
    let mut drained = Drained { events: 0, bytes: 0 };
    for event in stream {
        let event: ChangeStreamEvent<Document> = event.unwrap();
        drained.bytes += serde_json::to_string(&event).unwrap().len();
        drained.events += 1;
        if drained.events == task.events {
            break;
        }
    }
    drained
}
