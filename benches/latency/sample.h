/* Latencies: the time of each event's receipt minus the time that the writer put into its document. The
 * last line is the median and the 99th percentile in milliseconds. */
#ifndef SAMPLE_H
#define SAMPLE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double *samples;
static long taken, wanted;

static void sample(int64_t sent) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    samples[taken++] = (t.tv_sec * 1000000000ll + t.tv_nsec - sent) / 1e6;
}

static void die(const char *text) {
    fprintf(stderr, "%s\n", text);
    exit(1);
}

static void begin(const char *count) {
    wanted = atol(count);
    samples = calloc(wanted + 1, sizeof *samples);
    if (!samples) die("out of memory");
}

/* The stream is open: from now on every write is an event. */
static void ready(void) {
    puts("ready");
    fflush(stdout);
}

static int compare(const void *a, const void *b) {
    double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static void report(void) {
    qsort(samples, taken, sizeof *samples, compare);
    printf("%.4f %.4f\n", samples[taken / 2], samples[taken * 99 / 100]);
}

#endif
