// Starts the threads on which the library calls JavaScript, and ends them with the process.

const path = require("node:path");
const { isMainThread, MessageChannel, Worker } = require("node:worker_threads");
const { state } = require("./errors.js");
const { file, ms } = require("./native.js");

/**
 * @typedef {object} Thread
 * @property {Worker} thread
 * @property {import("node:worker_threads").MessagePort} port
 * @property {bigint[]} addresses of its callbacks
 */

/**
 * What is to be done when the process ends: before it closes the buffers, and afterwards.
 *
 * @type {Set<{ closing?: () => void, closed: () => void }>}
 */
const atExit = new Set();

// Before other listeners, one of which may throw. The library must call nothing when its threads are gone.
if (isMainThread) {
  process.prependListener("exit", () => {
    for (const one of atExit) one.closing?.();
    ms.shutdown();
    for (const one of atExit) one.closed();
  });
}

/**
 * @param {"log" | "store"} kind
 * @param {Int32Array} [shared]
 * @returns {Promise<Thread>}
 */
function startThread(kind, shared) {
  // A thread that is terminated could not take back what it has given to the library.
  if (!isMainThread) {
    const what = kind === "log" ? "setLogger" : "checkpoint_store";
    return Promise.reject(state(`${what} can be used on the main thread only`));
  }
  const { port1: port, port2 } = new MessageChannel();
  const thread = new Worker(path.join(__dirname, "thread.js"), {
    workerData: { kind, port: port2, shared },
    transferList: [port2],
    execArgv: [],
    env: { ...process.env, MONGOSTREAM_LIBRARY: file },
  });
  return new Promise((resolve, reject) => {
    thread.once("error", reject);
    thread.once("message", (/** @type {bigint[]} */ addresses) => {
      thread.off("error", reject);
      thread.unref();
      resolve({ thread, port, addresses });
    });
  });
}

module.exports = { atExit, startThread };
