//! A small HTTP server: OpenMetrics on `/metrics`, the health on `/healthz`.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::{Arg, ArgMatches};
use mongostream::{BufferStats, OPEN_METRICS, WorkerState};
use tiny_http::{Header, Method, Request, Response, Server};

use crate::failure::Failure;

/// How often the states of the workers are looked at.
const PERIOD: Duration = Duration::from_millis(500);
/// A stream that breaks is open again after an election, of about 12 s. For so long nobody need be woken.
const PATIENCE: Duration = Duration::from_secs(30);

/// The flag `--metrics`.
pub(crate) fn argument() -> Arg {
    Arg::new("metrics")
        .long("metrics")
        .value_name("ADDRESS")
        .help("Serve OpenMetrics on http://ADDRESS/metrics, and the health on /healthz")
        .long_help(
            "Serve OpenMetrics on http://ADDRESS/metrics, and the health on /healthz: 200 while the stream is open, \
             and for 30 s after it was open last; 503 otherwise. ADDRESS is host:port, such as 127.0.0.1:9187; with \
             port 0 the system chooses one, and stderr says which.",
        )
}

/// The address is taken, and nobody is served yet.
pub(crate) struct Metrics(Server);

impl Metrics {
    /// As the flag says; none without it.
    pub(crate) fn of(matches: &ArgMatches) -> Result<Option<Self>, Failure> {
        matches.get_one::<String>("metrics").map(|address| Self::bind(address)).transpose()
    }

    fn bind(address: &str) -> Result<Self, Failure> {
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            return Err(Failure::usage(format!(
                "--metrics {address:?}: give it as host:port, such as 127.0.0.1:9187"
            )));
        }
        let server = Server::http(address).map_err(|error| {
            Failure::failed(format!(
                "--metrics {address}: {error}; give it an address of this machine, and a port that is free"
            ))
        })?;
        if port == Some(0) {
            // Who lets the system choose must be told.
            let _ =
                writeln!(std::io::stderr(), "metrics on http://{}/metrics", server.server_addr());
        }
        Ok(Self(server))
    }

    /// Serves the figures of the buffer until the process ends. `more` gives lines of the command's own.
    pub(crate) fn serve(
        self,
        stats: impl Fn() -> Option<BufferStats> + Send + 'static,
        more: impl Fn() -> String + Send + 'static,
    ) {
        let serve = move || {
            let mut health = Health::default();
            loop {
                let request = self.0.recv_timeout(PERIOD);
                let Some(stats) = stats() else { break };
                let is_healthy = health.look(&stats, Instant::now());
                match request {
                    Ok(Some(request)) => answer(request, &stats, &more(), is_healthy),
                    Ok(None) => {}
                    // No thread or descriptor for a moment; what was asked is lost, and not this server.
                    Err(_) => std::thread::sleep(PERIOD),
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("metrics".to_owned()).spawn(serve) {
            let _ = writeln!(std::io::stderr(), "warning: no thread for --metrics: {error}");
        }
    }
}

fn answer(request: Request, stats: &BufferStats, more: &str, is_healthy: bool) {
    let path = request.url().split('?').next().unwrap_or_default();
    let (code, kind, body) = match (request.method(), path) {
        (Method::Get | Method::Head, "/metrics") => {
            (200, OPEN_METRICS, with_more(stats.to_open_metrics(), more))
        }
        (Method::Get | Method::Head, "/healthz") => {
            let states: String = stats
                .workers
                .iter()
                .map(|worker| format!("{}: {}\n", worker.name, worker.state))
                .collect();
            (if is_healthy { 200 } else { 503 }, "text/plain; charset=utf-8", states)
        }
        (Method::Get | Method::Head, _) => {
            (404, "text/plain; charset=utf-8", "there are /metrics and /healthz\n".to_owned())
        }
        _ => (405, "text/plain; charset=utf-8", "only GET and HEAD\n".to_owned()),
    };
    let mut response = Response::from_string(body).with_status_code(code);
    if let Ok(header) = Header::from_bytes("Content-Type", kind) {
        response = response.with_header(header);
    }
    // Whoever has asked may have gone.
    let _ = request.respond(response);
}

/// Both, before the line that ends them.
fn with_more(mut metrics: String, more: &str) -> String {
    const END: &str = "# EOF\n";
    if metrics.ends_with(END) {
        metrics.truncate(metrics.len() - END.len());
    }
    metrics + more + END
}

/// When every worker was seen to be streaming last.
#[derive(Default)]
struct Health {
    streamed: Option<Instant>,
}

impl Health {
    /// Whether each worker streams, or has done so not long ago and is about to do so again.
    fn look(&mut self, stats: &BufferStats, now: Instant) -> bool {
        self.of(stats.workers.iter().map(|worker| worker.state), now)
    }

    fn of(&mut self, states: impl Iterator<Item = WorkerState>, now: Instant) -> bool {
        let states: Vec<_> = states.collect();
        // A standby does what it is there for.
        let is_well =
            |state: &WorkerState| matches!(state, WorkerState::Streaming | WorkerState::Standby);
        if !states.is_empty() && states.iter().all(is_well) {
            self.streamed = Some(now);
        }
        let is_alive = |state: &WorkerState| is_well(state) || *state == WorkerState::Reconnecting;
        let is_recent = self.streamed.is_some_and(|at| now.duration_since(at) < PATIENCE);
        is_recent && states.iter().all(is_alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use WorkerState::{Failed, Reconnecting, Standby, Starting, Stopped, Streaming};

    #[test]
    fn a_worker_is_healthy_while_it_streams_and_for_a_while_after() {
        let start = Instant::now();
        let mut health = Health::default();
        let mut at =
            |state, seconds| health.of([state].into_iter(), start + Duration::from_secs(seconds));
        assert!(!at(Starting, 0));
        assert!(!at(Reconnecting, 1), "it was never seen to stream");
        assert!(at(Streaming, 2));
        assert!(at(Reconnecting, 3));
        assert!(at(Reconnecting, 31));
        assert!(!at(Reconnecting, 32));
        assert!(at(Streaming, 100));
        assert!(at(Standby, 200));
        assert!(!at(Failed, 201));
        assert!(!at(Stopped, 202));
    }

    #[test]
    fn one_that_is_ill_is_enough_and_nobody_is_not_healthy() {
        let now = Instant::now();
        let mut health = Health::default();
        assert!(!health.of([].into_iter(), now));
        assert!(health.of([Streaming, Streaming].into_iter(), now));
        assert!(!health.of([Streaming, Failed].into_iter(), now));
    }
}
