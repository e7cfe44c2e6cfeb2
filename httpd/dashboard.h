/*
 * httpd/dashboard.h - the dashboard: pages for people, and what they ask for.
 *
 * SHAPE   Below dashboard.path: files built in (httpd/web_files.h), which hold no data; api/…, JSON,
 *         for who is signed in; api/v3/…, the Mailgun API by session instead of key; api/live, an
 *         answer that goes on (server-sent events).
 *         Sign-in: a link from the command line holds a ticket, used once for a session, whose secret
 *         is in a cookie (httpd/cookie.h) and whose digest is in the store (store/logins.h). So every
 *         httpd knows it, and no death of one loses it.
 *         What changes anything needs the operator's role, an X-CSRF-Token, and a browser that does
 *         not say the request comes from another site; the log tells who asked, for what, from where,
 *         and what came of it.
 * SOURCE  OWASP cheat sheets on session management and CSRF; Content Security Policy Level 3.
 */
#ifndef HTTPD_DASHBOARD_H
#define HTTPD_DASHBOARD_H

#include "httpd/cookie.h"
#include "httpd/service.h"
#include "store/logins.h"

/* Who has signed in; in the exchange's arena. */
struct person {
    enum login_role role;
    struct slice name;
    char id[LOGIN_ID_DIGITS + 1]; /* of the session, for the log: of its digest */
    uint8_t secret[COOKIE_SECRET_BYTES];
    uint8_t digest[LOGIN_DIGEST_BYTES];
    uint64_t since_wall_ms, until_wall_ms;
};

/* False: the path is none of the dashboard's, and nothing has happened. Else the exchange is ended, now
 * or later. */
bool dashboard_serve(struct exchange *x, struct slice path);

/* What stands behind "api/", cut at '/'. */
enum { DASHBOARD_PARTS_MAX = 3, DASHBOARD_PART_BYTES_MAX = 512 };
struct dashboard_path {
    struct slice part[DASHBOARD_PARTS_MAX]; /* decoded */
    size_t count;
};

/* Both: false: nothing of theirs is asked for. Else as above. */
bool dashboard_read(struct exchange *x, const struct dashboard_path *path);
bool dashboard_act(struct exchange *x, const struct dashboard_path *path);

/* dashboard_read()'s: a mail as one recipient gets it (httpd/dashboard_mail.c). */
void dashboard_html_get(struct exchange *x, struct slice batch);
void dashboard_mail_get(struct exchange *x, struct slice batch);

/* Who is signed in, and ending that (httpd/dashboard_people.c): operators alone. */
void dashboard_sessions_get(struct exchange *x);
/* which: a row's id, or "others": all but the caller's own. */
void dashboard_sessions_end(struct exchange *x, struct slice which);
/* The session of that digest is being used: the writer is told where that is news. Nobody waits for it;
 * with a full ring a later request tells. */
void dashboard_session_seen(struct exchange *x, const uint8_t digest[LOGIN_DIGEST_BYTES],
                            const struct session *session);

/* Where events are told, how that goes, and what was given up (httpd/dashboard_webhooks.c). */
void dashboard_webhooks_get(struct exchange *x);
void dashboard_failures_get(struct exchange *x, struct slice target);
/* which: a failure's id, or "all", with ?target= of one of them. */
void dashboard_webhooks_act(struct exchange *x, uint32_t verb, struct slice which);

/* A parameter of the query, decoded; empty = absent. */
struct slice dashboard_query(struct exchange *x, const char *name);
/* A batch's id: 16 hexadecimal digits; 0 = it is none. */
uint64_t dashboard_batch_id(struct slice text);

/* False: the exchange has been answered: it may not change anything. */
bool dashboard_may_act(struct exchange *x);

/* Pushes it to the writer, under an id of the inbox's. */
enum ring_result dashboard_push(struct service *s, uint64_t id, const struct record_control *r);
/* Hands a CONTROL to the writer; visit is called with its answer, or with NULL when none came in time.
 * The exchange has been answered when this says false. */
bool dashboard_ask(struct exchange *x, const struct record_control *r,
                   void (*visit)(struct exchange *x, const struct record_answer *answer));
/* Such a visit: {done, count, message}. */
void dashboard_on_done(struct exchange *x, const struct record_answer *answer);
/* The same of many ids, id_bytes each, in several commits if need be; *ids is emptied. What has been done
 * when something fails stays done. */
void dashboard_ask_all(struct exchange *x, uint32_t verb, struct buf *ids, size_t id_bytes);
/* As many as one request asks for: those that are left, the next one. */
bool dashboard_ids_are_enough(const struct buf *ids);
/* A transaction, or NULL: the exchange has been answered. */
struct store_txn *dashboard_begin_read(struct exchange *x);

/* Answers that go on. */
struct live;
struct live *live_create(struct service *s); /* NULL: no event */
void live_destroy(struct live *l);           /* NULL is fine; before the server is closed */
void live_leave(struct live *l);             /* the process is leaving: all of them end */
void live_handle(struct exchange *x);        /* ends the exchange, much later */

#endif
