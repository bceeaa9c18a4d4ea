// What goes wrong, as one class of errors.

const { Status } = require("./abi.js");
const { ms } = require("./native.js");

class MongostreamError extends Error {
  /**
   * @param {string} message
   * @param {number} status
   * @param {{ serverCode?: number, retriable?: boolean, worker?: string | null }} [details]
   */
  constructor(message, status, details = {}) {
    super(message);
    this.status = status;
    /** @type {string} */
    this.statusName = ms.status_name(status);
    this.serverCode = details.serverCode ?? 0;
    this.retriable = details.retriable ?? false;
    this.worker = details.worker ?? null;
  }
}
Object.defineProperty(MongostreamError.prototype, "name", {
  value: "MongostreamError",
  configurable: true,
  writable: true,
});

/** The place for an ms_error of the calls of this thread: nothing in JavaScript runs between a call and its look here. */
const place = /** @type {[bigint | null]} */ ([null]);

/**
 * The error that a call has written to `place`.
 *
 * @param {number} [status] how the call ended, if nothing was written
 * @returns {MongostreamError}
 */
function failure(status = Status.ERR_PANIC) {
  const error = place[0];
  place[0] = null;
  if (error === null) {
    return new MongostreamError(`mongostream: ${ms.status_name(status)}`, status);
  }
  try {
    return new MongostreamError(ms.error_message(error), ms.error_status(error), {
      serverCode: ms.error_server_code(error),
      retriable: ms.error_is_retriable(error),
      worker: ms.error_worker(error),
    });
  } finally {
    ms.error_free(error);
  }
}

/** @param {string} message */
const argument = (message) => new MongostreamError(message, Status.ERR_ARGUMENT);

/** @param {string} message */
const state = (message) => new MongostreamError(message, Status.ERR_STATE);

/**
 * Text for C, which ends at a NUL.
 *
 * @param {string} name
 * @param {unknown} value
 * @returns {string}
 */
function text(name, value) {
  if (typeof value !== "string") {
    throw argument(`${name} must be a string, not ${shown(value)}`);
  }
  if (value.includes("\0")) throw argument(`${name} must not hold a NUL character`);
  // A lone surrogate would become another character without a word.
  if (/\p{Surrogate}/u.test(value)) throw argument(`${name} is not well-formed Unicode`);
  return value;
}

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {number | bigint} from 1 on
 */
function count(name, value) {
  const whole = typeof value === "bigint" || (typeof value === "number" && Number.isSafeInteger(value));
  if (!whole || value < 1 || value > 0xffff_ffff_ffff_ffffn) {
    throw argument(`${name} must be a whole number from 1 on, not ${shown(value)}`);
  }
  return value;
}

/**
 * @param {unknown} value in milliseconds; undefined waits for ever
 * @returns {number}
 */
function timeout(value) {
  if (value === undefined) return Infinity;
  if (typeof value !== "number" || !(value >= 0)) {
    throw argument(`timeout must be milliseconds from 0 on, or left out, not ${shown(value)}`);
  }
  return value;
}

/** @param {unknown} value */
function shown(value) {
  if (typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number" || value === null || value === undefined) return String(value);
  return typeof value === "bigint" ? `${value}n` : `a value of type ${typeof value}`;
}

module.exports = { MongostreamError, argument, count, failure, place, shown, state, text, timeout };
