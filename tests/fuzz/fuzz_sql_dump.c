/* Values lie within the text, lines count up, and what was undone is no longer than what stood there. */
#include <assert.h>
#include <stdint.h>

#include "mail/sql_dump.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sql_dump d = sql_dump_over(slice_of(data, size));
    struct arena a = {0};
    enum sql_result got;
    size_t line = 1;

    while ((got = sql_dump_next(&d)) == SQL_ROW) {
        assert(d.row_line >= line && d.value_count == d.row_table.count && d.value_count > 0);
        line = d.row_line;
        for (size_t i = 0; i < d.value_count; i++) {
            const struct sql_value *v = &d.values[i];
            assert(v->kind == SQL_NULL || v->raw.len == 0 ||
                   (v->raw.ptr >= data && v->raw.len <= size - (size_t)(v->raw.ptr - data)));
            assert(sql_value_text(v, &a).len <= v->raw.len);
        }
        arena_reset(&a);
    }
    assert(got == SQL_END ? d.rest.len == 0 : d.why != NULL);
    arena_fini(&a);
    sql_dump_fini(&d);
    return 0;
}
