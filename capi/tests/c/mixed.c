/*
 * Five workers, one small buffer, two consumers. Each consumer writes a line for each message to a
 * file of its own: its place in the order of receiving, worker, operation, document id.
 *
 *     mixed URI DATABASE SINCE COUNT FILE FILE
 */
#include "check.h"

#include <stdatomic.h>

#define WORKERS 5

static ms_buffer *buffer;
static long expected;
static atomic_long received;

static void record(FILE *file, const ms_message *message)
{
    static const char key[] = "\"DocumentId\":\"";
    const char *json = ms_message_json(message, NULL);
    const char *id = strstr(json, key);
    CHECK(id != NULL);
    id += sizeof key - 1;
    bool update = strcmp(ms_message_operation(message), "update") == 0;
    size_t length = 0;
    const char *paths = ms_message_updated_paths(message, &length);
    CHECK(strcmp(paths, update ? "[\"state\"]" : "[]") == 0 && length == strlen(paths));
    fprintf(file, "%ld %s %s %.*s\n", atomic_fetch_add(&received, 1), ms_message_worker(message),
            ms_message_operation(message), (int)strcspn(id, "\""), id);
    ms_message_ack(message);
}

/* Nothing more may come behind the last one. */
static bool is_over(ms_status status, int64_t quiet_since)
{
    if (status == MS_OK)
        return false;
    CHECK_STATUS(status, MS_TIMEOUT);
    if (atomic_load(&received) >= expected)
        return true;
    CHECK(now_ms() - quiet_since < LONG_MS && "messages keep coming");
    return false;
}

static void *consume_one_by_one(void *file)
{
    for (int64_t last = now_ms();;) {
        ms_message *message = NULL;
        ms_status status = ms_buffer_recv_message(buffer, 300, &message, NULL);
        if (is_over(status, last))
            return NULL;
        if (status == MS_OK) {
            record(file, message);
            ms_message_free(message);
            last = now_ms();
        }
    }
}

static void *consume_batches(void *file)
{
    for (int64_t last = now_ms();;) {
        ms_batch *batch = NULL;
        ms_status status = ms_buffer_recv_batch(buffer, 10, 300, &batch, NULL);
        if (is_over(status, last))
            return NULL;
        if (status == MS_OK) {
            for (size_t i = 0; i < ms_batch_len(batch); i++)
                record(file, ms_batch_get(batch, i));
            ms_batch_free(batch);
            last = now_ms();
        }
    }
}

int main(int argc, char **argv)
{
    struct place place = place_of(argc, argv);
    CHECK(argc == 7);
    expected = atol(argv[4]);
    buffer = ms_buffer_new(64);
    ms_worker *workers[WORKERS];
    for (int i = 0; i < WORKERS; i++) {
        char collection[] = { 'c', (char)('0' + i), '\0' };
        ms_options *options = ms_options_new();
        CHECK_STATUS(ms_options_set(options, MS_OPT_NAME, collection, NULL), MS_OK);
        workers[i] =
            ms_worker_start(place.uri, place.database, collection, buffer, options, NULL);
        ms_options_free(options);
    }
    for (int i = 0; i < WORKERS; i++)
        CHECK_STATUS(ms_worker_wait_ready(workers[i], LONG_MS, NULL), MS_OK);
    say("ready");

    void *(*consumers[])(void *) = { consume_one_by_one, consume_batches };
    pthread_t threads[2];
    FILE *files[2];
    for (int i = 0; i < 2; i++) {
        files[i] = fopen(argv[5 + i], "w");
        CHECK(files[i] != NULL);
        CHECK(pthread_create(&threads[i], NULL, consumers[i], files[i]) == 0);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        CHECK(fclose(files[i]) == 0);
    }
    ms_buffer_close(buffer);
    for (int i = 0; i < WORKERS; i++) {
        CHECK_STATUS(ms_worker_join(workers[i], LONG_MS, NULL), MS_OK);
        ms_worker_free(workers[i]);
    }
    ms_buffer_free(buffer);
    return 0;
}
