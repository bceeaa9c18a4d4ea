//! One line on a terminal, redrawn in place: what the stream is doing.

use std::io::{IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mongostream::{BufferStats, WorkerStats};
use terminal_size::{Width, terminal_size_of};

use crate::secrets::hide;

/// How often it is redrawn.
const PERIOD: Duration = Duration::from_millis(500);
/// Back to the first column, and clear the line.
const CLEAR: &[u8] = b"\r\x1b[2K";
/// Where the terminal does not tell its width.
const USUAL_WIDTH: u16 = 80;

/// The line; none where stderr is no terminal.
pub(crate) struct StatusLine(Option<Drawing>);

struct Drawing {
    screen: Arc<Mutex<Screen>>,
    thread: std::thread::JoinHandle<()>,
    stop: Sender<()>,
}

/// Whether a line stands on the terminal.
#[derive(Default)]
struct Screen {
    is_drawn: bool,
}

impl Screen {
    fn draw(&mut self, text: &str) {
        let line = [CLEAR, text.as_bytes()].concat();
        // A terminal that has gone is told by a signal.
        let _ = std::io::stderr().write_all(&line);
        self.is_drawn = true;
    }

    fn clear(&mut self) {
        if std::mem::take(&mut self.is_drawn) {
            let _ = std::io::stderr().write_all(CLEAR);
        }
    }
}

fn lock(screen: &Mutex<Screen>) -> MutexGuard<'_, Screen> {
    screen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// While it is held nothing is drawn.
pub(crate) struct Cleared<'a>(
    #[expect(dead_code, reason = "it is held")] Option<MutexGuard<'a, Screen>>,
);

impl StatusLine {
    /// Draws it from now on, if stderr is a terminal. `written` counts messages, `more` is what a command has to add.
    pub(crate) fn begin(
        stats: impl Fn() -> Option<BufferStats> + Send + 'static,
        written: &Arc<AtomicU64>,
        more: impl Fn() -> String + Send + 'static,
    ) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let screen = Arc::new(Mutex::new(Screen::default()));
        let (stop, stopped) = mpsc::channel();
        let written = Arc::clone(written);
        let its_screen = Arc::clone(&screen);
        let draw = move || {
            let mut rate = Rate { at: Instant::now(), count: 0 };
            loop {
                if let Some(worker) = stats().and_then(|stats| stats.workers.into_iter().next()) {
                    let count = written.load(Ordering::Relaxed);
                    let rate = rate.next(count, Instant::now());
                    let text = text(&worker, count, rate, &more(), width());
                    lock(&its_screen).draw(&text);
                }
                // Also when the sender is gone.
                if stopped.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout) {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("status line".to_owned()).spawn(draw);
        Self(thread.ok().map(|thread| Drawing { screen, thread, stop }))
    }

    /// Takes it away until the guard is dropped; the next redraw brings it back.
    pub(crate) fn clear(&self) -> Cleared<'_> {
        Cleared(self.0.as_ref().map(|drawing| {
            let mut screen = lock(&drawing.screen);
            screen.clear();
            screen
        }))
    }

    /// Tells stderr something, as a line of its own.
    pub(crate) fn say(&self, text: &str) {
        let _cleared = self.clear();
        // Nobody is left to be told if this fails.
        let _ = writeln!(std::io::stderr(), "{}", hide(text));
    }

    /// Takes it away for good.
    pub(crate) fn end(&mut self) {
        let Some(Drawing { screen, thread, stop }) = self.0.take() else { return };
        drop(stop);
        let _ = thread.join();
        lock(&screen).clear();
    }
}

fn width() -> usize {
    let size = terminal_size_of(std::io::stderr());
    size.map_or(USUAL_WIDTH, |(Width(width), _)| width).into()
}

/// Messages per second since the last time it was asked.
struct Rate {
    at: Instant,
    count: u64,
}

impl Rate {
    fn next(&mut self, count: u64, now: Instant) -> u64 {
        let (messages, time) = (count - self.count, now.duration_since(self.at).as_millis());
        *self = Self { at: now, count };
        let rate = (u128::from(messages) * 1000).checked_div(time).unwrap_or(0);
        u64::try_from(rate).unwrap_or(u64::MAX)
    }
}

/// The line, in at most `width - 1` columns: in the last one some terminals begin a new line.
fn text(worker: &WorkerStats, count: u64, rate: u64, more: &str, width: usize) -> String {
    let lag = match worker.lag_ms {
        Some(lag) => format!("  lag {}.{} s", lag / 1000, lag % 1000 / 100),
        None => String::new(),
    };
    let rest = format!("  {}  {count} messages  {rate}/s{lag}{more}", worker.state);
    fit(&worker.namespace, &rest, width.saturating_sub(1))
}

/// Of what is too long, the name is cut first.
fn fit(name: &str, rest: &str, room: usize) -> String {
    let (named, others) = (name.chars().count(), rest.chars().count());
    if named + others <= room {
        return format!("{name}{rest}");
    }
    match room.checked_sub(others + 1) {
        Some(kept) => name.chars().take(kept).chain(['…']).chain(rest.chars()).collect(),
        None => rest.trim_start().chars().take(room).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_never_reaches_the_last_column() {
        let rest = "  streaming  7 messages";
        assert_eq!(fit("shop.orders", rest, 80), "shop.orders  streaming  7 messages");
        assert_eq!(fit("shop.orders", rest, 34), "shop.orders  streaming  7 messages");
        assert_eq!(fit("shop.orders", rest, 33), "shop.orde…  streaming  7 messages");
        assert_eq!(fit("shöp.örders", rest, 26), "sh…  streaming  7 messages");
        assert_eq!(fit("shop.orders", rest, 9), "streaming");
        assert_eq!(fit("shop.orders", rest, 0), "");
        for room in 0..40 {
            assert!(fit("shop.orders", rest, room).chars().count() <= room);
        }
    }

    #[test]
    fn a_rate_is_that_of_the_time_since_the_last_one() {
        let start = Instant::now();
        let mut rate = Rate { at: start, count: 0 };
        assert_eq!(rate.next(100, start + Duration::from_millis(500)), 200);
        assert_eq!(rate.next(100, start + Duration::from_millis(1000)), 0);
        assert_eq!(rate.next(101, start + Duration::from_millis(1000)), 0, "no time has passed");
    }
}
