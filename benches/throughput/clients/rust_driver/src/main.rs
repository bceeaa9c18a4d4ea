//! The Rust driver as it comes, in a loop: typed events, serde_json. Arguments: URI, second, events.

use std::io::Read;
use std::time::Instant;

use mongodb::bson::{Document, Timestamp};
use mongodb::change_stream::event::ChangeStreamEvent;
use mongodb::sync::Client;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

fn cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, uri, second, wanted] = arguments.as_slice() else { panic!("URI, second, events") };
    let start = Timestamp { time: second.parse().unwrap(), increment: 0 };
    let wanted: usize = wanted.parse().unwrap();
    let (began, before) = (Instant::now(), cpu());
    let client = Client::with_uri_str(uri).unwrap();
    let orders = client.database("bench").collection::<Document>("orders");
    let stream = orders.watch().start_at_operation_time(start).run().unwrap();
    let (mut events, mut bytes) = (0, 0);
    for event in stream {
        let event: ChangeStreamEvent<Document> = event.unwrap();
        bytes += serde_json::to_string(&event).unwrap().len();
        events += 1;
        if events == wanted {
            break;
        }
    }
    println!("{events} {bytes} {} {}", began.elapsed().as_secs_f64(), cpu() - before);
    // Until its memory has been looked at.
    let _ = std::io::stdin().read(&mut [0]);
}
