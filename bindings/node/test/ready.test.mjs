import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { test } from "node:test";

const require = createRequire(import.meta.url);
const { Readiness } = require("../lib/ready.js");
const { koffi } = require("../lib/native.js");

const libc = koffi.load(null);
const socketpair = libc.func("int socketpair(int, int, int, _Out_ int *fds)");
const write = libc.func("long write(int fd, const char *bytes, size_t count)");
const recv = libc.func("long recv(int fd, _Out_ uint8_t *bytes, size_t count, int flags)");
const close = libc.func("int close(int fd)");
/** MSG_DONTWAIT */
const AT_ONCE = process.platform === "darwin" ? 0x80 : 0x40;

for (const way of ["poll", "socket"]) {
  test(`${way}: a descriptor is waited for and not read`, async (t) => {
    const fds = [0, 0];
    assert.equal(socketpair(1, 1, 0, fds), 0);
    const readiness = new Readiness(fds[0], way);
    t.after(() => {
      readiness.close();
      for (const fd of fds) close(fd);
    });
    const ready = () => new Promise((resolve) => readiness.start(() => resolve("ready")));
    const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms, "nothing"));
    for (let round = 0; round < 20; round++) {
      assert.equal(await Promise.race([ready(), pause(5)]), "nothing");
      readiness.stop();
      const wait = ready();
      write(fds[1], "x", 1);
      assert.equal(await wait, "ready");
      // It is level-triggered.
      assert.equal(await ready(), "ready");
      const bytes = new Uint8Array(4);
      assert.equal(recv(fds[0], bytes, 4, AT_ONCE), 1, "nobody else has read it");
    }
    const { source } = readiness;
    const { ready: told } = source;
    let count = 0;
    source.ready = () => {
      count += 1;
      told();
    };
    write(fds[1], "x", 1);
    await ready();
    await pause(20);
    assert.equal(count, 1, "it tells once");
    let called = false;
    readiness.start(() => {
      called = true;
    });
    readiness.stop();
    await pause(20);
    assert.equal(called, false, "not after it was stopped");
  });
}

test("without a descriptor it asks again", async () => {
  const readiness = new Readiness(-1);
  await new Promise((resolve) => readiness.start(() => resolve()));
  readiness.start(() => assert.fail("it was stopped"));
  readiness.stop();
  await new Promise((resolve) => setTimeout(resolve, 20));
});
