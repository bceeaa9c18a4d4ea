// One change stream that feeds a buffer.

const { Status, WorkerState } = require("./abi.js");
const { MongostreamError, failure, place, timeout } = require("./errors.js");
const { disposable, own } = require("./handles.js");
const { ms } = require("./native.js");
const { looked } = require("./ready.js");
const { takenText } = require("./texts.js");

const STATES = Object.entries(WorkerState).map(
  ([name, number]) => /** @type {const} */ ([number, name.toLowerCase()]),
);
const NAMES = /** @type {Map<number, string>} */ (new Map(STATES));

class Worker {
  #handle;
  #buffer;
  #name;

  /**
   * @param {bigint} pointer
   * @param {import("./buffer.js").Buffer} buffer
   * @param {import("./store.js").Store | null} store
   */
  constructor(pointer, buffer, store) {
    if (typeof pointer !== "bigint") {
      throw new MongostreamError("workers come from Buffer.watch", Status.ERR_ARGUMENT);
    }
    this.#handle = own(this, pointer, "worker");
    this.#buffer = buffer;
    this.#name = /** @type {string} */ (ms.worker_name(pointer));
    this.store = store;
    Object.defineProperty(this, "store", { enumerable: false });
  }

  get name() {
    return this.#name;
  }

  get buffer() {
    return this.#buffer;
  }

  get state() {
    if (this.#handle.pointer === null) return "stopped";
    const state = ms.worker_get_state(this.#handle.pointer);
    return NAMES.get(state) ?? "failed";
  }

  get resumeToken() {
    return takenText(ms.worker_resume_token(this.#handle.get()));
  }

  stop() {
    if (this.#handle.pointer !== null) ms.worker_stop(this.#handle.pointer);
  }

  /** @param {{ timeout?: number, signal?: AbortSignal }} [options] */
  waitReady(options = {}) {
    return this.#wait(ms.worker_wait_ready, options);
  }

  /** @param {{ timeout?: number, signal?: AbortSignal }} [options] */
  join(options = {}) {
    return this.#wait(ms.worker_join, options);
  }

  /**
   * @param {(worker: bigint, timeout: number, error: [bigint | null]) => number} call
   * @param {{ timeout?: number, signal?: AbortSignal }} options
   */
  async #wait(call, options) {
    const limit = timeout(options.timeout);
    const done = await looked(
      () => {
        const status = call(this.#handle.get(), 0, place);
        if (status === Status.TIMEOUT) return undefined;
        if (status === Status.OK) return true;
        if (status === Status.CLOSED) return false;
        const error = failure(status);
        this.store?.explain(error);
        throw error;
      },
      limit,
      options.signal,
    );
    return done ?? false;
  }

  free() {
    this.#handle.free();
    this.#buffer.forget(this);
  }
}
disposable(Worker, "dispose", function () {
  this.free();
});
disposable(Worker, "asyncDispose", async function () {
  this.stop();
  try {
    await this.join();
  } catch (error) {
    // Other failures come through the buffer.
    if (/** @type {MongostreamError} */ (error).status === Status.ERR_CHECKPOINT) throw error;
  } finally {
    this.free();
  }
});

module.exports = { Worker };
