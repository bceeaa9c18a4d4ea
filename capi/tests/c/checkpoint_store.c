/* A store of checkpoints that the program brings along: two texts in memory. */
#include "check.h"

#include <stdatomic.h>

static struct place place;

struct store {
    pthread_mutex_t lock;
    char name[2][200], text[2][4096];
    /* What the functions answer, and how often they were called. */
    atomic_int answer, loads, saves, releases;
};

static int slot_of(struct store *store, const char *name)
{
    int slot = 0;
    while (slot < 2 && store->name[slot][0] != '\0' && strcmp(store->name[slot], name) != 0)
        slot++;
    CHECK(slot < 2 && strlen(name) < sizeof store->name[slot]);
    strcpy(store->name[slot], name);
    return slot;
}

static int32_t load(void *user_data, const char *name, char **text)
{
    struct store *store = user_data;
    CHECK(*text == NULL);
    store->loads++;
    if (store->answer != 0)
        return store->answer;
    pthread_mutex_lock(&store->lock);
    int slot = slot_of(store, name);
    if (store->text[slot][0] != '\0')
        *text = strdup(store->text[slot]);
    pthread_mutex_unlock(&store->lock);
    return 0;
}

static int32_t save(void *user_data, const char *name, const char *text)
{
    struct store *store = user_data;
    store->saves++;
    if (store->answer != 0)
        return store->answer;
    pthread_mutex_lock(&store->lock);
    int slot = slot_of(store, name);
    CHECK(strlen(text) < sizeof store->text[slot]);
    strcpy(store->text[slot], text);
    pthread_mutex_unlock(&store->lock);
    return 0;
}

static void release(void *user_data)
{
    struct store *store = user_data;
    store->releases++;
}

static struct store *new_store(void)
{
    struct store *store = calloc(1, sizeof *store);
    CHECK(store != NULL && pthread_mutex_init(&store->lock, NULL) == 0);
    return store;
}

static ms_options *options_with(struct store *store)
{
    ms_options *options = ms_options_new();
    CHECK_STATUS(ms_options_set(options, MS_OPT_START_AT_TIME, place.since, NULL), MS_OK);
    CHECK_STATUS(ms_options_set_checkpoint_store(options, load, save, release, store, NULL), MS_OK);
    return options;
}

static ms_worker *start(ms_buffer *buffer, const ms_options *options)
{
    ms_worker *worker = ms_worker_start(place.uri, place.database, "c", buffer, options, NULL);
    CHECK(worker != NULL);
    return worker;
}

/* Takes so many of the ten inserts, whose first one has this id. */
static void take(ms_buffer *buffer, int first, int count)
{
    for (int n = first; n < first + count; n++) {
        char part[32];
        ms_message *message = NULL;
        CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, NULL), MS_OK);
        snprintf(part, sizeof part, "\"_id\":%d", n);
        CHECK_HAS(ms_message_json(message, NULL), part);
        ms_message_ack(message);
        ms_message_free(message);
    }
}

static void end(ms_worker *worker, ms_buffer *buffer)
{
    ms_buffer_close(buffer);
    CHECK_STATUS(ms_worker_join(worker, LONG_MS, NULL), MS_OK);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
}

/* A second run goes on after what the first one has acked, and the data is let go in the end. */
static void restarts(void)
{
    struct store *store = new_store();
    ms_options *options = options_with(store);
    ms_buffer *buffer = ms_buffer_new(100);
    ms_worker *worker = start(buffer, options);
    take(buffer, 0, 3);
    end(worker, buffer);
    CHECK(strcmp(store->text[0], "") != 0);

    ms_options *copy = ms_options_clone(options);
    ms_options_free(options);
    buffer = ms_buffer_new(100);
    worker = start(buffer, copy);
    ms_options_free(copy);
    CHECK(store->releases == 0 && "the worker has it");
    take(buffer, 3, 4);
    end(worker, buffer);
    WAIT_UNTIL(store->releases == 1);
    CHECK(store->loads == 2 && store->saves >= 2);
    free(store);
}

/* One worker a name. */
static void claims(void)
{
    struct store *store = new_store();
    ms_options *options = options_with(store);
    ms_buffer *buffer = ms_buffer_new(100);
    ms_error *error = NULL;
    ms_worker *worker = start(buffer, options);
    CHECK(ms_worker_start(place.uri, place.database, "c", buffer, options, &error) == NULL);
    check_mistake(__FILE__, __LINE__, error, MS_ERR_IN_USE, "the program's own store");
    CHECK_STATUS(ms_options_set(options, MS_OPT_CHECKPOINT_NAME, "another", NULL), MS_OK);
    ms_worker *second = start(buffer, options);
    ms_options_free(options);
    CHECK_STATUS(ms_worker_wait_ready(worker, LONG_MS, NULL), MS_OK);
    CHECK_STATUS(ms_worker_wait_ready(second, LONG_MS, NULL), MS_OK);
    ms_worker_stop(second);
    CHECK_STATUS(ms_worker_join(second, LONG_MS, NULL), MS_OK);
    ms_worker_free(second);
    end(worker, buffer);
    WAIT_UNTIL(store->releases == 1);
    free(store);
}

/* A store that cannot be read now is waited for; one that cannot be read at all ends the worker. */
static void failures(void)
{
    struct store *store = new_store();
    ms_options *options = options_with(store);
    ms_error *error = NULL;
    ms_buffer *buffer = ms_buffer_new(100);
    store->answer = 1;
    ms_worker *worker = start(buffer, options);
    WAIT_UNTIL(store->loads >= 2);
    store->answer = 0;
    CHECK_STATUS(ms_worker_wait_ready(worker, LONG_MS, NULL), MS_OK);
    end(worker, buffer);

    buffer = ms_buffer_new(100);
    store->answer = -7;
    worker = start(buffer, options);
    ms_message *message = NULL;
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, &error), MS_ERR_CHECKPOINT);
    CHECK_HAS(ms_error_message(error), "the program's function to load it gave -7");
    CHECK(!ms_error_is_retriable(error));
    ms_error_free(error);
    ms_worker_free(worker);
    ms_buffer_free(buffer);

    /* What no save has written. */
    store->answer = 0;
    strcpy(store->text[0], "\xff");
    buffer = ms_buffer_new(100);
    worker = start(buffer, options);
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, &error), MS_ERR_CHECKPOINT);
    CHECK_HAS(ms_error_message(error), "not UTF-8");
    ms_error_free(error);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
    CHECK(strcmp(store->text[0], "\xff") == 0 && "it is left as it is");
    ms_options_free(options);
    WAIT_UNTIL(store->releases == 1);
    free(store);
}

/* A call that is refused changes nothing, and calls nothing. */
static void misuse(void)
{
    struct store *store = new_store();
    ms_options *options = ms_options_new();
    ms_error *error = NULL;
    CHECK_STATUS(ms_options_set_checkpoint_store(NULL, load, save, release, store, &error),
                 MS_ERR_ARGUMENT);
    check_mistake(__FILE__, __LINE__, error, MS_ERR_ARGUMENT, "options");
    CHECK_STATUS(ms_options_set_checkpoint_store(options, NULL, save, release, store, &error),
                 MS_ERR_ARGUMENT);
    check_mistake(__FILE__, __LINE__, error, MS_ERR_ARGUMENT, "load");
    CHECK_STATUS(ms_options_set_checkpoint_store(options, load, NULL, release, store, &error),
                 MS_ERR_ARGUMENT);
    check_mistake(__FILE__, __LINE__, error, MS_ERR_ARGUMENT, "save");
    CHECK(store->releases == 0);
    /* Without a release, and replaced by one with it. */
    CHECK_STATUS(ms_options_set_checkpoint_store(options, load, save, NULL, NULL, NULL), MS_OK);
    CHECK_STATUS(ms_options_set_checkpoint_store(options, load, save, release, store, NULL), MS_OK);
    CHECK_STATUS(ms_options_set_checkpoint_store(options, load, save, release, store, NULL), MS_OK);
    CHECK(store->releases == 1);
    /* A checkpoint has one place. */
    CHECK_STATUS(ms_options_set(options, MS_OPT_CHECKPOINT_FILE, "orders.token", NULL), MS_OK);
    ms_buffer *buffer = ms_buffer_new(1);
    CHECK(ms_worker_start(place.uri, place.database, "c", buffer, options, &error) == NULL);
    check_mistake(__FILE__, __LINE__, error, MS_ERR_ARGUMENT, "one place");
    ms_buffer_free(buffer);
    ms_options_free(options);
    CHECK(store->releases == 2 && store->loads == 0 && store->saves == 0);
    free(store);
}

int main(int argc, char **argv)
{
    place = place_of(argc, argv);
    for (int i = 4; i < argc; i++) {
        if (strcmp(argv[i], "restarts") == 0)
            restarts();
        else if (strcmp(argv[i], "claims") == 0)
            claims();
        else if (strcmp(argv[i], "failures") == 0)
            failures();
        else if (strcmp(argv[i], "misuse") == 0)
            misuse();
        else
            CHECK(false && "a way to use a store");
    }
    say("done");
    return 0;
}
