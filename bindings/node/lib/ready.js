// Waiting: for a descriptor on this thread's event loop, and for what has no descriptor.
//
// No thread of libuv's pool waits, and none of our own: process.exit, an exception and Worker.terminate end
// everything at once.

const net = require("node:net");
const { isMainThread } = require("node:worker_threads");
const { koffi } = require("./native.js");

/** How often a buffer is asked that has no descriptor, in milliseconds. */
const WITHOUT_DESCRIPTOR = 5;

// How a descriptor is waited for: each calls `ready` once after a start, unless it was stopped.

/** By koffi, which its documentation leaves out. In a thread that is terminated its callback ends the process. */
class Polled {
  /** @param {number} descriptor @param {() => void} ready */
  constructor(descriptor, ready) {
    this.descriptor = descriptor;
    this.ready = ready;
    /** @type {any} */
    this.handle = null;
    this.polled = () => {
      this.handle.stop();
      // libuv calls this directly: only what Node itself calls is followed by the promises' callbacks.
      setImmediate(this.ready);
    };
  }

  start() {
    if (this.handle === null) this.handle = koffi.node.poll(this.descriptor, this.polled);
    else this.handle.start(this.polled);
  }

  stop() {
    this.handle?.stop();
  }

  close() {
    this.handle?.close();
    this.handle = null;
  }
}

const NOTHING = new Uint8Array(0);

/**
 * By Node's own means: a socket with a buffer of no bytes gets the error ENOBUFS where it could read, and reads
 * nothing (libuv's manual, uv_alloc_cb). Seven times the work.
 */
class Unread {
  /** @param {number} descriptor @param {() => void} ready */
  constructor(descriptor, ready) {
    this.descriptor = descriptor;
    this.ready = ready;
    /** @type {net.Socket | null} */
    this.socket = null;
  }

  start() {
    // The socket closes what it was given.
    const fd = duplicate(this.descriptor);
    const onread = { buffer: NOTHING, callback: () => false };
    const socket = new net.Socket(/** @type {net.SocketConstructorOpts} */ ({ fd, onread }));
    this.socket = socket;
    socket.on("error", () => {
      if (this.socket !== socket) return;
      this.socket = null;
      this.ready();
    });
  }

  stop() {
    this.socket?.destroy();
    this.socket = null;
  }

  close() {
    this.stop();
  }
}

class Timed {
  /** @param {number} _ @param {() => void} ready */
  constructor(_, ready) {
    this.ready = ready;
    /** @type {NodeJS.Timeout | undefined} */
    this.timer = undefined;
  }

  start() {
    this.timer = setTimeout(this.ready, WITHOUT_DESCRIPTOR);
  }

  stop() {
    clearTimeout(this.timer);
  }

  close() {
    this.stop();
  }
}

/** F_DUPFD_CLOEXEC: child processes do not get the copy. */
const COPY = /** @type {Record<string, number>} */ ({ darwin: 67, freebsd: 17, openbsd: 10 });

/** @type {((fd: number, command: number, type: string, least: number) => number) | undefined} */
let control;

/** @param {number} descriptor */
function duplicate(descriptor) {
  control ??= koffi.load(null).func("int fcntl(int fd, int command, ...)");
  return control(descriptor, COPY[process.platform] ?? 1030, "int", 0);
}

const canPoll = isMainThread && typeof koffi.node?.poll === "function";

/** Tells when a descriptor is readable. Holds whoever waits only while it waits. */
class Readiness {
  /**
   * @param {number} descriptor below 0 if there is none
   * @param {"poll" | "socket" | "timer"} [way]
   */
  constructor(descriptor, way = canPoll ? "poll" : "socket") {
    /** @type {(() => void) | null} */
    this.waiting = null;
    const Way = descriptor < 0 ? Timed : { poll: Polled, socket: Unread, timer: Timed }[way];
    this.source = new Way(descriptor, () => {
      const { waiting } = this;
      this.waiting = null;
      waiting?.();
    });
  }

  /** @param {() => void} ready called once */
  start(ready) {
    const waits = this.waiting !== null;
    this.waiting = ready;
    if (!waits) this.source.start();
  }

  stop() {
    if (this.waiting === null) return;
    this.waiting = null;
    this.source.stop();
  }

  close() {
    this.waiting = null;
    this.source.close();
  }
}

/** Between two looks at what has no descriptor: at first often, then after an eighth of the time that has gone by. */
const pause = (/** @type {number} */ gone) => Math.min(Math.max(gone / 8, 1), 50);

/**
 * Asks `look` until it answers something else than undefined: for what has no descriptor. Undefined when the
 * time is over.
 *
 * @template T
 * @param {() => T | undefined} look
 * @param {number} timeout
 * @param {AbortSignal | undefined} signal
 * @returns {Promise<T | undefined>}
 */
function looked(look, timeout, signal) {
  const begin = performance.now();
  return new Promise((resolve, reject) => {
    /** @type {NodeJS.Timeout | undefined} */
    let timer;
    const end = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", aborted);
    };
    const aborted = () => {
      end();
      reject(signal?.reason);
    };
    const again = () => {
      try {
        const seen = look();
        const gone = performance.now() - begin;
        if (seen === undefined && gone < timeout) {
          timer = setTimeout(again, Math.min(pause(gone), timeout - gone));
          return;
        }
        end();
        resolve(seen);
      } catch (error) {
        end();
        reject(error);
      }
    };
    if (signal?.aborted) return aborted();
    signal?.addEventListener("abort", aborted);
    again();
  });
}

module.exports = { Readiness, looked };
