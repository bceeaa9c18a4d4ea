//! `mongostream check` on deployments of every kind, most of which do not work.
#![cfg(unix)]

#[path = "support/fake_server.rs"]
mod fake_server;
mod support;

use std::time::{Duration, Instant};

use ground::mongodb::bson::{Document, Timestamp, doc};
use ground::{ReplicaSet, Standalone};
use serde_json::Value;

use support::{DEADLINE, Ended, Shop, closed_address, run};

/// What was found.
struct Found(Vec<Value>);

impl Found {
    /// The finding of this name.
    #[track_caller]
    fn one(&self, name: &str) -> &Value {
        let mut all = self.0.iter().filter(|finding| finding["name"] == name);
        all.next().unwrap_or_else(|| panic!("no {name}: {:#?}", self.0))
    }

    #[track_caller]
    fn assert(&self, name: &str, case: &str, level: &str, words: &[&str]) {
        let is_it = |finding: &&Value| {
            finding["name"] == name && finding["case"] == case && finding["level"] == level
        };
        let Some(finding) = self.0.iter().find(is_it) else {
            panic!("no {name} {case} {level}: {:#?}", self.0);
        };
        let text = format!("{} {}", finding["text"], finding["advice"]);
        for word in words {
            assert!(text.contains(word), "no {word:?} in {text}");
        }
        if level == "problem" || level == "warning" {
            assert!(
                finding["advice"].is_string() || name == "stream",
                "what is to be done? {finding}"
            );
        }
    }

    #[track_caller]
    fn assert_ok(&self, name: &str) {
        self.assert(name, "ok", "ok", &[]);
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|finding| finding["name"] == name)
    }
}

#[track_caller]
fn check(code: i32, uri: &str, further: &[&str]) -> Found {
    let began = Instant::now();
    let ended =
        run(["check", uri, "--json"].into_iter().chain(further.iter().copied())).assert_code(code);
    let took = began.elapsed();
    // 10 s are promised for a dead address; this machine may be busy.
    assert!(took < Duration::from_secs(20), "{took:?}: {ended:?}");
    assert_eq!(ended.err, "");
    for secret in ["hunter2", "hunter%32"] {
        assert!(!ended.out.contains(secret), "{ended:?}");
    }
    let value = ended.json();
    assert_eq!(value["ok"], code == 0);
    Found(value["findings"].as_array().unwrap().clone())
}

#[test]
fn a_set_that_works_is_found_to_work() {
    let shop = Shop::new("works");
    let found = check(0, shop.uri(), &[&shop.namespace()]);
    for name in ["topology", "members", "version", "login", "stream"] {
        found.assert_ok(name);
    }
    // A set that was made just now.
    assert!(["too_young", "ok", "short"].contains(&found.one("oplog")["case"].as_str().unwrap()));
    assert!(!found.has("images") && !found.has("privileges"));
    assert!(found.0.iter().all(|finding| finding["level"] != "problem"));

    let Ended { out, .. } = run(["check", shop.uri(), &shop.namespace()]).assert_code(0);
    assert!(out.contains("ok       version") && out.contains("It works"), "{out}");
}

#[test]
fn a_standalone_server_is_named() {
    let server = Standalone::start().unwrap();
    check(1, server.uri(), &[]).assert(
        "topology",
        "standalone",
        "problem",
        &["--replSet", "rs.initiate"],
    );
    let Ended { out, err, .. } = run(["check", server.uri()]).assert_code(1);
    assert!(out.contains("problem  topology") && out.contains("-> ") && err.is_empty(), "{out}");
}

#[test]
fn a_set_that_is_not_initiated_is_named() {
    let server = ReplicaSet::builder().args(["--replSet", "rs0"]).start_standalone().unwrap();
    for uri in [server.uri().to_owned(), server.uri_with("replicaSet=rs0")] {
        check(1, &uri, &[]).assert("topology", "not_initiated", "problem", &["rs.initiate()"]);
    }
}

#[test]
fn a_wrong_name_of_the_set_is_named_with_the_right_one() {
    let set = ground::shared();
    let uri = format!("mongodb://{}/?replicaSet=elsewhere", set.member(0).address());
    let name = set.uri().split("replicaSet=").nth(1).unwrap();
    check(1, &uri, &[]).assert(
        "set_name",
        "wrong",
        "problem",
        &["elsewhere", &format!("replicaSet={name}")],
    );
}

#[test]
fn a_member_at_whose_address_nobody_listens_is_named() {
    let set = ReplicaSet::start().unwrap();
    if set.version() < (4, 4, 0) {
        // It takes nothing for written by a majority after such a change, and so opens no stream.
        return;
    }
    let closed = closed_address();
    let admin = set.client().database("admin");
    let config = admin.run_command(doc! { "replSetGetConfig": 1 }).run().unwrap();
    let mut config = config.get_document("config").unwrap().clone();
    let mut members = config.get_array("members").unwrap().clone();
    members.push(doc! { "_id": 1, "host": &closed, "votes": 0, "priority": 0 }.into());
    let version = config.get_i32("version").unwrap();
    config.insert("members", members);
    config.insert("version", version + 1);
    admin.run_command(doc! { "replSetReconfig": config, "force": true }).run().unwrap();
    ground::wait_until(DEADLINE, "all know of it", || {
        let hello = admin.run_command(doc! { "isMaster": 1 }).run();
        hello.is_ok_and(|hello| hello.get_array("passives").is_ok_and(|all| all.len() == 1))
    });
    set.wait_for_primary(DEADLINE).unwrap();
    let found = check(0, set.uri(), &["shop"]);
    found.assert("members", "tcp", "warning", &[&closed, "nobody listens"]);
    found.assert_ok("stream");
}

#[test]
fn a_member_whose_name_cannot_be_resolved_is_named() {
    // Servers take no set with such a name next to 127.0.0.1.
    let address = fake_server::start(|own| {
        let mut hello = fake_server::hello(own);
        hello.insert("hosts", [own, "nowhere.invalid:27017"].as_slice());
        hello
    });
    let found = check(1, &format!("mongodb://{address}/"), &["shop"]);
    found.assert("members", "dns", "warning", &["nowhere.invalid", "/etc/hosts"]);
}

#[test]
fn a_primary_whose_own_name_means_nothing_here_is_a_problem() {
    let closed = closed_address();
    for (name, case) in [("nowhere.invalid:27017", "dns"), (closed.as_str(), "tcp")] {
        let told = name.to_owned();
        let address = fake_server::start(move |_| {
            let mut hello = fake_server::hello(&told);
            hello.insert("secondary", false);
            hello
        });
        let uri = format!("mongodb://{address}/");
        let found = check(1, &uri, &[]);
        found.assert("members", case, "problem", &[name, "directConnection=true", "rs.reconfig"]);
        assert!(!found.has("login"), "what is known to fail is not tried");
        let direct = check(1, &format!("{uri}?directConnection=true"), &[]);
        direct.assert("topology", "direct", "note", &["elections"]);
        assert!(!direct.has("members"));
    }
}

#[test]
fn a_set_without_a_primary_is_named() {
    let set = ReplicaSet::builder().members(3).election_timeout_ms(1000).start().unwrap();
    let left = set.member(set.primary());
    for member in set.members().iter().filter(|member| member.address() != left.address()) {
        member.kill().unwrap();
    }
    ground::wait_until(DEADLINE, "the last member is no primary any more", || {
        let hello = left.client().database("admin").run_command(doc! { "isMaster": 1 }).run();
        hello.is_ok_and(|hello| hello.get_bool("ismaster").is_ok_and(|is| !is))
    });
    let found = check(1, &format!("mongodb://{}/", left.address()), &[]);
    found.assert("topology", "no_primary", "problem", &["rs.status()"]);
}

#[test]
fn a_wrong_password_is_named_and_not_shown() {
    let set = ReplicaSet::builder().auth("root", "secret").start().unwrap();
    let address = set.member(0).address();
    let wrong = format!("mongodb://root:hunter2@{address}/?authSource=admin");
    check(1, &wrong, &[]).assert("login", "refused", "problem", &["authSource", "percent"]);
    let nobody = format!("mongodb://{address}/");
    check(1, &nobody, &[]).assert("login", "wanted", "problem", &["authSource=admin"]);
    check(0, set.uri(), &[]).assert("login", "ok", "ok", &["root@admin"]);
}

/// A user of a set with passwords who may do only this.
fn user(set: &ReplicaSet, name: &str, privileges: &[Document]) -> String {
    let admin = set.client().database("admin");
    let role = doc! { "createRole": name, "privileges": privileges, "roles": [] };
    admin.run_command(role).run().unwrap();
    let user = doc! { "createUser": name, "pwd": "hunter2", "roles": [name] };
    admin.run_command(user).run().unwrap();
    format!("mongodb://{name}:hunter2@{}/?authSource=admin", set.member(0).address())
}

#[test]
fn a_missing_privilege_is_named_with_its_resource() {
    let set = ReplicaSet::builder().auth("root", "secret").start().unwrap();
    let orders = doc! { "db": "shop", "collection": "orders" };
    let finds = user(&set, "finds", &[doc! { "resource": &orders, "actions": ["find"] }]);
    let found = check(1, &finds, &["shop.orders"]);
    found.assert(
        "privileges",
        "missing",
        "problem",
        &["finds@admin may not: changeStream", "shop.orders"],
    );
    found.assert_ok("login");

    let enough = [doc! { "resource": &orders, "actions": ["find", "changeStream"] }];
    let enough = user(&set, "enough", &enough);
    let found = check(0, &enough, &["shop.orders"]);
    found.assert_ok("privileges");
    found.assert_ok("stream");
    found.assert(
        "oplog",
        "not_allowed",
        "note",
        &["local.oplog.rs", "\\\"read\\\", db: \\\"local\\\""],
    );
    // It is not enough for more.
    let found = check(1, &enough, &["shop"]);
    found.assert(
        "privileges",
        "missing",
        "problem",
        &["find and changeStream on the database shop", "\\\"read\\\""],
    );
    let found = check(1, &enough, &[]);
    found.assert("privileges", "missing", "problem", &["the whole deployment", "readAnyDatabase"]);
    let found = check(1, &enough, &["shop.orders", "--checkpoint_collection", "state.checkpoints"]);
    found.assert("checkpoint", "missing", "problem", &["state.checkpoints", "readWrite"]);
    if set.version() >= (6, 0, 0) {
        let found = check(0, &enough, &["shop.orders", "--full_document", "whenAvailable"]);
        found.assert("images", "not_allowed", "note", &["listCollections"]);
    }

    let local = doc! { "db": "local", "collection": "oplog.rs" };
    let privileges = [
        doc! { "resource": &orders, "actions": ["find", "changeStream"] },
        doc! { "resource": local, "actions": ["find"] },
    ];
    let without_sizes = user(&set, "without_sizes", &privileges);
    let found = check(0, &without_sizes, &["shop.orders"]);
    found.assert("oplog", "size_not_allowed", "note", &["collStats"]);
}

#[test]
fn a_short_oplog_is_a_warning_with_its_hours() {
    let set = ReplicaSet::builder().args(["--oplogSize", "1", "--syncdelay", "1"]).start().unwrap();
    // The set was made in this second, perhaps.
    let begin = Timestamp { time: 1 + u32::try_from(unix_seconds()).unwrap(), increment: 0 };
    roll_past(&set, begin);
    let found = check(0, set.uri(), &["shop"]);
    found.assert("oplog", "short", "warning", &["0.0", "hours", "replSetResizeOplog"]);
    found.assert_ok("stream");
    let found = check(1, set.uri(), &["shop", "--start_at_time", &begin.time.to_string()]);
    found.assert("stream", "history_lost", "problem", &["oplog"]);
}

fn unix_seconds() -> u64 {
    let now = std::time::SystemTime::now();
    now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Writes until the oplog begins after this time.
fn roll_past(set: &ReplicaSet, time: Timestamp) {
    let filler = set.client().database("other").collection::<Document>("filler");
    let oplog = set.client().database("local").collection::<Document>("oplog.rs");
    let text = "x".repeat(100_000);
    ground::wait_until(3 * DEADLINE, "the oplog has rolled over", || {
        filler.insert_many((0..20).map(|_| doc! { "text": &text })).run().unwrap();
        let first = oplog.find_one(doc! {}).sort(doc! { "$natural": 1 }).run().ok().flatten();
        first.is_some_and(|first| first.get_timestamp("ts").unwrap() > time)
    });
}

#[test]
fn images_that_are_not_kept_are_named() {
    let set = ground::shared();
    if set.version() < (6, 0, 0) {
        return;
    }
    let shop = Shop::new("images");
    let database = set.client().database(&shop.database);
    let asked = |namespace: &str, mode: &str, code: i32| {
        check(code, set.uri(), &[namespace, "--full_document_before_change", mode])
    };
    let none = asked(&shop.namespace(), "required", 0);
    none.assert("images", "no_collection", "note", &["createCollection"]);
    database.create_collection("orders").run().unwrap();
    let off = asked(&shop.namespace(), "required", 1);
    off.assert("images", "off", "problem", &["orders", "collMod", "changeStreamPreAndPostImages"]);
    asked(&shop.namespace(), "whenAvailable", 0).assert("images", "off", "warning", &["orders"]);
    let after = check(1, set.uri(), &[&shop.namespace(), "--full_document", "required"]);
    after.assert("images", "off", "problem", &["full_document=required"]);
    let on = doc! { "collMod": "orders", "changeStreamPreAndPostImages": { "enabled": true } };
    database.run_command(on).run().unwrap();
    let kept = asked(&shop.namespace(), "required", 0);
    kept.assert_ok("images");
    kept.assert_ok("stream");
    // Of a database all collections count.
    database.create_collection("items").run().unwrap();
    asked(&shop.database, "required", 1).assert("images", "off", "problem", &["items"]);
    let named = ["--namespaces", "orders"];
    let given = [&shop.database, "--full_document_before_change", "required", named[0], named[1]];
    check(0, set.uri(), &given).assert_ok("images");
}

#[test]
fn what_the_server_is_too_old_for_is_named() {
    let set = ReplicaSet::builder().version("4.2.6").start().unwrap();
    let found = check(0, set.uri(), &["shop.orders"]);
    found.assert("version", "ok", "ok", &["4.2.6"]);
    found.assert("large_events", "not_split", "note", &["6.0.9", "7.0", "on_oversized=skip"]);
    found.assert_ok("stream");
    for (option, value) in [
        ("--show_expanded_events", "true"),
        ("--full_document_before_change", "whenAvailable"),
        ("--full_document", "whenAvailable"),
    ] {
        let found = check(1, set.uri(), &["shop.orders", option, value]);
        found.assert("version", "too_old", "problem", &["6.0", "4.2.6", option.trim_matches('-')]);
    }
    let found = check(0, set.uri(), &["shop.orders", "--on_oversized", "split"]);
    found.assert("large_events", "not_split", "warning", &["upgrade"]);
    let ancient = fake_server::start(|own| {
        let mut hello = fake_server::hello(own);
        hello.insert("maxWireVersion", 7);
        hello.insert("version", "4.0.28");
        hello
    });
    let found = check(1, &format!("mongodb://{ancient}/"), &[]);
    found.assert("version", "too_old", "problem", &["4.2", "upgrade"]);
}

#[test]
fn a_server_that_splits_large_events_is_well() {
    if !ground::is_cached("6.0.27") {
        eprintln!("SKIPPED: there is no MongoDB 6.0.27 here, and it is not fetched for this alone");
        return;
    }
    let set = ReplicaSet::builder().version("6.0.27").start().unwrap();
    check(0, set.uri(), &["--on_oversized", "split"]).assert_ok("large_events");
}

#[test]
fn an_address_at_which_nobody_listens_is_named() {
    let closed = closed_address();
    let uri = format!("mongodb://somebody:hunter2@{closed}/");
    check(1, &uri, &[]).assert("reach", "tcp", "problem", &[&closed, "nobody listens"]);
    let found = check(1, "mongodb://somebody:hunter2@nowhere.invalid/", &[]);
    found.assert("reach", "dns", "problem", &["nowhere.invalid", "cannot be resolved"]);
    let found = check(1, "mongodb+srv://somebody:hunter2@cluster.invalid/", &[]);
    found.assert("reach", "srv", "problem", &["mongodb+srv", "DNS"]);
    // One of two that is away is not the end.
    let set = ground::shared();
    let both = set.uri().replace("mongodb://", &format!("mongodb://{closed},"));
    let found = check(0, &both, &[]);
    found.assert("reach", "tcp", "warning", &[&closed, "leave this server out"]);
    found.assert_ok("stream");
}

#[test]
fn a_dead_address_does_not_take_long() {
    // It takes connections and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    // What is sent there is dropped (RFC 5737).
    for (address, case) in [
        (silent.local_addr().unwrap().to_string(), "silent"),
        ("192.0.2.1:27017".to_owned(), "tcp"),
    ] {
        let began = Instant::now();
        let found = check(1, &format!("mongodb://{address}/"), &[]);
        let took = began.elapsed();
        eprintln!("{case}: {took:?}");
        found.assert("reach", case, "problem", &[&address]);
        assert!(took < Duration::from_secs(12), "{took:?}");
    }
    let set = ReplicaSet::start().unwrap();
    set.member(0).pause().unwrap();
    check(1, set.uri(), &[]).assert("reach", "silent", "problem", &["frozen"]);
    set.member(0).resume().unwrap();
}

#[test]
fn tls_on_one_side_only_is_named() {
    let set = ReplicaSet::builder().tls().start().unwrap();
    check(0, set.uri(), &["shop.orders"]).assert_ok("stream");
    let address = set.member(0).address();
    let plain = format!("mongodb://{address}/");
    check(1, &plain, &[]).assert("tls", "wanted", "problem", &["tls=true", "tlsCAFile"]);
    let untrusted = format!("mongodb://{address}/?tls=true");
    check(1, &untrusted, &[]).assert("tls", "certificate", "problem", &["tlsCAFile"]);
    let other = ground::shared().uri_with("tls=true");
    check(1, &other, &[]).assert("tls", "not_wanted", "problem", &["remove tls=true"]);
}

#[test]
fn nothing_is_written_and_no_checkpoint_is_taken() {
    let (shop, directory) = (Shop::new("untouched"), support::Directory::new());
    let file = directory.file("orders.token");
    let state = format!("{}_state.checkpoints", shop.database);
    check(0, shop.uri(), &[&shop.namespace(), "--checkpoint_file", &file]).assert_ok("stream");
    check(0, shop.uri(), &[&shop.namespace(), "--checkpoint_collection", &state])
        .assert_ok("stream");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    let names = ground::shared().client().list_database_names().run().unwrap();
    assert!(!names.iter().any(|name| name.starts_with(&shop.database)), "{names:?}");
}

#[test]
fn wrong_usage_asks_nobody() {
    let closed = format!("mongodb://{}/", closed_address());
    for arguments in [
        vec!["check"],
        vec!["check", "nonsense"],
        vec!["check", &closed, "a b.c"],
        vec!["check", &closed, "--batch_size", "0"],
        vec!["check", &closed, "--checkpoint_ms", "0"],
        vec!["check", &closed, "--full_document", "x"],
        vec!["check", &closed, "shop.orders", "--namespaces", "items"],
        vec!["check", "mongodb://localhost/?socketTimeoutMS=1"],
    ] {
        let ended = run(&arguments).assert_code(2);
        assert!(ended.out.is_empty() && !ended.err.is_empty(), "{ended:?}");
    }
}
