/*
 * /v3/domains and /v4/domains: the configured domains that a key opens, for reading. They are made
 * in proxy.conf, so what would change them is refused.
 *
 * SOURCE  spec/mailgun.md §6.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "httpd/reply.h"
#include "mail/date.h"

enum { LIMIT_DEFAULT = 100, LIMIT_MAX = 1000, ID_BYTES = 12, US_PER_S = 1000000 };

/* When this Postern was set up: its state directory's birth. */
static uint64_t created_us(const struct exchange *x)
{
    struct statx about;
    const char *dir = x->service->me->config->state_dir;

    if (statx(AT_FDCWD, dir, 0, STATX_BTIME | STATX_CTIME, &about) != 0)
        return clock_wall_us();
    int64_t seconds =
        (about.stx_mask & STATX_BTIME) != 0 ? about.stx_btime.tv_sec : about.stx_ctime.tv_sec;
    return (uint64_t)(seconds < 1 ? 1 : seconds) * US_PER_S;
}

static void put_domain(struct buf *to, const struct exchange *x, const struct config_domain *d)
{
    uint8_t hash[SHA256_BYTES];
    struct buf date = {0}, id = {0};

    date_put_rfc1123(&date, created_us(x), "GMT");
    digest_sha256(slice_str(d->name), hash);
    text_hex(&id, slice_of(hash, ID_BYTES));
    buf_add_byte(to, '{');
    json_put_str(to, "id", buf_slice(&id));
    json_put_str(to, "name", slice_str(d->name));
    json_put_str(to, "state", SLICE("active"));
    json_put_str(to, "type",
                 x->service->me->config->sandbox.enabled ? SLICE("sandbox") : SLICE("custom"));
    json_put_str(to, "created_at", buf_slice(&date));
    json_put_bool(to, "is_disabled", false);
    json_put_bool(to, "require_tls", false);
    json_put_bool(to, "skip_verification", false);
    json_put_str(to, "smtp_login", slice_none());
    json_put_str(to, "spam_action", SLICE("disabled"));
    json_put_str(to, "web_prefix", SLICE("email"));
    json_put_str(to, "web_scheme", SLICE("https"));
    json_put_bool(to, "wildcard", false);
    json_put_bool(to, "use_automatic_sender_security", true);
    buf_add_byte(to, '}');
    buf_fini(&date);
    buf_fini(&id);
}

/* ---- the list ---- */

struct wanted {
    uint64_t limit, skip;
    struct slice search, state;
    bool by_name, down;
};

static bool read_query(struct exchange *x, struct wanted *w)
{
    struct slice query = x->query, name, value;

    *w = (struct wanted){.limit = LIMIT_DEFAULT};
    while (query_next(&query, &x->arena, &name, &value)) {
        if (query_is_absent(value))
            continue;
        if (slice_eq(name, SLICE("limit"))) {
            if (!slice_to_u64(value, &w->limit) || w->limit == 0)
                return false;
        } else if (slice_eq(name, SLICE("skip"))) {
            if (!slice_to_u64(value, &w->skip))
                return false;
        } else if (slice_eq(name, SLICE("search"))) {
            w->search = value;
        } else if (slice_eq(name, SLICE("state"))) {
            w->state = value;
        } else if (slice_eq(name, SLICE("sort"))) {
            w->by_name = slice_starts(value, SLICE("name"));
            w->down = slice_eq(value, SLICE("name:desc"));
        }
    }
    w->limit = w->limit < LIMIT_MAX ? w->limit : LIMIT_MAX;
    return true;
}

static bool is_wanted(const struct wanted *w, const struct config_domain *d)
{
    if (w->state.len > 0 && !slice_eq(w->state, SLICE("active")))
        return false;
    return w->search.len == 0 ||
           memmem(d->name, strlen(d->name), w->search.ptr, w->search.len) != NULL;
}

static int by_name(const void *a, const void *b)
{
    const struct config_domain *const *x = a, *const *y = b;

    return strcmp((*x)->name, (*y)->name);
}

static void reply_list(struct exchange *x)
{
    struct buf body = {0};
    struct wanted w;
    size_t count = 0;

    if (!read_query(x, &w)) {
        reply_message(x, 400, SLICE("'limit' and 'skip' are numbers, 'limit' a positive one"));
        return;
    }
    const struct config_domain **found =
        arena_array(&x->arena, x->domain_count + 1, sizeof(const struct config_domain *));
    for (size_t i = 0; i < x->domain_count; i++)
        if (is_wanted(&w, x->domains[i]))
            found[count++] = x->domains[i];
    if (w.by_name)
        qsort(found, count, sizeof *found, by_name);
    buf_add_byte(&body, '{');
    json_put_u64(&body, "total_count", count);
    json_put_name(&body, "items");
    buf_add_byte(&body, '[');
    for (uint64_t i = w.skip; i < count && i - w.skip < w.limit; i++) {
        if (i > w.skip)
            buf_add_byte(&body, ',');
        put_domain(&body, x, found[w.down ? count - 1 - i : i]);
    }
    buf_add_str(&body, "]}");
    reply_json(x, 200, &body);
}

/* ---- one ---- */

static void reply_domain(struct exchange *x, const char *message)
{
    struct buf body = {0};

    buf_add_byte(&body, '{');
    if (message != NULL)
        json_put_str(&body, "message", slice_str(message));
    json_put_name(&body, "domain");
    put_domain(&body, x, x->domain);
    /* What DNS must say is SES's to tell. */
    buf_add_str(&body, ",\"receiving_dns_records\":[],\"sending_dns_records\":[]}");
    reply_json(x, 200, &body);
}

static void reply_text(struct exchange *x, const char *json)
{
    struct buf body = {0};

    buf_add_str(&body, json);
    reply_json(x, 200, &body);
}

/* Opens and clicks are followed when a message asks for it (o:tracking). */
static const char tracking[] =
    "{\"tracking\":{\"open\":{\"active\":false,\"place_at_the_top\":false},\"click\":{\"active\":"
    "false},\"unsubscribe\":{\"active\":false,\"html_footer\":\"\",\"text_footer\":\"\"},"
    "\"web_scheme\":\"https\"}}";

void domains_handle(struct exchange *x)
{
    enum evhttp_cmd_type method = evhttp_request_get_command(x->req);
    struct slice about = x->route.leaf;

    if (method == EVHTTP_REQ_PUT && x->domain != NULL && slice_eq(about, SLICE("verify")))
        reply_domain(x, "Domain DNS records have been updated");
    else if (method != EVHTTP_REQ_GET)
        reply_message(x, 403, SLICE("Domains are made and changed in proxy.conf"));
    else if (x->domain == NULL)
        reply_list(x);
    else if (about.len == 0)
        reply_domain(x, NULL);
    else if (slice_eq(about, SLICE("tracking")))
        reply_text(x, tracking);
    else if (slice_eq(about, SLICE("connection")))
        reply_text(x, "{\"require_tls\":false,\"skip_verification\":false}");
    else if (slice_eq(about, SLICE("sending_queues")))
        sending_queues_handle(x);
    else
        reply_message(x, 404, SLICE("Not Found"));
}
