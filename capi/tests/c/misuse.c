/* Every mistake that C can make without breaking its own memory; after each the buffer still serves. */
#include "check.h"

#define CHECK_MISTAKE(error, status, word) check_mistake(__FILE__, __LINE__, error, status, word)

#define BAD_UTF8 "caf\xe9"

static struct place place;

/* The same buffer still takes a worker and receives from it. */
static void check_still_serves(ms_buffer *buffer)
{
    ms_error *error = UNTOUCHED;
    ms_message *message = NULL;
    ms_worker *worker = start_in_past(&place, buffer);
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, &error), MS_OK);
    CHECK(error == UNTOUCHED);
    CHECK_HAS(ms_message_json(message, NULL), "\"insert\"");
    ms_message_free(message);
    ms_worker_stop(worker);
    CHECK_STATUS(ms_worker_join(worker, LONG_MS, &error), MS_OK);
    CHECK(error == UNTOUCHED);
    ms_worker_free(worker);
    while (ms_buffer_recv_message(buffer, 0, &message, NULL) == MS_OK)
        ms_message_free(message);
}

/* A start that failed without a place for its error: the next receive has it, and then, as no worker runs, the
   buffer is closed. */
static void check_refused(ms_worker *worker, ms_buffer *buffer, ms_status status)
{
    ms_error *error = UNTOUCHED;
    ms_message *message = UNTOUCHED;
    ms_batch *batch = UNTOUCHED;
    CHECK(worker == NULL);
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, &error), status);
    CHECK_STATUS(ms_error_status(error), status);
    CHECK(ms_error_worker(error) != NULL);
    CHECK(strstr(ms_error_message(error), "hu") == NULL);
    ms_error_free(error);
    error = UNTOUCHED;
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, &error), MS_CLOSED);
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 5, LONG_MS, &batch, &error), MS_CLOSED);
    CHECK(error == UNTOUCHED && message == UNTOUCHED && batch == UNTOUCHED);
}

static void null_where_a_value_is_required(void)
{
    ms_buffer *buffer = ms_buffer_new(8);
    ms_options *options = ms_options_new();
    ms_error *error = UNTOUCHED;
    ms_message *message = UNTOUCHED;
    ms_batch *batch = UNTOUCHED;
    size_t length = 4711;

    CHECK(ms_error_status(NULL) == MS_OK);
    CHECK(strcmp(ms_error_message(NULL), "") == 0);
    CHECK(ms_error_server_code(NULL) == 0);
    CHECK(!ms_error_is_retriable(NULL));
    CHECK(ms_error_worker(NULL) == NULL);

    CHECK_STATUS(ms_options_set(NULL, "name", "x", &error), MS_ERR_ARGUMENT);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "options");
    CHECK_STATUS(ms_options_set(options, NULL, "x", &error), MS_ERR_ARGUMENT);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "name");
    CHECK_STATUS(ms_options_set(options, "batch_size", NULL, &error), MS_ERR_ARGUMENT);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "batch_size");
    CHECK_STATUS(ms_options_set(NULL, NULL, NULL, NULL), MS_ERR_ARGUMENT);

    CHECK(ms_buffer_recv(NULL, &error) == NULL);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "buffer");
    CHECK(ms_buffer_recv(NULL, NULL) == NULL);
    CHECK_STATUS(ms_buffer_recv_message(NULL, -1, &message, &error), MS_ERR_ARGUMENT);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "buffer");
    CHECK_STATUS(ms_buffer_recv_message(buffer, -1, NULL, &error), MS_ERR_ARGUMENT);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "message");
    CHECK_STATUS(ms_buffer_recv_message(NULL, -1, NULL, NULL), MS_ERR_ARGUMENT);
    CHECK(message == UNTOUCHED);
    check_still_serves(buffer);

    CHECK_STATUS(ms_buffer_recv_batch(NULL, 1, -1, &batch, &error), MS_ERR_ARGUMENT);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "buffer");
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 1, -1, NULL, &error), MS_ERR_ARGUMENT);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "batch");
    CHECK_STATUS(ms_buffer_recv_batch(NULL, 0, -1, NULL, NULL), MS_ERR_ARGUMENT);
    CHECK(batch == UNTOUCHED);
    check_still_serves(buffer);
    CHECK(ms_buffer_fd(NULL) == -1);
    CHECK(ms_buffer_len(NULL) == 0);
    CHECK(ms_buffer_stats(NULL) == NULL);
    CHECK(ms_buffer_metrics(NULL) == NULL);
    ms_buffer_close(NULL);

    CHECK(ms_worker_start(NULL, "d", "c", buffer, NULL, &error) == NULL);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "uri");
    check_still_serves(buffer);
    CHECK(ms_worker_start(place.uri, "d", "c", NULL, NULL, &error) == NULL);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "buffer");
    CHECK(ms_worker_start(NULL, NULL, NULL, NULL, NULL, NULL) == NULL);
    CHECK(ms_worker_get_state(NULL) == MS_WORKER_STOPPED);
    CHECK_STATUS(ms_worker_wait_ready(NULL, -1, &error), MS_ERR_ARGUMENT);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "worker");
    CHECK_STATUS(ms_worker_wait_ready(NULL, -1, NULL), MS_ERR_ARGUMENT);
    CHECK_STATUS(ms_worker_join(NULL, -1, &error), MS_ERR_ARGUMENT);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "worker");
    CHECK_STATUS(ms_worker_join(NULL, -1, NULL), MS_ERR_ARGUMENT);
    ms_worker_stop(NULL);
    CHECK(ms_worker_resume_token(NULL) == NULL);
    CHECK(ms_worker_name(NULL) == NULL);
    CHECK(ms_options_clone(NULL) == NULL);

    CHECK(ms_message_json(NULL, &length) == NULL);
    CHECK(ms_message_bson(NULL, &length) == NULL);
    CHECK(ms_message_operation(NULL) == NULL);
    CHECK(ms_message_namespace(NULL) == NULL);
    CHECK(ms_message_document_id(NULL) == NULL);
    uint32_t seconds = 4711, increment = 4711;
    CHECK(!ms_message_cluster_time(NULL, &seconds, &increment));
    CHECK(seconds == 4711 && increment == 4711);
    CHECK(ms_message_clone(NULL) == NULL);
    CHECK(ms_message_position(NULL) == NULL);
    CHECK(ms_message_updated_paths(NULL, NULL) == NULL);
    CHECK(ms_message_resume_token(NULL) == NULL);
    CHECK(ms_message_worker(NULL) == NULL);
    ms_message_ack(NULL);
    CHECK(ms_batch_len(NULL) == 0);
    CHECK(ms_batch_get(NULL, 0) == NULL);
    CHECK(ms_batch_json_lines(NULL, &length) == NULL);
    ms_batch_ack(NULL);
    CHECK(length == 4711);

    ms_string_free(NULL);
    ms_error_free(NULL);
    ms_options_free(NULL);
    ms_message_free(NULL);
    ms_batch_free(NULL);
    ms_worker_free(NULL);
    ms_buffer_free(NULL);

    ms_options_free(options);
    check_still_serves(buffer);
    ms_buffer_free(buffer);
}

static void nothing_asked_for(void)
{
    CHECK(ms_buffer_new(0) == NULL);
    CHECK(ms_buffer_new_with(0, 1) == NULL);
    CHECK(ms_buffer_new_with(1, 0) == NULL);

    ms_buffer *buffer = ms_buffer_new_with(1, 1);
    ms_error *error = UNTOUCHED;
    ms_batch *batch = UNTOUCHED;
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 0, -1, &batch, &error), MS_ERR_ARGUMENT);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "max");
    CHECK(batch == UNTOUCHED);
    check_still_serves(buffer);
    ms_buffer_free(buffer);

    /* The other end of the range is no mistake. */
    buffer = ms_buffer_new_with(SIZE_MAX, SIZE_MAX);
    ms_worker *worker = start_in_past(&place, buffer);
    CHECK_STATUS(ms_worker_wait_ready(worker, INT64_MAX, NULL), MS_OK);
    CHECK_STATUS(ms_buffer_recv_batch(buffer, SIZE_MAX, INT64_MAX, &batch, NULL), MS_OK);
    ms_batch_free(batch);
    ms_worker_stop(worker);
    CHECK_STATUS(ms_worker_join(worker, INT64_MAX, NULL), MS_OK);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

static void text_that_is_not_utf8(void)
{
    ms_buffer *buffer = ms_buffer_new(8);
    ms_options *options = ms_options_new();
    ms_error *error = UNTOUCHED;
    CHECK(ms_worker_start("mongodb://" BAD_UTF8, "d", "c", buffer, NULL, &error) == NULL);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "uri is not UTF-8");
    check_still_serves(buffer);
    CHECK(ms_worker_start(place.uri, BAD_UTF8, "c", buffer, NULL, &error) == NULL);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "database is not UTF-8");
    check_still_serves(buffer);
    CHECK(ms_worker_start(place.uri, "d", BAD_UTF8, buffer, NULL, &error) == NULL);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "collection is not UTF-8");
    check_still_serves(buffer);
    CHECK_STATUS(ms_options_set(options, BAD_UTF8, "x", &error), MS_ERR_ARGUMENT);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "not UTF-8");
    CHECK_STATUS(ms_options_set(options, "name", BAD_UTF8, &error), MS_ERR_ARGUMENT);
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "option name is not UTF-8");
    ms_options_free(options);
    ms_buffer_free(buffer);
}

static void options_that_do_not_exist_or_fit(void)
{
    static const char *const bad[][2] = {
        { MS_OPT_NAME, "" },
        { MS_OPT_START_AT_TIME, "yesterday" },
        { MS_OPT_START_AT_TIME, "1732264946123" },
        { MS_OPT_START_AT_TIME, "1:2:3" },
        { MS_OPT_RESUME_AFTER, "{" },
        { MS_OPT_RESUME_AFTER, "{}" },
        { MS_OPT_START_AFTER, "[]" },
        { MS_OPT_START_AFTER, "{\"_data\":" },
        { MS_OPT_PIPELINE, "[{\"$match\":}]" },
        { MS_OPT_PIPELINE, "{}" },
        { MS_OPT_PIPELINE, "[{\"match\":{}}]" },
        { MS_OPT_FULL_DOCUMENT, "updatelookup" },
        { MS_OPT_BATCH_SIZE, "0" },
        { MS_OPT_BATCH_SIZE, "2147483648" },
        { MS_OPT_AWAIT_MS, "1s" },
        { MS_OPT_FORMAT, "xml" },
        { MS_OPT_JSON, "strict" },
        { MS_OPT_RETRY_MS, "-2" },
        { MS_OPT_ON_INVALIDATE, "ignore" },
        { MS_OPT_CHECKPOINT_FILE, "" },
        { MS_OPT_CHECKPOINT_COLLECTION, "" },
        { MS_OPT_CHECKPOINT_URI, "localhost" },
        { MS_OPT_CHECKPOINT_NAME, "" },
        { MS_OPT_CHECKPOINT_MS, "0" },
    };
    ms_buffer *buffer = ms_buffer_new(8);
    ms_options *options = ms_options_new();
    ms_error *error = UNTOUCHED;
    CHECK_STATUS(ms_options_set(options, MS_OPT_NAME, "before", &error), MS_OK);
    CHECK_STATUS(ms_options_set(options, MS_OPT_START_AT_TIME, place.since, &error), MS_OK);
    CHECK_STATUS(ms_options_set(options, MS_OPT_FORMAT, "event", &error), MS_OK);
    CHECK(error == UNTOUCHED);

    CHECK_STATUS(ms_options_set(options, "shape", "x", &error), MS_ERR_ARGUMENT);
    CHECK_HAS(ms_error_message(error), "shape");
    CHECK_MISTAKE(error, MS_ERR_ARGUMENT, MS_OPT_PIPELINE);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_STATUS(ms_options_set(options, bad[i][0], bad[i][1], NULL), MS_ERR_ARGUMENT);
        CHECK_STATUS(ms_options_set(options, bad[i][0], bad[i][1], &error), MS_ERR_ARGUMENT);
        CHECK_MISTAKE(error, MS_ERR_ARGUMENT, bad[i][0]);
    }

    char *described = ms_options_describe();
    CHECK_HAS(described, "\"name\":\"" MS_OPT_FORMAT "\"");
    CHECK(described[0] == '[' && described[strlen(described) - 1] == ']');
    ms_string_free(described);

    /* A copy is its own: what is set later in the one is not in the other. */
    ms_options *copy = ms_options_clone(options);
    CHECK_STATUS(ms_options_set(options, MS_OPT_NAME, "after", NULL), MS_OK);
    CHECK_STATUS(ms_options_set(options, MS_OPT_FORMAT, "oplog", NULL), MS_OK);
    ms_options_free(options);
    options = copy;

    /* The options are as before. */
    error = UNTOUCHED;
    ms_message *message = NULL;
    ms_worker *worker = ms_worker_start(place.uri, place.database, "c", buffer, options, &error);
    CHECK(worker != NULL);
    ms_options_free(options);
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, &error), MS_OK);
    CHECK(strcmp(ms_message_worker(message), "before") == 0);
    CHECK_HAS(ms_message_json(message, NULL), "\"operationType\":\"insert\"");
    CHECK(error == UNTOUCHED);
    ms_message_free(message);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

static void options_that_exclude_each_other(void)
{
    static const char *const starts[][2] = {
        { MS_OPT_START_AT_TIME, "1732264946:1" },
        { MS_OPT_RESUME_AFTER, "{\"_data\":\"82\"}" },
        { MS_OPT_START_AFTER, "{\"_data\":\"82\"}" },
    };
    ms_buffer *buffer = ms_buffer_new(8);
    for (int i = 0; i < 3; i++) {
        const char *const *one = starts[i], *const *other = starts[(i + 1) % 3];
        ms_error *error = UNTOUCHED;
        ms_options *options = ms_options_new();
        CHECK_STATUS(ms_options_set(options, one[0], one[1], &error), MS_OK);
        CHECK_STATUS(ms_options_set(options, other[0], other[1], &error), MS_OK);
        CHECK(error == UNTOUCHED);
        check_refused(ms_worker_start(place.uri, "d", "c", buffer, options, NULL), buffer, MS_ERR_ARGUMENT);
        CHECK(ms_worker_start(place.uri, "d", "c", buffer, options, &error) == NULL);
        CHECK_HAS(ms_error_message(error), one[0]);
        CHECK_MISTAKE(error, MS_ERR_ARGUMENT, other[0]);
        ms_options_free(options);
        check_still_serves(buffer);
    }
    ms_buffer_free(buffer);
}

static void uris_that_are_wrong(void)
{
    static const char *const bad[] = {
        "",
        "localhost",
        "mongodb://",
        "http://user:hush@localhost/",
        "user:hush@localhost",
        "mongodb://user:hu/sh@localhost/",
        "mongodb://user:hu@sh@localhost/",
        "mongodb://user:hu%sh@localhost/",
        "mongodb://user:hush@localhost:99999999/",
        "mongodb://user:hush@localhost/?w=-7",
    };
    ms_buffer *buffer = ms_buffer_new(8);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ms_error *error = UNTOUCHED;
        check_refused(ms_worker_start(bad[i], "d", "c", buffer, NULL, NULL), buffer, MS_ERR_ARGUMENT);
        CHECK(ms_worker_start(bad[i], "d", "c", buffer, NULL, &error) == NULL);
        CHECK(error != UNTOUCHED && strstr(ms_error_message(error), "hu") == NULL);
        CHECK_MISTAKE(error, MS_ERR_ARGUMENT, "URI");
        check_still_serves(buffer);
    }
    ms_buffer_free(buffer);
}

static void scopes_that_do_not_exist(void)
{
    static const char *const bad[][3] = {
        { NULL, "c", "database" },
        { "", "c", "database" },
        { "a.b", NULL, "database" },
        { "1234567890123456789012345678901234567890123456789012345678901234", NULL, "database" },
        { "d", "", "collection" },
        { "d", "$cmd", "collection" },
        { "d", ".c", "collection" },
    };
    ms_buffer *buffer = ms_buffer_new(8);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ms_error *error = UNTOUCHED;
        check_refused(ms_worker_start(place.uri, bad[i][0], bad[i][1], buffer, NULL, NULL), buffer, MS_ERR_ARGUMENT);
        CHECK(ms_worker_start(place.uri, bad[i][0], bad[i][1], buffer, NULL, &error) == NULL);
        CHECK_MISTAKE(error, MS_ERR_ARGUMENT, bad[i][2]);
        check_still_serves(buffer);
    }
    ms_buffer_free(buffer);
}

/* While another worker runs its messages go on. */
static void a_start_that_fails_beside_a_worker(void)
{
    ms_error *error = UNTOUCHED;
    ms_message *message = UNTOUCHED;
    ms_options *options = ms_options_new();
    ms_buffer *buffer = ms_buffer_new(8);
    ms_worker *worker = start_now(&place, buffer);
    CHECK_STATUS(ms_options_set(options, MS_OPT_NAME, "refused", NULL), MS_OK);
    /* However often: only the last is told. */
    for (int i = 0; i < 3; i++)
        CHECK(ms_worker_start("nonsense", "d", "c", buffer, options, NULL) == NULL);
    CHECK(ms_buffer_recv(buffer, &error) == NULL);
    CHECK_STATUS(ms_error_status(error), MS_ERR_ARGUMENT);
    CHECK(strcmp(ms_error_worker(error), "refused") == 0);
    ms_error_free(error);
    error = UNTOUCHED;
    CHECK_STATUS(ms_buffer_recv_message(buffer, 0, &message, &error), MS_TIMEOUT);
    ms_worker_stop(worker);
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, &error), MS_CLOSED);
    CHECK(error == UNTOUCHED);
    ms_worker_free(worker);
    ms_options_free(options);
    ms_buffer_free(buffer);
}

static void a_worker_for_a_closed_buffer(void)
{
    ms_buffer *buffer = ms_buffer_new(8);
    ms_error *error = UNTOUCHED;
    ms_message *message = UNTOUCHED;
    ms_buffer_close(buffer);
    ms_buffer_close(buffer);
    check_refused(ms_worker_start(place.uri, "d", "c", buffer, NULL, NULL), buffer, MS_ERR_STATE);
    CHECK(ms_worker_start(place.uri, "d", "c", buffer, NULL, &error) == NULL);
    CHECK_MISTAKE(error, MS_ERR_STATE, "closed");
    error = UNTOUCHED;
    CHECK_STATUS(ms_buffer_recv_message(buffer, -1, &message, &error), MS_CLOSED);
    CHECK(ms_buffer_recv(buffer, &error) == NULL);
    CHECK(message == UNTOUCHED && error == UNTOUCHED);
    ms_buffer_free(buffer);

    /* A new one serves. */
    buffer = ms_buffer_new(8);
    check_still_serves(buffer);
    ms_buffer_free(buffer);
}

static void statuses_that_do_not_exist(void)
{
#define NAME(status) { status, #status }
    static const struct {
        ms_status status;
        const char *name;
    } known[] = {
        NAME(MS_OK),
        NAME(MS_TIMEOUT),
        NAME(MS_CLOSED),
        NAME(MS_ERR_ARGUMENT),
        NAME(MS_ERR_STATE),
        NAME(MS_ERR_FORKED),
        NAME(MS_ERR_CONNECT),
        NAME(MS_ERR_AUTH),
        NAME(MS_ERR_SERVER),
        NAME(MS_ERR_HISTORY_LOST),
        NAME(MS_ERR_INVALIDATED),
        NAME(MS_ERR_CHECKPOINT),
        NAME(MS_ERR_OVERSIZED),
        NAME(MS_ERR_FENCED),
        NAME(MS_ERR_IN_USE),
        NAME(MS_ERR_RESOURCE),
        NAME(MS_ERR_PANIC),
    };
    static const ms_status unknown[] = { 3, -6, -9, -18, -98, -100, INT32_MAX, INT32_MIN };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        CHECK(strcmp(ms_status_name(known[i].status), known[i].name) == 0);
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++)
        CHECK(strcmp(ms_status_name(unknown[i]), "MS_UNKNOWN") == 0);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } mistakes[] = {
#define MISTAKE(name) { #name, name }
        MISTAKE(null_where_a_value_is_required),
        MISTAKE(nothing_asked_for),
        MISTAKE(text_that_is_not_utf8),
        MISTAKE(options_that_do_not_exist_or_fit),
        MISTAKE(options_that_exclude_each_other),
        MISTAKE(uris_that_are_wrong),
        MISTAKE(scopes_that_do_not_exist),
        MISTAKE(a_start_that_fails_beside_a_worker),
        MISTAKE(a_worker_for_a_closed_buffer),
        MISTAKE(statuses_that_do_not_exist),
    };
    place = place_of(argc, argv);
    CHECK(argc == 5);
    for (size_t i = 0; i < sizeof mistakes / sizeof *mistakes; i++) {
        if (strcmp(argv[4], mistakes[i].name) == 0) {
            mistakes[i].run();
            say("done");
            return 0;
        }
    }
    CHECK(false && "a mistake of this name");
}
