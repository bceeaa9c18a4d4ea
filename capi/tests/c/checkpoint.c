/* Acks some of ten messages with a checkpoint in a file, and dies as by kill -9 as soon as they are
   saved; or, started again, says what comes then. */
#include "check.h"

#include <signal.h>

static bool file_has(const char *path, const char *token)
{
    char text[4096] = "";
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return false;
    size_t length = fread(text, 1, sizeof text - 1, file);
    text[length] = '\0';
    fclose(file);
    return strstr(text, token) != NULL;
}

int main(int argc, char **argv)
{
    struct place place = place_of(argc, argv);
    CHECK(argc == 6);
    const char *path = argv[4];
    int acks = atoi(argv[5]);
    ms_error *error = NULL;
    ms_options *options = ms_options_new();
    CHECK_STATUS(ms_options_set(options, MS_OPT_START_AT_TIME, place.since, NULL), MS_OK);
    CHECK_STATUS(ms_options_set(options, MS_OPT_CHECKPOINT_FILE, path, NULL), MS_OK);
    CHECK_STATUS(ms_options_set(options, MS_OPT_CHECKPOINT_MS, "10", NULL), MS_OK);
    ms_buffer *buffer = ms_buffer_new(100);
    ms_worker *worker =
        ms_worker_start(place.uri, place.database, "c", buffer, options, &error);
    CHECK(worker != NULL);
    CHECK(ms_worker_start(place.uri, place.database, "c", buffer, options, &error) == NULL);
    check_mistake(__FILE__, __LINE__, error, MS_ERR_IN_USE, "another worker");
    error = NULL;
    ms_options_free(options);

    ms_message *last = NULL;
    for (int n = 0; n < acks; n++) {
        ms_message *message = NULL;
        CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, NULL), MS_OK);
        ms_message_ack(message);
        ms_message_free(last);
        last = message;
    }
    if (last != NULL) {
        WAIT_UNTIL(file_has(path, ms_message_resume_token(last)));
        raise(SIGKILL);
    }
    char *json = ms_buffer_recv(buffer, NULL);
    say("%s", json);
    ms_string_free(json);
    ms_buffer_close(buffer);
    CHECK_STATUS(ms_worker_join(worker, LONG_MS, NULL), MS_OK);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
    return 0;
}
