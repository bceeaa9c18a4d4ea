import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";
import {
  Binary,
  BSON,
  BSONRegExp,
  Code,
  Decimal128,
  Double,
  Int32,
  Long,
  MaxKey,
  MinKey,
  ObjectId,
  Timestamp,
  UUID,
} from "mongodb";
import * as imported from "mongostream";
import { database, uri } from "./support.mjs";

const { Buffer, Message, describeOptions, version } = imported;

/** A buffer whose worker is ready, and the collection that it follows. */
async function followed(t, options = {}, buffer = new Buffer(1000)) {
  const db = await database();
  const collection = db.collection("c");
  const worker = await buffer.watch(await uri(), db.databaseName, "c", options);
  t.after(() => buffer.free());
  assert.equal(await worker.waitReady(), true);
  return { buffer, worker, collection, name: db.databaseName };
}

const numbers = (from, to) => Array.from({ length: to - from }, (_, index) => ({ n: from + index }));
const numberOf = (message) => JSON.parse(message.json).FullDocument.n;

test("both module systems have the same classes", () => {
  const required = createRequire(import.meta.url)("mongostream");
  assert.equal(required.Buffer, Buffer);
  assert.equal(imported.default, required);
  assert.deepEqual(
    Object.keys(required).sort(),
    Object.keys(imported)
      .filter((name) => name !== "default" && name !== "module.exports")
      .sort(),
  );
  assert.match(version, /^\d+\.\d+\.\d+$/);
  assert.ok(describeOptions().some((option) => option.name === "checkpoint_file"));
});

test("a message has everything that the header names", async (t) => {
  const { buffer, worker, collection, name } = await followed(t, { name: "mine" });
  const _id = new ObjectId();
  await collection.insertOne({ _id, a: 1 });
  await collection.updateOne({ _id }, { $set: { a: 2, "b.c": 3 } });
  const inserted = await buffer.recv();
  assert.ok(inserted instanceof Message);
  assert.equal(inserted.operation, "insert");
  assert.equal(inserted.namespace, `${name}.c`);
  assert.equal(inserted.documentId, _id.toHexString());
  assert.equal(inserted.worker, "mine");
  assert.deepEqual(inserted.updatedPaths, []);
  assert.equal(JSON.parse(inserted.json).FullDocument.a, 1);
  const event = BSON.deserialize(inserted.bson);
  assert.equal(event.operationType, "insert");
  assert.deepEqual(JSON.parse(inserted.resumeToken), event._id);
  assert.deepEqual(JSON.parse(inserted.position).token, event._id);
  const time = event.clusterTime;
  assert.deepEqual(inserted.clusterTime, { seconds: time.high, increment: time.low });
  const updated = await buffer.recv();
  assert.deepEqual(updated.updatedPaths, ["a", "b.c"]);
  const clone = updated.clone();
  updated.free();
  assert.equal(clone.operation, "update");
  assert.throws(() => updated.json, { status: -2, message: "this message was freed" });
  assert.equal(worker.name, "mine");
  assert.equal(worker.state, "streaming");
  assert.equal(worker.buffer, buffer);
});

test("values of every type arrive as the server has them", async (t) => {
  const { buffer, collection } = await followed(t, { json: "canonical" });
  const document = {
    _id: new ObjectId("0123456789abcdef01234567"),
    double: new Double(1.5),
    notANumber: new Double(Number.NaN),
    string: "text",
    document: { a: new Int32(1) },
    array: [new Int32(1), "two"],
    binary: new Binary(Uint8Array.of(0, 1, 255), 0),
    uuid: new UUID("00112233-4455-6677-8899-aabbccddeeff"),
    bool: true,
    date: new Date(-1),
    nothing: null,
    regex: new BSONRegExp("a/b", "i"),
    code: new Code("return 1"),
    scoped: new Code("return x", { x: new Int32(1) }),
    int: new Int32(-5),
    timestamp: new Timestamp({ t: 4, i: 7 }),
    long: Long.fromString("9007199254740993"),
    decimal: Decimal128.fromString("1.10"),
    least: new MinKey(),
    most: new MaxKey(),
  };
  await collection.insertOne(document, { ignoreUndefined: false });
  const message = await buffer.recv();
  assert.deepEqual(JSON.parse(message.json).FullDocument, {
    _id: { $oid: "0123456789abcdef01234567" },
    double: { $numberDouble: "1.5" },
    notANumber: { $numberDouble: "NaN" },
    string: "text",
    document: { a: { $numberInt: "1" } },
    array: [{ $numberInt: "1" }, "two"],
    binary: { $binary: { base64: "AAH/", subType: "00" } },
    uuid: { $binary: { base64: "ABEiM0RVZneImaq7zN3u/w==", subType: "04" } },
    bool: true,
    date: { $date: { $numberLong: "-1" } },
    nothing: null,
    regex: { $regularExpression: { pattern: "a/b", options: "i" } },
    code: { $code: "return 1" },
    scoped: { $code: "return x", $scope: { x: { $numberInt: "1" } } },
    int: { $numberInt: "-5" },
    timestamp: { $timestamp: { t: 4, i: 7 } },
    long: { $numberLong: "9007199254740993" },
    decimal: { $numberDecimal: "1.10" },
    least: { $minKey: 1 },
    most: { $maxKey: 1 },
  });
  const event = BSON.deserialize(message.bson, { promoteLongs: false });
  assert.equal(event.fullDocument.long.toString(), "9007199254740993");
});

test("odd text arrives unchanged, alone and in lines", async (t) => {
  const { buffer, collection } = await followed(t);
  const texts = [
    "a\u2028b\u2029c",
    "next\u0085line",
    "nul\0inside",
    '\r\n\t"\\/',
    "\u{1f600} ß 漢字",
    "\u0001\u007f\ufeff",
    "",
  ];
  await collection.insertMany(texts.map((text) => ({ text })));
  const received = [];
  for await (const message of buffer) {
    const { json } = message;
    assert.ok(!/[\n\r\0]/.test(json));
    received.push(JSON.parse(json).FullDocument.text);
    if (received.length === texts.length) break;
  }
  assert.deepEqual(received, texts);
  await collection.insertMany(texts.map((text) => ({ text })));
  let lines = "";
  for await (const batch of buffer.batches(100)) {
    assert.ok(globalThis.Buffer.isBuffer(batch.lines));
    lines += batch.lines.toString();
    if (lines.split("\n").length > texts.length) break;
  }
  assert.ok(lines.endsWith("\n"));
  const split = lines.slice(0, -1).split("\n");
  assert.deepEqual(
    split.map((line) => JSON.parse(line).FullDocument.text),
    texts,
  );
});

test("a message of almost 16 MB arrives whole", async (t) => {
  const { buffer, collection } = await followed(t);
  const text = "0123456789abcdef".repeat(1024 * 1024 - 1024);
  await collection.insertOne({ text });
  await collection.insertOne({ small: 1 });
  const message = await buffer.recv();
  assert.ok(message.bson.length > 16_700_000);
  assert.ok(JSON.parse(message.json).FullDocument.text === text);
  assert.equal(JSON.parse((await buffer.recv()).json).FullDocument.small, 1);
});

test("what an iteration has not handed out goes to whoever receives next, in order", async (t) => {
  const { buffer, collection } = await followed(t);
  await collection.insertMany(numbers(0, 100));
  let next = 0;
  const expect = (message) => assert.equal(numberOf(message), next++);
  for await (const message of buffer) {
    expect(message);
    if (next === 10) break;
  }
  for await (const message of buffer.messages()) {
    expect(message);
    if (next === 20) break;
  }
  expect(await buffer.recv());
  expect(await buffer.recv({ timeout: 0 }));
  expect(buffer.tryRecv());
  const part = await buffer.recvBatch(3);
  assert.ok(part.length <= 3);
  assert.equal(part.lines.toString().split("\n").length - 1, part.length);
  assert.deepEqual(JSON.parse(part.lines.toString().split("\n")[0]).FullDocument.n, next);
  part.messages.forEach(expect);
  part.ack();
  // The messages after a part live on when it is freed.
  part.free();
  for await (const batch of buffer.batches(7)) {
    for (const message of batch) expect(message);
    if (next === 100) break;
  }
  assert.equal(await buffer.recv({ timeout: 0 }), undefined);
  assert.equal(buffer.length, 0);
});

test("the length counts what was fetched and not handed out", async (t) => {
  const { buffer, collection } = await followed(t);
  await collection.insertMany(numbers(0, 50));
  assert.equal(numberOf(await buffer.recv()), 0);
  const deadline = performance.now() + 20_000;
  while (buffer.length < 49 && performance.now() < deadline) await new Promise(setImmediate);
  assert.equal(buffer.length, 49);
});

test("receives that wait at once are served in their order", async (t) => {
  const { buffer, collection } = await followed(t);
  const waits = [buffer.recv(), buffer.recv({ timeout: 60_000 }), buffer.recvBatch(1), buffer.recv()];
  assert.equal(buffer.tryRecv(), undefined);
  await collection.insertMany(numbers(0, 4));
  const [a, b, c, d] = await Promise.all(waits);
  assert.deepEqual([a, b, ...c, d].map(numberOf), [0, 1, 2, 3]);
});

test("who comes later does not overtake who waits", async (t) => {
  const { buffer, collection } = await followed(t);
  const other = new Buffer(1);
  t.after(() => other.free());
  await collection.insertOne({ n: -1 });
  await buffer.recv();
  const first = buffer.recv();
  const insert = collection.insertMany(numbers(0, 2));
  await new Promise(setImmediate);
  // In one phase of the event loop: both messages arrive, the loop seems to have turned, and the second one comes.
  setImmediate(() => {
    const deadline = performance.now() + 20_000;
    while (buffer.length < 2 && performance.now() < deadline);
  });
  const turns = other.recv({ timeout: 1 });
  const second = await new Promise((resolve) => {
    setImmediate(() => {
      assert.equal(buffer.length, 2);
      resolve({ message: buffer.recv() });
    });
  });
  assert.deepEqual([await first, await second.message].map(numberOf), [0, 1]);
  await Promise.all([insert, turns]);
});

test("a message that is freed leaves the others as they are", async (t) => {
  const { buffer, collection } = await followed(t);
  await collection.insertMany(numbers(0, 3));
  const deadline = performance.now() + 20_000;
  while (buffer.length < 3 && performance.now() < deadline) await new Promise(setImmediate);
  const messages = [await buffer.recv(), await buffer.recv()];
  messages[0].free();
  messages[0].free();
  assert.equal(numberOf(messages[1]), 1);
  messages[1].free();
  const last = await buffer.recv();
  assert.equal(numberOf(last), 2);
  last.ack();
});

test("a part of what was fetched is acked alone", async (t) => {
  const { buffer, worker, collection } = await followed(t);
  await collection.insertMany(numbers(0, 16));
  const deadline = performance.now() + 20_000;
  while (buffer.length < 16 && performance.now() < deadline) await new Promise(setImmediate);
  (await buffer.recv()).ack();
  const part = await buffer.recvBatch(3);
  part.ack();
  assert.equal(worker.resumeToken, part.messages[2].resumeToken);
  const rest = await buffer.recvBatch(100);
  assert.equal(rest.length, 12);
  rest.ack();
  assert.equal(worker.resumeToken, rest.messages[11].resumeToken);
});

test("a receive without messages is over in its time", async (t) => {
  const { buffer } = await followed(t);
  const begin = performance.now();
  assert.equal(await buffer.recv({ timeout: 30 }), undefined);
  assert.ok(performance.now() - begin >= 25);
  assert.equal(await buffer.recvBatch(5, { timeout: 0 }), undefined);
  assert.equal(buffer.tryRecv(), undefined);
});

test("batches hold up to their maximum, and ack as a whole", async (t) => {
  const { buffer, worker, collection } = await followed(t);
  await collection.insertMany(numbers(0, 40));
  const sizes = [];
  let last;
  for await (const batch of buffer.batches(16n)) {
    sizes.push(batch.length);
    last = batch.messages.at(-1);
    batch.ack();
    if (sizes.reduce((sum, size) => sum + size) === 40) break;
  }
  assert.ok(sizes.every((size) => size <= 16));
  assert.equal(worker.resumeToken, last.resumeToken);
});

test("acks move the position of the worker over no hole", async (t) => {
  const { buffer, worker, collection } = await followed(t);
  await collection.insertMany(numbers(0, 3));
  const [a, b, c] = [await buffer.recv(), await buffer.recv(), await buffer.recv()];
  const begin = worker.resumeToken;
  assert.notEqual(begin, null);
  b.ack();
  assert.equal(worker.resumeToken, begin);
  a.ack();
  a.ack();
  assert.equal(worker.resumeToken, b.resumeToken);
  c.ack();
  assert.equal(worker.resumeToken, c.resumeToken);
});

test("a closed buffer gives what is queued and then ends", async (t) => {
  const { buffer, worker, collection } = await followed(t);
  await collection.insertMany(numbers(0, 30));
  assert.equal(numberOf(await buffer.recv()), 0);
  const deadline = performance.now() + 20_000;
  while (buffer.length < 29 && performance.now() < deadline) await new Promise(setImmediate);
  buffer.close();
  buffer.close();
  let count = 1;
  for await (const message of buffer) {
    assert.equal(numberOf(message), count);
    count += 1;
  }
  assert.equal(count, 30);
  assert.equal(await buffer.recv(), null);
  assert.equal(await buffer.recvBatch(2, { timeout: 5 }), null);
  assert.equal(buffer.tryRecv(), null);
  assert.equal(await worker.join(), true);
  assert.equal(worker.state, "stopped");
});

test("two buffers have their own messages", async (t) => {
  const one = await followed(t);
  const two = await followed(t);
  await Promise.all([
    one.collection.insertMany(numbers(0, 50)),
    two.collection.insertMany(numbers(1000, 1050)),
  ]);
  const read = async ({ buffer }) => {
    const seen = [];
    for await (const message of buffer) if (seen.push(numberOf(message)) === 50) break;
    return seen;
  };
  const [first, second] = await Promise.all([read(one), read(two)]);
  assert.deepEqual(
    first,
    numbers(0, 50).map(({ n }) => n),
  );
  assert.deepEqual(
    second,
    numbers(1000, 1050).map(({ n }) => n),
  );
});

test("a buffer of one message and few bytes loses nothing", async (t) => {
  const { buffer, collection } = await followed(t, {}, new Buffer(1, { maxBytes: 10n }));
  await collection.insertMany(numbers(0, 20));
  for (let n = 0; n < 20; n++) assert.equal(numberOf(await buffer.recv()), n);
});

test("options take plain values", async (t) => {
  const { buffer, collection } = await followed(t, {
    operations: ["insert", "delete"],
    pipeline: [{ $match: { "fullDocument.n": { $gte: 2 } } }],
    batch_size: 10,
    await_ms: 500n,
    retry_ms: -1,
    updated_paths: false,
    name: undefined,
  });
  await collection.insertMany(numbers(0, 4));
  assert.equal(numberOf(await buffer.recv()), 2);
  assert.equal(numberOf(await buffer.recv()), 3);
});

test("a database, and a deployment, can be followed", async (t) => {
  const buffer = new Buffer(100);
  t.after(() => buffer.free());
  const db = await database();
  const whole = await buffer.watch(await uri(), null, null, { operations: "insert", name: "all" });
  const part = await buffer.watch(await uri(), db.databaseName);
  await Promise.all([whole.waitReady(), part.waitReady()]);
  assert.equal(part.name, db.databaseName);
  await db.collection("x").insertOne({ a: 1 });
  const seen = new Set();
  for await (const message of buffer) {
    if (message.namespace === `${db.databaseName}.x`) seen.add(message.worker);
    if (seen.size === 2) break;
  }
  assert.deepEqual([...seen].sort(), ["all", db.databaseName].sort());
});

test("the figures tell of the worker", async (t) => {
  const { buffer, worker, collection } = await followed(t);
  await collection.insertOne({ n: 0 });
  await buffer.recv();
  const stats = buffer.stats();
  assert.ok(JSON.stringify(stats).includes(worker.name));
  assert.equal(typeof stats, "object");
  const metrics = buffer.metrics();
  assert.ok(metrics.trimEnd().endsWith("# EOF"));
  assert.ok(metrics.includes(worker.name));
});

test("the event loop turns while messages come faster than they are used", async (t) => {
  const { buffer, collection } = await followed(t, {}, new Buffer(5000));
  await collection.insertMany(numbers(0, 2000));
  const deadline = performance.now() + 20_000;
  while (buffer.length < 2000 && performance.now() < deadline) await new Promise(setImmediate);
  let ticks = 0;
  const timer = setInterval(() => ticks++, 1);
  let longest = 0;
  let before = ticks;
  let since = performance.now();
  let count = 0;
  for await (const message of buffer) {
    message.ack();
    const until = performance.now() + 0.1;
    while (performance.now() < until);
    if (ticks !== before) {
      before = ticks;
      since = performance.now();
    }
    longest = Math.max(longest, performance.now() - since);
    if (++count === 2000) break;
  }
  clearInterval(timer);
  assert.ok(longest < 100, `a timer waited for ${longest} ms`);
  assert.ok(ticks > 5);
});
