#include "base/json.h"
#include "mail/ses_parts.h"

uint32_t ses_batch_unknown_count(const struct ses_batch *b)
{
    return b->unknown_count;
}

enum ses_way ses_batch_way(const struct ses_batch *b)
{
    return b->way;
}

size_t ses_batch_copies(const struct ses_batch *b)
{
    return b->batch_mode ? b->setup->other_count : 0;
}

/* The same template with its literals escaped for JSON, once for all recipients. */
static struct render_template escaped(const struct render_template *t, struct arena *a)
{
    struct render_template copy = *t;
    struct buf json = {0};

    copy.parts = arena_array(a, t->count, sizeof *copy.parts);
    copy.literal_bytes = 0;
    for (size_t i = 0; i < t->count; i++) {
        copy.parts[i] = t->parts[i];
        if (t->parts[i].slot != RENDER_LITERAL)
            continue;
        buf_reset(&json);
        json_put_escaped(&json, t->parts[i].literal);
        copy.parts[i].literal = arena_dup(a, buf_slice(&json));
        copy.literal_bytes += json.len;
    }
    buf_fini(&json);
    return copy;
}

static void compile_text(struct ses_batch *b, struct render_template *t, struct slice text,
                         struct arena *a)
{
    render_compile(t, text, b->batch_mode ? b->keys : NULL, a);
    b->unknown_count += t->unknown_count;
}

static struct slice compile_tail(const struct message_content *c, const struct ses_setup *setup,
                                 struct arena *a)
{
    struct buf json = {0};

    if (setup->configuration_set.len > 0) {
        buf_add_str(&json, ",\"ConfigurationSetName\":");
        json_put_text(&json, setup->configuration_set);
    }
    if (setup->override_tracking)
        buf_printf(&json,
                   ",\"ConfigurationOverrides\":{\"Tracking\":{\"OpenTrackingEnabled\":\"%s\","
                   "\"ClickTrackingEnabled\":\"%s\"}}",
                   c->opens == TRACKING_ON ? "ENABLED" : "DISABLED",
                   c->clicks == TRACKING_ON ? "ENABLED" : "DISABLED");
    struct slice kept = arena_dup(a, buf_slice(&json));
    buf_fini(&json);
    return kept;
}

static bool is_tag_value(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
              c == '_' || c == '-'))
            return false;
    }
    return s.len > 0 && s.len <= SES_TAG_MAX;
}

/* The cheapest call that can express the batch as such. Whole messages, attachments and AMP have no
 * place in the others; To and Cc of more readers than a call takes have to stand in a header. */
static enum ses_way way_of(struct ses_batch *b, struct arena *a)
{
    const struct message_content *c = b->content;

    if (c->mime.len > 0 || b->setup->always_raw || c->attachment_count > 0 || c->amp_html.len > 0 ||
        (!b->batch_mode && b->head->recipient_count > SES_DESTINATIONS_MAX))
        return SES_RAW;
    if (b->setup->allow_bulk && b->batch_mode && b->head->recipient_count > 1 &&
        ses_bulk_compile(b, a))
        return SES_BULK;
    return SES_SIMPLE;
}

struct ses_batch *ses_batch_compile(const struct message_head *head,
                                    const struct message_content *content,
                                    const struct render_keys *keys, const struct ses_setup *setup,
                                    struct arena *a)
{
    struct ses_batch *b = arena_alloc(a, sizeof *b);

    b->head = head;
    b->content = content;
    b->keys = keys;
    b->setup = setup;
    b->batch_mode = content->batch_mode;
    compile_text(b, &b->from, content->from, a);
    compile_text(b, &b->subject, content->subject, a);
    compile_text(b, &b->text, content->text, a);
    compile_text(b, &b->html, content->html, a);
    compile_text(b, &b->amp_html, content->amp_html, a);
    ses_headers_compile(b, a);
    if (content->mime.len > 0)
        ses_mime_compile(b, a);
    b->tail = compile_tail(content, setup, a);
    b->email_id = is_tag_value(head->email_id) ? head->email_id : slice_none();
    b->way = way_of(b, a);
    b->json_subject = escaped(&b->subject, a);
    b->json_text = escaped(&b->text, a);
    b->json_html = escaped(&b->html, a);
    ses_raw_compile(b, a);
    return b;
}
