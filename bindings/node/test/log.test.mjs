import assert from "node:assert/strict";
import { test } from "node:test";
import { Buffer, setLogger } from "mongostream";
import { database, until, uri } from "./support.mjs";

/** Lets a worker start and end, so that it logs. */
async function life(name) {
  const buffer = new Buffer(10);
  const db = await database();
  const worker = await buffer.watch(await uri(), db.databaseName, "c", { name });
  await worker.waitReady();
  await buffer.end();
}

test("a function gets the lines of every worker", async (t) => {
  const lines = [];
  await setLogger((...line) => lines.push(line));
  t.after(() => setLogger(null));
  await life("talker");
  await until("it has told", () => lines.some(([level, worker]) => level === "info" && worker === "talker"));
  assert.ok(
    lines.every(([level, worker, message]) => /^(error|warn|info)$/.test(level) && worker && message),
  );
  assert.ok(!lines.some(([, , message]) => message.endsWith("\n")));
});

test("an object gets each line by its level", async () => {
  const lines = [];
  const add = (level) => (line) => lines.push(`${level} ${line}`);
  const logger = { error: add("error"), warn: add("warn"), info: add("info"), debug: add("debug") };
  await setLogger(logger, "error");
  await life("quiet");
  const buffer = new Buffer(10);
  const worker = await buffer.watch("mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=50", "a", "b", {
    name: "loud",
  });
  await assert.rejects(worker.waitReady());
  await until("it has told", () => lines.length > 0);
  buffer.free();
  await setLogger(null);
  assert.ok(lines.every((line) => line.startsWith("error mongostream loud: ")));
  const count = lines.length;
  await life("unheard");
  assert.equal(lines.length, count);
});

test("loggers can be set while workers log without end", async () => {
  let lines = 0;
  let over = false;
  const lives = (async () => {
    while (!over) await life("busy");
  })();
  for (let round = 0; round < 200; round++) {
    await setLogger(() => lines++, round % 2 ? "debug" : "info");
    if (round % 3 === 0) await setLogger(null);
    await new Promise(setImmediate);
  }
  await until("lines came", () => lines > 0);
  over = true;
  await lives;
  await setLogger(null);
});

test("what is no logger or no level is refused", async () => {
  await assert.rejects(setLogger({ info() {} }), {
    status: -1,
    message: /^the logger must be a function, or have/,
  });
  await assert.rejects(setLogger(5), { status: -1 });
  await assert.rejects(setLogger(console, "loud"), {
    status: -1,
    message: /^level must be one of off, error/,
  });
});
