#include "master/title.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"

/* ---- process state: where the kernel put arguments and environment ---- */

static struct {
    char *begin;
    size_t bytes;     /* 0 = there is no such place */
    char **variables; /* where the environment is now; libc may make other lists, and other texts */
    char *texts;
} place;

/* The end of a text that begins where the last one ended; NULL: it lies elsewhere. */
static char *next_end(char *end, char *text)
{
    return text == end ? text + strlen(text) + 1 : NULL;
}

/* Into two blocks that stay ours, whatever libc takes out of the list. */
static void move_environment(void)
{
    size_t count = 0, bytes = 0;

    for (; environ != NULL && environ[count] != NULL; count++)
        bytes += strlen(environ[count]) + 1;
    place.variables = mem_zero(count + 1, sizeof *place.variables);
    place.texts = mem_alloc(bytes + 1);
    char *at = place.texts;
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(environ[i]) + 1;
        place.variables[i] = memcpy(at, environ[i], len);
        at += len;
    }
    environ = place.variables;
}

void title_init(int argc, char **argv)
{
    if (argc < 1)
        return;
    char *end = argv[0];
    for (int i = 0; i < argc && end != NULL; i++)
        end = next_end(end, argv[i]);
    for (char **v = environ; end != NULL && v != NULL && *v != NULL; v++) {
        char *further = next_end(end, *v);
        if (further == NULL)
            break;
        end = further;
    }
    move_environment();
    place.begin = argv[0];
    place.bytes = end == NULL ? 0 : (size_t)(end - argv[0]);
}

void title_set(const char *name)
{
    if (place.bytes == 0)
        return;
    memset(place.begin, 0, place.bytes);
    (void)snprintf(place.begin, place.bytes, "postern: %s", name);
}
