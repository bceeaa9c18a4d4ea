//! The documents of a shop, and the changes to them.

use bson::oid::ObjectId;
use bson::{DateTime, Decimal128, Document, Timestamp, doc};

/// A document with about 420 bytes, of most of the types that documents have.
pub(crate) fn order(id: ObjectId, number: i32) -> Document {
    let cents = number.rem_euclid(90_000);
    let price: Decimal128 = format!("{}.{:02}", cents / 100, cents % 100).parse().unwrap();
    doc! {
        "_id": id,
        "number": number,
        "customer": { "name": format!("Jürgen \"Jo\" Müller {}", number % 1000), "since": 2011, "vip": number % 7 == 0 },
        "state": "new",
        "created": DateTime::from_millis(1_700_000_000_000 + i64::from(number) * 37),
        "total": f64::from(cents) * 1.19 / 100.0,
        "price": price,
        "weight": i64::from(number) * 1_000_003,
        "items": [
            { "sku": format!("A-{:06}", number % 7919), "quantity": number % 5 + 1, "gift": false },
            { "sku": format!("B-{:06}", number % 104_729), "quantity": 1, "note": null },
        ],
        "note": "Please ring twice,\nthe bell is \"broken\". Thank you!",
        "tags": ["web", "express", "gift"],
    }
}

/// What an update sets.
pub(crate) fn changes(number: i32) -> Document {
    doc! {
        "state": "paid",
        "paid": DateTime::from_millis(1_700_000_100_000 + i64::from(number)),
        "customer.vip": true,
        "total": f64::from(number % 1000) / 4.0,
    }
}

/// Change events, as far as one can make them without a server.
pub(crate) fn events(count: usize) -> Vec<Vec<u8>> {
    let event = |number: usize| {
        let id = ObjectId::from_bytes([number as u8; 12]);
        let number = number as i32;
        let time = Timestamp { time: 1_700_000_000, increment: 7 };
        let token = format!("82{}", "6553F100000000072B022C0100296E5A1004".repeat(4));
        let mut event = doc! {
            "_id": { "_data": token }, "operationType": "insert", "clusterTime": time,
            "wallTime": DateTime::from_millis(1_700_000_000_000),
        };
        match number % 10 {
            kind if kind < 6 => {
                event.insert("fullDocument", order(id, number));
            }
            kind if kind < 9 => {
                event.insert("operationType", "update");
                let none: [i32; 0] = [];
                event.insert(
                    "updateDescription",
                    doc! { "updatedFields": changes(number), "removedFields": none, "truncatedArrays": none },
                );
            }
            _ => {
                event.insert("operationType", "delete");
            }
        }
        event.insert("ns", doc! { "db": "bench", "coll": "orders" });
        event.insert("documentKey", doc! { "_id": id });
        event.to_vec().unwrap()
    };
    // Neighbouring events of a stream are of different kinds.
    (0..count).map(|index| event(index * 7)).collect()
}
