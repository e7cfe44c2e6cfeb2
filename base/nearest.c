#include "base/nearest.h"

#include <string.h>

enum { NAME_MAX_CHARS = 63, COMMON_LEAST = 3 };

static unsigned least(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

/* The optimal string alignment distance. Both no longer than NAME_MAX_CHARS. */
static unsigned slips(const char *a, size_t a_len, const char *b, size_t b_len)
{
    unsigned rows[3][NAME_MAX_CHARS + 1];
    unsigned *before = rows[0], *last = rows[1], *now = rows[2];

    for (size_t j = 0; j <= b_len; j++)
        before[j] = last[j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            now[j] =
                least(least(last[j] + 1, now[j - 1] + 1), last[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                now[j] = least(now[j], before[j - 2] + 1);
        }
        unsigned *free_row = before;
        before = last;
        last = now;
        now = free_row;
    }
    return last[b_len];
}

/* Of the names; the dashes before options say nothing. */
static size_t common_length(const char *a, const char *b)
{
    size_t n = 0, dashes = 0;

    while (a[n] != '\0' && a[n] == b[n]) {
        if (n == dashes && a[n] == '-')
            dashes++;
        n++;
    }
    return n - dashes;
}

const char *nearest_name(const char *typed, const char *const *names, size_t count)
{
    size_t len = strlen(typed), best_common = COMMON_LEAST - 1;
    unsigned best_slips = len <= 3 ? 2 : len <= 6 ? 3 : 4; /* one more than there may be */
    const char *best = NULL, *begins = NULL;

    for (size_t i = 0; i < count; i++) {
        size_t name_len = strlen(names[i]), common = common_length(typed, names[i]);
        unsigned n = len <= NAME_MAX_CHARS && name_len <= NAME_MAX_CHARS
                         ? slips(typed, len, names[i], name_len)
                         : best_slips;
        if (n < best_slips && n < len && n < name_len) {
            best_slips = n;
            best = names[i];
        }
        if (common > best_common) {
            best_common = common;
            begins = names[i];
        }
    }
    return best != NULL ? best : begins;
}
