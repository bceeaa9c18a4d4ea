// Runs the tests with one server for all of them: node test/run.mjs [FILE ...]
import { spawn } from "node:child_process";
import { readdirSync } from "node:fs";
import path from "node:path";
import { ground } from "./ground.mjs";

const here = import.meta.dirname ?? path.dirname(new URL(import.meta.url).pathname);
const all = readdirSync(here).filter((file) => file.endsWith(".test.mjs"));
const files = process.argv.length > 2 ? process.argv.slice(2) : all.map((file) => path.join(here, file));
const server = await ground();
const tests = spawn(process.execPath, ["--expose-gc", "--test", "--test-timeout=100000", ...files], {
  stdio: "inherit",
  env: { ...process.env, MONGOSTREAM_TEST_URI: server.uri },
});
tests.on("exit", (code) => {
  server.end();
  process.exitCode = code ?? 1;
});
