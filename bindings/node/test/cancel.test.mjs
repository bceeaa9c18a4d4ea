import assert from "node:assert/strict";
import { test } from "node:test";
import { Buffer } from "mongostream";
import { database, uri } from "./support.mjs";

async function followed(t, options) {
  const buffer = new Buffer(1000);
  const db = await database();
  const worker = await buffer.watch(await uri(), db.databaseName, "c", options);
  t.after(() => buffer.free());
  assert.equal(await worker.waitReady(), true);
  return { buffer, worker, collection: db.collection("c") };
}

/** A signal that is aborted soon, and with what. */
function soon() {
  const controller = new AbortController();
  const reason = new Error("enough");
  setTimeout(() => controller.abort(reason), 20);
  return { signal: controller.signal, reason };
}

/** Awaits a rejection with exactly this reason, within the time in which a program has to end. */
async function rejected(promise, reason) {
  const begin = performance.now();
  await assert.rejects(promise, (error) => error === reason);
  assert.ok(performance.now() - begin < 200);
}

test("a signal ends each call that waits, with its reason", async (t) => {
  const { buffer, worker } = await followed(t);
  const calls = {
    recv: (signal) => buffer.recv({ signal }),
    recvBatch: (signal) => buffer.recvBatch(5, { signal }),
    messages: (signal) => buffer.messages({ signal }).next(),
    batches: (signal) => buffer.batches(5, { signal }).next(),
    join: (signal) => worker.join({ signal }),
  };
  for (const [name, call] of Object.entries(calls)) {
    const { signal, reason } = soon();
    await t.test(name, () => rejected(call(signal), reason));
    // One that is aborted already.
    await t.test(`${name} at once`, () => rejected(call(signal), reason));
  }
});

test("a signal ends the wait for a server that does not answer", async (t) => {
  const buffer = new Buffer(1);
  t.after(() => buffer.free());
  const worker = await buffer.watch("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=60000", "a", "b");
  const { signal, reason } = soon();
  await rejected(worker.waitReady({ signal }), reason);
  assert.equal(await worker.waitReady({ timeout: 20 }), false);
  assert.equal(await worker.join({ timeout: 0 }), false);
  assert.equal(worker.state, "starting");
  worker.stop();
  assert.equal(await worker.waitReady(), false);
  assert.equal(await worker.join(), true);
});

test("a receive that was cancelled takes no message with it", async (t) => {
  const { buffer, collection } = await followed(t);
  const { signal, reason } = soon();
  const next = [buffer.recv({ signal }), buffer.recv()];
  await rejected(next[0], reason);
  assert.equal(await buffer.recv({ timeout: 1 }), undefined);
  await collection.insertMany([{ n: 0 }, { n: 1 }]);
  assert.equal(JSON.parse((await next[1]).json).FullDocument.n, 0);
  assert.equal(JSON.parse((await buffer.recv()).json).FullDocument.n, 1);
});

test("an iteration that was cancelled throws the reason and is over", async (t) => {
  const { buffer, collection } = await followed(t);
  await collection.insertOne({ n: 0 });
  const controller = new AbortController();
  let seen = 0;
  await assert.rejects(
    async () => {
      for await (const message of buffer.messages({ signal: controller.signal })) {
        message.ack();
        seen += 1;
        setTimeout(() => controller.abort(), 10);
      }
    },
    { name: "AbortError" },
  );
  assert.equal(seen, 1);
});

test("to close the buffer ends every wait for messages", async (t) => {
  const { buffer } = await followed(t);
  const waits = [
    buffer.recv(),
    buffer.recvBatch(3),
    buffer
      .messages()
      .next()
      .then(({ done }) => (done ? null : "more")),
  ];
  setTimeout(() => buffer.close(), 20);
  assert.deepEqual(await Promise.all(waits), [null, null, null]);
});

test("to free the buffer ends every wait for messages", async (t) => {
  const { buffer, worker } = await followed(t);
  const iterator = buffer[Symbol.asyncIterator]();
  const waits = [buffer.recv(), buffer.recv({ timeout: 60_000 }), buffer.recvBatch(3)];
  const last = iterator.next();
  setTimeout(() => buffer.free(), 20);
  assert.deepEqual(await Promise.all(waits), [null, null, null]);
  assert.deepEqual(await last, { value: undefined, done: true });
  assert.equal(worker.state, "stopped");
  await assert.rejects(worker.join(), { status: -2 });
});

test("an iteration that is left while its next message is awaited ends that wait alone", async (t) => {
  const { buffer, collection } = await followed(t);
  const iterator = buffer.messages();
  const pending = [iterator.next(), iterator.next()];
  const other = buffer.recv();
  await iterator.return();
  assert.deepEqual(await Promise.all(pending), Array(2).fill({ value: undefined, done: true }));
  await collection.insertOne({ n: 5 });
  assert.equal(JSON.parse((await other).json).FullDocument.n, 5);
});

test("end closes the buffer, joins its workers, and frees it", async (t) => {
  const { buffer, worker, collection } = await followed(t);
  await collection.insertOne({ n: 0 });
  const message = await buffer.recv();
  await buffer.end();
  assert.throws(() => buffer.length, { status: -2, message: "this buffer was freed" });
  assert.equal(worker.state, "stopped");
  // A message outlives them.
  assert.equal(JSON.parse(message.json).FullDocument.n, 0);
  message.ack();
});
