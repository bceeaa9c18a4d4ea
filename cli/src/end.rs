//! What ends a stream from outside: signals, and a stdout that nobody reads any more.

use std::sync::atomic::{AtomicBool, Ordering};

use mongostream::Buffer;

use crate::failure::Failure;

/// The first SIGINT or SIGTERM asks for an orderly end: what is queued is still written, acked and saved. The second one
/// ends the process, with exit code 1. SIGHUP is left as it is: `nohup` ignores it.
pub(crate) fn on_signals(end: impl Fn() + Send + 'static) -> Result<(), Failure> {
    let asked = AtomicBool::new(false);
    let asked_to_end = move || {
        if asked.swap(true, Ordering::SeqCst) {
            std::process::exit(1);
        }
        end();
    };
    on_each_signal(asked_to_end)
        .map_err(|error| Failure::failed(format!("cannot take signals: {error}")))
}

#[cfg(unix)]
fn on_each_signal(asked_to_end: impl Fn() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};

    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM])?;
    let wait = move || signals.forever().for_each(|_| asked_to_end());
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait).map(drop)
}

#[cfg(not(unix))]
fn on_each_signal(asked_to_end: impl Fn() + Send + 'static) -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(asked_to_end)
}

/// Closes the buffer when the reader of stdout goes: on a quiet stream no write would tell.
#[cfg(unix)]
pub(crate) fn with_stdout(buffer: &Buffer) {
    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;

    let buffer = buffer.clone();
    let wait = move || {
        let stdout = std::io::stdout();
        // Errors and hang-ups are always told, and nothing else is asked for.
        let mut fds = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        while let Err(Errno::EINTR | Errno::EAGAIN) = poll(&mut fds, PollTimeout::NONE) {}
        let told = fds.first().and_then(PollFd::revents).unwrap_or(PollFlags::empty());
        if told.intersects(PollFlags::POLLERR | PollFlags::POLLHUP) {
            buffer.close();
        }
    };
    // Without the thread the next write tells.
    let _ = std::thread::Builder::new().name("stdout".to_owned()).spawn(wait);
}

#[cfg(not(unix))]
pub(crate) fn with_stdout(_buffer: &Buffer) {}
