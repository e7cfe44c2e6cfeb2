/* A stored template, rendered with variables of every kind: no more is written than the budget has,
 * and a text without a tag is written as it is. */
#include <assert.h>
#include <stdint.h>

#include "mail/handlebars.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char variables[] = "{\"a\":[1,\"<b>\",[],{\"a\":[null,true]},[[2]]],\"b\":{\"c\":{"
                                "\"a\":\"&\"},\"x y\":0},\"n\":-1.5,"
                                "\"s\":\"text\",\"t\":true,\"f\":false,\"z\":\"\"}";

static void render(const struct handlebars_node *t, struct slice text, enum handlebars_escape how)
{
    struct handlebars_budget budget = {.steps = 20000, .bytes = 1 << 16};
    struct buf to = {0};
    cJSON *tree = json_parse(slice_str(variables));

    assert(tree != NULL);
    bool fine = handlebars_render(t, tree, how, &budget, &to);
    assert(to.len + budget.bytes == 1 << 16);
    if (fine && slice_find(text, SLICE("{{")) == SIZE_MAX)
        assert(slice_eq(buf_slice(&to), text));
    json_free(tree);
    buf_fini(&to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice text = slice_of(data, size);
    const struct handlebars_node *t;
    struct handlebars_error e = {0};
    struct arena a = {0};

    if (handlebars_parse(text, &a, &t, &e)) {
        render(t, text, HANDLEBARS_HTML);
        render(t, text, HANDLEBARS_PLAIN);
    } else {
        assert(e.line >= 1 && e.line <= size + 1 && e.words != NULL);
    }
    arena_fini(&a);
    return 0;
}
