// A server for the tests, and what they share.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import os from "node:os";
import path from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { MongoClient } from "mongodb";
import { ground } from "./ground.mjs";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));
export const PACKAGE = fileURLToPath(new URL("../", import.meta.url));
export const FOLLOW = path.join(ROOT, "examples/node/follow.mjs");

/** So long a test waits for what has to happen, in milliseconds: this machine may be busy. */
export const DEADLINE = 30_000;

/** What is done after the last test of a file. */
const ends = [];
after(async () => {
  for (const end of ends.reverse()) await end();
});

/** The server of this run. */
export async function uri() {
  if (!process.env.MONGOSTREAM_TEST_URI) {
    const server = await ground();
    process.env.MONGOSTREAM_TEST_URI = server.uri;
    ends.push(() => server.end());
  }
  return process.env.MONGOSTREAM_TEST_URI;
}

/** @type {MongoClient | undefined} */
let client;
let databases = 0;

/** A database that no other test uses. */
export async function database(server) {
  if (client === undefined) {
    client = await new MongoClient(server ?? (await uri())).connect();
    ends.push(() => client.close());
  }
  databases += 1;
  return client.db(`node_${process.pid}_${databases}`);
}

/** A client of a server that only one test uses. */
export async function connected(server) {
  return await new MongoClient(server).connect();
}

/** A directory that vanishes with the tests of this file. */
export function directory() {
  const made = mkdtempSync(path.join(os.tmpdir(), "mongostream-node-"));
  ends.push(() => rmSync(made, { recursive: true, force: true }));
  return made;
}

/** Waits until a condition holds. */
export async function until(what, condition) {
  const end = performance.now() + DEADLINE;
  for (;;) {
    const value = await condition();
    if (value) return value;
    assert.ok(performance.now() < end, `not within ${DEADLINE} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A program as a process of its own: its text is run as a module in this directory. */
export function program(text, { args = [], flags = [], env = {} } = {}) {
  return run(["--input-type=module", ...flags, "--eval", text, ...args], env);
}

export function run(args, env = {}, cwd = PACKAGE) {
  const child = spawn(process.execPath, args, {
    cwd,
    env: { ...process.env, ...env },
    stdio: ["pipe", "pipe", "pipe"],
  });
  const process_ = { child, out: "", error: "", ended: null, until: null, line: null };
  child.stdout.setEncoding("utf8").on("data", (data) => (process_.out += data));
  child.stderr.setEncoding("utf8").on("data", (data) => (process_.error += data));
  process_.ended = once(child, "close").then(([code, signal]) => ({
    code,
    signal,
    at: performance.now(),
    out: process_.out,
    error: process_.error,
  }));
  // One that has ended cannot print what is waited for.
  process_.until = (stream, part) =>
    until(`${part} on ${stream}, of ${process_.error}`, () => {
      if (process_[stream].includes(part)) return true;
      assert.ok(child.exitCode === null && child.signalCode === null, `it ended: ${process_.error}`);
      return false;
    });
  return process_;
}

/** A program has to end within this time, in milliseconds. */
const SOON = 200;

/**
 * Asserts that a program ends soon: `measure` runs it and returns how long its end has taken. On a busy machine
 * any one run may be slow, but not each of several.
 */
export async function quick(measure) {
  const took = [];
  while (took.length < 5) {
    took.push(Math.round(await measure()));
    if (took.at(-1) <= SOON) return;
  }
  assert.fail(`it took ${took.join(", ")} ms`);
}
