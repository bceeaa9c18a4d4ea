/// <reference types="node" />
/// <reference lib="esnext.disposable" />

import type { Buffer as Bytes } from "node:buffer";
import type { Options } from "./lib/options.js";

export type { Options };

/** How a call of the library ended, see {@link MongostreamError.status}. */
export declare const Status: {
  readonly OK: 0;
  readonly TIMEOUT: 1;
  readonly CLOSED: 2;
  readonly ERR_ARGUMENT: -1;
  readonly ERR_STATE: -2;
  readonly ERR_FORKED: -3;
  readonly ERR_IN_USE: -4;
  readonly ERR_RESOURCE: -5;
  readonly ERR_CONNECT: -10;
  readonly ERR_AUTH: -11;
  readonly ERR_SERVER: -12;
  readonly ERR_HISTORY_LOST: -13;
  readonly ERR_INVALIDATED: -14;
  readonly ERR_CHECKPOINT: -15;
  readonly ERR_OVERSIZED: -16;
  readonly ERR_FENCED: -17;
  readonly ERR_PANIC: -99;
};

/** The numbers of the log's levels in C. */
export declare const LogLevel: {
  readonly OFF: 0;
  readonly ERROR: 1;
  readonly WARN: 2;
  readonly INFO: 3;
  readonly DEBUG: 4;
};

/**
 * Everything that goes wrong.
 *
 * ```js
 * try {
 *   for await (const message of buffer) use(message);
 * } catch (error) {
 *   if (!(error instanceof MongostreamError)) throw error;
 *   console.error(error.statusName, error.worker, error.message);
 * }
 * ```
 */
export declare class MongostreamError extends Error {
  private constructor();
  /** What kind of thing went wrong: one of the ERR values of {@link Status}. */
  readonly status: number;
  /** Its name in C, such as `"MS_ERR_AUTH"`. */
  readonly statusName: string;
  /** The server's error code (MongoDB manual, "Error Codes"); 0 if the error is not the server's. */
  readonly serverCode: number;
  /** Whether the same may succeed later without a change by you: the network or an election was the cause. */
  readonly retriable: boolean;
  /** The worker that failed: receiving may go on. `null` if the mistake is your own. */
  readonly worker: string | null;
}

/** How to wait. */
export interface WaitOptions {
  /** At most so many milliseconds; 0 does not wait. Left out: for as long as it takes. */
  timeout?: number;
  /** Ends the wait: the call is rejected with the signal's reason. Nothing is lost. */
  signal?: AbortSignal;
}

/**
 * Where checkpoints are kept that are neither in a file nor in a collection. A checkpoint is one text for each
 * name; the text is opaque. The functions run on the main thread. They may be async: the stream goes on
 * meanwhile. For one worker they are called one after the other.
 *
 * If one throws, the call has failed for good; if the error's property `retriable` is `true`, the library tries
 * again. What was thrown becomes the `cause` of the {@link MongostreamError}.
 */
export interface CheckpointStore {
  /** The text that was saved last under the name, or `null` if there is none. */
  load(name: string): string | null | undefined | Promise<string | null | undefined>;
  /** Replaces the text. When it has returned, the text must survive a crash of the machine. */
  save(name: string, text: string): unknown;
}

/** The table of options, and a store of your own in place of checkpoint_file and checkpoint_collection. */
export interface WatchOptions extends Options {
  /** A store of your own. On the main thread only. */
  checkpoint_store?: CheckpointStore;
}

/** What a worker is doing. */
export type WorkerState = "starting" | "streaming" | "reconnecting" | "stopped" | "failed" | "standby";

/**
 * A bounded queue of messages: any number of workers in, any number of consumers of this thread out.
 *
 * ```js
 * const buffer = new Buffer(1024);
 * const worker = await buffer.watch("mongodb://localhost:27017", "shop", "orders", { checkpoint_file: "orders.token" });
 * for await (const message of buffer) {
 *   console.log(message.json);
 *   message.ack();
 * }
 * ```
 *
 * Waiting uses this thread's event loop. It keeps the process alive as long as somebody waits, and no longer.
 * When messages come faster than they are used, timers, signals and sockets get their turn every 10 ms.
 *
 * The handle belongs to the thread that made it. It is freed with {@link free}, or when nobody can reach it.
 */
export declare class Buffer implements AsyncIterable<Message> {
  /**
   * A buffer for up to `capacity` messages and `maxBytes` bytes of change events (BSON; 64 MiB if left out),
   * whichever is reached first. One event that is larger still passes, alone. When it is full its workers wait;
   * nothing is ever dropped. Consumers that take single messages fetch up to 256 messages at once, about 256 KiB,
   * which do not count any more.
   */
  constructor(capacity: number | bigint, options?: { maxBytes?: number | bigint });

  /**
   * Starts a worker. Without a collection it follows the whole database; without a database that of the URI's
   * path, and where there is none the whole deployment.
   *
   * It checks every argument and option, and connects later: see {@link Worker.waitReady}. What goes wrong there
   * comes through the buffer. The buffer keeps its workers; to drop the result stops nothing.
   *
   * Rejected with a MongostreamError: ERR_ARGUMENT; ERR_STATE for a closed buffer; ERR_IN_USE if another worker
   * uses the checkpoint; ERR_CHECKPOINT if its store cannot be used; ERR_RESOURCE.
   */
  watch(
    uri: string,
    database?: string | null,
    collection?: string | null,
    options?: WatchOptions,
  ): Promise<Worker>;

  /** How many messages are queued, with those that were fetched and not yet handed out. */
  readonly length: number;

  /**
   * The next message. `null`: the buffer is drained, and closed or without a running worker. `undefined`: the
   * time is over.
   *
   * Rejected with a MongostreamError if a worker has failed, in its place among the messages; `error.worker` names
   * it, and you may go on. It waits on a buffer that no worker has fed yet.
   */
  recv(options: WaitOptions & { timeout: number }): Promise<Message | null | undefined>;
  recv(options?: { signal?: AbortSignal }): Promise<Message | null>;

  /** As {@link recv}, without a wait: `undefined` if there is nothing, or if others wait. Throws what recv rejects with. */
  tryRecv(): Message | null | undefined;

  /** Waits for one message, then takes what is already there, up to `max`; else as {@link recv}. */
  recvBatch(
    max: number | bigint,
    options: WaitOptions & { timeout: number },
  ): Promise<Batch | null | undefined>;
  recvBatch(max: number | bigint, options?: { signal?: AbortSignal }): Promise<Batch | null>;

  /**
   * Every message until the buffer is drained, and closed or without a running worker. `for await (... of buffer)`
   * does the same. It throws when a worker has failed; iterate again to go on with the others. To leave the loop
   * loses nothing: the next consumer continues with the next message.
   */
  messages(options?: { signal?: AbortSignal }): AsyncIterableIterator<Message>;
  [Symbol.asyncIterator](): AsyncIterableIterator<Message>;

  /** The same in batches of up to `max` messages: the fast way. */
  batches(max: number | bigint, options?: { signal?: AbortSignal }): AsyncIterableIterator<Batch>;

  /**
   * Figures of the buffer and of each of its workers, see docs/STATISTICS.md. What was fetched at once and not yet
   * handed out counts as received.
   */
  stats(): Record<string, any>;

  /**
   * The same as OpenMetrics text. Its Content-Type is
   * `application/openmetrics-text; version=1.0.0; charset=utf-8`.
   */
  metrics(): string;

  /**
   * Stops the workers. What is queued can still be received; then every iteration ends. Never waits. Also in a
   * handler of a signal. Twice does no harm.
   */
  close(): void;

  /** Closes the buffer and waits until every worker has ended and saved its checkpoint, at most about 5 s; then frees it. */
  end(): Promise<void>;

  /** Closes and frees the buffer and its workers, and ends every wait. What is queued is dropped, unacked. Never waits. */
  free(): void;

  /** {@link free} */
  [Symbol.dispose](): void;
  /** {@link end} */
  [Symbol.asyncDispose](): Promise<void>;
}

/** One change stream that feeds a buffer, started with {@link Buffer.watch}. */
export declare class Worker {
  private constructor();
  /** The name in messages, errors and the log: the option `name`, or what it watches (`"shop.orders"`). */
  readonly name: string;
  /** What it feeds. */
  readonly buffer: Buffer;
  /** What it is doing now; `"stopped"` after {@link free}. */
  readonly state: WorkerState;
  /**
   * The token (JSON) up to which every message is acked: a worker started with it as `start_after` goes on there.
   * Before the first ack it is the token with which the stream was opened, and `null` before that.
   */
  readonly resumeToken: string | null;
  /**
   * Waits until every later change will be delivered. `true`: it is so, and stays so. `false`: the time is over, or
   * the worker was stopped before. Rejected with why it failed; the failure comes through the buffer as well.
   */
  waitReady(options?: WaitOptions): Promise<boolean>;
  /** Asks the worker to stop; never waits. What it has put into the buffer stays there. */
  stop(): void;
  /**
   * Waits until the worker has ended and its checkpoint, if it has one, is saved; it does not ask it to end. Every
   * ack made before is then durable. `false`: the time is over. Rejected with why the worker failed, or with
   * ERR_CHECKPOINT if the checkpoint could not be saved, at the latest 5 s after its end.
   */
  join(options?: WaitOptions): Promise<boolean>;
  /** Stops the worker and lets it go; never waits. {@link join} first to use its checkpoint again at once. */
  free(): void;
  /** {@link free} */
  [Symbol.dispose](): void;
  /** {@link stop}, {@link join} and {@link free} */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * One change event. It outlives its buffer and its worker.
 *
 * It is freed when nobody can reach it, or with {@link free}. Messages share memory: one that you keep keeps up to
 * 256 others, and up to 4 MiB of the server's reply. To keep one for long, keep its texts, or a {@link clone}.
 */
export declare class Message {
  private constructor();
  /** The change as JSON on one line, in the shape and mode of the options `format` and `json`. Made anew each time: read it once. */
  readonly json: string;
  /** The server's change event as raw BSON: a copy of your own, made anew each time. */
  readonly bson: Bytes;
  /** `"insert"`, `"update"`, ... (MongoDB manual, "Change Events"). */
  readonly operation: string;
  /** `"shop.orders"`; only the database for an event without a collection; `""` for one without a database. */
  readonly namespace: string;
  /** The document's id as text: an ObjectId's 24 digits, a string itself, else relaxed Extended JSON; `""` if there is none. */
  readonly documentId: string;
  /** When it happened, by the cluster's clock: seconds since 1970, and a number within the second. `null` for a snapshot's document. */
  readonly clusterTime: { seconds: number; increment: number } | null;
  /** The dotted paths of all fields that an update has set; empty for other events. See the option `updated_paths`. */
  readonly updatedPaths: string[];
  /** A worker started with it as `start_after` goes on after this message. `null` for a message without a place in the stream. */
  readonly resumeToken: string | null;
  /**
   * The place after this message as an opaque text: everything that the worker delivered up to and including this message
   * is done. Store it in the transaction of what you make of the message, and start again with it as the option
   * `start_at_position`: then each message takes effect exactly once, also in the middle of a snapshot. `null` for an event
   * without a resume token and for a document without an `_id`.
   */
  readonly position: string | null;
  /** The name of the worker that read it. */
  readonly worker: string;
  /**
   * Says that you are done with the message: after a restart with the same checkpoint it does not come again. In any
   * order, twice without harm, also after its worker and buffer are gone.
   */
  ack(): void;
  /** Another handle to the same message; nothing is copied, and one ack counts for both. */
  clone(): Message;
  /** Lets it go now; it is acked only if you have done so. Every other use of it then throws ERR_STATE. */
  free(): void;
  /** {@link free} */
  [Symbol.dispose](): void;
}

/**
 * Several messages, received at once.
 *
 * ```js
 * for await (const batch of buffer.batches(1000)) {
 *   file.write(batch.lines);
 *   batch.ack();
 * }
 * ```
 */
export declare class Batch implements Iterable<Message> {
  private constructor();
  /** How many messages it holds, at least 1. */
  readonly length: number;
  /** The messages, in the order in which they were read. After {@link free} they must not be used. */
  readonly messages: Message[];
  [Symbol.iterator](): IterableIterator<Message>;
  /** Every message as JSON, each on a line that ends in a newline, as UTF-8: a copy of your own, made anew each time. */
  readonly lines: Bytes;
  /** Acks every message. */
  ack(): void;
  /** Lets it go now, instead of when nobody can reach it and its messages. */
  free(): void;
  /** {@link free} */
  [Symbol.dispose](): void;
}

/** A function, or an object such as `console`, pino or winston. */
export type Logger =
  | ((level: "error" | "warn" | "info" | "debug", worker: string, message: string) => void)
  | Record<"error" | "warn" | "info" | "debug", (line: string) => void>;

/**
 * Gives every line of the library's log up to `level` to a logger, in place of the one before; `null` switches it
 * off. No line holds credentials. On the main thread only: it gets the lines of the whole process. The library does
 * not wait for the logger.
 *
 * ```js
 * await setLogger(console, "info");
 * ```
 */
export declare function setLogger(
  logger: Logger | null,
  level?: "off" | "error" | "warn" | "info" | "debug",
): Promise<void>;

/** The table of options as the native library has it: name, kind, values, choices, default and text of each. */
export declare function describeOptions(): Array<{
  name: string;
  kind: string;
  values: string;
  choices: string[];
  default: string | null;
  text: string;
  [more: string]: unknown;
}>;

/** The version of the native library, such as `"0.1.0"`. */
export declare const version: string;
