import assert from "node:assert/strict";
import { test } from "node:test";
import { Buffer } from "mongostream";
import { database, program, until, uri } from "./support.mjs";

const collect = async () => {
  for (let round = 0; round < 4; round++) {
    globalThis.gc();
    await new Promise(setImmediate);
  }
};

async function followed(options) {
  const buffer = new Buffer(1000);
  const db = await database();
  const worker = await buffer.watch(await uri(), db.databaseName, "c", options);
  assert.equal(await worker.waitReady(), true);
  return { buffer, worker, collection: db.collection("c") };
}

test("a worker whose handle was dropped goes on", async () => {
  const { buffer, collection } = await followed();
  await collect();
  await collection.insertOne({ n: 0 });
  assert.equal((await buffer.recv()).operation, "insert");
  buffer.free();
});

test("messages outlive their buffer and worker, whatever is collected first", async () => {
  const kept = [];
  const gone = [];
  await (async () => {
    const { buffer, worker, collection } = await followed();
    assert.equal(await buffer.recv({ timeout: 5 }), undefined);
    await collection.insertMany(Array.from({ length: 60 }, (_, n) => ({ n })));
    for await (const message of buffer) {
      if (kept.length % 7 === 0) kept.push(message.clone());
      else kept.push(message);
      if (kept.length === 30) break;
    }
    const batch = await buffer.recvBatch(10);
    kept.push(batch.messages.at(-1));
    gone.push(new WeakRef(buffer), new WeakRef(worker), new WeakRef(batch));
  })();
  await until("they are collected", async () => {
    await collect();
    return gone.every((one) => one.deref() === undefined);
  });
  kept.slice(0, 30).forEach((message, n) => {
    assert.equal(JSON.parse(message.json).FullDocument.n, n);
    message.ack();
  });
  assert.equal(kept[30].operation, "insert");
});

test("a buffer is kept by whoever waits for it", async () => {
  const { wait, collection } = await (async () => {
    const { buffer, collection } = await followed();
    return { wait: buffer.recv(), collection };
  })();
  await collect();
  await collection.insertOne({ n: 1 });
  assert.equal((await wait).operation, "insert");
});

test("a buffer that nobody can reach is closed", async () => {
  const name = (await database()).databaseName;
  const threads = async () => {
    const { readdirSync, readFileSync } = await import("node:fs");
    const tasks = readdirSync("/proc/self/task");
    return tasks.filter((task) => {
      try {
        return readFileSync(`/proc/self/task/${task}/comm`, "utf8").trim() === "mongostream";
      } catch {
        return false;
      }
    }).length;
  };
  await until("those of other tests have ended", async () => {
    await collect();
    return (await threads()) === 0;
  });
  await (async () => {
    const buffer = new Buffer(10);
    const worker = await buffer.watch(await uri(), name, "c", {});
    await worker.waitReady();
    assert.equal(await buffer.recv({ timeout: 5 }), undefined);
    assert.notEqual(await threads(), 0);
  })();
  await until("its worker has ended", async () => {
    await collect();
    return (await threads()) === 0;
  });
});

test("messages that nobody keeps cost bounded memory", async (t) => {
  const text = `
    import { Buffer } from "mongostream";
    const [uri, name, kind] = process.argv.slice(1);
    const buffer = new Buffer(1000);
    const worker = await buffer.watch(uri, name, "c");
    await worker.waitReady();
    console.log("ready");
    let count = 0, begin = 0, most = 0;
    for await (const message of buffer) {
      if (kind === "acked") message.ack(); else message.operation;
      if (++count === 5000) begin = process.memoryUsage.rss();
      if (count % 1000 === 0) most = Math.max(most, process.memoryUsage.rss());
      if (count === 60_000) break;
    }
    console.log(JSON.stringify({ grown: (most - begin) / 1e6 }));
    process.exit();
  `;
  for (const kind of ["acked", "read"]) {
    await t.test(kind, async () => {
      const db = await database();
      const one = program(text, { args: [await uri(), db.databaseName, kind] });
      await one.until("out", "ready");
      const x = "x".repeat(4000);
      for (let n = 0; n < 60; n++) {
        await db.collection("c").insertMany(Array.from({ length: 1000 }, () => ({ x })));
      }
      const { code, out, error } = await one.ended;
      assert.equal(code, 0, error);
      const { grown } = JSON.parse(out.split("\n")[1]);
      // 220 MB of events go by.
      assert.ok(grown < 150, `${grown} MB more`);
      await db.dropDatabase();
    });
  }
});
