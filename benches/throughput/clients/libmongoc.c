/* libmongoc in a tight loop: URI, second, events, "count" or "json", batch size or 0. */
#include "meter.h"
#include <mongoc/mongoc.h>
#include <string.h>

int main(int count, char **arguments) {
    if (count < 6) die("URI, second, events, mode, batch size");
    long wanted = atol(arguments[3]), events = 0, bytes = 0;
    int json = !strcmp(arguments[4], "json");
    mongoc_init();
    double began = meter_now(), cpu = meter_cpu();
    mongoc_client_t *client = mongoc_client_new(arguments[1]);
    if (!client) die("the URI is wrong");
    mongoc_collection_t *orders = mongoc_client_get_collection(client, "bench", "orders");
    bson_t pipeline = BSON_INITIALIZER, options = BSON_INITIALIZER;
    BSON_APPEND_TIMESTAMP(&options, "startAtOperationTime", atol(arguments[2]), 0);
    if (atol(arguments[5])) BSON_APPEND_INT32(&options, "batchSize", atol(arguments[5]));
    mongoc_change_stream_t *stream = mongoc_collection_watch(orders, &pipeline, &options);
    while (events < wanted) {
        const bson_t *event;
        if (mongoc_change_stream_next(stream, &event)) {
            events++;
            if (json) {
                size_t length;
                char *text = bson_as_relaxed_extended_json(event, &length);
                bytes += length;
                bson_free(text);
            }
        } else {
            bson_error_t error;
            if (mongoc_change_stream_error_document(stream, &error, NULL)) die(error.message);
        }
    }
    meter_report(began, cpu, events, bytes);
    mongoc_change_stream_destroy(stream);
    mongoc_collection_destroy(orders);
    mongoc_client_destroy(client);
    mongoc_cleanup();
    return 0;
}
