/*
 * Reads ghost-ses-proxy's SQLite file: suppressions, recipient_emails, events. The one door to
 * SQLite.
 *
 * Its events are Mailgun's already, without what SES had said; so they have ids of their own, made
 * of the row's. The file is opened for reading only, and read in one transaction: as it was at one
 * instant, whether the proxy runs or not.
 *
 * SOURCE  The tables as the proxy makes them: message_map, recipient_emails(ses_message_id,
 *         batch_message_id, recipient, ghost_email_id, tags, created_at), events(id, event_type,
 *         severity, recipient, timestamp, message_id, email_id, delivery_status_code,
 *         delivery_status_message, delivery_status_enhanced, tags, …), suppressions(email, type,
 *         reason, created_at). tags: a JSON array; times: UTC; timestamp: seconds, with a fraction.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include "base/json.h"
#include "base/pack.h"
#include "cli/import_sink.h"
#include "mail/address.h"

enum { WHERE_BYTES = 200, BUSY_MS = 5000, US = 1000000 };

static const double latest_s = 4102444800; /* 2100 */

struct reading {
    struct import_sink *sink;
    sqlite3 *db;
    sqlite3_stmt *row;
    const char *table;
    uint64_t done, whole; /* rows of all tables */
};

/* -------- rows -------- */

static struct slice column(struct reading *r, int at)
{
    const void *text = sqlite3_column_text(r->row, at);
    int bytes = sqlite3_column_bytes(r->row, at);

    return text == NULL ? slice_none() : arena_dup(&r->sink->arena, slice_of(text, (size_t)bytes));
}

static void refuse(struct reading *r, const char *why)
{
    char where[WHERE_BYTES];

    (void)snprintf(where, sizeof where, "%s: row %lld", r->table,
                   (long long)sqlite3_column_int64(r->row, 0));
    sink_refuse(r->sink, where, why);
}

/* "<x@domain>" → "x@domain" */
static struct slice without_brackets(struct slice id)
{
    if (id.len > 2 && id.ptr[0] == '<' && id.ptr[id.len - 1] == '>')
        return slice_of(id.ptr + 1, id.len - 2);
    return id;
}

static size_t read_tags(struct reading *r, struct slice json, struct slice *tags)
{
    cJSON *tree = json_parse(json);
    size_t count = 0;

    for (const cJSON *tag = json_first(tree); tag != NULL && count < MESSAGE_TAGS_MAX;
         tag = tag->next)
        if (json_text(tag).len > 0)
            tags[count++] = arena_dup(&r->sink->arena, json_text(tag));
    json_free(tree);
    return count;
}

static void take_address(struct reading *r)
{
    enum { ROWID, EMAIL, TYPE, REASON, CREATED };
    struct slice email = column(r, EMAIL), type = column(r, TYPE), reason = column(r, REASON);
    struct slice domain = sink_domain(r->sink, slice_none(), slice_none());
    enum suppression list = slice_eq(type, SLICE("bounces"))        ? SUPPRESS_BOUNCE
                            : slice_eq(type, SLICE("complaints"))   ? SUPPRESS_COMPLAINT
                            : slice_eq(type, SLICE("unsubscribes")) ? SUPPRESS_UNSUBSCRIBE
                                                                    : SUPPRESS_NONE;

    if (slice_eq(reason, SLICE("Rejected by SES")))
        sink_leave(r->sink, "addresses listed because SES rejected the mail: that says nothing of "
                            "the address");
    else if (list == SUPPRESS_NONE)
        refuse(r, "its type is none of bounces, complaints, unsubscribes");
    else if (!address_is_valid(email))
        refuse(r, "its email is no address");
    else if (domain.len == 0)
        refuse(r, "several domains are configured: name the one it belongs to with --domain");
    else
        sink_address(r->sink, domain, list, email,
                     list == SUPPRESS_BOUNCE ? SLICE("550") : slice_none(), reason,
                     sink_time_us(column(r, CREATED)));
}

static struct slice domain_of_id(struct reading *r, struct slice message_id)
{
    return sink_domain(r->sink, slice_none(), message_id);
}

static void take_mail(struct reading *r)
{
    enum { ROWID, SES_ID, MESSAGE_ID, EMAIL_ID, TAGS, CREATED };
    struct slice tags[MESSAGE_TAGS_MAX], message_id = without_brackets(column(r, MESSAGE_ID));
    size_t count = read_tags(r, column(r, TAGS), tags);
    struct buf packed = {0};

    pack_array(&packed, count);
    for (size_t i = 0; i < count; i++)
        pack_str(&packed, tags[i]);
    const struct record_elsewhere m = {.ses_id = column(r, SES_ID),
                                       .domain = domain_of_id(r, message_id),
                                       .message_id = message_id,
                                       .email_id = column(r, EMAIL_ID),
                                       .tags = buf_slice(&packed),
                                       .sent_us = sink_time_us(column(r, CREATED))};
    if (m.domain.len == 0)
        refuse(r, "belongs to no configured domain: name one with --domain");
    else if (m.ses_id.len == 0 || m.sent_us == 0)
        refuse(r, "without an ses_message_id or a created_at");
    else
        sink_mail(r->sink, &m);
    buf_fini(&packed);
}

/* "5.1.1"? The proxy keeps SES's diagnostic in that column, a text. */
static bool is_enhanced_code(struct slice s)
{
    unsigned dots = 0;

    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] == '.')
            dots++;
        else if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
    }
    return dots == 2;
}

static void read_status(struct reading *r, struct event *e, int code, int message, int diagnostic)
{
    struct slice said = column(r, diagnostic);

    if (sqlite3_column_type(r->row, code) == SQLITE_NULL)
        return;
    e->status = (struct delivery_status){.present = true,
                                         .code = sqlite3_column_int(r->row, code),
                                         .message = column(r, message),
                                         .attempt_no = 1};
    if (is_enhanced_code(said))
        e->status.enhanced_code = said;
    else
        e->status.description = said;
}

static void take_event(struct reading *r)
{
    enum {
        ROWID,
        ID,
        TYPE,
        SEVERITY,
        RECIPIENT,
        TIME,
        MESSAGE_ID,
        EMAIL_ID,
        CODE,
        MESSAGE,
        ENHANCED,
        TAGS
    };
    double seconds = sqlite3_column_double(r->row, TIME);
    struct slice tags[MESSAGE_TAGS_MAX], id = column(r, ID), severity = column(r, SEVERITY);
    struct name_value email_id = {SLICE("email-id"), column(r, EMAIL_ID)};
    struct event e = {.type = event_type_from(column(r, TYPE)),
                      .recipient = column(r, RECIPIENT),
                      .message_id = without_brackets(column(r, MESSAGE_ID)),
                      .tags = tags,
                      .vars = &email_id,
                      .var_count = email_id.value.len > 0};

    e.to = e.recipient;
    e.tag_count = read_tags(r, column(r, TAGS), tags);
    e.domain = domain_of_id(r, e.message_id);
    if (e.type == EVENT_FAILED)
        e.severity =
            slice_eq(severity, SLICE("temporary")) ? SEVERITY_TEMPORARY : SEVERITY_PERMANENT;
    if (e.type == EVENT_FAILED)
        e.reason = e.severity == SEVERITY_PERMANENT ? SLICE("bounce") : SLICE("generic");
    read_status(r, &e, CODE, MESSAGE, ENHANCED);
    if (e.type == 0) {
        refuse(r, "its event_type is none of Mailgun's");
    } else if (!(seconds > 0 && seconds < latest_s)) {
        refuse(r, "its timestamp is no time in seconds");
    } else if (e.domain.len == 0) {
        refuse(r, "belongs to no configured domain: name one with --domain");
    } else {
        const struct slice parts[] = {SLICE("ghost-ses-proxy"), id};
        e.ses_us = (uint64_t)(seconds * US + 0.5);
        event_make_id(&e, parts, 2);
        sink_event(r->sink, &e, SUPPRESS_NONE, slice_none(), slice_none());
    }
}

/* -------- tables -------- */

struct table {
    const char *name, *rows;
    void (*take)(struct reading *r);
};

/* The order in which they are taken: an address is on its list before anything else is. */
static const struct table tables[] = {
    {"suppressions",
     "SELECT rowid, email, type, reason, created_at FROM suppressions ORDER BY rowid",
     take_address},
    {"recipient_emails",
     "SELECT rowid, ses_message_id, batch_message_id, ghost_email_id, tags, created_at "
     "FROM recipient_emails ORDER BY rowid",
     take_mail},
    {"events",
     "SELECT rowid, id, event_type, severity, recipient, timestamp, message_id, email_id, "
     "delivery_status_code, delivery_status_message, delivery_status_enhanced, tags "
     "FROM events ORDER BY timestamp, rowid",
     take_event},
};
enum { TABLES = sizeof tables / sizeof tables[0] };

static int fail(struct reading *r, struct err *err)
{
    return err_set(err, ERR_INPUT, "%s: %s", r->sink->source, sqlite3_errmsg(r->db));
}

static int count_rows(struct reading *r, const struct table *t, struct err *err)
{
    struct buf sql = {0};

    buf_printf(&sql, "SELECT count(*) FROM %s", t->name);
    int rc = sqlite3_prepare_v2(r->db, buf_cstr(&sql), -1, &r->row, NULL);
    buf_fini(&sql);
    if (rc == SQLITE_OK && sqlite3_step(r->row) == SQLITE_ROW)
        r->whole += (uint64_t)sqlite3_column_int64(r->row, 0);
    else
        rc = SQLITE_ERROR;
    (void)sqlite3_finalize(r->row);
    if (rc == SQLITE_OK)
        return 0;
    (void)fail(r, err);
    return err_set(err, ERR_INPUT, "%s: %s: is this ghost-ses-proxy's file? Nothing was taken",
                   r->sink->source, sqlite3_errmsg(r->db));
}

/* Every column there is, before anything is taken. */
static int check_columns(struct reading *r, struct err *err)
{
    for (size_t i = 0; i < TABLES; i++) {
        if (count_rows(r, &tables[i], err) != 0)
            return -1;
        int rc = sqlite3_prepare_v2(r->db, tables[i].rows, -1, &r->row, NULL);
        (void)sqlite3_finalize(r->row);
        if (rc != SQLITE_OK)
            return fail(r, err);
    }
    return 0;
}

static int take_table(struct reading *r, const struct table *t, struct err *err)
{
    int rc = sqlite3_prepare_v2(r->db, t->rows, -1, &r->row, NULL);

    r->table = t->name;
    while (rc == SQLITE_OK && !r->sink->failed && (rc = sqlite3_step(r->row)) == SQLITE_ROW) {
        arena_reset(&r->sink->arena);
        t->take(r);
        progress_show(&r->sink->progress, ++r->done, r->whole, t->name);
        rc = SQLITE_OK;
    }
    if (rc != SQLITE_OK && rc != SQLITE_DONE)
        (void)fail(r, err);
    (void)sqlite3_finalize(r->row);
    return rc == SQLITE_OK || rc == SQLITE_DONE ? 0 : -1;
}

/* -------- the file -------- */

/* A database in WAL mode can only be read where its -shm can be made; where there is no -wal there
 * is nothing in it either, and the file alone is the whole of it. */
static int open_alone(struct reading *r, const char *path)
{
    struct buf uri = {0};

    buf_printf(&uri, "%s-wal", path);
    bool has_wal = access(buf_cstr(&uri), F_OK) == 0;
    buf_reset(&uri);
    buf_add_str(&uri, "file:");
    for (const char *c = path; *c != '\0'; c++)
        if (*c == '?' || *c == '#' || *c == '%')
            buf_printf(&uri, "%%%02x", (unsigned)*c);
        else
            buf_add_byte(&uri, (uint8_t)*c);
    buf_add_str(&uri, "?immutable=1");
    int rc = SQLITE_CANTOPEN;
    if (!has_wal) {
        (void)sqlite3_close(r->db);
        rc = sqlite3_open_v2(buf_cstr(&uri), &r->db, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI, NULL);
    }
    if (rc == SQLITE_OK)
        rc = sqlite3_exec(r->db, "BEGIN; SELECT 1 FROM sqlite_master", NULL, NULL, NULL);
    buf_fini(&uri);
    return rc;
}

static int open_file(struct reading *r, const char *path, struct err *err)
{
    int rc = sqlite3_open_v2(path, &r->db, SQLITE_OPEN_READONLY, NULL);

    if (rc == SQLITE_OK) {
        (void)sqlite3_busy_timeout(r->db, BUSY_MS);
        rc = sqlite3_exec(r->db, "BEGIN; SELECT 1 FROM sqlite_master", NULL, NULL, NULL);
    }
    if (rc == SQLITE_CANTOPEN)
        rc = open_alone(r, path);
    if (rc == SQLITE_OK)
        return 0;
    return err_set(err, ERR_SYSTEM,
                   "%s: %s. Can this user read it, and its -wal and -shm beside it? Else copy the "
                   "three files and import the copy",
                   path, sqlite3_errmsg(r->db));
}

int import_sqlite(struct import_sink *s, const char *path, struct err *err)
{
    struct reading r = {.sink = s};
    int got = -1;

    if (open_file(&r, path, err) == 0 && check_columns(&r, err) == 0) {
        got = 0;
        for (size_t i = 0; i < TABLES && got == 0 && !s->failed; i++)
            got = take_table(&r, &tables[i], err);
        sink_flush(s);
    }
    (void)sqlite3_close(r.db);
    return got;
}
