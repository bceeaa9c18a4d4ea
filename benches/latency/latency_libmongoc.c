/* libmongoc in a tight loop, without JSON: URI, database, collection, events. */
#include "sample.h"
#include <mongoc/mongoc.h>

int main(int count, char **arguments) {
    if (count < 5) die("URI, database, collection, events");
    begin(arguments[4]);
    mongoc_init();
    mongoc_client_t *client = mongoc_client_new(arguments[1]);
    if (!client) die("the URI is wrong");
    mongoc_collection_t *collection = mongoc_client_get_collection(client, arguments[2], arguments[3]);
    bson_t pipeline = BSON_INITIALIZER;
    mongoc_change_stream_t *stream = mongoc_collection_watch(collection, &pipeline, NULL);
    bson_error_t error;
    if (mongoc_change_stream_error_document(stream, &error, NULL)) die(error.message);
    ready();
    while (taken < wanted) {
        const bson_t *event;
        bson_iter_t iterator, sent;
        if (mongoc_change_stream_next(stream, &event)) {
            if (!bson_iter_init(&iterator, event)
                || !bson_iter_find_descendant(&iterator, "fullDocument.sent", &sent))
                die("an event of another writer");
            sample(bson_iter_int64(&sent));
        } else if (mongoc_change_stream_error_document(stream, &error, NULL)) {
            die(error.message);
        }
    }
    report();
    mongoc_change_stream_destroy(stream);
    mongoc_collection_destroy(collection);
    mongoc_client_destroy(client);
    mongoc_cleanup();
    return 0;
}
