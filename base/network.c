#include "base/network.h"

#include <arpa/inet.h>
#include <string.h>

enum { V4_BYTES = 4, V4_AT = 12, V4_BITS_AT = 8 * V4_AT, BITS_MAX = 8 * NETWORK_ADDRESS_BYTES };

static const uint8_t v4_prefix[V4_AT] = {[10] = 0xff, [11] = 0xff};

bool network_address_read(struct slice text, struct network_address *address)
{
    char words[INET6_ADDRSTRLEN];

    if (text.len == 0 || text.len >= sizeof words || memchr(text.ptr, '\0', text.len) != NULL)
        return false;
    memcpy(words, text.ptr, text.len);
    words[text.len] = '\0';
    memcpy(address->bytes, v4_prefix, sizeof v4_prefix);
    return inet_pton(AF_INET, words, address->bytes + V4_AT) == 1 ||
           inet_pton(AF_INET6, words, address->bytes) == 1;
}

bool network_address_is_v4(const struct network_address *address)
{
    return memcmp(address->bytes, v4_prefix, sizeof v4_prefix) == 0;
}

void network_address_write(const struct network_address *address,
                           char text[static NETWORK_TEXT_BYTES])
{
    bool v4 = network_address_is_v4(address);

    if (inet_ntop(v4 ? AF_INET : AF_INET6, address->bytes + (v4 ? V4_AT : 0), text,
                  NETWORK_TEXT_BYTES) == NULL)
        text[0] = '\0';
}

bool network_read(struct slice text, struct network *network)
{
    struct slice address, digits;
    uint64_t bits = BITS_MAX;
    bool has_bits = slice_cut(text, '/', &address, &digits);

    if (!network_address_read(address, &network->base))
        return false;
    if (has_bits) {
        bool v4 = slice_find_byte(address, ':') == SIZE_MAX;
        if (!slice_to_u64(digits, &bits) || bits > (v4 ? 8 * V4_BYTES : BITS_MAX))
            return false;
        bits += v4 ? V4_BITS_AT : 0;
    }
    network->bits = (unsigned)bits;
    return true;
}

bool network_holds(const struct network *network, const struct network_address *address)
{
    size_t whole = network->bits / 8;
    unsigned rest = network->bits % 8;

    if (memcmp(network->base.bytes, address->bytes, whole) != 0)
        return false;
    return rest == 0 || (network->base.bytes[whole] ^ address->bytes[whole]) >> (8 - rest) == 0;
}
