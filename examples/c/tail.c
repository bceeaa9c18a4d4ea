/*
 * Prints the changes of a collection as lines of JSON, until Ctrl-C.
 *
 *     gcc -std=c11 -Wall -Wextra -pthread -Iinclude examples/c/tail.c -Ltarget/release -lmongostream -o tail
 *     LD_LIBRARY_PATH=target/release ./tail mongodb://localhost:27017 shop orders
 *
 * Without a collection it follows the whole database, without a database the whole deployment.
 * Messages go to standard output, everything else to standard error.
 */
#define _POSIX_C_SOURCE 200809L

#include <mongostream.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static void complain(const char *what, ms_error *error)
{
    const char *worker = ms_error_worker(error);
    fprintf(stderr, "tail: %s%s%s: %s (%s)\n", what, worker ? " " : "", worker ? worker : "",
            ms_error_message(error), ms_status_name(ms_error_status(error)));
    ms_error_free(error);
}

/* Waits for SIGINT or SIGTERM in a thread of its own: a signal handler may not close a buffer. */
static void *close_on_signal(void *buffer)
{
    sigset_t signals;
    int signal;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigwait(&signals, &signal);
    ms_buffer_close(buffer);
    return NULL;
}

/* Prints messages until the buffer is closed; false if anything failed. */
static bool print_all(ms_buffer *buffer)
{
    bool good = true;
    for (;;) {
        ms_error *error = NULL;
        char *json = ms_buffer_recv(buffer, &error);
        if (json != NULL) {
            bool printed = puts(json) != EOF && fflush(stdout) == 0;
            ms_string_free(json);
            if (printed)
                continue;
            perror("tail: standard output");
            return false;
        }
        if (error == NULL)
            return good;
        good = false;
        /* One worker's failure; others, if there were any, would go on. */
        bool may_go_on = ms_error_worker(error) != NULL;
        complain("worker", error);
        if (!may_go_on)
            return false;
    }
}

static bool follow(ms_buffer *buffer, const char *uri, const char *database, const char *collection)
{
    ms_error *error = NULL;
    ms_worker *worker = ms_worker_start(uri, database, collection, buffer, NULL, &error);
    if (worker == NULL) {
        complain("cannot start", error);
        return false;
    }
    bool good;
    ms_status status = ms_worker_wait_ready(worker, -1, &error);
    if (status < 0) {
        complain("cannot follow", error);
        good = false;
    } else {
        if (status == MS_OK)
            fprintf(stderr, "following; Ctrl-C ends it\n");
        good = print_all(buffer);
    }
    ms_buffer_close(buffer);
    /* Only a server that hangs would make this wait. */
    ms_worker_join(worker, 5000, NULL);
    ms_worker_free(worker);
    return good;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 4) {
        fprintf(stderr, "usage: tail URI [DATABASE [COLLECTION]]\n");
        return 2;
    }
    ms_buffer *buffer = ms_buffer_new(1024);

    /* Before any thread starts, so that only the one that waits for them gets these signals. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    pthread_t waiter;
    if (pthread_create(&waiter, NULL, close_on_signal, buffer) != 0) {
        fprintf(stderr, "tail: cannot start a thread\n");
        return 1;
    }

    bool good = follow(buffer, argv[1], argc > 2 ? argv[2] : NULL, argc > 3 ? argv[3] : NULL);

    /* The waiter uses the buffer: it ends first. */
    pthread_kill(waiter, SIGTERM);
    pthread_join(waiter, NULL);
    ms_buffer_free(buffer);
    return good ? 0 : 1;
}
