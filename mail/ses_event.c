#include "mail/ses_event.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "mail/client_info.h"
#include "mail/own_event.h"

enum {
    RECIPIENTS_MAX = 200, /* SES allows 50 */
    TEXT_BYTES_MAX = 2000,
    DELAYED_BOUNCE_US = 900 * 1000000, /* a bounce so long after the send came by mail */
};

/* What all events of one message share while it is read. */
struct reading {
    struct arena *arena;
    const cJSON *mail, *part; /* part: bounce, delivery, … */
    struct slice kind;
    struct ses_event common;
    struct ses_event *out;
    size_t count, room;
    bool unnamed; /* it speaks of somebody, and does not say of whom */
    uint64_t mail_us;
};

/* -------- texts -------- */

/* Cut to a sensible length at a character's end, with broken UTF-8 replaced by '?'. What is given
 * lives in the arena, as the trees do. */
static struct slice text_of(struct reading *r, struct slice s)
{
    s = slice_head(s, TEXT_BYTES_MAX);
    if (slice_is_utf8(s))
        return s;
    size_t len = s.len;
    for (size_t back = 0; back < 3 && len > 0; back++)
        if (slice_is_utf8(slice_head(s, --len)))
            return slice_head(s, len);
    uint8_t *copy = arena_alloc(r->arena, s.len + 1);
    for (size_t i = 0; i < s.len; i++)
        copy[i] = s.ptr[i] < 0x80 ? s.ptr[i] : '?';
    return slice_of(copy, s.len);
}

static struct slice get(struct reading *r, const cJSON *object, const char *name)
{
    return text_of(r, json_get_text(object, name));
}

static struct slice lower(struct reading *r, struct slice s)
{
    uint8_t *copy = arena_alloc(r->arena, s.len + 1);

    for (size_t i = 0; i < s.len; i++)
        copy[i] = s.ptr[i] >= 'A' && s.ptr[i] <= 'Z' ? (uint8_t)(s.ptr[i] + 32) : s.ptr[i];
    return slice_of(copy, s.len);
}

/* "a <b@c>" or "<b@c>" → b@c. */
static struct slice bare_address(struct slice s)
{
    size_t open = slice_rfind_byte(s, '<'), close = slice_rfind_byte(s, '>');

    s = slice_trim(s);
    if (open != SIZE_MAX && close != SIZE_MAX && close > open)
        return slice_trim(slice_of(s.ptr + open + 1, close - open - 1));
    return s;
}

/* -------- tags -------- */

static struct slice tag_of(const cJSON *mail, const char *name)
{
    const cJSON *list = json_get(json_get(mail, "tags"), name);

    return json_text(cJSON_IsArray(list) ? json_first(list) : list);
}

static bool read_hex(struct slice s, uint64_t *value)
{
    uint64_t sum = 0;

    if (s.len == 0 || s.len > 16)
        return false;
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        uint64_t digit = c >= '0' && c <= '9'   ? (uint64_t)(c - '0')
                         : c >= 'a' && c <= 'f' ? (uint64_t)(c - 'a' + 10)
                                                : 16;
        if (digit > 15)
            return false;
        sum = sum << 4 | digit;
    }
    *value = sum;
    return true;
}

/* postern-meta: base64url of "domain\nmessage-id\ntag\ntag…". */
static void read_meta(struct reading *r, struct event *e)
{
    struct buf plain = {0};
    struct slice meta = tag_of(r->mail, "postern-meta"), line, rest;

    if (meta.len == 0 || !text_from_base64(&plain, meta)) {
        buf_fini(&plain);
        return;
    }
    rest = text_of(r, arena_dup(r->arena, buf_slice(&plain)));
    buf_fini(&plain);
    (void)slice_cut(rest, '\n', &line, &rest);
    e->domain = lower(r, line);
    (void)slice_cut(rest, '\n', &line, &rest);
    e->message_id = line;
    e->tags = arena_array(r->arena, MESSAGE_TAGS_MAX, sizeof *e->tags);
    while (rest.len > 0 && e->tag_count < MESSAGE_TAGS_MAX) {
        (void)slice_cut(rest, '\n', &line, &rest);
        if (line.len > 0)
            e->tags[e->tag_count++] = line;
    }
}

/* -------- mail -------- */

static struct slice header_of(const cJSON *mail, const char *name)
{
    for (const cJSON *h = json_first(json_get(mail, "headers")); h != NULL; h = h->next)
        if (slice_eq_nocase(json_get_text(h, "name"), slice_str(name)))
            return json_get_text(h, "value");
    return (struct slice){0};
}

static struct slice first_text(const cJSON *list_or_text)
{
    return json_text(cJSON_IsArray(list_or_text) ? json_first(list_or_text) : list_or_text);
}

/* What the mail itself says: SES's common header (a text or a list of them), else the field. */
static struct slice said_of(struct reading *r, const char *common, const char *field)
{
    const cJSON *said = json_get(json_get(r->mail, "commonHeaders"), common);
    struct slice text = first_text(said);

    return text_of(r, slice_trim(text.len > 0 ? text : header_of(r->mail, field)));
}

/* Without brackets. Ours when the mail carried one; SES gives each mail another in place of none. */
static struct slice message_id_of_mail(struct reading *r)
{
    struct slice id = bare_address(header_of(r->mail, "Message-ID"));

    if (id.len == 0)
        id = bare_address(json_get_text(json_get(r->mail, "commonHeaders"), "messageId"));
    return id.len > 0 ? text_of(r, id) : r->common.event.ses_id;
}

static void read_tag_fields(struct reading *r, struct event *e)
{
    if (e->tags == NULL)
        e->tags = arena_array(r->arena, MESSAGE_TAGS_MAX, sizeof *e->tags);
    for (const cJSON *h = json_first(json_get(r->mail, "headers"));
         h != NULL && e->tag_count < MESSAGE_TAGS_MAX; h = h->next) {
        struct slice value = slice_trim(json_get_text(h, "value"));
        if (slice_eq_nocase(json_get_text(h, "name"), SLICE("X-Mailgun-Tag")) && value.len > 0)
            e->tags[e->tag_count++] = text_of(r, value);
    }
}

/* user-variables: X-Mailgun-Variables of the mail, else email-id from its tag. */
static void read_variables(struct reading *r, struct event *e)
{
    enum { VARS_MAX = 50 };
    struct slice email_id = tag_of(r->mail, "email-id");
    const cJSON *tree = json_parse_in(r->arena, header_of(r->mail, "X-Mailgun-Variables"));

    e->vars = arena_array(r->arena, VARS_MAX + 1, sizeof *e->vars);
    for (const cJSON *v = json_first(tree); v != NULL && e->var_count < VARS_MAX; v = v->next)
        if (v->string != NULL && cJSON_IsString(v))
            e->vars[e->var_count++] =
                (struct name_value){text_of(r, slice_str(v->string)), text_of(r, json_text(v))};
    for (size_t i = 0; i < e->var_count; i++)
        if (slice_eq(e->vars[i].name, SLICE("email-id")))
            return;
    if (email_id.len > 0)
        e->vars[e->var_count++] = (struct name_value){SLICE("email-id"), text_of(r, email_id)};
}

static void read_mail(struct reading *r)
{
    struct ses_event *c = &r->common;
    struct event *e = &c->event;
    struct slice source = bare_address(json_get_text(r->mail, "source"));
    size_t at = slice_rfind_byte(source, '@');
    uint64_t number;

    r->mail_us = clock_read_iso8601_us(json_get_text(r->mail, "timestamp"));
    if (read_hex(tag_of(r->mail, "postern-batch"), &number))
        c->batch_id = number;
    if (slice_to_u64(tag_of(r->mail, "postern-rcpt"), &number) && number < UINT32_MAX) {
        c->recipient = (uint32_t)number;
        c->has_recipient = true;
    }
    c->from_domain = at == SIZE_MAX ? slice_none() : lower(r, slice_from(source, at + 1));
    c->kind = r->kind;
    e->ses_id = get(r, r->mail, "messageId");
    e->envelope_sender = text_of(r, source);
    e->sending_ip = text_of(r, tag_of(r->mail, "ses:outgoing-ip"));
    e->from = said_of(r, "from", "From");
    if (e->from.len == 0)
        e->from = get(r, r->mail, "source");
    e->to = said_of(r, "to", "To");
    e->subject = said_of(r, "subject", "Subject");
    read_variables(r, e);
    read_meta(r, e);
    if (e->message_id.len == 0)
        e->message_id = message_id_of_mail(r);
    if (e->tag_count == 0)
        read_tag_fields(r, e);
    for (const cJSON *d = json_first(json_get(r->mail, "destination")); d != NULL; d = d->next)
        c->destinations++;
}

/* -------- one recipient each -------- */

/* The address as the envelope had it: other mail servers report it in another case, in brackets, or
 * as what it was forwarded to. */
static struct slice envelope_address(const struct reading *r, struct slice reported)
{
    reported = bare_address(reported);
    for (const cJSON *d = json_first(json_get(r->mail, "destination")); d != NULL; d = d->next) {
        struct slice sent = bare_address(json_text(d));
        if (sent.len > 0 && (r->common.destinations == 1 || slice_eq_nocase(sent, reported)))
            return sent;
    }
    return reported;
}

/* Room for one more: mostly there is only one. */
static struct ses_event *next_place(struct reading *r)
{
    if (r->count == r->room) {
        size_t room = r->room == 0 ? 1 : 4 * r->room;
        struct ses_event *out = arena_array(r->arena, room, sizeof *out);
        if (r->count != 0)
            memcpy(out, r->out, r->count * sizeof *out);
        r->out = out;
        r->room = room;
    }
    return &r->out[r->count++];
}

/* Valid until the next one. NULL when nobody can tell whom it is about: neither an address nor our
 * tag for the only one. */
static struct ses_event *add(struct reading *r, struct slice address)
{
    address = envelope_address(r, address);
    if (r->count == RECIPIENTS_MAX ||
        (address.len == 0 && (!r->common.has_recipient || r->common.destinations > 1))) {
        r->unnamed = true;
        return NULL;
    }
    struct ses_event *e = next_place(r);
    *e = r->common;
    e->address = text_of(r, address);
    e->event.recipient = e->address;
    return e;
}

/* Without a recipient of its own an event speaks of all destinations (one, as we send). */
static void for_destinations(struct reading *r,
                             void (*fill)(struct reading *r, struct ses_event *e))
{
    for (const cJSON *d = json_first(json_get(r->mail, "destination")); d != NULL; d = d->next) {
        struct ses_event *e = add(r, json_text(d));
        if (e != NULL && fill != NULL)
            fill(r, e);
    }
    struct ses_event *only = r->common.destinations == 0 ? add(r, (struct slice){0}) : NULL;
    if (only != NULL && fill != NULL)
        fill(r, only);
}

/* Each recipient of a list of the event; when SES lists none, the only destination (entry: NULL).
 */
static void for_listed(struct reading *r, const char *list,
                       void (*fill)(struct reading *r, struct ses_event *e, const cJSON *entry))
{
    const cJSON *first = json_first(json_get(r->part, list));

    for (const cJSON *entry = first; entry != NULL; entry = entry->next) {
        struct ses_event *e = add(r, json_get_text(entry, "emailAddress"));
        if (e != NULL)
            fill(r, e, entry);
    }
    struct ses_event *only = first == NULL ? add(r, (struct slice){0}) : NULL;
    if (only != NULL)
        fill(r, only, NULL);
}

/* -------- delivery status -------- */

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

/* The first "ddd" that stands alone and begins with one of the two digits, as an SMTP code; 0 =
 * none. ("timed out after 300 seconds" holds none of a failure.) */
static int32_t smtp_code(struct slice s, char one, char other)
{
    for (size_t i = 0; i + 3 <= s.len; i++)
        if ((s.ptr[i] == one || s.ptr[i] == other) && is_digit(s.ptr[i + 1]) &&
            is_digit(s.ptr[i + 2]) && (i == 0 || s.ptr[i - 1] == ' ') &&
            (i + 3 == s.len || s.ptr[i + 3] == ' ' || s.ptr[i + 3] == '-'))
            return (s.ptr[i] - '0') * 100 + (s.ptr[i + 1] - '0') * 10 + (s.ptr[i + 2] - '0');
    return 0;
}

/* The first "d.d.d" (digits up to three each); empty = none. */
static struct slice enhanced_code(struct slice s)
{
    for (size_t i = 0; i + 5 <= s.len; i++) {
        if (s.ptr[i] < '2' || s.ptr[i] > '5' || s.ptr[i + 1] != '.' ||
            (i > 0 && s.ptr[i - 1] != ' ' && s.ptr[i - 1] != '#'))
            continue;
        size_t at = i + 2, second = at;
        while (at < s.len && is_digit(s.ptr[at]))
            at++;
        if (at == second || at == s.len || s.ptr[at] != '.')
            continue;
        size_t third = ++at;
        while (at < s.len && is_digit(s.ptr[at]))
            at++;
        if (at > third)
            return slice_of(s.ptr + i, at - i);
    }
    return (struct slice){0};
}

/* "smtp; 550 5.1.1 no such user" → "550 5.1.1 no such user". */
static struct slice without_type(struct slice s)
{
    struct slice type, rest;

    return slice_cut(s, ';', &type, &rest) && type.len <= 8 ? slice_trim(rest) : s;
}

static void set_status(struct ses_event *e, struct slice diagnostic, struct slice status,
                       int32_t fallback)
{
    struct delivery_status *s = &e->event.status;
    struct slice words = without_type(diagnostic);

    s->present = true;
    s->attempt_no = 1;
    s->message = words;
    s->enhanced_code = status.len > 0 ? status : enhanced_code(words);
    s->code = smtp_code(words, '4', '5');
    /* Without an SMTP code the enhanced one's class says which family. 5.1.x is a bad mailbox: 550.
     */
    if (s->code == 0 && s->enhanced_code.len > 0)
        s->code = s->enhanced_code.ptr[0] == '4' ? 451 : s->enhanced_code.ptr[0] == '5' ? 550 : 0;
    if (s->code == 0)
        s->code = fallback;
}

/* The server that spoke: "dns; mx.example.net". SES's own says nothing about the reader's. */
static struct slice mx_of(struct reading *r)
{
    struct slice mta = without_type(get(r, r->part, "reportingMTA"));

    return slice_ends_nocase(mta, SLICE("amazonses.com")) ? slice_none() : mta;
}

/* -------- Delivery -------- */

static void read_delivery(struct reading *r)
{
    struct slice response = get(r, r->part, "smtpResponse");
    int64_t processing_ms = 0;
    bool listed = false;

    (void)json_get_i64(r->part, "processingTimeMillis", &processing_ms);
    struct event *c = &r->common.event;
    c->type = EVENT_DELIVERED;
    c->status = (struct delivery_status){
        .present = true,
        .code = smtp_code(response, '2', '2') == 0 ? 250 : smtp_code(response, '2', '2'),
        .message = response.len > 0 ? response : SLICE("OK"),
        .enhanced_code = enhanced_code(response),
        .mx_host = get(r, r->part, "remoteMtaIp"),
        .attempt_no = 1,
        .session_ms = processing_ms > 0 && processing_ms < INT32_MAX ? (uint32_t)processing_ms : 0,
    };
    for (const cJSON *d = json_first(json_get(r->part, "recipients")); d != NULL; d = d->next)
        listed = add(r, json_text(d)) != NULL || listed;
    if (!listed)
        for_destinations(r, NULL);
}

/* -------- Bounce -------- */

static void suppress(struct ses_event *e, enum ses_suppress list)
{
    e->suppress = list;
    e->suppress_text = e->event.status.message;
}

static void permanent(struct ses_event *e, struct slice reason)
{
    e->event.severity = SEVERITY_PERMANENT;
    e->event.reason = reason;
}

/* Nobody was asked, so there are no words but Mailgun's. */
static void not_attempted(struct ses_event *e, struct slice reason, int32_t code,
                          struct slice description)
{
    permanent(e, reason);
    e->event.status = (struct delivery_status){
        .present = true, .code = code, .description = description, .attempt_no = 1};
}

static bool holds_one_of(struct slice text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (slice_find_nocase(text, slice_str(words[i])) != SIZE_MAX)
            return true;
    return false;
}

/* The mail, its sender or its way was refused, not the mailbox, whatever the code says. */
static bool is_about_the_mail(struct slice words)
{
    static const char *const those[] = {"spam",       "content",      "policy",
                                        "blocked",    "blacklist",    "blocklist",
                                        "block list", "black list",   "reputation",
                                        "virus",      "malware",      "authentication",
                                        "dmarc",      "dkim",         "spf ",
                                        "rate limit", "too large",    "message size",
                                        "quota",      "mailbox full", "mailbox is full",
                                        "over limit"};

    return holds_one_of(words, those, sizeof those / sizeof those[0]);
}

/* Mailgun's finer reasons of what is no hard bounce: the receiving side knows the sender's address
 * ill, or wants to be asked again later. SOURCE spec/mailgun.md §4.7. */
static struct slice reason_of(struct slice words)
{
    static const char *const blocks[] = {"blocked",    "blacklist", "blocklist",  "block list",
                                         "black list", "spamhaus",  "reputation", "banned"};
    static const char *const greys[] = {"greylist", "graylist", "grey-list", "grey list"};

    return holds_one_of(words, greys, sizeof greys / sizeof greys[0])      ? SLICE("greylisted")
           : holds_one_of(words, blocks, sizeof blocks / sizeof blocks[0]) ? SLICE("espblock")
                                                                           : SLICE("generic");
}

static bool is_full(const struct ses_event *e, struct slice sub)
{
    static const char *const those[] = {"mailbox full", "mailbox is full", "over quota",
                                        "quota exceeded", "insufficient storage"};

    return slice_eq(sub, SLICE("MailboxFull")) ||
           slice_ends_nocase(e->event.status.enhanced_code, SLICE(".2.2")) ||
           holds_one_of(e->event.status.message, those, sizeof those / sizeof those[0]);
}

/* A hard bounce says that the mailbox does not exist. Not so a refusal of content or of the sender,
 * a full mailbox, or a way that is not there today. SOURCE RFC 3463. */
static bool is_about_the_mailbox(const struct ses_event *e)
{
    struct slice code = e->event.status.enhanced_code, words = e->event.status.message;
    int32_t smtp = e->event.status.code;

    if (slice_eq(code, SLICE("5.1.7")) || slice_eq(code, SLICE("5.1.8"))) /* the sender's address */
        return false;
    if (slice_starts(code, SLICE("5.1")) || slice_eq(code, SLICE("5.2.1")) ||
        slice_eq(code, SLICE("5.4.4"))) /* unable to route: no such domain */
        return true;
    /* Nothing certain: then the words decide. */
    bool vague =
        code.len == 0 ? smtp == 550 || smtp == 551 || smtp == 553 : slice_eq(code, SLICE("5.0.0"));
    return vague && !is_about_the_mail(words);
}

/* Neither a refusal of this mail's content or size nor a full mailbox nor an automatic answer (out
 * of office), which SES reports as a transient bounce without any status of a mail server. */
static bool is_soft(const struct ses_event *e, struct slice sub)
{
    if (slice_eq(sub, SLICE("ContentRejected")) || slice_eq(sub, SLICE("AttachmentRejected")) ||
        slice_eq(sub, SLICE("MessageTooLarge")))
        return false;
    if (is_full(e, sub) || is_about_the_mail(e->event.status.message))
        return false;
    if (slice_starts(e->event.status.enhanced_code, SLICE("5.6")) ||
        slice_starts(e->event.status.enhanced_code, SLICE("5.7")) ||
        slice_starts(e->event.status.enhanced_code, SLICE("4.7")))
        return false;
    return e->event.status.enhanced_code.len > 0 || e->event.status.message.len > 0;
}

static void judge_bounce(struct reading *r, struct ses_event *e)
{
    struct slice type = json_get_text(r->part, "bounceType");
    struct slice sub = json_get_text(r->part, "bounceSubType");
    struct event *v = &e->event;

    v->type = EVENT_FAILED;
    if (slice_eq(sub, SLICE("OnAccountSuppressionList")) || slice_eq(sub, SLICE("Suppressed")) ||
        slice_eq(sub, SLICE("OnTenantSuppressionList")) ||
        slice_eq(sub, SLICE("EmailValidationSuppressed"))) {
        suppress(e, SES_SUPPRESS_BOUNCE); /* with SES's words */
        not_attempted(e, SLICE("suppress-bounce"), 605,
                      SLICE("Not delivering to previously bounced address"));
    } else if (slice_eq(sub, SLICE("UnsubscribedRecipient"))) {
        not_attempted(e, SLICE("suppress-unsubscribe"), 606,
                      SLICE("Not delivering to unsubscribed address"));
    } else if (slice_eq(type, SLICE("Permanent"))) {
        bool mailbox = is_about_the_mailbox(e);
        e->bounce = SES_BOUNCE_HARD; /* of whatever kind: SES counts them alike */
        permanent(e, mailbox ? SLICE("bounce") : reason_of(v->status.message));
        if (mailbox)
            suppress(e, SES_SUPPRESS_BOUNCE);
    } else if (slice_eq(sub, SLICE("CustomTimeoutExceeded"))) {
        /* Nobody took it within the time it was given: Mailgun's own case. */
        permanent(e, SLICE("old"));
        v->status.code = 602;
        if (v->status.message.len == 0)
            v->status.message = SLICE("Too old");
        if (is_soft(e, sub))
            e->bounce = SES_BOUNCE_SOFT;
    } else {
        /* SES tells a soft bounce once, when it has given up; Mailgun's readers know it as
         * temporary. */
        v->severity = SEVERITY_TEMPORARY;
        v->reason = reason_of(v->status.message);
        if (is_soft(e, sub))
            e->bounce = SES_BOUNCE_SOFT;
    }
    v->delayed_bounce = r->mail_us != 0 && v->ses_us > r->mail_us + DELAYED_BOUNCE_US;
    if (e->suppress != SES_SUPPRESS_NONE)
        e->suppress_code = arena_printf(r->arena, "%d", v->status.code);
}

static void fill_bounce(struct reading *r, struct ses_event *e, const cJSON *entry)
{
    struct slice type = json_get_text(r->part, "bounceType");

    set_status(e, get(r, entry, "diagnosticCode"), get(r, entry, "status"),
               slice_eq(type, SLICE("Permanent")) ? 550 : 450);
    e->event.status.mx_host = mx_of(r);
    if (e->event.status.message.len == 0)
        e->event.status.description =
            text_of(r, arena_printf(r->arena, "%.*s bounce: %.*s", SLICE_ARGS(type),
                                    SLICE_ARGS(json_get_text(r->part, "bounceSubType"))));
    judge_bounce(r, e);
}

static void read_bounce(struct reading *r)
{
    r->common.identity = get(r, r->part, "feedbackId");
    for_listed(r, "bouncedRecipients", fill_bounce);
}

/* -------- Complaint -------- */

static void fill_complaint(struct reading *r, struct ses_event *e, const cJSON *entry)
{
    struct slice sub = json_get_text(r->part, "complaintSubType");
    bool listed = slice_eq(sub, SLICE("OnAccountSuppressionList")) ||
                  slice_eq(sub, SLICE("OnTenantSuppressionList"));

    (void)entry;
    /* A reader who takes a complaint back: the mail arrived, and nothing more is to be said. */
    if (slice_eq(json_get_text(r->part, "complaintFeedbackType"), SLICE("not-spam")))
        return;
    e->event.type = listed ? EVENT_FAILED : EVENT_COMPLAINED;
    suppress(e, SES_SUPPRESS_COMPLAINT);
    if (!listed)
        return;
    not_attempted(e, SLICE("suppress-complaint"), 607,
                  SLICE("Not delivering to a user who marked your messages as spam"));
}

static void read_complaint(struct reading *r)
{
    r->common.identity = get(r, r->part, "feedbackId");
    for_listed(r, "complainedRecipients", fill_complaint);
}

/* -------- Open, Click -------- */

static void set_client(struct event *e)
{
    struct client_info c = client_info_of(e->user_agent, e->ip);

    e->client_name = c.name;
    e->client_os = c.os;
    e->client_type = c.type;
    e->device_type = c.device;
    e->bot = c.bot;
}

static void read_engagement(struct reading *r, enum event_type type)
{
    struct event *e = &r->common.event;

    e->type = type;
    e->ip = get(r, r->part, "ipAddress");
    e->user_agent = get(r, r->part, "userAgent");
    e->url = type == EVENT_CLICKED ? get(r, r->part, "link") : (struct slice){0};
    set_client(e);
    r->common.identity = arena_printf(r->arena, "%.*s %.*s", SLICE_ARGS(e->url), SLICE_ARGS(e->ip));
    for_destinations(r, NULL);
}

/* -------- the rest -------- */

static void fill_delay(struct reading *r, struct ses_event *e, const cJSON *entry)
{
    struct slice type = get(r, r->part, "delayType");
    bool blocked = slice_eq(type, SLICE("SpamDetected")) || slice_eq(type, SLICE("IPFailure"));

    e->event.type = EVENT_FAILED;
    e->event.severity = SEVERITY_TEMPORARY;
    set_status(e, get(r, entry, "diagnosticCode"), get(r, entry, "status"), 451);
    e->event.reason = blocked ? SLICE("espblock") : reason_of(e->event.status.message);
    e->event.status.description = type;
    e->event.status.mx_host = mx_of(r);
}

static void read_delay(struct reading *r)
{
    for_listed(r, "delayedRecipients", fill_delay);
}

static void fill_refusal(struct reading *r, struct ses_event *e)
{
    struct slice words = get(r, r->part, "reason");

    if (words.len == 0)
        words = get(r, r->part, "errorMessage");
    e->event.type = EVENT_FAILED;
    permanent(e, SLICE("generic"));
    e->event.status = (struct delivery_status){
        .present = true,
        .code = 554,
        .message = words,
        .description = SLICE("Refused by the mail service after acceptance"),
        .attempt_no = 1,
    };
}

static void fill_unsubscribe(struct reading *r, struct ses_event *e)
{
    (void)r;
    e->event.type = EVENT_UNSUBSCRIBED;
    suppress(e, SES_SUPPRESS_UNSUBSCRIBE);
}

static bool is_out_of(const cJSON *preferences, struct slice topic)
{
    for (const cJSON *t = json_first(json_get(preferences, "topicSubscriptionStatus")); t != NULL;
         t = t->next)
        if (slice_eq(json_get_text(t, "topicName"), topic))
            return slice_eq(json_get_text(t, "subscriptionStatus"), SLICE("OptOut"));
    return false;
}

/* SES lists all topics, and those that were left long ago. */
static void read_subscription(struct reading *r)
{
    const cJSON *before = json_get(r->part, "oldTopicPreferences");
    const cJSON *now = json_get(r->part, "newTopicPreferences");
    bool left = json_get_bool(now, "unsubscribeAll", false) &&
                !json_get_bool(before, "unsubscribeAll", false);

    for (const cJSON *t = json_first(json_get(now, "topicSubscriptionStatus")); t != NULL;
         t = t->next) {
        struct slice topic = json_get_text(t, "topicName");
        left = left || (is_out_of(now, topic) && !is_out_of(before, topic));
    }
    if (left)
        for_destinations(r, fill_unsubscribe);
}

static const struct {
    const char *kind, *part;
} kinds[] = {
    {"Send", "send"},
    {"Delivery", "delivery"},
    {"Bounce", "bounce"},
    {"Complaint", "complaint"},
    {"Reject", "reject"},
    {"Open", "open"},
    {"Click", "click"},
    {"Rendering Failure", "failure"},
    {"DeliveryDelay", "deliveryDelay"},
    {"Subscription", "subscription"},
};

enum {
    KIND_SEND,
    KIND_DELIVERY,
    KIND_BOUNCE,
    KIND_COMPLAINT,
    KIND_REJECT,
    KIND_OPEN,
    KIND_CLICK,
    KIND_FAILURE,
    KIND_DELAY,
    KIND_SUBSCRIPTION,
    KINDS
};

/* SES writes "Rendering Failure", its settings RENDERING_FAILURE, and people either. */
static bool is_kind(struct slice said, struct slice kind)
{
    size_t at = 0;

    for (size_t i = 0; i < said.len; i++) {
        uint8_t c = said.ptr[i];
        if (c == ' ' || c == '_')
            continue;
        while (at < kind.len && kind.ptr[at] == ' ')
            at++;
        if (at == kind.len || !slice_eq_nocase(slice_of(&c, 1), slice_of(kind.ptr + at, 1)))
            return false;
        at++;
    }
    return said.len > 0 && at == kind.len;
}

static bool read_event(struct reading *r, const cJSON *root)
{
    size_t kind = 0;

    r->kind = json_get_text(root, "eventType");
    if (r->kind.len == 0)
        r->kind = json_get_text(root, "notificationType");
    while (kind < KINDS && !is_kind(r->kind, slice_str(kinds[kind].kind)))
        kind++;
    r->mail = json_get(root, "mail");
    if (kind == KINDS || !cJSON_IsObject(r->mail))
        return false;
    r->kind = slice_str(kinds[kind].kind);
    r->part = json_get(root, kinds[kind].part);
    read_mail(r);
    r->common.settles = kind != KIND_SUBSCRIPTION;
    r->common.event.ses_us = clock_read_iso8601_us(json_get_text(r->part, "timestamp"));
    if (r->common.event.ses_us == 0)
        r->common.event.ses_us = r->mail_us;

    switch (kind) {
    case KIND_SEND:
        for_destinations(r, NULL);
        break;
    case KIND_DELIVERY:
        read_delivery(r);
        break;
    case KIND_BOUNCE:
        read_bounce(r);
        break;
    case KIND_COMPLAINT:
        read_complaint(r);
        break;
    case KIND_OPEN:
        read_engagement(r, EVENT_OPENED);
        break;
    case KIND_CLICK:
        read_engagement(r, EVENT_CLICKED);
        break;
    case KIND_DELAY:
        read_delay(r);
        break;
    case KIND_SUBSCRIPTION:
        read_subscription(r);
        break;
    default: /* Reject and Rendering Failure: no recipient may stay without an outcome */
        for_destinations(r, fill_refusal);
        break;
    }
    return true;
}

static bool is_notice(struct slice text)
{
    return slice_starts(slice_trim(text), SLICE("Successfully validated SNS topic"));
}

static enum ses_verdict fail(struct slice *why, const char *words)
{
    *why = slice_str(words);
    return SES_DEADLETTER;
}

static enum ses_verdict parse_tree(struct reading *r, const cJSON *root, struct slice *why)
{
    struct slice type = json_get_text(root, "Type");

    if (!cJSON_IsObject(root))
        return fail(why, "not a JSON object");
    if (slice_eq(type, SLICE("SubscriptionConfirmation")) ||
        slice_eq(type, SLICE("UnsubscribeConfirmation")))
        return SES_IGNORED;
    if (cJSON_IsObject(json_get(root, "detail")) && json_get(root, "detail-type") != NULL)
        root = json_get(root, "detail"); /* EventBridge */
    if (slice_eq(json_get_text(root, "notificationType"), SLICE("AmazonSnsSubscriptionSucceeded")))
        return SES_IGNORED;
    if (json_get(root, "eventType") == NULL && json_get(root, "notificationType") == NULL)
        return fail(why, "no SES event: neither eventType nor notificationType");
    if (!read_event(r, root))
        return fail(why, "an SES event of an unknown type, or without its mail");
    if (r->unnamed) {
        bool many = r->count == RECIPIENTS_MAX;
        r->count = 0; /* all of it, or none: it is kept whole */
        return fail(why, many ? "it speaks of more recipients than SES allows"
                              : "it does not say which of the mail's recipients it is about");
    }
    return SES_EVENTS;
}

enum ses_verdict ses_event_parse(struct slice body, struct arena *a, struct ses_event **events,
                                 size_t *count, struct slice *why)
{
    struct reading r = {.arena = a};

    *count = 0;
    if (is_notice(body))
        return SES_IGNORED;
    const cJSON *root = json_parse_in(a, body);
    if (root == NULL)
        return fail(why, "not JSON");
    const cJSON *event = root, *message = json_get(root, "Message");
    enum ses_verdict verdict = SES_EVENTS;
    if (cJSON_IsString(message) && json_get(root, "Type") != NULL &&
        slice_eq(json_get_text(root, "Type"), SLICE("Notification"))) {
        if (is_notice(json_text(message)))
            verdict = SES_IGNORED;
        else
            event = json_parse_in(a, json_text(message));
        if (verdict == SES_EVENTS && event == NULL)
            verdict = fail(why, "the SNS notification's Message is not JSON");
    }
    if (verdict == SES_EVENTS)
        verdict = parse_tree(&r, event, why);
    *events = r.out;
    *count = r.count;
    return verdict;
}

void ses_event_complete(struct ses_event *e, const struct message_head *head,
                        const struct recipient *recipient, struct arena *a)
{
    struct event known;
    struct event *v = &e->event;

    event_of_recipient(&known, head, recipient, a);
    v->domain = known.domain;
    v->recipient = known.recipient;
    v->message_id = known.message_id;
    v->to = known.to;
    v->from = known.from;
    v->subject = known.subject;
    v->tags = known.tags;
    v->tag_count = known.tag_count;
    v->vars = known.vars;
    v->var_count = known.var_count;
    v->size_bytes = known.size_bytes;
    v->test_mode = known.test_mode;
}

void ses_event_identify(struct ses_event *e)
{
    uint8_t folded[320];
    /* As SES writes it, not as the batch does: the batch may not be there when it comes again. */
    size_t len = e->address.len < sizeof folded ? e->address.len : sizeof folded;

    for (size_t i = 0; i < len; i++) {
        uint8_t c = e->address.ptr[i];
        folded[i] = c >= 'A' && c <= 'Z' ? (uint8_t)(c + 32) : c;
    }
    struct slice parts[] = {e->event.ses_id, e->kind, slice_of(folded, len), e->identity};
    event_make_id(&e->event, parts, 4);
}
