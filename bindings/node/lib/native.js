// The native library: where it is found, and its functions.

const fs = require("node:fs");
const path = require("node:path");
const koffi = require("koffi");
const abi = require("./abi.js");

/** @typedef {bigint | null} Pointer an address */

// As in the library's name inside: until 1.0 a minor version may change the ABI.
const ABI = abi.version[0] > 0 ? `${abi.version[0]}` : `0.${abi.version[1]}`;
const NAMES = /** @type {Record<string, string[]>} */ ({
  darwin: ["libmongostream.dylib", `libmongostream.${ABI}.dylib`],
  win32: ["mongostream.dll"],
});
const [NAME, VERSIONED = NAME] = NAMES[process.platform] ?? ["libmongostream.so", `libmongostream.so.${ABI}`];
const INSIDE = path.join(__dirname, "../prebuilds", `${process.platform}-${process.arch}`, NAME);

/** @returns {{ library: koffi.LibraryHandle, file: string }} */
function load() {
  const { MONGOSTREAM_LIBRARY: named } = process.env;
  const files = [];
  if (fs.existsSync(INSIDE)) files.push(INSIDE);
  // What somebody has named explicitly is not replaced in silence. The system may have several; where no compiler is
  // meant to use it, it has no name without a version.
  files.push(...(named ? [named] : [VERSIONED, NAME]));
  const reasons = [];
  for (const file of files) {
    try {
      return { library: koffi.load(file), file };
    } catch (error) {
      reasons.push(`  ${file}: ${/** @type {Error} */ (error).message}`);
    }
  }
  throw new Error(
    "mongostream: the native library cannot be loaded. Set the environment variable MONGOSTREAM_LIBRARY " +
      `to the path of ${NAME}.\n${reasons.join("\n")}`,
  );
}

const { library, file } = load();

/**
 * Why a library of this version does not fit; undefined if it does.
 *
 * @param {number} number as ms_version_number counts
 * @param {readonly number[]} made the version that this package was made for
 * @returns {string | undefined}
 */
function misfit(number, made) {
  const parts = [Math.floor(number / 1e6), Math.floor(number / 1e3) % 1e3, number % 1e3];
  const wanted = made[0] * 1e6 + made[1] * 1e3 + made[2];
  const same = parts[0] === made[0] && (made[0] > 0 || parts[1] === made[1]);
  if (same && number >= wanted) return undefined;
  const until = made[0] > 0 ? `${made[0] + 1}.0.0` : `0.${made[1] + 1}.0`;
  return `its version is ${parts.join(".")}, this package needs ${made.join(".")} or later, before ${until}`;
}

const reason = misfit(library.func("uint32_t ms_version_number(void)")(), abi.version);
if (reason !== undefined) throw new Error(`mongostream: ${file} does not fit: ${reason}`);

/**
 * Functions of C that get a callback get its address: types with names would collide if another copy of
 * this package uses the same koffi.
 *
 * @param {string} declaration
 */
const withoutNames = (declaration) => declaration.replace(/\b[A-Z]\w+ \*(\w+)/g, "void *$1");

/** @type {Record<string, (...values: any[]) => any>} Each function by its name without "ms_". */
const ms = {};
for (const declaration of abi.functions) {
  const name = /** @type {RegExpExecArray} */ (/ms_(\w+)\(/.exec(declaration))[1];
  ms[name] = library.func(withoutNames(declaration));
}

/**
 * The type of a callback, such as LogSetCallback.
 *
 * @param {string} name
 * @returns {koffi.TypeObject}
 */
function callbackType(name) {
  for (const declaration of abi.callbacks) {
    const [, returns, called, list] = /** @type {RegExpExecArray} */ (
      /^(.*?)(\w+)\((.*)\)$/.exec(declaration)
    );
    if (called !== name) continue;
    const types = list.split(",").map((parameter) => {
      const type = parameter.trim().replace(/\w+$/, "").trim();
      // Where C wants a result: the address, to be written to.
      return type.startsWith("_Out_") ? "void *" : type;
    });
    return koffi.pointer(koffi.proto(returns.trim(), types));
  }
  throw new Error(`mongostream: ${name} is no callback`);
}

module.exports = { NAME, VERSIONED, callbackType, file, koffi, library, misfit, ms };
