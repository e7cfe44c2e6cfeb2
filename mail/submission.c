/*
 * Mailgun's fields, checked in Mailgun's order (spec/mailgun.md §2.9), so that a client meets the
 * same first complaint.
 */
#include <stdlib.h>
#include <time.h>

#include "base/digest.h"
#include "base/mem.h"
#include "mail/address.h"
#include "mail/date.h"
#include "mail/form.h"
#include "mail/html_text.h"
#include "mail/mime_clean.h"
#include "mail/variables.h"

enum {
    OPTION_BYTES_MAX = 16384,
    TAG_BYTES_MAX = 128,
    DAYS_AHEAD_MAX = 7,
    CLAIM_BYTES = 16, /* shm/record.h's, above this folder */
    TABLE_SIZE = 4096 /* > 3 × MESSAGE_RECIPIENTS_MAX, a power of two */
};

struct builder {
    const struct form *form;
    const struct submission_context *context;
    struct arena *arena;
    struct submission *s;
    struct refusal *why;
    /* Recipients by folded address: open addressing, index + 1. */
    uint16_t table[TABLE_SIZE];
    struct variable_set set;
    bool has_message_id; /* h:Message-Id */
    struct rendered_template rendered;
};

static bool refuse(struct builder *b, struct slice message)
{
    *b->why = (struct refusal){.status = 400, .message = message};
    return false;
}

/* -------- fields by name -------- */

static bool is_named(const struct form_field *f, const char *name)
{
    return !f->is_file && f->value.len > 0 && slice_eq(f->name, slice_str(name));
}

/* The last value that is not empty: "empty = absent", "the last wins". */
static struct slice field(const struct builder *b, const char *name)
{
    for (size_t i = b->form->count; i > 0; i--)
        if (is_named(&b->form->fields[i - 1], name))
            return b->form->fields[i - 1].value;
    return (struct slice){0};
}

/* The name behind a prefix such as "h:", whose letter may have any case; empty = another field. */
static struct slice behind_prefix(const struct form_field *f, const char *prefix)
{
    return !f->is_file && slice_starts_nocase(f->name, slice_str(prefix)) ? slice_from(f->name, 2)
                                                                          : (struct slice){0};
}

/* The option that a field sets, by its name or by the header that Mailgun reads for it; empty =
 * none. */
static struct slice option_of(const struct form_field *f)
{
    static const char *const headers[][2] = {
        {"X-Mailgun-Tag", "tag"},
        {"X-Mailgun-Deliver-By", "deliverytime"},
        {"X-Mailgun-Drop-Message", "testmode"},
        {"X-Mailgun-Track", "tracking"},
        {"X-Mailgun-Track-Clicks", "tracking-clicks"},
        {"X-Mailgun-Track-Opens", "tracking-opens"},
    };
    struct slice header = behind_prefix(f, "h:");

    if (header.len == 0)
        return behind_prefix(f, "o:");
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
        if (slice_eq_nocase(header, slice_str(headers[i][0])))
            return slice_str(headers[i][1]);
    return (struct slice){0};
}

static struct slice option(const struct builder *b, const char *name)
{
    for (size_t i = b->form->count; i > 0; i--) {
        const struct form_field *f = &b->form->fields[i - 1];
        if (f->value.len > 0 && slice_eq(option_of(f), slice_str(name)))
            return f->value;
    }
    return (struct slice){0};
}

/* The last value of a field whose name stands behind this prefix, in any case. */
static struct slice prefixed(const struct builder *b, const char *prefix, const char *name)
{
    for (size_t i = b->form->count; i > 0; i--) {
        const struct form_field *f = &b->form->fields[i - 1];
        if (f->value.len > 0 && slice_eq_nocase(behind_prefix(f, prefix), slice_str(name)))
            return f->value;
    }
    return (struct slice){0};
}

bool submission_template(const struct form *form, struct slice *name, struct slice *tag)
{
    const struct builder b = {.form = form};

    *name = field(&b, "template");
    *tag = prefixed(&b, "t:", "version");
    return name->len > 0;
}

static bool is_word(struct slice s, const char *const *words)
{
    for (; *words != NULL; words++)
        if (slice_eq_nocase(s, slice_str(*words)))
            return true;
    return false;
}

/* An unknown word is as good as none. */
static enum tracking switch_of(struct slice s)
{
    static const char *const yes[] = {"yes", "true", "1", "htmlonly", NULL};
    static const char *const no[] = {"no", "false", "0", NULL};

    s = slice_trim(s);
    return is_word(s, yes) ? TRACKING_ON : is_word(s, no) ? TRACKING_OFF : TRACKING_UNSET;
}

static bool has_line_break(struct slice s)
{
    return slice_find_byte(s, '\r') != SIZE_MAX || slice_find_byte(s, '\n') != SIZE_MAX ||
           slice_find_byte(s, 0) != SIZE_MAX;
}

/* -------- recipients -------- */

static uint32_t hash_of(struct slice address, uint32_t seed)
{
    uint32_t h = 2166136261u ^ seed;

    for (size_t i = 0; i < address.len; i++) {
        uint8_t c = address.ptr[i];
        h = (h ^ (c >= 'A' && c <= 'Z' ? c + 32u : c)) * 16777619u;
    }
    return h ^ h >> 15;
}

/* The place of an address, or the free place where it would go. */
static uint16_t *place_of(struct builder *b, struct slice address)
{
    uint32_t at = hash_of(address, b->set.seed) & (TABLE_SIZE - 1);

    while (b->table[at] != 0 &&
           !slice_eq_nocase(b->s->recipients[b->table[at] - 1].address, address))
        at = (at + 1) & (TABLE_SIZE - 1);
    return &b->table[at];
}

static bool bad_address(struct builder *b, const char *name)
{
    return refuse(b, arena_printf(b->arena,
                                  "%s parameter is not a valid address. please check documentation",
                                  name));
}

static bool too_many(struct builder *b)
{
    return refuse(b,
                  arena_printf(b->arena, "Too many recipients, max is %d", MESSAGE_RECIPIENTS_MAX));
}

/* All values of to, cc or bcc; false when refused. *full: the limit was met on the way (said later:
 * a bad address behind it comes first). */
static bool add_recipients(struct builder *b, const char *name, enum recipient_kind kind,
                           bool *full)
{
    for (size_t i = 0; i < b->form->count; i++) {
        struct slice list = b->form->fields[i].value;
        struct mailbox m;
        enum address_result result;
        if (!is_named(&b->form->fields[i], name))
            continue;
        while ((result = address_next(&list, b->arena, &m)) == ADDRESS_OK) {
            uint16_t *place = place_of(b, m.address);
            if (*place != 0)
                continue; /* a duplicate: the first wins */
            if (b->s->recipient_count == MESSAGE_RECIPIENTS_MAX) {
                *full = true;
                continue;
            }
            b->s->recipients[b->s->recipient_count++] =
                (struct recipient){.kind = kind, .address = m.address, .name = m.name};
            *place = (uint16_t)b->s->recipient_count;
        }
        if (result == ADDRESS_BAD)
            return bad_address(b, name);
    }
    return true;
}

/* All values of a parameter as one list. */
static struct slice joined(struct builder *b, const char *name)
{
    struct slice only = field(b, name);
    struct buf text = {0};
    size_t count = 0;

    for (size_t i = 0; i < b->form->count; i++) {
        if (!is_named(&b->form->fields[i], name))
            continue;
        if (count++ > 0)
            buf_add_str(&text, ", ");
        buf_add_slice(&text, b->form->fields[i].value);
    }
    if (count > 1)
        only = arena_dup(b->arena, buf_slice(&text));
    buf_fini(&text);
    return only;
}

static bool is_sender(struct builder *b, struct slice from)
{
    struct mailbox m;
    enum address_result result;
    size_t count = 0;

    if (has_line_break(from))
        return false;
    /* Its variables are not known yet: what they make of it, each recipient's mail will tell. */
    if (b->s->head.batch_mode && slice_find(from, SLICE("%recipient")) != SIZE_MAX)
        return true;
    while ((result = address_next(&from, b->arena, &m)) == ADDRESS_OK)
        count++;
    return result == ADDRESS_END && count > 0;
}

static bool read_addresses(struct builder *b)
{
    struct submission *s = b->s;
    struct slice from = joined(b, "from");
    bool full = false;

    if (from.len == 0 && field(b, "template").len > 0)
        from = b->rendered.from.len > 0
                   ? b->rendered.from
                   : arena_printf(b->arena, "postmaster@%.*s", SLICE_ARGS(b->context->domain));
    if (from.len == 0)
        return refuse(b, SLICE("from parameter is missing"));
    if (field(b, "to").len == 0)
        return refuse(b, SLICE("to parameter is missing"));
    if (!is_sender(b, from))
        return bad_address(b, "from");
    s->head.from = s->content.from = from;
    s->recipients = arena_array(b->arena, MESSAGE_RECIPIENTS_MAX, sizeof *s->recipients);
    if (!add_recipients(b, "to", RECIPIENT_TO, &full))
        return false;
    if (s->recipient_count == 0) /* nothing but commas */
        return bad_address(b, "to");
    if (!add_recipients(b, "cc", RECIPIENT_CC, &full) ||
        !add_recipients(b, "bcc", RECIPIENT_BCC, &full))
        return false;
    /* As everyone sees them when it is one mail to all. */
    if (!s->head.batch_mode)
        s->head.to = joined(b, "to");
    return full ? too_many(b) : true;
}

/* -------- recipient-variables -------- */

/* Its presence makes the batch, also when it is empty: taken for absent, it would show each
 * recipient all the others. */
static struct slice variables_field(struct builder *b)
{
    struct slice text = {0};

    for (size_t i = 0; i < b->form->count; i++) {
        const struct form_field *f = &b->form->fields[i];
        if (f->is_file ||
            (!slice_eq(f->name, SLICE("recipient-variables")) &&
             !slice_eq_nocase(behind_prefix(f, "h:"), SLICE("X-Mailgun-Recipient-Variables"))))
            continue;
        b->s->head.batch_mode = b->s->content.batch_mode = true;
        if (f->value.len > 0)
            text = f->value;
    }
    return text;
}

static bool read_recipients_of(struct builder *b, struct slice text)
{
    uint8_t exact[MESSAGE_RECIPIENTS_MAX] = {0};
    struct members m;
    struct slice key, value;
    enum members_result result;

    if (!members_open(&m, text))
        return false;
    while ((result = members_next(&m, b->arena, &key, &value)) == MEMBERS_OK) {
        if (!json_is_object(value))
            return false;
        uint16_t place = *place_of(b, key);
        if (place == 0)
            continue; /* not among the recipients: ignored */
        struct recipient *r = &b->s->recipients[place - 1];
        /* A key of the very same spelling wins over one that differs in case. */
        bool same = slice_eq(r->address, key);
        if (exact[place - 1] && !same)
            continue;
        exact[place - 1] = same;
        if (!variable_set_read(&b->set, value, b->arena))
            return false;
        r->vars = variable_set_take(&b->set, b->arena, &r->var_count);
    }
    return result == MEMBERS_END;
}

static bool read_variables(struct builder *b, struct slice text)
{
    if (slice_trim(text).len == 0 || read_recipients_of(b, text))
        return true;
    return refuse(b, SLICE("'recipient-variables' parameter is not a valid JSON"));
}

/* -------- headers, variables, tags -------- */

static bool is_header_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] <= ' ' || name.ptr[i] >= 0x7f || name.ptr[i] == ':')
            return false;
    return name.len > 0;
}

static void read_message_id(struct builder *b, struct slice given)
{
    struct submission *s = b->s;
    struct slice bare = slice_trim(given);
    time_t seconds = (time_t)(b->context->now_us / 1000000);
    struct tm utc;
    char when[20];

    if (bare.len > 0) {
        s->answer_id = given;
        if (bare.len > 2 && bare.ptr[0] == '<' && bare.ptr[bare.len - 1] == '>')
            bare = slice_of(bare.ptr + 1, bare.len - 2);
        s->head.message_id = bare;
        s->head.message_id_per_recipient =
            s->head.batch_mode && slice_find(bare, SLICE("%recipient.")) != SIZE_MAX;
        return;
    }
    (void)gmtime_r(&seconds, &utc);
    (void)strftime(when, sizeof when, "%Y%m%d%H%M%S", &utc);
    s->answer_id =
        arena_printf(b->arena, "<%s.%016llx@%.*s>", when, (unsigned long long)b->context->random,
                     SLICE_ARGS(b->context->path_domain));
    s->head.message_id = slice_of(s->answer_id.ptr + 1, s->answer_id.len - 2);
}

/* The template's, unless the message has its own. */
static void add_reply_to(struct builder *b)
{
    struct message_content *c = &b->s->content;

    if (b->rendered.reply_to.len > 0 && prefixed(b, "h:", "Reply-To").len == 0)
        c->headers[c->header_count++] =
            (struct name_value){SLICE("Reply-To"), b->rendered.reply_to};
}

/* h: and v: fields. */
static bool read_headers(struct builder *b)
{
    struct submission *s = b->s;
    struct slice message_id = {0};

    s->content.headers = arena_array(b->arena, b->form->count + 1, sizeof *s->content.headers);
    for (size_t i = 0; i < b->form->count; i++) {
        const struct form_field *f = &b->form->fields[i];
        struct slice header = behind_prefix(f, "h:");
        if (f->value.len == 0)
            continue;
        if (!f->is_file && slice_starts(f->name, SLICE("v:")) && f->name.len > 2) {
            variable_set_put(&b->set, slice_from(f->name, 2), f->value);
            continue;
        }
        if (header.len == 0)
            continue;
        if (!is_header_name(header))
            return refuse(b, arena_printf(b->arena, "Header name must be pure ASCII: %.*s",
                                          SLICE_ARGS(header)));
        if (has_line_break(f->value))
            return refuse(b, arena_printf(b->arena, "'h:%.*s' parameter holds a line break",
                                          SLICE_ARGS(header)));
        if (slice_eq_nocase(header, SLICE("Message-Id")))
            message_id = f->value;
        else if (slice_eq_nocase(header, SLICE("X-Mailgun-Variables")))
            (void)variable_set_read(&b->set, f->value,
                                    b->arena); /* v: fields in one; else no use */
        else if (slice_eq_nocase(header, SLICE("X-Mailgun-Template-Variables")))
            continue; /* read_template() has them */
        else if (option_of(f).len == 0)
            s->content.headers[s->content.header_count++] = (struct name_value){header, f->value};
    }
    add_reply_to(b);
    s->head.vars = variable_set_take(&b->set, b->arena, &s->head.var_count);
    s->content.vars = s->head.vars;
    s->content.var_count = s->head.var_count;
    for (size_t i = 0; i < s->head.var_count; i++)
        if (slice_eq(s->head.vars[i].name, SLICE("email-id")))
            s->head.email_id = s->head.vars[i].value;
    b->has_message_id = slice_trim(message_id).len > 0;
    read_message_id(b, message_id);
    return true;
}

/* ASCII only, at most 128 characters; others are stripped. */
static struct slice clean_tag(struct builder *b, struct slice tag)
{
    uint8_t *text = arena_alloc(b->arena, tag.len + 1);
    size_t len = 0;

    for (size_t i = 0; i < tag.len && len < TAG_BYTES_MAX; i++)
        if (tag.ptr[i] >= 0x20 && tag.ptr[i] < 0x7f)
            text[len++] = tag.ptr[i];
    return slice_trim(slice_of(text, len));
}

static void read_tags(struct builder *b)
{
    struct message_head *h = &b->s->head;

    h->tags = arena_array(b->arena, MESSAGE_TAGS_MAX, sizeof *h->tags);
    for (size_t i = 0; i < b->form->count && h->tag_count < MESSAGE_TAGS_MAX; i++) {
        if (!slice_eq(option_of(&b->form->fields[i]), SLICE("tag")))
            continue;
        struct slice tag = clean_tag(b, b->form->fields[i].value);
        bool known = tag.len == 0;
        for (size_t k = 0; k < h->tag_count; k++)
            known = known || slice_eq_nocase(h->tags[k], tag);
        if (!known)
            h->tags[h->tag_count++] = tag;
    }
}

static bool options_are_short(struct builder *b)
{
    static const char *const prefixes[] = {"o:", "h:", "v:", "t:"};
    size_t bytes = 0;

    for (size_t i = 0; i < b->form->count; i++)
        for (size_t k = 0; k < sizeof prefixes / sizeof prefixes[0]; k++)
            if (behind_prefix(&b->form->fields[i], prefixes[k]).len > 0)
                bytes += b->form->fields[i].name.len + b->form->fields[i].value.len;
    return bytes <= OPTION_BYTES_MAX
               ? true
               : refuse(b, SLICE("Send options (parameters starting with o:, h:, v:, or t:) are "
                                 "limited to 16 kB total"));
}

/* HH:mm, or hh:mmAM: of no use here, but Mailgun refuses others. */
static bool is_time_of_day(struct slice s)
{
    bool half = slice_ends_nocase(s, SLICE("am")) || slice_ends_nocase(s, SLICE("pm"));
    uint64_t hour, minute;
    struct slice hours, minutes;

    if (half)
        s = slice_trim(slice_head(s, s.len - 2));
    return slice_cut(s, ':', &hours, &minutes) && hours.len <= 2 && minutes.len == 2 &&
           slice_to_u64(hours, &hour) && slice_to_u64(minutes, &minute) && minute < 60 &&
           (half ? hour >= 1 && hour <= 12 : hour < 24);
}

static bool read_options(struct builder *b)
{
    struct submission *s = b->s;
    struct slice when = slice_trim(option(b, "deliverytime"));
    struct slice local = slice_trim(option(b, "time-zone-localize"));
    struct slice suppressed = option(b, "suppress-headers");
    enum tracking both = switch_of(option(b, "tracking"));
    uint64_t due_us;

    s->content.opens = switch_of(option(b, "tracking-opens"));
    s->content.clicks = switch_of(option(b, "tracking-clicks"));
    if (s->content.opens == TRACKING_UNSET)
        s->content.opens = both;
    if (s->content.clicks == TRACKING_UNSET)
        s->content.clicks = both;
    s->head.testmode = switch_of(option(b, "testmode")) == TRACKING_ON;
    s->content.suppress_variables_header =
        slice_find_nocase(suppressed, SLICE("X-Mailgun-Variables")) != SIZE_MAX ||
        slice_eq_nocase(slice_trim(suppressed), SLICE("all"));
    if (local.len > 0 && !is_time_of_day(local))
        return refuse(b, arena_printf(b->arena,
                                      "%.*s invalid 24 hour time(value of 'o:time-zone-localize')",
                                      SLICE_ARGS(slice_head(local, 100))));
    if (when.len == 0)
        return true;
    if (!date_parse(when, &due_us))
        return refuse(b, arena_printf(b->arena, "%.*s is not an RFC-2822 compliant date",
                                      SLICE_ARGS(slice_head(when, 100))));
    if (due_us > b->context->now_us + DAYS_AHEAD_MAX * UINT64_C(86400000000))
        return refuse(b,
                      SLICE("invalid delivery time: 'o:deliverytime' is more than 7 days ahead"));
    if (due_us > b->context->now_us)
        s->head.due_wall_ms = due_us / 1000;
    return true;
}

/* -------- bodies and files -------- */

/* cid: refers to the base name only. What would break a header line is replaced. */
static struct slice base_name(struct builder *b, struct slice path)
{
    size_t slash = slice_rfind_byte(path, '/');
    struct slice name = slash == SIZE_MAX ? path : slice_from(path, slash + 1);
    uint8_t *clean = arena_alloc(b->arena, name.len);

    for (size_t i = 0; i < name.len; i++)
        clean[i] = name.ptr[i] < ' ' || name.ptr[i] == 0x7f ? '_' : name.ptr[i];
    return slice_is_utf8(name) ? slice_of(clean, name.len) : (struct slice){0};
}

static struct slice type_by_name(struct slice filename)
{
    static const char *const types[][2] = {
        {".pdf", "application/pdf"},   {".png", "image/png"},     {".jpg", "image/jpeg"},
        {".jpeg", "image/jpeg"},       {".gif", "image/gif"},     {".svg", "image/svg+xml"},
        {".webp", "image/webp"},       {".txt", "text/plain"},    {".html", "text/html"},
        {".csv", "text/csv"},          {".ics", "text/calendar"}, {".zip", "application/zip"},
        {".json", "application/json"},
    };

    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (slice_ends_nocase(filename, slice_str(types[i][0])))
            return slice_str(types[i][1]);
    return SLICE("application/octet-stream");
}

/* -------- stored templates -------- */

static void set_variable(cJSON *variables, const char *name, cJSON *value)
{
    cJSON_DeleteItemFromObjectCaseSensitive(variables, name);
    (void)cJSON_AddItemToObject(variables, name, value);
}

/* All members of an object, over what is there. */
static bool set_variables(cJSON *variables, struct slice object)
{
    cJSON *tree = json_parse(object);
    bool fine = cJSON_IsObject(tree);

    while (fine && json_first(tree) != NULL) {
        cJSON *member = cJSON_DetachItemFromArray(tree, 0);
        char *name = mem_strdup(member->string);
        set_variable(variables, name, member);
        free(name);
    }
    json_free(tree);
    return fine;
}

/* v:, then h:X-Mailgun-Variables, then h:X-Mailgun-Template-Variables and t:variables. */
static bool gather_variables(struct builder *b, cJSON *variables)
{
    for (size_t i = 0; i < b->form->count; i++) {
        const struct form_field *f = &b->form->fields[i];
        if (!f->is_file && slice_starts(f->name, SLICE("v:")) && f->name.len > 2)
            set_variable(variables, arena_cstr(b->arena, slice_from(f->name, 2)),
                         cJSON_CreateString(arena_cstr(b->arena, f->value)));
    }
    (void)set_variables(variables, prefixed(b, "h:", "X-Mailgun-Variables"));
    struct slice header = prefixed(b, "h:", "X-Mailgun-Template-Variables");
    struct slice given = prefixed(b, "t:", "variables");
    if (header.len > 0 && !set_variables(variables, header))
        return refuse(b, SLICE("'h:X-Mailgun-Template-Variables' parameter is not a valid JSON"));
    return given.len == 0 || set_variables(variables, given) ||
           refuse(b, SLICE("'t:variables' parameter is not a valid JSON"));
}

static bool read_template(struct builder *b)
{
    struct slice name, tag, why;

    if (!submission_template(b->form, &name, &tag))
        return true;
    if (b->context->template == NULL)
        return refuse(b, arena_printf(b->arena, "template '%.*s' or its version is not there",
                                      SLICE_ARGS(slice_head(name, 200))));
    if (!options_are_short(b)) /* a bound for what follows */
        return false;
    cJSON *variables = cJSON_CreateObject();
    bool fine = gather_variables(b, variables);
    if (fine &&
        !stored_template_render(b->context->template, variables, b->arena, &b->rendered, &why))
        fine = refuse(b, arena_printf(b->arena, "template '%.*s' %.*s",
                                      SLICE_ARGS(slice_head(name, 200)), SLICE_ARGS(why)));
    json_free(variables);
    if (fine && has_line_break(b->rendered.reply_to))
        fine = refuse(b, SLICE("the template's Reply-To holds a line break"));
    if (fine && b->rendered.html.len == 0)
        fine = refuse(b, arena_printf(b->arena, "template '%.*s' renders to nothing",
                                      SLICE_ARGS(slice_head(name, 200))));
    return fine;
}

static void read_files(struct builder *b)
{
    struct message_content *c = &b->s->content;

    c->attachments = arena_array(b->arena, b->form->count, sizeof *c->attachments);
    for (size_t i = 0; i < b->form->count; i++) {
        const struct form_field *f = &b->form->fields[i];
        bool is_inline = slice_eq(f->name, SLICE("inline"));
        if ((!is_inline && !slice_eq(f->name, SLICE("attachment"))) || f->value.len == 0)
            continue;
        struct slice name = base_name(b, f->filename);
        if (name.len == 0)
            name = SLICE("attachment");
        c->attachments[c->attachment_count++] = (struct attachment){
            .filename = name,
            .content_type = f->content_type.len > 0 ? f->content_type : type_by_name(name),
            .content_id = is_inline ? name : (struct slice){0},
            .data = f->value,
        };
    }
}

/* What the message says itself goes before what its template does. */
static void take_rendered(struct builder *b)
{
    struct message_content *c = &b->s->content;
    struct buf text = {0};

    c->html = b->rendered.html;
    if (c->text.len == 0 && switch_of(prefixed(b, "t:", "text")) == TRACKING_ON) {
        html_to_text(&text, c->html);
        c->text = arena_dup(b->arena, buf_slice(&text));
        buf_fini(&text);
    }
    if (c->subject.len == 0)
        c->subject = b->s->head.subject = b->rendered.subject;
}

static bool read_bodies(struct builder *b)
{
    struct submission *s = b->s;
    bool template = field(b, "template").len > 0;

    s->content.text = field(b, "text");
    s->content.html = field(b, "html");
    s->content.amp_html = field(b, "amp-html");
    s->content.subject = s->head.subject = field(b, "subject");
    if (s->content.text.len + s->content.html.len + s->content.amp_html.len == 0 && !template)
        return refuse(b, SLICE("Need at least one of 'text', 'html', 'amp-html' or 'template' "
                               "parameters specified"));
    if (template && s->content.html.len > 0)
        return refuse(b, SLICE("Only one parameters 'html' or 'template' is allowed"));
    if (template)
        take_rendered(b);
    if (has_line_break(s->content.subject))
        return refuse(b, SLICE("subject parameter holds a line break"));
    s->head.size_bytes = s->content.text.len + s->content.html.len;
    return true;
}

static bool read_all(struct builder *b)
{
    struct submission *s = b->s;
    struct slice variables = variables_field(b);

    /* The template may say who it is from; what is wrong with it is said after what Mailgun says
     * first. */
    bool is_rendered = read_template(b);
    struct refusal late = *b->why;
    if (!read_addresses(b) || !read_bodies(b))
        return false;
    *b->why = late;
    if (!is_rendered || !read_variables(b, variables) || !options_are_short(b) ||
        !read_headers(b) || !read_options(b))
        return false;
    read_tags(b);
    read_files(b);
    s->head.recipient_count = (uint32_t)s->recipient_count;
    s->head.lane = s->head.batch_mode ? 1 : 0; /* enum lane: transactional, newsletter */
    return true;
}

static bool submit(const struct form *form, const struct submission_context *context,
                   struct arena *a, struct submission *s, struct refusal *why,
                   bool (*read)(struct builder *))
{
    struct builder b = {.form = form,
                        .context = context,
                        .arena = a,
                        .s = s,
                        .why = why,
                        .set = {.seed = (uint32_t)(context->random >> 16)}};

    *s = (struct submission){0};
    s->head.domain = context->domain;
    s->head.accepted_wall_us = context->now_us;
    bool ok = read(&b);
    variable_set_fini(&b.set);
    return ok;
}

bool submission_from_form(const struct form *form, const struct submission_context *context,
                          struct arena *a, struct submission *s, struct refusal *why)
{
    return submit(form, context, a, s, why, read_all);
}

/* -------- a whole message -------- */

/* Many options have a spelling as header; of those that may come again, the form's are the first.
 */
static bool is_option_header(struct slice name)
{
    return slice_starts_nocase(name, SLICE("X-Mailgun-"));
}

static size_t add_option_fields(const struct mime_tree *tree, bool tags, struct arena *a,
                                struct form_field *to)
{
    size_t count = 0;

    for (size_t i = 0; i < tree->span_count && tree->spans[i].kind == MIME_FIELD; i++) {
        const struct mime_span *f = &tree->spans[i];
        if (!is_option_header(f->name) || slice_eq_nocase(f->name, SLICE("X-Mailgun-Tag")) != tags)
            continue;
        to[count++] = (struct form_field){.name = arena_printf(a, "h:%.*s", SLICE_ARGS(f->name)),
                                          .value = mime_text_of(f->value, a)};
    }
    return count;
}

/* The form with the message's options: before its own, for the last one wins; tags behind them. */
static struct form with_options(const struct form *form, const struct mime_tree *tree,
                                struct arena *a)
{
    struct form all = {.is_multipart = form->is_multipart};

    all.fields = arena_array(a, form->count + tree->span_count, sizeof *all.fields);
    all.count = add_option_fields(tree, false, a, all.fields);
    memcpy(all.fields + all.count, form->fields, form->count * sizeof *all.fields);
    all.count += form->count;
    all.count += add_option_fields(tree, true, a, all.fields + all.count);
    return all;
}

/* The last field `message` that is not empty, with or without a file name. */
static struct slice message_field(const struct builder *b)
{
    for (size_t i = b->form->count; i > 0; i--) {
        const struct form_field *f = &b->form->fields[i - 1];
        if (f->value.len > 0 && slice_eq(f->name, SLICE("message")))
            return f->value;
    }
    return (struct slice){0};
}

/* A field of the message by this name, as written; the last one counts. */
static struct slice mime_field(const struct mime_tree *tree, const char *name)
{
    struct slice value = {0};

    for (size_t i = 0; i < tree->span_count && tree->spans[i].kind == MIME_FIELD; i++)
        if (slice_eq_nocase(tree->spans[i].name, slice_str(name)))
            value = tree->spans[i].value;
    return value;
}

static struct slice own_field(const struct name_value *own, size_t count, const char *name)
{
    struct slice value = {0};

    for (size_t i = 0; i < count; i++)
        if (slice_eq_nocase(own[i].name, slice_str(name)))
            value = own[i].value;
    return value;
}

/* Of mailboxes, as a form would name them: names in UTF-8, quoted where they need it. Encoded words
 * are undone one by one: a comma in one is no end of a mailbox. Empty when it is no such list. */
static struct slice mailboxes_of(struct builder *b, struct slice value)
{
    struct buf text = {0};
    struct slice list = mime_line_of(value, b->arena);
    struct mailbox m;
    enum address_result result;

    if (!slice_is_utf8(list))
        list = mime_text_of(list, b->arena);
    while ((result = address_next(&list, b->arena, &m)) == ADDRESS_OK) {
        if (text.len > 0)
            buf_add_str(&text, ", ");
        if (m.name.len > 0) {
            buf_add_byte(&text, '"');
            for (size_t i = 0; i < m.name.len; i++) {
                if (m.name.ptr[i] == '"' || m.name.ptr[i] == '\\')
                    buf_add_byte(&text, '\\');
                buf_add_byte(&text, m.name.ptr[i]);
            }
            buf_add_str(&text, "\" <");
        }
        buf_add_slice(&text, m.address);
        if (m.name.len > 0)
            buf_add_byte(&text, '>');
    }
    struct slice kept =
        result == ADDRESS_END ? arena_dup(b->arena, buf_slice(&text)) : slice_none();
    buf_fini(&text);
    return kept;
}

static bool holds_variable(const struct builder *b, struct slice text)
{
    return b->s->head.batch_mode && slice_find(text, SLICE("%recipient")) != SIZE_MAX;
}

static bool bad_message(struct builder *b, const char *why)
{
    return refuse(b, arena_printf(b->arena, "message parameter is not a MIME message: it %s", why));
}

/* Who it is from; the form's `from` where the message does not say. */
static bool read_mime_from(struct builder *b, const struct mime_tree *tree, struct name_value *own,
                           size_t *own_count)
{
    struct slice given = own_field(own, *own_count, "From");

    if (given.len == 0)
        given = mime_field(tree, "From");
    if (given.len == 0) {
        given = joined(b, "from");
        if (has_line_break(given))
            return bad_address(b, "from");
        own[(*own_count)++] = (struct name_value){SLICE("From"), given};
    }
    if (given.len == 0)
        return bad_message(b, "has no From header");
    struct slice text = mime_text_of(given, b->arena);
    if (!holds_variable(b, text))
        text = mailboxes_of(b, given);
    if (text.len == 0)
        return refuse(b, SLICE("message parameter has a From header that is not a valid address. "
                               "please check documentation"));
    b->s->head.from = b->s->content.from = text;
    return true;
}

/* What the head tells of the message, and the fields that the form puts into it. */
static bool read_mime_head(struct builder *b, const struct mime_tree *tree, struct name_value *own,
                           size_t *own_count)
{
    struct submission *s = b->s;

    for (size_t i = 0; i < s->content.header_count; i++) {
        struct slice name = s->content.headers[i].name;
        if (!mime_is_taken(name) && !slice_starts_nocase(name, SLICE("content-")) &&
            !slice_eq_nocase(name, SLICE("mime-version")))
            own[(*own_count)++] = s->content.headers[i];
    }
    s->content.header_count = 0;
    if (!read_mime_from(b, tree, own, own_count))
        return false;
    struct slice subject = own_field(own, *own_count, "Subject");
    struct slice to = own_field(own, *own_count, "To");
    s->head.subject =
        mime_text_of(subject.len > 0 ? subject : mime_field(tree, "Subject"), b->arena);
    s->head.to = slice_none();
    if (!s->head.batch_mode) {
        s->head.to = mailboxes_of(b, to.len > 0 ? to : mime_field(tree, "To"));
        if (s->head.to.len == 0)
            s->head.to = joined(b, "to");
    }
    return true;
}

/* The id is the form's, or the message's own, or ours. */
static void read_mime_id(struct builder *b, const struct mime_tree *tree, struct name_value *own,
                         size_t *own_count)
{
    struct slice given = b->has_message_id ? slice_none() : mime_field(tree, "Message-Id");

    given = mime_text_of(given, b->arena);
    if (given.len > 0)
        read_message_id(b, given);
    else
        own[(*own_count)++] = (struct name_value){SLICE("Message-Id"), b->s->answer_id};
}

static bool read_recipients(struct builder *b)
{
    struct submission *s = b->s;
    bool full = false;

    s->recipients = arena_array(b->arena, MESSAGE_RECIPIENTS_MAX, sizeof *s->recipients);
    if (!add_recipients(b, "to", RECIPIENT_TO, &full))
        return false;
    if (s->recipient_count == 0)
        return bad_address(b, "to");
    return full ? too_many(b) : true;
}

static bool clean_message(struct builder *b, const struct mime_tree *tree,
                          const struct name_value *own, size_t own_count)
{
    struct buf clean = {0};
    struct slice why = {0};
    struct mime_tree again;
    const char *unreadable;

    bool good = mime_clean(tree, own, own_count, b->arena, &clean, &why);
    /* A batch is read once more, by the sender: what it cannot read is better refused here. */
    if (good && b->s->head.batch_mode &&
        !mime_read(buf_slice(&clean), b->arena, &again, &unreadable)) {
        why = slice_str(unreadable);
        good = false;
    }
    if (good)
        b->s->content.mime = arena_dup(b->arena, buf_slice(&clean));
    else
        (void)refuse(b, arena_printf(b->arena, "message parameter cannot be sent: it %.*s",
                                     SLICE_ARGS(why)));
    buf_fini(&clean);
    b->s->head.size_bytes = b->s->content.mime.len;
    return good;
}

static bool read_all_mime(struct builder *b)
{
    struct submission *s = b->s;
    const struct form *given = b->form;
    struct slice message = message_field(b);
    struct mime_tree tree;
    struct form all;
    const char *why;
    size_t own_count = 0;

    if (!given->is_multipart)
        return refuse(b, SLICE("Invalid request content type. Expecting 'multipart/form-data' but "
                               "got 'application/x-www-form-urlencoded'"));
    if (field(b, "to").len == 0)
        return refuse(b, SLICE("to parameter is missing"));
    if (slice_trim(message).len == 0)
        return refuse(b, SLICE("message parameter is missing"));
    if (field(b, "template").len > 0)
        return refuse(b, SLICE("template parameter is not supported: send message without it"));
    if (!read_recipients(b))
        return false;
    if (!mime_read(message, b->arena, &tree, &why))
        return bad_message(b, why);
    all = with_options(given, &tree, b->arena);
    b->form = &all;
    struct slice variables = variables_field(b);
    struct name_value *own = arena_array(b->arena, all.count + 2, sizeof *own);
    bool good = read_variables(b, variables);
    b->form = given; /* the limit is for what the form has */
    good = good && options_are_short(b);
    b->form = &all;
    good = good && read_headers(b) && read_options(b);
    if (good) {
        read_tags(b);
        read_mime_id(b, &tree, own, &own_count);
        good = read_mime_head(b, &tree, own, &own_count) && clean_message(b, &tree, own, own_count);
    }
    b->form = given;
    s->head.recipient_count = (uint32_t)s->recipient_count;
    s->head.lane = s->head.batch_mode ? 1 : 0; /* enum lane: transactional, newsletter */
    return good;
}

bool submission_from_mime(const struct form *form, const struct submission_context *context,
                          struct arena *a, struct submission *s, struct refusal *why)
{
    return submit(form, context, a, s, why, read_all_mime);
}

void submission_claims(const struct submission *s, struct buf *to)
{
    struct buf folded = {0};

    if (s->head.email_id.len == 0)
        return;
    for (size_t i = 0; i < s->recipient_count; i++) {
        uint8_t hash[SHA256_BYTES];

        buf_reset(&folded);
        address_fold(&folded, s->recipients[i].address);
        struct slice parts[] = {s->head.domain, s->head.email_id, buf_slice(&folded),
                                s->head.testmode ? SLICE("test") : SLICE("")};
        digest_sha256_parts(parts, sizeof parts / sizeof parts[0], hash);
        buf_add(to, hash, CLAIM_BYTES);
    }
    buf_fini(&folded);
}

void form_digest(const struct form *form, struct slice domain, uint8_t out[16])
{
    uint8_t hash[SHA256_BYTES];
    struct slice *parts = mem_zero(form->count * 2 + 1, sizeof *parts);

    parts[0] = domain;
    for (size_t i = 0; i < form->count; i++) {
        parts[i * 2 + 1] = form->fields[i].name;
        parts[i * 2 + 2] = form->fields[i].value;
    }
    digest_sha256_parts(parts, form->count * 2 + 1, hash);
    memcpy(out, hash, 16);
    free(parts);
}
