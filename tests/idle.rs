//! Idle workers ask the server no more often than they must. (What that costs in CPU time is
//! measured with the optimised library, see docs/BENCHMARKS.md.)

use std::time::{Duration, Instant};

use ground::mongodb::bson::doc;
use mongostream::{Buffer, Worker};

#[test]
fn an_idle_worker_sends_one_request_for_each_await_time() {
    const WORKERS: i64 = 50;
    const AWAIT: Duration = Duration::from_secs(2);
    let set = ground::ReplicaSet::start().unwrap();
    let buffer = Buffer::new(10);
    let workers: Vec<Worker> = (0..WORKERS)
        .map(|n| {
            Worker::watch(set.uri())
                .database("shop")
                .collection(format!("idle{n}"))
                .await_time(AWAIT)
                .spawn(&buffer)
                .unwrap()
        })
        .collect();
    for worker in &workers {
        worker.wait_ready().unwrap();
    }
    let requests = || {
        let status =
            set.client().database("admin").run_command(doc! { "serverStatus": 1 }).run().unwrap();
        let commands = status.get_document("metrics").unwrap().get_document("commands").unwrap();
        let total = |name| commands.get_document(name).unwrap().get_i64("total").unwrap();
        (total("getMore"), total("aggregate"), total("killCursors"))
    };
    let (before, began) = (requests(), Instant::now());
    let received = buffer.recv_timeout(3 * AWAIT).unwrap();
    assert!(received.some().is_none(), "nobody writes");
    let rounds = (began.elapsed().as_secs_f64() / AWAIT.as_secs_f64()).ceil() as i64;
    let after = requests();
    let sent = after.0 - before.0;
    assert!(sent <= (rounds + 1) * WORKERS, "{sent} getMores in {rounds} rounds of {WORKERS}");
    assert!(sent >= (rounds - 2) * WORKERS, "{sent} getMores: do the workers listen at all?");
    assert_eq!((after.1, after.2), (before.1, before.2), "no cursor was opened or closed");
}
