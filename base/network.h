/*
 * base/network.h - addresses and networks of the Internet, as text and compared.
 *
 * SHAPE   All are kept as IPv6; an IPv4 address as its mapped one (::ffff:192.0.2.1), so that a
 *         client that reaches a dual-stack socket is the one that its IPv4 address says.
 * ERRORS  False: the text is none.
 * SOURCE  RFC 4291 §2.2, §2.5.5.2; RFC 4632 §3.1.
 */
#ifndef BASE_NETWORK_H
#define BASE_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/slice.h"

enum { NETWORK_ADDRESS_BYTES = 16, NETWORK_TEXT_BYTES = 46 };

struct network_address {
    uint8_t bytes[NETWORK_ADDRESS_BYTES];
};

struct network {
    struct network_address base;
    unsigned bits; /* of base that count: 0 to 128 */
};

/* "192.0.2.1" or "2001:db8::1", without brackets, port or zone. */
bool network_address_read(struct slice text, struct network_address *address);
/* As network_address_read() reads it; NUL-terminated. */
void network_address_write(const struct network_address *address,
                           char text[static NETWORK_TEXT_BYTES]);
bool network_address_is_v4(const struct network_address *address);

/* An address, or "192.0.2.0/24", "2001:db8::/32". Bits behind the prefix are ignored. */
bool network_read(struct slice text, struct network *network);
bool network_holds(const struct network *network, const struct network_address *address);

#endif
