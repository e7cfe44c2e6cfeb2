/*
 * httpd/logs_request.h - what the body of POST /v1/analytics/logs asks for; without I/O.
 *
 * MEMORY  Everything given out lives in the arena; domains borrow from the caller's list.
 * UNITS   µs since 1970 UTC.
 * SOURCE  spec/mailgun.md §4.9.
 */
#ifndef HTTPD_LOGS_REQUEST_H
#define HTTPD_LOGS_REQUEST_H

#include "httpd/events.h"

enum { LOGS_LIMIT_MAX = 100 };

struct logs_request {
    struct events_request events;
    struct slice *domains; /* the caller's: those that the key opens; here those meant are kept */
    size_t domain_count;
    bool wants_total;
    uint64_t start_us, end_us;
};

/* {.domains, .domain_count} before. False: *why are words for a 400. */
bool logs_request_read(struct logs_request *request, struct slice body, uint64_t now_us,
                       uint64_t retention_us, struct arena *a, struct slice *why);

#endif
