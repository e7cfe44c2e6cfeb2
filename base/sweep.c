#include "base/sweep.h"

#include <stdio.h>

#include "base/sanitized.h"

struct hunt {
    struct slice text;
    const struct slice *kept;
    size_t kept_count;
    size_t found;
};

static bool is_kept(const struct hunt *h, const uint8_t *at)
{
    for (size_t i = 0; i < h->kept_count; i++)
        if (at >= h->kept[i].ptr && at < h->kept[i].ptr + h->kept[i].len)
            return true;
    return false;
}

/* The window at `at` is the text's from byte `index` on: wipes as much around it as is the text. */
static void wipe_around(struct hunt *h, uint8_t *from, const uint8_t *to, uint8_t *at, size_t index)
{
    uint8_t *first = at, *last = at + SWEEP_WINDOW_BYTES; /* behind the last */
    size_t first_index = index, last_index = index + SWEEP_WINDOW_BYTES;

    while (first_index > 0 && first > from && first[-1] == h->text.ptr[first_index - 1]) {
        first--;
        first_index--;
    }
    while (last_index < h->text.len && last < to && *last == h->text.ptr[last_index]) {
        last++;
        last_index++;
    }
    explicit_bzero(first, (size_t)(last - first));
    h->found++;
}

static void search(struct hunt *h, uint8_t *from, uint8_t *to)
{
    const size_t indices[] = {0, h->text.len - SWEEP_WINDOW_BYTES};

    for (size_t i = 0; i < 2; i++)
        for (uint8_t *at = from; at < to; at++) {
            at = memmem(at, (size_t)(to - at), h->text.ptr + indices[i], SWEEP_WINDOW_BYTES);
            if (at == NULL)
                break;
            if (!is_kept(h, at))
                wipe_around(h, from, to, at, indices[i]);
        }
}

bool sweep_is_possible(void)
{
    /* A sanitizer's own memory is as large as the address space, and freed memory is a mistake to it. */
    return !IS_SANITIZED;
}

size_t sweep(struct slice text, const struct slice *kept, size_t kept_count)
{
    struct hunt h = {text, kept, kept_count, 0};
    FILE *maps = text.len < SWEEP_LEAST_BYTES || !sweep_is_possible()
                     ? NULL
                     : fopen("/proc/self/maps", "re");
    char line[512];

    if (maps == NULL)
        return 0;
    while (fgets(line, sizeof line, maps) != NULL) {
        void *from, *to;
        char mode[5];
        if (sscanf(line, "%p-%p %4s", &from, &to, mode) == 3 && strcmp(mode, "rw-p") == 0)
            search(&h, from, to);
    }
    (void)fclose(maps);
    return h.found;
}
