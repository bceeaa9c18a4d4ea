/* The shortest program, which looks at no error: it must end. */
#include <mongostream.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    ms_buffer *buffer = ms_buffer_new(1024);
    ms_worker_start(argv[1], argc > 2 ? argv[2] : NULL, "c", buffer, NULL, NULL);
    for (char *json; (json = ms_buffer_recv(buffer, NULL)); ms_string_free(json))
        puts(json);
    return 0;
}
