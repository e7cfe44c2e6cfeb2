#include "store/joining.h"

#include "base/digest.h"

enum { OBJECT_ID_BYTES = 12 };

static bool is_one_of_the_first(const struct joining *j)
{
    return j->buffer_wall_ms <= 1 || j->events_wall_ms <= j->buffer_wall_ms + JOINING_FIRST_MS;
}

static bool is_young(const struct joining *j, uint64_t now_wall_ms)
{
    return now_wall_ms < j->events_wall_ms + j->for_ms;
}

uint64_t joining_until_ms(const struct joining *j, uint64_t now_wall_ms)
{
    bool is_new = is_young(j, now_wall_ms) && !is_one_of_the_first(j);

    return is_new ? j->events_wall_ms + j->for_ms : 0;
}

/* False: it tells no time. */
static bool object_id_time(struct slice id, uint64_t *wall_ms)
{
    uint8_t bytes[OBJECT_ID_BYTES];

    if (!text_read_hex(id, bytes, sizeof bytes))
        return false;
    *wall_ms =
        ((uint64_t)bytes[0] << 24 | (uint64_t)bytes[1] << 16 | (uint64_t)bytes[2] << 8 | bytes[3]) *
        1000;
    return true;
}

bool joining_may_take(const struct joining *j, uint64_t sent_wall_ms, struct slice email_id,
                      uint64_t now_wall_ms)
{
    uint64_t born_ms;

    if (!is_young(j, now_wall_ms))
        return true;
    if (is_one_of_the_first(j))
        return sent_wall_ms == 0 || sent_wall_ms >= j->events_wall_ms;
    if (!object_id_time(email_id, &born_ms) || sent_wall_ms < born_ms)
        born_ms = sent_wall_ms;
    return born_ms >= j->events_wall_ms + JOINING_MARGIN_MS;
}
