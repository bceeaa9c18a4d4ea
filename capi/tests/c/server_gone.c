/* A host that leaves SIGPIPE deadly survives the death of the server, and goes on with it. */
#include "check.h"

#include <signal.h>

static void receive(ms_buffer *buffer)
{
    ms_message *message = NULL;
    CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, NULL), MS_OK);
    ms_message_free(message);
}

int main(int argc, char **argv)
{
    struct place place = place_of(argc, argv);
    struct sigaction action;
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0);
    CHECK(signal(SIGPIPE, SIG_DFL) != SIG_ERR);
    ms_buffer *buffer = ms_buffer_new(100);
    ms_worker *worker = start_now(&place, buffer);
    /* One that does not read from the server when it dies, and will write to it afterwards. */
    ms_buffer *full = ms_buffer_new(1);
    ms_worker *blocked = start_in_past(&place, full);
    WAIT_UNTIL(ms_buffer_len(full) == 1);
    say("ready");
    WAIT_UNTIL(ms_worker_get_state(worker) == MS_WORKER_RECONNECTING);
    receive(full);
    ms_worker_free(blocked);
    say("reconnecting");
    receive(buffer);
    CHECK(ms_worker_get_state(worker) == MS_WORKER_STREAMING);
    CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
    say("received");
    ms_worker_free(worker);
    ms_buffer_free(buffer);
    ms_buffer_free(full);
    return 0;
}
