#include "httpd/route.h"

#include "base/digest.h"

enum { SEGMENTS_MAX = 8 };

static const struct list {
    const char *name;
    enum suppression list;
} lists[] = {
    {"bounces", SUPPRESS_BOUNCE},           {"complaints", SUPPRESS_COMPLAINT},
    {"unsubscribes", SUPPRESS_UNSUBSCRIBE}, {"whitelists", SUPPRESS_ALLOW},
    {"allowlists", SUPPRESS_ALLOW}, /* Mailgun's newer name */
};

static bool decode(struct slice raw, bool plus_is_space, struct arena *a, struct slice *decoded)
{
    struct buf b = {0};
    bool fine = text_percent_decode(&b, raw, plus_is_space);

    *decoded = fine ? arena_dup(a, buf_slice(&b)) : (struct slice){0};
    buf_fini(&b);
    return fine;
}

/* How many segments; more than SEGMENTS_MAX is SEGMENTS_MAX + 1. 0 when one is empty. */
static size_t cut_path(struct slice path, struct slice segments[SEGMENTS_MAX])
{
    size_t count = 0;

    if (path.len == 0 || path.ptr[0] != '/')
        return 0;
    path = slice_from(path, 1);
    if (path.len > 0 && path.ptr[path.len - 1] == '/')
        path.len--;
    for (bool more = true; more; count++) {
        struct slice head, tail;

        if (count == SEGMENTS_MAX)
            return SEGMENTS_MAX + 1;
        more = slice_cut(path, '/', &head, &tail);
        if (slice_is_empty(head))
            return 0;
        segments[count] = head;
        path = tail;
    }
    return count;
}

static bool is_version(struct slice s)
{
    return slice_eq(s, SLICE("v2")) || slice_eq(s, SLICE("v3")) || slice_eq(s, SLICE("v4"));
}

static void route_list(struct route *r, bool has_leaf, struct slice leaf)
{
    if (!has_leaf) {
        r->kind = ROUTE_SUPPRESSIONS;
        r->allow = "GET, POST, DELETE";
    } else if (slice_eq(leaf, SLICE("import"))) {
        r->kind = ROUTE_SUPPRESSIONS_IMPORT;
        r->allow = "POST";
    } else {
        r->kind = ROUTE_SUPPRESSION;
        r->allow = "GET, DELETE";
        r->leaf = leaf;
    }
}

/* The resource of a domain: what stands behind /v3/{domain}. */
static void route_resource(struct route *r, const struct slice *segments, size_t count,
                           struct slice leaf)
{
    bool is_mime = slice_eq(segments[0], SLICE("messages.mime"));

    if (count == 1 && (is_mime || slice_eq(segments[0], SLICE("messages")))) {
        r->kind = is_mime ? ROUTE_MESSAGES_MIME : ROUTE_MESSAGES;
        r->allow = "POST";
        return;
    }
    if (count == 1 && slice_eq(segments[0], SLICE("envelopes"))) {
        r->kind = ROUTE_ENVELOPES;
        r->allow = "DELETE";
        return;
    }
    if (slice_eq(segments[0], SLICE("events"))) {
        r->kind = ROUTE_EVENTS;
        r->allow = "GET";
        r->leaf = leaf;
        return;
    }
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (slice_eq(segments[0], slice_str(lists[i].name))) {
            route_list(r, count == 2, leaf);
            r->list = lists[i].list;
            return;
        }
}

/* stats/total, tags, tags/TAG, tags/TAG/stats, and as Mailgun's newer reference spells it: tag,
 * tag/stats, with the tag in the query. */
static void route_statistics(struct route *r, const struct slice *segments, size_t count,
                             struct slice leaf)
{
    bool tags = slice_eq(segments[0], SLICE("tags")), tag = slice_eq(segments[0], SLICE("tag"));
    bool last_is_stats = slice_eq(segments[count - 1], SLICE("stats"));

    if (count == 2 && slice_eq(segments[0], SLICE("stats")) && slice_eq(leaf, SLICE("total")))
        r->kind = ROUTE_STATS;
    else if (tags && count == 1)
        r->kind = ROUTE_TAGS;
    else if ((tags && count == 3 && last_is_stats) || (tag && count == 2 && last_is_stats))
        r->kind = ROUTE_TAG_STATS;
    else if ((tags && count == 2) || (tag && count == 1))
        r->kind = ROUTE_TAG;
    else
        return;
    r->leaf = tags ? leaf : slice_none();
    r->allow = r->kind == ROUTE_TAG ? "GET, PUT, DELETE" : "GET";
}

/* templates, templates/NAME, templates/NAME/versions, …/versions/TAG, …/versions/TAG/copy/NEW. */
static void route_templates(struct route *r, const struct slice *segments, size_t count,
                            struct arena *a)
{
    static const struct {
        enum route_kind kind;
        const char *allow;
    } depths[] = {{ROUTE_TEMPLATES, "GET, POST, DELETE"},
                  {ROUTE_TEMPLATE, "GET, PUT, DELETE"},
                  {ROUTE_TEMPLATE_VERSIONS, "GET, POST"},
                  {ROUTE_TEMPLATE_VERSION, "GET, PUT, DELETE"},
                  {ROUTE_NOT_FOUND, ""},
                  {ROUTE_TEMPLATE_COPY, "PUT"}};

    if (!slice_eq(segments[0], SLICE("templates")) ||
        (count > 2 && !slice_eq(segments[2], SLICE("versions"))) ||
        (count > 4 && !slice_eq(segments[4], SLICE("copy"))))
        return;
    r->kind = depths[count - 1].kind;
    r->allow = depths[count - 1].allow;
    if ((count > 1 && !decode(segments[1], false, a, &r->leaf)) ||
        (count > 3 && !decode(segments[3], false, a, &r->tag)) ||
        (count > 5 && !decode(segments[5], false, a, &r->new_tag)))
        r->kind = ROUTE_BAD_ESCAPE;
}

static void route_domains(struct route *r, const struct slice *segments, size_t count,
                          struct arena *a)
{
    bool about_webhooks = count > 3 && slice_eq(segments[3], SLICE("webhooks"));
    bool about_message = count == 5 && slice_eq(segments[3], SLICE("messages"));

    if (about_message) {
        r->kind = ROUTE_STORED_MESSAGE;
        r->allow = "GET, POST";
        if (!decode(segments[2], false, a, &r->domain) || !decode(segments[4], false, a, &r->leaf))
            r->kind = ROUTE_BAD_ESCAPE;
        return;
    }
    if (count > (about_webhooks ? 5 : 4))
        return;
    if (about_webhooks) {
        r->kind = ROUTE_WEBHOOKS;
        r->version = segments[0];
        r->allow = count == 5                           ? "GET, PUT, DELETE"
                   : slice_eq(segments[0], SLICE("v4")) ? "GET, POST, PUT, DELETE"
                                                        : "GET, POST";
        if (!decode(segments[2], false, a, &r->domain) ||
            (count > 4 && !decode(segments[4], false, a, &r->leaf)))
            r->kind = ROUTE_BAD_ESCAPE;
        return;
    }
    if ((count > 2 && !decode(segments[2], false, a, &r->domain)) ||
        (count > 3 && !decode(segments[3], false, a, &r->leaf))) {
        r->kind = ROUTE_BAD_ESCAPE;
        return;
    }
    r->kind = ROUTE_DOMAINS;
    r->allow = "GET, POST, PUT, DELETE";
}

/* What an older proxy in front of SES has served, beside Mailgun's. */
static bool route_of_proxy(struct route *r, const struct slice *segments, size_t count,
                           struct arena *a)
{
    if (count == 1 && slice_eq(segments[0], SLICE("healthcheck"))) {
        r->kind = ROUTE_HEALTHCHECK;
        r->allow = "GET, HEAD";
    } else if (count == 2 && slice_eq(segments[0], SLICE("v1")) &&
               slice_eq(segments[1], SLICE("send"))) {
        r->kind = ROUTE_SEND;
        r->allow = "POST";
    } else if (count == 2 && slice_eq(segments[0], SLICE("stats"))) {
        r->kind = decode(segments[1], false, a, &r->leaf) ? ROUTE_USAGE : ROUTE_BAD_ESCAPE;
        r->allow = "POST";
    }
    return r->kind != ROUTE_NOT_FOUND;
}

void route_parse(struct slice path, struct arena *a, struct route *route)
{
    struct slice segments[SEGMENTS_MAX] = {0};
    size_t count = cut_path(path, segments);
    struct slice leaf = {0};

    *route = (struct route){.kind = ROUTE_NOT_FOUND, .allow = ""};
    if (count == 1 && slice_eq(segments[0], SLICE("health"))) {
        route->kind = ROUTE_HEALTH;
        route->allow = "GET, HEAD";
        return;
    }
    if (count == 1 && slice_eq(segments[0], SLICE("metrics"))) {
        route->kind = ROUTE_METRICS;
        route->allow = "GET, HEAD";
        return;
    }
    if (route_of_proxy(route, segments, count, a))
        return;
    if (count == 3 && slice_eq(segments[0], SLICE("v1")) &&
        slice_eq(segments[1], SLICE("analytics")) &&
        (slice_eq(segments[2], SLICE("logs")) || slice_eq(segments[2], SLICE("metrics")))) {
        route->kind = slice_eq(segments[2], SLICE("logs")) ? ROUTE_LOGS : ROUTE_ANALYTICS_METRICS;
        route->allow = "POST";
        route->json_unauthorized = true;
        return;
    }
    if (count < 2 || !is_version(segments[0]))
        return;
    if (count == 3 && slice_eq(segments[1], SLICE("stats")) &&
        slice_eq(segments[2], SLICE("total"))) {
        route->kind = ROUTE_STATS;
        route->allow = "GET";
        return;
    }
    if ((slice_eq(segments[1], SLICE("domains")) && !slice_eq(segments[0], SLICE("v2"))) ||
        (slice_eq(segments[1], SLICE("address")) && slice_eq(segments[0], SLICE("v4")))) {
        route->json_unauthorized = true;
        if (slice_eq(segments[1], SLICE("domains")))
            route_domains(route, segments, count, a);
        return;
    }
    if (count < 3 || count > SEGMENTS_MAX)
        return;
    route->version = segments[0];
    route->raw_domain = segments[1];
    route->resource = segments[2];
    route->ends_in_slash = path.ptr[path.len - 1] == '/';
    if (!decode(segments[1], false, a, &route->domain) ||
        (count >= 4 && !decode(segments[3], false, a, &leaf))) {
        route->kind = ROUTE_BAD_ESCAPE;
        return;
    }
    route_templates(route, segments + 2, count - 2, a);
    if (route->kind == ROUTE_NOT_FOUND)
        route_statistics(route, segments + 2, count - 2, leaf);
    if (route->kind == ROUTE_NOT_FOUND && count <= 4)
        route_resource(route, segments + 2, count - 2, leaf);
}

bool route_allows(const struct route *route, const char *method)
{
    struct slice rest = slice_str(route->allow), one;
    bool more = true;

    while (more) {
        more = slice_cut(rest, ',', &one, &rest);
        if (slice_eq(slice_trim(one), slice_str(method)))
            return true;
    }
    return false;
}

const char *route_name(const struct route *route)
{
    switch (route->kind) {
    case ROUTE_NOT_FOUND:
    case ROUTE_BAD_ESCAPE:
        return "(unknown)";
    case ROUTE_HEALTH:
        return "health";
    case ROUTE_METRICS:
        return "metrics";
    case ROUTE_MESSAGES:
        return "messages";
    case ROUTE_MESSAGES_MIME:
        return "messages.mime";
    case ROUTE_EVENTS:
        return "events";
    case ROUTE_ENVELOPES:
        return "envelopes";
    case ROUTE_SUPPRESSION:
        return "suppression";
    case ROUTE_SUPPRESSIONS:
        return "suppressions";
    case ROUTE_SUPPRESSIONS_IMPORT:
        return "suppressions import";
    case ROUTE_WEBHOOKS:
        return "webhooks";
    case ROUTE_STORED_MESSAGE:
        return "stored message";
    case ROUTE_TEMPLATES:
    case ROUTE_TEMPLATE:
    case ROUTE_TEMPLATE_VERSIONS:
    case ROUTE_TEMPLATE_VERSION:
    case ROUTE_TEMPLATE_COPY:
        return "templates";
    case ROUTE_DOMAINS:
        return "domains";
    case ROUTE_DASHBOARD:
        return "dashboard";
    case ROUTE_LOGS:
        return "logs";
    case ROUTE_ANALYTICS_METRICS:
        return "analytics metrics";
    case ROUTE_STATS:
        return "stats";
    case ROUTE_TAGS:
    case ROUTE_TAG:
    case ROUTE_TAG_STATS:
        return "tags";
    case ROUTE_SEND:
        return "send";
    case ROUTE_USAGE:
        return "newsletter usage";
    case ROUTE_HEALTHCHECK:
        return "healthcheck";
    }
    return "(unknown)";
}

bool query_next(struct slice *query, struct arena *a, struct slice *name, struct slice *value)
{
    while (!slice_is_empty(*query)) {
        struct slice pair, rest, raw_name, raw_value;

        slice_cut(*query, '&', &pair, &rest);
        *query = rest;
        slice_cut(pair, '=', &raw_name, &raw_value);
        if (!slice_is_empty(raw_name) && decode(raw_name, true, a, name) &&
            decode(raw_value, true, a, value))
            return true;
    }
    return false;
}

bool query_is_absent(struct slice value)
{
    return slice_is_empty(value) || slice_eq(value, SLICE("undefined")) ||
           slice_eq(value, SLICE("null"));
}

bool query_limit(struct slice value, uint32_t most, uint32_t *limit)
{
    uint64_t number;

    if (!slice_to_u64(value, &number) || number == 0)
        return false;
    *limit = number > most ? most : (uint32_t)number;
    return true;
}
