import assert from "node:assert/strict";
import { createRequire } from "node:module";
import path from "node:path";
import { test } from "node:test";
import { Buffer } from "mongostream";
import { database, directory, until, uri } from "./support.mjs";

const { atExit } = createRequire(import.meta.url)("../lib/callbacks.js");
const numbers = (count) => Array.from({ length: count }, (_, n) => ({ n }));
const numberOf = (message) => JSON.parse(message.json).FullDocument.n;

/** Receives `ack` messages and acks them, and one more without; returns the number of that one. */
async function some(db, options, ack) {
  const buffer = new Buffer(100);
  const worker = await buffer.watch(await uri(), db.databaseName, "c", options);
  assert.equal(await worker.waitReady(), true);
  if (ack === 0) await db.collection("c").insertMany(numbers(20));
  for (let count = 0; count < ack; count++) (await buffer.recv()).ack();
  const next = numberOf(await buffer.recv());
  await buffer.end();
  return next;
}

/** A store in memory. */
function memory() {
  const texts = new Map();
  return {
    texts,
    loads: 0,
    saves: 0,
    load(name) {
      this.loads += 1;
      return texts.get(name);
    },
    save(name, text) {
      this.saves += 1;
      texts.set(name, text);
    },
  };
}

test("a restart continues with the first message that was not acked", async (t) => {
  const stores = {
    file: () => ({ checkpoint_file: path.join(directory(), "token") }),
    collection: () => ({ checkpoint_collection: "node_checkpoints.c" }),
    store: () => ({ checkpoint_store: memory() }),
    "store with promises": () => {
      const store = memory();
      const later = () => new Promise((resolve) => setTimeout(resolve, 5));
      return {
        checkpoint_store: {
          load: (name) => later().then(() => store.load(name)),
          save: (name, text) => later().then(() => store.save(name, text)),
        },
      };
    },
  };
  for (const [name, options] of Object.entries(stores)) {
    await t.test(name, async () => {
      const db = await database();
      const same = options();
      assert.equal(await some(db, same, 0), 0);
      assert.equal(await some(db, same, 5), 5);
      assert.equal(await some(db, same, 1), 6);
    });
  }
});

test("what was fetched and not handed out comes again", async () => {
  const db = await database();
  const options = { checkpoint_file: path.join(directory(), "token") };
  const buffer = new Buffer(100);
  const worker = await buffer.watch(await uri(), db.databaseName, "c", options);
  await worker.waitReady();
  await db.collection("c").insertMany(numbers(50));
  await until("all are queued", () => buffer.length === 50);
  for await (const message of buffer) {
    message.ack();
    if (numberOf(message) === 9) break;
  }
  await buffer.end();
  assert.equal(await some(db, options, 30), 40);
});

test("a store is called with the checkpoint's name and its own text", async () => {
  const db = await database();
  const store = memory();
  await some(db, { checkpoint_store: store, checkpoint_name: "ünique" }, 0);
  assert.equal(store.loads, 1);
  assert.ok(store.saves >= 1);
  assert.deepEqual([...store.texts.keys()], ["ünique"]);
  assert.equal(typeof store.texts.get("ünique"), "string");
});

test("what a store throws is the cause of the worker's failure", async (t) => {
  const reason = new Error("no disk");
  const cases = {
    load: { load: () => Promise.reject(reason), save: () => {} },
    save: {
      load: () => null,
      save: () => {
        throw reason;
      },
    },
  };
  for (const [name, checkpoint_store] of Object.entries(cases)) {
    await t.test(name, async () => {
      const buffer = new Buffer(10);
      const db = await database();
      const worker = await buffer.watch(await uri(), db.databaseName, "c", { checkpoint_store });
      const failure = (error) => {
        assert.equal(error.statusName, "MS_ERR_CHECKPOINT");
        assert.equal(error.cause, reason);
        return true;
      };
      await assert.rejects(worker.waitReady(), failure);
      await assert.rejects(buffer.recv(), failure);
      buffer.free();
    });
  }
});

test("a store that says so is tried again", async () => {
  const db = await database();
  const store = memory();
  let refused = 0;
  const checkpoint_store = {
    load: (name) => {
      if (++refused < 3) throw Object.assign(new Error("busy"), { retriable: true });
      return store.load(name);
    },
    save: (name, text) => store.save(name, text),
  };
  assert.equal(await some(db, { checkpoint_store }, 0), 0);
  assert.equal(refused, 3);
});

test("a store that is none, or a start that fails, leaves nothing behind", async (t) => {
  const buffer = new Buffer(10);
  t.after(() => buffer.free());
  await assert.rejects(buffer.watch(await uri(), "a", "b", { checkpoint_store: { load() {} } }), {
    status: -1,
    message: /^checkpoint_store must have the functions load and save: save is none/,
  });
  await assert.rejects(buffer.watch(await uri(), "a", "b", { checkpoint_store: memory(), nonsense: 1 }), {
    status: -1,
  });
  await assert.rejects(buffer.watch("nonsense", "a", "b", { checkpoint_store: memory() }), { status: -1 });
  await until("their threads have ended", () => threads() === 0);
});

test("the thread of a store ends with its worker", async () => {
  const db = await database();
  await some(db, { checkpoint_store: memory() }, 0);
  await until("it has ended", () => threads() === 0);
});

/** How many threads of stores there are. */
function threads() {
  return atExit.size;
}
