// The thread on which the library calls JavaScript: it waits until a callback has returned, and the main
// thread may be busy, or wait for the library itself.

const { parentPort, receiveMessageOnPort, workerData } = require("node:worker_threads");
const { callbackType, koffi } = require("./native.js");
const { ANSWERED, CLOSING, RELEASED } = require("./signals.js");

/** @typedef {import("node:worker_threads").MessagePort} MessagePort */

const parent = /** @type {MessagePort} */ (parentPort);
const { kind, port } = /** @type {{ kind: "log" | "store", port: MessagePort, shared: Int32Array }} */ (
  workerData
);

// Its listener keeps the thread alive.
parent.on("message", () => {});

/** @param {string} type @param {(...values: any[]) => unknown} callback */
const register = (type, callback) => koffi.register(callback, callbackType(type));

if (kind === "log") {
  const address = register("LogSetCallback", (_, level, worker, message) => {
    port.postMessage([level, worker, message]);
  });
  parent.postMessage([address]);
} else {
  const shared = /** @type {Int32Array<SharedArrayBuffer>} */ (workerData.shared);
  const strdup = koffi.load(null).func("void *strdup(const char *text)");

  /**
   * @param {"load" | "save"} what
   * @param {string} name
   * @param {string} [text]
   * @returns {{ status: number, text?: string | null }}
   */
  const ask = (what, name, text) => {
    if (Atomics.load(shared, CLOSING) !== 0) return { status: -1 };
    port.postMessage({ what, name, text });
    Atomics.wait(shared, ANSWERED, 0);
    Atomics.store(shared, ANSWERED, 0);
    return receiveMessageOnPort(port)?.message ?? { status: -1 };
  };

  const load = register("OptionsSetCheckpointStoreLoad", (_, name, place) => {
    const { status, text } = ask("load", name);
    if (status === 0 && typeof text === "string") koffi.encode(place, "void *", strdup(text));
    return status;
  });
  const save = register("OptionsSetCheckpointStoreSave", (_, name, text) => ask("save", name, text).status);
  const release = register("OptionsSetCheckpointStoreRelease", () => {
    Atomics.store(shared, RELEASED, 1);
    Atomics.notify(shared, RELEASED);
    // Nobody calls any more, so the thread may end; after this call has returned.
    setImmediate(() => {
      parent.close();
      port.close();
    });
  });
  parent.postMessage([load, save, release]);
}
