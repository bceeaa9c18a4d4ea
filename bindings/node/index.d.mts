export * from "./index.js";

import * as mongostream from "./index.js";
export default mongostream;
