#include "doctor/live.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aws/fetch.h"
#include "base/clock.h"
#include "base/digest.h"
#include "store/batches.h"

enum { LOOK_MS = 150, HTTP_TIMEOUT_MS = 15000, LABEL_BYTES = 6 };

#define SIMULATOR "simulator.amazonses.com"

/* Where a mail is, in the order of its way. */
enum place { NOT_TAKEN, TAKEN, SENT, CAME_BACK, VISIBLE };

struct mail {
    const char *name, *mailbox, *event; /* the event that the simulator's mailbox causes */
    bool is_newsletter;
    char address[96];
    struct buf id;
    enum place place;
    bool is_over; /* it will come no further: words say why */
    struct buf words;
    uint64_t started_ms, taken_ms, sent_ms, visible_ms;
};

struct live {
    struct patient *p;
    const struct config_domain *domain;
    const struct live_wishes *w;
    struct listener at;
    struct fetch *fetch;
    struct buf authorization; /* holds the key: wiped */
    struct mail mails[LIVE_MAILS];
};

static const struct mail kinds[LIVE_MAILS] = {
    {.name = "newsletter, delivered",
     .mailbox = "success",
     .event = "delivered",
     .is_newsletter = true},
    {.name = "newsletter, bounced", .mailbox = "bounce", .event = "failed", .is_newsletter = true},
    {.name = "newsletter, complained",
     .mailbox = "complaint",
     .event = "complained",
     .is_newsletter = true},
    {.name = "single mail, delivered", .mailbox = "success", .event = "delivered"},
};

void listener_of(const struct config *config, size_t at, struct listener *l)
{
    const struct config_address *a = &config->listen.list[at];
    const char *scheme = config->httpd.tls_certificate[0] != '\0' ? "https" : "http";
    const char *host = a->host;

    *l = (struct listener){0};
    if (config_address_is_unix(a)) {
        l->socket = a->host;
        (void)snprintf(l->url, sizeof l->url, "%s://localhost", scheme);
        return;
    }
    if (strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0)
        host = "127.0.0.1";
    else if (strcmp(host, "::") == 0)
        host = "::1";
    (void)snprintf(l->url, sizeof l->url, strchr(host, ':') != NULL ? "%s://[%s]:%s" : "%s://%s:%s",
                   scheme, host, a->port);
}

/* ---- Postern's API ---- */

static bool always_alive(void *arg)
{
    (void)arg;
    return true;
}

/* path: behind "/v3/DOMAIN". */
static int call(struct live *l, const char *method, const char *path, const struct buf *body,
                struct fetch_answer *answer, struct err *err)
{
    struct buf url = {0};

    buf_printf(&url, "%s/v3/%s%s", l->at.url, l->domain->name, path);
    int failed =
        fetch(l->fetch,
              &(struct fetch_request){.method = method,
                                      .url = buf_cstr(&url),
                                      .headers = {buf_cstr(&l->authorization)},
                                      .body = body != NULL ? buf_slice(body) : slice_none(),
                                      .timeout_ms = HTTP_TIMEOUT_MS,
                                      .no_proxy = true,
                                      .any_certificate = true,
                                      .unix_socket = l->at.socket},
              answer, err);
    buf_fini(&url);
    return failed;
}

static void put_field(struct buf *form, const char *name, struct slice value)
{
    if (form->len > 0)
        buf_add_byte(form, '&');
    text_percent_encode(form, slice_str(name), "");
    buf_add_byte(form, '=');
    text_percent_encode(form, value, "");
}

static const char *sender_name(const struct config_domain *d, struct buf *scratch)
{
    for (size_t i = 0; i < d->allowed_from.count; i++)
        if (strchr(d->allowed_from.texts[i], '@') != NULL)
            return d->allowed_from.texts[i];
    buf_printf(scratch, "postern-doctor@%s", d->name);
    return buf_cstr(scratch);
}

static void put_form(struct buf *form, const struct live *l, const struct mail *m)
{
    struct buf sender = {0}, variables = {0};

    put_field(form, "from", slice_str(sender_name(l->domain, &sender)));
    put_field(form, "to", slice_str(m->address));
    put_field(form, "subject", SLICE("postern doctor"));
    put_field(form, "text", SLICE("A mail of postern doctor to SES's mailbox simulator.\n"));
    put_field(form, "o:tag", SLICE("postern-doctor"));
    if (m->is_newsletter) {
        buf_printf(&variables, "{\"%s\":{}}", m->address);
        put_field(form, "recipient-variables", buf_slice(&variables));
    }
    buf_fini(&sender);
    buf_fini(&variables);
}

static void give_up(struct mail *m, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void give_up(struct mail *m, const char *format, ...)
{
    char text[1024];
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    buf_reset(&m->words);
    buf_add_str(&m->words, text);
    m->is_over = true;
}

static void post(struct live *l, struct mail *m)
{
    struct fetch_answer answer;
    struct buf form = {0};
    struct err err;

    put_form(&form, l, m);
    m->started_ms = clock_mono_ms();
    if (call(l, "POST", "/messages", &form, &answer, &err) != 0) {
        give_up(m, "Postern's listener does not take it: %s", err.text);
    } else {
        cJSON *tree = json_parse(buf_slice(&answer.body));
        struct slice id = json_get_text(tree, "id");
        if (answer.status == 200 && id.len > 2) {
            buf_add_slice(&m->id, slice_of(id.ptr + 1, id.len - 2)); /* <…> */
            m->taken_ms = clock_mono_ms();
            m->place = TAKEN;
        } else {
            give_up(m, "Postern's listener refuses it with %d: %s", answer.status,
                    buf_cstr(&answer.body));
        }
        json_free(tree);
        fetch_answer_fini(&answer);
    }
    buf_fini(&form);
}

/* ---- following ---- */

/* What the store knows: sent or not, and whether its event has come. */
static void look_at_books(struct live *l, struct mail *m)
{
    struct books b;
    struct err err;
    struct store_txn *t = store_begin_read(l->p->store, &err);

    if (t == NULL)
        return;
    uint64_t batch = batch_by_message_id(t, slice_str(l->domain->name), buf_slice(&m->id));
    bool known = batch != 0 && batch_books(t, batch, &b);
    store_end_read(t);
    if (!known)
        return;
    if (m->place == TAKEN && b.state[STATE_SENT] > 0) {
        m->place = SENT;
        m->sent_ms = clock_mono_ms();
    }
    if (m->place == SENT && b.delivered + b.failed_permanent + b.complained > 0 &&
        (strcmp(m->event, "complained") != 0 || b.complained > 0))
        m->place = CAME_BACK;
}

static bool is_outcome(const cJSON *event, const struct mail *m)
{
    return slice_eq(json_get_text(event, "event"), slice_str(m->event));
}

static void look_at_events(struct live *l, struct mail *m)
{
    struct fetch_answer answer;
    struct buf path = {0};
    struct err err;

    buf_add_str(&path, "/events?limit=20&recipient=");
    text_percent_encode(&path, slice_str(m->address), "");
    if (call(l, "GET", buf_cstr(&path), NULL, &answer, &err) == 0) {
        cJSON *tree = json_parse(buf_slice(&answer.body));
        for (const cJSON *e = json_first(json_get(tree, "items")); e != NULL; e = e->next) {
            struct slice words = json_get_text(json_get(e, "delivery-status"), "message");
            if (is_outcome(e, m) && m->place >= SENT) {
                m->place = VISIBLE;
                m->visible_ms = clock_mono_ms();
                m->is_over = true;
            } else if (slice_eq(json_get_text(e, "event"), SLICE("failed")) &&
                       slice_eq(json_get_text(e, "severity"), SLICE("permanent"))) {
                give_up(m,
                        m->place < SENT ? "SES does not take it: %.*s"
                                        : "its event is another one than the simulator "
                                          "causes: failed, %.*s",
                        SLICE_ARGS(words));
            }
        }
        json_free(tree);
        fetch_answer_fini(&answer);
    }
    buf_fini(&path);
}

static bool look(struct live *l)
{
    bool all_over = true;

    for (size_t i = 0; i < LIVE_MAILS; i++) {
        struct mail *m = &l->mails[i];
        if (m->is_over)
            continue;
        look_at_books(l, m);
        look_at_events(l, m);
        all_over = all_over && m->is_over;
    }
    return all_over;
}

/* ---- the verdict ---- */

/* The events that are in a queue and were not taken out of it. */
static uint64_t waiting(struct live *l, const char **name)
{
    uint64_t n = 0;

    for (size_t i = 0; i < l->p->queue_count && l->p->session != NULL; i++) {
        struct patient_queue *q = &l->p->queues[i];
        uint64_t its = 0;
        patient_look_at_queue(l->p, q);
        (void)slice_to_u64(
            json_get_text(json_get(q->queue.tree, "Attributes"), "ApproximateNumberOfMessages"),
            &its);
        if (its > n) {
            n = its;
            *name = q->name;
        }
    }
    return n;
}

static void put_holds(struct live *l, struct buf *to)
{
    for (const cJSON *h = json_first(json_get(l->p->status, "holds")); h != NULL; h = h->next)
        buf_printf(to, ": %.*s", SLICE_ARGS(json_get_text(h, "words")));
}

static void say_stuck(struct live *l, struct mail *m)
{
    const char *suspect = l->w->suspect, *queue = "";
    struct buf more = {0};

    if (suspect != NULL)
        buf_printf(&more, ": see \"%s\"", suspect);
    switch (m->place) {
    case NOT_TAKEN:
        break;
    case TAKEN:
        put_holds(l, &more);
        give_up(m, "broken between Postern and SES: taken, and not sent within %" PRIu64 " s%s",
                l->w->patience_ms / 1000, buf_cstr(&more));
        break;
    case SENT:
        if (waiting(l, &queue) > 0)
            give_up(m,
                    "broken between the queue and Postern: sent in %" PRIu64 " ms; its event "
                    "is in %s, and nobody takes it out",
                    m->sent_ms - m->started_ms, queue);
        else
            give_up(m,
                    "broken between SES and the queue: sent in %" PRIu64 " ms, and no event "
                    "within %" PRIu64 " s%s",
                    m->sent_ms - m->started_ms, l->w->patience_ms / 1000, buf_cstr(&more));
        break;
    case CAME_BACK:
        give_up(m, "broken between the store and the events API: its event is stored, and the API "
                   "does not show it");
        break;
    case VISIBLE:
        break;
    }
    buf_fini(&more);
}

static void judge(const struct mail *m, struct finding *f)
{
    if (m->place == VISIBLE) {
        (void)finding_add(f, FINDING_OK,
                          "taken in %" PRIu64 " ms, sent in %" PRIu64 " ms; %s, visible on the "
                          "events API after %" PRIu64 ".%" PRIu64 " s",
                          m->taken_ms - m->started_ms, m->sent_ms - m->started_ms, m->event,
                          (m->visible_ms - m->started_ms) / 1000,
                          (m->visible_ms - m->started_ms) % 1000 / 100);
        return;
    }
    (void)finding_add(f, FINDING_FAIL, "%.*s", SLICE_ARGS(buf_slice(&m->words)));
}

/* ---- life ---- */

/* A key that stands in the file as it is. NULL = digests alone. */
static const char *plain_key(const struct live *l)
{
    const struct config_list *lists[] = {&l->domain->api_keys, &l->p->config->api_keys};

    if (l->w->api_key != NULL)
        return l->w->api_key;
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < lists[i]->count; k++)
            if (strncmp(lists[i]->texts[k], "sha256:", 7) != 0)
                return lists[i]->texts[k];
    return NULL;
}

static void put_authorization(struct live *l, const char *key)
{
    struct buf plain = {0};

    (void)buf_reserve(&plain, strlen(key) + 8);
    (void)buf_reserve(&l->authorization, 2 * strlen(key) + 64);
    buf_printf(&plain, "api:%s", key);
    buf_add_str(&l->authorization, "Authorization: Basic ");
    text_base64(&l->authorization, buf_slice(&plain));
    explicit_bzero(plain.ptr, plain.cap);
    buf_fini(&plain);
}

static void prepare(struct live *l)
{
    for (size_t i = 0; i < LIVE_MAILS; i++) {
        struct mail *m = &l->mails[i];
        uint8_t random[LABEL_BYTES];
        struct buf label = {0};
        *m = kinds[i];
        digest_random(random, sizeof random);
        text_hex(&label, slice_of(random, sizeof random));
        (void)snprintf(m->address, sizeof m->address, "%s+%s@%s", m->mailbox, buf_cstr(&label),
                       SIMULATOR);
        buf_fini(&label);
    }
}

/* What bounced or complained is suppressed now: nobody else writes to these addresses. */
static void clean_up(struct live *l)
{
    static const char *const lists[] = {"bounces", "complaints"};

    for (size_t i = 0; i < LIVE_MAILS; i++)
        for (size_t k = 0; k < 2 && l->mails[i].place >= SENT; k++) {
            struct fetch_answer answer;
            struct buf path = {0};
            struct err err;
            buf_printf(&path, "/%s/", lists[k]);
            text_percent_encode(&path, slice_str(l->mails[i].address), "");
            if (call(l, "DELETE", buf_cstr(&path), NULL, &answer, &err) == 0)
                fetch_answer_fini(&answer);
            buf_fini(&path);
        }
}

static void follow(struct live *l)
{
    for (size_t i = 0; i < LIVE_MAILS; i++)
        post(l, &l->mails[i]);
    uint64_t began_ms = clock_mono_ms(), waited_ms = 0;
    while (!look(l) && waited_ms < l->w->patience_ms) {
        if (l->w->on_waiting != NULL)
            l->w->on_waiting(l->w->waiting_arg, waited_ms, l->w->patience_ms);
        (void)fetch_pause(l->fetch, LOOK_MS);
        waited_ms = clock_mono_ms() - began_ms;
    }
    for (size_t i = 0; i < LIVE_MAILS; i++)
        if (!l->mails[i].is_over)
            say_stuck(l, &l->mails[i]);
    clean_up(l);
}

void live_run(struct patient *p, const struct config_domain *domain,
              const struct live_wishes *wishes,
              void (*on_mail)(void *arg, const char *name, const struct finding *f), void *arg)
{
    struct live l = {.p = p, .domain = domain, .w = wishes};
    const char *key = plain_key(&l);
    struct finding why = {0};

    if (p->status == NULL || p->store == NULL) {
        (void)finding_add(&why, FINDING_FAIL, "Postern does not run: nobody takes a mail");
        finding_mend(&why, "postern -c %s", p->config->path);
    } else if (key == NULL) {
        (void)finding_add(&why, FINDING_FAIL,
                          "%s holds digests of keys alone, and mail is taken "
                          "for a key",
                          p->config->path);
        finding_mend(&why, "POSTERN_API_KEY=key-… postern doctor --live");
    }
    if (why.state == FINDING_FAIL) {
        on_mail(arg, domain->name, &why);
        finding_fini(&why);
        return;
    }
    listener_of(p->config, 0, &l.at);
    l.fetch = fetch_create(always_alive, NULL);
    put_authorization(&l, key);
    prepare(&l);
    follow(&l);
    for (size_t i = 0; i < LIVE_MAILS; i++) {
        struct finding f = {0};
        struct buf name = {0};
        buf_printf(&name, "%s: %s", domain->name, l.mails[i].name);
        judge(&l.mails[i], &f);
        on_mail(arg, buf_cstr(&name), &f);
        finding_fini(&f);
        buf_fini(&name);
        buf_fini(&l.mails[i].id);
        buf_fini(&l.mails[i].words);
    }
    explicit_bzero(l.authorization.ptr, l.authorization.cap);
    buf_fini(&l.authorization);
    fetch_destroy(l.fetch);
}
