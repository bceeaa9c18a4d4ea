/* What the programs here share: checks that say where they failed, and workers with a known past. */
#ifndef MONGOSTREAM_TESTS_C_CHECK_H
#define MONGOSTREAM_TESTS_C_CHECK_H

#define _GNU_SOURCE

#include <mongostream.h>

#include <dirent.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* Far more than anything here needs, less than the harness gives the whole program. */
#define LONG_MS 20000

#define CHECK(condition)                                                                     \
    do {                                                                                     \
        if (!(condition))                                                                    \
            give_up(__FILE__, __LINE__, "is not so: %s", #condition);                        \
    } while (0)

#define CHECK_STATUS(call, expected) check_status(__FILE__, __LINE__, #call, (call), (expected))

#define CHECK_HAS(text, part) check_has(__FILE__, __LINE__, (text), (part))

/* What an output holds before a call that must not write it. */
#define UNTOUCHED ((void *)(uintptr_t)0x5a5a)

/* _exit, because a child of fork fails here too and must not run what belongs to its parent. */
static inline void give_up(const char *file, int line, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s:%d: ", file, line);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    _exit(1);
}

static inline void check_status(const char *file, int line, const char *call, ms_status status,
                                ms_status expected)
{
    if (status != expected)
        give_up(file, line, "%s gave %s, not %s", call, ms_status_name(status),
                ms_status_name(expected));
}

static inline void check_has(const char *file, int line, const char *text, const char *part)
{
    if (text == NULL || strstr(text, part) == NULL)
        give_up(file, line, "no \"%s\" in \"%s\"", part, text ? text : "NULL");
}

/* The error of the caller's own mistake, whose text has the word. */
static inline void check_mistake(const char *file, int line, ms_error *error, ms_status status,
                                 const char *word)
{
    if (error == NULL || error == UNTOUCHED)
        give_up(file, line, "no error was written");
    check_status(file, line, "the error", ms_error_status(error), status);
    check_has(file, line, ms_error_message(error), word);
    bool passes = status == MS_ERR_IN_USE || status == MS_ERR_RESOURCE;
    if (ms_error_worker(error) != NULL || ms_error_server_code(error) != 0 ||
        ms_error_is_retriable(error) != passes)
        give_up(file, line, "it is not the caller's mistake: %s", ms_error_message(error));
    ms_error_free(error);
}

/* A line for the harness, which may be waiting for it. */
static inline void say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

static inline int64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void sleep_ms(int64_t ms)
{
    struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
    nanosleep(&time, NULL);
}

#define WAIT_UNTIL(condition)                                                                \
    for (int64_t end = now_ms() + LONG_MS; !(condition); sleep_ms(2))                        \
    CHECK(now_ms() < end && #condition)

/* What the harness passes first: a collection "c" of the database has had changes since then. */
struct place {
    const char *uri;
    const char *database;
    const char *since;
};

static inline struct place place_of(int argc, char **argv)
{
    CHECK(argc >= 4);
    return (struct place){ argv[1], argv[2], argv[3] };
}

/* A worker that reads the changes which are already there. */
static inline ms_worker *start_in_past(const struct place *place, ms_buffer *buffer)
{
    ms_error *error = NULL;
    ms_options *options = ms_options_new();
    CHECK_STATUS(ms_options_set(options, MS_OPT_START_AT_TIME, place->since, NULL), MS_OK);
    ms_worker *worker =
        ms_worker_start(place->uri, place->database, "c", buffer, options, &error);
    ms_options_free(options);
    if (worker == NULL)
        give_up(__FILE__, __LINE__, "%s", ms_error_message(error));
    return worker;
}

/* A worker that reads the changes to come: it is ready. */
static inline ms_worker *start_now(const struct place *place, ms_buffer *buffer)
{
    ms_worker *worker = ms_worker_start(place->uri, place->database, "c", buffer, NULL, NULL);
    CHECK(worker != NULL);
    CHECK_STATUS(ms_worker_wait_ready(worker, LONG_MS, NULL), MS_OK);
    return worker;
}

/* How many threads of this process have a name that begins like this. */
static inline int threads_named(const char *begin)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[300], name[64] = "";
        if (task->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/comm", task->d_name);
        FILE *comm = fopen(path, "r");
        if (comm == NULL)
            continue;
        if (fgets(name, sizeof name, comm) && strncmp(name, begin, strlen(begin)) == 0)
            count++;
        fclose(comm);
    }
    closedir(tasks);
    return count;
}

#endif
