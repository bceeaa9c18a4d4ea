//! The ground under the ground: servers start, obey and vanish.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ground::mongodb::bson::{Document, doc};
use ground::mongodb::options::ClientOptions;
use ground::mongodb::sync::{Client, Collection};
use ground::{Error, Member, ReplicaSet, Standalone};
use ground::{eventually, output, wait_for_end, wait_until};

const LONG: Duration = Duration::from_secs(30);

fn collection(client: &Client) -> Collection<Document> {
    client.database(&ground::database_name("ground")).collection("c")
}

/// The directory a server keeps its data in.
fn directory(member: &Member) -> PathBuf {
    let command = std::fs::read_to_string(format!("/proc/{}/cmdline", member.pid())).unwrap();
    let mut words = command.split('\0').skip_while(|word| *word != "--dbpath");
    Path::new(words.nth(1).unwrap()).parent().unwrap().parent().unwrap().to_owned()
}

fn gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn shared_set_takes_writes_and_feeds_change_streams() {
    let set = ground::shared();
    assert!(std::ptr::eq(set, ground::shared()));
    let events = collection(set.client());
    let mut stream = events.watch().run().unwrap();
    events.insert_one(doc! { "x": 1 }).run().unwrap();
    let event = eventually(LONG, || stream.next_if_any().unwrap());
    assert_eq!(event.full_document.unwrap().get_i32("x").unwrap(), 1);
    assert!(set.version() >= (4, 2, 0));
}

#[test]
fn sets_run_side_by_side_and_vanish_on_drop() {
    let start = || std::thread::spawn(|| ReplicaSet::start().unwrap());
    let sets = [start(), start()].map(|thread| thread.join().unwrap());
    for (n, set) in (0..).zip(&sets) {
        let here = set.client().database("same").collection("c");
        here.insert_one(doc! { "set": n }).run().unwrap();
        assert_eq!(here.find_one(doc! {}).run().unwrap().unwrap().get_i32("set").unwrap(), n);
    }
    let traces = sets.each_ref().map(|set| (set.member(0).pid(), directory(set.member(0))));
    assert!(traces.iter().all(|(_, directory)| directory.exists()));
    let panicked = std::thread::spawn(move || {
        let _dropped_by_the_panic = sets;
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(panicked.join().is_err());
    for (pid, directory) in traces {
        assert!(gone(pid) && !directory.exists());
    }
}

#[test]
fn killed_server_comes_back_with_its_data() {
    let set = ReplicaSet::start().unwrap();
    let journaled = Client::with_uri_str(set.uri_with("w=majority&journal=true")).unwrap();
    let kept = collection(&journaled);
    kept.insert_one(doc! { "_id": 1 }).run().unwrap();
    let (member, pid) = (set.member(0), set.member(0).pid());
    member.kill().unwrap();
    assert!(gone(pid) && !member.is_running() && member.pid() == 0);
    assert!(member.pause().is_err());
    member.kill().unwrap();
    // A port that is busy for a while is waited for.
    let busy = TcpListener::bind(member.address()).unwrap();
    let freed = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(500));
        drop(busy);
    });
    member.restart().unwrap();
    assert!(freed.is_finished());
    set.wait_for_primary(LONG).unwrap();
    assert_eq!(kept.count_documents(doc! {}).run().unwrap(), 1);
}

#[test]
fn paused_server_is_silent_until_it_goes_on() {
    let set = ReplicaSet::start().unwrap();
    let there = collection(set.client());
    there.insert_one(doc! {}).run().unwrap();
    set.member(0).pause().unwrap();
    assert!(set.wait_for_primary(Duration::from_millis(50)).is_err());
    let write = std::thread::spawn(move || there.insert_one(doc! {}).run());
    std::thread::sleep(Duration::from_millis(200));
    assert!(!write.is_finished());
    set.member(0).resume().unwrap();
    write.join().unwrap().unwrap();
    let (pid, place) = (set.member(0).pid(), directory(set.member(0)));
    set.member(0).pause().unwrap();
    drop(set);
    assert!(gone(pid) && !place.exists());
}

#[test]
fn three_members_elect_another_primary() {
    let set = ReplicaSet::builder().members(3).election_timeout_ms(500).start().unwrap();
    let kept = collection(&Client::with_uri_str(set.uri_with("w=majority")).unwrap());
    kept.insert_one(doc! {}).run().unwrap();
    let first = set.primary();
    set.step_down().unwrap();
    let second = set.primary();
    assert_ne!(first, second);
    set.member(second).kill().unwrap();
    let third = set.wait_for_primary(LONG).unwrap();
    assert_ne!(second, third);
    set.member(second).restart().unwrap();
    kept.insert_one(doc! {}).run().unwrap();
    assert_eq!(kept.count_documents(doc! {}).run().unwrap(), 2);
}

#[test]
fn just_started_server_may_be_killed() {
    let set = ReplicaSet::start().unwrap();
    set.member(0).kill().unwrap();
    set.member(0).restart().unwrap();
    set.wait_for_primary(LONG).unwrap();
}

#[test]
fn only_member_stands_again_after_stepping_down() {
    let set = ReplicaSet::start().unwrap();
    set.step_down().unwrap();
    set.wait_for_primary(Duration::from_secs(10)).unwrap();
    collection(set.client()).insert_one(doc! {}).run().unwrap();
}

#[test]
fn fail_points_hit_and_are_counted() {
    let set = ReplicaSet::start().unwrap();
    let target = collection(&Client::with_uri_str(set.uri_with("appName=target")).unwrap());
    let insert = || target.insert_one(doc! {}).run();
    for _ in 0..2 {
        let point = doc! {
            "configureFailPoint": "failCommand", "mode": "alwaysOn",
            "data": { "failCommands": ["insert"], "errorCode": 8000, "appName": "target" },
        };
        let point = set.fail_point(point).unwrap();
        assert_eq!(point.hits(), Some(0));
        assert!(insert().is_err() && insert().is_err());
        // The oldest servers know no appName.
        if set.version() >= (4, 4, 0) {
            collection(set.client()).insert_one(doc! {}).run().unwrap();
        }
        assert_eq!(point.hits(), Some(2));
        point.wait_for_hits(2, LONG).unwrap();
        assert!(point.wait_for_hits(3, Duration::from_millis(10)).is_err());
        drop(point);
        insert().unwrap();
    }
    assert!(set.fail_point(doc! { "configureFailPoint": "noSuch", "mode": "off" }).is_err());
}

#[test]
fn standalone_server_is_no_set() {
    let server = ReplicaSet::builder().env("GROUND_PROOF", "=1").start_standalone().unwrap();
    let environment = std::fs::read(format!("/proc/{}/environ", server.member().pid())).unwrap();
    assert!(String::from_utf8_lossy(&environment).contains("GROUND_PROOF==1\0"));
    collection(server.client()).insert_one(doc! {}).run().unwrap();
    server.member().restart().unwrap();
    assert!(Standalone::start().unwrap().uri() != server.uri());
    let other = Client::with_uri_str(server.uri_with("appName=x")).unwrap();
    assert!(collection(&other).watch().run().is_err());
    assert!(ReplicaSet::connect(server.uri()).is_err());
}

#[test]
fn authentication_is_demanded() {
    let set = ReplicaSet::builder().auth("a user", "p@ss/word%").start().unwrap();
    collection(set.client()).insert_one(doc! {}).run().unwrap();
    collection(set.member(0).client()).insert_one(doc! {}).run().unwrap();
    let known = ReplicaSet::connect(&set.uri_with("appName=x")).unwrap();
    assert!(known.is_external() && known.version() == set.version());
    let address = set.member(0).address();
    let unknown = Client::with_uri_str(format!("mongodb://{address}/?directConnection=true"));
    assert!(collection(&unknown.unwrap()).insert_one(doc! {}).run().is_err());
}

#[test]
fn advertised_names_are_the_set_s() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = listener.local_addr().unwrap().to_string();
    let name = proxy.clone();
    let set = ReplicaSet::builder().advertise(move |_, real| {
        let (listener, real) = (listener.try_clone().unwrap(), real.to_owned());
        std::thread::spawn(move || forward(&listener, &real));
        name.clone()
    });
    let set = set.start().unwrap();
    assert!(set.uri().contains(&proxy) && set.member(0).address() != proxy);
    let through = Client::with_uri_str(set.uri()).unwrap();
    collection(&through).insert_one(doc! {}).run().unwrap();
    collection(set.client()).insert_one(doc! {}).run().unwrap();
}

fn forward(listener: &TcpListener, real: &str) {
    for near in listener.incoming() {
        let near = near.unwrap();
        let far = std::net::TcpStream::connect(real).unwrap();
        for (mut from, mut to) in
            [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)]
        {
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        }
    }
}

#[test]
fn failed_start_says_why() {
    let start = |args: &[&str]| ReplicaSet::builder().args(args).start().unwrap_err().to_string();
    let error = start(&["--noSuchOption"]);
    assert!(error.contains("ended while starting") && error.contains("noSuchOption"), "{error}");
    assert!(start(&["--version"]).contains("status 0"));
    let unknown = ReplicaSet::builder().version("1.2.3").start();
    assert!(unknown.unwrap_err().to_string().contains("6.0.5"));
    let refused: Result<ReplicaSet, Error> = ReplicaSet::builder().members(8).start();
    assert!(refused.is_err());
    let number = std::process::id();
    let left = std::fs::read_dir(std::env::temp_dir()).unwrap().flatten().any(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.starts_with(&format!("mongostream-ground-{number}-"))
            && entry.path().join("0/log").metadata().is_ok_and(|_| {
                let log = std::fs::read_to_string(entry.path().join("0/log"));
                log.is_ok_and(|log| log.contains("noSuchOption"))
            })
    });
    assert!(!left);
}

/// The program, and the URI that it prints.
fn program(arguments: &[&str], stdin: Stdio) -> (Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ground"));
    let mut owner = command.args(arguments).stdin(stdin).stdout(Stdio::piped()).spawn().unwrap();
    let mut uri = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut uri).unwrap();
    (owner, uri.trim().to_owned())
}

/// Whether its set still takes writes, one after the other.
fn serves(uri: &str) -> bool {
    let mut options = ClientOptions::parse(uri).run().unwrap();
    options.server_selection_timeout = Some(Duration::from_secs(5));
    let client = Client::with_options(options).unwrap();
    let there = collection(&client);
    (0..50).all(|_| there.insert_one(doc! {}).run().is_ok())
}

#[test]
fn program_without_a_terminal_runs_until_a_signal() {
    let (mut owner, uri) = program(&[], Stdio::null());
    assert!(serves(&uri), "{:?}", owner.try_wait());
    let kill = ["-c", "kill -TERM $0", &owner.id().to_string()];
    assert!(Command::new("sh").args(kill).status().unwrap().success());
    assert_eq!(wait_for_end(&mut owner, LONG).signal(), Some(15));
    wait_until(LONG, "the server is gone", || !serves(&uri));
}

#[test]
fn program_that_was_told_so_ends_with_its_input() {
    let (mut owner, uri) = program(&["--until-eof"], Stdio::piped());
    assert!(serves(&uri), "{:?}", owner.try_wait());
    drop(owner.stdin.take());
    assert!(wait_for_end(&mut owner, LONG).success());
    assert!(!serves(&uri));
}

#[test]
fn program_says_how_it_is_used() {
    let run = |argument: &str| {
        let output = output(Command::new(env!("CARGO_BIN_EXE_ground")).arg(argument), LONG);
        let [out, err] =
            [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
        (output.status.code(), out, err)
    };
    let (code, out, _) = run("--help");
    assert!(code == Some(0) && out.contains("--until-eof") && out.contains("6.0.5"), "{out}");
    let (code, _, err) = run("--nonsense");
    assert!(code == Some(1) && err.contains("--nonsense") && err.contains("usage"), "{err}");
}

#[test]
fn killed_owner_leaves_nothing() {
    let (mut owner, uri) = program(&["--until-eof"], Stdio::piped());
    let client = Client::with_uri_str(uri).unwrap();
    let status = client.database("admin").run_command(doc! { "serverStatus": 1 }).run().unwrap();
    let pid = u32::try_from(status.get_i64("pid").unwrap()).unwrap();
    let options = client.database("admin").run_command(doc! { "getCmdLineOpts": 1 }).run();
    let options = options.unwrap();
    let path = options.get_document("parsed").unwrap().get_document("storage").unwrap();
    let path = Path::new(path.get_str("dbPath").unwrap()).ancestors().nth(2).unwrap().to_owned();
    assert!(!gone(pid) && path.exists());
    // Stopped and then orphaned: the kernel wakes its group with a hang-up in that case.
    let stop = Command::new("sh").args(["-c", "kill -STOP $0", &pid.to_string()]).status();
    assert!(stop.unwrap().success());
    owner.kill().unwrap();
    wait_for_end(&mut owner, LONG);
    wait_until(LONG, "mongod and its data are gone", || gone(pid) && !path.exists());
}

#[test]
fn oldest_server_starts() {
    // 27 MB are not fetched for this alone.
    if !ground::is_cached("4.2.6") {
        eprintln!("skipped: 4.2.6 has not been fetched");
        return;
    }
    let set = ReplicaSet::builder().version("4.2.6").start().unwrap();
    assert_eq!(set.version(), (4, 2, 6));
    collection(set.client()).insert_one(doc! {}).run().unwrap();
    set.step_down().unwrap();
    set.wait_for_primary(LONG).unwrap();
}

#[test]
fn database_names_are_unique_and_short() {
    let long = "a name. with $omething/".repeat(5);
    let (one, two) = (ground::database_name(&long), ground::database_name(&long));
    assert_ne!(one, two);
    assert!(one.len() <= 60 && one.chars().all(|c| c == '_' || c.is_ascii_alphanumeric()));
}

#[test]
#[should_panic(expected = "the sky falls")]
fn waiting_names_what_did_not_come() {
    wait_until(Duration::from_millis(20), "the sky falls", || false);
}
