import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { before, test } from "node:test";
import { database, directory, run, uri } from "./support.mjs";

const tarball = process.env.MONGOSTREAM_TARBALL;
const skip = tarball ? false : "MONGOSTREAM_TARBALL is not set: ./check makes one";

const BODY = `
  const [uri, name] = process.argv.slice(2);
  const buffer = new Buffer(10);
  const worker = await buffer.watch(uri, name, "c");
  await worker.waitReady();
  console.log("ready");
  for await (const message of buffer) {
    console.log(JSON.parse(message.json).FullDocument.text);
    message.ack();
    break;
  }
  await buffer.end();
`;

let installed;
before(async () => {
  if (skip) return;
  installed = directory();
  const npm = spawn("npm", ["install", "--no-audit", "--no-fund", "--loglevel=error", tarball], {
    cwd: installed,
    stdio: ["ignore", "ignore", "inherit"],
  });
  const [code] = await once(npm, "close");
  assert.equal(code, 0);
});

for (const [kind, file, text] of [
  ["ESM", "follow.mjs", `import { Buffer } from "mongostream";${BODY}`],
  ["CommonJS", "follow.cjs", `const { Buffer } = require("mongostream"); (async () => {${BODY}})();`],
]) {
  test(`what was installed from the tarball follows a change: ${kind}`, { skip }, async () => {
    const db = await database();
    const program = path.join(installed, file);
    writeFileSync(program, text);
    // The library inside the package is the one that is used.
    const env = { MONGOSTREAM_LIBRARY: "/nowhere", NODE_PATH: "" };
    const one = run([program, await uri(), db.databaseName], env, installed);
    await one.until("out", "ready");
    await db.collection("c").insertOne({ text: "it works" });
    const { code, out, error } = await one.ended;
    assert.deepEqual([code, out], [0, "ready\nit works\n"], error);
  });
}

test("the tarball holds what a program needs, and no more", { skip }, () => {
  const held = readdirSync(path.join(installed, "node_modules/mongostream"));
  const files = [
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "index.d.mts",
    "index.d.ts",
    "index.mjs",
    "lib",
  ];
  assert.deepEqual(held.sort(), [...files, "package.json", "prebuilds"].sort());
  const others = readdirSync(path.join(installed, "node_modules")).filter((name) => !name.startsWith("."));
  assert.deepEqual(others.sort(), ["@koromix", "koffi", "mongostream"]);
});
