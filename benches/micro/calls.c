/* What the calls of the C API cost when the messages are already queued: URI, second, events. Prints a
 * line for each: its name, and nanoseconds a message. */
#include "mongostream.h"
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

static void die(const char *text) {
    fprintf(stderr, "%s\n", text);
    exit(1);
}

static ms_worker *worker;

/* A buffer in which all events are queued. */
static ms_buffer *filled(char **arguments, size_t events) {
    ms_error *error = NULL;
    ms_buffer *buffer = ms_buffer_new_with(events, (size_t)1 << 30);
    ms_options *options = ms_options_new();
    ms_options_set(options, MS_OPT_START_AT_TIME, arguments[2], NULL);
    worker = ms_worker_start(arguments[1], "bench", "orders", buffer, options, &error);
    if (!worker) die(ms_error_message(error));
    ms_options_free(options);
    while (ms_buffer_len(buffer) < events)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    return buffer;
}

static void release(ms_buffer *buffer) {
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

int main(int count, char **arguments) {
    if (count < 4) die("URI, second, events");
    size_t events = atol(arguments[3]), length;
    ms_message **messages = calloc(events, sizeof *messages);
    if (!messages) die("out of memory");

    ms_buffer *buffer = filled(arguments, events);
    double began = now();
    for (size_t at = 0; at < events; at++)
        if (ms_buffer_recv_message(buffer, -1, &messages[at], NULL)) die("receiving failed");
    printf("ms_buffer_recv_message %.1f\n", (now() - began) / events);
    began = now();
    for (size_t at = 0; at < events; at++) ms_message_json(messages[at], &length);
    printf("ms_message_json %.1f\n", (now() - began) / events);
    began = now();
    for (size_t at = 0; at < events; at++) ms_message_json(messages[at], &length);
    printf("ms_message_json (again) %.1f\n", (now() - began) / events);
    began = now();
    for (size_t at = 0; at < events; at++) ms_message_ack(messages[at]);
    printf("ms_message_ack %.1f\n", (now() - began) / events);
    began = now();
    for (size_t at = 0; at < events; at++) ms_message_free(messages[at]);
    printf("ms_message_free %.1f\n", (now() - began) / events);
    release(buffer);

    buffer = filled(arguments, events);
    double received = 0, written = 0, acked = 0, freed = 0;
    for (size_t at = 0; at < events;) {
        ms_batch *batch;
        began = now();
        if (ms_buffer_recv_batch(buffer, 1000, -1, &batch, NULL)) die("receiving failed");
        double then = now();
        received += then - began;
        ms_batch_json_lines(batch, &length);
        began = now();
        written += began - then;
        at += ms_batch_len(batch);
        then = now();
        ms_batch_ack(batch);
        began = now();
        acked += began - then;
        ms_batch_free(batch);
        freed += now() - began;
    }
    printf("ms_buffer_recv_batch(1000) %.1f\n", received / events);
    printf("ms_batch_json_lines %.1f\n", written / events);
    printf("ms_batch_ack %.1f\n", acked / events);
    printf("ms_batch_free %.1f\n", freed / events);
    release(buffer);

    buffer = filled(arguments, events);
    began = now();
    for (size_t at = 0; at < events; at++) {
        char *text = ms_buffer_recv(buffer, NULL);
        if (!text) die("receiving failed");
        ms_string_free(text);
    }
    printf("ms_buffer_recv + ms_string_free %.1f\n", (now() - began) / events);
    release(buffer);
    free(messages);
    return 0;
}
