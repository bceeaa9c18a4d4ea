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

/** @param {unknown} error @returns {() => never} */
const thrower = (error) => () => {
  throw error;
};

class Worker {
  #handle;
  #buffer;
  #name;
  /**
   * What is known of it after its end: the handle holds the checkpoint, so it is let go then.
   *
   * @type {{ state: string, resumeToken: string | null, ready: () => boolean, joined: () => boolean } | null}
   */
  #past = null;

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
    store?.startedWith(this.#handle.free.bind(this.#handle));
    Object.defineProperty(this, "store", { enumerable: false });
  }

  get name() {
    return this.#name;
  }

  get buffer() {
    return this.#buffer;
  }

  get state() {
    if (this.#past !== null) return this.#past.state;
    if (this.#handle.pointer === null) return "stopped";
    const state = ms.worker_get_state(this.#handle.pointer);
    return NAMES.get(state) ?? "failed";
  }

  get resumeToken() {
    if (this.#past !== null) return this.#past.resumeToken;
    return takenText(ms.worker_resume_token(this.#handle.get()));
  }

  stop() {
    if (this.#handle.pointer !== null) ms.worker_stop(this.#handle.pointer);
  }

  /** @param {{ timeout?: number, signal?: AbortSignal }} [options] */
  async waitReady(options = {}) {
    const look = () => (this.#past === null ? this.#asked(ms.worker_wait_ready) : this.#past.ready());
    return (await looked(look, timeout(options.timeout), options.signal)) ?? false;
  }

  /** @param {{ timeout?: number, signal?: AbortSignal }} [options] */
  async join(options = {}) {
    return (await looked(() => this.#joined(), timeout(options.timeout), options.signal)) ?? false;
  }

  #joined() {
    if (this.#past !== null) return this.#past.joined();
    const { state } = this;
    try {
      const joined = this.#asked(ms.worker_join);
      if (joined === true) this.#end(() => true);
      return joined;
    } catch (error) {
      // A save that failed may succeed yet; a failure of the worker is its end.
      const { status } = /** @type {MongostreamError} */ (error);
      if (state === "failed" || (status !== Status.ERR_CHECKPOINT && status !== Status.ERR_STATE)) {
        this.#end(thrower(error));
      }
      throw error;
    }
  }

  /** @param {() => boolean} joined */
  #end(joined) {
    let ready;
    try {
      const was = this.#asked(ms.worker_wait_ready) === true;
      ready = () => was;
    } catch (error) {
      ready = thrower(error);
    }
    const { state, resumeToken } = this;
    this.#past = { state, resumeToken, ready, joined };
    this.#handle.free();
  }

  /** Lets the checkpoint go if the worker has ended and saved: another may be started in its place. Whether it has. */
  settle() {
    if (this.state !== "failed" && this.state !== "stopped") return false;
    try {
      this.#joined();
    } catch {
      // Its failure comes through the buffer, and from join.
    }
    return this.#past !== null;
  }

  /**
   * @param {(worker: bigint, timeout: number, error: [bigint | null]) => number} call
   * @returns {boolean | undefined} undefined: not yet
   */
  #asked(call) {
    const status = call(this.#handle.get(), 0, place);
    if (status === Status.TIMEOUT) return undefined;
    if (status === Status.OK) return true;
    if (status === Status.CLOSED) return false;
    const error = failure(status);
    this.store?.explain(error);
    throw error;
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
