//! The main job in one program: follow changes, print each as a line of JSON.
//!
//! ```text
//! cargo quickstart                                    a private replica set and a busy shop
//! cargo quickstart -- URI [DATABASE [COLLECTION]]     yours, until Ctrl-C
//! ```
//!
//! Messages go to standard output, everything else to standard error.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::sync::{Client, Collection};
use mongostream::{Buffer, Worker};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.as_slice() {
        [] => demonstrate(),
        [uri, scope @ ..] if scope.len() <= 2 && !uri.starts_with('-') => tail(uri, scope),
        _ => {
            eprintln!("usage: quickstart [URI [DATABASE [COLLECTION]]]");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("quickstart: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Follows what the caller names until Ctrl-C ends the process.
fn tail(uri: &str, scope: &[String]) -> Result<(), Box<dyn Error>> {
    let buffer = Buffer::new(1024);
    let mut watch = Worker::watch(uri);
    if let Some(database) = scope.first() {
        watch = watch.database(database);
    }
    if let Some(collection) = scope.get(1) {
        watch = watch.collection(collection);
    }
    let worker = watch.spawn(&buffer)?;
    eprintln!("following {}; Ctrl-C ends it", worker.name());
    print_all(&buffer, |_| {})
}

/// Starts a replica set, writes to it from a second thread, and follows the changes.
fn demonstrate() -> Result<(), Box<dyn Error>> {
    eprintln!("starting a private MongoDB replica set ...");
    let set = ground::ReplicaSet::start()?;
    eprintln!("{} is up", set.uri());

    let buffer = Buffer::new(1024);
    let worker = Worker::watch(set.uri()).database("shop").spawn(&buffer)?;
    worker.wait_ready()?;

    let began = Instant::now();
    let mut counts = BTreeMap::<String, u64>::new();
    let client = set.client().clone();
    thread::scope(|threads| -> Result<(), Box<dyn Error>> {
        let shop = threads.spawn(|| {
            // Without its changes the loop below would wait for ever.
            keep_shop(&client).inspect_err(|_| buffer.close())
        });
        let mut left = SHOP_CHANGES;
        print_all(&buffer, |message| {
            *counts
                .entry(format!("{} {}", message.namespace(), message.operation()))
                .or_default() += 1;
            left -= 1;
            if left == 0 {
                buffer.close();
            }
        })?;
        shop.join().map_err(|_| "the shop's thread panicked")??;
        Ok(())
    })?;
    worker.join()?;

    let total: u64 = counts.values().sum();
    eprintln!("\n{total} changes in {} ms:", began.elapsed().as_millis());
    for (what, count) in counts {
        eprintln!("{count:>6}  {what}");
    }
    Ok(())
}

fn print_all(
    buffer: &Buffer,
    mut seen: impl FnMut(&mongostream::Message),
) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout().lock();
    for message in buffer {
        let message = message?;
        writeln!(out, "{}", message.json())?;
        message.ack();
        seen(&message);
    }
    Ok(())
}

const CUSTOMERS: i32 = 10;
const ORDERS: i32 = 40;
/// What `keep_shop` writes: each customer once; each order is placed and paid, every fourth is
/// replaced by a larger one, every fifth is cancelled.
const SHOP_CHANGES: i32 = CUSTOMERS + 2 * ORDERS + ORDERS / 4 + ORDERS / 5;

fn keep_shop(client: &Client) -> Result<(), ground::mongodb::error::Error> {
    let shop = client.database("shop");
    let customers: Collection<Document> = shop.collection("customers");
    let orders: Collection<Document> = shop.collection("orders");
    for number in 0..CUSTOMERS {
        customers.insert_one(doc! { "_id": number, "name": format!("Customer {number}") }).run()?;
    }
    for number in 0..ORDERS {
        let id = format!("order-{number}");
        let items = vec![doc! { "sku": format!("sku-{}", number % 7), "count": number % 3 + 1 }];
        let order =
            doc! { "_id": &id, "customer": number % CUSTOMERS, "state": "new", "items": items };
        orders.insert_one(&order).run()?;
        orders
            .update_one(
                doc! { "_id": &id },
                doc! { "$set": { "state": "paid", "items.0.count": 5 } },
            )
            .run()?;
        if number % 4 == 0 {
            let larger = doc! { "customer": number % CUSTOMERS, "state": "paid", "items": [] };
            orders.replace_one(doc! { "_id": &id }, larger).run()?;
        }
        if number % 5 == 0 {
            orders.delete_one(doc! { "_id": &id }).run()?;
        }
    }
    Ok(())
}
