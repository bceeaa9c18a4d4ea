/* What Go cannot say itself, or would need several calls for: cgo calls cost, and Go cannot pass a callback. */
#ifndef MONGOSTREAM_GO_BRIDGE_H
#define MONGOSTREAM_GO_BRIDGE_H

#include <mongostream.h>

typedef struct {
    const char *data; /* NULL: there is none */
    size_t length;
} msgo_text;

typedef struct {
    ms_status status;
    ms_batch *batch;
    ms_error *error;
    size_t length; /* messages */
    size_t bytes;  /* of BSON */
} msgo_received;

typedef struct {
    bool known;
    uint32_t seconds;
    uint32_t increment;
} msgo_time;

/* Receives without waiting. */
msgo_received msgo_receive(ms_buffer *buffer, size_t max);
/* Writes the first length messages of a batch to out. */
void msgo_messages(const ms_batch *batch, size_t length, const ms_message **out);

msgo_text msgo_json(const ms_message *message);
msgo_text msgo_bson(const ms_message *message);
msgo_text msgo_updated_paths(const ms_message *message);
msgo_text msgo_json_lines(const ms_batch *batch);
msgo_time msgo_cluster_time(const ms_message *message);
void msgo_ack(const ms_message **messages, size_t length);

/* A copy of a descriptor that programs started by this one do not inherit; -1 on failure. */
int msgo_duplicate(int fd);

ms_status msgo_log_set(bool on, int32_t max_level);
ms_status msgo_set_store(ms_options *options, uintptr_t store, ms_error **error);

#endif
