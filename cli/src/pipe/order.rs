//! Which messages may be on their way at once: those of one document go one after the other, and what concerns no
//! document goes alone.
//!
//! A broker that loses one of two messages and takes the other gets the lost one again, after the other. So the second of
//! a document is not sent before the first is acked. Nothing is known here of brokers and messages.

use std::collections::{HashMap, VecDeque};

/// What a message concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Concern {
    /// One document, by a hash of namespace and id. Two documents that share a hash only wait for each other.
    Document(u64),
    /// A collection, a database, or the stream.
    All,
}

/// The messages that were taken in and are not done. `T` is a message that waits.
pub(crate) struct Order<T> {
    /// Of each document that has one on its way: what waits for it.
    documents: HashMap<u64, VecDeque<T>>,
    barrier: Option<Barrier<T>>,
}

/// A message that concerns all.
struct Barrier<T> {
    /// It waits for everything before it. `None`: it is on its way.
    waiting: Option<T>,
    /// What came after it.
    later: VecDeque<(Concern, T)>,
}

impl<T> Barrier<T> {
    fn new(waiting: Option<T>) -> Self {
        Self { waiting, later: VecDeque::new() }
    }
}

impl<T> Default for Order<T> {
    fn default() -> Self {
        Self { documents: HashMap::new(), barrier: None }
    }
}

impl<T> Order<T> {
    /// Takes a message in. Gives it back if it may go now.
    pub(crate) fn begin(&mut self, concern: Concern, message: T) -> Option<T> {
        if let Some(barrier) = &mut self.barrier {
            barrier.later.push_back((concern, message));
            return None;
        }
        match concern {
            Concern::Document(document) => match self.documents.get_mut(&document) {
                Some(waiting) => {
                    waiting.push_back(message);
                    None
                }
                None => {
                    self.documents.insert(document, VecDeque::new());
                    Some(message)
                }
            },
            Concern::All if self.documents.is_empty() => {
                self.barrier = Some(Barrier::new(None));
                Some(message)
            }
            Concern::All => {
                self.barrier = Some(Barrier::new(Some(message)));
                None
            }
        }
    }

    /// Says that one is done. `go` gets what may go now.
    pub(crate) fn done(&mut self, concern: Concern, mut go: impl FnMut(T)) {
        match concern {
            Concern::Document(document) => {
                if let Some(next) = self.documents.get_mut(&document).and_then(VecDeque::pop_front)
                {
                    go(next);
                    return;
                }
                self.documents.remove(&document);
                if self.documents.is_empty()
                    && let Some(barrier) = &mut self.barrier
                    && let Some(message) = barrier.waiting.take()
                {
                    go(message);
                }
            }
            Concern::All => {
                let later = self.barrier.take().map(|barrier| barrier.later).unwrap_or_default();
                for (concern, message) in later {
                    if let Some(message) = self.begin(concern, message) {
                        go(message);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Concern::{All, Document};

    /// Takes in messages that are numbers; gives what is sent at once.
    fn begun(order: &mut Order<u32>, messages: &[(Concern, u32)]) -> Vec<u32> {
        messages.iter().filter_map(|(concern, message)| order.begin(*concern, *message)).collect()
    }

    fn done(order: &mut Order<u32>, concern: Concern) -> Vec<u32> {
        let mut sent = Vec::new();
        order.done(concern, |message| sent.push(message));
        sent
    }

    #[test]
    fn documents_do_not_wait_for_each_other() {
        let mut order = Order::default();
        assert_eq!(begun(&mut order, &[(Document(1), 10), (Document(2), 20)]), [10, 20]);
    }

    #[test]
    fn messages_of_a_document_go_one_after_the_other() {
        let mut order = Order::default();
        let messages = [(Document(1), 10), (Document(1), 11), (Document(2), 20), (Document(1), 12)];
        assert_eq!(begun(&mut order, &messages), [10, 20]);
        assert_eq!(done(&mut order, Document(1)), [11]);
        assert_eq!(done(&mut order, Document(2)), [0; 0]);
        assert_eq!(done(&mut order, Document(1)), [12]);
        assert_eq!(done(&mut order, Document(1)), [0; 0]);
        assert_eq!(begun(&mut order, &[(Document(1), 13)]), [13], "it is free again");
    }

    #[test]
    fn what_concerns_all_goes_alone() {
        let mut order = Order::default();
        let messages = [
            (Document(1), 10),
            (All, 99),
            (Document(1), 11),
            (Document(2), 20),
            (All, 98),
            (Document(3), 30),
        ];
        assert_eq!(begun(&mut order, &messages), [10]);
        assert_eq!(done(&mut order, Document(1)), [99]);
        assert_eq!(begun(&mut order, &[(Document(4), 40)]), [0; 0]);
        assert_eq!(done(&mut order, All), [11, 20]);
        assert_eq!(done(&mut order, Document(2)), [0; 0]);
        assert_eq!(done(&mut order, Document(1)), [98]);
        assert_eq!(done(&mut order, All), [30, 40]);
        assert_eq!(done(&mut order, Document(3)), [0; 0]);
        assert_eq!(done(&mut order, Document(4)), [0; 0]);
        assert_eq!(begun(&mut order, &[(All, 97)]), [97], "nothing is on its way");
        assert_eq!(begun(&mut order, &[(Document(1), 12)]), [0; 0]);
        assert_eq!(done(&mut order, All), [12]);
    }
}
