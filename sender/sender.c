/*
 * One process, one thread, one event loop. It wakes for these reasons, one callback each:
 *
 *   on_doorbell   the writer has pushed a lease      a hint: may be late, lost or spurious
 *   on_tick       CHILD_TICK_MS have gone by         the guarantee behind that hint
 *   on_master     the control socket is at its end   the master is gone: leave at once
 *   on_term       SIGTERM                            take no more, finish, then leave
 *   (calls to SES that end, and the outbox's own timer: sender/outbox.c)
 *
 * CRASH  The writer committed each lease before it pushed it, and settles what we held when we die.
 * A lease left in the ring by a predecessor names the predecessor's generation and is dropped, for
 * the writer may have granted its recipients again: obeyed, it would be somebody's mail twice.
 */
#include "sender/sender.h"

#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <sys/socket.h>

#include "aws/http.h"
#include "base/log.h"
#include "sender/lifter.h"
#include "sender/outbox.h"
#include "sender/rate.h"

enum { BURST = 16 }; /* leases taken in one turn of the loop */

struct sender {
    const struct child *me;
    struct event_base *base;
    struct event *doorbell, *tick, *master, *term;
    struct aws_client *client;
    struct outbox *outbox;
    struct rate *rate;
    struct lifter *lifter;   /* sender 0 only */
    bool leaving;            /* SIGTERM seen: no more leases */
    enum child_exit verdict; /* what sender_main() will return */
};

static void sender_stop(struct sender *s, enum child_exit verdict)
{
    s->verdict = verdict;
    event_base_loopbreak(s->base);
}

/* Without room in the outbox it takes nothing: the ring fills, and the writer grants elsewhere.
 * True when there may be more to take. */
static bool sender_take_leases(struct sender *s)
{
    struct ring_view view;

    for (int taken = 0; taken < BURST; taken++) {
        if (!outbox_has_room(s->outbox))
            return false;
        switch (ring_peek(s->me->slot->down, &view)) {
        case RING_OK:
            outbox_adopt(s->outbox, view.rec);
            ring_release(s->me->slot->down, &view);
            break;
        case RING_EMPTY:
            return false;
        case RING_FULL:
        case RING_TOO_LONG:
        case RING_BROKEN:
            log_error("the ring of leases is broken");
            sender_stop(s, CHILD_EXIT_BROKEN);
            return false;
        }
    }
    return true;
}

static void sender_work(struct sender *s)
{
    bool more = sender_take_leases(s);

    outbox_pump(s->outbox);
    if (outbox_is_broken(s->outbox))
        sender_stop(s, CHILD_EXIT_BROKEN);
    else if (s->leaving && outbox_is_empty(s->outbox))
        sender_stop(s, CHILD_EXIT_DONE);
    else if (more)
        event_active(s->doorbell, EV_READ, 0); /* once the others had a turn */
}

static void on_doorbell(evutil_socket_t fd, short what, void *arg)
{
    struct sender *s = arg;
    struct ring_view view;

    (void)fd, (void)what;
    bell_quiet(&s->me->slot->bell);
    sender_work(s);
    bell_sleep(&s->me->slot->bell);
    if (outbox_has_room(s->outbox) && ring_peek(s->me->slot->down, &view) != RING_EMPTY)
        event_active(s->doorbell, EV_READ, 0);
}

static void on_tick(evutil_socket_t fd, short what, void *arg)
{
    struct sender *s = arg;
    struct err err;

    (void)fd, (void)what;
    child_beat(s->me);
    rate_tick(s->rate);
    if (s->lifter != NULL && !s->leaving)
        lifter_tick(s->lifter, outbox_store(s->outbox, &err));
    sender_work(s);
}

static void on_master(evutil_socket_t fd, short what, void *arg)
{
    char bytes[64];

    (void)what;
    ssize_t got = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR))
        sender_stop(arg, CHILD_EXIT_DONE);
}

static void on_term(evutil_socket_t signal, short what, void *arg)
{
    struct sender *s = arg;

    (void)signal, (void)what;
    if (s->leaving)
        return;
    s->leaving = true;
    child_leaving(s->me);
    outbox_leave(s->outbox);
    sender_work(s);
}

static int sender_open(struct sender *s, struct err *err)
{
    const struct child *me = s->me;
    const struct timeval tick = {.tv_usec = CHILD_TICK_MS * 1000};

    s->base = event_base_new();
    if (s->base == NULL)
        return err_set(err, ERR_SYSTEM, "no event base");
    /* Two connections more than the outbox has places: the account's rate and the suppression list
     * wait for none. */
    s->client =
        aws_client_create(s->base, me->config, me->vault, me->config->sender.connections + 2, err);
    if (s->client == NULL)
        return -1;
    s->outbox = outbox_create(me, s->base, s->client);
    s->rate = rate_create(me, s->client);
    if (me->index == 0)
        s->lifter = lifter_create(me, s->client);
    s->doorbell = event_new(s->base, me->slot->bell.fd, EV_READ | EV_PERSIST, on_doorbell, s);
    s->tick = event_new(s->base, -1, EV_PERSIST, on_tick, s);
    s->master = event_new(s->base, me->control_fd, EV_READ | EV_PERSIST, on_master, s);
    s->term = evsignal_new(s->base, SIGTERM, on_term, s);
    if (s->doorbell == NULL || s->tick == NULL || s->master == NULL || s->term == NULL ||
        event_add(s->doorbell, NULL) != 0 || event_add(s->tick, &tick) != 0 ||
        event_add(s->master, NULL) != 0 || event_add(s->term, NULL) != 0)
        return err_set(err, ERR_SYSTEM, "cannot watch for events");
    return 0;
}

static void sender_close(struct sender *s)
{
    aws_client_destroy(s->client);
    rate_destroy(s->rate);
    lifter_destroy(s->lifter);
    outbox_destroy(s->outbox);
    if (s->doorbell != NULL)
        event_free(s->doorbell);
    if (s->tick != NULL)
        event_free(s->tick);
    if (s->master != NULL)
        event_free(s->master);
    if (s->term != NULL)
        event_free(s->term);
    if (s->base != NULL)
        event_base_free(s->base);
}

enum child_exit sender_main(const struct child *me)
{
    struct sender s = {.me = me, .verdict = CHILD_EXIT_RETRY};
    struct err err = {0};

    if (sender_open(&s, &err) == 0) {
        child_beat(me);
        child_ready(me);
        rate_tick(s.rate);
        event_active(s.doorbell, EV_READ, 0); /* what was rung for before we listened */
        event_base_dispatch(s.base);
    } else {
        log_err(&err, "%s: cannot start", me->name);
    }
    sender_close(&s);
    return s.verdict;
}
