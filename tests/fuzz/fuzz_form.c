/* A request: its first line is the Content-Type, the rest the body. What is accepted keeps the
 * limits, and survives packing; what is refused says why. */
#include <assert.h>
#include <stdint.h>

#include "mail/form.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(const struct submission *s)
{
    struct buf packed = {0};
    struct arena a = {0};
    struct message_head head;
    struct message_content content;
    struct recipient *list;
    size_t count;

    assert(s->recipient_count > 0 && s->recipient_count <= MESSAGE_RECIPIENTS_MAX);
    assert(s->head.recipient_count == s->recipient_count);
    assert(s->head.tag_count <= MESSAGE_TAGS_MAX);
    assert(s->answer_id.len > 0);
    assert(s->content.text.len + s->content.html.len + s->content.amp_html.len > 0);
    message_head_pack(&packed, &s->head);
    bool good = message_head_unpack(buf_slice(&packed), &a, &head);
    assert(good);
    buf_reset(&packed);
    message_content_pack(&packed, &s->content);
    good = message_content_unpack(buf_slice(&packed), &a, &content);
    assert(good);
    for (size_t i = 0; i < content.header_count; i++)
        assert(slice_find_byte(content.headers[i].value, '\n') == SIZE_MAX);
    for (size_t at = 0; at < s->recipient_count; at += MESSAGE_SLICE) {
        size_t left = s->recipient_count - at;
        buf_reset(&packed);
        recipients_pack(&packed, s->recipients + at, left < MESSAGE_SLICE ? left : MESSAGE_SLICE);
        good = recipients_unpack(buf_slice(&packed), &a, &list, &count);
        assert(good && slice_eq(list[0].address, s->recipients[at].address));
        assert(list[0].address.len > 2);
    }
    buf_reset(&packed);
    submission_claims(s, &packed);
    assert(packed.len == (s->head.email_id.len > 0 ? 16 * s->recipient_count : 0));
    buf_fini(&packed);
    arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct submission_context context = {.domain = SLICE("mg.example.com"),
                                               .path_domain = SLICE("mg.example.com"),
                                               .now_us = UINT64_C(1772366591000000),
                                               .random = 7};
    struct arena a = {0};
    struct slice type, body;
    struct form form;
    struct refusal why = {0};
    struct submission s;

    (void)slice_cut(slice_of(data, size), '\n', &type, &body);
    if (form_parse(type, body, &a, &form, &why) &&
        submission_from_form(&form, &context, &a, &s, &why))
        check(&s);
    else
        assert(why.status == 400 && why.message.len > 0);
    arena_fini(&a);
    return 0;
}
