/*
 * Mailgun's fields, checked in Mailgun's order (spec/mailgun.md §2.9), so that a client meets the
 * same first complaint.
 */
#include <stdlib.h>
#include <time.h>

#include "base/digest.h"
#include "base/json.h"
#include "base/mem.h"
#include "mail/date.h"
#include "mail/form.h"
#include "mail/ses_address.h"

enum {
    OPTION_BYTES_MAX = 16384,
    TAG_BYTES_MAX = 128,
    ADDRESS_BYTES_MAX = 320,
    DAYS_AHEAD_MAX = 7,
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
};

static bool refuse(struct builder *b, struct slice message)
{
    *b->why = (struct refusal){.status = 400, .message = message};
    return false;
}

static struct slice literal(const char *text)
{
    return slice_str(text);
}

/* -------- fields by name -------- */

static bool is_named(const struct form_field *f, const char *name)
{
    return !f->is_file && f->value.len > 0 && slice_eq(f->name, literal(name));
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
    return !f->is_file && slice_starts_nocase(f->name, literal(prefix)) ? slice_from(f->name, 2)
                                                                        : (struct slice){0};
}

static struct slice option(const struct builder *b, const char *name)
{
    for (size_t i = b->form->count; i > 0; i--) {
        const struct form_field *f = &b->form->fields[i - 1];
        if (f->value.len > 0 && slice_eq(behind_prefix(f, "o:"), literal(name)))
            return f->value;
    }
    return (struct slice){0};
}

static bool is_word(struct slice s, const char *const *words)
{
    for (; *words != NULL; words++)
        if (slice_eq_nocase(s, literal(*words)))
            return true;
    return false;
}

static enum tracking switch_of(struct slice s)
{
    static const char *const yes[] = {"yes", "true", "1", "on", "htmlonly", NULL};
    static const char *const no[] = {"no", "false", "0", "off", NULL};

    return is_word(s, yes) ? TRACKING_ON : is_word(s, no) ? TRACKING_OFF : TRACKING_UNSET;
}

static bool has_line_break(struct slice s)
{
    return slice_find_byte(s, '\r') != SIZE_MAX || slice_find_byte(s, '\n') != SIZE_MAX ||
           slice_find_byte(s, 0) != SIZE_MAX;
}

/* -------- recipients -------- */

static uint32_t hash_of(struct slice address)
{
    uint32_t h = 2166136261u;

    for (size_t i = 0; i < address.len; i++) {
        uint8_t c = address.ptr[i];
        h = (h ^ (c >= 'A' && c <= 'Z' ? c + 32u : c)) * 16777619u;
    }
    return h;
}

/* The place of an address, or the free place where it would go. */
static uint16_t *place_of(struct builder *b, struct slice address)
{
    uint32_t at = hash_of(address) & (TABLE_SIZE - 1);

    while (b->table[at] != 0 &&
           !slice_eq_nocase(b->s->recipients[b->table[at] - 1].address, address))
        at = (at + 1) & (TABLE_SIZE - 1);
    return &b->table[at];
}

static bool is_address(struct slice s)
{
    size_t at = slice_rfind_byte(s, '@');

    if (at == SIZE_MAX || at == 0 || at + 1 == s.len || s.len > ADDRESS_BYTES_MAX)
        return false;
    bool quoted = s.ptr[0] == '"';
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (c < 0x20 || c == 0x7f || ((c == ' ' || c == '@') && i != at && !(quoted && i < at)) ||
            c == '<' || c == '>' || (i > at && (c == '"' || c == ',' || c == '(' || c == ')')))
            return false;
    }
    return s.ptr[at + 1] != '.' && s.ptr[s.len - 1] != '.';
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

/* All values of to, cc or bcc. 1 good, 0 refused; *full when the limit was met on the way (said
 * later: a bad address behind it comes first). */
static bool add_recipients(struct builder *b, const char *name, enum recipient_kind kind,
                           bool *full)
{
    for (size_t i = 0; i < b->form->count; i++) {
        struct ses_mailbox *list;
        size_t count;
        struct slice value = b->form->fields[i].value;
        if (!is_named(&b->form->fields[i], name))
            continue;
        if (has_line_break(value) || !ses_mailboxes_parse(value, b->arena, &list, &count))
            return bad_address(b, name);
        for (size_t k = 0; k < count; k++) {
            struct slice address = slice_trim(list[k].address);
            if (!is_address(address))
                return bad_address(b, name);
            uint16_t *place = place_of(b, address);
            if (*place != 0)
                continue; /* a duplicate: the first wins */
            if (b->s->recipient_count == MESSAGE_RECIPIENTS_MAX) {
                *full = true;
                continue;
            }
            b->s->recipients[b->s->recipient_count++] =
                (struct recipient){.kind = kind, .address = address, .name = list[k].name};
            *place = (uint16_t)b->s->recipient_count;
        }
    }
    return true;
}

static bool read_addresses(struct builder *b)
{
    struct ses_mailbox *list;
    size_t count;
    struct slice from = field(b, "from");
    bool full = false;

    if (from.len == 0)
        return refuse(b, SLICE("from parameter is missing"));
    if (field(b, "to").len == 0)
        return refuse(b, SLICE("to parameter is missing"));
    if (has_line_break(from))
        return bad_address(b, "from");
    if (slice_find(from, SLICE("%recipient")) == SIZE_MAX) {
        if (!ses_mailboxes_parse(from, b->arena, &list, &count))
            return bad_address(b, "from");
        for (size_t i = 0; i < count; i++)
            if (!is_address(slice_trim(list[i].address)))
                return bad_address(b, "from");
    }
    b->s->recipients = arena_array(b->arena, MESSAGE_RECIPIENTS_MAX, sizeof *b->s->recipients);
    b->s->recipient_count = 0;
    if (!add_recipients(b, "to", RECIPIENT_TO, &full) ||
        !add_recipients(b, "cc", RECIPIENT_CC, &full) ||
        !add_recipients(b, "bcc", RECIPIENT_BCC, &full))
        return false;
    b->s->head.from = b->s->content.from = from;
    return full ? too_many(b) : true;
}

/* -------- recipient-variables -------- */

static struct slice value_text(struct builder *b, const cJSON *v)
{
    if (cJSON_IsString(v))
        return arena_dup(b->arena, json_text(v));
    if (cJSON_IsNull(v))
        return (struct slice){0};
    char *text = cJSON_PrintUnformatted(v);
    if (text == NULL)
        return (struct slice){0};
    struct slice copy = arena_dup(b->arena, slice_str(text));
    cJSON_free(text);
    return copy;
}

static void set_variables(struct builder *b, struct recipient *r, const cJSON *object)
{
    size_t count = (size_t)cJSON_GetArraySize(object);

    r->vars = arena_array(b->arena, count, sizeof *r->vars);
    r->var_count = 0;
    for (const cJSON *v = json_first(object); v != NULL; v = v->next) {
        struct slice name = slice_str(v->string);
        size_t at = 0;
        while (at < r->var_count && !slice_eq(r->vars[at].name, name))
            at++;
        if (at == r->var_count)
            r->vars[r->var_count++].name = arena_dup(b->arena, name);
        r->vars[at].value = value_text(b, v);
    }
}

static bool read_variables(struct builder *b)
{
    struct slice text = (struct slice){0};
    uint8_t exact[MESSAGE_RECIPIENTS_MAX] = {0};

    for (size_t i = 0; i < b->form->count; i++)
        if (slice_eq(b->form->fields[i].name, SLICE("recipient-variables"))) {
            text = b->form->fields[i].value;
            b->s->head.batch_mode = b->s->content.batch_mode = true;
        }
    if (!b->s->head.batch_mode || slice_trim(text).len == 0)
        return true;

    cJSON *tree = json_parse(text);
    bool good = cJSON_IsObject(tree);
    for (const cJSON *v = good ? json_first(tree) : NULL; v != NULL && good; v = v->next) {
        struct slice key = slice_str(v->string);
        good = cJSON_IsObject(v);
        uint16_t place = good ? *place_of(b, key) : 0;
        if (place == 0)
            continue; /* not among the recipients: ignored */
        /* A key of the very same spelling wins over one that differs in case. */
        bool same = slice_eq(b->s->recipients[place - 1].address, key);
        if (exact[place - 1] && !same)
            continue;
        exact[place - 1] = same;
        set_variables(b, &b->s->recipients[place - 1], v);
    }
    json_free(tree);
    return good ? true : refuse(b, SLICE("'recipient-variables' parameter is not a valid JSON"));
}

/* -------- headers, variables, tags -------- */

static void add_pair(struct name_value *list, size_t *count, struct slice name, struct slice value)
{
    list[(*count)++] = (struct name_value){name, value};
}

/* h:X-Mailgun-Variables is a set of v: in one. */
static void merge_variables(struct builder *b, struct name_value *vars, size_t *count, size_t most,
                            struct slice text)
{
    cJSON *tree = json_parse(text);

    for (const cJSON *v = json_first(tree); v != NULL && *count < most; v = v->next)
        if (v->string != NULL)
            add_pair(vars, count, arena_dup(b->arena, slice_str(v->string)), value_text(b, v));
    json_free(tree);
}

static bool is_header_name(struct slice name)
{
    for (size_t i = 0; i < name.len; i++)
        if (name.ptr[i] <= ' ' || name.ptr[i] >= 0x7f || name.ptr[i] == ':')
            return false;
    return name.len > 0;
}

static bool read_headers(struct builder *b)
{
    enum { MERGED_MAX = 100 };
    struct submission *s = b->s;
    size_t most = b->form->count;
    struct name_value *vars = arena_array(b->arena, most + MERGED_MAX, sizeof *vars);
    struct slice message_id = {0};

    s->content.headers = arena_array(b->arena, most, sizeof *s->content.headers);
    for (size_t i = 0; i < b->form->count; i++) {
        const struct form_field *f = &b->form->fields[i];
        struct slice header = behind_prefix(f, "h:");
        if (f->value.len == 0)
            continue;
        if (!f->is_file && slice_starts(f->name, SLICE("v:")) && f->name.len > 2) {
            add_pair(vars, &s->head.var_count, slice_from(f->name, 2), f->value);
        } else if (header.len > 0) {
            if (!is_header_name(header))
                return refuse(b, arena_printf(b->arena, "Header name must be pure ASCII: %.*s",
                                              SLICE_ARGS(header)));
            if (has_line_break(f->value))
                return refuse(b, arena_printf(b->arena, "'h:%.*s' parameter holds a line break",
                                              SLICE_ARGS(header)));
            if (slice_eq_nocase(header, SLICE("Message-Id")))
                message_id = f->value;
            else if (slice_eq_nocase(header, SLICE("X-Mailgun-Variables")))
                merge_variables(b, vars, &s->head.var_count, most + MERGED_MAX, f->value);
            else
                add_pair(s->content.headers, &s->content.header_count, header, f->value);
        }
    }
    s->head.vars = s->content.vars = vars;
    s->content.var_count = s->head.var_count;
    for (size_t i = 0; i < s->head.var_count; i++)
        if (slice_eq(vars[i].name, SLICE("email-id")))
            s->head.email_id = vars[i].value;

    if (message_id.len > 0) {
        struct slice bare = slice_trim(message_id);
        s->answer_id = message_id;
        if (bare.len > 2 && bare.ptr[0] == '<' && bare.ptr[bare.len - 1] == '>')
            bare = slice_of(bare.ptr + 1, bare.len - 2);
        s->head.message_id = bare;
        s->head.message_id_per_recipient =
            s->head.batch_mode && slice_find(bare, SLICE("%recipient.")) != SIZE_MAX;
        return true;
    }
    char when[20];
    time_t seconds = (time_t)(b->context->now_us / 1000000);
    struct tm utc;
    (void)gmtime_r(&seconds, &utc);
    (void)strftime(when, sizeof when, "%Y%m%d%H%M%S", &utc);
    s->head.message_id =
        arena_printf(b->arena, "%s.%016llx@%.*s", when, (unsigned long long)b->context->random,
                     SLICE_ARGS(b->context->path_domain));
    s->answer_id = arena_printf(b->arena, "<%.*s>", SLICE_ARGS(s->head.message_id));
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
        if (!slice_eq(behind_prefix(&b->form->fields[i], "o:"), SLICE("tag")))
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
    size_t bytes = 0;

    for (size_t i = 0; i < b->form->count; i++) {
        const struct form_field *f = &b->form->fields[i];
        if (f->name.len > 1 && f->name.ptr[1] == ':' && !f->is_file)
            bytes += f->name.len + f->value.len;
    }
    return bytes <= OPTION_BYTES_MAX
               ? true
               : refuse(b, SLICE("Send options (parameters starting with o:, h:, v:, or t:) are "
                                 "limited to 16 kB total"));
}

static bool read_options(struct builder *b)
{
    struct submission *s = b->s;
    struct slice when = option(b, "deliverytime");
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
    if (suppressed.len == 0)
        s->content.suppress_variables_header = false;
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

/* cid: refers to the base name only. */
static struct slice base_name(struct slice path)
{
    size_t slash = slice_rfind_byte(path, '/');

    return slash == SIZE_MAX ? path : slice_from(path, slash + 1);
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
        if (slice_ends_nocase(filename, literal(types[i][0])))
            return literal(types[i][1]);
    return SLICE("application/octet-stream");
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
        struct slice name = base_name(f->filename);
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
        return refuse(b, SLICE("template parameter is not supported: send html or text"));
    if (has_line_break(s->content.subject))
        return refuse(b, SLICE("subject parameter holds a line break"));
    s->head.size_bytes = s->content.text.len + s->content.html.len + s->content.amp_html.len;
    return true;
}

/* All To addresses, as a message that is no batch shows them to everyone. */
static void set_to_text(struct builder *b)
{
    struct buf text = {0};

    for (size_t i = 0; i < b->form->count; i++) {
        if (!is_named(&b->form->fields[i], "to"))
            continue;
        if (text.len > 0)
            buf_add_str(&text, ", ");
        buf_add_slice(&text, b->form->fields[i].value);
    }
    b->s->head.to = arena_dup(b->arena, buf_slice(&text));
    buf_fini(&text);
}

bool submission_from_form(const struct form *form, const struct submission_context *context,
                          struct arena *a, struct submission *s, struct refusal *why)
{
    struct builder b = {.form = form, .context = context, .arena = a, .s = s, .why = why};

    *s = (struct submission){0};
    s->head.domain = context->domain;
    s->head.accepted_wall_us = context->now_us;
    if (!read_addresses(&b) || !read_bodies(&b) || !read_variables(&b) || !options_are_short(&b) ||
        !read_headers(&b) || !read_options(&b))
        return false;
    read_tags(&b);
    read_files(&b);
    if (!s->head.batch_mode)
        set_to_text(&b);
    s->head.recipient_count = (uint32_t)s->recipient_count;
    s->head.lane =
        s->head.batch_mode ? 1 : 0; /* enum lane: newsletters behind transactional mail */
    return true;
}

void submission_claims(const struct submission *s, struct buf *to)
{
    struct buf folded = {0};

    if (s->head.email_id.len == 0)
        return;
    for (size_t i = 0; i < s->recipient_count; i++) {
        struct slice address = s->recipients[i].address;
        size_t at = slice_rfind_byte(address, '@');
        uint8_t hash[SHA256_BYTES];

        buf_reset(&folded);
        buf_add_slice(&folded, address);
        for (size_t k = at == SIZE_MAX ? address.len : at; k < folded.len; k++)
            if (folded.ptr[k] >= 'A' && folded.ptr[k] <= 'Z')
                folded.ptr[k] = (uint8_t)(folded.ptr[k] + 32);
        struct slice parts[] = {s->head.domain, s->head.email_id, buf_slice(&folded),
                                s->head.testmode ? SLICE("test") : SLICE("")};
        digest_sha256_parts(parts, 4, hash);
        buf_add(to, hash, 16); /* CLAIM_BYTES of shm/record.h */
    }
    buf_fini(&folded);
}
