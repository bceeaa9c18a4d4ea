#include "bridge.h"

#include "_cgo_export.h"

#ifndef _WIN32
#include <fcntl.h>
#endif

msgo_received msgo_receive(ms_buffer *buffer, size_t max)
{
    msgo_received received = {MS_OK, NULL, NULL, 0, 0};
    received.status = ms_buffer_recv_batch(buffer, max, 0, &received.batch, &received.error);
    if (received.status == MS_OK) {
        received.length = ms_batch_len(received.batch);
        for (size_t index = 0; index < received.length; index++) {
            size_t bytes = 0;
            ms_message_bson(ms_batch_get(received.batch, index), &bytes);
            received.bytes += bytes;
        }
    }
    return received;
}

void msgo_messages(const ms_batch *batch, size_t length, const ms_message **out)
{
    for (size_t index = 0; index < length; index++)
        out[index] = ms_batch_get(batch, index);
}

msgo_text msgo_json(const ms_message *message)
{
    msgo_text text = {NULL, 0};
    text.data = ms_message_json(message, &text.length);
    return text;
}

msgo_text msgo_bson(const ms_message *message)
{
    msgo_text text = {NULL, 0};
    text.data = (const char *)ms_message_bson(message, &text.length);
    return text;
}

msgo_text msgo_updated_paths(const ms_message *message)
{
    msgo_text text = {NULL, 0};
    text.data = ms_message_updated_paths(message, &text.length);
    return text;
}

msgo_text msgo_json_lines(const ms_batch *batch)
{
    msgo_text text = {NULL, 0};
    text.data = ms_batch_json_lines(batch, &text.length);
    return text;
}

msgo_time msgo_cluster_time(const ms_message *message)
{
    msgo_time time = {false, 0, 0};
    time.known = ms_message_cluster_time(message, &time.seconds, &time.increment);
    return time;
}

void msgo_ack(const ms_message **messages, size_t length)
{
    for (size_t index = 0; index < length; index++)
        ms_message_ack(messages[index]);
}

int msgo_duplicate(int fd)
{
#ifdef _WIN32
    (void)fd;
    return -1;
#else
    return fcntl(fd, F_DUPFD_CLOEXEC, 0);
#endif
}

/* Go's functions have no const in their C types. */

static void log_line(void *user_data, ms_log_level level, const char *worker, const char *message)
{
    (void)user_data;
    mongostreamGoLog(level, (char *)worker, (char *)message);
}

static int32_t load(void *user_data, const char *name, char **text)
{
    return mongostreamGoLoad((uintptr_t)user_data, (char *)name, text);
}

static int32_t save(void *user_data, const char *name, const char *text)
{
    return mongostreamGoSave((uintptr_t)user_data, (char *)name, (char *)text);
}

static void release(void *user_data)
{
    mongostreamGoRelease((uintptr_t)user_data);
}

ms_status msgo_log_set(bool on, int32_t max_level)
{
    return ms_log_set(on ? log_line : NULL, NULL, max_level);
}

ms_status msgo_set_store(ms_options *options, uintptr_t store, ms_error **error)
{
    return ms_options_set_checkpoint_store(options, load, save, release, (void *)store, error);
}
