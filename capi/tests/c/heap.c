/* What the library does to the allocator of the process: whether a block of 10 MiB is still mapped by itself after
   replies of 3 MB were read, and whether the host's own setting holds. */
#include "check.h"

#include <malloc.h>

int main(int argc, char **argv)
{
    struct place place = place_of(argc, argv);
    CHECK(argc == 5);
    if (strcmp(argv[4], "own") == 0)
        CHECK(mallopt(M_MMAP_THRESHOLD, 128 * 1024) == 1);
    ms_buffer *buffer = ms_buffer_new(10);
    ms_worker *worker = start_in_past(&place, buffer);
    for (int i = 0; i < 3; i++) {
        ms_message *message = NULL;
        CHECK_STATUS(ms_buffer_recv_message(buffer, LONG_MS, &message, NULL), MS_OK);
        ms_message_free(message);
    }
    ms_worker_stop(worker);
    CHECK_STATUS(ms_worker_join(worker, LONG_MS, NULL), MS_OK);
    size_t before = mallinfo2().hblks;
    void *block = malloc(10 << 20);
    CHECK(block != NULL);
    say("%s", mallinfo2().hblks > before ? "mapped" : "kept");
    free(block);
    ms_worker_free(worker);
    ms_buffer_free(buffer);
    return 0;
}
