/*
 * What packages/try compiles against a package: receives one change from a real server. No other client of MongoDB is
 * needed: the change is the checkpoint of a first worker, which the second one sees.
 */
#include <mongostream.h>
#include <stdio.h>
#include <string.h>

static int fail(const char *what, ms_error *error)
{
    fprintf(stderr, "%s: %s\n", what, ms_error_message(error));
    ms_error_free(error);
    return 1;
}

int main(int argc, char **argv)
{
    ms_error *error = NULL;
    if (argc != 3) {
        fprintf(stderr, "usage: program URI DATABASE\n");
        return 2;
    }
    if (ms_version_number() != MS_VERSION_NUMBER) {
        fprintf(stderr, "the library is %s, and not that of the header\n", ms_version());
        return 1;
    }
    ms_buffer *buffer = ms_buffer_new(16);
    ms_buffer *other = ms_buffer_new(16);
    ms_worker *seeing = ms_worker_start(argv[1], argv[2], NULL, buffer, NULL, &error);
    if (seeing == NULL || ms_worker_wait_ready(seeing, 60000, &error) != MS_OK)
        return fail("the worker that sees", error);

    char place[300];
    snprintf(place, sizeof place, "%s.checkpoints", argv[2]);
    ms_options *options = ms_options_new();
    if (ms_options_set(options, MS_OPT_CHECKPOINT_COLLECTION, place, &error) != MS_OK)
        return fail("the options", error);
    ms_worker *saving = ms_worker_start(argv[1], "elsewhere", NULL, other, options, &error);
    if (saving == NULL)
        return fail("the worker that saves", error);

    ms_message *message;
    if (ms_buffer_recv_message(buffer, 60000, &message, &error) != MS_OK)
        return fail("no message", error);
    printf("%s %s %s\n", ms_version(), ms_message_operation(message), ms_message_namespace(message));
    int bad = strstr(ms_message_json(message, NULL), "\"OperationType\"") == NULL || strcmp(ms_message_namespace(message), place) != 0;
    ms_message_ack(message);
    ms_message_free(message);

    ms_options_free(options);
    ms_buffer_close(other);
    ms_worker_join(saving, -1, NULL);
    ms_worker_free(saving);
    ms_worker_free(seeing);
    ms_buffer_free(buffer);
    ms_buffer_free(other);
    return bad;
}
