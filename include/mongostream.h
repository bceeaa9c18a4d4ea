/*
 * mongostream: MongoDB change streams as a plain blocking queue of JSON messages.
 *
 *     MongoDB ──cursor──▶ worker (thread) ──▶ buffer (bounded) ──recv──▶ your code
 *
 *     ms_error *error = NULL;
 *     ms_buffer *buffer = ms_buffer_new(1024);
 *     ms_worker *worker = ms_worker_start("mongodb://localhost:27017", "shop", "orders", buffer, NULL, &error);
 *     ms_message *message;
 *     if (worker != NULL && ms_worker_wait_ready(worker, -1, &error) == MS_OK)
 *         while (ms_buffer_recv_message(buffer, -1, &message, &error) == MS_OK) {
 *             puts(ms_message_json(message, NULL));
 *             ms_message_ack(message);
 *             ms_message_free(message);
 *         }
 *     if (error != NULL) fprintf(stderr, "%s\n", ms_error_message(error));
 *
 * Rules for every function:
 *  - What is returned or written as "T *" is yours, release it with ms_T_free (text: ms_string_free).
 *    A "const T *" is borrowed and lives as long as the object it came from.
 *  - Arguments are never kept; strings are copied. Text is UTF-8 with a NUL at its end; lengths
 *    leave the NUL out.
 *  - ms_T_free(NULL) does nothing and no free waits. Handles may be freed in any order; messages
 *    outlive buffer and worker.
 *  - "ms_error **error" may be NULL and is written only on failure; other outputs only on success.
 *  - NULL where a value is required gives MS_ERR_ARGUMENT, or NULL, 0 or false.
 *  - timeout_ms is in milliseconds: below 0 waits for ever, 0 does not wait.
 *  - Every function may be called from any thread, except freeing a handle that is in use, and one
 *    ms_options or ms_batch from one thread at a time.
 *  - Nothing exits the process or unwinds into C. Nothing prints, unless the environment variable
 *    MONGOSTREAM_LOG asks for it, see ms_log_set.
 *  - With glibc the process may keep up to 32 MiB of free memory, unless you have set M_MMAP_THRESHOLD or
 *    M_TRIM_THRESHOLD: see "What it does to your process" in docs/PRODUCTION.md.
 *
 * Generated from the Rust sources in capi/src; change those, then run
 *     MONGOSTREAM_WRITE=1 cargo test --test generated
 */


#ifndef MONGOSTREAM_H
#define MONGOSTREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What the compiler is told of each function. Define them before you include this header if yours knows other words.
 */
#ifndef MS_API
#if defined(__GNUC__)
#define MS_API __attribute__((visibility("default")))
#else
#define MS_API
#endif
#endif
#ifndef MS_MUST_USE
#if defined(__GNUC__)
#define MS_MUST_USE __attribute__((warn_unused_result))
#else
#define MS_MUST_USE
#endif
#endif
#ifndef MS_DEPRECATED
#if defined(__GNUC__)
#define MS_DEPRECATED __attribute__((deprecated))
#define MS_DEPRECATED_BECAUSE(note) __attribute__((deprecated(note)))
#else
#define MS_DEPRECATED
#define MS_DEPRECATED_BECAUSE(note)
#endif
#endif

/*
 * Options for ms_options_set: what each takes [its default], and what it does.
 */

/**
 * text. Worker name in messages, errors and logs; where it is not set the namespace ("shop.orders",
 * "shop" for a database, "shop.{items,orders}" for several collections, a long list cut short, "*"
 * for a deployment).
 */
#define MS_OPT_NAME "name"

/**
 * unix seconds, or seconds:increment. Begin with the first change at or after this cluster time.
 * Excludes the other start options.
 */
#define MS_OPT_START_AT_TIME "start_at_time"

/**
 * resume token (JSON). Begin after the event with this token; the server refuses the token of an
 * invalidate. Excludes the other start options.
 */
#define MS_OPT_RESUME_AFTER "resume_after"

/**
 * resume token (JSON). As resume_after, and takes the token of an invalidate too. Excludes the
 * other start options.
 */
#define MS_OPT_START_AFTER "start_after"

/**
 * position of a message (JSON), or an empty text. Continue after the message with this position,
 * which your program has stored with what it made of the message; an unfinished snapshot is
 * finished first. An empty text is as if it were not set. It may stand next to snapshot, which then
 * begins where there is no position. Excludes the other start options.
 */
#define MS_OPT_START_AT_POSITION "start_at_position"

/**
 * comma list, or JSON array of texts. Many collections on one cursor: collection names where a
 * database is given, else database.collection, split at the first dot. * in the collection stands
 * for any run of characters. Excludes a collection.
 */
#define MS_OPT_NAMESPACES "namespaces"

/**
 * comma list of operation types. Deliver only these, such as insert,update,delete; where it is not
 * set all. The library's own messages always come. A type that is almost one of the known ones is
 * refused; another one, which a newer server may have, is a warning in the log.
 */
#define MS_OPT_OPERATIONS "operations"

/**
 * JSON array of aggregation stages [[]]. Stages that the server puts after $changeStream, such as
 * $match and $project. Keep the event's _id: it is the resume token. They do not filter the
 * documents of a snapshot.
 */
#define MS_OPT_PIPELINE "pipeline"

/**
 * default | updateLookup | whenAvailable | required [default]. Which version of the document
 * updates carry (MongoDB manual, $changeStream, fullDocument). whenAvailable and required need
 * MongoDB 6.0.
 */
#define MS_OPT_FULL_DOCUMENT "full_document"

/**
 * off | whenAvailable | required [off]. Whether updates, replaces and deletes carry the document as
 * it was before. Needs MongoDB 6.0 and changeStreamPreAndPostImages on the collection; required
 * fails where the server does not have it.
 */
#define MS_OPT_FULL_DOCUMENT_BEFORE_CHANGE "full_document_before_change"

/**
 * false | true [false]. Also the server's expanded events: create, createIndexes, dropIndexes,
 * modify, shardCollection and others. Needs MongoDB 6.0.
 */
#define MS_OPT_SHOW_EXPANDED_EVENTS "show_expanded_events"

/**
 * 1 to 2147483647 [4000]. Most events in one reply of the server. Larger ones cost memory and gain
 * nothing.
 */
#define MS_OPT_BATCH_SIZE "batch_size"

/**
 * 1 to 2147483647 [1000]. Longest time in milliseconds that the server waits for an event before it
 * answers with none. Neither delivery nor stop depends on it.
 */
#define MS_OPT_AWAIT_MS "await_ms"

/**
 * oplog | event [oplog]. The shape of the JSON: oplog JSON, or the server's change event as it is.
 */
#define MS_OPT_FORMAT "format"

/**
 * relaxed | canonical [relaxed]. The mode of MongoDB Extended JSON v2.
 */
#define MS_OPT_JSON "json"

/**
 * false | true [false]. Oplog JSON of updates has a key UpdatedPaths: the dotted paths of all
 * fields that were set, down to the innermost, without array indexes, each once. Removed fields and
 * truncated arrays are not among them. Where the server does not tell (before MongoDB 6.1, or
 * without show_expanded_events), a step of digits after the first is taken for an index, although
 * it may be a field's name.
 */
#define MS_OPT_UPDATED_PATHS "updated_paths"

/**
 * -1 (never) to 9223372036854775807 [-1]. Once the stream has been open: give up opening it again
 * after this many milliseconds. Where the server refuses the user, the worker gives up after 30
 * seconds in any case.
 */
#define MS_OPT_RETRY_MS "retry_ms"

/**
 * never | initial | always [never]. Deliver the documents that exist before the stream, as messages
 * with the operation snapshot: where there is no checkpoint yet, or at every start. An unfinished
 * one goes on from its checkpoint, whatever is set. pipeline and operations do not filter them.
 * Excludes start_at_time, resume_after and start_after.
 */
#define MS_OPT_SNAPSHOT "snapshot"

/**
 * fail | restart | snapshot [fail]. When the oplog no longer holds the point to go on from: end
 * with MS_ERR_HISTORY_LOST, or go on from now after a message with the operation gap, which says
 * from when to when changes may be missing, or the same with a snapshot after that message.
 */
#define MS_OPT_ON_HISTORY_LOST "on_history_lost"

/**
 * continue | stop [continue]. When what is watched was dropped or renamed: go on with what comes by
 * the same name, or end with MS_ERR_INVALIDATED after the last event.
 */
#define MS_OPT_ON_INVALIDATE "on_invalidate"

/**
 * split | fail | skip [split]. When a change event is larger than 16 MB: let the server split it
 * and put it together again (MongoDB 6.0.9, else as fail), end with MS_ERR_OVERSIZED, or go on
 * after a message with the operation oversized, which says which event it is.
 */
#define MS_OPT_ON_OVERSIZED "on_oversized"

/**
 * path. Keep the acked position in this file, and continue there when the worker is started again:
 * a saved checkpoint overrides every start option. A relative path is resolved once, when the
 * worker starts. Excludes checkpoint_collection.
 */
#define MS_OPT_CHECKPOINT_FILE "checkpoint_file"

/**
 * database.collection. Keep the acked position in this collection, written with majority, one
 * document for each checkpoint_name. Its own changes are not delivered. Put it into a database of
 * its own: if it is dropped together with the watched database, the running worker writes it again,
 * but one that does not run cannot. Excludes checkpoint_file.
 */
#define MS_OPT_CHECKPOINT_COLLECTION "checkpoint_collection"

/**
 * MongoDB URI. The deployment of checkpoint_collection, if it is not the watched one. If several
 * deployments keep their checkpoints there, give each stream a checkpoint_name.
 */
#define MS_OPT_CHECKPOINT_URI "checkpoint_uri"

/**
 * text. The name of the checkpoint. If it is not set: the collection (shop.orders), the database
 * (shop), or * for the deployment, whatever namespaces narrows it to; the worker's name does not
 * matter. It must stay the same from run to run, and no other running worker may use it in the same
 * place. Two workers on one database with different namespaces need a name each.
 */
#define MS_OPT_CHECKPOINT_NAME "checkpoint_name"

/**
 * 1 to 2147483647 [1000]. Save at most this often, in milliseconds; a position that moved without
 * an ack is saved ten times less often. In a snapshot it is saved too whenever 25000 documents more
 * are acked. To join a worker always saves.
 */
#define MS_OPT_CHECKPOINT_MS "checkpoint_ms"

/**
 * true | false [false]. One of two or more workers of the same stream, in processes of their own,
 * delivers; the others wait in state standby, and one takes over when it is gone. Needs
 * checkpoint_collection. Give all of them the same checkpoint_name and options.
 */
#define MS_OPT_STANDBY "standby"

/**
 * 1000 to 600000 [10000]. How long a standby waits after it has heard of the worker that delivers
 * for the last time, in milliseconds. That worker renews its lease after each third of this time.
 * The clocks of the deployment's members must agree to within a tenth of it.
 */
#define MS_OPT_LEASE_MS "lease_ms"


/**
 * Major version of the header.
 */
#define MS_VERSION_MAJOR 0

/**
 * Minor version of the header.
 */
#define MS_VERSION_MINOR 1

/**
 * Patch version of the header.
 */
#define MS_VERSION_PATCH 0

/**
 * The header's version as one number, major * 1000000 + minor * 1000 + patch, for comparison with
 * ms_version_number().
 */
#define MS_VERSION_NUMBER (((MS_VERSION_MAJOR * 1000000) + (MS_VERSION_MINOR * 1000)) + MS_VERSION_PATCH)

/**
 * How a call ended: MS_OK, another way that is no error (above 0), or an error (below 0).
 */
enum ms_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * Done.
     */
    MS_OK = 0,
    /**
     * What was waited for has not happened within the time. Not an error.
     */
    MS_TIMEOUT = 1,
    /**
     * The buffer is drained, and closed or without a running worker; or the worker was stopped. Not an
     * error.
     */
    MS_CLOSED = 2,
    /**
     * An argument or option is wrong. Nothing was changed or started.
     */
    MS_ERR_ARGUMENT = -1,
    /**
     * The call does not fit the object's state.
     */
    MS_ERR_STATE = -2,
    /**
     * The process was forked after mongostream had started its threads, which do not exist in the
     * child.
     */
    MS_ERR_FORKED = -3,
    /**
     * Another worker uses this checkpoint. Retriable: the same call may succeed as soon as that one has
     * ended.
     */
    MS_ERR_IN_USE = -4,
    /**
     * The system has no thread, descriptor or memory to give. Retriable: the same call may succeed later.
     */
    MS_ERR_RESOURCE = -5,
    /**
     * The deployment could not be reached, or not again within retry_ms.
     */
    MS_ERR_CONNECT = -10,
    /**
     * The server refused the user, the password, or the privilege.
     */
    MS_ERR_AUTH = -11,
    /**
     * The server refused the change stream for another reason, see ms_error_server_code.
     */
    MS_ERR_SERVER = -12,
    /**
     * The oplog no longer reaches back to the point where the stream must go on: changes are lost.
     */
    MS_ERR_HISTORY_LOST = -13,
    /**
     * What is watched was dropped or renamed, and the stream was asked to stop there.
     */
    MS_ERR_INVALIDATED = -14,
    /**
     * A checkpoint could not be loaded or saved.
     */
    MS_ERR_CHECKPOINT = -15,
    /**
     * A change event is larger than the server can send.
     */
    MS_ERR_OVERSIZED = -16,
    /**
     * Another worker has taken the lease over (option standby). What was not acked and saved comes from that one.
     */
    MS_ERR_FENCED = -17,
    /**
     * A bug: code of the library panicked, or met what should be impossible. The process goes on.
     */
    MS_ERR_PANIC = -99,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ms_status ms_status;
#else
typedef int32_t ms_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * How much a line of the log matters.
 */
enum ms_log_level
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * As a limit: no lines.
     */
    MS_LOG_OFF = 0,
    /**
     * A worker has failed; the same error comes through its buffer.
     */
    MS_LOG_ERROR = 1,
    /**
     * Something is wrong, and the worker goes on: its stream broke and will be opened again.
     */
    MS_LOG_WARN = 2,
    /**
     * A worker's stream is open, or has ended because it was asked to.
     */
    MS_LOG_INFO = 3,
    /**
     * For whoever looks for a fault.
     */
    MS_LOG_DEBUG = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ms_log_level ms_log_level;
#else
typedef int32_t ms_log_level;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * What a worker is doing.
 */
enum ms_worker_state
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
    /**
     * It connects and opens its cursor for the first time.
     */
    MS_WORKER_STARTING = 0,
    /**
     * Its cursor is open.
     */
    MS_WORKER_STREAMING = 1,
    /**
     * Its cursor broke and it is opening it again, from where it was.
     */
    MS_WORKER_RECONNECTING = 2,
    /**
     * It has ended because it was asked to.
     */
    MS_WORKER_STOPPED = 3,
    /**
     * It has ended with a failure.
     */
    MS_WORKER_FAILED = 4,
    /**
     * Another worker holds its lease. It takes over when that one is gone (option standby).
     */
    MS_WORKER_STANDBY = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum ms_worker_state ms_worker_state;
#else
typedef int32_t ms_worker_state;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

/**
 * Several messages, received with one call. Use one from one thread at a time.
 */
typedef struct ms_batch ms_batch;

/**
 * A bounded queue of messages: any number of workers in, any number of consumers out, from any
 * thread.
 */
typedef struct ms_buffer ms_buffer;

/**
 * What failed. Yours when a call has written it: release it with ms_error_free. May be read from
 * several threads at once.
 */
typedef struct ms_error ms_error;

/**
 * One change event. It outlives its buffer and its worker, and may be read and acked from several
 * threads at once. Texts are made when they are first asked for.
 *
 * Messages share the memory of the server's reply that they came with, so one that you keep keeps up to 4 MiB of
 * others alive (of larger replies 1 MiB; an event that is larger than that keeps only itself). If you keep
 * messages for long, copy what you need and free them; the text of ms_buffer_recv is such a copy.
 */
typedef struct ms_message ms_message;

/**
 * A worker's settings. Use one from one thread at a time; it may serve for any number of workers,
 * each of which copies what it needs.
 */
typedef struct ms_options ms_options;

/**
 * One thread that follows one change stream and feeds one buffer. May be used from any thread.
 */
typedef struct ms_worker ms_worker;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The version of the library that the program runs with, as MS_VERSION_NUMBER counts it. Any
 * thread.
 */
MS_API uint32_t ms_version_number(void);

/**
 * The version of the library that the program runs with, such as "0.1.0". Static, never NULL, not
 * to be freed. Any thread.
 */
MS_API const char *ms_version(void);

/**
 * The name of a status, such as "MS_ERR_CONNECT"; "MS_UNKNOWN" for a number that is none. Static,
 * never NULL, not to be freed. Any thread.
 */
MS_API const char *ms_status_name(int32_t status);

/**
 * What kind of thing went wrong: one of the MS_ERR values; MS_OK for NULL.
 */
MS_API ms_status ms_error_status(const ms_error *error);

/**
 * What failed, on which deployment (its URI without credentials) and what to do, in English UTF-8.
 * Borrowed, lives as long as the error; "" for NULL.
 */
MS_API const char *ms_error_message(const ms_error *error);

/**
 * The server's error code (MongoDB manual, "Error Codes"); 0 if the error is not the server's.
 */
MS_API int32_t ms_error_server_code(const ms_error *error);

/**
 * Whether the same call, or the same worker started again, may succeed without a change by you: the
 * network or an election was the cause. False for NULL.
 */
MS_API bool ms_error_is_retriable(const ms_error *error);

/**
 * The name of the worker that failed: receiving from the buffer may go on. NULL if the mistake is
 * your own: stop looping. Borrowed, lives as long as the error.
 */
MS_API const char *ms_error_worker(const ms_error *error);

/**
 * Releases an error. NULL does nothing.
 */
MS_API void ms_error_free(ms_error *error);

/**
 * Sets the one callback of the process that gets every line up to max_level (MS_LOG_OFF: none), in
 * place of the one before. A NULL callback switches it off. No line holds credentials.
 *
 * Without a callback nothing is logged, unless whoever runs the program asks for it: with the environment
 * variable MONGOSTREAM_LOG=error, warn, info or debug the lines up to this level are written to standard
 * error, and so is each error for which a call was given no place. The variable is read once, when the first
 * worker is started or the first call fails.
 *
 * It returns after every running call of the callback before has ended: its user_data may be freed
 * then. So do not call it while you hold what the callback waits for.
 *
 * The callback is called from the workers' threads, from several at once. worker is the name of the worker that
 * the line is about (ms_worker_name). message has no newline at its end. Both are UTF-8 and live only during the
 * call. A worker waits for the callback: let it be quick, wait for no worker in it, and never leave it with
 * longjmp or an exception.
 *
 * MS_OK; MS_ERR_ARGUMENT for a max_level that does not exist, MS_ERR_STATE from inside a callback:
 * then nothing has changed.
 */
MS_API
ms_status ms_log_set(void (*callback)(void *user_data,
                                      ms_log_level level,
                                      const char *worker,
                                      const char *message),
                     void *user_data,
                     int32_t max_level);

/**
 * Options with every default. Yours: release them with ms_options_free. NULL only on a bug.
 */
MS_API MS_MUST_USE ms_options *ms_options_new(void);

/**
 * Sets one option, see the MS_OPT macros; the last value set holds. Name and value are copied.
 *
 * MS_OK; MS_ERR_ARGUMENT for an unknown name, a bad value, NULL or text that is not UTF-8, with an
 * error text that names the option and what it takes; the options are then as before. What can only
 * be checked when every option is known is checked by ms_worker_start.
 */
MS_API
ms_status ms_options_set(ms_options *options,
                         const char *name,
                         const char *value,
                         ms_error **error);

/**
 * A copy with every value that is set so far; later changes to one do not touch the other. Yours: release it
 * with ms_options_free. NULL for NULL.
 */
MS_API
MS_MUST_USE
ms_options *ms_options_clone(const ms_options *options);

/**
 * The table of options as a JSON array, for bindings, completions and forms. Each option is an object:
 * name; kind ("text", "integer", "boolean", "choice", "list", "json"); values (what it takes, in words);
 * choices (the words of a "choice", else empty); default (null if there is none); text (what it does). Later
 * versions may have more options, kinds and keys. Yours: release it with ms_string_free. NULL only without
 * memory.
 */
MS_API
MS_MUST_USE
char *ms_options_describe(void);

/**
 * Releases options. NULL does nothing. Workers that were started with them are not affected.
 */
MS_API void ms_options_free(ms_options *options);

/**
 * Keeps the checkpoints of workers that are started with these options in a store of your own, in place of
 * checkpoint_file and checkpoint_collection. A checkpoint is one text for each name (see MS_OPT_CHECKPOINT_NAME).
 * The text is opaque.
 *
 * load gives the text that was saved last under the name: *text is from malloc (the library frees it), or stays
 * NULL if there is none. save replaces the text: when it returns 0, the text must survive a crash of the machine;
 * else the text before must still be there. Both return 0 when it is done, a number above 0 if the same call may
 * succeed later (it is tried again), a number below 0 if not. name and text live only during the call.
 *
 * Both are called from a thread of the library, for one worker one call after the other, for several workers at once.
 * They may wait: the stream goes on meanwhile. They must not call ms_worker_join, and never be left with longjmp or
 * an exception.
 *
 * release (may be NULL) is called with user_data, once and from any thread, when nobody can call load or save any more: the options and their
 * copies are freed, and every worker that was started with them has ended and saved. Until then both functions and
 * user_data must stay usable. If this call fails, release is not called.
 *
 * MS_OK; MS_ERR_ARGUMENT if options, load or save is NULL. A second call replaces the store of the first.
 */
MS_API
ms_status ms_options_set_checkpoint_store(ms_options *options,
                                          int32_t (*load)(void *user_data,
                                                          const char *name,
                                                          char **text),
                                          int32_t (*save)(void *user_data,
                                                          const char *name,
                                                          const char *text),
                                          void (*release)(void *user_data),
                                          void *user_data,
                                          ms_error **error);

/**
 * A buffer for up to capacity messages (at least 1) and 64 MiB of change events. When it is full its
 * workers wait; nothing is ever dropped. Yours: release it with ms_buffer_free. NULL if capacity
 * is 0.
 */
MS_API
MS_MUST_USE
ms_buffer *ms_buffer_new(size_t capacity);

/**
 * A buffer for up to capacity messages and max_bytes bytes of change events (BSON), whichever is
 * reached first; both at least 1. One event that is larger than max_bytes still passes, alone.
 * Yours: release it with ms_buffer_free. NULL if either is 0.
 */
MS_API MS_MUST_USE ms_buffer *ms_buffer_new_with(size_t capacity, size_t max_bytes);

/**
 * Ends every wait of this process, now and from now on: every buffer is closed, and so is each that is made
 * later. Never waits.
 *
 * It is called by itself at exit, before what was registered with atexit before the first buffer was made. A
 * host that waits for its threads earlier calls it where it learns that it ends: in Node for instance in
 * process.on("exit"), because process.exit first waits for threads which may be receiving. Not called by
 * quick_exit and _exit. In a child of fork it concerns the child's own buffers.
 */
MS_API
void ms_shutdown(void);

/**
 * Receives the next message as JSON and acks it before you have used it: if your program crashes then, a
 * checkpoint does not bring it back (at most once). Where no message may be lost, use ms_buffer_recv_message,
 * and ms_message_ack when you are done with the message.
 *
 * Waits for as long as it takes. Yours: release the text with ms_string_free.
 *
 * NULL without an error: the buffer is drained, and closed or without a running worker. NULL with an
 * error: a worker failed, which ms_error_worker names, and receiving may go on; or the mistake is
 * your own (ms_error_worker is NULL): stop looping. On a buffer that no worker has fed yet it waits.
 */
MS_API
MS_MUST_USE
char *ms_buffer_recv(ms_buffer *buffer,
                     ms_error **error);

/**
 * Releases text that a function of this header has returned as char *. NULL does nothing.
 */
MS_API void ms_string_free(char *text);

/**
 * Waits for the next message for at most timeout_ms milliseconds (below 0 for ever, 0 not at all). It counts
 * as done when you ack it with ms_message_ack: after a restart a worker with a checkpoint continues with the
 * first message that was not acked.
 *
 * MS_OK: *message is yours, release it with ms_message_free. MS_TIMEOUT. MS_CLOSED: the buffer is
 * drained, and closed or without a running worker. An error as for ms_buffer_recv.
 */
MS_API
ms_status ms_buffer_recv_message(ms_buffer *buffer,
                                 int64_t timeout_ms,
                                 ms_message **message,
                                 ms_error **error);

/**
 * Waits for one message for at most timeout_ms milliseconds (below 0 for ever, 0 not at all), then
 * takes what is already there, up to max messages; it never waits to fill the batch.
 *
 * MS_OK: *batch is yours, release it with ms_batch_free. Otherwise as ms_buffer_recv_message. A
 * failure that stands after some messages comes with the next call; each is given to one consumer,
 * once. A max of 0 is MS_ERR_ARGUMENT.
 */
MS_API
ms_status ms_buffer_recv_batch(ms_buffer *buffer,
                               size_t max,
                               int64_t timeout_ms,
                               ms_batch **batch,
                               ms_error **error);

/**
 * A descriptor for poll, epoll or an event loop: readable while a receive would not wait (a message,
 * a failure, or closed); level-triggered. Made on the first call; it belongs to the buffer: do not
 * read, write or close it. With several consumers receive with timeout 0, another one may have been
 * faster. -1 where the system gives none, and for NULL.
 */
MS_API
int ms_buffer_fd(ms_buffer *buffer);

/**
 * How many messages are queued now; 0 for NULL.
 */
MS_API size_t ms_buffer_len(const ms_buffer *buffer);

/**
 * Figures of the buffer and of each of its workers as JSON, on one line: what is queued, received,
 * delivered and not acked, how far each worker is behind, its last error. docs/STATISTICS.md describes
 * every key; more may come. Cheap enough to be asked for every second. Yours: release it with
 * ms_string_free. NULL for NULL, and in a child of fork.
 */
MS_API
MS_MUST_USE
char *ms_buffer_stats(const ms_buffer *buffer);

/**
 * The same figures as OpenMetrics text, for an HTTP server that Prometheus asks. Its Content-Type is
 * "application/openmetrics-text; version=1.0.0; charset=utf-8". docs/STATISTICS.md describes every metric; more
 * may come. Yours: release it with ms_string_free. NULL for NULL, and in a child of fork.
 */
MS_API
MS_MUST_USE
char *ms_buffer_metrics(const ms_buffer *buffer);

/**
 * Stops the buffer's workers and wakes every consumer; what is queued can still be received. Never
 * waits; closing twice, or NULL, does nothing.
 */
MS_API void ms_buffer_close(ms_buffer *buffer);

/**
 * Closes and releases a buffer; what is queued is dropped, unacked. Never waits. Workers and
 * messages may be freed before or after it, but no consumer may still be using it. NULL does
 * nothing.
 */
MS_API void ms_buffer_free(ms_buffer *buffer);

/**
 * Starts a worker on the deployment at uri (MongoDB manual, "Connection Strings"). collection NULL:
 * the whole database; database NULL too: the database in the URI's path, and where there is none, or
 * "/admin", the whole deployment. options may be NULL: every default.
 * Nothing is kept of the arguments but a reference to the buffer's inside.
 *
 * Checks every argument and option now, and connects on the worker's own thread. What goes wrong there
 * comes through the buffer. Yours: release it with ms_worker_free. NULL on failure. If error is NULL too,
 * the failure comes through the buffer: the next receive returns it, and then the buffer is closed unless
 * another worker runs. So a program that ignores errors ends and does not wait for ever. The errors:
 * MS_ERR_ARGUMENT; MS_ERR_STATE for a closed buffer; MS_ERR_IN_USE if another worker uses the
 * checkpoint; MS_ERR_CHECKPOINT if its store cannot be used; MS_ERR_RESOURCE if the system gives no thread
 * or descriptor, and a later call may succeed; MS_ERR_FORKED.
 */
MS_API
ms_worker *ms_worker_start(const char *uri,
                           const char *database,
                           const char *collection,
                           ms_buffer *buffer,
                           const ms_options *options,
                           ms_error **error);

/**
 * The worker's name, as in its messages and errors: the option name, or what it watches ("shop.orders").
 * Borrowed, lives as long as the worker's handle. NULL for NULL.
 */
MS_API
const char *ms_worker_name(const ms_worker *worker);

/**
 * What the worker is doing now; MS_WORKER_STOPPED for NULL.
 */
MS_API ms_worker_state ms_worker_get_state(const ms_worker *worker);

/**
 * Waits for at most timeout_ms milliseconds (below 0 for ever, 0 not at all) until the cursor has
 * been open once: every later change will be delivered. Stays true afterwards.
 *
 * MS_OK; MS_TIMEOUT; MS_CLOSED if the worker was stopped before; or why it failed (the failure still
 * comes through the buffer as well).
 */
MS_API
ms_status ms_worker_wait_ready(const ms_worker *worker,
                               int64_t timeout_ms,
                               ms_error **error);

/**
 * Asks the worker to stop; never waits. What it has put into the buffer stays there. Stopping twice,
 * or NULL, does nothing.
 */
MS_API
void ms_worker_stop(ms_worker *worker);

/**
 * Waits for at most timeout_ms milliseconds (below 0 for ever, 0 not at all) until the worker has
 * ended and its checkpoint, if it has one, is saved; it does not ask it to end. Every ack made before
 * this call is then durable; acks made later may go unsaved.
 *
 * MS_OK: it has ended, and its checkpoint is saved. MS_TIMEOUT: it has not ended yet, or its
 * checkpoint is not saved yet (ms_worker_get_state tells which); the save goes on, and the next call
 * tells how it ended. Else why the worker failed (the failure still comes through the buffer as
 * well), or MS_ERR_CHECKPOINT if the checkpoint could not be saved, at the latest after 5 s.
 */
MS_API
ms_status ms_worker_join(ms_worker *worker,
                         int64_t timeout_ms,
                         ms_error **error);

/**
 * The resume token (JSON) up to which every message is acked: a worker started with it as
 * start_after goes on there. Before the first ack it is the token with which the stream was opened.
 * Yours: release it with ms_string_free. NULL before the stream was open, and for NULL.
 */
MS_API MS_MUST_USE char *ms_worker_resume_token(const ms_worker *worker);

/**
 * Stops the worker and lets it go; never waits. What is still to be saved of its checkpoint is saved
 * later; until then the checkpoint counts as in use, so join first to start again at once. The buffer may be freed before or after it. NULL
 * does nothing.
 */
MS_API
void ms_worker_free(ms_worker *worker);

/**
 * The message as JSON on one line, in the shape and mode of the worker's options format and json.
 * Borrowed, lives as long as the message; *length (may be NULL) is its length in bytes without the
 * NUL. NULL for NULL.
 */
MS_API const char *ms_message_json(const ms_message *message, size_t *length);

/**
 * The server's change event, raw BSON of *length bytes (length may be NULL: BSON begins with its
 * length). Borrowed, lives as long as the message. NULL for NULL.
 */
MS_API const uint8_t *ms_message_bson(const ms_message *message, size_t *length);

/**
 * The operation type, "insert", "update", ... as the server names it (MongoDB manual, "Change
 * Events"). Borrowed, lives as long as the message. NULL for NULL.
 */
MS_API const char *ms_message_operation(const ms_message *message);

/**
 * Where the change happened: "shop.orders"; only the database for an event without a collection; ""
 * for one without a database. Borrowed, lives as long as the message. NULL for NULL.
 */
MS_API const char *ms_message_namespace(const ms_message *message);

/**
 * The id of the document that has changed, as a text: an ObjectId's 24 hexadecimal digits, a string itself, any
 * other _id as its relaxed Extended JSON ("7"); "" for an event without a document. It is the text that
 * DocumentKey.DocumentId has in the JSON. A string with a NUL inside ends there.
 * Borrowed, lives as long as the message. NULL for NULL.
 */
MS_API
const char *ms_message_document_id(const ms_message *message);

/**
 * When the change happened, by the cluster's clock: *seconds since 1970 and *increment, a number within the
 * second (MongoDB manual, "Change Events"). Either may be NULL. False, with nothing written, for an event
 * without it (a document of a snapshot) and for NULL.
 */
MS_API
bool ms_message_cluster_time(const ms_message *message,
                             uint32_t *seconds,
                             uint32_t *increment);

/**
 * The dotted paths of all fields that an update has set, as a JSON array of texts: documents are
 * descended into, array indexes left out, and each path is there once; "[]" for other events. Removed
 * fields and truncated arrays are not among them. Where the server does not tell (before 6.1, or without
 * expanded events), a step of digits after the first is taken for an index, not for a field's name.
 * Borrowed, lives as long as the message; *length (may be NULL) is its length in bytes without the
 * NUL. NULL for NULL.
 */
MS_API
const char *ms_message_updated_paths(const ms_message *message,
                                     size_t *length);

/**
 * The resume token as JSON: a worker started with it as start_after goes on after this message.
 * Borrowed, lives as long as the message. NULL for a message that has no place in the stream, and
 * for NULL.
 */
MS_API const char *ms_message_resume_token(const ms_message *message);

/**
 * The place after this message as an opaque text: everything that the worker delivered up to and including this
 * message is done. Store it in the same transaction as what you make of the message, and start again with it as
 * start_at_position: then each message takes effect exactly once. Neither acks nor a checkpoint are needed.
 *
 * Documents of a snapshot have a position, too. It says what is left to read; for a collection of many millions of
 * documents it has up to some 30 KiB. A position belongs to a stream of the same database, collection, namespaces,
 * operations and pipeline. Handle messages in the order in which you received them.
 * Borrowed, lives as long as the message. NULL for an event without a resume token (only a pipeline that removes _id
 * makes one), for a document without an _id, and for NULL.
 */
MS_API
const char *ms_message_position(const ms_message *message);

/**
 * The name of the worker that read the message. Borrowed, lives as long as the message. NULL for
 * NULL.
 */
MS_API const char *ms_message_worker(const ms_message *message);

/**
 * Another handle to the same message, also to one of a batch; nothing is copied. One ack counts for both. Yours:
 * release it with ms_message_free, before or after the other one. NULL for NULL.
 */
MS_API
MS_MUST_USE
ms_message *ms_message_clone(const ms_message *message);

/**
 * Says that you are done with the message. In any order, twice without harm, also after its worker
 * and buffer are gone. NULL does nothing.
 */
MS_API void ms_message_ack(const ms_message *message);

/**
 * Releases a message from ms_buffer_recv_message or ms_message_clone; one that is not acked stays so. Not for messages
 * of a batch. NULL does nothing.
 */
MS_API
void ms_message_free(ms_message *message);

/**
 * How many messages the batch holds, at least 1; 0 for NULL.
 */
MS_API size_t ms_batch_len(const ms_batch *batch);

/**
 * One message, in the order in which they were read. Borrowed, lives as long as the batch; do not
 * free it. NULL past the end, and for NULL.
 */
MS_API const ms_message *ms_batch_get(const ms_batch *batch, size_t index);

/**
 * All messages as JSON, each on a line of its own that ends in a newline: one call a batch.
 * Borrowed, lives as long as the batch; *length (may be NULL) is its length in bytes without the
 * NUL. NULL for NULL.
 */
MS_API const char *ms_batch_json_lines(const ms_batch *batch, size_t *length);

/**
 * Acks every message of the batch, see ms_message_ack. NULL does nothing.
 */
MS_API void ms_batch_ack(const ms_batch *batch);

/**
 * Releases a batch and its messages; those that are not acked stay so. NULL does nothing.
 */
MS_API void ms_batch_free(ms_batch *batch);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* MONGOSTREAM_H */
