// Prints the changes of a collection as lines of JSON, until Ctrl-C.
//
//     node examples/node/follow.mjs mongodb://localhost:27017 shop orders checkpoint_file=orders.token
//
// "-" stands for no collection or no database. Messages go to standard output, everything else to standard error.
import { promisify } from "node:util";
import { Buffer } from "mongostream";

const write = promisify(process.stdout.write.bind(process.stdout));

async function follow([uri, database, collection, ...settings]) {
  const options = Object.fromEntries(settings.map((setting) => setting.split(/=(.*)/s, 2)));
  const buffer = new Buffer(1024);
  const close = () => buffer.close();
  process.once("SIGINT", close).once("SIGTERM", close);
  try {
    const name = (text) => (text === "-" ? null : text);
    const worker = await buffer.watch(uri, name(database), name(collection), options);
    if (await worker.waitReady()) console.error("ready");
    for await (const message of buffer) {
      await write(`${message.json}\n`); // your work, until the system has the line
      message.ack(); // done: it does not come again
    }
    await worker.join();
  } finally {
    buffer.free();
  }
}

const [, , ...args] = process.argv;
if (args.length < 3 || args.slice(3).some((setting) => !setting.includes("="))) {
  console.error("usage: follow.mjs URI DATABASE COLLECTION [option=value ...]");
  process.exitCode = 2;
} else {
  await follow(args).catch((error) => {
    console.error(`follow: ${error.worker ?? ""} ${error.message} (${error.statusName ?? error.name})`);
    process.exitCode = 1;
  });
}
