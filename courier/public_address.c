#include "courier/public_address.h"

#include <netinet/in.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct v4_block {
    uint8_t at[4];
    unsigned bits;
};

static const struct v4_block v4_special[] = {
    {{0, 0, 0, 0}, 8},       /* this network */
    {{10, 0, 0, 0}, 8},      /* private */
    {{100, 64, 0, 0}, 10},   /* shared */
    {{127, 0, 0, 0}, 8},     /* loopback */
    {{169, 254, 0, 0}, 16},  /* link-local: instance metadata, too */
    {{172, 16, 0, 0}, 12},   /* private */
    {{192, 0, 0, 0}, 24},    /* protocol assignments */
    {{192, 0, 2, 0}, 24},    /* documentation */
    {{192, 88, 99, 0}, 24},  /* 6to4 relays */
    {{192, 168, 0, 0}, 16},  /* private */
    {{198, 18, 0, 0}, 15},   /* benchmarks */
    {{198, 51, 100, 0}, 24}, /* documentation */
    {{203, 0, 113, 0}, 24},  /* documentation */
    {{224, 0, 0, 0}, 3},     /* multicast, reserved, broadcast */
};

struct v6_block {
    uint8_t at[6]; /* zeros behind it */
    unsigned bits;
};

/* Within 2000::/3, outside of which nothing is public. */
static const struct v6_block v6_special[] = {
    {{0x20, 0x01, 0x00}, 23},             /* protocol assignments, Teredo, ORCHID */
    {{0x20, 0x01, 0x0d, 0xb8}, 32},       /* documentation */
    {{0x26, 0x20, 0x00, 0x4f, 0x80}, 48}, /* AS112 */
    {{0x3f, 0xff}, 20},                   /* documentation */
};

static const uint8_t mapped_prefix[12] = {[10] = 0xff, [11] = 0xff}; /* ::ffff:a.b.c.d */
static const uint8_t nat64_prefix[12] = {0x00, 0x64, 0xff, 0x9b};

static bool begins_with(const uint8_t *address, const uint8_t *block, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    if (memcmp(address, block, whole) != 0)
        return false;
    return rest == 0 || (address[whole] ^ block[whole]) >> (8 - rest) == 0;
}

static bool v4_is_public(const uint8_t a[4])
{
    for (size_t i = 0; i < sizeof v4_special / sizeof v4_special[0]; i++)
        if (begins_with(a, v4_special[i].at, v4_special[i].bits))
            return false;
    return true;
}

static bool v6_is_public(const uint8_t a[16])
{
    if (memcmp(a, mapped_prefix, sizeof mapped_prefix) == 0 ||
        memcmp(a, nat64_prefix, sizeof nat64_prefix) == 0)
        return v4_is_public(a + 12);
    if (a[0] == 0x20 && a[1] == 0x02) /* 6to4 */
        return v4_is_public(a + 2);
    if (a[0] >> 5 != 1)
        return false;
    for (size_t i = 0; i < sizeof v6_special / sizeof v6_special[0]; i++)
        if (begins_with(a, v6_special[i].at, v6_special[i].bits))
            return false;
    return true;
}

bool address_is_public(const struct sockaddr *address)
{
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;

    switch (address->sa_family) {
    case AF_INET:
        memcpy(&v4, address, sizeof v4);
        return v4_is_public((const uint8_t *)&v4.sin_addr);
    case AF_INET6:
        memcpy(&v6, address, sizeof v6);
        return v6_is_public(v6.sin6_addr.s6_addr);
    default:
        return false;
    }
}
