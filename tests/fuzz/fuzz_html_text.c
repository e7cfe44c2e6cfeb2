/* HTML of a stored template as text: as UTF-8 as it was, without a line that grows out of nothing. */
#include <assert.h>
#include <stdint.h>

#include "mail/html_text.h"
#include "mail/stored_template.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_headers(struct slice text)
{
    struct slice headers, again, why;
    struct arena a = {0};

    if (stored_headers_read(text, &a, &headers, &why) && headers.len > 0) {
        assert(stored_headers_read(headers, &a, &again, &why));
        assert(slice_eq(headers, again));
    }
    arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice html = slice_of(data, size);
    struct buf to = {0};

    html_to_text(&to, html);
    assert(to.len <= 8 * size + 8);
    if (slice_is_utf8(html))
        assert(slice_is_utf8(buf_slice(&to)));
    buf_fini(&to);
    read_headers(html);
    return 0;
}
