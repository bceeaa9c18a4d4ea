// A MongoDB server that ends with whoever started it.
import { spawn } from "node:child_process";
import path from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** Starts a server. */
export async function ground() {
  const program = process.env.MONGOSTREAM_GROUND || path.join(ROOT, "target/debug/ground");
  const child = spawn(program, ["--until-eof"], { stdio: ["pipe", "pipe", "inherit"] });
  for await (const uri of createInterface(child.stdout)) {
    return { uri, end: () => child.stdin.end() };
  }
  throw new Error(`${program} does not start`);
}
