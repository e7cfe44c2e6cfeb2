#include "store/silence.h"

void silence_heard(struct silence *s, uint64_t sent)
{
    s->sent_when_heard = sent;
    s->since_mono_ms = 0;
}

uint64_t silence_of(struct silence *s, uint64_t sent, uint64_t now_mono_ms, uint64_t limit_ms)
{
    if (sent < s->sent_when_heard) /* the count began anew */
        silence_heard(s, 0);
    uint64_t unheard = sent - s->sent_when_heard;
    if (unheard == 0)
        return 0;
    if (s->since_mono_ms == 0)
        s->since_mono_ms = now_mono_ms == 0 ? 1 : now_mono_ms;
    bool alarm =
        limit_ms > 0 && unheard >= SILENCE_LEAST_SENT && now_mono_ms >= s->since_mono_ms + limit_ms;
    return alarm ? unheard : 0;
}
