/* What the C programs report when they have drained the history: events, bytes of JSON, seconds, and
 * seconds of CPU time. Then they wait, so that their memory can be looked at. */
#ifndef METER_H
#define METER_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

static inline double meter_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static inline double meter_cpu(void) {
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_utime.tv_sec + r.ru_stime.tv_sec + (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
}

static inline void meter_report(double began, double cpu, long events, long bytes) {
    printf("%ld %ld %.6f %.6f\n", events, bytes, meter_now() - began, meter_cpu() - cpu);
    fflush(stdout);
    getchar();
}

static inline void die(const char *text) {
    fprintf(stderr, "%s\n", text);
    exit(1);
}

#endif
