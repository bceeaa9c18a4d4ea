/* mongostream from C: URI, second, events, "lines" or "messages", batch size or 0. */
#include "mongostream.h"
#include "meter.h"
#include <string.h>

int main(int count, char **arguments) {
    if (count < 6) die("URI, second, events, mode, batch size");
    long wanted = atol(arguments[3]), events = 0, bytes = 0;
    ms_error *error = NULL;
    ms_buffer *buffer = ms_buffer_new(4096);
    ms_options *options = ms_options_new();
    ms_options_set(options, MS_OPT_START_AT_TIME, arguments[2], NULL);
    if (strcmp(arguments[5], "0")) ms_options_set(options, MS_OPT_BATCH_SIZE, arguments[5], NULL);
    double began = meter_now(), cpu = meter_cpu();
    ms_worker *worker = ms_worker_start(arguments[1], "bench", "orders", buffer, options, &error);
    if (!worker) die(ms_error_message(error));
    size_t length;
    if (!strcmp(arguments[4], "lines")) {
        while (events < wanted) {
            ms_batch *batch;
            if (ms_buffer_recv_batch(buffer, 1000, -1, &batch, &error)) die(ms_error_message(error));
            ms_batch_json_lines(batch, &length);
            bytes += length;
            events += ms_batch_len(batch);
            ms_batch_ack(batch);
            ms_batch_free(batch);
        }
    } else {
        for (; events < wanted; events++) {
            ms_message *message;
            if (ms_buffer_recv_message(buffer, -1, &message, &error)) die(ms_error_message(error));
            ms_message_json(message, &length);
            bytes += length;
            ms_message_ack(message);
            ms_message_free(message);
        }
    }
    meter_report(began, cpu, events, bytes);
    ms_worker_free(worker);
    ms_options_free(options);
    ms_buffer_free(buffer);
    return 0;
}
