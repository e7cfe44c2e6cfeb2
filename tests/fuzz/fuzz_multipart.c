/* Multipart bodies from anyone. First line: the Content-Type; the rest: the body. Values must lie
 * in the body, in order and without overlap. */
#include <assert.h>

#include "mail/multipart.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a = {0};
    struct slice type, body;
    struct form form;

    (void)slice_cut(slice_of(data, size), '\n', &type, &body);
    struct slice boundary = multipart_boundary(type, &a);
    if (multipart_parse(body, boundary, &a, &form)) {
        const uint8_t *at = body.ptr;
        for (size_t i = 0; i < form.count; i++) {
            const struct form_field *f = &form.fields[i];
            assert(f->name.len > 0);
            if (f->value.len == 0)
                continue;
            assert(f->value.ptr > at);
            at = f->value.ptr + f->value.len;
            assert(at < body.ptr + body.len);
        }
    }
    arena_fini(&a);
    return 0;
}
