//! `mongostream tail` on real servers.
#![cfg(unix)]

mod support;

use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::time::{Duration, Instant};

use ground::ReplicaSet;
use ground::mongodb::bson::{Document, doc};
use mongostream::{Buffer, Start, Worker};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::Signal;
use serde_json::Value;

use support::{DEADLINE, Directory, Guarded, Running, Shop, closed_address, ids, program, run};

#[test]
fn lines_are_what_the_library_gives() {
    let shop = Shop::new("lines");
    let start = shop.now();
    shop.insert(0..50);
    shop.orders()
        .update_one(doc! { "_id": 7 }, doc! { "$set": { "state": "paid" } })
        .run()
        .unwrap();
    shop.orders().delete_one(doc! { "_id": 8 }).run().unwrap();

    for (format, json) in [("oplog", "relaxed"), ("event", "canonical")] {
        let buffer = Buffer::new(100);
        let watch = Worker::watch(shop.uri()).database(&shop.database).collection("orders");
        let watch = watch.option("format", format).option("json", json);
        let _worker = watch.start_at(Start::StartAfter(start.clone())).spawn(&buffer).unwrap();
        let expected: String = buffer
            .iter()
            .take(52)
            .map(|message| format!("{}\n", message.unwrap().json()))
            .collect();

        let namespace = shop.namespace();
        let given = ["tail", shop.uri(), &namespace, "--count", "52", "--format", format];
        let ended = run(given.into_iter().chain(["--json", json, "--start-after", &start]));
        let ended = ended.assert_code(0);
        assert_eq!(ended.out, expected);
        assert_eq!(ended.err, "", "quiet in a pipe");
    }
}

#[test]
fn a_count_is_exact_and_what_comes_after_it_comes_next_time() {
    let (shop, directory) = (Shop::new("count"), Directory::new());
    let start = shop.now();
    shop.insert(0..2500);
    let file = directory.file("orders.token");
    let mut expected = 0..2500;
    // More than a batch, less than one, and one.
    for count in [1200, 10, 1] {
        let count_text = count.to_string();
        let further = ["--start_after", &start, "--checkpoint_file", &file, "--count", &count_text];
        let mut running = Running::start(shop.tail(&further));
        assert!(running.end().success());
        assert_eq!(ids(&running.rest()), Vec::from_iter(expected.by_ref().take(count)));
        assert_eq!(running.stderr(), "");
    }
}

#[test]
fn a_signal_ends_it_in_order_and_a_restart_continues() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let (shop, directory) = (Shop::new("signal"), Directory::new());
        let file = directory.file("orders.token");
        let tail = || shop.tail(&["--checkpoint_file", &file, "--checkpoint_ms", "3600000"]);
        let start = shop.now();
        let mut first = shop.tail(&["--checkpoint_file", &file, "--start_after", &start]);
        first.args(["--checkpoint_ms", "3600000"]);
        let mut running = Running::start(first);
        shop.insert(0..20);
        assert_eq!(ids(&running.lines(20)), Vec::from_iter(0..20));
        running.signal(signal);
        assert_eq!(running.end().code(), Some(0));
        assert_eq!(running.rest(), [""; 0]);
        assert_eq!(running.stderr(), "");

        shop.insert(20..30);
        let running = Running::start(tail());
        assert_eq!(ids(&running.lines(10)), Vec::from_iter(20..30), "what was not written");
    }
}

#[test]
fn under_nohup_it_goes_on_without_its_terminal() {
    let shop = Shop::new("nohup");
    let start = shop.now();
    let tail = shop.tail(&["--start_after", &start]);
    let mut nohup = std::process::Command::new("nohup");
    nohup.arg(tail.get_program()).args(tail.get_args()).stdin(Stdio::null());
    let mut running = Running::start(nohup);
    for id in 0..3 {
        shop.insert(id..id + 1);
        assert_eq!(ids(&[running.line()]), [i64::from(id)]);
        running.signal(Signal::SIGHUP);
    }
    running.signal(Signal::SIGTERM);
    assert_eq!(running.end().code(), Some(0));
}

/// A set of its own, and the program on it, which has written a line.
fn on_a_set_of_its_own(set: &ReplicaSet, further: &[&str]) -> Running {
    let orders = set.client().database("shop").collection::<Document>("orders");
    let mut command = program(["tail", set.uri(), "shop.orders"]);
    command.args(further);
    let running = Running::start(command);
    ground::wait_until(DEADLINE, "a line", || {
        orders.insert_one(doc! {}).run().unwrap();
        running.has_line()
    });
    running
}

#[test]
fn it_ends_at_once_also_with_a_frozen_server() {
    let directory = Directory::new();
    let set = ReplicaSet::start().unwrap();
    let file = directory.file("orders.token");
    let mut times = Vec::new();
    for frozen in [false, false, false, true] {
        let mut running = on_a_set_of_its_own(&set, &["--checkpoint_file", &file]);
        if frozen {
            set.member(0).pause().unwrap();
        }
        let began = Instant::now();
        running.signal(Signal::SIGINT);
        assert_eq!(running.end().code(), Some(0));
        times.push(began.elapsed());
    }
    set.member(0).resume().unwrap();
    eprintln!("from the signal to the end: {times:?}, the last one with a frozen server");
    // 0.2 s are promised; this machine may be busy.
    assert!(times.iter().all(|took| *took < Duration::from_secs(2)), "{times:?}");
}

#[test]
fn after_a_signal_what_is_queued_is_still_written_and_acked() {
    let (shop, directory) = (Shop::new("drain"), Directory::new());
    let file = directory.file("orders.token");
    let start = shop.now();
    // More than a pipe holds, and more than one batch.
    let text = "x".repeat(2000);
    let documents = (0..3000).map(|id| doc! { "_id": id, "text": &text });
    shop.orders().insert_many(documents).run().unwrap();
    let tail = || shop.tail(&["--checkpoint_file", &file, "--start_after", &start]);
    let mut process = Guarded::spawn(tail().stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut stdout = process.stdout.take().unwrap();
    let mut bytes = vec![0; 1000];
    stdout.read_exact(&mut bytes).unwrap();
    let pid = nix::unistd::Pid::from_raw(process.id().try_into().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGTERM).unwrap();
    stdout.read_to_end(&mut bytes).unwrap();
    assert_eq!(ground::wait_for_end(&mut process, DEADLINE).code(), Some(0));
    let text = String::from_utf8(bytes).unwrap();
    assert!(text.ends_with('\n'), "no line is cut");
    let lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let written = i64::try_from(lines.len()).unwrap();
    assert_eq!(ids(&lines), Vec::from_iter(0..written));
    shop.insert(3000..3001);
    let running = Running::start(tail());
    let rest = running.lines(3001 - lines.len());
    assert_eq!(ids(&rest), Vec::from_iter(written..3001), "each comes once");
}

#[test]
fn a_second_signal_does_not_wait_for_stdout() {
    let shop = Shop::new("second");
    let start = shop.now();
    // More than a pipe holds.
    let text = "x".repeat(100_000);
    shop.orders().insert_many((0..20).map(|id| doc! { "_id": id, "text": &text })).run().unwrap();
    let mut command = shop.tail(&["--start_after", &start]);
    let mut process = Guarded::spawn(command.stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut stdout = process.stdout.take().unwrap();
    let mut one = [0];
    stdout.read_exact(&mut one).unwrap();
    let pid = nix::unistd::Pid::from_raw(process.id().try_into().unwrap());
    nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
    // Two of the same kind at once would be one.
    ground::wait_until(DEADLINE, "a second signal ends it", || {
        let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
        process.try_wait().unwrap().is_some()
    });
    assert_eq!(process.wait().unwrap().code(), Some(1));
}

#[test]
fn a_closed_stdout_is_an_orderly_end_and_what_was_not_written_comes_again() {
    let (shop, directory) = (Shop::new("head"), Directory::new());
    let file = directory.file("orders.token");
    let start = shop.now();
    shop.insert(0..3);
    let tail = || shop.tail(&["--checkpoint_file", &file, "--start_after", &start]);
    let mut process = Guarded::spawn(tail().stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut stdout = process.stdout.take().unwrap();
    let mut text = String::new();
    while text.lines().count() < 3 || !text.ends_with('\n') {
        let mut bytes = [0; 4096];
        let count = stdout.read(&mut bytes).unwrap();
        text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    // Nothing more is written: it sees that nobody reads.
    drop(stdout);
    assert_eq!(ground::wait_for_end(&mut process, DEADLINE).code(), Some(0));
    let mut err = String::new();
    process.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(err, "");

    // It is closed before anything can be written.
    shop.insert(3..6);
    let mut process = Guarded::spawn(tail().stdout(Stdio::piped()).stderr(Stdio::piped()));
    drop(process.stdout.take());
    assert_eq!(ground::wait_for_end(&mut process, DEADLINE).code(), Some(0));
    let running = Running::start(tail());
    assert_eq!(ids(&running.lines(3)), [3, 4, 5]);
}

#[test]
fn a_reader_that_goes_in_the_middle_of_a_write_is_an_orderly_end() {
    let (shop, directory) = (Shop::new("middle"), Directory::new());
    let file = directory.file("orders.token");
    let start = shop.now();
    // More than a pipe holds.
    let text = "x".repeat(100_000);
    shop.orders().insert_many((0..20).map(|id| doc! { "_id": id, "text": &text })).run().unwrap();
    let tail = || shop.tail(&["--checkpoint_file", &file, "--start_after", &start]);
    let mut process = Guarded::spawn(tail().stdout(Stdio::piped()).stderr(Stdio::piped()));
    let mut stdout = process.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 1000]).unwrap();
    drop(stdout);
    assert_eq!(ground::wait_for_end(&mut process, DEADLINE).code(), Some(0));
    let mut err = String::new();
    process.stderr.take().unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(err, "");
    let running = Running::start(tail());
    assert_eq!(ids(&running.lines(20)), Vec::from_iter(0..20), "nothing was acked");
}

#[test]
fn a_full_disk_is_a_failure() {
    if !std::path::Path::new("/dev/full").exists() {
        return;
    }
    let (shop, directory) = (Shop::new("full"), Directory::new());
    let file = directory.file("orders.token");
    let start = shop.now();
    shop.insert(0..3);
    let tail = || shop.tail(&["--checkpoint_file", &file, "--start_after", &start]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = tail().stdout(full).stderr(Stdio::piped()).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("standard output"), "{err}");
    assert_eq!(ids(&Running::start(tail()).lines(3)), [0, 1, 2], "nothing was acked");
}

#[test]
fn a_failure_is_told_and_the_code_is_1() {
    let address = closed_address();
    let uri = format!("mongodb://somebody:hunter2@{address}/?serverSelectionTimeoutMS=500");
    let ended = run(["tail", &uri, "shop.orders"]).assert_code(1);
    assert!(ended.err.starts_with("error: ") && ended.err.contains(&address), "{ended:?}");
    assert!(!ended.err.contains("hunter2") && ended.out.is_empty(), "{ended:?}");

    let shop = Shop::new("failure");
    shop.insert(0..1);
    let mut running =
        Running::start(shop.tail(&["--on_invalidate", "stop", "--start_after", &shop.now()]));
    shop.insert(1..3);
    shop.orders().drop().run().unwrap();
    assert_eq!(running.end().code(), Some(1));
    let operations: Vec<String> = running
        .rest()
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["OperationType"].to_string())
        .collect();
    assert_eq!(operations, ["\"insert\"", "\"insert\"", "\"drop\"", "\"invalidate\""]);
    assert!(running.stderr().contains("dropped or renamed"));
}

#[test]
fn wrong_usage_is_told_and_the_code_is_2() {
    let uri = ground::shared().uri();
    for (arguments, word) in [
        (vec![], "Usage"),
        (vec!["nonsense"], "nonsense"),
        (vec!["tail"], "URI"),
        (vec!["tail", "nonsense"], "nonsense"),
        (vec!["tail", "mongodb://somebody:hunter2@:x/"], "URI"),
        (vec!["options", "mongodb://somebody:hunter2@localhost/"], "localhost"),
        (vec!["tail", uri, "shop", "mongodb://somebody:hunter2@localhost/"], "localhost"),
        (vec!["tail", uri, "a b.c"], "a b"),
        (vec!["tail", uri, "--count", "0"], "count"),
        (vec!["tail", uri, "--count", "x"], "count"),
        (vec!["tail", uri, "--batch_size", "x"], "batch_size"),
        (vec!["tail", uri, "--format", "xml"], "oplog"),
        (vec!["tail", uri, "--fromat", "event"], "--format"),
        (
            vec!["tail", uri, "--start_at_time", "1", "--resume_after", "{\"_data\":\"82\"}"],
            "resume_after",
        ),
        (vec!["tail", uri, "--metrics", "nonsense"], "host:port"),
    ] {
        let ended = run(&arguments).assert_code(2);
        assert!(ended.err.contains(word), "no {word:?} in {ended:?}");
        assert!(!ended.err.contains("hunter2") && ended.out.is_empty(), "{ended:?}");
    }
}

/// A terminal of so many columns: what is written to it, and its other end.
fn terminal(columns: u16) -> (OwnedFd, OwnedFd) {
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    (pty.slave, pty.master)
}

#[test]
fn a_status_line_is_drawn_on_a_terminal_and_cleared_in_the_end() {
    let shop = Shop::new("status");
    let start = shop.now();
    shop.insert(0..7);
    let columns = 60;
    let (screen, master) = terminal(columns);
    let mut command = shop.tail(&["--start_after", &start]);
    let mut process = Guarded::spawn(command.stdout(Stdio::null()).stderr(screen));
    // The command has a copy of the terminal.
    drop(command);
    let mut master = std::fs::File::from(master);
    let (mut text, mut began) = (String::new(), None);
    loop {
        let mut bytes = [0; 4096];
        // EIO: nobody has the terminal any more.
        let Ok(count) = master.read(&mut bytes) else { break };
        if count == 0 {
            break;
        }
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if began.is_none() && text.contains("streaming  7 messages") {
            began = Some(Instant::now());
        }
        if began.is_some_and(|began| began.elapsed() > Duration::from_secs(2)) {
            let pid = nix::unistd::Pid::from_raw(process.id().try_into().unwrap());
            let _ = nix::sys::signal::kill(pid, Signal::SIGINT);
        }
    }
    assert!(ground::wait_for_end(&mut process, DEADLINE).success(), "{text:?}");
    let draws: Vec<&str> = text.split("\r\u{1b}[2K").collect();
    assert_eq!(draws.first(), Some(&""), "{text:?}");
    assert_eq!(draws.last(), Some(&""), "it is cleared: {text:?}");
    assert!(!text.contains('\n'), "in place: {text:?}");
    for draw in &draws {
        assert!(draw.chars().count() < usize::from(columns), "{draw:?}");
    }
    let last = draws[draws.len() - 2];
    assert!(last.contains("messages") && last.contains("/s") && last.contains("lag "), "{last:?}");
}

#[test]
fn lines_and_the_status_line_do_not_mix_on_one_terminal() {
    let shop = Shop::new("mix");
    let start = shop.now();
    shop.insert(0..3);
    let (screen, master) = terminal(120);
    let mut command = shop.tail(&["--start_after", &start, "--count", "4"]);
    let (out, err) = (screen.try_clone().unwrap(), screen);
    let mut process = Guarded::spawn(command.stdout(out).stderr(err));
    drop(command);
    let mut master = std::fs::File::from(master);
    let (mut text, mut is_last_there) = (String::new(), false);
    let mut bytes = [0; 4096];
    while let Ok(count @ 1..) = master.read(&mut bytes) {
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
        if !is_last_there && text.contains("streaming  3 messages") {
            is_last_there = true;
            shop.insert(3..4);
        }
    }
    assert!(ground::wait_for_end(&mut process, DEADLINE).success(), "{text:?}");
    let lines: Vec<String> = text
        .split("\r\n")
        .filter_map(|line| line.rsplit("\r\u{1b}[2K").next())
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    assert_eq!(ids(&lines), [0, 1, 2, 3], "{text:?}");
}

/// What a GET gives: the code, the headers and the body.
fn get(address: &str, path: &str) -> Option<(u16, String, String)> {
    use std::io::Write;
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let code = head.split(' ').nth(1)?.parse().ok()?;
    Some((code, head.to_ascii_lowercase(), body.to_owned()))
}

#[test]
fn metrics_are_served_and_the_health_changes() {
    let set = ReplicaSet::start().unwrap();
    set.member(0).pause().unwrap();
    let uri = set.uri_with("serverSelectionTimeoutMS=60000");
    let mut command = program(["tail", &uri, "shop.orders", "--metrics", "127.0.0.1:0"]);
    let mut process = Guarded::spawn(command.stdout(Stdio::null()).stderr(Stdio::piped()));
    let mut stderr = std::io::BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    std::io::BufRead::read_line(&mut stderr, &mut line).unwrap();
    let address =
        line.trim().split("http://").nth(1).and_then(|rest| rest.strip_suffix("/metrics"));
    let address = address.unwrap_or_else(|| panic!("{line}"));

    let health = || get(address, "/healthz").expect("an answer");
    assert_eq!(health().0, 503, "it is not open yet");
    assert!(health().2.contains("starting"));
    set.member(0).resume().unwrap();
    ground::wait_until(DEADLINE, "it is healthy", || health().0 == 200);

    let (code, head, body) = get(address, "/metrics").unwrap();
    assert_eq!(code, 200);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    let samples: Vec<&str> = body.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(samples.len() > 20);
    for sample in samples {
        let (name, value) = sample.rsplit_once(' ').unwrap();
        assert!(name.starts_with("mongostream_") && value.parse::<f64>().is_ok(), "{sample}");
    }
    assert!(body.contains("mongostream_worker_state{worker=\"shop.orders\",mongostream_worker_state=\"streaming\"} 1"), "{body}");
    assert_eq!(get(address, "/nonsense").unwrap().0, 404);

    set.member(0).kill().unwrap();
    ground::wait_until(DEADLINE, "it reconnects", || health().2.contains("reconnecting"));
    assert_eq!(health().0, 200, "it was open a moment ago");
    // The rule for longer times is a unit test.
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn an_address_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let ended = run(["tail", ground::shared().uri(), "shop.orders", "--metrics", &address]);
    assert!(ended.assert_code(1).err.contains(&address));
}
