//! `mongostream checkpoint`: checkpoints are shown, set, copied and removed, and streams go on there.
#![cfg(unix)]

mod support;

use ground::mongodb::bson::{Document, doc};
use mongostream::{Buffer, Worker};
use serde_json::Value;

use support::{DEADLINE, Directory, Ended, Running, Shop, ids, run};

/// A place of checkpoints, and the flags with which `tail` uses it.
struct Place {
    text: String,
    flags: [String; 2],
    is_file: bool,
    _directory: Directory,
}

impl Place {
    fn file() -> Self {
        let directory = Directory::new();
        let text = directory.file("orders.token");
        let flags = ["--checkpoint_file".to_owned(), text.clone()];
        Self { text, flags, is_file: true, _directory: directory }
    }

    fn collection(shop: &Shop) -> Self {
        let namespace = format!("{}_state.checkpoints", shop.database);
        let text = format!("{}#{namespace}", shop.uri());
        let flags = ["--checkpoint_collection".to_owned(), namespace];
        Self { text, flags, is_file: false, _directory: Directory::new() }
    }

    fn both(shop: &Shop) -> [Self; 2] {
        [Self::file(), Self::collection(shop)]
    }

    /// `checkpoint COMMAND PLACE ...`.
    fn run(&self, command: &str, further: &[&str]) -> Ended {
        run(["checkpoint", command, &self.text].into_iter().chain(further.iter().copied()))
    }

    #[track_caller]
    fn show(&self, name: &str) -> Value {
        self.run("show", &[name, "--json"]).assert_code(0).json()
    }

    /// A tail that uses it, to so many messages.
    #[track_caller]
    fn tail(&self, shop: &Shop, count: usize) -> Vec<i64> {
        let count_text = count.to_string();
        let further = [self.flags[0].as_str(), &self.flags[1], "--count", &count_text];
        let mut running = Running::start(shop.tail(&further));
        let status = running.end();
        assert!(status.success(), "{}", running.stderr());
        ids(&running.rest())
    }

    /// `set` for the orders.
    fn set(&self, shop: &Shop, at: &str, further: &[&str]) -> Ended {
        let namespace = shop.namespace();
        let given = [&namespace, "--at", at, "--uri", shop.uri(), "--namespace", &namespace];
        self.run("set", &[given.as_slice(), further].concat())
    }
}

/// Inserts one after the other, and gives the token and the cluster time of each.
fn history(shop: &Shop, count: i32) -> Vec<(String, String)> {
    let buffer = Buffer::new(100);
    let watch = Worker::watch(shop.uri()).database(&shop.database).collection("orders");
    let worker = watch.spawn(&buffer).unwrap();
    worker.wait_ready_timeout(DEADLINE).unwrap();
    shop.insert(0..count);
    let messages = buffer.iter().take(usize::try_from(count).unwrap()).map(Result::unwrap);
    let places = messages.map(|message| {
        let time = message.cluster_time().unwrap();
        (message.resume_token().unwrap().to_owned(), format!("{}:{}", time.time, time.increment))
    });
    places.collect()
}

#[test]
fn a_tail_goes_on_exactly_at_a_time_a_token_or_now() {
    let shop = Shop::new("set");
    let history = history(&shop, 10);
    for place in Place::both(&shop) {
        let name = shop.namespace();
        // The first message at or after a time, and the one after a token.
        place.set(&shop, &history[4].1, &[]).assert_code(0);
        assert_eq!(place.tail(&shop, 3), [4, 5, 6]);
        place.set(&shop, &history[1].0, &["--force"]).assert_code(0);
        assert_eq!(place.show(&name)["token"].to_string(), history[1].0);
        assert_eq!(place.tail(&shop, 8), [2, 3, 4, 5, 6, 7, 8, 9]);
        let seconds = history[0].1.split(':').next().unwrap();
        place.set(&shop, seconds, &["--force"]).assert_code(0);
        assert_eq!(place.tail(&shop, 2), [0, 1]);
        let told = place.set(&shop, "now", &["--force"]).assert_code(0);
        assert!(told.out.contains(&format!("checkpoint {name:?}")), "{told:?}");
        shop.insert(if place.is_file { 10..12 } else { 12..14 });
        let expected = if place.is_file { [10, 11] } else { [12, 13] };
        assert_eq!(place.tail(&shop, 2), expected);
    }
}

#[test]
fn what_is_there_is_replaced_only_with_force_and_only_if_it_works() {
    let shop = Shop::new("force");
    let history = history(&shop, 3);
    for place in Place::both(&shop) {
        let name = shop.namespace();
        place.set(&shop, &history[1].0, &[]).assert_code(0);
        let before = place.show(&name);
        let refused = place.set(&shop, "now", &[]).assert_code(1);
        assert!(refused.err.contains("--force") && refused.out.is_empty(), "{refused:?}");
        // The server refuses it, or cannot be reached.
        let nonsense = place.set(&shop, "{\"_data\":\"8200\"}", &["--force"]).assert_code(1);
        assert!(!nonsense.err.is_empty());
        let nowhere =
            format!("mongodb://{}/?serverSelectionTimeoutMS=500", support::closed_address());
        let given = ["--at", "now", "--uri", &nowhere, "--namespace", &name, "--force"];
        place.run("set", &[&[name.as_str()], given.as_slice()].concat()).assert_code(1);
        assert_eq!(place.show(&name), before);
        for at in ["yesterday", "", "{"] {
            place.set(&shop, at, &["--force"]).assert_code(2);
        }
        assert_eq!(place.show(&name), before);
    }
}

#[test]
fn the_options_of_the_stream_belong_to_its_checkpoint() {
    let shop = Shop::new("identity");
    let place = Place::file();
    place.set(&shop, "now", &["--operations", "insert"]).assert_code(0);
    let shown = place.show(&shop.namespace());
    assert_eq!(shown["watch"], shop.namespace());
    assert_eq!(shown["operations"], serde_json::json!(["insert"]));
    let further = [place.flags[0].as_str(), &place.flags[1], "--count", "1"];
    let mut other = Running::start(shop.tail(&further));
    assert_eq!(other.end().code(), Some(1), "it is another stream's");
    let mut ours =
        Running::start(shop.tail(&[further.as_slice(), &["--operations", "insert"]].concat()));
    shop.insert(0..1);
    assert!(ours.end().success());
}

#[test]
fn a_checkpoint_is_shown_to_people_and_programs() {
    let shop = Shop::new("show");
    let history = history(&shop, 2);
    for place in Place::both(&shop) {
        let name = shop.namespace();
        place.set(&shop, &history[0].0, &[]).assert_code(0);
        let json = place.show(&name);
        assert_eq!((&json["name"], &json["watch"]), (&name.clone().into(), &name.clone().into()));
        assert_eq!(json["token"].to_string(), history[0].0);
        let time = format!("{}:{}", json["time"]["t"], json["time"]["i"]);
        assert_eq!(time, history[0].1);
        assert_eq!(json["snapshot_unfinished"], false);
        assert!(json["saved_at"].as_str().unwrap().ends_with('Z'), "{json}");
        let table = place.run("show", &[&name]).assert_code(0).out;
        assert!(table.contains(&history[0].0) && table.contains(&history[0].1), "{table}");
        assert!(table.contains("ago)") && !table.contains("snapshot"), "{table}");
        let missing = place.run("show", &["nonsense"]).assert_code(1);
        assert!(missing.err.contains("nonsense"), "{missing:?}");
    }
}

#[test]
fn all_checkpoints_of_a_collection_are_listed() {
    let shop = Shop::new("list");
    let place = Place::collection(&shop);
    let empty = place.run("show", &[]).assert_code(0);
    assert!(empty.out.contains("no checkpoints"), "{empty:?}");
    for name in ["b", "a"] {
        let given = [name, "--at", "now", "--uri", shop.uri(), "--namespace", &shop.database];
        place.run("set", &given).assert_code(0);
    }
    let collection = place.flags[1].split_once('.').unwrap();
    let collection = ground::shared().client().database(collection.0).collection(collection.1);
    let others = [doc! { "_id": "claimed", "owner": 1 }, doc! { "_id": "other" }];
    collection.insert_many(others).run().unwrap();
    let damaged = doc! { "_id": "damaged", "owner": 1, "checkpoint": "{" };
    collection.insert_one(damaged).run().unwrap();
    let all = place.run("show", &["--json"]).assert_code(0).json();
    let names: Vec<_> =
        all.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["a", "b", "claimed", "damaged"]);
    assert_eq!(all[0]["watch"], shop.database.as_str());
    assert!(all[3]["error"].is_string());
    let table = place.run("show", &[]).assert_code(0).out;
    assert!(table.contains("not yet") && table.contains("unreadable"), "{table}");
    place.run("show", &["claimed"]).assert_code(1);
    place.run("show", &["damaged"]).assert_code(1);
}

#[test]
fn showing_takes_nothing_over() {
    let shop = Shop::new("reads");
    for place in Place::both(&shop) {
        let further = [place.flags[0].as_str(), &place.flags[1], "--checkpoint_ms", "50"];
        let running = Running::start(shop.tail(&further));
        let shows = || place.run("show", &[&shop.namespace(), "--json"]);
        ground::wait_until(DEADLINE, "a checkpoint is there", || shows().code == Some(0));
        let before = place.show(&shop.namespace())["token"].clone();
        let first = if place.is_file { 0 } else { 10 };
        shop.insert(first..first + 1);
        assert_eq!(ids(&[running.line()]), [i64::from(first)]);
        ground::wait_until(DEADLINE, "it is still saved", || {
            place.show(&shop.namespace())["token"] != before
        });
        let mut running = running;
        running.signal(nix::sys::signal::Signal::SIGINT);
        assert_eq!(running.end().code(), Some(0));
    }
}

#[test]
fn an_unfinished_snapshot_is_shown_and_copied() {
    let shop = Shop::new("snapshot");
    shop.insert(0..100);
    let (place, copied) = (Place::file(), Place::collection(&shop));
    let further = ["--snapshot", "initial", "--count", "7"];
    let flags = [place.flags[0].as_str(), &place.flags[1]];
    let mut running = Running::start(shop.tail(&[flags.as_slice(), &further].concat()));
    assert!(running.end().success());
    let first = ids(&running.rest());
    assert_eq!(place.show(&shop.namespace())["snapshot_unfinished"], true);
    let table = place.run("show", &[]).assert_code(0).out;
    assert!(table.contains("snapshot") && table.contains("not finished"), "{table}");

    run(["checkpoint", "copy", &place.text, &copied.text]).assert_code(0);
    let mut all = copied.tail(&shop, 93);
    all.extend(first);
    all.sort_unstable();
    assert_eq!(all, Vec::from_iter(0..100));
}

#[test]
fn a_copy_goes_on_where_the_first_one_stood() {
    let shop = Shop::new("copy");
    let history = history(&shop, 6);
    let name = shop.namespace();
    let [file, collection] = Place::both(&shop);
    file.set(&shop, &history[1].0, &[]).assert_code(0);
    run(["checkpoint", "copy", &file.text, &collection.text]).assert_code(0);
    assert_eq!(collection.tail(&shop, 2), [2, 3]);
    // Back, under another name.
    let other = Place::file();
    let refused = run(["checkpoint", "copy", &collection.text, &other.text]).assert_code(2);
    assert!(refused.err.contains("NAME"), "{refused:?}");
    run(["checkpoint", "copy", &collection.text, &name, &other.text, "other"]).assert_code(0);
    assert_eq!(other.show("other")["name"], "other");
    let flags =
        [other.flags[0].as_str(), &other.flags[1], "--checkpoint_name", "other", "--count", "2"];
    let mut running = Running::start(shop.tail(&flags));
    assert!(running.end().success(), "{}", running.stderr());
    assert_eq!(ids(&running.rest()), [4, 5]);
    // Over another one only with force.
    let refused = run(["checkpoint", "copy", &file.text, &name, &collection.text]).assert_code(1);
    assert!(refused.err.contains("--force"), "{refused:?}");
    run(["checkpoint", "copy", &file.text, &name, &collection.text, "--force"]).assert_code(0);
    assert_eq!(collection.show(&name)["token"].to_string(), history[1].0);
    assert_eq!(file.show(&name)["token"].to_string(), history[1].0, "it is only read");
    run(["checkpoint", "copy", &file.text, "wrong", &collection.text]).assert_code(1);
    run(["checkpoint", "copy", &file.text]).assert_code(2);
}

#[test]
fn a_removed_checkpoint_is_gone_and_others_stay() {
    let shop = Shop::new("remove");
    for place in Place::both(&shop) {
        let name = shop.namespace();
        place.set(&shop, "now", &[]).assert_code(0);
        place.run("remove", &["wrong"]).assert_code(1);
        place.show(&name);
        place.run("remove", &[&name]).assert_code(0);
        place.run("show", &[&name]).assert_code(1);
        place.run("remove", &[&name]).assert_code(1);
    }
    let place = Place::collection(&shop);
    assert!(place.run("remove", &[]).assert_code(2).err.contains("NAME"));
    let (database, collection) = place.flags[1].split_once('.').unwrap();
    let collection =
        ground::shared().client().database(database).collection::<Document>(collection);
    collection.insert_one(doc! { "_id": "other" }).run().unwrap();
    place.run("remove", &["other"]).assert_code(1);
    assert_eq!(collection.count_documents(doc! { "_id": "other" }).run().unwrap(), 1);
}

#[test]
fn a_file_that_a_running_worker_uses_is_refused() {
    let (shop, place) = (Shop::new("locked"), Place::file());
    let _running = Running::start(shop.tail(&[&place.flags[0], &place.flags[1]]));
    ground::wait_until(DEADLINE, "it is there", || place.run("show", &[]).code == Some(0));
    for ended in [place.run("remove", &[]), place.set(&shop, "now", &["--force"])] {
        assert!(ended.assert_code(1).err.contains("another worker uses it"));
    }
    place.run("show", &[]).assert_code(0);
}

#[test]
fn what_is_no_checkpoint_is_refused_and_kept() {
    let (shop, directory) = (Shop::new("foreign"), Directory::new());
    let path = directory.file("orders.token");
    std::fs::write(&path, "precious").unwrap();
    let place = Place { text: path.clone(), ..Place::file() };
    place.run("show", &[]).assert_code(1);
    place.run("remove", &[]).assert_code(1);
    place.set(&shop, "now", &["--force"]).assert_code(1);
    let other = Place::file();
    other.set(&shop, "now", &[]).assert_code(0);
    run(["checkpoint", "copy", &other.text, &path, "--force"]).assert_code(1);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    let missing = directory.file("missing/orders.token");
    assert!(
        run(["checkpoint", "show", &missing]).assert_code(1).err.contains("there is no checkpoint")
    );
    assert!(
        run(["checkpoint", "remove", &missing])
            .assert_code(1)
            .err
            .contains("there is no checkpoint")
    );
}

#[test]
fn a_place_is_a_file_or_a_uri_with_a_collection() {
    for (place, word) in [
        ("", "PLACE"),
        ("mongodb://somebody:hunter2@localhost", "#DATABASE.COLLECTION"),
        ("mongodb://somebody:hunter2@localhost#state", "database.collection"),
        ("mongodb://somebody:hun#ter2@:x#a.b", "URI"),
    ] {
        let ended = run(["checkpoint", "show", place]).assert_code(2);
        assert!(ended.err.contains(word) && !ended.err.contains("ter2"), "{place}: {ended:?}");
    }
    let closed = support::closed_address();
    let dead = format!(
        "mongodb://somebody:hunter2@{closed}/?serverSelectionTimeoutMS=500#state.checkpoints"
    );
    let ended = run(["checkpoint", "show", &dead]).assert_code(1);
    assert!(!ended.err.contains("hunter2") && ended.err.contains(&closed), "{ended:?}");
}
