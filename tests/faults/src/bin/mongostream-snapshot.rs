//! `mongostream-snapshot [--documents N] [--kills N] [--json]`: a snapshot under concurrent writes, whose consumer
//! is killed again and again. Its copy has to become the collection.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use faults::Result;
use faults::random::Random;
use ground::ReplicaSet;
use ground::mongodb::bson::{Document, RawDocument, doc};
use ground::mongodb::sync::Collection;
use mongostream::{Buffer, FileCheckpoint, Snapshot, Worker};

const USAGE: &str = "usage: mongostream-snapshot [--documents N] [--kills N] [--json]";
/// Documents of a range, as `src/snapshot/reader.rs` has it.
const RANGE: u64 = 50_000;
/// The `_id` of the document that is written last.
const LAST: i64 = -1;

fn main() -> ExitCode {
    match start() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("mongostream-snapshot: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [word, uri, checkpoint] = &arguments[..]
        && word == "consumer"
    {
        consume(uri, Path::new(checkpoint))?;
        return Ok(ExitCode::SUCCESS);
    }
    let (mut documents, mut kills, mut json) = (1_000_000, 3, false);
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a number"));
        match argument.as_str() {
            "--documents" => documents = value()?.parse()?,
            "--kills" => kills = value()?.parse()?,
            "--json" => json = true,
            _ => {
                println!("{USAGE}");
                return Ok(ExitCode::from(2));
            }
        }
    }
    run(documents, kills, json)
}

/// Follows the collection and tells each message by operation, `_id` and `n`, before it acknowledges it.
fn consume(uri: &str, checkpoint: &Path) -> Result<()> {
    let buffer = Buffer::new(1024);
    let worker = Worker::watch(uri)
        .database("shop")
        .collection("orders")
        .option("full_document", "updateLookup")
        .snapshot(Snapshot::Initial)
        .checkpoint(FileCheckpoint::new(checkpoint))
        .spawn(&buffer)?;
    let mut out = std::io::stdout().lock();
    while let Some(batch) = buffer.recv_batch(500)? {
        for message in &batch {
            let event = RawDocument::from_bytes(message.bson())?;
            let id = event.get_document("documentKey")?.get("_id")?;
            let id = id.and_then(|id| id.as_i64()).ok_or("an _id that is no number")?;
            let whole = match event.get("fullDocument")? {
                Some(document) => document.as_document(),
                None => None,
            };
            let n = match whole {
                Some(document) => document.get_i64("n")?.to_string(),
                None => "-".to_owned(),
            };
            writeln!(out, "{} {id} {n}", message.operation())?;
        }
        out.flush()?;
        batch.ack();
    }
    worker.join()?;
    Ok(())
}

/// A consumer process, and what it tells.
struct Consumer {
    process: Child,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Consumer {
    fn start(uri: &str, checkpoint: &Path) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(["consumer", uri])
            .arg(checkpoint)
            .stdout(Stdio::piped())
            .spawn()?;
        let out = process.stdout.take().ok_or("no pipe")?;
        Ok(Self { process, lines: BufReader::new(out).lines() })
    }

    /// The most memory that it has had so far, in MB.
    fn peak(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmHWM")?;
        Ok(kilobytes.parse::<u64>()? / 1024)
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Changes documents until it is dropped.
struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Writer {
    fn start(orders: Collection<Document>, documents: u64) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&written));
        let thread = thread::spawn(move || {
            let mut random = Random::new(1);
            for n in 1_i64.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                let key = doc! { "_id": random.below(documents) as i64 };
                let done = match random.below(4) {
                    0 => orders.delete_one(key).run().map(drop),
                    1 => orders.replace_one(key, doc! { "n": n }).upsert(true).run().map(drop),
                    _ => orders.update_one(key, doc! { "$set": { "n": n } }).run().map(drop),
                };
                done.expect("the server takes writes");
                count.fetch_add(1, Ordering::Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        Self { stop, written, thread: Some(thread) }
    }

    fn stop(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        self.written.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Lets the server make the documents.
fn fill(set: &ReplicaSet, documents: u64) -> Result<()> {
    const AT_ONCE: u64 = 100_000;
    let seed = set.client().database("shop").collection::<Document>("seed");
    seed.insert_one(doc! {}).run()?;
    for from in (0..documents).step_by(AT_ONCE as usize) {
        let to = documents.min(from + AT_ONCE);
        let stages = [
            doc! { "$project": { "n": { "$range": [from as i64, to as i64] } } },
            doc! { "$unwind": "$n" },
            doc! { "$project": {
                "_id": { "$toLong": "$n" }, "n": { "$toLong": 0 }, "text": "x".repeat(200),
            } },
            doc! { "$merge": { "into": "orders" } },
        ];
        seed.aggregate(stages).run()?;
    }
    Ok(())
}

fn run(documents: u64, kills: u64, json: bool) -> Result<ExitCode> {
    eprintln!("making {documents} documents");
    let set = ReplicaSet::start()?;
    fill(&set, documents)?;
    let orders = set.client().database("shop").collection::<Document>("orders");
    let directory = std::env::temp_dir().join(set.database("snapshot"));
    std::fs::create_dir_all(&directory)?;
    let checkpoint = directory.join("orders.token");
    let began = Instant::now();
    let mut writer = Writer::start(orders.clone(), documents);

    let mut copy: HashMap<i64, i64> = HashMap::new();
    // Which life found a document last, and how often one of an earlier life was found again.
    let mut found: HashMap<i64, u64> = HashMap::new();
    let mut repeated = vec![0_u64; kills as usize + 1];
    let (mut peak, mut changes, mut written) = (0, 0_u64, 0);
    let mut is_ended = false;
    for life in 0..=kills {
        let mut consumer = Consumer::start(set.uri(), &checkpoint)?;
        let kill_at = documents * (life + 1) / (kills + 1);
        while let Some(line) = consumer.lines.next() {
            let line = line?;
            let mut words = line.split(' ');
            let operation = words.next().unwrap_or_default();
            let id: i64 = words.next().ok_or("a line without an _id")?.parse()?;
            match words.next().and_then(|n| n.parse().ok()) {
                Some(n) => copy.insert(id, n),
                None => copy.remove(&id),
            };
            if operation == "snapshot" {
                if found.insert(id, life).is_some_and(|before| before != life) {
                    repeated[life as usize] += 1;
                }
                if life < kills && found.len() as u64 >= kill_at {
                    peak = peak.max(consumer.peak()?);
                    consumer.process.kill()?;
                    eprintln!("killed after {} documents", found.len());
                    break;
                }
            } else {
                changes += 1;
                if !is_ended {
                    // The snapshot is over: what is still to come is the end of the changes.
                    is_ended = true;
                    written = writer.stop();
                    orders.insert_one(doc! { "_id": LAST, "n": 0_i64 }).run()?;
                }
                if id == LAST {
                    peak = peak.max(consumer.peak()?);
                    break;
                }
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    let mut differ = 0_u64;
    for document in orders.find(doc! {}).projection(doc! { "n": 1 }).run()? {
        let document = document?;
        differ += u64::from(copy.remove(&document.get_i64("_id")?) != Some(document.get_i64("n")?));
    }
    differ += copy.len() as u64;
    let _ = std::fs::remove_dir_all(directory);

    let most = repeated.iter().max().copied().unwrap_or_default();
    let missed = is_ended && found.len() as u64 == 0;
    let passed = differ == 0 && most <= RANGE && is_ended && !missed;
    if json {
        println!(
            "{{\"documents\":{documents},\"kills\":{kills},\"written\":{written},\"changes\":{changes},\
             \"differ\":{differ},\"repeated\":{:?},\"range\":{RANGE},\"peak_mb\":{peak},\"seconds\":{seconds:.1}}}",
            &repeated[1..]
        );
    } else {
        println!(
            "| documents | writes meanwhile | changes received | documents found again after each kill | a range | differ in the end | peak memory | time |"
        );
        println!("|---:|---:|---:|---:|---:|---:|---:|---:|");
        println!(
            "| {documents} | {written} | {changes} | {} | {RANGE} | {differ} | {peak} MB | {seconds:.0} s |",
            Vec::from_iter(repeated[1..].iter().map(u64::to_string)).join(", ")
        );
    }
    Ok(if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
