// MongoDB change streams as a plain queue of JSON messages; index.d.ts documents every item.

const { LogLevel, Status } = require("./abi.js");
const { Buffer } = require("./buffer.js");
const { MongostreamError } = require("./errors.js");
const { setLogger } = require("./log.js");
const { Batch, Message } = require("./message.js");
const { ms } = require("./native.js");
const { takenText } = require("./texts.js");
const { Worker } = require("./worker.js");

module.exports = {
  Batch,
  Buffer,
  LogLevel,
  Message,
  MongostreamError,
  Status,
  Worker,
  describeOptions: () => JSON.parse(/** @type {string} */ (takenText(ms.options_describe()))),
  setLogger,
  version: /** @type {string} */ (ms.version()),
};
