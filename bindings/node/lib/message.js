// What is received: messages, alone and in batches.

const { Status } = require("./abi.js");
const { MongostreamError } = require("./errors.js");
const { disposable, own } = require("./handles.js");
const { koffi, library, ms } = require("./native.js");

/** @typedef {import("./handles.js").Handle} Handle */

/** Without the length: a text has no NUL inside, so koffi makes the string at once. */
const messageJson = library.func("const char *ms_message_json(void *message, void *length)");
const messagePaths = library.func("const char *ms_message_updated_paths(void *message, void *length)");

/** Where a call writes a length or a number. */
const first = /** @type {[any]} */ ([0]);
const second = /** @type {[any]} */ ([0]);

/**
 * Borrowed bytes, for use at once.
 *
 * @param {bigint} pointer
 * @param {number | bigint} length
 */
const view = (pointer, length) => Buffer.from(koffi.view(pointer, Number(length)));

/** A native batch that several messages share. */
class Holder {
  /** @param {bigint} pointer @param {number} length how many messages */
  constructor(pointer, length) {
    this.handle = own(this, pointer, "batch");
    this.length = length;
    /** How many messages nobody has freed by hand. */
    this.left = length;
    /** @type {Buffer | null} every message's JSON; memory of the native batch */
    this.text = null;
    /** @type {number[]} where each line begins, and the end */
    this.starts = [];
    /** @type {Buffer | null} as large as the events: the garbage collector counts it, and so knows when to look */
    this.weight = null;
  }

  lines() {
    const pointer = this.handle.get();
    if (this.text !== null) return this.text;
    const address = ms.batch_json_lines(pointer, first);
    const text = view(address, first[0]);
    const starts = [0];
    for (let at = text.indexOf(10); at >= 0; at = text.indexOf(10, at + 1)) starts.push(at + 1);
    this.starts = starts;
    this.text = text;
    return text;
  }

  /** @param {number} index */
  json(index) {
    const text = this.lines();
    return text.toString("utf8", this.starts[index], this.starts[index + 1] - 1);
  }

  /** @param {number} index @returns {bigint} */
  message(index) {
    return ms.batch_get(this.handle.get(), index);
  }

  free() {
    this.text = null;
    this.weight = null;
    this.handle.free();
  }
}

/** A message of its own. */
class Single {
  /** @param {bigint} pointer */
  constructor(pointer) {
    this.handle = own(this, pointer, "message");
    this.left = 1;
  }

  json() {
    return messageJson(this.handle.get(), null);
  }

  message() {
    return this.handle.get();
  }

  free() {
    this.handle.free();
  }
}

class Message {
  /** @type {Holder | Single | null} */
  #holder;
  #index;
  /** Whether to free it counts for its batch: it was handed out alone. */
  #counts;
  /** @type {bigint | null} borrowed from the holder */
  #pointer = null;

  /** @param {Holder | Single} holder @param {number} index @param {boolean} counts */
  constructor(holder, index, counts) {
    if (!(holder instanceof Holder || holder instanceof Single)) {
      throw new MongostreamError("messages come from a Buffer", Status.ERR_ARGUMENT);
    }
    this.#holder = holder;
    this.#index = index;
    this.#counts = counts;
  }

  #held() {
    if (this.#holder === null) throw new MongostreamError("this message was freed", Status.ERR_STATE);
    return this.#holder;
  }

  #get() {
    const holder = this.#held();
    // Asked each time: its batch may have been freed.
    if (holder.handle.pointer === null || this.#pointer === null) {
      this.#pointer = holder.message(this.#index);
    }
    return this.#pointer;
  }

  /** @returns {string} */
  get json() {
    return this.#held().json(this.#index);
  }

  get bson() {
    const bytes = ms.message_bson(this.#get(), first);
    return Buffer.from(view(bytes, first[0]));
  }

  /** @returns {string} */
  get operation() {
    return ms.message_operation(this.#get());
  }

  /** @returns {string} */
  get namespace() {
    return ms.message_namespace(this.#get());
  }

  /** @returns {string} */
  get documentId() {
    return ms.message_document_id(this.#get());
  }

  get clusterTime() {
    if (!ms.message_cluster_time(this.#get(), first, second)) return null;
    return { seconds: /** @type {number} */ (first[0]), increment: /** @type {number} */ (second[0]) };
  }

  /** @returns {string[]} */
  get updatedPaths() {
    return JSON.parse(messagePaths(this.#get(), null));
  }

  /** @returns {string | null} */
  get resumeToken() {
    return ms.message_resume_token(this.#get());
  }

  /** @returns {string | null} */
  get position() {
    return ms.message_position(this.#get());
  }

  /** @returns {string} */
  get worker() {
    return ms.message_worker(this.#get());
  }

  ack() {
    ms.message_ack(this.#get());
  }

  clone() {
    return new Message(new Single(ms.message_clone(this.#get())), 0, true);
  }

  free() {
    const holder = this.#holder;
    if (holder === null) return;
    this.#holder = null;
    this.#pointer = null;
    if (this.#counts) {
      holder.left -= 1;
      if (holder.left === 0) holder.free();
    }
  }

  [Symbol.for("nodejs.util.inspect.custom")]() {
    const held = this.#holder !== null && this.#holder.handle.pointer !== null;
    return held ? `Message { ${this.operation} ${this.namespace} ${this.documentId} }` : "Message { freed }";
  }
}
disposable(Message, "dispose", function () {
  this.free();
});

class Batch {
  #holder;
  #begin;
  #end;
  /** Whether somebody else has some of the native batch. */
  #shared;
  #freed = false;

  /** @param {Holder} holder @param {number} begin @param {number} end its part of the native batch */
  constructor(holder, begin, end) {
    if (!(holder instanceof Holder)) {
      throw new MongostreamError("batches come from a Buffer", Status.ERR_ARGUMENT);
    }
    this.#holder = holder;
    this.#begin = begin;
    this.#end = end;
    this.#shared = begin > 0 || end < holder.length;
  }

  #held() {
    if (this.#freed) throw new MongostreamError("this batch was freed", Status.ERR_STATE);
    return this.#holder;
  }

  get length() {
    this.#held().handle.get();
    return this.#end - this.#begin;
  }

  get messages() {
    const holder = this.#held();
    const messages = [];
    for (let index = this.#begin; index < this.#end; index++) {
      messages.push(new Message(holder, index, false));
    }
    return messages;
  }

  [Symbol.iterator]() {
    return this.messages[Symbol.iterator]();
  }

  get lines() {
    const holder = this.#held();
    const text = holder.lines();
    // A copy: to transfer it to another thread, or to keep it, needs memory of its own.
    return Buffer.from(text.subarray(holder.starts[this.#begin], holder.starts[this.#end]));
  }

  ack() {
    const holder = this.#held();
    if (!this.#shared) {
      ms.batch_ack(holder.handle.get());
      return;
    }
    for (let index = this.#begin; index < this.#end; index++) ms.message_ack(holder.message(index));
  }

  free() {
    if (this.#freed) return;
    this.#freed = true;
    if (!this.#shared) this.#holder.free();
  }
}
disposable(Batch, "dispose", function () {
  this.free();
});

module.exports = { Batch, Holder, Message, first, messageBytes };

/** How many bytes of BSON a message has. @param {bigint} pointer */
function messageBytes(pointer) {
  ms.message_bson(pointer, first);
  return Number(first[0]);
}
