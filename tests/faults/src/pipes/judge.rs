//! Who compares what was written with what the broker holds, and watches the checkpoint's history.
//!
//! Nothing is known here of servers and processes. Times are those of [`now`](crate::report::now).

use std::collections::{HashMap, HashSet};

use crate::report::Key;

/// A message that the broker holds.
#[derive(Clone, Debug)]
pub struct Stored {
    /// When it was read.
    pub at: u64,
    /// The subject, or topic and partition.
    pub place: String,
    /// The resume token.
    pub token: Option<String>,
    /// Which write it tells of; `None` for what the writer did not write.
    pub key: Option<Key>,
    /// Whether it could be read.
    pub is_event: bool,
}

/// A state of the checkpoint's document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Whose it is; `None` after it was given back.
    pub owner: Option<String>,
    /// Grows with each taking.
    pub term: i64,
    /// As the holder calls itself.
    pub holder: String,
    /// The resume token in its text.
    pub token: Option<String>,
}

/// A taking of the lease.
#[derive(Clone, Debug)]
struct Taking {
    /// From where the new holder continues; empty is the beginning.
    from: String,
    /// When it was seen.
    at: u64,
}

/// How late a message may be read, in microseconds: the broker may be away.
const LATE: u64 = 20_000_000;

/// See the module.
#[derive(Default)]
pub struct Judge {
    /// JetStream is asked to remove what comes twice.
    removes_duplicates: bool,
    /// How often each message is there, and when it was read first.
    tokens: HashMap<String, (usize, u64)>,
    keys: HashSet<Key>,
    /// The last version of each document.
    versions: HashMap<i64, u32>,
    /// Where each document's messages are.
    places: HashMap<i64, String>,
    state: Option<State>,
    takings: Vec<Taking>,
    saves: usize,
    repeats: usize,
    violations: Vec<String>,
}

impl Judge {
    /// Nothing is known yet. JetStream removes what comes twice, Kafka does not.
    #[must_use]
    pub fn new(removes_duplicates: bool) -> Self {
        Self { removes_duplicates, ..Self::default() }
    }

    /// The broker holds a message.
    pub fn stored(&mut self, stored: Stored) {
        if !stored.is_event {
            self.violations.push(format!("{} holds what is no event", stored.place));
        }
        let Some(token) = stored.token else {
            self.violations.push(format!("a message of {} has no token", stored.place));
            return;
        };
        let (count, _) = self.tokens.entry(token).or_insert((0, stored.at));
        *count += 1;
        if *count > 1 {
            self.repeats += 1;
            if self.removes_duplicates {
                self.violations.push(format!("twice: {:?} in {}", stored.key, stored.place));
            }
            return;
        }
        let Some(key) = stored.key else { return };
        self.keys.insert(key);
        let last = self.versions.insert(key.document, key.version);
        if last.is_some_and(|last| last >= key.version) {
            self.violations.push(format!("out of order: {key:?} after version {last:?}"));
        }
        let place = self.places.entry(key.document).or_insert_with(|| stored.place.clone());
        if *place != stored.place {
            self.violations.push(format!("{key:?} is in {}, and not in {place}", stored.place));
        }
    }

    /// The checkpoint's document has a new state.
    pub fn saw(&mut self, at: u64, state: State) {
        let before = self.state.replace(state.clone()).unwrap_or_default();
        let mut wrong = |what: &str| {
            self.violations.push(format!("checkpoint: {what}: {state:?} after {before:?}"));
        };
        if state.term < before.term {
            wrong("an older term");
        } else if state.term > before.term {
            let from = before.token.clone().unwrap_or_default();
            self.takings.push(Taking { from, at });
        } else if state.holder != before.holder {
            wrong("another holder in the same term");
        } else if state.owner != before.owner && state.owner.is_some() {
            wrong("another owner in the same term");
        }
        if state.token != before.token {
            self.saves += 1;
            if state.token < before.token {
                wrong("it went back");
            }
            if state.owner.is_none() {
                wrong("saved by nobody");
            }
        }
    }

    /// How often the lease was taken.
    #[must_use]
    pub fn takings(&self) -> usize {
        self.takings.len()
    }

    /// The last state of the checkpoint.
    #[must_use]
    pub fn state(&self) -> Option<&State> {
        self.state.as_ref()
    }

    /// Whether the broker holds a write.
    #[must_use]
    pub fn holds(&self, key: Key) -> bool {
        self.keys.contains(&key)
    }

    /// Messages that are there once, repeats, how many there may be, and saves of the checkpoint.
    #[must_use]
    pub fn counts(&self) -> [usize; 4] {
        [self.tokens.len(), self.repeats, self.may_repeat().1, self.saves]
    }

    /// What was wrong by now.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        let mut violations = self.violations.clone();
        violations.extend(self.may_repeat().0);
        violations
    }

    /// A new holder repeats only what comes after the saved place: each message at most once for each taking from a place
    /// before it. Returns what was repeated more often, and how many repeats there could be in all.
    fn may_repeat(&self) -> (Vec<String>, usize) {
        let mut violations = Vec::new();
        let mut bound = 0;
        for (token, (count, read)) in &self.tokens {
            // The first start repeats nothing.
            let later = self.takings.iter().skip(1).filter(|taking| taking.at + LATE > *read);
            let may = later.filter(|taking| taking.from < *token).count();
            bound += may;
            if *count > 1 + may {
                violations.push(format!("{count} times although it was saved: {token}"));
            }
        }
        (violations, bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(token: &str, document: i64, version: u32) -> Stored {
        Stored {
            at: 0,
            place: "a".to_owned(),
            token: Some(token.to_owned()),
            key: Some(Key { document, version }),
            is_event: true,
        }
    }

    fn state(owner: &str, term: i64, token: &str) -> State {
        State {
            owner: Some(owner.to_owned()),
            term,
            holder: owner.to_owned(),
            token: Some(token.to_owned()),
        }
    }

    #[test]
    fn what_is_right_is_not_accused() {
        let mut judge = Judge { removes_duplicates: true, ..Judge::default() };
        judge.saw(1, state("a", 1, "10"));
        for (token, version) in [("11", 0), ("12", 1), ("13", u32::MAX)] {
            judge.stored(stored(token, 7, version));
        }
        judge.saw(1, state("a", 1, "12"));
        judge.saw(1, state("b", 2, "12"));
        assert_eq!(judge.violations(), [""; 0]);
        assert!(judge.holds(Key { document: 7, version: 1 }));
        assert!(!judge.holds(Key { document: 8, version: 1 }));
    }

    #[test]
    fn each_wrong_is_told() {
        let told = |wrong: fn(&mut Judge)| {
            let mut judge = Judge::default();
            judge.saw(1, state("a", 1, "10"));
            judge.stored(stored("11", 7, 3));
            wrong(&mut judge);
            judge.violations().join(" ")
        };
        assert!(told(|judge| judge.stored(stored("12", 7, 2))).contains("out of order"));
        assert!(told(|judge| judge.stored(stored("11", 7, 3))).contains("2 times"));
        assert!(
            told(|judge| {
                judge.removes_duplicates = true;
                judge.stored(stored("11", 7, 3));
            })
            .contains("twice")
        );
        let elsewhere = Stored { place: "b".to_owned(), ..stored("12", 7, 4) };
        let mut judge = Judge::default();
        judge.stored(stored("11", 7, 3));
        judge.stored(elsewhere);
        assert!(judge.violations()[0].contains("is in b"));
        assert!(told(|judge| judge.saw(1, state("a", 1, "09"))).contains("went back"));
        assert!(told(|judge| judge.saw(1, state("b", 1, "11"))).contains("another"));
        assert!(told(|judge| judge.saw(1, state("b", 0, "11"))).contains("older term"));
        let by_nobody = State { owner: None, ..state("a", 1, "11") };
        let mut judge = Judge::default();
        judge.saw(1, state("a", 1, "10"));
        judge.saw(1, by_nobody);
        assert!(judge.violations()[0].contains("saved by nobody"));
    }

    #[test]
    fn a_new_holder_may_repeat_what_was_not_saved() {
        let mut judge = Judge::default();
        judge.saw(1, state("a", 1, "10"));
        judge.stored(stored("11", 7, 0));
        judge.stored(stored("12", 7, 1));
        judge.saw(1, state("a", 1, "11"));
        judge.saw(1, state("b", 2, "11"));
        judge.stored(stored("12", 7, 1));
        assert_eq!(judge.violations(), [""; 0]);
        assert_eq!(judge.counts(), [2, 1, 1, 2]);
        judge.stored(stored("11", 7, 0));
        assert!(judge.violations()[0].contains("although it was saved"));
    }
}
