/*
 * store/silence.h - mail goes out and no event comes back: then a configuration set has no event
 * destination, a topic no subscription, or a queue no policy, and Ghost would show 0 % for ever.
 *
 * SHAPE   Pure: counts and times in, an alarm out.
 * UNITS   Monotonic milliseconds.
 */
#ifndef STORE_SILENCE_H
#define STORE_SILENCE_H

#include <stdbool.h>
#include <stdint.h>

enum { SILENCE_LEAST_SENT = 5 }; /* fewer without an event prove nothing */

struct silence {
    uint64_t sent_when_heard; /* what senders had counted when the last event came */
    uint64_t since_mono_ms;   /* first mail since then; 0 = none */
};

/* An event came. sent: what senders have counted. */
void silence_heard(struct silence *s, uint64_t sent);
/* Now and then: how many mails have waited for limit_ms or longer without any event since, if that
 * is an alarm; else 0. limit_ms 0 = never. */
uint64_t silence_of(struct silence *s, uint64_t sent, uint64_t now_mono_ms, uint64_t limit_ms);

#endif
