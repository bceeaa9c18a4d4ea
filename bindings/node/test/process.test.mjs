import assert from "node:assert/strict";
import { test } from "node:test";
import { ground } from "./ground.mjs";
import { connected, database, program, quick, uri } from "./support.mjs";

/** Starts to follow a collection of its own: `buffer`, `worker`, and `name`. */
const BEGIN = `
  import { readdirSync, readFileSync } from "node:fs";
  import { Buffer, setLogger } from "mongostream";
  import { Worker as Thread, isMainThread, parentPort, workerData } from "node:worker_threads";
  const [uri, name] = process.argv.slice(1);
  const buffer = new Buffer(100);
  const worker = await buffer.watch(uri, name, "c");
  await worker.waitReady();
  /** Says that a wait is under way. */
  const say = (word) => setImmediate(() => setImmediate(() => console.log(word)));
`;

async function begin(text, server) {
  const db = await database();
  const one = program(BEGIN + text, { args: [server ?? (await uri()), db.databaseName] });
  return { ...one, one, db };
}

test("a program that waits for nothing ends by itself", async () => {
  const { ended } = await begin("console.log(worker.state, await buffer.recv({ timeout: 5 }));");
  const { code, out, error } = await ended;
  assert.deepEqual([code, out], [0, "streaming undefined\n"], error);
});

test("a program that waits for a message lives until it comes, or the buffer is closed", async (t) => {
  await t.test("a receive", async () => {
    const { one, db } = await begin('say("waits"); console.log((await buffer.recv()).operation);');
    await one.until("out", "waits");
    await db.collection("c").insertOne({});
    assert.equal((await one.ended).out, "waits\ninsert\n");
  });
  await t.test("an iteration", async () => {
    const { one, db } = await begin(
      'say("waits"); for await (const message of buffer) { console.log(message.operation); if (message.operation === "delete") buffer.close(); }',
    );
    await one.until("out", "waits");
    await db.collection("c").insertOne({});
    await db.collection("c").deleteOne({});
    const { code, out } = await one.ended;
    assert.deepEqual([code, out], [0, "waits\ninsert\ndelete\n"]);
  });
});

test("whatever ends the process does so at once while a receive waits", async (t) => {
  const ways = {
    "process.exit": ["process.exit(7)", 7, null],
    "an exception": ['throw new Error("on purpose")', 1, null],
    "a rejection": ['Promise.reject(new Error("on purpose"))', 1, null],
    "a signal": ['process.kill(process.pid, "SIGINT")', null, "SIGINT"],
    "an exit handler that throws": [
      'process.on("exit", () => { throw new Error("on purpose"); }); process.exit(3)',
      3,
      null,
    ],
  };
  for (const [name, [end, code, signal]] of Object.entries(ways)) {
    await t.test(name, () =>
      quick(async () => {
        const { one } = await begin(
          `process.stdin.once("data", () => { ${end} }); say("waits"); for await (const message of buffer) message.ack();`,
        );
        await one.until("out", "waits");
        const begun = performance.now();
        one.child.stdin.end("now");
        const ended = await one.ended;
        assert.deepEqual([ended.code, ended.signal], [code, signal], ended.error);
        return ended.at - begun;
      }),
    );
  }
});

test("a signal ends a program in full stream, with a handler of its own and without", async (t) => {
  const handlers = {
    "without a handler": ["", null, "SIGINT"],
    "a handler that closes the buffer": ['process.on("SIGINT", () => buffer.close());', 0, null],
    "a handler that exits": ['process.on("SIGINT", () => process.exit(3));', 3, null],
  };
  for (const [name, [handler, code, signal]] of Object.entries(handlers)) {
    await t.test(name, () =>
      quick(async () => {
        const { one, db } = await begin(
          `${handler} let count = 0;
           for await (const message of buffer) { message.json; message.ack(); if (++count === 1000) console.log("streams"); }
           await worker.join();`,
        );
        let over = false;
        const writes = (async () => {
          const documents = () => Array.from({ length: 500 }, (_, n) => ({ n }));
          await one.until("error", "").catch(() => {});
          while (!over) await db.collection("c").insertMany(documents());
        })();
        await one.until("out", "streams");
        const begun = performance.now();
        one.child.kill("SIGINT");
        const ended = await one.ended;
        over = true;
        await writes;
        assert.deepEqual([ended.code, ended.signal], [code, signal], ended.error);
        return ended.at - begun;
      }),
    );
  }
});

test("a frozen server keeps no program from its end", async (t) => {
  const server = await ground();
  const client = await connected(server.uri);
  const { pid } = await client.db("admin").command({ serverStatus: 1 });
  t.after(async () => {
    process.kill(Number(pid), "SIGCONT");
    await client.close();
    server.end();
  });
  const cases = {
    "an iteration": ["for await (const message of buffer) message.ack(); await worker.join();", 0],
    "a worker that is not ready": [
      'const late = await buffer.watch(uri, name, "d"); console.log("ready", await late.waitReady()); await buffer.end();',
      0,
    ],
  };
  for (const [name, [body, code]] of Object.entries(cases)) {
    await t.test(name, () =>
      quick(async () => {
        process.kill(Number(pid), "SIGCONT");
        const { one } = await begin(
          `process.on("SIGINT", () => buffer.close());
           say("waits");
           await new Promise((resolve) => process.stdin.once("data", resolve));
           process.stdin.destroy();
           console.log("goes on");
           ${body}`,
          server.uri,
        );
        await one.until("out", "waits");
        process.kill(Number(pid), "SIGSTOP");
        one.child.stdin.write("now");
        await one.until("out", "goes on");
        const begun = performance.now();
        one.child.kill("SIGINT");
        const ended = await one.ended;
        assert.equal(ended.code, code, ended.error);
        return ended.at - begun;
      }),
    );
  }
});

test("a logger and stores keep no program from its end", async (t) => {
  const stores = {
    "a store": "{ load: () => null, save: () => {} }",
    "a store that never answers":
      '{ load: () => null, save: () => { console.log("saves"); return new Promise(() => {}); } }',
    "a store that never loads":
      '{ load: () => { console.log("saves"); return new Promise(() => {}); }, save: () => {} }',
  };
  for (const [name, store] of Object.entries(stores)) {
    await t.test(name, () =>
      quick(async () => {
        const { one } = await begin(`
          const lines = [];
          await setLogger((...line) => lines.push(line), "debug");
          process.on("exit", () => console.log(lines.length > 0 ? "logged" : "silent"));
          const kept = await buffer.watch(uri, name, "d", { checkpoint_store: ${store}, checkpoint_ms: 1 });
          process.stdin.once("data", () => process.exit(5));
          ${name === "a store" ? "await kept.waitReady();" : ""}
          say("waits ${name === "a store" ? "saves" : ""}");
          for await (const message of buffer) message.ack();
        `);
        await one.until("out", "waits");
        await one.until("out", "saves");
        const begun = performance.now();
        one.child.stdin.end("now");
        const ended = await one.ended;
        assert.deepEqual([ended.code, ended.signal], [5, null], ended.error);
        if (name === "a store") assert.match(ended.out, /logged/);
        return ended.at - begun;
      }),
    );
  }
});

/** What a thread does: it follows the collection in `workerData`, and posts each number. */
const THREAD = `
  const { parentPort, workerData } = require("node:worker_threads");
  (async () => {
    const { Buffer } = await import("mongostream");
    const buffer = new Buffer(10);
    const worker = await buffer.watch(workerData.uri, workerData.name, workerData.collection);
    await worker.waitReady();
    parentPort.on("message", (what) => { if (what === "exit") process.exit(4); else buffer.close(); });
    parentPort.postMessage("ready");
    for await (const message of buffer) { message.ack(); parentPort.postMessage(JSON.parse(message.json).FullDocument.n); }
    parentPort.close();
  })();
`;

test("threads of the program have buffers of their own, and may end in any way", async (t) => {
  const ways = {
    terminate: "thread.terminate()",
    exit: 'thread.postMessage("exit")',
    close: 'thread.postMessage("close")',
  };
  for (const [name, end] of Object.entries(ways)) {
    await t.test(name, async () => {
      const { one, db } = await begin(`
        const start = (collection) => {
          const thread = new Thread(${JSON.stringify(THREAD)}, { eval: true, execArgv: [], workerData: { uri, name, collection } });
          const ended = new Promise((resolve) => thread.once("exit", resolve));
          const numbers = [];
          const ready = new Promise((resolve) => thread.on("message", (n) => (n === "ready" ? resolve() : numbers.push(n))));
          return { thread, ended, numbers, ready };
        };
        const threads = [start("t0"), start("t1"), start("t2")];
        for (const { ready } of threads) await ready;
        console.log("ready");
        const all = async (...counts) => {
          while (threads.some(({ numbers }, index) => numbers.length < counts[index])) await new Promise((resolve) => setTimeout(resolve, 5));
        };
        await all(3, 3, 3);
        const streams = () => readdirSync("/proc/self/task").filter((task) => {
          try {
            return readFileSync("/proc/self/task/" + task + "/comm", "utf8").trim() === "mongostream";
          } catch { return false; }
        }).length;
        const before = streams();
        const { thread, ended } = threads[0];
        ${end};
        await ended;
        // Only what is terminated cannot stop its worker.
        while (${name !== "terminate"} && streams() >= before) await new Promise((resolve) => setTimeout(resolve, 5));
        console.log("ended");
        await all(3, 6, 6);
        for (const { thread, ended } of threads.slice(1)) { thread.terminate(); await ended; }
        await (await buffer.recv()).ack();
        console.log(JSON.stringify(threads.map(({ numbers }) => numbers)));
        buffer.free();
      `);
      await one.until("out", "ready");
      const write = async (from) => {
        for (const collection of ["t0", "t1", "t2"]) {
          await db.collection(collection).insertMany([0, 1, 2].map((n) => ({ n: from + n })));
        }
      };
      await write(0);
      await one.until("out", "ended");
      await write(3);
      await db.collection("c").insertOne({});
      const { code, signal, out, error } = await one.ended;
      assert.deepEqual([code, signal], [0, null], error);
      const [first, ...others] = JSON.parse(out.trim().split("\n").at(-1));
      assert.deepEqual(first, [0, 1, 2]);
      assert.deepEqual(others, Array(2).fill([0, 1, 2, 3, 4, 5]));
    });
  }
});

test("the process ends at once while threads wait", () =>
  quick(async () => {
    const { one } = await begin(`
      const threads = ["t0", "t1"].map((collection) =>
        new Thread(${JSON.stringify(THREAD)}, { eval: true, execArgv: [], workerData: { uri, name, collection } }));
      await Promise.all(threads.map((thread) => new Promise((resolve) => thread.once("message", resolve))));
      process.stdin.once("data", () => process.exit(6));
      say("waits");
      await buffer.recv();
    `);
    await one.until("out", "waits");
    const begun = performance.now();
    one.child.stdin.end("now");
    const ended = await one.ended;
    assert.deepEqual([ended.code, ended.signal], [6, null], ended.error);
    return ended.at - begun;
  }));

test("threads have neither a logger nor a store", async () => {
  const text = `
    const { parentPort, workerData } = require("node:worker_threads");
    (async () => {
      const { Buffer, setLogger } = await import("mongostream");
      const store = { load() {}, save() {} };
      for (const call of [() => setLogger(console), () => new Buffer(1).watch("mongodb://127.0.0.1:1", "a", "b", { checkpoint_store: store })]) {
        await call().catch((error) => console.log(error.statusName, error.message));
      }
    })();
  `;
  const one = program(
    `import { Worker } from "node:worker_threads"; new Worker(${JSON.stringify(text)}, { eval: true, execArgv: [] });`,
  );
  const { code, out, error } = await one.ended;
  assert.equal(code, 0, error);
  assert.equal(
    out,
    "MS_ERR_STATE setLogger can be used on the main thread only\n" +
      "MS_ERR_STATE checkpoint_store can be used on the main thread only\n",
  );
});
