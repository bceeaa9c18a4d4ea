//! The process that is under test: three workers with checkpoints, one buffer, and a consumer that
//! acknowledges out of order, from two threads.

use std::any::Any;
use std::io::BufRead;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use mongostream::{
    Buffer, CheckpointStore, CollectionCheckpoint, Error, FileCheckpoint, Message,
    Received as Next, StoreError, Watch, Worker,
};

use crate::Result;
use crate::random::Random;
use crate::report::{Line, Received, tell};

/// The database that the writer writes to.
pub const DATABASE: &str = "faults";
/// The collection that a worker watches by itself.
pub const COLLECTION: &str = "orders";
/// Where the database's worker keeps its checkpoint: beyond the reach of a dropDatabase.
const CHECKPOINTS: &str = "checkpoints.positions";

/// The workers, in their order.
pub const WORKERS: [&str; 3] = ["collection", "database", "deployment"];
/// Which workers keep their checkpoints in files, see [`checkpoint_file`].
pub const WITH_FILES: [usize; 2] = [0, 2];

/// How often the workers save, at most.
pub const SAVE_EVERY: Duration = Duration::from_millis(200);
/// How many messages the buffer holds.
pub const CAPACITY: usize = 500;

/// The checkpoint file of a worker.
#[must_use]
pub fn checkpoint_file(directory: &Path, worker: usize) -> std::path::PathBuf {
    directory.join(format!("{}.token", WORKERS[worker]))
}

/// Lets the runner stop the consumer from receiving.
#[derive(Default)]
struct Hold {
    held: Mutex<bool>,
    changed: Condvar,
}

/// Runs the consumer until its standard input ends.
///
/// # Errors
///
/// If a worker cannot be started.
pub fn run(uri: &str, directory: &Path, seed: u64, options: &[String]) -> Result<()> {
    let buffer = Buffer::new(CAPACITY);
    let mut workers = Vec::new();
    for (index, name) in WORKERS.into_iter().enumerate() {
        let mut watch = Worker::watch(uri).name(name).checkpoint_interval(SAVE_EVERY);
        for option in options {
            let (option, value) = option.split_once('=').ok_or("an option is name=value")?;
            watch = watch.option(option, value);
        }
        let file = || FileCheckpoint::new(checkpoint_file(directory, index));
        let watch = match index {
            0 => kept(watch.database(DATABASE).collection(COLLECTION), index, file()),
            1 => {
                let store = CollectionCheckpoint::new(uri, CHECKPOINTS)?;
                kept(watch.database(DATABASE), index, store)
            }
            _ => kept(watch, index, file()),
        };
        workers.push(watch.spawn(&buffer)?);
    }
    let hold = Arc::new(Hold::default());
    thread::scope(|scope| {
        for (index, worker) in workers.iter().enumerate() {
            // Its failure comes through the buffer.
            scope.spawn(move || worker.wait_ready().is_ok().then(|| tell(index, [Line::Ready])));
        }
        let (sender, receiver) = mpsc::channel();
        let received = Arc::new(Mutex::new(receiver));
        for number in 0..2 {
            let received = Arc::clone(&received);
            scope.spawn(move || acknowledge(&received, Random::new(seed ^ number)));
        }
        let (buffer, hold) = (&buffer, &hold);
        scope.spawn(move || receive(buffer, hold, &sender));
        scope.spawn(move || {
            loop {
                tell(0, buffer.stats().map(|stats| Line::Stats(stats.to_json())));
                thread::sleep(Duration::from_millis(100));
            }
        });
        for order in std::io::stdin().lock().lines().map_while(std::io::Result::ok) {
            *hold.held.lock().expect("no panic") = order == "hold";
            hold.changed.notify_all();
        }
        std::process::exit(0)
    })
}

fn kept(watch: Watch, worker: usize, store: impl CheckpointStore) -> Watch {
    watch.checkpoint(Told { worker, store })
}

/// A store that tells of its saves.
struct Told<S> {
    worker: usize,
    store: S,
}

impl<S: CheckpointStore> CheckpointStore for Told<S> {
    fn place(&self) -> String {
        self.store.place()
    }

    fn claim(&self, name: &str) -> Result<Box<dyn Any + Send>, StoreError> {
        self.store.claim(name)
    }

    fn load(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.store.load(name)
    }

    fn save(&self, name: &str, text: &str) -> Result<(), StoreError> {
        tell(self.worker, [Line::Saving]);
        let saved = self.store.save(name, text);
        tell(self.worker, [if saved.is_ok() { Line::Saved } else { Line::NotSaved }]);
        saved
    }
}

fn worker_of(name: Option<&str>) -> usize {
    WORKERS.iter().position(|worker| Some(*worker) == name).unwrap_or(0)
}

/// A message, its worker and its number among that worker's.
type Numbered = (usize, usize, Message);

/// The only one who receives, so that each worker's messages are told in their order.
fn receive(buffer: &Buffer, hold: &Hold, ackers: &mpsc::Sender<Numbered>) {
    let mut counts = [0; WORKERS.len()];
    loop {
        let held = hold.held.lock().expect("no panic");
        drop(hold.changed.wait_while(held, |held| *held).expect("no panic"));
        match buffer.recv_batch_timeout(50, Duration::from_millis(100)) {
            Ok(Next::Some(batch)) => {
                for message in batch {
                    let worker = worker_of(Some(message.worker()));
                    let number = counts[worker];
                    counts[worker] += 1;
                    tell(worker, [Line::Received(Received::of(&message, number))]);
                    let _ = ackers.send((worker, number, message));
                }
            }
            Ok(Next::Timeout) => {}
            Ok(Next::Closed) => return,
            Err(error) => tell_failure(&error),
        }
    }
}

fn tell_failure(error: &Error) {
    let text = format!("{:?} {error}", error.kind());
    tell(worker_of(error.worker()), [Line::Failed(text)]);
}

/// Acknowledges a few at a time, in any order.
fn acknowledge(received: &Mutex<mpsc::Receiver<Numbered>>, mut random: Random) {
    loop {
        let mut some = Vec::new();
        let count = 1 + random.below(16);
        {
            let received = received.lock().expect("no panic");
            match received.recv() {
                Ok(message) => some.push(message),
                Err(_) => return,
            }
            some.extend(received.try_iter().take(usize::try_from(count).unwrap_or(1)));
        }
        thread::sleep(random.milliseconds(0..20));
        random.shuffle(&mut some);
        let numbers = |worker| {
            some.iter().filter(move |one| one.0 == worker).map(|one| one.1).collect::<Vec<_>>()
        };
        let tell_all = |line: fn(Vec<usize>) -> Line| {
            for worker in 0..WORKERS.len() {
                let numbers = numbers(worker);
                if !numbers.is_empty() {
                    tell(worker, [line(numbers)]);
                }
            }
        };
        tell_all(Line::Acking);
        some.iter().for_each(|(_, _, message)| message.ack());
        tell_all(Line::Acked);
    }
}
