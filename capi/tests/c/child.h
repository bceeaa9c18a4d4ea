/* Children of fork: one that hangs dies of an alarm, and how it ended is checked. */
#ifndef MONGOSTREAM_TESTS_C_CHILD_H
#define MONGOSTREAM_TESTS_C_CHILD_H

#include "check.h"

#include <sys/wait.h>

static inline pid_t fork_with_alarm(void)
{
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0)
        alarm(LONG_MS / 1000 / 2);
    return child;
}

static inline void check_child(pid_t child)
{
    int status = 0;
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status))
        give_up(__FILE__, __LINE__, "the child died of signal %d", WTERMSIG(status));
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

#endif
