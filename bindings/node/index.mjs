// One implementation for both module systems: the classes are the same, whoever loads them.
import mongostream from "./lib/index.js";

export const {
  Batch,
  Buffer,
  LogLevel,
  Message,
  MongostreamError,
  Status,
  Worker,
  describeOptions,
  setLogger,
  version,
} = mongostream;
export default mongostream;
