//! What is saved, and when, in a store that tells what it was asked.

use bson::doc;

use super::*;
use crate::checkpoint::acks::tests::Tokens;
use crate::checkpoint::identity::StreamIdentity;
use crate::options::Options;
use crate::raw::token::Token;
use crate::source::scope::Scope;
use crate::state::WorkerState;

/// What a store was asked, and how it answers.
#[derive(Default)]
struct Told {
    calls: Mutex<Vec<&'static str>>,
    text: Mutex<Option<String>>,
    failure: Mutex<Option<fn() -> StoreError>>,
    /// While it is there, saves wait for it.
    hold: Mutex<Option<Arc<Gate>>>,
}

#[derive(Clone, Default)]
struct Store(Arc<Told>);

struct Guard(Arc<Told>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.calls.lock().unwrap().push("free");
    }
}

impl Store {
    fn answer(&self, call: &'static str) -> Result<(), StoreError> {
        self.0.calls.lock().unwrap().push(call);
        let failure = *self.0.failure.lock().unwrap();
        failure.map_or(Ok(()), |failure| Err(failure()))
    }

    fn fails(&self, failure: fn() -> StoreError) {
        *self.0.failure.lock().unwrap() = Some(failure);
    }

    fn works(&self) {
        *self.0.failure.lock().unwrap() = None;
    }

    fn calls(&self) -> String {
        self.0.calls.lock().unwrap().join(" ")
    }
}

impl CheckpointStore for Store {
    fn place(&self) -> String {
        "the test".to_owned()
    }

    fn claim(&self, _name: &str) -> Result<Box<dyn Any + Send>, StoreError> {
        self.answer("claim")?;
        Ok(Box::new(Guard(Arc::clone(&self.0))))
    }

    fn load(&self, _name: &str) -> Result<Option<String>, StoreError> {
        self.answer("load")?;
        Ok(self.0.text.lock().unwrap().clone())
    }

    fn save(&self, _name: &str, text: &str) -> Result<(), StoreError> {
        let hold = self.0.hold.lock().unwrap().clone();
        hold.iter().for_each(|gate| _ = gate.wait(None));
        self.answer("save")?;
        *self.0.text.lock().unwrap() = Some(text.to_owned());
        Ok(())
    }

    fn give_back(&self, _name: &str) -> Result<(), StoreError> {
        self.answer("back")
    }
}

fn token(number: i32) -> Vec<u8> {
    doc! { "_data": format!("82{number}") }.to_vec().unwrap()
}

fn identity() -> StreamIdentity {
    let options = Options::new();
    StreamIdentity::new(&Scope::new(None, None, None, &options), &options).unwrap()
}

fn start(store: &Store) -> Result<(Checkpointer, Arc<Ledger>)> {
    // No save comes by itself.
    start_every(store, Duration::from_secs(1_000))
}

fn start_every(store: &Store, interval: Duration) -> Result<(Checkpointer, Arc<Ledger>)> {
    let ledger = Arc::new(Ledger::new("test", Options::new().style(), identity()));
    let started =
        Checkpointer::start(Arc::new(store.clone()), "copy".to_owned(), interval, &ledger)?;
    Ok((started, ledger))
}

/// Waits until the store was asked this in the end.
fn await_calls(store: &Store, calls: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while store.calls() != calls {
        assert!(Instant::now() < deadline, "{} instead of {calls}", store.calls());
        std::thread::yield_now();
    }
}

fn ack(ledger: &Ledger, number: i32) {
    let first = ledger.acks().read(1);
    ledger.acks().ack(first, 1, &Tokens(vec![token(number)]), 0);
}

#[test]
fn a_place_is_saved_when_it_has_moved() {
    let (store, stop) = (Store::default(), Gate::new());
    let (saves, ledger) = start(&store).unwrap();
    saves.save(&stop).unwrap();
    assert_eq!(store.calls(), "claim", "before the stream was open there is nothing to save");
    ledger.acks().place(Token::from(token(1)));
    for _ in 0..3 {
        saves.save(&stop).unwrap();
    }
    assert_eq!(store.calls(), "claim save");
    ack(&ledger, 2);
    saves.save(&stop).unwrap();
    assert_eq!(store.calls(), "claim save save");
    let text = store.0.text.lock().unwrap().clone().unwrap();
    assert_eq!(identity().read_checkpoint("copy", &text).unwrap().token, Token::from(token(2)));
    ack(&ledger, 3);
    drop(saves);
    await_calls(&store, "claim save save save free");
}

#[test]
fn the_last_save_is_made_once_and_covers_all_acks() {
    let (store, stop) = (Store::default(), Gate::new());
    let (saves, ledger) = start(&store).unwrap();
    ledger.acks().place(Token::from(token(1)));
    saves.save(&stop).unwrap();
    let join = || saves.save_last(&ledger, Wait::ForEver).map_err(|error| error.to_string());
    assert_eq!(join(), Ok(Waited::Done));
    assert_eq!(store.calls(), "claim save save", "also where nothing has moved: it may be gone");
    assert_eq!(join(), Ok(Waited::Done));
    assert_eq!(store.calls(), "claim save save");
    ack(&ledger, 2);
    assert_eq!(join(), Ok(Waited::Done));
    assert_eq!(store.calls(), "claim save save save");
    ack(&ledger, 3);
    store.fails(|| "no room".into());
    assert_eq!(join(), Err("cannot save checkpoint \"copy\" in the test: no room".to_owned()));
    store.works();
    assert_eq!(join(), Ok(Waited::Done));
}

#[test]
fn a_name_is_given_free_only_when_nothing_is_left_to_be_saved() {
    let (store, stop) = (Store::default(), Gate::new());
    let (saves, ledger) = start(&store).unwrap();
    ledger.acks().place(Token::from(token(1)));
    saves.save(&stop).unwrap();
    ack(&ledger, 2);
    saves.release_if_saved(&ledger);
    assert_eq!(store.calls(), "claim save");
    saves.save(&stop).unwrap();
    saves.release_if_saved(&ledger);
    assert_eq!(store.calls(), "claim save save free");
    // The name may be another worker's by now.
    ack(&ledger, 3);
    saves.save(&stop).unwrap();
    assert_eq!(saves.save_last(&ledger, Wait::ForEver).unwrap(), Waited::Done);
    assert!(saves.is_saved(&ledger));
    assert_eq!(store.calls(), "claim save save free");
}

#[test]
fn a_name_is_kept_until_the_last_save() {
    let (store, stop) = (Store::default(), Gate::new());
    let (saves, ledger) = start(&store).unwrap();
    ledger.acks().place(Token::from(token(1)));
    saves.save(&stop).unwrap();
    // The position has moved without an ack.
    ledger.acks().place(Token::from(token(2)));
    saves.release_if_saved(&ledger);
    assert_eq!(store.calls(), "claim save");
    saves.save_last(&ledger, Wait::ForEver).unwrap();
    ack(&ledger, 3);
    saves.release_if_saved(&ledger);
    assert_eq!(store.calls(), "claim save save");
}

#[test]
fn a_checkpoint_is_saved_by_itself_when_it_is_due() {
    let store = Store::default();
    let (saves, ledger) = start_every(&store, Duration::from_millis(1)).unwrap();
    assert_eq!(saves.what(), "checkpoint \"copy\" in the test");
    ledger.acks().place(Token::from(token(1)));
    ack(&ledger, 2);
    await_calls(&store, "claim save");
    store.fails(|| "no room".into());
    ack(&ledger, 3);
    let deadline = Instant::now() + Duration::from_secs(20);
    let stats = || ledger.meter.stats("", "", WorkerState::Streaming, None, (0, 0));
    let trouble = || stats().last_error.map(|error| error.to_string());
    while trouble().is_none() {
        assert!(Instant::now() < deadline, "the failure is in the statistics");
        std::thread::yield_now();
    }
    let expected = "cannot save checkpoint \"copy\" in the test: no room";
    assert_eq!(trouble().as_deref(), Some(expected));
}

#[test]
fn a_failure_is_one_line_until_it_is_another_or_a_save_succeeds() {
    let failed = |text: &str| Err(Error::new(ErrorKind::Checkpoint, text));
    let mut told = None;
    let mut line = |saved| line_of(&mut told, &saved);
    let warning = |text: &str| Some((LogLevel::Warn, text.to_owned()));
    assert_eq!(line(Ok(())), None);
    assert_eq!(line(failed("full")), warning("full"));
    assert_eq!(line(failed("full")), None);
    assert_eq!(line(failed("away")), warning("away"));
    assert_eq!(line(failed("full")), warning("full"));
    let again = Some((LogLevel::Info, "the checkpoint is saved again".to_owned()));
    assert_eq!(line(Ok(())), again);
    assert_eq!(line(Ok(())), None);
    assert_eq!(line(failed("full")), warning("full"));
}

#[test]
fn a_last_save_is_waited_for_no_longer_than_was_asked_for_and_than_five_seconds() {
    let now = Instant::now();
    let at = |milliseconds| now + Duration::from_millis(milliseconds);
    let limit = |wait| Checkpointer::limit(wait, now);
    assert_eq!(limit(Wait::Not), (now, false));
    assert_eq!(limit(Wait::Until(at(4_999))), (at(4_999), false));
    assert_eq!(limit(Wait::Until(at(5_000))), (at(5_000), true));
    assert_eq!(limit(Wait::Until(at(5_001))), (at(5_000), true));
    assert_eq!(limit(Wait::ForEver), (at(5_000), true));
}

#[test]
fn a_store_has_no_remark_unless_it_says_so() {
    assert_eq!(Store::default().remark("copy"), None);
}

#[test]
fn a_token_that_comes_after_the_last_save_keeps_no_name() {
    let store = Store::default();
    let (saves, ledger) = start(&store).unwrap();
    ledger.acks().place(Token::from(token(1)));
    saves.save_last(&ledger, Wait::ForEver).unwrap();
    ledger.acks().place(Token::from(token(2)));
    saves.release_if_saved(&ledger);
    assert_eq!(store.calls(), "claim save free");
}

#[test]
fn a_worker_that_was_not_started_gives_its_name_free_at_once() {
    let store = Store::default();
    let (saves, ledger) = start(&store).unwrap();
    ledger.acks().place(Token::from(token(1)));
    saves.release();
    assert_eq!(store.calls(), "claim free");
    drop(saves);
    assert_eq!(store.calls(), "claim free");
}

#[test]
fn who_does_not_wait_is_told_later_and_how_many_acks_are_missing() {
    let (store, stop) = (Store::default(), Gate::new());
    let (saves, ledger) = start(&store).unwrap();
    ledger.acks().place(Token::from(token(1)));
    saves.save(&stop).unwrap();
    let hold = Arc::new(Gate::new());
    *store.0.hold.lock().unwrap() = Some(Arc::clone(&hold));
    ack(&ledger, 2);
    store.fails(|| StoreError::retriable("no room"));
    assert_eq!(saves.save_last(&ledger, Wait::Not).unwrap(), Waited::Timeout);
    assert_eq!(saves.save_last(&ledger, Wait::Not).unwrap(), Waited::Timeout);
    *store.0.hold.lock().unwrap() = None;
    hold.open();
    await_calls(&store, "claim save save");
    let error = saves.save_last(&ledger, Wait::ForEver).unwrap_err();
    assert!(error.is_retriable() && error.kind() == ErrorKind::Checkpoint, "{error:?}");
    store.works();
    assert_eq!(saves.save_last(&ledger, Wait::ForEver).unwrap(), Waited::Done);
    assert!(saves.is_saved(&ledger));
}

#[test]
fn a_checkpoint_is_loaded_or_given_back() {
    let (store, stop) = (Store::default(), Gate::new());
    let (saves, ledger) = start(&store).unwrap();
    let load = || saves.load(&stop, |_| {}).map(|saved| saved.map(|saved| saved.token));
    assert_eq!(load().unwrap(), None);
    let saved = Saved { token: Token::from(token(7)), snapshot: None };
    *store.0.text.lock().unwrap() = Some(identity().write_checkpoint("copy", &saved).unwrap());
    assert_eq!(load().unwrap(), Some(Token::from(token(7))));
    // It is saved already.
    ledger.acks().place(Token::from(token(7)));
    saves.save(&stop).unwrap();
    assert_eq!(store.calls(), "claim load load");
    *store.0.text.lock().unwrap() = Some(identity().write_checkpoint("other", &saved).unwrap());
    let error = load().unwrap_err();
    assert!(error.to_string().contains("its name is \"other\""), "{error}");
    assert!(!error.is_retriable());
    assert_eq!(store.calls(), "claim load load load back");
    store.fails(|| StoreError::retriable("away"));
    assert!(load().unwrap_err().is_retriable());
    stop.open();
    // Whichever comes first, it does not wait.
    let _ = load();
}

#[test]
fn a_store_that_panics_or_is_in_use_is_an_error() {
    let kind = |failure| {
        let store = Store::default();
        store.fails(failure);
        start(&store).err().map(|error| (error.kind(), error.is_retriable()))
    };
    assert_eq!(kind(|| StoreError::in_use("mine")), Some((ErrorKind::InUse, true)));
    assert_eq!(kind(|| "no".into()), Some((ErrorKind::Checkpoint, false)));
    assert_eq!(kind(|| StoreError::retriable("no")), Some((ErrorKind::Checkpoint, true)));
    // What the store said can be had as it was.
    let store = Store::default();
    store.fails(|| std::io::Error::other("of its own").into());
    let Err(error) = start(&store) else { panic!("no failure") };
    let source = std::error::Error::source(&error).expect("a source");
    assert!(source.downcast_ref::<std::io::Error>().is_some(), "{source:?}");
    let result: Result<(), StoreError> = guarded(|| panic!("in a store"));
    assert_eq!(result.unwrap_err().to_string(), "the checkpoint store panicked");
}
