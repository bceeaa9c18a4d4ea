/* What a child of fork gets from its parent's objects: an answer, at once. */
#include "child.h"

static struct place place;

static void *wait_for_a_message(void *buffer)
{
    ms_message *message = NULL;
    CHECK_STATUS(ms_buffer_recv_message(buffer, -1, &message, NULL), MS_CLOSED);
    return NULL;
}

static void *ack_again_and_again(void *message)
{
    for (;;)
        ms_message_ack(message);
    return NULL;
}

static void check_forked(ms_status status, ms_error **error)
{
    CHECK_STATUS(status, MS_ERR_FORKED);
    check_mistake(__FILE__, __LINE__, *error, MS_ERR_FORKED, "fork");
    *error = UNTOUCHED;
}

/* In the child. Also with buffers in which a thread of the parent waits. */
static void use_everything(ms_buffer *buffer, ms_worker *worker, ms_message *message,
                           ms_batch *batch, bool frees)
{
    ms_error *error = UNTOUCHED;
    ms_message *next = UNTOUCHED;
    ms_batch *more = UNTOUCHED;
    check_forked(ms_buffer_recv_message(buffer, -1, &next, &error), &error);
    check_forked(ms_buffer_recv_batch(buffer, 5, -1, &more, &error), &error);
    CHECK(ms_buffer_recv(buffer, &error) == NULL);
    check_forked(MS_ERR_FORKED, &error);
    CHECK(next == UNTOUCHED && more == UNTOUCHED);
    CHECK(ms_buffer_len(buffer) == 0);
    CHECK(ms_buffer_stats(buffer) == NULL);
    CHECK(ms_buffer_fd(buffer) == -1);

    CHECK(ms_worker_start(place.uri, "d", "c", buffer, NULL, &error) == NULL);
    check_forked(MS_ERR_FORKED, &error);
    ms_buffer *own = ms_buffer_new(1);
    CHECK(ms_worker_start(place.uri, "d", "c", own, NULL, &error) == NULL);
    check_forked(MS_ERR_FORKED, &error);
    ms_buffer_free(own);
    check_forked(ms_worker_wait_ready(worker, -1, &error), &error);
    check_forked(ms_worker_join(worker, -1, &error), &error);
    CHECK(ms_worker_resume_token(worker) == NULL);
    ms_worker_get_state(worker);
    ms_worker_stop(worker);
    ms_buffer_close(buffer);

    CHECK_HAS(ms_message_json(message, NULL), "\"insert\"");
    CHECK_HAS(ms_batch_json_lines(batch, NULL), "\"insert\"");
    ms_message_ack(message);
    ms_batch_ack(batch);
    if (frees) {
        ms_buffer_free(buffer);
        ms_message_free(message);
        ms_worker_free(worker);
        ms_batch_free(batch);
    }
}

static void parents_objects(void)
{
    pthread_t waiter;
    ms_message *message = NULL;
    ms_batch *batch = NULL;
    ms_buffer *waited_for = ms_buffer_new(1);
    CHECK(pthread_create(&waiter, NULL, wait_for_a_message, waited_for) == 0);
    ms_buffer *buffer = ms_buffer_new(4);
    ms_worker *worker = start_in_past(&place, buffer);
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, NULL), MS_OK);
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 1, LONG_MS, &batch, NULL), MS_OK);
    CHECK(ms_buffer_fd(buffer) >= 0);

    for (int frees = 0; frees < 2; frees++) {
        pid_t child = fork_with_alarm();
        if (child == 0) {
            use_everything(waited_for, worker, message, batch, false);
            use_everything(buffer, worker, message, batch, frees);
            /* What runs at the end of a process is harmless in the child too. */
            exit(0);
        }
        check_child(child);
    }

    /* The parent's objects are as before. */
    ms_batch_free(batch);
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 1, LONG_MS, &batch, NULL), MS_OK);
    CHECK(ms_worker_get_state(worker) == MS_WORKER_STREAMING);
    ms_buffer_close(waited_for);
    pthread_join(waiter, NULL);
    ms_buffer_free(waited_for);
    ms_batch_free(batch);
    ms_message_free(message);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

/* At the moment of the fork another thread is inside an ack. */
static void acks(void)
{
    pthread_t acker;
    ms_message *message = NULL;
    ms_buffer *buffer = ms_buffer_new(1);
    ms_worker *worker = start_in_past(&place, buffer);
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, NULL), MS_OK);
    CHECK(pthread_create(&acker, NULL, ack_again_and_again, message) == 0);
    for (int i = 0; i < 50; i++) {
        pid_t child = fork_with_alarm();
        if (child == 0) {
            ms_message_ack(message);
            ms_message_free(message);
            ms_worker_free(worker);
            ms_buffer_free(buffer);
            _exit(0);
        }
        check_child(child);
    }
}

static void receive_one(void)
{
    ms_message *message = NULL;
    ms_buffer *buffer = ms_buffer_new(4);
    ms_worker *worker = start_in_past(&place, buffer);
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, NULL), MS_OK);
    ms_message_free(message);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

/* The advice of the error's text: start mongostream in the child only. Here both do. */
static void before_the_first_use(void)
{
    pid_t child = fork_with_alarm();
    receive_one();
    if (child == 0)
        _exit(0);
    check_child(child);
}

int main(int argc, char **argv)
{
    place = place_of(argc, argv);
    CHECK(argc == 5);
    if (strcmp(argv[4], "parents_objects") == 0)
        parents_objects();
    else if (strcmp(argv[4], "acks") == 0)
        acks();
    else if (strcmp(argv[4], "before_the_first_use") == 0)
        before_the_first_use();
    else
        CHECK(false && "a way to fork");
    say("done");
    return 0;
}
