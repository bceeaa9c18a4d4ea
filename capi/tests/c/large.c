/* One event that is larger than 16 MB between two small ones: whole, or a message in its place. */
#include "check.h"

static ms_message *next(ms_buffer *buffer)
{
    ms_message *message = NULL;
    ms_error *error = NULL;
    ms_status status = ms_buffer_recv_message(buffer, LONG_MS, &message, &error);
    if (status != MS_OK)
        give_up(__FILE__, __LINE__, "%s: %s", ms_status_name(status),
                error ? ms_error_message(error) : "no error");
    return message;
}

static size_t bson_size(const ms_message *message)
{
    size_t size = 0;
    const uint8_t *bson = ms_message_bson(message, &size);
    CHECK(size == (bson[0] | bson[1] << 8 | bson[2] << 16 | (size_t)bson[3] << 24));
    CHECK(bson[size - 1] == 0);
    return size;
}

/* Says the operation, the sizes of BSON and JSON, and whether the JSON has everything to its end. */
static void say_message(ms_message *message)
{
    size_t length = 0;
    const char *json = ms_message_json(message, &length);
    CHECK(strlen(json) == length && json[0] == '{' && json[length - 1] == '}');
    CHECK_HAS(json + (length > 400 ? length - 400 : 0), "\"ResumeToken\"");
    say("%s %zu %zu", ms_message_operation(message), bson_size(message), length);
    ms_message_ack(message);
    ms_message_free(message);
}

int main(int argc, char **argv)
{
    struct place place = place_of(argc, argv);
    CHECK(argc == 6);
    ms_error *error = NULL;
    ms_options *options = ms_options_new();
    CHECK_STATUS(ms_options_set(options, MS_OPT_START_AT_TIME, place.since, NULL), MS_OK);
    CHECK_STATUS(ms_options_set(options, MS_OPT_PIPELINE, argv[4], NULL), MS_OK);
    CHECK_STATUS(ms_options_set(options, MS_OPT_ON_OVERSIZED, argv[5], NULL), MS_OK);
    ms_buffer *buffer = ms_buffer_new(10);
    ms_worker *worker =
        ms_worker_start(place.uri, place.database, "c", buffer, options, &error);
    CHECK(worker != NULL);
    ms_options_free(options);

    say_message(next(buffer));
    if (strcmp(argv[5], "fail") == 0) {
        ms_message *message = UNTOUCHED;
        CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, &error), MS_ERR_OVERSIZED);
        CHECK(message == UNTOUCHED && ms_error_server_code(error) == 10334);
        CHECK_HAS(ms_error_message(error), "on_oversized=skip");
        ms_error_free(error);
    } else {
        say_message(next(buffer));
        say_message(next(buffer));
    }
    ms_worker_free(worker);
    ms_buffer_free(buffer);
    return 0;
}
