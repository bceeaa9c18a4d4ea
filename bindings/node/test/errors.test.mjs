import assert from "node:assert/strict";
import { symlinkSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import { Batch, Buffer, Message, MongostreamError, Status, Worker } from "mongostream";
import { database, directory, program, uri } from "./support.mjs";

const { NAME, VERSIONED, file, misfit } = createRequire(import.meta.url)("../lib/native.js");

function buffer(t, ...values) {
  const made = new Buffer(...(values.length ? values : [100]));
  t.after(() => made.free());
  return made;
}

const wrong = { name: "MongostreamError", status: Status.ERR_ARGUMENT, statusName: "MS_ERR_ARGUMENT" };

test("a capacity that is no whole number from 1 on is refused", () => {
  for (const value of [
    0,
    -1,
    1.5,
    Number.NaN,
    Number.POSITIVE_INFINITY,
    2 ** 60,
    0n,
    -1n,
    1n << 64n,
    "5",
    null,
    undefined,
  ]) {
    assert.throws(() => new Buffer(value), {
      ...wrong,
      message: /^capacity must be a whole number from 1 on, not /,
    });
    if (value === undefined) continue;
    assert.throws(() => new Buffer(1, { maxBytes: value }), { ...wrong, message: /^maxBytes must be / });
  }
});

test("a maximum or a time that makes no sense is refused", async (t) => {
  const one = buffer(t);
  for (const value of [0, -1, 0.5, Number.NaN, "1", undefined]) {
    await assert.rejects(one.recvBatch(value), { ...wrong, message: /^max must be / });
    assert.throws(() => one.batches(value), { ...wrong, message: /^max must be / });
  }
  for (const timeout of [-1, Number.NaN, "1", null, 5n]) {
    await assert.rejects(one.recv({ timeout }), { ...wrong, message: /^timeout must be / });
  }
});

test("a URI that is none is refused at once", async (t) => {
  await assert.rejects(buffer(t).watch("http://nonsense"), (error) => {
    assert.ok(error instanceof MongostreamError && error instanceof Error);
    assert.equal(error.status, Status.ERR_ARGUMENT);
    assert.equal(error.statusName, "MS_ERR_ARGUMENT");
    assert.equal(error.serverCode, 0);
    assert.equal(error.retriable, false);
    assert.equal(error.worker, null);
    assert.ok(error.stack.includes("errors.test.mjs") || error.stack.includes("watch"));
    return true;
  });
});

test("text that C would cut short or change is refused", async (t) => {
  const one = buffer(t);
  const server = await uri();
  for (const [call, message] of [
    [() => one.watch(undefined), /^uri must be a string, not undefined/],
    [() => one.watch(server, 5), /^database must be a string, not 5/],
    [() => one.watch(server, "shop\0x"), /^database must not hold a NUL/],
    [() => one.watch(server, "shop", "a\ud800"), /^collection is not well-formed Unicode/],
    [() => one.watch(server, "shop", "a", { name: "x\0" }), /^option name must not hold a NUL/],
    [() => one.watch(server, "shop", "a", null), /^options must be an object/],
  ]) {
    await assert.rejects(call, { ...wrong, message });
  }
});

test("an option that the library does not take is refused with what it takes", async (t) => {
  const one = buffer(t);
  const server = await uri();
  const cases = [
    [{ nonsense: 1 }, /nonsense/],
    [{ full_document: "never" }, /updateLookup/],
    [{ batch_size: 0 }, /batch_size/],
    [{ batch_size: -5 }, /batch_size/],
    [{ batch_size: 1.5 }, /^option batch_size must be a whole number/],
    [{ batch_size: Number.NaN }, /^option batch_size must be a whole number/],
    [{ await_ms: Number.POSITIVE_INFINITY }, /^option await_ms must be a whole number/],
    [{ retry_ms: 2 ** 53 }, /^option retry_ms must be a whole number/],
    [{ retry_ms: 1n << 63n }, /retry_ms/],
    [{ name: null }, /^option name cannot be null/],
    [{ name: () => 1 }, /^option name cannot be a value of type function/],
    [{ pipeline: [{ $match: { a: Number.NaN } }] }, /^option pipeline cannot be written as JSON: a is NaN/],
    [{ pipeline: [{ $match: { a: 5n } }] }, /^option pipeline cannot be written as JSON/],
    [{ snapshot: "always", start_at_time: "5" }, /start_at_time/],
  ];
  for (const [options, message] of cases) {
    await t.test(String(message), () =>
      assert.rejects(one.watch(server, "shop", "orders", options), { ...wrong, message }),
    );
  }
});

test("a closed buffer takes no worker, a freed one nothing", async (t) => {
  const one = buffer(t);
  one.close();
  await assert.rejects(one.watch(await uri(), "a", "b"), { status: Status.ERR_STATE });
  one.free();
  one.free();
  one.close();
  const freed = { status: Status.ERR_STATE, message: "this buffer was freed" };
  await assert.rejects(one.watch(await uri(), "a", "b"), freed);
  await assert.rejects(one.recv(), freed);
  await assert.rejects(one.recv({ timeout: 5 }), freed);
  await assert.rejects(one.messages().next(), freed);
  assert.throws(() => one.tryRecv(), freed);
  assert.throws(() => one.length, freed);
  assert.throws(() => one.stats(), freed);
  assert.throws(() => one.metrics(), freed);
});

test("a server that cannot be reached fails the worker, and the buffer says so once", async (t) => {
  const one = buffer(t);
  const worker = await one.watch(
    "mongodb://user:secret@127.0.0.1:1/?serverSelectionTimeoutMS=100",
    "a",
    "b",
    {
      name: "lost",
    },
  );
  const failure = (error) => {
    assert.equal(error.statusName, "MS_ERR_CONNECT");
    assert.equal(error.status, Status.ERR_CONNECT);
    assert.equal(error.retriable, true);
    assert.equal(error.worker, "lost");
    assert.ok(!error.message.includes("secret"));
    return true;
  };
  await assert.rejects(worker.waitReady(), failure);
  await assert.rejects(async () => {
    for await (const message of one) message.ack();
  }, failure);
  assert.equal(await one.recv(), null);
  assert.equal(worker.state, "failed");
  await assert.rejects(worker.join(), failure);
});

test("a failure comes after the messages before it, and the others go on", async (t) => {
  const one = buffer(t);
  const [bad, good] = [await database(), await database()];
  await bad.createCollection("c");
  const failing = await one.watch(await uri(), bad.databaseName, "c", { on_invalidate: "stop" });
  const other = await one.watch(await uri(), good.databaseName, "c");
  await Promise.all([failing.waitReady(), other.waitReady()]);
  await bad.collection("c").insertMany([{ n: 0 }, { n: 1 }]);
  await bad.collection("c").drop();
  const seen = [];
  await assert.rejects(
    async () => {
      for await (const message of one) seen.push(message.operation);
    },
    { statusName: "MS_ERR_INVALIDATED", worker: failing.name },
  );
  assert.deepEqual(seen, ["insert", "insert", "drop", "invalidate"]);
  await good.collection("c").insertOne({ n: 2 });
  assert.equal((await one.recv()).worker, other.name);
});

test("an error of the server has its code", async (t) => {
  const one = buffer(t);
  const worker = await one.watch(await uri(), "a", "b", { pipeline: [{ $nonsense: 1 }] });
  await assert.rejects(worker.waitReady(), (error) => {
    assert.equal(error.status, Status.ERR_SERVER);
    assert.equal(error.serverCode, 40324);
    assert.equal(error.retriable, false);
    return true;
  });
});

test("a checkpoint in use is refused until its worker is joined", async (t) => {
  const one = buffer(t);
  const db = await database();
  const options = { checkpoint_file: path.join(directory(), "token") };
  const first = await one.watch(await uri(), db.databaseName, "c", options);
  await assert.rejects(one.watch(await uri(), db.databaseName, "c", options), {
    statusName: "MS_ERR_IN_USE",
    retriable: true,
  });
  first.stop();
  assert.equal(await first.join(), true);
  const { resumeToken } = first;
  assert.equal(await first.join(), true);
  assert.equal(await first.waitReady(), false);
  assert.equal(first.state, "stopped");
  assert.equal(first.resumeToken, resumeToken);
  await one.watch(await uri(), db.databaseName, "c", options);
});

test("a worker that has failed can be started again with its checkpoint", async (t) => {
  const one = buffer(t);
  const db = await database();
  const options = { checkpoint_file: path.join(directory(), "token"), on_invalidate: "stop" };
  for (let round = 0; round < 3; round++) {
    const worker = await one.watch(await uri(), db.databaseName, "c", options);
    await worker.waitReady();
    await db.collection("c").insertOne({ round });
    await db.collection("c").drop();
    await assert.rejects(
      async () => {
        for await (const message of one) message.ack();
      },
      { statusName: "MS_ERR_INVALIDATED" },
    );
    await assert.rejects(worker.join(), { statusName: "MS_ERR_INVALIDATED" });
    assert.equal(worker.state, "failed");
  }
});

test("only the library makes its objects", () => {
  for (const type of [Message, Batch, Worker]) {
    assert.throws(() => new type({}, 0, 1), wrong);
  }
});

test("a library of another version is refused", () => {
  assert.equal(misfit(1_000, [0, 1, 0]), undefined);
  assert.equal(misfit(1_007, [0, 1, 0]), undefined);
  assert.match(
    misfit(2_000, [0, 1, 0]),
    /its version is 0.2.0, this package needs 0.1.0 or later, before 0.2.0/,
  );
  assert.match(misfit(999, [0, 1, 0]), /its version is 0.0.999/);
  assert.match(misfit(1_002, [0, 1, 3]), /its version is 0.1.2/);
  assert.equal(misfit(1_005_000, [1, 2, 3]), undefined);
  assert.match(misfit(1_002_002, [1, 2, 3]), /before 2.0.0/);
  assert.match(misfit(2_000_000, [1, 2, 3]), /its version is 2.0.0/);
});

test("of the system's libraries the one whose name has the version goes first", async () => {
  const folder = directory();
  for (const name of [NAME, VERSIONED]) {
    symlinkSync(path.resolve(file), path.join(folder, name));
    const env = { MONGOSTREAM_LIBRARY: "", LD_LIBRARY_PATH: folder };
    const { out, error } = await program('console.log(require("./lib/native.js").file)', {
      flags: ["--input-type=commonjs"],
      env,
    }).ended;
    assert.equal(out, `${name}\n`, error);
  }
});

test("a library that is not there is named", async () => {
  const one = program('await import("mongostream");', { env: { MONGOSTREAM_LIBRARY: "/nowhere/lib.so" } });
  const { code, error } = await one.ended;
  assert.equal(code, 1);
  assert.match(error, /the native library cannot be loaded/);
  assert.match(error, /\/nowhere\/lib\.so/);
});
