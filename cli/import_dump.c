/*
 * Reads a dump of mailgun-ses-proxy's database (typetale and its kin): NewsletterBatch,
 * NewsletterMessages, NewsletterNotifications, SystemMailNotifications.
 *
 * Notifications hold SES's own events, so what comes of them is what a poller makes of the same:
 * the same ids, and a queue message that Postern reads too is known. Batches hold the request: its
 * tags, and the newsletter's email-id in batchId. They are few, and read first, in a pass that also
 * finds what is wrong with the file before anything is taken.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/mem.h"
#include "base/pack.h"
#include "cli/import_sink.h"
#include "mail/ses_event.h"
#include "mail/sql_dump.h"

enum { BATCHES_FIRST = 256, TAGS_MAX = MESSAGE_TAGS_MAX, WHERE_BYTES = 320 };

/* Where the request named no newsletter. */
#define NO_EMAIL_ID "no-batch-id-provided"

struct batch {
    struct slice id, site, email_id, from;
    struct slice tags[TAGS_MAX];
    size_t tag_count;
};

struct reading {
    struct import_sink *sink;
    struct sql_dump dump;
    struct arena kept;         /* batches */
    struct batch *batches;     /* by id */
    struct batch *newsletters; /* the same by email-id */
    size_t count, room;
    bool found; /* any table of ours */
    struct slice text;
};

static bool is_table(const struct reading *r, const char *name)
{
    return slice_eq_nocase(r->dump.row_table.name, slice_str(name));
}

/* A column's text, in the row's arena. */
static struct slice column(struct reading *r, const char *name)
{
    return sql_value_text(sql_dump_value(&r->dump, name), &r->sink->arena);
}

static void refuse(struct reading *r, const char *why)
{
    char where[WHERE_BYTES];
    struct slice id = column(r, "id");

    (void)snprintf(where, sizeof where, "line %zu: %.*s %.*s", r->dump.row_line,
                   SLICE_ARGS(slice_head(r->dump.row_table.name, 64)),
                   SLICE_ARGS(slice_head(id, 64)));
    sink_refuse(r->sink, where, why);
}

/* -------- the first pass -------- */

static void keep_tags(struct reading *r, struct batch *b, struct slice contents)
{
    cJSON *tree = json_parse(contents);
    const cJSON *tags = json_get(tree, "o:tag");
    const cJSON *tag = cJSON_IsArray(tags) ? json_first(tags) : tags;

    for (; tag != NULL && b->tag_count < TAGS_MAX; tag = cJSON_IsArray(tags) ? tag->next : NULL)
        if (cJSON_IsString(tag) && json_text(tag).len > 0)
            b->tags[b->tag_count++] = arena_dup(&r->kept, json_text(tag));
    json_free(tree);
}

static void keep_batch(struct reading *r)
{
    if (r->count == r->room) {
        r->room = r->room == 0 ? BATCHES_FIRST : r->room * 2;
        r->batches = mem_grow(r->batches, r->room * sizeof *r->batches);
    }
    struct batch *b = &r->batches[r->count];
    *b = (struct batch){.id = arena_dup(&r->kept, column(r, "id")),
                        .site = arena_dup(&r->kept, column(r, "siteId")),
                        .email_id = arena_dup(&r->kept, column(r, "batchId")),
                        .from = arena_dup(&r->kept, column(r, "fromEmail"))};
    if (slice_eq(b->email_id, SLICE(NO_EMAIL_ID)))
        b->email_id = slice_none();
    keep_tags(r, b, column(r, "contents"));
    r->count++;
}

static int by_id(const void *a, const void *b)
{
    return slice_cmp(((const struct batch *)a)->id, ((const struct batch *)b)->id);
}

static int by_email_id(const void *a, const void *b)
{
    return slice_cmp(((const struct batch *)a)->email_id, ((const struct batch *)b)->email_id);
}

static const struct batch *batch_of(const struct reading *r, struct slice id)
{
    const struct batch wanted = {.id = id};

    return r->count == 0 ? NULL : bsearch(&wanted, r->batches, r->count, sizeof wanted, by_id);
}

/* Any batch of the newsletter: they have the same tags. */
static const struct batch *newsletter_of(const struct reading *r, struct slice email_id)
{
    const struct batch wanted = {.email_id = email_id};

    return r->count == 0 || email_id.len == 0
               ? NULL
               : bsearch(&wanted, r->newsletters, r->count, sizeof wanted, by_email_id);
}

static void show_progress(struct reading *r, size_t pass)
{
    size_t done = r->text.len - r->dump.rest.len;

    progress_show(&r->sink->progress, done + pass * r->text.len, 2 * (uint64_t)r->text.len,
                  pass == 0 ? "looking through the dump" : "taking its rows");
}

static int look_through(struct reading *r, struct err *err)
{
    enum sql_result got;

    r->dump = sql_dump_over(r->text);
    while ((got = sql_dump_next(&r->dump)) == SQL_ROW) {
        arena_reset(&r->sink->arena);
        if (is_table(r, "NewsletterBatch"))
            keep_batch(r);
        r->found = r->found || is_table(r, "NewsletterBatch") ||
                   is_table(r, "NewsletterMessages") || is_table(r, "NewsletterNotifications");
        show_progress(r, 0);
    }
    if (got == SQL_BROKEN)
        return err_set(err, ERR_INPUT, "%s:%zu: %s. Nothing was taken", r->sink->source,
                       r->dump.row_line, r->dump.why);
    if (!r->found)
        return err_set(err, ERR_INPUT,
                       "%s: no rows of NewsletterBatch, NewsletterMessages or "
                       "NewsletterNotifications: is this mailgun-ses-proxy's database, dumped by "
                       "mysqldump with its data?",
                       r->sink->source);
    if (r->count == 0)
        return 0;
    r->newsletters = mem_dup(r->batches, r->count * sizeof *r->batches);
    qsort(r->batches, r->count, sizeof *r->batches, by_id);
    qsort(r->newsletters, r->count, sizeof *r->newsletters, by_email_id);
    return 0;
}

/* -------- the second pass -------- */

static void take_message(struct reading *r)
{
    const struct batch *b = batch_of(r, column(r, "newsletterBatchId"));
    struct buf tags = {0};

    if (b == NULL) {
        refuse(r, "its newsletterBatchId is not in NewsletterBatch: dump that table too");
        return;
    }
    const struct record_elsewhere m = {.ses_id = column(r, "messageId"),
                                       .domain = sink_domain(r->sink, b->site, b->from),
                                       .message_id = b->email_id,
                                       .email_id = b->email_id,
                                       .sent_us = sink_time_us(column(r, "created"))};
    if (m.domain.len == 0) {
        refuse(r, "belongs to no configured domain: name one with --domain");
        return;
    }
    pack_array(&tags, b->tag_count);
    for (size_t i = 0; i < b->tag_count; i++)
        pack_str(&tags, b->tags[i]);
    struct record_elsewhere whole = m;
    whole.tags = buf_slice(&tags);
    if (m.ses_id.len == 0 || m.sent_us == 0)
        refuse(r, "without a messageId or the time it was created");
    else
        sink_mail(r->sink, &whole);
    buf_fini(&tags);
}

/* The first value of one of SES's tags, in the row's arena. */
static struct slice ses_tag(struct reading *r, struct slice body, const char *name)
{
    cJSON *outer = json_parse(body);
    cJSON *inner = json_parse(json_get_text(outer, "Message"));
    const cJSON *mail = json_get(inner != NULL ? inner : outer, "mail");
    const cJSON *values = json_get(json_get(mail, "tags"), name);
    struct slice tag = arena_dup(&r->sink->arena, json_text(json_first(values)));

    json_free(inner);
    json_free(outer);
    return tag;
}

/* What the proxy's own records know of the mail. */
static void complete(struct reading *r, struct event *e, const struct batch *b,
                     struct slice email_id)
{
    static struct slice ghosts[] = {{(const uint8_t *)"bulk-email", 10},
                                    {(const uint8_t *)"ghost-email", 11}};

    if (email_id.len > 0 && !slice_eq(email_id, SLICE(NO_EMAIL_ID))) {
        struct name_value *var = arena_alloc(&r->sink->arena, sizeof *var);
        *var = (struct name_value){SLICE("email-id"), email_id};
        e->vars = var;
        e->var_count = 1;
        e->message_id = email_id;
        e->tags = ghosts;
        e->tag_count = 2;
    }
    if (b != NULL && b->tag_count > 0) {
        e->tags = arena_array(&r->sink->arena, TAGS_MAX, sizeof *e->tags);
        memcpy(e->tags, b->tags, b->tag_count * sizeof *e->tags);
        e->tag_count = b->tag_count;
    }
}

static void take_notification(struct reading *r)
{
    struct slice body = column(r, "rawEvent"), why = slice_none();
    struct ses_event *events;
    size_t count;
    enum ses_verdict verdict = ses_event_parse(body, &r->sink->arena, &events, &count, &why);

    if (verdict == SES_DEADLETTER) {
        char words[WHERE_BYTES];
        (void)snprintf(words, sizeof words, "its rawEvent: %.*s", SLICE_ARGS(why));
        refuse(r, words);
        return;
    }
    struct slice email_id = ses_tag(r, body, "batchId"), site = ses_tag(r, body, "siteId");
    const struct batch *b = newsletter_of(r, email_id);
    for (size_t i = 0; verdict == SES_EVENTS && i < count; i++) {
        struct ses_event *e = &events[i];
        if (e->event.type == 0) {
            sink_leave(r->sink, "notices of SES that say nothing to a reader (Send)");
            continue;
        }
        e->event.domain = sink_domain(r->sink, site, e->event.envelope_sender);
        if (e->event.domain.len == 0) {
            refuse(r, "belongs to no configured domain: name one with --domain");
            continue;
        }
        complete(r, &e->event, b, email_id);
        ses_event_identify(e);
        sink_event(r->sink, &e->event, (enum suppression)e->suppress, e->suppress_code,
                   e->suppress_text);
    }
}

static void take_row(struct reading *r)
{
    arena_reset(&r->sink->arena);
    if (is_table(r, "NewsletterMessages"))
        take_message(r);
    else if (is_table(r, "NewsletterNotifications") || is_table(r, "SystemMailNotifications"))
        take_notification(r);
    else if (is_table(r, "NewsletterErrors"))
        sink_leave(r->sink, "mails that SES did not take (NewsletterErrors): there is no event of "
                            "theirs, and the address may be good");
}

int import_dump(struct import_sink *s, struct slice text, struct err *err)
{
    struct reading r = {.sink = s, .text = text};
    int got = look_through(&r, err);

    sql_dump_fini(&r.dump);
    if (got == 0) {
        r.dump = sql_dump_over(text);
        while (!s->failed && sql_dump_next(&r.dump) == SQL_ROW) {
            take_row(&r);
            show_progress(&r, 1);
        }
        sink_flush(s);
        sql_dump_fini(&r.dump);
    }
    free(r.batches);
    free(r.newsletters);
    arena_fini(&r.kept);
    return got;
}
