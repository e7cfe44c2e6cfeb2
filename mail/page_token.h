/*
 * mail/page_token.h - a page of events as the last segment of a URL.
 *
 * SHAPE   base64url without padding over msgpack and a 6-byte checksum (SHA-256). Self-contained:
 *         range, direction, filter, limit, position; so it stays valid over restarts, and on
 *         another machine. It grants nothing: the caller's key is checked against the domain all
 *         the same.
 * ERRORS  page_token_read() answers false for anything damaged, or of another domain.
 */
#ifndef MAIL_PAGE_TOKEN_H
#define MAIL_PAGE_TOKEN_H

#include "mail/event.h"

enum { PAGE_LIMIT_MAX = 300 }; /* events on a page, spec/mailgun.md §4.1 */

struct page_token {
    struct slice domain; /* lower case */
    uint64_t from_us, until_us;
    bool open_end; /* until_us grows with time: the query had no end, or one in the future */
    bool ascending;
    uint32_t limit;
    struct slice filter; /* filter_pack(); empty = none */
    bool has_position, backwards, last_page;
    uint64_t position_us;
    uint8_t position_id[EVENT_ID_BYTES];
};

void page_token_write(struct buf *to, const struct page_token *t);
bool page_token_read(struct slice text, struct slice domain, struct arena *a, struct page_token *t);

#endif
