//! What a snapshot leaves in memory while nobody saves how far it has come. The only test of its binary,
//! because the figure belongs to the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ground::mongodb::bson::{Document, doc};
use mongostream::{Buffer, Snapshot, Worker};

const DEADLINE: Duration = Duration::from_secs(25);
const REPLIES: i32 = 8_000;

/// Counts the bytes that are in use.
struct Counting;

static IN_USE: AtomicUsize = AtomicUsize::new(0);

#[expect(unsafe_code, reason = "there is no other way to count")]
// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        IN_USE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller of this function says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller of this function says.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_snapshot_without_a_checkpoint_leaves_nothing_behind() {
    let set = ground::ReplicaSet::start().unwrap();
    let orders = set.client().database("shop").collection::<Document>("orders");
    orders.insert_many((0..2 * REPLIES).map(|id| doc! { "_id": id })).run().unwrap();
    let buffer = Buffer::new(10);
    let watch = Worker::watch(set.uri()).database("shop").collection("orders");
    let _worker = watch.snapshot(Snapshot::Initial).batch_size(1).spawn(&buffer).unwrap();
    let receive = |count: i32| {
        for _ in 0..count {
            let received = buffer.recv_timeout(DEADLINE).unwrap();
            received.some().expect("a document").ack();
        }
        IN_USE.load(Ordering::Relaxed)
    };
    let before = receive(REPLIES / 2);
    let after = receive(REPLIES);
    let grown = after.saturating_sub(before) / REPLIES as usize;
    eprintln!("{grown} bytes for each reply");
    assert!(grown < 20, "{grown} bytes for each reply");
}
