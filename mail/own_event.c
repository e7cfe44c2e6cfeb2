#include "mail/own_event.h"

static struct slice variable_of(const struct recipient *recipient, struct slice key)
{
    for (size_t i = 0; i < recipient->var_count; i++)
        if (slice_eq(recipient->vars[i].name, key))
            return recipient->vars[i].value;
    return (struct slice){0};
}

struct slice message_id_of(const struct message_head *head, const struct recipient *recipient,
                           struct arena *a)
{
    const struct slice open = SLICE("%recipient.");
    struct slice rest = head->message_id;
    struct buf id = {0};

    if (!head->message_id_per_recipient)
        return head->message_id;
    while (rest.len > 0) {
        size_t at = slice_find(rest, open);
        struct slice key, behind;
        if (at == SIZE_MAX || !slice_cut(slice_from(rest, at + open.len), '%', &key, &behind)) {
            buf_add_slice(&id, rest);
            break;
        }
        buf_add(&id, rest.ptr, at);
        buf_add_slice(&id, variable_of(recipient, key));
        rest = behind;
    }
    struct slice text = slice_trim(buf_slice(&id));
    if (text.len >= 2 && text.ptr[0] == '<' && text.ptr[text.len - 1] == '>')
        text = slice_of(text.ptr + 1, text.len - 2);
    text = arena_dup(a, text);
    buf_fini(&id);
    return text;
}

void event_of_recipient(struct event *e, const struct message_head *head,
                        const struct recipient *recipient, struct arena *a)
{
    *e = (struct event){0};
    e->domain = head->domain;
    e->recipient = recipient->address;
    e->message_id = message_id_of(head, recipient, a);
    e->to = head->batch_mode ? recipient->address : head->to;
    e->from = head->from;
    e->subject = head->subject;
    e->tags = head->tags;
    e->tag_count = head->tag_count;
    e->vars = head->vars;
    e->var_count = head->var_count;
    e->size_bytes = head->size_bytes;
    e->test_mode = head->testmode;
}

static void identify(struct event *e, const char *what, uint64_t batch_id, uint32_t index)
{
    uint8_t place[12];

    for (size_t i = 0; i < 8; i++)
        place[i] = (uint8_t)(batch_id >> (56 - 8 * i));
    for (size_t i = 0; i < 4; i++)
        place[8 + i] = (uint8_t)(index >> (24 - 8 * i));
    struct slice parts[] = {slice_str(what), slice_of(place, sizeof place)};
    event_make_id(e, parts, 2);
    e->batch_id = batch_id;
    e->batch_recipient = index;
}

void own_event_accepted(struct event *e, const struct message_head *head,
                        const struct recipient *recipient, uint64_t batch_id, uint32_t index,
                        struct arena *a)
{
    event_of_recipient(e, head, recipient, a);
    e->type = EVENT_ACCEPTED;
    e->ses_us = head->accepted_wall_us;
    e->method = SLICE("http");
    /* Those of one batch stand beside each other, in order. */
    identify(e, "accepted", batch_id, 0);
    for (size_t i = 0; i < EVENT_ORDINAL_BYTES; i++)
        e->id[EVENT_ID_BYTES - 1 - i] = (uint8_t)(index >> (8 * i));
}

void own_event_refused(struct event *e, const struct message_head *head,
                       const struct recipient *recipient, uint64_t batch_id, uint32_t index,
                       uint32_t code, struct slice text, uint64_t now_us, struct arena *a)
{
    event_of_recipient(e, head, recipient, a);
    e->type = EVENT_FAILED;
    e->severity = SEVERITY_PERMANENT;
    e->reason = SLICE("generic");
    e->ses_us = now_us;
    e->status = (struct delivery_status){
        .present = true,
        .code = (int32_t)(code > 999 ? 554 : code),
        .message = text,
        .description = SLICE("Not accepted for delivery"),
        .attempt_no = 1,
    };
    identify(e, "refused", batch_id, index);
}

void own_event_suppressed(struct event *e, const struct message_head *head,
                          const struct recipient *recipient, uint64_t batch_id, uint32_t index,
                          enum own_suppression why, uint64_t now_us, struct arena *a)
{
    event_of_recipient(e, head, recipient, a);
    e->type = EVENT_FAILED;
    e->severity = SEVERITY_PERMANENT;
    e->ses_us = now_us;
    e->status = (struct delivery_status){.present = true, .code = (int32_t)why, .attempt_no = 1};
    switch (why) {
    case OWN_SUPPRESS_BOUNCE:
        e->reason = SLICE("suppress-bounce");
        e->status.description = SLICE("Not delivering to previously bounced address");
        break;
    case OWN_SUPPRESS_UNSUBSCRIBE:
        e->reason = SLICE("suppress-unsubscribe");
        e->status.description = SLICE("Not delivering to unsubscribed address");
        break;
    case OWN_SUPPRESS_COMPLAINT:
        e->reason = SLICE("suppress-complaint");
        e->status.description = SLICE("Not delivering to a user who marked your messages as spam");
        break;
    }
    identify(e, "suppressed", batch_id, index);
}

void own_event_test_delivered(struct event *e, const struct message_head *head,
                              const struct recipient *recipient, uint64_t batch_id, uint32_t index,
                              uint64_t now_us, struct arena *a)
{
    event_of_recipient(e, head, recipient, a);
    e->type = EVENT_DELIVERED;
    e->ses_us = now_us;
    e->status = (struct delivery_status){
        .present = true, .code = 250, .message = SLICE("OK"), .attempt_no = 1};
    identify(e, "test-delivered", batch_id, index);
}
