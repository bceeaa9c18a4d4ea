/* libbson's JSON: a file of documents, rounds. Each round prints its nanoseconds a document; with no rounds
   the JSON is printed, a line each. */
#include <bson/bson.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e9 + t.tv_nsec;
}

int main(int count, char **arguments) {
    FILE *file = count < 3 ? NULL : fopen(arguments[1], "rb");
    if (!file) return 1;
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    uint8_t *bytes = malloc(size);
    if (!bytes || fread(bytes, 1, size, file) != (size_t)size) return 1;
    long rounds = atol(arguments[2]), round = 0;
    do {
        double began = now();
        long documents = 0;
        for (long at = 0; at < size; documents++) {
            int32_t length;
            memcpy(&length, bytes + at, 4);
            bson_t document;
            size_t written;
            if (!bson_init_static(&document, bytes + at, BSON_UINT32_FROM_LE(length))) return 1;
            char *text = bson_as_relaxed_extended_json(&document, &written);
            if (!text) return 1;
            if (!rounds) puts(text);
            bson_free(text);
            at += length;
        }
        if (rounds) printf("%.1f\n", (now() - began) / documents);
    } while (++round < rounds);
    free(bytes);
    return 0;
}
