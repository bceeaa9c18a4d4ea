import assert from "node:assert/strict";
import path from "node:path";
import { test } from "node:test";
import { ground } from "./ground.mjs";
import { connected, database, directory, FOLLOW, quick, run, until, uri } from "./support.mjs";

const follow = (...args) => run([FOLLOW, ...args]);
const numbers = (out) =>
  out
    .split("\n")
    .filter(Boolean)
    .map((line) => JSON.parse(line).FullDocument.n);

test("it prints each change, and a signal ends it in order", async (t) => {
  for (const signal of ["SIGINT", "SIGTERM"]) {
    await t.test(signal, () =>
      quick(async () => {
        const db = await database();
        const file = path.join(directory(), "token");
        const one = follow(await uri(), db.databaseName, "c", `checkpoint_file=${file}`);
        await one.until("error", "ready\n");
        await db.collection("c").insertMany([{ n: 0 }, { n: 1 }]);
        await until("both are printed", () => one.out.split("\n").length === 3);
        const begun = performance.now();
        one.child.kill(signal);
        const ended = await one.ended;
        assert.deepEqual([ended.code, ended.error], [0, "ready\n"]);
        // It goes on there, and so the acks were saved.
        await db.collection("c").insertMany([{ n: 2 }, { n: 3 }]);
        const next = follow(await uri(), db.databaseName, "c", `checkpoint_file=${file}`);
        await until("it goes on", () => next.out.split("\n").length === 3);
        next.child.kill(signal);
        assert.deepEqual(numbers((await next.ended).out), [2, 3]);
        return ended.at - begun;
      }),
    );
  }
});

test("a minus stands for no collection, and for no database", async (t) => {
  for (const scope of ["database", "deployment"]) {
    await t.test(scope, async () => {
      const db = await database();
      const name = scope === "database" ? db.databaseName : "-";
      const one = follow(
        await uri(),
        name,
        "-",
        "operations=insert",
        `pipeline=[{"$match":{"ns.db":"${db.databaseName}"}}]`,
      );
      await one.until("error", "ready\n");
      await db.collection("x").insertOne({ n: 5 });
      await one.until("out", "\n");
      one.child.kill("SIGTERM");
      const { code, out } = await one.ended;
      assert.equal(code, 0);
      assert.deepEqual(numbers(out), [5]);
    });
  }
});

test("a signal ends it although the server is frozen", async (t) => {
  const server = await ground();
  const client = await connected(server.uri);
  const { pid } = await client.db("admin").command({ serverStatus: 1 });
  t.after(async () => {
    process.kill(Number(pid), "SIGCONT");
    await client.close();
    server.end();
  });
  await quick(async () => {
    process.kill(Number(pid), "SIGCONT");
    const one = follow(server.uri, "a", "b", `checkpoint_file=${path.join(directory(), "token")}`);
    await one.until("error", "ready\n");
    process.kill(Number(pid), "SIGSTOP");
    const begun = performance.now();
    one.child.kill("SIGINT");
    const ended = await one.ended;
    assert.equal(ended.code, 0, ended.error);
    return ended.at - begun;
  });
});

test("a failure is told, with exit code 1", async () => {
  const { code, out, error } = await follow("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=100", "a", "b")
    .ended;
  assert.deepEqual([code, out], [1, ""]);
  assert.match(error, /MS_ERR_CONNECT/);
  const wrong = await follow("mongodb://127.0.0.1:1", "a", "b", "nonsense=1").ended;
  assert.equal(wrong.code, 1);
  assert.match(wrong.error, /nonsense/);
});

test("wrong usage is told, with exit code 2", async () => {
  for (const args of [[], ["mongodb://127.0.0.1:1", "a"], ["mongodb://127.0.0.1:1", "a", "b", "noequals"]]) {
    const { code, out, error } = await follow(...args).ended;
    assert.deepEqual([code, out], [2, ""]);
    assert.match(error, /^usage: /);
  }
});
