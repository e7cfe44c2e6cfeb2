/*
 * base/redact.h - mail addresses in words for a log, shortened so that nobody can be read from it.
 *
 * SHAPE   jo.doe@example.com becomes j***@example.com; with a key, j***~1f83ab02@example.com, where
 *         the eight digits are the beginning of HMAC-SHA-256(key, the address in lower case): the
 *         same for the same address, and nothing to who has not the key. "%40" counts as "@".
 *         What looks like an address is taken for one, message ids among them: too much is hidden
 *         rather than too little. SOURCE RFC 5321 §4.1.2, RFC 6531 §3.3.
 */
#ifndef BASE_REDACT_H
#define BASE_REDACT_H

#include "base/slice.h"

/* Writes words to `to`, at most room bytes (the rest is cut), and returns how many. An empty key: no
 * digits. Allocates nothing. */
size_t redact_addresses(struct slice words, struct slice key, char *to, size_t room);

#endif
