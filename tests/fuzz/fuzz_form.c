/* Whole POSTs from anyone. First line: the Content-Type; the rest: the body. What is accepted keeps
 * the promises of mail/form.h, and comes out of packing as it went in. */
#include <assert.h>

#include "mail/form.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool has_control(struct slice s)
{
    return slice_find_byte(s, '\n') != SIZE_MAX || slice_find_byte(s, '\r') != SIZE_MAX ||
           slice_find_byte(s, 0) != SIZE_MAX;
}

static void check(const struct submission *s, struct arena *a)
{
    struct buf packed = {0}, again = {0};
    struct message_head head;
    struct message_content content;
    struct recipient *list;
    size_t count;

    assert(s->recipient_count >= 1 && s->recipient_count <= MESSAGE_RECIPIENTS_MAX);
    assert(s->head.recipient_count == s->recipient_count);
    assert(s->head.tag_count <= MESSAGE_TAGS_MAX);
    assert(s->answer_id.len > 0 && s->head.message_id.len > 0);
    assert(!has_control(s->head.from) && !has_control(s->head.subject) && !has_control(s->head.to));
    for (size_t i = 0; i < s->content.header_count; i++)
        assert(!has_control(s->content.headers[i].name) &&
               !has_control(s->content.headers[i].value));

    message_head_pack(&packed, &s->head);
    assert(message_head_unpack(buf_slice(&packed), a, &head));
    message_head_pack(&again, &head);
    message_content_pack(&packed, &s->content);
    assert(message_content_unpack(slice_from(buf_slice(&packed), again.len), a, &content));
    message_content_pack(&again, &content);
    for (size_t i = 0; i < s->recipient_count; i += MESSAGE_SLICE) {
        size_t left = s->recipient_count - i;
        recipients_pack(&packed, s->recipients + i, left < MESSAGE_SLICE ? left : MESSAGE_SLICE);
        assert(recipients_unpack(slice_from(buf_slice(&packed), again.len), a, &list, &count));
        recipients_pack(&again, list, count);
    }
    assert(slice_eq(buf_slice(&packed), buf_slice(&again)));
    buf_reset(&again);
    submission_claims(s, &again);
    assert(again.len == (s->head.email_id.len == 0 ? 0 : 16 * s->recipient_count));
    buf_fini(&packed);
    buf_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct arena a = {0};
    struct slice type, body;
    struct form form;
    struct submission s;
    struct refusal why = {0};
    struct submission_context context = {.domain = SLICE("mg.example.com"),
                                         .path_domain = SLICE("mg.example.com"),
                                         .now_us = UINT64_C(1795431600000000),
                                         .random = 1};

    (void)slice_cut(slice_of(data, size), '\n', &type, &body);
    if (form_parse(type, body, &a, &form, &why) &&
        submission_from_form(&form, &context, &a, &s, &why))
        check(&s, &a);
    else
        assert(why.status == 400 && why.message.len > 0);
    arena_fini(&a);
    return 0;
}
