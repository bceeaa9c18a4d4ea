/* mongostream, message by message, with JSON: URI, database, collection, events. */
#include "mongostream.h"
#include "sample.h"
#include <string.h>

int main(int count, char **arguments) {
    if (count < 5) die("URI, database, collection, events");
    begin(arguments[4]);
    ms_error *error = NULL;
    ms_buffer *buffer = ms_buffer_new(4096);
    ms_worker *worker = ms_worker_start(arguments[1], arguments[2], arguments[3], buffer, NULL, &error);
    if (!worker || ms_worker_wait_ready(worker, -1, &error)) die(ms_error_message(error));
    ready();
    while (taken < wanted) {
        ms_message *message;
        if (ms_buffer_recv_message(buffer, -1, &message, &error)) die(ms_error_message(error));
        const char *sent = strstr(ms_message_json(message, NULL), "\"sent\":");
        if (!sent) die("an event of another writer");
        sample(atoll(sent + 7));
        ms_message_ack(message);
        ms_message_free(message);
    }
    report();
    ms_worker_free(worker);
    ms_buffer_free(buffer);
    return 0;
}
