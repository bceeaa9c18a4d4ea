//! A deployment that cannot be used: the error says which case it is and what to do, without the driver's dump.

mod support;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use ground::mongodb::bson::doc;
use ground::{ReplicaSet, Standalone};
use mongostream::{Buffer, Error, ErrorKind, Worker};

use support::{DEADLINE, failure, is_closed};

/// Long enough for each server to answer or not.
const QUICK: &str = "serverSelectionTimeoutMS=1500";

/// The failure of a worker that cannot be opened.
#[track_caller]
fn refused(uri: &str) -> Error {
    let buffer = Buffer::new(10);
    let worker = Worker::watch(uri).database("shop").spawn(&buffer).unwrap();
    let error = failure(&buffer);
    assert!(is_closed(&buffer));
    worker.join_timeout(DEADLINE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    let text = error.to_string();
    for dump in ["Topology", "Kind:", "labels", "{", "Custom", "I/O error"] {
        assert!(!text.contains(dump), "{dump:?} in {text}");
    }
    error
}

#[track_caller]
fn assert_says(error: &Error, words: &[&str]) {
    let text = error.to_string();
    for word in words {
        assert!(text.contains(word), "no {word:?} in {text}");
    }
}

/// An address at which nobody listens.
fn closed_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_set_whose_name_cannot_be_looked_up_is_tried_again() {
    let buffer = Buffer::new(10);
    let uri = "mongodb+srv://cluster.invalid/";
    let worker = Worker::watch(uri).database("shop").spawn(&buffer).unwrap();
    let is_tried_again = || buffer.stats().unwrap().workers[0].attempts > 1;
    ground::wait_until(DEADLINE, "it is tried again", is_tried_again);
    worker.stop();
    worker.join_timeout(DEADLINE).unwrap();
}

#[test]
fn a_set_of_another_name_fails_the_worker_at_once() {
    let set = ground::shared();
    let address = set.member(0).address();
    for direct in ["", "&directConnection=true"] {
        let uri = format!("mongodb://{address}/?replicaSet=elsewhere{direct}");
        let began = Instant::now();
        let error = refused(&uri);
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}: {error}", began.elapsed());
        assert!(!error.is_retriable(), "{error}");
        assert_says(&error, &[address, "\"elsewhere\"", "a member of the set \"rs_", "replicaSet"]);
    }
}

#[test]
fn a_standalone_server_where_a_set_is_expected_fails_the_worker_at_once() {
    let server = Standalone::start().unwrap();
    let began = Instant::now();
    let error = refused(&server.uri_with("replicaSet=rs0"));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}: {error}", began.elapsed());
    assert!(!error.is_retriable(), "{error}");
    assert_says(&error, &["\"rs0\"", "a standalone server"]);
}

#[test]
fn a_set_that_is_not_initiated_is_named_so() {
    let server = ReplicaSet::builder().args(["--replSet", "rs0"]).start_standalone().unwrap();
    let address = server.member().address().to_owned();
    for options in ["", "&replicaSet=rs0"] {
        let error = refused(&server.uri_with(&format!("{QUICK}{options}")));
        assert!(error.is_retriable(), "it may be initiated: {error}");
        assert_says(&error, &[&address, "in no replica set", "rs.initiate()"]);
    }
}

#[test]
fn members_whose_own_names_cannot_be_reached_are_named() {
    // What a member in a container is: known to its set by a name that means nothing outside.
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let inside = proxy.local_addr().unwrap().to_string();
    let name = inside.clone();
    let (tell, told) = std::sync::mpsc::channel::<String>();
    std::thread::spawn(move || {
        let real = told.recv().unwrap();
        for client in proxy.incoming() {
            let (Ok(client), Ok(server)) = (client, std::net::TcpStream::connect(&real)) else {
                continue;
            };
            if told.try_recv().is_ok() {
                break;
            }
            for (mut from, mut to) in
                [(client.try_clone().unwrap(), server.try_clone().unwrap()), (server, client)]
            {
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            }
        }
    });
    let stop = tell.clone();
    let advertise = move |_: usize, real: &str| {
        tell.send(real.to_owned()).unwrap();
        name.clone()
    };
    let set = ReplicaSet::builder().advertise(advertise).start().unwrap();
    stop.send(String::new()).unwrap();
    let _ = std::net::TcpStream::connect(&inside);
    let address = set.member(0).address();
    let error = refused(&format!("mongodb://{address}/?{QUICK}"));
    assert!(error.is_retriable(), "{error}");
    let reason = format!("{inside} (connection refused: nobody listens there)");
    let answers = format!("{address} answers");
    assert_says(&error, &[&answers, &reason, "other names", "directConnection=true"]);
}

#[test]
fn a_host_where_nobody_listens_and_a_name_that_is_none_are_told_apart() {
    let (here, nowhere) = (closed_address(), "no-such-host.invalid:27017");
    let error = refused(&format!("mongodb://{here},{nowhere}/?{QUICK}"));
    assert!(error.is_retriable(), "{error}");
    let refused = format!("{here} (connection refused: nobody listens there)");
    let unresolved = format!("{nowhere} (its name cannot be resolved)");
    assert_says(&error, &[&refused, &unresolved, "check that the servers run"]);
}

#[test]
fn a_host_that_does_not_answer_is_named_so() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let error = refused(&format!("mongodb://{address}/?{QUICK}&connectTimeoutMS=500"));
    assert_says(&error, &[&address.to_string(), "no answer in time"]);
}

#[test]
fn a_server_without_tls_is_named_so() {
    let address = ground::shared().member(0).address();
    let error = refused(&format!("mongodb://{address}/?tls=true&{QUICK}"));
    assert_says(&error, &[address, "TLS"]);
}

#[test]
fn a_set_without_a_primary_is_named_so() {
    let set = ReplicaSet::builder().members(3).start().unwrap();
    let dead = [0, 1].map(|member| {
        set.member(member).kill().unwrap();
        set.member(member).address()
    });
    let alive = set.member(2);
    ground::wait_until(DEADLINE, "there is no primary", || {
        let hello = alive.client().database("admin").run_command(doc! { "isMaster": 1 }).run();
        hello.is_ok_and(|hello| !hello.get_bool("ismaster").unwrap())
    });
    let error = refused(&set.uri_with(QUICK));
    assert!(error.is_retriable(), "{error}");
    let secondary = format!("{} (secondary)", alive.address());
    assert_says(&error, &[dead[0], dead[1], &secondary, "primary"]);
}

#[test]
fn a_server_that_requires_tls_is_named_so() {
    let set = ReplicaSet::builder().tls().start().unwrap();
    let address = set.member(0).address();
    let error = refused(&format!("mongodb://{address}/?{QUICK}"));
    assert_says(&error, &[address, "tls=true"]);
    // Its certificate is signed by nobody who is known here.
    let error = refused(&format!("mongodb://{address}/?tls=true&{QUICK}"));
    assert_says(&error, &[address, "certificate", "UnknownIssuer"]);
}
