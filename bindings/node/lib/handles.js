// Native objects: each is freed once, by hand, by the garbage collector, or when its thread ends.

const { isMainThread } = require("node:worker_threads");
const { Status } = require("./abi.js");
const { MongostreamError } = require("./errors.js");
const { ms } = require("./native.js");

/** The handles of a thread of worker_threads: the process, and with it the native objects, live on when it ends. */
const live = /** @type {Set<Handle>} */ (new Set());

class Handle {
  /**
   * @param {bigint} pointer
   * @param {"buffer" | "worker" | "batch" | "message"} kind
   */
  constructor(pointer, kind) {
    /** @type {bigint | null} */
    this.pointer = pointer;
    this.kind = kind;
    /** @type {(() => void) | null} to be done before it is freed */
    this.before = null;
    if (!isMainThread) live.add(this);
  }

  /** @returns {bigint} */
  get() {
    if (this.pointer === null) {
      throw new MongostreamError(`this ${this.kind} was freed`, Status.ERR_STATE);
    }
    return this.pointer;
  }

  free() {
    const { pointer } = this;
    if (pointer === null) return;
    this.pointer = null;
    live.delete(this);
    this.before?.();
    this.before = null;
    ms[`${this.kind}_free`](pointer);
  }
}

const collected = new FinalizationRegistry((/** @type {Handle} */ handle) => handle.free());

/**
 * The handle of an object, freed at the latest when nobody can reach the object any more.
 *
 * @param {object} owner
 * @param {bigint} pointer
 * @param {Handle["kind"]} kind
 */
function own(owner, pointer, kind) {
  const handle = new Handle(pointer, kind);
  collected.register(owner, handle);
  return handle;
}

// Before other listeners, one of which may throw. For the main thread see exit.js.
if (!isMainThread) {
  process.prependListener("exit", () => {
    for (const handle of live) handle.free();
  });
}

/**
 * Gives a class Symbol.dispose or Symbol.asyncDispose, where they exist.
 *
 * @param {{ prototype: any }} type
 * @param {"dispose" | "asyncDispose"} name
 * @param {(this: any) => unknown} body
 */
function disposable(type, name, body) {
  const symbol = /** @type {any} */ (Symbol)[name];
  if (symbol === undefined) return;
  Object.defineProperty(type.prototype, symbol, { value: body, configurable: true, writable: true });
}

module.exports = { Handle, disposable, own };
