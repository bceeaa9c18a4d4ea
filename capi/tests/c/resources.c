/* A system that has no thread or no descriptor to give: a start fails with words of its own, leaves the host
   as it was, and may succeed later. */
#include "child.h"

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>

static struct place place;

/* How many threads there are to have; below 0 any number. */
static atomic_int threads_left = -1;

/* The library gets this one, because the program goes before the C library. */
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument)
{
    int (*create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&create = dlsym(RTLD_NEXT, "pthread_create");
    int left = atomic_load(&threads_left);
    while (left > 0 && !atomic_compare_exchange_weak(&threads_left, &left, left - 1))
        ;
    return left == 0 ? EAGAIN : create(thread, attributes, run, argument);
}

static void check_mask(const sigset_t *before)
{
    sigset_t now;
    CHECK(sigprocmask(SIG_SETMASK, NULL, &now) == 0);
    for (int signal = 1; signal < NSIG; signal++)
        if (sigismember(before, signal) != sigismember(&now, signal))
            give_up(__FILE__, __LINE__, "signal %d is blocked, or no longer", signal);
}

/* A start that may fail for want of something: whether it has succeeded. */
static bool start(const char *uri, ms_buffer *buffer, ms_worker **worker)
{
    sigset_t before;
    ms_error *error = NULL;
    CHECK(sigprocmask(SIG_SETMASK, NULL, &before) == 0);
    *worker = ms_worker_start(uri, place.database, "c", buffer, NULL, &error);
    check_mask(&before);
    if (*worker != NULL)
        return true;
    if (ms_error_status(error) != MS_ERR_RESOURCE)
        give_up(__FILE__, __LINE__, "%s: %s", ms_status_name(ms_error_status(error)), ms_error_message(error));
    CHECK(ms_error_is_retriable(error) && "it may be better the next time");
    ms_error_free(error);
    return false;
}

/* Whether the worker gets so far as to deliver. */
static void check_delivers(ms_worker *worker)
{
    ms_error *error = NULL;
    ms_status status = ms_worker_wait_ready(worker, LONG_MS, &error);
    if (status != MS_OK)
        give_up(__FILE__, __LINE__, "%s: %s", ms_status_name(status), ms_error_message(error));
}

static void limit_descriptors(rlim_t more)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
    if (more == RLIM_INFINITY) {
        limit.rlim_cur = limit.rlim_max;
    } else {
        int next = dup(0);
        CHECK(next >= 0 && close(next) == 0);
        limit.rlim_cur = (rlim_t)next + more;
    }
    CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

/* In children, each with one more to have than the one before, until one can start with what there is. That
   is enough to deliver as well, or (heals) as soon as there is more. */
static void in_want(const char *uri, void (*limit)(int count), void (*unlimit)(void), bool heals)
{
    bool failed = true;
    int count = 0;
    for (; failed; count++) {
        CHECK(count < 20);
        pid_t child = fork_with_alarm();
        if (child == 0) {
            ms_worker *worker;
            ms_buffer *buffer = ms_buffer_new(10);
            limit(count);
            bool started = start(uri, buffer, &worker);
            if (!started) {
                ms_message *message = UNTOUCHED;
                CHECK_STATUS(ms_buffer_recv_message(buffer, 0, &message, NULL), MS_TIMEOUT);
                CHECK(!start(uri, buffer, &worker) && "it is still so");
                unlimit();
                CHECK(start(uri, buffer, &worker));
            }
            if (heals)
                unlimit();
            check_delivers(worker);
            ms_worker_free(worker);
            ms_buffer_free(buffer);
            _exit(started ? 3 : 0);
        }
        int status = 0;
        CHECK(waitpid(child, &status, 0) == child);
        CHECK(WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == 3));
        failed = WEXITSTATUS(status) == 0;
    }
    CHECK(count > 1);
}

static void give_threads(int count)
{
    atomic_store(&threads_left, count);
}

static void give_any_threads(void)
{
    atomic_store(&threads_left, -1);
}

static void limit_processes(rlim_t count)
{
    struct rlimit limit;
    CHECK(getrlimit(RLIMIT_NPROC, &limit) == 0);
    limit.rlim_cur = count == RLIM_INFINITY ? limit.rlim_max : count;
    CHECK(setrlimit(RLIMIT_NPROC, &limit) == 0);
}

/* The system's own limit, which does not hold for root: so of a user that has nothing else running. */
static void give_threads_of_a_user(int count)
{
    uid_t user = 20000 + (uid_t)getpid() % 40000;
    if (getuid() == 0 && setreuid(user, user) == 0)
        limit_processes(1 + (rlim_t)count);
    else
        give_threads(count);
}

static void give_any_threads_of_a_user(void)
{
    limit_processes(RLIM_INFINITY);
    give_any_threads();
}

static void give_descriptors(int count)
{
    limit_descriptors((rlim_t)count);
}

static void give_any_descriptors(void)
{
    limit_descriptors(RLIM_INFINITY);
}

int main(int argc, char **argv)
{
    place = place_of(argc, argv);
    CHECK(argc == 6);
    if (strcmp(argv[4], "threads") == 0)
        in_want(argv[5], give_threads, give_any_threads, false);
    else if (strcmp(argv[4], "threads_of_a_user") == 0)
        in_want(argv[5], give_threads_of_a_user, give_any_threads_of_a_user, false);
    else if (strcmp(argv[4], "descriptors") == 0)
        in_want(argv[5], give_descriptors, give_any_descriptors, true);
    else
        CHECK(false && "something to want");
    say("done");
    return 0;
}
