// mongostream from Node, in batches as JSON lines. Arguments: URI, second, events.
import { Buffer } from "../../../bindings/node/index.mjs";

const [, , uri, second, count] = process.argv;
const wanted = Number(count);
const cpu = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

const buffer = new Buffer(4096);
const began = performance.now();
const before = cpu();
await buffer.watch(uri, "bench", "orders", { start_at_time: second });
let events = 0;
let bytes = 0;
for await (const batch of buffer.batches(1000)) {
  bytes += batch.lines.length;
  events += batch.length;
  batch.ack();
  batch.free();
  if (events >= wanted) break;
}
console.log(events, bytes, (performance.now() - began) / 1000, cpu() - before);
process.stdin.once("close", () => process.exit()).resume();
