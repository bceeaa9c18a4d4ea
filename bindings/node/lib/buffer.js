// The queue of messages.

const { Status } = require("./abi.js");
const { argument, count, failure, place, text, timeout } = require("./errors.js");
const { disposable, own } = require("./handles.js");
const { Batch, Holder, Message, messageBytes } = require("./message.js");
const { ms } = require("./native.js");
const { withOptions } = require("./settings.js");
const { Readiness } = require("./ready.js");
const { Store } = require("./store.js");
const { takenText } = require("./texts.js");
const { Worker } = require("./worker.js");

/** For so long, in milliseconds, messages are handed out without a turn of the event loop: signals, timers and sockets wait. */
const TURN = 10;

/** Most messages, and about how many bytes of BSON, are fetched at once. */
const MOST = 256;
const MOST_BYTES = 256 * 1024;

/** A batch counts at most so many bytes for the garbage collector. */
const MOST_WEIGHT = 1 << 25;

/** When this thread's event loop last turned. */
let turned = performance.now();

/** @type {[bigint | null]} */
const received = [null];

/**
 * A consumer that waits.
 *
 * @typedef {object} Waiter
 * @property {() => unknown} take what it waits for; null if the buffer is drained and closed; undefined if there is nothing yet
 * @property {(value: any) => void} resolve
 * @property {(error: unknown) => void} reject
 */

class Buffer {
  #handle;
  /** @type {Readiness | null} */
  #readiness = null;
  /** @type {Waiter[]} in the order in which they came */
  #waiters = [];
  #turns = false;
  /** @type {Holder | null} what was fetched and not yet handed out */
  #fetched = null;
  #next = 0;
  #most = 16;
  /** Their streams go on although the program has dropped them. */
  #workers = /** @type {Set<Worker>} */ (new Set());
  #stores = /** @type {Map<string, Store>} */ (new Map());

  /** @param {number | bigint} capacity @param {{ maxBytes?: number | bigint }} [options] */
  constructor(capacity, options = {}) {
    const messages = count("capacity", capacity);
    const { maxBytes } = options;
    const pointer =
      maxBytes === undefined
        ? ms.buffer_new(messages)
        : ms.buffer_new_with(messages, count("maxBytes", maxBytes));
    if (pointer === null) throw failure();
    this.#handle = own(this, pointer, "buffer");
  }

  /**
   * @param {string} uri
   * @param {string | null} [database]
   * @param {string | null} [collection]
   * @param {{ checkpoint_store?: any }} [options]
   */
  async watch(uri, database, collection, options = {}) {
    const names = [
      text("uri", uri),
      database == null ? null : text("database", database),
      collection == null ? null : text("collection", collection),
    ];
    if (typeof options !== "object" || options === null) throw argument("options must be an object");
    const store = options.checkpoint_store == null ? null : await Store.open(options.checkpoint_store);
    for (const other of this.#workers) if (other.settle()) this.#workers.delete(other);
    /** @type {bigint} */
    let pointer;
    try {
      const buffer = this.#handle.get();
      pointer = withOptions(options, (native) => {
        store?.put(native);
        const started = ms.worker_start(...names, buffer, native, place);
        if (started === null) throw failure();
        return started;
      });
    } catch (error) {
      store?.abandon();
      throw error;
    }
    const worker = new Worker(pointer, this, store);
    this.#workers.add(worker);
    if (store !== null) this.#stores.set(worker.name, store);
    return worker;
  }

  /** @param {Worker} worker */
  forget(worker) {
    this.#workers.delete(worker);
  }

  /** @returns {number} */
  get length() {
    const queued = Number(ms.buffer_len(this.#handle.get()));
    return queued + (this.#fetched === null ? 0 : this.#fetched.length - this.#next);
  }

  stats() {
    const json = takenText(ms.buffer_stats(this.#handle.get()));
    if (json === null) throw failure(Status.ERR_FORKED);
    return JSON.parse(json);
  }

  metrics() {
    const metrics = takenText(ms.buffer_metrics(this.#handle.get()));
    if (metrics === null) throw failure(Status.ERR_FORKED);
    return metrics;
  }

  /**
   * @param {number | bigint} most
   * @returns {Holder | null | undefined}
   */
  #receive(most) {
    const status = ms.buffer_recv_batch(this.#handle.get(), most, 0, received, place);
    if (status === Status.TIMEOUT) return undefined;
    if (status === Status.CLOSED) return null;
    if (status !== Status.OK) {
      const error = failure(status);
      this.#stores.get(error.worker ?? "")?.explain(error);
      throw error;
    }
    const pointer = /** @type {bigint} */ (received[0]);
    const length = Number(ms.batch_len(pointer));
    const holder = new Holder(pointer, length);
    const bytes = messageBytes(ms.batch_get(pointer, 0));
    const fits = Math.floor(MOST_BYTES / bytes);
    this.#most = Math.max(1, Math.min(fits, MOST, this.#most * 2));
    holder.weight = globalThis.Buffer.allocUnsafeSlow(Math.min(bytes * length, MOST_WEIGHT));
    return holder;
  }

  /** @returns {Message | null | undefined} null: drained and closed; undefined: nothing yet */
  #takeMessage() {
    let holder = this.#fetched;
    if (holder === null) {
      const more = this.#receive(this.#most);
      if (more === null || more === undefined) return more;
      holder = more;
      this.#fetched = holder;
      this.#next = 0;
    }
    const message = new Message(holder, this.#next, true);
    this.#next += 1;
    if (this.#next === holder.length) this.#fetched = null;
    return message;
  }

  /** @param {number | bigint} most @returns {Batch | null | undefined} */
  #takeBatch(most) {
    const holder = this.#fetched;
    if (holder !== null) {
      const begin = this.#next;
      const end = Number(most) < holder.length - begin ? begin + Number(most) : holder.length;
      this.#next = end;
      if (end === holder.length) this.#fetched = null;
      return new Batch(holder, begin, end);
    }
    const more = this.#receive(most);
    return more === null || more === undefined ? more : new Batch(more, 0, more.length);
  }

  /**
   * What there is now, unless others came first or the event loop has to turn: then undefined.
   *
   * @template T
   * @param {() => T} take
   * @returns {T | undefined}
   */
  #now(take) {
    if (this.#waiters.length > 0 || performance.now() - turned > TURN) return undefined;
    return take();
  }

  /**
   * @template T
   * @param {() => T | null | undefined} take
   * @param {{ timeout?: number, signal?: AbortSignal }} options
   * @param {Set<Waiter>} [mine] holds the waiter while it waits
   * @returns {Promise<T | null | undefined>}
   */
  #wait(take, options, mine) {
    const limit = timeout(options.timeout);
    const { signal } = options;
    return new Promise((resolve, reject) => {
      if (signal?.aborted) throw signal.reason;
      this.#handle.get();
      /** @type {NodeJS.Timeout | undefined} */
      let timer;
      const end = () => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", aborted);
        mine?.delete(waiter);
        this.#waiters = this.#waiters.filter((other) => other !== waiter);
        if (this.#waiters.length === 0) this.#readiness?.stop();
      };
      const waiter = {
        take,
        resolve: (/** @type {T | null | undefined} */ value) => {
          end();
          resolve(value);
        },
        reject: (/** @type {unknown} */ error) => {
          end();
          reject(error);
        },
      };
      const aborted = () => waiter.reject(signal?.reason);
      signal?.addEventListener("abort", aborted);
      if (limit !== Infinity) {
        // Longer ones would be made 1 ms by Node.
        timer = setTimeout(() => this.#late(waiter), Math.min(limit, 0x7fff_ffff));
      }
      mine?.add(waiter);
      this.#waiters.push(waiter);
      if (this.#waiters.length === 1) this.#turn();
    });
  }

  /** The time of a waiter is over: what came in the last moment is still its own if nobody was before it. @param {Waiter} waiter */
  #late(waiter) {
    if (this.#waiters[0] === waiter) this.#serve();
    if (this.#waiters.includes(waiter)) waiter.resolve(undefined);
  }

  /** Serves the waiters after a turn of the event loop. */
  #turn() {
    if (this.#turns) return;
    this.#turns = true;
    setImmediate(() => {
      this.#turns = false;
      turned = performance.now();
      this.#serve();
    });
  }

  /** Gives the waiters what there is, and waits for more. */
  #serve() {
    for (let waiter = this.#waiters[0]; waiter !== undefined; waiter = this.#waiters[0]) {
      try {
        const value = waiter.take();
        if (value === undefined) break;
        waiter.resolve(value);
      } catch (error) {
        waiter.reject(error);
      }
    }
    if (this.#waiters.length === 0 || this.#handle.pointer === null) return;
    if (this.#readiness === null) {
      const readiness = new Readiness(ms.buffer_fd(this.#handle.pointer));
      this.#readiness = readiness;
      // The descriptor is closed with the buffer. An arrow function would hold `this`, and the handle outlives it.
      this.#handle.before = readiness.close.bind(readiness);
    }
    this.#readiness.start(() => {
      turned = performance.now();
      this.#serve();
    });
  }

  /**
   * @template T
   * @param {() => T | null | undefined} take
   * @param {{ timeout?: number, signal?: AbortSignal }} options
   * @returns {Promise<T | null | undefined>}
   */
  async #recv(take, options) {
    options.signal?.throwIfAborted();
    const value = this.#now(take);
    return value === undefined ? this.#wait(take, options) : value;
  }

  /** @param {{ timeout?: number, signal?: AbortSignal }} [options] */
  recv(options = {}) {
    return this.#recv(() => this.#takeMessage(), options);
  }

  tryRecv() {
    return this.#waiters.length > 0 ? undefined : this.#takeMessage();
  }

  /** @param {number | bigint} max @param {{ timeout?: number, signal?: AbortSignal }} [options] */
  async recvBatch(max, options = {}) {
    const most = count("max", max);
    return this.#recv(() => this.#takeBatch(most), options);
  }

  /** @param {{ signal?: AbortSignal }} [options] */
  messages(options = {}) {
    return this.#iterate(() => this.#takeMessage(), options);
  }

  /** @param {number | bigint} max @param {{ signal?: AbortSignal }} [options] */
  batches(max, options = {}) {
    const most = count("max", max);
    return this.#iterate(() => this.#takeBatch(most), options);
  }

  [Symbol.asyncIterator]() {
    return this.messages();
  }

  /**
   * @template T
   * @param {() => T | null | undefined} take
   * @param {{ signal?: AbortSignal }} options
   */
  #iterate(take, options) {
    const { signal } = options;
    let over = false;
    const mine = /** @type {Set<Waiter>} */ (new Set());
    const finish = () => {
      over = true;
      for (const waiter of mine) waiter.resolve(null);
      return { value: undefined, done: /** @type {const} */ (true) };
    };
    /** @param {T | null | undefined} value */
    const result = (value) =>
      value === null || value === undefined ? finish() : { value, done: /** @type {const} */ (false) };
    /** @param {unknown} error @returns {never} */
    const failed = (error) => {
      finish();
      throw error;
    };
    return {
      /** @returns {Promise<{ value: T, done: false } | { value: undefined, done: true }>} */
      next: () => {
        if (over) return Promise.resolve(finish());
        try {
          signal?.throwIfAborted();
          const value = this.#now(take);
          if (value !== undefined) return Promise.resolve(result(value));
          return this.#wait(take, options, mine).then(result, failed);
        } catch (error) {
          finish();
          return Promise.reject(error);
        }
      },
      return: async () => finish(),
      [Symbol.asyncIterator]() {
        return this;
      },
    };
  }

  close() {
    if (this.#handle.pointer !== null) ms.buffer_close(this.#handle.pointer);
  }

  free() {
    for (const worker of this.#workers) worker.free();
    this.#workers.clear();
    this.#fetched = null;
    this.#handle.free();
    for (const waiter of this.#waiters) waiter.resolve(null);
  }

  /** Closes it, and waits until every worker has ended and saved. */
  async end() {
    this.close();
    const joins = [...this.#workers].map((worker) => worker.join());
    const ended = await Promise.allSettled(joins);
    this.free();
    // Other failures come through the buffer.
    for (const one of ended) {
      if (one.status === "rejected" && one.reason.status === Status.ERR_CHECKPOINT) throw one.reason;
    }
  }
}
disposable(Buffer, "dispose", function () {
  this.free();
});
disposable(Buffer, "asyncDispose", function () {
  return this.end();
});

module.exports = { Buffer };
