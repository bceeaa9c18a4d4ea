/* Messages and batches, one way after the other; ten inserts are there already. */
#include "check.h"

static struct place place;

static void take_their_time(ms_buffer *buffer)
{
    ms_error *error = UNTOUCHED;
    ms_message *message = UNTOUCHED;
    ms_batch *batch = UNTOUCHED;
    int64_t begin = now_ms();
    CHECK_STATUS(ms_buffer_recv_message(buffer, 0, &message, &error), MS_TIMEOUT);
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 5, 0, &batch, &error), MS_TIMEOUT);
    begin = now_ms();
    CHECK_STATUS(ms_buffer_recv_message(buffer, 50, &message, &error), MS_TIMEOUT);
    CHECK(now_ms() - begin >= 49 && now_ms() - begin < LONG_MS);
    begin = now_ms();
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 5, 50, &batch, &error), MS_TIMEOUT);
    CHECK(now_ms() - begin >= 49 && now_ms() - begin < LONG_MS);
    CHECK(message == UNTOUCHED && batch == UNTOUCHED && error == UNTOUCHED);
}

/* Receives that find nothing wait exactly as long as they were told. */
static void timeouts(void)
{
    ms_buffer *buffer = ms_buffer_new(100);
    take_their_time(buffer);
    ms_worker *worker = start_now(&place, buffer);
    take_their_time(buffer);
    CHECK_STATUS(ms_worker_join(worker, 0, NULL), MS_TIMEOUT);
    CHECK_STATUS(ms_worker_join(worker, 50, NULL), MS_TIMEOUT);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

static void check_message(const ms_message *message)
{
    size_t length = 0, size = 0;
    const char *json = ms_message_json(message, &length);
    CHECK(json[0] == '{' && length == strlen(json) && strchr(json, '\n') == NULL);
    CHECK(ms_message_json(message, NULL) == json);
    const uint8_t *bson = ms_message_bson(message, &size);
    CHECK(bson != NULL && bson == ms_message_bson(message, NULL));
    CHECK(size == (bson[0] | bson[1] << 8 | bson[2] << 16 | (size_t)bson[3] << 24));
    CHECK(strcmp(ms_message_operation(message), "insert") == 0);
    char namespace[100];
    snprintf(namespace, sizeof namespace, "%s.c", place.database);
    CHECK(strcmp(ms_message_namespace(message), namespace) == 0);
    CHECK(strcmp(ms_message_worker(message), namespace) == 0);
    CHECK_HAS(ms_message_resume_token(message), "{\"_data\":\"82");
    char id[100];
    snprintf(id, sizeof id, "\"DocumentId\":\"%s\"", ms_message_document_id(message));
    CHECK_HAS(json, id);
    CHECK(ms_message_document_id(message)[0] != '\0');
    uint32_t seconds = 0, increment = 0;
    CHECK(ms_message_cluster_time(message, &seconds, &increment));
    char time[100];
    snprintf(time, sizeof time, "{\"t\":%" PRIu32 ",\"i\":%" PRIu32 "}", seconds, increment);
    CHECK_HAS(json, time);
    CHECK(ms_message_cluster_time(message, NULL, NULL));
}

static void say_json(const ms_message *message)
{
    say("%s", ms_message_json(message, NULL));
}

/* Says the JSON of all ten. */
static void batches(void)
{
    ms_error *error = UNTOUCHED;
    ms_message *message = NULL;
    ms_batch *four = NULL, *rest = NULL;
    ms_buffer *buffer = ms_buffer_new(100);
    ms_worker *worker = start_in_past(&place, buffer);
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, &error), MS_OK);
    check_message(message);
    say_json(message);
    WAIT_UNTIL(ms_buffer_len(buffer) == 9);

    CHECK_STATUS(ms_buffer_recv_batch(buffer, 4, -1, &four, &error), MS_OK);
    CHECK(ms_batch_len(four) == 4 && ms_buffer_len(buffer) == 5);
    CHECK(ms_batch_get(four, 4) == NULL && ms_batch_get(four, SIZE_MAX) == NULL);
    size_t length = 0;
    const char *lines = ms_batch_json_lines(four, &length), *at = lines;
    CHECK(strlen(lines) == length && ms_batch_json_lines(four, NULL) == lines);
    for (size_t i = 0; i < 4; i++) {
        size_t size = 0;
        const char *json = ms_message_json(ms_batch_get(four, i), &size);
        check_message(ms_batch_get(four, i));
        CHECK(ms_batch_get(four, i) == ms_batch_get(four, i));
        CHECK(strncmp(at, json, size) == 0 && at[size] == '\n');
        at += size + 1;
        say_json(ms_batch_get(four, i));
    }
    CHECK(*at == '\0');

    /* Waiting for ever to fill it would be noticed by the harness. */
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 100, -1, &rest, &error), MS_OK);
    CHECK(ms_batch_len(rest) == 5 && ms_buffer_len(buffer) == 0);
    for (size_t i = 0; i < 5; i++)
        say_json(ms_batch_get(rest, i));
    take_their_time(buffer);
    CHECK(error == UNTOUCHED);

    ms_message_free(message);
    ms_batch_free(four);
    ms_batch_free(rest);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

static bool token_is(const ms_worker *worker, const char *expected)
{
    char *token = ms_worker_resume_token(worker);
    CHECK(token != NULL);
    bool same = strcmp(token, expected) == 0;
    ms_string_free(token);
    return same;
}

/* The worker's token is that of the last message before the first one that is not acked. */
static void acks(void)
{
    ms_message *first = NULL;
    ms_batch *four = NULL, *rest = NULL;
    ms_buffer *buffer = ms_buffer_new(100);
    ms_worker *worker = start_in_past(&place, buffer);
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &first, NULL), MS_OK);
    WAIT_UNTIL(ms_buffer_len(buffer) == 9);
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 4, -1, &four, NULL), MS_OK);
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 100, -1, &rest, NULL), MS_OK);

    char *opened = ms_worker_resume_token(worker);
    CHECK(opened != NULL);
    ms_message_ack(ms_batch_get(four, 2));
    CHECK(token_is(worker, opened));
    ms_message_ack(first);
    CHECK(token_is(worker, ms_message_resume_token(first)));
    ms_message_ack(first);
    ms_message_ack(ms_batch_get(four, 0));
    CHECK(token_is(worker, ms_message_resume_token(ms_batch_get(four, 0))));
    ms_message_ack(ms_batch_get(four, 1));
    CHECK(token_is(worker, ms_message_resume_token(ms_batch_get(four, 2))));
    ms_batch_ack(four);
    CHECK(token_is(worker, ms_message_resume_token(ms_batch_get(four, 3))));
    ms_message_ack(ms_batch_get(rest, 3));
    ms_message_ack(ms_batch_get(rest, 2));
    CHECK(token_is(worker, ms_message_resume_token(ms_batch_get(four, 3))));
    ms_batch_ack(rest);
    ms_batch_ack(rest);
    char *token = ms_worker_resume_token(worker);
    /* Once all are acked the server's own token, which is a later one, may take their place. */
    CHECK(strcmp(token, ms_message_resume_token(ms_batch_get(rest, 4))) >= 0);

    ms_string_free(token);
    ms_string_free(opened);
    ms_message_free(first);
    ms_batch_free(four);
    ms_batch_free(rest);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

/* Says the first three, which are looked at only when worker and buffer are gone. */
static void survivors(void)
{
    ms_message *message = NULL;
    ms_batch *batch = NULL;
    ms_buffer *buffer = ms_buffer_new(3);
    ms_worker *worker = start_in_past(&place, buffer);
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, NULL), MS_OK);
    WAIT_UNTIL(ms_buffer_len(buffer) >= 2);
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 2, LONG_MS, &batch, NULL), MS_OK);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
    WAIT_UNTIL(threads_named("mongostream\n") == 0);
    check_message(message);
    say_json(message);
    ms_message_ack(message);
    ms_batch_ack(batch);
    fputs(ms_batch_json_lines(batch, NULL), stdout);
    check_message(ms_batch_get(batch, 1));
    ms_message_free(message);
    ms_batch_free(batch);
}

/* A clone outlives the batch that it was taken from, and its ack is the message's. */
static void clones(void)
{
    ms_batch *batch = NULL;
    ms_buffer *buffer = ms_buffer_new(100);
    ms_worker *worker = start_in_past(&place, buffer);
    WAIT_UNTIL(ms_buffer_len(buffer) == 10);
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 4, -1, &batch, NULL), MS_OK);
    ms_message *first = ms_message_clone(ms_batch_get(batch, 0));
    ms_message *second = ms_message_clone(ms_batch_get(batch, 3));
    ms_message *again = ms_message_clone(second);
    CHECK(ms_message_bson(second, NULL) == ms_message_bson(ms_batch_get(batch, 3), NULL));
    ms_message_ack(ms_batch_get(batch, 1));
    ms_message_ack(ms_batch_get(batch, 2));
    ms_batch_free(batch);
    check_message(first);
    check_message(second);
    ms_message_free(second);
    ms_message_ack(again);
    ms_message_ack(first);
    CHECK(token_is(worker, ms_message_resume_token(again)));
    CHECK_HAS(ms_worker_name(worker), ms_message_worker(first));
    CHECK_HAS(ms_message_position(first), ms_message_resume_token(first));
    ms_message_free(first);
    ms_message_free(again);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

/* The ten documents that are there. */
static void snapshot(void)
{
    ms_buffer *buffer = ms_buffer_new(100);
    ms_options *options = ms_options_new();
    CHECK_STATUS(ms_options_set(options, MS_OPT_SNAPSHOT, "initial", NULL), MS_OK);
    ms_worker *worker = ms_worker_start(place.uri, place.database, "c", buffer, options, NULL);
    CHECK(worker != NULL);
    for (int i = 0; i < 10; i++) {
        ms_message *message = NULL;
        CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, NULL), MS_OK);
        CHECK(strcmp(ms_message_operation(message), "snapshot") == 0);
        CHECK(ms_message_resume_token(message) == NULL);
        CHECK_HAS(ms_message_position(message), "\"snapshot\":{");
        CHECK(!ms_message_cluster_time(message, NULL, NULL));
        CHECK(ms_message_document_id(message)[0] != '\0');
        ms_message_free(message);
    }
    ms_worker_free(worker);
    ms_options_free(options);
    ms_buffer_free(buffer);
}

int main(int argc, char **argv)
{
    place = place_of(argc, argv);
    for (int i = 4; i < argc; i++) {
        if (strcmp(argv[i], "timeouts") == 0)
            timeouts();
        else if (strcmp(argv[i], "batches") == 0)
            batches();
        else if (strcmp(argv[i], "acks") == 0)
            acks();
        else if (strcmp(argv[i], "survivors") == 0)
            survivors();
        else if (strcmp(argv[i], "clones") == 0)
            clones();
        else if (strcmp(argv[i], "snapshot") == 0)
            snapshot();
        else
            CHECK(false && "a way to receive");
    }
    return 0;
}
