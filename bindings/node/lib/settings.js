// A worker's options: plain values become the text that the library takes.

const { Status } = require("./abi.js");
const { argument, failure, place, shown, text } = require("./errors.js");
const { ms } = require("./native.js");

/**
 * @param {string} name
 * @param {unknown} value
 * @returns {string}
 */
function textOf(name, value) {
  switch (typeof value) {
    case "string":
      return text(`option ${name}`, value);
    case "boolean":
    case "bigint":
      return String(value);
    case "number":
      if (!Number.isSafeInteger(value)) {
        throw argument(
          `option ${name} must be a whole number up to 2**53 - 1 (use a BigInt above), not ${value}`,
        );
      }
      // Not "-0".
      return String(value + 0);
    case "object":
      if (value !== null) return text(`option ${name}`, json(name, value));
  }
  throw argument(`option ${name} cannot be ${shown(value)}`);
}

/**
 * @param {string} name
 * @param {object} value
 * @returns {string}
 */
function json(name, value) {
  /** @type {unknown} */
  let made;
  try {
    made = JSON.stringify(value, (key, part) => {
      // JSON would make null of it.
      if (typeof part === "number" && !Number.isFinite(part)) throw new TypeError(`${key} is ${part}`);
      return part;
    });
  } catch (error) {
    throw argument(`option ${name} cannot be written as JSON: ${/** @type {Error} */ (error).message}`);
  }
  if (typeof made !== "string") throw argument(`option ${name} cannot be written as JSON`);
  return made;
}

/**
 * Calls `use` with a new ms_options, which is freed afterwards.
 *
 * @template T
 * @param {object} options
 * @param {(options: bigint) => T} use
 * @returns {T}
 */
function withOptions(options, use) {
  const native = ms.options_new();
  try {
    for (const [name, value] of Object.entries(options)) {
      if (value === undefined || name === "checkpoint_store") continue;
      const status = ms.options_set(native, text("an option's name", name), textOf(name, value), place);
      if (status !== Status.OK) throw failure(status);
    }
    return use(native);
  } finally {
    ms.options_free(native);
  }
}

module.exports = { textOf, withOptions };
