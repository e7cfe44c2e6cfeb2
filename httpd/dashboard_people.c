/*
 * Who is signed in at the dashboard: GET api/sessions, POST api/sessions/ID/end.
 *
 * When and from where a session was used is kept with it (store/logins.h): the first request of a
 * minute, or from another address, tells the writer, and waits for nothing.
 */
#include "base/clock.h"
#include "base/json.h"
#include "httpd/dashboard.h"
#include "httpd/reply.h"

void dashboard_session_seen(struct exchange *x, const uint8_t digest[LOGIN_DIGEST_BYTES],
                            const struct session *session)
{
    struct slice from = x->client.address;

    if (session_is_news(session, from, clock_wall_ms()))
        (void)dashboard_push(
            x->service, 0, /* an answer that nobody waits for */
            &(struct record_control){.verb = CONTROL_SESSION_SEEN,
                                     .session = slice_of(digest, LOGIN_DIGEST_BYTES),
                                     .from = from});
}

struct listing {
    const struct person *person;
    struct buf body;
    bool any;
};

static bool on_listed(void *arg, const struct login *l)
{
    struct listing *list = arg;

    buf_add_str(&list->body, list->any ? ",{" : "{");
    list->any = true;
    login_put_json(&list->body, l);
    json_put_bool(&list->body, "mine",
                  memcmp(l->digest, list->person->digest, LOGIN_DIGEST_BYTES) == 0);
    buf_add_byte(&list->body, '}');
    return true;
}

void dashboard_sessions_get(struct exchange *x)
{
    struct listing list = {.person = x->person};
    struct store_txn *t;

    if (x->person->role != LOGIN_OPERATOR) {
        reply_message(x, 403, SLICE("Who is signed in is shown to operators"));
        return;
    }
    t = dashboard_begin_read(x);
    if (t == NULL)
        return;
    buf_add_str(&list.body, "{\"items\":[");
    login_each(t, clock_wall_ms(), on_listed, &list);
    store_end_read(t);
    buf_add_str(&list.body, "]}");
    reply_json(x, 200, &list.body);
}

struct choice {
    const struct person *person;
    struct slice id; /* empty = all but the person's own */
    struct buf digests;
};

static bool on_found(void *arg, const struct login *l)
{
    struct choice *c = arg;
    bool mine = memcmp(l->digest, c->person->digest, LOGIN_DIGEST_BYTES) == 0;

    if (c->id.len > 0 ? slice_eq(c->id, slice_str(l->id)) : !mine)
        buf_add(&c->digests, l->digest, LOGIN_DIGEST_BYTES);
    return true;
}

void dashboard_sessions_end(struct exchange *x, struct slice which)
{
    struct choice c = {.person = x->person,
                       .id = slice_eq(which, SLICE("others")) ? slice_none() : which};
    struct store_txn *t = dashboard_begin_read(x);

    if (t == NULL)
        return;
    login_each(t, clock_wall_ms(), on_found, &c);
    store_end_read(t);
    struct slice digests = arena_dup(&x->arena, buf_slice(&c.digests));
    buf_fini(&c.digests);
    if (digests.len == 0)
        reply_message(x, 404, SLICE("There is no such session any more"));
    else
        (void)dashboard_ask(x,
                            &(struct record_control){.verb = CONTROL_SESSIONS_END,
                                                     .ids = digests,
                                                     .who = x->person->name},
                            dashboard_on_done);
}
