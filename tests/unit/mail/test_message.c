#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/pack.h"
#include "mail/message.h"

static struct slice tags[] = {{(const uint8_t *)"bulk-email", 10}, {(const uint8_t *)"t", 1}};
static struct name_value vars[] = {
    {{(const uint8_t *)"email-id", 8}, {(const uint8_t *)"6b04", 4}},
    {{(const uint8_t *)"empty", 5}, {NULL, 0}},
};
static struct attachment files[] = {
    {{(const uint8_t *)"a.pdf", 5},
     {(const uint8_t *)"application/pdf", 15},
     {NULL, 0},
     {(const uint8_t *)"\0\xff\x01", 3}},
    {{(const uint8_t *)"i.png", 5},
     {(const uint8_t *)"image/png", 9},
     {(const uint8_t *)"i.png", 5},
     {(const uint8_t *)"x", 1}},
};

static struct message_head a_head(void)
{
    return (struct message_head){
        .domain = SLICE("mg.example.com"),
        .message_id = SLICE("<%recipient.message_id%>"),
        .email_id = SLICE("6b04"),
        .from = SLICE("\"Söhne\" <x@y.z>"),
        .to = SLICE("a@b.c, d@e.f"),
        .subject = SLICE("Hello <World>"),
        .tags = tags,
        .tag_count = 2,
        .vars = vars,
        .var_count = 2,
        .testmode = true,
        .message_id_per_recipient = true,
        .accepted_wall_us = UINT64_C(1795431260575123),
        .due_wall_ms = 1795431260575,
        .size_bytes = UINT64_MAX,
        .recipient_count = UINT32_MAX,
        .lane = 1,
        .request_id = SLICE("00112233aabbccdd"),
    };
}

static struct message_content a_content(void)
{
    return (struct message_content){
        .from = SLICE("x@y.z"),
        .subject = SLICE("s"),
        .text = SLICE("text"),
        .html = SLICE("<b>html</b>"),
        .amp_html = SLICE("amp"),
        .headers = vars,
        .header_count = 2,
        .vars = vars,
        .var_count = 1,
        .attachments = files,
        .attachment_count = 2,
        .opens = TRACKING_ON,
        .clicks = TRACKING_OFF,
        .batch_mode = true,
        .suppress_variables_header = true,
    };
}

static void same_pairs(const struct name_value *x, size_t xs, const struct name_value *y, size_t ys)
{
    assert_int_equal(xs, ys);
    for (size_t i = 0; i < xs; i++)
        assert_true(slice_eq(x[i].name, y[i].name) && slice_eq(x[i].value, y[i].value));
}

static void a_head_survives_packing(void **unused)
{
    struct arena a = {0};
    struct buf b = {0};
    struct message_head h = a_head(), g;

    (void)unused;
    message_head_pack(&b, &h);
    assert_true(message_head_unpack(buf_slice(&b), &a, &g));
    assert_true(slice_eq(g.domain, h.domain) && slice_eq(g.message_id, h.message_id));
    assert_true(slice_eq(g.email_id, h.email_id) && slice_eq(g.from, h.from));
    assert_true(slice_eq(g.to, h.to) && slice_eq(g.subject, h.subject));
    assert_int_equal(g.tag_count, 2);
    assert_true(slice_eq(g.tags[0], tags[0]) && slice_eq(g.tags[1], tags[1]));
    same_pairs(g.vars, g.var_count, vars, 2);
    assert_true(g.testmode && !g.batch_mode && g.message_id_per_recipient);
    assert_int_equal(g.accepted_wall_us, h.accepted_wall_us);
    assert_int_equal(g.due_wall_ms, h.due_wall_ms);
    assert_true(g.size_bytes == UINT64_MAX);
    assert_int_equal(g.recipient_count, UINT32_MAX);
    assert_int_equal(g.lane, 1);
    assert_true(slice_eq(g.request_id, SLICE("00112233aabbccdd")));
    buf_fini(&b);
    arena_fini(&a);
}

/* As it was kept before requests had ids: the last field is nil. */
static void a_head_without_a_request_id_is_read(void **unused)
{
    struct arena a = {0};
    struct buf b = {0};
    struct message_head h = a_head(), g;

    (void)unused;
    h.request_id = slice_none();
    message_head_pack(&b, &h);
    assert_int_equal(b.ptr[b.len - 1], 0xc0);
    assert_true(message_head_unpack(buf_slice(&b), &a, &g));
    assert_int_equal(g.request_id.len, 0);
    assert_int_equal(g.lane, 1);
    buf_fini(&b);
    arena_fini(&a);
}

static void a_whole_message_survives_packing(void **unused)
{
    struct arena a = {0};
    struct buf b = {0};
    struct message_content c = a_content(), g;

    (void)unused;
    c.mime = SLICE("From: a@b\r\n\r\n\0");
    message_content_pack(&b, &c);
    assert_true(message_content_unpack(buf_slice(&b), &a, &g));
    assert_true(slice_eq(g.mime, c.mime) && g.suppress_variables_header);
    for (size_t i = 0; i < b.len; i++)
        assert_false(message_content_unpack(slice_head(buf_slice(&b), i), &a, &g));
    buf_fini(&b);
    arena_fini(&a);
}

static void a_content_survives_packing(void **unused)
{
    struct arena a = {0};
    struct buf b = {0};
    struct message_content c = a_content(), g;

    (void)unused;
    message_content_pack(&b, &c);
    assert_true(message_content_unpack(buf_slice(&b), &a, &g));
    assert_true(slice_eq(g.from, c.from) && slice_eq(g.subject, c.subject));
    assert_true(slice_eq(g.text, c.text) && slice_eq(g.html, c.html));
    assert_true(slice_eq(g.amp_html, c.amp_html));
    same_pairs(g.headers, g.header_count, vars, 2);
    same_pairs(g.vars, g.var_count, vars, 1);
    assert_int_equal(g.attachment_count, 2);
    for (size_t i = 0; i < 2; i++) {
        assert_true(slice_eq(g.attachments[i].filename, files[i].filename));
        assert_true(slice_eq(g.attachments[i].content_type, files[i].content_type));
        assert_true(slice_eq(g.attachments[i].content_id, files[i].content_id));
        assert_true(slice_eq(g.attachments[i].data, files[i].data));
    }
    assert_int_equal(g.opens, TRACKING_ON);
    assert_int_equal(g.clicks, TRACKING_OFF);
    assert_true(g.batch_mode && g.suppress_variables_header);
    buf_fini(&b);
    arena_fini(&a);
}

static size_t some_recipients(struct recipient *list, struct arena *a, size_t count)
{
    for (size_t i = 0; i < count; i++)
        list[i] = (struct recipient){.kind = (enum recipient_kind)(i % 3),
                                     .address = arena_printf(a, "r%zu@x.y", i),
                                     .name = i % 2 ? SLICE("Zoë") : (struct slice){0},
                                     .vars = vars,
                                     .var_count = i % 3};
    return count;
}

static void a_slice_of_recipients_survives_packing_whole_and_one_by_one(void **unused)
{
    struct arena a = {0};
    struct buf b = {0};
    struct recipient list[MESSAGE_SLICE], *got, one;
    size_t count;

    (void)unused;
    recipients_pack(&b, list, some_recipients(list, &a, MESSAGE_SLICE));
    assert_true(recipients_unpack(buf_slice(&b), &a, &got, &count));
    assert_int_equal(count, MESSAGE_SLICE);
    for (size_t i = 0; i < count; i++) {
        assert_true(recipients_unpack_one(buf_slice(&b), i, &a, &one));
        assert_int_equal(got[i].kind, list[i].kind);
        assert_int_equal(one.kind, list[i].kind);
        assert_true(slice_eq(got[i].address, list[i].address));
        assert_true(slice_eq(one.address, list[i].address));
        assert_true(slice_eq(got[i].name, list[i].name) && slice_eq(one.name, list[i].name));
        same_pairs(got[i].vars, got[i].var_count, list[i].vars, list[i].var_count);
        same_pairs(one.vars, one.var_count, list[i].vars, list[i].var_count);
    }
    assert_false(recipients_unpack_one(buf_slice(&b), MESSAGE_SLICE, &a, &one));
    buf_fini(&b);
    arena_fini(&a);
}

static void a_slice_holds_one_to_fifty_recipients(void **unused)
{
    struct arena a = {0};
    struct buf b = {0};
    struct recipient list[MESSAGE_SLICE + 1] = {0}, *got;
    size_t count;

    (void)unused;
    recipients_pack(&b, list, 0);
    assert_false(recipients_unpack(buf_slice(&b), &a, &got, &count));
    buf_reset(&b);
    recipients_pack(&b, list, some_recipients(list, &a, MESSAGE_SLICE + 1));
    assert_false(recipients_unpack(buf_slice(&b), &a, &got, &count));
    buf_fini(&b);
    arena_fini(&a);
}

/* Every proper prefix, and the whole with a byte more, is refused. */
static void what_is_cut_or_has_more_is_refused(void **unused)
{
    struct arena a = {0};
    struct buf head = {0}, content = {0}, list = {0};
    struct message_head h = a_head();
    struct message_content c = a_content();
    struct recipient r[3], *got;
    size_t count;

    (void)unused;
    message_head_pack(&head, &h);
    message_content_pack(&content, &c);
    recipients_pack(&list, r, some_recipients(r, &a, 3));
    size_t head_len = head.len, content_len = content.len, list_len = list.len;
    buf_add_byte(&head, 0xc0);
    buf_add_byte(&content, 0xc0);
    buf_add_byte(&list, 0xc0);
    for (size_t i = 0; i <= head.len; i++)
        assert_int_equal(message_head_unpack(slice_head(buf_slice(&head), i), &a, &h),
                         i == head_len);
    for (size_t i = 0; i <= content.len; i++)
        assert_int_equal(message_content_unpack(slice_head(buf_slice(&content), i), &a, &c),
                         i == content_len);
    for (size_t i = 0; i <= list.len; i++)
        assert_int_equal(recipients_unpack(slice_head(buf_slice(&list), i), &a, &got, &count),
                         i == list_len);
    buf_fini(&head);
    buf_fini(&content);
    buf_fini(&list);
    arena_fini(&a);
}

static void values_outside_their_enum_are_refused(void **unused)
{
    struct arena a = {0};
    struct buf b = {0};
    struct recipient r = {.kind = (enum recipient_kind)3, .address = SLICE("a@b.c")}, *got;
    struct message_content c = a_content();
    size_t count;

    (void)unused;
    recipients_pack(&b, &r, 1);
    assert_false(recipients_unpack(buf_slice(&b), &a, &got, &count));
    buf_reset(&b);
    c.opens = (enum tracking)3;
    message_content_pack(&b, &c);
    assert_false(message_content_unpack(buf_slice(&b), &a, &c));
    buf_fini(&b);
    arena_fini(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_head_survives_packing),
        cmocka_unit_test(a_head_without_a_request_id_is_read),
        cmocka_unit_test(a_content_survives_packing),
        cmocka_unit_test(a_whole_message_survives_packing),
        cmocka_unit_test(a_slice_of_recipients_survives_packing_whole_and_one_by_one),
        cmocka_unit_test(a_slice_holds_one_to_fifty_recipients),
        cmocka_unit_test(what_is_cut_or_has_more_is_refused),
        cmocka_unit_test(values_outside_their_enum_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
