/* First line: the field's name; the rest: its expression. A filter that is taken must survive
 * matching, planning and the way through a page token. */
#include <assert.h>
#include <stdint.h>

#include "mail/filter.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct event sample(struct slice *tags, struct name_value *vars)
{
    tags[0] = SLICE("bulk-email");
    tags[1] = SLICE("ghost-email");
    vars[0] = (struct name_value){SLICE("email-id"), SLICE("65f0c1")};
    return (struct event){
        .type = EVENT_FAILED,
        .severity = SEVERITY_PERMANENT,
        .recipient = SLICE("ann@example.net"),
        .message_id = SLICE("m@example.com"),
        .subject = SLICE("Hello"),
        .tags = tags,
        .tag_count = 2,
        .vars = vars,
        .var_count = 1,
        .size_bytes = 100,
    };
}

static bool is_one_of(const struct filter_terms *terms, struct slice text)
{
    for (size_t i = 0; i < terms->count; i++)
        if (slice_eq_nocase(terms->texts[i], text))
            return true;
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice field, expression, why = {0}, tags[2];
    struct name_value vars[1];
    struct event e = sample(tags, vars);
    struct arena a = {0};
    struct buf packed = {0};
    struct filter *f = filter_create(&a), *back;
    struct filter_plan plan;

    (void)slice_cut(slice_of(data, size), '\n', &field, &expression);
    if (filter_add(f, field, expression, &why)) {
        assert(filter_is_field(field));
        bool answer = filter_match(f, &e);
        filter_plan(f, &plan);
        if (answer) { /* what matches is never planned away */
            assert((plan.kinds >> event_kind(&e) & 1u) != 0);
            for (size_t i = 0; i < plan.tag_count; i++)
                assert(is_one_of(&plan.tags[i], tags[0]) || is_one_of(&plan.tags[i], tags[1]));
            assert(plan.recipient.count == 0 || is_one_of(&plan.recipient, e.recipient));
            assert(plan.message_id.count == 0 || is_one_of(&plan.message_id, e.message_id));
        }
        filter_pack(&packed, f);
        bool unpacked = filter_unpack(buf_slice(&packed), &a, &back);
        assert(unpacked && filter_match(back, &e) == answer);
    } else {
        assert(why.len != 0);
    }
    (void)filter_unpack(slice_of(data, size), &a, &back);
    buf_fini(&packed);
    arena_fini(&a);
    return 0;
}
