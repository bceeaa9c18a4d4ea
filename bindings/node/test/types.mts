// Not run: the types of the package as a program in TypeScript sees them.
import mongostream, { type Batch, Buffer, type Message, MongostreamError, setLogger } from "mongostream";

async function program(uri: string): Promise<void> {
  const buffer = new Buffer(1024n, { maxBytes: 1 << 20 });
  const worker = await buffer.watch(uri, "shop", null, {
    full_document: "updateLookup",
    pipeline: [{ $match: { a: 1 } }],
    retry_ms: -1,
    checkpoint_store: { load: async () => null, save: (_name, text) => text.length },
  });
  const ready: boolean = await worker.waitReady({ timeout: 1000, signal: AbortSignal.timeout(5) });
  for await (const message of buffer) {
    const one: Message = message;
    one.ack();
  }
  for await (const batch of buffer.batches(100)) {
    const some: Batch = batch;
    const bytes: Uint8Array = some.lines;
    console.log(ready, bytes.length, [...some].length);
  }
  const next: Message | null = await buffer.recv();
  const soon: Message | null | undefined = await buffer.recv({ timeout: 10 });
  console.log(next?.json, soon?.clusterTime?.seconds, mongostream.version);
  // @ts-expect-error no such value
  await buffer.watch(uri, "shop", null, { full_document: "never" });
  // @ts-expect-error made by the library alone
  new MongostreamError();
  await setLogger(console, "debug");
}

export { program };
