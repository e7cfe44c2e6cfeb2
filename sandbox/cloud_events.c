/*
 * What becomes of an accepted mail, as SES would tell it: each step is an entry in a heap, due at
 * its time, and is published to the topics of the mail's configuration set.
 *
 * The mail's own facts are kept once, counted by the steps that still need them. Its fate depends
 * on a hash of the seed and the message id only, so that a run can be repeated.
 */
#include <stdlib.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/mem.h"
#include "mail/date.h"
#include "sandbox/cloud.h"

enum {
    STEPS_PER_TURN = 500, /* then the other connections have their turn */
    TIMER_MOST_MS = 1000,
};

enum kind { SEND, DELIVERY, BOUNCE, SOFT_BOUNCE, SUPPRESSED, COMPLAINT, OPEN, CLICK, DELAY, KINDS };

static const char *const kind_names[KINDS] = {"Send",   "Delivery", "Bounce",
                                              "Bounce", "Bounce",   "Complaint",
                                              "Open",   "Click",    "DeliveryDelay"};

struct mail {
    unsigned users;       /* steps that refer to it */
    struct buf set;       /* configuration set */
    struct buf mail_json; /* "mail":{… with all destinations, the brace left open */
    struct buf message_id;
};

struct step {
    uint64_t due_ms;
    struct mail *mail;
    char *recipient;
    enum kind kind;
};

struct cloud_events {
    struct cloud *cloud;
    struct event *timer;
    struct step *heap; /* by due_ms */
    size_t count, cap;
    uint64_t published[KINDS], repeated, garbage;
    uint64_t random;
};

/* -------- heap -------- */

static void heap_add(struct cloud_events *e, struct step step)
{
    size_t at = e->count++;

    if (e->count > e->cap) {
        e->cap = e->cap == 0 ? 1024 : e->cap * 2;
        e->heap = mem_grow(e->heap, e->cap * sizeof *e->heap);
    }
    while (at > 0 && e->heap[(at - 1) / 2].due_ms > step.due_ms) {
        e->heap[at] = e->heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    e->heap[at] = step;
}

static struct step heap_take(struct cloud_events *e)
{
    struct step first = e->heap[0], last = e->heap[--e->count];
    size_t at = 0;

    for (size_t child; (child = 2 * at + 1) < e->count; at = child) {
        if (child + 1 < e->count && e->heap[child + 1].due_ms < e->heap[child].due_ms)
            child++;
        if (e->heap[child].due_ms >= last.due_ms)
            break;
        e->heap[at] = e->heap[child];
    }
    if (e->count > 0)
        e->heap[at] = last;
    return first;
}

/* The wall clock may be set while the timer runs: it never sleeps long. */
static void arm(struct cloud_events *e)
{
    uint64_t now_ms = clock_wall_ms();

    if (e->count == 0)
        return;
    uint64_t wait_ms = e->heap[0].due_ms > now_ms ? e->heap[0].due_ms - now_ms : 0;
    if (wait_ms > TIMER_MOST_MS)
        wait_ms = TIMER_MOST_MS;
    const struct timeval wait = {.tv_sec = (time_t)(wait_ms / 1000),
                                 .tv_usec = (suseconds_t)(wait_ms % 1000 * 1000)};
    (void)event_add(e->timer, &wait);
}

static void mail_release(struct mail *m)
{
    if (--m->users > 0)
        return;
    buf_fini(&m->set);
    buf_fini(&m->mail_json);
    buf_fini(&m->message_id);
    free(m);
}

static void later(struct cloud_events *e, struct mail *m, struct slice recipient, enum kind kind,
                  uint64_t due_ms)
{
    char *copy = mem_alloc(recipient.len + 1);

    memcpy(copy, recipient.ptr, recipient.len);
    copy[recipient.len] = '\0';
    m->users++;
    heap_add(e, (struct step){.due_ms = due_ms + e->cloud->options.event_delay_ms,
                              .mail = m,
                              .recipient = copy,
                              .kind = kind});
}

/* -------- JSON -------- */

static void put_time(struct buf *to, const char *name, uint64_t ms)
{
    json_put_name(to, name);
    buf_add_byte(to, '"');
    date_put_iso8601(to, ms * 1000);
    buf_add_byte(to, '"');
}

static void put_recipient(struct buf *to, const char *list, const char *address, const char *status,
                          const char *diagnostic)
{
    json_put_name(to, list);
    buf_add_str(to, "[{");
    json_put_str(to, "emailAddress", slice_str(address));
    if (status != NULL) {
        json_put_str(to, "action", SLICE("failed"));
        json_put_str(to, "status", slice_str(status));
        json_put_str(to, "diagnosticCode", slice_str(diagnostic));
    }
    buf_add_str(to, "}]");
}

static void put_bounce(struct buf *to, const struct step *s, const char *type, const char *sub,
                       const char *status, const char *diagnostic)
{
    buf_add_str(to, ",\"bounce\":{");
    json_put_name(to, "feedbackId");
    buf_printf(to, "\"%s-%d\"", buf_cstr(&s->mail->message_id), (int)s->kind);
    json_put_str(to, "bounceType", slice_str(type));
    json_put_str(to, "bounceSubType", slice_str(sub));
    put_recipient(to, "bouncedRecipients", s->recipient, status, diagnostic);
    put_time(to, "timestamp", s->due_ms);
    json_put_str(to, "reportingMTA", SLICE("dns; a7-31.smtp-out.us-east-1.amazonses.com"));
    buf_add_byte(to, '}');
}

static const char *const agents[] = {
    "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko; via ggpht.com "
    "GoogleImageProxy) Chrome/42.0 Safari/537.36",
    "Mozilla/5.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like "
    "Gecko) "
    "Mobile/15E148",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Thunderbird/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0 "
    "Safari/537.36",
};

static void put_part(struct buf *to, const struct step *s, uint64_t random)
{
    switch (s->kind) {
    case SEND:
        buf_add_str(to, ",\"send\":{}");
        break;
    case DELIVERY:
        buf_add_str(to, ",\"delivery\":{");
        put_time(to, "timestamp", s->due_ms);
        json_put_u64(to, "processingTimeMillis", 400 + random % 900);
        json_put_name(to, "recipients");
        buf_add_byte(to, '[');
        json_put_text(to, slice_str(s->recipient));
        buf_add_byte(to, ']');
        buf_printf(to, ",\"smtpResponse\":\"250 2.0.0 OK %llu x19 - gsmtp\"",
                   (unsigned long long)(s->due_ms / 1000));
        json_put_str(to, "remoteMtaIp", SLICE("198.51.100.7"));
        json_put_str(to, "reportingMTA", SLICE("a7-31.smtp-out.us-east-1.amazonses.com"));
        buf_add_byte(to, '}');
        break;
    case BOUNCE:
        put_bounce(to, s, "Permanent", "General", "5.1.1",
                   "smtp; 550 5.1.1 The email account that you tried to reach does not exist");
        break;
    case SOFT_BOUNCE:
        put_bounce(to, s, "Transient", "General", "4.4.7",
                   "smtp; 451 4.4.7 The server did not answer in time");
        break;
    case SUPPRESSED:
        put_bounce(to, s, "Permanent", "OnAccountSuppressionList", NULL, NULL);
        break;
    case COMPLAINT:
        buf_add_str(to, ",\"complaint\":{");
        json_put_name(to, "feedbackId");
        buf_printf(to, "\"%s-c\"", buf_cstr(&s->mail->message_id));
        buf_add_str(to, ",\"complaintSubType\":null");
        put_recipient(to, "complainedRecipients", s->recipient, NULL, NULL);
        put_time(to, "timestamp", s->due_ms);
        json_put_str(to, "userAgent", SLICE("ExampleFBL/2.1"));
        json_put_str(to, "complaintFeedbackType", SLICE("abuse"));
        buf_add_byte(to, '}');
        break;
    case OPEN:
    case CLICK:
        buf_add_str(to, s->kind == OPEN ? ",\"open\":{" : ",\"click\":{");
        put_time(to, "timestamp", s->due_ms);
        json_put_name(to, "ipAddress");
        buf_printf(to, "\"203.0.113.%u\"", (unsigned)(random % 250 + 1));
        json_put_str(to, "userAgent",
                     slice_str(agents[random % (sizeof agents / sizeof agents[0])]));
        if (s->kind == CLICK) {
            json_put_str(to, "link", SLICE("https://example.com/issue/1?ref=newsletter"));
            buf_add_str(to, ",\"linkTags\":null");
        }
        buf_add_byte(to, '}');
        break;
    case DELAY:
        buf_add_str(to, ",\"deliveryDelay\":{");
        put_time(to, "timestamp", s->due_ms);
        json_put_str(to, "delayType", SLICE("TransientCommunicationFailure"));
        put_time(to, "expirationTime", s->due_ms + 50400000);
        put_recipient(to, "delayedRecipients", s->recipient, "4.4.1",
                      "smtp; 421 4.4.1 Unable to connect to remote host");
        buf_add_byte(to, '}');
        break;
    case KINDS:
        break;
    }
}

/* -------- publishing -------- */

static uint64_t next_random(struct cloud_events *e)
{
    e->random = e->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return e->random >> 33;
}

static bool chance(struct cloud_events *e, unsigned per_10000)
{
    return per_10000 != 0 && next_random(e) % 10000 < per_10000;
}

static void publish(struct cloud_events *e, const struct step *s)
{
    struct buf json = {0};
    const char *name = kind_names[s->kind];
    struct slice set = buf_slice(&s->mail->set);

    buf_printf(&json, "{\"eventType\":\"%s\",", name);
    buf_add_slice(&json, buf_slice(&s->mail->mail_json));
    buf_add_byte(&json, '}');
    put_part(&json, s, next_random(e));
    buf_add_str(&json, "}\n");

    const struct slice message = buf_slice(&json);
    static const char subject[] = "Amazon SES Email Event Notification";
    struct cloud *c = e->cloud;
    cloud_sets_publish(c->sets, set, name, message, subject);
    e->published[s->kind]++;
    if (chance(e, c->options.event_repeat_rate)) {
        cloud_sets_publish(c->sets, set, name, message, subject);
        e->repeated++;
    }
    if (c->publish_to != NULL)
        cloud_publish(c, message, subject);
    if (chance(e, c->options.garbage_event_rate)) {
        cloud_sets_publish(c->sets, set, name, SLICE("{\"this\": \"is no SES event"), subject);
        e->garbage++;
    }
    buf_fini(&json);
}

static void on_due(evutil_socket_t fd, short what, void *arg)
{
    struct cloud_events *e = arg;
    uint64_t now_ms = clock_wall_ms();

    (void)fd, (void)what;
    for (int i = 0; i < STEPS_PER_TURN && e->count > 0 && e->heap[0].due_ms <= now_ms; i++) {
        struct step s = heap_take(e);
        publish(e, &s);
        mail_release(s.mail);
        free(s.recipient);
    }
    arm(e);
}

/* -------- a mail's fate -------- */

static void put_mail(struct mail *m, const struct cloud_mail *mail, const struct cloud *c)
{
    struct buf *to = &m->mail_json;
    size_t at = slice_rfind_byte(mail->source, '@');
    struct slice from_domain = at == SIZE_MAX ? slice_none() : slice_from(mail->source, at + 1);

    if (from_domain.len > 0 && from_domain.ptr[from_domain.len - 1] == '>')
        from_domain.len--;
    buf_add_str(to, "\"mail\":{");
    put_time(to, "timestamp", mail->accepted_ms);
    json_put_str(to, "source", mail->source);
    json_put_name(to, "sourceArn");
    buf_printf(to, "\"arn:aws:ses:%s:%s:identity/%.*s\"", c->region, c->account,
               SLICE_ARGS(from_domain));
    json_put_str(to, "sendingAccountId", slice_str(c->account));
    json_put_str(to, "messageId", mail->message_id);
    json_put_name(to, "destination");
    for (size_t i = 0; i < mail->recipient_count; i++) {
        buf_add_str(to, i == 0 ? "[" : ",");
        json_put_text(to, mail->recipients[i]);
    }
    buf_add_str(to, mail->recipient_count > 0 ? "]" : "[]");
    json_put_bool(to, "headersTruncated", false);
    json_put_name(to, "headers");
    buf_add_slice(to, mail->headers_json.len > 0 ? mail->headers_json : SLICE("[]"));
    json_put_name(to, "commonHeaders");
    buf_add_str(to, "{\"from\":[");
    json_put_text(to, mail->source);
    buf_add_str(to, "],\"to\":[");
    json_put_text(to, mail->recipient_count > 0 ? mail->recipients[0] : (struct slice){0});
    buf_add_byte(to, ']');
    json_put_str(to, "messageId", mail->message_id);
    json_put_str(to, "subject", mail->subject);
    buf_add_byte(to, '}');
    json_put_name(to, "tags");
    buf_add_byte(to, '{');
    for (size_t i = 0; i < mail->tag_count; i++) {
        json_put_name(to, mail->tag_names[i]);
        buf_add_byte(to, '[');
        json_put_text(to, mail->tag_values[i]);
        buf_add_byte(to, ']');
    }
    json_put_name(to, "ses:configuration-set");
    buf_add_byte(to, '[');
    json_put_text(to, mail->configuration_set);
    buf_add_byte(to, ']');
    json_put_name(to, "ses:from-domain");
    buf_add_byte(to, '[');
    json_put_text(to, from_domain);
    buf_add_str(to, "],\"ses:operation\":[\"SendEmail\"],\"ses:source-ip\":[\"127.0.0.1\"],"
                    "\"ses:caller-identity\":[\"sandbox\"],\"ses:outgoing-ip\":[\"192.0.2.7\"]}");
    buf_add_slice(&m->set, mail->configuration_set);
    buf_add_slice(&m->message_id, mail->message_id);
}

static enum kind kind_by_name(struct slice local, bool simulator)
{
    if (slice_starts_nocase(local, SLICE("softbounce")))
        return SOFT_BOUNCE;
    if (slice_starts_nocase(local, SLICE("bounce")))
        return BOUNCE;
    if (slice_starts_nocase(local, SLICE("complaint")))
        return COMPLAINT;
    if (simulator && slice_starts_nocase(local, SLICE("suppressionlist")))
        return SUPPRESSED;
    return KINDS;
}

static void decide(struct cloud_events *e, struct mail *m, const struct cloud_mail *mail,
                   struct slice address, bool first)
{
    const struct cloud_options *o = &e->cloud->options;
    size_t at = slice_rfind_byte(address, '@');
    struct slice local = slice_head(address, at);
    bool simulator = slice_eq_nocase(slice_from(address, at + 1), SLICE("simulator.amazonses.com"));
    uint64_t now_ms = mail->accepted_ms;
    uint64_t spread_ms = o->delivery_delay_ms_max > o->delivery_delay_ms_min
                             ? o->delivery_delay_ms_max - o->delivery_delay_ms_min
                             : 1;
    uint64_t settled_ms = now_ms + o->delivery_delay_ms_min + next_random(e) % spread_ms;
    enum kind fate = simulator || o->local_parts ? kind_by_name(local, simulator) : KINDS;
    bool named = fate != KINDS || simulator;

    if (first) /* one for the whole mail, as SES does */
        later(e, m, address, SEND, now_ms);
    if (!simulator && cloud_ses_suppressed(e->cloud->ses, address) != NULL)
        fate = SUPPRESSED;
    else if (!named && chance(e, o->bounce_rate))
        fate = BOUNCE;
    else if (!named && chance(e, o->soft_bounce_rate))
        fate = SOFT_BOUNCE;
    if (!named && chance(e, o->delay_rate))
        later(e, m, address, DELAY, now_ms + (settled_ms - now_ms) / 2);
    if (fate == BOUNCE || fate == SOFT_BOUNCE || fate == SUPPRESSED) {
        later(e, m, address, fate, settled_ms);
        if (fate == BOUNCE && !simulator)
            cloud_ses_suppress(e->cloud->ses, address, "BOUNCE");
        return;
    }
    later(e, m, address, DELIVERY, settled_ms);
    if (fate == COMPLAINT || (!named && chance(e, o->complaint_rate))) {
        later(e, m, address, COMPLAINT, settled_ms + 50 + next_random(e) % 300);
        if (!simulator)
            cloud_ses_suppress(e->cloud->ses, address, "COMPLAINT");
    }
    if (mail->opens && !slice_starts_nocase(local, SLICE("noopen")) && chance(e, o->open_rate))
        later(e, m, address, OPEN, settled_ms + 100 + next_random(e) % 1500);
    if (mail->clicks && chance(e, o->click_rate))
        later(e, m, address, CLICK, settled_ms + 500 + next_random(e) % 1500);
}

void cloud_events_mail(struct cloud_events *e, const struct cloud_mail *mail)
{
    struct mail *m = mem_zero(1, sizeof *m);
    uint8_t hash[SHA256_BYTES];

    m->users = 1; /* ours, while we fill it */
    put_mail(m, mail, e->cloud);
    for (size_t i = 0; i < mail->recipient_count; i++) {
        uint64_t seed = e->cloud->options.seed;
        struct slice parts[] = {slice_of(&seed, sizeof seed), mail->message_id,
                                mail->recipients[i]};
        digest_sha256_parts(parts, 3, hash);
        memcpy(&e->random, hash, sizeof e->random);
        decide(e, m, mail, mail->recipients[i], i == 0);
    }
    mail_release(m);
    arm(e);
}

struct cloud_events *cloud_events_create(struct cloud *c)
{
    struct cloud_events *e = mem_zero(1, sizeof *e);

    e->cloud = c;
    e->random = c->options.seed;
    e->timer = event_new(c->base, -1, 0, on_due, e);
    return e;
}

void cloud_events_destroy(struct cloud_events *e)
{
    while (e->count > 0) {
        struct step s = heap_take(e);
        mail_release(s.mail);
        free(s.recipient);
    }
    event_free(e->timer);
    free(e->heap);
    free(e);
}

void cloud_events_stats(struct cloud_events *e, struct buf *json)
{
    uint64_t bounces = e->published[BOUNCE] + e->published[SOFT_BOUNCE] + e->published[SUPPRESSED];

    json_put_name(json, "events");
    buf_add_byte(json, '{');
    for (int i = 0; i < KINDS; i++)
        if (i != SOFT_BOUNCE && i != SUPPRESSED)
            json_put_u64(json, kind_names[i], i == BOUNCE ? bounces : e->published[i]);
    json_put_u64(json, "repeated", e->repeated);
    json_put_u64(json, "garbage", e->garbage);
    buf_add_byte(json, '}');
    json_put_u64(json, "events_waiting", e->count);
}
