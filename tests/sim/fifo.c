#include "tests/sim/fifo.h"

#include <assert.h>
#include <stdlib.h>

#include "base/mem.h"

void fifo_open(struct fifo *f, uint32_t cap, uint32_t calls_max, uint32_t in_flight_max)
{
    *f = (struct fifo){.cap = cap, .calls_max = calls_max, .in_flight_max = in_flight_max};
    f->messages = mem_zero(cap, sizeof *f->messages);
    f->fresh = mem_zero(cap, sizeof *f->fresh);
}

void fifo_close(struct fifo *f)
{
    free(f->messages);
    free(f->fresh);
    free(f->back);
    *f = (struct fifo){0};
}

bool fifo_call(struct fifo *f, enum fifo_action action, uint64_t now_ms)
{
    if (f->second != now_ms / 1000) {
        f->second = now_ms / 1000;
        for (int i = 0; i < FIFO_ACTIONS; i++)
            f->of_second[i] = 0;
    }
    f->calls[action]++; /* a throttled call is billed, too */
    if (f->of_second[action] >= f->calls_max) {
        f->refused++;
        return false;
    }
    if (++f->of_second[action] > f->busiest[action])
        f->busiest[action] = f->of_second[action];
    return true;
}

static void come_back(struct fifo *f, uint32_t message)
{
    if (f->back_first + f->back_count == f->back_cap) {
        f->back_cap = f->back_cap == 0 ? 1024 : f->back_cap * 2;
        f->back = mem_grow(f->back, f->back_cap * sizeof *f->back);
    }
    f->back[f->back_first + f->back_count++] = message;
}

uint32_t fifo_put(struct fifo *f, uint32_t part, uint32_t same_as)
{
    assert(f->count < f->cap);
    uint32_t message = f->count++;
    struct fifo_message *m = &f->messages[message];

    *m = (struct fifo_message){.part = part, .follower = FIFO_NONE, .waits_for = FIFO_NONE};
    f->left++;
    if (same_as != FIFO_NONE && !f->messages[same_as].deleted) {
        m->waits_for = same_as;
        f->messages[same_as].follower = message;
    } else {
        f->fresh[f->fresh_first + f->fresh_count++] = message;
    }
    return message;
}

bool fifo_has_visible(const struct fifo *f)
{
    return f->fresh_count + f->back_count > 0 && f->in_flight < f->in_flight_max;
}

static uint32_t take(struct fifo *f)
{
    if (f->back_count > 0) {
        f->back_count--;
        uint32_t message = f->back[f->back_first++];
        if (f->back_count == 0)
            f->back_first = 0;
        return message;
    }
    f->fresh_count--;
    return f->fresh[f->fresh_first++];
}

unsigned fifo_receive(struct fifo *f, unsigned most, uint64_t visible_at_ms, uint32_t *got)
{
    unsigned count = 0;

    f->full += f->fresh_count + f->back_count > 0 && f->in_flight >= f->in_flight_max;
    while (count < most && fifo_has_visible(f)) {
        struct fifo_message *m = &f->messages[got[count++] = take(f)];
        m->receives++;
        m->in_flight = true;
        m->visible_at_ms = visible_at_ms;
        if (++f->in_flight > f->in_flight_peak)
            f->in_flight_peak = f->in_flight;
    }
    return count;
}

static bool is_current(const struct fifo_message *m, uint32_t handle, uint64_t now_ms)
{
    return m->in_flight && !m->deleted && m->receives == handle && m->visible_at_ms > now_ms;
}

bool fifo_change(struct fifo *f, uint32_t message, uint32_t handle, uint64_t now_ms,
                 uint64_t visible_at_ms)
{
    struct fifo_message *m = &f->messages[message];

    if (!is_current(m, handle, now_ms))
        return false;
    m->visible_at_ms = visible_at_ms;
    return true;
}

bool fifo_delete(struct fifo *f, uint32_t message, uint32_t handle, uint64_t now_ms)
{
    struct fifo_message *m = &f->messages[message];

    if (!is_current(m, handle, now_ms))
        return false;
    m->deleted = true;
    m->in_flight = false;
    f->in_flight--;
    f->left--;
    if (m->follower != FIFO_NONE) {
        f->messages[m->follower].waits_for = FIFO_NONE;
        come_back(f, m->follower);
    }
    return true;
}

uint64_t fifo_lapse(struct fifo *f, uint32_t message, uint64_t now_ms)
{
    struct fifo_message *m = &f->messages[message];

    if (!m->in_flight || m->deleted)
        return 0;
    if (m->visible_at_ms > now_ms)
        return m->visible_at_ms;
    m->in_flight = false;
    f->in_flight--;
    come_back(f, message);
    return 0;
}
