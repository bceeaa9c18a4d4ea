// Texts that C gives away.

const { koffi, ms } = require("./native.js");

/**
 * @param {bigint | null} pointer text that is ours to free
 * @returns {string | null}
 */
function takenText(pointer) {
  if (pointer === null) return null;
  try {
    return koffi.decode.string(pointer);
  } finally {
    ms.string_free(pointer);
  }
}

module.exports = { takenText };
