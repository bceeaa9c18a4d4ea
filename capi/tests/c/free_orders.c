/* Frees buffer, worker, message and batch in every order, whatever the worker is doing. */
#include "check.h"

#include <arpa/inet.h>
#include <sys/socket.h>

enum situation { STREAMING, BLOCKED_ON_A_FULL_BUFFER, CONNECTING };

enum handle { BUFFER, WORKER, MESSAGE, BATCH, HANDLES };

#define ORDERS 24

static struct place place;

/* A port that takes connections and never says a word. */
static int mute_server(char *uri, size_t size)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    socklen_t length = sizeof address;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(listener >= 0);
    CHECK(bind(listener, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(listen(listener, 100) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
    snprintf(uri, size, "mongodb://127.0.0.1:%d/", ntohs(address.sin_port));
    return listener;
}

/* The permutation of a number below 4!, by its factorial digits. */
static void order_of(int number, enum handle order[HANDLES])
{
    int left[HANDLES] = { BUFFER, WORKER, MESSAGE, BATCH };
    for (int count = HANDLES; count > 0; count--) {
        int at = number % count;
        number /= count;
        order[HANDLES - count] = left[at];
        memmove(left + at, left + at + 1, (size_t)(count - at - 1) * sizeof *left);
    }
}

static void check_order(enum situation situation, int number, const char *mute_uri)
{
    ms_message *message = NULL;
    ms_batch *batch = NULL;
    ms_error *error = NULL;
    ms_options *options = ms_options_new();
    CHECK_STATUS(ms_options_set(options, "no such option", "x", &error), MS_ERR_ARGUMENT);
    CHECK_STATUS(ms_options_set(options, MS_OPT_START_AT_TIME, place.since, NULL), MS_OK);

    ms_buffer *buffer = ms_buffer_new(situation == BLOCKED_ON_A_FULL_BUFFER ? 2 : 100);
    ms_worker *worker =
        ms_worker_start(place.uri, place.database, "c", buffer, options, NULL);
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, NULL), MS_OK);
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 1 + (size_t)number % 2, LONG_MS, &batch, NULL),
                 MS_OK);
    if (situation == BLOCKED_ON_A_FULL_BUFFER)
        WAIT_UNTIL(ms_buffer_len(buffer) == 2);
    if (situation == CONNECTING) {
        ms_worker_free(worker);
        worker = ms_worker_start(mute_uri, "d", "c", buffer, options, NULL);
        CHECK(ms_worker_get_state(worker) == MS_WORKER_STARTING);
        /* Every second one has its connection and waits for the first answer. */
        if (number % 2 == 0)
            CHECK_STATUS(ms_worker_wait_ready(worker, 5, NULL), MS_TIMEOUT);
    }

    enum handle order[HANDLES];
    order_of(number, order);
    for (int i = 0; i < HANDLES; i++) {
        if (i == number % HANDLES)
            ms_options_free(options);
        if (i == number / HANDLES % HANDLES)
            ms_error_free(error);
        switch (order[i]) {
        case BUFFER:
            ms_buffer_free(buffer);
            break;
        case WORKER:
            ms_worker_free(worker);
            break;
        case MESSAGE:
            CHECK_HAS(ms_message_json(message, NULL), "\"insert\"");
            ms_message_ack(message);
            ms_message_free(message);
            break;
        case BATCH:
            CHECK_HAS(ms_batch_json_lines(batch, NULL), "\"insert\"");
            CHECK(ms_batch_get(batch, 0) != NULL);
            ms_batch_ack(batch);
            ms_batch_free(batch);
            break;
        case HANDLES:
            break;
        }
    }
}

int main(int argc, char **argv)
{
    static const char *const names[] = { "streaming", "blocked", "connecting" };
    char mute_uri[64];
    place = place_of(argc, argv);
    int listener = mute_server(mute_uri, sizeof mute_uri);
    for (int i = 4; i < argc; i++) {
        int situation = STREAMING;
        while (situation <= CONNECTING && strcmp(argv[i], names[situation]) != 0)
            situation++;
        CHECK(situation <= CONNECTING && "a situation");
        for (int number = 0; number < ORDERS; number++)
            check_order(situation, number, mute_uri);
    }
    /* Letting go of a worker ends it. */
    WAIT_UNTIL(threads_named("mongostream\n") == 0);
    close(listener);
    return 0;
}
