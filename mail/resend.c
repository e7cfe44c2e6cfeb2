#include "mail/resend.h"

#include <stdlib.h>

#include "mail/mime_clean.h"

static bool refuse(struct refusal *why, struct slice message)
{
    *why = (struct refusal){.status = 400, .message = message};
    return false;
}

/* A form as it would be for a message like this one: the same checks, in the same words. */
static bool form_again(const struct form *form, const struct message_head *head, struct arena *a,
                       struct form *all, struct refusal *why)
{
    enum { OWN_FIELDS = 3 };

    *all = (struct form){.is_multipart = form->is_multipart};
    all->fields = arena_array(a, form->count + OWN_FIELDS, sizeof *all->fields);
    for (size_t i = 0; i < form->count; i++) {
        const struct form_field *f = &form->fields[i];
        if (!slice_eq(f->name, SLICE("to")) || f->is_file)
            return refuse(why, arena_printf(a,
                                            "'%.*s' parameter is not allowed: a stored message is "
                                            "sent again as it is, and takes 'to' only",
                                            SLICE_ARGS(slice_head(f->name, 100))));
        all->fields[all->count++] = *f;
    }
    all->fields[all->count++] = (struct form_field){.name = SLICE("from"), .value = head->from};
    all->fields[all->count++] = (struct form_field){.name = SLICE("text"), .value = SLICE(".")};
    if (head->batch_mode)
        all->fields[all->count++] =
            (struct form_field){.name = SLICE("recipient-variables"), .value = SLICE("{}")};
    return true;
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
}

static int by_address(const void *a, const void *b)
{
    struct slice x = ((const struct recipient *)a)->address;
    struct slice y = ((const struct recipient *)b)->address;

    for (size_t i = 0; i < x.len && i < y.len; i++)
        if (lower(x.ptr[i]) != lower(y.ptr[i]))
            return lower(x.ptr[i]) < lower(y.ptr[i]) ? -1 : 1;
    return (x.len > y.len) - (x.len < y.len);
}

/* To each the variables that he had. */
static void give_variables(struct submission *s, const struct stored_message *m, struct arena *a)
{
    struct recipient *known = arena_array(a, m->recipient_count, sizeof *known);

    if (m->recipient_count > 0)
        memcpy(known, m->recipients, m->recipient_count * sizeof *known);
    qsort(known, m->recipient_count, sizeof *known, by_address);
    for (size_t i = 0; i < s->recipient_count; i++) {
        struct recipient *r = &s->recipients[i];
        const struct recipient *was =
            bsearch(r, known, m->recipient_count, sizeof *known, by_address);
        if (was == NULL)
            continue;
        r->vars = was->vars;
        r->var_count = was->var_count;
        if (r->name.len == 0)
            r->name = was->name;
    }
}

/* The whole message with its new id. */
static bool renew_mime(struct submission *s, struct arena *a, struct refusal *why)
{
    const struct name_value id = {SLICE("Message-Id"), s->answer_id};
    struct buf clean = {0};
    struct mime_tree tree;
    struct slice words;
    const char *unreadable;

    bool good = mime_read(s->content.mime, a, &tree, &unreadable);
    if (!good)
        words = slice_str(unreadable);
    good = good && mime_clean(&tree, &id, 1, a, &clean, &words);
    if (good)
        s->content.mime = arena_dup(a, buf_slice(&clean));
    buf_fini(&clean);
    return good || refuse(why, arena_printf(a, "the stored message cannot be sent again: it %.*s",
                                            SLICE_ARGS(words)));
}

bool submission_again(const struct form *form, const struct stored_message *m,
                      const struct submission_context *context, struct arena *a,
                      struct submission *s, struct refusal *why)
{
    struct form all;

    if (!form_again(form, &m->head, a, &all, why) ||
        !submission_from_form(&all, context, a, s, why))
        return false;
    const struct message_head fresh = s->head;
    bool is_mime = m->content.mime.len > 0;
    s->head = m->head;
    s->content = m->content;
    s->head.message_id = fresh.message_id;
    s->head.message_id_per_recipient = false;
    s->head.email_id = slice_none();
    s->head.to = is_mime ? m->head.to : fresh.to;
    s->head.accepted_wall_us = fresh.accepted_wall_us;
    s->head.due_wall_ms = 0;
    s->head.recipient_count = fresh.recipient_count;
    if (s->head.batch_mode)
        give_variables(s, m, a);
    return !is_mime || renew_mime(s, a, why);
}
