/* How many threads a worker with a checkpoint in a collection costs, all of them. */
#include "check.h"

int main(int argc, char **argv)
{
    struct place place = place_of(argc, argv);
    CHECK(argc == 5);
    ms_error *error = NULL;
    ms_options *options = ms_options_new();
    CHECK_STATUS(ms_options_set(options, MS_OPT_START_AT_TIME, place.since, NULL), MS_OK);
    CHECK_STATUS(ms_options_set(options, MS_OPT_CHECKPOINT_COLLECTION, argv[4], NULL), MS_OK);
    ms_buffer *buffer = ms_buffer_new(100);
    ms_worker *worker =
        ms_worker_start(place.uri, place.database, "c", buffer, options, &error);
    CHECK(worker != NULL);
    ms_options_free(options);
    CHECK_STATUS(ms_worker_wait_ready(worker, LONG_MS, NULL), MS_OK);
    char *json = ms_buffer_recv(buffer, NULL);
    CHECK(json != NULL);
    ms_string_free(json);
    say("%d threads", threads_named(""));
    say("%d of a runtime", threads_named("mongostream-io"));
    say("%d of a worker", threads_named("mongostream") - threads_named("mongostream-"));
    say("%d of a saver", threads_named("mongostream-sav"));
    ms_worker_stop(worker);
    CHECK_STATUS(ms_worker_join(worker, LONG_MS, NULL), MS_OK);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
    return 0;
}
