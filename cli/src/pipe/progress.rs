//! What a pipe has done so far, for those who watch it.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counters; each thread may add to them and read them.
#[derive(Default)]
pub(crate) struct Progress {
    /// Messages that the broker has acked.
    pub(crate) published: Arc<AtomicU64>,
    pub(crate) bytes: AtomicU64,
    /// Of those, what the broker held already.
    pub(crate) duplicates: AtomicU64,
    /// Sent again.
    pub(crate) retries: AtomicU64,
    /// Taken from the stream and not yet acked by the broker.
    pub(crate) waiting: AtomicU64,
    pub(crate) waiting_bytes: AtomicU64,
    /// What the broker has complained of since it last acked something.
    trouble: Mutex<Option<String>>,
}

impl Progress {
    /// Notes a complaint of the broker. True if it is the first since all was well.
    pub(crate) fn is_in_trouble(&self, text: &str) -> bool {
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.replace(text.to_owned()).is_none()
    }

    /// Notes that the broker has acked something. True if it had complained before.
    pub(crate) fn is_well_again(&self) -> bool {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// For the line on the terminal.
    pub(crate) fn status(&self) -> String {
        let waiting = self.waiting.load(Ordering::Relaxed);
        match self.trouble() {
            Some(trouble) => format!("  {waiting} wait for the broker: {trouble}"),
            None => format!("  {waiting} in flight"),
        }
    }

    /// As OpenMetrics, without the line that ends them.
    pub(crate) fn metrics(&self) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let figures = [
            ("messages", "counter", "Messages that the broker has acked.", count(&self.published)),
            ("bytes", "counter", "Bytes of JSON that the broker has acked.", count(&self.bytes)),
            (
                "duplicates",
                "counter",
                "Messages that the broker held already.",
                count(&self.duplicates),
            ),
            ("retries", "counter", "Messages that were sent again.", count(&self.retries)),
            (
                "waiting_messages",
                "gauge",
                "Messages without the broker's ack.",
                count(&self.waiting),
            ),
            ("waiting_bytes", "gauge", "Their bytes of JSON.", count(&self.waiting_bytes)),
            (
                "broker_up",
                "gauge",
                "0 since the broker has refused or lost a message, until it takes one again.",
                u64::from(self.trouble().is_none()),
            ),
        ];
        let mut text = String::new();
        for (name, kind, help, value) in figures {
            let total = if kind == "counter" { "_total" } else { "" };
            // Writing into a text does not fail.
            let _ = write!(
                text,
                "# TYPE mongostream_pipe_{name} {kind}\n# HELP mongostream_pipe_{name} {help}\n\
                 mongostream_pipe_{name}{total} {value}\n"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trouble_is_news_once_until_all_is_well() {
        let progress = Progress::default();
        assert!(!progress.is_well_again());
        assert!(progress.is_in_trouble("no answer"));
        assert!(!progress.is_in_trouble("refused"));
        assert_eq!(progress.status(), "  0 wait for the broker: refused");
        assert!(progress.metrics().contains("mongostream_pipe_broker_up 0\n"));
        assert!(progress.is_well_again());
        assert!(!progress.is_well_again());
        assert!(progress.metrics().contains("mongostream_pipe_broker_up 1\n"));
        assert!(progress.is_in_trouble("no answer"));
    }
}
