//! The statistics as OpenMetrics text, which Prometheus and its relatives read.

use std::collections::BTreeSet;
use std::fmt::{Display, Write};

use crate::state::WorkerState;
use crate::stats::{BufferStats, WorkerStats};

/// The name of the media type that [`BufferStats::to_open_metrics`] is, for an HTTP server's `Content-Type`.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Milliseconds, to be written as seconds.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

/// The text, family after family.
#[derive(Default)]
struct Exposition(String);

impl Exposition {
    /// The unit is the end of the name, where there is one.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        let unit =
            ["seconds", "bytes"].into_iter().find(|unit| name.ends_with(&format!("_{unit}")));
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "# TYPE {name} {kind}");
        if let Some(unit) = unit {
            let _ = writeln!(self.0, "# UNIT {name} {unit}");
        }
        let _ = writeln!(self.0, "# HELP {name} {help}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            let _ = write!(self.0, "{}{label}=\"", if index == 0 { '{' } else { ',' });
            for character in value.chars() {
                match character {
                    '\\' => self.0.push_str("\\\\"),
                    '"' => self.0.push_str("\\\""),
                    '\n' => self.0.push_str("\\n"),
                    other => self.0.push(other),
                }
            }
            self.0.push('"');
        }
        let _ = writeln!(self.0, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    fn alone(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        let suffix = if kind == "counter" { "_total" } else { "" };
        self.sample(&format!("{name}{suffix}"), &[], value);
    }

    /// A family with a sample of each worker that has a value.
    fn of_workers<V: Display>(
        &mut self,
        (name, kind, help): (&str, &str, &str),
        workers: &[(String, &WorkerStats)],
        value: impl Fn(&WorkerStats) -> Option<V>,
    ) {
        self.family(name, kind, help);
        let suffix = if kind == "counter" { "_total" } else { "" };
        for (label, worker) in workers {
            if let Some(value) = value(worker) {
                self.sample(&format!("{name}{suffix}"), &[("worker", label)], value);
            }
        }
    }
}

/// Each worker with a name of its own: no two samples may have the same labels. Of workers with one name those that
/// run are numbered. One that has ended is left out if another has its name.
fn named(workers: &[WorkerStats]) -> Vec<(String, &WorkerStats)> {
    let mut taken = BTreeSet::new();
    let mut named = Vec::new();
    for worker in workers {
        let has_ended = matches!(worker.state, WorkerState::Stopped | WorkerState::Failed);
        let mut label = worker.name.clone();
        if has_ended && taken.contains(&label) {
            continue;
        }
        // Somebody may have named a worker as we number them.
        let mut number = 1;
        while !taken.insert(label.clone()) {
            number += 1;
            label = format!("{} ({number})", worker.name);
        }
        named.push((label, worker));
    }
    named
}

impl BufferStats {
    /// All figures as [OpenMetrics] text, for an HTTP server that Prometheus asks; its `Content-Type` is
    /// [`OPEN_METRICS`]. `docs/STATISTICS.md` describes each metric. The label `worker` has the worker's name.
    ///
    /// [OpenMetrics]: https://prometheus.io/docs/specs/om/open_metrics_spec/
    pub fn to_open_metrics(&self) -> String {
        let mut out = Exposition::default();
        self.write_buffer(&mut out);
        let workers = named(&self.workers);
        write_workers(&workers, &mut out);
        write_snapshots(&workers, &mut out);
        write_leases(&workers, &mut out);
        out.0.push_str("# EOF\n");
        out.0
    }

    fn write_buffer(&self, out: &mut Exposition) {
        const GAUGE: &str = "gauge";
        out.alone("mongostream_buffer_depth", GAUGE, "Messages that are queued now.", self.depth);
        out.alone(
            "mongostream_buffer_high_water",
            GAUGE,
            "The most messages that were ever queued at once.",
            self.high_water,
        );
        out.alone(
            "mongostream_buffer_bytes",
            GAUGE,
            "Bytes of BSON that are queued now.",
            self.bytes,
        );
        out.alone("mongostream_buffer_capacity", GAUGE, "The bound in messages.", self.capacity);
        out.alone(
            "mongostream_buffer_max_bytes",
            GAUGE,
            "The bound in bytes of BSON.",
            self.max_bytes,
        );
        out.alone(
            "mongostream_buffer_failures",
            GAUGE,
            "Failures of workers that no consumer has received yet.",
            self.failures,
        );
        out.alone(
            "mongostream_buffer_waited_seconds",
            "counter",
            "For how long workers have waited for room, added up over all workers.",
            Seconds(self.waited_ms),
        );
        let closed = "Whether the buffer was closed.";
        out.alone("mongostream_buffer_closed", GAUGE, closed, u8::from(self.closed));
    }
}

fn write_workers(workers: &[(String, &WorkerStats)], out: &mut Exposition) {
    out.family("mongostream_worker", "info", "What each worker watches.");
    for (label, worker) in workers {
        let labels = [("worker", label.as_str()), ("namespace", &worker.namespace)];
        out.sample("mongostream_worker_info", &labels, 1);
    }
    out.family("mongostream_worker_state", "stateset", "What each worker is doing.");
    for (label, worker) in workers {
        for state in WorkerState::ALL {
            let labels = [("worker", label.as_str()), ("mongostream_worker_state", state.name())];
            out.sample("mongostream_worker_state", &labels, u8::from(worker.state == state));
        }
    }
    type Counter = fn(&WorkerStats) -> u64;
    let counters: [(&str, &str, Counter); 6] = [
        ("mongostream_worker_received", "Events read from the server.", |w| w.received),
        (
            "mongostream_worker_received_bytes",
            "The size of the events that were read, in BSON.",
            |w| w.received_bytes,
        ),
        ("mongostream_worker_delivered", "Messages that consumers have taken.", |w| w.delivered),
        (
            "mongostream_worker_delivered_bytes",
            "The size of the events that consumers have taken, in BSON.",
            |w| w.delivered_bytes,
        ),
        (
            "mongostream_worker_reconnects",
            "How often the stream was opened again after it had been open.",
            |w| w.reconnects,
        ),
        (
            "mongostream_worker_attempts",
            "How often the worker has begun to open the stream, or tried in vain to load its checkpoint.",
            |w| w.attempts,
        ),
    ];
    for (name, help, value) in counters {
        out.of_workers((name, "counter", help), workers, |worker| Some(value(worker)));
    }
    let gauge = |name, help| (name, "gauge", help);
    let unacked =
        gauge("mongostream_worker_unacked", "Events that were received and are not acked.");
    out.of_workers(unacked, workers, |worker| Some(worker.unacked));
    let status = gauge(
        "mongostream_worker_last_error_status",
        "The number of the last error's status (MS_ERR_CONNECT is -10); 0 without an error.",
    );
    out.of_workers(status, workers, |worker| {
        Some(worker.last_error.as_ref().map_or(0, |error| error.kind().status()))
    });
    type Time = fn(&WorkerStats) -> Option<u64>;
    let times: [(&str, &str, Time); 5] = [
        (
            "mongostream_worker_lag_seconds",
            "From the cluster time up to which the stream is read to this machine's clock.",
            |w| w.lag_ms,
        ),
        (
            "mongostream_worker_since_last_event_seconds",
            "Since the server last sent events.",
            |w| w.last_event_ms_ago,
        ),
        (
            "mongostream_worker_since_opened_seconds",
            "Since the stream was opened, the last time.",
            |w| w.opened_ms_ago,
        ),
        (
            "mongostream_worker_since_checkpoint_seconds",
            "Since the checkpoint was last known to hold the acked position.",
            |w| w.checkpoint_saved_ms_ago,
        ),
        (
            "mongostream_worker_checkpoint_lag_seconds",
            "From the cluster time of the checkpoint to this machine's clock.",
            |w| w.checkpoint_lag_ms,
        ),
    ];
    for (name, help, value) in times {
        out.of_workers(gauge(name, help), workers, |worker| value(worker).map(Seconds));
    }
    let failing = gauge(
        "mongostream_worker_checkpoint_failing",
        "1 while the checkpoint cannot be saved, else 0.",
    );
    out.of_workers(failing, workers, |worker| Some(u8::from(worker.checkpoint_error.is_some())));
}

fn write_leases(workers: &[(String, &WorkerStats)], out: &mut Exposition) {
    let held = "1 while this worker holds its lease and may hand over, else 0.";
    out.of_workers(("mongostream_worker_lease_held", "gauge", held), workers, |worker| {
        worker.lease.as_ref().map(|lease| u8::from(lease.held))
    });
    let term = "The term of the lease, whoever holds it: it grows by one with each holder.";
    out.of_workers(("mongostream_worker_lease_term", "gauge", term), workers, |worker| {
        worker.lease.as_ref().map(|lease| lease.term)
    });
}

fn write_snapshots(workers: &[(String, &WorkerStats)], out: &mut Exposition) {
    let of = |worker: &WorkerStats| worker.snapshot.clone();
    let documents = "Documents of the snapshot that this run has read.";
    out.of_workers(
        ("mongostream_worker_snapshot_documents", "gauge", documents),
        workers,
        |worker| of(worker).map(|snapshot| snapshot.documents),
    );
    let estimated = "About how many documents there were to be read when this run began to read.";
    out.of_workers(
        ("mongostream_worker_snapshot_estimated", "gauge", estimated),
        workers,
        |worker| of(worker).map(|snapshot| snapshot.estimated),
    );
    let finished = "1 when all of the snapshot is read, else 0.";
    out.of_workers(
        ("mongostream_worker_snapshot_finished", "gauge", finished),
        workers,
        |worker| of(worker).map(|snapshot| u8::from(snapshot.finished)),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Error, ErrorKind};
    use crate::stats::{LeaseStats, Meter, SnapshotStats};

    fn worker(name: &str, state: WorkerState) -> WorkerStats {
        Meter::new().stats(name, "shop.orders", state, None, (7, 2))
    }

    fn buffer(workers: Vec<WorkerStats>) -> BufferStats {
        BufferStats {
            depth: 3,
            high_water: 5,
            bytes: 300,
            capacity: 10,
            max_bytes: 1000,
            failures: 1,
            waited_ms: 12_345,
            closed: true,
            workers,
        }
    }

    #[test]
    fn the_buffer_has_its_figures_with_units() {
        let text = buffer(vec![]).to_open_metrics();
        for line in [
            "# TYPE mongostream_buffer_depth gauge",
            "mongostream_buffer_depth 3",
            "mongostream_buffer_high_water 5",
            "# UNIT mongostream_buffer_bytes bytes",
            "mongostream_buffer_bytes 300",
            "mongostream_buffer_capacity 10",
            "mongostream_buffer_max_bytes 1000",
            "mongostream_buffer_failures 1",
            "# TYPE mongostream_buffer_waited_seconds counter",
            "# UNIT mongostream_buffer_waited_seconds seconds",
            "mongostream_buffer_waited_seconds_total 12.345",
            "mongostream_buffer_closed 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[test]
    fn a_worker_has_its_figures_with_its_name() {
        let mut worker = worker("a \"b\"\\\n", WorkerState::Reconnecting);
        (worker.received, worker.received_bytes) = (7, 700);
        (worker.delivered, worker.delivered_bytes, worker.unacked) = (6, 600, 2);
        (worker.reconnects, worker.attempts) = (3, 4);
        worker.last_error = Some(Error::new(ErrorKind::Connect, "away"));
        (worker.lag_ms, worker.last_event_ms_ago, worker.opened_ms_ago) =
            (Some(1), Some(20), Some(300));
        (worker.checkpoint_saved_ms_ago, worker.checkpoint_lag_ms) = (Some(4_000), Some(50_000));
        worker.checkpoint_error = Some(Error::new(ErrorKind::Checkpoint, "full"));
        worker.snapshot = Some(SnapshotStats {
            finished: true,
            namespace: "shop.orders".to_owned(),
            documents: 8,
            estimated: 9,
        });
        worker.lease =
            Some(LeaseStats { holder: "a:1".to_owned(), term: 12, since_unix_ms: 5, held: true });
        let text = buffer(vec![worker]).to_open_metrics();
        let name = r#"worker="a \"b\"\\\n""#;
        for (metric, value) in [
            ("received_total", "7"),
            ("received_bytes_total", "700"),
            ("delivered_total", "6"),
            ("delivered_bytes_total", "600"),
            ("unacked", "2"),
            ("reconnects_total", "3"),
            ("attempts_total", "4"),
            ("last_error_status", "-10"),
            ("lag_seconds", "0.001"),
            ("since_last_event_seconds", "0.020"),
            ("since_opened_seconds", "0.300"),
            ("since_checkpoint_seconds", "4.000"),
            ("checkpoint_lag_seconds", "50.000"),
            ("checkpoint_failing", "1"),
            ("snapshot_documents", "8"),
            ("snapshot_estimated", "9"),
            ("snapshot_finished", "1"),
            ("lease_held", "1"),
            ("lease_term", "12"),
        ] {
            let line = format!("mongostream_worker_{metric}{{{name}}} {value}");
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        let info = format!("mongostream_worker_info{{{name},namespace=\"shop.orders\"}} 1");
        assert!(text.contains(&info), "{text}");
        let states: Vec<_> =
            text.lines().filter(|line| line.starts_with("mongostream_worker_state{")).collect();
        assert_eq!(states.len(), WorkerState::ALL.len());
        let is_set = |line: &&&str| line.ends_with(" 1");
        assert!(
            states.iter().filter(is_set).all(|line| line.contains("\"reconnecting\"")),
            "{states:?}"
        );
        assert_eq!(states.iter().filter(is_set).count(), 1);
    }

    #[test]
    fn what_is_not_known_has_no_sample() {
        let text = buffer(vec![worker("copy", WorkerState::Starting)]).to_open_metrics();
        for name in ["lag_seconds", "since_opened_seconds", "snapshot_documents"] {
            assert!(!text.contains(&format!("mongostream_worker_{name}{{")), "{name}");
        }
        assert!(text.contains("mongostream_worker_last_error_status{worker=\"copy\"} 0\n"));
        assert!(text.contains("mongostream_worker_checkpoint_failing{worker=\"copy\"} 0\n"));
    }

    #[test]
    fn no_two_samples_have_the_same_labels_and_families_stay_together() {
        use WorkerState::{Failed, Streaming};
        let workers = vec![
            worker("a (2)", Streaming),
            worker("a", Streaming),
            worker("a", Streaming),
            worker("b", Failed),
            worker("a", Failed),
            worker("b", Failed),
        ];
        let text = buffer(workers).to_open_metrics();
        let mut seen = std::collections::BTreeSet::new();
        let (mut families, mut family) = (std::collections::BTreeSet::new(), "");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                family = rest.split(' ').next().unwrap();
                assert!(families.insert(family), "twice: {family}");
            } else if !line.starts_with('#') {
                let (sample, _) = line.rsplit_once(' ').unwrap();
                assert!(sample.starts_with(family), "{sample} in {family}");
                assert!(seen.insert(sample), "twice: {sample}");
            }
        }
        let unacked: Vec<_> = seen
            .iter()
            .filter_map(|sample| sample.strip_prefix("mongostream_worker_unacked"))
            .collect();
        assert_eq!(
            unacked,
            ["{worker=\"a (2)\"}", "{worker=\"a (3)\"}", "{worker=\"a\"}", "{worker=\"b\"}"]
        );
    }

    #[test]
    fn each_metric_is_documented() {
        let mut all = worker("copy", WorkerState::Streaming);
        let snapshot =
            SnapshotStats { finished: false, namespace: String::new(), documents: 0, estimated: 0 };
        all.lease =
            Some(LeaseStats { holder: String::new(), term: 1, since_unix_ms: 0, held: false });
        (all.snapshot, all.lag_ms) = (Some(snapshot), Some(0));
        (all.last_event_ms_ago, all.opened_ms_ago) = (Some(0), Some(0));
        (all.checkpoint_saved_ms_ago, all.checkpoint_lag_ms) = (Some(0), Some(0));
        let page = include_str!("../docs/STATISTICS.md");
        let text = buffer(vec![all]).to_open_metrics();
        let samples: std::collections::BTreeSet<_> = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split(['{', ' ']).next())
            .collect();
        assert_eq!(samples.len(), 29);
        for sample in samples {
            assert!(page.contains(&format!("| `{sample}` |")), "{sample}");
        }
        assert_eq!(page.matches("| `mongostream_").count(), 29, "and no other one");
    }
}
