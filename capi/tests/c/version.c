/* The library that runs has the version that the header says. */
#include "check.h"

int main(void)
{
    char text[40];
    snprintf(text, sizeof text, "%d.%d.%d", MS_VERSION_MAJOR, MS_VERSION_MINOR, MS_VERSION_PATCH);
    CHECK(strcmp(ms_version(), text) == 0);
    CHECK(ms_version_number() == MS_VERSION_NUMBER);
    CHECK(MS_VERSION_NUMBER ==
          MS_VERSION_MAJOR * 1000000 + MS_VERSION_MINOR * 1000 + MS_VERSION_PATCH);
    say("%s", text);
    return 0;
}
