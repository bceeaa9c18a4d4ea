/* The descriptor of a buffer is readable exactly while a receive would not wait. */
#include "check.h"

#include <poll.h>

static bool readable_within(int fd, int timeout_ms)
{
    struct pollfd poller = { .fd = fd, .events = POLLIN };
    int count = poll(&poller, 1, timeout_ms);
    CHECK(count >= 0 && (count == 0 || poller.revents == POLLIN));
    return count == 1;
}

static void receive(ms_buffer *buffer)
{
    ms_message *message = NULL;
    CHECK_STATUS(ms_buffer_recv_message(buffer, 0, &message, NULL), MS_OK);
    ms_message_free(message);
}

/* Says "ready" and then needs two changes. */
static void messages(const struct place *place)
{
    ms_message *message = NULL;
    ms_buffer *buffer = ms_buffer_new(100);
    int fd = ms_buffer_fd(buffer);
    CHECK(fd >= 0 && ms_buffer_fd(buffer) == fd);
    CHECK(!readable_within(fd, 0));
    ms_worker *worker = start_now(place, buffer);
    CHECK(!readable_within(fd, 50));
    say("ready");
    CHECK(readable_within(fd, LONG_MS));
    WAIT_UNTIL(ms_buffer_len(buffer) == 2);
    receive(buffer);
    CHECK(readable_within(fd, 0) && readable_within(fd, 0));
    receive(buffer);
    CHECK(!readable_within(fd, 50));
    CHECK_STATUS(ms_buffer_recv_message(buffer, 0, &message, NULL), MS_TIMEOUT);
    CHECK(!readable_within(fd, 0));
    ms_buffer_close(buffer);
    CHECK(readable_within(fd, 0));
    CHECK_STATUS(ms_buffer_recv_message(buffer, 0, &message, NULL), MS_CLOSED);
    CHECK(readable_within(fd, 0));
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

/* Made late, it shows what is there already; the end of the only worker is one too. */
static void made_late(const struct place *place)
{
    ms_message *message = NULL;
    ms_buffer *buffer = ms_buffer_new(100);
    ms_worker *worker = start_in_past(place, buffer);
    WAIT_UNTIL(ms_buffer_len(buffer) > 0);
    int fd = ms_buffer_fd(buffer);
    CHECK(readable_within(fd, 0));
    while (ms_buffer_recv_message(buffer, 100, &message, NULL) == MS_OK)
        ms_message_free(message);
    CHECK(!readable_within(fd, 0));
    ms_worker_stop(worker);
    CHECK(readable_within(fd, LONG_MS));
    CHECK_STATUS(ms_buffer_recv_message(buffer, 0, &message, NULL), MS_CLOSED);

    /* Another worker opens the buffer again. */
    ms_worker *second = start_now(place, buffer);
    CHECK(!readable_within(fd, 50));
    ms_worker_free(second);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

static void failure(void)
{
    ms_error *error = NULL;
    ms_message *message = UNTOUCHED;
    ms_buffer *buffer = ms_buffer_new(1);
    int fd = ms_buffer_fd(buffer);
    ms_worker *worker =
        ms_worker_start("mongodb://user:hush@127.0.0.1:1/?serverSelectionTimeoutMS=100", "d", "c",
                        buffer, NULL, NULL);
    CHECK(readable_within(fd, LONG_MS));
    CHECK_STATUS(ms_buffer_recv_message(buffer, 0, &message, &error), MS_ERR_CONNECT);
    CHECK(message == UNTOUCHED);
    CHECK_STATUS(ms_error_status(error), MS_ERR_CONNECT);
    CHECK(strcmp(ms_error_worker(error), "d.c") == 0);
    CHECK_HAS(ms_error_message(error), "mongodb://127.0.0.1:1");
    CHECK(strstr(ms_error_message(error), "hush") == NULL);
    CHECK(ms_error_is_retriable(error));
    ms_error_free(error);
    CHECK_STATUS(ms_buffer_recv_message(buffer, 0, &message, &error), MS_CLOSED);
    CHECK_STATUS(ms_worker_wait_ready(worker, -1, NULL), MS_ERR_CONNECT);
    CHECK_STATUS(ms_worker_join(worker, -1, NULL), MS_ERR_CONNECT);
    CHECK(ms_worker_get_state(worker) == MS_WORKER_FAILED);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

int main(int argc, char **argv)
{
    struct place place = place_of(argc, argv);
    messages(&place);
    made_late(&place);
    failure();
    return 0;
}
