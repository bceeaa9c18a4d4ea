/* The host's signals stay the host's: the library's threads take none. */
#include "check.h"

#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#define ROUNDS 100

static const int signals[] = { SIGUSR1, SIGINT, SIGALRM };

#define SIGNALS (int)(sizeof signals / sizeof *signals)

static _Atomic pid_t host_thread;
static atomic_int handled;
static atomic_int handled_elsewhere;
static atomic_bool over;

static pid_t thread_id(void)
{
    return (pid_t)syscall(SYS_gettid);
}

static void handle(int signal)
{
    (void)signal;
    if (thread_id() != host_thread)
        atomic_fetch_add(&handled_elsewhere, 1);
    atomic_fetch_add(&handled, 1);
}

/* The only thread of the host that takes signals. */
static void *take_signals(void *nothing)
{
    sigset_t none;
    (void)nothing;
    host_thread = thread_id();
    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    say("taking signals");
    while (!atomic_load(&over))
        sleep_ms(1);
    return NULL;
}

/* What a crash handler of the host waits for, on the thread that crashes. */
static bool tells_of_a_crash(int signal)
{
    return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGFPE || signal == SIGTRAP ||
           signal == SIGABRT || signal == SIGSYS;
}

/* Every thread of the library blocks every signal that can be blocked and does not tell of a crash. */
static int check_masks(void)
{
    int count = 0;
    DIR *tasks = opendir("/proc/self/task");
    CHECK(tasks != NULL);
    for (struct dirent *task; (task = readdir(tasks)) != NULL;) {
        char path[300], line[200];
        bool ours = false;
        uint64_t blocked = 0;
        pid_t id = (pid_t)atoi(task->d_name);
        if (id == 0 || id == getpid() || id == host_thread)
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", task->d_name);
        FILE *status = fopen(path, "r");
        if (status == NULL)
            continue;
        while (fgets(line, sizeof line, status)) {
            ours = ours || strncmp(line, "Name:\tmongostream", 17) == 0;
            sscanf(line, "SigBlk: %" SCNx64, &blocked);
        }
        fclose(status);
        if (!ours)
            give_up(__FILE__, __LINE__, "thread %d is nobody's", id);
        for (int signal = 1; signal <= SIGSYS; signal++) {
            bool blocks = blocked >> (signal - 1) & 1;
            if (signal != SIGKILL && signal != SIGSTOP && blocks == tells_of_a_crash(signal))
                give_up(__FILE__, __LINE__, "thread %d %s signal %d", id, blocks ? "blocks" : "takes", signal);
        }
        count++;
    }
    closedir(tasks);
    return count;
}

int main(int argc, char **argv)
{
    struct place place = place_of(argc, argv);
    ms_message *message = NULL;
    ms_buffer *buffer = ms_buffer_new(2);
    ms_worker *workers[3];
    /* No signal is blocked here, so none is in what the library's threads inherit. */
    for (int i = 0; i < 3; i++)
        workers[i] = start_in_past(&place, buffer);
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, NULL), MS_OK);
    ms_message_free(message);

    sigset_t mask, before;
    sigemptyset(&mask);
    pthread_sigmask(SIG_SETMASK, NULL, &before);
    for (int i = 0; i < SIGNALS; i++) {
        struct sigaction action = { .sa_handler = handle, .sa_flags = SA_RESTART };
        CHECK(!sigismember(&before, signals[i]) && "the library has left the host's mask alone");
        CHECK(sigaction(signals[i], &action, NULL) == 0);
        sigaddset(&mask, signals[i]);
    }
    /* The kernel prefers the first thread; now it must look among the others. */
    pthread_sigmask(SIG_BLOCK, &mask, NULL);
    pthread_t host;
    CHECK(pthread_create(&host, NULL, take_signals, NULL) == 0);
    WAIT_UNTIL(host_thread != 0);
    CHECK(check_masks() >= 3);

    int sent = 0;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < SIGNALS; i++) {
            CHECK(kill(getpid(), signals[i]) == 0);
            sent++;
            WAIT_UNTIL(atomic_load(&handled) == sent);
        }
        if (ms_buffer_recv_message(buffer, 0, &message, NULL) == MS_OK)
            ms_message_free(message);
    }
    CHECK(check_masks() >= 3);
    atomic_store(&over, true);
    pthread_join(host, NULL);
    CHECK(atomic_load(&handled_elsewhere) == 0);
    for (int i = 0; i < 3; i++)
        ms_worker_free(workers[i]);
    ms_buffer_free(buffer);
    return 0;
}
