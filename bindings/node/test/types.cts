// Not run: the same for CommonJS.
import mongostream = require("mongostream");

const buffer: mongostream.Buffer = new mongostream.Buffer(1);
const state: mongostream.WorkerState | undefined = undefined;
export = [buffer, state];
