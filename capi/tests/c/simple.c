/* The simple path: receives a number of messages as JSON; behind each line the worker's token. */
#include "check.h"

static void say_token(const ms_worker *worker)
{
    char *token = ms_worker_resume_token(worker);
    CHECK(token != NULL);
    say("%s", token);
    ms_string_free(token);
}

int main(int argc, char **argv)
{
    struct place place = place_of(argc, argv);
    CHECK(argc == 5);
    ms_error *error = UNTOUCHED;
    ms_buffer *buffer = ms_buffer_new(1024);
    ms_worker *worker =
        ms_worker_start(place.uri, place.database, "c", buffer, NULL, &error);
    CHECK_STATUS(ms_worker_wait_ready(worker, LONG_MS, &error), MS_OK);
    CHECK(ms_worker_get_state(worker) == MS_WORKER_STREAMING);
    say_token(worker);
    say("ready");
    for (int left = atoi(argv[4]); left > 0; left--) {
        char *json = ms_buffer_recv(buffer, &error);
        CHECK(json != NULL);
        say("%s", json);
        ms_string_free(json);
        say_token(worker);
    }
    ms_buffer_close(buffer);
    CHECK(ms_buffer_recv(buffer, &error) == NULL);
    CHECK_STATUS(ms_worker_join(worker, LONG_MS, &error), MS_OK);
    CHECK(ms_worker_get_state(worker) == MS_WORKER_STOPPED);
    /* No call has failed, so none may have written it. */
    CHECK(error == UNTOUCHED);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
    return 0;
}
