// What the library has to say, for the program's logger.

const { isMainThread, receiveMessageOnPort } = require("node:worker_threads");
const { LogLevel, Status } = require("./abi.js");
const { argument, failure, shown } = require("./errors.js");
const { ms } = require("./native.js");
const { atExit, startThread } = require("./callbacks.js");

const LEVELS = /** @type {const} */ (["off", "error", "warn", "info", "debug"]);

/** @typedef {(level: string, worker: string, message: string) => void} Listener */

/** @type {Listener | null} */
let listener = null;

/** @type {ReturnType<typeof startThread> | null} */
let thread = null;

/** @type {() => void} Hands out the lines that have arrived. */
let drain = () => {};

/** @param {[number, string, string]} line */
function told([level, worker, message]) {
  listener?.(LEVELS[level] ?? "debug", worker, message);
}

async function started() {
  const opened = await startThread("log");
  opened.port.on("message", told);
  opened.port.unref();
  drain = () => {
    for (let one = receiveMessageOnPort(opened.port); one; one = receiveMessageOnPort(opened.port)) {
      told(one.message);
    }
  };
  atExit.add({
    closed: () => {
      ms.log_set(null, null, LogLevel.OFF);
      drain();
    },
  });
  return opened;
}

/**
 * @param {any} logger
 * @returns {Listener}
 */
function listenerOf(logger) {
  if (typeof logger === "function") return logger;
  for (const level of LEVELS.slice(1)) {
    if (typeof logger?.[level] !== "function") {
      throw argument(
        `the logger must be a function, or have the functions error, warn, info and debug, not ${shown(logger)}`,
      );
    }
  }
  return (level, worker, message) => logger[level](`mongostream ${worker}: ${message}`);
}

/**
 * @param {any} logger
 * @param {string} [level]
 */
async function setLogger(logger, level = "info") {
  const number = LEVELS.indexOf(/** @type {any} */ (level));
  if (number < 0) throw argument(`level must be one of ${LEVELS.join(", ")}, not ${shown(level)}`);
  const next = logger == null ? null : listenerOf(logger);
  if (next === null) {
    if (!isMainThread) return;
    set(null, LogLevel.OFF);
  } else {
    thread ??= started().catch((error) => {
      thread = null;
      throw error;
    });
    const { addresses } = await thread;
    set(addresses[0], number);
  }
  listener = next;
}

/** @param {bigint | null} address @param {number} level */
function set(address, level) {
  // It returns when the callbacks that run have returned: they do on their own thread, whatever this one does.
  const status = ms.log_set(address, null, level);
  if (status !== Status.OK) throw failure(status);
  // Those before are for the logger before.
  drain();
}

module.exports = { setLogger };
