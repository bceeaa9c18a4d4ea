/* The end of the process ends every wait: a host that joins its threads at exit is not kept by them. */
#include "child.h"

#include <signal.h>
#include <sys/time.h>

/* Nobody listens on port 1, and a worker looks for somebody for longer than this program may run. */
#define UNREACHABLE "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=600000"

#define WAYS 5

static struct place place;
static ms_buffer *buffer;
static ms_worker *worker;
static pthread_t threads[WAYS];
static int waiting;
static bool is_child;

static void *in_recv(void *nothing)
{
    ms_error *error = UNTOUCHED;
    CHECK(ms_buffer_recv(buffer, &error) == NULL && error == UNTOUCHED);
    return nothing;
}

static void *in_recv_message(void *nothing)
{
    ms_message *message = UNTOUCHED;
    CHECK_STATUS(ms_buffer_recv_message(buffer, -1, &message, NULL), MS_CLOSED);
    return nothing;
}

static void *in_recv_batch(void *nothing)
{
    ms_batch *batch = UNTOUCHED;
    CHECK_STATUS(ms_buffer_recv_batch(buffer, 10, -1, &batch, NULL), MS_CLOSED);
    return nothing;
}

static void *in_wait_ready(void *nothing)
{
    CHECK_STATUS(ms_worker_wait_ready(worker, -1, NULL), MS_CLOSED);
    return nothing;
}

static void *in_join(void *nothing)
{
    CHECK_STATUS(ms_worker_join(worker, -1, NULL), MS_OK);
    return nothing;
}

/* Registered before the library has registered anything, so that it runs afterwards. */
static void join_all(void)
{
    for (int i = 0; i < waiting; i++)
        pthread_join(threads[i], NULL);
    /* Nothing begins to wait any more either. */
    ms_error *error = UNTOUCHED;
    ms_buffer *late = ms_buffer_new(1);
    CHECK(ms_buffer_recv(late, &error) == NULL && error == UNTOUCHED);
    CHECK(ms_worker_start(UNREACHABLE, NULL, NULL, late, NULL, &error) == NULL);
    check_mistake(__FILE__, __LINE__, error, is_child ? MS_ERR_FORKED : MS_ERR_STATE, is_child ? "fork" : "closed");
    ms_buffer_free(late);
    /* As the destructor of a C++ object does that lives as long as the program. */
    if (!is_child) {
        ms_worker_free(worker);
        ms_buffer_free(buffer);
    }
    say("joined");
}

static void wait_in_threads(bool with_worker)
{
    void *(*ways[WAYS])(void *) = { in_recv, in_recv_message, in_recv_batch, in_wait_ready, in_join };
    CHECK(atexit(join_all) == 0);
    buffer = ms_buffer_new(10);
    if (with_worker)
        CHECK((worker = ms_worker_start(UNREACHABLE, NULL, NULL, buffer, NULL, NULL)) != NULL);
    for (waiting = 0; waiting < (with_worker ? WAYS : 3); waiting++)
        CHECK(pthread_create(&threads[waiting], NULL, ways[waiting], NULL) == 0);
    /* They wait by now, mostly; one that does not finds the buffer closed all the same. */
    sleep_ms(100);
}

static void exit_at_once(int signal)
{
    (void)signal;
    exit(3);
}

/* As many programs do: the signal comes in the middle of anything that the library does. */
static void in_a_signal_handler(void)
{
    for (int i = 0; i < 100; i++) {
        pid_t child = fork_with_alarm();
        if (child == 0) {
            ms_message *message = NULL;
            struct itimerval timer = { { 0, 0 }, { 0, 1000 + i } };
            struct sigaction action = { .sa_handler = exit_at_once };
            buffer = ms_buffer_new(10);
            worker = start_in_past(&place, buffer);
            CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, NULL), MS_OK);
            ms_message_free(message);
            /* Not SIGALRM, which ends a child that hangs. */
            CHECK(sigaction(SIGVTALRM, &action, NULL) == 0);
            CHECK(setitimer(ITIMER_VIRTUAL, &timer, NULL) == 0);
            for (;;)
                if (ms_buffer_recv_message(buffer, 0, &message, NULL) == MS_OK)
                    ms_message_free(message);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 3);
    }
}

/* A host that learns of its end before: it joins its threads where atexit has not run yet. */
static void asked(void)
{
    wait_in_threads(true);
    ms_shutdown();
    ms_shutdown();
    for (int i = 0; i < waiting; i++)
        pthread_join(threads[i], NULL);
    waiting = 0;
}

/* What a child of fork waits for is its own; its parent's buffers and waits are not disturbed. */
static void in_a_child(void)
{
    wait_in_threads(true);
    pid_t child = fork_with_alarm();
    if (child == 0) {
        waiting = 0;
        is_child = true;
        ms_buffer *own = ms_buffer_new(1);
        CHECK(pthread_create(&threads[waiting++], NULL, in_recv, buffer = own) == 0);
        sleep_ms(50);
        exit(0);
    }
    check_child(child);
    CHECK_STATUS(ms_worker_wait_ready(worker, 50, NULL), MS_TIMEOUT);
}

int main(int argc, char **argv)
{
    place = place_of(argc, argv);
    CHECK(argc == 5);
    if (strcmp(argv[4], "with_a_worker") == 0)
        wait_in_threads(true);
    else if (strcmp(argv[4], "without_a_worker") == 0)
        wait_in_threads(false);
    else if (strcmp(argv[4], "in_a_signal_handler") == 0)
        in_a_signal_handler();
    else if (strcmp(argv[4], "asked") == 0)
        asked();
    else if (strcmp(argv[4], "in_a_child") == 0)
        in_a_child();
    else
        CHECK(false && "a way to exit");
    say("done");
    return 0;
}
