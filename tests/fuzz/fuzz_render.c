/* Templates from anyone's text: rendering never reads outside, and what is literal stays literal.
 */
#include <assert.h>

#include "mail/render.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* First line: the keys, separated by blanks; the rest: the text. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice line, text, key;
    struct arena a = {0};
    struct render_keys keys = {0};
    struct name_value var = {SLICE("x"), SLICE("%recipient.x%")};
    struct recipient r = {
        .address = SLICE("a@b.c"), .name = SLICE("A B"), .vars = &var, .var_count = 1};
    struct render_template t;
    struct buf out = {0};

    slice_cut(slice_of(data, size), '\n', &line, &text);
    while (line.len > 0) {
        slice_cut(line, ' ', &key, &line);
        render_keys_add(&keys, &a, key);
        assert(render_keys_find(&keys, key) < keys.count);
    }
    struct slice *values = arena_array(&a, render_slot_count(&keys), sizeof *values);
    render_compile(&t, text, NULL, &a);
    render_run(&t, values, &out);
    assert(slice_eq(buf_slice(&out), text));

    buf_reset(&out);
    render_compile(&t, text, &keys, &a);
    (void)render_values(&keys, &r, &a, values);
    render_run(&t, values, &out);
    assert(t.literal_bytes <= text.len);
    assert(t.varies || out.len == t.literal_bytes);
    assert(t.varies || t.erased_count > 0 || slice_eq(buf_slice(&out), text));
    buf_fini(&out);
    arena_fini(&a);
    return 0;
}
