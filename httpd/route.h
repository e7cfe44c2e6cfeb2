/*
 * httpd/route.h - what a request's path asks for.
 *
 * SHAPE   The raw path is cut at '/' first, then each segment is percent-decoded. One trailing
 *         slash counts as absent. /v2 and /v4 are other names of /v3.
 * MEMORY  Decoded texts live in the arena, raw ones borrow from the path.
 * SOURCE  spec/mailgun.md §1.1.
 */
#ifndef HTTPD_ROUTE_H
#define HTTPD_ROUTE_H

#include "base/arena.h"
#include "shm/record.h"

enum route_kind {
    ROUTE_NOT_FOUND,
    ROUTE_BAD_ESCAPE, /* a broken %xx */
    ROUTE_HEALTH,
    ROUTE_METRICS,
    ROUTE_MESSAGES,
    ROUTE_MESSAGES_MIME,
    ROUTE_EVENTS,
    ROUTE_ENVELOPES,           /* what is queued */
    ROUTE_SUPPRESSION,         /* one address of a list */
    ROUTE_SUPPRESSIONS,        /* a list */
    ROUTE_SUPPRESSIONS_IMPORT, /* a list, as a file */
    ROUTE_LOGS,                /* the Logs API, of all domains */
    ROUTE_ANALYTICS_METRICS,   /* the Metrics API, of all domains */
    ROUTE_STATS,               /* of a domain, or of all */
    ROUTE_TAGS,
    ROUTE_TAG, /* leaf, or in the query */
    ROUTE_TAG_STATS,
    ROUTE_WEBHOOKS,       /* of a domain; leaf: a kind, or empty for all of them */
    ROUTE_STORED_MESSAGE, /* leaf: its storage key */
    ROUTE_DASHBOARD,      /* httpd/dashboard.h has its own paths */
    ROUTE_DOMAINS,        /* the domains themselves, or one, or something about one: leaf */
    ROUTE_SEND,           /* one transactional mail, in JSON */
    ROUTE_USAGE,          /* leaf: what is asked about newsletters */
    ROUTE_HEALTHCHECK,
    ROUTE_TEMPLATES,
    ROUTE_TEMPLATE,          /* leaf: its name */
    ROUTE_TEMPLATE_VERSIONS, /* leaf */
    ROUTE_TEMPLATE_VERSION,  /* leaf, tag */
    ROUTE_TEMPLATE_COPY,     /* leaf, tag to new_tag */
};

struct route {
    enum route_kind kind;
    const char *allow;         /* methods, as an Allow header names them */
    bool json_unauthorized;    /* a 401 here has a JSON body */
    struct slice version;      /* "v3", as written */
    struct slice raw_domain;   /* as written */
    struct slice domain;       /* decoded */
    struct slice resource;     /* as written: "bounces" */
    struct slice leaf;         /* decoded: page token (maybe empty), address, … */
    struct slice tag, new_tag; /* decoded: versions of a template */
    enum suppression list;
    bool ends_in_slash;
};

void route_parse(struct slice path, struct arena *a, struct route *route);
const char *route_name(const struct route *route); /* for the log */
/* Is the method ("GET") among those of route->allow? */
bool route_allows(const struct route *route, const char *method);

/* The next name=value of a query, both decoded with '+' as blank; false at the end. A pair with a
 * broken escape is passed over. */
bool query_next(struct slice *query, struct arena *a, struct slice *name, struct slice *value);
/* Empty, or what mailgun.js writes for an option that is not set: "undefined", "null". */
bool query_is_absent(struct slice value);
/* A page's size, at most `most`; false: no positive number. */
bool query_limit(struct slice value, uint32_t most, uint32_t *limit);

#endif
