#include "cli/import_sink.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/pack.h"
#include "mail/address.h"
#include "store/control.h"

enum {
    PACKET_BYTES = 48 * 1024, /* of records in a request, after which it goes */
    ARRAY_MAX = 5,            /* msgpack's longest head of an array */
    US_PER_MS = 1000,
};

_Static_assert(PACKET_BYTES < CONTROL_REQUEST_MAX / 4 * 3 + 1, "one packet");

int sink_open(struct import_sink *s, const struct cli_options *o, const struct config *config,
              struct err *err)
{
    *s = (struct import_sink){
        .o = o, .config = config, .source = o->words[0], .progress = progress_begin("import")};
    s->sums = (struct import){
        .config = config, .now_us = clock_wall_us(), .late_us = o->late_ms * US_PER_MS};
    if (!o->dry_run)
        return 0;
    s->store = store_open(config->state_dir, STORE_READ, err);
    if (s->store == NULL)
        return err->code == ERR_NOT_FOUND || err->sys == ENOENT ? 0 : -1;
    s->sums.t = store_begin_read(s->store, err);
    return s->sums.t == NULL ? -1 : 0;
}

void sink_close(struct import_sink *s)
{
    progress_wipe(&s->progress);
    if (s->sums.t != NULL)
        store_end_read(s->sums.t);
    store_close(s->store);
    buf_fini(&s->records);
    buf_fini(&s->one);
    buf_fini(&s->packed);
    arena_fini(&s->arena);
}

/* -------- packets -------- */

static void add_sums(struct import_sink *s, struct slice answer)
{
    cJSON *tree = json_parse(answer);

    for (int sum = 0; sum < IMPORT_SUMS; sum++) {
        int64_t n;
        if (json_get_i64(tree, import_sum_name((enum import_sum)sum), &n) && n > 0)
            s->sums.sums[sum] += (uint64_t)n;
    }
    json_free(tree);
}

static void fail(struct import_sink *s, struct slice why)
{
    progress_wipe(&s->progress);
    (void)fprintf(stderr,
                  "postern import: %.*s. What was taken until now stays; run the same again, and "
                  "only the rest is taken.\n",
                  SLICE_ARGS(why));
    s->failed = true;
}

void sink_flush(struct import_sink *s)
{
    struct record_controlled a;
    struct buf answer = {0}, packet = {0};
    struct err err;

    if (s->record_count == 0 || s->failed)
        return;
    pack_array(&packet, s->record_count);
    buf_add_slice(&packet, buf_slice(&s->records));
    const struct record_control r = {
        .verb = CONTROL_IMPORT, .records = buf_slice(&packet), .late_us = s->sums.late_us};
    if (control_ask(s->config->state_dir, &r, &answer, &a, &err) != 0)
        fail(s, slice_str(err.text));
    else if (a.verdict != ANSWER_OK)
        fail(s, a.text);
    else
        add_sums(s, a.text);
    buf_fini(&packet);
    buf_fini(&answer);
    buf_reset(&s->records);
    s->record_count = 0;
}

/* The record in s->one. */
static void put(struct import_sink *s)
{
    if (s->failed)
        return;
    if (s->one.len > PACKET_BYTES) {
        sink_refuse(s, "a row", "is longer than any that a proxy writes");
        return;
    }
    if (s->o->dry_run) {
        import_judge(&s->sums, buf_slice(&s->one));
        return;
    }
    if (s->records.len + s->one.len + ARRAY_MAX > PACKET_BYTES)
        sink_flush(s);
    pack_bin(&s->records, buf_slice(&s->one));
    s->record_count++;
}

/* -------- what is put -------- */

struct slice sink_domain(const struct import_sink *s, struct slice name, struct slice address)
{
    size_t at = slice_rfind_byte(address, '@');
    const struct config_domain *d = config_domain_find(s->config, name);

    if (d == NULL && at != SIZE_MAX)
        d = config_domain_above(s->config, slice_from(address, at + 1));
    if (d == NULL && s->o->domain != NULL)
        d = config_domain_find(s->config, slice_str(s->o->domain));
    if (d == NULL && name.len == 0 && address.len == 0 && s->config->domain_count == 1)
        d = &s->config->domains[0];
    return d != NULL ? slice_str(d->name) : slice_none();
}

void sink_event(struct import_sink *s, const struct event *e, enum suppression list,
                struct slice code, struct slice text)
{
    buf_reset(&s->packed);
    event_pack(&s->packed, e);
    const struct record_event r = {.event = buf_slice(&s->packed),
                                   .suppress = (uint32_t)list,
                                   .suppress_code = code,
                                   .suppress_text = text,
                                   .event_id = slice_of(e->id, EVENT_ID_BYTES),
                                   .ses_us = e->ses_us};
    buf_reset(&s->one);
    record_event_encode(&s->one, &r);
    put(s);
}

void sink_address(struct import_sink *s, struct slice domain, enum suppression list,
                  struct slice address, struct slice code, struct slice text, uint64_t created_us)
{
    enum { MEMBERS = 5 };

    buf_reset(&s->packed);
    pack_array(&s->packed, 1);
    pack_array(&s->packed, MEMBERS);
    pack_str(&s->packed, address);
    pack_str(&s->packed, code);
    pack_str(&s->packed, text);
    pack_u64(&s->packed, created_us);
    pack_bin(&s->packed, slice_none());
    const struct record_suppress r = {
        .domain = domain, .list = (uint32_t)list, .entries = buf_slice(&s->packed)};
    buf_reset(&s->one);
    record_suppress_encode(&s->one, &r);
    put(s);
}

void sink_mail(struct import_sink *s, const struct record_elsewhere *r)
{
    buf_reset(&s->one);
    record_elsewhere_encode(&s->one, r);
    put(s);
}

void sink_refuse(struct import_sink *s, const char *where, const char *why)
{
    if (s->refused++ >= s->o->limit)
        return;
    progress_wipe(&s->progress);
    (void)fprintf(stderr, "%s: %s: %s\n", s->source, where, why);
}

void sink_leave(struct import_sink *s, const char *why)
{
    for (size_t i = 0; i < SINK_LEFT_MAX; i++)
        if (s->left[i].why == NULL || strcmp(s->left[i].why, why) == 0) {
            s->left[i].why = why;
            s->left[i].count++;
            return;
        }
}

uint64_t sink_time_us(struct slice text)
{
    struct buf iso = {0};

    buf_add_slice(&iso, text);
    if (iso.len > 10 && iso.ptr[10] == ' ')
        iso.ptr[10] = 'T';
    if (iso.len > 0 && iso.ptr[iso.len - 1] != 'Z')
        buf_add_byte(&iso, 'Z');
    uint64_t us = clock_read_iso8601_us(buf_slice(&iso));
    buf_fini(&iso);
    return us;
}
