/* A checkpoint in a file survives a crash of the machine: its text is on the disk before it takes the place of
   the last one, and then its directory is. The calls of the library come here first. */
#include "check.h"

#include <dlfcn.h>
#include <sys/stat.h>

static char calls[1 << 16];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void note(const char *what)
{
    pthread_mutex_lock(&lock);
    if (strlen(calls) + strlen(what) + 2 < sizeof calls)
        strcat(strcat(calls, what), " ");
    pthread_mutex_unlock(&lock);
}

int fsync(int descriptor)
{
    struct stat about;
    CHECK(fstat(descriptor, &about) == 0);
    note(S_ISDIR(about.st_mode) ? "directory" : "text");
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
    return real(descriptor);
}

int rename(const char *from, const char *to)
{
    note("rename");
    int (*real)(const char *, const char *) =
        (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    return real(from, to);
}

int main(int argc, char **argv)
{
    struct place place = place_of(argc, argv);
    CHECK(argc == 5);
    ms_options *options = ms_options_new();
    CHECK_STATUS(ms_options_set(options, MS_OPT_CHECKPOINT_FILE, argv[4], NULL), MS_OK);
    ms_buffer *buffer = ms_buffer_new(100);
    ms_worker *worker = ms_worker_start(place.uri, place.database, "c", buffer, options, NULL);
    CHECK(worker != NULL);
    ms_options_free(options);
    CHECK_STATUS(ms_worker_wait_ready(worker, LONG_MS, NULL), MS_OK);
    /* The beginning of the stream. It is saved in one way only. */
    pthread_mutex_lock(&lock);
    printf("%s\n", calls);
    pthread_mutex_unlock(&lock);
    ms_worker_stop(worker);
    CHECK_STATUS(ms_worker_join(worker, LONG_MS, NULL), MS_OK);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
    return 0;
}
