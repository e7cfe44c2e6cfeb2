#include "httpd/strangers.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/mem.h"

enum { BUCKETS = 1024, WAYS = 4, FIRST_WAIT_MS = 250 };

struct stranger {
    uint64_t name; /* hash of the address; 0 = free */
    uint64_t since_mono_ms;
    unsigned mistakes;
};

struct strangers {
    uint8_t salt[16]; /* nobody can choose whom he meets in a bucket */
    struct stranger table[BUCKETS][WAYS];
};

struct strangers *strangers_create(void)
{
    struct strangers *s = mem_zero(1, sizeof *s);

    digest_random(s->salt, sizeof s->salt);
    return s;
}

void strangers_destroy(struct strangers *s)
{
    free(s);
}

static uint64_t name_of(const struct strangers *s, struct slice peer)
{
    enum { NETWORK_BYTES = 8 };
    struct in6_addr address;
    char text[INET6_ADDRSTRLEN];
    uint8_t hash[SHA256_BYTES];
    uint64_t name;

    (void)snprintf(text, sizeof text, "%.*s", SLICE_ARGS(slice_head(peer, sizeof text - 1)));
    if (inet_pton(AF_INET6, text, &address) == 1 && !IN6_IS_ADDR_V4MAPPED(&address))
        peer = slice_of(address.s6_addr, NETWORK_BYTES);
    digest_hmac_sha256(slice_of(s->salt, sizeof s->salt), peer, hash);
    memcpy(&name, hash, sizeof name);
    return name == 0 ? 1 : name;
}

static struct stranger *place_of(struct strangers *s, uint64_t name)
{
    struct stranger *ways = s->table[name % BUCKETS], *oldest = &ways[0];

    for (size_t i = 0; i < WAYS; i++) {
        if (ways[i].name == name)
            return &ways[i];
        if (ways[i].since_mono_ms < oldest->since_mono_ms)
            oldest = &ways[i];
    }
    *oldest = (struct stranger){.name = name};
    return oldest;
}

unsigned strangers_note(struct strangers *s, struct slice peer, uint64_t now_mono_ms)
{
    struct stranger *one = place_of(s, name_of(s, peer));
    uint64_t quiet_ms = now_mono_ms - one->since_mono_ms;

    for (; one->mistakes > 0 && quiet_ms >= STRANGERS_FORGET_MS; quiet_ms -= STRANGERS_FORGET_MS)
        one->mistakes /= 2;
    one->since_mono_ms = now_mono_ms;
    one->mistakes++;
    if (one->mistakes <= STRANGERS_FREE)
        return 0;
    unsigned doublings = one->mistakes - STRANGERS_FREE - 1, wait_ms = FIRST_WAIT_MS;
    for (; doublings > 0 && wait_ms < STRANGERS_WAIT_MAX_MS; doublings--)
        wait_ms *= 2;
    return wait_ms < STRANGERS_WAIT_MAX_MS ? wait_ms : STRANGERS_WAIT_MAX_MS;
}
