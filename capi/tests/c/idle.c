/* What 50 idle workers cost: prints the CPU time of ten seconds, in percent of one core. */
#include "check.h"

#include <sys/resource.h>

enum { WORKERS = 50, SECONDS = 10 };

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6 +
           (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6;
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    ms_error *error = NULL;
    ms_buffer *buffer = ms_buffer_new(10);
    ms_worker *workers[WORKERS];
    for (int n = 0; n < WORKERS; n++) {
        char collection[16];
        snprintf(collection, sizeof collection, "idle%d", n);
        workers[n] = ms_worker_start(argv[1], "shop", collection, buffer, NULL, &error);
        CHECK(workers[n] != NULL);
    }
    for (int n = 0; n < WORKERS; n++)
        CHECK_STATUS(ms_worker_wait_ready(workers[n], LONG_MS, &error), MS_OK);
    double before = cpu_seconds();
    ms_message *message = NULL;
    CHECK_STATUS(ms_buffer_recv_message(buffer, SECONDS * 1000, &message, &error), MS_TIMEOUT);
    printf("%.3f\n", (cpu_seconds() - before) * 100 / SECONDS);
    for (int n = 0; n < WORKERS; n++)
        ms_worker_free(workers[n]);
    ms_buffer_free(buffer);
    return 0;
}
