/* The body of POST /v1/send. What is taken must be a message that the store's form holds, and no
 * header of it may end a line. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "mail/send_request.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool is_one_line(struct slice s)
{
    return slice_find_byte(s, '\r') == SIZE_MAX && slice_find_byte(s, '\n') == SIZE_MAX &&
           slice_find_byte(s, 0) == SIZE_MAX;
}

static void hold(const struct submission *s, struct arena *a)
{
    struct message_content content;
    struct message_head head;
    struct buf packed = {0};

    assert(s->recipient_count > 0 && s->recipient_count <= MESSAGE_RECIPIENTS_MAX);
    assert(!s->head.batch_mode && s->head.lane == 0 && s->head.email_id.len == 0);
    assert(is_one_line(s->content.from) && is_one_line(s->content.subject));
    for (size_t i = 0; i < s->content.header_count; i++)
        assert(is_one_line(s->content.headers[i].name) && is_one_line(s->content.headers[i].value));
    for (size_t i = 0; i < s->content.attachment_count; i++)
        assert(s->content.attachments[i].data.len > 0 &&
               is_one_line(s->content.attachments[i].filename) &&
               is_one_line(s->content.attachments[i].content_type) &&
               is_one_line(s->content.attachments[i].content_id));
    message_head_pack(&packed, &s->head);
    assert(message_head_unpack(buf_slice(&packed), a, &head));
    buf_reset(&packed);
    message_content_pack(&packed, &s->content);
    assert(message_content_unpack(buf_slice(&packed), a, &content));
    buf_fini(&packed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct submission_context context = {.domain = SLICE("mg.example.com"),
                                               .path_domain = SLICE("mg.example.com"),
                                               .now_us = UINT64_C(1764000000000000),
                                               .random = 1};
    struct send_request request;
    struct submission s;
    struct refusal why = {0};
    struct arena a = {0};

    bool fine = send_request_read(slice_of(data, size), &a, &request, &why);
    assert(fine == (why.status == 0));
    if (fine) {
        struct slice from = request.from.len > 0 ? request.from : SLICE("a@mg.example.com");
        bool good = submission_from_send(&request, from, &context, &a, &s, &why);
        assert(good == (why.status == 0));
        if (good)
            hold(&s, &a);
    }
    assert(why.status == 0 || (why.status == 400 && why.message.len > 0));
    arena_fini(&a);
    return 0;
}
