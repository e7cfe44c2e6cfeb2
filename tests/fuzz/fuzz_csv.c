/* Fields borrow from the text or are its undoing: no longer in all than the text, lines count up. */
#include <assert.h>
#include <stdint.h>

#include "mail/csv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST = 8 };
    struct arena a = {0};
    struct csv c = csv_over(slice_of(data, size), &a);
    struct slice fields[MOST];
    enum csv_result got;
    size_t count, bytes = 0, line = 0;

    while ((got = csv_next(&c, fields, MOST, &count)) == CSV_LINE) {
        assert(count >= 1 && count <= MOST && c.line > line);
        line = c.line;
        for (size_t i = 0; i < count; i++)
            bytes += fields[i].len;
        assert(bytes <= size);
    }
    assert(got == CSV_END ? c.rest.len == 0 : c.why != NULL);
    arena_fini(&a);
    return 0;
}
