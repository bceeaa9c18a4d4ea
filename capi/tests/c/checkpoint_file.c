/* A checkpoint file belongs to its worker: wherever the program goes, and whatever it forks. */
#include "child.h"

#include <signal.h>
#include <sys/stat.h>

static struct place place;

static ms_worker *try_to_start(const char *file, ms_buffer *buffer, ms_error **error)
{
    ms_options *options = ms_options_new();
    CHECK_STATUS(ms_options_set(options, MS_OPT_START_AT_TIME, place.since, NULL), MS_OK);
    CHECK_STATUS(ms_options_set(options, MS_OPT_CHECKPOINT_FILE, file, NULL), MS_OK);
    ms_worker *worker =
        ms_worker_start(place.uri, place.database, "c", buffer, options, error);
    ms_options_free(options);
    return worker;
}

static ms_worker *start(const char *file, ms_buffer *buffer)
{
    ms_error *error = NULL;
    ms_worker *worker = try_to_start(file, buffer, &error);
    if (worker == NULL)
        give_up(__FILE__, __LINE__, "%s", ms_error_message(error));
    CHECK_STATUS(ms_worker_wait_ready(worker, LONG_MS, NULL), MS_OK);
    return worker;
}

static void stop(ms_worker *worker)
{
    ms_worker_stop(worker);
    CHECK_STATUS(ms_worker_join(worker, LONG_MS, NULL), MS_OK);
    ms_worker_free(worker);
}

/* A child that lives until the end of this process, or for as long as anything here takes. */
static pid_t fork_bystander(void)
{
    pid_t child = fork_with_alarm();
    if (child == 0) {
        /* The harness waits for the end of these. */
        CHECK(freopen("/dev/null", "w", stdout) != NULL);
        CHECK(freopen("/dev/null", "w", stderr) != NULL);
        for (;;)
            pause();
    }
    return child;
}

/* Loaded and saved in the directory of the start. */
static void relative(const char *here, const char *there)
{
    CHECK(mkdir(here, 0700) == 0 && mkdir(there, 0700) == 0);
    CHECK(chdir(here) == 0);
    ms_buffer *buffer = ms_buffer_new(100);
    ms_worker *worker = start("orders.token", buffer);
    CHECK(chdir(there) == 0);
    char *json = ms_buffer_recv(buffer, NULL);
    CHECK_HAS(json, "\"_id\":0");
    ms_string_free(json);
    stop(worker);
    CHECK(access("orders.token", F_OK) != 0);
    ms_buffer_free(buffer);

    CHECK(chdir(here) == 0);
    CHECK(access("orders.token", F_OK) == 0);
    buffer = ms_buffer_new(100);
    worker = start("orders.token", buffer);
    json = ms_buffer_recv(buffer, NULL);
    CHECK_HAS(json, "\"_id\":1");
    ms_string_free(json);
    stop(worker);
    ms_buffer_free(buffer);
}

/* A worker that has ended leaves the file free, although a child lives. And a child that ends does not
   free what its parent still uses. */
static void bystander(const char *file)
{
    ms_error *error = NULL;
    ms_buffer *buffer = ms_buffer_new(100);
    ms_worker *worker = start(file, buffer);
    pid_t short_lived = fork_with_alarm();
    if (short_lived == 0) {
        ms_worker_free(worker);
        ms_buffer_free(buffer);
        exit(0);
    }
    check_child(short_lived);
    CHECK(try_to_start(file, buffer, &error) == NULL);
    check_mistake(__FILE__, __LINE__, error, MS_ERR_IN_USE, "another worker");

    pid_t child = fork_bystander();
    stop(worker);
    worker = start(file, buffer);
    CHECK(kill(child, SIGKILL) == 0);
    CHECK(waitpid(child, NULL, 0) == child);
    stop(worker);
    ms_buffer_free(buffer);
}

/* Dies as by kill -9, survived by a child, whose process number it says. */
static void orphan(const char *file)
{
    ms_buffer *buffer = ms_buffer_new(100);
    start(file, buffer);
    say("%d", (int)fork_bystander());
    raise(SIGKILL);
}

int main(int argc, char **argv)
{
    place = place_of(argc, argv);
    CHECK(argc >= 6);
    if (strcmp(argv[4], "relative") == 0 && argc == 7)
        relative(argv[5], argv[6]);
    else if (strcmp(argv[4], "bystander") == 0)
        bystander(argv[5]);
    else if (strcmp(argv[4], "orphan") == 0)
        orphan(argv[5]);
    else
        CHECK(false && "a way to use a file");
    say("done");
    return 0;
}
