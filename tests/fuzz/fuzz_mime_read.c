/* A whole message, as messages.mime takes it; the first byte says whether it is a batch. What is
 * accepted is what SES takes and can be read again, and what a reader's values hold begins no
 * header and no part of its own. */
#include <assert.h>
#include <stdint.h>

#include "base/digest.h"
#include "mail/form.h"
#include "mail/mime_clean.h"
#include "mail/mime_read.h"
#include "mail/ses_mail.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define VALUE "Z\xc3\xb6\"\r\nX-Evil: 1\r\n\r\n--b\r\n--m\n--a\r\n\r\n.\n<z@evil.example>, "

/* 7 bits, CRLF, no line too long. */
static void check_lines(struct slice mime)
{
    size_t line = 0;

    for (size_t i = 0; i < mime.len; i++) {
        uint8_t c = mime.ptr[i];
        assert(c != 0 && c < 0x80);
        assert(c != '\n' || (i > 0 && mime.ptr[i - 1] == '\r'));
        if (c == '\r')
            assert(i + 1 < mime.len && mime.ptr[i + 1] == '\n');
        line = c == '\r' || c == '\n' ? 0 : line + 1;
        assert(line <= 998);
    }
}

static void check_tree(const struct mime_tree *t)
{
    size_t end = 0;

    for (size_t i = 0; i < t->span_count; i++) {
        const struct mime_span *s = &t->spans[i];
        assert(s->begin >= end && s->end >= s->begin && s->end <= t->message.len);
        assert(s->entity < t->entity_count);
        end = s->end;
    }
}

static void check_clean(struct slice mime, bool batch_mode)
{
    struct arena a = {0};
    struct mime_tree tree;
    struct buf again = {0};
    struct slice reason;
    const char *why;

    check_lines(mime);
    bool good = mime_read(mime, &a, &tree, &why);
    assert(good || !batch_mode);
    if (good) {
        check_tree(&tree);
        if (mime_clean(&tree, NULL, 0, &a, &again, &reason))
            check_lines(buf_slice(&again));
    }
    buf_fini(&again);
    arena_fini(&a);
}

static void check_sent(const struct submission *s)
{
    struct ses_setup setup = {.batch_id = 1};
    struct ses_scratch scratch = {0};
    struct render_keys keys = {0};
    struct arena a = {0};
    struct buf body = {0}, mime = {0};
    struct mime_tree tree, template;
    const char *why;
    struct err err;

    render_keys_add(&keys, &a, SLICE("a"));
    struct ses_batch *b = ses_batch_compile(&s->head, &s->content, &keys, &setup, &a);
    assert(ses_batch_way(b) == SES_RAW);
    if (ses_render_one(b, SES_RAW, s->recipients, 1, 1, 0, &scratch, &body, &err) == SES_FITS) {
        struct slice json = buf_slice(&body), mark = SLICE("\"Raw\":{\"Data\":\"");
        size_t at = slice_find(json, mark);
        assert(at != SIZE_MAX);
        json = slice_from(json, at + mark.len);
        bool good = text_from_base64(&mime, slice_head(json, slice_find_byte(json, '"')));
        assert(good);
        check_lines(buf_slice(&mime));
        good = mime_read(buf_slice(&mime), &a, &tree, &why);
        assert(good || !s->head.batch_mode);
        if (s->head.batch_mode) {
            good = mime_read(s->content.mime, &a, &template, &why);
            assert(good && tree.entity_count == template.entity_count);
        }
        for (size_t i = 0; i < tree.span_count && tree.spans[i].kind == MIME_FIELD; i++)
            assert(!slice_eq_nocase(tree.spans[i].name, SLICE("X-Evil")) &&
                   !slice_eq_nocase(tree.spans[i].name, SLICE("Bcc")));
    }
    buf_fini(&body);
    buf_fini(&mime);
    ses_scratch_fini(&scratch);
    arena_fini(&a);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct submission_context context = {.domain = SLICE("mg.example.com"),
                                               .path_domain = SLICE("mg.example.com"),
                                               .now_us = UINT64_C(1772366591000000),
                                               .random = 7};
    struct arena a = {0};
    struct refusal why = {0};
    struct submission s;
    struct form_field fields[] = {
        {.name = SLICE("to"), .value = SLICE("\"Ann, A.\" <a@b.example>")},
        {.name = SLICE("message"), .is_file = true},
        {.name = SLICE("recipient-variables"), .value = SLICE("{}")},
    };
    struct form form = {.fields = fields, .is_multipart = true};
    struct name_value vars[] = {{SLICE("a"), SLICE(VALUE)}};

    if (size == 0 || memmem(data, size, "X-Evil", 6) != NULL)
        return 0;
    fields[1].value = slice_of(data + 1, size - 1);
    form.count = data[0] % 2 == 0 ? 2 : 3;
    if (submission_from_mime(&form, &context, &a, &s, &why)) {
        assert(s.recipient_count == 1 && s.head.from.len > 0);
        check_clean(s.content.mime, s.head.batch_mode);
        if (s.recipients[0].var_count == 0) {
            s.recipients[0].vars = vars;
            s.recipients[0].var_count = 1;
        }
        check_sent(&s);
    } else {
        assert(why.status == 400 && why.message.len > 0);
    }
    arena_fini(&a);
    return 0;
}
