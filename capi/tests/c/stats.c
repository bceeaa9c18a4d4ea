/* The statistics, as a line of JSON each: of what is queued, partly received, and closed. */
#include "check.h"

static void say_stats(const ms_buffer *buffer)
{
    char *stats = ms_buffer_stats(buffer);
    CHECK(stats != NULL && strchr(stats, '\n') == NULL);
    say("%s", stats);
    ms_string_free(stats);
}

static void check_metrics(const ms_buffer *buffer)
{
    char *metrics = ms_buffer_metrics(buffer);
    CHECK_HAS(metrics, "# TYPE mongostream_buffer_depth gauge\n");
    CHECK_HAS(metrics, "\nmongostream_buffer_depth 5\n");
    CHECK_HAS(metrics, "\nmongostream_worker_received_total{worker=\"counted\"} 5\n");
    CHECK(strcmp(metrics + strlen(metrics) - 6, "# EOF\n") == 0);
    ms_string_free(metrics);
}

int main(int argc, char **argv)
{
    struct place place = place_of(argc, argv);
    ms_buffer *buffer = ms_buffer_new(100);
    ms_options *options = ms_options_new();
    CHECK_STATUS(ms_options_set(options, MS_OPT_NAME, "counted", NULL), MS_OK);
    CHECK_STATUS(ms_options_set(options, MS_OPT_START_AT_TIME, place.since, NULL), MS_OK);
    ms_worker *worker =
        ms_worker_start(place.uri, place.database, "c", buffer, options, NULL);
    ms_options_free(options);
    WAIT_UNTIL(ms_buffer_len(buffer) == 5);
    say_stats(buffer);
    check_metrics(buffer);
    ms_string_free(ms_buffer_recv(buffer, NULL));
    ms_message *message = NULL;
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, NULL), MS_OK);
    ms_message_free(message);
    say_stats(buffer);
    ms_buffer_close(buffer);
    CHECK_STATUS(ms_worker_join(worker, LONG_MS, NULL), MS_OK);
    ms_worker_free(worker);
    say_stats(buffer);
    ms_buffer_free(buffer);
    return 0;
}
