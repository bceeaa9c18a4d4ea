/*
 * Prints the changes of a collection as lines of JSON, until Ctrl-C.
 *
 *     cc -pthread examples/c/follow.c $(pkg-config --cflags --libs mongostream) -o follow
 *     ./follow mongodb://localhost:27017 shop orders checkpoint_file=orders.token
 *
 * "-" stands for no collection (the whole database) or no database (the whole deployment). Options are those of
 * docs/OPTIONS.md. Messages go to standard output, everything else to standard error. It ends with 0 after SIGINT or
 * SIGTERM, with 1 after a failure, with 2 if it is called wrongly.
 */
#define _POSIX_C_SOURCE 200809L

#include <mongostream.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static const int USAGE = 2;

static int fail(ms_error *error)
{
    fprintf(stderr, "follow: %s (%s)\n", ms_error_message(error), ms_status_name(ms_error_status(error)));
    ms_error_free(error);
    return 1;
}

/* Sets option=value in place: the text of main's arguments is ours to change. */
static int set_option(ms_options *options, char *argument)
{
    ms_error *error = NULL;
    char *equals = strchr(argument, '=');
    if (equals == NULL)
        return USAGE;
    *equals = '\0';
    return ms_options_set(options, argument, equals + 1, &error) == MS_OK ? 0 : fail(error);
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

/* Prints and acks every message, until the buffer is closed and drained. */
static int print_all(ms_buffer *buffer)
{
    ms_message *message;
    ms_error *error = NULL;
    ms_status status;
    while ((status = ms_buffer_recv_message(buffer, -1, &message, &error)) == MS_OK) {
        bool printed = puts(ms_message_json(message, NULL)) != EOF && fflush(stdout) == 0;
        if (printed)
            ms_message_ack(message);
        ms_message_free(message);
        if (!printed) {
            perror("follow: standard output");
            return 1;
        }
    }
    return status == MS_CLOSED ? 0 : fail(error);
}

static int follow(ms_worker *worker, ms_buffer *buffer)
{
    ms_error *error = NULL;
    ms_status status = ms_worker_wait_ready(worker, -1, &error);
    if (status < 0)
        return fail(error);
    if (status == MS_OK)
        fprintf(stderr, "ready\n");
    int failed = print_all(buffer);
    if (failed)
        return failed;
    /* Saves the checkpoint. Only a store that hangs would make it wait. */
    status = ms_worker_join(worker, 5000, &error);
    if (status == MS_TIMEOUT)
        fprintf(stderr, "follow: the checkpoint is not saved yet\n");
    return status == MS_OK ? 0 : status == MS_TIMEOUT ? 1 : fail(error);
}

static int run(const char *uri, const char *database, const char *collection, ms_options *options)
{
    ms_error *error = NULL;
    ms_buffer *buffer = ms_buffer_new(1024);

    /* Before any thread starts, so that only the one that waits for them gets these signals. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    pthread_t waiter;
    if (pthread_create(&waiter, NULL, close_on_signal, buffer) != 0) {
        fprintf(stderr, "follow: cannot start a thread\n");
        ms_buffer_free(buffer);
        return 1;
    }

    ms_worker *worker = ms_worker_start(uri, database, collection, buffer, options, &error);
    int result = worker != NULL ? follow(worker, buffer) : fail(error);
    ms_worker_free(worker);

    /* The waiter uses the buffer: it ends first. */
    pthread_kill(waiter, SIGTERM);
    pthread_join(waiter, NULL);
    ms_buffer_free(buffer);
    return result;
}

int main(int argc, char **argv)
{
    ms_options *options = ms_options_new();
    int result = argc < 4 ? USAGE : 0;
    for (int i = 4; i < argc && result == 0; i++)
        result = set_option(options, argv[i]);
    if (result == USAGE)
        fprintf(stderr, "usage: follow URI DATABASE COLLECTION [option=value ...]\n");
    if (result == 0)
        result = run(argv[1], strcmp(argv[2], "-") == 0 ? NULL : argv[2], strcmp(argv[3], "-") == 0 ? NULL : argv[3], options);
    ms_options_free(options);
    return result;
}
