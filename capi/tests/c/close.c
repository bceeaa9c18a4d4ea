/* Closing a buffer wakes every consumer, whichever way it waits. */
#include "check.h"

#include <poll.h>

static void *in_recv(void *buffer)
{
    ms_error *error = UNTOUCHED;
    CHECK(ms_buffer_recv(buffer, &error) == NULL && error == UNTOUCHED);
    return NULL;
}

static void *in_recv_message(void *buffer)
{
    ms_message *message = UNTOUCHED;
    CHECK_STATUS(ms_buffer_recv_message(buffer, -1, &message, NULL), MS_CLOSED);
    CHECK(message == UNTOUCHED);
    return NULL;
}

static void *in_recv_batch(void *buffer)
{
    ms_batch *batch = UNTOUCHED;
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 10, LONG_MS, &batch, NULL), MS_CLOSED);
    CHECK(batch == UNTOUCHED);
    return NULL;
}

static void *in_poll(void *buffer)
{
    struct pollfd poller = { .fd = ms_buffer_fd(buffer), .events = POLLIN };
    CHECK(poll(&poller, 1, LONG_MS) == 1);
    return NULL;
}

int main(int argc, char **argv)
{
    struct place place = place_of(argc, argv);
    void *(*consumers[])(void *) = { in_recv, in_recv_message, in_recv_batch, in_poll };
    for (int with_worker = 0; with_worker < 2; with_worker++) {
        ms_buffer *buffer = ms_buffer_new(10);
        ms_worker *worker = with_worker ? start_now(&place, buffer) : NULL;
        pthread_t threads[4];
        for (int i = 0; i < 4; i++)
            CHECK(pthread_create(&threads[i], NULL, consumers[i], buffer) == 0);
        /* They wait by now, mostly; one that does not must find the buffer closed all the same. */
        sleep_ms(100);
        int64_t begin = now_ms();
        ms_buffer_close(buffer);
        CHECK(now_ms() - begin < 1000 && "close does not wait");
        for (int i = 0; i < 4; i++)
            pthread_join(threads[i], NULL);
        CHECK(now_ms() - begin < LONG_MS / 2);
        if (with_worker)
            CHECK_STATUS(ms_worker_join(worker, LONG_MS, NULL), MS_OK);
        ms_worker_free(worker);
        ms_buffer_free(buffer);
    }
    return 0;
}
