#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/digest.h"
#include "base/pack.h"
#include "mail/form.h"
#include "mail/part.h"

enum { BATCH_ID = 77, SMALL_MESSAGE = 1 << 20 };

struct made {
    struct arena arena;
    struct buf head, content, slices;
    struct part_source source;
};

struct wish {
    uint32_t count;
    bool reversed, copies, no_email_id, single;
    size_t html_bytes; /* of noise, which no compressor makes smaller */
};

static void make(struct made *m, const struct wish *wish)
{
    struct recipient *list = calloc(wish->count, sizeof *list);
    char *noise = calloc(1, wish->html_bytes + 1);
    struct message_head head = {.domain = SLICE("mg.example.com"),
                                .message_id = SLICE("1.2@mg.example.com"),
                                .email_id = wish->no_email_id ? slice_none() : SLICE("abc123"),
                                .batch_mode = !wish->single,
                                .recipient_count = wish->count,
                                .lane = 1};
    struct message_content content = {
        .from = SLICE("a@mg.example.com"), .subject = SLICE("Hello"), .batch_mode = !wish->single};
    struct buf one = {0};

    *m = (struct made){.source = {.batch_id = BATCH_ID}};
    for (size_t i = 0; i < wish->html_bytes; i++)
        noise[i] = (char)('!' + rand() % 90);
    content.html = slice_of(noise, wish->html_bytes);
    for (uint32_t i = 0; i < wish->count; i++) {
        uint32_t n = wish->reversed ? wish->count - 1 - i : i;
        list[i].address = arena_printf(&m->arena, "reader%u@Example.NET", n);
        list[i].vars = arena_array(&m->arena, 1, sizeof *list[i].vars);
        list[i].vars[0] =
            (struct name_value){SLICE("n"), arena_printf(&m->arena, "value of %u", n)};
        list[i].var_count = 1;
        list[i].kind = wish->copies && i == wish->count - 1 ? RECIPIENT_BCC : RECIPIENT_TO;
    }
    message_head_pack(&m->head, &head);
    message_content_pack(&m->content, &content);
    pack_array(&m->slices, (wish->count + MESSAGE_SLICE - 1) / MESSAGE_SLICE);
    for (uint32_t at = 0; at < wish->count; at += MESSAGE_SLICE) {
        buf_reset(&one);
        recipients_pack(&one, list + at,
                        wish->count - at < MESSAGE_SLICE ? wish->count - at : MESSAGE_SLICE);
        pack_bin(&m->slices, buf_slice(&one));
    }
    m->source.head = buf_slice(&m->head);
    m->source.content = buf_slice(&m->content);
    m->source.slices = buf_slice(&m->slices);
    buf_fini(&one);
    free(noise);
    free(list);
}

static void drop(struct made *m)
{
    arena_fini(&m->arena);
    buf_fini(&m->head);
    buf_fini(&m->content);
    buf_fini(&m->slices);
}

/* Each reader once, with its own variables, in the parts' own indexes. */
static void every_reader_travels_once(void **unused)
{
    struct made m;
    struct part_messages messages;
    bool seen[1000] = {false};
    uint32_t total = 0;

    (void)unused;
    make(&m, &(struct wish){.count = 777, .html_bytes = 5000});
    assert_int_equal(part_cut(&m.source, SMALL_MESSAGE, &m.arena, &messages), PART_OK);
    assert_int_equal(messages.count, 2);
    for (size_t i = 0; i < messages.count; i++) {
        struct part p;
        struct slice why;
        struct message_head head;
        assert_true(part_read(messages.list[i].body, &m.arena, &p, &why));
        assert_int_equal(p.batch_id, BATCH_ID + i);
        assert_int_equal(p.number, i);
        assert_int_equal(p.count, 2);
        assert_int_equal(p.lane, 1);
        assert_true(slice_eq(p.content, m.source.content));
        assert_true(slice_eq(p.domain, SLICE("mg.example.com")));
        assert_true(message_head_unpack(p.head, &m.arena, &head));
        assert_int_equal(head.recipient_count, p.recipient_count);
        assert_int_equal(p.claims.len, p.recipient_count * PART_CLAIM_BYTES);
        struct unpack u = unpack_over(p.slices);
        for (uint32_t n = unpack_array(&u); n > 0; n--) {
            struct recipient *list;
            size_t count;
            assert_true(recipients_unpack(unpack_str(&u), &m.arena, &list, &count));
            for (size_t r = 0; r < count; r++) {
                unsigned number = (unsigned)atoi(arena_cstr(&m.arena, list[r].address) + 6);
                struct slice value = arena_printf(&m.arena, "value of %u", number);
                assert_true(number < 777 && !seen[number]);
                seen[number] = true;
                assert_true(slice_eq(list[r].vars[0].value, value));
                total++;
            }
        }
        assert_true(unpack_done(&u));
    }
    assert_int_equal(total, 777);
    drop(&m);
}

/* What a repeated POST gives at another machine: the same groups, in whatever order it lists its
 * readers and whatever id it has there. */
static void a_repeat_has_the_same_groups(void **unused)
{
    struct made first, again;
    struct part_messages one, two;

    (void)unused;
    make(&first, &(struct wish){.count = 1000, .html_bytes = 100});
    make(&again, &(struct wish){.count = 1000, .html_bytes = 3000, .reversed = true});
    again.source.batch_id = 5;
    assert_int_equal(part_cut(&first.source, SMALL_MESSAGE, &first.arena, &one), PART_OK);
    assert_int_equal(part_cut(&again.source, SMALL_MESSAGE, &again.arena, &two), PART_OK);
    assert_int_equal(one.count, two.count);
    for (size_t i = 0; i < one.count; i++)
        assert_memory_equal(one.list[i].group, two.list[i].group, PART_GROUP_BYTES);
    assert_memory_not_equal(one.list[0].group, one.list[1].group, PART_GROUP_BYTES);
    drop(&first);
    drop(&again);
}

static void a_large_content_makes_smaller_parts_up_to_a_limit(void **unused)
{
    struct made m;
    struct part_messages messages;

    (void)unused;
    make(&m, &(struct wish){.count = 1000, .html_bytes = 10000});
    assert_int_equal(part_cut(&m.source, SMALL_MESSAGE, &m.arena, &messages), PART_OK);
    assert_int_equal(messages.count, 2);
    size_t less = messages.list[0].body.len - 1;
    assert_int_equal(part_cut(&m.source, less, &m.arena, &messages), PART_OK);
    assert_int_equal(messages.count, 4);
    for (size_t i = 0; i < messages.count; i++)
        assert_true(messages.list[i].body.len <= less);
    assert_int_equal(part_cut(&m.source, 8000, &m.arena, &messages), PART_TOO_LARGE);
    assert_int_equal(messages.count, 0);
    drop(&m);
}

static void what_cannot_travel_is_told_apart(void **unused)
{
    static const struct wish wishes[] = {{.count = 3, .copies = true},
                                         {.count = 3, .no_email_id = true},
                                         {.count = 3, .single = true}};
    struct part_messages messages;
    struct made m;

    (void)unused;
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++) {
        make(&m, &wishes[i]);
        assert_int_equal(part_cut(&m.source, SMALL_MESSAGE, &m.arena, &messages), PART_LOCAL);
        drop(&m);
    }
    make(&m, &wishes[0]);
    m.source.slices.len--;
    assert_int_equal(part_cut(&m.source, SMALL_MESSAGE, &m.arena, &messages), PART_BAD);
    m.source.head.len--;
    assert_int_equal(part_cut(&m.source, SMALL_MESSAGE, &m.arena, &messages), PART_BAD);
    drop(&m);
}

/* Not one changed byte passes for another batch. */
static void damage_is_seen(void **unused)
{
    struct made m;
    struct part_messages messages;
    struct part p;
    struct slice why;

    (void)unused;
    make(&m, &(struct wish){.count = 60, .html_bytes = 300});
    assert_int_equal(part_cut(&m.source, SMALL_MESSAGE, &m.arena, &messages), PART_OK);
    struct buf packed = {0}, text = {0};
    assert_true(text_from_base64(&packed, messages.list[0].body));
    size_t safe = 0;
    for (size_t i = 0; i < packed.len; i++) {
        struct arena own = {0};
        packed.ptr[i] ^= 0x41;
        buf_reset(&text);
        text_base64(&text, buf_slice(&packed));
        if (!part_read(buf_slice(&text), &own, &p, &why)) {
            assert_true(why.len > 0);
            safe++;
        } else { /* the head and the part's numbers have no checksum: but whose they are has */
            assert_int_equal(p.recipient_count, 60);
        }
        packed.ptr[i] ^= 0x41;
        arena_fini(&own);
    }
    assert_true(safe > packed.len * 3 / 4);
    for (size_t len = 0; len < messages.list[0].body.len; len += 7)
        assert_false(part_read(slice_head(messages.list[0].body, len), &m.arena, &p, &why));
    buf_fini(&packed);
    buf_fini(&text);
    drop(&m);
}

static void another_version_is_named(void **unused)
{
    struct arena a = {0};
    struct buf packed = {0}, text = {0};
    struct part p;
    struct slice why;

    (void)unused;
    pack_array(&packed, 3);
    pack_str(&packed, SLICE("postern-part"));
    pack_u64(&packed, 2);
    pack_u64(&packed, 5);
    text_base64(&text, buf_slice(&packed));
    assert_false(part_read(buf_slice(&text), &a, &p, &why));
    assert_true(slice_find(why, SLICE("version is 2")) != SIZE_MAX);
    assert_false(part_read(SLICE("{\"some\":\"json\"}"), &a, &p, &why));
    buf_fini(&packed);
    buf_fini(&text);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_reader_travels_once),
        cmocka_unit_test(a_repeat_has_the_same_groups),
        cmocka_unit_test(a_large_content_makes_smaller_parts_up_to_a_limit),
        cmocka_unit_test(what_cannot_travel_is_told_apart),
        cmocka_unit_test(damage_is_seen),
        cmocka_unit_test(another_version_is_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
