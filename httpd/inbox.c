#include "httpd/inbox.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"
#include "httpd/reply.h"

struct place {
    uint64_t request_id; /* 0 = free */
    uint64_t deadline_mono_ms;
    struct exchange *exchange;
    inbox_visitor *answered;
};

struct inbox {
    struct place places[INBOX_PLACES];
    uint16_t free[INBOX_PLACES]; /* a stack */
    size_t free_count;
    uint64_t serial;
};

_Static_assert(INBOX_PLACES <= UINT16_MAX, "places are named by 16 bits");

struct inbox *inbox_create(void)
{
    struct inbox *inbox = mem_zero(1, sizeof *inbox);

    for (size_t i = 0; i < INBOX_PLACES; i++)
        inbox->free[i] = (uint16_t)i;
    inbox->free_count = INBOX_PLACES;
    return inbox;
}

static struct place *inbox_find(struct inbox *inbox, uint64_t request_id)
{
    struct place *p = &inbox->places[request_id % INBOX_PLACES];

    return request_id != 0 && p->request_id == request_id ? p : NULL;
}

static struct place place_empty(struct inbox *inbox, struct place *p)
{
    struct place was = *p;

    *p = (struct place){0};
    inbox->free[inbox->free_count++] = (uint16_t)(p - inbox->places);
    return was;
}

void inbox_destroy(struct inbox *inbox, void (*drop)(struct exchange *x))
{
    if (inbox == NULL)
        return;
    for (size_t i = 0; i < INBOX_PLACES; i++) {
        if (inbox->places[i].request_id != 0)
            drop(inbox->places[i].exchange);
    }
    free(inbox);
}

uint64_t inbox_wait(struct inbox *inbox, struct exchange *x, uint64_t deadline_mono_ms,
                    inbox_visitor *answered)
{
    if (inbox->free_count == 0)
        return 0;
    size_t at = inbox->free[--inbox->free_count];
    struct place *p = &inbox->places[at];

    assert(p->request_id == 0);
    p->request_id = ++inbox->serial * INBOX_PLACES + at;
    p->deadline_mono_ms = deadline_mono_ms;
    p->exchange = x;
    p->answered = answered;
    return p->request_id;
}

void inbox_forget(struct inbox *inbox, uint64_t request_id)
{
    struct place *p = inbox_find(inbox, request_id);

    if (p != NULL)
        (void)place_empty(inbox, p);
}

static void tell(const struct place *p, const struct record_answer *answer)
{
    exchange_enter(p->exchange);
    p->answered(p->exchange, answer);
    exchange_leave();
}

void inbox_answer(struct inbox *inbox, const struct record_answer *answer)
{
    struct place *p = inbox_find(inbox, answer->request_id);

    if (p == NULL)
        return;
    struct place was = place_empty(inbox, p);
    tell(&was, answer);
}

void inbox_expire(struct inbox *inbox, uint64_t now_mono_ms)
{
    for (size_t i = 0; i < INBOX_PLACES; i++) {
        struct place *p = &inbox->places[i];

        if (p->request_id == 0 || p->deadline_mono_ms > now_mono_ms)
            continue;
        struct place was = place_empty(inbox, p);
        tell(&was, NULL);
    }
}

bool inbox_is_empty(const struct inbox *inbox)
{
    return inbox->free_count == INBOX_PLACES;
}
