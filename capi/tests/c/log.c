/* What the library says, to whom, and until when. */
#include "child.h"

/* Nobody listens on port 1. */
#define UNREACHABLE "mongodb://somebody:hush-hush@127.0.0.1:1/?serverSelectionTimeoutMS=50"

static struct place place;

/* What one callback has heard. */
struct heard {
    pthread_mutex_t lock;
    int count[MS_LOG_DEBUG + 1];
    char text[1 << 16];
};

static struct heard *nothing_heard(void)
{
    struct heard *heard = calloc(1, sizeof *heard);
    CHECK(heard != NULL && pthread_mutex_init(&heard->lock, NULL) == 0);
    return heard;
}

static int lines_of(struct heard *heard)
{
    int lines = 0;
    pthread_mutex_lock(&heard->lock);
    for (int level = 0; level <= MS_LOG_DEBUG; level++)
        lines += heard->count[level];
    pthread_mutex_unlock(&heard->lock);
    return lines;
}

static void hear(void *user_data, ms_log_level level, const char *worker, const char *message)
{
    struct heard *heard = user_data;
    size_t length = strlen("worker : ") + strlen(worker) + strlen(message);
    CHECK(worker[0] != '\0');
    CHECK(level >= MS_LOG_ERROR && level <= MS_LOG_DEBUG);
    CHECK(message[0] != '\0' && message[strlen(message) - 1] != '\n');
    CHECK(strstr(message, "hush") == NULL && strstr(message, "somebody") == NULL);
    pthread_mutex_lock(&heard->lock);
    heard->count[level]++;
    size_t used = strlen(heard->text);
    CHECK(used + length + 2 < sizeof heard->text);
    snprintf(heard->text + used, sizeof heard->text - used, "worker %s: %s\n", worker, message);
    pthread_mutex_unlock(&heard->lock);
}

static ms_worker *start_named(const char *name, const char *uri, const char *since,
                              ms_buffer *buffer)
{
    ms_options *options = ms_options_new();
    CHECK_STATUS(ms_options_set(options, MS_OPT_NAME, name, NULL), MS_OK);
    if (since != NULL)
        CHECK_STATUS(ms_options_set(options, MS_OPT_START_AT_TIME, since, NULL), MS_OK);
    ms_worker *worker = ms_worker_start(uri, place.database, "c", buffer, options, NULL);
    CHECK(worker != NULL);
    ms_options_free(options);
    return worker;
}

/* The whole life of a worker that is stopped. When it is joined everything has been said. */
static void stopped_worker(const char *name)
{
    ms_buffer *buffer = ms_buffer_new(10);
    ms_worker *worker = start_named(name, place.uri, NULL, buffer);
    CHECK_STATUS(ms_worker_wait_ready(worker, LONG_MS, NULL), MS_OK);
    ms_worker_stop(worker);
    CHECK_STATUS(ms_worker_join(worker, LONG_MS, NULL), MS_OK);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

/* The same of one that fails, and was to start in the future. */
static void failed_worker(const char *name)
{
    ms_buffer *buffer = ms_buffer_new(10);
    ms_worker *worker = start_named(name, UNREACHABLE, "4294967295", buffer);
    CHECK_STATUS(ms_worker_join(worker, LONG_MS, NULL), MS_ERR_CONNECT);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

static void levels(void)
{
    struct heard *heard = NULL;
    for (ms_log_level max = MS_LOG_OFF; max <= MS_LOG_DEBUG; max++) {
        struct heard *before = heard;
        heard = nothing_heard();
        CHECK_STATUS(ms_log_set(hear, heard, max), MS_OK);
        free(before);
        stopped_worker("all-went-well");
        failed_worker("it-broke");
        for (ms_log_level level = MS_LOG_ERROR; level <= MS_LOG_DEBUG; level++)
            if ((heard->count[level] > 0) != (level <= max))
                give_up(__FILE__, __LINE__, "up to level %d: %d lines of level %d", max,
                        heard->count[level], level);
    }
    CHECK_STATUS(ms_log_set(NULL, NULL, MS_LOG_DEBUG), MS_OK);
    CHECK_HAS(heard->text, "worker all-went-well: opening the stream from now\n");
    CHECK_HAS(heard->text, "worker all-went-well: streaming ");
    CHECK_HAS(heard->text, "worker all-went-well: was asked to stop\n");
    CHECK_HAS(heard->text, "worker all-went-well: has stopped\n");
    CHECK_HAS(heard->text, "worker it-broke: start_at_time 4294967295 lies ");
    CHECK_HAS(heard->text, "worker it-broke: opening the stream with startAtOperationTime ");
    CHECK_HAS(heard->text, "worker it-broke: has failed: ");
    CHECK_HAS(heard->text, "127.0.0.1:1");
    free(heard);
}

static void levels_that_do_not_exist(void)
{
    struct heard *heard = nothing_heard(), *other = nothing_heard();
    const ms_log_level wrong[] = { -1, 5, INT32_MAX, INT32_MIN };
    CHECK_STATUS(ms_log_set(hear, heard, MS_LOG_INFO), MS_OK);
    for (int i = 0; i < 4; i++) {
        CHECK_STATUS(ms_log_set(hear, other, wrong[i]), MS_ERR_ARGUMENT);
        CHECK_STATUS(ms_log_set(NULL, NULL, wrong[i]), MS_ERR_ARGUMENT);
    }
    stopped_worker("w");
    CHECK(heard->count[MS_LOG_INFO] > 0 && heard->count[MS_LOG_DEBUG] == 0);
    CHECK(lines_of(other) == 0);
    CHECK_STATUS(ms_log_set(NULL, NULL, MS_LOG_OFF), MS_OK);
    free(heard);
    free(other);
}

static void change_it(void *user_data, ms_log_level level, const char *worker,
                      const char *message)
{
    CHECK_STATUS(ms_log_set(NULL, NULL, MS_LOG_OFF), MS_ERR_STATE);
    CHECK_STATUS(ms_log_set(hear, NULL, MS_LOG_DEBUG), MS_ERR_STATE);
    hear(user_data, level, worker, message);
}

static void inside(void)
{
    struct heard *heard = nothing_heard();
    CHECK_STATUS(ms_log_set(change_it, heard, MS_LOG_DEBUG), MS_OK);
    stopped_worker("w");
    CHECK(lines_of(heard) == 4 && "the callback is still set");
    CHECK_STATUS(ms_log_set(NULL, NULL, MS_LOG_OFF), MS_OK);
    free(heard);
}

/* A callback that stays in its first call until it is let go. */
struct slow {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool inside, let_go, left;
};

static void be_slow(void *user_data, ms_log_level level, const char *worker, const char *message)
{
    struct slow *slow = user_data;
    (void)level, (void)message;
    if (strcmp(worker, "slow") != 0)
        return;
    pthread_mutex_lock(&slow->lock);
    slow->inside = true;
    pthread_cond_broadcast(&slow->changed);
    while (!slow->let_go)
        pthread_cond_wait(&slow->changed, &slow->lock);
    pthread_mutex_unlock(&slow->lock);
    /* So that who does not wait for it is surely too early. */
    sleep_ms(200);
    pthread_mutex_lock(&slow->lock);
    slow->left = true;
    pthread_mutex_unlock(&slow->lock);
}

static struct slow *wait_until_inside(ms_worker **worker, ms_buffer *buffer)
{
    struct slow *slow = calloc(1, sizeof *slow);
    CHECK(slow != NULL && pthread_mutex_init(&slow->lock, NULL) == 0);
    CHECK(pthread_cond_init(&slow->changed, NULL) == 0);
    CHECK_STATUS(ms_log_set(be_slow, slow, MS_LOG_ERROR), MS_OK);
    *worker = start_named("slow", UNREACHABLE, NULL, buffer);
    pthread_mutex_lock(&slow->lock);
    while (!slow->inside)
        pthread_cond_wait(&slow->changed, &slow->lock);
    pthread_mutex_unlock(&slow->lock);
    return slow;
}

static void let_go(struct slow *slow)
{
    pthread_mutex_lock(&slow->lock);
    slow->let_go = true;
    pthread_cond_broadcast(&slow->changed);
    pthread_mutex_unlock(&slow->lock);
}

/* What takes the slow callback's place; NULL: nothing. */
struct change {
    struct slow *slow;
    struct heard *next;
    bool has_returned;
};

static void *change_the_slow_one(void *argument)
{
    struct change *change = argument;
    struct slow *slow = change->slow;
    CHECK_STATUS(ms_log_set(change->next ? hear : NULL, change->next, MS_LOG_ERROR), MS_OK);
    CHECK(slow->left && "it was waited for");
    __atomic_store_n(&change->has_returned, true, __ATOMIC_SEQ_CST);
    pthread_mutex_destroy(&slow->lock);
    pthread_cond_destroy(&slow->changed);
    free(slow);
    return NULL;
}

static void a_slow_callback(void)
{
    struct heard *heard = nothing_heard();
    for (int off = 0; off < 2; off++) {
        ms_worker *worker;
        pthread_t changer;
        ms_buffer *buffer = ms_buffer_new(10);
        struct change change = { wait_until_inside(&worker, buffer), off ? NULL : heard, false };
        failed_worker("another, that is not held up by the slow one");
        CHECK(pthread_create(&changer, NULL, change_the_slow_one, &change) == 0);
        sleep_ms(100);
        failed_worker("one that is not held up by the wait either");
        CHECK(!__atomic_load_n(&change.has_returned, __ATOMIC_SEQ_CST));
        let_go(change.slow);
        pthread_join(changer, NULL);
        /* It is called no more: its data are gone. */
        failed_worker("slow");
        CHECK_STATUS(ms_worker_join(worker, LONG_MS, NULL), MS_ERR_CONNECT);
        CHECK(lines_of(heard) == 2 && "what took its place has heard two workers fail");
        ms_worker_free(worker);
        ms_buffer_free(buffer);
    }
    free(heard);
}

static void *set_again_and_again(void *heard)
{
    for (;;)
        CHECK_STATUS(ms_log_set(hear, heard, MS_LOG_DEBUG), MS_OK);
    return NULL;
}

/* At the moment of the fork a callback is running, one thread waits for its end, and then another one
   is in the middle of a change. */
static void forks(void)
{
    ms_worker *worker;
    pthread_t thread;
    ms_buffer *buffer = ms_buffer_new(10);
    struct change change = { wait_until_inside(&worker, buffer), NULL, false };
    CHECK(pthread_create(&thread, NULL, change_the_slow_one, &change) == 0);
    sleep_ms(100);
    pid_t child = fork_with_alarm();
    if (child == 0) {
        CHECK_STATUS(ms_log_set(hear, NULL, MS_LOG_DEBUG), MS_OK);
        CHECK_STATUS(ms_log_set(NULL, NULL, MS_LOG_OFF), MS_OK);
        _exit(0);
    }
    check_child(child);
    let_go(change.slow);
    pthread_join(thread, NULL);
    ms_worker_free(worker);
    ms_buffer_free(buffer);

    struct heard *heard = nothing_heard();
    CHECK(pthread_create(&thread, NULL, set_again_and_again, heard) == 0);
    for (int i = 0; i < 100; i++) {
        child = fork_with_alarm();
        if (child == 0) {
            CHECK_STATUS(ms_log_set(hear, heard, MS_LOG_DEBUG), MS_OK);
            CHECK_STATUS(ms_log_set(NULL, NULL, MS_LOG_OFF), MS_OK);
            _exit(0);
        }
        check_child(child);
    }
}

/* A host that sets its callback, goes into the background, and starts its workers there. */
static void set_before_fork(void)
{
    struct heard *heard = nothing_heard();
    CHECK_STATUS(ms_log_set(hear, heard, MS_LOG_INFO), MS_OK);
    pid_t child = fork_with_alarm();
    if (child == 0) {
        failed_worker("w");
        CHECK(heard->count[MS_LOG_ERROR] == 1);
        CHECK_STATUS(ms_log_set(NULL, NULL, MS_LOG_OFF), MS_OK);
        failed_worker("w");
        CHECK(heard->count[MS_LOG_ERROR] == 1);
        _exit(0);
    }
    check_child(child);
    failed_worker("w");
    CHECK(heard->count[MS_LOG_ERROR] == 1);
    CHECK_STATUS(ms_log_set(NULL, NULL, MS_LOG_OFF), MS_OK);
    free(heard);
}

/* Mistakes of which nobody wants to know. The second one is taken. */
static void errors_that_nobody_takes(void)
{
    ms_error *error = NULL;
    ms_options *options = ms_options_new();
    CHECK_STATUS(ms_options_set(options, "first", "1", NULL), MS_ERR_ARGUMENT);
    CHECK_STATUS(ms_options_set(options, "second", "1", &error), MS_ERR_ARGUMENT);
    ms_error_free(error);
    ms_options_free(options);
}

int main(int argc, char **argv)
{
    place = place_of(argc, argv);
    for (int i = 4; i < argc; i++) {
        if (strcmp(argv[i], "levels") == 0)
            levels();
        else if (strcmp(argv[i], "levels_that_do_not_exist") == 0)
            levels_that_do_not_exist();
        else if (strcmp(argv[i], "inside") == 0)
            inside();
        else if (strcmp(argv[i], "a_slow_callback") == 0)
            a_slow_callback();
        else if (strcmp(argv[i], "forks") == 0)
            forks();
        else if (strcmp(argv[i], "set_before_fork") == 0)
            set_before_fork();
        else if (strcmp(argv[i], "errors_that_nobody_takes") == 0)
            errors_that_nobody_takes();
        else
            CHECK(false && "a way to log");
    }
    say("done");
    return 0;
}
