// A checkpoint store of the program's own.

const { Status } = require("./abi.js");
const { argument, failure, place } = require("./errors.js");
const { ms } = require("./native.js");
const { atExit, startThread } = require("./callbacks.js");
const { ANSWERED, CLOSING, RELEASED } = require("./signals.js");

/** So long, in milliseconds, the end of the process waits for the library to let the store go: it takes no time but on a crowded machine. */
const LONGEST = 2000;

class Store {
  #object;
  #thread;
  #shared;
  #used = false;
  /** @type {(() => void) | null} */
  #letGo = null;
  /** @type {unknown} */
  #failure;

  /**
   * @param {any} object
   * @param {import("./callbacks.js").Thread} thread
   * @param {Int32Array} shared
   */
  constructor(object, thread, shared) {
    this.#object = object;
    this.#thread = thread;
    this.#shared = shared;
    thread.port.on("message", (request) => this.#answer(request));
    thread.port.unref();
    const exit = { closing: () => this.#close(), closed: () => this.#released() };
    atExit.add(exit);
    thread.thread.once("exit", () => atExit.delete(exit));
  }

  /** @param {any} object */
  static async open(object) {
    for (const name of ["load", "save"]) {
      if (typeof object[name] !== "function") {
        throw argument(`checkpoint_store must have the functions load and save: ${name} is none`);
      }
    }
    const shared = new Int32Array(new SharedArrayBuffer(12));
    return new Store(object, await startThread("store", shared), shared);
  }

  /** @param {bigint} options an ms_options */
  put(options) {
    const [load, save, release] = this.#thread.addresses;
    this.#used = true;
    const status = ms.options_set_checkpoint_store(options, load, save, release, null, place);
    if (status !== Status.OK) {
      this.#used = false;
      throw failure(status);
    }
  }

  /** The worker that has the store: the library releases it when the worker's handle is freed. @param {() => void} free */
  startedWith(free) {
    this.#letGo = free;
  }

  /** After a start that failed: a store that the library never had is never released. */
  abandon() {
    if (!this.#used) this.#thread.thread.terminate();
  }

  /** @param {{ what: "load" | "save", name: string, text: string }} request */
  async #answer({ what, name, text }) {
    /** @type {{ status: number, text?: string | null }} */
    let answer;
    try {
      if (what === "load") answer = { status: 0, text: loaded(await this.#object.load(name)) };
      else {
        await this.#object.save(name, text);
        answer = { status: 0 };
      }
      this.#failure = undefined;
    } catch (error) {
      this.#failure = error;
      answer = { status: /** @type {any} */ (error)?.retriable === true ? 1 : -1 };
    }
    this.#thread.port.postMessage(answer);
    Atomics.store(this.#shared, ANSWERED, 1);
    Atomics.notify(this.#shared, ANSWERED);
  }

  /** Says in an error of the checkpoint what the store has thrown. @param {import("./errors.js").MongostreamError} error */
  explain(error) {
    if (error.status === Status.ERR_CHECKPOINT && this.#failure !== undefined) error.cause = this.#failure;
  }

  /** From now on every call fails at once. */
  #close() {
    Atomics.store(this.#shared, CLOSING, 1);
    Atomics.store(this.#shared, ANSWERED, 1);
    Atomics.notify(this.#shared, ANSWERED);
    this.#letGo?.();
  }

  #released() {
    if (this.#used) Atomics.wait(this.#shared, RELEASED, 0, LONGEST);
  }
}

/** @param {unknown} text */
function loaded(text) {
  if (text === null || text === undefined) return null;
  if (typeof text === "string" && !text.includes("\0")) return text;
  throw argument("load must return the text that was saved, or null if there is none");
}

module.exports = { Store };
